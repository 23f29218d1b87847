"""Clipped combination in bounded memory. Truth: closed forms, simulated draws, ccdproc.combine on the same piles."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.stats import mad_std
from firstlight import clipping, estimate, pile
from firstlight.pile import ABSENT, GOOD, POOR, Pile, combine

SHAPE = (6, 9)


def piled(values, sigma=1e-6, flags=None, memory=500e6):
    """A pile of values (n, ny, nx); sigma and flags for all, or one for each value."""
    values = np.asarray(values, np.float32)
    sigma = np.broadcast_to(np.float32(sigma), values.shape)
    flags = np.broadcast_to(np.uint8(GOOD) if flags is None else np.asarray(flags, np.uint8), values.shape)
    held = Pile(values.shape[1:], len(values), memory)
    for layers in zip(values, sigma, flags, strict=True):
        held.add(*layers)
    return held


def pixel(values, sigma=1e-6, flags=None, **how):
    """One pixel's values combined: (data, sigma, count)."""
    column = np.asarray(values, np.float32)[:, None, None]
    sigma, flags = (np.asarray(x)[:, None, None] if np.ndim(x) else x for x in (sigma, flags))
    return tuple(float(array[0, 0]) for array in combine(piled(column, sigma, flags), **how))


def night(n=12, seed=1, shape=(20, 30)):
    """Images of noise 10 around 1000 with a hit in every tenth pixel of each."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1000, 10, (n, *shape)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] += 500
    return values


def ccdprocs(values, **how):
    import ccdproc

    images = [CCDData(image.astype(float), unit="adu") for image in values]
    return np.ma.filled(ccdproc.combine(images, **how).data, np.nan)


# --- ccdproc as the reference ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["median", "average", "sum"])
def test_without_rejection_ccdproc_agrees(method):
    ours, _, count = combine(piled(night()), method, "none")
    np.testing.assert_allclose(ours, ccdprocs(night(), method=method), rtol=1e-6)
    assert (count == 12).all()


@pytest.mark.parametrize("method", ["median", "average"])
@pytest.mark.parametrize("low, high", [(3, 3), (2, 5)])
def test_sigma_clipping_once_is_ccdprocs(method, low, high):
    ours, _, _ = combine(piled(night()), method, "sigclip", low, high, iterations=1)
    clip = {"sigma_clip_low_thresh": low, "sigma_clip_high_thresh": high}
    functions = {"sigma_clip_func": np.ma.median, "sigma_clip_dev_func": mad_std}
    theirs = ccdprocs(night(), method=method, sigma_clip=True, **clip, **functions)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_leaving_out_ranks_is_ccdprocs_clipping_of_extrema():
    ours, _, count = combine(piled(night()), "average", "extrema", nlow=1, nhigh=3)
    theirs = ccdprocs(night(), method="average", clip_extrema=True, nlow=1, nhigh=3)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert (count == 8).all()


def test_limits_of_the_values_are_ccdprocs_minmax_clipping():
    ours, _, count = combine(piled(night()), "average", "minmax", low=985, high=1100)
    theirs = ccdprocs(night(), method="average", minmax_clip=True, minmax_clip_min=985, minmax_clip_max=1100)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_array_equal(count, ((night() >= 985) & (night() <= 1100)).sum(axis=0))


BIG = (100, 150)


def ccdprocs_clipped(values, method, weights=None, iterations=1, **clip):
    """What ccdproc makes of a pile with its clipping repeated, and the number of values that count."""
    from ccdproc import Combiner

    combiner = Combiner([CCDData(image.astype(float), unit="adu") for image in values])
    for _ in range(iterations):
        for name, arguments in clip.items():
            getattr(combiner, name)(**arguments)
        combiner.data_arr.data[combiner.data_arr.mask] = np.nan  # it looks at masked values again otherwise
    combiner.weights = weights
    combined = getattr(combiner, f"{method}_combine")()
    return np.asarray(combined.data), (~combiner.data_arr.mask).sum(axis=0)


def differing(ours, theirs):
    """Share of pixels that differ by more than 1e-6 of the value."""
    return np.mean(np.abs(ours - theirs) > 1e-6 * np.abs(theirs))


SIGCLIP = {"low_thresh": 3, "high_thresh": 2.5, "func": "median", "dev_func": "mad_std"}


@pytest.mark.parametrize("method", ["median", "average", "sum"])
@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({"clip": "sigclip", "low": 3, "high": 2.5, "iterations": 3}, {"sigma_clipping": SIGCLIP, "iterations": 3}),
        ({"clip": "extrema", "nlow": 2, "nhigh": 1}, {"clip_extrema": {"nlow": 2, "nhigh": 1}}),
        ({"clip": "minmax", "low": 985, "high": 1100}, {"minmax_clipping": {"min_clip": 985, "max_clip": 1100}}),
    ],
)
@pytest.mark.parametrize("n", [5, 12])
@pytest.mark.filterwarnings("ignore")  # what numpy says of pixels in which ccdproc leaves nothing
def test_every_method_and_clipping_is_ccdprocs(method, ours, theirs, n):
    values = night(n, 3, BIG)
    expected, left = ccdprocs_clipped(values, method, **theirs)
    data, _, count = combine(piled(values), method, **ours)
    some = left > 0
    if method == "sum":  # where values are missing ours is the sum as of all of them
        expected = expected * n / np.maximum(left, 1)
    assert differing(data[some], expected[some]) <= 1e-5
    assert np.mean(count != left) <= 1e-5


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 12)])
def test_weights_and_scales_are_ccdprocs(weights):
    values, scales = night(12, 4, BIG), np.linspace(0.8, 1.3, 12)
    theirs = ccdprocs(values, method="average", weights=weights, scale=list(scales))
    ours, _, _ = combine(piled(values), "average", "none", weights=weights, scales=scales)
    assert differing(ours, theirs) <= 1e-5


def test_weights_count_only_for_values_that_were_not_clipped():
    values, weights = night(12, 5, BIG), np.linspace(0.5, 2, 12)
    outside = (values < 985) | (values > 1100)
    theirs = np.ma.average(np.ma.array(values.astype(float), mask=outside), axis=0, weights=weights)
    ours, _, _ = combine(piled(values), "average", "minmax", 985, 1100, weights=weights)
    assert differing(ours, theirs) <= 1e-5


def test_clipping_sees_scaled_values():
    values, scales = night(12, 6, BIG), np.linspace(0.5, 2, 12)
    brought, _, _ = combine(piled(values * scales[:, None, None].astype(np.float32)), "average", "sigclip")
    ours, _, _ = combine(piled(values), "average", "sigclip", scales=scales)
    assert differing(ours, brought) <= 1e-5


# --- The quick way against the plain one ------------------------------------------------------------------------------
def plain(values, sigma, flags, method, clip, low, high, iterations, weights):
    """What `combine_observed` gives, with every pixel gone through in full."""
    good = clipping.reject(values, sigma, flags == GOOD, clip, low, high, iterations)
    pieces = estimate.of_good(values, sigma, good, flags < ABSENT, method, weights)
    n, shape = len(values), values.shape[1:]
    more = estimate.observed(*(array.reshape(n, -1) for array in (values, sigma, good)))
    return *pieces, *(piece.reshape(shape) for piece in more)


def nasty(n, seed=1, shape=(31, 37)):
    """Values, sigmas and flags (n, ny, nx): noise, hits, equal values, huge ones, sigmas of 0, pixels that few know."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1000, 10, (n, *shape)).astype(np.float32)
    values[rng.random(values.shape) < 0.05] += 400
    values[:, :3] = 7
    values[:, 4] *= np.float32(1e15)
    sigma = rng.uniform(5, 15, values.shape).astype(np.float32)
    sigma[:, 4] *= np.float32(1e15)
    sigma[:, 6:9] = 0
    sigma[:, 9:15] = 8
    flags = np.zeros(values.shape, np.uint8)
    flags[:, :, :12] = rng.choice([GOOD, GOOD, POOR, ABSENT], flags[:, :, :12].shape)
    flags[:, 20, 20], flags[1:, 20, 21] = ABSENT, POOR
    values[flags == ABSENT] = 0
    return values, sigma, flags


@pytest.mark.parametrize("method", pile.METHODS)
@pytest.mark.parametrize("clip", ["sigclip", "minmax", "none"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 16, 40])
def test_pixels_in_which_all_values_count_give_what_the_plain_way_gives(n, clip, method):
    values, sigma, flags = nasty(n)
    low, high = (985, 1300) if clip == "minmax" else (2.5, 4.0)
    weights = np.linspace(0.3, 1, n)
    ours = pile.combine_observed(piled(values, sigma, flags), method, clip, low, high, 3, weights=weights)
    theirs = plain(values, sigma, flags, method, clip, low, high, 3, weights)
    np.testing.assert_array_equal(ours[2], theirs[2])
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    some = values.max(axis=0) < 1e10  # squares of larger ones are as good as float32 is
    for one, other in zip(ours[3:], theirs[3:], strict=True):
        np.testing.assert_allclose(one[some], other[some], rtol=2e-4, atol=1e-3)


@pytest.mark.parametrize("method", ["median", "average"])
@pytest.mark.parametrize("masked", [0.0, 0.05])
def test_fifteen_frames_with_masks_are_clipped_as_ccdproc_does(method, masked):
    values, rng = night(15, 9, BIG), np.random.default_rng(9)
    mask = rng.random(values.shape) < masked
    from ccdproc import Combiner

    combiner = Combiner(
        [CCDData(image.astype(float), unit="adu", mask=bad) for image, bad in zip(values, mask, strict=True)]
    )
    combiner.data_arr.data[mask] = np.nan  # it looks at masked values otherwise
    combiner.sigma_clipping(low_thresh=3, high_thresh=3, func="median", dev_func="mad_std")
    combiner.data_arr.data[combiner.data_arr.mask] = np.nan
    theirs = np.asarray(getattr(combiner, f"{method}_combine")().data)
    ours, _, count = combine(piled(values, flags=np.where(mask, POOR, GOOD)), method, "sigclip", 3, 3, iterations=1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_array_equal(count, (~combiner.data_arr.mask).sum(axis=0))


@pytest.mark.parametrize("memory", [500e6, 1])
def test_threads_change_no_bit(memory):
    values, sigma, flags = nasty(9, shape=(123, 301))
    one, two = (combine(piled(values, sigma, flags, memory), "average", "sigclip", threads=k) for k in (1, 3))
    for a, b in zip(one, two, strict=True):
        assert a.tobytes() == b.tobytes()


# --- Rejection ------------------------------------------------------------------------------------------------------
def test_a_hit_is_really_clipped():
    data, _, count = pixel([100, 101, 99, 100, 5000], sigma=1.0, method="average", low=4, high=4)
    assert (data, count) == (100, 4)


def test_a_second_round_sees_what_the_first_outlier_hid():
    values = [0.0, 1, 2, 3, 4, 12, 13, 1000]  # 13 and 1000 lie beyond 2 x 1.4826 x 3, then 12 beyond 2 x 1.4826 x 1.5
    assert pixel(values, method="average", low=2, high=2, iterations=1)[::2] == (pytest.approx(22 / 6), 6)
    assert pixel(values, method="average", low=2, high=2, iterations=5)[::2] == (2, 5)


def test_a_value_within_its_own_sigma_stays_however_close_the_others_are():
    values = [100.0, 100, 100, 100, 108]
    assert pixel(values, sigma=3.0, method="average", low=4, high=4)[2] == 5
    assert pixel(values, sigma=1.0, method="average", low=4, high=4)[2] == 4


def test_limits_below_and_above_are_not_mixed_up():
    values = [94.0, 99, 100, 100, 101, 106]
    assert pixel(values, sigma=1.0, method="average", low=10, high=3)[0] == pytest.approx(98.8)
    assert pixel(values, sigma=1.0, method="average", low=3, high=10)[0] == pytest.approx(101.2)


@pytest.mark.parametrize("clip", ["sigclip", "extrema"])
@pytest.mark.parametrize("values", [[7.0], [7.0, 9.0]])
def test_one_or_two_values_survive_sigma_clipping_and_too_few_ranks(clip, values):
    data, _, count = pixel(values, sigma=1.0, method="average", clip=clip, low=3, high=3, nlow=1, nhigh=1)
    assert (data, count) == (np.mean(values), len(values))


def test_equal_values_are_not_rejected():
    assert pixel([5.0] * 6, sigma=0.0, method="average")[2] == 6


def test_rejection_removes_hits_and_leaves_the_noise():
    rng = np.random.default_rng(4)
    clean = rng.normal(1000, 10, (15, 60, 60)).astype(np.float32)
    struck = np.where(rng.random(clean.shape) < 0.02, clean + 2000, clean)
    data, sigma, count = combine(piled(struck, 10.0), "average", "sigclip", 4, 4)
    assert np.mean(data) == pytest.approx(1000, abs=0.2)
    assert np.std((data - 1000) / sigma) == pytest.approx(1, abs=0.04)
    lost = (15 - count).sum() / (struck > 2000).sum()
    assert lost == pytest.approx(1, abs=0.05)


# --- Flags ----------------------------------------------------------------------------------------------------------
def test_poor_values_do_not_count_beside_a_good_one():
    assert pixel([10.0, 20, 900], flags=[GOOD, GOOD, POOR], method="average", clip="none")[::2] == (15, 2)


def test_where_nothing_is_good_the_poor_values_stand_with_count_0():
    assert pixel([10.0, 20, 900], flags=[POOR, POOR, ABSENT], method="average", clip="none")[::2] == (15, 0)


@pytest.mark.parametrize("method", ["average", "median", "sum"])
def test_where_no_image_has_data_there_is_none(method):
    data, sigma, count = pixel([10.0, 20], sigma=1.0, flags=[ABSENT, ABSENT], method=method)
    assert np.isnan(data) and np.isnan(sigma) and count == 0


@pytest.mark.parametrize("method", ["average", "median"])
@pytest.mark.parametrize("clip", pile.CLIPPINGS)
def test_what_is_not_a_number_is_absent_and_spoils_nothing(method, clip):
    how = {"low": 0, "high": 1000} if clip == "minmax" else {"low": 3, "high": 3, "nhigh": 0}
    data, sigma, count = pixel(
        [100.0, np.nan, 102, 104],
        sigma=[1, np.nan, 1, 1],
        flags=[GOOD, ABSENT, GOOD, GOOD],
        method=method,
        clip=clip,
        **how,
    )
    assert (data, count) == (102, 3)
    assert sigma == pytest.approx(np.sqrt(1 / 3 * (1.347 if method == "median" else 1)), rel=1e-4)


def test_a_value_that_is_not_a_number_is_absent_even_if_called_good():
    assert pixel([100.0, np.nan, 102, np.inf], sigma=1.0, method="median")[::2] == (101, 2)


# --- Numbers --------------------------------------------------------------------------------------------------------
def test_an_average_weighs_and_its_sigma_follows():
    values, sigma, weights = [10.0, 20, 40], [1.0, 2, 3], [3, 2, 1]
    data, error, _ = pixel(values, sigma=sigma, method="average", clip="none", weights=weights)
    assert data == pytest.approx((30 + 40 + 40) / 6)
    assert error == pytest.approx(np.sqrt(9 * 1 + 4 * 4 + 1 * 9) / 6)


def test_a_sum_is_as_of_all_images_where_some_are_missing():
    data, sigma, count = pixel([10.0, 12, 5000], sigma=1.0, flags=[GOOD, GOOD, POOR], method="sum", clip="none")
    assert (data, count) == (33, 2)
    assert sigma == pytest.approx(3 * np.sqrt(2) / 2, rel=1e-6)


@pytest.mark.parametrize("values, middle", [([5, 1, 3], 3), ([5, 1, 3, 100], 4), ([2], 2), ([2, 4], 3)])
def test_a_median_is_the_middle_one_or_the_mean_of_two(values, middle):
    assert pixel(values, method="median", clip="none")[0] == middle


@pytest.mark.parametrize("method", ["median", "average", "sum"])
@pytest.mark.parametrize("n", [3, 8, 30])
def test_claimed_sigma_is_the_scatter_of_the_result(method, n):
    values = np.random.default_rng(n).normal(50, 5, (n, 100, 200))
    data, sigma, _ = combine(piled(values, 5.0), method, "none")
    truth = 50 * n if method == "sum" else 50
    assert np.std((data - truth) / sigma) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("n", [3, 4, 5, 9, 30])
@pytest.mark.parametrize("ratio", [2.24, 4.0])
def test_claimed_sigma_of_a_median_of_unequal_values_is_its_scatter(n, ratio):
    sigmas = np.geomspace(1, ratio, n)[:, None, None]
    values = np.random.default_rng(n).normal(50, 1, (n, 150, 200)) * sigmas + 50 * (1 - sigmas)
    data, sigma, _ = combine(piled(values, sigmas), "median", "none")
    assert np.std((data - 50) / sigma) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_observed_scatter_is_that_of_the_values(n):
    values = np.random.default_rng(n).normal(50, 5, (n, 150, 200))
    variance, ratio = pile.combine_observed(piled(values, 4.0), "median", "sigclip", 6, 6)[3:]
    assert np.sqrt(np.median(variance)) == pytest.approx(5, rel=0.02)
    assert np.sqrt(np.median(ratio)) == pytest.approx(1.25, rel=0.02)


def test_one_value_has_no_scatter():
    assert np.isnan(pile.combine_observed(piled(np.ones((1, *SHAPE))))[3]).all()


def test_scales_go_for_sigmas_too():
    data, sigma, _ = combine(piled([[[10.0]], [[30.0]]], 2.0), "average", "none", scales=[3, 1])
    assert (float(data[0, 0]), float(sigma[0, 0])) == (30, pytest.approx(np.sqrt(36 + 4) / 2))


# --- The pile -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("memory", [500e6, 1])
def test_images_are_dropped_and_looked_at_wherever_they_lie(memory):
    values = np.arange(5)[:, None, None] * np.ones((5, *SHAPE))
    held = piled(values, memory=memory)
    held.drop([1, 3])
    held.add(values[1] + 10, values[1] + 1, np.zeros(SHAPE))
    assert held.count == 4
    assert [float(held.image(k)[0][0, 0]) for k in range(4)] == [0, 2, 4, 11]
    assert next(held.strips())[1][:, 0, 0].tolist() == [0, 2, 4, 11]


@pytest.mark.parametrize("memory", [500e6, 1])
def test_flags_can_be_changed(memory):
    held = piled(np.arange(3)[:, None, None] * np.ones((3, *SHAPE)), memory=memory)
    held.drop([0])
    flags = np.zeros(SHAPE, np.uint8)
    flags[2, 3] = POOR
    held.flag(1, flags)
    data, _, count = combine(held, "average", "none")
    assert (data[2, 3], count[2, 3], data[0, 0], count.sum()) == (1, 1, 1.5, 2 * count.size - 1)


def test_more_images_than_expected_go_to_a_file():
    values = night(9)
    held = Pile(values.shape[1:], 2, 20 * 30 * pile.BYTES * 5)
    for image in values:
        held.add(image, np.full_like(image, 10), np.zeros(image.shape))
    assert held._file is not None
    np.testing.assert_array_equal(combine(held)[0], combine(piled(values, 10.0))[0])


# --- Memory ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("clip", pile.CLIPPINGS)
@pytest.mark.parametrize("method", pile.METHODS)
def test_a_limit_of_memory_changes_no_bit(method, clip):
    rng = np.random.default_rng(7)
    values = night(11, 7, (23, 31))
    sigma = rng.uniform(5, 15, values.shape).astype(np.float32)
    flags = rng.choice([GOOD, GOOD, GOOD, POOR, ABSENT], values.shape)
    limits = {"low": 980, "high": 1300} if clip == "minmax" else {"low": 2, "high": 3}
    how = {"method": method, "clip": clip, "weights": rng.uniform(1, 2, 11), **limits}
    whole = combine(piled(values, sigma, flags), **how)
    for memory in (1, 100e3):
        held = piled(values, sigma, flags, memory)
        assert held._file is not None and len(list(held.strips())) > 1
        for a, b in zip(whole, combine(held, **how), strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("method", ["median", "average"])
@pytest.mark.parametrize("megabytes", [20, 60])
def test_the_limit_of_memory_is_kept(method, megabytes):
    shape, n = (500, 400), 20
    image = np.random.default_rng(8).normal(100, 5, shape).astype(np.float32)
    flags = np.zeros(shape, np.uint8)
    tracemalloc.start()
    try:
        with Pile(shape, n, megabytes * 1e6) as held:
            for _ in range(n):
                held.add(image.copy(), image.copy(), flags.copy())
            combine(held, method, "sigclip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < megabytes * 1e6


LARGE = """
import sys, zlib
sys.path.insert(0, {scripts!r})
import numpy as np
from astropy.io import fits
from firstlight import masters
from firstlight.frame import Frame

noise = np.random.default_rng(1).normal(1000, 8, 1 << 21).astype(np.float32)
sigma = np.full((2048, 2048), 8, np.float32)

def frames():
    for number in range(60):
        start = 34567 * number % (1 << 20)
        data = np.resize(noise[start : start + (1 << 20)], (2048, 2048))
        data[7 * number, 31 * number] += 5000
        yield Frame(data, fits.Header(), sigma, None, "electron")

master = masters.master_bias(frames(), 60, float(sys.argv[1]) * 1e6, method="median", clip="sigclip", low=4, high=4)
assert master.header["NCOMBINE"] == 60
print(*(zlib.crc32(part) for part in (master.data, master.sigma, master.mask, master.count)))
# Not ru_maxrss: that begins with the size of the process which started this one.
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024)
"""


def test_60_frames_of_2048x2048_keep_a_limit_of_300_megabytes_and_every_bit():
    if not Path("/proc/self/status").exists():
        pytest.skip("nothing tells the memory of a process here")
    code = LARGE.format(scripts=str(Path(pile.__file__).parents[1]))
    jobs = [
        subprocess.Popen([sys.executable, "-c", code, limit], stdout=subprocess.PIPE, text=True)
        for limit in ("300", "6000")
    ]
    (bits, peak), (free_bits, free_peak) = (job.communicate()[0].splitlines() for job in jobs)
    assert bits == free_bits
    assert float(peak) < 500 < float(free_peak)


# --- Mistakes -------------------------------------------------------------------------------------------------------
def test_an_image_of_another_shape_is_refused_with_both_shapes():
    held = piled(np.zeros((1, *SHAPE)))
    with pytest.raises(ValueError, match=r"image is \(9, 6\) but the pile holds \(6, 9\)"):
        held.add(np.zeros((9, 6)), np.zeros((9, 6)), np.zeros((9, 6)))


@pytest.mark.parametrize(
    "how, sentence",
    [({"method": "mode"}, "method 'mode': median, average, sum"), ({"clip": "kappa"}, "clip 'kappa': sigclip")],
)
def test_an_unknown_way_is_refused_with_those_there_are(how, sentence):
    with pytest.raises(ValueError, match=sentence):
        combine(piled(np.zeros((1, *SHAPE))), **how)


def test_limits_that_keep_nothing_are_refused():
    with pytest.raises(ValueError, match="low is 4.0 and high is 4.0: set both"):
        combine(piled(np.zeros((2, *SHAPE))), clip="minmax", low=4.0, high=4.0)
