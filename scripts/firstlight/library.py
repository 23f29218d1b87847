"""The library of ready masters: own ones of an earlier results folder and those of other programs, as rows of a table.

They are described from their headers by the machinery of the frames table and opened only where size or time stamp is
new. What their pixels need to be used is in `ready`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from . import frames, raw
from . import header as headers
from .frames import CALIBRATIONS, Book, Row, Table
from .header import Description, Settings
from .names import safe_name

# What a master tells of itself: the camera's name among the frames that it was made of, and its kind where IMAGETYP
# says too little (a master of flat darks).
CAMERA, KIND = "FLCAMERA", "FLKIND"


def update(
    places: Iterable[str],
    results: str,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Bring library.csv and library_rejected.csv in the results folder up to date; see `frames.update`.

    places  files and folders of ready masters; of a results folder only its masters count
    The `camera` of a row is what its header says, and the `filter` as people write it: `adopted` gives them names.
    Raises ValueError where a place does not exist.
    """
    places = list(places)
    settings = replace(settings or Settings(), raw=tuple(places))
    paths = raw.find_ready(places, exclude=[results])
    return frames.brought_up_to_date(LIBRARY, paths, results, settings, progress)


def read(results: str) -> Table:
    """The table as it stands in the results folder. Raises FileNotFoundError where there is none."""
    return frames.read(results, LIBRARY)


def check(places: Iterable[str], raw_folders: Iterable[str], results: str) -> None:
    """Raise ValueError where ready masters are looked for among what is made or what is raw."""
    made = Path(results).resolve()
    for place in places:
        here = Path(place).resolve()
        if here == made or made in here.parents:
            raise ValueError(f"masters: {place} lies in the results folder {results}: name that of another time")
        for folder in raw_folders:
            there = Path(folder).resolve()
            if here == there or here in there.parents:
                raise ValueError(
                    f"masters: {place} holds the raw folder {folder}: give masters a folder of their own, or name "
                    "their files"
                )


def adopted(rows: Iterable[Row], others: Iterable[Row]) -> list[Row]:
    """Rows of ready masters with the names of camera and filter that the raw frames have.

    rows    of the library's table
    others  of the frames table, colour frames whole
    Own masters name their camera; those of other programs fit where instrument, binning, size, read-out mode, gain
    setting and offset are those of a raw frame. What fits no raw frame keeps its own text and is of no use.
    """
    others = list(others)
    cameras = {frames.camera_text(row, row.nx, row.ny): row.camera for row in others}
    cameras |= {row.camera: row.camera for row in others}
    filters = {row.band: row.filter for row in others}
    return [
        replace(row, camera=cameras.get(row.camera, row.camera), filter=filters.get(row.band, f"none like {row.band}"))
        for row in rows
    ]


def words(table: Table, most: int = 5) -> list[str]:
    """What is said before a run of files in the library that are no masters."""
    refused = [
        one for one in table.rejected if raw.DROPPED not in one.reason and not one.reason.startswith("same file as")
    ]
    lines = [f"masters: {one.path} is skipped: {one.reason}" for one in refused[:most]]
    return lines + ([f"masters: and {len(refused) - most} more are skipped"] if len(refused) > most else [])


# --- From files to rows ---------------------------------------------------------------------------------------------
def _said(path: str, entry: Mapping, settings: Settings) -> dict:
    """Description, hash of the header, the reason for a rejection or None, and what only masters say."""
    values, out = frames.described(path, entry, settings)
    own = values.get("FLVERS") is not None
    kind = values.get(KIND) if own else None
    if kind in CALIBRATIONS:
        out.kind = kind
    elif out.read_from["kind"] == "nothing":
        _kind_by_name(path, out)
    return {
        "description": asdict(out),
        "header_hash": frames.header_hash(values),
        "reason": _reason(path, values, entry, out, settings),
        "camera": str(values.get(CAMERA) or "").strip(),
        "night": str(values.get("NIGHT") or "") if own else "",
    }


_NAMED = re.compile(r"master|super|combined|median|average|stack", re.I)
_WORDS = {"flatdark": r"dark_?flat|flat_?dark", "bias": r"bias|zero", "dark": r"dark", "flat": r"flat"}


def _kind_by_name(path: str, out: Description) -> None:
    """The kind by the file's name, where its header says nothing: MasterDark_60s.fits."""
    name = os.path.basename(path)
    kind = next((kind for kind, words in _WORDS.items() if re.search(words, name, re.I)), None)
    if kind:
        out.kind, out.read_from["kind"] = kind, "file name"
        out.notes = [note for note in out.notes if not note.endswith("taken for a light")]


def _reason(path: str, values: Mapping, entry: Mapping, out: Description, settings: Settings) -> str | None:
    if entry["constant"] is not None:
        return f"every pixel has the same value ({entry['constant']:g})"
    source = out.read_from["kind"]
    if source == "nothing":
        return "nothing says whether it is a bias, a dark or a flat: set IMAGETYP with header:, or name it under kinds:"
    if out.kind not in CALIBRATIONS:
        return f"{source}: neither a bias nor a dark nor a flat"
    if out.kind in ("dark", "flatdark") and not out.exposure:
        return "a dark without an exposure time: set EXPTIME with header:"
    if not _is_master(path, values, entry):
        return (
            f"a raw {out.kind} frame ({source}; whole numbers, and nothing says that it is a master): name its folder "
            "under raw:, or set NCOMBINE with header:"
        )
    return None


def _is_master(path: str, values: Mapping, entry: Mapping) -> bool:
    """True for a frame that says that it was combined or calibrated, is called a master, or holds real numbers."""
    bits = re.search(r"^Z?BITPIX *= *(-?\d+)", frames.header_text(entry), re.M)
    return bool(headers.processed(values) or _NAMED.search(raw.stem(path)) or (bits and bits.group(1).startswith("-")))


def _table(cached: dict) -> Table:
    used, rejected = frames.sorted_out(cached, "same file as")
    table = Table(rejected=rejected)
    said = {path: Description(**entry["said"]["description"]) for path, entry in used.items()}
    nights = frames.nights_of(said)
    for path, entry in cached["files"].items():
        entry["used"] = path in used
    for path, entry in used.items():
        one = said[path]
        camera = entry["said"]["camera"] or frames.camera_text(one, entry["nx"], entry["ny"])
        given = {"target": "", "filter": one.filter, "camera": camera}
        row = frames.row_of(path, entry, one, entry["said"]["night"] or nights[path], given)
        table.rows.append(replace(row, name=_name(row)))
    return table


def _name(row: Row) -> str:
    """What a product is called: a file that is renamed or moved makes nothing anew."""
    parts = [row.kind]
    if row.kind == "flat":
        parts.append(safe_name(row.band))
    elif row.kind != "bias":
        temperature = "unknown" if row.temperature is None else f"{row.temperature + 0.0:.0f}"
        parts += [f"{row.exposure:.4g}s", f"{temperature}C"]
    return "_".join([*parts, safe_name(row.night), row.pixel_hash[:8]])


LIBRARY = Book(
    "library", "library_rejected", raw.scan_ready, _said, _table, (_kind_by_name, _reason, _is_master, _name)
)
