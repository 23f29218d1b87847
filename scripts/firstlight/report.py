"""The report as one page of HTML, that needs nothing beside it: template, style and script filled with what was gathered."""

from __future__ import annotations

import json

from markupsafe import Markup

# Columns of the ledger (`ledger.COLUMNS`) as the page shows them: what happened first.
LEDGER = (
    "path",
    "outcome",
    "step",
    "reason",
    "kind",
    "night",
    "target",
    "filter",
    "exposure",
    "weight",
    "products",
    "camera",
)


def page(template: str, style: str, script: str, facts: dict) -> str:
    """The page. Whatever comes from headers, names or reasons is escaped; images and plots come as they are.

    template, style, script  texts of the files in templates/; facts: what the template names, see `adapt_report`
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"plain": plain, "places": places, "span": span, "reason": reason}
    return environment.from_string(template).render(style=Markup(style), script=Markup(script), **facts)


def ledger_data(rows: list[dict]) -> Markup:
    """The ledger as JSON that may stand in a script element: no sign in it can end that."""
    values = [[row.get(name) or "" for name in LEDGER] for row in rows]
    text = json.dumps({"columns": LEDGER, "rows": values}, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def plain(value: float | None) -> str:
    """A number in four digits, "" for None."""
    if value is None:
        return ""
    if abs(value) >= 1e4:
        return f"{value:.0f}"
    return f"{value:.4g}"


def places(value: float | None, number: int) -> str:
    """A number with so many decimal places, "" for None."""
    return "" if value is None else f"{value:.{number}f}"


def span(seconds: float | None) -> str:
    """A time in the unit that people say it in."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def reason(note: str) -> str:
    """Why a frame was left out, without the words that say that it was."""
    return note.removeprefix("left out, ").removeprefix("dropped, ") or "no reason on record"


def some(values: list[str], most: int = 4) -> str:
    """'a, b and c'; of many the first and how many more."""
    if len(values) > most:
        return f"{', '.join(values[: most - 1])} and {len(values) - most + 1} more"
    return " and ".join(filter(None, [", ".join(values[:-1]), values[-1] if values else ""]))


def count(number: int, what: str) -> str:
    """'1 frame', '2 frames'."""
    return f"{number} {what}{'s' * (number != 1)}"


def balance_words(balance: dict) -> str:
    """The balance of the files in a sentence."""
    if not balance["files"]:
        return "The ledger is empty: no file was found."
    used, dropped, spare = (f"{balance['outcomes'].get(name, 0)} {name}" for name in ("used", "dropped", "not needed"))
    steps = ", ".join(f"{number} at {step or 'no step'}" for step, number in balance["dropped"])
    return f"{count(balance['files'], 'file')} found: {used}, {dropped}{f' ({steps})' if steps else ''}, {spare}."
