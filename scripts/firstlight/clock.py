"""Clocks that go back: what was made before is dated later than what is made now, and Snakemake goes by that."""

from __future__ import annotations

import os
import time

SAID = "has older modification time"  # Snakemake, of a product that is older than what it was made from
WORDS = (
    "The clock has gone back: {number} products were dated up to {most}later than now. They are dated now; say the same again to "
    "go on. If it comes again, this machine's clock and that of the disk or of other machines differ: have them set by the net."
)


def bring_back(folder: str) -> str:
    """Date all files of a folder that are dated later than now to now, in their order; says what was found."""
    now = time.time()
    late = sorted((stamp, path) for path, stamp in _stamps(folder) if stamp > now)
    most = late[-1][0] - now if late else 0.0
    for stamp, path in late:
        os.utime(path, (now, stamp - most))
    return WORDS.format(number=len(late), most=f"{most / 3600:.1f} hours " if most >= 360 else f"{most:.1f} s ")


def _stamps(folder: str):
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            yield path, os.lstat(path).st_mtime
