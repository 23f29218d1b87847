"""Resampling with reproject, in surface brightness: values, their variance and mask bits for each of its methods.

reproject gives no variance. For a linear method with weights w the variance is the sum of w^2 times the variances, and this
is found with the method itself: the image of standard deviations is split into lattices of pixels that lie so far apart
that no two of one lattice meet in one pixel of the grid; each is resampled, squared, and all are added.
"""

from __future__ import annotations

import numpy as np

from . import astrometry
from .frame import Mask

ORDERS = {"reproject-bilinear": "bilinear", "reproject-biquadratic": "biquadratic", "reproject-bicubic": "bicubic"}
METHODS = (*ORDERS, "adaptive", "exact")
PLANES = 40e6  # pixels of planes that are resampled at a time: what bounds memory


def resampled(planes: np.ndarray, method: str, wcs, grid_wcs, shape) -> np.ndarray:
    """Planes (n, ny, nx) of one frame on the grid: float32 (n, *shape), NaN where the method has no value.

    A flat sky keeps its value: what lies in a pixel of the grid is this times its area in pixels of the frame.
    """
    import reproject

    planes = np.asarray(planes)
    wcs, grid_wcs = astrometry.as_astropy(wcs), astrometry.as_astropy(grid_wcs)
    out = np.empty((len(planes), *shape), np.float32)
    at_once = max(int(PLANES / max(planes[0].size, out[0].size)), 1)
    for start in range(0, len(planes), at_once):
        some = slice(start, start + at_once)
        given = ((planes[some], wcs), grid_wcs, shape)
        if method == "exact":
            found = reproject.reproject_exact(*given, return_footprint=False)
        elif method == "adaptive":
            edge = {"boundary_mode": "ignore", "boundary_ignore_threshold": 1.0}
            found = reproject.reproject_adaptive(*given, roundtrip_coords=False, return_footprint=False, **edge)
        else:
            found = reproject.reproject_interp(
                *given, order=ORDERS[method], roundtrip_coords=False, return_footprint=False
            )
        out[some] = found
    return out


def lattice(method: str, stretch: float) -> int:
    """How far apart (pixels) two pixels of a frame must be, so that no pixel of the grid takes from both.

    stretch  step on the frame that one pixel of the grid makes
    A pixel of the grid overlaps those within its diagonal and half a pixel; adaptive's Gauss function of 1.3 pixels is
    cut where it has fallen to 1 %; of a spline, which in principle takes from all, the next of a lattice has 0.1 %.
    """
    if method == "exact":
        return int(np.ceil(np.sqrt(2) * stretch + 1))
    if method == "adaptive":
        return int(np.ceil(3.5 * max(stretch, 1.0)))
    return 6


def variance(sigma: np.ndarray, method: str, wcs, grid_wcs, shape, stretch: float) -> np.ndarray:
    """Variance (shape) of the resampled values from the standard deviations (ny, nx), as this module's head says.

    Signs change at random from pixel to pixel, so that the little that pixels of one lattice still share falls out.
    """
    apart = lattice(method, stretch)
    signed = sigma * np.random.default_rng(1).choice(np.array([-1, 1], np.float32), sigma.shape)
    total = np.zeros(shape, np.float32)
    at_once = max(int(PLANES / max(sigma.size, total.size)), 1)
    classes = [(j, i) for j in range(apart) for i in range(apart)]
    for start in range(0, len(classes), at_once):
        some = classes[start : start + at_once]
        planes = np.zeros((len(some), *sigma.shape), np.float32)
        for plane, (j, i) in zip(planes, some, strict=True):
            plane[j::apart, i::apart] = signed[j::apart, i::apart]
        for plane in resampled(planes, method, wcs, grid_wcs, shape):
            total += np.nan_to_num(plane) ** 2
    return total


def bits(mask: np.ndarray, method: str, wcs, grid_wcs, shape) -> np.ndarray:
    """Mask bits (shape) where flagged pixels have more than 10 % of the weight; for methods without negative weights."""
    out = np.zeros(shape, np.uint8)
    set_bits = [bit for bit in Mask.NAMES if (mask & bit).any()]
    for bit in set_bits:
        share = resampled((mask & bit != 0)[None].astype(np.float32), method, wcs, grid_wcs, shape)[0]
        out |= np.where(share > 0.1, np.uint8(bit), np.uint8(0))
    return out


def noise_factors(method: str, wcs, grid_wcs, shape, frame_shape, area: np.ndarray, radii) -> list[float]:
    """What `resample.noise_factors` gives, here measured: white noise is resampled and summed in circles everywhere.

    area (shape) of the grid's pixels; to 1 % for the largest circles on a grid of 1000x1000
    """
    from scipy.signal import fftconvolve

    noise = np.random.default_rng(2).normal(0, 1, (1, *frame_shape)).astype(np.float32)
    values = resampled(noise, method, wcs, grid_wcs, shape)[0] * area
    there = np.isfinite(values)
    values = np.where(there, values, 0).astype(np.float32)
    factors = []
    for radius in radii:
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        circle = (x**2 + y**2 <= radius**2).astype(np.float32)
        whole = fftconvolve(there.astype(np.float32), circle, "same") > circle.sum() - 0.5
        together, apart = (fftconvolve(image, circle, "same")[whole] for image in (values, values**2))
        factors.append(float(np.sqrt((together**2).sum() / apart.sum())) if whole.any() else 1.0)
    return factors
