"""What a FITS header says: one table of dialects, repairs, and names that are safe in a path.

Pure functions on an astropy Header (or any mapping of keywords to values); no file is opened here.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import PurePath

from astropy.io import fits

# --- The dialects ---------------------------------------------------------------------------------------------------
# For each field the keywords that may hold it, the most trustworthy first. A new camera is a new word here.
KEYWORDS = {
    "kind": (
        "IMAGETYP", "IMGTYPE", "IMAGTYPE", "IMTYPE", "FRAME", "FRAMETYP", "OBSTYPE", "OBS-TYPE", "PICTTYPE", "CCDTYPE",
        "EXPTYPE", "DATATYPE", "VIMTYPE", "OBSMODE",
    ),
    "exposure": (
        "EXPTIME", "EXPOSURE", "EXP_TIME", "EXP-TIME", "EXPTIM", "EXPOS", "ITIME", "INTTIME", "EXPOINUS", "ELAPTIME",
        "TELAPSE", "XPOSURE", "DARKTIME",
    ),
    "temperature": (
        "CCD-TEMP", "CCDTEMP", "CCD_TEMP", "DET-TEMP", "DETTEMP", "DET_TEMP", "SENSTEMP", "TEMPERAT", "CAMTEMP",
        "CHIPTEMP", "SET-TEMP",
    ),
    "filter": ("FILTER", "INSFILTE", "FILTNAM", "FILTNAME", "FILTERS", "FILTERID", "INSFLNAM", "FLTRNAME"),
    "wheels": ("FILTER1", "FILTER2", "FILTER3"),
    "object": ("OBJECT", "OBJNAME", "TARGNAME", "TARGET", "FIELD"),
    "instrument": ("INSTRUME", "CAMERA", "DETECTOR", "DETNAM", "CAMNAME"),
    "readout": ("READOUTM", "READMODE", "RDMODE", "READOUT"),
    "offset": ("OFFSET", "BLKLEVEL", "BLACKLVL"),
    "iso": ("ISOSPEED", "ISO"),
    "telescope": ("TELESCOP", "TELESCOPE", "OTA"),
    "focal_length": ("FOCALLEN", "FOCAL", "FOCLEN"),
    "rotator": ("ROTATANG", "ROTATOR", "ROTANGLE", "ROTPOS"),
    "software": ("SWCREATE", "CREATOR", "PROGRAM", "SOFTWARE", "SWACQUIR"),
    "time_of_day": ("UT", "UTC-OBS", "UT-OBS", "TIME-OBS", "UTSTART", "UTC", "UT-START", "TIME-BEG", "UTIME"),
    "julian": ("MJD-OBS", "MJD-BEG", "MJD_OBS", "JD", "JD-OBS", "MJD"),
    "longitude": ("SITELONG", "LONG-OBS", "OBSGEO-L", "GEOLON", "LONGITUD", "SITE-LON", "OBSLONG", "LONG"),
    "scale": ("IM_SCALE", "SCALE", "PIXSCALE", "PIXSCAL", "SECPIX", "SECPIX1", "PIXSCAL1", "PLTSCALE"),
    "read_noise": ("RDNOISE", "RON", "READNOIS", "ENOISE", "READNOISE", "RNOISE"),
    "saturation": ("SATURATE", "SATLEVEL", "SATURATI", "MAXLIN"),
    "trim": ("TRIMSEC", "DATASEC"),
    "overscan": ("BIASSEC",),
    "colour": ("BAYERPAT", "BAYRPAT", "COLORTYP", "CFAPAT", "MEASRGGB"),
    "stacked": ("NCOMBINE", "STACKCNT", "SNAPSHOT", "NSTACK"),
    "corrected": ("ZEROCOR", "DARKCOR", "FLATCOR", "CCDPROC"),
}  # fmt: skip
COORDINATES = (
    ("RA", "DEC"), ("OBJCTRA", "OBJCTDEC"), ("OBJRA", "OBJDEC"), ("RA_OBS", "DEC_OBS"), ("RA-OBS", "DEC-OBS"),
    ("OBSRA", "OBSDEC"), ("RA-MNT", "DEC-MNT"), ("TELRA", "TELDEC"), ("RA_OBJ", "DEC_OBJ"),
)  # fmt: skip
BINNING = (("XBINNING", "YBINNING"), ("XBIN", "YBIN"), ("BINX", "BINY"), ("CCDXBIN", "CCDYBIN"), ("CCDBIN1", "CCDBIN2"))
# Words of each kind, looked for inside the value with all but letters and digits taken out. The order matters:
# a dark flat has both words in it.
KINDS = {
    "flatdark": ("darkflat", "flatdark", "darkforflat", "flatfielddark"),
    "bias": ("bias", "zero", "offset"),
    "dark": ("dark",),
    "flat": ("flat", "twilight", "dome"),
    "light": ("light", "object", "science", "sci", "target", "expose", "image", "standard"),
}
KIND_CODES = {"PICTTYPE": {1: "light", 2: "dark", 3: "bias", 4: "flat"}}
# Frames that are none of these and would spoil a stack.
OTHER_KINDS = {"focus", "arc", "comp", "comparison", "lamp", "acquisition", "pointing", "guide"}
MILLIONTHS = {"EXPOINUS"}  # microseconds
ABSENT = {"", "unknown", "n/a", "none", "null", "nan", "undefined", "not available", "-", "--", "?"}
NO_FILTER = ABSENT | {"no filter", "nofilter", "no_filter"}
OPEN_WHEEL = NO_FILTER | {"open", "clear", "air", "empty", "free"}
# Read-out modes that are the usual one of a camera: a frame that does not name its mode is of the same camera.
USUAL_READOUT = {"monochrome", "mono", "normal", "default", "raw"}
# Programs and cameras that write the camera's setting (0, 100, 139 ...) into GAIN, not electrons per ADU.
GAIN_IS_SETTING = (
    "n.i.n.a", "nina", "asiair", "sharpcap", "asicap", "asistudio", "asiimg", "seestar", "dwarf", "zwo", "qhy", "toup",
    "player one", "kstars", "ekos", "indi", "firecapture", "ccdciel", "astro photography tool", "sequence generator",
    "voyager",
)  # fmt: skip
FILTER_ALIASES = {
    "ha": ("Ha", "HA", "ha", "H-Alpha", "H-alpha", "H_alpha", "H_Alpha", "Halpha", "HAlpha", "H Alpha", "H alpha"),
    "oiii": ("OIII", "Oiii", "O-III", "O III", "O3", "[OIII]"),
    "sii": ("SII", "Sii", "S-II", "S II", "S2", "[SII]"),
}
BAYER = re.compile(r"RGGB|BGGR|GRBG|GBRG|CYGM|RGBG", re.I)
GENERIC_FOLDER = re.compile(
    r"(?:raws?|data|images?|imgs?|frames?|fits?|fts|lights?|science|objects?|targets?|subs?|nights?|bias(?:es)?|zeros?|"
    r"darks?|flats?|flat_?darks?|dark_?flats?|calib\w*|bin\d(?:x\d)?|new|tmp|temp|test|\d+|\d+(?:\.\d+)?_?s(?:ec)?)"
)
FILTER_FOLDERS = {"l", "lum", "luminance", "r", "red", "g", "green", "b", "blue", "u", "v", "i", "z", "y", "clear"}
_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS.*|EXTEND|BSCALE|BZERO|BLANK|PCOUNT|GCOUNT|GROUPS|P(?:TYPE|SCAL|ZERO)\d+|TFIELDS|"
    r"THEAP|T(?:TYPE|FORM|UNIT|NULL|SCAL|ZERO|DIM|DISP|BCOL)\d+|BLOCKED|END|CONTINUE|CHECKSUM|DATASUM|"
    r"EXTNAME|EXTVER|EXTLEVEL|INHERIT|"
    r"Z(?:IMAGE|CMPTYPE|BITPIX|NAXIS\d*|TILE\d+|NAME\d+|VAL\d+|QUANTIZ|DITHER0|SIMPLE|EXTEND|TENSION|PCOUNT|GCOUNT|"
    r"BLOCKED|HECKSUM|DATASUM|BLANK|SCALE|ZERO|MASKCMP)"
)


def structural(keyword: str) -> bool:
    """True for a keyword about how the pixels are stored (BITPIX, NAXIS1, BZERO, CHECKSUM ...), not what they are."""
    return _STRUCTURE.fullmatch(keyword.upper()) is not None


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
    read_from: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Detector:
    """What is known of the detector; None is unknown and nothing is made up."""

    gain: float | None = None  # e-/ADU
    read_noise: float | None = None  # e-
    saturation: float | None = None  # ADU
    bias_level: float | None = None  # ADU
    trim: str | None = None  # FITS section
    overscan: str | None = None  # FITS section
    bayer: str | None = None
    read_from: dict[str, str] = field(default_factory=dict)


class Values(dict):
    """Keywords and values of a header where speed counts, with as much of astropy's Header as is used here."""

    def __init__(self, cards: Iterable[tuple] = ()):
        super().__init__()
        self.comments: dict[str, str] = {}
        for keyword, *card in cards:
            self[keyword] = tuple(card)

    def __setitem__(self, keyword, card):
        value, comment = card if isinstance(card, tuple) else (card, self.comments.get(keyword, ""))
        super().__setitem__(keyword, value)
        self.comments[keyword] = comment

    def copy(self) -> Values:
        return Values((key, value, self.comments[key]) for key, value in self.items())

    def remove(self, keyword, ignore_missing=True, remove_all=True):
        self.pop(keyword, None)


# --- Looking things up ----------------------------------------------------------------------------------------------
def _value(header, key):
    """The value of a keyword, None where it is absent, blank or says that it is unknown."""
    value = header.get(key)
    if isinstance(value, str):
        value = value.strip()
        return None if value.lower() in ABSENT else value
    if value is None or isinstance(value, fits.card.Undefined):
        return None
    return value


def _comment(header, key) -> str:
    return header.comments[key] if isinstance(header, (fits.Header, Values)) else ""


def _number(value) -> float | None:
    """A finite number from a number or from text that begins with one ('44 C'); else None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        match = re.match(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?(?![\d:])", value.strip())
        if not match:
            return None
        value = match.group().upper().replace("D", "E")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _numbers(header, name: str):
    """(keyword, number) of each keyword of a dialect that holds a finite number."""
    for key in KEYWORDS[name]:
        number = _number(_value(header, key))
        if number is not None:
            yield key, number


def _texts(header, name: str):
    for key in KEYWORDS[name]:
        value = _value(header, key)
        if value is not None:
            yield key, _plain(value)


def _plain(value) -> str:
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def _said(key: str, value) -> str:
    return f"{key} = {value!r}"


def _as_list(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def path_matches(path: str, patterns) -> bool:
    """True where a glob pattern (or one of a list) fits the path, its last parts, or the file name, in any case."""
    parts = PurePath(path).as_posix().casefold().split("/")
    ends = ["/".join(parts[i:]) for i in range(len(parts))]
    wanted = [str(pattern).casefold() for pattern in _as_list(patterns)]
    return any(fnmatchcase(end, pattern) for pattern in wanted for end in ends)


def value_matches(header, key: str, patterns) -> bool:
    """True where a glob pattern fits a keyword's value: numbers compare as numbers, filters with regard to case."""
    value = _value(header, key.upper())
    if value is None:
        return False
    exact = key.upper() in KEYWORDS["filter"] + KEYWORDS["wheels"]
    text = _plain(value) if exact else _plain(value).casefold()
    for pattern in _as_list(patterns):
        if not isinstance(value, str) and _number(pattern) is not None and _number(pattern) == _number(value):
            return True
        if fnmatchcase(text, str(pattern) if exact else str(pattern).casefold()):
            return True
    return False


# --- Repairs --------------------------------------------------------------------------------------------------------
_ITEM = ("where", "rename", "append", "update")


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
        return _keyword(value)
    if isinstance(value, (bool, int, float)) or value is None:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"header: {key} is {value}, which a header cannot hold: write a finite number")
        return value
    if isinstance(value, (date, datetime)):  # YAML reads an unquoted 2025-06-01 as a date
        return value.isoformat()
    if isinstance(value, str) and re.fullmatch(r"[ -~]*", value):
        return value
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
        if _value(header, old) is not None:
            header[new] = (header[old], header.comments[old])
            del header[old]
    for key, value in rule["append"].items():
        if _value(header, key) is None and value is not None:
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
    _pointing(header, out)
    if out.kind == "light":
        _target(header, path, settings, out)
    _time_and_night(header, path, settings, out)
    return out


def _kind(header, path: str, settings: Settings, out: Description) -> None:
    unknown = None
    for key, text in _texts(header, "kind"):
        kind = _kind_of(key, text)
        if kind:
            out.kind, out.read_from["kind"] = kind, _said(key, text)
            return
        unknown = unknown or _said(key, text)
    for kind in KINDS:
        for key, pattern in (settings.kinds.get(kind) or {}).items():
            by_name = key.lower() in ("file", "path")
            if path_matches(path, pattern) if by_name else value_matches(header, key, pattern):
                out.kind, out.read_from["kind"] = kind, f"kinds: {kind}: {key}: {pattern}"
                return
    why = f"{unknown} is no kind known here" if unknown else "nothing says what kind of frame this is"
    out.notes.append(f"{why}: taken for a light")
    out.read_from["kind"] = "nothing"


def _kind_of(key: str, text: str) -> str | None:
    """A kind for the value of one keyword; 'other' for a frame of no use here; None where the value says nothing."""
    if key in KIND_CODES and _number(text) is not None:
        return KIND_CODES[key].get(int(_number(text)))
    word = re.sub(r"[^a-z0-9]", "", text.lower())
    found = next((kind for kind, words in KINDS.items() if any(part in word for part in words)), None)
    if found in (None, "light") and OTHER_KINDS & set(re.split(r"[^a-z]+", text.lower())):
        return "other"  # 'Focus image' is no light, 'lamp flat' is a flat
    return found


def _exposure(header, out: Description) -> None:
    for key, seconds in _numbers(header, "exposure"):
        if key in MILLIONTHS:
            seconds *= 1e-6
        elif re.search(r"\bm(illi)?s(ec(ond)?s?)?\b", _comment(header, key), re.I):
            seconds *= 1e-3
        if seconds >= 0:
            out.exposure, out.read_from["exposure"] = seconds, _said(key, header[key])
            return
        out.notes.append(f"{_said(key, header[key])} is not a time")
    out.notes.append("no exposure time in the header")


def _temperature(header, out: Description) -> None:
    for key, value in _numbers(header, "temperature"):
        kelvin = value > 130 or "kelvin" in _comment(header, key).lower()
        celsius = value - 273.15 if kelvin else value
        if -200 < celsius < 100:
            unit = " K" if kelvin else ""
            out.temperature, out.read_from["temperature"] = round(celsius, 3), _said(key, header[key]) + unit
            return


def _filter(header, settings: Settings, out: Description) -> None:
    for key, text in _texts(header, "filter"):
        if text.lower() not in NO_FILTER:
            out.filter, out.read_from["filter"] = filter_name(text, settings.filters), _said(key, text)
            return
    wheels = [(key, text) for key, text in _texts(header, "wheels") if text.lower() not in OPEN_WHEEL]
    if wheels:
        out.filter = "+".join(filter_name(text, settings.filters) for _, text in wheels)
        out.read_from["filter"] = ", ".join(_said(*wheel) for wheel in wheels)


def filter_name(text: str, aliases: Mapping) -> str:
    """The filter's own name for what a header calls it. Case counts: r and R are two filters."""
    text = " ".join(text.split())
    for name, known in {**FILTER_ALIASES, **(aliases or {})}.items():
        if text == name or text in map(str, _as_list(known)):
            return str(name)
    return text


def _camera(header, out: Description) -> None:
    for name in ("instrument", "readout", "telescope", "offset"):
        key, text = next(_texts(header, name), (None, None))
        if key:
            setattr(out, name, text)
            out.read_from[name] = _said(key, text)
    out.binning, source = _binning(header)
    if source:
        out.read_from["binning"] = source
    setting = _gain_setting(header) or next(_texts(header, "iso"), None)
    if setting:
        out.gain_setting, out.read_from["gain_setting"] = setting[1], _said(*setting)
    for name in ("focal_length", "rotator"):
        for key, number in _numbers(header, name):
            if name == "rotator" or number > 0:  # 0 mm stands for not given
                setattr(out, name, number)
                out.read_from[name] = _said(key, number)
                break


def _binning(header) -> tuple[str, str]:
    for keys in BINNING:
        x, y = (_number(_value(header, key)) for key in keys)
        if x and x >= 1:
            return f"{x:.0f}x{y if y and y >= 1 else x:.0f}", f"{keys[0]} = {x:.0f}"
    for key in ("CCDSUM", "BINNING", "BIN"):
        parts = re.findall(r"\d+", str(_value(header, key) or ""))
        if parts and int(parts[0]) > 0:
            return f"{int(parts[0])}x{int(parts[-1])}", _said(key, header[key])
    return "1x1", ""


_ELECTRONS = re.compile(r"\be-?\s*/\s*(adu|dn|count)|electrons?\s*(/|per)", re.I)


def _gain_setting(header) -> tuple[str, str] | None:
    """(keyword, text) where GAIN is the camera's setting and not electrons per ADU.

    It is a setting where it is a whole number and: the program or camera is known for that, EGAIN stands beside it,
    or it is 0, negative or above 10, which no gain in e-/ADU would be. A comment that names electrons overrules all.
    """
    value = _number(_value(header, "GAIN"))
    if value is None or value != int(value) or _ELECTRONS.search(_comment(header, "GAIN")):
        return None
    writers = " ".join(text for name in ("software", "instrument") for _, text in _texts(header, name)).lower()
    known = any(word in writers for word in GAIN_IS_SETTING)
    if known or _positive(header, "EGAIN") or value <= 0 or value > 10:
        return "GAIN", f"{value:g}"
    return None


def _positive(header, key: str) -> float | None:
    number = _number(_value(header, key))
    return number if number is not None and number > 0 else None


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
    return _squeezed(text)


def _target(header, path: str, settings: Settings, out: Description) -> None:
    key, text = next(_texts(header, "object"), (None, None))
    if key:
        out.target, out.read_from["target"] = target_name(text, settings.targets), _said(key, text)
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
    squeezed = _squeezed(text)
    for name, patterns in (targets or {}).items():
        if any(fnmatchcase(squeezed, _squeezed(str(pattern))) for pattern in [name, *_as_list(patterns or [])]):
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
    name = (_FOLDER_DATE.sub("", folder) if folder_date(folder) else folder).strip(" _-.")
    low = name.lower()
    filters = {str(n).lower() for n in (*FILTER_ALIASES, *settings.filters)} | FILTER_FOLDERS | {filter_.lower()}
    if not name or low in filters or low in (".", "..", "/") or GENERIC_FOLDER.fullmatch(low):
        return ""
    aliased = filter_name(name, settings.filters)
    return "" if aliased != name else name


# --- Time and night -------------------------------------------------------------------------------------------------
_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T\s]+(\S.*))?")
_OLD_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{2}|\d{4})(?:[T\s]+(\S.*))?")
_CLOCK = re.compile(r"(\d{1,2})[:\s](\d{1,2})(?:[:\s](\d{1,2}(?:\.\d*)?))?\s*(Z|UTC?|[+-]\d{2}:?\d{2})?", re.I)
_FOLDER_DATE = re.compile(
    r"(?:^|(?<=[_. -]))(?:(?P<y4>(?:19|20)\d\d)(?P<s>[-_.]?)(?P<m4>\d\d)(?P=s)(?P<d4>\d\d)"
    r"|(?P<y2>\d\d)(?P<t>[-_.]?)(?P<m2>\d\d)(?P=t)(?P<d2>\d\d))(?=$|[_. -])"
)


def parse_date(text) -> date | None:
    """The day in '2025-06-02', '2025-06-02T03:04:05' or, in the old way, '02/06/25'; None where it is not one."""
    return (_split_date(text) or (None, None))[0]


def _split_date(text) -> tuple[date, str] | None:
    text = str(text).strip()
    match = _DATE.fullmatch(text)
    if match:
        year, month, day = map(int, match.groups()[:3])
    else:
        match = _OLD_DATE.fullmatch(text)
        if not match:
            return None
        day, month, year = map(int, match.groups()[:3])
        if month > 12:  # the American order
            day, month = month, day
        if year < 100:
            year += 2000 if year < 70 else 1900
    if not 1880 <= year <= 2100:
        return None
    try:
        return date(year, month, day), match.group(4) or ""
    except ValueError:
        return None


def parse_clock(value) -> tuple[float, float | None] | None:
    """(seconds since midnight, hours from UTC or None) from '03:04:05.6', '18:33:43-0700' or a number of hours."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (value * 3600.0, None) if 0 <= value < 24 else None
    match = _CLOCK.fullmatch(str(value).strip())
    if not match:
        return None
    hours, minutes, seconds = int(match.group(1)), int(match.group(2)), float(match.group(3) or 0)
    if hours > 24 or minutes > 59 or seconds >= 61:
        return None
    return hours * 3600 + minutes * 60 + seconds, _offset(match.group(4))


def _offset(text: str | None) -> float | None:
    if not text:
        return None
    if text.upper().startswith(("Z", "U")):
        return 0.0
    hours = int(text[1:3]) + int(text[-2:]) / 60
    return (-hours if text[0] == "-" else hours) if hours <= 14 else None


def parse_time(text) -> tuple[datetime, float | None] | None:
    """(the moment as written, offset from UTC in hours or None) of an ISO date with a time of day; else None."""
    split = _split_date(text)
    clock = parse_clock(split[1]) if split and split[1] else None
    if not clock:
        return None
    return datetime.combine(split[0], datetime.min.time()) + timedelta(seconds=clock[0]), clock[1]


def _moment(header) -> tuple[datetime, float | None, str] | None:
    """(UTC, the site's offset in hours or None, where it was read) of the start of the exposure."""
    for key in ("DATE-OBS", "DATE_OBS", "DATEOBS"):
        value = _value(header, key)
        found = value is not None and (_whole_moment(key, value) or _date_and_clock(header, key, value))
        if found:
            return found
    for key in ("DATE-BEG", "DATE-STA", *KEYWORDS["time_of_day"]):
        found = isinstance(_value(header, key), str) and _whole_moment(key, _value(header, key))
        if found:
            return found
    for key, days in _numbers(header, "julian"):
        days = days - 2400000.5 if days > 2400000 else days
        if 15000 < days < 90000 and days % 1:  # a whole number is a date without a time of day
            return datetime(1858, 11, 17) + timedelta(days=days), None, _said(key, header[key])
    return None


def _whole_moment(key: str, value) -> tuple[datetime, float | None, str] | None:
    found = parse_time(value)
    return (found[0] - timedelta(hours=found[1] or 0), found[1] or None, _said(key, value)) if found else None


def _date_and_clock(header, key: str, value) -> tuple[datetime, float | None, str] | None:
    day = parse_date(value)
    if not day:
        return None
    for name in KEYWORDS["time_of_day"]:
        clock = parse_clock(_value(header, name)) if _value(header, name) is not None else None
        if clock:
            moment = datetime.combine(day, datetime.min.time()) + timedelta(seconds=clock[0])
            source = f"{_said(key, value)}, {_said(name, header[name])}"
            return moment - timedelta(hours=clock[1] or 0), clock[1] or None, source
    return None


def _time_and_night(header, path: str, settings: Settings, out: Description) -> None:
    folder = _folder_night(path, settings.raw)
    out.folder_night = folder.isoformat() if folder else None
    moment = _moment(header)
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
    written = parse_time(_value(header, "DATE-LOC"))
    if written and abs(written[0] - utc) < timedelta(hours=15):
        return written[0], _said("DATE-LOC", header["DATE-LOC"])
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
    day = next((d for d in (parse_date(_value(header, k)) for k in ("DATE-OBS", "DATE_OBS", "DATEOBS")) if d), None)
    if day and folder and abs(folder - day) <= timedelta(days=1):
        day = folder
    if day or folder:
        out.night = (day or folder).isoformat()
        out.read_from["night"] = "DATE-OBS" if day and day != folder else "folder name"
    said = _value(header, "DATE-OBS")
    out.notes.append(f"DATE-OBS = {said!r} gives no time of exposure" if said else "no time of exposure in the header")


def night_of(local: datetime, folder: date | None = None) -> date:
    """The local date of the evening, 12 hours back; a folder's date wins if it lies within a day of it."""
    night = (local - timedelta(hours=12)).date()
    return folder if folder and abs(folder - night) <= timedelta(days=1) else night


def _folder_night(path: str, roots: Iterable[str]) -> date | None:
    for folder in _folders(path, roots, with_root=True):
        found = folder_date(folder)
        if found:
            return found
    return None


def folder_date(name: str) -> date | None:
    """The day in a folder's name (230313, 20230313, 2023-03-13, 230313_crab), else None."""
    for match in _FOLDER_DATE.finditer(name):
        part = match.groupdict()
        year = part["y4"] or f"20{part['y2']}"
        try:
            return date(int(year), int(part["m4"] or part["m2"]), int(part["d4"] or part["d2"]))
        except ValueError:
            continue
    return None


def longitude(header, configured: float | None = None) -> tuple[float, str] | None:
    """(degrees east, where it was read) of the site. Exactly 0 counts as not set, as programs write it by default."""
    if configured is not None:
        return float(configured), "longitude: in the configuration"
    for key in KEYWORDS["longitude"]:
        value = _value(header, key)
        degrees = _angle(value)
        if not degrees or abs(degrees) > 360:
            continue
        west = re.search(r"\bwest\b|\+\s*W\b", _comment(header, key), re.I) or re.search(r"w", str(value), re.I)
        return _wrapped(-abs(degrees) if west and degrees > 0 else degrees), _said(key, value)
    x, y = (_number(_value(header, key)) for key in ("OBSGEO-X", "OBSGEO-Y"))
    if x and y is not None:
        return math.degrees(math.atan2(y, x)), "OBSGEO-X, OBSGEO-Y"
    return None


def _wrapped(degrees: float) -> float:
    return (degrees + 180) % 360 - 180


# --- Place on the sky -----------------------------------------------------------------------------------------------
_PLAIN = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")


def _angle(value) -> float | None:
    """A number, or sexagesimal text ('-105 49 13', '12:34.5', '12h 34m 56s', '105 W') in its own unit; else None."""
    if not isinstance(value, str):
        return _number(value)
    if _PLAIN.fullmatch(value.strip()):
        return _number(value)
    text = re.sub(r"deg|[hdms°'\":EWNS]", " ", value.strip(), flags=re.I).strip()
    match = re.fullmatch(r"([-+]?)\s*(\d+(?:\.\d*)?)(?:\s+(\d+(?:\.\d*)?))?(?:\s+(\d+(?:\.\d*)?))?", text)
    if not match:
        return None
    sign, *parts = match.groups()
    whole, minutes, seconds = (float(part or 0) for part in parts)
    if minutes >= 60 or seconds >= 60.5:
        return None
    return (-1 if sign == "-" else 1) * (whole + minutes / 60 + seconds / 3600)


def _is_sexagesimal(value) -> bool:
    if not isinstance(value, str) or _PLAIN.fullmatch(value.strip()):
        return False
    return len(re.findall(r"\d+(?:\.\d*)?", value)) > 1 or "h" in value.lower()


def coordinates(header) -> tuple[float, float, str] | None:
    """(right ascension in deg, declination in deg, where read) of the pointing; None where nothing sensible is said.

    Sexagesimal right ascensions are hours, plain numbers are degrees unless the comment says hours. 0, 0 is no place.
    """
    for ra_key, dec_key in COORDINATES:
        ra_value, dec_value = _value(header, ra_key), _value(header, dec_key)
        ra, dec = _angle(ra_value), _angle(dec_value)
        if ra is None or dec is None:
            continue
        hours = _is_sexagesimal(ra_value) or re.search(r"\bhours?\b|\[h(ou)?rs?\]", _comment(header, ra_key), re.I)
        found = _on_sky(ra * 15 if hours else ra, dec)
        if found:
            return (*found, f"{_said(ra_key, ra_value)}, {_said(dec_key, dec_value)}")
    if _celestial(header):
        found = _on_sky(_number(_value(header, "CRVAL1")), _number(_value(header, "CRVAL2")))
        if found:
            return (*found, f"CRVAL1 = {found[0]:.5f}, CRVAL2 = {found[1]:.5f}")
    return None


def _on_sky(ra: float | None, dec: float | None) -> tuple[float, float] | None:
    if ra is None or dec is None or not -360 <= ra <= 360 or abs(dec) > 90 or (ra == 0 and dec == 0):
        return None
    return ra % 360, dec


def _celestial(header) -> bool:
    types = [str(_value(header, key) or "")[:4] for key in ("CTYPE1", "CTYPE2")]
    return types == ["RA--", "DEC-"]


def pixel_scale(header) -> tuple[float, str] | None:
    """(arcsec/pix, where read): given outright, else from a celestial WCS, else 206.265 x pixel size / focal length.

    XPIXSZ (microns) is the size after binning, as MaxIm and most others write it, unless its comment says unbinned.
    """
    for key, value in _numbers(header, "scale"):
        if 0.001 < value < 3600:
            return value, _said(key, value)
    if _celestial(header):
        scale, source = _wcs_scale(header)
        if 0.001 < scale < 3600:
            return scale, source
    key = "XPIXSZ" if _positive(header, "XPIXSZ") else "PIXSIZE1"
    size, focal = _positive(header, key), _positive(header, "FOCALLEN")
    if size and focal:
        bare = key == "PIXSIZE1" or "unbinned" in _comment(header, key).lower()
        scale = 206.265 * size / focal * (int(_binning(header)[0].split("x")[0]) if bare else 1)
        if 0.001 < scale < 3600:
            return scale, f"{key} = {size:g}, FOCALLEN = {focal:g}"
    return None


def _wcs_scale(header) -> tuple[float, str]:
    """Square root of the area of a pixel, arcsec, from CD, or PC and CDELT."""

    def matrix(name):
        parts = [_number(_value(header, f"{name}{i}_{j}")) for i in (1, 2) for j in (1, 2)]
        return None if all(part is None for part in parts) else [part or 0.0 for part in parts]

    cd = matrix("CD")
    if cd:
        return math.sqrt(abs(cd[0] * cd[3] - cd[1] * cd[2])) * 3600, "CD matrix"
    steps = [_number(_value(header, key)) or 0.0 for key in ("CDELT1", "CDELT2")]
    pc = matrix("PC") or [1.0, 0.0, 0.0, 1.0]
    return math.sqrt(abs(steps[0] * steps[1] * (pc[0] * pc[3] - pc[1] * pc[2]))) * 3600, "CDELT1, CDELT2"


# --- The detector ---------------------------------------------------------------------------------------------------
def detector(header, cameras=()) -> Detector:
    """What configuration and header know of the detector; the configuration comes first, nothing is invented.

    `cameras` is a mapping for all frames or a list of {where: pattern of INSTRUME or {KEY: pattern}, gain (e-/ADU),
    read_noise (e-), saturation (ADU), bias_level (ADU), trim, overscan, bayer}; the first item that fits gives a value.
    """
    out = Detector()
    _from_cameras(header, cameras, out)
    _gain(header, out)
    for name in ("read_noise", "saturation"):
        _first_number(header, name, out)
    if out.saturation is None and "satur" in _comment_of(header, "DATAMAX"):  # elsewhere it is the brightest pixel
        value = _positive(header, "DATAMAX")
        if value:
            out.saturation, out.read_from["saturation"] = value, _said("DATAMAX", value)
    for name in ("trim", "overscan"):
        key, text = next(_texts(header, name), (None, None))
        if key and getattr(out, name) is None:
            setattr(out, name, text)
            out.read_from[name] = _said(key, text)
    return out


_DETECTOR = ("gain", "read_noise", "saturation", "bias_level", "trim", "overscan", "bayer")


def _from_cameras(header, cameras, out: Detector) -> None:
    for item in [cameras] if isinstance(cameras, Mapping) else cameras or ():
        where = item.get("where")
        where = where if isinstance(where, Mapping) or where is None else {"INSTRUME": where}
        if where and not all(value_matches(header, str(key), pattern) for key, pattern in where.items()):
            continue
        for name in _DETECTOR:
            if item.get(name) is not None and getattr(out, name) is None:
                setattr(out, name, item[name])
                out.read_from[name] = "cameras: in the configuration"


def _gain(header, out: Detector) -> None:
    if out.gain is not None:
        return
    value, key = _positive(header, "EGAIN"), "EGAIN"
    if value is None and not _gain_setting(header):
        value, key = _positive(header, "GAIN"), "GAIN"
    if value is not None:
        out.gain, out.read_from["gain"] = value, _said(key, value)


def _first_number(header, name: str, out: Detector) -> None:
    if getattr(out, name) is None:
        for key, value in _numbers(header, name):
            if value > 0:
                setattr(out, name, value)
                out.read_from[name] = _said(key, value)
                return


def _comment_of(header, key: str) -> str:
    return _comment(header, key).lower() if key in header else ""


_SECTION = re.compile(r"\[?\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]?")


def parse_section(text: str, shape: tuple[int, int] | None = None) -> tuple[slice, slice]:
    """(y slice, x slice) of a (ny, nx) array from a FITS section '[x1:x2, y1:y2]', counted from 1, ends included.

    Raises ValueError where it is not one, is empty, or, with `shape`, reaches beyond the image.
    """
    match = _SECTION.fullmatch(str(text).strip())
    if not match:
        raise ValueError(f"section {text!r} is not of the form [x1:x2,y1:y2]: set it under cameras:")
    x1, x2, y1, y2 = map(int, match.groups())
    if not (1 <= x1 <= x2 and 1 <= y1 <= y2):
        raise ValueError(f"section {text!r} is empty: columns and rows count from 1, the smaller first")
    if shape and (x2 > shape[1] or y2 > shape[0]):
        raise ValueError(f"section {text!r} reaches beyond the image of {shape[1]}x{shape[0]}: same binning?")
    return slice(y1 - 1, y2), slice(x1 - 1, x2)


# --- Frames that cannot be used -------------------------------------------------------------------------------------
def colour_sensor(header, cameras=()) -> str | None:
    """Why this is a colour sensor's frame, None where nothing says so. `cameras: bayer: none` overrules a header."""
    configured = _configured_bayer(header, cameras)
    if configured is not None:
        return None if configured.lower() in ("none", "mono", "false") else f"cameras: bayer: {configured}"
    for key in KEYWORDS["colour"]:
        value = header.get(key)
        if (
            isinstance(value, str) and key == "MEASRGGB"
        ):  # the camera's own light meter, kept by converters of raw photos
            return _said(key, value)
        value = _value(header, key)
        if (
            value is not None
            and value is not False
            and str(value).strip().lower() not in ("0", "mono", "monochrome", "f")
        ):
            return _said(key, value)
    for key, text in _texts(header, "filter"):
        if BAYER.fullmatch(text):
            return _said(key, text)
    return None


def _configured_bayer(header, cameras) -> str | None:
    out = Detector()
    _from_cameras(header, cameras, out)
    return None if out.bayer is None else str(out.bayer)


def processed(header) -> str | None:
    """Why this frame was already calibrated, stacked, or made by this program; None for a raw frame."""
    if header.get("FLVERS") is not None:
        return _said("FLVERS", header["FLVERS"])
    status = _value(header, "CALSTAT")
    if isinstance(status, str) and set(status.upper()) & set("BDF"):
        return _said("CALSTAT", status)
    for key, number in _numbers(header, "stacked"):
        if number > 1:
            return _said(key, header[key])
    for key in KEYWORDS["corrected"]:
        if str(_value(header, key) or "no").lower() not in ("no", "false", "f", "0"):
            return _said(key, header[key])
    for key, text in _texts(header, "kind"):
        if re.search(r"\bmaster|master$|stack|tricolou?r", text, re.I):
            return _said(key, text)
    return None


# --- Names ----------------------------------------------------------------------------------------------------------
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.I)


def safe_name(text: str, limit: int = 40) -> str:
    """A part of a path made from any text: only A-Z a-z 0-9 + _ . - , never empty, hidden, an option or reserved.

    Blanks become '_', other characters go; what is too long is cut and gets 4 hex digits of the whole text's hash.
    """
    plain = unicodedata.normalize("NFKD", str(text))
    plain = re.sub(r"\s+", "_", plain.strip())
    plain = re.sub(r"[^A-Za-z0-9+_.-]", "", plain).lstrip(".-").rstrip(".")
    plain = _RESERVED.sub(lambda match: match.group() + "_", plain, count=1) if _RESERVED.match(plain) else plain
    if len(plain) > limit:
        plain = f"{plain[: limit - 5]}-{_digest(text)}"
    return plain or "unnamed"


def unique_names(texts: Iterable[str], kept: Mapping[str, str] | None = None, limit: int = 40) -> dict[str, str]:
    """A safe name for each text; no two equal, also without regard to case.

    Where several texts meet in one name, one keeps it plain and the others get 4 hex digits of their own hash. Names
    in `kept` (given before) stay as they are, so that a newcomer renames nothing; else the first in the alphabet
    of those that are their own safe name stays plain.
    """
    texts = sorted(set(texts))
    kept = kept or {}
    names = {text: kept[text] for text in texts if text in kept}
    taken = {name.casefold() for name in names.values()}
    waiting = [text for text in texts if text not in names]
    for text in sorted(waiting, key=lambda text: (safe_name(text, limit) != text, text)):
        name, digits = safe_name(text, limit), 4
        while name.casefold() in taken:
            name = f"{safe_name(text, limit)[: limit - digits - 1]}-{_digest(text, digits)}"
            digits += 2
        taken.add(name.casefold())
        names[text] = name
    return {text: names[text] for text in texts}


def _digest(text: str, digits: int = 4) -> str:
    return hashlib.blake2b(str(text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()[:digits]
