"""The pattern of a colour sensor: what a header states of it, and whether the pixels agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from .dialects import KEYWORDS, as_number, quoted, value_of
from .header import colour_sensor, configured_bayer

SITES = ((0, 0), (0, 1), (1, 0), (1, 1))  # (y, x) of the pattern's letters
PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
OFFSETS = ("XBAYROFF", "YBAYROFF")
_STATING = ("BAYERPAT", "BAYRPAT", "CFAPAT", "COLORTYP", *KEYWORDS["filter"])
CLEARER = 3.0  # times as unlike as the greens the other two sites must be to tell which are the greens
SIGNIFICANT = 5.0  # errors
# Share of the difference between the diagonals: greens of one sensor differ by some percent, red and blue hardly ever by less.
CONTRAST = 0.1


# --- What is stated -------------------------------------------------------------------------------------------------
def stated_pattern(header, cameras=()) -> tuple[str | None, str]:
    """The pattern of a colour sensor's frame as the header or `cameras: bayer:` states it, and where that was read: ("", "")
    of a mono frame, (None, reason) where nothing tells the pattern of a colour sensor.

    Patterns are for the first stored row first: of "RGGB" the pixel [0, 0] of the array is red, [0, 1] and [1, 0] are green.
    XBAYROFF and YBAYROFF say at which pixel of the pattern the frame begins. Programs do not agree on what BAYERPAT means in
    files that begin with the lower row (ROWORDER BOTTOM-UP, or without that card); it is taken as stored whatever ROWORDER
    says, since the pixels tell the one from the other (`settled`).
    """
    source = colour_sensor(header, cameras)
    if source is None:
        return "", ""
    configured = configured_bayer(header, cameras)
    if configured is not None:
        text = configured.strip().upper()
        return (text, source) if text in PATTERNS else (None, f"{configured!r} is not one of {', '.join(PATTERNS)}")
    for key in _STATING:
        text = str(value_of(header, key) or "").strip().upper()
        if text in PATTERNS:
            y, x = (int(as_number(value_of(header, one)) or 0) for one in reversed(OFFSETS))
            return moved(text, y, x), quoted(key, text)
    return None, f"nothing says how its colours lie ({source})"


def overruled(header, cameras=()) -> str:
    """What the header states of its colours where `cameras: bayer:` says otherwise, as a note; "" where nothing."""
    taken = configured_bayer(header, cameras)
    if taken is None:
        return ""
    own, source = stated_pattern(header)
    if not own or own == stated_pattern(header, cameras)[0]:
        return ""
    return f"cameras: bayer: {taken} is taken, though the header has {source}"


def sites_of(pattern: str, plane: str) -> tuple[tuple[int, int], ...]:
    """The sites (y, x) of a plane: R, B, G (both), or G1, G2, the first and the second green in reading order."""
    found = tuple(site for site, letter in zip(SITES, pattern, strict=True) if letter == plane[0])
    return found[int(plane[1]) - 1 :][:1] if plane[1:] else found


def moved(pattern: str, y: int, x: int) -> str:
    """The pattern of the part of a mosaic that begins at pixel (y, x)."""
    return "".join(pattern[2 * ((j + y) % 2) + (i + x) % 2] for j, i in SITES)


# --- What the pixels say --------------------------------------------------------------------------------------------
def greens(levels, error: float) -> str:
    """Which diagonal of sites the data show as alike: "falling" ((0, 0) and (1, 1): GRBG, GBRG), "rising" ((0, 1) and
    (1, 0): RGGB, BGGR), "" where they do not tell.

    levels  of the four sites in the order of `SITES`; error of one of them
    """
    falling, rising = abs(levels[0] - levels[3]), abs(levels[1] - levels[2])
    contrast = abs(levels[0] + levels[3] - levels[1] - levels[2]) / 2
    least = max(SIGNIFICANT * 2**0.5 * error, CONTRAST * contrast)
    if rising > max(CLEARER * falling, least):
        return "falling"
    return "rising" if falling > max(CLEARER * rising, least) else ""


def levels(image: np.ndarray, most: int = 512) -> list[float]:
    """Level of each site in the middle of an image (ny, nx), the mean without the highest and lowest tenth, and the error
    of one of them: five numbers; none of an image too small to tell."""
    ny, nx = image.shape
    if min(ny, nx) < 32:
        return []
    y, x = ((length - min(length, most)) // 4 * 2 for length in (ny, nx))
    found, errors = [], []
    for j, i in SITES:
        values = np.sort(image[y + j : y + most : 2, x + i : x + most : 2], axis=None).astype(np.float64)
        cut = values.size // 10
        core = values[cut : values.size - cut]
        found.append(float(core.mean()))
        errors.append(float(core.std()) / core.size**0.5)
    return [*found, max(errors)]


def settled(
    stated: Mapping[str, str], kinds: Mapping[str, str], cameras: Mapping[str, str], levels: Mapping[str, list]
):
    """({path: pattern, "" of mono frames}, {path: note}): what is stated, where the pixels do not tell otherwise.

    stated  {path: pattern}; kinds, cameras {path: kind, camera}; levels {path: four levels and the error of one}
    Calibration frames that state nothing are of their camera's pattern where all its lights are of one. Where the greens lie
    on the other diagonal the rows are counted from the other end; which of the other two is red the pixels cannot tell.
    """
    members = defaultdict(list)
    for path, camera in cameras.items():
        members[camera].append(path)
    patterns, notes = dict(stated), {}
    for paths in members.values():
        said = {stated[path] for path in paths if kinds[path] == "light"} or {stated[path] for path in paths}
        if len(said) == 1 and said != {""}:
            patterns |= {path: stated[path] or next(iter(said)) for path in paths}
        for pattern in {patterns[path] for path in paths} - {""}:
            alike = [path for path in paths if patterns[path] == pattern]
            votes = {kind: _vote(levels[path] for path in alike if kinds[path] == kind) for kind in ("light", "flat")}
            for path in alike:
                seen = votes.get(kinds[path]) or votes["flat"] or votes["light"]
                if seen and seen != diagonal(pattern):
                    patterns[path] = moved(pattern, 1, 0)
                    notes[path] = (
                        f"colours {pattern} are stated, but the greens lie as in {patterns[path]}, which is used"
                    )
    return patterns, notes


def _vote(frames) -> str:
    """What most of the frames that tell say of the greens."""
    votes = Counter(greens(one[:4], one[4]) for one in frames if one)
    del votes[""]
    return votes.most_common(1)[0][0] if votes else ""


def diagonal(pattern: str) -> str:
    """On which diagonal the greens of a pattern lie, see `greens`."""
    return "falling" if pattern[0] == "G" else "rising"
