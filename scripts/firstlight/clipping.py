"""Rejection of values pixel by pixel: what is beyond limits of the pile's own scatter, of ranks, or of the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from . import ordering

CLIPPINGS = ("sigclip", "extrema", "minmax", "none")
MAD_TO_SIGMA = 1.482602218505602  # 1 / the third quartile of the normal distribution
MOST_EMPTIED = 0.01  # share of pixels that may lose all values before it is told


def reject(values, sigmas, good, clip, low, high, iterations=3, nlow=0, nhigh=1) -> np.ndarray:
    """Which of the good values (n, ...) survive; see `pile.combine`."""
    if clip == "none":
        return good
    if clip == "minmax":
        return good & (values >= np.float32(low)) & (values <= np.float32(high))
    n, shape = len(values), values.shape
    values, sigmas, good = (array.reshape(n, -1) for array in (values, sigmas, good))
    if clip == "extrema":
        return _without_ranks(values, good, nlow, nhigh).reshape(shape)
    return clipped_again(values, sigmas, good, low, high, iterations).reshape(shape)


class Suspects(NamedTuple):
    """Pixels in which something is rejected of n values (m) that are all good.

    places  (p) of them; values, sigmas  (n, p) there
    kept    (n, p), which are left, of sigclip after its first round
    centre  (m), the median of the values in all pixels, None where it was not needed
    """

    places: np.ndarray
    values: np.ndarray
    sigmas: np.ndarray
    kept: np.ndarray
    centre: np.ndarray | None

    def without(self, places: np.ndarray) -> Suspects:
        """Those that are not among some other places."""
        left = np.isin(self.places, places, invert=True)
        if left.all():
            return self
        return Suspects(self.places[left], *(part[:, left] for part in self[1:4]), self.centre)


def doubts(clip: str, count: int, ranks: int, emptied: np.ndarray) -> list[str]:
    """What is to be said of a rejection that did nothing, or took all: sentences, none of one that works.

    count, ranks  images, and how many of them extrema leaves out
    emptied       bool (ny, nx), pixels all of whose values were rejected
    """
    said = []
    if clip == "extrema" and count <= ranks:
        said.append(f"clip extrema rejected nothing: nlow + nhigh are {ranks}, of {count} frames")
    if (share := float(np.mean(emptied))) > MOST_EMPTIED:
        said.append(f"clip {clip} rejected all values of {share:.0%} of the pixels: are low and high right?")
    return said


def suspects(values: Sequence, sigmas: Sequence, clip: str, low: float, high: float) -> Suspects | None:
    """In which pixels `reject` would reject any of n values (m) that are all good; None where that may be anywhere.

    Nothing is beyond the limits where the lowest and the highest value are not.
    """
    if clip == "extrema":
        return None
    low, high = np.float32(low), np.float32(high)
    places, centre = np.zeros(0, int), None
    if clip == "minmax":
        outside = np.zeros(len(values[0]), bool)
        for value in values:
            outside |= (value < low) | (value > high)
        places = np.flatnonzero(outside)
    elif clip == "sigclip":
        planes = ordering.ordered(values)
        centre = ordering.middle(planes)
        scatter = ordering.deviation(planes, centre)
        scatter *= np.float32(MAD_TO_SIGMA)
        width = np.fmax(scatter, np.float32(min(float(sigma.min()) for sigma in sigmas)))
        lowest, highest = planes[0], planes[-1]  # above the centre now
        places = np.flatnonzero((highest > high * width) | (lowest < -low * width))
    v, s = (np.stack([part.take(places) for part in parts]) for parts in (values, sigmas))
    if clip == "sigclip":
        kept = _within(v - centre[places], np.fmax(s, scatter[places]), low, high)
    else:
        kept = reject(v, s, np.ones(v.shape, bool), clip, low, high)
    changed = ~kept.all(axis=0)
    return Suspects(places[changed], v[:, changed], s[:, changed], kept[:, changed], centre)


def clipped_again(values, sigmas, good, low, high, iterations: int) -> np.ndarray:
    """Good values (n, m) after so many rounds of clipping; pixels in which nothing was rejected are not looked at again."""
    low, high, good, todo = np.float32(low), np.float32(high), good.copy(), slice(None)
    for _ in range(iterations):
        v, s, g = values[:, todo], sigmas[:, todo], good[:, todo]
        distance = v - ordering.median(v, g)
        scatter = np.float32(MAD_TO_SIGMA) * ordering.median(np.abs(distance), g)
        kept = g & _within(distance, np.fmax(s, scatter), low, high)
        changed = (kept != g).any(axis=0)
        if not changed.any():
            break
        good[:, todo] = kept
        todo = np.flatnonzero(changed) if isinstance(todo, slice) else todo[changed]
    return good


def _within(distance, deviation, low, high) -> np.ndarray:
    return (distance <= high * deviation) & (distance >= -low * deviation)


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
