"""Bringing a calibrated frame onto its target's grid."""

from __future__ import annotations

import numpy as np

from . import astrometry, reprojected, resample
from .frame import Frame, Mask, row_blocks
from .placing import place
from .positions import median

INTERPOLATIONS = (*resample.KERNELS, *reprojected.METHODS)
LOST = 0.5  # share of a frame that lies off the grid from which on it is told


def onto(frame: Frame, table: np.ndarray, grid, interpolation: str = "cubic") -> Frame:
    """A calibrated light on its target's grid (`grid.Grid`): placed by its WCS or its stars, then resampled.

    table  the frame's sources. Raises ValueError where neither places it, and where it lies beside the grid.
    """
    wcs, how = placed(frame, table, grid)
    aligned = align(frame, wcs, grid.wcs, grid.shape, interpolation)
    if not aligned.header["ALIGNCOV"]:
        raise ValueError("the frame lies beside the grid; grid: extent: all makes one that covers all solved frames")
    return aligned.with_(how, header=astrometry.replace_wcs(aligned.header, grid.wcs if grid.celestial else None))


def placed(frame: Frame, table: np.ndarray, grid):
    """The WCS of a calibrated light on its target's grid, and cards that say how it was found; see `placing.place`."""
    if not grid.celestial and frame.header.get("FLFRAME") == grid.reference:
        return grid.wcs, {"ALIGNED": ("reference", "this frame is the grid"), "ALIGNN": len(grid.stars)}
    return place(table, astrometry.read_wcs(frame.header), grid)


def align(frame: Frame, wcs, grid_wcs, shape: tuple[int, int], interpolation: str = "cubic") -> Frame:
    """Resample a frame onto the grid, with cards that say how (`_cards`).

    wcs of the frame, grid_wcs and shape (ny, nx) of the grid. interpolation: "cubic", "bilinear", "nearest", "lanczos3"
    (`resample.KERNELS`); or by reproject (`reprojected`) "reproject-bilinear", "reproject-biquadratic",
    "reproject-bicubic", "adaptive" (DeForest 2004), "exact" (overlaps of pixels).

    Flux is conserved: values are multiplied by the area of a grid pixel in frame pixels, at its place. The variance is
    the sum of the squared weights times the variances; a mask bit is set where flagged pixels have more than 10 % of the
    sum of absolute weights; `common` is the nearest pixel's. Outside of the frame data are NaN with the bit NO_DATA.
    Raises ValueError for an unknown interpolation, and for a frame of another half of the sky.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r} is not known: {', '.join(INTERPOLATIONS)}?")
    positions = resample.Positions(wcs, grid_wcs, shape, frame.shape)
    if not np.isfinite(positions.x).any():
        raise ValueError("the frame lies on another half of the sky than the grid: another target under the same name?")
    clean = _clean(frame)
    known = clean.data.size - _number_without_data(clean)
    if not known:
        raise ValueError("no pixel of the frame has data")
    if interpolation in resample.KERNELS:
        out = _by_kernel(clean, positions, interpolation, positions.widest())
        factors = resample.noise_factors(positions, interpolation)
    else:
        out, factors = _by_reproject(clean, positions, interpolation, wcs, grid_wcs)
    if known < clean.data.size:
        nothing = (out.mask & Mask.NO_DATA) != 0
        for image in (out.data, out.sigma):
            if image is not None:
                image[nothing] = np.nan
    cards = _cards(frame, out, positions, known)
    return out.with_(cards | resample.noise_cards(factors))


def _clean(frame: Frame) -> Frame:
    """A frame of finite values: for those that are missing what looks like the sky, marked NO_DATA."""
    usable = _finite(frame.data)
    sure = None if frame.sigma is None else _finite(frame.sigma)
    if usable is None and sure is None:
        return frame
    data, sigma, mask = frame.data, frame.sigma, frame.mask
    if usable is not None:
        # What stands in for missing values leaks into neighbours, up to the mask's 10 %.
        data = np.where(usable, data, np.float32(median(data[usable]) if usable.any() else 0))
        mask = np.where(usable, mask, mask | np.uint8(Mask.NO_DATA))
    if sigma is not None:
        known = [there for there in (usable, sure) if there is not None]
        sigma = np.where(np.logical_and.reduce(known), sigma, np.float32(0))
    return frame.with_(data=data, sigma=sigma, mask=mask)


def _finite(image: np.ndarray) -> np.ndarray | None:
    """Which values of an image are finite; None where all are."""
    if all(np.isfinite(image[rows]).all() for rows in row_blocks(image.shape)):
        return None
    return np.isfinite(image)


def _by_kernel(frame: Frame, positions, kernel: str, widest: float | None) -> Frame:
    """The frame on the grid by one of our own kernels."""
    turn = positions.upright()
    images = [None if i is None else turn.image(i) for i in (frame.data, frame.sigma, frame.mask, frame.common)]
    out = [None if image is None else np.empty(positions.shape, image.dtype) for image in images]
    data, sigma, mask, common = images
    resample.Resampler(data, sigma, mask, kernel, widest, common).onto(positions.turned(turn), *out)
    data, sigma, mask, common = out
    return frame.with_(data=data, sigma=sigma, mask=mask, common=common)


def _by_reproject(frame: Frame, positions, method: str, wcs, grid_wcs) -> tuple[Frame, list[float]]:
    """The frame on the grid by one of reproject's methods, and its factors of correlated noise.

    reproject's bilinear is ours, so variance and bits are. Splines have negative weights, of nearly the places and sizes
    of our cubic kernel's: its bits are taken, and all of its values where it turns bilinear.
    """
    where = wcs, grid_wcs, positions.shape
    area = positions.rows(slice(0, positions.shape[0]), positions.area)[0].astype(np.float32)
    bilinear, spline = method == "reproject-bilinear", method in ("reproject-biquadratic", "reproject-bicubic")
    out = _by_kernel(frame, positions, "bilinear" if bilinear else "cubic" if spline else "nearest", None)
    values = reprojected.resampled(frame.data[None], method, *where)[0] * area
    sigma, mask = out.sigma, out.mask
    if sigma is not None and not bilinear:
        stretch = max(positions.typical(part) for part in positions.stretch)
        sigma = np.sqrt(reprojected.variance(frame.sigma, method, *where, stretch)) * area
    if not (bilinear or spline):
        mask = reprojected.bits(frame.mask, method, *where)
    outside = ~np.isfinite(out.data) | ~np.isfinite(values)
    values[outside] = np.nan
    mask = np.where(outside, np.uint8(Mask.NO_DATA), mask)
    factors = reprojected.noise_factors(method, *where, frame.shape, area, resample.RADII)
    return out.with_(data=values, sigma=sigma, mask=mask), factors


def _number_without_data(frame: Frame) -> int:
    return int(np.count_nonzero(frame.mask & np.uint8(Mask.NO_DATA)))


def _cards(frame: Frame, out: Frame, positions, known: int) -> dict:
    """What an aligned frame says of where it lies, `known` of its pixels having data; and what its light said of itself, in
    pixels of the grid.

    ALIGNnn, ALIGNX, ALIGNY: x' = ALIGN11 x + ALIGN12 y + ALIGNX, y' = ALIGN21 x + ALIGN22 y + ALIGNY on the frame, from x, y
    on the grid, both counted from 0. ALIGNDX, ALIGNDY: pixels of the grid from its middle to the frame's. FWHM is divided by
    the side of a grid pixel in pixels of the frame, SKYLEVEL multiplied by its area, SKYNOISE by the ratio of the median
    sigmas after and before; STARFLUX is conserved.
    """
    (a11, a12, x0), (a21, a22, y0) = positions.affine()
    area = positions.typical(positions.area)
    covered = out.data.size - _number_without_data(out)
    matrix = {"ALIGN11": a11, "ALIGN12": a12, "ALIGN21": a21, "ALIGN22": a22, "ALIGNX": x0, "ALIGNY": y0}
    cards = {key: (round(float(value), 8), "pixel of the grid to pixel of the frame") for key, value in matrix.items()}
    cards["ALIGNCOV"] = (round(covered / out.data.size, 6), "share of the grid that the frame covers")
    middle = [(size - 1) / 2 for size in frame.data.shape[::-1]]
    moved = np.linalg.solve([[a11, a12], [a21, a22]], np.subtract(middle, (x0, y0)))
    moved -= [(size - 1) / 2 for size in out.data.shape[::-1]]
    for key, value in zip(("ALIGNDX", "ALIGNDY"), moved, strict=True):
        cards[key] = (round(float(value), 3), "[pix] from the grid's middle to the frame's")
    off = max(1 - covered * area / known, 0.0)
    cards["ALIGNOFF"] = (round(off, 3), "share of the frame that lies off the grid")
    ratios = {"FWHM": 1 / np.sqrt(area), "SKYLEVEL": area, "SKYNOISE": _noise_ratio(frame, out, area)}
    for key, ratio in ratios.items():
        if isinstance(known := frame.header.get(key), (int, float)):
            cards[key] = round(float(known * ratio), 4)
    return cards


def _noise_ratio(frame: Frame, out: Frame, area: float) -> float:
    """Median sigma of unflagged pixels after and before; some 30,000 of each are looked at."""
    if frame.sigma is None:
        return area
    middle = []
    for one in (out, frame):
        some = (slice(None, None, max(int(np.sqrt(one.data.size / 3e4)), 1)),) * 2
        good = one.sigma[some][(one.mask[some] == 0) & np.isfinite(one.sigma[some])]
        middle.append(median(good) if good.size else 0.0)
    after, before = middle
    return after / before if after > 0 and before > 0 else area
