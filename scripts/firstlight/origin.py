"""What a product was made from, down to the raw files: told by its header, its tables, and what it was made from itself."""

from __future__ import annotations

import re
from pathlib import Path

from . import frames, history, io, library, lights

MASTERS = ("BIAS", "DARK", "FLAT")
DEEPER = "    "
GONE = "no file that is found now has this content"


def origin(of: str, results: str) -> str:
    """A tree in words: a product with its options and versions, its inputs and theirs, and whether these are still there
    with the content that they had."""
    if not of:
        return f"Name a product: snakemake origin --config of={results}/stacks/TARGET/FILTER.fits"
    path = file_of(of, results)
    if not path.is_file():
        return f"{path} is not there: snakemake {path} makes it, if the night has such a target and filter"
    try:
        own = io.read_header(path).get("FLVERS") is not None
    except (OSError, ValueError):
        own = False
    if not own:
        return f"{of} is no product of firstlight that says what it was made from: name a FITS file or picture in {results}"
    return "\n".join([str(path), *Tree(results).product(path)])


def file_of(of: str, results: str) -> Path:
    """The FITS file that tells of a product: for a picture its cube, for a stack in grey the stack, for sources their light."""
    path = Path(of)
    if path.suffix == ".ecsv":
        return path.with_suffix(".fits")
    if path.suffix not in (".png", ".tiff"):
        return path
    name = path.stem.removesuffix("_chart")
    if path.parent.name == "pictures":
        return path.with_name(f"{name}.fits")
    return Path(results, "stacks", path.parent.name, f"{name}.fits")


class Tree:
    """Lines about products of a results folder; what was told once is not told again."""

    def __init__(self, results: str):
        self.results = results
        rows = frames.read(results).rows
        self.raw = {row.pixel_hash[:16]: row.path for row in rows}
        self.names = {name: row.path for row in rows for name in lights.names_of(row)}
        known = library.read(results).rows if Path(results, "library.csv").exists() else []
        self.ready = {row.name: row.path for row in known}
        self.told: set = set()
        self.contents: dict[Path, str | None] = {}

    def product(self, path: Path) -> list[str]:
        """How a product was made, then its inputs."""
        self.told.add(path)
        header = io.read_header(path)
        lines = [f"dropped, {io.dropped_reason(header)}"] if io.is_dropped(header) else []
        return _deeper([*lines, *self.how(header), *self.inputs(path, header)])

    def how(self, header) -> list[str]:
        """Rules, versions and options that a header names, those that are new."""
        texts = history.joined(header.get("HISTORY", []))
        ours = next((number for number, text in enumerate(texts) if re.match(r"\w+: firstlight ", text)), len(texts))
        new = [text for text in texts[ours:] if text not in self.told]
        self.told.update(new)
        return new

    def inputs(self, path: Path, header) -> list[str]:
        """What a product was made from: as its kind tells."""
        if "GRIDNX" in header:
            return [f"light {row['name']}: {self.names.get(row['name'], GONE)}" for row in _rows(path, "LIGHTS") or []]
        if "STACK1" in header:
            return self.stacks(path, header)
        if path.parent.name == "library":
            return [f"ready master {self.ready.get(path.stem, GONE)}"]
        rows = _rows(path)
        if rows is None:
            return [*self.raw_file(header.get("FLPIXELS")), *self.masters(header)]
        if any("weight" in row for row in rows):
            return [line for row in rows for line in self.light(path, row)]
        notes = [f", left out: {row['note']}" if row["note"] else "" for row in rows]
        files = [line + note for row, note in zip(rows, notes, strict=True) for line in self.raw_file(row["content"])]
        return files + self.masters(header)

    def stacks(self, path: Path, header) -> list[str]:
        lines = []
        wanted = {header[f"STACK{n}"]: header[f"FILTER{n}"] for n in range(1, 99) if f"STACK{n}" in header}
        there = {io.read_header(one).get(io.IDENTITY): one for one in _files(self.results, "stacks", path.stem)}
        for content, name in wanted.items():
            one = there.get(content)
            lines += [f"stack in {name} {content}: {one or 'no longer there, or made anew since'}"]
            lines += self.product(one) if one else []
        return lines

    def light(self, stack: Path, row) -> list[str]:
        """A frame of a stack: its share, its raw file, what its light says if that is there."""
        note = f"weight {row['weight']:.3f}" if row["weight"] > 0 else row["note"]
        place = Path(self.results, "lights", stack.parent.name, row["night"] or "*", stack.stem)
        path = next(iter(_files(place, f"{row['name']}.fits")), None)
        lines = [f"{row['name']}: {note}"]
        if path is None:
            return lines + _deeper(self.raw_file(row["content"]))
        header = io.read_header(path)
        return lines + _deeper([*self.raw_file(header.get("FLPIXELS")), *self.how(header), *self.masters(header)])

    def masters(self, header) -> list[str]:
        """The masters that a frame was reduced with."""
        lines = []
        for kind in MASTERS:
            name, content = header.get(f"{kind}COR"), header.get(f"{kind}ID")
            if not isinstance(name, str) or content is None:
                continue
            path = Path(self.results, "masters", f"{name}.fits")
            new = path not in self.told and path.is_file()
            lines.append(f"{kind.lower()} {path} {content}: {self.state(path, content)}")
            lines += self.product(path) if new else []
        return lines

    def state(self, path: Path, content: str) -> str:
        """Whether a product is still that of which the identity is `content`; it is read but once."""
        if path not in self.contents:
            self.contents[path] = io.identity_of(path) if path.is_file() else None
        now = self.contents[path]
        return "gone" if now is None else "unchanged" if now == content else f"made anew since, {now}"

    def raw_file(self, content) -> list[str]:
        """The raw file with this content, as the frames table knows it, which is brought up to date by each call."""
        if not content:
            return []
        path = self.raw.get(str(content))
        return [f"raw {path} {content}: unchanged" if path else f"raw {content}: {GONE}"]


def _rows(path: Path, name: str = "INPUTS") -> list[dict] | None:
    """A table of what a product was made from; None where it has none."""
    try:
        rows = io.read_extension(path, name)
    except LookupError:
        return None
    each = [dict(zip(rows.dtype.names, row, strict=True)) for row in rows.tolist()]
    return [
        {name: value.decode() if isinstance(value, bytes) else value for name, value in row.items()} for row in each
    ]


def _files(*parts) -> list[Path]:
    """Files of a place in which a part may be a star, in order."""
    place = Path(*map(str, parts))
    found = Path(place.anchor or ".").glob(str(place.relative_to(place.anchor)))
    return sorted(one for path in found for one in ([path] if path.is_file() else path.glob("*.fits")))


def _deeper(lines: list[str]) -> list[str]:
    return [DEEPER + line for line in lines]
