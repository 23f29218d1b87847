"""Tables and numbers as people read them, in plain text."""

from __future__ import annotations

import textwrap

WIDTH = 110  # columns of a terminal that sentences are broken to


def columns(head: tuple, lines: list[tuple], sides: str = "", last: int = 0) -> list[str]:
    """A table as text, its columns as wide as what is in them, `l` left or `r` right; empty columns are left out. The
    `last` lines stand apart."""
    cells = [tuple(map(str, line)) for line in lines]
    sides = sides or "l" * len(head)
    used = [n for n in range(len(head)) if any(line[n] for line in cells)]
    width = {n: max(len(line[n]) for line in [head, *cells]) for n in used}

    def row(line):
        return "  " + "  ".join(line[n].rjust(width[n]) if sides[n] == "r" else line[n].ljust(width[n]) for n in used)

    out = [row(line).rstrip() for line in [head, *cells]]
    return [*out[: len(out) - last], *([""] if last else []), *out[len(out) - last :]]


def span(seconds: float) -> str:
    """A length of time as people say it: 45 s, 12 min, 3 h 05 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.5 or seconds == int(seconds) else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(number: float) -> str:
    """Bytes as people say it: 5.2 GB."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}" if number < 999.5 * factor else f"{number / factor:.0f} {unit}"
    return f"{number / 1e3:.0f} kB"


def exposure(seconds: float | None) -> str:
    """An exposure as people say it: 60 s, 0.005 s."""
    return "unknown" if seconds is None else f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"


def count(number: int, one: str, many: str) -> str:
    """'1 frame', '3 frames'."""
    return f"{number} {one if number == 1 else many}"


def wrapped(text: str) -> list[str]:
    """A sentence in lines, set in from the headings."""
    return textwrap.wrap(
        text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def cut(lines: list[str], most: int | None) -> list[str]:
    """A table, the middle of which is left to the file where it is long."""
    if most is None or len(lines) <= most:
        return lines
    return [*lines[: most - 6], f"  ... {len(lines) - most + 1} more lines in plan.txt", *lines[-5:]]
