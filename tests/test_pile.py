"""Clipped combination in bounded memory. Truth: closed forms, simulated draws, ccdproc.combine on the same piles."""

import tracemalloc

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.stats import mad_std
from firstlight import pile
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
    ours, _, count = combine(piled(night()), "average", "minmax", nlow=1, nhigh=3)
    theirs = ccdprocs(night(), method="average", clip_extrema=True, nlow=1, nhigh=3)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert (count == 8).all()


def test_limits_of_the_values_are_ccdprocs_minmax_clipping():
    ours, _, count = combine(piled(night()), "average", "extrema", low=985, high=1100)
    theirs = ccdprocs(night(), method="average", minmax_clip=True, minmax_clip_min=985, minmax_clip_max=1100)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_array_equal(count, ((night() >= 985) & (night() <= 1100)).sum(axis=0))


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


@pytest.mark.parametrize("clip", ["sigclip", "minmax"])
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
    how = {"low": 0, "high": 1000} if clip == "extrema" else {"low": 3, "high": 3, "nhigh": 0}
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


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 16, 17, 30, 101])
def test_a_medians_variance_is_that_of_simulated_draws(n):
    rng = np.random.default_rng(n)
    draws = rng.normal(0, 1, (n, 60_000 if n < 40 else 20_000)).astype(np.float32)
    truth = np.median(draws, axis=0).var() * n
    assert pile.median_factor(n) == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("method", ["median", "average", "sum"])
@pytest.mark.parametrize("n", [3, 8, 30])
def test_claimed_sigma_is_the_scatter_of_the_result(method, n):
    values = np.random.default_rng(n).normal(50, 5, (n, 100, 200))
    data, sigma, _ = combine(piled(values, 5.0), method, "none")
    truth = 50 * n if method == "sum" else 50
    assert np.std((data - truth) / sigma) == pytest.approx(1, abs=0.02)


# --- Memory ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("clip", pile.CLIPPINGS)
@pytest.mark.parametrize("method", pile.METHODS)
def test_a_limit_of_memory_changes_no_bit(method, clip):
    rng = np.random.default_rng(7)
    values = night(11, 7, (23, 31))
    sigma = rng.uniform(5, 15, values.shape).astype(np.float32)
    flags = rng.choice([GOOD, GOOD, GOOD, POOR, ABSENT], values.shape)
    limits = {"low": 980, "high": 1300} if clip == "extrema" else {"low": 2, "high": 3}
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
