"""Combining a pile of images pixel by pixel, with rejection, in a bounded amount of memory."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

METHODS = ("median", "average", "sum")
CLIPPINGS = ("sigclip", "extrema", "minmax", "none")
GOOD, POOR, ABSENT = 0, 1, 2
BYTES = 9  # of a pixel in a pile: float32 value, float32 sigma, uint8 flag
WORKING = 6  # copies of a strip that a combination needs at the most
CHUNK = 1 << 20  # bytes of values that are worked on at a time: what stays in a processor's cache
FEW = 1000  # pixels, for which the calls of a network cost more than an ordinary sort
MAD_TO_SIGMA = 1.482602218505602  # 1 / the third quartile of the normal distribution

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

    Held in memory while half of `memory` bytes allows (`expected` images are planned for), else in an unnamed scratch
    file; either way handed out in strips of rows that keep the other half.
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
        known = np.isfinite(data) & np.isfinite(sigma)
        if not known.all():  # a weight of 0 would not keep a NaN out of a sum
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
        height = max(int(self.memory / 2 / (WORKING * BYTES * max(self.count, 1) * nx)), 1)
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
        """Call work(where, values, sigma, flags) for all pixels, the arrays (n, m) so small that they stay in a processor's
        cache; where is their slice of a flattened image. Calls run at the same time in up to `threads` threads, and write
        what they find into their own slices: so the result does not depend on it."""
        with ThreadPoolExecutor(threads) as pool:
            for start, arrays in self._flat_strips():

                def one(part, start=start, arrays=arrays):
                    where = slice(start + part.start, start + part.stop)
                    work(where, *(np.stack([image[part] for image in images]) for images in arrays))

                # Threads take turns between calls of numpy: fewer and longer ones leave more to do side by side.
                parts = _chunks(self.count, len(arrays[0][0]), CHUNK if threads == 1 else 4 * CHUNK)
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

    def _fits(self, count: int) -> bool:
        return count * BYTES * self.shape[0] * self.shape[1] <= self.memory / 2

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


def combine(pile: Pile, *arguments, **options):
    """Data float32, sigma float32, count uint16, all (ny, nx), of a pile; arguments as `combine_observed`."""
    return combine_observed(pile, *arguments, **options)[:3]


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
):
    """Combine a pile.

    method      median, average (weighted), or sum (of n, scaled where pixels are missing)
    clip        sigclip: beyond low/high deviations of the median, where the deviation is the larger of the pixel's
                own sigma and the pile's scatter (1.4826 MAD); extrema: the nlow lowest and nhigh highest; minmax: values
                outside of [low, high] themselves; none. The names are those of ccdproc
    weights     one number per image
    scales      one number per image that its values and sigmas are multiplied by first
    beside      variance that is added to each value's own
    Returns data float32, sigma float32, count uint16, and two float32 more, all (ny, nx): the variance of the values that
    count about their mean, and that over the mean of their claimed variances, both times `chi_correction`, so that their
    medians over pixels are the truth for normal noise; NaN where fewer than two values count. Where nothing good is left
    the poor values stand, with count 0; NaN where no image has data.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r}: {', '.join(METHODS)}?")
    if clip not in CLIPPINGS:
        raise ValueError(f"clip {clip!r}: {', '.join(CLIPPINGS)}?")
    if clip == "minmax" and not low < high:
        raise ValueError(f"clip minmax keeps values from low to high, but low is {low} and high is {high}: set both")
    out = tuple(np.empty(pile.shape, kind) for kind in (np.float32, np.float32, np.uint16, np.float32, np.float32))
    w = np.ones(pile.count, np.float32) if weights is None else np.asarray(weights, np.float32)
    for rows, values, sigmas, flags in pile.strips():
        n = len(values)
        flat = [array.reshape(n, -1) for array in (values, sigmas, flags)]
        places = [array[rows].reshape(-1) for array in out]
        for part in _chunks(n, flat[0].shape[1]):
            v, s, f = (np.ascontiguousarray(array[:, part]) for array in flat)
            if scales is not None:
                by = np.asarray(scales, np.float32)[:, None]
                v, s = v * by, s * np.abs(by)
            if beside:
                s = np.sqrt(s**2 + np.float32(beside))
            good = reject(v, s, f == GOOD, clip, low, high, iterations, nlow, nhigh)
            pieces = (*merge(v, s, f, good, method, w), *_observed(v, s, good))
            for place, piece in zip(places, pieces, strict=True):
                place[part] = piece
    return out


def reject(values, sigmas, good, clip, low, high, iterations=3, nlow=0, nhigh=1) -> np.ndarray:
    """Which of the good values (n, ...) survive; see `combine`."""
    if clip == "none":
        return good
    if clip == "minmax":
        return good & (values >= np.float32(low)) & (values <= np.float32(high))
    n, shape = len(values), values.shape
    values, sigmas, good = (array.reshape(n, -1) for array in (values, sigmas, good))
    if clip == "extrema":
        return _without_ranks(values, good, nlow, nhigh).reshape(shape)
    return _sigma_clipped(values, sigmas, good, np.float32(low), np.float32(high), iterations).reshape(shape)


def merge(values, sigmas, flags, good, method: str, weights: np.ndarray):
    """Data, sigma, count (...) of the good values (n, ...).

    Sigma of an average: sqrt(sum w^2 sigma^2) / sum w; of a median: that of the plain mean times `median_factor`, for
    values of unequal sigma with their `typical_variance`.
    """
    n, shape = len(values), values.shape[1:]
    values, sigmas, flags, good = (array.reshape(n, -1) for array in (values, sigmas, flags, good))
    count = good.sum(axis=0, dtype=np.uint16)
    if not count.all():
        good = good | ((count == 0) & (flags < ABSENT))
    weights = weights if method == "average" else np.ones(n)
    # Image by image: the order of the additions, and so the last bit, must not depend on how the work is cut up.
    total, variance, mean = (np.zeros(values.shape[1]) for _ in range(3))
    for value, sigma, counts, weight in zip(values, sigmas, good, map(float, weights), strict=True):
        total += weight * counts
        variance += np.square(weight * sigma) * counts
        if method != "median":
            mean += weight * value * counts
    with np.errstate(invalid="ignore"):  # 0 / 0 where no image has data: NaN is the answer
        sigma = np.sqrt(variance) / total
        if method == "median":
            data = median(values, good)
            factor = median_factor(total)
            sigma *= np.sqrt(factor)
            low, high = np.where(good, sigmas, np.float32(np.inf)).min(axis=0), np.where(good, sigmas, 0).max(axis=0)
            uneven = np.flatnonzero((total > 2) & (high > np.float32(1.05) * low))
            if len(uneven):
                common = typical_variance(sigmas[:, uneven], good[:, uneven], factor[uneven])
                sigma[uneven] = np.sqrt(common * factor[uneven] / total[uneven])
        else:
            data = mean / total
    if method == "sum":
        data, sigma = data * n, sigma * n
    return data.astype(np.float32).reshape(shape), sigma.astype(np.float32).reshape(shape), count.reshape(shape)


def median(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Median over the first axis of the good values (n, ...); NaN where there is none."""
    n, shape = len(values), values.shape[1:]
    values, good = values.reshape(n, -1), good.reshape(n, -1)
    out = np.empty(values.shape[1], np.float32)
    for part in _chunks(n, len(out)):
        out[part] = _middle(values[:, part], good[:, part])
    return out.reshape(shape)


def sort(values: np.ndarray) -> np.ndarray:
    """Values (n, ...) in ascending order along the first axis, as float32; without NaN."""
    n, shape = len(values), values.shape
    values = values.reshape(n, -1)
    out = np.empty(values.shape, np.float32)
    for part in _chunks(n, values.shape[1]):
        for row, ordered in zip(out, _exchanged(np.array(values[:, part], np.float32), network(n)), strict=True):
            row[part] = ordered
    return out.reshape(shape)


@lru_cache(maxsize=256)
def network(n: int, wanted: tuple[int, ...] | None = None) -> tuple[tuple[int, int, bool, bool], ...]:
    """Comparisons (a, b, low, high) that put n values in order: the lower of a and b goes to a, the higher to b.

    Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M). Where only the values
    at the places `wanted` are of interest, comparisons that no wanted value depends on are left out, and low or high
    is False where that half of one is not needed.
    """
    pairs, p = [], 1
    while p < n:
        k = p
        while k:
            for j in range(k % p, n - k, 2 * k):
                for i in range(j, min(j + k, n - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        pairs.append((i, i + k))
            k //= 2
        p *= 2
    needed, used = set(range(n) if wanted is None else wanted), []
    for a, b in reversed(pairs):
        low, high = a in needed, b in needed
        if low or high:
            used.append((a, b, low, high))
            needed |= {a, b}
    return tuple(reversed(used))


def typical_variance(sigmas: np.ndarray, good: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The variance (m) which, if all good values (n, m) had it, would give their median the variance that it has.

    The variance of a median is 1 / (4 n^2 f^2), f the mean of the values' densities in the middle, here over the width v
    of the median itself: (n / sum 1 / sqrt(sigma^2 + v))^2 - v, v that of the harmonic mean of the sigmas. For sigmas that
    differ by a factor of 4 the sigma that follows is right within 1 % for 30 values and 4 % for 4, where their mean
    variance would be 27 % too large.
    """
    n = good.sum(axis=0)

    def mean(width):
        total = np.zeros(sigmas.shape[1])
        for sigma, counts in zip(sigmas, good, strict=True):
            total += counts / np.sqrt(np.square(sigma, dtype=float) + width)
        return np.square(n / total)

    with np.errstate(divide="ignore", invalid="ignore"):
        width = mean(0.0) * factor / n
        return np.maximum(mean(width) - width, 0)


def median_factor(n: np.ndarray) -> np.ndarray:
    """Variance of a median of n normal values over that of their mean; pi/2 for many."""
    n = np.asarray(n, int)
    beyond = np.pi / 2 - np.where(n % 2, 0.72, 2.1) / np.maximum(n, 1)
    last = len(MEDIAN_VARIANCE) - 1
    return np.where(n > last, beyond, np.take(MEDIAN_VARIANCE, np.minimum(n, last))).astype(np.float32)


@lru_cache(maxsize=8)
def chi_correction(most: int) -> np.ndarray:
    """By what the median of many sample variances of n = 0 ... `most` normal values is to be multiplied to be their true
    variance: (n - 1) over the median of chi-squared with n - 1 degrees of freedom; NaN for n < 2."""
    from scipy.special import gammaincinv

    freedom = np.arange(1, most)
    out = np.full(most + 1, np.nan, np.float32)
    out[2:] = freedom / (2 * gammaincinv(freedom / 2, 0.5))
    return out


def _chunks(n: int, pixels: int, size: int = 0):
    step = max((size or CHUNK) // (4 * max(n, 1)), 8192)  # less, and the calls cost more than the work
    for start in range(0, pixels, step):
        yield slice(start, min(start + step, pixels))


def _middle(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Median over the first axis of a chunk (n, m).

    Values that do not count become +inf and -inf in turns: then the middle stays in the middle, and only the two places
    there have to be found.
    """
    n, half = len(values), len(values) // 2
    planes = np.array(values, np.float32)
    odd = np.zeros(planes.shape[1], bool)
    for number in np.flatnonzero(~good.all(axis=1)):
        bad = np.flatnonzero(~good[number])
        planes[number, bad] = np.where(odd[bad], np.float32(-np.inf), np.float32(np.inf))
        odd[bad] ^= True
    few = planes.shape[1] < FEW
    ordered = np.sort(planes, axis=0) if few else _exchanged(planes, network(n, (max(half - 1, 0), half)))
    lower, upper = ordered[max(half - 1, 0)], ordered[half]
    with np.errstate(invalid="ignore"):  # inf - inf where nothing counts
        between = (lower + upper) / np.float32(2)
    out = np.where(odd, between, upper) if n % 2 else np.where(odd, lower, between)
    return np.where(np.isfinite(out), out, np.float32(np.nan))


def _exchanged(planes: np.ndarray, comparisons) -> list[np.ndarray]:
    """The planes (n, m) after the comparisons of a network; their memory is used."""
    rows, spare = list(planes), np.empty_like(planes[0])
    for a, b, low, high in comparisons:
        one, other = rows[a], rows[b]
        if low and high:
            np.minimum(one, other, out=spare)
            np.maximum(one, other, out=other)
            rows[a], spare = spare, one
        elif low:
            np.minimum(one, other, out=one)
        else:
            np.maximum(one, other, out=other)
    return rows


def _sigma_clipped(values, sigmas, good, low, high, iterations: int) -> np.ndarray:
    """Good values (n, m) after clipping; pixels in which nothing was rejected are not looked at again."""
    good = good.copy()
    todo = slice(None)
    for _ in range(iterations):
        v, s, g = values[:, todo], sigmas[:, todo], good[:, todo]
        distance = v - median(v, g)
        deviation = np.fmax(s, np.float32(MAD_TO_SIGMA) * median(np.abs(distance), g))
        kept = g & (distance <= high * deviation) & (distance >= -low * deviation)
        changed = (kept != g).any(axis=0)
        if not changed.any():
            break
        good[:, todo] = kept
        todo = np.flatnonzero(changed) if isinstance(todo, slice) else todo[changed]
    return good


def _without_ranks(values, good, nlow: int, nhigh: int) -> np.ndarray:
    """Good values (n, m) less the lowest and highest; all of them where no more than these are there."""
    enough = np.flatnonzero(good.sum(axis=0) > nlow + nhigh)
    left, v = good[:, enough], values[:, enough]
    columns = np.arange(len(enough))
    for _ in range(nlow):
        left[np.where(left, v, np.inf).argmin(axis=0), columns] = False
    for _ in range(nhigh):
        left[np.where(left, v, -np.inf).argmax(axis=0), columns] = False
    out = good.copy()
    out[:, enough] = left
    return out


def _observed(values, sigmas, good) -> tuple[np.ndarray, np.ndarray]:
    """Variance about the mean, and that over the claimed one, of a chunk (n, m); see `combine_observed`."""
    count = good.sum(axis=0)
    safe = np.maximum(count, 1)
    middle = values[0]  # differences from a value near the mean lose no digits
    first, second, claimed = (np.zeros(len(count)) for _ in range(3))
    for value, sigma, counts in zip(values, sigmas, good, strict=True):
        difference = (value - middle) * counts
        first += difference
        second += np.square(difference, out=difference)
        claimed += np.square(sigma) * counts
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.maximum(second - first**2 / safe, 0) / np.maximum(count - 1, 1)
        variance *= chi_correction(len(values))[count]
        ratio = variance / (claimed / safe)
    return variance.astype(np.float32), ratio.astype(np.float32)
