"""Products on disk that nothing asks for any more."""

from __future__ import annotations

import os
import re
from pathlib import Path

FRAME, NAME = r"[^/]+_[0-9a-f]{8}", r"[^/]+"
SHAPES = (
    rf"masters/{NAME}/{NAME}/({NAME}\.fits|detector\.csv)",
    rf"masters/library/{FRAME}(\.fits|_detector\.csv)",
    rf"catalogues/{NAME}\.ecsv",
    rf"lights/{NAME}/{NAME}/{NAME}/{FRAME}\.(fits|ecsv)",
    rf"solving/{NAME}/{NAME}/{NAME}/{FRAME}\.csv",
    rf"nova/{NAME}/{NAME}/{NAME}/{FRAME}\.(fits|json)",
    rf"steps/{NAME}/{NAME}/{NAME}/{NAME}/{FRAME}\.fits",
    rf"aligned/{NAME}/(grid|{NAME}/{FRAME})\.fits",
    rf"stacks/{NAME}/{NAME}\.fits",
    rf"pictures/{NAME}(\.fits|(/{NAME})?\.(png|tiff))",
)
FOLDERS = sorted({shape.partition("/")[0] for shape in SHAPES})


def leftovers(night) -> list[str]:
    """Paths of products that a `Night` does not ask for: only files of a product's name, never a raw file, and of FITS files
    only those that say that firstlight made them."""
    wanted = set(night.products()) | night.nova_memories()
    product = re.compile(rf"{re.escape(night.results)}/(?:{'|'.join(SHAPES)})")
    found = []
    for kind in FOLDERS:
        for folder, _, files in os.walk(f"{night.results}/{kind}"):
            paths = (f"{folder}/{name}" for name in files)
            found += [path for path in paths if path not in wanted and product.fullmatch(path)]
    return sorted(path for path in found if os.path.isfile(path) and _is_ours(Path(path)))


def _is_ours(path: Path) -> bool:
    """True for a file that is not FITS, or whose first header says which version of firstlight made it."""
    from astropy.io import fits

    if path.suffix != ".fits":
        return True
    try:
        return "FLVERS" in fits.getheader(path)
    except OSError:
        return False
