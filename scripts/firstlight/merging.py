"""Frames put on a pile and merged pixel by pixel: the image, its sigma, what counts, and half stacks, in one go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from . import honesty, pile, rejection, trails
from .frame import Frame, Mask


@dataclass(frozen=True)
class Common:
    """The masters' noise in an average of frames.

    shared   what frames share of it
    amounts  (m) of it in the average: weight times scaled noise times the root of the masters' typical share
    weights  (m) of the frames in the average
    share    of the average's variance that it would be if frames shared nothing
    """

    shared: honesty.Shared
    amounts: np.ndarray
    weights: np.ndarray
    share: float

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return len(self.amounts) > 1 and bool(self.amounts.any())

    @property
    def pairs(self) -> float:
        """Mean correlation of two frames' shared noise."""
        return self.shared.mean(self.amounts)

    def halves(self, radius: float = 0.0) -> float:
        """R - 1 of the difference of the odd and the even frames, see `honesty.excess`: what both share falls out."""
        return honesty.excess(self.shared, self._signed, radius)

    @property
    def _signed(self) -> np.ndarray:
        signed = self.amounts.copy()
        for half, sign in ((slice(0, None, 2), 1), (slice(1, None, 2), -1)):
            signed[half] *= sign / max(self.weights[half].sum(), 1e-30)
        return signed

    def wider(self, radius: float, halves: bool = False) -> float:
        """By what the noise of a sum over a circle exceeds what pixels tell, since frames that were moved by less than
        its radius share pixels of the detector there; of the average, or of the difference of its halves."""
        amounts = self._signed if halves else self.amounts
        pixel, circle = (1 + honesty.excess(self.shared, amounts, r) * self.share for r in (0.0, radius))
        return float(np.sqrt(max(circle, 1e-6) / max(pixel, 1e-6)))

    @property
    def cost(self) -> float:
        """Share by which the noise of a pixel is larger than it would be if frames shared nothing."""
        return float(np.sqrt(max(1 + honesty.excess(self.shared, self.amounts) * self.share, 0.0))) - 1


def common(shared: honesty.Shared, weights: np.ndarray, noises: np.ndarray, shares: np.ndarray) -> Common:
    """The masters' noise in an average of frames of these weights, noises (scaled), and shares of their variance."""
    amounts = weights * noises * np.sqrt(shares)
    return Common(shared, amounts, weights, float((amounts**2).sum() / max(((weights * noises) ** 2).sum(), 1e-30)))


@dataclass
class Merged:
    """Images (ny, nx) that a pile gives.

    data, sigma       float32, sigma with the noise that frames share
    coverage          uint16, frames that count; weight float32, sum of their weights, 1 where all count
    rejected          uint16, values that were rejected; lost (m), how many of each frame
    difference, difference_sigma   float32, average of the odd frames less that of the even ones; NaN where one is missing;
                      None of a single frame
    """

    data: np.ndarray
    sigma: np.ndarray
    coverage: np.ndarray
    weight: np.ndarray
    rejected: np.ndarray
    lost: np.ndarray
    difference: np.ndarray | None
    difference_sigma: np.ndarray | None


# ---- filling ---------------------------------------------------------------------------------------------------------


def side_by_side(work: Callable, things: list, threads: int) -> Iterator:
    """work(thing) of each in their order, at most `threads` at a time, and no more of them in memory."""
    if threads < 2:
        yield from map(work, things)
        return
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(things), threads):
            yield from pool.map(work, things[start : start + threads])


def on_scale(frame: Frame, scale: float, surface, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scale x data + surface, its sigma (`noise` where the frame has none), and flags for a pile."""
    value = frame.data * np.float32(scale) + surface
    sigma = frame.sigma if frame.sigma is not None else np.full(frame.shape, noise, np.float32)
    sigma = sigma * np.float32(scale)
    poor = (frame.mask & np.uint8(Mask.UNUSABLE | Mask.SATURATED)) != 0
    flags = np.where(poor, np.uint8(pile.POOR), np.uint8(pile.GOOD))
    known = np.isfinite(value) & np.isfinite(sigma)
    if not known.all():
        value[~known], sigma[~known], flags[~known] = 0, 0, pile.ABSENT
    return value, sigma, flags


class Bits:
    """What the masks of frames have in common, and what any of them has, where they have data; uint8 (ny, nx)."""

    def __init__(self, shape: tuple[int, int]):
        self.common, self.seen = np.full(shape, 255, np.uint8), np.zeros(shape, np.uint8)

    def add(self, mask: np.ndarray, flags: np.ndarray) -> None:
        """Take a frame's mask into account."""
        absent = flags == pile.ABSENT
        self.common &= np.where(absent, np.uint8(255), mask)
        self.seen |= np.where(absent, np.uint8(0), mask)

    def of(self, data: np.ndarray, coverage: np.ndarray) -> np.ndarray:
        """The stack's mask: what all frames have; where none counts all that spoilt them."""
        mask = np.where(coverage == 0, self.seen, self.common & self.seen)
        return np.where(np.isfinite(data), mask, np.uint8(Mask.NO_DATA)).astype(np.uint8)


class Share:
    """The masters' share of the variance of an average of frames, summed up frame by frame."""

    def __init__(self, shape: tuple[int, int]):
        self._part, self._all = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def add(self, weight: float, sigma: np.ndarray, common: np.ndarray | None, flags: np.ndarray) -> None:
        """Take a frame into account: its scaled sigma, and the share in 1/255."""
        variance = np.where(flags == pile.GOOD, np.square(np.float32(weight) * sigma), np.float32(0))
        self._all += variance
        if common is not None:
            self._part += variance * (common * np.float32(1 / 255))

    def image(self) -> np.ndarray:
        """float32 (ny, nx), from 0 to 1."""
        return np.divide(self._part, self._all, out=self._part, where=self._all > 0)


# ---- merging ---------------------------------------------------------------------------------------------------------


def survivors(held: pile.Pile, fwhm: np.ndarray, limits: rejection.Limits, search: bool, threads: int = 1) -> Callable:
    """What of a pile survives its rejection, as a function for `merged`; search: also for what single frames have of
    light (`trails`), which gets its flag in the pile."""
    if held.count == 1:
        return lambda where, values, sigmas, flags: flags == pile.GOOD
    centre, allowance = rejection.centre(held, fwhm, threads), rejection.allowances(fwhm)
    if search:
        trails.mark(held, centre, fwhm, threads)
    middles = centre.values.reshape(-1)

    def survive(where, values, sigmas, flags):
        found_without = (flags == rejection.TRAIL).any(axis=0)
        start = np.where(found_without, np.float32(np.nan), middles[where])
        return rejection.clipped(values, sigmas, flags == pile.GOOD, start, centre.slack(allowance, where), limits)

    return survive


def merged(
    held: pile.Pile,
    survive: Callable,
    method: str,
    weights: np.ndarray,
    common: Common,
    share: np.ndarray | None = None,
    threads: int = 1,
) -> Merged:
    """Merge a pile.

    survive(where, values, sigmas, flags)  which of the values (n, p) at the pixels `where` of a flattened image count
    method, weights  as in `pile.combine`; half stacks are averages whatever the method
    share   (ny, nx) of an average's variance that is the masters'; None for none

    A part s of the variance V that an average of independent frames would have is common to them, and adds to it

        (R - 1) s V,   R = sum_ij a_i a_j rho_ij / sum_i a_i^2 = 1 + rho ((sum a_i)^2 / sum a_i^2 - 1)

    over the frames that count in a pixel, a_i their amounts of it, rho its mean correlation between two frames. The same
    is added for a median: what all frames share moves it as it moves their mean.
    """
    n, shape = held.count, held.shape
    weights = np.asarray(weights if method == "average" else np.ones(n), float)
    names = ("data", "sigma", "coverage", "weight", "rejected", "difference", "difference_sigma")
    types = dict.fromkeys(names, np.float32) | {"coverage": np.uint16, "rejected": np.uint16}
    out = {name: np.empty(shape, types[name]) for name in (names if n > 1 else names[:5])}
    flat = {name: image.reshape(-1) for name, image in out.items()}
    lost, lock = np.zeros(n, int), threading.Lock()
    shares = None if share is None else share.reshape(-1)
    rho, halves, amounts = common.pairs, common.halves(), common.amounts

    def work(where, values, sigmas, flags):
        good = survive(where, values, sigmas, flags)
        gone = ((flags == pile.GOOD) | (flags == rejection.TRAIL)) & ~good
        flags = np.where(flags == rejection.TRAIL, np.uint8(pile.POOR), flags)
        with lock:
            lost[:] += gone.sum(axis=1)
        count = good.sum(axis=0, dtype=np.uint16)
        counts = good if count.all() else good | ((count == 0) & (flags < pile.ABSENT))
        odd, even = (_sums(*(a[k::2] for a in (values, sigmas, counts, weights))) for k in (0, 1))
        whole = tuple(a + b for a, b in zip(odd, even, strict=True))
        piece = {"coverage": count, "rejected": gone.sum(axis=0), "weight": whole[0] * (count > 0) / weights.sum()}
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 where no image has data: NaN is the answer
            by = n if method == "sum" else 1
            if method == "median":
                piece["data"], piece["sigma"], _ = pile.merge(values, sigmas, flags, good, method, weights)
            else:
                piece["data"], piece["sigma"] = by * whole[1] / whole[0], by * np.sqrt(whole[2]) / whole[0]
            if n > 1:
                sums = [np.where(count > 0, a[0], 0) for a in (odd, even)]
                piece["difference"] = odd[1] / sums[0] - even[1] / sums[1]
                piece["difference_sigma"] = np.sqrt(odd[2] / sums[0] ** 2 + even[2] / sums[1] ** 2)
            if shares is not None:
                more = rho * _others(counts, amounts) * shares[where] * whole[2] / (whole[0] / by) ** 2
                piece["sigma"] = np.sqrt(np.maximum(np.square(piece["sigma"], dtype=float) + more, 0))
                piece["difference_sigma"] *= np.sqrt(np.maximum(1 + halves * shares[where], 0))
        for name, values in piece.items():
            flat[name][where] = values

    held.each(work, threads)
    return Merged(**(dict.fromkeys(names) | out), lost=lost)


def _sums(values, sigmas, counts, weights):
    """Sums (p) of the weights, the weighted values and the weighted variances that count (n, p), image by image: the order
    of the additions, and so the last bit, must not depend on how the work is cut up."""
    total, mean, variance = (np.zeros(values.shape[1]) for _ in range(3))
    for value, sigma, count, weight in zip(values, sigmas, counts, map(float, weights), strict=True):
        total += weight * count
        mean += weight * value * count
        variance += np.square(weight * sigma) * count
    return total, mean, variance


def _others(counts, amounts) -> np.ndarray:
    """(sum a)^2 / sum a^2 - 1 (p) over the images that count (n, p)."""
    one, two = (np.zeros(counts.shape[1]) for _ in range(2))
    for count, amount in zip(counts, map(float, amounts), strict=True):
        one += amount * count
        two += amount**2 * count
    return np.where(two > 0, one**2 / np.where(two > 0, two, 1) - 1, 0)
