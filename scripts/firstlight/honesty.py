"""Whether a stack's sigma is true: what frames share of their noise, half stacks against each other, what a frame adds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from . import ordering
from .resample import KERNELS, RADII

MASTERS = ("BIASCOR", "DARKCOR", "FLATCOR")  # cards of a light that name its masters
LATTICE = 5  # points of the grid along each axis, at which the places of frames on the detector are compared
BLOCK = 8  # pixels, side of the squares in which half stacks are compared beside single pixels
BLOCK_RADIUS = BLOCK / np.sqrt(np.pi)  # of the circle that holds as many pixels
PIXELS_OF_STAR = 5  # radius of the circle that depth is told in
FEWEST = 30  # blocks of empty sky that say something about a width


# ---- noise that frames share -----------------------------------------------------------------------------------------


def lattice(shape: tuple[int, int]) -> np.ndarray:
    """Pixels x, y (25, 2) spread over a grid of shape (ny, nx)."""
    ny, nx = shape
    share = (np.arange(LATTICE) + 0.5) / LATTICE
    y, x = np.meshgrid((share * ny).astype(int), (share * nx).astype(int), indexing="ij")
    return np.column_stack([x.ravel(), y.ravel()])


def on_detector(header, points: np.ndarray) -> np.ndarray:
    """Where pixels x, y (n, 2) of the grid lie on a frame's own detector, by its cards ALIGNnn; NaN without these."""
    keys = ("ALIGN11", "ALIGN12", "ALIGNX", "ALIGN21", "ALIGN22", "ALIGNY")
    try:
        a, b, x, c, d, y = (float(header[key]) for key in keys)
    except (KeyError, TypeError, ValueError):
        return np.full(points.shape, np.nan)
    return points @ np.array([[a, c], [b, d]]) + np.array([x, y])


def correlation(distance: np.ndarray) -> np.ndarray:
    """Correlation of what two resampled frames share of a detector's pixels, for a difference of their places along one
    axis in pixels.

    A master's noise m_k is the same at each pixel k. Frames resampled with a kernel K hold sum_k K(x - k) m_k; averaged
    over the phases x their covariance at a distance d is the integral of K(u) K(u + d) du, which is taken here over that
    at d = 0, for the cubic kernel (Keys 1981, IEEE ASSP 29, 1153, a = -1/2). It is 1 at 0, 0.69 at 0.5, 0.16 at 1 and
    within 0.08 of 0 from 1.2 on; bilinear frames share a little more (0.25 at 1).
    """
    step, values = _autocorrelation()
    return np.interp(np.abs(distance), np.arange(len(values)) * step, values, right=0.0)


@lru_cache(maxsize=1)
def _autocorrelation() -> tuple[float, np.ndarray]:
    step = 0.01
    half, cubic = KERNELS["cubic"]
    kernel = cubic(np.arange(-half, half + step / 2, step))
    both = np.correlate(kernel, kernel, "full")[len(kernel) - 1 :]
    return step, both / both[0]


def overlap_of_circles(distance: np.ndarray, radius: float) -> np.ndarray:
    """Share of a circle's area that lies in one of the same radius at a distance, all in pixels: how much of a detector's
    pixels the sums over an aperture have in common in two frames."""
    q = np.clip(np.abs(distance) / (2 * radius), 0, 1)
    return (np.arccos(q) - q * np.sqrt(1 - q**2)) * 2 / np.pi


@dataclass(frozen=True)
class Shared:
    """How much frames share of what comes from the detector.

    places   (6, m, m), correlation of what two frames took from the detector's pixels, on average over the grid: in a
             pixel, and in sums over circles of `RADII`
    masters  (m, m), share of their masters that are the same
    overlap  (m, m), points of the lattice that both see
    known    False where frames do not say where they lie on the detector
    """

    places: np.ndarray
    masters: np.ndarray
    overlap: np.ndarray
    known: bool

    def noise(self, radius: float = 0.0) -> np.ndarray:
        """(m, m), correlation of the masters' noise in circles of a radius, 0 for single pixels; 1 on the diagonal."""
        sizes = (0, *RADII)
        above = min(int(np.searchsorted(sizes, radius)), len(sizes) - 1)
        below = max(above - 1, 0)
        part = (min(radius, sizes[-1]) - sizes[below]) / max(sizes[above] - sizes[below], 1)
        return ((1 - part) * self.places[below] + part * self.places[above]) * self.masters

    def mean(self, amounts: np.ndarray) -> float:
        """Mean of `noise` over the pairs of frames that overlap, weighted by the products of their amounts (m)."""
        return _mean_of_pairs(self.noise(), np.outer(amounts, amounts) * self.overlap)

    @property
    def positions(self) -> float:
        """Number of independent positions on the detector: m / (1 + (m - 1) mean correlation), from 1 to m."""
        m = len(self.masters)
        return m / (1 + (m - 1) * max(_mean_of_pairs(self.places[0], self.overlap), 0.0))


def _mean_of_pairs(values: np.ndarray, weights: np.ndarray) -> float:
    weights = np.where(np.eye(len(values), dtype=bool), 0.0, weights)
    return float((values * weights).sum() / weights.sum()) if weights.sum() > 0 else 0.0


def shared(headers: list, seen: np.ndarray, shape: tuple[int, int]) -> Shared:
    """What frames share, from their headers (cards ALIGNnn and names of masters), on a grid of shape (ny, nx).

    seen  bool (m, 25), where on the lattice each frame has data
    Frames whose places are not known are taken to share nothing, and so are the two greens of a colour sensor, which are other
    pixels of it.
    """
    points = lattice(shape)
    planes = np.array([str(header.get("FLPLANE") or "") for header in headers])
    places = np.stack([on_detector(header, points) for header in headers])
    m = len(headers)
    alike, overlap = np.tile(np.eye(m), (1 + len(RADII), 1, 1)), np.eye(m)
    same = _same_masters(headers)
    for i in range(m):
        both = seen[i] & seen[i + 1 :]
        apart = places[i] - places[i + 1 :]
        with np.errstate(invalid="ignore"):
            away = np.hypot(apart[..., 0], apart[..., 1])
            each = [correlation(apart[..., 0]) * correlation(apart[..., 1])]
            each += [overlap_of_circles(away, radius) for radius in RADII]
        each = np.where(both & np.isfinite(away), each, 0.0).sum(axis=-1) / np.maximum(both.sum(axis=1), 1)
        overlap[i, i + 1 :] = overlap[i + 1 :, i] = both.sum(axis=1)
        alike[:, i, i + 1 :] = alike[:, i + 1 :, i] = each * (planes[i] == planes[i + 1 :])
    return Shared(alike, same, overlap, bool(np.isfinite(places).all()))


def _same_masters(headers: list) -> np.ndarray:
    """(m, m): of the masters that one of two frames has, the share that is the same; 1 on the diagonal."""
    names = np.array([[str(header.get(key) or "") for key in MASTERS] for header in headers])
    one, other = names[:, None], names[None]
    used = (one != "") | (other != "")
    same = ((one == other) & used).sum(axis=2) / np.maximum(used.sum(axis=2), 1)
    np.fill_diagonal(same, 1.0)
    return same


def excess(shared: Shared, amounts: np.ndarray, radius: float = 0.0) -> float:
    """R - 1, R = sum_ij b_i b_j rho_ij / sum_i b_i^2: by how much the shared noise of a sum of frames exceeds what it
    would be if nothing were shared; b (m) the amounts of it, with their signs; in circles of a radius, see `Shared.noise`."""
    own = float((amounts**2).sum())
    return float(amounts @ shared.noise(radius) @ amounts) / own - 1 if own > 0 else 0.0


def dithering(shared: Shared, cost: float) -> str:
    """A sentence about frames that all lie on the same pixels of the detector, "" for others.

    cost  share by which the noise of the sky is larger than it would be if nothing were shared
    """
    m = len(shared.masters)
    if m < 2 or not shared.known or shared.positions >= min(2.0, 0.75 * m):
        return ""
    share = f"{cost:.0%}" if cost >= 0.01 else "less than 1%"
    return (
        f"not dithered: {m} frames on {shared.positions:.1f} independent positions of the detector; noise of the masters "
        f"does not average out (sky noise {share} larger) and bad pixels stay where they are"
    )


# ---- depth -----------------------------------------------------------------------------------------------------------


def depth_gained(weights: np.ndarray, noises: np.ndarray, shares: np.ndarray, shared: Shared) -> np.ndarray:
    """What each frame adds to the depth, in per cent (m): 1 - noise of the stack / noise without the frame.

    noises (m) of each frame, scaled; shares (m) of their variance that come from the masters. Negative where
    a weight is so wrong that the stack would be deeper without the frame; 100 for a single one.
    """
    m = len(weights)
    common = np.sqrt(shares) * noises
    covariance = np.outer(common, common) * shared.noise(PIXELS_OF_STAR)
    np.fill_diagonal(covariance, noises**2)
    part = np.outer(weights, weights) * covariance
    total, each = part.sum(), 2 * part.sum(axis=1) - np.diag(part)
    if m < 2:
        return np.full(m, 100.0)
    left = weights.sum() - weights
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(total / np.maximum(total - each, 1e-30)) * left / weights.sum()
    return 100 * (1 - np.nan_to_num(ratio))


# ---- half stacks -----------------------------------------------------------------------------------------------------


def odd_even(difference: np.ndarray, sigma: np.ndarray, sky: np.ndarray, correction: float = 1.0) -> dict:
    """Widths of the pulls of half stacks against each other: header cards ODDEVEN of single pixels and ODDEVEN8 of the
    sums of 8x8; 1 where sigma is true, none where there is too little sky.

    difference, sigma  of the half stacks, float32 (ny, nx)
    sky                bool (ny // 8, nx // 8), blocks to look at
    correction         by what noise of such a block exceeds what its pixels' sigmas tell

    Widths are 1.4826 times the median absolute deviation, so a few moving or variable sources do not make them.
    """
    values, variance = (_blocks(one)[sky] for one in (difference, np.square(sigma)))
    use = np.isfinite(values)
    use &= variance > 0
    whole = use.all(axis=1)
    if whole.sum() < FEWEST:
        return {}
    sums = values[whole].sum(axis=1) / np.sqrt(variance[whole].sum(axis=1)) / np.float32(correction)
    with np.errstate(invalid="ignore", divide="ignore"):
        pulls = np.divide(values, np.sqrt(variance, out=variance), out=values)
    pulls = pulls.ravel() if whole.all() else pulls[use]
    return {
        "ODDEVEN": (round(_width(pulls), 4), "width of (odd - even frames) / sigma, sky"),
        "ODDEVEN8": (round(_width(sums), 4), "the same for sums of 8x8 pixels"),
    }


def empty_sky(data: np.ndarray, sigma: np.ndarray, mask: np.ndarray, correction: float = 1.0) -> np.ndarray:
    """Blocks of 8x8 pixels of a stack without a star: bool (ny // 8, nx // 8).

    No pixel is flagged or stands out from the background by 4.5 sigma, and their mean not by 2.5 of its own: what is
    brighter changes with the seeing. The sum of the halves is looked at, which is independent of their difference.
    """
    import sep

    bad = ~(np.isfinite(data) & (sigma > 0) & (mask == 0))
    if min(data.shape) < 64 or bad.mean() > 0.95:
        return np.zeros((data.shape[0] // BLOCK, data.shape[1] // BLOCK), bool)
    filled = data.copy()
    filled[bad] = 0
    pulls = filled - sep.Background(filled, mask=bad, bw=32, bh=32, fw=3, fh=3).back(dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        pulls /= sigma
    pulls[bad] = np.inf
    pulls = _blocks(pulls)
    quiet = np.maximum(pulls.max(axis=2), -pulls.min(axis=2)) < 4.5
    pulls[~quiet] = 0
    return quiet & (np.abs(pulls.mean(axis=2)) < 2.5 * max(correction, 1.0) / BLOCK)


def _blocks(image: np.ndarray) -> np.ndarray:
    """An image (ny, nx) cut into blocks (ny // 8, nx // 8, 64)."""
    by, bx = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    cut = image[: by * BLOCK, : bx * BLOCK].reshape(by, BLOCK, bx, BLOCK)
    return cut.swapaxes(1, 2).reshape(by, bx, BLOCK * BLOCK)


def _width(values: np.ndarray) -> float:
    apart = values - np.float32(ordering.median_of(values))
    return 1.4826 * ordering.median_of(np.abs(apart, out=apart), True)


# ---- correlated noise ------------------------------------------------------------------------------------------------


def factor_at(radius: float, factors: np.ndarray) -> float:
    """Ratio of true noise in a circle to what its pixels' sigmas tell, from those for `RADII`; 1 where these are NaN."""
    known = np.isfinite(factors)
    return float(np.interp(radius, np.array(RADII)[known], factors[known])) if known.any() else 1.0


def factors_of(header) -> np.ndarray:
    """NCORR01 ... NCORR10 of an aligned frame, NaN where it has none."""
    return np.array([float(header.get(f"NCORR{radius:02d}") or np.nan) for radius in RADII])


def factors_of_stack(factors: np.ndarray, weights: np.ndarray, noises: np.ndarray) -> np.ndarray:
    """A stack's factors (5) from those of its frames (m, 5): sqrt(sum w^2 n^2 f^2 / sum w^2 n^2), n the noise of a pixel
    of the frame, scaled; NaN where no frame has any."""
    amount = (weights * noises)[:, None] ** 2 * np.isfinite(factors)
    total = amount.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.sqrt((amount * np.nan_to_num(factors) ** 2).sum(axis=0) / np.where(total > 0, total, np.nan))
