"""Merging where all values count against the plain way that looks at each; what frames take of memory on the way."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from firstlight import combine, honesty, joint, merging, pile, rejection
from firstlight.frame import Frame

SHAPE = (61, 83)
PLANES = ("data", "sigma", "coverage", "weight", "rejected", "difference", "difference_sigma")


def held(n, memory=500e6, seed=1):
    """A pile of noise with hits, poor and absent values, a corner that one frame alone sees and one that none does."""
    rng = np.random.default_rng(seed)
    out = pile.Pile(SHAPE, n, memory)
    for number in range(n):
        data = rng.normal(300, 15, SHAPE).astype(np.float32)
        data[rng.random(SHAPE) < 0.01] += 500
        flags = rng.choice([pile.GOOD, pile.POOR, pile.ABSENT], SHAPE, p=[0.96, 0.03, 0.01]).astype(np.uint8)
        flags[:5, :5] = pile.GOOD if number == 0 else pile.ABSENT
        flags[-5:, -5:], flags[-5:, :5] = pile.ABSENT, pile.POOR
        data[flags == pile.ABSENT] = 0
        out.add(data, rng.uniform(10, 20, SHAPE).astype(np.float32), flags)
    return out


def common(n, weights):
    """Frames that share a third of the noise of their masters."""
    alike = np.tile(np.full((n, n), 0.3) + 0.7 * np.eye(n), (1 + len(honesty.RADII), 1, 1))
    shared = honesty.Shared(alike, np.ones((n, n)), np.full((n, n), 25.0), True)
    return merging.common(shared, weights, np.full(n, 15.0), np.full(n, 0.2))


@pytest.mark.parametrize("method", pile.METHODS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 40])
def test_pixels_in_which_all_values_count_give_what_the_plain_way_gives(n, shared, method):
    weights = np.linspace(0.4, 1, n)
    share = np.random.default_rng(2).uniform(0, 0.4, SHAPE).astype(np.float32) if shared and n > 1 else None
    with held(n) as one:
        survivors = merging.survivors(one, np.linspace(2.5, 3.5, n), rejection.limits(n), False)
        assert survivors.limit > 0
        quick, plain = (
            merging.merged(one, way, method, weights, common(n, weights), share)
            for way in (survivors, replace(survivors, limit=0.0))
        )
    for name in PLANES if n > 1 else PLANES[:5]:
        found, expected = getattr(quick, name), getattr(plain, name)
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-4 if name == "difference" else 0, err_msg=name)
    np.testing.assert_array_equal(quick.lost, plain.lost)


@pytest.mark.parametrize("memory", [500e6, 1])
@pytest.mark.parametrize("threads", [1, 3])
def test_how_the_work_is_cut_up_changes_no_bit(memory, threads):
    n, weights = 6, np.linspace(0.4, 1, 6)

    def merged(memory, threads):
        with held(n, memory) as one:
            survivors = merging.survivors(one, np.full(n, 3.0), rejection.limits(n), True, threads)
            return merging.merged(one, survivors, "average", weights, common(n, weights), None, threads)

    whole, cut = merged(500e6, 1), merged(memory, threads)
    for name in PLANES:
        assert getattr(whole, name).tobytes() == getattr(cut, name).tobytes(), name


@pytest.mark.parametrize("size", [3, 5, 9])
@pytest.mark.parametrize("shape", [(40, 50), (5, 7), (1, 30)])
def test_the_spread_of_an_image_is_that_of_scipys_filters(size, shape):
    from scipy.ndimage import maximum_filter, minimum_filter

    image = np.random.default_rng(size).normal(0, 1, shape).astype(np.float32)
    expected = maximum_filter(image, size) - minimum_filter(image, size)
    np.testing.assert_array_equal(rejection.spread(image, size), expected)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.9])
def test_frames_that_hang_together_are_those_of_scipys_graph(share):
    from scipy.sparse.csgraph import connected_components

    known = np.random.default_rng(4).random((40, 60)) < share
    seen = known.astype(int)
    expected = connected_components(seen @ seen.T >= 2, directed=False)[1]
    found = joint.groups(known, 2)
    np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)


# ---- memory ----------------------------------------------------------------------------------------------------------

LARGE = (900, 1000)


def inputs(n, counted=None):
    """Frames that are made as they are read; `counted` takes down which were."""
    noise = np.random.default_rng(1).normal(300, 20, LARGE).astype(np.float32)
    sigma, mask, common = np.full(LARGE, 20, np.float32), np.zeros(LARGE, np.uint8), np.full(LARGE, 10, np.uint8)

    def read(number):
        if counted is not None:
            counted.append(number)
        data = np.roll(noise, 12345 * number)
        return Frame(data, fits.Header(), sigma.copy(), mask.copy(), "electron", common.copy())

    return [combine.Input(f"f{k}", lambda k=k: read(k), 3.0 + k % 3 * 0.3, 20.0, 60.0) for k in range(n)]


NO_STARS = np.zeros(0, [("x", "f8"), ("y", "f8"), ("fwhm", "f8")])


@pytest.mark.parametrize("n, megabytes", [(8, 90), (8, 130), (20, 100)])
def test_a_stack_keeps_the_limit_of_memory_its_own_planes_included(n, megabytes):
    frames = inputs(n)
    tracemalloc.start()
    try:
        stack = combine.combine(frames, NO_STARS, "f0", scale="none", memory=megabytes * 1e6, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert stack.frame.header["NCOMBINE"] == n
    assert peak < megabytes * 1e6


@pytest.mark.parametrize("megabytes, times", [(150, 1), (80, 2)])
def test_frames_are_read_once_where_memory_holds_them_else_twice(megabytes, times):
    counted = []
    combine.combine(inputs(5, counted), NO_STARS, "f0", scale="none", memory=megabytes * 1e6)
    assert sorted(counted) == sorted(list(range(5)) * times)
