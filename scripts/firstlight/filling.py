"""Aligned frames brought to one scale and sky and put on a pile; what their masks and masters have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from . import pile
from .frame import Frame, Mask

ROWS = 1 << 16  # pixels that are worked on at a time: what stays in a processor's cache
SPOILT = np.uint8(Mask.UNUSABLE | Mask.SATURATED)  # bits of a value that is POOR


def side_by_side(work: Callable, things: list, threads: int) -> Iterator:
    """work(thing) of each in their order, at most `threads` at a time, and no more of them in memory."""
    if threads < 2:
        yield from map(work, things)
        return
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(things), threads):
            yield from pool.map(work, things[start : start + threads])


def bands(shape: tuple[int, int]) -> Iterator[slice]:
    """Slices of rows of an image (ny, nx) that are worked on at a time."""
    height = max(ROWS // shape[1], 1)
    for start in range(0, shape[0], height):
        yield slice(start, min(start + height, shape[0]))


def on_scale(frame: Frame, scale: float, surface: Callable, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scale x data + surface(rows), its sigma (`noise` where the frame has none), and flags for a pile."""
    value, sigma = np.empty(frame.shape, np.float32), np.empty(frame.shape, np.float32)
    flags = np.empty(frame.shape, np.uint8)
    scale = np.float32(scale)
    for rows in bands(frame.shape):
        np.multiply(frame.data[rows], scale, out=value[rows])
        value[rows] += surface(rows)
        np.multiply(np.float32(noise) if frame.sigma is None else frame.sigma[rows], scale, out=sigma[rows])
        np.not_equal(frame.mask[rows] & SPOILT, 0, out=flags[rows].view(bool))  # POOR is 1, GOOD 0
        with np.errstate(over="ignore", invalid="ignore"):
            certain = np.isfinite(value[rows].sum() + sigma[rows].sum())  # what is not a number shows in the sum
        if not certain:
            unknown = ~(np.isfinite(value[rows]) & np.isfinite(sigma[rows]))
            value[rows][unknown], sigma[rows][unknown], flags[rows][unknown] = 0, 0, pile.ABSENT
    return value, sigma, flags


class Bits:
    """What the masks of frames have in common, and what any of them has, where they have data; uint8 (ny, nx)."""

    def __init__(self, shape: tuple[int, int]):
        self.common, self.seen = np.full(shape, 255, np.uint8), np.zeros(shape, np.uint8)

    def add(self, mask: np.ndarray, flags: np.ndarray) -> None:
        """Take a frame's mask into account."""
        for rows in bands(mask.shape):
            absent = flags[rows] == pile.ABSENT
            if absent.any():
                self.common[rows] &= np.where(absent, np.uint8(255), mask[rows])
                self.seen[rows] |= np.where(absent, np.uint8(0), mask[rows])
            else:
                self.common[rows] &= mask[rows]
                self.seen[rows] |= mask[rows]

    def of(self, data: np.ndarray, coverage: np.ndarray) -> np.ndarray:
        """The stack's mask: what all frames have; where none counts all that spoilt them."""
        mask = self.common & self.seen
        np.copyto(mask, self.seen, where=coverage == 0)
        np.copyto(mask, np.uint8(Mask.NO_DATA), where=~np.isfinite(data))
        return mask


class Share:
    """The masters' share of the variance of an average of frames, summed up frame by frame."""

    def __init__(self, shape: tuple[int, int]):
        self._part, self._all = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def add(self, weight: float, sigma: np.ndarray, common: np.ndarray | None, flags: np.ndarray) -> None:
        """Take a frame into account: its scaled sigma, and the share in 1/255."""
        for rows in bands(sigma.shape):
            variance = sigma[rows] * np.float32(weight)
            np.square(variance, out=variance)
            if flags[rows].any():
                variance[flags[rows] != pile.GOOD] = 0
            self._all[rows] += variance
            if common is not None:
                variance *= common[rows]
                variance *= np.float32(1 / 255)
                self._part[rows] += variance

    def image(self) -> np.ndarray:
        """float32 (ny, nx), from 0 to 1."""
        return np.divide(self._part, self._all, out=self._part, where=self._all > 0)
