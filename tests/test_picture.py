"""Pictures: channels from filter names, neutral sky, white balance, stretch; scenes are drawn with known colours."""

import numpy as np
import pytest
from firstlight import picture
from firstlight.frame import Mask


def scene(colours, sky=(100, 300, 900), size=200, noise=5.0, stars=40, peak=3000.0, seed=1):
    """{filter: (data, mask, None)} in B, V, R: equal star fields times a filter's factor, on a flat noisy sky."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    field = np.zeros((size, size))
    for cy, cx, height in zip(*rng.uniform(15, size - 15, (2, stars)), rng.uniform(0.2, 1, stars) * peak, strict=True):
        field += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.5**2))
    stacks = {}
    for name, factor, level in zip("BVR", colours, sky, strict=True):
        data = level + factor * field + rng.normal(0, noise, field.shape)
        stacks[name] = (data.astype(np.float32), np.zeros(field.shape, np.uint8), None)
    return stacks


def drawn(blue, green, red, where=(60, 60), size=120, noise=1.0):
    """Three filters with sky 0 and one 5x5 patch of the given values."""
    rng = np.random.default_rng(5)
    stacks = {}
    for name, value in zip("BVR", (blue, green, red), strict=True):
        data = rng.normal(0, noise, (size, size)).astype(np.float32)
        data[where[0] - 2 : where[0] + 3, where[1] - 2 : where[1] + 3] = value
        stacks[name] = (data, np.zeros(data.shape, np.uint8), None)
    return stacks


# channels


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["R", "B", "V"], {"R": ["R"], "G": ["V"], "B": ["B"]}),
        (["z", "H-Alpha", "g", "r"], {"R": ["z"], "G": ["r"], "B": ["g"]}),
        (["B", "V", "R", "I"], {"R": ["R", "I"], "G": ["V"], "B": ["B"]}),
        (["i", "r", "z"], {"R": ["z"], "G": ["i"], "B": ["r"]}),
        (["L", "R", "G", "B"], {"L": ["L"], "R": ["R"], "G": ["G"], "B": ["B"]}),
        (["B", "R"], {"R": ["R"], "G": ["B", "R"], "B": ["B"]}),
        (["B", "V", "Ha"], {"R": ["Ha"], "G": ["V"], "B": ["B"]}),
        (["V", "I", "Ha"], {"R": ["I"], "G": ["V", "I"], "B": ["V"]}),
        (["OIII", "SII", "Ha"], {"R": ["SII"], "G": ["Ha"], "B": ["OIII"]}),
        (["OIII", "H_alpha"], {"R": ["H_alpha"], "G": ["OIII"], "B": ["OIII"]}),
        (["Clear", "Ha"], {"R": ["Ha"], "G": ["Clear"], "B": ["Clear"]}),
        (["Clear"], {"L": ["Clear"]}),
        (["V"], {"L": ["V"]}),
        (["Ha"], {"L": ["Ha"]}),
        (["wheel 7", "wheel 8"], {"L": ["wheel 7", "wheel 8"]}),
    ],
)
def test_default_channels(filters, expected):
    assert picture.channels(filters) == expected


def test_case_tells_sloan_from_johnson():
    assert picture.channels(["R", "r", "B", "V"])["R"] == ["r", "R"]


def test_names_of_systems_and_primes_do_not_matter():
    assert picture.channels(["SDSS_g", "r'", "ip"]) == {"R": ["ip"], "G": ["r'"], "B": ["SDSS_g"]}


def test_mapping_wins_over_the_defaults():
    mapping = {"R": "Ha", "G": "V", "B": ["B", "g"]}
    assert picture.channels(["B", "g", "V", "R", "Ha"], mapping) == {"R": ["Ha"], "G": ["V"], "B": ["B", "g"]}


def test_mapping_finds_another_spelling():
    assert picture.channels(["H-Alpha", "V", "B"], {"r": "Ha", "g": "V", "b": "B"})["R"] == ["H-Alpha"]


def test_mapping_without_green_takes_the_mean():
    assert picture.channels(["Ha", "OIII"], {"R": "Ha", "B": "OIII"})["G"] == ["OIII", "Ha"]


def test_mapping_names_what_is_not_there():
    with pytest.raises(ValueError, match="channel R asks for 'I' but there are stacks of B, V"):
        picture.channels(["B", "V"], {"R": "I", "G": "V", "B": "B"})


def test_mapping_without_blue_is_refused():
    with pytest.raises(ValueError, match="the mapping fills R, G: R, G and B are needed"):
        picture.channels(["B", "V"], {"R": "V", "G": "V"})


def test_no_filter_is_refused():
    with pytest.raises(ValueError, match="no stack"):
        picture.channels([])


# sky


def test_sky_level_of_noise_alone():
    data = np.random.default_rng(2).normal(250, 12, (400, 400)).astype(np.float32)
    level, noise = picture.sky_level(data)
    assert abs(level - 250) < 0.2
    assert abs(noise / 12 - 1) < 0.02


def test_sky_level_under_stars_and_a_nebula():
    rng = np.random.default_rng(3)
    data = rng.normal(250, 12, (400, 400)).astype(np.float32)
    data[:160] += np.linspace(600, 40, 160, dtype=np.float32)[:, None]
    data[rng.random(data.shape) < 0.03] += 5000
    level, noise = picture.sky_level(data)
    assert abs(level - 250) < 0.3 * 12
    assert abs(noise / 12 - 1) < 0.2


def test_sky_level_leaves_out_masked_pixels():
    data = np.full((50, 50), 7, np.float32)
    mask = np.zeros(data.shape, np.uint8)
    data[:40], mask[:40] = 900, Mask.BAD
    assert picture.sky_level(data, mask) == (7, 0)


def test_sky_level_without_a_good_pixel_is_refused():
    with pytest.raises(ValueError, match="none of 30x20 pixels"):
        picture.sky_level(np.full((20, 30), np.nan, np.float32))


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


def test_balance_makes_the_median_star_white():
    factors = picture.star_balance(scene((0.25, 1.0, 0.5)))
    assert factors["V"] == 1
    assert abs(factors["B"] / 4 - 1) < 0.03
    assert abs(factors["R"] / 2 - 1) < 0.03


def test_balance_is_not_led_by_saturated_stars():
    stacks = scene((0.5, 1.0, 1.0), peak=4000, stars=80)
    full = stacks["V"][0] > 1800
    stacks["V"] = (np.minimum(stacks["V"][0], 1800), np.where(full, np.uint8(Mask.SATURATED), np.uint8(0)), None)
    assert abs(picture.star_balance(stacks)["B"] / picture.star_balance(stacks)["V"] / 2 - 1) < 0.03


def test_balance_is_not_led_by_hot_pixels():
    stacks = scene((0.5, 1.0, 1.0), stars=20, size=400)
    rows, columns = np.random.default_rng(8).integers(12, 388, (2, 60))
    for data, *_ in stacks.values():
        data[rows, columns] += 5000
    assert abs(picture.star_balance(stacks)["B"] / 2 - 1) < 0.03


def test_balance_without_enough_stars_is_none():
    assert picture.star_balance(scene((0.25, 1.0, 0.5), stars=3)) == {"B": 1, "V": 1, "R": 1}


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
    _, noise = picture.sky_level(data)
    image = picture.render({"V": (data, None, None)}, black=5, white=400, softening=7)
    expected = np.arcsinh((data[10, :4] / noise + 5) / 7) / np.arcsinh(405 / 7)
    np.testing.assert_allclose(image[10, :4], expected, atol=2e-3)
    assert image[10, 4] == 1


def test_linear_stretch_is_linear():
    data = np.random.default_rng(6).normal(0, 1, (300, 300)).astype(np.float32)
    data[10, :3] = [100, 200, 300]
    image = picture.render({"V": (data, None, None)}, stretch="linear", white=500)
    assert image[10, 2] - image[10, 1] == pytest.approx(image[10, 1] - image[10, 0], rel=1e-3)


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


def test_saturated_in_every_filter_is_white():
    stacks = drawn(300, 500, 900)
    for _, mask, _ in stacks.values():
        mask[60, 60] = Mask.SATURATED
    assert picture.render(stacks, balance="none", white=5000)[60, 60].tolist() == [1, 1, 1]


def test_saturated_in_every_filter_keeps_its_mean_on_request():
    stacks = drawn(300, 500, 900)
    for _, mask, _ in stacks.values():
        mask[60, 60] = Mask.SATURATED
    assert picture.render(stacks, balance="none", white=5000, saturated="mean")[60, 60].max() < 0.9


def test_saturated_in_one_filter_does_not_change_the_hue():
    stacks = drawn(500, 1000, 700)  # the red is cut off at 700: without care the star would be green
    stacks["R"][1][60, 60] = Mask.SATURATED
    pixel = picture.render(stacks, balance="none", white=5000)[60, 60]
    assert pixel[0] == pytest.approx(pixel[1], rel=1e-3)


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


def test_an_unknown_stretch_is_refused():
    with pytest.raises(ValueError, match="stretch is 'gamma' but must be one of asinh, linear"):
        picture.render(scene((1, 1, 1)), stretch="gamma")


def test_a_constant_image_is_even_and_dark():
    image = picture.render({"V": (np.full((64, 64), 5, np.float32), None, None)})
    assert image.min() == image.max() == pytest.approx(picture.SKY_GREY, abs=0.01)


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
