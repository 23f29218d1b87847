"""The grid of a target, and bringing each calibrated frame onto it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.io import fits

from . import astrometry, sources
from .frame import Frame, Mask, Unusable

KERNELS = ("cubic", "bilinear", "nearest")
STEP = 8  # pixels between exact positions; in between they are interpolated, to better than 0.001 pixel


@dataclass(frozen=True)
class Grid:
    """The pixels of a target: shape (ny, nx), WCS, stars (x, y, fwhm; brightest first), name of the reference light.

    celestial False: no frame of the target was solved; the WCS only counts the reference light's pixels
    """

    wcs: object
    celestial: bool
    shape: tuple[int, int]
    stars: np.ndarray
    reference: str


def candidate(path, header) -> dict | None:
    """What `reference` needs to know of a light, from its header; None for a dropped one."""
    if header.get("FLSTATUS") == "dropped":
        return None
    return {
        "path": str(path),
        "header": header,
        "name": header.get("FLFRAME", ""),
        "solved": bool(header.get("FLSOLVED")),
        "fwhm": header.get("FWHM", 0.0),
        "flux": header.get("STARFLUX", 0.0),
        "elongation": header.get("ELONG", 1.0),
        "noise": header.get("SKYNOISE", 1.0),
    }


def grid_header(header: fits.Header, table: np.ndarray) -> tuple[fits.Header, np.ndarray]:
    """The grid that a light gives: its header, and its stars' positions on it (x, y, fwhm), brightest first.

    The WCS is the light's without distortion; where the light has none the grid is just its pixels.
    """
    shape = header["NAXIS2"], header["NAXIS1"]
    grid = fits.Header()
    grid["OBJECT"] = header.get("OBJECT", "")
    grid["GRIDREF"] = (header.get("FLFRAME", ""), "light that the grid is taken from")
    grid["GRIDNX"], grid["GRIDNY"] = (shape[1], "[pix] width"), (shape[0], "[pix] height")
    good = table[(table["flag"] == 0) & (table["flux"] > 0)]
    if len(good) < 30:  # where stars are few a saturated or blended one still tells the place
        good = table[(table["flag"] < sources.EDGE) & (table["flux"] > 0)]
    stars = np.zeros(len(good), [("x", "f8"), ("y", "f8"), ("fwhm", "f8")])
    for name in stars.dtype.names:
        stars[name] = good[name]
    wcs = astrometry.read_wcs(header)
    if wcs is not None and len(stars):
        flat = astrometry.without_distortion(wcs, shape)
        on_sky = wcs.all_pix2world(np.column_stack([stars["x"], stars["y"]]), 0)
        stars["x"], stars["y"] = flat.wcs_world2pix(on_sky, 0).T
    if wcs is not None:
        grid = astrometry.replace_wcs(grid, astrometry.without_distortion(wcs, shape))
    return grid, stars[:500]


def grid_from(header: fits.Header, stars: np.ndarray) -> Grid:
    """The grid from its file's header and table."""
    wcs = astrometry.read_wcs(header)
    shape = header["GRIDNY"], header["GRIDNX"]
    return Grid(wcs or astrometry.pixel_plane(), wcs is not None, shape, stars, header["GRIDREF"])


def onto(frame: Frame, table: np.ndarray, grid: Grid, interpolation: str = "cubic") -> Frame:
    """A calibrated light on its target's grid: placed by its WCS or its stars, then resampled; ValueError where neither does."""
    wcs = astrometry.read_wcs(frame.header)
    if not grid.celestial and frame.header.get("FLFRAME") == grid.reference:
        placed, how = grid.wcs, {"ALIGNED": ("reference", "this frame is the grid"), "ALIGNN": len(grid.stars)}
    else:
        placed, how = place(table, wcs, grid)
    aligned = align(frame, placed, grid.wcs, grid.shape, interpolation)
    return aligned.with_(how, header=astrometry.replace_wcs(aligned.header, grid.wcs if grid.celestial else None))


def reference(candidates: list[dict], wanted: str = "") -> dict:
    """The light that a target's grid is taken from: the named one; else a solved one before an unsolved, then the one whose
    stars stand out most: bright, sharp and round over a quiet sky.

    candidates: as `candidate` gives them; wanted: part of a name. Raises ValueError where the list is empty.
    """
    if not candidates:
        raise Unusable("no usable light to take a grid from")
    named = [light for light in candidates if wanted and wanted in light["name"]]
    if wanted and not named:
        print(f"grid: reference {wanted!r} is in no usable light's name: the best light is taken")

    def quality(light):
        depth = light["flux"] / max(light["noise"], 1e-9) / (light["fwhm"] or 99.0) / max(light["elongation"], 1.0)
        return light["solved"], depth, light["name"]

    return max(named or candidates, key=quality)


def place(table: np.ndarray, wcs, grid: Grid, tolerance: float = 2.0):
    """Where a frame lies on the grid.

    table  the frame's sources, brightest first; wcs its own celestial WCS, or None
    Returns (WCS of the frame on the grid's sky, how: dict of keywords). A frame's own WCS is tightened to the grid's
    stars where enough of both agree; without one, or where the stars belie it, they are matched to the grid's. Raises
    ValueError with the reason where it cannot be placed.
    """
    stars = table[table["flag"] < sources.ODD]
    xy = np.column_stack([stars["x"], stars["y"]])[:1500]
    on_grid = np.column_stack([grid.stars["x"], grid.stars["y"]])
    if wcs is None or not grid.celestial:
        transform, how = _by_stars(xy, on_grid, tolerance)
        placed = astrometry.moved(grid.wcs, transform)
    else:
        placed, how = _checked(wcs, xy, on_grid, grid, tolerance)
    sky = grid.wcs.all_pix2world(on_grid, 0) if len(on_grid) else on_grid
    for radius in (2 * tolerance, tolerance, tolerance):
        predicted = _on_grid(grid, placed, xy)
        i, j = _together(predicted, on_grid, *astrometry.nearest(predicted, on_grid, radius))
        if len(i) < 12:  # too few to improve on a solution that used more; but headers are a pixel off at times
            if how == "wcs" and len(i) >= max(4, astrometry.more_than_chance(predicted, on_grid, radius, 1)):
                placed = astrometry.refit(placed, xy[i], sky[j], shift_only=True)
                how = "wcs+shift"
            break
        placed = astrometry.refit(placed, xy[i], sky[j])
        how = "wcs+stars" if how.startswith("wcs") else how
    residual = _on_grid(grid, placed, xy[i]) - on_grid[j]
    rms = float(np.sqrt((residual**2).sum(axis=1).mean())) if len(i) else float("nan")
    keywords = {
        "ALIGNED": (how, "how the frame was placed on the grid"),
        "ALIGNN": (len(i), "stars shared with the grid"),
    }
    if np.isfinite(rms):
        keywords["ALIGNRMS"] = (round(rms, 3), "[pix] rms distance of shared stars")
    return placed, keywords


def align(frame: Frame, wcs, grid_wcs, shape: tuple[int, int], interpolation: str = "cubic") -> Frame:
    """Resample a frame onto the grid.

    wcs of the frame, grid_wcs and shape (ny, nx) of the grid. interpolation: "cubic" (Keys 1981, a = -1/2), "bilinear",
    "nearest", or "reproject-bilinear", "reproject-biquadratic", "reproject-bicubic": data by reproject_interp, sigma
    and mask by the bilinear kernel.
    Flux is conserved: values are multiplied by the area of a grid pixel in frame pixels. The variance is the sum of the
    squared weights times the variances; a mask bit is set where flagged pixels have more than 10 % of the sum of
    absolute weights. Outside of the frame data are NaN with the bit NO_DATA.
    """
    by_reproject = interpolation.startswith("reproject-")
    order = interpolation.removeprefix("reproject-")
    kernel = "bilinear" if by_reproject else order
    if kernel not in KERNELS:
        raise ValueError(
            f"interpolation {interpolation!r}: cubic, bilinear, nearest or reproject-bilinear, -biquadratic, -bicubic?"
        )
    positions = Positions(wcs, grid_wcs, shape)
    usable = np.isfinite(frame.data)
    # What stands in for missing values leaks into neighbours, up to the mask's 10 %: so it must look like the sky.
    data = frame.data if usable.all() else np.where(usable, frame.data, np.float32(np.nanmedian(frame.data)))
    mask = np.where(usable, frame.mask, frame.mask | np.uint8(Mask.NO_DATA))
    variance = None
    if frame.sigma is not None:
        variance = np.where(usable & np.isfinite(frame.sigma), frame.sigma, np.float32(0)) ** 2
    out = np.full(shape, np.nan, np.float32)
    out_sigma = None if variance is None else np.full(shape, np.nan, np.float32)
    out_mask = np.full(shape, Mask.NO_DATA, np.uint8)
    for start in range(0, shape[0], 128):
        rows = slice(start, min(start + 128, shape[0]))
        x, y, area = positions.rows(rows)
        values, variances, bits, inside = resample(data, variance, mask, x, y, kernel)
        out[rows] = np.where(inside, values * area, np.float32(np.nan))
        if variance is not None:
            out_sigma[rows] = np.where(inside, np.sqrt(variances) * area, np.float32(np.nan))
        out_mask[rows] = np.where(inside, bits, np.uint8(Mask.NO_DATA))
    if by_reproject:
        from reproject import reproject_interp

        out = reproject_interp(
            (data, wcs), grid_wcs, shape, order=order, roundtrip_coords=False, return_footprint=False
        )
        out = np.where(out_mask & Mask.NO_DATA, np.nan, out * positions.area).astype(np.float32)
    nothing = (out_mask & Mask.NO_DATA) != 0
    out[nothing] = np.nan
    if out_sigma is not None:
        out_sigma[nothing] = np.nan
    return frame.with_(data=out, sigma=out_sigma, mask=out_mask)


def _by_stars(xy: np.ndarray, on_grid: np.ndarray, tolerance: float) -> tuple[np.ndarray, str]:
    """Transformation (2, 3) from a frame to the grid by its stars: any from 6 stars on, a plain shift from 3, a small
    one from 2."""
    try:
        return astrometry.match_stars(xy, on_grid, tolerance)[0], "stars"
    except ValueError as any_transformation:
        try:
            return astrometry.match_shift(xy, on_grid)[0], "shift"
        except ValueError as shift:
            raise ValueError(f"{any_transformation}; {shift}") from shift


def _checked(wcs, xy: np.ndarray, on_grid: np.ndarray, grid: Grid, tolerance: float):
    """A frame's own WCS and "wcs"; or, where the stars contradict it and agree on another place, that and "stars".

    Many headers carry what the mount believed. A WCS that was checked against a catalogue passes here at once; one that
    shares no stars with the grid (another filter, a small overlap) stays.
    """
    predicted = _on_grid(grid, wcs, xy)
    agreeing = len(astrometry.nearest(predicted, on_grid, 2 * tolerance)[0])
    if agreeing < max(6, astrometry.more_than_chance(predicted, on_grid, 2 * tolerance, 0)):
        try:
            return astrometry.moved(grid.wcs, astrometry.match_stars(xy, on_grid, tolerance)[0]), "stars"
        except ValueError:
            pass
    return wcs, "wcs"


def _together(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray):
    """The pairs (indices into a and b) whose distance is that of most: hot pixels do not move with the stars."""
    if len(i) < 6:
        return i, j
    apart = a[i] - b[j]
    distance = np.hypot(*(apart - np.median(apart, axis=0)).T)
    keep = distance <= max(4 * np.median(distance), 0.2)
    return i[keep], j[keep]


def _on_grid(grid: Grid, wcs, xy: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) of a frame on the grid."""
    return grid.wcs.wcs_world2pix(wcs.all_pix2world(xy, 0), 0) if len(xy) else np.zeros((0, 2))


class Positions:
    """Where the pixels of the grid lie on the frame: exact every `STEP` pixels, bilinear in between."""

    def __init__(self, wcs, grid_wcs, shape):
        ny, nx = shape
        self.nx = nx
        ys, xs = np.arange(0, ny + STEP, STEP), np.arange(0, nx + STEP, STEP)
        x, y = np.meshgrid(xs, ys)
        sky = grid_wcs.all_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0)
        on_frame = wcs.all_world2pix(sky, 0, quiet=True) if wcs.sip is not None else wcs.wcs_world2pix(sky, 0)
        self.x, self.y = (column.reshape(x.shape) for column in np.asarray(on_frame).T)
        dy_x, dx_x = np.gradient(self.x, STEP)
        dy_y, dx_y = np.gradient(self.y, STEP)
        self.area = np.float32(np.median(np.abs(dx_x * dy_y - dy_x * dx_y)))  # frame pixels in a grid pixel

    def rows(self, rows: slice):
        """x, y (r, nx) on the frame for some rows of the grid, and the area."""
        j = np.arange(rows.start, rows.stop) / STEP
        i = np.arange(self.nx) / STEP
        j0, i0 = j.astype(int), i.astype(int)
        fj, fi = (j - j0)[:, None], (i - i0)[None, :]
        out = []
        for coarse in (self.x, self.y):
            across = coarse[:, i0] * (1 - fi) + coarse[:, i0 + 1] * fi
            out.append(across[j0] * (1 - fj) + across[j0 + 1] * fj)
        return out[0], out[1], self.area


def resample(data, variance, mask, x, y, kernel: str):
    """Values, variances and mask bits of an image (ny, nx) at positions x, y (r, c); and where these lie inside.

    A position is inside where its nearest pixel is; taps beyond the edge take the edge's value.
    """
    ny, nx = data.shape
    inside = (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)
    x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
    first_x, weights_x = _taps(x, kernel)
    first_y, weights_y = _taps(y, kernel)
    columns = [np.clip(first_x + k, 0, nx - 1) for k in range(len(weights_x))]
    flat, flat_mask = data.ravel(), mask.ravel()
    flat_variance = None if variance is None else variance.ravel()
    values = np.zeros(x.shape, np.float32)
    variances = None if variance is None else np.zeros(x.shape, np.float32)
    touched = np.zeros(x.shape, np.uint8)
    for m, wy in enumerate(weights_y):
        row = np.clip(first_y + m, 0, ny - 1) * nx
        for column, wx in zip(columns, weights_x, strict=True):
            where, weight = row + column, wy * wx
            values += weight * flat.take(where)
            if variances is not None:
                variances += weight * weight * flat_variance.take(where)
            touched |= flat_mask.take(where)
    bits = np.zeros(x.shape, np.uint8)
    if touched.any():
        _bits(bits, touched, flat_mask, nx, ny, first_x, first_y, weights_x, weights_y)
    return values, variances, bits, inside


def noise_factor(interpolation: str, radius: float) -> float:
    """How much larger the noise in a circle is than the sigmas of its resampled pixels tell, which share taps.

    With weights w_k(t) along one axis, c(d) = <sum_k w_k w_(k-d)> over all positions t between pixels; then
    factor^2 = sum_ij c(dx_ij) c(dy_ij) / (N c(0)^2) over all pairs of the circle's N pixels. radius in pixels.
    """
    kernel = interpolation if interpolation in KERNELS else "bilinear"
    _, weights = _taps(np.linspace(0, 1, 101)[:-1], kernel)
    taps = np.array(weights)
    reach = len(taps)
    c = [float((taps[d:] * taps[: reach - d]).sum(axis=0).mean()) for d in range(reach)]
    line = np.array(c[:0:-1] + c)
    size = int(np.ceil(radius))
    y, x = np.mgrid[-size : size + 1, -size : size + 1]
    circle = (x**2 + y**2 <= radius**2).astype(float)
    from scipy.ndimage import convolve

    shared = (circle * convolve(circle, np.outer(line, line), mode="constant")).sum()
    return float(np.sqrt(shared / (circle.sum() * c[0] ** 2)))


def noise_cards(interpolation: str) -> dict:
    """`noise_factor` for circles of 1, 2, 3, 5 and 10 pixels as header cards."""
    comment = "noise in a circle of {} pix over its pixels' sigmas"
    return {f"NCORR{r:02d}": (round(noise_factor(interpolation, r), 4), comment.format(r)) for r in (1, 2, 3, 5, 10)}


def _bits(bits, touched, flat_mask, nx, ny, first_x, first_y, weights_x, weights_y) -> None:
    """Set the bits that have more than 10 % of the absolute weight, looking only where any flagged pixel is touched."""
    at = np.nonzero(touched)
    fx, fy = first_x[at], first_y[at]
    shares = {bit: np.zeros(len(fx), np.float32) for bit in Mask.NAMES if (touched & bit).any()}
    total = np.zeros(len(fx), np.float32)
    for m, wy in enumerate(weights_y):
        row = np.clip(fy + m, 0, ny - 1) * nx
        for k, wx in enumerate(weights_x):
            weight = np.abs(wy[at] * wx[at])
            flags = flat_mask.take(row + np.clip(fx + k, 0, nx - 1))
            total += weight
            for bit, share in shares.items():
                share += np.where(flags & bit, weight, np.float32(0))
    for bit, share in shares.items():
        bits[at] |= np.where(share > 0.1 * total, np.uint8(bit), np.uint8(0))


def _taps(position: np.ndarray, kernel: str):
    """First pixel (int32) and the weights (float32) of the pixels from there on, for positions along one axis."""
    if kernel == "nearest":
        # Halves all go one way, rounding errors or not: else a shift by half a pixel doubles some and skips others.
        return np.floor(position + 0.500001).astype(np.int32), [np.ones(position.shape, np.float32)]
    base = np.floor(position)
    t = (position - base).astype(np.float32)
    base = base.astype(np.int32)
    if kernel == "bilinear":
        return base, [1 - t, t]
    t2, t3 = t * t, t * t * t
    return base - 1, [
        (-t3 + 2 * t2 - t) / 2,
        (3 * t3 - 5 * t2 + 2) / 2,
        (-3 * t3 + 4 * t2 + t) / 2,
        (t3 - t2) / 2,
    ]
