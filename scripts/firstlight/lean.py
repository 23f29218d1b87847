"""Quick imports: every job is a new process, and most of a short one's time went into importing what it never used.

`astropy.io.fits` asks for `astropy.units`, which is 0.2 s of defining units, for the sake of two annotations in
`astropy.utils.data`, and for `numcodecs`, which only compressed images use and which is optional there. Both are kept
from it by stand-ins that are gone when it is imported: who asks for either afterwards gets the real one.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def _stand_ins(modules: dict):
    """Modules that others get instead of the real ones, for as long as the context lasts; what is loaded stays."""
    ours = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del sys.modules[name]


def without(name: str):
    """A context in which a module that is not loaded cannot be: for a library whose use of it is optional."""
    return _stand_ins({name: None})


def without_tables():
    """A context in which nothing is one of astropy's tables, which a FITS table asks when it is made."""
    table = ModuleType("astropy.table")
    table.Table = type("Table", (), {})
    return _stand_ins({"astropy.table": table})


def import_fits() -> None:
    """Import `astropy.io.fits` without what it does not need; as usual where that is not possible."""
    if "astropy.io.fits" in sys.modules:
        return
    units = ModuleType("astropy.units")
    units.Quantity = units.UnitBase = object
    collecting = gc.isenabled()
    gc.disable()  # nothing of an import is garbage
    try:
        with _stand_ins({"astropy.units": units}):
            import astropy.utils.data
        with without("numcodecs"):
            import astropy.io.fits  # noqa: F401
    except ImportError:
        pass  # another version of astropy, which asks for more: it gets all when it is imported as usual
    finally:
        if collecting:
            gc.enable()
