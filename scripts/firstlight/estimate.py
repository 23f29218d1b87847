"""What the values of a pixel that count give: average, median or sum, its sigma, and the scatter they show.

In two ways that agree: for pixels where all values count, and for any. Nearly all pixels are of the first kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp, lgamma, log

import numpy as np

from . import ordering

UNEVEN = 1.05  # ratio of sigmas beyond which a median's variance is not that of equal values

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


# ---- where all values count ------------------------------------------------------------------------------------------


def of_all(values: Sequence, sigmas: Sequence, method: str, weights: np.ndarray, centre: np.ndarray | None = None):
    """Data and sigma (m) of n values (m) that all count, as `of_good` gives them; weights (n) of an average; centre (m) the
    values' median, None where it is not known."""
    n = len(values)
    if method == "median":
        if centre is None:
            centre = ordering.middle(ordering.ordered(values, ordering.middles(n)))
        return centre, sigma_of_median(sigmas)
    start = values[0] if centre is None else centre
    shares = np.ones(n) if method == "sum" else weights / weights.max()
    data, variance = summed(values, shares, start), summed_squares(sigmas, shares)
    data /= np.float32(shares.sum())
    data += start
    sigma = np.sqrt(variance, out=variance)
    sigma /= np.float32(shares.sum())
    return (data * np.float32(n), sigma * np.float32(n)) if method == "sum" else (data, sigma)


def summed(values: Sequence, weights: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """Sum (m) of w (v - start), float32: near the values' mean differences keep all digits."""
    total, spare = np.zeros_like(values[0]), np.empty_like(values[0])
    for value, weight in zip(values, map(float, weights), strict=True):
        if start is not None:
            value = np.subtract(value, start, out=spare)
        if weight != 1:
            value = np.multiply(value, weight, out=spare)
        total += value
    return total


def summed_squares(sigmas: Sequence, weights: np.ndarray) -> np.ndarray:
    """Sum (m) of (w sigma)^2, float32."""
    total, spare = np.zeros_like(sigmas[0]), np.empty_like(sigmas[0])
    for sigma, weight in zip(sigmas, map(float, weights), strict=True):
        np.square(sigma, out=spare)
        if weight != 1:
            spare *= weight**2
        total += spare
    return total


def sigma_of_median(sigmas: Sequence) -> np.ndarray:
    """Sigma (m) of the median of n values of some sigmas (m)."""
    n = len(sigmas)
    factor = median_factor(n)
    variance = summed_squares(sigmas, np.ones(n))
    variance *= factor / np.float32(n * n)
    if n > 2:
        low, high = sigmas[0].copy(), sigmas[0].copy()
        for sigma in sigmas[1:]:
            np.minimum(low, sigma, out=low)
            np.maximum(high, sigma, out=high)
        low *= np.float32(UNEVEN)
        uneven = np.flatnonzero(high > low)
        if len(uneven):
            some = np.square(np.stack([sigma[uneven] for sigma in sigmas]))
            variance[uneven] = typical_variance(some, None, factor) * (factor / np.float32(n))
    return np.sqrt(variance, out=variance)


def observed_in_all(values: Sequence, sigmas: Sequence, centre: np.ndarray):
    """Variance about the mean, and that over the claimed one (m), of n values (m), as `observed`; centre (m) lies near
    the mean."""
    n = len(values)
    if n < 2:
        return (np.full(len(centre), np.nan, np.float32),) * 2
    first, second, spare = np.zeros_like(centre), np.zeros_like(centre), np.empty_like(centre)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for value in values:
            np.subtract(value, centre, out=spare)
            first += spare
            second += np.square(spare, out=spare)
        second -= np.square(first, out=first) / np.float32(n)
        variance = np.maximum(second, 0, out=second)
        variance *= chi_correction(n)[n] / np.float32(n - 1)
        return variance, variance / (summed_squares(sigmas, np.ones(n)) / np.float32(n))


# ---- where some do not -----------------------------------------------------------------------------------------------


def of_good(values, sigmas, good, otherwise, method: str, weights: np.ndarray):
    """Data, sigma, count (...) of the good values (n, ...); where none is good of those that stand in, with count 0.

    Sigma of an average: sqrt(sum w^2 sigma^2) / sum w; of a median: that of the plain mean times `median_factor`, for
    values of unequal sigma with their `typical_variance`. A sum is as of all n.
    """
    n, shape = len(values), values.shape[1:]
    values, sigmas, good = (array.reshape(n, -1) for array in (values, sigmas, good))
    count = good.sum(axis=0, dtype=np.uint16)
    if not count.all():
        good = good | ((count == 0) & np.broadcast_to(otherwise, (n, *shape)).reshape(n, -1))
    weights = weights if method == "average" else np.ones(n)
    total, mean, variance = sums_of_good(values, sigmas, good, weights)
    with np.errstate(invalid="ignore"):  # 0 / 0 where no image has data: NaN is the answer
        sigma = np.sqrt(variance) / total
        data = ordering.median(values, good) if method == "median" else mean / total
        if method == "median":
            factor = median_factor(total)
            sigma *= np.sqrt(factor)
            low, high = np.where(good, sigmas, np.float32(np.inf)).min(axis=0), np.where(good, sigmas, 0).max(axis=0)
            uneven = np.flatnonzero((total > 2) & (high > np.float32(UNEVEN) * low))
            if len(uneven):
                common = typical_variance(np.square(sigmas[:, uneven]), good[:, uneven], factor[uneven])
                sigma[uneven] = np.sqrt(common * factor[uneven] / total[uneven])
    if method == "sum":
        data, sigma = data * n, sigma * n
    return data.astype(np.float32).reshape(shape), sigma.astype(np.float32).reshape(shape), count.reshape(shape)


def sums_of_good(values, sigmas, good, weights):
    """Sums (m) of the weights, the weighted values and the weighted variances that count (n, m), image by image: the order
    of the additions, and so the last bit, must not depend on how the work is cut up."""
    counting = weights[:, None] * good
    parts = counting, counting * values, np.square(counting * sigmas)
    total, mean, variance = sums = [np.zeros(values.shape[1]) for _ in parts]
    for out, part in zip(sums, parts, strict=True):
        for row in part:
            out += row
    return total, mean, variance


def observed(values, sigmas, good) -> tuple[np.ndarray, np.ndarray]:
    """Variance about the mean of the good values (n, m), and that over the mean of their claimed variances, both times
    `chi_correction`; NaN where fewer than two are good."""
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


# ---- variances -------------------------------------------------------------------------------------------------------


def typical_variance(variances: np.ndarray, good: np.ndarray | None, factor: np.ndarray) -> np.ndarray:
    """The variance (m) which, if all good values (n, m) had it, would give their median the variance that it has; good
    None for all.

    The variance of a median is 1 / (4 n^2 f^2), f the mean of the values' densities in the middle, here over the width v
    of the median itself: (n / sum 1 / sqrt(sigma^2 + v))^2 - v, v that of the harmonic mean of the sigmas. For sigmas that
    differ by a factor of 4 the sigma that follows is right within 1 % for 30 values and 4 % for 4, where their mean
    variance would be 27 % too large.
    """
    n = np.float32(len(variances)) if good is None else good.sum(axis=0, dtype=np.float32)

    def mean(width):
        total = np.zeros_like(variances[0])
        for number, variance in enumerate(variances):
            each = np.sqrt(variance + width)
            np.reciprocal(each, out=each)
            total += each if good is None else np.where(good[number], each, np.float32(0))
        return np.square(n / total)

    with np.errstate(divide="ignore", invalid="ignore"):
        width = mean(np.float32(0)) * np.float32(factor) / n
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
    out = np.full(most + 1, np.nan, np.float32)
    out[2:] = [freedom / median_of_chi_squared(freedom) for freedom in range(1, most)]
    return out


def median_of_chi_squared(freedom: int) -> float:
    """Where the distribution of chi-squared reaches a half: Newton's steps from Wilson & Hilferty's approximation (1931,
    PNAS 17, 684), with the series of the incomplete gamma function (Abramowitz & Stegun 6.5.29)."""
    shape = freedom / 2
    x = shape * (1 - 2 / (9 * freedom)) ** 3  # half of chi-squared
    for _ in range(4):
        term = total = 1.0
        k = shape
        while term > 1e-16 * total:
            k += 1
            term *= x / k
            total += term
        density = exp((shape - 1) * log(x) - x - lgamma(shape))
        x -= (density * x / shape * total - 0.5) / density
    return 2 * x
