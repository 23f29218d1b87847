"""Resampling in closed form, against reproject and against many frames of noise."""

import numpy as np
import pytest
import sep
import simulated_night as sim
from aligning import MIDDLE, SHAPE, a_frame, a_night, a_wcs, centroid, noise, onto, painted, pixels, shifted
from firstlight import align, astrometry, reprojected, resample
from firstlight.frame import Mask

# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", resample.KERNELS)
def test_on_its_own_pixels_a_frame_stays_as_it_is(kernel):
    image, mask = noise(), np.zeros(SHAPE, np.uint8)
    mask[40, 50] = Mask.BAD
    out = onto(image, a_wcs(), kernel, sigma=3.0, mask=mask)
    np.testing.assert_allclose(out.data, image, rtol=1e-5)
    np.testing.assert_allclose(out.sigma, 3.0, rtol=1e-5)
    np.testing.assert_array_equal(out.mask, mask)


@pytest.mark.parametrize("kernel", resample.KERNELS)
@pytest.mark.parametrize(("dx", "dy"), [(7, 0), (0, -5), (-3, 11)])
def test_a_shift_by_whole_pixels_goes_the_right_way(kernel, dx, dy):
    image = noise()
    out = onto(image, shifted(dx, dy), kernel)
    np.testing.assert_allclose(out.data[40, 50], image[40 + dy, 50 + dx], rtol=1e-4)


@pytest.mark.parametrize("half", [0.5, 1.5, -0.5])
def test_nearest_neither_doubles_nor_skips_pixels_at_half_a_pixel(half):
    columns, _ = pixels()
    out = onto(columns, shifted(half, 0), "nearest")
    np.testing.assert_array_equal(np.diff(out.data[50, 3:-3]), 1.0)


def test_bilinear_is_reprojects():
    from reproject import reproject_interp

    image, wcs, grid = noise(), a_wcs(angle=11.0), a_wcs(MIDDLE + (3.3, -2.7), scale=2.1)
    given = (image.astype(np.float32), astrometry.as_astropy(wcs)), astrometry.as_astropy(grid)
    theirs = reproject_interp(*given, SHAPE, order="bilinear", return_footprint=False)
    out = onto(image, grid, "bilinear", wcs=wcs)
    both = np.isfinite(theirs) & np.isfinite(out.data)
    both[:, [0, 1, -2, -1]] = both[[0, 1, -2, -1]] = False
    assert both.mean() > 0.8
    np.testing.assert_allclose(out.data[both] / (2.1 / 2.0) ** 2, theirs[both], rtol=1e-4)
    assert np.median(np.abs(out.data[both] / (2.1 / 2.0) ** 2 / theirs[both] - 1)) < 1e-5


def test_reprojects_own_bilinear_is_ours():
    image, grid = noise(), a_wcs(MIDDLE + (3.3, -2.7), angle=7.0)
    ours, theirs = (onto(image, grid, name, sigma=2.0) for name in ("bilinear", "reproject-bilinear"))
    both = np.isfinite(ours.data) & np.isfinite(theirs.data)
    assert both.mean() > 0.8
    np.testing.assert_allclose(theirs.data[both], ours.data[both], rtol=1e-4)
    np.testing.assert_array_equal(theirs.sigma, ours.sigma)


def test_cubic_reproduces_a_quadratic_surface():
    def surface(x, y):
        return 300 + 0.5 * x - 0.3 * y + 0.01 * x**2 - 0.02 * y**2 + 0.005 * x * y

    columns, rows = pixels()
    out = onto(surface(columns, rows), shifted(0.37, -0.61))
    inside = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(out.data[inside], surface(columns + 0.37, rows - 0.61)[inside], rtol=2e-6)


@pytest.mark.parametrize("fwhm", [2.5, 3.5])
@pytest.mark.parametrize(("dx", "dy"), [(0.5, 0.5), (0.25, -0.4), (-0.1, 0.9)])
def test_cubic_moves_a_star_without_changing_its_flux_or_place(dx, dy, fwhm):
    out = onto(painted(55.2, 47.6, fwhm=fwhm), shifted(dx, dy))
    x, y, flux = centroid(out.data, 55.2 - dx, 47.6 - dy)
    np.testing.assert_allclose((x, y), (55.2 - dx, 47.6 - dy), atol=0.01)
    assert abs(flux / 1e5 - 1) < 1e-3


@pytest.mark.parametrize("kernel", resample.KERNELS)
def test_a_flat_sky_stays_flat(kernel):
    out = onto(np.full(SHAPE, 1234.5), a_wcs(MIDDLE + (5.3, 3.2), angle=23.0), kernel)
    np.testing.assert_allclose(out.data[np.isfinite(out.data)], 1234.5, rtol=1e-5)


@pytest.mark.parametrize(("angle", "back"), [(90, np.rot90), (180, np.flip)])
def test_turned_by_right_angles_pixels_only_change_places(angle, back):
    image = noise(shape=(101, 101))
    middle = np.array([50.0, 50.0])
    out = onto(image, a_wcs(middle, angle), shape=(101, 101), wcs=a_wcs(middle))
    at = [np.abs(candidate - out.data).max() for candidate in (back(image), back(back(back(image))))]
    assert min(at) < 0.01


@pytest.mark.parametrize("angle", [90, 180, 33])
def test_a_turned_star_lies_where_its_sky_is(angle):
    wcs, grid = a_wcs(), a_wcs(MIDDLE + (4.0, -3.0), angle)
    x, y = grid.all_world2pix(wcs.all_pix2world([[60.3, 44.8]], 0), 0)[0]
    out = onto(painted(60.3, 44.8), grid, wcs=wcs)
    found = centroid(np.nan_to_num(out.data), x, y)
    np.testing.assert_allclose(found[:2], (x, y), atol=0.01)
    assert abs(found[2] / 1e5 - 1) < 1e-3


@pytest.mark.parametrize(("scale", "fwhm"), [(4.0, 8.0), (1.0, 3.0), (2.6, 4.0)])
def test_another_scale_keeps_the_flux(scale, fwhm):
    """Twice as coarse, twice as fine, and something odd."""
    shape = tuple(round(n * 2 / scale) for n in SHAPE)
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    grid = a_wcs(middle, scale=scale)
    out = onto(painted(*MIDDLE + 0.3, fwhm=fwhm), grid, shape=shape)
    assert abs(np.nansum(out.data) / 1e5 - 1) < 1e-3


@pytest.mark.parametrize("kernel", ["cubic", "bilinear"])
def test_signal_to_noise_of_the_sky_does_not_depend_on_the_unit_of_area(kernel):
    fine = a_wcs(MIDDLE * 2, scale=1.0)
    out = onto(np.full(SHAPE, 400.0), fine, kernel, sigma=20.0, shape=(192, 220))
    good = out.mask == 0
    np.testing.assert_allclose(out.data[good], 100.0, rtol=1e-4)
    assert 0 < out.sigma[good].max() <= 5.001


def a_coarse_grid(ratio, angle=0.0, shape=(256, 256)):
    """A frame's WCS and shape, and a grid whose pixels are `ratio` of the frame's wide: WCS and shape."""
    middle = np.array(shape[::-1]) / 2 - 0.5
    coarse = tuple(round(n / ratio) for n in shape)
    grid = a_wcs(np.array(coarse[::-1]) / 2 - 0.5 + (0.3, 0.2), angle, 2.0 * ratio)
    return a_wcs(middle), grid, coarse


@pytest.mark.parametrize("kernel", ["cubic", "bilinear", "lanczos3"])
@pytest.mark.parametrize("ratio", [1.15, 1.5, 2.0, 3.1])
def test_coarser_pixels_keep_the_depth_of_a_frame(kernel, ratio):
    """Noise of squares of pixels as that of averages over their areas; a kernel that stays one pixel wide has 1.3 at 2."""
    wcs, grid, shape = a_coarse_grid(ratio, 7.0, (512, 512))
    out = align.align(a_frame(noise(shape=(512, 512), level=0.0), 10.0), wcs, grid, shape, kernel)
    edge, side = round(0.1 * shape[0]), 6
    n = (shape[0] - 2 * edge) // side
    image = out.data[edge : edge + n * side, edge : edge + n * side]
    squares = image.reshape(n, side, n, side).sum(axis=(1, 3))
    assert (
        abs(squares.std() / (side * ratio * 10.0) / {"bilinear": 0.96}.get(kernel, 0.99) - 1)
        < 3 / np.sqrt(2) / n + 0.02
    )


@pytest.mark.parametrize("kernel", resample.KERNELS)
def test_sigma_on_coarser_pixels_is_the_scatter(kernel):
    wcs, grid, shape = a_coarse_grid(1.7, 33.0, (400, 400))
    out = align.align(a_frame(noise(shape=(400, 400), level=0.0), 10.0), wcs, grid, shape, kernel)
    good = out.mask == 0
    assert abs((out.data / out.sigma)[good].std() - 1) < 0.02


def test_stars_keep_their_flux_where_distortion_changes_the_area_of_pixels():
    wide, straight = a_night(30.0, 512), a_night(0.0, 512)
    wcs, grid = sim.make_wcs(wide, (35.15, 57.13), 0.0), sim.make_wcs(straight, (35.15, 57.13), 0.0)
    xy = np.array([[80.4, 60.2], [256.1, 250.7], [430.3, 440.9], [60.0, 250.5]])
    out = align.align(a_frame(painted(*xy.T, shape=(512, 512))), wcs, grid, (512, 512))
    places = grid.all_world2pix(wcs.all_pix2world(xy, 0), 0)
    assert np.ptp(resample.Positions(wcs, grid, (512, 512)).area) > 0.05
    flux = [centroid(np.nan_to_num(out.data), *place)[2] for place in places]
    np.testing.assert_allclose(flux, 1e5, rtol=2e-3)


def full_star(profile, full=3e4, flux=3e6):
    """A star that fills its pixels, and its mask, which goes one pixel further."""
    image = np.zeros(SHAPE)
    sim.paint(image, np.array([55.2]), np.array([47.6]), np.array([flux]), profile)
    core = image > full
    wide = core.copy()
    for axis in (0, 1):
        wide |= np.roll(wide, 1, axis) | np.roll(wide, -1, axis)
    return np.minimum(image, full), np.where(wide, Mask.SATURATED, 0).astype(np.uint8)


@pytest.mark.parametrize("kernel", ["cubic", "lanczos3"])
@pytest.mark.parametrize("profile", [sim.Profile("gauss", 3.0), sim.Profile("moffat", 3.0)], ids=lambda p: p.kind)
@pytest.mark.parametrize("shift", [0.25, 0.5, 0.7])
def test_no_dark_rim_around_a_star_that_fills_its_pixels(kernel, profile, shift):
    image, mask = full_star(profile)
    out = onto(image + 200.0, shifted(shift, -shift), kernel, sigma=10.0, mask=mask)
    assert out.data[4:-4, 4:-4].min() > 200 - 3 * 10


def test_a_kernel_of_positive_weights_holds_where_a_star_fills_its_pixels():
    """Its sigma goes with it: between four pixels each value is their mean."""
    image, mask = full_star(sim.Profile("gauss", 3.0))
    out = onto(image, shifted(0.5, 0.5), "cubic", sigma=8.0, mask=mask)
    assert abs(out.sigma[47, 54] - 4.0) < 1e-3 and out.sigma[20, 20] > 4.3


def test_an_unknown_kernel_is_named():
    with pytest.raises(ValueError, match="'lanczos' is not known: cubic, bilinear"):
        onto(noise(), a_wcs(), "lanczos")


# ---- variance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", resample.KERNELS)
def test_sigma_is_the_scatter_of_the_noise(kernel):
    shape = (480, 550)
    wcs, grid = a_wcs((274.5, 239.5)), a_wcs((274.8, 240.0), angle=4.0, scale=2.2)
    sigma = np.broadcast_to(5 + np.arange(550) / 30, shape).astype(np.float32)
    frame = a_frame(np.random.default_rng(3).normal(0, sigma), sigma)
    out = align.align(frame, wcs, grid, shape, kernel)
    good = out.mask == 0
    pulls = (out.data / out.sigma)[good]
    assert abs(pulls.std() - 1) < 0.01
    left, right = (pulls[np.nonzero(good)[1] // 275 == side].std() for side in (0, 1))
    assert abs(left - 1) < 0.015 and abs(right - 1) < 0.015


def test_bilinear_between_four_pixels_halves_the_noise():
    out = onto(noise(), shifted(0.5, 0.5), "bilinear", sigma=8.0)
    np.testing.assert_allclose(out.sigma[10:-10, 10:-10], 4.0, rtol=1e-4)


def test_a_frame_without_sigma_stays_without():
    assert onto(noise(), shifted(0.5, 0.5)).sigma is None


def in_circles(image, radius):
    """Sums over circles of whole pixels that do not overlap."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    y, x = y[x**2 + y**2 <= radius**2], x[x**2 + y**2 <= radius**2]
    rows, columns = np.meshgrid(
        *[np.arange(radius + 8, n - radius - 8, 2 * radius + 3) for n in image.shape], indexing="ij"
    )
    return image[rows.ravel()[:, None] + y, columns.ravel()[:, None] + x].sum(axis=1)


MOVED = {
    "half": (a_wcs(MIDDLE + 0.5), 1.0),
    "turned": (a_wcs(MIDDLE, 3.0), 1.0),
    "coarse": (a_wcs(MIDDLE / 1.6, 20.0, 3.2), 1.6),
}


@pytest.mark.parametrize("moved", MOVED)
@pytest.mark.parametrize("kernel", ["cubic", "bilinear"])
def test_noise_in_circles_is_that_of_their_pixels_times_the_factors(moved, kernel):
    """Without the factors bilinear's would be a third too small."""
    grid, _ = MOVED[moved]
    big = tuple(6 * n for n in SHAPE)
    wcs = a_wcs(MIDDLE)
    shape = {"half": big, "turned": (500, 500), "coarse": (300, 360)}[moved]
    out = align.align(a_frame(noise(shape=big, level=0.0), 10.0), wcs, grid, shape, kernel)
    part = np.isfinite(out.data)
    rows, columns = (np.flatnonzero(part.mean(axis=axis) > 0.97) for axis in (1, 0))
    inner = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    for radius in (3, 5, 10):
        sums, said = (
            in_circles(np.nan_to_num(out.data)[inner], radius),
            in_circles(np.nan_to_num(out.sigma)[inner] ** 2, radius),
        )
        ratio = sums.std() / np.sqrt(said.mean()) / out.header[f"NCORR{radius:02d}"]
        assert abs(ratio - 1) < 0.02 + 2.5 / np.sqrt(2 * len(sums))


@pytest.mark.parametrize("kernel", resample.KERNELS)
def test_a_frame_that_is_not_moved_has_no_correlated_noise(kernel):
    out = onto(noise(), a_wcs(), kernel, sigma=3.0)
    assert [out.header[f"NCORR{radius:02d}"] for radius in resample.RADII] == [1.0] * 5


def test_factors_of_half_a_pixel_are_those_of_its_weights():
    """Bilinear between four pixels: neighbours share half, diagonals a quarter; for 5 pixels 1 + (8 / 2 + 8 / 4) / 5 ..."""
    shared = {(0, 1): 0.5, (1, 1): 0.25, (0, 0): 1.0}
    cross = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    pairs = [(abs(a[0] - b[0]), abs(a[1] - b[1])) for a in cross for b in cross]
    expected = np.sqrt(sum(shared.get(tuple(sorted(pair)), 0.0) for pair in pairs) / 5)
    out = onto(noise(), shifted(0.5, 0.5), "bilinear", sigma=3.0)
    assert abs(out.header["NCORR01"] - expected) < 1e-3


# ---- mask ------------------------------------------------------------------------------------------------------------


def flagged(bit, dx, kernel="bilinear"):
    mask = np.zeros(SHAPE, np.uint8)
    mask[40, 50] = bit
    return onto(noise(), shifted(dx, 0), kernel, mask=mask).mask


@pytest.mark.parametrize("bit", [bit for bit in Mask.NAMES if bit != Mask.NO_DATA])
def test_every_bit_is_carried_along(bit):
    assert flagged(bit, 0.5)[40, 49:51].tolist() == [bit, bit]


@pytest.mark.parametrize(
    ("dx", "expected"), [(0.05, [0, 1]), (0.15, [1, 1]), (0.5, [1, 1]), (0.85, [1, 1]), (0.95, [1, 0])]
)
def test_a_bit_is_set_from_a_tenth_of_the_weight_on(dx, expected):
    assert flagged(Mask.BAD, dx)[40, 49:51].tolist() == expected


def test_bits_do_not_spread_further_than_the_kernel():
    mask = flagged(Mask.SATURATED, 0.4, "cubic")
    rows, columns = np.nonzero(mask)
    assert set(rows) == {40} and set(columns) <= {48, 49, 50, 51}
    assert mask.any()


def test_bits_of_different_pixels_are_kept_apart():
    mask = np.zeros(SHAPE, np.uint8)
    mask[40, 50], mask[40, 51] = Mask.BAD, Mask.SATURATED
    out = onto(noise(), shifted(0.5, 0), "bilinear", mask=mask).mask
    assert out[40, 49:52].tolist() == [Mask.BAD, Mask.BAD | Mask.SATURATED, Mask.SATURATED]


@pytest.mark.parametrize("kernel", [*resample.KERNELS, "reproject-bilinear"])
def test_outside_of_the_frame_there_is_no_data(kernel):
    out = onto(noise(), shifted(30, 0), kernel, sigma=2.0)
    assert np.isnan(out.data[:, 80:]).all() and np.isnan(out.sigma[:, 80:]).all()
    assert (out.mask[:, 80:] == Mask.NO_DATA).all()
    assert np.isfinite(out.data[:, :79]).all() and (out.mask[:, :79] == 0).all()


def test_a_frame_beside_the_grid_gives_no_data_at_all():
    out = onto(noise(), shifted(500, 0), sigma=2.0)
    assert np.isnan(out.data).all() and (out.mask == Mask.NO_DATA).all()


@pytest.mark.parametrize("kernel", resample.KERNELS)
@pytest.mark.parametrize("shift", [0.05, 0.3, 0.5])
def test_pixels_without_a_value_do_not_leak_into_their_neighbours(kernel, shift):
    image = noise(level=1000.0, scatter=1.0)
    image[40:44, 50:54] = np.nan
    out = onto(image, shifted(shift, shift), kernel, sigma=1.0)
    good = (out.mask & Mask.NO_DATA) == 0
    assert 16 <= (~good[4:-4, 4:-4]).sum() <= 36
    assert np.abs(out.data[good] - 1000).max() < 6
    assert np.isnan(out.data[~good]).all() and np.isnan(out.sigma[~good]).all()


@pytest.mark.parametrize("kernel", ["cubic", "nearest"])
def test_a_grid_half_a_pixel_off_finds_the_masters_share_up_to_the_edge(kernel):
    """There rounding decides on which pixel the last column lies, and whether on any."""
    frame = a_frame(noise(), 3.0).with_(common=np.full(SHAPE, 40, np.uint8))
    out = align.align(frame, a_wcs(), shifted(0.5, 0.5), SHAPE, kernel)
    assert set(np.unique(out.common[np.isfinite(out.data)])) == {40}


def test_the_masters_share_is_that_of_the_nearest_pixel():
    share = np.random.default_rng(2).integers(0, 255, SHAPE).astype(np.uint8)
    out = align.align(a_frame(noise(), 3.0).with_(common=share), a_wcs(), shifted(30.4, -2.3), SHAPE)
    np.testing.assert_array_equal(out.common[10:80, 10:70], share[8:78, 40:100])
    assert (out.common[:, 80:] == 0).all()


# ---- positions -------------------------------------------------------------------------------------------------------


def test_positions_of_a_distorted_field_are_exact():
    wide, straight = a_night(size=1024), a_night(0.0, 1024)
    wcs, grid = sim.make_wcs(wide, (35.1, 57.1), 5.0), sim.make_wcs(straight, (35.15, 57.13), 0.0)
    positions = resample.Positions(wcs, grid, (1024, 1024))
    for rows in (slice(0, 30), slice(500, 530), slice(994, 1024)):
        x, y, area = positions.rows(rows)
        at_x, at_y = np.meshgrid(np.arange(1024.0), np.arange(rows.start, rows.stop, dtype=float))
        sky = grid.all_pix2world(np.column_stack([at_x.ravel(), at_y.ravel()]), 0)
        exact = wcs.all_world2pix(sky, 0, tolerance=1e-6)
        np.testing.assert_allclose(np.column_stack([x.ravel(), y.ravel()]), exact, atol=1e-3)


def test_area_of_a_pixel_is_that_at_its_own_place():
    """Distortion makes pixels differ by percents over a field: one number for a frame would be as wrong."""
    wide, straight = a_night(30.0, 512), a_night(0.0, 512)
    wcs, grid = sim.make_wcs(wide, (35.15, 57.13), 5.0), sim.make_wcs(straight, (35.15, 57.13), 0.0)
    area = resample.Positions(wcs, grid, (512, 512)).rows(slice(0, 512))[2]
    spots = np.array([[100.0, 100.0], [256.0, 256.0], [400.0, 30.0], [30.0, 460.0]])
    corners = [
        wcs.all_world2pix(grid.all_pix2world(spots + step, 0), 0) for step in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))
    ]
    (a, b), (c, d) = (corners[0] - corners[1]).T, (corners[2] - corners[3]).T
    exact = np.abs(a * d - b * c)
    assert np.ptp(exact) > 0.03
    np.testing.assert_allclose([area[int(y), int(x)] for x, y in spots], exact, rtol=1e-3)


@pytest.mark.parametrize("shape", [(8, 8), (9, 17), (1, 40), (130, 7)])
def test_positions_of_grids_of_any_size(shape):
    x, y, _ = resample.Positions(a_wcs(), shifted(2.0, 3.0), shape).rows(slice(0, shape[0]))
    columns, rows = pixels(shape)
    np.testing.assert_allclose(x, columns + 2, atol=1e-6)
    np.testing.assert_allclose(y, rows + 3, atol=1e-6)


def test_rows_in_pieces_are_the_rows_at_once():
    positions = resample.Positions(a_wcs(angle=9), a_wcs(), (300, 50))
    whole = positions.rows(slice(0, 300))[0]
    pieces = np.vstack([positions.rows(slice(a, min(a + 128, 300)))[0] for a in range(0, 300, 128)])
    np.testing.assert_array_equal(pieces, whole)


def test_a_distorted_stars_light_lands_where_its_sky_is():
    """5 pixels of distortion in the corners: with SIP forgotten the corner stars would be that far off."""
    night = a_night()
    wcs, grid = sim.make_wcs(night, (35.15, 57.13), 0.0), sim.make_wcs(a_night(0.0), (35.15, 57.13), 0.0)
    xy = np.array([[30.4, 40.2], [256.1, 250.7], [470.3, 480.9], [40.0, 470.5]])
    expected = grid.all_world2pix(wcs.all_pix2world(xy, 0), 0)
    assert np.hypot(*(expected - xy).T).max() > 2.5
    out = onto(painted(*xy.T, shape=night.shape), grid, shape=night.shape, wcs=wcs)
    found = [centroid(np.nan_to_num(out.data), *place)[:2] for place in expected]
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_flux_in_apertures_is_the_same_before_and_after():
    """What photometry sees: the same stars measured with sep on the frame and on the grid."""
    rng = np.random.default_rng(9)
    xy = np.array([(x, y) for x in range(30, 230, 40) for y in range(30, 230, 40)]) + rng.uniform(-0.5, 0.5, (25, 2))
    image = painted(*xy.T, flux=1e5, shape=(256, 256)) + 500.0
    grid = a_wcs((127.3, 128.1), angle=12.0)
    wcs = a_wcs((127.5, 127.5))
    out = onto(image, grid, shape=(256, 256), wcs=wcs)
    moved = grid.all_world2pix(wcs.all_pix2world(xy, 0), 0)
    inside = ((moved > 15) & (moved < 240)).all(axis=1)
    before = sep.sum_circle(image.astype(np.float32) - 500, *xy[inside].T, 7.0)[0]
    after = sep.sum_circle(np.nan_to_num(out.data, nan=500.0) - 500, *moved[inside].T, 7.0)[0]
    assert inside.sum() > 15
    np.testing.assert_allclose(after, before, rtol=2e-3)


def test_far_from_a_distorted_frame_its_polynomial_shows_no_second_image():
    """Far outside a polynomial turns back and would bring the sky there onto the frame."""
    night = a_night(40.0)
    wcs = sim.make_wcs(night, (35.15, 57.13), 0.0)
    grid = sim.make_wcs(a_night(0.0), (35.15, 57.13), 0.0)
    grid.wcs.crpix += 1500
    out = align.align(a_frame(np.full(night.shape, 100.0)), wcs, grid, (3500, 3500), "nearest")
    rows, columns = np.nonzero(np.isfinite(out.data))
    assert np.ptp(rows) < 600 and np.ptp(columns) < 600
    assert abs(np.nansum(out.data) / (100.0 * 512**2) - 1) < 0.01


# ---- reproject -------------------------------------------------------------------------------------------------------

METHODS = ("reproject-biquadratic", "reproject-bicubic", "adaptive", "exact")


@pytest.fixture(scope="module", params=METHODS)
def by_reproject(request):
    """A method, frames of noise alone on a turned grid, and a star on it."""
    shape, rng = (72, 76), np.random.default_rng(3)
    grid = a_wcs(MIDDLE + (4.3, -2.55), angle=4.0, scale=2.15)
    sigma = np.broadcast_to(5 + np.arange(SHAPE[1]) / 10, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    mask[40:43, 50:53] = Mask.BAD
    frames = rng.normal(0, sigma, (120, *SHAPE)).astype(np.float32)
    first = onto(frames[0], grid, request.param, shape, sigma=sigma, mask=mask)
    area = resample.Positions(a_wcs(), grid, shape).rows(slice(0, shape[0]))[2]
    many = reprojected.resampled(frames, request.param, a_wcs(), grid, shape) * area
    return request.param, grid, first, many


def test_sigma_by_reprojects_methods_is_the_scatter_of_many_frames(by_reproject):
    _, _, first, many = by_reproject
    good = (first.mask == 0) & np.isfinite(many).all(axis=0)
    good[:4] = good[-4:] = good[:, :4] = good[:, -4:] = False
    pulls = many[:, good] / first.sigma[good]
    assert abs(pulls.std() - 1) < 0.01
    left, right = (pulls[:, np.nonzero(good)[1] // 38 == side].std() for side in (0, 1))
    assert abs(left - 1) < 0.02 and abs(right - 1) < 0.02


def test_stars_by_reprojects_methods_keep_flux_and_place(by_reproject):
    method, grid, _, _ = by_reproject
    x, y = grid.all_world2pix(a_wcs().all_pix2world([[52.3, 45.8]], 0), 0)[0]
    out = onto(painted(52.3, 45.8), grid, method, (72, 76))
    found = centroid(np.nan_to_num(out.data), x, y)
    np.testing.assert_allclose(found[:2], (x, y), atol=0.02)
    assert abs(found[2] / 1e5 - 1) < 2e-3


def test_bits_by_reprojects_methods_are_where_the_flagged_pixels_went(by_reproject):
    _, grid, first, _ = by_reproject
    x, y = grid.all_world2pix(a_wcs().all_pix2world([[51.0, 41.0]], 0), 0)[0]
    rows, columns = np.nonzero(first.mask & Mask.BAD)
    assert 9 <= len(rows) <= 30
    assert np.hypot(rows - y, columns - x).max() < 4 and first.mask[round(y), round(x)] == Mask.BAD


def test_factors_of_reprojects_methods_are_those_of_their_noise(by_reproject):
    _, _, first, many = by_reproject
    sums, said = zip(*[(in_circles(np.nan_to_num(one), 3), in_circles(first.sigma**2, 3)) for one in many], strict=True)
    good = np.isfinite(said[0])
    ratio = np.sqrt((np.array(sums)[:, good] ** 2).mean() / np.array(said)[:, good].mean())
    assert abs(ratio / first.header["NCORR03"] - 1) < 0.06


def test_pixels_without_data_do_not_lie_off_the_grid():
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :60] = Mask.NO_DATA
    out = onto(np.where(mask, np.nan, 100.0), a_wcs(), sigma=10, mask=mask)
    assert out.header["ALIGNOFF"] == 0


def test_a_frame_without_any_data_is_refused_with_that_reason():
    with pytest.raises(ValueError, match="no pixel of the frame has data"):
        onto(np.full(SHAPE, np.nan), a_wcs(), sigma=10, mask=np.full(SHAPE, Mask.NO_DATA, np.uint8))


def test_a_low_frame_keeps_the_turn_of_its_own_wcs():
    """5 rows hold one row of exact positions: that alone does not tell how x goes with y."""
    grid = astrometry.tangent_wcs([83.0, 22.0], [104.5, 29.5], [[-3e-4, 0.0], [0.0, 3e-4]])
    wcs = astrometry.tangent_wcs([83.0, 22.0], [100.1, 2.5], [[3e-4, 9e-7], [-9e-7, 3e-4]])
    header = onto(np.ones((5, 200)), grid, sigma=1, shape=(60, 210), wcs=wcs).header
    matrix = [header[f"ALIGN{k}"] for k in (11, 12, 21, 22)]
    np.testing.assert_allclose(matrix, [-1, 0, 0, 1], atol=0.01)


@pytest.mark.parametrize("kernel", ["lanczos3", "cubic"])
def test_what_masters_brought_is_read_once_where_frames_are_shifted_by_half_a_pixel(kernel):
    shape = (63, 129)
    grid, wcs = (astrometry.tangent_wcs([83.0, 22.0], at, [[-3e-4, 0.0], [0.0, 3e-4]]) for at in ([60, 34.5], [64, 31]))
    common = np.broadcast_to(np.arange(63, dtype=np.uint8)[:, None], shape).copy()
    frame = a_frame(np.ones(shape), sigma=1).with_(common=common)
    out = align.align(frame, wcs, grid, (70, 121), kernel).common
    assert (np.diff(out[4:65, 60].astype(int)) == 1).all()
