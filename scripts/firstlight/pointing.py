"""Where a frame points, and the scale of its pixels."""

from __future__ import annotations

import math
import re

from .dialects import BINNING, COORDINATES, KEYWORDS, as_number, comment_of, numbers_of, quoted, value_of

PIXEL_SIZES = ("XPIXSZ", "PIXSIZE1", "PIXSIZE", "PIXSZ", "XPIXELSZ")  # microns
_PLAIN = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")


def angle_of(value) -> float | None:
    """A number, or sexagesimal text ('-105 49 13', '12:34.5', '12h 34m 56s', '105 W') in its own unit; else None."""
    if not isinstance(value, str):
        return as_number(value)
    if _PLAIN.fullmatch(value.strip()):
        return as_number(value)
    text = re.sub(r"deg|[hdms°'\":EWNS]", " ", value.strip(), flags=re.I).strip()
    match = re.fullmatch(r"([-+]?)\s*(\d+(?:\.\d*)?)(?:\s+(\d+(?:\.\d*)?))?(?:\s+(\d+(?:\.\d*)?))?", text)
    if not match:
        return None
    sign, *parts = match.groups()
    whole, minutes, seconds = (float(part or 0) for part in parts)
    if minutes >= 60 or seconds >= 60.5:
        return None
    return as_number((-1 if sign == "-" else 1) * (whole + minutes / 60 + seconds / 3600))


def _is_sexagesimal(value) -> bool:
    if not isinstance(value, str) or _PLAIN.fullmatch(value.strip()):
        return False
    return len(re.findall(r"\d+(?:\.\d*)?", value)) > 1 or "h" in value.lower()


def coordinates(header) -> tuple[float, float, str] | None:
    """(right ascension in deg, declination in deg, where read) of the pointing; None where nothing sensible is said.

    Sexagesimal right ascensions are hours, plain numbers are degrees unless the comment says hours. 0, 0 is no place.
    """
    for ra_key, dec_key in COORDINATES:
        ra_value, dec_value = value_of(header, ra_key), value_of(header, dec_key)
        ra, dec = angle_of(ra_value), angle_of(dec_value)
        if ra is None or dec is None:
            continue
        hours = _in_hours(header, ra_key)
        found = _on_sky(ra * 15 if hours else ra, dec)
        if found:
            return (*found, f"{quoted(ra_key, ra_value)}, {quoted(dec_key, dec_value)}")
    if _celestial(header):
        found = _on_sky(as_number(value_of(header, "CRVAL1")), as_number(value_of(header, "CRVAL2")))
        if found:
            return (*found, f"CRVAL1 = {found[0]:.5f}, CRVAL2 = {found[1]:.5f}")
    return None


def places(header) -> list[tuple[float, float]]:
    """All places (ra, dec in deg) that a header may mean, the likeliest first: of each pair of keywords, in hours where a
    plain right ascension below 24 could be hours, and where its WCS puts the reference pixel."""
    likely, possible = [], []
    for ra_key, dec_key in COORDINATES:
        ra, dec = angle_of(value_of(header, ra_key)), angle_of(value_of(header, dec_key))
        if ra is None or dec is None:
            continue
        hours = _in_hours(header, ra_key)
        likely.append(_on_sky(ra * 15 if hours else ra, dec))
        if not hours and 0 <= ra < 24 and not re.search(r"deg", comment_of(header, ra_key), re.I):
            possible.append(_on_sky(ra * 15, dec))
    if _celestial(header):
        likely.append(_on_sky(as_number(value_of(header, "CRVAL1")), as_number(value_of(header, "CRVAL2"))))
    return list(dict.fromkeys(place for place in likely + possible if place))


def _in_hours(header, key: str) -> bool:
    """Whether a right ascension is in hours: sexagesimal, or its comment says so."""
    if _is_sexagesimal(value_of(header, key)):
        return True
    return bool(re.search(r"\bhours?\b|\[h((ou)?rs?)?\]", comment_of(header, key), re.I))


def _on_sky(ra: float | None, dec: float | None) -> tuple[float, float] | None:
    if ra is None or dec is None or not -360 <= ra <= 360 or abs(dec) > 90:
        return None
    ra = ra % 360 % 360  # a tiny negative angle is 360 after the first
    return None if ra == 0 and dec == 0 else (ra, dec)


def _celestial(header) -> bool:
    types = [str(value_of(header, key) or "")[:4] for key in ("CTYPE1", "CTYPE2")]
    return types == ["RA--", "DEC-"]


def pixel_scale(header) -> tuple[float, str] | None:
    """(arcsec/pix, where read): given outright, else from a celestial WCS, else 206.265 x pixel size / focal length.

    XPIXSZ (microns) is the size after binning, as MaxIm and most others write it, unless its comment says unbinned; the
    other keywords are of the sensor.
    """
    for key, value in numbers_of(header, "scale"):
        if 0.001 < value < 3600:
            return value, quoted(key, value)
    if _celestial(header):
        scale, source = _wcs_scale(header)
        if 0.001 < scale < 3600:
            return scale, source
    key = next((key for key in PIXEL_SIZES if positive_of(header, key)), PIXEL_SIZES[0])
    length = next((key for key in KEYWORDS["focal_length"] if positive_of(header, key)), "FOCALLEN")
    size, focal = positive_of(header, key), positive_of(header, length)
    if size and focal:
        bare = key != "XPIXSZ" or "unbinned" in comment_of(header, key).lower()
        scale = 206.265 * size / focal * (int(binning_of(header)[0].split("x")[0]) if bare else 1)
        if 0.001 < scale < 3600:
            return scale, f"{key} = {size:g}, {length} = {focal:g}"
    return None


def _wcs_scale(header) -> tuple[float, str]:
    """Square root of the area of a pixel, arcsec, from CD, or PC and CDELT."""

    def matrix(name):
        parts = [as_number(value_of(header, f"{name}{i}_{j}")) for i in (1, 2) for j in (1, 2)]
        return None if all(part is None for part in parts) else [part or 0.0 for part in parts]

    cd = matrix("CD")
    if cd:
        return math.sqrt(abs(cd[0] * cd[3] - cd[1] * cd[2])) * 3600, "CD matrix"
    steps = [as_number(value_of(header, key)) or 0.0 for key in ("CDELT1", "CDELT2")]
    pc = matrix("PC") or [1.0, 0.0, 0.0, 1.0]
    return math.sqrt(abs(steps[0] * steps[1] * (pc[0] * pc[3] - pc[1] * pc[2]))) * 3600, "CDELT1, CDELT2"


def binning_of(header) -> tuple[str, str]:
    for keys in BINNING:
        x, y = (as_number(value_of(header, key)) for key in keys)
        if x and x >= 1:
            return f"{x:.0f}x{y if y and y >= 1 else x:.0f}", f"{keys[0]} = {x:.0f}"
    for key in ("CCDSUM", "BINNING", "BIN"):
        parts = re.findall(r"\d+", str(value_of(header, key) or ""))
        x, y = (as_number(parts[i]) if parts else None for i in (0, -1))
        if x and x >= 1:
            return f"{x:.0f}x{y if y and y >= 1 else x:.0f}", quoted(key, header[key])
    return "1x1", ""


def positive_of(header, key: str) -> float | None:
    number = as_number(value_of(header, key))
    return number if number is not None and number > 0 else None


OTHER_SIZES = {*PIXEL_SIZES, "YPIXSZ", "PIXSIZE2", "YPIXELSZ", "SECPIX2", "PIXSCAL2"}
_MATRIX = re.compile(r"CD\d_\d[A-Z]?|CDELT\d[A-Z]?")
_SIP = re.compile(r"(?:A|B|AP|BP)_(\d)_(\d)")


def rescaled(header, factor: float, y: float, x: float):
    """A copy of an image's header for one whose pixels are `factor` times as wide: WCS with its distortion, pixel sizes.

    y, x  where the middle of its first pixel lies in the image, in pixels from the middle of the image's first

        p' = (p - 1 - x) / f + 1,   CD' = f CD,   A'_pq = f^(p + q - 1) A_pq
    """
    header = header.copy()
    begin = {"1": x, "2": y}
    for key in set(header) - {"COMMENT", "HISTORY", ""}:
        value = as_number(header[key])
        if value is None or isinstance(header[key], bool):
            continue
        if match := re.fullmatch(r"CRPIX([12])[A-Z]?", key):
            header[key] = (value - 1 - begin[match[1]]) / factor + 1
        elif match := re.fullmatch(r"LTV([12])", key):
            header[key] = (value - 1 - begin[match[1]]) / factor + 1
        elif re.fullmatch(r"LTM[12]_[12]", key):
            header[key] = value / factor
        elif _MATRIX.fullmatch(key) or key in KEYWORDS["scale"] or key in OTHER_SIZES:
            header[key] = value * factor
        elif match := _SIP.fullmatch(key):
            header[key] = value * float(factor) ** (int(match[1]) + int(match[2]) - 1)
    for axis in "12":  # where it is missing readers take 1
        if f"LTV{axis}" in header and f"LTM{axis}_{axis}" not in header:
            header[f"LTM{axis}_{axis}"] = 1 / factor
    return header
