"""FITS sections, '[x1:x2,y1:y2]': columns first, counted from 1, ends included."""

from __future__ import annotations

import re

_RANGE = r"\s*(?:([+-]?\d{1,9})\s*:\s*([+-]?\d{1,9})|[*:])\s*"
_SECTION = re.compile(rf"\s*\[?{_RANGE},{_RANGE}\]?\s*")


def parse_section(text: str, shape: tuple[int, int], part: str = "trim") -> tuple[slice, slice]:
    """(y slice, x slice) of an array of `shape` (ny, nx) from a FITS section; `*` or `:` in place of a range is all of it, as
    in IRAF.

    `part` is the key under cameras: (trim, overscan, mask) that it is for. Raises ValueError with the sizes of both where
    it is not one, is empty, counts backwards or does not lie within the image.
    """
    way_out = f"{'trim: region or ' * (part == 'trim')}cameras: {part} sets another, or none"
    match = _SECTION.fullmatch(str(text))
    if not match:
        raise ValueError(f"{part} section {str(text)[:80]!r} is not of the form [x1:x2,y1:y2]: {way_out}")
    (x1, x2), (y1, y2) = (one or (1, length) for one, length in zip(_ranges(match), shape[::-1], strict=True))
    wrong = disorder(text)
    if not wrong and x2 <= shape[1] and y2 <= shape[0]:
        return slice(y1 - 1, y2), slice(x1 - 1, x2)
    raise ValueError(
        f"{part} section [{x1}:{x2},{y1}:{y2}] of {max(x2 - x1 + 1, 0)}x{max(y2 - y1 + 1, 0)} does not fit the frame of "
        f"{shape[1]}x{shape[0]}: {wrong + ';' if wrong else 'same binning?'} {way_out}"
    )


def disorder(text: str) -> str:
    """Why a section fits no frame at all, "" where it may fit one."""
    match = _SECTION.fullmatch(str(text))
    ranges = [one for one in _ranges(match) if one] if match else []
    if any(first > last for first, last in ranges):
        return "the smaller number comes first"
    return "columns and rows count from 1" if any(first < 1 for first, _ in ranges) else ""


def _ranges(match: re.Match) -> list[tuple[int, int] | None]:
    """First and last column, and row; None for a whole side."""
    return [(int(first), int(last)) if first else None for first, last in (match.groups()[:2], match.groups()[2:])]


def section_text(section: tuple[slice, slice]) -> str:
    """The FITS section of (y slice, x slice)."""
    rows, columns = section
    return f"[{columns.start + 1}:{columns.stop},{rows.start + 1}:{rows.stop}]"
