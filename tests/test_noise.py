"""Sigma is a promise: the scatter of pixels about the truth over the claimed sigma is 1, after each step.

Truth: a simulated sensor whose bias, dark current, response and noise are known pixel by pixel.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from firstlight import calibrate, config, pairs, reduce
from firstlight import masters as masters_module
from firstlight.reduce import Reduction
from sensor import EXPOSURE, Detector

NO_HITS = {"cosmic_ray": {"method": "none"}}
SHAPE = (192, 192)


@cache
def sensor(read_noise):
    return Detector(SHAPE, seed=int(10 * read_noise), dark_rate=0.2, gain=1.5, read_noise=read_noise)


@cache
def masters(read_noise, n):
    return sensor(read_noise).masters(n)


def truth_after(step, one, sky, masters_used):
    """What a noiseless light would be after a step: adu before the gain, then electrons."""
    dark = one.dark_rate * EXPOSURE
    electrons = sky * one.response + dark
    if step in ("trim", "deviation"):
        return one.bias + electrons / one.gain
    if step in ("gain", "cosmic_ray"):
        return one.bias * one.gain + electrons
    # With a dark of the same exposure its bias goes with it: the step bias has nothing to do.
    if step == "bias":
        return electrons if "dark" not in masters_used else one.bias * one.gain + electrons
    after_dark = electrons if "dark" not in masters_used else sky * one.response
    return after_dark if step == "dark" else after_dark / one.response


@pytest.mark.parametrize("with_dark", [True, False], ids=["dark", "no dark"])
@pytest.mark.parametrize("n", [3, 30])
@pytest.mark.parametrize("read_noise", [1.5, 7.0])
@pytest.mark.parametrize("sky", [3, 100, 3000, 30000])
def test_claimed_sigma_is_the_scatter_after_each_step(sky, read_noise, n, with_dark):
    one, used = sensor(read_noise), dict(masters(read_noise, n))
    if not with_dark:
        del used["dark"]
    reduction, frame = Reduction(options=NO_HITS, **used), one.frame(float(sky))
    for step in calibrate.STEPS:
        frame = reduce.step(step, frame, reduction)
        if frame.sigma is None:
            continue
        pulls = ((frame.data - truth_after(step, one, sky, used)) / frame.sigma)[frame.mask == 0]
        assert pulls.std() == pytest.approx(1, abs=0.02), step
        assert pulls.mean() == pytest.approx(0, abs=0.1), step


@pytest.mark.parametrize("read_noise", [1.5, 7.0])
@pytest.mark.parametrize("sky", [10, 300])
@pytest.mark.parametrize("dark_rate", [0.02, 0.5])
def test_with_a_dark_and_no_bias_the_dark_currents_noise_is_claimed_too(sky, read_noise, dark_rate):
    one = Detector(SHAPE, seed=3, dark_rate=dark_rate, gain=1.5, read_noise=read_noise)
    reduced = [reduce.reduce(one.frame(0.0), Reduction("dark")) for _ in range(10)]
    made = masters_module.master_dark(iter(reduced), 10, known_level=False)
    out = reduce.reduce(one.frame(float(sky)), Reduction(options=NO_HITS, dark=made))
    expected = sky * one.response
    pulls = ((out.data - expected) / out.sigma)[out.mask == 0]
    # The current differs from pixel to pixel by half; the noise that is claimed is that of the typical one.
    assert pulls.std() == pytest.approx(1, abs=0.02)


def test_with_measured_gain_and_read_noise_sigma_is_the_scatter_as_well():
    one = sensor(7.0)
    bias = [one.raw(0.0, 0.0)[0].astype(np.float32) for _ in range(4)]
    flats = [one.raw(20000.0, 2.0)[0].astype(np.float32) for _ in range(4)]
    found = pairs.detector([bias[:2], bias[2:]], [flats[:2], flats[2:]], np.mean(bias, axis=0), 1 / 12, 65535)
    data, header = one.raw(300.0)
    del header["EGAIN"], header["RDNOISE"]
    frame = reduce.prepare(data, header, {})
    out = reduce.reduce(frame, Reduction(options=NO_HITS, measured=found, **masters(7.0, 30)))
    assert (out.unit, out.header["SIGMASRC"]) == ("electron", "measured")
    pulls = ((out.data - 300) / out.sigma)[out.mask == 0]
    assert pulls.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("bits", [12, 14])
def test_padded_adcs_are_seen_and_their_rounding_is_in_sigma(bits):
    """12 bits padded to 16: the values step by 16, the noise of rounding is 16 / sqrt(12)."""
    step = 2 ** (16 - bits)
    rng = np.random.default_rng(4)
    light = rng.poisson(400, SHAPE) + rng.normal(0, 3.0, SHAPE)
    gain = 2.0 / step  # e- per padded ADU: coarse, 2 e- a step
    data = (np.round(light / gain / step) * step + 16 * step).astype(np.uint16)
    frame = reduce.prepare(data, fits.Header({"EGAIN": gain, "RDNOISE": 3.0}), {})
    assert frame.header["FLADCSTP"] == step
    assert frame.header["FLADCMAX"] == 65536 - step
    out = reduce.step("deviation", frame, Reduction(cameras={"bias_level": 16 * step}))
    assert np.median(out.sigma) == pytest.approx(np.std(data), rel=0.01)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_an_adc_that_uses_all_bits_has_a_step_of_one(dtype):
    data = np.random.default_rng(5).normal(1000, 3, SHAPE).astype(dtype)
    frame = reduce.prepare(data, fits.Header(), {})
    assert frame.header["FLADCSTP"] == 1
    assert frame.header["FLADCMAX"] == np.iinfo(dtype).max


# --- Gain and read noise from pairs ---------------------------------------------------------------------------------
def exposures(gain, read_noise, light, n, shape=(512, 512), seed=6, spoil=False):
    """Frames in ADU of a sensor whose pixels differ by 2 % and that is darker in the corners; levels differ by 10 %."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    response = rng.normal(1, 0.02, shape) * (1 - 0.2 * np.hypot(y - shape[0] / 2, x - shape[1] / 2) / shape[0])
    frames = []
    for number in range(n):
        electrons = rng.poisson(light * response * (1 + 0.1 * (number % 2))) + rng.normal(0, read_noise, shape)
        if spoil:  # hits, and a pixel that flickers in every block
            electrons[rng.integers(0, shape[0], 500), rng.integers(0, shape[1], 500)] += 5000
        frames.append(np.round(electrons / gain + 1000))
    return frames


@pytest.mark.parametrize("spoil", [False, True], ids=["clean", "hits"])
@pytest.mark.parametrize(
    "gain, read_noise, light", [(1.5, 7, 28000), (0.25, 1.5, 8000), (1.34, 16, 20000), (4, 10, 50000)]
)
def test_gain_and_read_noise_from_pairs_are_true_within_their_errors(gain, read_noise, light, spoil):
    bias = exposures(gain, read_noise, 0, 4, spoil=spoil)
    flats = exposures(gain, read_noise, light, 4, seed=7, spoil=spoil)
    found = pairs.detector([bias[:2], bias[2:]], [flats[:2], flats[2:]], np.mean(bias, axis=0), 1 / 12, 65535)
    assert found.gain == pytest.approx(gain, rel=0.01 if spoil else 0.005)
    assert found.read_noise * gain == pytest.approx(read_noise, rel=0.01)
    if not spoil:
        assert abs(found.gain - gain) < 4 * found.gain_error
        assert abs(found.read_noise - read_noise / gain) < 4 * found.read_noise_error


def test_read_noise_below_the_step_of_the_adc_comes_out_without_the_rounding():
    bias = exposures(2.0, 1.6, 0, 4)
    value, error = pairs.read_noise([bias[:2], bias[2:]], 1 / 12)
    assert value * 2.0 == pytest.approx(1.6, rel=0.03)


def test_saturated_parts_of_flats_do_not_count():
    bias, flats = exposures(1.5, 7, 0, 2), exposures(1.5, 7, 36000, 2)
    clipped = [np.minimum(one, 25400) for one in flats]  # the middle of the frame
    assert (clipped[1] == 25400).mean() > 0.2
    assert pairs.detector([bias], [clipped], bias[0].mean(), 1 / 12, 25400).gain == pytest.approx(1.5, rel=0.02)


def test_bias_frames_that_do_not_differ_say_nothing():
    still = np.full((128, 128), 500.0)
    assert pairs.detector([(still, still)], [exposures(1.5, 7, 9000, 2)], 500.0, 1 / 12) == pairs.Measured()


def test_flats_without_light_give_no_gain():
    bias, flats = exposures(1.5, 7, 0, 2), exposures(1.5, 7, 0, 2, seed=9)
    found = pairs.detector([bias], [flats], 1000.0, 1 / 12)
    assert found.gain is None or found.gain_error > 0.2 * found.gain


@pytest.mark.parametrize(
    "stated, measured, error, tolerance, value, by",
    [
        (1.5, 1.45, 0.01, 0.2, 1.5, "stated"),
        (1.5, 1.2, 0.01, 0.2, 1.2, "measured"),
        (1.5, 1.2, 0.2, 0.2, 1.5, "stated"),  # the pairs are too poor to contradict it
        (1.5, 1.2, 0.01, None, 1.5, "stated"),
        (None, 1.2, 0.01, 0.2, 1.2, "measured"),
        (1.5, None, None, 0.2, 1.5, "stated"),
        (None, None, None, 0.2, None, ""),
    ],
)
def test_a_stated_value_stands_unless_pairs_contradict_it(stated, measured, error, tolerance, value, by):
    assert pairs.settle("gain", "e-/ADU", stated, measured, error, tolerance)[:2] == (value, by)


def test_a_stated_value_that_is_not_used_is_named_with_the_way_out():
    said = pairs.settle("gain", "e-/ADU", 100.0, 1.2, 0.01, 0.2)[2]
    assert "gain 100 e-/ADU is stated, but gain 1.2 +- 0.01 e-/ADU measured" in said
    assert "detector: tolerance" in said


# --- What AstroDART got wrong ---------------------------------------------------------------------------------------
def test_the_bias_level_is_not_counted_as_light():
    """Its Poisson term took the whole value in ADU, so sigmas were about twice too large."""
    one = sensor(7.0)
    out = reduce.reduce(one.frame(30.0), Reduction(options=NO_HITS, **masters(7.0, 30)))
    truth = np.sqrt(30 + 0.2 * EXPOSURE + 7.0**2)
    assert np.median(out.sigma) == pytest.approx(truth, rel=0.03)


def test_a_dark_is_subtracted():
    """It had no step for one."""
    one = sensor(7.0)
    out = reduce.reduce(one.frame(30.0), Reduction(options=NO_HITS, **masters(7.0, 30)))
    assert np.median(out.data) == pytest.approx(30, abs=0.3)


@pytest.mark.parametrize("method", ["sigclip", "sigma_clip"])
def test_clipping_that_is_asked_for_is_done(method):
    """It asked its library for a method by a name that this does not know, and nothing was clipped."""
    asked = {"combining_method": "mean", "clipping_method": method, "minclip": 2, "maxclip": 5}
    schema = config.read_schema(Path(config.__file__).parents[2] / "config.schema.yaml")
    options = config.complete({"master_bias": asked}, schema)["master_bias"]
    memory = options.pop("memory") * 1e6
    one = sensor(7.0)
    frames = [reduce.reduce(one.frame(0.0, 0.0), Reduction("bias")) for _ in range(12)]
    clean = masters_module.master_bias(iter(frames), 12, memory, **options)
    struck = frames[3].data.copy()
    struck[50, 60] += 20000
    hit = masters_module.master_bias(
        iter([*frames[:3], frames[3].with_(data=struck), *frames[4:]]), 12, memory, **options
    )
    assert abs(hit.data[50, 60] - clean.data[50, 60]) < 3 * clean.sigma[50, 60]


# --- Blocks of large frames -----------------------------------------------------------------------------------------
def test_large_frames_are_sampled_in_whole_blocks_from_all_over():
    shape = (40 * pairs.BLOCK + 5, 50 * pairs.BLOCK + 9)
    image = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    taken = pairs.sample(image, 300)
    assert taken.shape == (pairs.BLOCK, 300 * pairs.BLOCK) and taken.dtype == np.float32
    corners = [divmod(int(taken[0, n * pairs.BLOCK]), shape[1]) for n in range(300)]
    for n in (0, 7, 299):
        (y, x), block = corners[n], slice(n * pairs.BLOCK, (n + 1) * pairs.BLOCK)
        np.testing.assert_allclose(taken[:, block], image[y : y + pairs.BLOCK, x : x + pairs.BLOCK])
    assert len(set(corners)) == 300
    assert len({y for y, _ in corners}) == 40 and len({x for _, x in corners}) > 40


def test_small_frames_are_looked_at_as_a_whole():
    image = np.zeros((100, 90), np.float32)
    assert pairs.sample(image) is image


def test_the_blocks_of_a_large_frame_tell_the_same_within_the_errors():
    bias, flats = exposures(1.5, 7, 0, 2, (1024, 1024)), exposures(1.5, 7, 28000, 2, (1024, 1024), seed=7)
    bias, flats = ([pairs.sample(one, 512) for one in frames] for frames in (bias, flats))
    found = pairs.detector([bias], [flats], np.mean(bias, axis=0), 1 / 12, 65535)
    assert abs(found.gain - 1.5) < 4 * found.gain_error < 0.02
    assert abs(found.read_noise - 7 / 1.5) < 4 * found.read_noise_error < 0.04
