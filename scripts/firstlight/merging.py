"""A pile of frames merged pixel by pixel: the image, its sigma, what counts, and half stacks, in one go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import estimate, honesty, pile, rejection, trails


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

    @cached_property
    def pairs(self) -> float:
        """Mean correlation of two frames' shared noise."""
        return self.shared.mean(self.amounts)

    def more(self, counts: np.ndarray) -> np.ndarray:
        """R - 1 of an average (p) of the frames that count (m, p), see `merged`."""
        one, two = (np.zeros(counts.shape[1]) for _ in range(2))
        for count, amount in zip(counts, map(float, self.amounts), strict=True):
            one += amount * count
            two += amount**2 * count
        return self.pairs * np.where(two > 0, one**2 / np.where(two > 0, two, 1) - 1, 0)

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


# ---- what survives ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survivors:
    """Which values of a pile count.

    among   among(where, values, sigmas, flags): which of the values (n, p) at the pixels `where` (p) of a flattened image
    limit   number of its own sigmas within which of the centre a value stays if all are good: inf where all stay, 0 where
            that is not known
    centre  float32 (ny, nx), NaN where it is not known; None where no limit needs it
    """

    among: Callable
    limit: float = 0.0
    centre: np.ndarray | None = None


def survivors(held: pile.Pile, fwhm: np.ndarray, limits: rejection.Limits, search: bool, threads: int = 1) -> Survivors:
    """What of a pile survives its rejection; search: also for what single frames have of light (`trails`), which gets its
    flag in the pile."""
    if held.count == 1:
        return Survivors(lambda where, values, sigmas, flags: flags == pile.GOOD, np.inf)
    centre, allowance = rejection.centre(held, fwhm, threads), rejection.allowances(fwhm)
    if search:
        trails.mark(held, centre, fwhm, threads)
    middles = centre.values.reshape(-1)

    def among(where, values, sigmas, flags):
        found_without = (flags == rejection.TRAIL).any(axis=0)
        start = np.where(found_without, np.float32(np.nan), middles[where])
        return rejection.clipped(values, sigmas, flags == pile.GOOD, start, centre.slack(allowance, where), limits)

    # What is measured against more than its own sigma is never rejected sooner.
    return Survivors(among, min(limits.low, limits.high), centre.values)


# ---- merging ---------------------------------------------------------------------------------------------------------


def merged(
    held: pile.Pile,
    survivors: Survivors,
    method: str,
    weights: np.ndarray,
    common: Common,
    share: np.ndarray | None = None,
    threads: int = 1,
    tell: Callable | None = None,
) -> Merged:
    """Merge a pile.

    method, weights  as in `pile.combine`; half stacks are averages whatever the method
    share   (ny, nx) of an average's variance that is the masters'; None for none
    tell    tell(number, where) takes the places in a flattened image at which values of a frame were rejected

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
    shares, halves, of_all = None if share is None else share.reshape(-1), common.halves(), common.more(np.ones((n, 1)))

    def put(where, pieces, sums, more):
        if shares is not None:
            _add_shared(pieces, sums, shares[where], more, halves)
        for name, image in flat.items():
            image[where] = pieces[name]

    def work(where, values, sigmas, flags):
        odd = slice(None)
        if survivors.limit > 0:
            pieces, sums, suspects = _of_all(where, values, sigmas, method, weights, survivors)
            put(where, pieces, sums, float(of_all[0]))
            odd = pile.flagged(flags, suspects)
        v, s, f = (pile.at(parts, odd) for parts in (values, sigmas, flags))
        if v.size:
            where = np.arange(where.start, where.stop)[odd]
            good = survivors.among(where, v, s, f)
            gone = ((f == pile.GOOD) | (f == rejection.TRAIL)) & ~good
            with lock:
                lost[:] += gone.sum(axis=1)
                for number in np.flatnonzero(gone.any(axis=1)) if tell else ():
                    tell(number, where[gone[number]])
            counts, pieces, sums = _of_good(v, s, f, good, method, weights)
            put(where, pieces | {"rejected": gone.sum(axis=0)}, sums, common.more(counts))

    held.each(work, threads)
    return Merged(**(dict.fromkeys(names) | out), lost=lost)


def _of_all(where, values, sigmas, method: str, weights, survivors: Survivors):
    """(pieces, sums, suspects) of n values (m) as if all counted, and the places where that is not certain."""
    n, start = len(values), values[0] if survivors.centre is None else survivors.centre.reshape(-1)[where]
    sums = [[0.0, np.zeros_like(start), np.zeros_like(start)] for _ in range(2)]
    inside, spare = np.ones(len(start), bool), np.empty_like(start)
    for number, (value, sigma, weight) in enumerate(zip(values, sigmas, map(float, weights), strict=True)):
        half, distance, variance = sums[number % 2], value - start, np.square(sigma)
        if np.isfinite(survivors.limit):
            np.square(distance, out=spare)
            inside &= spare <= np.multiply(variance, np.float32(survivors.limit**2))
        if weight != 1:
            distance *= weight
            variance *= weight**2
        half[0] += weight
        half[1] += distance
        half[2] += variance
    pieces = _combined(*sums, n if method == "sum" else 1, start)
    if method == "median":
        centre = start if survivors.centre is not None and n > 2 else None
        pieces["data"], pieces["sigma"] = estimate.of_all(values, sigmas, method, weights, centre)
    pieces |= {"coverage": n, "weight": 1, "rejected": 0}
    return pieces, (*sums, n if method == "sum" else 1), np.flatnonzero(~inside)


def _of_good(values, sigmas, flags, good, method: str, weights):
    """(counts, pieces, sums) of the good values (n, p), of which those that stand in where none is good have counts too."""
    count, n = good.sum(axis=0, dtype=np.uint16), len(good)
    counts = good if count.all() else good | ((count == 0) & (flags != pile.ABSENT))
    odd, even = (estimate.sums_of_good(*(a[k::2] for a in (values, sigmas, counts, weights))) for k in (0, 1))
    pieces = _combined(odd, even, n if method == "sum" else 1)
    if method == "median":
        pieces["data"], pieces["sigma"], _ = estimate.of_good(
            values, sigmas, good, flags != pile.ABSENT, method, weights
        )
    nothing = count == 0
    for name in ("difference", "difference_sigma"):
        pieces[name] = np.where(nothing, np.float32(np.nan), pieces[name])
    whole = odd[0] + even[0]
    pieces |= {"coverage": count, "weight": np.where(nothing, 0, whole / weights.sum())}
    return counts, pieces, (odd, even, n if method == "sum" else 1)


def _combined(odd, even, by: int, start=0.0) -> dict:
    """Average (times `by`) and difference of the odd and the even frames from their sums of weights, of weighted values
    less `start`, and of weighted variances."""
    whole = [a + b for a, b in zip(odd, even, strict=True)]
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 where no image has data: NaN is the answer
        return {
            "data": by * (whole[1] / whole[0] + start),
            "sigma": by * np.sqrt(whole[2]) / whole[0],
            "difference": odd[1] / odd[0] - even[1] / even[0],
            "difference_sigma": np.sqrt(odd[2] / odd[0] ** 2 + even[2] / even[0] ** 2),
        }


def _add_shared(pieces: dict, sums: tuple, share, more, halves: float) -> None:
    """Add to the sigmas what frames share: R - 1 of the average in pixels (`Common.more`), and of the halves' difference."""
    odd, even, by = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        added = more * share * ((odd[2] + even[2]) / ((odd[0] + even[0]) / by) ** 2)
        pieces["sigma"] = np.sqrt(np.maximum(np.square(pieces["sigma"]) + added, 0))
        pieces["difference_sigma"] = pieces["difference_sigma"] * np.sqrt(np.maximum(1 + halves * share, 0))
