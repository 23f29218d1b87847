"""Resampled pixels against the plain formula: sums over all taps, one pixel of the frame after the other, in double precision."""

import numpy as np
import pytest
from aligning import a_wcs
from astropy.io import fits
from firstlight import align, astrometry
from firstlight.frame import Frame, Mask
from scipy import ndimage

SHAPE = (260, 300)
MIDDLE = np.array([149.5, 129.5])
HALF = {"nearest": 0.5, "bilinear": 1.0, "cubic": 2.0, "lanczos3": 3.0}


def keys(t):
    """As in the paper, with a = -1/2."""
    t = np.abs(t)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


SHAPES = {
    "nearest": lambda t: np.ones_like(t),
    "bilinear": lambda t: np.clip(1 - np.abs(t), 0, None),
    "cubic": keys,
    "lanczos3": lambda t: np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0),
}


def plain_taps(position, kernel, stretch=1.0):
    """Pixels (n, k) and their weights along one axis."""
    half = HALF[kernel] * stretch
    if kernel == "nearest":
        return np.floor(position + 0.5).astype(int)[:, None], np.ones((len(position), 1))
    pixels = np.floor(position - half).astype(int)[:, None] + np.arange(1, int(np.ceil(2 * half)) + 1)
    weights = SHAPES[kernel]((pixels - position[:, None]) / stretch)
    return pixels, weights / weights.sum(axis=1, keepdims=True)


def plain(data, variance, mask, x, y, kernel, stretch=1.0):
    """Values, variances, bits at positions (n,), and how near the shares of bits are to the limit."""
    (i, wx), (j, wy) = plain_taps(x, kernel, stretch), plain_taps(y, kernel, stretch)
    ny, nx = data.shape
    j, i = np.clip(j, 0, ny - 1)[:, :, None], np.clip(i, 0, nx - 1)[:, None, :]
    weights = wy[:, :, None] * wx[:, None, :]
    values = (weights * data.astype(float)[j, i]).sum(axis=(1, 2))
    variances = (weights**2 * variance.astype(float)[j, i]).sum(axis=(1, 2))
    bits, limit = np.zeros(len(x), np.uint8), np.full(len(x), np.inf)
    for bit in Mask.NAMES:
        share = (np.abs(weights) * (mask[j, i] & bit > 0)).sum(axis=(1, 2)) / np.abs(weights).sum(axis=(1, 2))
        bits |= np.where(share > 0.1, bit, 0).astype(np.uint8)
        limit = np.minimum(limit, np.abs(share - 0.1))
    return values, variances, bits, limit, (j, i)


def with_rough(data, variance, mask, x, y, kernel, stretch=1.0):
    """`plain`, with a bilinear kernel where taps touch what neighbours know nothing of, or the surroundings of what is
    saturated."""
    values, variances, bits, limit, at = plain(data, variance, mask, x, y, kernel, stretch)
    if kernel not in ("cubic", "lanczos3"):
        return values, variances, bits, limit
    rough = (mask & Mask.UNUSABLE > 0) & (mask & Mask.INTERPOLATED == 0)
    rough |= ndimage.binary_dilation(mask & Mask.SATURATED > 0, np.ones((5, 5)))
    touched = rough[at].any(axis=(1, 2))
    parts = plain(data, variance, mask, x[touched], y[touched], "bilinear", stretch)
    for image, part in zip((values, variances, bits, limit), parts, strict=False):
        image[touched] = part
    if stretch > 1:  # of as many pixels as a wide kernel may take it takes one less at most places, on either side
        j, i = at
        fewer = rough[j[:, 1:-1], i[:, :, 1:-1]].any(axis=(1, 2))
        limit[touched & ~fewer] = 0
        wider = ndimage.binary_dilation(rough, np.ones((3, 3)))[at].any(axis=(1, 2))
        limit[wider & ~touched] = 0
    return values, variances, bits, limit


def a_frame(shape=SHAPE, flagged=0.02, seed=3, level=100.0):
    rng = np.random.default_rng(seed)
    mask = np.where(rng.uniform(size=shape) < flagged, 2 ** rng.integers(0, 6, shape), 0).astype(np.uint8)
    mask[rng.uniform(size=shape) < flagged / 2] |= np.uint8(Mask.INTERPOLATED | Mask.COSMIC_RAY)
    mask &= np.uint8(255 - Mask.NO_DATA)
    sigma = rng.uniform(5, 15, shape).astype(np.float32)
    data = rng.normal(level, 10, shape).astype(np.float32)
    return Frame(data, fits.Header(), sigma, mask)


GRIDS = {
    "shifted": a_wcs(MIDDLE + (0.37, -0.61)),
    "shifted by whole pixels": a_wcs(MIDDLE + (7, -4)),
    "hardly turned": a_wcs(MIDDLE + (0.1, 0.9), 0.04),
    "turned by 1 degree": a_wcs(MIDDLE, 1.0, 2.001),
    "turned by 30 degrees": a_wcs(MIDDLE, 30.0),
    "turned by 89.9 degrees": a_wcs(MIDDLE, 89.9),
    "after the meridian flip": a_wcs(MIDDLE + 0.3, 180.02),
    "mirrored": astrometry.tangent_wcs((35.0, 57.0), MIDDLE + 0.2, np.diag([1, 1]) * 2 / 3600),
    "beyond the edges": a_wcs(MIDDLE + (120.3, -88.8), 0.02),
}


def places(grid, shape, wcs=None):
    """Positions (n,) of all pixels of a grid on a frame."""
    x, y = np.meshgrid(np.arange(shape[1], dtype=float), np.arange(shape[0], dtype=float))
    sky = grid.all_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0)
    return (wcs or a_wcs(MIDDLE)).wcs_world2pix(sky, 0).T


def compared(frame, grid, kernel, shape=SHAPE, stretch=1.0, wcs=None):
    """What is made and what is expected: data, sigma, mask each, over pixels of the grid away from the frame's very edge;
    area of a pixel is that of the WCS' scales."""
    out = align.align(frame, wcs or a_wcs(MIDDLE), grid, shape, kernel)
    x, y = places(grid, shape, wcs)
    ny, nx = frame.shape
    edge = 1e-3
    inside = (x > -0.5 + edge) & (x < nx - 0.5 - edge) & (y > -0.5 + edge) & (y < ny - 0.5 - edge)
    values, variances, bits, limit = with_rough(
        frame.data, frame.sigma**2, frame.mask, x[inside], y[inside], kernel, stretch
    )
    area = (astrometry.scale_of(grid) / astrometry.scale_of(wcs or a_wcs(MIDDLE))) ** 2
    made = (image.ravel()[inside] for image in (out.data, out.sigma, out.mask))
    return (*made, values * area, np.sqrt(variances) * area, bits, limit, out, inside)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kernel", HALF)
def test_pixels_sigma_and_bits_are_those_of_the_plain_formula(kernel, grid):
    data, sigma, mask, values, sigmas, bits, limit, out, inside = compared(a_frame(), GRIDS[grid], kernel)
    assert inside.mean() > 0.15
    sure = np.ones(len(data), bool)
    if kernel == "nearest":  # halfway between two pixels either may be the nearest
        x, y = (p[inside] for p in places(GRIDS[grid], SHAPE))
        sure = (np.abs(x % 1 - 0.5) > 1e-4) & (np.abs(y % 1 - 0.5) > 1e-4)
    np.testing.assert_allclose(data[sure], values[sure], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(sigma[sure], sigmas[sure], rtol=4e-5)  # cubic on turned grids reads at float32 positions
    np.testing.assert_array_equal(mask[sure & (limit > 1e-4)], bits[sure & (limit > 1e-4)])
    assert (sure & (limit > 1e-4)).mean() > 0.98
    assert (np.isnan(out.data).ravel() | inside).mean() > 0.99


@pytest.mark.parametrize("kernel", ["cubic", "bilinear", "lanczos3"])
@pytest.mark.parametrize(("scale", "angle"), [(1.47, 0.3), (2.03, 17.0), (3.27, 180.2)])
def test_widened_kernels_are_those_of_the_plain_formula(kernel, scale, angle):
    shape = tuple(int(n / scale) for n in SHAPE)
    grid = a_wcs(np.array(shape[::-1]) / 2, angle, 2.0 * scale)
    data, sigma, mask, values, sigmas, bits, limit, *_ = compared(a_frame(flagged=0.004), grid, kernel, shape, scale)
    sure = limit > 1e-3
    assert sure.mean() > 0.5
    np.testing.assert_allclose(data[sure], values[sure], rtol=2e-5)
    np.testing.assert_allclose(sigma[sure], sigmas[sure], rtol=5e-5)
    np.testing.assert_array_equal(mask[sure], bits[sure])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (5, 70), (67, 4), (33, 129)])
@pytest.mark.parametrize("kernel", ["cubic", "lanczos3", "bilinear"])
def test_images_of_any_size_are_resampled_up_to_their_edges(kernel, shape):
    middle = np.array(shape[::-1]) / 2 - 0.5
    wcs, grid = a_wcs(middle), a_wcs(middle + (0.3, -0.2))
    data, sigma, mask, values, sigmas, bits, limit, *_ = compared(a_frame(shape, 0.0), grid, kernel, shape, wcs=wcs)
    assert len(data) >= 1
    np.testing.assert_allclose(data, values, rtol=1e-5)
    np.testing.assert_allclose(sigma, sigmas, rtol=1e-5)


def test_huge_values_do_not_reach_beyond_their_own_taps():
    frame = a_frame(flagged=0.0)
    frame.data[130, 150] = 1e30
    out = align.align(frame, a_wcs(MIDDLE), GRIDS["hardly turned"], SHAPE)
    rows, columns = np.nonzero(np.abs(out.data) > 1e6)
    assert len(rows) and np.ptp(rows) <= 4 and np.ptp(columns) <= 4


def test_missing_values_are_as_those_of_the_sky_and_marked():
    frame = a_frame(flagged=0.0)
    clean = align.align(frame, a_wcs(MIDDLE), GRIDS["turned by 1 degree"], SHAPE)
    data, sigma = frame.data.copy(), frame.sigma.copy()
    data[100:103, 200:205], sigma[100, 100] = np.nan, np.inf
    out = align.align(frame.with_(data=data, sigma=sigma), a_wcs(MIDDLE), GRIDS["turned by 1 degree"], SHAPE)
    lost = np.isnan(out.data) & np.isfinite(clean.data)
    assert 15 <= lost.sum() <= 40 and (out.mask[lost] == Mask.NO_DATA).all()
    far = ndimage.binary_dilation(lost, iterations=4)
    np.testing.assert_array_equal(out.data[~far], clean.data[~far])
    assert np.isfinite(out.sigma[~np.isnan(out.data)]).all()


def test_a_frame_that_is_flagged_all_over_is_as_the_plain_formula():
    """More pixels touch flagged ones than are looked at together."""
    frame = a_frame((400, 420), 0.6)
    wcs, grid = a_wcs((209.5, 199.5)), a_wcs((209.9, 199.2), 0.5)
    data, sigma, mask, values, sigmas, bits, limit, *_ = compared(frame, grid, "cubic", (400, 420), wcs=wcs)
    np.testing.assert_allclose(data, values, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(sigma, sigmas, rtol=2e-5)
    np.testing.assert_array_equal(mask[limit > 1e-4], bits[limit > 1e-4])


@pytest.mark.parametrize("grid", GRIDS)
def test_the_masters_share_is_the_nearest_pixels(grid):
    frame = a_frame(flagged=0.0).with_(common=np.random.default_rng(4).integers(0, 255, SHAPE).astype(np.uint8))
    out = align.align(frame, a_wcs(MIDDLE), GRIDS[grid], SHAPE)
    x, y = (p.reshape(SHAPE) for p in places(GRIDS[grid], SHAPE))
    sure = np.isfinite(out.data) & (np.abs(x % 1 - 0.5) > 1e-4) & (np.abs(y % 1 - 0.5) > 1e-4)
    np.testing.assert_array_equal(
        out.common[sure], frame.common[np.rint(y[sure]).astype(int), np.rint(x[sure]).astype(int)]
    )
