"""FITS files as the world writes them: their header and data units, and which of them is the frame.

What holds no usable image raises ValueError with one plain sentence; trouble of the machine is an OSError.
"""

from __future__ import annotations

import bz2
import gzip
import math
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from .dialects import structural

BLOCK = 2880
MOST_BLOCKS = 4000  # 144,000 cards: beyond that it is not a header
CHUNK = 1 << 24
LARGEST = 1 << 42  # bytes: no file is that long, and beyond 16 TB some file systems cannot even seek


@dataclass
class Unit:
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
def opened(path: str):
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


def units(file) -> Iterator[Unit]:
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
        unit = Unit(index, cards, raw, position + len(raw), _structure(cards))
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


def _choose(found: list[Unit], first: bool = False) -> tuple[Unit, list[str]]:
    """(the unit with the frame, notes). Raises ValueError where there is none, or, unless `first`, more than one to choose
    from."""
    images = []
    for unit in found:
        axes = unit.image()
        if unit.structure.get("GROUPS") == "T" and axes and axes[-1] == 0:
            raise ValueError("random groups (radio data), not an image")
        if axes:
            images.append((unit, axes))
    if not images:
        tables = any(unit.is_table for unit in found)
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


def header_text(file) -> str:
    """The header of the frame in an open file, see `load`."""
    found = list(units(file))
    return _inherited(_choose(found)[0], found[0])


def load(path: str, first: bool = False) -> tuple[np.ndarray, str, list[str]]:
    """(pixels, header text, notes) of the frame in a file."""
    with opened(path) as file:
        found = list(units(file))
        unit, notes = _choose(found, first)
        stored = _stored(file, unit)
        notes += _checksums(unit, stored)
        text = _inherited(unit, found[0])
        data = _decompressed(file, unit) if unit.compressed else _decoded(unit, stored)
    return data, text, notes


def _stored(file, unit: Unit) -> bytes:
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


def _decoded(unit: Unit, stored: bytes) -> np.ndarray:
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


def _blank(unit: Unit, data: np.ndarray) -> np.ndarray | None:
    """Where integers are marked as undefined (BLANK counts before scaling); None where none is."""
    if data.dtype.kind == "f" or "BLANK" not in unit.structure:
        return None
    blank = data == int(unit.number("BLANK"))
    return blank if blank.any() else None


def _decompressed(file, unit: Unit) -> np.ndarray:
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


def _inherited(unit: Unit, primary: Unit) -> str:
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
def _checksums(unit: Unit, stored: bytes) -> list[str]:
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
