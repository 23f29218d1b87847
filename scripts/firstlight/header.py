"""What a FITS header says of a frame and its detector, in whichever dialect, and repairs of what it says wrongly.

Pure functions on an astropy Header (or any mapping of keywords to values); no file is opened here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import PurePath

from astropy.io import fits

from .dialects import (
    BAYER,
    CALIBRATION_NAMES,
    FILTER_ALIASES,
    FILTER_FOLDERS,
    GAIN_IS_SETTING,
    GENERIC_FOLDER,
    KEYWORDS,
    KIND_CODES,
    KINDS,
    MILLIONTHS,
    NO_FILTER,
    OPEN_WHEEL,
    OTHER_KINDS,
    STACKED_NAMES,
    Values,
    as_list,
    as_number,
    comment_of,
    numbers_of,
    path_matches,
    quoted,
    squeezed,
    structural,
    texts_of,
    value_matches,
    value_of,
)
from .nights import FOLDER_DATE, folder_date, longitude, moment_of, night_of, parse_date, parse_time
from .pointing import binning_of, coordinates, pixel_scale, positive_of


# --- Settings and results -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Settings:
    """What the configuration says about reading headers. Every part has a default.

    header      repairs, see `repair`
    kinds       {kind: {"file" or KEYWORD: pattern or list}}, the last resort where no keyword tells the kind
    filters     {name: [names in headers]}, added to `FILTER_ALIASES`; compared with regard to case
    targets     {name: [patterns]}, compared without case and blanks
    cameras     what is known of a detector, see `detector`
    longitude   of the site, deg, east positive; None: from the headers
    calibrated  take frames that say they were calibrated or stacked
    raw         the raw folders: what lies below them may name a target or a night
    """

    header: Mapping | Iterable = ()
    kinds: Mapping = field(default_factory=dict)
    filters: Mapping = field(default_factory=dict)
    targets: Mapping = field(default_factory=dict)
    cameras: Mapping | Iterable = ()
    longitude: float | None = None
    calibrated: bool = False
    raw: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "header", repairs(self.header))
        unknown = set(self.kinds) - set(KINDS)
        if unknown:
            raise ValueError(f"kinds: {sorted(unknown)[0]!r} is not a kind of frame: one of {', '.join(KINDS)}")

    @classmethod
    def from_config(cls, config: Mapping) -> Settings:
        """The parts of a whole configuration that matter here; the others are left alone."""
        known = {part.name: config[part.name] for part in fields(cls) if config.get(part.name) is not None}
        if "raw" in known:
            raw = known["raw"]
            known["raw"] = tuple(map(str, raw)) if isinstance(raw, (list, tuple)) else (str(raw),)
        return cls(**known)


@dataclass
class Description:
    """What one header says about its frame. `read_from` tells for each field where it was read."""

    kind: str = "light"
    target: str = ""  # of lights only
    filter: str = "none"
    exposure: float | None = None  # s
    temperature: float | None = None  # deg C
    time: str | None = None  # UTC, ISO 8601, start of the exposure
    night: str | None = None  # YYYY-MM-DD, local date of the evening; None where only all frames together can tell
    folder_night: str | None = None  # the date in a folder's name
    instrument: str = "unknown"
    binning: str = "1x1"
    readout: str = ""
    gain_setting: str = ""
    offset: str = ""
    telescope: str = ""
    focal_length: float | None = None  # mm
    rotator: float | None = None  # deg
    ra: float | None = None  # deg
    dec: float | None = None  # deg
    scale: float | None = None  # arcsec/pix
    bayer: str | None = ""  # pattern of a colour sensor, None where nothing tells it, see `bayer.stated_pattern`
    read_from: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Detector:
    """What is known of the detector; None is unknown and nothing is made up."""

    gain: float | None = None  # e-/ADU
    read_noise: float | None = None  # e-
    saturation: float | None = None  # ADU
    bias_level: float | None = None  # ADU
    trim: str | None = None  # FITS section that is kept; None keeps the whole frame
    overscan: tuple[str, ...] = ()  # FITS sections, all of them together tell the level
    bayer: str | None = None
    mask: str | None = None  # file of bad pixels
    read_from: dict[str, str] = field(default_factory=dict)


# --- Repairs --------------------------------------------------------------------------------------------------------
_ITEM = ("where", "rename", "append", "update")
MOST_DIGITS = 60  # of a whole number: a card has 80 characters


class Repairs(tuple):
    """The `header:` section once it is checked."""


def repairs(rules) -> Repairs:
    """The `header:` section in its one long form, checked: a list of {where, rename, append, update}.

    A plain mapping KEY: VALUE sets these keywords in all frames. Raises ValueError for what cannot be meant.
    """
    if isinstance(rules, Repairs):
        return rules
    if isinstance(rules, Mapping) and rules:
        rules = [rules] if all(key in _ITEM for key in rules) else [{"update": rules}]
    return Repairs(_checked(number, item) for number, item in enumerate(rules or (), 1))


def _checked(number: int, item) -> dict:
    if not isinstance(item, Mapping):
        raise ValueError(f"header: item {number} is {item!r}: write a mapping of where, rename, append, update")
    for part in item:
        if part not in _ITEM:
            raise ValueError(f"header: item {number} has {part!r}: known are {', '.join(_ITEM)}")
    checked = {"where": item.get("where")}
    for part in _ITEM[1:]:
        changes = item.get(part) or {}
        if not isinstance(changes, Mapping):
            raise ValueError(f"header: {part} is {changes!r}: write a mapping, such as {part}: {{FILTER: R}}")
        checked[part] = {_keyword(key): _checked_value(part, key, value) for key, value in changes.items()}
    return checked


def _keyword(key) -> str:
    key = str(key).strip().upper()
    if structural(key):
        raise ValueError(f"header: {key} says how the pixels are stored and cannot be changed: remove it there")
    if not re.fullmatch(r"[A-Z0-9_-]{1,8}|[A-Z0-9_-]+( [A-Z0-9_-]+)+", key):
        raise ValueError(f"header: {key!r} is not a FITS keyword: up to 8 of A-Z, 0-9, - and _")
    return key


def _checked_value(part: str, key, value):
    if part == "rename":
        if value is None or {_keyword(key), _keyword(value)} & {"COMMENT", "HISTORY"}:
            raise ValueError(f"header: rename: {key}: {value!r}: write OLD: NEW, two keywords that have a value")
        return _keyword(value)
    if isinstance(value, (bool, int, float)) or value is None:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"header: {key} is {value}, which a header cannot hold: write a finite number")
        if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            raise ValueError(f"header: {key} has more than {MOST_DIGITS} digits, which a header cannot hold")
        return value
    if isinstance(value, (date, datetime)):  # YAML reads an unquoted 2025-06-01 as a date
        return value.isoformat()
    if isinstance(value, str) and re.fullmatch(r"[ -~]*", value):
        return value.rstrip()  # blanks at the end mean nothing in a header
    raise ValueError(f"header: {key} is {value!r}: write a number, true, false, or text in plain ASCII")


def repair(header, path: str, rules) -> fits.Header:
    """The header with the repairs of the configuration that concern this file; the one passed in is not changed.

    `rules` is a mapping KEY: VALUE (set in all frames) or a list of items, applied in turn:
    {where: pattern of the path, or {KEY: pattern of its value}; rename: {OLD: NEW}; append: {KEY: VALUE}, only where
    the keyword is absent or blank; update: {KEY: VALUE}, always; a value of null removes the keyword}.
    Within an item the order is rename, append, update. Raises ValueError for keywords that describe the array.
    """
    rules = repairs(rules)
    if not isinstance(header, (fits.Header, Values)):
        header = fits.Header(list(header.items()))
    if not rules:
        return header
    header = header.copy()
    for rule in rules:
        if _concerns(rule["where"], header, path):
            _apply(rule, header)
    return header


def _concerns(where, header, path: str) -> bool:
    if where is None:
        return True
    if isinstance(where, Mapping):
        return all(
            path_matches(path, pattern) if key in ("file", "path") else value_matches(header, str(key), pattern)
            for key, pattern in where.items()
        )
    return path_matches(path, where)


def _apply(rule: Mapping, header: fits.Header) -> None:
    for old, new in rule["rename"].items():
        if old != new and value_of(header, old) is not None:
            header[new] = (header[old], header.comments[old])
            del header[old]
    for key, value in rule["append"].items():
        if value_of(header, key) is None and value is not None:
            header[key] = value
    for key, value in rule["update"].items():
        if value is None:
            header.remove(key, ignore_missing=True, remove_all=True)
        else:
            header[key] = value


# --- What a header says ---------------------------------------------------------------------------------------------
def describe(header, path: str, settings: Settings | None = None) -> Description:
    """All that a (repaired) header and the file's place tell about a frame."""
    settings = settings or Settings()
    out = Description()
    _kind(header, path, settings, out)
    _exposure(header, out)
    _temperature(header, out)
    _filter(header, settings, out)
    _camera(header, out)
    _by_name(path, out)
    _pointing(header, out)
    if out.kind == "light":
        _target(header, path, settings, out)
    _time_and_night(header, path, settings, out)
    return out


def _kind(header, path: str, settings: Settings, out: Description) -> None:
    unknown = None
    for key, text in texts_of(header, "kind"):
        kind = _kind_of(key, text)
        if kind:
            out.kind, out.read_from["kind"] = kind, quoted(key, text)
            return
        unknown = unknown or quoted(key, text)
    for kind in KINDS:
        for key, pattern in (settings.kinds.get(kind) or {}).items():
            by_name = key.lower() in ("file", "path")
            if path_matches(path, pattern) if by_name else value_matches(header, key, pattern):
                out.kind, out.read_from["kind"] = kind, f"kinds: {kind}: {key}: {pattern}"
                return
    why = f"{unknown} is no kind known here" if unknown else "nothing says what kind of frame this is"
    out.notes.append(f"{why}: taken for a light")
    out.read_from["kind"] = "nothing"


def _by_name(path: str, out: Description) -> None:
    """What the name of a calibration frame tells where its header says nothing of its kind."""
    found = (pattern.fullmatch(PurePath(path).name.split(".fit")[0]) for pattern in CALIBRATION_NAMES)
    named = next((match.groupdict() for match in found if match), None)
    if named is None or out.read_from["kind"] != "nothing":
        return
    out.notes = [
        note for note in out.notes if not note.endswith(("taken for a light", "no exposure time in the header"))
    ]
    out.kind, out.read_from["kind"] = named.get("kind", "dark"), "file name"
    for name, text in (("exposure", named.get("exposure")), ("temperature", named.get("temperature"))):
        if text and getattr(out, name) is None:
            setattr(out, name, float(text))
            out.read_from[name] = "file name"
    if out.kind == "bias" and out.exposure is None:
        out.exposure = 0.0
    if not out.gain_setting:
        out.gain_setting, out.read_from["gain_setting"] = named["gain"], "file name"


def _kind_of(key: str, text: str) -> str | None:
    """A kind for the value of one keyword; 'other' for a frame of no use here; None where the value says nothing."""
    if key in KIND_CODES and as_number(text) is not None:
        return KIND_CODES[key].get(int(as_number(text)))
    word = re.sub(r"[^a-z0-9]", "", text.lower())
    found = next((kind for kind, words in KINDS.items() if any(part in word for part in words)), None)
    if found in (None, "light") and OTHER_KINDS & set(re.split(r"[^a-z]+", text.lower())):
        return "other"  # 'Focus image' is no light, 'lamp flat' is a flat
    return found


def _exposure(header, out: Description) -> None:
    for key, seconds in numbers_of(header, "exposure"):
        if key in MILLIONTHS:
            seconds *= 1e-6
        elif re.search(r"\bm(illi)?s(ec(ond)?s?)?\b", comment_of(header, key), re.I):
            seconds *= 1e-3
        if seconds >= 0:
            out.exposure, out.read_from["exposure"] = seconds, quoted(key, header[key])
            return
        out.notes.append(f"{quoted(key, header[key])} is not a time")
    out.notes.append("no exposure time in the header")


def _temperature(header, out: Description) -> None:
    for key, value in numbers_of(header, "temperature"):
        kelvin = value > 130 or "kelvin" in comment_of(header, key).lower()
        celsius = value - 273.15 if kelvin else value
        if -200 < celsius < 100:
            unit = " K" if kelvin else ""
            out.temperature, out.read_from["temperature"] = round(celsius, 3), quoted(key, header[key]) + unit
            return


def _filter(header, settings: Settings, out: Description) -> None:
    for key, text in texts_of(header, "filter"):
        if text.lower() not in NO_FILTER:
            out.filter, out.read_from["filter"] = filter_name(text, settings.filters), quoted(key, text)
            return
    wheels = [(key, text) for key, text in texts_of(header, "wheels") if text.lower() not in OPEN_WHEEL]
    if wheels:
        out.filter = "+".join(filter_name(text, settings.filters) for _, text in wheels)
        out.read_from["filter"] = ", ".join(quoted(*wheel) for wheel in wheels)


def filter_name(text: str, aliases: Mapping) -> str:
    """The filter's own name for what a header calls it. Case counts: r and R are two filters."""
    text = " ".join(text.split())
    for name, known in {**FILTER_ALIASES, **(aliases or {})}.items():
        if text == name or text in map(str, as_list(known)):
            return str(name)
    return text


def _camera(header, out: Description) -> None:
    for name in ("instrument", "readout", "telescope", "offset"):
        key, text = next(texts_of(header, name), (None, None))
        if key:
            setattr(out, name, text)
            out.read_from[name] = quoted(key, text)
    out.binning, source = binning_of(header)
    if source:
        out.read_from["binning"] = source
    setting = _gain_setting(header) or next(texts_of(header, "iso"), None)
    if setting:
        out.gain_setting, out.read_from["gain_setting"] = setting[1], quoted(*setting)
    for name in ("focal_length", "rotator"):
        for key, number in numbers_of(header, name):
            if name == "rotator" or number > 0:  # 0 mm stands for not given
                setattr(out, name, number)
                out.read_from[name] = quoted(key, number)
                break


_ELECTRONS = re.compile(r"\be-?\s*/\s*(adu|dn|count)|electrons?\s*(/|per)", re.I)


def _gain_setting(header) -> tuple[str, str] | None:
    """(keyword, text) where GAIN is the camera's setting and not electrons per ADU.

    It is a setting where it is a whole number and: the program or camera is known for that, EGAIN stands beside it,
    or it is 0, negative or above 10, which no gain in e-/ADU would be. A comment that names electrons overrules all.
    """
    value = as_number(value_of(header, "GAIN"))
    if value is None or value != int(value) or _ELECTRONS.search(comment_of(header, "GAIN")):
        return None
    writers = " ".join(text for name in ("software", "instrument") for _, text in texts_of(header, name)).lower()
    known = any(word in writers for word in GAIN_IS_SETTING)
    if known or positive_of(header, "EGAIN") or value <= 0 or value > 10:
        return "GAIN", f"{value:g}"
    return None


def _pointing(header, out: Description) -> None:
    found = coordinates(header)
    if found:
        out.ra, out.dec, out.read_from["coordinates"] = found
    scale = pixel_scale(header)
    if scale:
        out.scale, out.read_from["scale"] = scale


# --- Targets --------------------------------------------------------------------------------------------------------
def target_key(text: str) -> str:
    """What must be equal for two names to mean one target: the letters, without case and blanks."""
    return squeezed(text)


def _target(header, path: str, settings: Settings, out: Description) -> None:
    key, text = next(texts_of(header, "object"), (None, None))
    if key:
        out.target, out.read_from["target"] = target_name(text, settings.targets), quoted(key, text)
        return
    for folder in _folders(path, settings.raw, with_root=False):
        name = _named_by(folder, settings, out.filter)
        if name:
            out.target, out.read_from["target"] = target_name(name, settings.targets), "folder name"
            return
    if out.ra is not None:
        out.target, out.read_from["target"] = pointing_name(out.ra, out.dec), "pointing"
        return
    out.target = "unknown"
    out.notes.append("nothing says what the target is: set OBJECT with header:")


def target_name(text: str, targets: Mapping) -> str:
    """The name under `targets:` one of whose patterns fits, without case and blanks; else the text itself."""
    wanted = squeezed(text)
    for name, patterns in (targets or {}).items():
        if any(fnmatchcase(wanted, squeezed(str(pattern))) for pattern in [name, *as_list(patterns or [])]):
            return str(name)
    return text


def pointing_name(ra: float, dec: float) -> str:
    """'J0205+4646' from degrees: hours and minutes of right ascension, degrees and minutes of declination, cut off."""
    hours = int(ra % 360 / 15 * 60 + 1e-9)
    arcmin = int(abs(dec) * 60 + 1e-9)
    return f"J{hours // 60:02d}{hours % 60:02d}{'-' if dec < 0 else '+'}{arcmin // 60:02d}{arcmin % 60:02d}"


def _folders(path: str, roots: Iterable[str], with_root: bool) -> list[str]:
    """Names of the folders above a file, the nearest first; without the root only those below a raw folder."""
    parts = PurePath(path).parent
    for root in sorted(map(PurePath, roots), key=lambda root: -len(root.parts)):
        if parts.is_relative_to(root):
            below = list(reversed(parts.relative_to(root).parts))
            return list(reversed(parts.parts)) if with_root else below
    return list(reversed(parts.parts))


def _named_by(folder: str, settings: Settings, filter_: str) -> str:
    """What is left of a folder's name as a target, '' for a date, a filter, or a word such as lights."""
    name = (FOLDER_DATE.sub("", folder) if folder_date(folder) else folder).strip(" _-.")
    low = name.lower()
    filters = {str(n).lower() for n in (*FILTER_ALIASES, *settings.filters)} | FILTER_FOLDERS | {filter_.lower()}
    if not name or low in filters or low in (".", "..", "/") or GENERIC_FOLDER.fullmatch(low):
        return ""
    aliased = filter_name(name, settings.filters)
    return "" if aliased != name else name


# --- The detector ---------------------------------------------------------------------------------------------------
def detector(header, cameras=(), region: str | None = None) -> Detector:
    """What configuration and header know of the detector; the configuration comes first, nothing is invented.

    `cameras` is a mapping for all frames or a list of {where: pattern of INSTRUME or {KEY: pattern}, gain (e-/ADU),
    read_noise (e-), saturation (ADU), bias_level (ADU), trim, overscan, bayer, mask}; the first item that fits gives a
    value. `region` is kept of all frames whose camera gives no trim. Sections are texts, see `section.parse_section`; overscan
    is one or a list of them, and "none" for either means that there is none, whatever the header says.
    """
    out = Detector()
    _from_cameras(header, cameras, out)
    if out.trim is None and region is not None:
        out.trim, out.read_from["trim"] = region, "trim: region in the configuration"
    _gain(header, out)
    for name in ("read_noise", "saturation"):
        _first_number(header, name, out)
    if out.saturation is None and "satur" in _comment_of(header, "DATAMAX"):  # elsewhere it is the brightest pixel
        value = positive_of(header, "DATAMAX")
        if value:
            out.saturation, out.read_from["saturation"] = value, quoted("DATAMAX", value)
    for name in ("trim", "overscan"):
        key, text = next(texts_of(header, name), (None, None))
        if key and not getattr(out, name):
            setattr(out, name, text)
            out.read_from[name] = quoted(key, text)
    out.trim = next(iter(_in_force(out.trim)), None)
    out.overscan = _in_force(out.overscan)
    out.mask = next(iter(_in_force(out.mask)), None)
    return out


def _in_force(given) -> tuple[str, ...]:
    """One text or several, without those that say none."""
    return tuple(text for text in as_list(given or ()) if str(text).strip().lower() != "none")


def mask_files(cameras) -> list[str]:
    """All mask files that `cameras:` names, whichever frames they are for."""
    items = [cameras] if isinstance(cameras, Mapping) else cameras or ()
    return sorted({path for item in items for path in _in_force(item.get("mask"))})


_DETECTOR = ("gain", "read_noise", "saturation", "bias_level", "trim", "overscan", "bayer", "mask")


def _from_cameras(header, cameras, out: Detector) -> None:
    for item in [cameras] if isinstance(cameras, Mapping) else cameras or ():
        where = item.get("where")
        where = where if isinstance(where, Mapping) or where is None else {"INSTRUME": where}
        if where and not all(value_matches(header, str(key), pattern) for key, pattern in where.items()):
            continue
        for name in _DETECTOR:
            if item.get(name) is not None and getattr(out, name) in (None, ()):
                setattr(out, name, item[name])
                out.read_from[name] = "cameras: in the configuration"


def _gain(header, out: Detector) -> None:
    if out.gain is not None:
        return
    value, key = positive_of(header, "EGAIN"), "EGAIN"
    if value is None and not _gain_setting(header):
        value, key = positive_of(header, "GAIN"), "GAIN"
    if value is not None:
        out.gain, out.read_from["gain"] = value, quoted(key, value)


def in_electrons(header) -> dict:
    """Cards in place of those by which a reader would apply the gain to an image in electrons once more.

    EGAIN, and GAIN where it is no setting of the camera, become 1; SATURATE is multiplied by the gain FLGAIN, cards with a
    read noise become FLRDNOIS, both as they were used.
    """
    gain, noise = header["FLGAIN"], header.get("FLRDNOIS")
    applied = (1.0, "the gain FLGAIN is applied")
    cards = {"EGAIN": applied}
    if "GAIN" in header and not _gain_setting(header):
        cards["GAIN"] = applied
    if isinstance(saturation := header.get("SATURATE"), (int, float)):
        cards["SATURATE"] = (saturation * gain, "[electron] saturation level of a raw frame")
    if isinstance(noise, float):
        cards |= {
            key: (noise, "[electron] read noise of a raw frame") for key in KEYWORDS["read_noise"] if key in header
        }
    return cards


def _first_number(header, name: str, out: Detector) -> None:
    if getattr(out, name) is None:
        for key, value in numbers_of(header, name):
            if value > 0:
                setattr(out, name, value)
                out.read_from[name] = quoted(key, value)
                return


def _comment_of(header, key: str) -> str:
    return comment_of(header, key).lower() if key in header else ""


# --- Frames that cannot be used -------------------------------------------------------------------------------------
def colour_sensor(header, cameras=()) -> str | None:
    """Why this is a colour sensor's frame, None where nothing says so. `cameras: bayer: none` overrules a header."""
    configured = configured_bayer(header, cameras)
    if configured is not None:
        return None if configured.lower() in ("none", "mono", "false") else f"cameras: bayer: {configured}"
    for key in KEYWORDS["colour"]:
        value = header.get(key)
        if (
            isinstance(value, str) and key == "MEASRGGB"
        ):  # the camera's own light meter, kept by converters of raw photos
            return quoted(key, value)
        value = value_of(header, key)
        if (
            value is not None
            and value is not False
            and str(value).strip().lower() not in ("0", "mono", "monochrome", "f")
        ):
            return quoted(key, value)
    for key, text in texts_of(header, "filter"):
        if BAYER.fullmatch(text):
            return quoted(key, text)
    return None


def configured_bayer(header, cameras) -> str | None:
    """What `cameras: bayer:` says of a frame's camera, None where nothing."""
    out = Detector()
    _from_cameras(header, cameras, out)
    return None if out.bayer is None else str(out.bayer)


def processed(header, path: str = "") -> str | None:
    """Why this frame was already calibrated, stacked, or made by this program; None for a raw frame."""
    if header.get("FLVERS") is not None:
        return quoted("FLVERS", header["FLVERS"])
    status = value_of(header, "CALSTAT")
    if isinstance(status, str) and set(status.upper()) & set("BDF"):
        return quoted("CALSTAT", status)
    for key, number in numbers_of(header, "stacked"):
        if number > 1:
            return quoted(key, header[key])
    for key in KEYWORDS["corrected"]:
        if str(value_of(header, key) or "no").lower() not in ("no", "false", "f", "0"):
            return quoted(key, header[key])
    for key, text in texts_of(header, "kind"):
        if re.search(r"\bmaster|master$|stack|tricolou?r", text, re.I):
            return quoted(key, text)
    name = PurePath(path).name
    if STACKED_NAMES.fullmatch(name.split(".fit")[0]):
        return f"by its name, {name}"
    return None


# --- Time and night -------------------------------------------------------------------------------------------------
def _time_and_night(header, path: str, settings: Settings, out: Description) -> None:
    folder = _folder_night(path, settings.raw)
    out.folder_night = folder.isoformat() if folder else None
    moment = moment_of(header)
    if moment is None:
        _night_without_time(header, folder, out)
        return
    utc, offset, source = moment
    out.time, out.read_from["time"] = utc.isoformat(timespec="milliseconds"), source
    local, source = _local(header, utc, offset, settings, out)
    if local:
        night = night_of(local, folder)
        out.night = night.isoformat()
        out.read_from["night"] = "folder name" if night == folder else source


def _local(header, utc: datetime, offset: float | None, settings: Settings, out: Description):
    """(local time, where its offset was read), or (None, '') where the header does not tell."""
    if offset:
        return utc + timedelta(hours=offset), "offset in the time of exposure"
    written = parse_time(value_of(header, "DATE-LOC"))
    if written and abs(written[0] - utc) < timedelta(hours=15):
        return written[0], quoted("DATE-LOC", header["DATE-LOC"])
    place = longitude(header, settings.longitude)
    if place is None:
        return None, ""
    local = utc + timedelta(hours=place[0] / 15)
    if out.kind == "light" and 8 <= local.hour < 16:
        out.notes.append(
            f"a light at {local:%H:%M} local time by {place[1]}: does it count west as positive? set longitude:"
        )
    return local, place[1]


def _night_without_time(header, folder: date | None, out: Description) -> None:
    day = next((d for d in (parse_date(value_of(header, k)) for k in ("DATE-OBS", "DATE_OBS", "DATEOBS")) if d), None)
    if day and folder and abs(folder - day) <= timedelta(days=1):
        day = folder
    if day or folder:
        out.night = (day or folder).isoformat()
        out.read_from["night"] = "DATE-OBS" if day and day != folder else "folder name"
    said = value_of(header, "DATE-OBS")
    out.notes.append(f"DATE-OBS = {said!r} gives no time of exposure" if said else "no time of exposure in the header")


def _folder_night(path: str, roots: Iterable[str]) -> date | None:
    for folder in _folders(path, roots, with_root=True):
        found = folder_date(folder)
        if found:
            return found
    return None
