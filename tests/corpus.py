"""Bad input of every kind, made from one good light, each with what must become of it."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

BLOCK = 2880
TARGET = "Junk"  # of all lights that are made here: what can be used of them is a target of its own


@dataclass
class Corpus:
    """Bad files in a folder: for each, by its place there, the outcome (used, dropped, not needed; "" where it is not found at
    all) and a pattern of the reason."""

    folder: Path
    good: Path
    expected: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self):
        self.folder.mkdir()
        with fits.open(self.good) as parts:
            self.data, self.header = parts[0].data, parts[0].header
        self.header["OBJECT"] = TARGET
        self._number = 0

    def add(self, name: str, outcome: str, reason: str = "") -> Path:
        self.expected[name] = (outcome, reason)
        return self.folder / name

    def light(self, name: str, outcome: str, reason: str = "", data=None, **cards) -> Path:
        """The good light with another pixel each time, else it would be a copy; other data; other cards (None: without)."""
        path = self.add(name, outcome, reason)
        self._number += 1
        if data is None:
            data = self.data.copy()
            data[0, self._number] ^= 1
        header = self.header.copy()
        for card in ("BSCALE", "BZERO"):
            header.remove(card, ignore_missing=True)
        for key, value in cards.items():
            header.remove(key, ignore_missing=True)
            if value is not None:
                header[key] = value
        fits.writeto(path, data, header, output_verify="ignore")
        return path


def make(folder: Path, good: Path) -> dict[str, tuple[str, str]]:
    """All files; good is a raw light of uint16. Returns what is expected of each."""
    corpus = Corpus(folder, good)
    for family in (_cut, _no_files, _no_images, _images, _headers, _twins):
        family(corpus)
    return corpus.expected


def _cut(corpus: Corpus) -> None:
    whole = corpus.light("whole.fits", "used").read_bytes()
    corpus.add("empty.fits", "dropped", "the file is empty").write_bytes(b"")
    header = len(fits.Header.fromstring(whole).tostring())
    lengths = {
        "one_block": BLOCK,
        "header": header,
        "half": (header + len(whole)) // 2,
        "block_less": len(whole) - BLOCK,
    }
    for name, length in lengths.items():
        corpus.add(f"cut_{name}.fits", "dropped", "ends in the middle of its data").write_bytes(whole[:length])
    corpus.add("cut_in_header.fits", "dropped", "ends in the middle of its header").write_bytes(
        whole[: header // 2 + 7]
    )
    corpus.add("cut.fits.gz", "dropped", "damaged or ends too early").write_bytes(
        gzip.compress(whole)[: len(whole) // 4]
    )
    corpus.add("zeros.fits", "dropped", "not a FITS file").write_bytes(bytes(len(whole)))
    corpus.add("text.fits", "dropped", "not a FITS file").write_text("not an image\n")


def _no_files(corpus: Corpus) -> None:
    corpus.add("folder.fits", "").mkdir()
    corpus.add("nowhere.fits", "dropped", "a link to a file that is not there").symlink_to(corpus.folder / "nothing")
    corpus.add("loop.fits", "dropped", "a link to a file that is not there").symlink_to(corpus.folder / "loop.fits")
    os.mkfifo(corpus.add("pipe.fits", "dropped", "no file but a pipe"))


def _no_images(corpus: Corpus) -> None:
    fits.PrimaryHDU(header=corpus.header).writeto(corpus.add("no_data.fits", "dropped", "no image in this file"))
    cube = np.stack([corpus.data] * 3)
    corpus.light("cube.fits", "dropped", "a cube of 3 images", data=cube)
    images = [fits.PrimaryHDU(), *(fits.ImageHDU(corpus.data, corpus.header) for _ in range(2))]
    fits.HDUList(images).writeto(
        corpus.add("two_images.fits", "dropped", "2 images of the same size"), output_verify="ignore"
    )
    corpus.light("line.fits", "dropped", "not a picture: the image is of 384 pixels", data=corpus.data[0])
    corpus.light("colour.fits", "dropped", "colour sensor: nothing says how its colours lie", BAYERPAT="CYGM")


def _images(corpus: Corpus) -> None:
    data = corpus.data
    corpus.light("all_zero.fits", "dropped", "same value .0.", data=np.zeros_like(data))
    corpus.light("all_full.fits", "dropped", "same value .65535.", data=np.full_like(data, 65535))
    corpus.light(
        "all_nan.fits", "dropped", "no pixel of the image holds a number", data=np.full(data.shape, np.nan, np.float32)
    )
    some = data.astype(np.float32)
    some[:20] = np.nan
    corpus.light("some_nan.fits", "used", data=some)
    corpus.light("double.fits", "used", data=data.astype(">f8") + 0.25)
    corpus.light("signed.fits", "used", data=(data // 4).astype(np.int16))
    corpus.light("wide.fits", "used", data=data.astype(np.int32))
    path = corpus.add("compressed.fits.fz", "used")
    fits.CompImageHDU(data ^ 2, corpus.header, compression_type="RICE_1").writeto(path, output_verify="ignore")


def _headers(corpus: Corpus) -> None:
    for name, value in (("none", None), ("nonsense", "yesterday"), ("month_13", "2025-13-41T99:00:00")):
        corpus.light(f"date_{name}.fits", "used", **{"DATE-OBS": value})
    corpus.light("exposure_negative.fits", "used", EXPTIME=-60.0, EXPOSURE=None)  # not known
    corpus.light("place_unknown.fits", "used", RA="unknown", DEC="unknown", OBJCTRA=None, OBJCTDEC=None)
    corpus.light("many_cards.fits", "used", **{f"XTRA{number}": number for number in range(1000)})
    corpus.light("checksum.fits", "used", CHECKSUM="aaaaaaaaaaaaaaaa", DATASUM="1")
    _patched(corpus, "not_ascii.fits", b"SimCCD", b"S\xefmC\xe9D")
    _patched(corpus, "malformed.fits", b"OBJECT  =", b"OBJECT !=")


def _patched(corpus: Corpus, name: str, old: bytes, new: bytes) -> None:
    path = corpus.light(name, "used")
    content = path.read_bytes()
    assert old in content[: 5 * BLOCK] and len(old) == len(new)
    path.write_bytes(content.replace(old, new, 1))


def _twins(corpus: Corpus) -> None:
    first = corpus.light("twin.fits", "used")
    corpus.add("twin_again.fits", "not needed", "same pixels as").write_bytes(first.read_bytes())
    (corpus.folder / "other").mkdir()
    corpus.light("other/twin.fits", "used")
