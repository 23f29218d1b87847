"""Values between pixels: where the pixels of a grid lie on a frame, kernels, variance, mask bits, correlation of noise."""

from __future__ import annotations

import numpy as np

from .frame import Mask

STEP = 8  # pixels between exact positions; in between they are interpolated, to better than 0.001 pixel
# A kernel one pixel wide sees all of a frame whose pixels are smaller than the grid's by up to this much: at 1.2 cubic and
# bilinear lose 0.1 and 0.5 % of depth, at 1.5 already 5 and 6 %. From here on they are widened by the scale.
WIDEN = 1.2
RADII = (1, 2, 3, 5, 10)
_ROUGH = 128  # in working copies of a mask, beside the bits of `Mask`: a value that neighbours know nothing of


def _cubic(t):
    t = np.abs(t)
    return np.where(t < 1, (1.5 * t - 2.5) * t * t + 1, np.where(t < 2, ((-0.5 * t + 2.5) * t - 4) * t + 2, 0))


def _triangle(t):
    return np.maximum(1 - np.abs(t), 0)


def _box(t):
    return ((t >= -0.5) & (t < 0.5)).astype(np.float32)


def _lanczos3(t):
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)


# Half the width in pixels, and the kernel: Keys 1981 (IEEE ASSP 29, 1153) with a = -1/2, and what everybody knows.
KERNELS = {"cubic": (2.0, _cubic), "bilinear": (1.0, _triangle), "nearest": (0.5, _box), "lanczos3": (3.0, _lanczos3)}
NEGATIVE = ("cubic", "lanczos3")  # those that undershoot beside a star that is cut off


class Positions:
    """Where the pixels of a grid lie on a frame: exact every `STEP` pixels, bilinear in between.

    wcs of the frame, of shape `frame_shape` (ny, nx); grid_wcs and shape (ny, nx) of the grid. The distortion (SIP) of
    both is used. x, y, area: at the exact positions, (rows, columns); area of a grid pixel in pixels of the frame.
    stretch: the step on the frame's x and y that one pixel of the grid makes, two arrays.
    """

    def __init__(self, wcs, grid_wcs, shape, frame_shape=None):
        self.shape, self.frame_shape = shape, frame_shape or shape
        ny, nx = shape
        x, y = np.meshgrid(np.arange(0, nx + STEP, STEP), np.arange(0, ny + STEP, STEP))
        sky = grid_wcs.all_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0)
        self.x, self.y = (column.reshape(x.shape) for column in on_frame(wcs, sky, self.frame_shape).T)
        dx_dy, dx_dx = np.gradient(self.x, STEP, edge_order=2 if min(x.shape) > 2 else 1)
        dy_dy, dy_dx = np.gradient(self.y, STEP, edge_order=2 if min(x.shape) > 2 else 1)
        self.area = np.abs(dx_dx * dy_dy - dx_dy * dy_dx)
        self.stretch = np.hypot(dx_dx, dx_dy), np.hypot(dy_dx, dy_dy)

    @property
    def inside(self) -> np.ndarray:
        """Which of the exact positions lie on the frame; bool (rows, columns)."""
        ny, nx = self.frame_shape
        return (self.x > -0.5) & (self.x < nx - 0.5) & (self.y > -0.5) & (self.y < ny - 0.5)

    def typical(self, values: np.ndarray) -> float:
        """Median of values at the exact positions over those on the frame; over all where none is."""
        return float(np.nanmedian(values[self.inside] if self.inside.any() else values))

    def widest(self) -> float | None:
        """By how much kernels are to be widened at the most; None where they are not."""
        where = self.inside if self.inside.any() else slice(None)
        if max(self.typical(stretch) for stretch in self.stretch) <= WIDEN:
            return None
        return float(max(np.nanmax(stretch[where]) for stretch in self.stretch))

    def affine(self) -> np.ndarray:
        """(2, 3): least-squares x', y' on the frame = matrix @ (x, y, 1) on the grid, over the part on the frame."""
        rows, columns = np.nonzero(self.inside if self.inside.sum() >= 3 else np.isfinite(self.x))
        design = np.column_stack([columns * STEP, rows * STEP, np.ones(len(rows))])
        on_frame = np.column_stack([self.x[rows, columns], self.y[rows, columns]])
        return np.linalg.lstsq(design, on_frame, rcond=None)[0].T

    def columns(self, rows: slice) -> slice | None:
        """The columns of the grid, at most, that lie on the frame in some rows; None where none does."""
        ny, nx = self.frame_shape
        low, high = rows.start // STEP, (rows.stop - 1) // STEP + 2
        x, y = self.x[low:high], self.y[low:high]
        beside = 2 * STEP * np.maximum(*self.stretch)[low:high]
        near = (x > -beside) & (x < nx + beside) & (y > -beside) & (y < ny + beside)
        found = np.flatnonzero(near.any(axis=0))
        return slice(found[0] * STEP, min((found[-1] + 1) * STEP, self.shape[1])) if len(found) else None

    def rows(self, rows: slice, *values: np.ndarray, columns: slice | None = None) -> list[np.ndarray]:
        """x, y and the area (r, c) on some rows of the grid, and some columns; or `values` given at the exact positions."""
        columns = columns or slice(0, self.shape[1])
        j = np.arange(rows.start, rows.stop) / STEP
        i = np.arange(columns.start, columns.stop) / STEP
        j0, i0 = j.astype(int), i.astype(int)
        fj, fi = (j - j0)[:, None], (i - i0)[None, :]
        low, high = j0[0], j0[-1] + 2
        out = []
        for coarse in values or (self.x, self.y, self.area):
            needed = coarse[low:high]
            across = needed[:, i0] * (1 - fi) + needed[:, i0 + 1] * fi
            out.append(across[j0 - low] * (1 - fj) + across[j0 - low + 1] * fj)
        return out

    def at(self, x: np.ndarray, y: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
        """The same at any whole pixels x, y of the grid."""
        i, j = x // STEP, y // STEP
        fi, fj = x / STEP - i, y / STEP - j
        out = []
        for v in values or (self.x, self.y):
            low, high = v[j, i] * (1 - fi) + v[j, i + 1] * fi, v[j + 1, i] * (1 - fi) + v[j + 1, i + 1] * fi
            out.append(low * (1 - fj) + high * fj)
        return out


def on_frame(wcs, sky: np.ndarray, frame_shape) -> np.ndarray:
    """Pixels (n, 2) of a frame. Distortion is undone on the frame and around it only: far outside a polynomial turns
    back, and would show a part of the sky twice."""
    with np.errstate(invalid="ignore"):
        xy = np.asarray(wcs.wcs_world2pix(sky, 0))
        if wcs.sip is None:
            return xy
        size = np.array(frame_shape[::-1])
        near = ((xy > -0.25 * size - 50) & (xy < 1.25 * size + 50)).all(axis=1)
    xy = xy.copy()
    if near.any():
        xy[near] = wcs.all_world2pix(sky[near], 0, quiet=True)
    return xy


class Resampler:
    """The pixels of a frame, made ready to be read between them.

    data, variance (or None) float32 and mask uint8, (ny, nx); values must be finite. kernel: one of `KERNELS`
    widest  the largest stretch that `at` will be given, None where kernels are never widened

    Near saturated pixels, and where taps touch flagged ones that were not replaced from their neighbours, the kernel is
    bilinear: others undershoot beside a star that is cut off, by up to 7 % of the step.
    """

    def __init__(self, data, variance, mask, kernel: str, widest: float | None = None):
        self.shape, self.kernel, self.widest = data.shape, kernel, widest
        half = KERNELS[kernel][0]
        self.taps = int(np.ceil(2 * half * (widest or 1.0)))
        self.pad = self.taps // 2 + 2
        self.width = self.shape[1] + 2 * self.pad
        self.data = _padded(data, self.pad)
        self.variance = None if variance is None else _padded(variance, self.pad)
        self.mask = self.near = None
        if mask is not None and mask.any():
            self.mask = _padded(_with_rough(mask) if kernel in NEGATIVE else mask, self.pad)
            self.near = _spread(self.mask.reshape(-1, self.width), self.taps).ravel()

    def at(self, x: np.ndarray, y: np.ndarray, stretch=None):
        """Values, variances, mask bits at positions x, y (r, c); and where these lie inside.

        stretch  of `Positions` there, two arrays, where kernels are to be widened
        A position is inside where its nearest pixel is; taps beyond the edge take the edge's value. The variance is the
        sum of the squared weights times the variances; a bit is set where flagged pixels have more than 10 % of the sum
        of absolute weights.
        """
        ny, nx = self.shape
        inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
        x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
        stretch = (None, None) if stretch is None else [np.minimum(s, self.widest) for s in stretch]
        index, weights_x, weights_y = self._taps(x, y, stretch, self.kernel)
        values = np.zeros(x.shape, np.float32)
        variances = None if self.variance is None else np.zeros(x.shape, np.float32)
        read, weight = np.empty_like(values), np.empty_like(values)
        for m, wy in enumerate(weights_y):
            for k, wx in enumerate(weights_x):
                shift = m * self.width + k
                np.multiply(wy, wx, out=weight)
                self.data[shift:].take(index, out=read, mode="clip")  # without "clip" numpy takes a second copy
                read *= weight
                values += read
                if variances is not None:
                    self.variance[shift:].take(index, out=read, mode="clip")
                    weight *= weight
                    read *= weight
                    variances += read
        bits = np.zeros(x.shape, np.uint8)
        if self.near is not None:
            self._flagged(index, x, y, stretch, values, variances, bits)
        return values, variances, bits, inside

    def _taps(self, x, y, stretch, kernel: str):
        """Index of the first tap in the padded arrays, and the weights along x and along y."""
        first_x, weights_x = taps(x, kernel, stretch[0])
        first_y, weights_y = taps(y, kernel, stretch[1])
        return (first_y + self.pad) * np.intp(self.width) + (first_x + self.pad), weights_x, weights_y

    def _flagged(self, index, x, y, stretch, values, variances, bits) -> None:
        """Set the bits; and where taps touch what neighbours know nothing of, values and variances of positive weights."""
        touched = self.near.take(index)
        rough = touched >= _ROUGH
        for where, kernel in (((touched > 0) & ~rough, self.kernel), (rough, "bilinear")):
            if not where.any():
                continue
            at = np.nonzero(where)
            local = tuple(None if s is None else s[at] for s in stretch)
            first, weights_x, weights_y = self._taps(x[at], y[at], local, kernel)
            bits[at] = self._bits(first, weights_x, weights_y, touched[at])
            if kernel != self.kernel:
                pairs = [
                    (m * self.width + k, wy * wx) for m, wy in enumerate(weights_y) for k, wx in enumerate(weights_x)
                ]
                values[at] = sum(w * self.data[shift:].take(first) for shift, w in pairs)
                if variances is not None:
                    variances[at] = sum(w * w * self.variance[shift:].take(first) for shift, w in pairs)

    def _bits(self, first, weights_x, weights_y, touched) -> np.ndarray:
        shares = {bit: np.zeros(len(first), np.float32) for bit in Mask.NAMES if (touched & bit).any()}
        total = np.zeros(len(first), np.float32)
        for m, wy in enumerate(weights_y):
            for k, wx in enumerate(weights_x):
                weight = np.abs(wy * wx)
                flags = self.mask[m * self.width + k :].take(first)
                total += weight
                for bit, share in shares.items():
                    share += np.where(flags & bit, weight, np.float32(0))
        bits = np.zeros(len(first), np.uint8)
        for bit, share in shares.items():
            bits |= np.where(share > 0.1 * total, np.uint8(bit), np.uint8(0))
        return bits


def taps(position: np.ndarray, kernel: str, stretch: np.ndarray | None = None):
    """First pixel (int32) and the weights (float32) of the pixels from there on, for positions along one axis.

    stretch  factor (like position) by which the kernel is widened, not below 1; None leaves it as it is
    """
    half, shape = KERNELS[kernel]
    if stretch is not None:
        stretch = np.maximum(stretch, 1.0).astype(np.float32)
        first = np.floor(position - half * stretch).astype(np.int32) + 1
        count = int(np.ceil(2 * half * stretch.max(initial=1.0) - 1e-6))
        offset = (first - position).astype(np.float32)
        return first, _normalised([shape((offset + k) / stretch) for k in range(count)])
    if kernel == "nearest":
        return nearest(position), [np.ones(position.shape, np.float32)]
    base = np.floor(position)
    t = (position - base).astype(np.float32)
    base = base.astype(np.int32)
    if kernel == "bilinear":
        return base, [1 - t, t]
    if kernel == "lanczos3":
        return base - 2, _normalised([shape(k - t) for k in range(-2, 4)])
    t2, t3 = t * t, t * t * t
    return base - 1, [
        (-t3 + 2 * t2 - t) / 2,
        (3 * t3 - 5 * t2 + 2) / 2,
        (-3 * t3 + 4 * t2 + t) / 2,
        (t3 - t2) / 2,
    ]


def nearest(position: np.ndarray) -> np.ndarray:
    """The pixel (int32) next to positions along one axis. Halves all go one way, rounding errors or not: else a shift by
    half a pixel doubles some and skips others; at the end of a row it may be the pixel beyond."""
    return np.floor(position + 0.500001).astype(np.int32)


def _normalised(weights: list[np.ndarray]) -> list[np.ndarray]:
    total = sum(weights)
    return [(weight / total).astype(np.float32) for weight in weights]


def noise_factors(positions: Positions, kernel: str) -> list[float]:
    """For circles of the `RADII` in pixels of the grid: the noise of their sum over what their pixels' sigmas tell, which
    share pixels of the frame.

    With weights w_ip of the frame's pixels p in the grid's pixels i: factor^2 = sum_p (sum_i w_ip)^2 / sum_i sum_p w_ip^2
    over the pixels i of a circle, averaged over circles (above) and pixels (below the line) that are spread over the part
    of the grid that the frame covers, at their real positions. 1 for a frame that is not moved at all.
    """
    weight, _ = _weights(positions, kernel, _spread_out(positions, 4000, 0)[:, None, :])
    alone = float((weight**2).sum() / weight.shape[1])
    factors = []
    for radius in RADII:
        dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
        circle = np.column_stack([dx, dy])[dx**2 + dy**2 <= radius**2]
        middle = _spread_out(positions, max(10_000 // len(circle), 50), radius)
        weight, place = _weights(positions, kernel, middle[:, None, :] + circle)
        together = np.bincount(place.ravel(), weight.ravel())
        factors.append(float(np.sqrt((together**2).sum() / (alone * len(middle) * len(circle)))))
    return factors


def _weights(positions: Positions, kernel: str, pixels: np.ndarray):
    """Weights (taps, n, m) of the frame's pixels in the grid's pixels (n, m, 2), and the places of these taps, numbered so
    that each of the n groups has numbers of its own."""
    columns, rows = (np.clip(pixels[..., axis], 0, positions.shape[1 - axis] - 1) for axis in (0, 1))
    x, y = positions.at(columns, rows)
    stretch = positions.at(columns, rows, *positions.stretch) if positions.widest() else (None, None)
    (first_x, weights_x), (first_y, weights_y) = taps(x, kernel, stretch[0]), taps(y, kernel, stretch[1])
    first_x, first_y = (first - first.min(axis=1, keepdims=True) for first in (first_x, first_y))
    width, height = first_x.max() + len(weights_x), first_y.max() + len(weights_y)
    place = (np.arange(len(pixels))[:, None] * height + first_y) * width + first_x
    place = np.stack([place + m * width + k for m in range(len(weights_y)) for k in range(len(weights_x))])
    return np.stack([wy * wx for wy in weights_y for wx in weights_x]).astype(float), place


def _spread_out(positions: Positions, count: int, margin: int) -> np.ndarray:
    """About `count` pixels (n, 2) of the grid (x, y) spread over the part that a frame covers, away from its edges where it
    is large; scattered, so that no period of the grid's pixels on the frame's is met again and again."""
    inside = positions.inside
    rows, columns = np.nonzero(inside if inside.any() else np.isfinite(positions.x))
    low, high = (np.array([f(columns), f(rows)]) * STEP for f in (np.min, np.max))
    away = np.minimum(margin, (high - low) // 3)
    low, high = low + away, high - away
    samples = int(np.ceil(np.sqrt(count)))
    cells = np.stack(np.meshgrid(np.arange(samples), np.arange(samples)), axis=-1).reshape(-1, 2)
    scatter = np.random.default_rng(1).uniform(0, 1, cells.shape)
    found = np.floor(low + (cells + scatter) / samples * (high - low)).astype(int)
    found = np.clip(found, 0, np.array(positions.shape[::-1]) - 1)
    on = inside[found[:, 1] // STEP, found[:, 0] // STEP]
    return found[on] if on.any() else np.column_stack([columns, rows])[:1] * STEP


def noise_cards(factors) -> dict:
    """Header cards of what `noise_factors` gives, or of a stack's; none for NaN."""
    return {
        f"NCORR{radius:02d}": (round(float(factor), 4), f"noise in a circle of {radius} pix over its pixels' sigmas")
        for radius, factor in zip(RADII, factors, strict=True)
        if np.isfinite(factor)
    }


def _padded(image: np.ndarray, pad: int) -> np.ndarray:
    """Flat copy of an image with its edge repeated `pad` times around it."""
    return np.pad(image, pad, mode="edge").ravel()


def _with_rough(mask: np.ndarray) -> np.ndarray:
    """A mask with `_ROUGH` set where positive weights are called for. Beside saturated pixels too: the flank of a star that
    fills them is as steep there as its core."""
    rough = (mask & Mask.UNUSABLE != 0) & (mask & Mask.INTERPOLATED == 0)
    saturated = mask & Mask.SATURATED != 0
    if saturated.any():
        beside = 2
        wide = _spread(np.pad(saturated, 2 * beside), 2 * beside + 1)
        rough |= wide[beside : beside + mask.shape[0], beside : beside + mask.shape[1]]
    return np.where(rough, mask | np.uint8(_ROUGH), mask)


def _spread(mask: np.ndarray, taps: int) -> np.ndarray:
    """Bits of any of the `taps` x `taps` pixels from each one on."""
    near = mask.copy()
    for axis in (0, 1):
        own = near.copy()
        for k in range(1, taps):
            target, source = [slice(None)] * 2, [slice(None)] * 2
            target[axis], source[axis] = slice(0, -k), slice(k, None)
            near[tuple(target)] |= own[tuple(source)]
    return near
