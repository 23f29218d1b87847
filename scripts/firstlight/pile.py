"""Combining a pile of images pixel by pixel, with rejection, in a bounded amount of memory."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from . import clipping, estimate, ordering
from .clipping import CLIPPINGS

METHODS = ("median", "average", "sum")
GOOD, POOR, ABSENT = 0, 1, 2
NOWHERE = np.zeros(0, int)
BYTES = 9  # of a pixel in a pile: float32 value, float32 sigma, uint8 flag
STRIP = 64e6  # bytes of a strip of images that is read from a scratch file at the most
BESIDE = 60  # bytes for each pixel of what else is in memory: what comes of a pile, images on their way to it


class Pile:
    """Images of one shape (ny, nx) with sigma and a flag: GOOD, POOR (counts only where nothing is good) or ABSENT.

    Held in memory while `memory` bytes allow (`expected` images are planned for), else in an unnamed scratch file and
    handed out in strips of rows; BESIDE bytes for each pixel of an image are left to the rest.
    """

    def __init__(self, shape: tuple[int, int], expected: int, memory: float = 1000e6):
        self.shape = shape
        self.memory = memory
        self._images = []
        self._places = []  # of the images in the scratch file, in units of an image
        self._file = None
        if not self._fits(expected):
            self._spill()

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self._places)

    def add(self, data: np.ndarray, sigma: np.ndarray, flags: np.ndarray) -> None:
        """Put one image on the pile; what is not a number is ABSENT. Raises ValueError for another shape."""
        if data.shape != self.shape:
            raise ValueError(f"image is {data.shape} but the pile holds {self.shape} (ny, nx)")
        with np.errstate(over="ignore", invalid="ignore"):
            certain = np.isfinite(data.sum() + sigma.sum())  # one that is not a number would show in the sum
        if not certain:
            known = np.isfinite(data) & np.isfinite(sigma)  # a weight of 0 would not keep a NaN out of a sum
            data, sigma, flags = np.where(known, data, 0), np.where(known, sigma, 0), np.where(known, flags, ABSENT)
        parts = tuple(
            np.ascontiguousarray(*part) for part in ((data, np.float32), (sigma, np.float32), (flags, np.uint8))
        )
        if self._file is None and not self._fits(self.count + 1):
            self._spill()
        place = max(self._places, default=-1) + 1
        if self._file is None:
            self._images.append(parts)
        else:
            self._write(place, parts)
        self._places.append(place)

    def image(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Data, sigma and flags (ny, nx) of one image, to look at only."""
        return self.part(number, slice(0, self.shape[0]))

    def part(self, number: int, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Data, sigma and flags (r, nx) of some rows of one image, to look at only."""
        if self._file is None:
            return tuple(part[rows] for part in self._images[number])
        shape = rows.stop - rows.start, self.shape[1]
        out = tuple(np.empty(shape, kind) for kind in (np.float32, np.float32, np.uint8))
        for part, array in enumerate(out):
            self._load(number, part, rows.start, array)
        return out

    def flag(self, number: int, flags: np.ndarray) -> None:
        """Give one image other flags (ny, nx)."""
        flags = np.ascontiguousarray(flags, np.uint8)
        if self._file is None:
            self._images[number] = (*self._images[number][:2], flags)
        else:
            ny, nx = self.shape
            self._file.seek((self._places[number] * BYTES + 8) * ny * nx)
            self._file.write(flags)

    def drop(self, numbers) -> None:
        """Take images off the pile; those above move down."""
        for number in sorted(set(numbers), reverse=True):
            del self._places[number]
            if self._file is None:
                del self._images[number]

    def strips(self):
        """Yield (rows, values, sigma, flags) over all strips of rows, the arrays (n, r, nx)."""
        ny, nx = self.shape
        size = min(STRIP, max(self._room, self.memory / 4) / 2)  # the next one is read before the last one is gone
        height = max(int(size / (BYTES * max(self.count, 1) * nx)), 1)
        for start in range(0, ny, height):
            rows = slice(start, min(start + height, ny))
            yield (rows, *self.read(rows))

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, sigma and flags of some rows of all images, each (n, r, nx)."""
        if self._file is None:
            return tuple(np.stack([image[part][rows] for image in self._images]) for part in range(3))
        shape = (self.count, rows.stop - rows.start, self.shape[1])
        out = (np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint8))
        for number in range(self.count):
            for part, array in enumerate(out):
                self._load(number, part, rows.start, array[number])
        return out

    def each(self, work, threads: int = 1) -> None:
        """Call work(where, values, sigmas, flags) for all pixels, each a list of the n images' parts (m), to look at only and
        so small that they stay in a processor's cache; where is their slice of a flattened image. Calls run at the same time
        in up to `threads` threads, and write what they find into their own slices: so the result does not depend on it."""
        with ThreadPoolExecutor(threads) as pool:
            for start, images in self._flat_strips():

                def one(part, start=start, images=images):
                    where = slice(start + part.start, start + part.stop)
                    work(where, *([image[part] for image in kind] for kind in images))

                # Threads take turns between calls of numpy: fewer and longer ones leave more to do side by side.
                size = ordering.CHUNK if threads == 1 else 4 * ordering.CHUNK
                parts = ordering.chunks(self.count, len(images[0][0]), size)
                for _ in (pool.map if threads > 1 else map)(one, parts):
                    pass  # an error of a thread is raised here

    def _flat_strips(self):
        """Yield (first pixel, arrays): values, sigmas and flags, each a list of the images' flat strips; not copied where
        the pile is in memory."""
        if self._file is None:
            yield 0, [[image[part].reshape(-1) for image in self._images] for part in range(3)]
            return
        for rows, *arrays in self.strips():
            yield rows.start * self.shape[1], [list(array.reshape(len(array), -1)) for array in arrays]

    def close(self) -> None:
        """Forget the images and remove the scratch file."""
        self._images, self._places = [], []
        if self._file is not None:
            self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def _room(self) -> float:
        """Bytes for images."""
        return self.memory - BESIDE * self.shape[0] * self.shape[1]

    def _fits(self, count: int) -> bool:
        return fits(self.shape, count, self.memory)

    def _spill(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="firstlight-")
        for place, parts in enumerate(self._images):
            self._write(place, parts)
        self._images, self._places = [], list(range(len(self._images)))

    def _write(self, place: int, parts) -> None:
        self._file.seek(place * BYTES * self.shape[0] * self.shape[1])
        for part in parts:
            self._file.write(part)

    def _load(self, number: int, part: int, row: int, array: np.ndarray) -> None:
        ny, nx = self.shape
        self._file.seek((self._places[number] * BYTES + 4 * part) * ny * nx + array.itemsize * row * nx)
        self._file.readinto(memoryview(array).cast("B"))


def fits(shape: tuple[int, int], count: float, memory: float, each: int = BYTES) -> bool:
    """Whether so many images of a shape (ny, nx), `each` bytes a pixel, have room in memory beside what comes of them."""
    return (count * each + BESIDE) * shape[0] * shape[1] <= memory


def flagged(flags: list[np.ndarray], further: np.ndarray = NOWHERE) -> np.ndarray:
    """The places where not all of the n parts (m) are GOOD, and further ones."""
    some = [part for part in flags if part.any()]
    if not some:
        return further
    seen = some[0].copy()
    for part in some[1:]:
        seen |= part
    seen[further] = POOR
    return np.flatnonzero(seen)


def at(parts: list[np.ndarray], places) -> np.ndarray:
    """The pixels of n parts (m) at some places: (n, p)."""
    return np.stack([part[places] for part in parts])


def combine(pile: Pile, *arguments, **options):
    """Data float32, sigma float32, count uint16, all (ny, nx), of a pile; arguments as `combine_observed`."""
    return combine_observed(pile, *arguments, **options, observed=False)


def combine_observed(
    pile: Pile,
    method="median",
    clip="sigclip",
    low=3.0,
    high=3.0,
    iterations=3,
    nlow=0,
    nhigh=1,
    weights=None,
    scales=None,
    beside=0.0,
    threads=1,
    observed=True,
):
    """Combine a pile.

    method      median, average (weighted), or sum (of n, scaled where pixels are missing)
    clip        sigclip: beyond low/high deviations of the median, where the deviation is the larger of the pixel's
                own sigma and the pile's scatter (1.4826 MAD); extrema: the nlow lowest and nhigh highest; minmax: values
                outside of [low, high] themselves; none. The names are those of ccdproc
    weights     one number per image
    scales      one number per image that its values and sigmas are multiplied by first
    beside      variance that is added to each value's own
    threads     parts that are worked on at a time; the result does not depend on it
    Returns data float32, sigma float32, count uint16, and, if `observed`, two float32 more, all (ny, nx): the variance of
    the values that count about their mean, and that over the mean of their claimed variances, both times `chi_correction`,
    so that their medians over pixels are the truth for normal noise; NaN where fewer than two values count. Where nothing
    good is left the poor values stand, with count 0; NaN where no image has data.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r}: {', '.join(METHODS)}?")
    if clip not in CLIPPINGS:
        raise ValueError(f"clip {clip!r}: {', '.join(CLIPPINGS)}?")
    if clip == "minmax" and not low < high:
        raise ValueError(f"clip minmax keeps values from low to high, but low is {low} and high is {high}: set both")
    kinds = (np.float32, np.float32, np.uint16, np.float32, np.float32)[: 5 if observed else 3]
    out = tuple(np.empty(pile.shape, kind) for kind in kinds)
    places = [image.reshape(-1) for image in out]
    w = np.ones(pile.count) if weights is None else np.asarray(weights, float)

    def work(where, values, sigmas, flags):
        values, sigmas = _brought(values, sigmas, scales, beside)
        spoilt = flagged(flags)
        found = clipping.suspects(values, sigmas, clip, low, high)
        if found is None:
            spoilt = slice(None)
        else:
            for place, piece in zip(places, _usual(values, sigmas, method, w, found.centre, observed), strict=True):
                place[where] = piece
            odd, v, s, good, _ = found.without(spoilt)
            if clip == "sigclip":
                good = clipping.clipped_again(v, s, good, low, high, iterations - 1)
            finish(where, odd, v, s, good, True)
        v, s, f = (at(parts, spoilt) for parts in (values, sigmas, flags))
        good = clipping.reject(v, s, f == GOOD, clip, low, high, iterations, nlow, nhigh)
        finish(where, spoilt, v, s, good, f < ABSENT)

    def finish(where, odd, v, s, good, otherwise):
        if v.size:
            pieces = estimate.of_good(v, s, good, otherwise, method, w)
            for place, piece in zip(
                places, (*pieces, *(estimate.observed(v, s, good) if observed else ())), strict=True
            ):
                place[where][odd] = piece

    pile.each(work, threads)
    return out


def _usual(values, sigmas, method, weights, centre, observed: bool) -> tuple:
    """The pieces (m) of a combination where all values count; centre (m) their median or None."""
    data, sigma = estimate.of_all(values, sigmas, method, weights, centre)
    more = estimate.observed_in_all(values, sigmas, values[0] if centre is None else centre) if observed else ()
    return data, sigma, len(values), *more


def _brought(values, sigmas, scales, beside: float):
    """Values and sigmas times their scales, with a variance beside their own."""
    if scales is not None:
        values = [value * np.float32(scale) for value, scale in zip(values, scales, strict=True)]
        sigmas = [sigma * np.float32(abs(scale)) for sigma, scale in zip(sigmas, scales, strict=True)]
    if beside:
        sigmas = [np.sqrt(np.square(sigma) + np.float32(beside)) for sigma in sigmas]
    return values, sigmas
