"""The steps from raw to calibrated. Truth: closed forms, injected noise and hits, ccdproc on the same arrays."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData
from firstlight import calibrate
from firstlight.frame import Mask
from values import BIT, ccd, frame, masked, noisy, same

GAIN, READ_NOISE = 0.8, 5.0


# --- Deviation ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("light", [0.0, 3.0, 300.0, 30000.0])
def test_sigma_of_an_even_image_is_ccdprocs(light):
    import ccdproc

    ours = calibrate.deviation(frame(np.full((12, 12), light)), GAIN, READ_NOISE, 0.0)
    raw = CCDData(np.full((12, 12), light), unit="adu")
    theirs = ccdproc.create_deviation(raw, gain=GAIN * u.electron / u.adu, readnoise=READ_NOISE * u.electron)
    np.testing.assert_allclose(ours.sigma, theirs.uncertainty.array, rtol=1e-6)
    assert ours.header["SIGMASRC"] == "formula"


def test_sigma_of_a_bias_frame_is_the_read_noise():
    one = noisy(5, 300, READ_NOISE / GAIN, unit="adu")
    out = calibrate.deviation(one, GAIN, READ_NOISE, one.data)
    np.testing.assert_allclose(out.sigma, READ_NOISE / GAIN, rtol=1e-6)


def test_the_level_is_no_light_be_it_a_number_or_an_image():
    level = np.random.default_rng(6).uniform(200, 400, (20, 20)).astype(np.float32)
    by_image = calibrate.deviation(frame(level + 100), GAIN, READ_NOISE, level)
    by_number = calibrate.deviation(frame(np.full((20, 20), 400.0)), GAIN, READ_NOISE, 300.0)
    np.testing.assert_allclose(by_image.sigma, by_number.sigma, rtol=1e-5)


def test_a_star_has_the_sigma_of_its_own_light_not_of_its_surroundings():
    data = np.full((15, 15), 100.0)
    data[7, 7] = 40000
    out = calibrate.deviation(frame(data), GAIN, READ_NOISE, 0.0)
    assert out.sigma[7, 7] == pytest.approx(np.sqrt(40000 / GAIN + (READ_NOISE / GAIN) ** 2), rel=1e-5)
    assert out.sigma[7, 9] == pytest.approx(np.sqrt(100 / GAIN + (READ_NOISE / GAIN) ** 2), rel=1e-5)


def test_sigma_is_never_below_half_the_read_noise():
    out = calibrate.deviation(frame(np.full((10, 10), -1e4)), GAIN, READ_NOISE, 0.0)
    np.testing.assert_allclose(out.sigma, READ_NOISE / GAIN / 2, rtol=1e-6)


@pytest.mark.parametrize("sky", [3, 30, 300, 3000, 30000])
def test_sigma_is_the_scatter_at_any_sky(sky):
    rng = np.random.default_rng(sky)
    electrons = rng.poisson(sky, (300, 300)) + rng.normal(0, READ_NOISE, (300, 300))
    raw = np.round(electrons / GAIN + 500)
    out = calibrate.gain(calibrate.deviation(frame(raw), GAIN, READ_NOISE, 500.0), GAIN)
    pulls = (out.data - 500 * GAIN - sky) / out.sigma
    assert pulls.std() == pytest.approx(1.0, abs=0.02)


def test_sigma_is_not_biased_by_the_pixels_own_fluctuation():
    rng = np.random.default_rng(8)
    raw = (rng.poisson(10, (300, 300)) + rng.normal(0, 1.0, (300, 300))) / GAIN
    out = calibrate.deviation(frame(raw), GAIN, 1.0, 0.0)
    weights = 1 / out.sigma**2
    assert np.sum(weights * out.data) / np.sum(weights) == pytest.approx(10 / GAIN, rel=0.02)


@pytest.mark.parametrize("unknown", ["gain", "read_noise", "level"])
def test_without_one_of_the_numbers_sigma_is_the_local_scatter(unknown):
    numbers = {"gain": GAIN, "read_noise": READ_NOISE, "level": 0.0, unknown: None}
    out = calibrate.deviation(noisy(9, 1000, 20, (256, 256), "adu"), **numbers)
    assert out.header["SIGMASRC"] == "empirical"
    assert np.median(out.sigma) == pytest.approx(20, rel=0.03)


def test_local_scatter_follows_the_noise_and_not_the_level():
    rng = np.random.default_rng(10)
    truth = np.where(np.arange(256) < 128, 10.0, 30.0)[None, :]
    data = rng.normal(0, 1, (256, 256)) * truth + 500 + 2.0 * np.arange(256)[:, None]
    out = calibrate.local_scatter(data.astype(np.float32))
    assert out.shape == (256, 256) and out.dtype == np.float32
    assert np.median(out[:, :40]) == pytest.approx(10, rel=0.05)
    assert np.median(out[:, -40:]) == pytest.approx(30, rel=0.05)


@pytest.mark.parametrize("shape", [(7, 9), (65, 129), (64, 4)])
def test_local_scatter_has_a_value_in_every_pixel_of_odd_frames(shape):
    out = calibrate.local_scatter(np.random.default_rng(2).normal(0, 5, shape).astype(np.float32))
    assert out.shape == shape and np.isfinite(out).all() and (out > 0).all()


@pytest.mark.parametrize("scale", [1.0, 1 / 65535])
def test_local_scatter_has_the_scale_of_the_data(scale):
    data = np.random.default_rng(4).normal(1000, 20, (128, 128)) * scale
    assert np.median(calibrate.local_scatter(data.astype(np.float32))) == pytest.approx(20 * scale, rel=0.05)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (301, 515), (2, 70001)])
def test_sigma_is_the_plain_formula_on_the_nastiest_light(shape):
    """Means over 5x5 with the edge repeated, in double precision; hot pixels and masters that know nothing of a pixel."""
    rng = np.random.default_rng(shape[1])
    light = rng.normal(50, 60, shape)
    light[rng.random(shape) < 0.01] = 1e9
    level = rng.normal(300, 3, shape).astype(np.float32)
    out = calibrate.deviation(frame(light + level), GAIN, READ_NOISE, level, 1.0, 0.3)
    light = (np.float32(light + level) - level).astype(float)
    around = np.pad(light, 2, mode="edge")
    smooth = np.mean([around[i : i + shape[0], j : j + shape[1]] for i in range(5) for j in range(5)], axis=0)

    def variance(light):
        return np.maximum(light / GAIN + (READ_NOISE / GAIN) ** 2, (READ_NOISE / GAIN / 2) ** 2) + 1 / 12 + 0.3**2

    near = np.abs(light - smooth) < 5 * np.sqrt(variance(smooth))
    expected = np.sqrt(variance(np.where(near, smooth, light)))
    # Where the choice hangs on the last digit both are right.
    assert np.mean(~np.isclose(out.sigma, expected, rtol=1e-5)) < 1e-5


def test_a_level_that_is_not_known_somewhere_spoils_no_other_pixel():
    level = np.full((200, 300), 300, np.float32)
    level[50, 100] = np.nan
    out = calibrate.deviation(frame(np.full(level.shape, 1300.0)), GAIN, READ_NOISE, level)
    there = out.sigma[50, 100]
    out.sigma[48:53, 98:103] = out.sigma[0, 0]
    np.testing.assert_allclose(out.sigma, np.sqrt(1000 / GAIN + (READ_NOISE / GAIN) ** 2), rtol=1e-6)
    assert np.isfinite(there)


def plain_scatter(values, step):
    """Half of what lies between the 16th and the 84th percentile, of whole numbers between the steps."""
    core, steps, counts = (0.158655, 0.841345), *np.unique(values, return_counts=True)
    if np.mean(values == np.round(values)) <= 0.9:
        return np.subtract(*np.quantile(values, core[::-1])) / 2
    if len(steps) < 3:
        return step / np.sqrt(12)
    shares = np.cumsum(counts)[:-1] / values.size
    low, high = np.interp(core, shares, (steps[:-1] + steps[1:]) / 2)
    return max((high - low) / 2, step / np.sqrt(12))


@pytest.mark.parametrize("digits", [0, 1, 6])
@pytest.mark.parametrize("scatter", [0.1, 0.7, 30.0])
def test_scatter_is_that_of_the_percentiles(scatter, digits):
    values = np.round(np.random.default_rng(5).normal(10, scatter, 999), digits).astype(np.float32)
    assert calibrate.robust_scatter(values) == pytest.approx(plain_scatter(values, 1.0), rel=1e-5)


def test_local_scatter_is_linear_between_the_middles_of_its_blocks():
    from scipy.ndimage import zoom

    data = np.random.default_rng(6).normal(500, 20, (200, 331)).astype(np.float32)
    difference = data[:, 2:] - data[:, :-2]
    ys, xs = np.linspace(0, 200, 4).astype(int), np.linspace(0, 329, 6).astype(int)
    blocks = [
        [difference[a:b, c:d] for c, d in zip(xs, xs[1:], strict=False)] for a, b in zip(ys, ys[1:], strict=False)
    ]
    grid = np.array([[plain_scatter(one.ravel(), 1.0) / np.sqrt(2) for one in row] for row in blocks])
    expected = zoom(grid, (200 / 3, 331 / 5), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(calibrate.local_scatter(data), expected, rtol=1e-5)


def test_scatter_of_whole_numbers_is_at_least_that_of_rounding():
    assert calibrate.robust_scatter(np.full(100, 7.0)) == pytest.approx(1 / np.sqrt(12))


# --- Gain -----------------------------------------------------------------------------------------------------------
def test_gain_agrees_with_ccdproc():
    import ccdproc

    one = noisy(11, 1000, 30, unit="adu")
    ours = calibrate.gain(one, GAIN)
    theirs = ccdproc.gain_correct(ccd(one), GAIN * u.electron / u.adu)
    same(ours, theirs)
    assert ours.unit == "electron" and str(theirs.unit) == "electron"


def test_without_a_gain_the_frame_stays_in_adu_and_says_so():
    one = noisy(12, 1000, 30, unit="adu")
    out = calibrate.gain(one, None)
    np.testing.assert_array_equal(out.data, one.data)
    assert (out.unit, out.header["FLGAIN"]) == ("adu", "unknown")


# --- Bias, dark, flat -----------------------------------------------------------------------------------------------
def test_bias_agrees_with_ccdproc():
    import ccdproc

    light, master = noisy(13, 1000, 30), noisy(14, 300, 3)
    same(calibrate.bias(light, master), ccdproc.subtract_bias(ccd(light), ccd(master)))


def test_a_dark_of_the_same_exposure_agrees_with_ccdproc():
    import ccdproc

    light, master = noisy(15, 1000, 30), noisy(16, 350, 4)
    theirs = ccdproc.subtract_dark(
        ccd(light), ccd(master), dark_exposure=60 * u.s, data_exposure=60 * u.s, exposure_unit=u.s, scale=False
    )
    same(calibrate.dark(light, master), theirs)


@pytest.mark.parametrize("k", [0.5, 1.7])
def test_a_scaled_dark_with_its_bias_in_it_agrees_with_ccdproc(k):
    import ccdproc

    light, bias, dark = noisy(17, 1000, 30), noisy(18, 300, 3), noisy(19, 350, 4)
    ours = calibrate.dark(calibrate.bias(light, bias, 1 - k), dark, k)
    current = ccdproc.subtract_bias(ccd(dark), ccd(bias))
    theirs = ccdproc.subtract_dark(
        ccdproc.subtract_bias(ccd(light), ccd(bias)),
        current,
        dark_exposure=60 * u.s,
        data_exposure=60 * k * u.s,
        exposure_unit=u.s,
        scale=True,
    )
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-5)
    variance = light.sigma**2 + (1 - k) ** 2 * bias.sigma**2 + k**2 * dark.sigma**2
    np.testing.assert_allclose(ours.sigma, np.sqrt(variance), rtol=1e-5)


def test_flat_agrees_with_ccdproc():
    import ccdproc

    light, master = noisy(20, 1000, 30), noisy(21, 1.0, 0.05, unit="")
    theirs = ccdproc.flat_correct(ccd(light), ccd(master), norm_value=1)
    same(calibrate.flat(light, master), theirs)


def test_where_the_response_is_too_low_the_value_comes_from_its_neighbours():
    response = np.ones((9, 9))
    response[4, 4] = 1e-6
    master = frame(response, 0.01, masked((9, 9), (4, 4, Mask.LOW_FLAT)), "")
    out = calibrate.flat(frame(np.where(response < 1, 0, 500.0), 10.0, unit="electron"), master)
    assert out.data[4, 4] == 500
    assert out.mask[4, 4] == Mask.LOW_FLAT | Mask.INTERPOLATED
    assert np.isfinite(out.sigma).all()


STEPS = {
    "bias": lambda one, master: calibrate.bias(one, master),
    "dark": lambda one, master: calibrate.dark(one, master),
    "flat": lambda one, master: calibrate.flat(one, master),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_missing_master_leaves_the_pixels_and_says_so(step):
    one = noisy(22, 1000, 30)
    out = STEPS[step](one, None)
    np.testing.assert_array_equal(out.data, one.data)
    np.testing.assert_array_equal(out.sigma, one.sigma)
    assert out.header[f"FL{step.upper()}"] is False


@pytest.mark.parametrize("step", STEPS)
def test_a_master_of_another_size_is_refused_with_both_sizes(step):
    with pytest.raises(ValueError, match=f"master {step} is 20x10 but the frame is 50x40: same binning"):
        STEPS[step](noisy(23, 1000, 30), noisy(24, 1, 0.1, (10, 20)))


@pytest.mark.parametrize("step", ["bias", "dark"])
def test_a_master_of_another_unit_is_refused(step):
    with pytest.raises(ValueError, match=f"master {step} is in adu but the frame is in electron"):
        STEPS[step](noisy(25, 1000, 30), noisy(26, 300, 3, unit="adu"))


@pytest.mark.parametrize("step", STEPS)
def test_a_step_keeps_the_frames_bits_adds_the_masters_and_changes_no_input(step):
    light = noisy(27, 1000, 30).with_(mask=masked((40, 50), (5, 5, Mask.SATURATED), (7, 7, Mask.NO_DATA)))
    master = noisy(28, 1.0, 0.01, unit="electron").with_(mask=masked((40, 50), (5, 5, Mask.BAD), (9, 9, Mask.BAD)))
    before = [array.copy() for one in (light, master) for array in (one.data, one.sigma, one.mask)]
    out = STEPS[step](light, master)
    replaced = Mask.INTERPOLATED if step == "flat" else 0
    expected = masked(
        (40, 50), (5, 5, Mask.SATURATED | Mask.BAD | replaced), (9, 9, Mask.BAD | replaced), (7, 7, Mask.NO_DATA)
    )
    np.testing.assert_array_equal(out.mask, expected)
    after = [array for one in (light, master) for array in (one.data, one.sigma, one.mask)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_every_step_stays_in_single_precision():
    one, master = noisy(28, 1000.0, 5.0, (20, 24), "adu"), noisy(29, 1.0, 0.01, (20, 24))
    one = calibrate.gain(calibrate.deviation(one, GAIN, READ_NOISE, 300.0), GAIN)
    one = calibrate.flat(calibrate.dark(calibrate.bias(one, master, 0.5), master, 0.5), master)
    assert (one.data.dtype, one.sigma.dtype, one.mask.dtype) == (np.float32, np.float32, np.uint8)


# --- Replacing values -----------------------------------------------------------------------------------------------
def plane(shape=(30, 30)):
    y, x = np.indices(shape)
    return (100 + 3 * y + 2 * x).astype(np.float32)


@pytest.mark.parametrize("bit", ["BAD", "COSMIC_RAY", "LOW_FLAT"])
def test_a_flagged_value_on_a_plane_is_replaced_by_the_planes(bit):
    data = plane()
    data[15, 15] = 1e5
    out = calibrate.interpolate(frame(data, 1.0, masked(data.shape, (15, 15, BIT[bit]))))
    assert out.data[15, 15] == plane()[15, 15]
    assert out.mask[15, 15] == BIT[bit] | Mask.INTERPOLATED


def test_only_flagged_values_change():
    data = plane()
    out = calibrate.interpolate(frame(data, 1.0, masked(data.shape, (15, 15, Mask.BAD), (3, 3, Mask.SATURATED))))
    data[15, 15] = out.data[15, 15]
    np.testing.assert_array_equal(out.data, data)
    assert out.mask[3, 3] == Mask.SATURATED


def test_other_flagged_values_do_not_count_as_neighbours():
    data, mask = plane(), np.zeros((30, 30), np.uint8)
    data[14:17, 15], mask[14:17, 15] = 1e5, Mask.COSMIC_RAY
    out = calibrate.interpolate(frame(data, 1.0, mask))
    np.testing.assert_allclose(out.data[14:17, 15], plane()[14:17, 15], atol=3)


def test_a_blob_is_filled_from_further_out_and_its_heart_left():
    data, mask = np.full((40, 40), 100, np.float32), np.zeros((40, 40), np.uint8)
    data[10:17, 10:17], mask[10:17, 10:17] = 1e5, Mask.BAD
    data[20:32, 20:32], mask[20:32, 20:32] = 1e5, Mask.BAD
    out = calibrate.interpolate(frame(data, 1.0, mask))
    np.testing.assert_array_equal(out.data[10:17, 10:17], 100)
    assert out.data[26, 26] == 1e5 and out.mask[26, 26] == Mask.BAD


def test_a_corner_is_replaced_from_the_inside():
    data = np.full((8, 8), 100, np.float32)
    data[0, 0] = 0
    assert calibrate.interpolate(frame(data, 1.0, masked((8, 8), (0, 0, Mask.BAD)))).data[0, 0] == 100


def test_where_there_is_no_data_nothing_is_invented():
    data = plane()
    data[5, 5] = np.nan
    out = calibrate.interpolate(frame(data, 1.0, masked(data.shape, (5, 5, Mask.NO_DATA), (5, 6, Mask.BAD))))
    assert np.isnan(out.data[5, 5]) and out.mask[5, 5] == Mask.NO_DATA
    assert np.isfinite(out.data[5, 6])


@pytest.mark.parametrize("master", [None, frame(np.ones((9, 9)), 0.01)])
def test_pixels_without_data_end_as_nan(master):
    light = frame(np.full((9, 9), 100.0), 3.0, masked((9, 9), (4, 4, Mask.NO_DATA)))
    out = calibrate.flat(light, master)
    assert np.argwhere(np.isnan(out.data)).tolist() == np.argwhere(np.isnan(out.sigma)).tolist() == [[4, 4]]


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (40, 57)])
def test_replaced_values_are_the_medians_of_the_good_around_them(shape):
    rng = np.random.default_rng(31)
    one = noisy(32, 100, 10, shape)
    mask = np.where(rng.random(shape) < 0.4, rng.choice(np.array([1, 2, 4, 16], np.uint8), shape), 0).astype(np.uint8)
    mask[10:22, 10:22] = Mask.BAD  # the middle of it sees nothing good
    out = calibrate.interpolate(one.with_(mask=mask))
    good = np.where(mask & Mask.UNUSABLE, np.nan, one.data)
    for y, x in np.argwhere(mask & (Mask.BAD | Mask.COSMIC_RAY)):
        windows = [good[max(y - r, 0) : y + r + 1, max(x - r, 0) : x + r + 1] for r in (2, 4)]
        found = [np.nanmedian(window) for window in windows if np.isfinite(window).any()]
        assert out.data[y, x] == pytest.approx(found[0] if found else one.data[y, x], rel=1e-6)
        assert bool(out.mask[y, x] & Mask.INTERPOLATED) == bool(found)
    untouched = (mask & (Mask.BAD | Mask.COSMIC_RAY)) == 0
    np.testing.assert_array_equal(out.data[untouched], one.data[untouched])


def test_a_step_changes_nothing_of_the_frame_that_it_is_given():
    light = noisy(33, 1000, 30).with_(mask=masked((40, 50), (3, 4, Mask.BAD)))
    flat = noisy(34, 1.0, 0.01).with_(mask=masked((40, 50), (7, 8, Mask.LOW_FLAT)), unit="")
    before = [np.copy(part) for one in (light, flat) for part in (one.data, one.sigma, one.mask)]
    calibrate.flat(calibrate.bias(light, noisy(35, 300, 3)), flat)
    after = [part for one in (light, flat) for part in (one.data, one.sigma, one.mask)]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
