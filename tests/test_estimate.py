"""What values give, and the variances it has. Truth: simulated draws, scipy's distributions, closed forms."""

import numpy as np
import pytest
from firstlight import estimate


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 16, 17, 30, 101])
def test_a_medians_variance_is_that_of_simulated_draws(n):
    rng = np.random.default_rng(n)
    draws = rng.normal(0, 1, (n, 60_000 if n < 40 else 20_000)).astype(np.float32)
    truth = np.median(draws, axis=0).var() * n
    assert estimate.median_factor(n) == pytest.approx(truth, rel=0.03)


def test_the_median_of_chi_squared_is_scipys():
    from scipy.stats import chi2

    freedoms = [1, 2, 3, 7, 14, 59, 299]
    np.testing.assert_allclose([estimate.median_of_chi_squared(k) for k in freedoms], chi2.median(freedoms), rtol=1e-12)


def test_sample_variances_are_brought_to_the_true_one():
    correction = estimate.chi_correction(4)
    draws = np.random.default_rng(1).normal(0, 3, (4, 100_000))
    assert np.isnan(correction[:2]).all()
    assert np.median(draws.var(axis=0, ddof=1)) * correction[4] == pytest.approx(9, rel=0.01)


def test_equal_values_have_their_own_typical_variance():
    variances = np.full((6, 4), 9, np.float32)
    found = estimate.typical_variance(variances, None, estimate.median_factor(6))
    np.testing.assert_allclose(found, 9, rtol=1e-5)


def test_a_typical_variance_of_some_is_that_of_them_alone():
    variances = np.random.default_rng(2).uniform(1, 9, (6, 50)).astype(np.float32)
    good = np.ones(variances.shape, bool)
    good[4:] = False
    factor = estimate.median_factor(np.full(50, 4))
    np.testing.assert_allclose(
        estimate.typical_variance(variances, good, factor),
        estimate.typical_variance(variances[:4], None, factor),
        rtol=1e-6,
    )


def test_a_sum_of_differences_keeps_the_digits_that_a_sum_would_lose():
    values = np.random.default_rng(3).normal(1e6, 0.5, (60, 500)).astype(np.float32)
    mean = values[0] + estimate.summed(values, np.full(60, 1 / 60), values[0])
    np.testing.assert_allclose(mean, values.mean(axis=0, dtype=float), rtol=1e-7)
