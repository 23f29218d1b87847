"""The cone of sky that the catalogue of each target holds: chosen from its frames, then kept while it holds them.

A catalogue that is made anew makes all lights of its target anew. So a cone does not follow every frame that is added: it
has a margin, and the record `catalogues/fields.csv` says which cone a catalogue was made for.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime

import numpy as np

from .tables import table_text

UNKNOWN_FIELD = 3.0  # deg, diagonal of a frame of which no header tells the scale
APART = 5.0  # deg from the others, beyond which a frame has no part in the cone
KEPT_YEARS = 1.0  # a star of 0.1"/yr, faster than most, is 0.1" off then
PATIENCE = 600.0  # s after which an archive that did not answer is asked again


@dataclass(frozen=True)
class Field:
    """A target's cone: centre and radius in degrees, None where no frame says where it points.

    margin  degrees beyond the frames' corners with which it was chosen
    epoch   mean date of the frames, Julian year, None where none has a date
    again   when the archive failed last before it was asked again; "" while it was not
    """

    ra: float | None = None
    dec: float | None = None
    radius: float = 0.0
    margin: float = 0.0
    epoch: float | None = None
    again: str = ""

    @property
    def centre(self) -> tuple[float, float] | None:
        """(ra, dec) in degrees, or None."""
        return None if self.ra is None else (self.ra, self.dec)


@dataclass(frozen=True)
class Wanted:
    """What frames need: the cone that just holds them (centre, reach in degrees), their mean date, how many lie apart."""

    centre: tuple[float, float] | None
    reach: float
    epoch: float | None
    apart: int


def wanted(rows, scale: float | None = None) -> Wanted:
    """The cone that the lights `rows` (of the frames table) need.

    scale  arcsec/pix of the sensor where headers do not say it
    Frames more than 5 degrees from where most of them point have a wrong header, or are another field: they are counted,
    and not in the cone.
    """
    epoch = _mean_year([row.time for row in rows if row.time])
    pointed = [row for row in rows if row.ra is not None and row.dec is not None]
    if not pointed:
        return Wanted(None, _diagonal(rows, scale) / 2, epoch, 0)
    vectors = _vectors([(row.ra, row.dec) for row in pointed])
    near = _together(vectors)
    middle = vectors[near].mean(axis=0)
    middle /= np.linalg.norm(middle)
    reach = float(_angles(vectors[near], middle).max()) + _diagonal(pointed, scale) / 2
    centre = math.degrees(math.atan2(middle[1], middle[0])) % 360, math.degrees(math.asin(np.clip(middle[2], -1, 1)))
    return Wanted(centre, reach, epoch, int((~near).sum()))


def chosen(need: Wanted, known: Field | None, margin: float) -> Field:
    """The cone of a target: the one that is known while it holds what is needed and half its margin, else a new one."""
    if known is not None and known.margin == margin and _holds(known, need):
        return known
    again = known.again if known is not None else ""
    epoch = None if need.epoch is None else round(need.epoch, 1)
    if need.centre is None:
        return Field(None, None, round(need.reach + margin, 2), margin, epoch, again)
    ra, dec = (round(angle, 2) for angle in need.centre)
    return Field(ra % 360, dec, math.ceil(100 * (need.reach + margin)) / 100, margin, epoch, again)


def retried(field: Field, failed: str | None, reachable, now: datetime | None = None) -> Field:
    """The field with a new `again`, which makes its catalogue anew, where an archive is worth being asked again.

    failed     time (UTC, ISO) at which the catalogue that is there went without the archive; None if it did not
    reachable  asked, and only then: whether the archive can be reached
    """
    if not failed or failed == field.again:
        return field
    now = now or datetime.now(UTC)
    age = (now - datetime.fromisoformat(failed)).total_seconds()
    return replace(field, again=failed) if age > PATIENCE and reachable() else field


def from_text(text: str | None) -> dict[str, Field]:
    """The record of fields by target; empty where there is none, or one of another version."""
    lines = list(csv.reader(io.StringIO(text or "")))
    if not lines or lines[0] != ["target", *(part.name for part in fields(Field))]:
        return {}
    known = {}
    for target, *values in lines[1:]:
        *numbers, again = values
        known[target] = Field(*(float(number) if number else None for number in numbers), again)
    return known


def to_text(known: dict[str, Field]) -> str:
    """The record as CSV."""
    columns = ["target", *(part.name for part in fields(Field))]
    return table_text(columns, ([target, *astuple(field)] for target, field in sorted(known.items())))


def _holds(known: Field, need: Wanted) -> bool:
    if (known.centre is None) != (need.centre is None) or (known.epoch is None) != (need.epoch is None):
        return False
    if known.epoch is not None and abs(known.epoch - need.epoch) > KEPT_YEARS:
        return False
    if known.centre is None:
        return True
    off = float(_angles(_vectors([need.centre]), _vectors([known.centre])[0])[0])
    return off + need.reach + known.margin / 2 <= known.radius


def _together(vectors: np.ndarray) -> np.ndarray:
    """Which directions (n, 3) belong together: those around the one that has most others near it."""
    candidates = np.unique(np.round(vectors, 4), axis=0)
    candidates = candidates[:: max(len(candidates) // 100, 1)]
    counts = [(_angles(vectors, one) <= APART).sum() for one in candidates]
    return _angles(vectors, candidates[int(np.argmax(counts))]) <= APART


def _vectors(positions) -> np.ndarray:
    """Unit vectors (n, 3) of positions (ra, dec) in degrees."""
    ra, dec = np.radians(np.array(positions, float)).T
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _angles(vectors: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Angles in degrees between directions (n, 3) and one, which may lack a little of length 1."""
    cross = np.linalg.norm(np.cross(vectors, one), axis=1)
    return np.degrees(np.arctan2(cross, vectors @ one))


def _diagonal(rows, scale: float | None) -> float:
    """Largest diagonal of a frame, degrees."""
    sizes = [(row.scale or scale and scale * row.binned, math.hypot(row.nx, row.ny)) for row in rows]
    known = [arcsec * pixels / 3600 for arcsec, pixels in sizes if arcsec]
    return max(known, default=UNKNOWN_FIELD)


def _mean_year(times: list[str]) -> float | None:
    """Mean of dates (UTC, ISO) as a Julian year."""
    start = datetime(2000, 1, 1, 12)
    days = [(datetime.fromisoformat(time).replace(tzinfo=None) - start).total_seconds() / 86400 for time in times]
    return 2000 + sum(days) / len(days) / 365.25 if days else None
