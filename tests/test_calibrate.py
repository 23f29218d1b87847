"""The steps from raw to calibrated. Truth: closed forms, injected noise and hits, ccdproc on the same arrays."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from firstlight import calibrate
from firstlight.frame import Frame, Mask

GAIN, READ_NOISE = 0.8, 5.0
BIT = {name: bit for bit, name in Mask.NAMES.items()}


def frame(data, sigma=None, mask=None, unit="adu", **cards):
    data = np.asarray(data, np.float32)
    sigma = None if sigma is None else np.broadcast_to(np.float32(sigma), data.shape).copy()
    return Frame(data, fits.Header(cards), sigma, mask, unit)


def ccd(one):
    sigma = None if one.sigma is None else StdDevUncertainty(one.sigma.astype(float))
    return CCDData(one.data.astype(float), unit=one.unit or u.one, uncertainty=sigma, mask=one.mask != 0)


def noisy(seed, level, sigma, shape=(40, 50), unit="electron"):
    rng = np.random.default_rng(seed)
    return frame(rng.normal(level, sigma, shape), rng.uniform(0.8, 1.2, shape) * sigma, unit=unit)


def masked(shape, *places):
    """A mask with (y, x, bit) set."""
    mask = np.zeros(shape, np.uint8)
    for y, x, bit in places:
        mask[y, x] |= bit
    return mask


def same(ours, theirs):
    np.testing.assert_allclose(ours.data, theirs.data, rtol=2e-6)
    np.testing.assert_allclose(ours.sigma, theirs.uncertainty.array, rtol=2e-6)


# --- Trim -----------------------------------------------------------------------------------------------------------
def with_overscan():
    """A frame of 30x20 whose last 6 columns are overscan, with a level that changes from row to row."""
    rng = np.random.default_rng(3)
    data = rng.normal(0, 2, (20, 30)) + 300 + 3 * np.arange(20)[:, None]
    data[:, :24] += 1000
    return data


def test_overscan_in_columns_and_trim_agree_with_ccdproc():
    import ccdproc

    data = with_overscan()
    ours = calibrate.trim(frame(data), None, (slice(0, 20), slice(25, 30)), (slice(2, 18), slice(1, 24)))
    raw = CCDData(data.astype(np.float32), unit="adu")
    flat = ccdproc.subtract_overscan(raw, fits_section="[26:30,1:20]", overscan_axis=1, median=True)
    theirs = ccdproc.trim_image(flat, fits_section="[2:24,3:18]")
    np.testing.assert_allclose(ours.data, theirs.data, atol=1e-3)


def test_overscan_in_rows_agrees_with_ccdproc():
    import ccdproc

    data = with_overscan().T
    ours = calibrate.trim(frame(data), None, (slice(25, 30), slice(0, 20)), (slice(0, 24), slice(0, 20)))
    raw = CCDData(data.astype(np.float32), unit="adu")
    flat = ccdproc.subtract_overscan(raw, fits_section="[1:20,26:30]", overscan_axis=0, median=True)
    theirs = ccdproc.trim_image(flat, fits_section="[1:20,1:24]")
    np.testing.assert_allclose(ours.data, theirs.data, atol=1e-3)


def test_rows_that_the_overscan_does_not_reach_get_its_median_level():
    data = np.full((10, 12), 1000.0)
    data[2:9, 8:] = 100 + np.arange(7)[:, None]
    out = calibrate.trim(frame(data), None, (slice(2, 9), slice(8, 12)))
    np.testing.assert_array_equal(out.data[[0, 1, 9], 0], 1000 - 103)
    np.testing.assert_array_equal(out.data[2:9, 0], 1000 - 100 - np.arange(7))


def test_saturation_is_judged_on_raw_values_and_grown_by_one_pixel():
    data = np.full((9, 12), 1000.0)
    data[:, 8:] = 600
    data[4, 3], data[1, 6] = 5000, 4999
    out = calibrate.trim(frame(data), 5000, (slice(0, 9), slice(8, 12)), (slice(0, 9), slice(0, 8)))
    expected = np.zeros((9, 8), bool)
    expected[3:6, 2:5] = True
    np.testing.assert_array_equal(out.mask == Mask.SATURATED, expected)
    np.testing.assert_array_equal(out.mask != 0, expected)
    assert out.header["SATURATE"] == 5000


def test_saturation_beyond_the_cut_still_marks_its_neighbour_inside():
    data = np.full((6, 6), 100.0)
    data[2, 0] = 65535
    out = calibrate.trim(frame(data), 65535, None, (slice(0, 6), slice(1, 6)))
    np.testing.assert_array_equal(np.flatnonzero(out.mask[:, 0]), [1, 2, 3])


def test_without_a_known_saturation_nothing_is_marked():
    assert not calibrate.trim(frame(np.full((4, 4), 65535.0))).mask.any()


def test_cutting_moves_the_reference_pixel_with_the_stars():
    one = frame(np.zeros((10, 20)), CRPIX1=10.5, CRPIX2=4.0)
    out = calibrate.trim(one, region=(slice(2, 10), slice(5, 20)))
    assert (out.header["CRPIX1"], out.header["CRPIX2"]) == (5.5, 2.0)
    assert one.header["CRPIX1"] == 10.5


@pytest.mark.parametrize("value", ["512.0", fits.card.Undefined()])
def test_a_reference_pixel_that_is_not_a_number_costs_no_frame(value):
    out = calibrate.trim(frame(np.zeros((10, 20)), CRPIX1=value), region=(slice(2, 10), slice(5, 20)))
    assert out.shape == (8, 15)


def test_sections_of_the_raw_frame_do_not_outlive_the_cut():
    out = calibrate.trim(
        frame(np.zeros((4, 4)), TRIMSEC="[1:3,1:4]", BIASSEC="[4:4,1:4]"), region=(slice(0, 4), slice(0, 3))
    )
    assert not {"TRIMSEC", "BIASSEC"} & set(out.header)


@pytest.mark.parametrize("which, what", [("region", "trim section"), ("overscan", "overscan section")])
def test_a_section_outside_of_the_frame_is_named_with_a_way_out(which, what):
    with pytest.raises(
        ValueError, match=rf"{what} \[3:21,1:10\] does not fit the frame of 20x10: give cameras: trim, overscan"
    ):
        calibrate.trim(frame(np.zeros((10, 20))), **{which: (slice(0, 10), slice(2, 21))})


def test_an_earlier_mask_is_cut_along():
    out = calibrate.trim(
        frame(np.zeros((4, 5)), mask=masked((4, 5), (1, 3, Mask.NO_DATA))), region=(slice(1, 4), slice(2, 5))
    )
    np.testing.assert_array_equal(out.mask, masked((3, 3), (0, 1, Mask.NO_DATA)))


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
    one, master = frame(with_overscan()), noisy(29, 1.0, 0.01, (20, 24))
    one = calibrate.trim(one, 60000, (slice(0, 20), slice(24, 30)), (slice(0, 20), slice(0, 24)))
    one = calibrate.gain(calibrate.deviation(one, GAIN, READ_NOISE, 300.0), GAIN)
    one = calibrate.cosmic_ray(one, 0.0, "laplacian")
    one = calibrate.flat(calibrate.dark(calibrate.bias(one, master, 0.5), master, 0.5), master)
    assert (one.data.dtype, one.sigma.dtype, one.mask.dtype) == (np.float32, np.float32, np.uint8)


# --- Cosmic rays ----------------------------------------------------------------------------------------------------
def field(fwhm, seed=30, shape=(200, 200), sky=200.0, hits=40, flux=60000):
    """A frame (electron, minus nothing) of Gaussian stars on a lattice and single-pixel hits between them.

    Returns the frame, where the hits are, where the stars are (within 2 FWHM, and the frame's edge).
    """
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    light, stars = np.full(shape, sky), np.zeros(shape, bool)
    for cy in np.arange(25, 190, 50):
        for cx in np.arange(25, 190, 50):
            distance = np.hypot(y - cy - rng.uniform(-0.5, 0.5), x - cx - rng.uniform(-0.5, 0.5))
            width = fwhm / 2.3548
            light += flux / (2 * np.pi * width**2) * np.exp(-(distance**2) / 2 / width**2)
            stars |= distance < 2 * fwhm
    sigma = np.sqrt(light + READ_NOISE**2)
    data = light + rng.normal(0, 1, shape) * sigma
    struck = np.zeros(shape, bool)
    stars[:4] = stars[-4:] = stars[:, :4] = stars[:, -4:] = True  # the methods need some pixels around a hit
    free = rng.permutation(np.argwhere(~stars))[:hits]
    struck[tuple(free.T)] = True
    data[struck] += 3000
    return frame(data, sigma, unit="electron"), struck, stars


@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_hits_are_found(method):
    one, struck, _ = field(3.0)
    out = calibrate.cosmic_ray(one, method=method, fwhm=3.0)
    flagged = (out.mask & Mask.COSMIC_RAY) != 0
    assert flagged[struck].all()
    assert out.header["NCOSMIC"] == flagged.sum()


@pytest.mark.parametrize("fwhm", [1.6, 2.0, 2.6, 4.0])
def test_stars_of_any_sharpness_are_no_hits(fwhm):
    one, _, stars = field(fwhm, hits=0)
    out = calibrate.cosmic_ray(one, fwhm=fwhm)
    assert not (out.mask[stars] & Mask.COSMIC_RAY).any()


def test_quiet_sky_has_hardly_a_false_hit():
    one, _, stars = field(3.0, hits=0)
    assert (calibrate.cosmic_ray(one, fwhm=3.0).mask[~stars] != 0).mean() < 1e-4


def test_laplacian_hits_are_ccdprocs():
    import ccdproc

    one, struck, _ = field(3.0)
    ours = calibrate.cosmic_ray(one, sigclip=4.5, sigfrac=0.3, objlim=5.0)
    theirs = ccdproc.cosmicray_lacosmic(
        CCDData(one.data, unit="electron"),
        sigclip=4.5,
        sigfrac=0.3,
        objlim=5.0,
        gain=1.0,
        gain_apply=False,
        invar=one.sigma**2,
        satlevel=np.inf,
        niter=4,
        cleantype="medmask",
    )
    assert theirs.mask.sum() >= struck.sum()
    np.testing.assert_array_equal((ours.mask & Mask.COSMIC_RAY) != 0, theirs.mask)


@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_hits_are_looked_for_above_the_pedestal(method):
    one, struck, _ = field(3.0)
    hot = np.zeros(one.shape, np.float32)
    hot[10::20, 10::20] = 5000
    out = calibrate.cosmic_ray(one.with_(data=one.data + hot), hot, method=method, fwhm=3.0)
    clear = (hot > 0) & ~struck
    assert not (out.mask[clear] & Mask.COSMIC_RAY).any()


@pytest.mark.parametrize("bit", ["SATURATED", "BAD", "NO_DATA"])
@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_what_is_flagged_already_is_no_hit(method, bit):
    one, struck, _ = field(3.0)
    mask = np.where(struck, np.uint8(BIT[bit]), np.uint8(0))
    out = calibrate.cosmic_ray(one.with_(mask=mask), method=method, fwhm=3.0)
    np.testing.assert_array_equal(out.mask[struck], BIT[bit])


@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_hits_beside_bad_pixels_are_found(method):
    one, struck, _ = field(3.0)
    bad = np.roll(struck, 1, axis=1) & ~struck
    data = np.where(bad, 30000, one.data).astype(np.float32)
    out = calibrate.cosmic_ray(
        one.with_(data=data, mask=np.where(bad, np.uint8(Mask.BAD), np.uint8(0))), method=method, fwhm=3.0
    )
    assert (out.mask[struck] == Mask.COSMIC_RAY).all()
    assert (out.mask[bad] == Mask.BAD).all()
    np.testing.assert_array_equal(out.data, data)


def test_values_stay_until_the_flat_and_are_replaced_there_once():
    one, struck, _ = field(3.0)
    found = calibrate.cosmic_ray(one, fwhm=3.0)
    np.testing.assert_array_equal(found.data, one.data)
    out = calibrate.flat(found, None)
    assert np.abs(out.data[struck] - 200).max() < 60
    assert (out.mask[struck] == Mask.COSMIC_RAY | Mask.INTERPOLATED).all()


def test_early_replaces_at_once():
    one, struck, _ = field(3.0)
    out = calibrate.cosmic_ray(one, fwhm=3.0, replace="early")
    assert np.abs(out.data[struck] - 200).max() < 60


def test_method_none_finds_nothing():
    one, _, _ = field(3.0)
    assert calibrate.cosmic_ray(one, method="none") is one


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="cosmic_ray method 'lacosmic': laplacian, median or none?"):
        calibrate.cosmic_ray(noisy(31, 100, 10), method="lacosmic")


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
