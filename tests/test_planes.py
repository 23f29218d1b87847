"""Stacks made ready for a picture: the sky behind them, what all cover, one seeing. Truth is drawn."""

import numpy as np
import pytest
from firstlight import backdrop, planes
from firstlight.frame import Mask
from scenery import add_star, gradient, shell

SHAPE = (480, 600)


# the sky


def test_sky_level_of_noise_alone():
    data = np.random.default_rng(2).normal(250, 12, (400, 400)).astype(np.float32)
    level, noise = backdrop.sky_level(data)
    assert abs(level - 250) < 0.2
    assert abs(noise / 12 - 1) < 0.02


def test_sky_level_under_stars_and_a_nebula():
    rng = np.random.default_rng(3)
    data = rng.normal(250, 12, (400, 400)).astype(np.float32)
    data[:160] += np.linspace(600, 40, 160, dtype=np.float32)[:, None]
    data[rng.random(data.shape) < 0.03] += 5000
    level, noise = backdrop.sky_level(data)
    assert abs(level - 250) < 0.3 * 12
    assert abs(noise / 12 - 1) < 0.2


def test_sky_level_leaves_out_masked_pixels():
    data = np.full((50, 50), 7, np.float32)
    mask = np.zeros(data.shape, np.uint8)
    data[:40], mask[:40] = 900, Mask.BAD
    assert backdrop.sky_level(data, mask) == (7, 0)


def test_sky_level_without_a_good_pixel_is_refused():
    with pytest.raises(ValueError, match="none of 30x20 pixels"):
        backdrop.sky_level(np.full((20, 30), np.nan, np.float32))


def sloped(terms, nebula=0.0, radius=200, noise=10.0):
    """Two filters with slopes of their own and a nebula that is strong in Ha and weak in g: stacks, truth {name: sky}."""
    rng = np.random.default_rng(7)
    glow = shell(SHAPE, (260, 280), radius)
    stacks, truth = {}, {}
    for name, level, sign, share in (("g", 100, 1, 0.1), ("Ha", 40, -0.7, 1.0)):
        truth[name] = level + sign * gradient(SHAPE, *terms)
        data = truth[name] + share * nebula * glow + rng.normal(0, noise, SHAPE)
        stacks[name] = (data.astype(np.float32), None)
    return stacks, truth


PLANE = ((1, 0, 30.0), (0, 1, -15.0))
BOWED = (*PLANE, (2, 0, 20.0), (1, 1, -8.0), (0, 3, 12.0))


@pytest.mark.parametrize(("background", "terms"), [("constant", ()), ("plane", PLANE), ("surface", BOWED)])
def test_a_slope_is_found(background, terms):
    stacks, truth = sloped(terms or ((0, 0, 0.0),))
    for name, sky in backdrop.backdrops(stacks, ["g", "Ha"], background).items():
        assert np.abs(sky.image(SHAPE) - truth[name]).max() < 0.05 * 10
        assert sky.noise == pytest.approx(10, rel=0.02)


def test_a_plane_through_a_bowed_sky_takes_most_of_its_slope():
    stacks, truth = sloped(BOWED)
    left = truth["g"] - backdrop.backdrops(stacks, ["g"], "plane")["g"].image(SHAPE)
    assert np.ptp(left) < 0.5 * np.ptp(truth["g"])


@pytest.mark.parametrize("peak", [15.0, 3000.0])
def test_a_plane_leaves_a_nebula_over_a_third_of_the_picture(peak):
    """Of a nebula as bright as one and a half noises of a pixel, and of a very bright one, less than 1 % is lost."""
    stacks, truth = sloped(PLANE, nebula=peak, radius=175)
    sky = backdrop.backdrops(stacks, ["g", "Ha"], "plane")["Ha"].image(SHAPE)
    glow = peak * shell(SHAPE, (260, 280), 175)
    assert (glow > 0).mean() > 0.33
    assert abs((sky - truth["Ha"])[glow > 0].sum()) < max(0.01 * glow.sum(), 0.02 * 10 * (glow > 0).sum())


def test_a_surface_leaves_a_bright_nebula():
    stacks, truth = sloped(BOWED, nebula=1000.0, radius=120)
    sky = backdrop.backdrops(stacks, ["g", "Ha"], "surface")["Ha"].image(SHAPE)
    glow = 1000 * shell(SHAPE, (260, 280), 120)
    assert abs((sky - truth["Ha"])[glow > 0].sum()) < 0.02 * glow.sum()


def test_the_places_of_the_sky_are_those_of_all_filters():
    """Where the nebula is bright in H-alpha its faint light in g is no sky either."""
    stacks, _ = sloped(((0, 0, 0.0),), nebula=60.0, radius=280)
    together = backdrop.backdrops(stacks, ["g", "Ha"], "constant")["g"].coefficients[0, 0]
    alone = backdrop.backdrops({"g": stacks["g"]}, ["g"], "constant")["g"].coefficients[0, 0]
    assert together == pytest.approx(100, abs=0.1) and alone > 100.3


def test_a_plane_does_not_follow_a_nebula_that_rises_from_one_side():
    """Light that grows over two thirds of the picture: the sky stays that of the other third."""
    data = np.random.default_rng(7).normal(50, 1, (600, 600))
    data[:, 200:] += np.geomspace(0.5, 2000, 400)
    sky = backdrop.backdrops({"Ha": (data.astype(np.float32), None)}, ["Ha"], "plane")["Ha"]
    assert np.abs(sky.image((600, 600)) - 50).max() < 0.5


def test_a_small_picture_has_a_constant_sky():
    data = np.random.default_rng(1).normal(50, 2, (60, 60)).astype(np.float32)
    assert backdrop.backdrops({"V": (data, None)}, ["V"], "surface")["V"].coefficients.shape == (1, 1)


def test_where_sky_is_left_in_a_corner_a_lower_order_is_taken():
    """Data in a few squares only: not enough for a cubic."""
    data = np.random.default_rng(1).normal(50, 2, SHAPE).astype(np.float32)
    data[80:, :] = data[:, 100:] = np.nan
    sky = backdrop.backdrops({"V": (data, None)}, ["V"], "surface")["V"]
    assert len(sky.coefficients) < 4
    assert sky.image(SHAPE)[:80, :100].mean() == pytest.approx(50, abs=0.2)


def test_a_background_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="background is 'none' but must be one of constant, plane, surface"):
        backdrop.backdrops({}, [], "none")


# what is covered


def covering(*seen):
    """Stacks that have data where `seen` is True."""
    return {str(i): (np.where(one, np.float32(1), np.float32(np.nan)), None) for i, one in enumerate(seen)}


def turned(angle, shape=(300, 300)):
    """Where a frame of the same size lies that is turned about the middle."""
    y, x = np.mgrid[: shape[0], : shape[1]] - 149.5
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return (np.abs(c * x + s * y) <= 149.5) & (np.abs(c * y - s * x) <= 149.5)


def test_frames_that_cover_all_are_not_cut():
    assert planes.covered(covering(np.ones((50, 70), bool))) == (slice(0, 50), slice(0, 70))


def test_wedges_are_cut_off():
    stacks = covering(turned(0), turned(7), turned(-3))
    box = planes.covered(stacks)
    assert all(np.isfinite(data[box]).mean() > 0.999 for data, _ in stacks.values())
    best = 300 - 2 * 150 * np.sin(np.radians(7)) / (np.cos(np.radians(7)) + np.sin(np.radians(7)))
    assert box[0].stop - box[0].start > best - 18, "less than it could be"


def test_a_shift_is_cut_to_the_pixel():
    one, other = np.zeros((200, 200), bool), np.zeros((200, 200), bool)
    one[13:], other[:, :177] = True, True
    assert planes.covered(covering(one, other)) == (slice(13, 200), slice(0, 177))


def test_bad_pixels_within_do_not_cut():
    seen = np.ones((200, 300), bool)
    seen[np.random.default_rng(3).random(seen.shape) < 0.01] = False
    seen[:, 120] = False
    assert planes.covered(covering(seen)) == (slice(0, 200), slice(0, 300))


def test_where_filters_hardly_overlap_all_is_shown():
    one, other = np.zeros((200, 200), bool), np.zeros((200, 200), bool)
    one[20:120], other[90:] = True, True
    assert planes.covered(covering(one, other)) == (slice(20, 200), slice(0, 200))


def test_all_that_any_filter_covers_on_request():
    one = np.zeros((200, 200), bool)
    one[5:190, 7:] = True
    assert planes.covered(covering(one, one & turned(5, (200, 200))), "all") == (slice(5, 190), slice(7, 200))


def test_no_data_of_the_mask_counts():
    mask = np.zeros((100, 100), np.uint8)
    mask[:30] = Mask.NO_DATA
    assert planes.covered({"V": (np.ones((100, 100), np.float32), mask)})[0] == slice(30, 100)


def test_a_crop_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="crop is 'none' but must be one of common, all"):
        planes.covered({}, "none")


# one seeing


def stars_of(beta=4.0, **fwhm):
    stacks = {}
    for name, each in fwhm.items():
        data = np.zeros((121, 121))
        add_star(data, 60, 60, 5000, each, beta)
        stacks[name] = (data.astype(np.float32), np.zeros(data.shape, np.uint8), None)
    return stacks


@pytest.mark.parametrize("beta", [2.8, 4.0, 30.0])
def test_sharper_filters_are_brought_to_the_widest(beta):
    """Core and wings: nowhere do they differ by more than 1 % of the peak, and at 8 pixels by less than 5 % of the light
    there."""
    fwhm = {"B": 4.0, "V": 3.3, "R": 2.5}
    stacks = planes.matched(stars_of(beta, **fwhm), fwhm, ["B", "V", "R"], dict.fromkeys(fwhm, beta))
    wide = stacks["B"][0]
    for name in "VR":
        data = stacks[name][0]
        assert np.abs(data - wide).max() < 0.01 * wide.max(), name
        assert data[60, 68] == pytest.approx(wide[60, 68], rel=0.05, abs=1e-4 * float(wide.max())), name
        assert data.sum() == pytest.approx(stars_of(beta, **fwhm)[name][0].sum(), rel=2e-3)


def test_exponents_are_matched_too():
    """A star with strong wings next to one without: the same after."""
    one, other = stars_of(2.8, V=3.0)["V"], stars_of(5.0, B=3.8)["B"]
    stacks = planes.matched({"V": one, "B": other}, {"V": 3.0, "B": 3.8}, ["V", "B"], {"V": 2.8, "B": 5.0})
    assert np.abs(stacks["V"][0] - stacks["B"][0]).max() < 0.015 * stacks["B"][0].max()


def test_only_the_named_filters_are_brought_to_one():
    stacks = stars_of(L=2.5, B=4.0)
    assert planes.matched(stacks, {"L": 2.5, "B": 4.0}, ["B"])["L"] is stacks["L"]


def test_an_unknown_width_leaves_a_filter_as_it_is():
    stacks = stars_of(V=2.5, B=4.0)
    assert planes.matched(stacks, {"V": 0.0, "B": 4.0}, ["V", "B"])["V"] is stacks["V"]


def test_no_data_does_not_spread():
    stacks = {"V": (np.full((40, 40), 7, np.float32), None), "B": (np.full((40, 40), 7, np.float32), None)}
    stacks["V"][0][:10] = np.nan
    data, _ = planes.matched(stacks, {"V": 2.0, "B": 5.0}, ["V", "B"])["V"]
    assert np.isnan(data[:10]).all()
    np.testing.assert_allclose(data[10:], 7, rtol=1e-5)


def test_saturation_spreads_with_the_light():
    stacks = stars_of(V=2.5, B=5.0)
    stacks["V"][1][60, 60] = Mask.SATURATED
    mask = planes.matched(stacks, {"V": 2.5, "B": 5.0}, ["V", "B"])["V"][1]
    assert mask[60, 58] == Mask.SATURATED and mask[60, 50] == 0
