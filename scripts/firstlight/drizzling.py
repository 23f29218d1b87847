"""A stack on finer pixels than its grid's: the pixels of lights shrunk and dropped where they belong, none interpolated.

Fruchter & Hook 2002, PASP 114, 144, by STScI's `drizzle`. What counts, with which weight, flux and sky is what the stack on the
grid found out; from there on lights are taken as they were before they were aligned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from astropy.io import fits

from . import honesty
from .frame import Frame, Mask, printable
from .pointing import rescaled
from .positions import Positions
from .resample import RADII, noise_cards

ROWS = 256  # of a light that are dropped at a time
EDGE = 2  # pixels without weight about them
# Share of its weight with which a value counts that is replaced or cut off: enough where there is nothing else.
SPARE = 1e-6
SEEN = 1e-4  # share of a frame's whole weight from which on it counts as covering a pixel
LOST = np.uint8(Mask.COSMIC_RAY | Mask.NO_DATA)
SPOILT = np.uint8(Mask.UNUSABLE | Mask.SATURATED | Mask.INTERPOLATED)
PATCH = 24  # pixels on a side, of which the noise that pixels share is worked out
PLACES = 10  # along each axis at which it is: frames that are turned against each other meet differently at each


class Rejected:
    """Which pixels of the grid were rejected in which frame."""

    def __init__(self, shape: tuple[int, int], frames: int):
        self.shape = shape
        self._places: list[list[np.ndarray]] = [[] for _ in range(frames)]

    def add(self, number: int, where: np.ndarray) -> None:
        """Take places in a flattened image."""
        self._places[number].append(np.asarray(where, np.uint32))

    def image(self, number: int) -> np.ndarray:
        """bool (ny, nx)."""
        out = np.zeros(self.shape, bool)
        for where in self._places[number]:
            out.reshape(-1)[where] = True
        return out


@dataclass(frozen=True)
class Found:
    """What the stack on the grid found out: pixels that were rejected; the masters' noise and their share of the variance, see
    `merging.merged`; bits that any frame has."""

    rejected: Rejected
    common: object
    share: np.ndarray | None
    seen: np.ndarray


@dataclass
class _Sums:
    """Sums over frames on the finer pixels, float32 (ny, nx): weights, weighted values, squared weights times variances."""

    weight: np.ndarray
    value: np.ndarray
    variance: np.ndarray

    @classmethod
    def of_shape(cls, shape) -> _Sums:
        return cls(*(np.zeros(shape, np.float32) for _ in range(3)))

    def add(self, mean, weight, variance) -> None:
        """A frame's weighted mean, sum of weights, and variance of the mean, which are not needed any longer."""
        self.weight += weight
        mean *= weight
        self.value += mean
        weight *= weight
        variance *= weight
        self.variance += variance

    def take(self, other: _Sums) -> None:
        self.weight += other.weight
        self.value += other.value
        self.variance += other.variance

    @property
    def mean(self) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.value / self.weight

    @property
    def sigma(self) -> np.ndarray:
        sigma = np.sqrt(self.variance)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.divide(sigma, self.weight, out=sigma)


def drizzled(stack, inputs: list, lights: dict, surfaces, found: Found, grid_wcs, scale: float, pixfrac: float):
    """The stack (`combine.Stack`) again, on pixels `scale` times as fine.

    inputs   of the stack, with their weights and scales; lights {name: function that gives (Frame, its WCS on the grid)}
    surfaces what is added to their skies, per pixel of the grid (`scaling.Surfaces`)
    found    what was found out on the grid
    pixfrac  side of a drop over that of a light's pixel, above 0 up to 1

    With a the area that the drop of pixel j of frame i shares with a pixel, A_j the area of the light's pixel there, w_i the
    frame's weight (0 for what was rejected or hit) and s_i its scale:

        data = sum a w_i (s_i d_j / A_j + sky_i) / sum a w_i,   sigma^2 = sum (a w_i s_i sigma_j / A_j)^2 / (sum a w_i)^2

    Flux is conserved: electrons of the reference exposure in a pixel of the finer ones. Neighbours share drops, NCORRnn tells
    by how much their sum is noisier. Where no drop falls there is NaN with the bit NO_DATA; where some frames are saturated
    the others' drops are what is left of a star's core, not all of it: SATURATED is set.
    """
    shape = tuple(round(size * scale) for size in stack.frame.shape)
    halves = [_Sums.of_shape(shape), _Sums.of_shape(shape)]
    coverage, full = np.zeros(shape, np.uint16), 0.0
    for number, one in enumerate(inputs):
        frame, wcs = lights[one.name]()
        positions = Positions(grid_wcs, wcs, frame.shape, stack.frame.shape)
        sky = lambda x, y, number=number: surfaces.at(number, x, y)  # noqa: E731
        spoilt = found.rejected.image(number)
        mean, weight, variance = _dropped(one, frame, positions, sky, spoilt, shape, scale, pixfrac)
        covered = weight > SEEN * one.weight
        coverage += covered
        full += one.weight
        halves[number % 2].add(mean, weight, variance)
        print(f"{one.name}: dropped on {covered.mean():.1%} of the pixels")
    return _finer(stack, inputs, halves, coverage, full, found, scale, pixfrac)


def _dropped(one, frame: Frame, positions: Positions, sky, spoilt, shape, scale, pixfrac):
    """Weighted mean, sum of weights and variance of the mean of one light on the finer pixels, float32 (ny, nx)."""
    from drizzle.resample import Drizzle

    out = Drizzle(
        kernel="square",
        fillval="0",
        fillval2="0",
        out_img=np.zeros(shape, np.float32),
        out_wht=np.zeros(shape, np.float32),
        out_img2=np.zeros(shape, np.float32),
        disable_ctx=True,
    )
    edges = np.linspace(0, frame.shape[0], -(-frame.shape[0] // ROWS) + 1).astype(int)
    for rows in map(slice, edges[:-1], edges[1:]):
        x, y, area = positions.rows(rows)
        there = np.isfinite(x) & np.isfinite(y)
        area = np.where(there, area * scale**2, 1.0)  # of the light's pixels, in finer pixels
        weight = one.weight * area * _worth(frame, rows, there)  # drizzle spreads a pixel's weight over its drop
        weight[_at(spoilt, x, y, there)] = 0
        by = np.where(there, one.scale / area, 0)
        data = np.where(weight > 0, frame.data[rows] * by + np.where(there, sky(x, y), 0) / scale**2, 0)
        sigma = one.noise if frame.sigma is None else frame.sigma[rows]
        variance = np.where(weight > 0, np.square(sigma * by), 0)
        pixmap = np.stack([np.where(there, scale * (v + 0.5) - 0.5, np.nan) for v in (x, y)], axis=-1)
        data, variance, weight = (np.pad(image.astype(np.float32), EDGE) for image in (data, variance, weight))
        out.add_image(data, 1.0, _edged(pixmap), data2=variance, weight_map=weight, pixfrac=pixfrac)
    return out.out_img, out.out_wht, out.out_img2[0]


def _edged(pixmap: np.ndarray) -> np.ndarray:
    """Places (ny, nx, 2) with more on each side, in a straight line, and none for the corners.

    Drizzle works out from the corners which pixels fall beside the image, and leaves out too many along the image's edges
    where a light that is turned or distorted overhangs it. Where a corner has no place it takes all.
    """
    wide = np.pad(pixmap, ((EDGE, EDGE), (EDGE, EDGE), (0, 0)), mode="reflect", reflect_type="odd")
    wide[[0, 0, -1, -1], [0, -1, 0, -1]] = np.nan
    return wide


def _worth(frame: Frame, rows: slice, there: np.ndarray) -> np.ndarray:
    """1 for good values, a little for those that stand in where there is nothing else, 0 for what says nothing."""
    mask = frame.mask[rows]
    known = there & np.isfinite(frame.data[rows]) & ((mask & LOST) == 0)
    if frame.sigma is not None:
        known &= np.isfinite(frame.sigma[rows])
    return np.where(known, np.where((mask & SPOILT) != 0, SPARE, 1.0), 0.0)


def _at(image: np.ndarray, x: np.ndarray, y: np.ndarray, there: np.ndarray) -> np.ndarray:
    """An image's nearest pixels at places x, y; False beside it."""
    ny, nx = image.shape
    columns, rows = (np.rint(np.where(there, v, -1)).astype(int) for v in (x, y))
    inside = (columns >= 0) & (columns < nx) & (rows >= 0) & (rows < ny)
    return inside & image[np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1)]


def _finer(stack, inputs, halves: list, coverage, full, found: Found, scale, pixfrac):
    """The finer stack from the sums of the odd and the even frames, which are used up: such images are large."""
    odd, even = halves
    halves.clear()
    if len(inputs) > 1:
        difference, error = odd.mean, np.hypot(odd.sigma, even.sigma)
        difference -= even.mean
    odd.take(even)
    del even
    data, sigma, weight = odd.mean, odd.sigma, odd.weight
    del odd
    weight /= np.float32(full)
    factors = noise_factors([one.header for one in inputs], inputs, stack.frame.shape, scale, pixfrac)
    common, share = found.common, found.share
    wider = np.array([common.wider(radius / scale) for radius in RADII])
    mask = stack.frame.mask | (found.seen & np.uint8(Mask.SATURATED))
    mask = _enlarged(mask, scale, data.shape) & ~np.uint8(Mask.NO_DATA)
    mask[~np.isfinite(data)] = Mask.NO_DATA
    poor = (coverage == 0) & np.isfinite(data)  # on which only what stands in for better values falls
    mask[poor] |= _enlarged(found.seen, scale, data.shape)[poor] | np.uint8(Mask.BAD)
    header = rescaled(stack.frame.header, 1 / scale, *[(1 / scale - 1) / 2] * 2)
    cards = _cards(stack.frame.header, data, coverage, scale, pixfrac) | noise_cards(factors * wider)
    if len(inputs) > 1:
        if share is not None:
            large = _enlarged(share, scale, data.shape)
            sigma *= np.sqrt(1 + np.float32(common.more(np.ones((len(inputs), 1)))[0]) * large)
            error *= np.sqrt(np.maximum(1 + np.float32(common.halves()) * large, 0))
            del large
        shared, size = honesty.factor_at(honesty.BLOCK_RADIUS, factors), honesty.BLOCK_RADIUS
        sky = honesty.empty_sky(data, sigma, mask, shared * common.wider(size / scale))
        cards |= honesty.odd_even(difference, error, sky, shared * common.wider(size / scale, halves=True))
    frame = Frame(data, header, sigma, mask, stack.frame.unit).with_(cards)
    gone = _enlarged(stack.rejected, scale, data.shape)
    return replace(stack, frame=frame, coverage=coverage, weight=weight, rejected=gone)


def _cards(header: fits.Header, data, coverage, scale, pixfrac) -> dict:
    holes = float(np.mean(coverage == 0))
    cards = {
        "DRIZSCAL": (scale, "pixels along a side of a pixel of the grid"),
        "DRIZPIX": (pixfrac, "side of a drop over that of a light's pixel"),
        "DRIZHOLE": (round(holes, 6), "share of the pixels on which no good drop falls"),
    }
    for key in ("FWHM", "FWHMIN"):
        if isinstance(header.get(key), float):
            cards[key] = round(header[key] * scale, 3)
    few = float(np.mean(_gaps(np.isfinite(data), scale)))
    if few > 1e-3:
        note = f"{few:.1%} of the pixels between others got no drop: a larger pixfrac, or a smaller scale, fills them"
        cards["FLNOTE"] = printable("; ".join(filter(None, (header.get("FLNOTE"), note))))
    return cards


def _gaps(there: np.ndarray, scale: float) -> np.ndarray:
    """What lies between pixels that are there and no farther apart than a light's pixels; bool (ny, nx)."""
    import cv2

    side = 2 * int(np.ceil(scale)) + 1
    return ~there & (cv2.morphologyEx(there.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((side, side), np.uint8)) > 0)


def _enlarged(image: np.ndarray, scale: float, shape: tuple[int, int]) -> np.ndarray:
    """An image of the grid on the finer pixels, each with the value of the grid's pixel that its middle lies in."""
    rows, columns = (
        np.minimum(((np.arange(size) + 0.5) / scale).astype(int), old - 1)
        for size, old in zip(shape, image.shape, strict=True)
    )
    return image[np.ix_(rows, columns)]


# --- Noise that neighbours share --------------------------------------------------------------------------------------
def noise_factors(headers: list, inputs: list, shape, scale: float, pixfrac: float) -> np.ndarray:
    """For circles of `RADII` in finer pixels the noise of their sum over what their pixels' sigmas tell, (5).

    With b_kj = a_kj / sum a w the share of drop j in pixel k and n_j its noise per area:

        factor^2 = sum_j (w n_j sum_k b_kj)^2 / sum_k sum_j (w n_j b_kj)^2

    over the pixels k of a circle, averaged over places of the grid, where drops lie as the lights were placed (ALIGNnn), along
    the axes. NaN where lights do not say where they lie.
    """
    together, alone = np.zeros(len(RADII)), np.zeros(len(RADII))
    weights = np.array([one.weight for one in inputs])
    sides = np.array([_side(header, scale) for header in headers])
    # Not the noise of aligned pixels, which interpolation has made quieter in some frames than in others.
    noises = (weights * [one.depth_noise for one in inputs] / sides) ** 2
    for point in _middles(shape, scale):
        drops = [_drops(*one, point, scale, pixfrac) for one in zip(headers, sides, strict=True)]
        if None in drops:
            return np.full(len(RADII), np.nan)
        total = sum(w * np.outer(y.sum(axis=1), x.sum(axis=1)) for w, (x, y) in zip(weights, drops, strict=True))
        share = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
        middle = (np.arange(PATCH) - (PATCH - 1) // 2) ** 2
        for i, radius in enumerate(RADII):
            circle = (middle[:, None] + middle <= radius**2) * share
            for noise, (x, y) in zip(noises, drops, strict=True):
                together[i] += noise * ((y.T @ circle @ x) ** 2).sum()
                alone[i] += noise * (circle**2 * np.outer((y**2).sum(axis=1), (x**2).sum(axis=1))).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(together / alone)


def _middles(shape, scale: float) -> np.ndarray:
    """Middles of finer pixels (n, 2), as x, y on the grid: spread over it, and over the finer pixels of its pixels."""
    steps = np.arange(PLACES)
    spread = ((steps + 0.5) / PLACES)[:, None] * np.array(shape[::-1]) * scale
    x, y = ((np.floor(spread).T + steps % np.ceil(scale)) + 0.5) / scale - 0.5
    return np.column_stack([axis.ravel() for axis in np.meshgrid(x, y)])


def _side(header, scale: float) -> float:
    """Side of a light's pixel in finer pixels; NaN where that is not known."""
    try:
        a, b, c, d = (float(header[f"ALIGN{name}"]) for name in (11, 12, 21, 22))
    except (KeyError, TypeError, ValueError):
        return np.nan
    return scale / np.sqrt(abs(a * d - b * c))


def _drops(header, side: float, point: np.ndarray, scale: float, pixfrac: float):
    """Lengths (PATCH, n) that a light's drops share with the finer pixels about the one with its middle at x, y on the grid,
    along x and along y; None where that is not known."""
    place = honesty.on_detector(header, point[None])[0]
    if not np.isfinite(place).all():
        return None
    found = []
    for along in place:
        middle = (round(along) - along) * side + (PATCH - 1) // 2
        number = int(np.ceil((PATCH + side) / side))
        centres = middle + np.arange(-number, number + 1) * side
        low = np.maximum.outer(np.arange(PATCH) - 0.5, centres - pixfrac * side / 2)
        high = np.minimum.outer(np.arange(PATCH) + 0.5, centres + pixfrac * side / 2)
        found.append(np.maximum(high - low, 0))
    return tuple(found)
