"""What each Python process below a run costs, and how much of that is its start; loaded by itself from PYTHONPATH.

A line per process in `$PROCESS_NOTES/PID.txt`, written as it ends: name of its script, seconds on the clock, CPU-seconds of
its own, of its children, and of its start: everything up to the first module of firstlight (interpreter, what Snakemake puts
before a script), and every import after that, wherever it stands. An import of what is loaded already does not come by here,
so nothing slows down what is measured.
"""

import atexit
import os
import sys
import time

_begun = time.perf_counter() - time.process_time()
_loader = sys.modules["_frozen_importlib"]  # what `import` calls for a module that is not there yet
_load = _loader._find_and_load
_before = None  # CPU-seconds when firstlight began
_imports = 0.0  # CPU-seconds of imports since then
_outermost = True


def _noting(name, import_):
    global _before, _imports, _outermost
    if _before is None and name.partition(".")[0] == "firstlight":
        _before = time.process_time()
    if _before is None or not _outermost:
        return _load(name, import_)
    start, _outermost = time.process_time(), False
    try:
        return _load(name, import_)
    finally:
        _imports, _outermost = _imports + time.process_time() - start, True


def _write():
    own, times = time.process_time(), os.times()
    children = times.children_user + times.children_system
    start = own if _before is None else _before + _imports
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    numbers = (time.perf_counter() - _begun, own, children, start)
    with open(os.path.join(os.environ["PROCESS_NOTES"], f"{os.getpid()}.txt"), "w") as file:
        file.write("\t".join([name, *(f"{number:.3f}" for number in numbers)]) + "\n")


def _leave(code):
    """A process may end without what `atexit` keeps for its end, since taking its modules down costs as well."""
    _write()
    _exit(code)


if "PROCESS_NOTES" in os.environ:
    _loader._find_and_load = _noting
    atexit.register(_write)
    _exit, os._exit = os._exit, _leave
