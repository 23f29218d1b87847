"""Values put in order: of a pile pixel by pixel, with what follows from it, the median and the median deviation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

CHUNK = 1 << 20  # bytes of values that are worked on at a time: what stays in a processor's cache
FEW = 1000  # pixels, for which the calls of a network cost more than an ordinary sort
MANY = 32  # values, beyond which an ordinary sort is quicker than a network


def median_of(values: np.ndarray, overwrite: bool = False) -> float:
    """Median of numbers, NaN of none; without NaN among them. Their memory is used if they may be overwritten.

    One place is found by partition, which is several times quicker than two (as numpy's median asks for): what lies below
    the upper middle has the lower one as its highest.
    """
    values = np.ravel(values) if overwrite else np.array(values).reshape(-1)
    half = len(values) // 2
    if not len(values):
        return float("nan")
    values.partition(half)
    upper = float(values[half])
    return upper if len(values) % 2 else (float(values[:half].max()) + upper) / 2


def chunks(n: int, pixels: int, size: int = CHUNK, least: int = 8192) -> Iterator[slice]:
    """Slices of so many pixels, `least` of them, that n float32 values of each take about `size` bytes.

    They are an odd number of lines of a processor's cache (16 values): columns of even ones would push each other out.
    """
    step = max(size // (4 * max(n, 1)), least)  # of few the calls cost more than the work
    step = (step // 16 | 1) * 16
    for start in range(0, pixels, step):
        yield slice(start, min(start + step, pixels))


def median(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Median over the first axis of the good values (n, ...); NaN where there is none."""
    n, shape = len(values), values.shape[1:]
    values, good = values.reshape(n, -1), good.reshape(n, -1)
    out = np.empty(values.shape[1], np.float32)
    for part in chunks(n, len(out)):
        out[part] = _middle_of_good(values[:, part], good[:, part])
    return out.reshape(shape)


def sort(values: np.ndarray) -> np.ndarray:
    """Values (n, ...) in ascending order along the first axis, as float32; without NaN."""
    n, shape = len(values), values.shape
    values = values.reshape(n, -1)
    out = np.empty(values.shape, np.float32)
    for part in chunks(n, values.shape[1]):
        for row, plane in zip(out, ordered(values[:, part]), strict=True):
            row[part] = plane
    return out.reshape(shape)


def ordered(values: Sequence[np.ndarray], wanted: tuple[int, ...] | None = None) -> list[np.ndarray]:
    """The n planes (m) of values in ascending order, float32; where only the places `wanted` are of interest the others
    may be anything."""
    n, pixels = len(values), len(values[0])
    if 1 < n <= MANY and pixels >= FEW:
        return _exchanged(values, network(n, wanted))
    planes = np.stack(values, dtype=np.float32, casting="same_kind")
    if pixels < FEW:
        return list(np.sort(planes, axis=0))
    if n > MANY:
        import cv2

        for part in chunks(n, pixels, CHUNK // 2, 1):
            turned = cv2.transpose(planes[:, part])
            turned.sort(axis=1)
            planes[:, part] = cv2.transpose(turned)
    return list(planes)


def middles(n: int) -> tuple[int, ...]:
    """The places of n values in order whose mean is the median."""
    return (n // 2,) if n % 2 or n < 2 else (n // 2 - 1, n // 2)


def middle(planes: list[np.ndarray]) -> np.ndarray:
    """Median (m) of n planes in order, in memory of its own."""
    *lower, upper = (planes[place] for place in middles(len(planes)))
    return (lower[0] + upper) / np.float32(2) if lower else upper.copy()


def deviation(planes: list[np.ndarray], centre: np.ndarray) -> np.ndarray:
    """Median (m) of the distances of n planes in order from a centre (m); the planes become what they lie above it.

    The k values next to a centre are neighbours in the order. So the k-th smallest distance is that of the farther end of
    k neighbours, where that is least.
    """
    for plane in planes:
        plane -= centre

    def smallest(k):
        out, spare = np.full_like(centre, np.inf), np.empty_like(centre)
        for lowest, highest in zip(planes, planes[k - 1 :], strict=False):
            np.negative(lowest, out=spare)
            np.maximum(spare, highest, out=spare)
            np.minimum(out, spare, out=out)
        return out

    *lower, upper = (smallest(place + 1) for place in middles(len(planes)))
    return (lower[0] + upper) / np.float32(2) if lower else upper


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


def _exchanged(values: Sequence[np.ndarray], comparisons) -> list[np.ndarray]:
    """n values (m), which stay as they are, after the comparisons of a network, in memory of their own, float32.

    Each comparison writes into planes that are free by then: so the values are read once, and not copied before.
    """
    n = len(values)
    rows, own = list(values), [False] * n
    free = list(np.empty((n + 2, len(values[0])), np.float32))
    for a, b, low, high in comparisons:
        one, other = rows[a], rows[b]
        if low:
            rows[a] = np.minimum(one, other, out=free.pop())
        if high:
            rows[b] = np.maximum(one, other, out=free.pop())
        for place, written, before in ((a, low, one), (b, high, other)):
            if written and own[place]:
                free.append(before)
            own[place] |= written
    return [row if mine else np.array(row, np.float32) for row, mine in zip(rows, own, strict=True)]


def _middle_of_good(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Median over the first axis of the good values of a chunk (n, m).

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
    planes = ordered(planes, (max(half - 1, 0), half))
    lower, upper = planes[max(half - 1, 0)], planes[half]
    with np.errstate(invalid="ignore"):  # inf - inf where nothing counts
        between = (lower + upper) / np.float32(2)
    out = np.where(odd, between, upper) if n % 2 else np.where(odd, lower, between)
    return np.where(np.isfinite(out), out, np.float32(np.nan))
