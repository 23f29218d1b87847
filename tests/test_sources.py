"""Sources of painted stars: what was put in comes out, and nothing else."""

import math

import numpy as np
import pytest
import simulated_night as sim
from astropy.io import fits
from firstlight import sources
from firstlight.astrometry import nearest
from firstlight.frame import Frame, Mask

SKY, NOISE = 1000.0, 10.0
UNKNOWN = {"FWHM", "STARFLUX", "ELONG", "BETA"}  # what a frame without stars does not say


def a_frame(image, mask=None):
    sigma = np.full(image.shape, NOISE, np.float32)
    return Frame(image.astype(np.float32), fits.Header(), sigma, mask, "electron")


def sky_image(size=400, seed=1):
    return np.random.default_rng(seed).normal(SKY, NOISE, (size, size))


def lattice(size=400, step=40, seed=2):
    """x, y of stars in rows and columns, each moved by a part of a pixel."""
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(step, size - 20, step), np.arange(step, size - 20, step)))
    return np.array([x, y]) + np.random.default_rng(seed).uniform(-0.5, 0.5, (2, len(x)))


def painted(kind="gauss", fwhm=3.0, flux=1e5, size=400):
    """Image, x, y, flux of a lattice of stars on a flat sky."""
    image = sky_image(size)
    x, y = lattice(size)
    flux = np.broadcast_to(np.asarray(flux, float), x.shape) if np.ndim(flux) == 0 else np.geomspace(*flux, len(x))
    sim.paint(image, x, y, flux, sim.Profile(kind, fwhm))
    return image, x, y, flux


def paired(table, x, y):
    """Indices into the table and into x, y of what is the same star."""
    return nearest(np.column_stack([table["x"], table["y"]]), np.column_stack([x, y]), 1.0)


# ---- positions and fluxes --------------------------------------------------------------------------------------------


def test_a_cluster_that_hangs_together_is_taken_apart():
    """sep by itself gives up beyond 1024 peaks in one source."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(1)
    image, stars = np.random.default_rng(2).normal(100, 1, (1200, 1200)), np.zeros((1200, 1200))
    distance, angle = np.abs(rng.normal(0, 200, 30_000)), rng.uniform(0, 2 * np.pi, 30_000)
    x, y = (np.clip(600 + distance * f(angle), 2, 1197).astype(int) for f in (np.cos, np.sin))
    np.add.at(stars, (y, x), 10 ** rng.uniform(2.5, 5, 30_000))
    frame = Frame((image + gaussian_filter(stars, 1.3)).astype(np.float32), fits.Header())
    assert len(sources.detect(frame)[0]) > 1500


def test_every_star_is_found_once_and_nothing_else():
    image, x, y, _ = painted()
    table, sky = sources.detect(a_frame(image))
    i, _ = paired(table, x, y)
    assert len(table) == len(i) == len(x) == sky["NSTARS"][0]


@pytest.mark.parametrize("kind", ["gauss", "moffat"])
def test_positions_count_from_0_and_have_no_offset(kind):
    image, x, y, _ = painted(kind)
    table, _ = sources.detect(a_frame(image))
    i, j = paired(table, x, y)
    for name, truth in (("x", x), ("y", y)):
        error = table[name][i] - truth[j]
        assert abs(error.mean()) < 0.002 and error.std() < 0.01


def test_flux_of_gaussian_stars_is_the_painted_flux():
    image, x, y, flux = painted(flux=(1500, 2e5))
    table, _ = sources.detect(a_frame(image))
    i, j = paired(table, x, y)
    assert abs(np.median(table["flux"][i] / flux[j]) - 1) < 0.004


def test_flux_of_moffat_stars_is_that_in_the_aperture():
    image, x, y, flux = painted("moffat")
    table, sky = sources.detect(a_frame(image))
    width = sim.Profile("moffat", 3.0).width
    share = 1 - (1 + (1.5 * sky["FWHM"][0] / width) ** 2) ** -3
    assert abs(np.median(table["flux"]) / (flux[0] * share) - 1) < 0.005


def test_flux_error_is_the_scatter():
    image, x, y, flux = painted(flux=2e4, size=800)
    table, _ = sources.detect(a_frame(image))
    pulls = (table["flux"] - np.median(table["flux"])) / table["flux_err"]
    assert len(pulls) > 300
    assert abs(pulls.std() - 1) < 0.12


def test_brightest_come_first_and_the_limit_keeps_them():
    image, x, y, flux = painted(flux=(3000, 2e5))
    table, _ = sources.detect(a_frame(image), limit=20)
    assert len(table) == 20 and (np.diff(table["flux"]) <= 0).all()
    _, j = paired(table, x, y)
    assert sorted(j) == list(range(len(x) - 20, len(x)))


def test_sky_and_noise_are_measured_between_the_stars():
    _, sky = sources.detect(a_frame(painted()[0]))
    assert abs(sky["SKYLEVEL"][0] - SKY) < 1 and abs(sky["SKYNOISE"][0] / NOISE - 1) < 0.03


def test_noise_is_that_of_the_sky_among_many_stars():
    """One star on 150 FWHM^2, where the clipped rms of the whole image is 5 % too large."""
    image, rng = sky_image(600, seed=8), np.random.default_rng(8)
    x, y = rng.uniform(0, 600, (2, 270))
    sim.paint(image, x, y, 10 ** rng.uniform(3, 5.5, 270), sim.Profile("moffat", 3.0, 3.0))
    _, sky = sources.detect(a_frame(image))
    assert abs(sky["SKYNOISE"][0] / NOISE - 1) < 0.02


def test_sky_of_a_nebula_is_not_its_noise():
    rng, y, x = np.random.default_rng(9), *np.mgrid[:600, :600]
    nebula = 800 * np.exp(-((x - 200) ** 2 + (y - 250) ** 2) / (2 * 70**2))
    image = 50 + nebula + rng.normal(0, np.sqrt(50 + nebula))
    sim.paint(image, *lattice(600), np.full(lattice(600).shape[1], 2e4), sim.Profile("moffat", 3.0))
    _, sky = sources.detect(a_frame(image))
    assert abs(sky["SKYNOISE"][0] / np.median(np.sqrt(50 + nebula)) - 1) < 0.03
    assert abs(sky["SKYLEVEL"][0] / (50 + np.median(nebula)) - 1) < 0.02


@pytest.mark.parametrize("level", [20, 100, 1000])
def test_sky_of_few_photons(level):
    image = np.random.default_rng(10).poisson(level, (600, 600))
    _, sky = sources.detect(a_frame(image))
    assert abs(sky["SKYLEVEL"][0] / level - 1) < 0.02
    assert abs(sky["SKYNOISE"][0] / math.sqrt(level) - 1) < 0.02


def test_noise_of_whole_numbers():
    image = np.rint(np.random.default_rng(11).normal(300, 1.5, (600, 600)))
    _, sky = sources.detect(a_frame(image))
    assert abs(sky["SKYNOISE"][0] / math.hypot(1.5, 1 / math.sqrt(12)) - 1) < 0.02


def test_level_of_a_slope_is_that_of_its_middle():
    image = sky_image(300) + 400 * np.arange(300) / 300
    _, sky = sources.detect(a_frame(image))
    assert abs(sky["SKYLEVEL"][0] / (SKY + 200) - 1) < 0.01


def test_a_sky_that_slopes_does_not_change_fluxes():
    image, x, y, flux = painted()
    slope = 300 * np.arange(400)[None, :] / 400
    table, _ = sources.detect(a_frame(image + slope))
    assert abs(np.median(table["flux"]) / flux[0] - 1) < 0.004


# ---- FWHM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.0, 6.0])
@pytest.mark.parametrize("kind", ["gauss", "moffat"])
def test_fwhm_is_that_of_the_profile_before_it_falls_on_pixels(kind, fwhm):
    _, sky = sources.detect(a_frame(painted(kind, fwhm)[0]))
    assert abs(sky["FWHM"][0] / fwhm - 1) < 0.01


def test_header_says_the_profile_of_the_stars():
    _, sky = sources.detect(a_frame(painted("moffat", 3.0)[0]))
    assert abs(sky["BETA"][0] - 4) < 0.3 and abs(sky["ELONG"][0] - 1) < 0.01
    assert sky["NFITTED"][0] > 70


def test_stars_beyond_those_that_are_fitted_have_the_same_fwhm(monkeypatch):
    monkeypatch.setattr(sources, "FITTED", 20)
    image, x, y, flux = painted("moffat", 3.0, flux=(2e4, 2e5))
    table, sky = sources.detect(a_frame(image))
    assert sky["NFITTED"][0] <= 20
    assert abs(np.median(table["fwhm"][30:]) / 3.0 - 1) < 0.03


def test_fwhm_does_not_depend_on_brightness():
    image, x, y, flux = painted(flux=(1500, 2e5))
    table, _ = sources.detect(a_frame(image))
    faint, bright = table["fwhm"][table["flux"] < 8000], table["fwhm"][table["flux"] > 5e4]
    assert len(faint) > 10 and abs(np.median(faint) / np.median(bright) - 1) < 0.02


def test_flagged_cosmic_rays_are_no_sources():
    image, x, y, _ = painted()
    _, clean = sources.detect(a_frame(image))
    rays = sim.cosmic_rays(np.random.default_rng(5), image.shape, 150)
    mask = np.where(rays > 0, Mask.COSMIC_RAY, 0).astype(np.uint8)
    table, sky = sources.detect(a_frame(image + rays, mask))
    distance = np.hypot(table["x"][:, None] - x, table["y"][:, None] - y).min(axis=1)
    assert distance.max() < 3
    assert abs(sky["FWHM"][0] / clean["FWHM"][0] - 1) < 0.01


def test_cosmic_rays_that_were_missed_do_not_set_the_fwhm():
    image, _, _, _ = painted()
    rays = sim.cosmic_rays(np.random.default_rng(5), image.shape, 30)
    _, sky = sources.detect(a_frame(image + rays))
    assert abs(sky["FWHM"][0] / 3.0 - 1) < 0.01


@pytest.mark.parametrize("count", [20, 800])
def test_quick_fwhm_sees_the_stars_among_the_cosmic_rays(count):
    image, _, _, _ = painted(flux=2e4)
    rays = sim.cosmic_rays(np.random.default_rng(6), image.shape, count)
    found = sources.quick_fwhm((image + rays).astype(np.float32), np.zeros(image.shape, bool))
    assert abs(found / 3.0 - 1) < 0.03


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 2.5, 3.0, 4.0, 6.0])
@pytest.mark.parametrize(("kind", "beta"), [("gauss", 0.0), ("moffat", 3.0), ("moffat", 4.0)])
def test_quick_fwhm_is_that_of_the_profile_without_the_pixels(kind, beta, fwhm):
    image = sky_image()
    x, y = lattice()
    sim.paint(image, x, y, np.geomspace(2e4, 5e5, len(x)), sim.Profile(kind, fwhm, beta))
    image += sim.cosmic_rays(np.random.default_rng(6), image.shape, 100)
    found = sources.quick_fwhm(image.astype(np.float32), np.zeros(image.shape, bool))
    assert abs(found / fwhm - 1) < (0.02 if kind == "gauss" else 0.11 if fwhm < 2 else 0.07)


def test_quick_fwhm_of_trailed_stars_is_that_across_the_trail():
    image = sky_image()
    x, y = lattice()
    for along in np.linspace(-3, 3, 25):
        sim.paint(image, x + along, y + along, np.full(len(x), 8e3), sim.Profile("gauss", 2.5))
    image += sim.cosmic_rays(np.random.default_rng(6), image.shape, 30)
    found = sources.quick_fwhm(image.astype(np.float32), np.zeros(image.shape, bool))
    assert abs(found / 2.5 - 1) < 0.1


def test_quick_fwhm_ignores_what_it_is_told():
    image, x, y, _ = painted(flux=1e5)
    ignore = np.zeros(image.shape, bool)
    ignore[np.rint(y[::2]).astype(int), np.rint(x[::2]).astype(int)] = True
    found = sources.quick_fwhm(np.where(ignore, 60000, image).astype(np.float32), ignore)
    assert abs(found / 3.0 - 1) < 0.02


def test_quick_fwhm_without_stars_is_unknown():
    rays = sim.cosmic_rays(np.random.default_rng(7), (400, 400), 20)
    assert sources.quick_fwhm((sky_image() + rays).astype(np.float32), np.zeros((400, 400), bool)) is None


# ---- flags -----------------------------------------------------------------------------------------------------------


def one_star(x=200.3, y=180.6, mask_at=None, bit=0, flux=5e4, more=()):
    """The table row nearest to x, y of a frame with one star there, `more` stars and one masked pixel."""
    image, mask = sky_image(), np.zeros((400, 400), np.uint8)
    stars = np.array([(x, y, flux), *more])
    sim.paint(image, *stars.T, sim.Profile("gauss", 3.0))
    if mask_at:
        mask[mask_at] = bit
    table, _ = sources.detect(a_frame(image, mask))
    return table[np.argmin(np.hypot(table["x"] - x, table["y"] - y))]


def test_a_lone_star_has_no_flag():
    assert one_star()["flag"] == 0


def test_saturated_star_is_flagged_and_stays():
    assert one_star(mask_at=(181, 201), bit=Mask.SATURATED)["flag"] == sources.SATURATED


def test_saturated_pixel_elsewhere_flags_no_star():
    assert one_star(mask_at=(190, 200), bit=Mask.SATURATED)["flag"] == 0


@pytest.mark.parametrize("bit", [Mask.BAD, Mask.COSMIC_RAY, Mask.LOW_FLAT, Mask.NO_DATA])
def test_star_on_a_pixel_that_says_nothing_is_odd(bit):
    assert int(one_star(mask_at=(181, 201), bit=bit)["flag"]) & sources.ODD


def test_interpolated_pixel_alone_is_no_reason():
    assert one_star(mask_at=(181, 201), bit=Mask.INTERPOLATED)["flag"] == 0


@pytest.mark.parametrize(("x", "y"), [(1.5, 200), (398, 200), (200, 1.0), (200, 397.5)])
def test_star_at_the_edge_is_flagged(x, y):
    assert int(one_star(x, y)["flag"]) & sources.EDGE


def test_star_that_touches_another_is_blended():
    row = one_star(more=[(206.6, 180.6, 3e4)])
    assert int(row["flag"]) & sources.BLENDED
    assert abs(row["x"] - 200.3) < 0.3


def test_flagged_stars_do_not_set_the_fwhm():
    image, x, y, _ = painted()
    mask = np.zeros(image.shape, np.uint8)
    wide = np.arange(len(x)) % 3 == 0
    sim.paint(image, x[wide], y[wide], np.full(wide.sum(), 5e6), sim.Profile("gauss", 9.0))
    mask[np.rint(y[wide]).astype(int), np.rint(x[wide]).astype(int)] = Mask.SATURATED
    _, sky = sources.detect(a_frame(image, mask))
    assert abs(sky["FWHM"][0] / 3.0 - 1) < 0.01


# ---- nothing to see --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [sky_image(), np.zeros((200, 200)), np.full((200, 300), 500.0), np.full((200, 200), np.nan), sky_image(24)],
    ids=["sky", "zeros", "constant", "nan", "tiny"],
)
def test_frame_without_stars_has_no_rows(image):
    table, sky = sources.detect(a_frame(image))
    assert len(table) == sky["NSTARS"][0] == 0
    assert not UNKNOWN & set(sky)
    assert table.dtype == sources.none_found().dtype


def test_frame_of_bad_pixels_alone_has_no_stars():
    table, sky = sources.detect(a_frame(sky_image(), np.full((400, 400), Mask.BAD, np.uint8)))
    assert len(table) == 0 and not UNKNOWN & set(sky)


def test_masked_pixels_of_the_first_row_are_no_sources():
    image, mask = sky_image(), np.zeros((400, 400), np.uint8)
    image[0, 50::40], mask[0, 50::40] = 1e5, Mask.COSMIC_RAY
    assert len(sources.detect(a_frame(image, mask))[0]) == 0


def test_hot_pixels_are_not_taken_for_stars():
    image = sky_image()
    places = np.arange(5, 395, 30)
    image[np.ix_(places, places)] += np.geomspace(300, 30000, len(places) ** 2).reshape(len(places), -1)
    table, sky = sources.detect(a_frame(image))
    assert not (table["flag"] < sources.ODD).any()
    assert not UNKNOWN & set(sky)


def test_undersampled_stars_are_still_stars():
    table, _ = sources.detect(a_frame(painted("gauss", 1.3)[0]))
    assert (table["flag"] == 0).mean() > 0.95


def test_what_is_not_a_number_is_no_source():
    image, x, y, _ = painted()
    image[100:110, 100:110] = np.nan
    mask = np.where(np.isnan(image), Mask.NO_DATA, 0).astype(np.uint8)
    table, _ = sources.detect(a_frame(image, mask))
    assert np.isfinite(table["flux"]).all()
    assert not ((np.abs(table["x"] - 104.5) < 6) & (np.abs(table["y"] - 104.5) < 6)).any()


# --- Numbers by a shorter way ---------------------------------------------------------------------------------------
def test_clipped_deviation_is_that_of_what_lies_within():
    rng = np.random.default_rng(21)
    values = np.concatenate([rng.normal(0, 3, 20_001), rng.normal(0, 100, 2000)]).astype(np.float32)
    square = values.astype(float) ** 2
    variance = 4 * np.median(square)
    for _ in range(5):
        variance = square[square < 3.5**2 * variance].mean() * 1.0057
    assert sources._clipped_deviation(values) == pytest.approx(np.sqrt(variance), rel=1e-5)
    assert sources._clipped_deviation(np.zeros(100)) == 0


def test_middle_of_the_lower_half_is_by_the_mean_of_what_lies_there():
    values, start = np.random.default_rng(22).normal(5, 2, 30_000).astype(np.float32), 4.0
    expected = start
    for _ in range(8):
        near = values[(values > expected - 4) & (values < expected + 0.6)]
        expected += 2.4 * (float(near.mean(dtype=float)) - (expected - 0.5501 * 2))
    assert sources._middle_of_lower_half(np.sort(values), start, 2.0) == pytest.approx(expected, abs=1e-4)
    assert expected == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("shape", [(1024, 768), (565, 1001), (300, 80)], ids=["sampled", "odd sizes", "whole"])
def test_the_sky_is_known_far_below_its_noise_without_what_is_ignored(shape):
    rng = np.random.default_rng(23)
    y, x = np.indices(shape)
    truth = 100 + 0.01 * y + 0.004 * x
    image = (truth + rng.normal(0, 5, shape)).astype(np.float32)
    ignore = rng.random(shape) < 0.01
    image[ignore] = 1e5
    sky = sources.background(image, ignore)
    assert sky.back().shape == shape and sky.back().dtype == np.float32
    assert np.percentile(np.abs(sky.back() - truth), 95) < 0.12 * 5
    assert sky.globalrms == pytest.approx(5, rel=0.03)


def test_more_pixels_than_there_is_room_for_at_first_are_found_all_the_same(monkeypatch):
    data = (painted()[0] - SKY).astype(np.float32)
    first = sources._extract(data, 5.0, None, 5.0, 5)
    monkeypatch.setattr(sources, "ROOM", (100, 1_000_000))
    again = sources._extract(data, 5.0, None, 5.0, 5)
    np.testing.assert_array_equal(first, again)
    monkeypatch.setattr(sources, "ROOM", (100,))
    with pytest.raises(Exception, match="buffer full"):
        sources._extract(data, 5.0, None, 5.0, 5)
