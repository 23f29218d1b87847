"""The pages of docs/ that are made from the code, so that they cannot say otherwise: `make docs`.

    python tests/pages.py

writes docs/configuration.md from config.schema.yaml.
"""

from __future__ import annotations

from pathlib import Path

from firstlight.config import read_schema

PROJECT = Path(__file__).parents[1]
CONFIGURATION = PROJECT / "docs" / "configuration.md"
HEAD = """\
# Configuration

Every key, with its default. A `config.yaml` in the folder that you run in needs only what differs; on the command line
`--config missing=stop 'grid={extent: all}'`. An unknown key, a wrong type or a value out of range is refused before
anything runs, with the nearest known key or what is allowed. `null` stands for what the last column says of it.

This page is made from [config.schema.yaml](../config.schema.yaml) by `make docs`.
"""
COLUMNS = "\n| key | default | allowed | meaning |\n| --- | --- | --- | --- |\n"
KINDS = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true, false", "object": "mapping"}


def configuration(schema: dict) -> str:
    """The reference of all keys of a JSON schema as Markdown: a table of the plain ones, then one for each section."""
    keys = schema["properties"]
    sections = {name: part for name, part in keys.items() if part.get("properties")}
    plain = {name: part for name, part in keys.items() if name not in sections}
    text = HEAD + "\n## Keys without a section\n" + _table(plain)
    for name, part in sections.items():
        text += f"\n## {name}\n\n{_sentence(part['description'])}\n" + _table(_leaves(part["properties"]))
    return text


def _leaves(properties: dict, before: str = "") -> dict:
    """Keys of a section, those of sections within it as `outer: inner`."""
    out = {}
    for name, part in properties.items():
        inner = part.get("properties")
        out |= _leaves(inner, f"{before}{name}: ") if inner else {before + name: part}
    return out


def _table(keys: dict) -> str:
    rows = (
        f"| `{name}` | {_default(part)} | {_allowed(part)} | {_cell(part['description'])} |"
        for name, part in keys.items()
    )
    return COLUMNS + "\n".join(rows) + "\n"


def _default(part: dict) -> str:
    value = part.get("default")
    shown = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, (bool, type(None))) else None
    if shown is None:
        shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
    return f"`{shown}`" if shown else "empty"


def _allowed(part: dict) -> str:
    """Types, choices and range of a key, in words."""
    types = part["type"] if isinstance(part["type"], list) else [part["type"]]
    if choices := part.get("enum"):
        words = ", ".join(choices)
    elif items := part.get("items", {}).get("enum"):
        words = f"list of {', '.join(items)}"
    else:
        words = " or ".join(_kind(kind, part) for kind in types if kind != "null")
    return _cell("; ".join(filter(None, [words, _range(part), "null" if "null" in types else ""])))


def _kind(kind: str, part: dict) -> str:
    if kind != "array":
        return KINDS[kind]
    return f"list of {KINDS.get(part.get('items', {}).get('type'), 'mapping')}s"


def _range(part: dict) -> str:
    names = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return " ".join(f"{word} {part[name]:g}" for name, word in names.items() if name in part)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    CONFIGURATION.write_text(configuration(read_schema(PROJECT / "config.schema.yaml")))
    print(CONFIGURATION.relative_to(PROJECT))
