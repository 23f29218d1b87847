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
# Share of its weight with which a value counts that is replaced or cut off: enough where there is nothing else.
SPARE = 1e-6
SEEN = 1e-4  # share of a frame's whole weight from which on it counts as covering a pixel
LOST = np.uint8(Mask.COSMIC_RAY | Mask.NO_DATA)
SPOILT = np.uint8(Mask.UNUSABLE | Mask.SATURATED | Mask.INTERPOLATED)
PATCH = 24  # pixels on a side, of which the noise that pixels share is worked out


class Rejected:
    """Which pixels of the grid were rejected in which frame."""

    def __init__(self, shape: tuple[int, int], frames: int):
        self.shape = shape
        self._places: list[list[np.ndarray]] = [[] for _ in range(frames)]

    def add(self, number: int, where: np.ndarray) -> None:
        """Take places in a flattened image."""
        self._places[number].append(np.asarray(where, np.int64))

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
        """A frame's weighted mean, sum of weights, and variance of the mean."""
        self.weight += weight
        self.value += mean * weight
        self.variance += variance * weight**2

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(self.weight + other.weight, self.value + other.value, self.variance + other.variance)

    @property
    def mean(self) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.value / self.weight

    @property
    def sigma(self) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(self.variance) / self.weight


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
    halves = _Sums.of_shape(shape), _Sums.of_shape(shape)
    coverage, full = np.zeros(shape, np.uint16), 0.0
    for number, one in enumerate(inputs):
        frame, wcs = lights[one.name]()
        positions = Positions(grid_wcs, wcs, frame.shape, stack.frame.shape)
        sky = lambda x, y, number=number: surfaces.at(number, x, y)  # noqa: E731
        spoilt = found.rejected.image(number)
        mean, weight, variance = _dropped(one, frame, positions, sky, spoilt, shape, scale, pixfrac)
        halves[number % 2].add(mean, weight, variance)
        usual = one.weight / (positions.typical(positions.area) * scale**2)  # drops' weights in a pixel
        coverage += weight > SEEN * usual
        full += usual
        print(f"{one.name}: dropped on {np.count_nonzero(weight > SEEN * usual) / weight.size:.1%} of the pixels")
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
    for start in range(0, frame.shape[0], ROWS):
        rows = slice(start, min(start + ROWS, frame.shape[0]))
        x, y, area = positions.rows(rows)
        there = np.isfinite(x) & np.isfinite(y)
        weight = one.weight * _worth(frame, rows, there)
        weight[_at(spoilt, x, y, there)] = 0
        by = np.where(there, one.scale / (area * scale**2), 0)
        data = np.where(weight > 0, frame.data[rows] * by + np.where(there, sky(x, y), 0) / scale**2, 0)
        sigma = one.noise if frame.sigma is None else frame.sigma[rows]
        variance = np.where(weight > 0, np.square(sigma * by), 0)
        pixmap = np.stack([np.where(there, scale * (v + 0.5) - 0.5, -1e6) for v in (x, y)], axis=-1)
        out.add_image(
            data.astype(np.float32), 1.0, pixmap, data2=variance.astype(np.float32),
            weight_map=weight.astype(np.float32), pixfrac=pixfrac,
        )  # fmt: skip
    return out.out_img, out.out_wht, out.out_img2[0]


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


def _finer(stack, inputs, halves, coverage, full, found: Found, scale, pixfrac):
    """The finer stack from the sums of the odd and the even frames."""
    whole, common, share = halves[0].plus(halves[1]), found.common, found.share
    data, sigma = whole.mean, whole.sigma
    factors = noise_factors([one.header for one in inputs], inputs, stack.frame.shape, scale, pixfrac)
    wider = np.array([common.wider(radius / scale) for radius in RADII])
    mask = stack.frame.mask | (found.seen & np.uint8(Mask.SATURATED))
    mask = _enlarged(mask, scale, data.shape) & ~np.uint8(Mask.NO_DATA)
    mask[~np.isfinite(data)] = Mask.NO_DATA
    header = rescaled(stack.frame.header, 1 / scale, *[(1 / scale - 1) / 2] * 2)
    cards = _cards(stack.frame.header, data, coverage, scale, pixfrac) | noise_cards(factors * wider)
    if len(inputs) > 1:
        (odd, even), size = halves, honesty.BLOCK_RADIUS
        difference, error = odd.mean - even.mean, np.hypot(odd.sigma, even.sigma)
        if share is not None:
            large = _enlarged(share, scale, data.shape)
            sigma = sigma * np.sqrt(1 + float(common.more(np.ones((len(inputs), 1)))[0]) * large)
            error = error * np.sqrt(np.maximum(1 + common.halves() * large, 0))
        shared = honesty.factor_at(size, factors)
        sky = honesty.empty_sky(data, sigma, mask, shared * common.wider(size / scale))
        cards |= honesty.odd_even(difference, error, sky, shared * common.wider(size / scale, halves=True))
    frame = Frame(data, header, sigma, mask, stack.frame.unit).with_(cards)
    weight, gone = whole.weight / np.float32(full), _enlarged(stack.rejected, scale, data.shape)
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
    touched = coverage[1:-1, 1:-1] > 0
    few = float(np.mean(~touched & _between(coverage))) if touched.size else 0.0
    if few > 1e-3:
        note = f"{few:.1%} of the pixels between others got no drop: a larger pixfrac, or a smaller scale, fills them"
        cards["FLNOTE"] = printable("; ".join(filter(None, (header.get("FLNOTE"), note))))
    return cards


def _between(coverage: np.ndarray) -> np.ndarray:
    """Where pixels to both sides or above and below are covered; bool (ny - 2, nx - 2)."""
    on = coverage > 0
    return (on[1:-1, :-2] & on[1:-1, 2:]) | (on[:-2, 1:-1] & on[2:, 1:-1])


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

    With b_kj = a_kj / sum a w the share of drop j in pixel k: factor^2 = sum_j (w sum_k b_kj)^2 / sum_k sum_j (w b_kj)^2 over
    the pixels k of a circle, averaged over places of the grid, where drops lie as the lights were placed (ALIGNnn), along
    the axes. NaN where lights do not say where they lie.
    """
    together, alone = np.zeros(len(RADII)), np.zeros(len(RADII))
    for point in honesty.lattice(shape):
        drops = [_drops(header, point, scale, pixfrac) for header in headers]
        if None in drops:
            return np.full(len(RADII), np.nan)
        weights = np.array([one.weight for one in inputs])
        noises = (weights * [one.scale * one.noise for one in inputs]) ** 2
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


def _drops(header, point: np.ndarray, scale: float, pixfrac: float):
    """Shares (PATCH, n) of a light's drops in the finer pixels about a place x, y of the grid, along x and along y."""
    place = honesty.on_detector(header, point[None])[0]
    if not np.isfinite(place).all():
        return None
    matrix = np.array([[header[f"ALIGN{i}{j}"] for j in (1, 2)] for i in (1, 2)], float)
    side = scale / np.sqrt(abs(np.linalg.det(matrix)))  # of a light's pixel, in finer pixels
    found = []
    for along in place:
        middle = (round(along) - along) * side + (PATCH - 1) // 2
        number = int(np.ceil((PATCH + side) / side))
        centres = middle + np.arange(-number, number + 1) * side
        low = np.maximum.outer(np.arange(PATCH) - 0.5, centres - pixfrac * side / 2)
        high = np.minimum.outer(np.arange(PATCH) + 0.5, centres + pixfrac * side / 2)
        found.append(np.maximum(high - low, 0) / (pixfrac * side))
    return tuple(found)
