"""Particle hits by their Laplacian (L.A.Cosmic): the mask of one astroscrappy call, looking only where a hit can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

MARGIN = 8  # pixels around a frame, so that windows around its pixels lie inside
BATCH = 1024  # windows that are worked on at a time: what stays in a processor's cache
FILLED = 1 << 14  # hits that are filled at a time: 25 places around each take 200 bytes
BAND = 1 << 16  # pixels of a band of rows, for the same reason
DENSE = 50  # where more than one pixel in so many is asked for, it is quicker to calculate all
REACH = 10  # pixels from a changed value beyond which no hit depends on it
ROUNDING = 1e-6  # what differs by less, in units of the greatest value or of itself, may be equal
MODERATE = 1e30  # values up to which no sum overflows
LOWEST, FLATTEST = np.float32(1e-5), np.float32(0.01)  # where astroscrappy clips variance and fine structure


def find(
    image: np.ndarray,
    ignore: np.ndarray,
    variance: np.ndarray,
    sigclip: float = 4.5,
    sigfrac: float = 0.3,
    objlim: float = 5.0,
    niter: int = 4,
    sepmed: bool = True,
    cleantype: str = "meanmask",
    fsmode: str = "median",
    **psf,
) -> np.ndarray:
    """Pixels hit by particles, bool (ny, nx): what `astroscrappy.detect_cosmics` flags with these options.

    With L the mean over a pixel's quarters of their Laplacians where these are positive, N the square root of the
    variance's M7, and M5, M7, M9 medians of so many pixels along rows and then along columns,

        S = L / 2N,   S' = S - M7(S),   F = (M5(I) - M9(M5(I))) / N,

    a hit has S' > sigclip and S' > objlim F; neighbours of hits are hits above sigclip, and neighbours of all these above
    sigfrac sigclip. Then hits are filled, in image and variance, from the 5x5 pixels around them, and the search is
    repeated, niter times at most (van Dokkum 2001, PASP 113, 1420, as in astroscrappy 1.3 by McCully et al., whose
    rounding and edges these are: nothing is found within 3 pixels of the edges and beside `ignore`).

    Most pixels are ruled out at a glance: L is at most twice what a pixel has above its lowest neighbour, M7(S) is not
    negative, and N not below the root of the lowest variance around. Only the others are calculated, and in later
    iterations only those where a filled value may have changed something. This takes a tenth to a hundredth of the time,
    a third where a pixel in ten is hit.

    image      float32 (ny, nx), light without pedestal in any unit; variance float32 in the square of that
    ignore     bool (ny, nx), pixels that are no hits and that hits are not filled from
    psf        psfmodel, psffwhm, psfsize, psfbeta of fsmode "convolve"

    Left to astroscrappy are sepmed False, fsmode "convolve", cleantype "median" (for which 1.3 reads memory that was never
    written), negative limits, and images with values that are not finite or beyond 1e30.
    """
    if min(image.shape) < 5:  # all edge, and astroscrappy would write beyond its end
        return np.zeros(image.shape, bool)
    limits = np.float32(sigclip), np.float32(sigfrac) * np.float32(sigclip), np.float32(objlim)
    usual = sepmed and fsmode == "median" and cleantype in FILLINGS and min(limits) >= 0
    if not usual or not (_greatest(image) < MODERATE and _greatest(variance) < MODERATE):
        from astroscrappy import detect_cosmics

        how = {"sigclip": sigclip, "sigfrac": sigfrac, "objlim": objlim, "niter": niter, **psf}
        how |= {"sepmed": sepmed, "cleantype": cleantype, "fsmode": fsmode}
        return detect_cosmics(image, inmask=ignore, invar=variance, satlevel=np.inf, **how)[0]
    frame = _Frame(image, ignore, variance)
    candidates = active = frame.usable(_rising(frame, limits[0]))
    for _ in range(niter):
        found = _search(frame, active, *limits)
        new = found[~frame.hit.ravel()[found]]
        frame.hit.ravel()[new] = True
        changed = _fill(frame, new, FILLINGS[cleantype])
        if not changed.size:
            break
        candidates = frame.usable(_unique(candidates, frame.around(changed, 1)))
        active = frame.near(candidates, changed)
    return frame.inner(frame.hit)


class _Frame:
    """What is known of a frame, with a margin; places are indices into these images when they are flat.

    light      float32, with hits filled, as is variance
    least      float32, what L is not below in any iteration where S is 1
    ignored    uint8, with what lies beside; hit bool
    """

    def __init__(self, image: np.ndarray, ignore: np.ndarray, variance: np.ndarray):
        from cv2 import BORDER_CONSTANT, BORDER_REPLICATE, copyMakeBorder, dilate, erode

        def padded(values, how):
            return copyMakeBorder(values, MARGIN, MARGIN, MARGIN, MARGIN, how, value=0)

        self.shape, self._image, self._variance = image.shape, image, variance
        self.light, self.variance = padded(image, BORDER_CONSTANT), padded(variance, BORDER_REPLICATE)
        ignore = np.ascontiguousarray(ignore, np.uint8)
        ignored = dilate(ignore, np.ones((3, 3), np.uint8))
        for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            ignored[edge] = ignore[edge]
        self.ignored = padded(ignored, BORDER_CONSTANT)
        self.hit = np.zeros(self.light.shape, bool)
        # M7 is not below the lowest of its pixels, nor are those that were filled below the lowest of the 5x5 around them.
        # With less, the level of the whole frame, only those are filled that lie more than 2 pixels from any that is not
        # a hit, and so close to one no M7 has more than 3 such rows or, in the others, more than 3 such pixels.
        self.least = erode(self.variance, np.ones((11, 11), np.uint8))
        np.sqrt(np.maximum(self.least, LOWEST, out=self.least), out=self.least)
        self.least *= np.float32(2 * (1 - ROUNDING))

    def inner(self, image: np.ndarray) -> np.ndarray:
        """An image without its margin."""
        return image[MARGIN:-MARGIN, MARGIN:-MARGIN]

    def square(self, reach: int) -> np.ndarray:
        """What leads from a place to those of the square around it, (2 reach + 1, 2 reach + 1)."""
        steps = np.arange(-reach, reach + 1)
        return steps[:, None] * self.light.shape[1] + steps

    def around(self, places: np.ndarray, reach: int) -> np.ndarray:
        """Places up to `reach` pixels from any of these, themselves included, in their order."""
        steps = self.square(reach).ravel()
        if len(places) * DENSE < self.light.size:
            return _unique((places + steps[:, None]).ravel())
        near = np.zeros(self.light.size, bool)
        for step in steps:
            near[places + step] = True
        return np.flatnonzero(near)

    def usable(self, places: np.ndarray) -> np.ndarray:
        """Those that are not ignored."""
        return places[self.ignored.ravel()[places] == 0]

    def near(self, places: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Those of the places that lie up to REACH pixels from any of the others, and a few that lie further away."""
        from cv2 import dilate

        if len(others) * DENSE > self.light.size:  # then hardly any is not
            return places
        (row, column), (y, x) = (np.divmod(which, self.light.shape[1]) for which in (places, others))
        cells = np.zeros([1 + side // REACH for side in self.light.shape], np.uint8)
        cells[y // REACH, x // REACH] = 1
        return places[dilate(cells, np.ones((3, 3), np.uint8))[row // REACH, column // REACH] > 0]

    @cached_property
    def levels(self) -> tuple[float, float]:
        """Medians of image and variance, as they were, where nothing is ignored; the lower one of two."""
        good = self.inner(self.ignored) == 0
        middle = (np.count_nonzero(good) - 1) // 2
        levels = []
        for values in (self._image, self._variance):
            values = np.where(good, values, np.float32(np.inf)).ravel()
            values.partition(middle)
            levels.append(values[middle])
        return tuple(levels)

    def bands(self) -> Iterator[_Band]:
        """The frame in parts."""
        height = max(BAND // self.shape[1], 1)
        for top in range(0, self.shape[0], height):
            yield _Band(self, top, min(top + height, self.shape[0]))

    def measure(self, quantity: Callable, places: np.ndarray) -> np.ndarray:
        """quantity(view) at places, float32 (n,)."""
        if len(places) * DENSE > self.shape[0] * self.shape[1]:
            everywhere = np.zeros_like(self.light)
            for band in self.bands():
                self.inner(everywhere)[band.top : band.bottom] = quantity(band)[:, :, 0]
            return everywhere.ravel()[places]
        values = np.empty(len(places), np.float32)
        for start in range(0, len(places), BATCH):
            part = slice(start, start + BATCH)
            values[part] = quantity(_Around(self, places[part]))[0, 0]
        return values


class _Around:
    """Squares around n places: images are (2 reach + 1, 2 reach + 1, n)."""

    def __init__(self, frame: _Frame, places: np.ndarray):
        self.frame, self.places = frame, places
        self.y, self.x = (at - MARGIN for at in np.divmod(places, frame.light.shape[1]))

    def of(self, image: np.ndarray, reach: int) -> np.ndarray:
        """The image with `reach` pixels on all sides."""
        return image.ravel().take(self.frame.square(reach)[:, :, None] + self.places)

    def lines(self, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of such an image in the frame, each (length, n)."""
        steps = np.arange(-reach, reach + 1)[:, None]
        return self.y + steps, self.x + steps


class _Band:
    """Rows of a frame from top to bottom: images are (bottom - top + 2 reach, nx + 2 reach, 1)."""

    def __init__(self, frame: _Frame, top: int, bottom: int):
        self.frame, self.top, self.bottom = frame, top, bottom

    def of(self, image: np.ndarray, reach: int) -> np.ndarray:
        """The image with `reach` pixels on all sides."""
        beside = MARGIN - reach
        return image[self.top + beside : self.bottom + MARGIN + reach, beside : image.shape[1] - beside, None]

    def lines(self, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of such an image in the frame, each (length, 1)."""
        rows = np.arange(self.top - reach, self.bottom + reach)
        return rows[:, None], np.arange(-reach, self.frame.shape[1] + reach)[:, None]


View = _Around | _Band


def _greatest(values: np.ndarray) -> float:
    """The greatest value without regard to its sign; NaN where any is."""
    return max(-values.min(), values.max()) if values.size else 0.0


def _unique(*places: np.ndarray) -> np.ndarray:
    """Each of the places once, in their order."""
    places = np.sort(np.concatenate(places))
    return places[np.diff(places, prepend=-1) > 0]


def _rising(frame: _Frame, sigclip: np.float32) -> np.ndarray:
    """Places that stand out of their lowest neighbour so far that they may be above sigclip."""
    from cv2 import MORPH_CROSS, erode, getStructuringElement

    cross = getStructuringElement(MORPH_CROSS, (3, 3))
    (ny, nx), places = frame.shape, [np.zeros(0, int)]
    slack = np.float32(ROUNDING * _greatest(frame.light))
    for band in frame.bands():
        light = band.of(frame.light, 1)[:, :, 0]
        rise = np.subtract(light, erode(light, cross))[1:-1, 1:-1]
        limit = band.of(frame.least, 0)[:, :, 0] * (sigclip / 2)
        limit -= slack
        rows, columns = np.divmod(np.flatnonzero(rise > limit), nx)
        inside = (columns >= 3) & (columns < nx - 3) & (rows + band.top >= 3) & (rows + band.top < ny - 3)
        places.append(((rows + band.top + MARGIN) * frame.light.shape[1] + columns + MARGIN)[inside])
    return np.concatenate(places)


def _above(frame: _Frame, places: np.ndarray, limit: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Those of the places with S' above a limit, and their S'."""
    places = places[frame.measure(_own_laplacian, places) > limit * frame.least.ravel()[places]]
    excess = frame.measure(_excess, places)
    above = excess > limit
    return places[above], excess[above]


def _search(frame: _Frame, places: np.ndarray, sigclip, siglow, objlim) -> np.ndarray:
    """Hits among these places, and their neighbours that are hits because of them."""
    places, excess = _above(frame, places, sigclip)
    sharp = places[excess / frame.measure(_fine_structure, places) > objlim]
    chosen = np.intersect1d(places, frame.around(sharp, 1), assume_unique=True)
    return _above(frame, frame.usable(frame.around(chosen, 1)), siglow)[0]


def _own_laplacian(view: View) -> np.ndarray:
    """L of a view."""
    return _laplacian(view.of(view.frame.light, 1))


def _excess(view: View) -> np.ndarray:
    """S' of a view."""
    significance = _laplacian(view.of(view.frame.light, 4))
    noise = _noise(view, 3)
    noise *= 2
    significance /= noise
    return _core(significance, 3) - _smooth(significance, view, 0, _median7)


def _fine_structure(view: View) -> np.ndarray:
    """F of a view."""
    smooth = _smooth(view.of(view.frame.light, 6), view, 4, _median5)
    fine = _core(smooth, 4) - _smooth(smooth, view, 0, _median9)
    fine /= _noise(view, 0)
    return np.maximum(fine, FLATTEST, out=fine)


def _noise(view: View, reach: int) -> np.ndarray:
    """N of a view with `reach` pixels on all sides."""
    noise = _smooth(view.of(view.frame.variance, reach + 3), view, reach, _median7)
    np.maximum(noise, LOWEST, out=noise)
    return np.sqrt(noise, out=noise)


def _laplacian(light: np.ndarray) -> np.ndarray:
    """L of an image that is one pixel wider on all sides, with 0 beyond the frame's edge.

    A quarter has its own pixel p beside it on two sides, and on the others two of its neighbours: its Laplacian is
    4 p - p - p - a - b. The order of the sums is that of astroscrappy as it is compiled for x86-64, so both round alike.
    """
    middle = light[1:-1, 1:-1]
    four = middle * 4
    left = (four - middle) - light[1:-1, :-2]
    right = np.subtract(four, light[1:-1, 2:], out=four)
    right -= middle
    rows = light[1:, 1:-1] + light[:-1, 1:-1]
    upper, lower = rows[:-1], rows[1:]
    quarters = left - upper, right - lower, np.subtract(left, lower, out=left), np.subtract(right, upper, out=right)
    for quarter in quarters:
        np.maximum(quarter, 0, out=quarter)
    total, others = quarters[0], quarters[2]
    total += quarters[1]
    others += quarters[3]
    total += others
    total *= np.float32(0.25)
    return total


def _smooth(values: np.ndarray, view: View, reach: int, median: Callable) -> np.ndarray:
    """The medians along rows and then columns, of a view with `reach` pixels on all sides.

    On the rim of the frame, where a median would need what is outside, astroscrappy leaves values as they are.
    """
    smooth = median(median(values.swapaxes(0, 1)).swapaxes(0, 1))
    rim = (len(values) - len(smooth)) // 2
    rows, columns = ((at < rim) | (at >= n - rim) for at, n in zip(view.lines(reach), view.frame.shape, strict=True))
    if rows.any() or columns.any():
        np.copyto(smooth, _core(values, rim), where=rows[:, None] | columns)
    return smooth


def _core(values: np.ndarray, width: int) -> np.ndarray:
    """The values without `width` pixels on all sides."""
    return values[width:-width, width:-width]


def _sorted3(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each value and the two that follow on the first axis, in the order of their size."""
    low, high = np.minimum(values[:-2], values[1:-1]), np.maximum(values[:-2], values[1:-1])
    middle = np.minimum(high, values[2:])
    np.maximum(middle, low, out=middle)
    return np.minimum(low, values[2:], out=low), middle, np.maximum(high, values[2:], out=high)


def _median3(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> np.ndarray:
    """The median of three images."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    return np.maximum(low, np.minimum(high, third, out=high), out=low)


def _median5(values: np.ndarray) -> np.ndarray:
    """Medians of 5 on the first axis: of the middle one and the middle two of the pairs on both sides."""
    n = len(values) - 4
    low, high = np.minimum(values[:-1], values[1:]), np.maximum(values[:-1], values[1:])
    return _median3(values[2 : n + 2], np.maximum(low[:n], low[3:]), np.minimum(high[:n], high[3:]))


def _median7(values: np.ndarray) -> np.ndarray:
    """Medians of 7 on the first axis: of the middle one and the middle two of the triples on both sides."""
    n = len(values) - 6
    low, middle, high = _sorted3(values)
    crossed = np.maximum(low[:n], middle[4:]), np.maximum(middle[:n], low[4:])
    third = np.minimum(np.minimum(*crossed), np.minimum(high[:n], high[4:]))
    crossed = np.minimum(high[:n], middle[4:]), np.minimum(middle[:n], high[4:])
    fourth = np.maximum(np.maximum(*crossed), np.maximum(low[:n], low[4:]))
    return np.maximum(third, np.minimum(fourth, values[3 : n + 3]))


def _median9(values: np.ndarray) -> np.ndarray:
    """Medians of 9 on the first axis, from those of three triples: highest low one, middle one, lowest high one."""
    n = len(values) - 8
    low, middle, high = _sorted3(values)
    highest = np.maximum(np.maximum(low[:n], low[3 : n + 3]), low[6:])
    lowest = np.minimum(np.minimum(high[:n], high[3 : n + 3]), high[6:])
    return _median3(highest, _median3(middle[:n], middle[3 : n + 3], middle[6:]), lowest)


def _fill(frame: _Frame, new: np.ndarray, filling: Callable) -> np.ndarray:
    """Fill new hits, and again those beside them, from the pixels around that are none. Places whose values changed."""
    places = frame.around(new, 2)
    places = places[frame.hit.ravel()[places]]
    changed = np.zeros(len(places), bool)
    for start in range(0, len(places), FILLED):
        part = slice(start, start + FILLED)
        changed[part] = _fill_some(frame, places[part], filling)
    return places[changed]


def _fill_some(frame: _Frame, places: np.ndarray, filling: Callable) -> np.ndarray:
    """Fill these hits; which of them changed. Only pixels that are no hits are read: the order does not matter."""
    around = places[:, None] + frame.square(2).ravel()
    good = ~frame.hit.ravel()[around] & (frame.ignored.ravel()[around] == 0)
    lonely = ~good.any(axis=1)
    changed = np.zeros(len(places), bool)
    for which, filled in enumerate((frame.light.ravel(), frame.variance.ravel())):
        values = filling(filled[around], good)
        if lonely.any():
            values[lonely] = frame.levels[which]
        changed |= values != filled[places]
        filled[places] = values
    return changed


def _medians(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Of the good values in each row of (n, 25); the lower one of two."""
    ordered = np.sort(np.where(good, values, np.float32(np.inf)), axis=1)
    middle = (np.maximum(np.count_nonzero(good, axis=1), 1) - 1) // 2
    return ordered[np.arange(len(values)), middle]


def _means(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Of the good values in each row of (n, 25)."""
    return _weighted(values, good, np.ones(25, np.float32))


def _by_distance(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Means of the good values in each row of (n, 25), weighted by the inverse of their distances from the middle."""
    distance = np.hypot(*np.indices((5, 5)) - 2).ravel()
    return _weighted(values, good, (1 / np.maximum(distance, 1)).astype(np.float32))


def _weighted(values: np.ndarray, good: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of the good values in each row of (n, 25), summed up in their order; NaN where there are none."""
    total, weight = np.zeros((2, len(values)), np.float32)
    for value, usable, share in zip(values.T, good.T, weights, strict=True):
        np.add(total, share * value, out=total, where=usable)
        np.add(weight, share, out=weight, where=usable)
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


FILLINGS = {"medmask": _medians, "meanmask": _means, "idw": _by_distance}
