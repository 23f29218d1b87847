"""The sky behind a picture: its level or its slope in each filter, from the squares where nothing else shines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frame import size

ORDERS = {"constant": 0, "plane": 1, "surface": 3}
SAMPLE = 150_000  # pixels that limits are taken from; a median of so many is good to 0.3 % of the noise
SQUARES = 24  # along the shorter side
# A square's worth of sky is looked for among the tenth that is darkest: a nebula may fill nine tenths.
DARKEST = 0.1
GROWTH = 4  # fits of each order of a surface, each to what lies close to the one before
FAR = 6.0  # by which squares of the sky on one side may make a polynomial less certain on the other
NEAR = 0.5  # noises of a pixel: squares that far above the darkest may still be sky


@dataclass(frozen=True)
class Backdrop:
    """Sky of one filter: sum of coefficients[i, j] y^i x^j with x, y from -1 to 1 across the image; noise of a pixel."""

    coefficients: np.ndarray
    noise: float

    @property
    def slope(self) -> float:
        """Highest less lowest level across the image."""
        return float(np.ptp(self.image((33, 33))))

    def image(self, shape: tuple[int, int]) -> np.ndarray:
        """The sky as float32 (ny, nx)."""
        order = len(self.coefficients)
        y, x = (np.vander(np.linspace(-1, 1, n), order, increasing=True) for n in shape)
        return (y @ self.coefficients).astype(np.float32) @ x.T.astype(np.float32)


def sampled(data: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Every n-th row and column of an image (ny, nx), and where they are good: numbers without a bit of the mask."""
    step = max(1, int(np.sqrt(data.size / SAMPLE)))
    part = data[::step, ::step]
    good = np.isfinite(part)
    if mask is not None:
        good &= mask[::step, ::step] == 0
    return part, good


def sky_level(data: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
    """Level and noise of the empty sky of an image (ny, nx), in its unit: a clipped median, and 1.4826 MAD.

    The noise is taken from the pixels below the median, where stars and nebulae do not reach, and the pixels further
    than 3 of it away are left out until hardly any is. Masked pixels and NaN do not count; of large images every n-th
    row and column is looked at.
    Raises ValueError where no pixel is good.
    """
    part, good = sampled(data, mask)
    if not good.any():
        raise ValueError(f"no sky level: none of {size(data)} pixels is both a number and unmasked")
    values = part[good]
    for _ in range(20):
        level = float(np.median(values))
        noise = 1.4826 * float(np.median(level - values[values <= level]))
        kept = values[np.abs(values - level) <= 3 * noise] if noise > 0 else values
        if kept.size > 0.998 * values.size:
            break
        values = kept
    return level, noise


def backdrops(stacks: dict, names: list, background: str = "plane") -> dict[str, Backdrop]:
    """The sky of each filter, all taken at the same places: the darkest, where a nebula is not.

    stacks      {filter: (data, mask, ...)} on one grid, data (ny, nx)
    background  "constant": one level; "plane": with a slope; "surface": a polynomial of third order

    The image is parted into squares, 24 along the shorter side. A first constant and a first plane are those that a tenth
    of the squares' medians lie below (least sum of deviations weighted 1 to 9); the one that more squares lie close to
    counts, so that a plane does not follow a nebula, and a surface only where twice as many do. What rises above it,
    summed over the filters, by more than half a noise of a pixel is no sky; the rest is fitted by least squares, clipped
    upwards at 2.5 and downwards at 4 of its scatter. A surface grows from a plane: one order after the other is fitted
    to what lies within half a noise of the fit before. Where sky is left on one side of the image only, the order is
    not raised.
    Raises ValueError naming the filter that has no good pixel, or a background that does not exist.
    """
    if background not in ORDERS:
        raise ValueError(f"background is {background!r} but must be one of {', '.join(ORDERS)}")
    parts, skies = {}, {}
    for name in names:
        try:
            skies[name] = sky_level(*stacks[name][:2])
        except ValueError as error:
            raise ValueError(f"filter {name}: {error}") from None
        parts[name] = sampled(*stacks[name][:2])
    side = min(next(iter(parts.values()))[0].shape) // SQUARES
    flat = {name: Backdrop(np.array([[level]]), noise) for name, (level, noise) in skies.items()}
    if side < 4:
        return flat
    squares = {name: _squares(*part, side) for name, part in parts.items()}
    places = _places(parts[names[0]][0].shape, side)
    found = _fitted(squares, places, ORDERS[background])
    return {name: found.get(name, flat[name]) for name in names}


def _squares(part: np.ndarray, good: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Median and noise of each square (n,): NaN where less than half of it is good."""
    rows, columns = part.shape[0] // side, part.shape[1] // side
    shape = (rows, side, columns, side)
    cut = np.where(good, part, np.nan)[: rows * side, : columns * side].reshape(shape)
    values = np.sort(cut.swapaxes(1, 2).reshape(rows * columns, side * side), axis=1)  # NaN goes last
    count = np.isfinite(values).sum(axis=1)
    each = np.arange(len(values))
    median, quarter = (values[each, (share * np.maximum(count - 1, 0)).astype(int)] for share in (0.5, 0.25))
    enough = 2 * count >= side * side
    return np.where(enough, median, np.nan), np.where(enough, 1.4826 * (median - quarter), np.nan)


def _places(shape: tuple[int, int], side: int) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the squares as y, x (n,) from -1 to 1 across the image."""
    y, x = ((np.arange(n // side) + 0.5) * side / n * 2 - 1 for n in shape)
    return tuple(array.ravel() for array in np.meshgrid(y, x, indexing="ij"))


def _terms(places: tuple[np.ndarray, np.ndarray], order: int) -> np.ndarray:
    """The powers y^i x^j with i + j <= order at each place (n, terms)."""
    y, x = places
    return np.stack([y**i * x**j for i in range(order + 1) for j in range(order + 1 - i)], axis=1)


def _fitted(squares: dict, places: tuple, order: int) -> dict[str, Backdrop]:
    """Backdrops from the squares that are sky in all filters; of a lower order, at last none, where these are too few or
    lie too much to one side."""
    medians = {name: median for name, (median, _) in squares.items() if np.isfinite(median).any()}
    noises = {name: max(float(np.nanmedian(squares[name][1])), 1e-30) for name in medians}
    dark, first = _dark(places, order, medians, noises)
    found = {}
    for trial in (trial for trial in range(first, order + 1) for _ in range(GROWTH if order > 1 else 1)):
        terms = _terms(places, trial)
        fit, kept = _clipped_fit(terms, dark, medians, noises)
        if not fit:
            continue
        found = {
            name: Backdrop(_matrix(values, trial), float(np.median(squares[name][1][kept])))
            for name, values in fit.items()
        }
        dark = np.abs(_rise(terms, fit, medians, noises)) < NEAR
    return found or (_fitted(squares, places, min(order - 1, 1)) if order else {})


def _rise(terms: np.ndarray, fit: dict, medians: dict, noises: dict) -> np.ndarray:
    """By how much each square (n,) lies above polynomials, in noises of a pixel; the mean over the filters."""
    each = [(medians[name] - terms @ fit[name]) / noises[name] for name in medians]
    return sum(each) / np.sqrt(len(each))


def _dark(places: tuple, order: int, medians: dict, noises: dict) -> tuple[np.ndarray, int]:
    """Which squares are sky (n,): not above the constant, the plane or the surface that most of them lie close to, a
    surface only where they are more than twice as many. And the order to begin with."""
    best, most, first = np.zeros(len(places[0]), bool), 0, min(order, 1)
    for trial in sorted({0, min(order, 1), order}) if medians else ():
        terms = _terms(places, trial)
        rise = _rise(terms, {name: _lowest(terms, median) for name, median in medians.items()}, medians, noises)
        near = int((np.abs(rise) < NEAR).sum())
        if near > (2 * most if trial > 1 else most):
            best, most, first = rise < NEAR, near, max(trial, first)
    return best, first


def _clipped_fit(terms: np.ndarray, dark: np.ndarray, medians: dict, noises: dict) -> tuple[dict, np.ndarray]:
    """Coefficients for each filter by the squares that are dark, and which of them were kept; {} where they do not serve."""
    fit = {}
    for _ in range(10):
        if dark.sum() < max(3 * terms.shape[1], 8) or _reach(terms[dark], terms) > FAR * _reach(terms, terms):
            return {}, dark
        fit = {name: np.linalg.lstsq(terms[dark], median[dark], rcond=None)[0] for name, median in medians.items()}
        rise = _rise(terms, fit, medians, noises)
        middle = np.median(rise[dark])
        scatter = 1.4826 * np.median(np.abs(middle - rise[dark & (rise <= middle)]))
        kept = dark & (rise <= middle + 2.5 * scatter) & (rise >= middle - 4 * scatter)
        if scatter == 0 or kept.sum() == dark.sum():
            break
        dark = kept
    return fit, dark


def _reach(sample: np.ndarray, terms: np.ndarray) -> float:
    """Largest variance of a fit to a sample (n, k) at any of the places with `terms` (m, k), in those of a mean."""
    inverse = np.linalg.pinv(sample.T @ sample / len(sample))
    return float(np.einsum("ij,jk,ik->i", terms, inverse, terms).max())


def _lowest(terms: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients of the polynomial that the lowest tenth of the values lies below (regression quantile, Koenker &
    Bassett 1978, Econometrica 46, 33), by reweighted least squares."""
    good = np.isfinite(values)
    terms, values = terms[good], values[good]
    fit = np.zeros(terms.shape[1])
    fit[0] = np.quantile(values, DARKEST)
    least = 1e-3 * float(np.ptp(values)) or 1.0
    for _ in range(40):
        rest = values - terms @ fit
        weights = np.sqrt(np.where(rest > 0, DARKEST, 1 - DARKEST) / np.maximum(np.abs(rest), least))
        fit = np.linalg.lstsq(terms * weights[:, None], values * weights, rcond=None)[0]
    return fit


def _matrix(values: np.ndarray, order: int) -> np.ndarray:
    """The coefficients of `_terms` as a square of those of y^i x^j."""
    square = np.zeros((order + 1, order + 1))
    square[tuple(zip(*((i, j) for i in range(order + 1) for j in range(order + 1 - i)), strict=True))] = values
    return square
