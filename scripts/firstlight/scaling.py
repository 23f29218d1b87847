"""What brings frames on one grid to one scale of flux and to one sky, solved for all frames at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import joint
from .frame import Frame, Mask

FEWEST = 3  # stars, or blocks of sky, that two frames share at least if one is to tell of the other
APERTURE = 2.5  # times its own FWHM: the circle that catches the same share of stars in every frame
FLATNESS = 0.005  # relative error of a star's flux that no photons explain: flats, colours, neighbours
CLOUDED = 0.7  # transparency below which a frame is named
FAINTEST = 1e-4  # light of stars that are missing, over what they have elsewhere, at the least
SLOPE, BEND = 3.0, 0.5  # noises of a pixel that sky may differ by from the middle to the edge, unless blocks say so
SPOILT = np.uint8(Mask.UNUSABLE | Mask.SATURATED)  # bits of pixels that tell nothing of the sky
RINGS = 60_000  # pixels of rings of sky that are looked at at a time: what stays in a processor's cache
VALUES = 5_000_000  # of frames, blocks and terms together; beyond that neighbouring blocks are joined
BY_EXPOSURE = "scaled by exposure"
ORDERS = {"none": 0, "constant": 1, "plane": 3, "surface": 6}


# ---- flux ------------------------------------------------------------------------------------------------------------


def fluxes(frame: Frame, stars: np.ndarray, radius: float) -> np.ndarray:
    """Fluxes (n,) of stars in one frame, in its unit: the sum within `radius` pixels less the local sky, found
    between 2 and 3 radii, not above 0 where a star does not show; NaN where pixels are bad or missing, but for those that
    were interpolated beyond half of the radius, where there is little light to miss.

    stars has x and y in pixels, from 0. For `scales` the radius is 2.5 times the frame's own FWHM: where seeing changes, a
    circle that goes with it catches the same share of light, whatever the wings are; one for all takes lost wings, and
    neighbours that came in, for transparency.
    """
    import sep

    if not len(stars):
        return np.zeros(0)
    bad = (frame.mask & SPOILT) != 0
    lost = bad & ((frame.mask & (Mask.INTERPOLATED | Mask.SATURATED)) != Mask.INTERPOLATED)
    x, y = (np.ascontiguousarray(stars[name], float) for name in "xy")
    ny, nx = frame.shape
    whole = (x - radius >= -0.5) & (y - radius >= -0.5) & (x + radius <= nx - 0.5) & (y + radius <= ny - 0.5)
    # subpix=0 is the exact overlap: sampled areas scatter by a percent, and whole circles would look cut.
    for image, reach in ((lost, radius), (bad, radius / 2)):
        whole &= sep.sum_circle(image.view(np.uint8), x, y, reach, subpix=0)[0] < 0.5
    use = np.flatnonzero(whole)
    flux = np.full(len(x), np.nan)
    total = sep.sum_circle(frame.data, x[use], y[use], radius, mask=lost, subpix=0)[0]
    flux[use] = total - np.pi * radius**2 * _around(frame.data, bad, x[use], y[use], radius)
    return flux


def _around(data: np.ndarray, bad: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Sky (n,) between 2 and 3 radii of places: mean of what lies within 2.5 sigma of the median, so that neighbours do
    not count; NaN where under half of the ring can be seen."""
    reach = np.arange(-int(3 * radius) - 1, int(3 * radius) + 2)
    square = reach[:, None] ** 2 + reach**2
    offsets = np.nonzero((square >= (2 * radius - 1) ** 2) & (square <= (3 * radius + 1) ** 2)) + reach[0]
    step = max(RINGS // len(offsets[0]), 1)
    parts = [slice(start, start + step) for start in range(0, len(x), step)]
    return np.concatenate([np.zeros(0), *(_in_rings(data, bad, x[p], y[p], radius, *offsets) for p in parts)])


def _in_rings(data, bad, x, y, radius: float, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """What `_around` gives, from the pixels dy, dx away from the nearest one."""
    ny, nx = data.shape
    row, column = (np.rint(a).astype(int)[:, None] for a in (y, x))
    # Pixel by pixel, since a ring about the nearest pixel would be off centre on a slope.
    down, right = ((a - b[:, None]).astype(np.float32) for a, b in ((row, y), (column, x)))
    square = np.square(down + dy.astype(np.float32)) + np.square(right + dx.astype(np.float32))
    inside = (square >= 4 * radius**2) & (square <= 9 * radius**2)
    number = np.count_nonzero(inside, axis=1)
    places = (row * nx + column) + (dy * nx + dx)
    margin = dy.max()
    for i in np.flatnonzero((np.minimum(row, column) < margin) | (row >= ny - margin) | (column >= nx - margin)):
        rows, columns = row[i] + dy, column[i] + dx
        inside[i] &= (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    inside &= ~bad.ravel().take(places, mode="clip")
    value = data.ravel().take(places, mode="clip")
    inside &= np.isfinite(value)
    seen = np.count_nonzero(inside, axis=1)
    told = seen > 0.5 * number
    value = np.where(inside, value, np.float32(np.nan))[told]
    sky = np.full(len(x), np.nan)
    if told.any():
        middle = _medians(value, seen[told])
        value -= middle[:, None]
        away = np.abs(value)
        near = away <= np.float32(2.5 * 1.4826) * _medians(away.copy(), seen[told])[:, None]
        sky[told] = middle + np.where(near, value, 0).sum(axis=1) / np.count_nonzero(near, axis=1)
    return sky


def _medians(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Median (n,) of each row of (n, k) with `known` (n,) values that are not NaN, one at least; rows are put in order."""
    values.sort(axis=1)
    row, last = np.arange(len(values)), known - 1
    return (values[row, last // 2] + values[row, last - last // 2]) / 2


def brightness(flux: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    """How bright stars are in each of some frames, over what they are in the one that shows most of them (m,): median of the
    ratios of flux (m, n); of exposures (m,) where they share fewer than 3 stars."""
    shown = flux > 0
    fullest = int(shown.sum(axis=1).argmax())
    ratios = 1 / _by_time(np.asarray(exposure, float), fullest)
    for i, shared in enumerate(np.isfinite(flux) & shown[fullest]):
        if shared.sum() >= FEWEST:
            ratios[i] = np.median(flux[i, shared] / flux[fullest, shared])
    return ratios


def scales(
    flux: np.ndarray,
    exposure: np.ndarray,
    reference: int,
    how: str = "stars",
    zero_points: np.ndarray | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Factors (m,) that bring frames to the flux of one of them, and a note on each, "" where there is nothing to say.

    flux         (m, n) of n stars in m frames as `fluxes` gives them; (m, 0) will do where `how` needs none
    exposure     (m,) [s]
    reference    number of the frame whose factor is 1
    how          "stars": ln factor_i + ln flux_is = ln F_s for all frames and stars at once, F_s eliminated, so that a
                 frame may be tied to the reference through others; "exposure": ratio of exposures; "none";
                 "catalogue": factor = t_ref / t_i 10^(0.4 (Z_ref - Z_i))
    zero_points  (m,) Z [mag of flux 1 in 1 s], NaN where unknown

    Frames that fewer than 3 shared stars tie to the reference, also through others, keep their proportions among each
    other and are scaled by exposure, with a note; but if stars of the reference are missing there, by what is left of them.
    With "catalogue" those without a zero point are scaled by stars.
    """
    flux, exposure = np.asarray(flux, float), np.asarray(exposure, float)
    if how not in ("stars", "exposure", "catalogue", "none"):
        raise ValueError(f"combine: scale {how!r} is not one of stars, exposure, catalogue, none")
    m = len(exposure)
    notes = [""] * m
    by_time = _by_time(exposure, reference)
    if how == "none":
        factors = np.ones(m)
    elif how == "exposure":
        factors = by_time
    else:
        zero = _zero_points(zero_points, m) if how == "catalogue" else np.full(m, np.nan)
        fixed = by_time * 10 ** (0.4 * (zero[reference] - zero)) if np.isfinite(zero[reference]) else zero * np.nan
        factors, notes = _tied(np.where(flux > 0, flux, np.nan), by_time, reference, fixed)
        for i in (i for i, note in enumerate(notes) if note):
            left = _left(flux[i], flux[reference], by_time[i])
            if left is not None:
                factors[i], notes[i] = 1 / left, "stars of the reference are missing"
        if how == "catalogue":
            notes = _without_zero_point(notes, zero, fixed, reference)
        for i in np.flatnonzero(by_time / factors < CLOUDED):
            cloud = f"transparency {by_time[i] / factors[i]:.2f} of the reference"
            notes[i] = f"{notes[i]}; {cloud}" if notes[i] else cloud
    for i in np.flatnonzero(~_told(exposure, reference)):
        if i != reference and (how == "exposure" or notes[i].startswith(BY_EXPOSURE)):
            notes[i] = "; ".join(filter(None, (notes[i], "its exposure is not known")))
    notes[reference] = "; ".join(filter(None, ("photometric reference", notes[reference])))
    return factors, notes


def _told(exposure: np.ndarray, reference: int) -> np.ndarray:
    """bool (m,): where the exposure of a frame and that of the reference are known."""
    return (exposure > 0) & (exposure[reference] > 0)


def _by_time(exposure: np.ndarray, reference: int) -> np.ndarray:
    """Factors (m,) by the exposures, 1 where they are not known."""
    told = _told(exposure, reference)
    return np.where(told, exposure[reference] / np.where(told, exposure, 1.0), 1.0)


def _zero_points(zero_points, m: int) -> np.ndarray:
    return np.full(m, np.nan) if zero_points is None else np.asarray(zero_points, float)


def _without_zero_point(notes: list[str], zero: np.ndarray, fixed: np.ndarray, reference: int) -> list[str]:
    if not np.isfinite(fixed).any():
        why = "no zero point of the reference"
        return [note if i == reference else note or f"scaled by stars: {why}" for i, note in enumerate(notes)]
    return [
        note or ("" if np.isfinite(z) else "scaled by stars: no zero point")
        for note, z in zip(notes, zero, strict=True)
    ]


def _tied(flux, by_time, reference: int, fixed) -> tuple[np.ndarray, list[str]]:
    """Factors by stars within each group of frames that share some, where `fixed` (m,) gives none; each group tied to
    the reference by its own factor, by what is fixed, or by exposure."""
    m = len(by_time)
    factors, notes = np.where(np.isfinite(fixed), fixed, 1.0), [""] * m
    known = np.isfinite(flux)
    group = joint.groups(known, FEWEST)
    shared = (known & known[reference]).sum(axis=1)
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        missing = ~np.isfinite(fixed[members])
        if not missing.any():
            continue
        anchor = int(np.argmax(members == reference))
        relative = _by_stars(flux[members], anchor) if len(members) > 1 else np.zeros(1)
        if not missing.all():
            tie = np.median((np.log(fixed[members]) - relative)[~missing])
        elif reference in members:
            tie = 0.0
        else:
            tie = np.median(np.log(by_time[members]) - relative)
            for i in members:
                notes[i] = f"{BY_EXPOSURE}: {shared[i]} stars shared with the reference"
        factors[members[missing]] = np.exp(relative + tie)[missing]
    return factors, notes


def _left(flux: np.ndarray, reference: np.ndarray, by_time: float) -> float | None:
    """What is left in a frame of the light of the reference's stars (n,), at the most; None where its exposure may tell the
    truth: where what it promises, in sum, lies within 5 times the root of the sum of the squared fluxes.

    Clouds that hide all stars must not be scaled by exposure: they would take as much light from the stack as if stars had
    faded."""
    shared = np.isfinite(flux) & (reference > 0)
    promised, scatter = reference[shared].sum(), np.sqrt((flux[shared] ** 2).sum())
    if not promised > 5 * scatter * by_time:
        return None
    return max(flux[shared].sum() / promised, scatter / promised, FAINTEST)


def _by_stars(flux: np.ndarray, anchor: int) -> np.ndarray:
    """ln of the factors (m,) of connected frames; 0 for the anchor.

    The error of a flux f is (a^2 + (0.005 f)^2)^1/2: a is what sky and unknown neighbours bring, the same for faint stars
    as for bright ones, and is found from the residuals of the fainter half. Three times: at first with logarithms and an
    error of the root of f; then with f / F - 1 and errors by F, F what the last solution expects, since logarithms of
    faint fluxes are too low on average, and what came out faint would weigh less.
    """
    flux = flux[:, np.isfinite(flux).sum(axis=0) > 1]
    known, basis = np.isfinite(flux), np.ones((1, 1, flux.shape[1]))
    values, sigma = np.log(flux), np.sqrt(np.nanmedian(flux) / flux)
    for _ in range(3):
        factor = joint.solve(values, sigma, basis, anchor)[:, 0]
        bright = np.nan_to_num(values) + factor[:, None]
        weight = np.where(known, 1 / np.where(known, sigma, 1.0) ** 2, 0.0)
        level = (weight * bright).sum(axis=0) / weight.sum(axis=0)
        expected = np.exp(level - factor[:, None])
        residual = flux / expected - 1
        values = np.log(expected) + np.clip(residual, -1, 2)
        faint = level <= np.median(level)
        apart = np.abs(residual * np.exp(level))[:, faint]
        sigma = np.hypot(1.4826 * np.nanmedian(apart) / np.exp(level), FLATNESS)
    return factor


# ---- sky -------------------------------------------------------------------------------------------------------------


def block_medians(frame: Frame, block: int | None = None) -> np.ndarray:
    """Medians float32 (ny // block, nx // block) of blocks of about `block` x `block` pixels, in the frame's unit; what is
    left over at the ends of rows and columns is in none. None: 16 pixels, from 4 megapixels on 32; a narrow overlap of
    two frames must hold several.

    NaN where under half of a block is usable. Where that lies to one side, as at the edge of a frame, a pixel counts
    together with the one opposite it in the block, so that a slope of the sky does not shift the median.
    """
    block = block or (16 if frame.data.size < 4e6 else 32)
    rows, columns = (max(length // block, 1) for length in frame.shape)
    size = high, wide = frame.shape[0] // rows, frame.shape[1] // columns
    out = np.empty((rows, columns), np.float32)
    for row in range(rows):  # one row of blocks stays in a processor's cache
        band = slice(row * high, (row + 1) * high), slice(columns * wide)
        out[row] = _medians_of_blocks(*(_blocks(array[band], columns) for array in (frame.data, frame.mask)), size)
    return out


def _blocks(band: np.ndarray, columns: int) -> np.ndarray:
    """A copy (columns, pixels of a block) of a row of blocks."""
    high, wide = band.shape
    return np.array(band.reshape(high, columns, wide // columns).swapaxes(0, 1)).reshape(columns, -1)


def _medians_of_blocks(data: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Medians (n,) of blocks (n, pixels) of a size (high, wide), as in `block_medians`; data is overwritten."""
    good = np.isfinite(data)
    good &= (mask & SPOILT) == 0
    known, all_of = np.count_nonzero(good, axis=1), good.shape[1]
    known[known < all_of / 2] = 0
    # Fewer than 4 % that are missing cannot move the mean place by 2 % of the block.
    for i in np.flatnonzero((known > 0) & (known < 0.96 * all_of)):
        lines = good[i].reshape(size)
        if max(_aside(lines.sum(axis=0)), _aside(lines.sum(axis=1))) > 0.02:
            good[i] &= good[i, ::-1]
            known[i] = good[i].sum() if good[i].mean() >= 0.25 else 0
    np.copyto(data, np.float32(np.nan), where=~good)
    return np.where(known > 0, _medians(data, np.maximum(known, 1)), np.float32(np.nan))


def _aside(counts: np.ndarray) -> float:
    """How far the mean place of counted pixels along a block lies from its middle, in shares of its length."""
    places = (np.arange(len(counts)) + 0.5) / len(counts) - 0.5
    return abs(float(counts @ places) / counts.sum())


@dataclass(frozen=True)
class Surfaces:
    """What to add to scale_i * frame_i so that all skies are the reference's.

    terms  (m, k) of the polynomials 1, u, v, u^2 - 1/3, u v, v^2 - 1/3, as many as the order has; u = (x - x_i) / h_i
           and v likewise run from -1 to 1 over frame i
    frames (m, 4): x_i, y_i, and half its width and height [pix]; shape (ny, nx) of the grid
    notes  (m,) text, "" where there is nothing to say
    """

    terms: np.ndarray
    frames: np.ndarray
    shape: tuple[int, int]
    notes: list[str] = field(default_factory=list)

    def of(self, i: int, rows: slice = slice(None)) -> np.ndarray | np.float32:
        """float32 (ny, nx), or some rows of it; a number where the order is constant or none, or the frame is the
        reference."""
        terms = self.terms[i]
        if not terms[1:].any():
            return np.float32(terms[0])
        x, y, wide, high = self.frames[i]
        u, v = (np.arange(self.shape[1]) - x) / wide, (np.arange(self.shape[0])[rows] - y) / high
        across, along = terms[0] + terms[1] * u, terms[2] * v
        if len(terms) == 3:
            return across.astype(np.float32) + along.astype(np.float32)[:, None]
        across, along = across + terms[3] * (u**2 - 1 / 3), along + terms[5] * (v**2 - 1 / 3)
        crossed = np.multiply.outer((terms[4] * v).astype(np.float32), u.astype(np.float32))
        crossed += across.astype(np.float32)
        crossed += along.astype(np.float32)[:, None]
        return crossed

    def at(self, i: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """What is added at any places x, y of the grid, of the same shape."""
        middle_x, middle_y, wide, high = self.frames[i]
        u, v = (x - middle_x) / wide, (y - middle_y) / high
        shapes = (1.0, u, v, u**2 - 1 / 3, u * v, v**2 - 1 / 3)
        return sum(term * shape for term, shape in zip(self.terms[i], shapes, strict=False))

    def mean(self, i: int) -> float:
        """Mean of what is added, over the frame."""
        return float(self.terms[i, 0])


def surfaces(
    blocks: np.ndarray, scales: np.ndarray, reference: int, order: str, shape: tuple[int, int], noise: np.ndarray
) -> Surfaces:
    """The differences in sky between frames, fitted for all at once.

        scale_i m_i(b) + S_i(b) = common(b),   S_reference = 0

    blocks     m (m, by, bx), medians as `block_medians` gives them, NaN where unknown
    scales     (m,) factors of flux; noise (m,) of a pixel of the sky of each frame, before it is scaled
    reference  number of the frame whose sky all get
    order      of S: "none", "constant", "plane", "surface" (of second order)
    shape      (ny, nx) of the images

    What is in all frames, as a nebula, is in `common` and falls out; blocks that differ (things that move, stars in
    other seeing, single clouds) lose their weight. Slopes and bends are held by a weak spring: slopes are expected to be
    within 3, bends within half a noise of a pixel from the middle of a frame to its edge. Blocks that overlap in full tell a
    slope to a few thousandths of that and do not feel it; in a strip it keeps a plane from running away.

    Frames that share no 3 blocks with the reference, also through others, get a constant: with it the median of the
    least noisy of such a group that hang together is the reference's, which a note says.
    """
    if order not in ORDERS:
        raise ValueError(f"combine: background {order!r} is not one of {', '.join(ORDERS)}")
    m, rows, columns = blocks.shape
    k = max(ORDERS[order], 1)
    scales, noise = np.asarray(scales, float), np.asarray(noise, float)
    values = blocks * scales[:, None, None]
    high, wide = shape[0] // rows, shape[1] // columns
    while values.size * k > VALUES and min(values.shape[1:]) > 1:
        values, high, wide = _coarser(values), 2 * high, 2 * wide
    y, x = (np.indices(values.shape[1:]).reshape(2, -1) + 0.5) * np.array([[high], [wide]]) - 0.5
    values = values.reshape(m, -1)
    frames = _extents(np.isfinite(values), x, y, wide, high)
    terms, notes = np.zeros((m, k)), [""] * m
    if order == "none":
        return Surfaces(terms, frames, shape, notes)
    basis = _basis((x - frames[:, :1]) / frames[:, 2:3], (y - frames[:, 1:2]) / frames[:, 3:], k)
    pixel = scales * noise
    sigma = 1.2533 * pixel[:, None] / np.sqrt(high * wide)
    prior = pixel[:, None] * np.array([np.inf, SLOPE, SLOPE, BEND, BEND, BEND])[:k]
    known = np.isfinite(values)
    group = joint.groups(known, min(FEWEST, values.shape[1]))
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        near = reference in members
        anchor = int(np.argmax(members == reference)) if near else int(np.argmin(pixel[members]))
        if len(members) > 1:
            terms[members] = joint.solve(values[members], sigma[members], basis[members], anchor, prior[members])
        if near:
            continue
        level = np.median(values[members[anchor]][known[members[anchor]]]) if known[members[anchor]].any() else np.nan
        base = np.median(values[reference][known[reference]]) if known[reference].any() else np.nan
        told = np.isfinite(base - level)
        terms[members, 0] += base - level if told else 0.0
        for i in members:
            notes[i] = (
                "sky by its own level: no overlap with the reference"
                if told
                else "sky left as it is: too few good pixels"
            )
    return Surfaces(terms, frames, shape, notes)


def _coarser(values: np.ndarray) -> np.ndarray:
    """Means of 2x2 blocks (m, by // 2, bx // 2), NaN unless all four are known."""
    m, rows, columns = values.shape
    even = values[:, : rows // 2 * 2, : columns // 2 * 2]
    return even.reshape(m, rows // 2, 2, columns // 2, 2).mean(axis=(2, 4))


def _extents(known: np.ndarray, x: np.ndarray, y: np.ndarray, wide: float, high: float) -> np.ndarray:
    """Middle and half sizes (m, 4) of the part of the grid that each frame's known blocks lie in."""
    out = []
    for places in known:
        places = places if places.any() else np.ones_like(places)
        out.append([*((a[places].max() + a[places].min()) / 2 for a in (x, y))])
        out[-1] += [(a[places].max() - a[places].min() + size) / 2 for a, size in ((x, wide), (y, high))]
    return np.array(out)


def _basis(u: np.ndarray, v: np.ndarray, k: int) -> np.ndarray:
    """The first k polynomials (m, k, n) at u, v (m, n)."""
    all_six = (np.ones_like(u), u, v, u**2 - 1 / 3, u * v, v**2 - 1 / 3)
    return np.stack(all_six[:k], axis=1)
