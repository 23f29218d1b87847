"""Cards of raw headers, whatever state they are in, as keywords, values and comments."""

from __future__ import annotations

import math
import re
from functools import cache

from astropy.io import fits

from .dialects import Values, structural

_structural = cache(structural)  # the same few hundred keywords in every file
REMARKS = ("COMMENT", "HISTORY", "")
# A card as the standard wants it; anything else is left to astropy, which knows the ways of the world.
_CARD = re.compile(
    r"([A-Z0-9_-]{1,8}) *= *(?:'((?:[^']|'')*)'|([TF])|([-+]?\d+)|([-+]?(?:\d+\.\d*|\.?\d+)(?:[EeDd][-+]?\d+)?))"
    r" *(?:/ *(.*))?"
)


def parse(text: str) -> tuple[fits.Header, list[str]]:
    """(header, notes) from cards of up to 80 characters, one a line: no malformed, structural or second cards.

    Of a keyword that stands twice the first is kept, as astropy looks it up. Cards are written anew, so that what is
    odd but readable ('060.00', lower case) follows the standard from here on.
    """
    cards, notes = _cards(text)
    return fits.Header([fits.Card(*card) for card in cards]), notes


def values(text: str) -> tuple[Values, list[str]]:
    """Keywords and values as `parse` gives them, in a plain mapping without the remarks: ten times as fast."""
    cards, notes = _cards(text)
    return Values(card for card in cards if card[0] not in REMARKS), notes


def _cards(text: str) -> tuple[list[tuple], list[str]]:
    """((keyword, value, comment) of each card that is to be kept, notes about the others)."""
    cards, notes, seen = [], [], {}
    for line in _logical(text):
        if line[:8].rstrip() in REMARKS:
            if line.strip():
                cards.append((line[:8].rstrip(), line[8:].rstrip(), ""))
            continue
        try:
            keyword, value, comment = _card(line)
        except Exception as error:  # astropy raises many types here; the frame's row says what was dropped
            notes.append(f"malformed card left out: {line[:8].strip()} ({type(error).__name__})")
            continue
        if _structural(keyword):
            continue
        if keyword not in seen:
            seen[keyword] = value
            cards.append((keyword, value, comment))
        elif seen[keyword] != value:
            notes.append(f"{keyword} stands twice with different values: the first is taken")
    return cards, _few(list(dict.fromkeys(notes)))


def _few(notes: list[str], most: int = 5) -> list[str]:
    return notes if len(notes) <= most else [*notes[:most], f"and {len(notes) - most} more faults of the header"]


def _logical(text: str) -> list[str]:
    """Cards, each with the CONTINUE cards of its long value."""
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith("CONTINUE") and lines:
            lines[-1] = lines[-1].ljust(-(-len(lines[-1]) // 80) * 80) + line
        else:
            lines.append(line)
    return lines


def _card(line: str) -> tuple:
    match = _CARD.fullmatch(line) if len(line) <= 80 else None
    if not match:
        card = fits.Card.fromstring(line.ljust(-(-len(line) // 80) * 80))
        found = card.keyword, card.value, card.comment
        if "=" not in line:
            raise ValueError("no value")
        if {"?", "*"} & set(card.keyword):  # astropy would take it for a pattern; and what is no ASCII became ?
            raise ValueError("no keyword")
        str(fits.Card(*found))  # formatting finds what cannot be written
        return found
    keyword, string, truth, whole, real, comment = match.groups()
    if string is not None:
        value = string.replace("''", "'").rstrip()
    elif truth:
        value = truth == "T"
    else:
        value = int(whole) if whole else float(real.upper().replace("D", "E"))
        if value in (math.inf, -math.inf):
            raise ValueError("too large a number")
    return keyword, value, (comment or "").rstrip()
