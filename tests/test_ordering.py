"""Order among the values of a pile. Truth: numpy's sort and median, and the plain formula of the deviation."""

import numpy as np
import pytest
from firstlight import ordering


@pytest.mark.parametrize("n", range(1, 12))
def test_a_network_sorts_all_zeros_and_ones_and_so_everything(n):
    every = ((np.arange(2**n) >> np.arange(n)[:, None]) & 1).astype(np.float32)
    np.testing.assert_array_equal(ordering.sort(every), np.sort(every, axis=0))


@pytest.mark.parametrize("n", [1, 2, 5, 13, 15, 31, 60, 64])
def test_sorting_gives_the_bits_of_numpys(n):
    values = np.random.default_rng(n).normal(1000, 10, (n, 37, 451)).astype(np.float32)
    values[np.random.default_rng(1).random(values.shape) < 0.05] = np.inf
    assert ordering.sort(values).tobytes() == np.sort(values, axis=0).tobytes()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 9, 16, 23, 60])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_a_median_of_good_values_is_numpys_masked_median(n, share):
    rng = np.random.default_rng(n)
    values = rng.normal(0, 1, (n, 20, 33)).astype(np.float32)
    good = rng.random(values.shape) >= share
    expected = np.full(values.shape[1:], np.nan, np.float32)
    for place in np.argwhere(good.any(axis=0)):
        at = (slice(None), *place)
        expected[tuple(place)] = np.median(values[at][good[at]])
    np.testing.assert_array_equal(ordering.median(values, good), expected)


def test_more_pixels_than_fit_into_the_cache_are_sorted_alike(monkeypatch):
    values, good = (
        np.random.default_rng(3).normal(1000, 10, (7, 40, 50)).astype(np.float32),
        np.random.default_rng(8).random((7, 40, 50)) > 0.2,
    )
    whole = ordering.median(values, good)
    monkeypatch.setattr(ordering, "chunks", lambda n, pixels, *_: [slice(k, k + 13) for k in range(0, pixels, 13)])
    np.testing.assert_array_equal(ordering.median(values, good), whole)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 15, 16, 31, 33, 60])
@pytest.mark.parametrize("pixels", [7, 3000])
def test_planes_in_order_tell_the_median_and_the_median_deviation(n, pixels):
    values = np.random.default_rng(n).normal(100, 10, (n, pixels)).astype(np.float32)
    values[:, :3] = np.round(values[:, :3], -1)  # equal ones among them
    planes = ordering.ordered(list(values))
    middle = np.median(values, axis=0)
    np.testing.assert_allclose(ordering.middle(planes), middle, rtol=1e-7)
    expected = np.median(np.abs(values - middle), axis=0)
    np.testing.assert_allclose(ordering.deviation(planes, middle), expected, rtol=1e-6)
    np.testing.assert_array_equal(planes, np.sort(values, axis=0) - middle)


@pytest.mark.parametrize("n", [4, 9, 40])
def test_only_the_places_that_are_wanted_need_be_right(n):
    values = np.random.default_rng(n).normal(0, 1, (n, 2000)).astype(np.float32)
    planes = ordering.ordered(values, ordering.middles(n))
    np.testing.assert_allclose(ordering.middle(planes), np.median(values, axis=0), rtol=1e-7)


def test_ordering_leaves_the_values_alone():
    values = np.random.default_rng(1).normal(0, 1, (5, 2000)).astype(np.float32)
    before = values.copy()
    ordering.ordered(list(values))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 1001, 1000])
def test_a_median_of_numbers_is_numpys(n):
    values = np.random.default_rng(n).normal(0, 1, n).astype(np.float32)
    before = values.copy()
    assert ordering.median_of(values) == pytest.approx(float(np.median(before)), rel=1e-6)
    np.testing.assert_array_equal(values, before)
    assert ordering.median_of(values, overwrite=True) == pytest.approx(float(np.median(before)), rel=1e-6)


def test_no_numbers_have_no_median():
    assert np.isnan(ordering.median_of(np.zeros(0)))
