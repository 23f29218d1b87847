"""Frames on their grid: kernels in closed form, against reproject and Monte Carlo; placing by WCS and by stars."""

from pathlib import Path

import numpy as np
import pytest
import sep
import simulated_night as sim
from astropy.io import fits
from firstlight import align, astrometry, raw, reduce, sources
from firstlight.frame import Frame, Mask, Unusable

REAL = Path(__file__).parents[2] / "shared" / "data"
SHAPE = (96, 110)
MIDDLE = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])


def turn(angle, scale=1.0):
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return np.array([[c, -s], [s, c]])


def a_wcs(crpix=MIDDLE, angle=0.0, scale=2.0, crval=(35.0, 57.0)):
    """TAN; scale in arcsec/pix."""
    return astrometry.tangent_wcs(crval, crpix, np.diag([-1.0, 1.0]) @ turn(angle, scale / 3600))


def shifted(dx, dy):
    """WCS of a grid whose pixel (x, y) lies at (x + dx, y + dy) on the frame of `a_wcs()`."""
    return a_wcs(MIDDLE - (dx, dy))


def a_frame(image, sigma=None, mask=None):
    sigma = None if sigma is None else np.broadcast_to(np.float32(sigma), image.shape)
    return Frame(np.asarray(image, np.float32), fits.Header(), sigma, mask, "electron")


def onto(image, grid_wcs, kernel="cubic", shape=SHAPE, wcs=None, **parts):
    return align.align(a_frame(image, **parts), wcs or a_wcs(), grid_wcs, shape, kernel)


def noise(seed=1, shape=SHAPE, level=100.0, scatter=10.0):
    return np.random.default_rng(seed).normal(level, scatter, shape)


def pixels(shape=SHAPE):
    return np.meshgrid(np.arange(shape[1], dtype=float), np.arange(shape[0], dtype=float))


def painted(x, y, flux=1e5, fwhm=3.0, shape=SHAPE):
    image = np.zeros(shape)
    sim.paint(
        image,
        np.atleast_1d(x),
        np.atleast_1d(y),
        np.broadcast_to(flux, np.shape(np.atleast_1d(x))),
        sim.Profile("gauss", fwhm),
    )
    return image


def centroid(image, x, y, reach=12):
    """x, y, sum of the light within a box about a star on no sky."""
    box = (slice(round(y) - reach, round(y) + reach + 1), slice(round(x) - reach, round(x) + reach + 1))
    columns, rows = pixels(image.shape)
    light = image[box].astype(float)
    return (columns[box] * light).sum() / light.sum(), (rows[box] * light).sum() / light.sum(), light.sum()


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", align.KERNELS)
def test_on_its_own_pixels_a_frame_stays_as_it_is(kernel):
    image, mask = noise(), np.zeros(SHAPE, np.uint8)
    mask[40, 50] = Mask.BAD
    out = onto(image, a_wcs(), kernel, sigma=3.0, mask=mask)
    np.testing.assert_allclose(out.data, image, rtol=1e-5)
    np.testing.assert_allclose(out.sigma, 3.0, rtol=1e-5)
    np.testing.assert_array_equal(out.mask, mask)


@pytest.mark.parametrize("kernel", align.KERNELS)
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
    theirs = reproject_interp((image.astype(np.float32), wcs), grid, SHAPE, order="bilinear", return_footprint=False)
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


@pytest.mark.parametrize("kernel", align.KERNELS)
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


def test_an_unknown_kernel_is_named():
    with pytest.raises(ValueError, match="'lanczos': cubic, bilinear, nearest"):
        onto(noise(), a_wcs(), "lanczos")


# ---- variance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", align.KERNELS)
def test_sigma_is_the_scatter_of_many_frames(kernel):
    grid = a_wcs(MIDDLE + (0.3, 0.45), angle=4.0, scale=2.2)
    columns, _ = pixels()
    sigma = (5 + columns / 10).astype(np.float32)
    rng = np.random.default_rng(3)
    frames = [onto(rng.normal(0, sigma), grid, kernel, sigma=sigma) for _ in range(150)]
    values = np.stack([frame.data for frame in frames])
    good = frames[0].mask == 0
    pulls = (values / frames[0].sigma)[:, good]
    assert abs(pulls.std() - 1) < 0.01
    left, right = (pulls[:, np.nonzero(good)[1] // 55 == side].std() for side in (0, 1))
    assert abs(left - 1) < 0.015 and abs(right - 1) < 0.015


def test_bilinear_between_four_pixels_halves_the_noise():
    out = onto(noise(), shifted(0.5, 0.5), "bilinear", sigma=8.0)
    np.testing.assert_allclose(out.sigma[10:-10, 10:-10], 4.0, rtol=1e-4)


def test_a_frame_without_sigma_stays_without():
    assert onto(noise(), shifted(0.5, 0.5)).sigma is None


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


@pytest.mark.parametrize("kernel", [*align.KERNELS, "reproject-bilinear"])
def test_outside_of_the_frame_there_is_no_data(kernel):
    out = onto(noise(), shifted(30, 0), kernel, sigma=2.0)
    assert np.isnan(out.data[:, 80:]).all() and np.isnan(out.sigma[:, 80:]).all()
    assert (out.mask[:, 80:] == Mask.NO_DATA).all()
    assert np.isfinite(out.data[:, :79]).all() and (out.mask[:, :79] == 0).all()


def test_a_frame_beside_the_grid_gives_no_data_at_all():
    out = onto(noise(), shifted(500, 0), sigma=2.0)
    assert np.isnan(out.data).all() and (out.mask == Mask.NO_DATA).all()


@pytest.mark.parametrize("kernel", align.KERNELS)
@pytest.mark.parametrize("shift", [0.05, 0.3, 0.5])
def test_pixels_without_a_value_do_not_leak_into_their_neighbours(kernel, shift):
    image = noise(level=1000.0, scatter=1.0)
    image[40:44, 50:54] = np.nan
    out = onto(image, shifted(shift, shift), kernel, sigma=1.0)
    good = (out.mask & Mask.NO_DATA) == 0
    assert 16 <= (~good[4:-4, 4:-4]).sum() <= 36
    assert np.abs(out.data[good] - 1000).max() < 6
    assert np.isnan(out.data[~good]).all() and np.isnan(out.sigma[~good]).all()


# ---- positions -------------------------------------------------------------------------------------------------------


def a_night(distortion=5.0, size=512):
    return sim.Night(size=size, field=1.7, distortion=distortion)


def test_positions_of_a_distorted_field_are_exact():
    wide, straight = a_night(size=1024), a_night(0.0, 1024)
    wcs, grid = sim.make_wcs(wide, (35.1, 57.1), 5.0), sim.make_wcs(straight, (35.15, 57.13), 0.0)
    positions = align.Positions(wcs, grid, (1024, 1024))
    for rows in (slice(0, 30), slice(500, 530), slice(994, 1024)):
        x, y, area = positions.rows(rows)
        at_x, at_y = np.meshgrid(np.arange(1024.0), np.arange(rows.start, rows.stop, dtype=float))
        sky = grid.all_pix2world(np.column_stack([at_x.ravel(), at_y.ravel()]), 0)
        exact = wcs.all_world2pix(sky, 0, tolerance=1e-6)
        np.testing.assert_allclose(np.column_stack([x.ravel(), y.ravel()]), exact, atol=1e-3)
    assert abs(area - 1) < 0.02


@pytest.mark.parametrize("shape", [(8, 8), (9, 17), (1, 40), (130, 7)])
def test_positions_of_grids_of_any_size(shape):
    x, y, _ = align.Positions(a_wcs(), shifted(2.0, 3.0), shape).rows(slice(0, shape[0]))
    columns, rows = pixels(shape)
    np.testing.assert_allclose(x, columns + 2, atol=1e-6)
    np.testing.assert_allclose(y, rows + 3, atol=1e-6)


def test_rows_in_pieces_are_the_rows_at_once():
    positions = align.Positions(a_wcs(angle=9), a_wcs(), (300, 50))
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


# ---- placing ---------------------------------------------------------------------------------------------------------


def star_field(n=60, seed=5, size=800):
    """Positions (n, 2) on the grid, brightest first."""
    return np.random.default_rng(seed).uniform(20, size - 20, (n, 2))


def a_grid(xy, wcs=None, size=800):
    stars = np.zeros(len(xy), [("x", "f8"), ("y", "f8"), ("fwhm", "f8")])
    stars["x"], stars["y"], stars["fwhm"] = *xy.T, 3.0
    celestial = wcs is not None
    return align.Grid(wcs or astrometry.pixel_plane(), celestial, (size, size), stars, "first")


def table_of(xy, scatter=0.05, seed=6):
    table = np.zeros(len(xy), [(name, "f8") for name in sources.COLUMNS])
    table["x"], table["y"] = (xy + np.random.default_rng(seed).normal(0, scatter, xy.shape)).T
    table["flux"], table["fwhm"] = np.linspace(1e5, 1e3, len(xy)), 3.0
    return table


def misplaced(placed, grid, frame_xy, grid_xy):
    """Largest distance on the grid (pix) between where stars are put and where they belong."""
    return np.hypot(*(align._on_grid(grid, placed, frame_xy) - grid_xy).T).max()


TO_GRID = np.column_stack([turn(3.0), [25.3, -14.8]])


def on_frame(grid_xy, transform=TO_GRID):
    return np.linalg.solve(transform[:, :2], (grid_xy - transform[:, 2]).T).T


@pytest.mark.parametrize("celestial", [True, False])
@pytest.mark.parametrize("n", [7, 60])
def test_a_frame_without_wcs_is_placed_by_its_stars(celestial, n):
    xy = star_field(n)
    grid = a_grid(xy, a_wcs((399.5, 399.5)) if celestial else None)
    placed, how = align.place(table_of(on_frame(xy)), None, grid)
    assert misplaced(placed, grid, on_frame(xy), xy) < 0.15
    assert how["ALIGNED"][0] == "stars"


def test_a_frame_after_the_meridian_flip_is_placed_by_its_stars():
    xy, flip = star_field(), np.array([[-1.0, 0.0, 812.0], [0.0, -1.0, 790.0]])
    grid = a_grid(xy)
    placed, _ = align.place(table_of(on_frame(xy, flip)), None, grid)
    assert misplaced(placed, grid, on_frame(xy, flip), xy) < 0.1


@pytest.mark.parametrize("n", [3, 5])
def test_few_stars_place_a_frame_by_its_shift(n):
    xy, shift = star_field(n), np.array([[1.0, 0.0, 31.2], [0.0, 1.0, -17.5]])
    grid = a_grid(xy)
    placed, how = align.place(table_of(on_frame(xy, shift), 0.02), None, grid)
    assert misplaced(placed, grid, on_frame(xy, shift), xy) < 0.1
    assert how["ALIGNED"][0] == "shift"


def test_a_wcs_that_is_a_little_off_is_tightened_to_the_grids_stars():
    xy, wcs = star_field(), a_wcs((399.5, 399.5))
    grid = a_grid(xy, wcs)
    off = astrometry.moved(wcs, np.column_stack([turn(3.05), TO_GRID[:, 2] + (1.2, -0.9)]))
    assert misplaced(off, grid, on_frame(xy), xy) > 1
    placed, how = align.place(table_of(on_frame(xy)), off, grid)
    assert misplaced(placed, grid, on_frame(xy), xy) < 0.1
    assert (how["ALIGNED"][0], how["ALIGNN"][0]) == ("wcs+stars", 60)
    assert abs(how["ALIGNRMS"][0] / (0.05 * np.sqrt(2)) - 1) < 0.3


def test_with_few_stars_a_wcs_is_shifted_and_not_bent():
    """PinPoint's solutions of one night scatter by most of a pixel."""
    xy, wcs = star_field(6), a_wcs((399.5, 399.5))
    grid = a_grid(xy, wcs)
    off = astrometry.moved(wcs, TO_GRID + [[0, 0, 0.8], [0, 0, -0.3]])
    placed, how = align.place(table_of(on_frame(xy)), off, grid)
    assert misplaced(placed, grid, on_frame(xy), xy) < 0.15
    assert how["ALIGNED"][0] == "wcs+shift"
    np.testing.assert_allclose(placed.pixel_scale_matrix, off.pixel_scale_matrix)


def test_a_wcs_that_the_stars_belie_is_not_believed():
    """Many headers carry what the mount believed, and without a catalogue nothing has checked it."""
    xy, wcs = star_field(), a_wcs((399.5, 399.5))
    grid = a_grid(xy, wcs)
    mount = astrometry.moved(wcs, TO_GRID + [[0, 0, 40.0], [0, 0, 25.0]])
    placed, how = align.place(table_of(on_frame(xy)), mount, grid)
    assert misplaced(placed, grid, on_frame(xy), xy) < 0.1
    assert how["ALIGNED"][0] == "stars"


def test_a_wcs_stands_where_the_frame_shows_other_stars():
    xy, wcs = star_field(), a_wcs((399.5, 399.5))
    own = astrometry.moved(wcs, TO_GRID)
    placed, how = align.place(table_of(star_field(40, seed=77)), own, a_grid(xy, wcs))
    assert placed is own and how["ALIGNED"][0] == "wcs"


def test_hot_pixels_do_not_hold_a_frame_back():
    """They stay where they are while the stars drift by 2.8 pixels: within reach of a wrong pair."""
    xy, drift = star_field(40), np.array([[1.0, 0.0, -1.2], [0.0, 1.0, 2.5]])
    hot = star_field(15, seed=8)
    grid = a_grid(np.vstack([xy, hot]))
    placed, _ = align.place(table_of(np.vstack([on_frame(xy, drift), hot])), None, grid)
    assert misplaced(placed, grid, on_frame(xy, drift), xy) < 0.1


def test_sources_that_are_no_stars_place_nothing():
    table = table_of(on_frame(star_field()))
    table["flag"] = sources.ODD
    with pytest.raises(ValueError, match="0 stars"):
        align.place(table, None, a_grid(star_field()))


def test_sip_of_a_frame_survives_tightening():
    night = a_night()
    wcs, flat = sim.make_wcs(night, (35.15, 57.13), 0.0), sim.make_wcs(a_night(0.0), (35.15, 57.13), 0.0)
    xy = star_field(size=512)
    frame_xy = wcs.all_world2pix(flat.all_pix2world(xy, 0), 0)
    grid = a_grid(xy, flat, 512)
    placed, _ = align.place(table_of(frame_xy), wcs, grid)
    assert placed.sip is not None
    assert misplaced(placed, grid, frame_xy, xy) < 0.1


@pytest.mark.parametrize(("n", "seed"), [(2, 76), (40, 77), (500, 78)])
def test_an_unsolved_frame_of_another_field_is_refused_with_the_reason(n, seed):
    with pytest.raises(ValueError, match="stars"):
        align.place(table_of(star_field(n, seed=seed)), None, a_grid(star_field(500)))


def test_a_frame_without_stars_or_wcs_is_refused():
    with pytest.raises(ValueError, match="0 stars, at least 6"):
        align.place(sources.none_found(), None, a_grid(star_field()))


# ---- the grid --------------------------------------------------------------------------------------------------------


def light_header(wcs=None, name="first", **cards):
    head = fits.Header({"NAXIS1": 512, "NAXIS2": 500, "OBJECT": "M 42", "FLFRAME": name} | cards)
    return astrometry.replace_wcs(head, wcs)


def test_grid_of_a_distorted_light_has_no_distortion_and_its_stars_moved():
    wcs, xy = sim.make_wcs(a_night(), (35.15, 57.13), 0.0), star_field(size=500)
    header, stars = align.grid_header(light_header(wcs), table_of(xy, 0.0))
    grid = align.grid_from(header, stars)
    assert (grid.celestial, grid.shape, grid.reference) == (True, (500, 512), "first")
    assert grid.wcs.sip is None and not any(key.startswith("A_") for key in header)
    back = grid.wcs.all_pix2world(np.column_stack([grid.stars["x"], grid.stars["y"]]), 0)
    assert astrometry.separation(back, wcs.all_pix2world(xy, 0)).max() * 3600 < 0.01


def test_grid_of_an_unsolved_light_is_its_pixels_and_carries_no_sky():
    xy = star_field(size=500)
    header, stars = align.grid_header(light_header(), table_of(xy, 0.0))
    grid = align.grid_from(header, stars)
    assert not grid.celestial and "CTYPE1" not in header
    np.testing.assert_allclose(np.column_stack([grid.stars["x"], grid.stars["y"]]), xy)


def test_grid_takes_good_stars_alone():
    table = table_of(star_field(50))
    table["flag"][:4], table["flux"][4] = (1, 2, 4, 8), -3.0
    stars = align.grid_header(light_header(), table)[1]
    np.testing.assert_array_equal(stars["x"], table["x"][5:])


def test_reference_light_itself_stays_as_it_is_on_a_pixel_grid():
    image, xy = noise(shape=(500, 512)), star_field(size=500)
    grid = align.grid_from(*align.grid_header(light_header(), table_of(xy)))
    frame = a_frame(image, 2.0).with_(header=light_header())
    out = align.onto(frame, table_of(xy), grid)
    np.testing.assert_allclose(out.data, image, rtol=1e-5)
    assert out.header["ALIGNED"] == "reference" and "CTYPE1" not in out.header


def test_aligned_frame_carries_the_grids_wcs_and_no_other():
    wcs, xy = a_wcs((255.0, 250.0)), star_field(size=500)
    grid = align.grid_from(*align.grid_header(light_header(wcs), table_of(xy)))
    own = astrometry.moved(wcs, np.column_stack([np.eye(2), [5.0, 3.0]]))
    head = light_header(own, "second", CROTA2=12.0, PLTSOLVD=True)
    out = align.onto(a_frame(noise(shape=(500, 512))).with_(header=head), table_of(xy - (5.0, 3.0)), grid)
    there = astrometry.read_wcs(out.header)
    assert astrometry.separation(there.all_pix2world(xy, 0), grid.wcs.all_pix2world(xy, 0)).max() * 3600 < 1e-4
    assert "CROTA2" not in out.header and "PLTSOLVD" not in out.header


def a_candidate(name, **cards):
    cards = {"FLSOLVED": True, "FWHM": 3.0, "STARFLUX": 1e4, "ELONG": 1.1, "SKYNOISE": 10.0} | cards
    return align.candidate(name, fits.Header({"FLFRAME": name} | cards))


@pytest.mark.parametrize(
    "worse",
    [
        {"FLSOLVED": False, "STARFLUX": 1e6},
        {"FWHM": 4.0},
        {"FWHM": 0.0},
        {"STARFLUX": 5e3},
        {"SKYNOISE": 20.0},
        {"ELONG": 2.0},
    ],
)
def test_reference_is_the_best_light(worse):
    lights = [a_candidate("a"), a_candidate("z", **worse)]
    assert align.reference(lights)["name"] == align.reference(lights[::-1])["name"] == "a"


def test_reference_that_is_asked_for_is_taken():
    assert align.reference([a_candidate("night1_a"), a_candidate("night2_b", FWHM=9.0)], "night2")["name"] == "night2_b"


def test_reference_that_is_not_there_costs_no_target():
    assert align.reference([a_candidate("a")], "gone")["name"] == "a"


def test_dropped_lights_are_no_candidates():
    assert a_candidate("a", FLSTATUS="dropped") is None


def test_no_light_gives_no_grid():
    with pytest.raises(Unusable, match="no usable light"):
        align.reference([])


# ---- real frames -----------------------------------------------------------------------------------------------------


def test_an_unsolved_frame_of_xo1_is_placed_where_its_stars_are():
    """Without a single calibration frame, and with hot pixels that stay while the stars drift by 2.8 pixels."""
    folder = REAL / "xo1_z"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    found = []
    for name in ("052955", "053326"):  # the last with a WCS, the first without
        data, head = raw.read(str(folder / f"XO1-b_z_20250602_{name}.fits"))
        frame = reduce.reduce(reduce.prepare(data, head, {}), reduce.Reduction())
        found.append((head, sources.detect(frame)[0]))
    (head, table), (unsolved, others) = found
    head["NAXIS1"] = head["NAXIS2"] = 1024
    grid = align.grid_from(*align.grid_header(head, table))
    assert astrometry.read_wcs(unsolved) is None
    placed, how = align.place(others, None, grid)
    assert how["ALIGNED"][0] == "stars" and how["ALIGNN"][0] >= 15
    assert how["ALIGNRMS"][0] < 0.3


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
