"""What is rejected from piles of simulated frames: outliers, trails, halos; and what is not: sky, stars, nebulae."""

from functools import cache

import numpy as np
import pytest
import simulated_night as sim
from firstlight import honesty, merging, pile, rejection, trails

SHAPE = (320, 352)
READ_NOISE, SKY = 7.0, 300.0
NOISE = float(np.hypot(READ_NOISE, np.sqrt(SKY)))
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
RNG = np.random.default_rng(4)
PLACES = RNG.uniform(5, 315, (2, 150))
FLUXES = 10 ** RNG.uniform(2.8, 6, 150)
SEEING = (2.3, 3.6)


@cache
def starlight(fwhm):
    """Stars (ny, nx) from faint ones to nearly saturated ones, electrons."""
    image = np.zeros(SHAPE)
    sim.paint(image, *PLACES, FLUXES, sim.Profile("moffat", fwhm))
    return image


def exposed(electrons, seed):
    """Data and sigma of a frame."""
    rng = np.random.default_rng(seed)
    data = rng.poisson(electrons) + rng.normal(0, READ_NOISE, SHAPE)
    return data.astype(np.float32), np.sqrt(electrons + READ_NOISE**2).astype(np.float32)


def seeings(n):
    return np.random.default_rng(n).permutation(np.linspace(*SEEING, n))


def stacked(n, light=None, stars=True, search=True, number=1, spread=True, threads=1, memory=500e6):
    """Average of n frames; light (ny, nx) is added to one of them. Returns (merged, fwhm, pile's last flags)."""
    fwhm = seeings(n) if spread else np.full(n, 3.0)
    held = pile.Pile(SHAPE, n, memory)
    for k in range(n):
        image = (starlight(fwhm[k]) if stars else 0) + SKY + (light if k == number and light is not None else 0)
        data, sigma = exposed(np.broadcast_to(image, SHAPE), k)
        held.add(data, sigma, np.where(data > 65000, pile.POOR, pile.GOOD).astype(np.uint8))
    survive = merging.survivors(held, fwhm, rejection.limits(n), search, threads)
    return merging.merged(held, survive, "average", np.ones(n), independent(n), None, threads)


def marks(held, fwhm):
    return trails.mark(held, rejection.centre(held, fwhm), fwhm)


def independent(n):
    """Frames that share nothing."""
    alike = np.tile(np.eye(n), (1 + len(honesty.RADII), 1, 1))
    shared = honesty.Shared(alike, np.zeros((n, n)), np.eye(n), False)
    return merging.common(shared, np.ones(n), np.full(n, NOISE), np.zeros(n))


STARRY = starlight(3.6) > 0.3 * NOISE


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_limits_fit_the_number_of_frames():
    assert [rejection.limits(n).high for n in (2, 5, 6, 15, 16)] == [4, 4, 3.5, 3.5, 3.25]


def test_limits_that_are_given_stay():
    assert rejection.limits(8, low=2.0, high=5.0, iterations=3) == rejection.Limits(2.0, 5.0, 3)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 20])
def test_the_mean_of_a_clean_sky_is_not_biased(n):
    result = stacked(n, stars=False)
    assert abs((result.data.mean() - SKY) / NOISE) < 0.005  # its own error is 0.003 / sqrt(n)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 20])
def test_hardly_a_value_of_a_clean_sky_is_lost(n):
    assert stacked(n, stars=False).rejected.mean() / n < 0.002


@pytest.mark.parametrize("n", [2, 3, 4, 8, 20])
def test_sigma_of_what_is_left_is_its_scatter(n):
    result = stacked(n, stars=False)
    assert np.std((result.data - SKY) / result.sigma) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_hits_are_gone(n):
    light = np.zeros(SHAPE)
    light[::16, ::16] = 5000
    result, clean = (stacked(n, one, stars=False, search=False) for one in (light, None))
    left = ((result.data - clean.data) / clean.sigma)[::16, ::16]
    assert abs(left.mean()) < 0.5 and left.max() < 4


def test_of_two_values_the_noise_of_their_difference_counts():
    values = np.array([[0.0, 0.0], [5.0, 6.0]], np.float32)  # 4 sigma of the difference are 5.66
    good = rejection.clipped(
        values, np.ones((2, 2), np.float32), np.ones((2, 2), bool), np.zeros(2), 0.0, rejection.limits(2)
    )
    np.testing.assert_array_equal(good, [[True, True], [True, False]])


def test_a_deep_frame_is_not_measured_by_its_own_sigma_against_a_soft_median():
    sigmas = np.repeat(np.array([[1.0], [6.0], [6.0]], np.float32), 20000, axis=1)
    values = (np.random.default_rng(1).normal(size=sigmas.shape) * sigmas).astype(np.float32)
    good = np.ones(values.shape, bool)
    kept = rejection.clipped(values, sigmas, good, rejection.middle(values, good), 0.0, rejection.limits(3))
    assert kept[0].mean() > 0.998


def test_values_without_a_centre_find_it():
    values = np.array([[1.0], [2.0], [90.0]], np.float32)
    start = np.array([np.nan], np.float32)
    good = rejection.clipped(
        values, np.ones((3, 1), np.float32), np.ones((3, 1), bool), start, 0.0, rejection.limits(3)
    )
    assert good[:, 0].tolist() == [True, True, False]


# ---- stars -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4, 8, 20])
def test_of_stars_in_changing_seeing_hardly_more_is_rejected_than_of_sky(n):
    lost = stacked(n).rejected[STARRY].sum() / (n * STARRY.sum())
    assert lost < 0.001


@pytest.mark.parametrize("n", [3, 4, 8])
def test_no_frames_light_is_taken_for_foreign_where_only_the_seeing_changes(n):
    held = pile.Pile(SHAPE, n)
    fwhm = seeings(n)
    for k in range(n):
        held.add(*exposed(starlight(fwhm[k]) + SKY, 50 + k), np.zeros(SHAPE, np.uint8))
    marked = trails.mark(held, rejection.centre(held, fwhm), fwhm)
    assert marked.sum() < 1e-4 * n * held.shape[0] * held.shape[1]


def test_allowances_ignore_frames_of_unknown_seeing():
    np.testing.assert_allclose(rejection.allowances([3.0, 0.0, 3.0, 1.5]), [0, 0, 0, 2.25], rtol=1e-6)


def test_of_two_frames_the_one_is_the_others_centre():
    np.testing.assert_allclose(rejection.allowances([2.0, 4.0]), [0.75 * 3, 0.75 * 0.75], rtol=1e-6)


@pytest.mark.parametrize("seeing", [(2.3, 3.6), (3.6, 2.3), (5.0, 8.0), (8.0, 5.0)])
@pytest.mark.parametrize("n", [4, 8])
def test_nothing_is_eaten_from_a_frame_of_seeing_of_its_own(n, seeing):
    """All others have another one, so the centre has theirs; also where stars cover many pixels."""
    fwhm, held = np.array([seeing[0]] * (n - 1) + [seeing[1]]), pile.Pile(SHAPE, n)
    stars = {f: np.zeros(SHAPE) for f in seeing}
    for f, image in stars.items():
        sim.paint(image, *PLACES[:, ::3], FLUXES[::3], sim.Profile("moffat", f))
    for k in range(n):
        held.add(*exposed(stars[fwhm[k]] + SKY, k), np.zeros(SHAPE, np.uint8))
    result = merging.merged(
        held, merging.survivors(held, fwhm, rejection.limits(n), True), "average", np.ones(n), independent(n)
    )
    starry = stars[max(seeing)] > NOISE
    assert result.rejected[starry].sum() / (n * starry.sum()) < 0.0015


def test_a_nebula_in_a_frame_of_wrong_scale_is_not_foreign():
    nebula = 3000 * np.exp(-((COLUMNS - 170) ** 2 + (ROWS - 150) ** 2) / 2 / 40**2)
    held = pile.Pile(SHAPE, 4)
    for k, scale in enumerate((1.0, 1.01, 0.99, 1.0)):
        data, sigma = exposed(nebula + SKY, k)
        held.add((data - SKY) * scale + SKY, sigma, np.zeros(SHAPE, np.uint8))
    assert marks(held, np.full(4, 3.0)).sum() == 0


# ---- trails ----------------------------------------------------------------------------------------------------------


def trail(peak, width, angle, part=False):
    """(light (ny, nx), distance from its axis, where along it there is light); peak in noises, width its FWHM."""
    a = np.radians(angle)
    x, y = COLUMNS - 170, ROWS - 150
    away, along = y * np.cos(a) - x * np.sin(a), y * np.sin(a) + x * np.cos(a)
    lit = np.abs(along) < 60 if part else np.ones(SHAPE, bool)
    return peak * NOISE * np.exp(-0.5 * (away * 2.355 / width) ** 2) * lit, np.abs(away), lit


def blocks(image):
    ny, nx = (side // 8 for side in SHAPE)
    return image[: ny * 8, : nx * 8].reshape(ny, 8, nx, 8).mean(axis=(1, 3))


TRAILS = [
    (3, 2, 17, False),
    (3, 4, 75, False),
    (3, 3, 120, True),
    (6, 3, 0, False),
    (20, 2.5, 45, True),
    (30, 3, 90, False),
    (100, 4, 52, False),
    (100, 2, 8, True),
]


@pytest.mark.parametrize("peak, width, angle, part", TRAILS)
@pytest.mark.parametrize("n", [4, 8])
def test_a_trail_and_its_wings_are_gone(n, peak, width, angle, part):
    light, away, lit = trail(peak, width, angle, part)
    result, clean = stacked(n, light), stacked(n)
    left = np.where(STARRY, np.nan, (result.data - clean.data) / clean.sigma)
    lines = [np.nanmean(left[lit & (away >= d) & (away < d + 1)]) for d in range(12)]
    assert np.abs(lines).max() < 0.4


@pytest.mark.parametrize("peak, width, angle, part", TRAILS)
def test_blocks_along_a_trail_are_as_noisy_as_others(peak, width, angle, part):
    light, away, _ = trail(peak, width, angle, part)
    result = stacked(4, light, stars=False)
    near = blocks(away) < 12
    pulls = blocks(result.data - SKY)[near] * 8 / np.median(result.sigma)
    assert pulls.max() < 5 and pulls.std() < 1.35  # a block that lost a frame of four has 1.15


@pytest.mark.parametrize("peak, width", [(6, 3), (30, 3), (100, 4)])
@pytest.mark.parametrize("n", [2, 3])
def test_few_frames_lose_their_trails_too(n, peak, width):
    light, away, _ = trail(peak, width, 52)
    result, clean = stacked(n, light, stars=False), stacked(n, stars=False)
    left = (result.data - clean.data) / clean.sigma
    assert max(left[(away >= d) & (away < d + 1)].mean() for d in range(12)) < 1.0


def test_clipping_alone_would_leave_a_faint_trail():
    """What the search is for: the tests above are able to see it."""
    light, away, _ = trail(3, 4, 75)
    result, clean = stacked(4, light, stars=False, search=False), stacked(4, stars=False)
    left = (result.data - clean.data) / clean.sigma
    assert max(left[(away >= d) & (away < d + 1)].mean() for d in range(12)) > 1.0


def test_a_trail_costs_little_sky():
    light, away, _ = trail(6, 3, 52)
    result = stacked(4, light, stars=False)
    assert (result.rejected[away > 10] > 0).mean() < 0.003


def test_a_trail_is_followed_across_a_star():
    """Behind a star, where the allowance for seeing hides it, the trail is taken to go on."""
    light, away, _ = trail(6, 3, 90)
    bright = np.zeros(SHAPE)
    sim.paint(bright, np.array([170.0]), np.array([150.0]), np.array([4e5]), sim.Profile("moffat", 3.0))
    held = pile.Pile(SHAPE, 4)
    for k in range(4):
        held.add(*exposed(bright + SKY + (light if k == 1 else 0), k), np.zeros(SHAPE, np.uint8))
    marks(held, np.full(4, 3.0))
    marked = held.image(1)[2] == rejection.TRAIL
    assert marked[away < 1.5].mean() > 0.97


def test_a_broad_trail_of_an_aeroplane_is_gone():
    light, away, _ = trail(4, 16, 30)
    result, clean = stacked(4, light, stars=False), stacked(4, stars=False)
    left = (result.data - clean.data) / clean.sigma
    assert max(left[(away >= d) & (away < d + 1)].mean() for d in range(24)) < 1.0


def test_the_halo_of_a_hit_goes_with_it():
    light = np.zeros(SHAPE)
    places = [(y, x) for y in range(40, 300, 50) for x in range(40, 330, 50)]
    for y, x in places:
        light += 40 * NOISE * np.exp(-((COLUMNS - x) ** 2 + (ROWS - y) ** 2) / 2 / 1.5**2)
    result, clean = stacked(4, light, stars=False), stacked(4, stars=False)
    left = (result.data - clean.data) / clean.sigma
    distance = np.min([np.hypot(COLUMNS - x, ROWS - y) for y, x in places], axis=0)
    assert max(left[(distance >= d) & (distance < d + 1)].mean() for d in range(8)) < 1.0


def test_trails_in_all_frames_are_each_found_in_their_own():
    n, held = 6, pile.Pile(SHAPE, 6)
    paths = [trail(8, 3, 30 * k + 5) for k in range(n)]
    for k in range(n):
        held.add(*exposed(SKY + paths[k][0], k), np.zeros(SHAPE, np.uint8))
    marked = marks(held, np.full(n, 3.0))
    assert (marked > 2000).all()


def test_edges_of_coverage_are_not_foreign():
    held = pile.Pile(SHAPE, 5)
    for k in range(5):
        data, sigma = exposed(np.full(SHAPE, SKY), k)
        flags = np.where((COLUMNS < 20 * k) | (ROWS > 320 - 13 * k), pile.ABSENT, pile.GOOD).astype(np.uint8)
        held.add(np.where(flags, 0, data), np.where(flags, 0, sigma), flags)
    assert marks(held, np.full(5, 3.0)).sum() == 0


# ---- threads and memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"threads": 2}, {"memory": 2e6}, {"threads": 2, "memory": 2e6}])
def test_threads_and_memory_change_no_bit(how):
    light = trail(30, 3, 52)[0]
    one, other = stacked(4, light), stacked(4, light, **how)
    for name in ("data", "sigma", "coverage", "weight", "rejected", "difference", "difference_sigma"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_an_odd_number_of_rows_and_columns_is_searched_to_its_edge():
    shape, held = (131, 173), pile.Pile((131, 173), 4)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for k in range(4):
        rng = np.random.default_rng(k)
        light = np.where((np.abs(x - 172) < 2) & (k == 1), 30 * NOISE, 0)
        held.add(rng.normal(SKY, NOISE, shape) + light, np.full(shape, NOISE), np.zeros(shape, np.uint8))
    marks(held, np.full(4, 3.0))
    assert (held.image(1)[2][:, -1] == rejection.TRAIL).mean() > 0.95


@pytest.mark.filterwarnings("error")
def test_frames_without_a_good_pixel_have_no_trails():
    held = pile.Pile((40, 50), 3)
    for _ in range(3):
        held.add(np.ones((40, 50)), np.ones((40, 50)), np.full((40, 50), pile.POOR))
    assert marks(held, np.full(3, 3.0)).tolist() == [0, 0, 0]
