"""Who goes with whom: which frames make a master, which masters a frame is calibrated with, which lights make a stack."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date

from .provenance import identity
from .reduce import dark_ratio


@dataclass(frozen=True)
class Master:
    """A master frame: what it is made for and of which rows. `path` lies below the results folder."""

    kind: str
    path: str
    rows: tuple

    @property
    def first(self):
        return self.rows[0]

    @property
    def identity(self) -> str:
        """Changes when the pixels or the header of a frame change or a frame comes or goes; not with names or folders."""
        return identity(*sorted(f"{row.pixel_hash} {row.header_hash}" for row in self.rows))


@dataclass(frozen=True)
class Chosen:
    """The masters that one frame is calibrated with, None where there is none, and what there is to say about it."""

    bias: Master | None = None
    dark: Master | None = None
    flat: Master | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Plan:
    """What is to be made of a frames table."""

    lights: dict = field(default_factory=dict)  # frame name -> row
    stacks: dict = field(default_factory=dict)  # (target, filter), as in paths -> rows, in order of time
    masters: dict = field(default_factory=dict)  # path -> Master
    left_out: list = field(default_factory=list)  # (row, reason): lights that `missing: drop` leaves out
    missing: list = field(default_factory=list)  # sentences
    _match: dict = field(default_factory=dict)
    _by_camera: dict = field(default_factory=dict)
    _chosen: dict = field(default_factory=dict)

    @property
    def targets(self) -> dict:
        """Target -> its filters, as in paths."""
        out = defaultdict(list)
        for target, name in self.stacks:
            out[target].append(name)
        return dict(out)

    def chosen(self, row) -> Chosen:
        """The masters for a light or a flat: same camera and as near as can be; nearest night, then the earlier."""
        if row.path not in self._chosen:
            self._chosen[row.path] = self._choose(row)
        return self._chosen[row.path]

    def of_master(self, master: Master) -> Chosen:
        """The masters that a master's own frames are reduced with; darks keep their bias but need its level for sigma."""
        if master.kind == "bias":
            return Chosen()
        chosen = self.chosen(master.first)
        return Chosen(bias=chosen.bias) if master.kind in ("dark", "flatdark") else Chosen(chosen.bias, chosen.dark)

    def used_masters(self) -> list[Master]:
        """All masters that some light or other master needs."""
        used, todo = {}, [m for row in self.lights.values() for m in _masters(self.chosen(row))]
        while todo:
            master = todo.pop()
            if master.path not in used:
                used[master.path] = master
                todo += _masters(self.of_master(master))
        return [used[path] for path in sorted(used)]

    def _choose(self, row) -> Chosen:
        fellows = self._by_camera.get(row.camera, {})
        bias = _nearest(row, fellows.get("bias", ()))
        dark, notes = self._dark(row, bias is not None)
        if bias is None and dark is None:
            notes.append("no bias: the level that is not light stays in the frame")
        flat = None
        if row.kind == "light":
            flats = [m for m in fellows.get("flat", ()) if m.first.filter == row.filter]
            flat = _nearest(row, flats)
            if flat is None:
                notes.append(f"no flat in filter {row.band}")
        return Chosen(bias, dark, flat, tuple(notes))

    def _dark(self, row, has_bias: bool):
        """The dark for a frame: of its exposure, else one that may be scaled; and notes."""
        fellows = self._by_camera.get(row.camera, {})
        kinds = ("flatdark", "dark") if row.kind == "flat" else ("dark",)
        darks = [
            m
            for kind in kinds
            for m in fellows.get(kind, ())
            if _same_temperature(row, m.first, self._match["temperature"])
        ]
        if not darks:
            return None, [f"no dark within {self._match['temperature']:g} C"] if any(
                fellows.get(k) for k in kinds
            ) else ["no dark"]
        equal = [m for m in darks if dark_ratio(row.exposure, m.first.exposure, self._match["exposure"]) == 1.0]
        if equal:
            best = _nearest(row, equal, lambda m: _unlike(row, m))
            if row.exposure and best.first.exposure:
                return best, []
            known = f"{best.first.exposure:g} s" if best.first.exposure else "unknown exposure"
            return best, [f"exposure not known of both: dark of {known} subtracted as it is"]
        if not has_bias or not self._match["scale_dark"]:
            why = "without a bias none can be scaled" if not has_bias else "match: scale_dark is off"
            return None, [f"no dark of {row.exposure:g} s, {why}"]
        scalable = [
            m
            for m in darks
            if row.exposure and m.first.exposure and row.exposure <= self._match["scale_limit"] * m.first.exposure
        ]
        if not scalable:
            longest = max(m.first.exposure or 0 for m in darks)
            return None, [
                f"the longest dark has {longest:g} s, too short to be scaled to {row.exposure:g} s (match: scale_limit)"
            ]
        best = _nearest(row, scalable, lambda m: (-m.first.exposure, _warmer(row, m)))
        return best, [f"dark of {best.first.exposure:g} s scaled to {row.exposure:g} s"]


def plan(rows, match: dict, missing: str = "allow", select: dict | None = None) -> Plan:
    """Work out what is to be made.

    rows    of the frames table
    match   tolerances, as in the configuration
    missing allow, drop or stop: with stop, `Plan.missing` lists what is missing and the caller ends
    """
    select = select or {}
    result = Plan(_match=match)
    groups = defaultdict(list)
    for row in rows:
        if row.kind != "light":
            groups[_master_path(row)].append(row)
        elif _selected(row, select):
            result.lights[row.name] = row
    by_camera = defaultdict(lambda: defaultdict(list))
    for path in sorted(groups):
        members = tuple(sorted(groups[path], key=lambda row: (row.time or "", row.pixel_hash)))
        result.masters[path] = Master(members[0].kind, path, members)
        by_camera[members[0].camera][members[0].kind].append(result.masters[path])
    result._by_camera = by_camera
    _apply_missing(result, missing)
    stacks = defaultdict(list)
    for row in result.lights.values():
        stacks[row.target, row.filter].append(row)
    for key in sorted(stacks):
        result.stacks[key] = sorted(stacks[key], key=lambda row: (row.time or "", row.name))
    return result


def _master_path(row) -> str:
    kind = row.kind
    if kind in ("dark", "flatdark"):
        temperature = "unknown" if row.temperature is None else f"{round(row.temperature):d}"
        # Three digits: shutters that report 59.998 and 60.002 s make one dark of 60 s.
        name = f"{kind}_{float(f'{row.exposure or 0:.3g}'):g}s_{temperature}C"
    else:
        name = f"flat_{row.filter}" if kind == "flat" else "bias"
    return f"masters/{row.night}/{row.camera}/{name}.fits"


def _selected(row, select: dict) -> bool:
    def among(values, wanted):
        plain = {value.casefold().replace(" ", "") for value in values}
        return not wanted or any(name.casefold().replace(" ", "") in plain for name in wanted)

    filters = select.get("filters")  # r and R are two filters
    return (
        among((row.target, row.object), select.get("targets"))
        and among((row.night,), select.get("nights"))
        and (not filters or row.filter in filters or row.band in filters)
    )


def _apply_missing(result: Plan, missing: str) -> None:
    """Find lights that lack a kind of calibration; with `drop` leave out those whose fellows have it."""
    lacking = defaultdict(list)
    have = defaultdict(list)
    for row in result.lights.values():
        chosen = result.chosen(row)
        for kind in ("bias", "dark", "flat"):
            covered = getattr(chosen, kind) is not None
            if kind == "bias" and chosen.dark is not None:
                covered = (
                    covered or dark_ratio(row.exposure, chosen.dark.first.exposure, result._match["exposure"]) == 1.0
                )
            (have if covered else lacking)[kind, row.target, row.filter].append(row)
    for (kind, target, name), rows in sorted(lacking.items(), key=lambda item: item[0]):
        example = rows[0]
        result.missing.append(
            f"no {kind} for {len(rows)} light{'s' * (len(rows) > 1)} of {example.object} in {example.band} "
            f"(camera {example.camera}, {example.exposure or 0:g} s, night {example.night}, for example {example.path})"
        )
        # Fellows that were left out themselves do not count: between them two lights must not empty a stack.
        if missing == "drop" and any(row.name in result.lights for row in have[kind, target, name]):
            for row in rows:
                if result.lights.pop(row.name, None) is not None:
                    result.left_out.append(
                        (row, f"no {kind}, which other lights of {row.object} in {row.band} have (missing: drop)")
                    )


def _nearest(row, masters, unlike=lambda master: 0):
    """The master of the nearest night; of those equally near the least `unlike`, then the earlier."""
    return min(masters, key=lambda m: (_days(row.night, m.first.night), unlike(m), m.first.night, m.path), default=None)


def _unlike(row, dark: Master) -> tuple:
    """How far a dark of about the same exposure is from what it is for: kind, exposure, temperature."""
    known = row.exposure and dark.first.exposure
    exposure = round(abs(row.exposure / dark.first.exposure - 1), 3) if known else 1.0
    return row.kind == "flat" and dark.kind == "dark", exposure, _warmer(row, dark)


def _warmer(row, dark: Master) -> int:
    """Difference of temperatures in whole degrees, as darks are grouped; 0 where one is not known."""
    temperatures = row.temperature, dark.first.temperature
    return 0 if None in temperatures else abs(round(temperatures[0]) - round(temperatures[1]))


def _days(a: str, b: str) -> int:
    try:
        return abs((date.fromisoformat(a) - date.fromisoformat(b)).days)
    except (TypeError, ValueError):
        return 0 if a == b else 100_000


def _same_temperature(row, other, tolerance: float) -> bool:
    return row.temperature is None or other.temperature is None or abs(row.temperature - other.temperature) <= tolerance


def _masters(chosen: Chosen) -> list[Master]:
    return [m for m in (chosen.bias, chosen.dark, chosen.flat) if m is not None]
