"""The profile of a frame's stars: an elliptical Moffat function, integrated over pixels and fitted to many stars at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SOFTEST, HARDEST = 1.25, 500.0  # beta: wings that just hold a finite flux, and a Gaussian but for 0.1 % of its width
MOST_ELONGATED = 6.0
FLOORS = (0.3, 0.1, 0.05, 0.02, 0.02, 0.02, 0.02, 0.02)  # of a pixel's model: how far it is trusted, pass by pass
ENOUGH = 0.002  # change of ln FWHM below which a fit has converged


@dataclass(frozen=True)
class Profile:
    """A star before it falls on pixels: I = I0 (1 + (2^(1/beta) - 1) u)^-beta, with u = 1 on the ellipse of half maximum.

    fwhm        pixels, geometric mean of the full widths along both axes of the ellipse
    beta        Moffat's exponent; a Gaussian is its limit and is reported as `HARDEST`
    elongation  long over short axis
    theta       degrees from the x axis towards the y axis, -90 to 90
    """

    fwhm: float
    beta: float = HARDEST
    elongation: float = 1.0
    theta: float = 0.0

    def integrated(self, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """Means over pixels, in units of the peak, float32 (n, m, k), at dx (n, k), dy (n, m) pixels from n centres."""
        shape = np.tile(_shape(self), (len(dx), 1))
        return _integrals(np.float32(dx), np.float32(dy), _precision(shape), 1 / self.beta, _nodes(self.fwhm))["I"]


@dataclass
class Stamps:
    """Square cut-outs around n stars, (n, m, m) float32, each divided by the `unit` (n,) of its star.

    data, variance  values without sky, and their squared standard deviations
    good            bool, pixels that count
    x, y            (n,) the stars' places from the middle pixel, changed by fits
    column, row     (n,) the middle pixel
    """

    data: np.ndarray
    variance: np.ndarray
    good: np.ndarray
    x: np.ndarray
    y: np.ndarray
    column: np.ndarray
    row: np.ndarray
    unit: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, which) -> Stamps:
        return Stamps(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Fits:
    """What fits to single stars gave, arrays (n,): pixels (x, y count from 0), the image's unit (peak, sky), degrees.

    chi2  per pixel, after what belongs to neighbours was weighed down; trusted: the fit ended inside of its limits
    """

    x: np.ndarray
    y: np.ndarray
    fwhm: np.ndarray
    elongation: np.ndarray
    theta: np.ndarray
    peak: np.ndarray
    sky: np.ndarray
    chi2: np.ndarray
    trusted: np.ndarray


def cut(image: np.ndarray, sigma, good: np.ndarray | None, x: np.ndarray, y: np.ndarray, radius: int) -> Stamps:
    """Stamps of 2 radius + 1 pixels around the stars at x, y (n,) of an image (ny, nx) without sky.

    sigma  its standard deviation, one number or (ny, nx); good bool (ny, nx), None where all pixels are
    """
    ny, nx = image.shape
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    reach = np.arange(-radius, radius + 1)
    columns, rows = column[:, None] + reach, row[:, None] + reach
    inside = ((rows >= 0) & (rows < ny))[:, :, None] & ((columns >= 0) & (columns < nx))[:, None, :]
    places = np.clip(rows, 0, ny - 1)[:, :, None], np.clip(columns, 0, nx - 1)[:, None, :]
    data = image[places].astype(np.float32)
    deviation = (
        np.asarray(sigma)[places].astype(np.float32) if np.ndim(sigma) else np.full(data.shape, sigma, np.float32)
    )
    use = inside & np.isfinite(data) & np.isfinite(deviation) & (deviation > 0)
    if good is not None:
        use &= good[places]
    unit = np.maximum(np.where(use, data, 0).max(axis=(1, 2), initial=0), 1e-6).astype(np.float32)
    scaled = np.where(use, data, 0) / unit[:, None, None]
    variance = (np.where(use, deviation, 1) / unit[:, None, None]) ** 2
    return Stamps(scaled, variance, use, x - column, y - row, column, row, unit)


def without_neighbours(stamps: Stamps, which, x, y, flux, fwhm: float) -> Stamps:
    """The stamps with those pixels out of use in which other stars shine.

    which  (n,) indices of the stamps' stars among all stars at x, y with `flux`; a circle of 1.5 FWHM is cut out around
    a star as bright as the stamp's, 0.8 FWHM more or less for each factor of ten.
    """
    radius = stamps.data.shape[1] // 2
    x, y, bright = (np.asarray(values, np.float32) for values in (x, y, np.log10(np.maximum(flux, 1e-9))))
    reach = _reach(bright[None, :] - bright[which][:, None], fwhm)
    near = np.abs(x[None, :] - x[which][:, None]) < reach + (radius + 1)
    near &= np.abs(y[None, :] - y[which][:, None]) < reach + (radius + 1)
    near[np.arange(len(which)), which] = False
    star, other = np.nonzero(near)
    if not len(star):
        return stamps
    along = np.arange(-radius, radius + 1, dtype=np.float32)
    dx = along - (x[other] - stamps.column[star].astype(np.float32))[:, None]
    dy = along - (y[other] - stamps.row[star].astype(np.float32))[:, None]
    lit = (dy**2)[:, :, None] + (dx**2)[:, None, :] < (reach[star, other] ** 2)[:, None, None]
    good = stamps.good.copy()
    first = np.flatnonzero(np.diff(star, prepend=-1))
    good[star[first]] &= ~np.logical_or.reduceat(lit, first, axis=0)
    return replace(stamps, good=good)


def _reach(ratio: np.ndarray, fwhm: float) -> np.ndarray:
    """Radius (pixels) within which a neighbour shines that is 10^ratio times as bright as the star."""
    return np.float32(fwhm) * np.clip(np.float32(1.5) + np.float32(0.8) * ratio, 0.5, 6.0)


def whole(stamps: Stamps, fwhm: float) -> np.ndarray:
    """bool (n,): stars of which every pixel within 0.8 FWHM of the centre counts, and most of the others."""
    radius = stamps.data.shape[1] // 2
    along = np.arange(-radius, radius + 1)
    core = np.hypot(along[:, None], along) <= max(0.8 * fwhm, 1.5)
    return (stamps.good | ~core).all(axis=(1, 2)) & (stamps.good.mean(axis=(1, 2)) > 0.5)


def common(stamps: Stamps, start: Profile, floors: tuple[float, ...] = FLOORS) -> Profile:
    """The one profile that fits all stamps best; each has its own centre, peak and sky.

    Gauss-Newton: the stars' own parameters are eliminated from the normal equations, so that a step costs the same for
    each star. Pixels count by their variance plus a share of the model (`FLOORS`), so that the brightest star does not
    decide alone, and less the further they lie from it (Cauchy's weights), so that neighbours and hits do not either.
    Changes the places of the stars in `stamps`. Raises ValueError without stamps.
    """
    if not len(stamps):
        raise ValueError("a profile cannot be fitted to 0 stars: at least 1 is needed")
    shape, q = _shape(start), 1 / start.beta
    for floor in floors:
        precision = _precision(np.tile(shape, (len(stamps), 1)))
        value = _values(stamps, precision, q, _nodes(2 * np.exp(shape[0])), slope=True)
        jacobian, residual, weight = _linear(stamps, value, np.tile(shape, (len(stamps), 1)), precision, floor)
        matrix, vector = _normal(jacobian, residual, weight)
        own, shared = slice(0, 4), slice(4, 8)
        inner = _solved(matrix[:, own, own], np.concatenate([matrix[:, own, shared], vector[:, own, None]], axis=2))
        left = matrix[:, shared, shared] - matrix[:, shared, own] @ inner[:, :, :4]
        right = vector[:, shared] - (matrix[:, shared, own] @ inner[:, :, 4:])[:, :, 0]
        left, right = left.sum(axis=0), right.sum(axis=0)
        left[3, 3] += 1 / 0.2**2  # few faint stars say nothing about their wings: beta = 4 then
        right[3] += (0.25 - q) / 0.2**2
        left += 1e-6 * np.diag(np.diag(left)) + 1e-9 * np.eye(4)
        step = np.linalg.solve(left, right)
        moves = inner[:, :, 4] - inner[:, :, :4] @ step
        _move(stamps, moves)
        shape, q = _bounded(shape + np.clip(step[:3], -0.3, 0.3)), float(q + np.clip(step[3], -0.15, 0.15))
        q = min(max(q, 1 / HARDEST), 1 / SOFTEST)
        if floor == floors[-1] and abs(step[0]) < ENOUGH and abs(step[3]) < 0.01:
            break
    # Noise alone makes any star look elongated, by the root of the sum of both variances.
    size, noise = np.hypot(shape[1], shape[2]), np.diag(np.linalg.inv(left))[1:3].sum()
    shape[1:] *= np.sqrt(max(size**2 - noise, 0)) / max(size, 1e-9)
    return _profile(shape, q)


def each(stamps: Stamps, profile: Profile, floors: tuple[float, ...] = (0.1, 0.03, 0.02)) -> Fits:
    """Each star's own width, elongation and angle, with the exponent of `profile` and from its shape on.

    Changes the places of the stars in `stamps`.
    """
    n, q, nodes = len(stamps), 1 / profile.beta, _nodes(profile.fwhm)
    shape = np.tile(_shape(profile), (n, 1))
    for floor in floors:
        precision = _precision(shape)
        value = _values(stamps, precision, q, nodes)
        jacobian, residual, weight = _linear(stamps, value, shape, precision, floor)
        step = _solved(*_normal(jacobian, residual, weight))
        _move(stamps, step)
        shape = _bounded(shape + np.clip(step[:, 4:], -0.4, 0.4))
    ratio = np.hypot(shape[:, 1], shape[:, 2])
    used = np.maximum(stamps.good.sum(axis=(1, 2)), 1)
    chi2 = (weight * residual**2).sum(axis=1) / used
    amplitude, sky = _amplitudes(stamps, value["I"], weight)
    trusted = (np.abs(step[:, 4]) < 0.1) & (np.abs(shape[:, 0] - np.log(profile.fwhm / 2)) < 1.5) & (amplitude > 0)
    return Fits(
        x=stamps.column + stamps.x,
        y=stamps.row + stamps.y,
        fwhm=2 * np.exp(shape[:, 0]),
        elongation=np.exp(ratio),
        theta=np.degrees(0.5 * np.arctan2(shape[:, 2], shape[:, 1])),
        peak=amplitude * stamps.unit,
        sky=sky * stamps.unit,
        chi2=chi2,
        trusted=trusted & np.isfinite(shape).all(axis=1) & (np.hypot(stamps.x, stamps.y) < 1.5),
    )


def width_of_share(share: np.ndarray, beta: float, inner: float, outer: float) -> np.ndarray:
    """FWHM (pixels) of round stars of which `share` of the light within the radius `outer` lies within `inner`.

    From the growth of Moffat's profile, 1 - (1 + (r / a)^2)^(1 - beta), as it lies on the pixels; a share that no star has
    gives the sharpest or the widest that the table holds.
    """
    width = np.geomspace(0.05 * inner, 20 * outer, 400)
    scale = width / (2 * np.sqrt(2 ** (1 / beta) - 1))
    inside, outside = (1 - (1 + (radius / scale) ** 2) ** (1 - beta) for radius in (inner, outer))
    return np.interp(share, (inside / outside)[::-1], width[::-1])


# ---- shapes ----------------------------------------------------------------------------------------------------------
# A shape is (s, e1, e2): s = ln of half the FWHM; u = d' P d with P = exp(-2 s) exp(-[[e1, e2], [e2, -e1]]), d the
# distance from the centre. The axes' ratio is then exp(|e|), and any numbers make an ellipse.


def _shape(profile: Profile) -> np.ndarray:
    size, angle = np.log(profile.elongation), np.radians(2 * profile.theta)
    return np.array([np.log(profile.fwhm / 2), size * np.cos(angle), size * np.sin(angle)])


def _profile(shape: np.ndarray, q: float) -> Profile:
    s, e1, e2 = (float(value) for value in shape)
    return Profile(
        2 * float(np.exp(s)), 1 / q, float(np.exp(np.hypot(e1, e2))), float(np.degrees(np.arctan2(e2, e1)) / 2)
    )


def _bounded(shape: np.ndarray) -> np.ndarray:
    """Shapes (..., 3) kept from 0.3 to 80 pixels and from being needles."""
    size = np.hypot(shape[..., 1], shape[..., 2])
    shrink = np.minimum(1, np.log(MOST_ELONGATED) / np.maximum(size, 1e-9))
    return np.stack(
        [np.clip(shape[..., 0], np.log(0.15), np.log(40)), shape[..., 1] * shrink, shape[..., 2] * shrink], axis=-1
    )


def _precision(shape: np.ndarray) -> np.ndarray:
    """P11, P12, P22 (n, 3) of shapes (n, 3)."""
    _, e1, e2 = shape.T
    cosine, sine = _hyperbolic(e1, e2)
    return np.exp(-2 * shape[:, :1]) * np.stack([cosine - sine * e1, -sine * e2, cosine + sine * e1], axis=1)


def _precision_slopes(shape: np.ndarray) -> np.ndarray:
    """Derivatives of P11, P12, P22 by e1 and e2, (n, 2, 3)."""
    s, e1, e2 = shape.T
    cosine, sine = _hyperbolic(e1, e2)
    square = e1**2 + e2**2
    bend = np.where(square > 1e-6, (cosine - sine) / np.maximum(square, 1e-6), 1 / 3)
    by_e1 = [sine * e1 - bend * e1 * e1 - sine, -bend * e1 * e2, sine * e1 + bend * e1 * e1 + sine]
    by_e2 = [sine * e2 - bend * e2 * e1, -bend * e2 * e2 - sine, sine * e2 + bend * e2 * e1]
    return np.exp(-2 * s)[:, None, None] * np.stack([np.stack(by_e1, axis=1), np.stack(by_e2, axis=1)], axis=1)


def _hyperbolic(e1: np.ndarray, e2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cosh |e| and sinh |e| / |e|."""
    size = np.maximum(np.hypot(e1, e2), 1e-6)
    return np.cosh(size), np.sinh(size) / size


# ---- integrals over pixels -------------------------------------------------------------------------------------------


def _nodes(fwhm: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes within a pixel and their weights: the sharper the stars the more, for errors below 1e-3."""
    nodes, weights = np.polynomial.legendre.leggauss(2 if fwhm > 2.2 else 3 if fwhm > 1.2 else 5)
    return nodes / 2, weights / 2


def _integrals(dx, dy, precision, q: float, nodes, slope: bool = False) -> dict[str, np.ndarray]:
    """Means over pixels of I and of what its derivatives are made of, each (n, m, k) float32.

    With g = -dI/du: I, g x, g y, g x^2, g x y, g y^2 (named x, y, xx, xy, yy), and dI/dq where `slope` asks; q = 1 / beta.
    """
    p11, p12, p22 = (precision[:, k, None].astype(np.float32) for k in range(3))
    rise = np.float32(2**q - 1)
    names = ("I", "x", "y", "xx", "xy", "yy", *(("q",) if slope else ()))
    total = {name: np.zeros((len(dx), dy.shape[1], dx.shape[1]), np.float32) for name in names}
    exponent, rate, growth = np.float32(-1 / q), np.float32(rise / q), np.float32(np.log(2) * 2**q / q)
    for node_y, weight_y in zip(*nodes, strict=True):
        y = dy + np.float32(node_y)
        for node_x, weight_x in zip(*nodes, strict=True):
            x, share = dx + np.float32(node_x), np.float32(weight_x * weight_y)
            u = y[:, :, None] * (2 * p12 * x)[:, None, :]
            u += (p11 * x * x)[:, None, :]
            u += (p22 * y * y)[:, :, None]
            base = u * rise
            base += 1
            log = np.log(base)
            value = log * exponent
            np.exp(value, out=value)
            value *= share
            total["I"] += value
            if slope:
                log *= np.float32(1 / q**2)
                log -= growth * u / base
                log *= value
                total["q"] += log
            value /= base
            value *= rate
            by_x, by_y = value * x[:, None, :], value * y[:, :, None]
            total["x"] += by_x
            total["y"] += by_y
            total["xy"] += by_x * y[:, :, None]
            by_x *= x[:, None, :]
            by_y *= y[:, :, None]
            total["xx"] += by_x
            total["yy"] += by_y
    return total


def _values(stamps: Stamps, precision, q, nodes, slope: bool = False) -> dict[str, np.ndarray]:
    radius = stamps.data.shape[1] // 2
    along = np.arange(-radius, radius + 1)
    dx, dy = (np.float32(along - place[:, None]) for place in (stamps.x, stamps.y))
    return _integrals(dx, dy, precision, q, nodes, slope)


# ---- least squares ---------------------------------------------------------------------------------------------------


def _linear(stamps: Stamps, value: dict, shape, precision, floor: float):
    """Jacobian (n, k, m^2) by peak, sky, x, y, s, e1, e2 (and q); residuals and weights (n, m^2), at the best linear fit."""
    n = len(stamps)
    flat = {name: array.reshape(n, -1) for name, array in value.items()}
    data, good = stamps.data.reshape(n, -1), stamps.good.reshape(n, -1)
    variance = stamps.variance.reshape(n, -1)
    model_error = np.float32(floor) * (flat["I"] + np.float32(0.1))  # the stamps' peaks are about 1
    weight = good / (variance + model_error**2)
    for _ in range(2):
        amplitude, sky = _amplitudes(stamps, value["I"], weight)
        residual = data - amplitude[:, None] * flat["I"] - sky[:, None]
        weight = good / (variance + model_error**2 + residual**2 / 9)
    a = amplitude[:, None]
    p11, p12, p22 = (precision[:, k, None].astype(np.float32) for k in range(3))
    slopes = _precision_slopes(shape).astype(np.float32)[..., None]
    jacobian = np.empty((n, 8 if "q" in flat else 7, data.shape[1]), np.float32)
    jacobian[:, 0], jacobian[:, 1] = flat["I"], 1
    jacobian[:, 2] = 2 * a * (p11 * flat["x"] + p12 * flat["y"])
    jacobian[:, 3] = 2 * a * (p12 * flat["x"] + p22 * flat["y"])
    jacobian[:, 4] = 2 * a * (p11 * flat["xx"] + 2 * p12 * flat["xy"] + p22 * flat["yy"])
    for k in (0, 1):
        d11, d12, d22 = slopes[:, k, 0], slopes[:, k, 1], slopes[:, k, 2]
        jacobian[:, 5 + k] = -a * (d11 * flat["xx"] + 2 * d12 * flat["xy"] + d22 * flat["yy"])
    if "q" in flat:
        jacobian[:, 7] = a * flat["q"]
    return jacobian, residual, weight.astype(np.float32)


def _amplitudes(stamps: Stamps, value: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Peak and sky (n,) that fit best, with the profile as it is."""
    n = len(stamps)
    value, data = value.reshape(n, -1), stamps.data.reshape(n, -1)
    one, first, second = weight.sum(axis=1), (weight * value).sum(axis=1), (weight * value**2).sum(axis=1)
    zero, slope = (weight * data).sum(axis=1), (weight * value * data).sum(axis=1)
    determinant = np.maximum(one * second - first**2, 1e-12 * np.maximum(one * second, 1e-12))
    return (one * slope - first * zero) / determinant, (second * zero - first * slope) / determinant


def _normal(jacobian, residual, weight) -> tuple[np.ndarray, np.ndarray]:
    """J' W J (n, k, k) and J' W r (n, k)."""
    weighted = jacobian * weight[:, None, :]
    matrix = (weighted @ jacobian.transpose(0, 2, 1)).astype(float)
    return matrix, (weighted @ residual[:, :, None])[:, :, 0].astype(float)


def _solved(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Solutions of n small systems; what nothing determines stays where it is."""
    diagonal = np.einsum("nii->ni", matrix)
    ridge = 1e-5 * diagonal + 1e-9 * np.maximum(diagonal.max(axis=1, keepdims=True), 1e-9)
    matrix = matrix + ridge[:, :, None] * np.eye(matrix.shape[1])
    return np.linalg.solve(matrix, vector if vector.ndim == 3 else vector[:, :, None])[
        :, :, slice(None) if vector.ndim == 3 else 0
    ]


def _move(stamps: Stamps, step: np.ndarray) -> None:
    """Places of the stars after a step (n, 2 or more: peak, sky, x, y)."""
    stamps.x = np.clip(stamps.x + np.clip(step[:, 2], -0.4, 0.4), -2, 2)
    stamps.y = np.clip(stamps.y + np.clip(step[:, 3], -0.4, 0.4), -2, 2)
