"""The dialects of FITS headers as data, and the plainest ways to look a keyword up."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import PurePath

from astropy.io import fits

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
    ("OBSRA", "OBSDEC"), ("RA-MNT", "DEC-MNT"), ("TELRA", "TELDEC"), ("RA_OBJ", "DEC_OBJ"), ("TEL-RA", "TEL-DEC"),
    ("TEL_RA", "TEL_DEC"), ("RA_TEL", "DEC_TEL"), ("RA-TEL", "DEC-TEL"), ("CAT-RA", "CAT-DEC"), ("RADEG", "DECDEG"),
    ("RA_DEG", "DEC_DEG"), ("RA_TARG", "DEC_TARG"), ("TARGRA", "TARGDEC"),
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
# Glass before a colour sensor that leaves its colours as they are: its planes are R, G and B, else of this filter.
CLEAR_GLASS = OPEN_WHEEL | {
    "l", "lum", "luminance", "uv/ir", "uv/ir cut", "uv/ir-cut", "uvir", "uvircut", "ircut", "ir cut", "ir-cut", "uv", "rgb",
    "colour", "color", "osc", "vis", "astro", "rggb", "bggr", "grbg", "gbrg", "no", "0",
}  # fmt: skip
# Read-out modes that are the usual one of a camera: a frame that does not name its mode is of the same camera.
USUAL_READOUT = {"monochrome", "mono", "normal", "default", "raw"}
# Programs and cameras that write the camera's setting (0, 100, 139 ...) into GAIN, not electrons per ADU.
GAIN_IS_SETTING = (
    "n.i.n.a", "nina", "asiair", "sharpcap", "asicap", "asistudio", "asiimg", "seestar", "dwarf", "zwo", "qhy", "toup",
    "player one", "kstars", "ekos", "indi", "firecapture", "ccdciel", "astro photography tool", "sequence generator",
    "voyager",
)  # fmt: skip
FILTER_ALIASES = {
    "Ha": ("Ha", "HA", "ha", "H-Alpha", "H-alpha", "H_alpha", "H_Alpha", "Halpha", "HAlpha", "H Alpha", "H alpha"),
    "OIII": ("OIII", "Oiii", "O-III", "O III", "O3", "[OIII]"),
    "SII": ("SII", "Sii", "S-II", "S II", "S2", "[SII]"),
}
# Names of calibration frames of Dwarf telescopes, whose headers say next to nothing: dark_exp_30.000000_gain_60_bin_1_34C_...,
# bias_gain_2_bin_1, flat_gain_2_bin_1_ir_0, and single darks raw_10s_60_0000_20260102-184951912_35C.
CALIBRATION_NAMES = (
    re.compile(
        r"(?P<kind>dark|bias|flat)(?:_exp_(?P<exposure>[\d.]+))?_gain_(?P<gain>\d+)_bin_\d+(?:.*?_(?P<temperature>-?\d+)C)?(?:_.*)?"
    ),
    re.compile(r"raw_(?P<exposure>[\d.]+)s_(?P<gain>\d+)_\d+_\d{8}-\d+_(?P<temperature>-?\d+)C"),
)
# What a Seestar or a Dwarf has stacked and, in spite of its header, only the name tells: Stacked_212_NGC 6995, stacked-16_M 31,
# dark_exp_30.000000_gain_60_bin_1_22C_stack_10.
STACKED_NAMES = re.compile(r"(?:DSO_)?stacked[-_]\d+_.*|dark_exp_.*_stack_(?!0*1$)\d+", re.I)
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


def value_of(header, key):
    """The value of a keyword, None where it is absent, blank or says that it is unknown."""
    value = header.get(key)
    if isinstance(value, str):
        value = value.strip()
        return None if value.lower() in ABSENT else value
    if value is None or isinstance(value, (fits.card.Undefined, fits.Header)):  # a header for a pattern of keywords
        return None
    return value


def comment_of(header, key) -> str:
    return header.comments[key] if isinstance(header, (fits.Header, Values)) else ""


def as_number(value) -> float | None:
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


def numbers_of(header, name: str):
    """(keyword, number) of each keyword of a dialect that holds a finite number."""
    for key in KEYWORDS[name]:
        number = as_number(value_of(header, key))
        if number is not None:
            yield key, number


def texts_of(header, name: str):
    for key in KEYWORDS[name]:
        value = value_of(header, key)
        if value is not None:
            yield key, plain_text(value)


def plain_text(value) -> str:
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())


def quoted(key: str, value) -> str:
    return f"{key} = {value!r}"


def as_list(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def path_matches(path: str, patterns) -> bool:
    """True where a glob pattern (or one of a list) fits the path, its last parts, or the file name, in any case."""
    parts = PurePath(path).as_posix().casefold().split("/")
    ends = ["/".join(parts[i:]) for i in range(len(parts))]
    wanted = [str(pattern).casefold() for pattern in as_list(patterns)]
    return any(fnmatchcase(end, pattern) for pattern in wanted for end in ends)


def value_matches(header, key: str, patterns) -> bool:
    """True where a glob pattern fits a keyword's value: numbers compare as numbers, filters with regard to case."""
    value = value_of(header, key.upper())
    if value is None:
        return False
    exact = key.upper() in KEYWORDS["filter"] + KEYWORDS["wheels"]
    text = plain_text(value) if exact else plain_text(value).casefold()
    for pattern in as_list(patterns):
        if not isinstance(value, str) and as_number(pattern) is not None and as_number(pattern) == as_number(value):
            return True
        if fnmatchcase(text, str(pattern) if exact else str(pattern).casefold()):
            return True
    return False
