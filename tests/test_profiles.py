"""Profiles of painted stars: the width, shape and wings that were painted come out."""

import math

import numpy as np
import pytest
import simulated_night as sim
from astropy.io import fits
from firstlight import profiles, sources
from firstlight.frame import Frame

SKY, NOISE = 1000.0, 10.0
SHAPES = [("gauss", math.inf), ("moffat", 2.5), ("moffat", 3.5), ("moffat", 5.0)]


def value(u, beta):
    """A profile of height 1 whose half maximum lies at u = 1."""
    return np.exp(-math.log(2) * u) if math.isinf(beta) else (1 + (2 ** (1 / beta) - 1) * u) ** -beta


def a_star(dx, dy, fwhm, beta, elongation=1.0, theta=0.0, reach=None):
    """A star of total 1 off the middle of a stamp, by averaging many points of each pixel."""
    fine = 2 * round(10 / fwhm) + 3
    reach = reach or math.ceil(5 * fwhm + 2)
    along = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    x, y, turn = along[None, :] - dx, along[:, None] - dy, math.radians(theta)
    long, short = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    u = (long**2 / elongation + short**2 * elongation) / (fwhm / 2) ** 2
    total = math.pi * fwhm**2 / 4 * (1 / math.log(2) if math.isinf(beta) else 1 / (beta - 1) / (2 ** (1 / beta) - 1))
    return value(u, beta).reshape(2 * reach + 1, fine, 2 * reach + 1, fine).mean(axis=(1, 3)) / total


def flux_of(snr, fwhm):
    """Flux for a ratio of signal to noise, photon noise included, in a circle of 1.5 FWHM."""
    background = NOISE**2 * math.pi * (1.5 * fwhm) ** 2
    return (snr**2 + np.sqrt(snr**4 + 4 * snr**2 * background)) / 2


def field(fwhm, beta=3.5, count=25, snr=(30, 300), seed=1, step=None):
    """Image without noise or sky, and x, y, flux of round stars on a lattice, each moved by a part of a pixel."""
    rng, side = np.random.default_rng(seed), math.ceil(math.sqrt(count))
    step = step or max(30, round(9 * fwhm))
    places = np.array([(x, y) for y in range(side) for x in range(side)][:count]).T * step + step
    x, y = places + rng.uniform(-0.5, 0.5, places.shape)
    flux = flux_of(np.geomspace(*snr, count)[rng.permutation(count)], fwhm)
    image = np.zeros((step * (side + 1),) * 2)
    sim.paint(image, x, y, flux, sim.Profile("gauss" if math.isinf(beta) else "moffat", fwhm, beta))
    return image, x, y, flux


def exposed(image, seed=2, sky=SKY):
    """A frame of `image` over a sky, with noise and the sigma that belongs to it."""
    sigma = np.sqrt(NOISE**2 + np.maximum(image, 0))
    data = image + sky + np.random.default_rng(seed).normal(0, sigma)
    return Frame(data.astype(np.float32), fits.Header(), sigma.astype(np.float32), None, "electron")


def measured(image, **options):
    """Keywords of an exposure of `image`."""
    return {key: card[0] for key, card in sources.detect(exposed(image, **options))[1].items()}


# ---- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fwhm", [1.2, 1.5, 2.0, 2.5, 4.0])
@pytest.mark.parametrize("beta", [math.inf, 2.5])
def test_model_is_the_mean_over_each_pixel(fwhm, beta):
    profile = profiles.Profile(fwhm, min(beta, profiles.HARDEST), 1.2, 25.0)
    model = profile.integrated(np.arange(-6, 7)[None] - 0.31, np.arange(-6, 7)[None] + 0.17)[0]
    truth = a_star(0.31, -0.17, fwhm, beta, 1.2, 25.0, reach=6)
    assert np.abs(model / model.sum() - truth / truth.sum()).max() < 3e-3 * truth.max()


def test_half_maximum_is_at_half_the_fwhm_along_both_axes():
    """Far wider than a pixel, the mean over it is the value in its middle."""
    profile = profiles.Profile(40.0, 3.0, 1.44, 90.0)  # 48 along y, 33.3 along x
    along_x = profile.integrated(np.array([[0.0, 20 / 1.2]]), np.array([[0.0]]))[0, 0]
    along_y = profile.integrated(np.array([[0.0]]), np.array([[0.0, 20 * 1.2]]))[0, :, 0]
    assert along_x[1] / along_x[0] == pytest.approx(0.5, abs=2e-3)
    assert along_y[1] / along_y[0] == pytest.approx(0.5, abs=2e-3)


def test_painter_of_the_simulated_night_integrates_over_pixels():
    """What most of these tests take for true, against many points in each pixel."""
    for fwhm in (1.5, 2.5):
        image = np.zeros((41, 41))
        sim.paint(image, [20.3], [19.8], [1.0], sim.Profile("moffat", fwhm, 3.5))
        truth = a_star(0.3, -0.2, fwhm, 3.5, reach=20)
        assert np.abs(image - truth).max() < 2e-3 * truth.max()


def test_share_of_light_gives_the_width_back():
    radius = np.array([1.0, 4.5])
    for fwhm, beta in ((2.0, 2.5), (3.0, 4.0), (6.0, 500.0)):
        a = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
        inside, outside = 1 - (1 + (radius / a) ** 2) ** (1 - beta)
        assert profiles.width_of_share(inside / outside, beta, *radius) == pytest.approx(fwhm, rel=1e-3)


# ---- FWHM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.0, 5.0, 8.0])
@pytest.mark.parametrize(("kind", "beta"), SHAPES)
def test_fwhm_is_the_painted_one(kind, beta, fwhm):
    found = measured(field(fwhm, beta)[0])
    assert abs(found["FWHM"] / fwhm - 1) < 0.02
    assert abs(found["ELONG"] - 1) < 0.02


@pytest.mark.parametrize("fwhm", [1.5, 3.0, 8.0])
@pytest.mark.parametrize("beta", [math.inf, 2.5])
def test_fwhm_of_faint_stars(beta, fwhm):
    """No star above 32 times its noise."""
    assert abs(measured(field(fwhm, beta, 49, (30, 32))[0])["FWHM"] / fwhm - 1) < 0.02


@pytest.mark.parametrize(("beta", "fwhm"), [(math.inf, 2.0), (2.5, 3.0), (4.0, 5.0)])
def test_fwhm_of_three_stars(beta, fwhm):
    """What noise leaves of three stars of S/N 100 is about 1 %."""
    found = [measured(field(fwhm, beta, 3, (80, 120), seed=k, step=80)[0], seed=k)["FWHM"] for k in range(5)]
    assert abs(np.mean(found) / fwhm - 1) < 0.02
    assert np.abs(np.array(found) / fwhm - 1).max() < 0.04


@pytest.mark.parametrize("fwhm", [1.5, 3.0, 5.0])
@pytest.mark.parametrize("beta", [math.inf, 3.0])
def test_fwhm_in_a_crowd(beta, fwhm):
    """One star on 20 FWHM^2: every star has a neighbour within 2.5 FWHM."""
    size, rng = 400, np.random.default_rng(7)
    x, y = rng.uniform(0, size, (2, round(size**2 / 20 / fwhm**2)))
    image, flux = np.zeros((size, size)), flux_of(10 ** rng.uniform(0.5, 3, len(x)), fwhm)
    sim.paint(image, x, y, flux, sim.Profile("gauss" if math.isinf(beta) else "moffat", fwhm, beta))
    assert abs(measured(image)["FWHM"] / fwhm - 1) < 0.02


def test_neighbours_that_touch_do_not_widen_the_stars():
    image, x, y, flux = field(3.0, count=49)
    rng = np.random.default_rng(3)
    angle, some = rng.uniform(0, 2 * np.pi, 49), rng.random(49) < 0.6
    away = rng.uniform(1.2, 3, 49) * 3.0
    places = (x + away * np.cos(angle))[some], (y + away * np.sin(angle))[some]
    sim.paint(image, *places, (flux * rng.uniform(0.05, 1, 49))[some], sim.Profile("moffat", 3.0, 3.5))
    assert abs(measured(image)["FWHM"] / 3.0 - 1) < 0.01


def test_hot_pixels_and_a_slope_do_not_change_it():
    image, rng = field(2.0, count=49)[0], np.random.default_rng(4)
    frame = exposed(image)
    data = frame.data + 600 * np.arange(image.shape[1], dtype=np.float32) / image.shape[1]
    places = rng.integers(0, image.shape[0], (2, image.size // 1000))
    data[tuple(places)] += 10 ** rng.uniform(2, 4.5, places.shape[1])
    _, sky = sources.detect(frame.with_(data=data))
    assert abs(sky["FWHM"][0] / 2.0 - 1) < 0.01


def test_more_hot_pixels_than_stars():
    image, rng = field(2.5, count=25, step=60)[0], np.random.default_rng(5)
    places = rng.integers(0, image.shape[0], (2, 200))
    frame = exposed(image)
    frame.data[tuple(places)] += 3e5
    assert abs(sources.detect(frame)[1]["FWHM"][0] / 2.5 - 1) < 0.02


@pytest.mark.parametrize("sigma", ["empirical", None])
def test_a_frame_without_formula_gives_the_same(sigma):
    frame = exposed(field(3.0)[0])
    frame = frame.with_(sigma=None if sigma is None else np.full(frame.shape, NOISE, np.float32))
    assert abs(sources.detect(frame)[1]["FWHM"][0] / 3.0 - 1) < 0.01


def test_wings_are_found():
    """The exponent: 2.5 and 5 are told apart, Gauss has none."""
    soft, hard, none = (measured(field(3.0, beta, snr=(100, 1000))[0])["BETA"] for beta in (2.5, 5.0, math.inf))
    assert abs(soft - 2.5) < 0.15 and abs(hard - 5) < 0.6 and none > 30


# ---- elongation ------------------------------------------------------------------------------------------------------


def elongated(fwhm, beta, elongation, theta, count=16):
    """Image of elongated stars on a lattice."""
    rng, step, side = np.random.default_rng(6), max(30, round(12 * fwhm)), math.ceil(math.sqrt(count))
    image, reach = np.zeros((step * (side + 1),) * 2), math.ceil(5 * fwhm + 2)
    for number in range(count):
        x, y = step * (number % side + 1), step * (number // side + 1)
        star = a_star(*rng.uniform(-0.5, 0.5, 2), fwhm, beta, elongation, theta, reach)
        image[y - reach : y + reach + 1, x - reach : x + reach + 1] += star * flux_of(60 + 20 * number, fwhm)
    return image


@pytest.mark.parametrize(("elongation", "theta"), [(1.0, 0.0), (1.1, 15.0), (1.25, -40.0), (1.5, 80.0), (1.5, 0.0)])
@pytest.mark.parametrize(("beta", "fwhm"), [(math.inf, 1.5), (2.5, 1.5), (math.inf, 3.0), (3.5, 3.0)])
def test_elongation_at_any_angle(beta, fwhm, elongation, theta):
    table, sky = sources.detect(exposed(elongated(fwhm, beta, elongation, theta)))
    assert abs(sky["ELONG"][0] / elongation - 1) < 0.02
    assert abs(sky["FWHM"][0] / fwhm - 1) < 0.02
    if elongation > 1:
        turned = (np.median((table["theta"] - theta + 90) % 180)) - 90
        assert abs(turned) < 5


def test_elongation_of_wide_stars():
    table, sky = sources.detect(exposed(elongated(8.0, 3.0, 1.3, -20.0, count=9)))
    assert abs(sky["ELONG"][0] / 1.3 - 1) < 0.02 and abs(sky["FWHM"][0] / 8.0 - 1) < 0.02
    assert abs(np.median(table["elongation"]) / 1.3 - 1) < 0.02


def test_noise_does_not_elongate_round_stars():
    """Three stars of S/N 30: by noise alone the fitted shapes are 3 % longer than wide."""
    found = [measured(field(3.0, 3.5, 3, (30, 35), seed=k, step=80)[0], seed=k)["ELONG"] for k in range(10)]
    assert np.mean(found) < 1.025


# ---- stars one by one ------------------------------------------------------------------------------------------------


def test_each_star_has_its_own_width():
    """Seeing that grows across the image is in the table, and its middle in the header."""
    image, width = np.zeros((360, 360)), np.linspace(2.5, 3.5, 9)
    for k, fwhm in enumerate(width):
        x, y = np.full(9, 36.0 * (k + 1)), 36.0 * np.arange(1, 10)
        sim.paint(image, x + 0.3, y - 0.2, np.full(9, 2e5), sim.Profile("moffat", fwhm, 4.0))
    table, sky = sources.detect(exposed(image))
    for k, fwhm in enumerate(width):
        here = np.abs(table["x"] - 36 * (k + 1)) < 2
        assert abs(np.median(table["fwhm"][here]) / fwhm - 1) < 0.02
    assert abs(sky["FWHM"][0] / 3.0 - 1) < 0.02


def test_places_peaks_and_sky_of_single_fits():
    image, x, y, flux = field(3.0, snr=(200, 300))
    truth = profiles.Profile(3.0, 3.5)
    stamps = profiles.cut((image + 7).astype(np.float32), NOISE, None, x, y, 8)
    fits_ = profiles.each(stamps, truth)
    a = 1.5 / math.sqrt(2 ** (1 / 3.5) - 1)
    assert np.abs(fits_.x - x).max() < 0.01 and np.abs(fits_.y - y).max() < 0.01
    np.testing.assert_allclose(fits_.peak, flux * 2.5 / (math.pi * a**2), rtol=0.01)
    assert np.abs(fits_.sky - 7).max() < 0.003 * fits_.peak.max() and fits_.trusted.all()


def test_pixels_of_neighbours_do_not_count():
    x, y, flux = np.array([30.0, 36.0]), np.array([30.0, 30.0]), np.array([1e4, 1e4])
    stamps = profiles.cut(np.ones((60, 60), np.float32), 1.0, None, x, y, 7)
    cut = profiles.without_neighbours(stamps, np.array([0, 1]), x, y, flux, 3.0)
    assert cut.good[0, 7, 7] and not cut.good[0, 7, 13] and cut.good[0, 7, 1]
    assert cut.good[1, 7, 7] and not cut.good[1, 7, 1] and cut.good[1, 7, 13]


def test_a_close_pair_is_not_whole():
    x, y, flux = np.array([20.0, 23.0, 50.0]), np.array([20.0, 20.0, 50.0]), np.full(3, 1e4)
    stamps = profiles.cut(np.ones((70, 70), np.float32), 1.0, None, x, y, 8)
    stamps = profiles.without_neighbours(stamps, np.arange(3), x, y, flux, 3.0)
    assert profiles.whole(stamps, 3.0).tolist() == [False, False, True]


def test_no_star_gives_no_profile():
    nothing = profiles.cut(np.ones((20, 20), np.float32), 1.0, None, np.zeros(0), np.zeros(0), 5)
    with pytest.raises(ValueError, match="0 stars"):
        profiles.common(nothing, profiles.Profile(3.0))


def test_stamps_of_nothing_but_bad_pixels_are_not_trusted():
    stamps = profiles.cut(
        np.ones((40, 40), np.float32), 1.0, np.zeros((40, 40), bool), np.array([20.0]), np.array([20.0]), 6
    )
    assert not profiles.each(stamps, profiles.common(stamps, profiles.Profile(3.0))).trusted.any()


def test_real_stars_are_told_from_hits_and_hot_pixels(real):
    """Raw frames of one target a minute apart, nothing of them cleaned: one seeing, and no hit's."""
    from firstlight import raw

    found = []
    for name in ("052955", "053326"):
        data, _ = raw.read(str(real / "xo1_z" / f"XO1-b_z_20250602_{name}.fits"))
        found.append(sources.detect(Frame(data.astype(np.float32), fits.Header()))[1]["FWHM"][0])
    assert 2 < min(found) and max(found) < 1.25 * min(found)
