"""Pictures: neutral sky, stretch, colour, saturation, missing data; scenes are drawn with known colours."""

import numpy as np
import pytest
from firstlight import backdrop, cores, picture
from firstlight.frame import Mask
from scenery import add_star, coloured, drawn, gradient, scene, shell

# sky


@pytest.mark.parametrize("smooth", [True, False])
def test_sky_is_the_same_dark_grey_in_all_channels(smooth):
    image = picture.render(scene((1, 1, 1)), smooth_colour=smooth)
    sky = np.median(image.reshape(-1, 3), axis=0)
    assert np.all((sky > 0.06) & (sky < 0.10))
    assert np.ptp(sky) < 0.005


def test_sky_beside_a_red_nebula_is_neutral():
    stacks = scene((1, 1, 1), size=300)
    y, x = np.mgrid[:300, :300]
    nebula = 400 * np.exp(-((y - 150) ** 2 + (x - 170) ** 2) / (2 * 60**2))
    stacks["R"] = (stacks["R"][0] + nebula.astype(np.float32), *stacks["R"][1:])
    corner = np.median(picture.render(stacks)[:, :15].reshape(-1, 3), axis=0)
    assert np.ptp(corner) < 0.02


def test_sky_with_slopes_of_three_colours_is_neutral_everywhere():
    stacks = scene((1, 1, 1), size=400)
    for (name, (data, *rest)), slope in zip(stacks.items(), ((60, 0), (-20, 30), (0, -80)), strict=True):
        tilt = gradient(data.shape, (1, 0, slope[0]), (0, 1, slope[1]))
        stacks[name] = (data + tilt.astype(np.float32), *rest)
    image = picture.render(stacks, balance="none")
    corners = [
        np.median(image[rows, columns].reshape(-1, 3), axis=0)
        for rows in (np.s_[:40], np.s_[-40:])
        for columns in (np.s_[:40], np.s_[-40:])
    ]
    assert np.abs(np.array(corners) - picture.SKY_GREY).max() < 0.01


def test_a_nebula_keeps_its_light_over_a_sloping_sky():
    """A red one over a fifth of the picture: the linear colours hold it to 1 %."""
    shape, rng = (400, 400), np.random.default_rng(3)
    glow = shell(shape, (190, 220), 100)
    stacks = {}
    for name, peak, slope in (("B", 20, 30), ("V", 40, -25), ("R", 200, 40)):
        sky = 300 + gradient(shape, (1, 0, slope), (0, 1, slope / 2))
        stacks[name] = ((sky + peak * glow + rng.normal(0, 10, shape)).astype(np.float32), None, None)
    red, green, blue = picture.linear(stacks, balance="none").colours
    for colour, peak in ((red, 200), (green, 40), (blue, 20)):
        assert colour[glow > 0].sum() == pytest.approx(peak * glow.sum(), rel=0.01 if peak > 50 else 0.03)


def test_noise_alone_is_not_blown_up():
    data = np.random.default_rng(4).normal(100, 10, (300, 300)).astype(np.float32)
    image = picture.render({"V": (data, None, None)})
    assert abs(image.mean() - picture.SKY_GREY) < 0.003
    assert image.std() < 0.03
    assert image.max() < 0.3


def test_level_and_scale_of_the_stack_do_not_matter():
    data = scene((1, 1, 1))["V"][0]
    plain = picture.render({"V": (data, None, None)})
    other = picture.render({"V": (data * 0.02 - 3, None, None)})
    np.testing.assert_allclose(other, plain, atol=1e-3)


# white balance


def test_stars_come_out_white():
    stacks = scene((0.25, 1.0, 0.5), noise=2.0)
    image = picture.render(stacks)
    bright = stacks["V"][0] > 1500
    pixels = image[bright]
    assert np.median(np.ptp(pixels, axis=1) / pixels.max(axis=1)) < 0.05


def test_given_factors_are_taken():
    stacks = drawn(100, 100, 100)
    patch = picture.render(stacks, balance={"R": 2, "B": 0.5}, white=1000)[60, 60]
    assert patch[0] > 1.5 * patch[1] > 1.5 * patch[2]


# stretch and colour


def test_channels_keep_their_ratios():
    patch = picture.render(drawn(200, 400, 800), balance="none", white=2000, black=4)[60, 60]
    pedestal = 4.0  # black level in noises of 1, added to each channel
    np.testing.assert_allclose(patch / patch[0], [1, (400 + pedestal) / 804, (200 + pedestal) / 804], rtol=0.02)


def test_cores_above_white_keep_their_colour():
    patch = picture.render(drawn(5000, 10000, 20000), balance="none", white=500)[60, 60]
    assert patch[0] == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(patch, [1, 0.5, 0.25], rtol=0.02)


def test_a_pure_red_is_not_flat_before_it_is_white():
    patch = picture.render(drawn(0, 0, 500), balance="none", white=1000)[60, 60]
    assert 0.5 < patch[0] < 0.97


def test_one_noisy_filter_does_not_spoil_the_brightness():
    rng = np.random.default_rng(9)
    stacks = {
        n: (rng.normal(0, s, (200, 200)).astype(np.float32), None, None) for n, s in zip("BVR", (1, 1, 10), strict=True)
    }
    assert picture.render(stacks, balance="none").mean(axis=2).std() < 0.009


def test_asinh_follows_its_formula():
    data = np.random.default_rng(6).normal(0, 1, (300, 300)).astype(np.float32)
    data[10, :5] = [10, 30, 100, 300, 1000]
    _, noise = backdrop.sky_level(data)
    image = picture.render({"V": (data, None, None)}, black=5, white=400, softening=7)
    expected = np.arcsinh((data[10, :4] / noise + 5) / 7) / np.arcsinh(405 / 7)
    np.testing.assert_allclose(image[10, :4], expected, atol=2e-3)
    assert image[10, 4] == 1


def test_lupton_follows_its_formula():
    """Lupton et al. 2004: every channel times F(I) / I, I the mean of the three."""
    stacks = drawn(100, 300, 500, noise=1.0)
    image = picture.render(
        stacks, balance="none", background="constant", stretch="lupton", black=5, white=400, softening=7
    )
    linear = picture.linear(stacks, balance="none", background="constant")
    unit = np.sqrt(np.sqrt(3) * linear.noise * linear.colour_noise)
    c = np.array([colour[60, 60] for colour in linear.colours]) + 5 * unit
    expected = c * np.arcsinh(c.mean() / (7 * unit)) / np.arcsinh(405 / 7) / c.mean()
    np.testing.assert_allclose(image[60, 60], expected / max(expected.max(), 1), atol=2e-3)


def test_linear_stretch_is_linear():
    data = np.random.default_rng(6).normal(0, 1, (300, 300)).astype(np.float32)
    data[10, :3] = [100, 200, 300]
    image = picture.render({"V": (data, None, None)}, stretch="linear", white=500)
    assert image[10, 2] - image[10, 1] == pytest.approx(image[10, 1] - image[10, 0], rel=1e-3)


@pytest.mark.parametrize("stretch", ["asinh", "lupton", "linear"])
def test_the_sky_itself_may_be_black(stretch):
    sky = np.random.default_rng(5).normal(100, 5, (60, 80)).astype(np.float32)
    sky[30, 40] = 2000
    image = picture.render({name: (sky, None, None) for name in "RVB"}, stretch=stretch, black=0)
    assert np.isfinite(image).all() and image[30, 40].min() > 0.9
    assert 0.4 < (image.max(axis=2) == 0).mean() < 0.6


def test_brighter_nebula_is_never_darker():
    rng = np.random.default_rng(7)
    ramp = np.geomspace(1, 20000, 600).astype(np.float32)
    stacks = {
        name: (np.float32(k) * ramp + rng.normal(0, n, (600, 600)).astype(np.float32), None, None)
        for name, k, n in (("B", 0.05, 1), ("V", 0.1, 1), ("R", 1, 10))
    }
    for data, *_ in stacks.values():
        data[:, :200] -= np.median(data[:, :200], axis=0)
    red = np.median(picture.render(stacks, balance="none")[..., 0], axis=0)
    steps = red.reshape(-1, 20).mean(axis=1)
    assert np.all(np.diff(steps) > -0.003)


def test_saturation_zero_is_grey():
    image = picture.render(drawn(200, 400, 800), balance="none", saturation=0)
    np.testing.assert_allclose(image[..., 0], image[..., 2], atol=1e-5)


def test_smoothing_calms_the_colour_of_the_sky():
    stacks = scene((1, 1, 1), stars=10)
    rough, calm = (picture.render(stacks, smooth_colour=smooth) for smooth in (False, True))
    corner = np.s_[:12, :12]
    assert np.std(calm[corner][..., 0] - calm[corner][..., 2]) < 0.4 * np.std(
        rough[corner][..., 0] - rough[corner][..., 2]
    )


def test_luminance_gives_the_brightness():
    stacks = drawn(300, 300, 300)
    stacks["L"] = (stacks["V"][0].copy(), stacks["V"][1], None)
    stacks["L"][0][20:25, 20:25] = 300
    image = picture.render(stacks, balance="none")
    np.testing.assert_allclose(image[22, 22], image[60, 60], atol=0.02)


def test_one_filter_is_grey():
    assert picture.render({"V": scene((1, 1, 1))["V"]}).shape == (200, 200)


# saturation and missing data


def test_saturated_in_every_filter_is_white_on_request():
    stacks = drawn(300, 500, 900)
    for _, mask, _ in stacks.values():
        mask[60, 60] = Mask.SATURATED
    image = picture.render(stacks, balance="none", white=5000, saturated="white")
    assert image[60, 60].tolist() == [1, 1, 1]


def test_saturated_in_one_filter_has_no_hue_on_request():
    stacks = drawn(500, 1000, 700)  # the red is cut off at 700: without care the star would be green
    stacks["R"][1][60, 60] = Mask.SATURATED
    pixel = picture.render(stacks, balance="none", white=5000, saturated="white")[60, 60]
    assert pixel[0] == pytest.approx(pixel[1], rel=1e-3) == pytest.approx(pixel[2], rel=1e-3)


def test_saturated_in_every_filter_keeps_its_mean_on_request():
    stacks = drawn(300, 500, 900)
    for _, mask, _ in stacks.values():
        mask[60, 60] = Mask.SATURATED
    image = picture.render(stacks, balance="none", white=5000, saturated="mean")
    assert image[60, 60].max() < 0.9 and image[60, 60, 0] > 1.5 * image[60, 60, 1]


def test_a_saturated_grey_star_is_white():
    data, mask, _ = drawn(300, 500, 900)["V"]
    mask[60, 60] = Mask.SATURATED
    assert picture.render({"V": (data, mask, None)}, white=5000)[60, 60] == 1


def saturated_star(blue, green, red, full=20000.0, fwhm=(4.0, 4.0, 4.0)):
    """A star of given fluxes in the middle, cut off at one level in all filters as a detector does; and how it would be
    without that."""
    stacks, truth = drawn(0, 0, 0, noise=2.0), {}
    for name, flux, wide in zip("BVR", (blue, green, red), fwhm, strict=True):
        data, mask, _ = stacks[name]
        add_star(data, 60, 60, flux, wide, beta=4.0)
        truth[name] = (data.copy(), None, None)
        mask[data > full] = Mask.SATURATED
        np.minimum(data, full, out=data)
    return stacks, truth


@pytest.mark.parametrize("fluxes", [(3e5, 6e5, 1.5e6), (1.5e6, 9e5, 5e5), (8e5, 4e6, 1.2e7), (2e6, 8e5, 2e5)])
def test_a_saturated_core_has_the_colour_that_the_star_has(fluxes):
    """Red and blue ones, saturated in one filter or in all: wherever in the star, within 5 % of the truth."""
    stacks, truth = saturated_star(*fluxes)
    core = np.logical_or.reduce([mask != 0 for _, mask, _ in stacks.values()])
    assert core.sum() > 8
    options = {"balance": "none", "white": 3000, "background": "constant"}
    image, wanted = (picture.render(some, **options) for some in (stacks, truth))
    assert np.abs(image[core] - wanted[core]).max() < 0.05


@pytest.mark.parametrize("fluxes", [(3e5, 6e5, 1.5e6), (1.5e6, 9e5, 5e5), (2e6, 2e6, 2e6)])
def test_a_saturated_core_is_not_tinted_by_seeing_that_differs(fluxes):
    """A white star, a red one, a blue one: the ratios of the core's middle are those of their fluxes, to 10 %."""
    wide = (4.6, 4.3, 4.0)
    stacks, _ = saturated_star(*fluxes, fwhm=wide)
    seeing = {"fwhm": dict(zip("BVR", wide, strict=True)), "beta": dict.fromkeys("BVR", 4.0)}
    image = picture.render(stacks, balance="none", white=1000, background="constant", **seeing)
    np.testing.assert_allclose(image[60, 60, ::-1] / image[60, 60].max(), np.array(fluxes) / max(fluxes), rtol=0.1)
    plain = picture.render(stacks, balance="none", white=1000, background="constant")
    assert np.abs(plain[60, 60, ::-1] / np.array(fluxes) * max(fluxes) - 1).max() > 0.15


def test_widths_of_undersampled_stars_tint_no_core():
    """As stacks of a colour sensor's planes tell them: their wings differ by far less than such profiles would."""
    stacks, _ = saturated_star(5e5, 4e5, 3.5e5, fwhm=(1.5, 1.5, 1.5))
    seeing = {"fwhm": dict(zip("BVR", (1.49, 1.52, 1.37), strict=True)), "beta": dict.fromkeys("BVR", 500.0)}
    blue, green, red = picture.render(stacks, balance="none", white=1000, background="constant", **seeing)[60, 60, ::-1]
    assert blue > green > red


def test_without_the_wings_a_core_would_change_its_colour():
    """The same star as above by its values: what the test above sees."""
    stacks, truth = saturated_star(3e5, 6e5, 1.5e6)
    options = {"balance": "none", "white": 3000, "background": "constant", "saturated": "mean"}
    assert np.abs(picture.render(stacks, **options) - picture.render(truth, **options)).max() > 0.3


def test_a_saturated_core_is_nowhere_darker_than_its_rim():
    """Values in the core that are lower than around it, as when they wrap around."""
    stacks, _ = saturated_star(3e6, 3e6, 3e6)
    for data, mask, _ in stacks.values():
        data[mask != 0] = 5.0
    image = picture.render(stacks, balance="none", white=3000)
    assert image[60, 60].min() > 0.9


def test_two_saturated_stars_keep_colours_of_their_own():
    stacks = drawn(0, 0, 0, noise=2.0)
    for name, left, right in (("B", 1e5, 2e6), ("V", 5e5, 1e6), ("R", 2e6, 3e5)):
        data, mask, _ = stacks[name]
        add_star(data, 30, 60, left, 4.0)
        add_star(data, 90, 60, right, 4.0)
        mask[data > 20000] = Mask.SATURATED
        np.minimum(data, 20000, out=data)
    image = picture.render(stacks, balance="none", white=2000)
    assert image[60, 30, 0] > 2 * image[60, 30, 2] and image[60, 90, 2] > 2 * image[60, 90, 0]


def test_all_of_a_picture_saturated_is_white():
    full = (np.full((64, 64), 9.0, np.float32), np.full((64, 64), Mask.SATURATED, np.uint8), None)
    parts = [np.full((64, 64), value, np.float32) for value in (1, 2, 3)]
    cores.colour_cores(parts, full[1] != 0, np.ones((64, 64), bool))
    assert all((part == 3).all() for part in parts)


def test_touching_pixels_are_one_core():
    from scipy.ndimage import label

    image = np.random.default_rng(2).random((90, 70)) < 0.3
    image[:, [0, -1]] = np.random.default_rng(3).random((90, 2)) < 0.5  # ends of rows, which do not touch the next row
    expected, number = label(image, np.ones((3, 3)))
    found = cores.labels(*np.nonzero(image))
    pairs = set(zip(found.tolist(), expected[image].tolist(), strict=True))
    assert len(pairs) == number == found.max() + 1


def test_a_long_trail_of_saturation_is_one_core():
    image = np.zeros((2000, 60), bool)
    image[np.arange(2000), (30 + 20 * np.sin(np.arange(2000) / 300)).astype(int)] = True
    assert np.ptp(cores.labels(*np.nonzero(image))) == 0


def test_no_data_is_black():
    stacks = scene((1, 1, 1))
    for data, mask, _ in stacks.values():
        data[:20] = np.nan
        mask[20:30] = Mask.NO_DATA
    image = picture.render(stacks)
    assert np.all(image[:30] == 0)
    assert np.all(np.isfinite(image))


def test_where_one_filter_has_no_data_the_others_stand_in():
    stacks = scene((1, 1, 1), stars=20)
    stacks["R"][0][:40] = np.nan
    image = picture.render(stacks)
    star = np.unravel_index(np.argmax(stacks["V"][0][:35]), (35, 200))
    assert image[star].min() > 0.3
    assert np.ptp(image[star]) < 0.05 * image[star].max()


def test_inputs_stay_as_they_are():
    stacks = scene((1, 1, 1))
    stacks["B"][1][5, 5] = Mask.SATURATED
    before = {name: data.copy() for name, (data, *_) in stacks.items()}
    picture.render(stacks)
    assert all(np.array_equal(stacks[name][0], data) for name, data in before.items())


def test_other_sizes_are_refused():
    stacks = scene((1, 1, 1))
    stacks["R"] = (np.zeros((100, 120), np.float32), None, None)
    with pytest.raises(ValueError, match="R is 120x100 but B is 200x200"):
        picture.render(stacks)


def test_a_filter_without_a_good_pixel_is_named():
    stacks = scene((1, 1, 1))
    stacks["V"][0][:] = np.nan
    with pytest.raises(ValueError, match="filter V: no sky level"):
        picture.render(stacks)


@pytest.mark.parametrize(("option", "value"), [("stretch", "gamma"), ("saturated", "pink")])
def test_an_option_that_does_not_exist_is_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} is '{value}' but must be one of"):
        picture.render(scene((1, 1, 1)), **{option: value})


def test_a_constant_image_is_even_and_dark():
    image = picture.render({"V": (np.full((64, 64), 5, np.float32), None, None)})
    assert image.min() == image.max() == pytest.approx(picture.SKY_GREY, abs=0.01)


# filters brought to one seeing


def test_coloured_rims_go_where_filters_are_brought_to_one_seeing():
    stacks, _ = coloured((0, 0, 0), (0, 0, 0), [0.0] * 16, fwhm=(4.5, 3.6, 3.0), size=240)
    fwhm = dict(zip("BVR", (4.5, 3.6, 3.0), strict=True))
    tints = []
    for match in (False, True):
        image = picture.render(stacks, balance="none", fwhm=fwhm, beta=dict.fromkeys("BVR", 500), match_psf=match)
        tints.append(np.percentile(np.ptp(image, axis=2), 99.5))
    assert tints[1] < 0.4 * tints[0]


def test_a_luminance_keeps_its_own_seeing():
    stacks, _ = coloured((0, 0, 0), (0, 0, 0), [0.0] * 16, fwhm=(5.0, 5.0, 5.0), size=240)
    stacks["L"] = coloured((0, 0, 0), (0, 0, 0), [0.0] * 16, fwhm=3.0, size=240)[0]["V"]
    fwhm = {"B": 5.0, "V": 5.0, "R": 5.0, "L": 3.0}
    sharp, soft = (picture.linear(stacks, match_psf=match, fwhm=fwhm).luminance for match in (True, False))
    np.testing.assert_array_equal(sharp, soft)


# integers


def test_row_0_of_fits_is_the_bottom():
    image = np.zeros((3, 2), np.float32)
    image[0] = 1
    assert picture.to_uint8(image).tolist() == [[0, 0], [0, 0], [255, 255]]


@pytest.mark.parametrize(("convert", "kind", "top"), [(picture.to_uint8, "u1", 255), (picture.to_uint16, "u2", 65535)])
def test_integers_span_their_range_and_are_rounded(convert, kind, top):
    out = convert(np.array([[0, 0.6 / top, 1.0, 1.2, -0.1]], np.float32))
    assert out.dtype == kind
    assert out.tolist() == [[0, 1, top, top, 0]]


def test_integers_lie_in_memory_as_files_want_them():
    assert picture.to_uint16(picture.render(scene((1, 1, 1)))).flags["C_CONTIGUOUS"]
