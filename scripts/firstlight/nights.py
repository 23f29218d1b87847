"""When a frame was taken, and to which night it belongs."""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta

from .dialects import KEYWORDS, as_number, comment_of, numbers_of, quoted, value_of
from .pointing import angle_of

_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T\s]+(\S.*))?")
_OLD_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{2}|\d{4})(?:[T\s]+(\S.*))?")
_CLOCK = re.compile(r"(\d{1,2})[:\s](\d{1,2})(?:[:\s](\d{1,2}(?:\.\d*)?))?\s*(Z|UTC?|[+-]\d{2}:?\d{2})?", re.I)
FOLDER_DATE = re.compile(
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


def moment_of(header) -> tuple[datetime, float | None, str] | None:
    """(UTC, the site's offset in hours or None, where it was read) of the start of the exposure."""
    for key in ("DATE-OBS", "DATE_OBS", "DATEOBS"):
        value = value_of(header, key)
        found = value is not None and (_whole_moment(key, value) or _date_and_clock(header, key, value))
        if found:
            return found
    for key in ("DATE-BEG", "DATE-STA", *KEYWORDS["time_of_day"]):
        found = isinstance(value_of(header, key), str) and _whole_moment(key, value_of(header, key))
        if found:
            return found
    for key, days in numbers_of(header, "julian"):
        days = days - 2400000.5 if days > 2400000 else days
        if 15000 < days < 90000 and days % 1:  # a whole number is a date without a time of day
            return datetime(1858, 11, 17) + timedelta(days=days), None, quoted(key, header[key])
    return None


def _whole_moment(key: str, value) -> tuple[datetime, float | None, str] | None:
    found = parse_time(value)
    return (found[0] - timedelta(hours=found[1] or 0), found[1] or None, quoted(key, value)) if found else None


def _date_and_clock(header, key: str, value) -> tuple[datetime, float | None, str] | None:
    day = parse_date(value)
    if not day:
        return None
    for name in KEYWORDS["time_of_day"]:
        clock = parse_clock(value_of(header, name)) if value_of(header, name) is not None else None
        if clock:
            moment = datetime.combine(day, datetime.min.time()) + timedelta(seconds=clock[0])
            source = f"{quoted(key, value)}, {quoted(name, header[name])}"
            return moment - timedelta(hours=clock[1] or 0), clock[1] or None, source
    return None


def night_of(local: datetime, folder: date | None = None) -> date:
    """The local date of the evening, 12 hours back; a folder's date wins if it lies within a day of it."""
    night = (local - timedelta(hours=12)).date()
    return folder if folder and abs(folder - night) <= timedelta(days=1) else night


def folder_date(name: str) -> date | None:
    """The day in a folder's name (230313, 20230313, 2023-03-13, 230313_crab), else None."""
    for match in FOLDER_DATE.finditer(name):
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
        value = value_of(header, key)
        degrees = angle_of(value)
        if not degrees or abs(degrees) > 360:
            continue
        west = re.search(r"\bwest\b|\+\s*W\b", comment_of(header, key), re.I) or re.search(r"w", str(value), re.I)
        return _wrapped(-abs(degrees) if west and degrees > 0 else degrees), quoted(key, value)
    x, y = (as_number(value_of(header, key)) for key in ("OBSGEO-X", "OBSGEO-Y"))
    if x and y is not None:
        return math.degrees(math.atan2(y, x)), "OBSGEO-X, OBSGEO-Y"
    return None


def _wrapped(degrees: float) -> float:
    return (degrees + 180) % 360 - 180
