"""Combining a pile of images pixel by pixel, with rejection, in a bounded amount of memory."""

from __future__ import annotations

import tempfile

import numpy as np

METHODS = ("median", "average", "sum")
CLIPPINGS = ("sigclip", "extrema", "minmax", "none")
GOOD, POOR, ABSENT = 0, 1, 2
BYTES = 9  # of a pixel in a pile: float32 value, float32 sigma, uint8 flag
WORKING = 6  # copies of a strip that a combination needs at the most

# Variance of a median over that of a mean of n = 0, 1, 2 ... normal values (simulated, 4e6 draws each); even n average
# their two middle values and do better. Beyond, the distance to pi/2 falls as 1/n.
MEDIAN_VARIANCE = (
    1,
    1,
    1,
    1.347,
    1.193,
    1.436,
    1.288,
    1.475,
    1.345,
    1.497,
    1.385,
    1.508,
    1.410,
    1.517,
    1.430,
    1.525,
    1.446,
)


class Pile:
    """Images of one shape (ny, nx) with sigma and a flag: GOOD, POOR (counts only where nothing is good) or ABSENT.

    Held in memory while `memory` bytes allow, else in an unnamed scratch file; either way handed out in strips of rows.
    """

    def __init__(self, shape: tuple[int, int], expected: int, memory: float = 500e6):
        self.shape = shape
        self.memory = memory
        self.count = 0
        self._images = []
        fits_in = expected * BYTES * shape[0] * shape[1] <= memory / 2
        self._file = None if fits_in else tempfile.TemporaryFile(prefix="firstlight-")

    def add(self, data: np.ndarray, sigma: np.ndarray, flags: np.ndarray) -> None:
        """Put one image on the pile; what is not a number is ABSENT. Raises ValueError for another shape."""
        if data.shape != self.shape:
            raise ValueError(f"image is {data.shape} but the pile holds {self.shape} (ny, nx)")
        known = np.isfinite(data) & np.isfinite(sigma)
        if not known.all():  # a weight of 0 would not keep a NaN out of a sum
            data, sigma, flags = np.where(known, data, 0), np.where(known, sigma, 0), np.where(known, flags, ABSENT)
        parts = tuple(
            np.ascontiguousarray(*part) for part in ((data, np.float32), (sigma, np.float32), (flags, np.uint8))
        )
        if self._file is None:
            self._images.append(parts)
        else:
            for part in parts:
                self._file.write(part)
        self.count += 1

    def strips(self):
        """Yield (rows, values, sigma, flags) over all strips of rows, the arrays (n, r, nx)."""
        ny, nx = self.shape
        height = max(int(self.memory / 2 / (WORKING * BYTES * max(self.count, 1) * nx)), 1)
        for start in range(0, ny, height):
            rows = slice(start, min(start + height, ny))
            yield (rows, *self.read(rows))

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, sigma and flags of some rows of all images, each (n, r, nx)."""
        if self._file is None:
            return tuple(np.stack([image[part][rows] for image in self._images]) for part in range(3))
        ny, nx = self.shape
        shape = (self.count, rows.stop - rows.start, nx)
        out = (np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint8))
        for n in range(self.count):
            for array, first in zip(out, (0, 4 * ny * nx, 8 * ny * nx), strict=True):
                self._file.seek(n * BYTES * ny * nx + first + array.itemsize * rows.start * nx)
                self._file.readinto(memoryview(array[n]).cast("B"))
        return out

    def close(self) -> None:
        """Forget the images and remove the scratch file."""
        self._images = []
        if self._file is not None:
            self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def combine(
    pile: Pile, method="median", clip="sigclip", low=3.0, high=3.0, iterations=3, nlow=0, nhigh=1, weights=None
):
    """Combine a pile.

    method      median, average (weighted), or sum (of n, scaled where pixels are missing)
    clip        sigclip: beyond low/high deviations of the median, where the deviation is the larger of the pixel's
                own sigma and the pile's scatter (1.4826 MAD); minmax: the nlow lowest and nhigh highest; extrema: values
                outside of [low, high] themselves; none
    weights     one number per image
    Returns data float32, sigma float32, count uint16, all (ny, nx). Where nothing good is left the poor values stand,
    with count 0; NaN where no image has data.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r}: {', '.join(METHODS)}?")
    if clip not in CLIPPINGS:
        raise ValueError(f"clip {clip!r}: {', '.join(CLIPPINGS)}?")
    data = np.empty(pile.shape, np.float32)
    sigma = np.empty(pile.shape, np.float32)
    count = np.empty(pile.shape, np.uint16)
    w = np.ones(pile.count, np.float32) if weights is None else np.asarray(weights, np.float32)
    for rows, values, sigmas, flags in pile.strips():
        good = reject(values, sigmas, flags == GOOD, clip, low, high, iterations, nlow, nhigh)
        data[rows], sigma[rows], count[rows] = merge(values, sigmas, flags, good, method, w)
    return data, sigma, count


def reject(values, sigmas, good, clip, low, high, iterations=3, nlow=0, nhigh=1) -> np.ndarray:
    """The values (n, r, nx) that survive; see `combine`."""
    if clip == "none":
        return good
    if clip == "extrema":
        return good & (values >= low) & (values <= high)
    if clip == "minmax":
        return good & _within_ranks(values, good, nlow, nhigh)
    for _ in range(iterations):
        centre = median(values, good)
        distance = values - centre
        scatter = np.float32(1.4826) * median(np.abs(distance), good)
        deviation = np.fmax(sigmas, scatter)
        kept = good & (distance <= np.float32(high) * deviation) & (distance >= np.float32(-low) * deviation)
        if kept.sum() == good.sum():
            break
        good = kept
    return good


def merge(values, sigmas, flags, good, method: str, weights: np.ndarray):
    """Data, sigma, count (r, nx) of the good values (n, r, nx).

    Sigma of an average: sqrt(sum w^2 sigma^2) / sum w; of a median: that of the plain mean times `median_factor`.
    """
    count = good.sum(axis=0, dtype=np.uint16)
    good = good | ((count == 0) & (flags < ABSENT))
    n = good.sum(axis=0)
    w = np.where(good, weights[:, None, None] if method == "average" else np.float32(1), np.float32(0))
    total = w.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 where no image has data: NaN is the answer
        sigma = np.sqrt(np.einsum("nij,nij->ij", w * w, sigmas * sigmas)) / total
        if method == "median":
            data = median(values, good)
            sigma = sigma * np.sqrt(median_factor(n))
        else:
            data = np.einsum("nij,nij->ij", w, values) / total
    if method == "sum":
        data, sigma = data * len(values), sigma * len(values)
    return data, sigma, count


def median(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Median over the first axis of the good values; NaN where there is none."""
    n = good.sum(axis=0)
    ordered = np.sort(np.where(good, values, np.float32(np.inf)), axis=0)
    lower = np.take_along_axis(ordered, np.maximum((n - 1) // 2, 0)[None], axis=0)[0]
    upper = np.take_along_axis(ordered, np.minimum(n // 2, len(values) - 1)[None], axis=0)[0]
    return np.where(n > 0, (lower + upper) / 2, np.float32(np.nan)).astype(np.float32)


def median_factor(n: np.ndarray) -> np.ndarray:
    """Variance of a median of n normal values over that of their mean; pi/2 for many."""
    n = np.asarray(n, int)
    beyond = np.pi / 2 - np.where(n % 2, 0.72, 2.1) / np.maximum(n, 1)
    last = len(MEDIAN_VARIANCE) - 1
    return np.where(n > last, beyond, np.take(MEDIAN_VARIANCE, np.minimum(n, last))).astype(np.float32)


def _within_ranks(values, good, nlow: int, nhigh: int) -> np.ndarray:
    order = np.argsort(np.argsort(np.where(good, values, np.inf), axis=0), axis=0)
    n = good.sum(axis=0)
    enough = n > nlow + nhigh
    return ~enough | ((order >= nlow) & (order < n - nhigh))
