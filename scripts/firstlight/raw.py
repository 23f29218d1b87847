"""Raw files: found, and read whatever their wrapping. The part of `io` that meets the world's FITS files.

A file that holds no usable image raises ValueError with one plain sentence; trouble of the machine is an OSError.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

from . import bayer
from .cards import parse
from .hdus import header_text, load, one_line, opened, units

READER = 3  # raised when the same file would give other pixels or another header text: makes caches be read anew
MARKER = ".firstlight"  # lies in a folder of results
DROPPED = "stands for a master that could not be made"
PRODUCTS = {"masters", "lights", "steps", "aligned", "stacks", "pictures"}
SUFFIX = re.compile(r"\.(fits|fit|fts)(\.gz|\.fz|\.bz2)?$", re.I)


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
        data, text, _ = load(path, first)
        return data, parse(text)[0]


def read_header(path: str) -> fits.Header:
    """The header that `read` would give, without reading the pixels."""
    with quiet(), opened(path) as file:
        return parse(header_text(file))[0]


def read_ready(path: str) -> tuple[np.ndarray, fits.Header, dict[str, np.ndarray]]:
    """A ready master as (data, header, images beside it of the same size by their names, such as UNCERT and MASK).

    UNCERT is one standard deviation, whichever kind of uncertainty the file holds. Raises ValueError as `read` does.
    """
    data, header = read(path, first=True)
    with quiet(), opened(path) as file:
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
    data, text, notes = load(path)
    ny, nx = data.shape
    finite = data.dtype.kind != "f" or bool(np.isfinite(data).any())
    if not finite:
        raise ValueError("no pixel of the image holds a number")
    first = data[0, 0]
    constant = float(first) if (data[0] == first).all() and (data == first).all() else None
    return Scan(text, nx, ny, pixel_hash(data), constant, notes, bayer.levels(data))


def scan_ready(path: str) -> Scan:
    """The same for a ready master: the first image is the master and `pixel_hash` is that of the file's bytes."""
    with opened(path) as file:
        said = next(units(file)).cards
    if any(card.startswith("FLSTATUS") for card in said):
        raise ValueError(DROPPED)
    data, text, notes = load(path, first=True)
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


def stamp(path: str) -> tuple[int, int] | None:
    """(size in bytes, time of change in ns) of a file, links followed; None where it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
