"""Masters and which frames make one: calibration frames of a night, camera and kind that were taken alike."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from .names import safe_name
from .provenance import identity

# Within an exposure shutters report times that differ by parts in a thousand; other exposures differ by more.
SHUTTER = 0.005


@dataclass(frozen=True)
class Master:
    """A master frame: what it is made for and of which rows. `path` lies below the results folder.

    A ready master (`ready`) is a file of the library; its one row describes it.
    """

    kind: str
    path: str
    rows: tuple
    ready: bool = False

    @property
    def first(self):
        return self.rows[0]

    @cached_property
    def identity(self) -> str:
        """Changes when the pixels or the header of a frame change or a frame comes or goes; not with names or folders."""
        return identity(*sorted(f"{row.pixel_hash} {row.header_hash}" for row in self.rows))

    @cached_property
    def temperature(self) -> float | None:
        """Median of those that are known, deg C."""
        return _median(row.temperature for row in self.rows)

    @cached_property
    def telescope(self) -> str:
        """The first that is named, else ""."""
        return next((row.telescope for row in self.rows if row.telescope), "")

    @cached_property
    def focal_length(self) -> float | None:
        """Median of those that are known, mm."""
        return _median(row.focal_length for row in self.rows)

    @cached_property
    def rotator(self) -> float | None:
        """Median of those that are known, deg."""
        known = [row.rotator for row in self.rows if row.rotator is not None]
        return (known[0] + _median(turn_between(known[0], angle) for angle in known)) % 360 if known else None


def grouped(rows, match: dict) -> dict[str, list]:
    """Path of a master -> its rows: calibration frames of one night, camera and kind that belong in one master."""
    places = defaultdict(list)
    for row in rows:
        places[row.night, row.camera, row.kind, row.filter if row.kind == "flat" else ""].append(row)
    named = []
    for (night, camera, kind, name), members in sorted(places.items()):
        folder = f"masters/{night}/{camera}"
        if kind == "bias":
            named.append((False, f"{folder}/bias", members))
        elif kind == "flat":
            groups = _flat_groups(members, match)
            named += [(bool(end), f"{folder}/flat_{name}{end}", group) for end, group in groups.items()]
        else:
            groups = _dark_groups(members, match["temperature"])
            named += [(False, f"{folder}/{kind}_{end}", group) for end, group in groups.items()]
    out, taken = {}, set()
    for _, path, group in sorted(named, key=lambda one: one[:2]):  # plain names first: none of them gives way
        if path.casefold() in taken:
            path = f"{path}-{identity(path)[:4]}"
        taken.add(path.casefold())
        out[f"{path}.fits"] = group
    return out


def _dark_groups(rows, tolerance: float) -> dict[str, list]:
    """'60s_-10C' -> darks of one exposure and temperature. Neither is rounded to tell groups apart: a camera that stands
    between two degrees makes one master."""
    from math import log

    exposed = _clusters([row for row in rows if row.exposure], lambda row: log(row.exposure), SHUTTER, SHUTTER)
    exposed += [[row for row in rows if not row.exposure]]
    groups = []
    for same in filter(None, exposed):
        known = [row for row in same if row.temperature is not None]
        groups += _clusters(known, lambda row: row.temperature, tolerance / 2, tolerance)
        groups += [[row for row in same if row.temperature is None]]
    groups = list(filter(None, groups))
    for digits in range(7):  # as plain as tells them apart
        names = [f"{_exposure_name(group, digits)}s_{_temperature_name(group, digits)}C" for group in groups]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, groups, strict=True))


def _exposure_name(rows, digits: int) -> str:
    return f"{float(f'{_median(row.exposure or 0 for row in rows):.{3 + digits}g}'):.{6 + digits}g}"


def _temperature_name(rows, digits: int) -> str:
    middle = _median(row.temperature for row in rows)
    return "unknown" if middle is None else f"{round(middle, digits) + 0.0:.{digits}f}"


def _flat_groups(rows, match: dict) -> dict[str, list]:
    """End of the name -> flats of one filter that were taken with the telescope as it was; "" for the earliest group.

    What is not known parts nothing; where it could belong to several groups it stays by itself.
    """
    from math import inf, log, log1p

    groups = [list(rows)]
    if match["telescope"]:
        groups = _parted(groups, lambda row: row.telescope or None, _by_telescope)
    focal = inf if match["focal_length"] is None else log1p(match["focal_length"])
    groups = _parted(
        groups,
        lambda row: row.focal_length,
        lambda known: _clusters(known, lambda row: log(row.focal_length), focal, focal),
    )
    turn = inf if match["rotator"] is None else match["rotator"]
    groups = _parted(groups, lambda row: row.rotator, lambda known: _by_rotator(known, turn))
    groups.sort(key=lambda group: min(map(in_time, group)))
    setups = [Master("flat", "", tuple(group)) for group in groups]
    for digits in range(7):
        ends = [_what_differs(setup, setups[0], digits) for setup in setups]
        if len(set(ends)) == len(ends) and "" not in ends[1:]:
            break
    else:
        ends = ["", *(f"_{identity(*sorted(row.pixel_hash for row in group))[:8]}" for group in groups[1:])]
    return dict(zip(ends, groups, strict=True))


def _what_differs(setup: Master, first: Master, digits: int) -> str:
    """'_rot90' for what a group of flats has other than the first group; nothing for equal ones."""
    parts = []
    if plain(setup.telescope) != plain(first.telescope):
        parts.append(setup.telescope or "unknown")
    for name, short in (("focal_length", "fl"), ("rotator", "rot")):
        texts = [_short(getattr(one, name), digits) for one in (setup, first)]
        if texts[0] != texts[1]:
            parts.append(f"{short}{texts[0]}")
    return f"_{safe_name('_'.join(parts), 40)}" if parts else ""


def _short(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _parted(groups, value, split) -> list[list]:
    """Each group split by a value: those with a known one by `split`; the others join them if there is but one group."""
    out = []
    for group in groups:
        known = [row for row in group if value(row) is not None]
        unknown = [row for row in group if value(row) is None]
        parts = split(known) if known else []
        if unknown and len(parts) == 1:
            parts[0] = parts[0] + unknown
        elif unknown:
            parts.append(unknown)
        out += parts
    return out


def _by_telescope(rows) -> list[list]:
    names = defaultdict(list)
    for row in rows:
        names[plain(row.telescope)].append(row)
    return [names[name] for name in sorted(names)]


def _by_rotator(rows, tolerance: float) -> list[list]:
    """Groups of like angles; the circle is cut open at its widest gap."""
    angles = sorted({row.rotator % 360 for row in rows})
    gaps = [
        ((after - before) % 360 or 360, after) for before, after in zip(angles, [*angles[1:], angles[0]], strict=True)
    ]
    start = max(gaps)[1]
    return _clusters(rows, lambda row: (row.rotator - start) % 360, tolerance, 2 * tolerance)


def _clusters(rows, value, gap: float, width: float) -> list[list]:
    """Rows in groups of near values: split where neighbours are more than `gap` apart, and where a group is wider than
    `width` (a slow drift) at its widest gap, the one nearest to the middle of several. The order of rows is nothing."""
    if not rows:
        return []
    values = sorted({round(value(row), 6) for row in rows})
    limits = sorted(_cuts(values, gap + 1e-6, width + 1e-6))
    groups = defaultdict(list)
    for row in rows:
        groups[sum(round(value(row), 6) > limit for limit in limits)].append(row)
    return [groups[number] for number in sorted(groups)]


def _cuts(values: list[float], gap: float, width: float) -> list[float]:
    """The values after which a sorted list is cut."""
    cuts, todo = [], [values]
    while todo:
        part = todo.pop()
        steps = [round(after - before, 5) for before, after in zip(part, part[1:], strict=False)]
        if not steps or (max(steps) <= gap and part[-1] - part[0] <= width):
            continue
        best = max(steps)
        at = min((n for n, step in enumerate(steps) if step == best), key=lambda n: (abs(n - (len(steps) - 1) / 2), n))
        cuts.append(part[at])
        todo += [part[: at + 1], part[at + 1 :]]
    return cuts


def in_time(row) -> tuple:
    return row.time or "", row.pixel_hash


def turn_between(a: float, b: float) -> float:
    """From angle a to b, -180 to 180 deg."""
    return (b - a + 180) % 360 - 180


def plain(text: str) -> str:
    return "".join(text.split()).casefold()


def _median(values) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
