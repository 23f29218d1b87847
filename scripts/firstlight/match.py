"""Who goes with whom: which frames make a master, which masters a frame is calibrated with, which lights make a stack."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from operator import attrgetter

from .groups import Master, grouped, in_time, plain, turn_between
from .reduce import dark_ratio

KINDS = ("bias", "dark", "flat")


@dataclass(frozen=True)
class Chosen:
    """The masters that one frame is calibrated with, None where there is none, and what there is to say about it."""

    bias: Master | None = None
    dark: Master | None = None
    flat: Master | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offer:
    """A master that could serve a frame: of its camera and kind, flats of its filter. Differences are those of the
    master to the frame, None where one of both is not known."""

    master: Master
    nights: int | None  # days between the nights
    exposure_ratio: float | None = None  # k of the frame to a dark
    temperature: float | None = None  # C
    telescope: str = ""  # "same", "other"
    focal_length: float | None = None  # relative
    rotator: float | None = None  # deg
    failed: str = ""  # the criterion by which it does not fit
    why_not: str = ""  # that criterion with both values and the key that relaxes it
    rank: tuple = ()  # ((why it wins, why it loses, number), ...): the least is chosen

    @property
    def order(self) -> tuple:
        """What offers are sorted by."""
        return tuple(step[2] for step in self.rank)


@dataclass
class Plan:
    """What is to be made of a frames table."""

    lights: dict = field(default_factory=dict)  # frame name -> row
    stacks: dict = field(default_factory=dict)  # (target, filter), as in paths -> rows, in order of time
    masters: dict = field(default_factory=dict)  # path -> Master
    left_out: list = field(default_factory=list)  # (row, reason): lights that `missing: drop` leaves out
    missing: list = field(default_factory=list)  # sentences
    lacking: list = field(default_factory=list)  # (kind, lights taken alike), one for each of these sentences
    _match: dict = field(default_factory=dict)
    _by_camera: dict = field(default_factory=dict)
    _chosen: dict = field(default_factory=dict)
    _offers: dict = field(default_factory=dict)

    @property
    def targets(self) -> dict:
        """Target -> its filters, as in paths."""
        out = defaultdict(list)
        for target, name in self.stacks:
            out[target].append(name)
        return dict(out)

    def chosen(self, row) -> Chosen:
        """The masters for a light or a flat: same camera and as near as can be; nearest night, then the earlier."""
        key = wants(row)
        if key not in self._chosen:
            self._chosen[key] = self._choose(row)
        return self._chosen[key]

    def of_master(self, master: Master) -> Chosen:
        """The masters that a master's own frames are reduced with; darks keep their bias but need its level for sigma.

        Of ready masters a dark may need the bias that somebody has subtracted from it.
        """
        if master.kind == "bias" or (master.ready and master.kind == "flat"):
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

    def offers(self, row, kind: str) -> list[Offer]:
        """All masters of a kind that could serve a frame: those that fit first, the best of them at the head.

        Frames that ask alike get the same list, so that many lights of one night are compared with all nights once.
        """
        key = asks(row, kind)
        if key not in self._offers:
            make = {"bias": self._offered_bias, "dark": self._offered_dark, "flat": self._offered_flat}[kind]
            kinds = ("flatdark", "dark") if kind == "dark" and row.kind == "flat" else (kind,)
            fellows = self._by_camera.get(row.camera, {})
            found = [make(row, master) for one in kinds for master in fellows.get(one, ())]
            found = [offer for offer in found if kind != "flat" or offer.master.first.filter == row.flat_filter]
            self._offers[key] = sorted(found, key=lambda offer: (offer.failed != "", offer.order))
        return self._offers[key]

    def offer(self, row, kind: str) -> Offer | None:
        """The master of a kind that a frame is calibrated with, and how far off it is."""
        chosen = getattr(self.chosen(row), kind)
        return next((offer for offer in self.offers(row, kind) if offer.master is chosen), None) if chosen else None

    def relaxed(self, tolerances: dict) -> Plan:
        """The same frames with other tolerances of `match`: what they would be offered."""
        return Plan(masters=self.masters, _match=self._match | tolerances, _by_camera=self._by_camera)

    def _choose(self, row) -> Chosen:
        found = {kind: self._best(row, kind) for kind in kinds_for(row)}
        bias, dark, flat = (found.get(kind) for kind in KINDS)
        notes = [*self._dark_notes(row, dark)]
        if bias is None and dark is None:
            notes.append("no bias: the level that is not light stays in the frame")
        if row.kind == "light" and flat is None:
            notes.append(f"no flat in filter {row.band}")
        equal = dark is not None and self._equal(row, dark.master)
        for kind, offer in found.items():
            # A dark of equal exposure replaces the bias.
            if offer is not None and offer.nights and not (kind == "bias" and equal):
                notes.append(f"{kind} from {_away(offer.nights)}: {_label(offer.master)}")
        return Chosen(*(offer and offer.master for offer in (bias, dark, flat)), tuple(notes))

    def _best(self, row, kind: str) -> Offer | None:
        return next((offer for offer in self.offers(row, kind) if not offer.failed), None)

    def _equal(self, row, dark: Master) -> bool:
        return dark_ratio(row.exposure, dark.first.exposure, self._match["exposure"]) == 1.0

    # Offers

    def _offered_bias(self, row, master: Master) -> Offer:
        days, failed, why_not = self._nights(row, master)
        return Offer(master, days, failed=failed, why_not=why_not, rank=_rank(row, master, days))

    def _offered_flat(self, row, master: Master) -> Offer:
        days, failed, why_not = self._nights(row, master)
        setup = _setup(row, master)
        failed, why_not = (failed, why_not) if failed else self._other_setup(row, master, *setup)
        telescope, focal, turn = setup
        unknown = (telescope == "") + (focal is None) + (turn is None)
        middle = (
            ("same set-up, the other does not say", "set-up not known", unknown),
            ("nearer angle of the rotator", "farther angle of the rotator", round(abs(turn or 0), 1)),
            ("nearer focal length", "farther focal length", round(abs(focal or 0), 3)),
        )
        return Offer(master, days, None, None, *setup, failed, why_not, _rank(row, master, days, middle))

    def _offered_dark(self, row, master: Master) -> Offer:
        days, failed, why_not = self._nights(row, master)
        known = row.exposure and master.first.exposure
        ratio = row.exposure / master.first.exposure if known else None
        warmer = None if None in (row.temperature, master.temperature) else master.temperature - row.temperature
        equal = self._equal(row, master)
        if not failed and warmer is not None and abs(warmer) > self._match["temperature"]:
            failed = "temperature"
            why_not = (
                f"temperature {master.temperature:.4g} C, looked for {row.temperature:.4g} C "
                f"(match: temperature: {self._match['temperature']:g})"
            )
        if not failed and not equal:
            failed, why_not = self._not_scalable(row, master)
        first = (("equal exposure", "to be scaled", not equal),)
        longer = ("longer exposure", "shorter exposure", -(master.first.exposure or 0))
        off = round(abs(ratio - 1), 3) if known else 1.0
        nearer = ("nearer exposure", "farther exposure", off)
        far = self._match["temperature"] if warmer is None else round(abs(warmer), 1)
        middle = (
            ("flat dark before a dark", "not a flat dark", row.kind == "flat" and master.kind == "dark"),
            nearer if equal else longer,
            ("nearer temperature", "farther temperature", far),
        )
        rank = first + _rank(row, master, days, middle)
        return Offer(master, days, ratio, warmer, failed=failed, why_not=why_not, rank=rank)

    def _nights(self, row, master: Master) -> tuple[int | None, str, str]:
        """(days, "", ""), or with the failed criterion and its sentence."""
        days, most = _days(row.night, master.first.night), self._match["nights"]
        days = None if days == FAR else days
        if most is None or (days is not None and days <= most):
            return days, "", ""
        return days, "nights", f"night {master.first.night}, looked for {row.night} (match: nights: {most})"

    def _not_scalable(self, row, master: Master) -> tuple[str, str]:
        """("", "") where a dark of another exposure may be scaled, else the criterion and its sentence."""
        said = f"exposure {master.first.exposure:g} s, looked for {row.exposure:g} s"
        if self._best(row, "bias") is None:
            return (
                "no bias",
                f"{said} (match: exposure: {self._match['exposure']:g}), without a bias none can be scaled",
            )
        if not self._match["scale_dark"]:
            return "scale_dark", f"{said} (match: exposure: {self._match['exposure']:g}; match: scale_dark is off)"
        if row.exposure > self._match["scale_limit"] * master.first.exposure:
            return "scale_limit", f"{said}, too short to be scaled (match: scale_limit: {self._match['scale_limit']:g})"
        return "", ""

    def _other_setup(self, row, master: Master, telescope: str, focal, turn) -> tuple[str, str]:
        """("", "") where a flat was taken with the telescope as it is for the frame, else what differs."""
        if telescope == "other" and self._match["telescope"]:
            said = f"telescope {master.telescope}, looked for {row.telescope} (match: telescope: true)"
            return "telescope", said
        for name, off, unit in (("focal_length", focal, "mm"), ("rotator", turn, "deg")):
            most = self._match[name]
            if off is not None and most is not None and abs(off) > most:
                values = f"{getattr(master, name):.5g} {unit}, looked for {getattr(row, name):.5g} {unit}"
                return name, f"{name.replace('_', ' ')} {values} (match: {name}: {most:g})"
        return "", ""

    def _dark_notes(self, row, dark: Offer | None) -> list[str]:
        """What there is to say of a frame's dark, or of why there is none."""
        if dark is not None:
            exposure = dark.master.first.exposure
            if not row.exposure or not exposure:
                known = f"{exposure:g} s" if exposure else "unknown exposure"
                return [f"exposure not known of both: dark of {known} subtracted as it is"]
            equal = self._equal(row, dark.master)
            return [] if equal else [f"dark of {exposure:g} s scaled to {row.exposure:g} s"]
        offers = self.offers(row, "dark") if "dark" in kinds_for(row) else []
        failed = {offer.failed: offer for offer in reversed(offers)}
        if not failed:
            return ["no dark"]
        if "scale_limit" in failed:
            longest = max(offer.master.first.exposure for offer in offers if offer.failed == "scale_limit")
            return [
                f"the longest dark has {longest:g} s, too short to be scaled to {row.exposure:g} s (match: scale_limit)"
            ]
        for criterion, why in (
            ("no bias", "without a bias none can be scaled"),
            ("scale_dark", "match: scale_dark is off"),
        ):
            if criterion in failed:
                return [f"no dark of {row.exposure:g} s, {why}"]
        if "temperature" in failed:
            return [f"no dark within {self._match['temperature']:g} C"]
        return [f"no dark within {self._match['nights']} nights"]

    # What is said before a run

    def notes(self) -> list[str]:
        """Sentences on what was chosen although it is not quite what was looked for, each with how many frames it
        concerns; what is missing for lights is in `missing`."""
        said = defaultdict(list)
        for row in self.lights.values():
            for note in self.chosen(row).notes:
                if not note.startswith(("no ", "the longest ")):
                    said[note].append(row)
        lines = [f"{note} ({_of_lights(rows)})" for note, rows in sorted(said.items())]
        return lines + [f"{sentence}; its frames are used without" for sentence in self.missing_of_masters()]

    def missing_of_masters(self) -> list[str]:
        """Sentences on flats that lack a bias or a dark of their own."""
        lines = []
        for master in self.used_masters():
            if master.kind != "flat" or master.ready:
                continue
            chosen = self.of_master(master)
            for kind in ("bias", "dark") if chosen.dark is None else ():
                if getattr(chosen, kind) is None:
                    why = "; ".join(offer.why_not for offer in self.offers(master.first, kind)[:2])
                    lines.append(f"no {kind} for {_label(master)}" + (f" ({why})" if why else ""))
        return lines


def plan(rows, match: dict, missing: str = "allow", select: dict | None = None, library=()) -> Plan:
    """Work out what is to be made.

    rows    of the frames table
    match   tolerances, as in the configuration
    missing allow, drop or stop: with stop, `Plan.missing` lists what is missing and the caller ends
    library rows of ready masters; their cameras and filters have the names that `rows` have
    """
    select = select or {}
    result = Plan(_match=match)
    calibrations = []
    for row in rows:
        if row.kind != "light":
            calibrations.append(row)
        elif _selected(row, select):
            result.lights[row.name] = row
    by_camera = defaultdict(lambda: defaultdict(list))
    masters = grouped(calibrations, match) | {f"masters/library/{row.name}.fits": [row] for row in library}
    for path in sorted(masters):
        members = tuple(sorted(masters[path], key=in_time))
        result.masters[path] = Master(members[0].kind, path, members, path.startswith("masters/library/"))
        by_camera[members[0].camera][members[0].kind].append(result.masters[path])
    result._by_camera = by_camera
    _apply_missing(result, missing)
    stacks = defaultdict(list)
    for row in result.lights.values():
        stacks[row.target, row.filter].append(row)
    for key in sorted(stacks):
        result.stacks[key] = sorted(stacks[key], key=lambda row: (row.time or "", row.name))
    return result


def detector_pairs(plan: Plan, night: str, camera: str) -> tuple[list, list]:
    """Bias frames and flats of a camera, in pairs of neighbours in time, to measure its gain and read noise from.

    Of the nearest night that has two: two pairs of bias frames, and two of flats in up to three filters (the first of a
    twilight may be saturated). Few, and the first of their night, so that what is added later changes nothing.
    """
    masters = [m for m in plan.masters.values() if m.first.camera == camera and len(m.rows) > 1]

    def nearest(kind):
        groups = [m.rows for m in masters if m.kind == kind]
        days = min((_days(night, rows[0].night) for rows in groups), default=0)
        return [rows for rows in groups if _days(night, rows[0].night) == days]

    offsets = nearest("bias")[:1] or nearest("flatdark")[:1]
    flats = sorted(nearest("flat"), key=lambda rows: (rows[0].time or "", rows[0].filter))[:3]

    def first(groups):
        return [row for rows in groups for row in rows[: 4 if len(rows) > 3 else 2]]

    return first(offsets), first(flats)


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


# --- What is missing ------------------------------------------------------------------------------------------------
def _apply_missing(result: Plan, missing: str) -> None:
    """Find lights that lack a kind of calibration; with `drop` leave out those whose fellows have it."""
    lacking = defaultdict(list)
    have = defaultdict(list)
    for row in result.lights.values():
        chosen = result.chosen(row)
        for kind in KINDS:
            covered = getattr(chosen, kind) is not None
            if kind == "bias" and chosen.dark is not None:
                covered = covered or result._equal(row, chosen.dark)
            (have if covered else lacking)[kind, row.target, row.family].append(row)
    for (kind, target, family), rows in sorted(lacking.items(), key=lambda item: item[0]):
        alike = defaultdict(list)
        for row in rows:
            alike[row.camera, f"{row.exposure or 0:.3g}"].append(row)
        result.lacking += [(kind, same) for _, same in sorted(alike.items())]
        result.missing += [_missing_sentence(result, kind, same) for _, same in sorted(alike.items())]
        # Fellows that were left out themselves do not count: between them two lights must not empty a stack.
        if missing == "drop" and any(row.name in result.lights for row in have[kind, target, family]):
            for row in rows:
                if result.lights.pop(row.name, None) is not None:
                    result.left_out.append(
                        (row, f"no {kind}, which other lights of {row.object} in {row.band} have (missing: drop)")
                    )


def _missing_sentence(result: Plan, kind: str, rows) -> str:
    """Which lights have no master of a kind, what was looked for, what was there, and what relaxes it."""
    row = rows[0]
    setup = [row.telescope, row.focal_length and f"{row.focal_length:.5g} mm"]
    setup += [row.rotator is not None and f"rotator {row.rotator:.4g} deg"]
    warm = row.temperature is not None and f"{row.temperature:.4g} C"
    wanted = {"bias": [], "dark": [warm], "flat": setup}[kind]
    looked_for = [f"camera {row.camera}", f"{row.exposure or 0:g} s", *filter(None, wanted), f"night {row.night}"]
    return (
        f"no {kind} for {_of_lights(rows)} ({', '.join(looked_for)}, for example {row.path}): "
        f"{_what_was_there(result, row, kind)}"
    )


def _what_was_there(result: Plan, row, kind: str) -> str:
    offers = result.offers(row, kind)
    if offers:
        nearest = [f"{_label(offer.master)} has {offer.why_not}" for offer in offers[:3]]
        return "; ".join(nearest) + (f"; and {len(offers) - 3} more, see matches.csv" if len(offers) > 3 else "")
    others = [master for master in result.masters.values() if master.kind == kind]
    bands = sorted({master.first.band for master in others if master.first.camera == row.camera})
    if kind == "flat" and bands:
        return f"there are flats of this camera in {_some(bands)}; masters: may name a ready one"
    cameras = sorted({master.first.camera for master in others})
    if cameras:
        return f"there is one of camera {_some(cameras)}; masters: may name a ready one of this camera"
    return "there is none at all; masters: may name a ready one"


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _of_lights(rows) -> str:
    """'2 lights of M 42 in R'; a colour sensor's planes are one light."""
    bands = defaultdict(set)
    for row in rows:
        bands[row.object].add(row.band)
    number = len({row.path for row in rows})
    of = [f"{name} in {', '.join(sorted(bands[name]))}" for name in sorted(bands)]
    return f"{number} light{'s' * (number > 1)} of {_some(of)}"


def _label(master: Master) -> str:
    """A master as people find it: its file's name and night, or the ready file."""
    return master.first.path if master.ready else f"{master.path.rpartition('/')[2]} of {master.first.night}"


def _away(nights: int) -> str:
    return f"{nights} night{'s' * (nights > 1)} away"


# --- Measures -------------------------------------------------------------------------------------------------------
FAR = 100_000  # nights, where one is not known


def _rank(row, master: Master, days: int | None, middle=()) -> tuple:
    """Steps of the comparison with other masters: night, own or of the library, `middle`, then the earlier."""
    return (
        ("nearest night", "farther night", FAR if days is None else days),
        ("of the night's own frames", "from the library", master.ready),
        *middle,
        ("the earlier of two as near", "the later of two as near", master.first.night),
        ("the first by name", "not the first by name", master.path),
    )


def _setup(row, master: Master) -> tuple[str, float | None, float | None]:
    """(telescope "same", "other" or "", relative difference of the focal length, difference of the rotator in deg)."""
    telescope = ""
    if row.telescope and master.telescope:
        telescope = "same" if plain(row.telescope) == plain(master.telescope) else "other"
    known = row.focal_length and master.focal_length
    focal = master.focal_length / row.focal_length - 1 if known else None
    turn = None if None in (row.rotator, master.rotator) else turn_between(row.rotator, master.rotator)
    return telescope, focal, turn


def kinds_for(row) -> tuple[str, ...]:
    """The kinds of masters that a frame is reduced with."""
    return {"light": KINDS, "flat": ("bias", "dark"), "dark": ("bias",), "flatdark": ("bias",)}.get(row.kind, ())


_WANTS = attrgetter(
    "kind", "night", "camera", "flat_filter", "exposure", "temperature", "telescope", "focal_length", "rotator"
)
_ASKS = {
    "bias": attrgetter("night", "camera"),
    "dark": attrgetter("night", "camera", "kind", "exposure", "temperature"),
    "flat": attrgetter("night", "camera", "flat_filter", "telescope", "focal_length", "rotator"),
}


def wants(row) -> tuple:
    """What of a frame decides on its masters."""
    return _WANTS(row)


def asks(row, kind: str) -> tuple:
    """What of a frame decides on its masters of one kind."""
    return kind, *_ASKS[kind](row)


@cache
def _days(a: str, b: str) -> int:
    try:
        return abs((date.fromisoformat(a) - date.fromisoformat(b)).days)
    except (TypeError, ValueError):
        return 0 if a == b else FAR


def _masters(chosen: Chosen) -> list[Master]:
    return [m for m in (chosen.bias, chosen.dark, chosen.flat) if m is not None]
