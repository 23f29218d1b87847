"""The frames table: one row per raw file that can be used, and the reason for each that cannot.

`update` brings it up to date and opens only files whose size or time stamp is new; everybody else only reads it.
Names in it are the parts of paths: they come from headers, and a frame that is added renames nothing that is there.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import inspect
import io
import json
import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from functools import cache
from operator import attrgetter

from . import bayer, cards, dialects, names, pointing, raw, textfile
from . import header as headers
from . import nights as calendar
from .header import Description, Settings
from .provenance import identity
from .tables import table_text

SCHEMA = 1  # of the cache; the part of it that is read from files also depends on raw.READER
CALIBRATIONS = ("bias", "dark", "flat", "flatdark")
SAVE_EVERY = 1000  # files: an interrupted first reading is not lost


@dataclass(frozen=True)
class Row:
    """One raw frame. `name`, `night`, `target`, `filter`, `camera` are safe as parts of a path, the wildcards."""

    path: str
    name: str  # the file's stem and 8 digits of its pixel hash
    kind: str  # bias, dark, flat, flatdark, light
    night: str  # local date of the evening, or "unknown"
    target: str  # of lights, "" for others
    filter: str  # "none" where no filter is named
    camera: str  # equal where a master of one frame fits the other
    exposure: float | None  # s
    binning: str
    gain_setting: str
    temperature: float | None  # deg C
    nx: int
    ny: int
    time: str | None  # UTC, start of the exposure
    instrument: str
    readout: str
    offset: str
    telescope: str
    focal_length: float | None  # mm
    rotator: float | None  # deg
    object: str  # the target as people write it
    band: str  # the filter as people write it
    ra: float | None  # deg, as the header says
    dec: float | None  # deg
    scale: float | None  # arcsec/pix, as the header says
    header_hash: str  # after repairs
    pixel_hash: str
    notes: str
    bayer: str = ""  # of a colour sensor: the colours of the first two pixels of the first two rows

    @property
    def flat_filter(self) -> str:
        """The filter of the flats for it."""
        return self.filter

    @property
    def binned(self) -> int:
        """Pixels of the sensor that one of its pixels is wide."""
        return 1

    @property
    def family(self) -> str:
        """Equal for lights that lack the same calibration: their filter."""
        return self.filter


@dataclass(frozen=True)
class Rejected:
    """A file that is not used, and why."""

    path: str
    reason: str


@dataclass
class Table:
    """All frames in the order of their paths, and all files that cannot be used."""

    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


# --- Bringing the table up to date ----------------------------------------------------------------------------------
def update(
    raw_folders: str | Iterable[str],
    results: str,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
    exclude: Iterable[str] = (),
) -> Table:
    """Bring frames.csv and rejected.csv in the results folder up to date with the raw folders; returns the table.

    Only files with a new size or time stamp are opened; changed settings need no file, as the cache
    (.firstlight/frames.json) keeps the headers. A file is written only if its content changes.
    `progress(done, total)` is called as files are read. `exclude` names files and folders that hold no raw frames.
    Raises ValueError where a raw folder does not exist.
    """
    roots = [raw_folders] if isinstance(raw_folders, (str, os.PathLike)) else list(raw_folders)
    settings = replace(settings or Settings(), raw=tuple(map(os.fspath, roots)))
    exclude = list(exclude)
    alone = {os.path.realpath(path) for path in exclude if os.path.isfile(path)}
    paths = raw.find(roots, exclude=[results, *exclude])
    return brought_up_to_date(
        RAW,
        [path for path in paths if os.path.realpath(path) not in alone] if alone else paths,
        results,
        settings,
        progress,
    )


@dataclass(frozen=True)
class Book:
    """How files become a table: its name and what reads and describes them."""

    name: str  # of the cache and of the table of what can be used
    rejected: str  # of the table of what cannot
    scan: Callable[[str], raw.Scan]
    said: Callable[[str, Mapping, Settings], dict]  # see `_said`
    table: Callable[[dict], Table]
    parts: tuple  # code that decides on what is said, beside that of this module


def brought_up_to_date(book: Book, paths, results: str, settings: Settings, progress=None) -> Table:
    """The table of a book for these files, and its files in the results folder; see `update`."""
    cached = _load(results, book)
    files = cached["files"]
    stamps = {path: raw.stamp(path) for path in paths}
    gone = set(files) - set(paths)
    for path in gone:
        del files[path]
    new = [
        path
        for path in paths
        if path not in files or stamps[path] is None or files[path]["stamp"] != list(stamps[path])
    ]
    wanted = _wanted(settings, book)
    if not new and not gone and cached.get("made") == [wanted, _written(results, book)]:
        return read(results, book)
    try:
        with raw.quiet():
            _read_files(book.scan, new, stamps, files, progress, lambda: _save(results, cached, book))
            _describe_files(book, cached, settings)
        table = book.table(cached)
        textfile.write(os.path.join(results, f"{book.name}.csv"), to_csv(Row, table.rows))
        textfile.write(os.path.join(results, f"{book.rejected}.csv"), to_csv(Rejected, table.rejected))
        cached["made"] = [wanted, _written(results, book)]
    finally:
        _save(results, cached, book)
    return table


def read(results: str, book: Book | None = None) -> Table:
    """The table as it stands in the results folder. Raises FileNotFoundError where there is none."""
    book = book or RAW
    rows, rejected = f"{book.name}.csv", f"{book.rejected}.csv"
    return Table(_from_csv(Row, results, rows), _from_csv(Rejected, results, rejected))


def _written(results: str, book: Book) -> str:
    """Tells whether the table's files are those that were last written here."""
    names = (f"{book.name}.csv", f"{book.rejected}.csv")
    texts = (textfile.read(os.path.join(results, name)) or "" for name in names)
    return identity(*(hashlib.blake2b(text.encode("utf-8", "surrogateescape")).hexdigest() for text in texts))


def _read_files(scan, paths, stamps, files: dict, progress, save) -> None:
    """Read new files into the cache; hashing lets go of Python's lock, so threads help."""
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        waiting = {pool.submit(_entry, scan, path, stamps[path]): path for path in paths}
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                files[waiting[future]] = future.result()
                if progress:
                    progress(done, len(paths))
                if done % SAVE_EVERY == 0:
                    save()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _entry(scan, path: str, stamp) -> dict:
    """What the cache keeps of one file."""
    kept = {"stamp": list(stamp) if stamp else None}
    try:
        path.encode()  # Snakemake keeps records of what it reads in UTF-8
        scanned = scan(path)
    except UnicodeEncodeError:
        return {**kept, "error": "its name, or that of its folder, is not UTF-8: rename it"}
    except ValueError as error:
        return {**kept, "error": str(error)}
    except (OSError, MemoryError) as error:  # may pass: without a stamp it is tried again the next time
        return {"stamp": None, "error": _trouble(path, error)}
    text = base64.b64encode(zlib.compress(scanned.text.encode("ascii"), 1)).decode("ascii")
    return {**kept, "text": text} | {key: value for key, value in asdict(scanned).items() if key != "text"}


def _trouble(path: str, error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to read it"
    if os.path.islink(path) and not os.path.exists(path):
        return "a link to a file that is not there"
    return f"cannot be read: {error.strerror or error}"


def _describe_files(book: Book, cached: dict, settings: Settings) -> None:
    """Say anew what headers mean, for new files and, where the settings or the dialects changed, for all."""
    everything = cached.get("settings") != _wanted(settings, book)
    for path, entry in cached["files"].items():
        if "text" in entry and (everything or "said" not in entry):
            entry["said"] = book.said(path, entry, settings)
    cached["settings"] = _wanted(settings, book)


def _wanted(settings: Settings, book: Book) -> str:
    """Changes when the settings do, or the code that understands headers."""
    return identity(json.dumps(asdict(settings), default=str, sort_keys=True), _dialect(book))


@cache
def _dialect(book: Book) -> str:
    parts = (
        bayer,
        dialects,
        headers,
        names,
        calendar,
        pointing,
        _reason,
        described,
        sorted_out,
        Row,
        book.said,
        book.table,
        *book.parts,
    )
    return identity(*map(inspect.getsource, parts))


def header_text(entry: Mapping) -> str:
    """The header's cards as they were read, one a line."""
    return zlib.decompress(base64.b64decode(entry["text"])).decode("ascii")


def described(path: str, entry: Mapping, settings: Settings) -> tuple[dialects.Values, Description]:
    """The repaired header of a file and what it says; without opening the file."""
    values, notes = cards.values(header_text(entry))
    values = headers.repair(values, path, settings.header)
    out = headers.describe(values, path, settings)
    out.notes = entry["notes"] + notes + out.notes
    return values, out


def _said(path: str, entry: Mapping, settings: Settings) -> dict:
    """Description, hash of the header, and the reason for a rejection or None."""
    values, out = described(path, entry, settings)
    out.bayer, source = bayer.stated_pattern(values, settings.cameras)
    if source:
        out.read_from["colours"] = source
    if note := bayer.overruled(values, settings.cameras):
        out.notes.append(note)
    out.read_from.update(headers.detector(values, settings.cameras).read_from)
    return {
        "description": asdict(out),
        "header_hash": header_hash(values),
        "reason": _reason(path, values, entry, out, settings),
    }


def header_hash(values: Mapping) -> str:
    """Hash of what a header says: keywords and values in any order, without remarks and storage."""
    said = sorted(
        (key, "" if type(value).__name__ == "Undefined" else repr(value))
        for key, value in values.items()
        if key not in cards.REMARKS and not dialects.structural(key)
    )
    return hashlib.blake2b(repr(said).encode(), digest_size=16).hexdigest()


def _reason(path: str, values: Mapping, entry: Mapping, out: Description, settings: Settings) -> str | None:
    if entry["constant"] is not None:
        return f"every pixel has the same value ({entry['constant']:g})"
    done = headers.processed(values, path)
    if done and done.startswith("FLVERS"):
        way_out = ": name masters under masters:" if out.kind in CALIBRATIONS else ""
        return f"made by firstlight ({done}): not a raw frame{way_out}"
    if done and out.kind in CALIBRATIONS:  # never taken for raw frames: a master of masters has no noise to tell
        return f"already calibrated or stacked ({done}): name it under masters:"
    if done and not settings.calibrated:
        return f"already calibrated or stacked ({done}): set calibrated: true to use such frames"
    if out.bayer is None:
        said = out.read_from["colours"]
        return f"colour sensor: {said}: cameras: bayer: RGGB (or BGGR, GRBG, GBRG; none for a mono sensor) says it"
    if out.kind == "other":
        return f"{out.read_from['kind']}: neither a light nor a calibration frame"
    return None


# --- From descriptions to rows --------------------------------------------------------------------------------------
def sorted_out(cached: Mapping, alike: str) -> tuple[dict, list[Rejected]]:
    """What can be used of the files in a cache, by path, and what cannot, with the reason; `alike`, such as "same pixels
    as", is that of a duplicate."""
    used, rejected = {}, []
    for path, entry in sorted(cached["files"].items()):
        reason = entry.get("error") or entry["said"]["reason"]
        if reason:
            rejected.append(Rejected(path, reason))
        else:
            used[path] = entry
    for path, twin in duplicates(used).items():
        del used[path]
        rejected.append(Rejected(path, f"{alike} {twin}"))
    return used, sorted(rejected, key=lambda one: one.path)


def _table(cached: dict) -> Table:
    used, rejected = sorted_out(cached, "same pixels as")
    table = Table(rejected=rejected)
    said = {path: Description(**entry["said"]["description"]) for path, entry in used.items()}
    _join_pointings(said)
    _settle_colours(said, used)
    nights = nights_of(said)
    given = _names(said, used, cached)
    for path, entry in cached["files"].items():
        entry["used"] = path in used
    for path, entry in used.items():
        table.rows.append(row_of(path, entry, said[path], nights[path], {part: given[part][path] for part in given}))
    return table


def _settle_colours(said: Mapping[str, Description], used: Mapping) -> None:
    """Patterns of colour sensors that all frames of a camera and their pixels agree on."""
    patterns, notes = bayer.settled(
        {path: one.bayer for path, one in said.items()},
        {path: one.kind for path, one in said.items()},
        {path: camera_text(one, used[path]["nx"], used[path]["ny"]) for path, one in said.items()},
        {path: entry["levels"] for path, entry in used.items()},
    )
    for path, pattern in patterns.items():
        said[path].bayer = pattern
        said[path].notes += [notes[path]] if path in notes else []


def duplicates(used: Mapping) -> dict[str, str]:
    """{path: the copy that stays}: the one that is used already, so that a copy renames nothing; else the plainest: not
    compressed, then the shortest path, then by the alphabet."""
    twins = defaultdict(list)
    for path, entry in used.items():
        twins[entry["pixel_hash"]].append(path)

    def rank(path):
        return not used[path].get("used"), not raw.unpacked(path), len(path), path

    best = {key: min(paths, key=rank) for key, paths in twins.items()}
    return {path: best[key] for key, paths in twins.items() for path in paths if path != best[key]}


def row_of(path: str, entry: Mapping, said: Description, night: str, given: Mapping) -> Row:
    """A row from a file's entry of the cache, its description, and the names that it is given."""
    return Row(
        path=path,
        name=f"{names.safe_name(raw.stem(path))}_{entry['pixel_hash'][:8]}",
        kind=said.kind,
        night=night,
        target=given["target"] if said.kind == "light" else "",
        filter=given["filter"],
        camera=given["camera"],
        nx=entry["nx"],
        ny=entry["ny"],
        object=said.target,
        band=said.filter,
        header_hash=entry["said"]["header_hash"],
        pixel_hash=entry["pixel_hash"],
        notes="; ".join(said.notes),
        bayer=said.bayer or "",
        **{key: getattr(said, key) for key in _COPIED},
    )


_COPIED = (
    "exposure", "binning", "gain_setting", "temperature", "time", "instrument", "readout", "offset", "telescope",
    "focal_length", "rotator", "ra", "dec", "scale",
)  # fmt: skip


def _join_pointings(said: Mapping[str, Description], radius: float = 0.25) -> None:
    """Lights named by their pointing share the name of the earliest within `radius` deg: dithers are one target."""
    known: list[Description] = []
    nameless = [one for one in said.values() if one.read_from.get("target") == "pointing"]
    for one in sorted(nameless, key=lambda one: one.time or "9"):
        near = next((other for other in known if _distance(one, other) < radius), None)
        if near:
            one.target = near.target
        else:
            known.append(one)


def _distance(one: Description, other: Description) -> float:
    """Degrees on the sky between two pointings (haversine)."""
    from math import asin, cos, degrees, radians, sin, sqrt

    ra1, dec1, ra2, dec2 = map(radians, (one.ra, one.dec, other.ra, other.dec))
    half = sin((dec2 - dec1) / 2) ** 2 + cos(dec1) * cos(dec2) * sin((ra2 - ra1) / 2) ** 2
    return degrees(2 * asin(min(1.0, sqrt(half))))


# --- Nights ---------------------------------------------------------------------------------------------------------
def nights_of(said: Mapping[str, Description]) -> dict[str, str]:
    """The night of each frame; where a header tells no longitude, the day is cut at its longest gap over all frames."""
    moments = {path: datetime.fromisoformat(one.time) for path, one in said.items() if one.time}
    noon = longest_gap(_hours(moment) for moment in moments.values())
    nights = {}
    for path, one in said.items():
        if one.night or path not in moments:
            nights[path] = one.night or "unknown"
        else:
            folder = date.fromisoformat(one.folder_night) if one.folder_night else None
            nights[path] = calendar.night_of(moments[path] + timedelta(hours=12 - noon), folder).isoformat()
    return nights


def _hours(moment: datetime) -> float:
    return moment.hour + moment.minute / 60 + moment.second / 3600


def longest_gap(hours: Iterable[float]) -> float:
    """The middle of the longest stretch of the 24 h circle without any of these times of day: where noon must lie.

    Returned as UTC hours from -1 to 23, so that the turn of the date falls into the Pacific, where the fewest
    observers are. One more time inside the night moves no frame to another night.
    """
    times = sorted({hour % 24 for hour in hours})
    if not times:
        return 12.0
    gaps = [(later - earlier, earlier) for earlier, later in zip(times, [*times[1:], times[0] + 24], strict=True)]
    length, start = max(gaps, key=lambda gap: (gap[0], -gap[1]))
    middle = (start + length / 2) % 24
    return middle - 24 if middle >= 23 else middle


# --- Names ----------------------------------------------------------------------------------------------------------
def _names(said: Mapping[str, Description], used: Mapping, cached: dict) -> dict[str, dict[str, str]]:
    """{"target", "filter", "camera"}: {path: safe name}. Names given before stay: the cache remembers them."""
    kept = cached.get("names", {})
    _one_spelling(said, kept.get("target", {}))
    texts = {
        "target": {path: one.target for path, one in said.items() if one.kind == "light"},
        "filter": {path: one.filter for path, one in said.items()},
        "camera": {path: camera_text(one, used[path]["nx"], used[path]["ny"]) for path, one in said.items()},
    }
    limits = {"target": 40, "filter": 40, "camera": 60}
    given = {part: names.unique_names(texts[part].values(), kept.get(part), limits[part]) for part in texts}
    cached["names"] = given
    return {part: {path: given[part].get(texts[part].get(path, ""), "") for path in said} for part in texts}


def _one_spelling(said: Mapping[str, Description], kept: Mapping[str, str]) -> None:
    """Targets that differ in case and blanks alone get one spelling: the one in use, else that with most capitals."""
    spellings = defaultdict(set)
    lights = [one for one in said.values() if one.kind == "light"]
    for one in lights:
        spellings[headers.target_key(one.target)].add(one.target)
    chosen = {key: _best(texts, kept) for key, texts in spellings.items()}
    for one in lights:
        one.target = chosen[headers.target_key(one.target)]


def _best(texts: set[str], kept: Mapping[str, str]) -> str:
    return min(texts, key=lambda text: (text not in kept, -sum(map(str.isupper, text)), len(text), text))


def camera_text(said: Description, nx: int, ny: int) -> str:
    """What must agree for a master to fit, in one text that depends on this frame alone: 'dcam_1x1_1024x1024_g100'."""
    parts = [said.instrument, said.binning, f"{nx}x{ny}"]
    if said.readout.lower() not in dialects.USUAL_READOUT:
        parts.append(said.readout)
    parts += [f"{letter}{value}" for letter, value in (("g", said.gain_setting), ("o", said.offset)) if value]
    return "_".join(filter(None, parts))


# --- Files ----------------------------------------------------------------------------------------------------------
def _cache_path(results: str, book: Book) -> str:
    return os.path.join(results, raw.MARKER, f"{book.name}.json")


def _load(results: str, book: Book) -> dict:
    """The cache, or an empty one where there is none, it is of another version, or damaged."""
    version = [SCHEMA, raw.READER]
    try:
        found = json.loads(textfile.read(_cache_path(results, book)) or "{}")
    except ValueError:
        found = {}
    if isinstance(found, dict) and found.get("version") == version:
        return found
    kept = found.get("names", {}) if isinstance(found, dict) else {}
    return {"version": version, "names": kept, "files": {}}


def _save(results: str, cached: dict, book: Book) -> None:
    # A name that is not UTF-8 holds lone surrogates: JSON's escapes carry them as they are.
    textfile.write(_cache_path(results, book), json.dumps(cached, separators=(",", ":")))


def to_csv(kind, rows: Iterable) -> str:
    """Rows of a dataclass as a table, text."""
    columns = [part.name for part in fields(kind)]
    return table_text(columns, map(attrgetter(*columns), rows))


def _from_csv(kind, results: str, name: str) -> list:
    path = os.path.join(results, name)
    text = textfile.read(path)
    if text is None:
        raise FileNotFoundError(f"{path} is not there: run snakemake plan once to make the frames table")
    lines = csv.reader(io.StringIO(text, newline=""))
    if next(lines, None) != [part.name for part in fields(kind)]:
        raise ValueError(f"{path} is of another version: remove it and run snakemake plan")
    columns = [_column(part.type, column) for part, column in zip(fields(kind), zip(*lines, strict=True), strict=False)]
    return [kind(*values) for values in zip(*columns, strict=True)]


def _column(type_: str, texts: Iterable[str]) -> list:
    """Values of one column; an empty field is None where the type allows it."""
    plain = {"int": int, "float": float}.get(type_.split(" ")[0], str)
    if type_.endswith("None"):
        return [plain(text) if text else None for text in texts]
    return list(texts) if plain is str else list(map(plain, texts))


# `raw.scan` is looked up when it is called.
RAW = Book("frames", "rejected", lambda path: raw.scan(path), _said, _table, ())


# --- What was read from where ---------------------------------------------------------------------------------------
_REPORTED = (
    "kind", "time", "night", "target", "filter", "exposure", "temperature", "instrument", "binning", "readout",
    "gain_setting", "offset", "telescope", "focal_length", "rotator", "coordinates", "scale", "gain", "read_noise",
    "saturation", "bias_level", "trim", "overscan", "colours",
)  # fmt: skip
_NEEDS_LIGHT = {"target", "coordinates", "scale", "colours"}


def headers_report(results: str) -> str:
    """For people: which keyword gave what in how many frames, what nothing gave, notes, and rejected files."""
    table = read(results)
    files = _load(results, RAW)["files"]
    said = {row.path: files[row.path]["said"]["description"] for row in table.rows if row.path in files}
    lines = [f"{len(table.rows)} frames, {len(table.rejected)} files rejected"]
    silent = [name for name in _REPORTED if not any(_given(name, one) for one in said.values())]
    for name in (name for name in _REPORTED if name not in silent):
        lines += ["", name.replace("_", " "), *_sources(name, said)]
    if silent:
        lines += ["", f"nothing gave: {', '.join(silent).replace('_', ' ')}"]
    notes = defaultdict(list)
    for path, one in said.items():
        for note in one["notes"]:
            notes[note].append(path)
    lines += ["", "notes", *_grouped(notes)]
    reasons = defaultdict(list)
    for rejected in table.rejected:
        reasons[rejected.reason].append(rejected.path)
    return "\n".join([*lines, "", "rejected", *_grouped(reasons)]) + "\n"


def _sources(name: str, said: Mapping[str, Mapping]) -> list[str]:
    """One line for each keyword that gave a field, with its values where they are few, and one for "nothing"."""
    sources: dict[str, Counter] = defaultdict(Counter)
    for one in said.values():
        source = _given(name, one)
        if source is not None:
            keywords = re.findall(r"([A-Z0-9_-]+) = ", source)
            values = re.sub(r"[A-Z0-9_-]+ = ", "", source) if keywords else ""
            sources[", ".join(keywords) or source][values] += 1
        elif name not in _NEEDS_LIGHT or one["kind"] == "light":
            sources["nothing"][""] += 1
    ordered = sorted(sources.items(), key=lambda item: -item[1].total())
    return [f"{values.total():6d}  {keyword}{_values(values)}" for keyword, values in ordered]


def _given(name: str, one: Mapping) -> str | None:
    if name == "night" and one["time"] and not one["night"]:
        return "the longest gap of the day"
    return one["read_from"].get(name)


def _values(values: Counter) -> str:
    shown = [f"{value} ({count})" for value, count in values.most_common() if value]
    if not shown:
        return ""
    return ":  " + ", ".join(shown) if len(shown) <= 4 else f":  {len(shown)} values, such as {min(values)}"


def _grouped(groups: Mapping[str, list[str]]) -> list[str]:
    if not groups:
        return ["     0"]
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"{len(paths):6d}  {text}   e.g. {paths[0]}" for text, paths in ordered]
