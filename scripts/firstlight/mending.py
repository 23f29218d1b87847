"""What is missing or odd about a night before it is reduced, and the lines of configuration that would mend it."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from . import fields, wishes
from .match import Offer, Plan
from .night import Night

BRIGHT_FIELD = 1.5  # deg, diagonal below which the bright stars are often too few
MOST_SCALED = 5.0  # times its exposure; a dark that is scaled further brings a flat more noise than it takes away
# What frames and rejected files complain of, and what mends it where it is what it seems to be.
COMPLAINTS = (
    (
        "nothing says what the target is",
        {"header": [{"where": "*PATTERN*", "append": {"OBJECT": "M42"}}]},
        "for the lights of a target",
    ),
    ("taken for a light", {"kinds": {"bias": {"file": "*PATTERN*"}}}, "for those that are no lights"),
    (
        "no exposure time",
        {"header": [{"where": "*PATTERN*", "append": {"EXPTIME": 60.0}}]},
        "in seconds; or rename: {KEYWORD: EXPTIME}",
    ),
    (
        "time of exposure",
        {"header": [{"where": "*PATTERN*", "append": {"DATE-OBS": "2025-01-31T22:00:00"}}]},
        "UTC; or rename: {KEYWORD: DATE-OBS}",
    ),
    ("does it count west as positive", {"longitude": 10.0}, "of the site in degrees, east positive"),
    ("name it under masters:|name masters under masters:", {"masters": ["FOLDER"]}, "where these masters are"),
    ("set calibrated: true", {"calibrated": True}, "takes such frames as they are"),
    (
        "colour sensor",
        {"cameras": {"bayer": "RGGB"}},
        "as its maker says it; GBRG, GRBG, BGGR for other sensors or rows, none for a mono one",
    ),
)


@dataclass(frozen=True)
class Remark:
    """A sentence, and what to add to the configuration; {} where nothing there helps. `told` says what that does."""

    sentence: str
    mend: Mapping
    told: str = ""

    @property
    def lines(self) -> list[str]:
        """The addition as YAML, to be pasted."""
        import yaml

        if not self.mend:
            return []
        nested = any(isinstance(value, (dict, list)) for value in self.mend.values())
        style = None if nested else False  # inner mappings in braces
        text = yaml.safe_dump(
            dict(self.mend), default_flow_style=style, sort_keys=False, allow_unicode=True, width=1000
        )
        return [*([f"# {self.told}"] if self.told else []), *text.rstrip().splitlines()]


def remarks(night: Night, gains: Mapping) -> list[Remark]:
    """All that is missing or odd: calibration, wishes that cannot be met, headers that say too little.

    gains  {camera: gain or None}, as the header or the configuration says it
    """
    plan = night.plan
    lacking = zip(plan.missing, plan.lacking, strict=True)
    out = [Remark(sentence, *_mend(plan, kind, rows)) for sentence, (kind, rows) in lacking]
    without = [f"{sentence}; its frames are used without" for sentence in plan.missing_of_masters()]
    out += [Remark(sentence, *_mend_flats(plan)) for sentence in without]
    said = night.ready_words() + wishes.unmet(night.config, list(plan.lights.values()), night.bands())
    out += [Remark(sentence, {}) for sentence in said]
    return (
        out + _left_out(plan) + _lonely(night) + _apart(night) + _filters(plan) + _gains(night, gains) + _blind(night)
    )


# --- What is missing ------------------------------------------------------------------------------------------------
def _mend(plan: Plan, kind: str, rows) -> tuple[Mapping, str]:
    """What would give these lights a master of this kind: other tolerances, if any help, else a ready master."""
    row = rows[0]
    tolerances = relaxing(plan, row, kind)
    if tolerances:
        best = plan.relaxed(tolerances).offers(row, kind)[0]
        return {"match": tolerances}, f"takes {best.master.path.removeprefix('masters/')}"
    if kind == "flat" and (other := _other_name(plan, row)):
        return {"filters": {row.band: [other]}}, f"if {other} is another name of {row.band}"
    return {"masters": ["FOLDER"]}, "a folder of ready masters of this camera"


def _mend_flats(plan: Plan) -> tuple[Mapping, str]:
    """The tolerances with which more flats would get a dark, as far as that does them good."""
    tolerances: dict = {}
    served = []
    for master in plan.used_masters():
        if master.kind == "flat" and not master.ready and plan.of_master(master).dark is None:
            needed = relaxing(plan, master.first, "dark")
            if needed and needed.get("scale_limit", 0) <= MOST_SCALED:
                tolerances |= {key: max(value, tolerances.get(key, value)) for key, value in needed.items()}
                served.append(master.path.rpartition("/")[2])
    which = ", ".join(served[:3]) + (f" and {len(served) - 3} more" if len(served) > 3 else "")
    return ({"match": tolerances}, f"lets a dark that is there serve {which}") if tolerances else ({}, "")


def relaxing(plan: Plan, row, kind: str) -> dict:
    """The tolerances of `match` that would let the nearest master serve a frame; {} where none would."""
    tolerances: dict = {}
    for _ in range(6):
        offers = plan.relaxed(tolerances).offers(row, kind)
        if not offers or not offers[0].failed:
            return tolerances if offers else {}
        key, value = _tolerance(offers[0])
        if key is None:
            return {}
        tolerances[key] = value
    return {}


def _tolerance(offer: Offer) -> tuple[str | None, object]:
    """The criterion by which a master fails and the least value, rounded up, with which it would not."""
    difference = {
        "temperature": (offer.temperature, 1),
        "focal_length": (offer.focal_length, 2),
        "rotator": (offer.rotator, 1),
        "scale_limit": (offer.exposure_ratio, 1),
    }
    if offer.failed == "nights":
        return "nights", offer.nights
    if offer.failed in ("telescope", "scale_dark"):
        return offer.failed, offer.failed == "scale_dark"
    if offer.failed in difference:
        off, digits = difference[offer.failed]
        return offer.failed, math.ceil(abs(off) * 10**digits) / 10**digits
    return None, None


def _other_name(plan: Plan, row) -> str | None:
    """A filter of this camera's flats in which there is no light, if there is but one."""
    flats = {master.first.band for master in plan.masters.values() if _is_flat_of(master, row.camera)}
    lights = {light.band for light in plan.lights.values()}
    free = flats - lights
    return free.pop() if len(free) == 1 else None


def _is_flat_of(master, camera: str) -> bool:
    return master.kind == "flat" and master.first.camera == camera


def _left_out(plan: Plan) -> list[Remark]:
    reasons = defaultdict(list)
    for row, reason in plan.left_out:
        reasons[reason].append(row.path)
    return [
        Remark(f"left out: {_of(len(paths), 'light')}, e.g. {paths[0]}: {reason}", {"missing": "allow"})
        for reason, paths in reasons.items()
    ]


# --- What is odd ----------------------------------------------------------------------------------------------------
def _lonely(night: Night) -> list[Remark]:
    """Targets of one light beside others of more: where the telescope was pointed, or a name misspelt."""
    rows = {target: night.rows(target) for target in night.plan.targets}
    full = [members[0].object for members in rows.values() if len(members) > 1]
    lonely = [members[0] for members in rows.values() if len(members) == 1]
    if not full or not lonely:
        return []
    first = lonely[0]
    more = f" (and {len(lonely) - 1} more like it)" if len(lonely) > 1 else ""
    sentence = f"{first.object} has one light only, {first.path}{more}: it becomes a stack and a picture of its own"
    return [Remark(sentence, {"select": {"targets": full}}, "if it is no target but a test of the pointing")]


def _apart(night: Night) -> list[Remark]:
    """Lights that are called as others are and point elsewhere."""
    return [
        Remark(
            f"{_of(number, 'light')} of {target} point more than {fields.APART:g} deg from the others: the catalogue does "
            "not hold their stars",
            {"header": [{"where": "*PATTERN*", "update": {"OBJECT": f"{target} 2"}}]},
            "gives them a name of their own",
        )
        for target, number in night.lights_apart().items()
    ]


def _filters(plan: Plan) -> list[Remark]:
    """Lights without a filter where other lights or flats of the camera have one."""
    without = [row for row in plan.lights.values() if row.band == "none"]
    named = {row.band for row in plan.lights.values()} | {
        master.first.band for master in plan.masters.values() if master.kind == "flat"
    }
    if not without or not named - {"none"}:
        return []
    sentence = f"{_of(len(without), 'light')}, e.g. {without[0].path}, name no filter, others do"
    repair = {"header": [{"where": "*PATTERN*", "append": {"FILTER": sorted(named - {"none"})[0]}}]}
    return [Remark(sentence, repair, "for the lights of this filter; or rename: {KEYWORD: FILTER}")]


def _gains(night: Night, gains: Mapping) -> list[Remark]:
    """Cameras of which neither a header nor pairs of frames tell the gain."""
    places = defaultdict(list)
    for row in night.plan.lights.values():
        if gains.get(row.camera) is None and "detector" not in night.inputs_of(row):
            places[row.camera].append(row)
    return [
        Remark(
            f"no header tells the gain of {camera}, and there are no two bias frames and two flats to measure it from: "
            f"{_of(len(rows), 'light')} in ADU, with sigma by the scatter",
            {"cameras": [{"where": rows[0].instrument, "gain": 1.5, "read_noise": 7.0}]},
            "e-/ADU and e-, with the values of your camera",
        )
        for camera, rows in places.items()
    ]


def _blind(night: Night) -> list[Remark]:
    """What makes solving hard: headers without scale or coordinates, fields too small for the bright stars."""
    if night.config["catalogue"]["source"] == "none" or night.config["solve"]["method"] == "none":
        return []
    scale, out = night.config["solve"]["scale"], []
    rows = list(night.plan.lights.values())
    if unscaled := [row for row in rows if not (row.scale or scale)]:
        sentence = f"{_of(len(unscaled), 'light')}, e.g. {unscaled[0].path}, without pixel scale: all scales are tried"
        out.append(
            Remark(sentence, {"solve": {"scale": 1.5}}, "arcsec/pix: 206.3 times pixel in um over focal length in mm")
        )
    if lost := [row for row in rows if row.ra is None or row.dec is None]:
        sentence = f"{_of(len(lost), 'light')}, e.g. {lost[0].path}, without coordinates: the whole sky is searched"
        repair = {"header": [{"where": "*PATTERN*", "append": {"RA": 10.68, "DEC": 41.27}}]}
        out.append(Remark(sentence, repair, "degrees, roughly, for the lights of a target"))
    wide = {}
    for row in rows:
        if row.scale or scale:
            diagonal = (row.scale or scale) * math.hypot(row.nx, row.ny) / 3600
            wide[row.object] = max(wide.get(row.object, 0.0), diagonal)
    small = {name: width for name, width in wide.items() if width < BRIGHT_FIELD}
    if small and not night.config["catalogue"]["source"]:
        names = ", ".join(list(small)[:4]) + (f" and {len(small) - 4} more" if len(small) > 4 else "")
        widest = f"{max(small.values()):.2g} deg"
        sentence = f"{names}: the frames' diagonal is {widest}, the bright stars may be too few to solve them"
        out.append(
            Remark(sentence, {"catalogue": "gaia"}, "asks the archive over the network, or name a table of stars")
        )
    return out


# --- What headers and rejected files complain of --------------------------------------------------------------------
def complaints(said: Iterable[tuple[str, str]]) -> list[Remark]:
    """(path, text) of notes or reasons: those that differ in numbers and paths alone as one, the most frequent first."""
    alike = defaultdict(list)
    for path, text in said:
        alike[re.sub(r"\S*/\S*|\d[\d.]*", "#", text)].append((path, text))
    groups = sorted(alike.values(), key=lambda group: (-len(group), group[0]))
    out = []
    for group in groups:
        path, text = group[0]
        mend, told = next(((mend, told) for pattern, mend, told in COMPLAINTS if re.search(pattern, text)), ({}, ""))
        out.append(Remark(f"{_of(len(group), 'file')}: {text}; e.g. {path}", mend, told))
    return out


def _of(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
