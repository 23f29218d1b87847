"""What does not belong to the sky in a pile of aligned frames: single values by clipping against what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import estimate, ordering, pile

TRAIL = 3  # flag of a value in a pile, beside those of `pile`: under light that one frame alone has
ALWAYS = 0.1  # of the gradient, that any star may differ by: what placing and resampling leave
PER_SEEING = 0.75  # of the rise over a star, per relative difference of peaks; see `allowances`
ACROSS = 0.6  # FWHM, half the width of the window in which a star rises by most of its height


@dataclass(frozen=True)
class Limits:
    """How many deviations below and above the centre a value is kept, and how often the centre is found anew."""

    low: float
    high: float
    iterations: int


def limits(frames: int, low: float | None = None, high: float | None = None, iterations: int = 2) -> Limits:
    """The limits that fit a number of frames; those that are given stay.

    Few values cannot spare one that is good, and their centre is soft: 4 deviations up to 5 frames. One that is missed
    weighs less among many, but more are missed: 3.5 up to 15 frames (0.05 % of good values are lost), then 3.25 (0.1 %).
    """
    fitting = 4.0 if frames <= 5 else 3.5 if frames <= 15 else 3.25
    return Limits(fitting if low is None else low, fitting if high is None else high, iterations)


@dataclass(frozen=True)
class Centre:
    """What the values of a pixel are compared to.

    values    float32 (ny, nx), median of the good values; of two the lower, since what disturbs a sky adds light
    gradient  float32 (ny, nx), highest less lowest of the 3x3 pixels around
    rise      float32 (ny, nx), the same over a window as wide as stars are, less what noise makes of it; None where no
              allowance needs it
    pairs     float32 (ny, nx), where two values only are good the sum of their variances, else 0; None where that is nowhere
    """

    values: np.ndarray
    gradient: np.ndarray
    rise: np.ndarray | None
    pairs: np.ndarray | None

    def slack(self, allowance: np.ndarray, where: slice) -> np.ndarray:
        """What stars may differ by (n, m) at the pixels `where` of the flattened image."""
        out = np.float32(ALWAYS) * self.gradient.reshape(-1)[where]
        if self.rise is None:
            return np.broadcast_to(out, (len(allowance), len(out)))
        return out + allowance[:, None] * self.rise.reshape(-1)[where]


def centre(held: pile.Pile, fwhm: np.ndarray, threads: int = 1) -> Centre:
    """The centre of the GOOD values of a pile; fwhm (n) of its frames [pix], 0 or NaN where unknown."""
    values, pairs, n = np.empty(held.shape, np.float32), np.zeros(held.shape, np.float32), held.count
    any_pairs = []

    def work(where, value, sigma, flags):
        out = values.reshape(-1)[where]
        if n == 2:
            odd = slice(None)
        else:
            out[:] = ordering.middle(ordering.ordered(value, ordering.middles(n)))
            odd = pile.flagged(flags)
        v, s, good = pile.at(value, odd), pile.at(sigma, odd), pile.at(flags, odd) == pile.GOOD
        if v.size:
            out[odd] = middle(v, good)
            two = good.sum(axis=0) == 2
            if two.any():
                any_pairs.append(where)
                pairs.reshape(-1)[where][odd] = np.where(two, (np.square(s) * good).sum(axis=0), np.float32(0))

    held.each(work, threads)
    whole = filled(values)
    rise = above_noise(spread(whole, window(fwhm))) if allowances(fwhm).any() else None
    return Centre(values, spread(whole, 3), rise, pairs if any_pairs else None)


def middle(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Median (m) of the good values (n, m); of two the lower; NaN where there is none."""
    out = ordering.median(values, good)
    two = np.flatnonzero(good.sum(axis=0) == 2)
    if len(two):
        out[two] = np.where(good[:, two], values[:, two], np.float32(np.inf)).min(axis=0)
    return out


def spread(image: np.ndarray, size: int) -> np.ndarray:
    """Highest less lowest value of the size x size pixels around each, float32 (ny, nx); what is not a number does not
    count."""
    import cv2

    image, around = filled(image), np.ones((size, size), np.uint8)
    return np.subtract(highest := cv2.dilate(image, around), cv2.erode(image, around), out=highest)


def filled(image: np.ndarray) -> np.ndarray:
    """An image float32 with its median, 0 if there is none, where it is not a number."""
    finite = np.isfinite(image)
    if finite.all():
        return image
    return np.where(finite, image, np.float32(np.nan_to_num(ordering.median_of(image[finite], True))))


def above_noise(spread: np.ndarray) -> np.ndarray:
    """A `spread` less 1.2 times its median, which the noise of the sky makes; at least 0."""
    above = spread - np.float32(1.2 * ordering.median_of(spread))
    return np.maximum(above, np.float32(0), out=above)


def window(fwhm: np.ndarray, pixel: float = 1.0) -> int:
    """Pixels across which a star of the worst seeing rises by most of its height: an odd number, 3 at least. A frame that
    is out of focus counts with twice the usual FWHM."""
    worst = min(float(np.max(fwhm, initial=0.0, where=np.asarray(fwhm) > 0)) or usual(fwhm), 2 * usual(fwhm))
    return 2 * max(int(np.rint(ACROSS * worst / pixel)), 1) + 1


def usual(fwhm: np.ndarray) -> float:
    """Median of the known FWHM; 3 where none is known."""
    fwhm = np.asarray(fwhm, float)
    known = fwhm[fwhm > 0]
    return float(np.median(known)) if len(known) else 3.0


def allowances(fwhm: np.ndarray) -> np.ndarray:
    """For each frame by which share of a star's rise its light may differ from the centre because of its seeing,
    float32 (n).

        0.75 |q^2 - 1|,   q = FWHM of the centre / FWHM of the frame

    since the peak of a star goes with 1 / FWHM^2. fwhm (n) of the frames, 0 or NaN where unknown; the centre has the
    median, and of two frames the one is the other's centre.
    """
    fwhm = np.asarray(fwhm, float)
    middle = fwhm[::-1] if len(fwhm) == 2 else np.full(len(fwhm), usual(fwhm))
    with np.errstate(divide="ignore", invalid="ignore"):
        peaks = np.where((fwhm > 0) & (middle > 0), (middle / fwhm) ** 2, 1.0)
    return (PER_SEEING * np.abs(peaks - 1)).astype(np.float32)


def clipped(values, sigmas, good, start, slack, limits: Limits) -> np.ndarray:
    """Which of the good values (n, m) lie within the limits of their centre.

    start   (m), the centre to begin with; NaN where it has to be found
    slack   (n, m), difference that stars are allowed

    The deviation of a value of sigma s from the median M of n values is

        sqrt(s^2 + slack^2 + max(var M - 2 cov, 0)),   var M = k n / (sum 1 / s)^2,   cov = s / sum 1 / s

    k the variance of a median over that of a mean (`estimate.median_factor`): a deep frame among shallow ones must not be
    measured by its own sigma against their soft median. Of two values the difference counts, with the noise of both.
    """
    slack = np.broadcast_to(slack, values.shape)
    found, centre = good.copy(), start.copy()
    lost = np.flatnonzero(np.isnan(centre))
    centre[lost] = middle(values[:, lost], good[:, lost])
    todo = slice(None)
    for _ in range(limits.iterations):
        v, g, kept = values[:, todo], good[:, todo], found[:, todo]
        deviation = _deviations(sigmas[:, todo], slack[:, todo], kept)
        distance = v - centre[todo]
        now = g & (distance <= np.float32(limits.high) * deviation) & (distance >= np.float32(-limits.low) * deviation)
        changed = np.flatnonzero((now != kept).any(axis=0))
        if not len(changed):
            break
        where = changed if isinstance(todo, slice) else todo[changed]
        found[:, where] = now[:, changed]
        centre[where] = middle(values[:, where], found[:, where])
        todo = where
    return found


def _deviations(sigmas, slack, good) -> np.ndarray:
    """Deviation (n, m) of each value from the centre of the good ones."""
    own = np.square(sigmas)
    number = good.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # values without sigma, pixels without values
        inverse = np.where(good, 1 / sigmas, np.float32(0)).sum(axis=0)
        soft = estimate.median_factor(number) * number.astype(np.float32) / np.square(inverse)
        of_centre = soft - 2 * sigmas / inverse
    variance = own + np.square(slack) + np.fmax(of_centre, np.float32(0))
    two = np.flatnonzero(number == 2)
    if len(two):
        noise, stars = (np.where(good[:, two], one[:, two], np.float32(0)).sum(axis=0) for one in (own, slack))
        variance[:, two] = noise + np.square(stars)
    return np.sqrt(variance)
