"""What a product says in HISTORY of how it was made: the rule, its options, the versions of what made the numbers.

Only words: no pixel depends on this module, so the identity of code leaves it out.
"""

from __future__ import annotations

import json
import re
import sys

from . import __version__
from .frame import printable
from .provenance import NUMERIC, installed

WIDEST = 72  # characters of a HISTORY card
INDENT = "  "  # begins the cards that carry on a longer text


def lines(rule: str, options: dict | None) -> list[str]:
    """Texts of HISTORY cards for a product of a job: who made it with what, then each section of its options.

    options  {section: values} or {name: value}. Libraries are those that are loaded by now.
    """
    made = f"{rule}: firstlight {__version__}, Python {sys.version.split()[0]}"
    texts = [", ".join([made, *(f"{name} {_version(name)}" for name in NUMERIC if name in sys.modules)])]
    options = {name: value for name, value in (options or {}).items() if value not in ({}, [])}
    sections = {name: value for name, value in options.items() if isinstance(value, (dict, list))}
    texts += [f"{rule}: {name} = {compact(values)}" for name, values in sections.items()]
    single = [f"{name} = {compact(value)}" for name, value in options.items() if name not in sections]
    texts += [f"{rule}: {', '.join(single)}"] if single else []
    return [part for text in texts for part in wrapped(text)]


def compact(values) -> str:
    """Values on one line in the notation of YAML, keys in order of the alphabet: {border: 4, overscan: "median"}."""
    text = json.dumps(values, sort_keys=True, default=str)
    return printable(re.sub(r'(?<=[{ ])"(\w+)": ', r"\1: ", text))


def wrapped(text: str, width: int = WIDEST) -> list[str]:
    """A text in parts of at most so many characters, broken at blanks where there are any; `joined` undoes it."""
    parts = []
    while len(text) > width:
        cut = text.rfind(" ", len(INDENT) + 1, width + 1)
        cut = cut if cut > 0 else width
        parts.append(text[:cut])
        text = INDENT + text[cut:]  # a blank that was cut at stays, so that nothing is lost
    return [*parts, text]


def joined(cards) -> list[str]:
    """The texts of HISTORY cards, those that were wrapped whole again."""
    texts = []
    for card in map(str, cards):
        if card.startswith(INDENT) and texts:
            texts[-1] += card[len(INDENT) :]
        else:
            texts.append(card)
    return texts


def _version(library: str) -> str:
    return getattr(sys.modules[library], "__version__", None) or installed(library)
