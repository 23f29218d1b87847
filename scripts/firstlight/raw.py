"""Raw files: found, opened, and read whatever their wrapping. The part of `io` that meets the world's FITS files.

A file that holds no usable image raises ValueError with one plain sentence; trouble of the machine is an OSError.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import math
import os
import re
import stat
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from astropy.io import fits

from . import bayer
from .dialects import Values, structural

READER = 3  # raised when the same file would give other pixels or another header text: makes caches be read anew
MARKER = ".firstlight"  # lies in a folder of results
DROPPED = "stands for a master that could not be made"
PRODUCTS = {"masters", "lights", "steps", "aligned", "stacks", "pictures"}
SUFFIX = re.compile(r"\.(fits|fit|fts)(\.gz|\.fz|\.bz2)?$", re.I)
BLOCK = 2880
MOST_BLOCKS = 4000  # 144,000 cards: beyond that it is not a header
CHUNK = 1 << 24
LARGEST = 1 << 42  # bytes: no file is that long, and beyond 16 TB some file systems cannot even seek


# --- Finding --------------------------------------------------------------------------------------------------------
def find(raw: str | Iterable[str], exclude: Iterable[str] = ()) -> list[str]:
    """Paths of all FITS files in one or several folders and below, sorted, by their suffix in any case.

    Left out: folders of results, hidden folders, and those in `exclude`. Links to folders are followed once, after
    all that is reached without them. A folder that cannot be listed stands in the list itself, to be reported.
    Raises ValueError where a raw folder does not exist.
    """
    roots = [raw] if isinstance(raw, (str, os.PathLike)) else list(raw)
    seen = {_identity(path) for path in exclude if os.path.exists(path)}
    found: set[str] = set()
    links: list[str] = []
    for root in map(os.fspath, roots):
        if os.path.isfile(root):
            found.add(root)
        elif not os.path.isdir(root):
            raise ValueError(f"the raw folder {root} does not exist: set raw: to the folder of your frames")
        elif _identity(root) not in seen:
            own_results = os.path.lexists(os.path.join(root, MARKER))
            _search(root, found, links, seen, skip=PRODUCTS if own_results else ())
    while links:
        link = links.pop(0)
        if _identity(link) not in seen and not os.path.lexists(os.path.join(link, MARKER)):
            _search(link, found, links, seen)
    return sorted(found)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _search(folder: str, found: set[str], links: list[str], seen: set, skip: Iterable[str] = ()) -> None:
    """Add the FITS files of a folder and of the real folders below to `found`, links to folders to `links`."""
    todo = [(folder, skip)]
    while todo:
        folder, skip = todo.pop()
        if _identity(folder) in seen:
            continue
        seen.add(_identity(folder))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            found.add(folder)
            continue
        for entry in entries:
            if not _is_folder(entry):
                if SUFFIX.search(entry.name):
                    found.add(entry.path)
            elif entry.name.startswith(".") or entry.name in skip:
                continue
            elif entry.is_symlink():
                links.append(entry.path)
            elif not os.path.lexists(os.path.join(entry.path, MARKER)):
                todo.append((entry.path, ()))


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads back to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def find_ready(places: Iterable[str], exclude: Iterable[str] = ()) -> list[str]:
    """Paths of all FITS files among files and folders of ready masters and below, sorted.

    Of a folder of results only its masters count. Left out: hidden folders and those in `exclude`, links to folders
    but for the places themselves. Raises ValueError where a place does not exist.
    """
    seen = {_identity(path) for path in exclude if os.path.exists(path)}
    found: set[str] = set()
    for place in map(os.fspath, places):
        if os.path.isfile(place):
            found.add(place)
        elif not os.path.isdir(place):
            raise ValueError(f"{place} does not exist: masters: names files or folders of ready masters")
        for folder, folders, files in os.walk(place):
            own = os.path.lexists(os.path.join(folder, MARKER))
            kept = [name for name in folders if (name == "masters" if own else not name.startswith("."))]
            folders[:] = [name for name in kept if _identity(os.path.join(folder, name)) not in seen]
            if not own:
                found |= {os.path.join(folder, name) for name in files if SUFFIX.search(name)}
    return sorted(found)


def stem(path: str) -> str:
    """The file's name without folders and FITS suffixes: 'Light_1' for 'a/Light_1.fits.fz'."""
    return SUFFIX.sub("", os.path.basename(path))


def unpacked(path: str) -> bool:
    """True for a file that is not compressed, by its name."""
    match = SUFFIX.search(path)
    return match is not None and match.group(2) is None


# --- Reading --------------------------------------------------------------------------------------------------------
@dataclass
class Scan:
    """What the frames table needs of one file: header as text, size, hash of the pixels, oddities."""

    text: str
    nx: int
    ny: int
    pixel_hash: str
    constant: float | None = None  # the value, where all pixels have the same
    notes: list[str] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)  # of the sites of a mosaic, see `bayer.levels`


class Changed(OSError):
    """A raw file is not what it was when the run began."""

    def __init__(self, path, why=""):
        super().__init__(f"{path} has changed since this run began{why}: say the same again, and it is looked at anew")


def read(path: str, first: bool = False) -> tuple[np.ndarray, fits.Header]:
    """The image of a raw file as (data, header): native byte order, (ny, nx), BSCALE and BZERO applied.

    uint16 stays uint16, signed stays signed, float stays float; integers with BLANK pixels become float with NaN.
    The header has no cards that describe the storage, no malformed cards, and those of the primary header that the
    image's own lacks. Raises ValueError, in a plain sentence, where there is no single image to read; with `first` the
    others belong to the first one, as sigma and mask do.
    """
    with quiet():
        data, text, _ = _load(path, first)
        return data, parse(text)[0]


def read_header(path: str) -> fits.Header:
    """The header that `read` would give, without reading the pixels."""
    with quiet(), _opened(path) as file:
        units = list(_units(file))
        unit = _choose(units)[0]
        return parse(_inherited(unit, units[0]))[0]


def read_ready(path: str) -> tuple[np.ndarray, fits.Header, dict[str, np.ndarray]]:
    """A ready master as (data, header, images beside it of the same size by their names, such as UNCERT and MASK).

    UNCERT is one standard deviation, whichever kind of uncertainty the file holds. Raises ValueError as `read` does.
    """
    data, header = read(path, first=True)
    with quiet(), _opened(path) as file:
        try:
            return data, header, _beside(file, data.shape)
        except Exception as error:  # astropy raises many types for damaged units
            raise ValueError(f"what the file holds beside the image cannot be read: {one_line(error)}") from error


def _beside(file, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """The further images of a file that have this shape, by their names."""
    found = {}
    with fits.open(file, mode="readonly", memmap=False, checksum=False) as hdus:
        for hdu in hdus[1:]:
            if hdu.is_image and hdu.name and hdu.data is not None and hdu.data.shape == shape:
                values = np.array(hdu.data, hdu.data.dtype.newbyteorder("="))
                found.setdefault(hdu.name, _deviation(values, hdu) if hdu.name == "UNCERT" else values)
    return found


def _deviation(values: np.ndarray, hdu) -> np.ndarray:
    """One standard deviation from what UTYPE, as astropy's CCDData writes it, calls the values."""
    kind = str(hdu.header.get("UTYPE", ""))
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "VarianceUncertainty":
            return np.sqrt(values)
        return 1 / np.sqrt(values) if kind == "InverseVariance" else values


def scan(path: str) -> Scan:
    """Read a file for the frames table. Safe in threads, but wants `quiet()` around all of them."""
    data, text, notes = _load(path)
    ny, nx = data.shape
    finite = data.dtype.kind != "f" or bool(np.isfinite(data).any())
    if not finite:
        raise ValueError("no pixel of the image holds a number")
    first = data[0, 0]
    constant = float(first) if (data[0] == first).all() and (data == first).all() else None
    return Scan(text, nx, ny, pixel_hash(data), constant, notes, bayer.levels(data))


def scan_ready(path: str) -> Scan:
    """The same for a ready master: the first image is the master and `pixel_hash` is that of the file's bytes."""
    with _opened(path) as file:
        said = next(iter(_units(file))).cards
    if any(card.startswith("FLSTATUS") for card in said):
        raise ValueError(DROPPED)
    data, text, notes = _load(path, first=True)
    ny, nx = data.shape
    first = data[0, 0]
    constant = float(first) if (data == first).all() else None
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return Scan(text, nx, ny, digest, constant, notes)


def pixel_hash(data: np.ndarray) -> str:
    """32 hex digits of shape, type and values; the same for a compressed copy of the same image."""
    plain = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
    digest = hashlib.blake2b(f"{data.shape} {plain.dtype.str}".encode(), digest_size=16)
    digest.update(memoryview(plain).cast("B"))
    return digest.hexdigest()


@contextmanager
def quiet():
    """No warnings of astropy about headers that do not follow the standard: what matters becomes a note."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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


_structural = cache(structural)  # the same few hundred keywords in every file
REMARKS = ("COMMENT", "HISTORY", "")
# A card as the standard wants it; anything else is left to astropy, which knows the ways of the world.
_CARD = re.compile(
    r"([A-Z0-9_-]{1,8}) *= *(?:'((?:[^']|'')*)'|([TF])|([-+]?\d+)|([-+]?(?:\d+\.\d*|\.?\d+)(?:[EeDd][-+]?\d+)?))"
    r" *(?:/ *(.*))?"
)


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


# --- Files and their units ------------------------------------------------------------------------------------------
@dataclass
class _Unit:
    """One header and data unit: where it lies and what its structural cards say."""

    index: int
    cards: list[str]
    raw: bytes
    start: int  # of the data, bytes into the file
    structure: dict[str, str]

    def number(self, key: str, default: float = 0):
        text = self.structure.get(key)
        try:
            number = default if text is None else float(text.replace("D", "E"))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"the header's {key} = {text} is not a number")
        return number

    def axes(self, prefix: str = "") -> list[int]:
        """Lengths of the axes as numpy counts them, the slowest first."""
        count = int(self.number(f"{prefix}NAXIS"))
        if not 0 <= count <= 999:
            raise ValueError(f"the header's {prefix}NAXIS = {count} is not a number of axes")
        axes = [int(self.number(f"{prefix}NAXIS{i}", -1)) for i in range(count, 0, -1)]
        if any(axis < 0 for axis in axes):
            raise ValueError(f"the header does not give the length of all of its {count} axes")
        return axes

    @property
    def bits(self) -> int:
        return int(self.number("BITPIX"))

    @property
    def size(self) -> int:
        """Bytes of data, without the padding."""
        axes = self.axes()
        if not axes:
            return 0
        if axes[-1] == 0 and self.structure.get("GROUPS") == "T":
            axes = axes[:-1]
        return (
            abs(self.bits)
            // 8
            * int(self.number("GCOUNT", 1))
            * (int(self.number("PCOUNT")) + int(np.prod(axes, dtype=object)))
        )

    @property
    def compressed(self) -> bool:
        return self.structure.get("ZIMAGE") == "T"

    @property
    def is_table(self) -> bool:
        return self.structure.get("XTENSION", "").strip("' ") not in ("", "IMAGE", "IUEIMAGE")

    def image(self) -> list[int] | None:
        """Lengths of the image's axes without those of one pixel beyond the first two; None where it is no image."""
        if self.is_table and not self.compressed:
            return None
        axes = self.axes("Z" if self.compressed else "")
        while len(axes) > 2 and 1 in axes:
            axes.remove(1)
        return axes


_STRUCTURAL_CARD = re.compile(
    r"(SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|DATASUM|CHECKSUM|Z(?:IMAGE|NAXIS\d*))"
    r" *= *('[^']*'|[^ /]+)"
)


@contextmanager
def _opened(path: str):
    """A file object of the FITS bytes, gzip and bzip2 undone (by their first bytes, not by the name)."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        os.listdir(path)  # says why it could not be searched
        raise ValueError("this is a folder")
    if not stat.S_ISREG(mode):  # to open a pipe would be to wait for who writes to it
        raise ValueError("this is no file but a pipe or a device")
    with open(path, "rb") as file:
        start = file.read(64)
        _refuse(Path(path).name, start)
        file.seek(0)
        try:
            if start.startswith(b"\x1f\x8b"):
                yield gzip.GzipFile(fileobj=file)
            elif start.startswith(b"BZh"):
                yield bz2.BZ2File(file)
            else:
                yield file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"the compressed file is damaged or ends too early ({error})") from error
        except OSError as error:
            if error.errno is None:  # bz2's way to say that the data are bad
                raise ValueError(f"the compressed file is damaged ({error})") from error
            raise


def _refuse(name: str, start: bytes) -> None:
    """Raise ValueError for what is commonly found in the place of a FITS file."""
    if not start:
        raise ValueError("the file is empty")
    if name.startswith("._") or start.startswith(b"\x00\x05\x16\x07"):
        raise ValueError("a resource fork written by macOS, not an image")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("a pointer file of Git LFS in place of the data: fetch the real file")
    if b"annex/objects" in start:
        raise ValueError("a pointer file of git-annex in place of the data: fetch the real file")
    if not start.startswith((b"SIMPLE", b"\x1f\x8b", b"BZh")):
        raise ValueError(f"not a FITS file: it begins with {start[:16]!r}")


def _units(file) -> Iterator[_Unit]:
    """The header and data units of a file, in turn; what follows the last whole one is left alone."""
    position = 0
    for index in range(1000):
        file.seek(position)
        start = file.read(8)
        if not start.startswith(b"XTENSION" if index else b"SIMPLE"):
            if not index:
                raise ValueError(f"not a FITS file: it begins with {start!r}")
            return
        file.seek(position)
        cards, raw = _header_cards(file)
        if cards is None:
            if index:  # a later unit is cut off: the image may well be whole
                return
            raise ValueError(f"the file ends in the middle of its header, after {len(raw)} bytes")
        unit = _Unit(index, cards, raw, position + len(raw), _structure(cards))
        yield unit
        position = unit.start + -(-unit.size // BLOCK) * BLOCK
        if not unit.start <= position < LARGEST:  # nonsense in the header; what is read of this unit will tell
            return


def _header_cards(file) -> tuple[list[str] | None, bytes]:
    """(cards without END, all bytes read); no cards where the file ends before END."""
    cards, raw = [], b""
    for _ in range(MOST_BLOCKS):
        block = file.read(BLOCK)
        raw += block
        text = _ascii(block)
        for i in range(0, len(text), 80):
            card = text[i : i + 80]
            if card.rstrip() == "END":
                return cards, raw
            cards.append(card)
        if len(block) < BLOCK:
            return None, raw
    raise ValueError(f"the header has no END in its first {len(raw)} bytes")


_TABLE = bytes(b if 32 <= b < 127 else (32 if b in (0, 9, 10, 13) else 63) for b in range(256))


def _ascii(block: bytes) -> str:
    """Text of a header block: only printable ASCII is allowed there, the rest becomes blanks or question marks."""
    return block.translate(_TABLE).decode("ascii")


def _structure(cards: list[str]) -> dict[str, str]:
    matches = filter(None, map(_STRUCTURAL_CARD.match, cards))
    found: dict[str, str] = {}
    for match in matches:
        found.setdefault(match.group(1), match.group(2))
    return found


def _choose(units: list[_Unit], first: bool = False) -> tuple[_Unit, list[str]]:
    """(the unit with the frame, notes). Raises ValueError where there is none, or, unless `first`, more than one to choose
    from."""
    images = []
    for unit in units:
        axes = unit.image()
        if unit.structure.get("GROUPS") == "T" and axes and axes[-1] == 0:
            raise ValueError("random groups (radio data), not an image")
        if axes:
            images.append((unit, axes))
    if not images:
        tables = any(unit.is_table for unit in units)
        raise ValueError("no image in this file, only a table" if tables else "no image in this file, only a header")
    unit, axes = images[0]
    _check_axes(axes)
    if first or any(
        card.startswith("FLVERS") for card in unit.cards
    ):  # a product's image comes before what belongs to it
        return unit, []
    fellows = [other for other, size in images[1:] if size == axes and other.bits == unit.bits]
    if fellows:
        raise ValueError(f"{len(fellows) + 1} images of the same size in one file: which one is the frame is not known")
    more = len(images) - 1
    return unit, [f"the first of {more + 1} images in the file is taken"] if more else []


def _check_axes(axes: list[int]) -> None:
    size = "x".join(map(str, reversed(axes)))
    if 0 in axes:
        raise ValueError(f"the image has no pixels ({size})")
    if len(axes) > 2:
        raise ValueError(f"a cube of {int(np.prod(axes[:-2]))} images ({size}), not a single frame")
    if len(axes) < 2 or min(axes) < 2:
        raise ValueError(f"not a picture: the image is of {size} pixels")


def _load(path: str, first: bool = False) -> tuple[np.ndarray, str, list[str]]:
    """(pixels, header text, notes) of the frame in a file."""
    with _opened(path) as file:
        units = list(_units(file))
        unit, notes = _choose(units, first)
        stored = _stored(file, unit)
        notes += _checksums(unit, stored)
        text = _inherited(unit, units[0])
        data = _decompressed(file, unit) if unit.compressed else _decoded(unit, stored)
    return data, text, notes


def _stored(file, unit: _Unit) -> bytes:
    """The bytes of a unit's data; never asks for memory that the file cannot fill."""
    if unit.size < 0:
        raise ValueError("the header's PCOUNT or GCOUNT is negative: it is damaged")
    file.seek(unit.start)
    parts, missing = [], unit.size
    while missing:
        part = file.read(min(missing, CHUNK))
        if not part:
            raise ValueError(f"the file ends in the middle of its data: {unit.size - missing} of {unit.size} bytes")
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


def _decoded(unit: _Unit, stored: bytes) -> np.ndarray:
    """Pixels (ny, nx) = BZERO + BSCALE x stored value, in native byte order."""
    if unit.bits not in _TYPES:
        raise ValueError(f"BITPIX = {unit.bits} is not one of {', '.join(map(str, _TYPES))}")
    axes = unit.image()
    count = int(np.prod(axes, dtype=object))
    if count * abs(unit.bits) // 8 > len(stored):
        raise ValueError(f"PCOUNT or GCOUNT leave {len(stored)} bytes for {count} pixels: the header is damaged")
    big = np.frombuffer(stored, _TYPES[unit.bits], count).reshape(axes)
    data = big.astype(big.dtype.newbyteorder("="))
    scale, zero = unit.number("BSCALE", 1), unit.number("BZERO")
    blank = _blank(unit, data)
    if scale == 1 and zero == 2.0 ** (unit.bits - 1) and unit.bits in (16, 32, 64):
        data = data.view(f"u{unit.bits // 8}")
        data ^= data.dtype.type(1 << (unit.bits - 1))
    elif scale != 1 or zero != 0:
        # The arithmetic of astropy, so that a compressed copy has the same pixels to the last bit.
        data = data.astype(np.float32 if abs(unit.bits) <= 32 and unit.bits != 32 else np.float64)
        data *= scale
        data += zero
    if blank is not None:
        data = data.astype(np.float32 if unit.bits <= 16 else np.float64)
        data[blank] = np.nan
    return data


def _blank(unit: _Unit, data: np.ndarray) -> np.ndarray | None:
    """Where integers are marked as undefined (BLANK counts before scaling); None where none is."""
    if data.dtype.kind == "f" or "BLANK" not in unit.structure:
        return None
    blank = data == int(unit.number("BLANK"))
    return blank if blank.any() else None


def _decompressed(file, unit: _Unit) -> np.ndarray:
    """Pixels of a tile-compressed image, which astropy knows how to unpack."""
    file.seek(0)
    try:
        with fits.open(file, mode="readonly", memmap=False, checksum=False) as hdus:
            data = hdus[unit.index].data
            return np.array(data, data.dtype.newbyteorder("=")).reshape(unit.image())
    except Exception as error:  # astropy and its codecs raise many types for damaged tiles
        raise ValueError(f"the compressed image cannot be unpacked: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """What an error of another program says, or its name where it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _inherited(unit: _Unit, primary: _Unit) -> str:
    """Header text of the image, with the primary header's cards that it lacks."""
    cards = list(unit.cards)
    if unit.index:
        own = {_name(card) for card in cards}
        wanted = False
        for card in primary.cards:
            if not card.startswith("CONTINUE"):  # a long value stays with its keyword
                name = _name(card)
                wanted = name not in own and name not in ("COMMENT", "HISTORY", "") and not structural(name)
            if wanted:
                cards.append(card)
    return "\n".join(card.rstrip() for card in cards if card.strip())


def _name(card: str) -> str:
    return card.partition("=")[0].strip() if card.startswith("HIERARCH") else card[:8].strip()


# --- Checksums ------------------------------------------------------------------------------------------------------
def _checksums(unit: _Unit, stored: bytes) -> list[str]:
    """Notes where DATASUM or CHECKSUM do not fit: the frame is used all the same, many programs leave stale ones."""
    said = unit.structure.get("DATASUM", "").strip("' ")
    whole = unit.structure.get("CHECKSUM", "").strip("' ")
    if not (said.isdigit() or whole):
        return []
    total = _ones_sum(stored)
    if said.isdigit() and int(said) != total:
        return ["DATASUM does not fit the data: changed since it was written"]
    if whole and _ones_sum(unit.raw, total) not in (0, 0xFFFFFFFF):
        return ["CHECKSUM does not fit the file: changed since it was written"]
    return []


def _ones_sum(data: bytes, start: int = 0) -> int:
    """Sum of 32-bit words with the carry brought round (FITS standard 4.0, appendix J)."""
    whole = len(data) // 4 * 4
    total = start + int(np.frombuffer(data, ">u4", whole // 4).sum(dtype=np.uint64))
    if whole < len(data):
        total += int.from_bytes(data[whole:].ljust(4, b"\0"), "big")
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


# --- The table's own files ------------------------------------------------------------------------------------------
def read_text(path: str) -> str | None:
    """The text of a file, None where there is none. File names that are not UTF-8 survive the way there and back."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def can_write(path: str) -> bool:
    """Whether a file can be written, which is empty then."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w"):
            return True
    except OSError:
        return False


def remove_empty(path: str, also_filled: bool = False) -> None:
    """Remove a file in which there is nothing, or also one in which there is something."""
    try:
        if also_filled or os.path.getsize(path) == 0:
            os.remove(path)
    except OSError:
        pass


def write_text(path: str, text: str) -> bool:
    """Write a file whole or not at all, and only if its content changes; True where it was written."""
    if read_text(path) == text:
        return False
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    beside = f"{path}.{os.getpid()}.tmp"
    try:
        with open(beside, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
        os.replace(beside, path)
    finally:
        if os.path.exists(beside):
            os.remove(beside)
    return True


def stamp(path: str) -> tuple[int, int] | None:
    """(size in bytes, time of change in ns) of a file, links followed; None where it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
