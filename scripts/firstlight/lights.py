"""The lights that raw frames stand for: one of a mono frame, one for each plane of a colour sensor's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields

from .dialects import CLEAR_GLASS
from .frames import Row

PLANES = ("R", "G", "B")
SITES = ("R", "G1", "G2", "B")  # where each pixel of the sensor is to keep its own place: for drizzle
# The names that AAVSO gives to a colour sensor's planes, where R, G or B is a filter of mono frames of the same target.
BESIDE_MONO = {"R": "TR", "G": "TG", "B": "TB"}


@dataclass(frozen=True)
class Plane(Row):
    """One plane of a colour sensor's frame, a light as any other; `glass` is the filter before the sensor, by which flats are
    found."""

    plane: str = ""  # R, G, B; G1 and G2 for the greens by themselves
    glass: str = ""
    demosaiced: bool = False  # at full scale, the other colours' pixels interpolated

    @property
    def flat_filter(self) -> str:
        return self.glass

    @property
    def binned(self) -> int:
        return 1 if self.demosaiced else 2

    @property
    def family(self) -> str:
        return f"{self.glass} in colour"


def planes_of(row: Row, beside_mono: bool = False, how: str = "planes") -> list[Row]:
    """The lights that a raw light stands for.

    beside_mono  mono frames of its target use the name of a colour as that of a filter
    how          "planes" of half the scale, "sites": with the two greens as lights of their own, "demosaic": at full scale
    """
    if not row.bayer:
        return [row]
    known = {part.name: getattr(row, part.name) for part in fields(Row)}
    full = how == "demosaic"
    return [
        Plane(**known | _of_plane(row, name, beside_mono, full), plane=name, glass=row.filter, demosaiced=full)
        for name in (SITES if how == "sites" else PLANES)
    ]


def names_of(row: Row) -> list[str]:
    """The names of all lights that a raw frame may stand for."""
    return [_name_of(row, plane) for plane in sorted({*PLANES, *SITES})] if row.bayer else [row.name]


def _name_of(row: Row, plane: str) -> str:
    stem, _, digits = row.name.rpartition("_")
    return f"{stem}-{plane}_{digits}"


def _of_plane(row: Row, plane: str, beside_mono: bool, full: bool) -> dict:
    colour = BESIDE_MONO[plane[0]] if beside_mono else plane[0]
    clear = row.band.casefold() in CLEAR_GLASS
    size = {} if full else {"nx": row.nx // 2, "ny": row.ny // 2, "scale": row.scale and 2 * row.scale}
    return size | {
        "name": _name_of(row, plane),
        "filter": colour if clear else f"{row.filter}_{colour}",
        "band": colour if clear else f"{row.band} {colour}",
    }


def expanded(rows: Iterable[Row], how: str = "planes") -> list[Row]:
    """Rows of the frames table with each light of a colour sensor as its planes, see `planes_of`."""
    rows = list(rows)
    mono = defaultdict(set)
    for row in rows:
        if row.kind == "light" and not row.bayer:
            mono[row.target].add(row.filter.upper())  # r and R would share a folder where case does not count
    out = []
    for row in rows:
        out += planes_of(row, bool(mono[row.target] & set(PLANES)), how) if row.kind == "light" else [row]
    return out
