"""Frames brought to one flux and one sky. Truth: the transparency, the sky and the nebula that were painted."""

from functools import cache

import numpy as np
import pytest
import simulated_night as sim
from astropy.io import fits
from firstlight import scaling
from firstlight.frame import Frame, Mask

SHAPE = (256, 272)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
SKY, READ_NOISE = 300.0, 7.0


def frame_of(image, mask=None):
    return Frame(np.asarray(image, np.float32), fits.Header(), mask=mask)


def noisy(electrons, seed):
    rng = np.random.default_rng(seed)
    return rng.poisson(electrons) + rng.normal(0, READ_NOISE, electrons.shape)


def sky_noise(level):
    return float(np.sqrt(level + READ_NOISE**2))


# ---- fluxes ----------------------------------------------------------------------------------------------------------


@cache
def places():
    """x, y of stars far enough apart for their local skies."""
    y, x = (grid.ravel() for grid in np.meshgrid(np.arange(30, 230, 34), np.arange(30, 250, 34)))
    return np.array([x, y]) + np.random.default_rng(4).uniform(-2, 2, (2, len(x)))


STARS = np.zeros(places().shape[1], [("x", "f8"), ("y", "f8"), ("fwhm", "f8")])
STARS["x"], STARS["y"] = places()
FLUXES = np.geomspace(1e5, 4e3, len(STARS))


@cache
def starlight(fwhm, beta=4.0):
    image = np.zeros(SHAPE)
    sim.paint(image, *places(), FLUXES, sim.Profile("moffat", fwhm, beta))
    return image


def test_fluxes_are_those_painted_whatever_the_sky():
    image = np.zeros(SHAPE)
    sim.paint(image, *places(), FLUXES, sim.Profile("gauss", 3.0))
    found = scaling.fluxes(frame_of(image + 1000 + 2 * COLUMNS), STARS, 6.0)
    np.testing.assert_allclose(found, FLUXES, rtol=3e-3, atol=30)


@pytest.mark.parametrize("bit", [Mask.BAD, Mask.SATURATED, Mask.COSMIC_RAY, Mask.NO_DATA])
def test_a_star_on_a_spoilt_pixel_has_no_flux(bit):
    mask = np.zeros(SHAPE, np.uint8)
    mask[round(STARS["y"][3]), round(STARS["x"][3])] = bit
    flux = scaling.fluxes(frame_of(starlight(3.0), mask), STARS, 5.0)
    assert np.flatnonzero(np.isnan(flux)).tolist() == [3]


@pytest.mark.parametrize("away, known", [(1, False), (6, True)])
def test_what_was_interpolated_counts_away_from_the_core(away, known):
    """A hot pixel in the wings must not cost a star, else few are left of a sparse field."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[round(STARS["y"][3]), round(STARS["x"][3]) + away] = Mask.BAD | Mask.INTERPOLATED
    flux = scaling.fluxes(frame_of(starlight(3.0), mask), STARS, 9.0)
    assert np.isfinite(flux[3]) == known
    assert np.isfinite(np.delete(flux, 3)).sum() > 20


def test_stars_off_the_frame_have_no_flux():
    stars = STARS[:4].copy()
    stars["x"] = [-50, 2, SHAPE[1] - 2, SHAPE[1] + 500]
    assert np.isnan(scaling.fluxes(frame_of(starlight(3.0)), stars, 5.0)).all()


@pytest.mark.parametrize("beta", [2.5, 3.0, 4.0])
def test_seeing_does_not_pass_for_transparency_whatever_the_wings(beta):
    """Noise apart. With one circle for all, of 3.5 times the worst seeing, it is 1.1 % at beta 2.5."""
    stars, flux = STARS[8:36:9], []
    for seeing in (2.3, 3.0, 3.6):
        image = np.zeros(SHAPE)
        sim.paint(image, stars["x"], stars["y"], np.full(len(stars), 1e5), sim.Profile("moffat", seeing, beta))
        flux.append(scaling.fluxes(frame_of(image), stars, scaling.APERTURE * seeing))
    factors, _ = scaling.scales(flux, np.ones(3), 0)
    assert np.abs(factors - 1).max() < 2e-3


def test_neighbours_in_the_ring_of_sky_do_not_count():
    """Stars 34 pixels apart: their neighbours are in the ring where seeing makes it wide, and not where it is narrow."""
    flux = [scaling.fluxes(frame_of(starlight(f)), STARS, scaling.APERTURE * f) for f in (2.3, 3.6)]
    factors, _ = scaling.scales(flux, np.ones(2), 0)
    assert abs(factors[1] - 1) < 2e-3


def test_of_no_star_there_is_no_flux():
    assert scaling.fluxes(frame_of(starlight(3.0)), STARS[:0], 5.0).shape == (0,)


def test_many_wide_stars_do_not_take_much_memory():
    """Rings of sky of 25 pixels' FWHM hold 60,000 pixels each."""
    import tracemalloc

    stars = np.zeros(60, STARS.dtype)
    stars["x"], stars["y"] = np.random.default_rng(1).uniform(250, 750, (2, 60))
    frame = frame_of(np.random.default_rng(2).normal(300, 17, (1000, 1000)))
    tracemalloc.start()
    scaling.fluxes(frame, stars, scaling.APERTURE * 25)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 60e6


def test_fluxes_do_not_depend_on_what_else_is_measured():
    frame = frame_of(noisy(starlight(3.0) + SKY, 1))
    together = scaling.fluxes(frame, STARS, 7.5)
    np.testing.assert_array_equal(
        together, [scaling.fluxes(frame, STARS[i : i + 1], 7.5)[0] for i in range(len(STARS))]
    )


# ---- scales ----------------------------------------------------------------------------------------------------------


def observed(clear, n=80, seed=0, floor=0.003, sky=300.0, brightest=3e5, seen=None):
    """Fluxes (m, n) of n stars through `clear` sky, with a noise of `sky` electrons, that of photons and of flats;
    seen (m, n), False where a star is off the frame."""
    rng = np.random.default_rng(seed)
    truth = np.outer(clear, np.geomspace(brightest, brightest / 100, n))
    flux = truth * (1 + floor * rng.normal(size=truth.shape)) + np.hypot(sky, np.sqrt(truth)) * rng.normal(
        size=truth.shape
    )
    flux = np.where(flux > 0, flux, np.nan)
    return flux if seen is None else np.where(seen, flux, np.nan)


CLEAR = np.array([1.0, 0.97, 0.35, 0.8, 1.05, 0.62])
SAME = np.full(6, 60.0)


def strips(m, n, shared):
    """bool (m, all stars): frames in a row, n stars in each, `shared` of them also in the next."""
    seen = np.zeros((m, m * (n - shared) + shared), bool)
    for k in range(m):
        seen[k, k * (n - shared) : k * (n - shared) + n] = True
    return np.ascontiguousarray(seen[:, np.random.default_rng(1).permutation(seen.shape[1])])


def test_scales_undo_the_transparency():
    factors, _ = scaling.scales(observed(CLEAR), SAME, 0)
    np.testing.assert_allclose(factors * CLEAR, 1, atol=3e-3)


def test_all_frames_together_tell_more_than_each_with_the_reference():
    """The reference's own noise is in every ratio to it; here it is ten times that of the others."""
    error = []
    for seed in range(10):
        flux = observed(np.ones(8), seed=seed, sky=100.0, brightest=3e4)
        rng = np.random.default_rng(99 + seed)
        flux[0] = np.abs(flux[0] + 1000 * rng.normal(size=flux.shape[1]))
        factors, _ = scaling.scales(flux, np.full(8, 60.0), 0)
        error.append((factors[1:] / factors[1]).std())
    assert np.mean(error) < 2e-3


def test_frames_in_a_row_are_tied_through_others():
    """The last of six shares stars with the fifth only, the reference is the first."""
    flux = observed(CLEAR, seen=(seen := strips(6, 40, 12)), n=seen.shape[1])
    assert not (np.isfinite(flux[0]) & np.isfinite(flux[-1])).any()
    factors, notes = scaling.scales(flux, SAME, 0)
    np.testing.assert_allclose(factors * CLEAR, 1, atol=0.02)
    assert not any("exposure" in note for note in notes)


def test_the_reference_keeps_its_flux_wherever_it_stands():
    factors, notes = scaling.scales(observed(CLEAR), SAME, 3)
    assert (factors[3], notes[3]) == (1.0, "photometric reference")
    np.testing.assert_allclose(factors * CLEAR, CLEAR[3], rtol=4e-3)


@pytest.mark.parametrize("m", [2, 3, 6])
def test_variable_stars_do_not_set_the_scale(m):
    """A fifth of them is 1.5 times as bright in one frame, the brightest one among these."""
    flux = observed(CLEAR[:m])
    flux[1, ::5] *= 1.5
    factors, _ = scaling.scales(flux, SAME[:m], 0)
    np.testing.assert_allclose(factors * CLEAR[:m], 1, atol=5e-3)


def test_faint_stars_are_not_taken_for_fainter():
    """Of stars at 2 to 8 times their noise the logarithm is too low on average."""
    error = []
    for seed in range(20):
        factors, _ = scaling.scales(observed([1.0, 0.25], n=200, seed=seed, sky=300, brightest=3e4), SAME[:2], 0)
        error.append(factors[1] * 0.25 - 1)
    assert abs(np.mean(error)) < 0.01


def test_light_of_neighbours_harms_bright_stars_little():
    """In a crowd what leaks in with the seeing is as many electrons for faint stars as for bright ones."""
    rng = np.random.default_rng(8)
    flux = observed(np.ones(2), n=200, sky=50.0)
    flux[1] += rng.exponential(2500, 200) * (rng.random(200) < 0.5)
    factors, _ = scaling.scales(flux, SAME[:2], 0)
    assert abs(factors[1] - 1) < 5e-3


def test_cloud_is_noted_and_half_the_exposure_is_none():
    flux = observed(np.array([1.0, 0.97, 0.35, 0.5]))
    _, notes = scaling.scales(flux, np.array([60.0, 60.0, 60.0, 30.0]), 0)
    assert notes == ["photometric reference", "", "transparency 0.35 of the reference", ""]


def test_without_three_shared_stars_the_exposure_scales_and_that_is_noted():
    flux = observed(np.ones(3))
    flux[2, 2:] = np.nan
    factors, notes = scaling.scales(flux, np.array([60.0, 60.0, 30.0]), 0)
    assert factors[2] == 2.0
    assert notes[2] == "scaled by exposure: 2 stars shared with the reference"


def test_frames_apart_from_the_reference_keep_their_proportions():
    """Two fields of three frames each: the middle one of the second is scaled by exposure, as cloudy as it may be."""
    flux = observed(CLEAR)
    flux[:3, 1::2] = flux[3:, ::2] = np.nan
    factors, notes = scaling.scales(flux, SAME, 0)
    np.testing.assert_allclose(factors[3:] * CLEAR[3:] / CLEAR[3], 1, atol=6e-3)
    assert np.median(factors[3:]) == pytest.approx(1, abs=1e-9)
    assert all("scaled by exposure: 0 stars shared" in note for note in notes[3:])


def test_scale_by_exposure_and_none_where_asked_for():
    exposure = np.array([60.0, 20.0, 0.0])
    assert scaling.scales(np.zeros((3, 0)), exposure, 0, "exposure")[0].tolist() == [1.0, 3.0, 1.0]
    assert scaling.scales(np.zeros((3, 0)), exposure, 0, "none")[0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("how", ["exposure", "stars"])
def test_an_exposure_that_is_not_known_is_noted_where_it_would_scale(how):
    flux = observed([1.0, 1.0, 1.0]) if how == "stars" else np.zeros((3, 0))
    if how == "stars":
        flux[2] = np.nan
    factors, notes = scaling.scales(flux, [60.0, 30.0, 0.0], 0, how)
    assert factors[2] == 1.0 and "exposure is not known" in notes[2] and "not known" not in notes[1]


def test_stars_too_faint_for_a_short_exposure_leave_the_scale_to_it():
    """No star of the reference is to be expected there: that none is seen tells nothing of cloud."""
    flux = np.array([np.full(6, 900.0), [50.0, -80.0, -20.0, 30.0, -60.0, -10.0]])
    factors, notes = scaling.scales(flux, [600.0, 6.0], 0)
    assert factors[1] == pytest.approx(100) and notes[1].startswith(scaling.BY_EXPOSURE)


def test_a_frame_without_any_light_has_a_finite_scale():
    factors, notes = scaling.scales([[900.0] * 6, [0.0] * 6], [60.0, 60.0], 0)
    assert 1000 < factors[1] < np.inf and "missing" in notes[1]


def test_another_way_of_scaling_is_an_error():
    with pytest.raises(ValueError, match="scale 'magic' is not one of stars, exposure, catalogue, none"):
        scaling.scales(np.zeros((1, 0)), [60.0], 0, "magic")


ZERO = 20 + 2.5 * np.log10(CLEAR)


def test_scales_by_the_catalogue_need_no_shared_star():
    exposure = np.array([60.0, 30.0, 60.0, 60.0, 120.0, 60.0])
    factors, notes = scaling.scales(np.zeros((6, 0)), exposure, 0, "catalogue", ZERO)
    np.testing.assert_allclose(factors * CLEAR * exposure / 60, 1)
    assert notes[1] == "" and "exposure" not in "".join(notes)


def test_a_frame_without_zero_point_is_scaled_by_stars_to_those_that_have_one():
    zero = np.where(np.arange(6) == 4, np.nan, ZERO)
    factors, notes = scaling.scales(observed(CLEAR), SAME, 0, "catalogue", zero)
    assert factors[4] * CLEAR[4] == pytest.approx(1, abs=4e-3)
    assert (notes[4], notes[1]) == ("scaled by stars: no zero point", "")


def test_without_a_zero_point_of_the_reference_all_are_scaled_by_stars():
    factors, notes = scaling.scales(observed(CLEAR), SAME, 0, "catalogue", np.where(np.arange(6) == 0, np.nan, ZERO))
    np.testing.assert_allclose(factors * CLEAR, 1, atol=4e-3)
    assert notes[1] == "scaled by stars: no zero point of the reference"


def test_one_frame_is_its_own_reference():
    factors, notes = scaling.scales(observed([1.0]), [60.0], 0)
    assert factors.tolist() == [1.0] and notes == ["photometric reference"]


def test_a_large_set_is_scaled_as_well():
    clear = np.random.default_rng(2).uniform(0.6, 1.0, 100)
    seen = np.random.default_rng(3).random((100, 200)) < 0.4
    factors, _ = scaling.scales(observed(clear, n=200, seen=seen), np.full(100, 60.0), 0)
    np.testing.assert_allclose(factors * clear, clear[0], rtol=0.01)


# ---- medians of blocks -----------------------------------------------------------------------------------------------


def test_medians_are_those_of_the_blocks():
    image = np.random.default_rng(1).normal(size=(70, 100))
    found = scaling.block_medians(frame_of(image), 32)
    assert found.shape == (2, 3) and found.dtype == np.float32
    assert found[1, 2] == pytest.approx(np.median(image[35:70, 66:99]), abs=1e-6)


@pytest.mark.parametrize("bit", [Mask.BAD, Mask.SATURATED, Mask.COSMIC_RAY, Mask.LOW_FLAT])
def test_spoilt_pixels_do_not_count_in_a_median(bit):
    rng = np.random.default_rng(0)
    mask = np.where(rng.random((64, 64)) < 0.3, bit, 0).astype(np.uint8)
    image = np.where(mask, 1e5, 300.0)
    image[rng.random((64, 64)) < 0.1] = np.nan
    np.testing.assert_array_equal(scaling.block_medians(frame_of(image, mask), 32), 300)


def test_under_half_a_block_tells_nothing():
    image = np.full((64, 64), 300.0)
    image[:, :17] = np.nan
    image[:, 60:] = np.nan
    assert np.isnan(scaling.block_medians(frame_of(image), 32)).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("edge", [5, 10])
def test_a_slope_does_not_shift_the_median_of_a_block_cut_by_an_edge(edge):
    image = 10.0 * np.mgrid[:64, :64][1]
    whole = scaling.block_medians(frame_of(image), 32)
    image[:, :edge] = np.nan
    np.testing.assert_allclose(scaling.block_medians(frame_of(image), 32), whole)


# ---- skies -----------------------------------------------------------------------------------------------------------


def brought(frames, factors, order, reference=0, noise=None):
    """Frames less the sky's difference, all at the reference's scale; and the surfaces."""
    blocks = np.array([scaling.block_medians(frame) for frame in frames])
    noise = [sky_noise(np.nanmedian(frame.data)) for frame in frames] if noise is None else noise
    found = scaling.surfaces(blocks, np.array(factors), reference, order, frames[0].shape, np.array(noise))
    return [f.data * np.float32(s) + found.of(i) for i, (f, s) in enumerate(zip(frames, factors, strict=True))], found


def slope(across, along, shape=SHAPE):
    v, u = (np.linspace(-1, 1, n) for n in shape)
    return across * u + along * v[:, None]


def in_blocks(image, size=32):
    ny, nx = (n // size * size for n in image.shape)
    return image[:ny, :nx].reshape(ny // size, size, nx // size, size).mean(axis=(1, 3))


INSIDE = (COLUMNS - 170) ** 2 + (ROWS - 110) ** 2 < 80**2
NEBULA = 250 * np.clip(1 - ((COLUMNS - 170) ** 2 + (ROWS - 110) ** 2) / 80**2, 0, None) ** 2


def hazy_frames(clear, seed=0, extra=NEBULA, steepest=60.0):
    """Frames of a nebula under skies of their own levels and slopes, but for the first, which has SKY."""
    rng, frames = np.random.default_rng(seed), []
    for k, t in enumerate(clear):
        level, across, along = (rng.uniform(-steepest, steepest, 3) if k else np.zeros(3)) * (1.5, 1, 1)
        frames.append(frame_of(noisy(extra * t + SKY + level + slope(across, along), 50 * seed + k)))
    return frames


@pytest.mark.parametrize("order", ["plane", "surface"])
def test_a_nebula_keeps_its_flux_under_skies_of_different_level_and_slope(order):
    clear = np.array([1.0, 0.95, 0.5, 0.9, 1.0, 0.8])
    frames, _ = brought(hazy_frames(clear), 1 / clear, order)
    for frame in frames:
        left = frame - SKY - NEBULA
        assert abs(left[INSIDE].sum() / NEBULA.sum()) < 0.01
        assert np.abs(in_blocks(left)).mean() < 2.0


def test_a_scale_that_is_a_percent_off_leaves_the_sky_alone():
    """A nebula of 10 times the sky's noise then differs by 0.1; a plane must not follow it. At worst the sky beside it
    would take over all of that."""
    sigma = sky_noise(SKY)
    nebula = NEBULA / NEBULA.max() * 10 * sigma
    frames, _ = brought(hazy_frames([1.0, 1.0, 1.0], extra=nebula), [1.0, 1.01, 0.99], "plane")
    for frame, factor in zip(frames[1:], (1.01, 0.99), strict=True):
        left = frame - SKY - nebula * factor
        assert np.abs(in_blocks(left)).max() < 0.2 * sigma
        assert abs(left[~INSIDE].mean()) < 0.03 * sigma


def test_the_sky_of_all_becomes_the_references():
    frames = [frame_of(noisy(np.full(SHAPE, level), k)) for k, level in enumerate((300.0, 100.0, 700.0))]
    out, found = brought(frames, [1.0, 1.0, 1.0], "constant", reference=1)
    assert [np.ndim(found.of(i)) for i in range(3)] == [0, 0, 0]
    np.testing.assert_allclose([found.mean(i) for i in range(3)], [-200, 0, -600], atol=0.5)
    np.testing.assert_allclose([image.mean() for image in out], 100, atol=0.5)


def test_skies_stay_as_they_are_where_that_is_asked_for():
    frames = [frame_of(np.full(SHAPE, level)) for level in (300.0, 100.0)]
    assert brought(frames, [1.0, 1.0], "none")[1].of(1) == 0


def test_another_order_is_an_error():
    with pytest.raises(ValueError, match="background 'cubic' is not one of none, constant, plane, surface"):
        scaling.surfaces(np.zeros((1, 4, 4)), np.ones(1), 0, "cubic", (64, 64), np.ones(1))


def test_a_plane_is_exact_without_noise():
    frames = [frame_of(500 + slope(0, 0)), frame_of(480 + slope(30, -20))]
    out, _ = brought(frames, [1.0, 1.0], "plane", noise=[18.0, 18.0])
    np.testing.assert_allclose(out[1], out[0], atol=0.01)


def test_the_unit_does_not_matter():
    frames = hazy_frames([1.0, 1.0])
    tiny = [frame_of(frame.data * 1e-6) for frame in frames]
    out, _ = brought(frames, [1.0, 1.0], "plane", noise=[18.0, 18.0])
    small, _ = brought(tiny, [1.0, 1.0], "plane", noise=[18e-6, 18e-6])
    np.testing.assert_allclose(small[1] * 1e6, out[1], rtol=1e-4)


@pytest.mark.parametrize("noise", [0.5, 50.0])
def test_a_wrong_noise_does_not_spoil_the_plane(noise):
    frames, _ = brought(hazy_frames([1.0, 1.0, 1.0]), [1.0, 1.0, 1.0], "plane", noise=[noise] * 3)
    assert np.abs(in_blocks(frames[1] - SKY - NEBULA)).mean() < 2.0


def test_changing_seeing_leaves_no_trace_in_the_sky():
    """A third of all blocks has a star brighter than its sky."""
    frames = [frame_of(noisy(starlight(f) + SKY + slope(40 * k, -30 * k), k)) for k, f in enumerate((2.3, 3.0, 4.2))]
    out, _ = brought(frames, [1.0, 1.0, 1.0], "plane")
    for image, seeing in zip(out[1:], (3.0, 4.2), strict=True):
        assert np.abs(in_blocks(image - SKY - starlight(seeing))).mean() < 0.12 * sky_noise(SKY)


def test_what_moves_does_not_tilt_the_plane():
    """An aeroplane's light over a sixth of one of two frames."""
    glow = 150 * (np.abs(ROWS - 50) < 20)
    frames = [frame_of(noisy(SKY + slope(0, 0), 0)), frame_of(noisy(SKY + slope(30, 30) + glow, 1))]
    out, _ = brought(frames, [1.0, 1.0], "plane")
    assert np.abs(in_blocks(out[1] - SKY - glow)).mean() < 0.1 * sky_noise(SKY)


def test_a_surface_follows_the_light_of_a_cloud_over_half_a_frame():
    """A parabola that ends in the middle is no polynomial, but a surface leaves under half of what a plane does."""
    cloud = 60 * np.clip(slope(1, 0.3), 0, None) ** 2
    frames = [*hazy_frames([1.0, 1.0, 1.0]), frame_of(noisy(NEBULA + SKY + cloud, 9))]
    plane, surface = (
        np.abs(in_blocks(brought(frames, [1.0] * 4, order)[0][3] - SKY - NEBULA)) for order in ("plane", "surface")
    )
    assert surface.mean() < 0.25 * sky_noise(SKY)
    assert plane.mean() > 2 * surface.mean()


def test_a_frame_that_overlaps_with_none_takes_its_own_level_and_says_so():
    frames = [frame_of(noisy(np.full(SHAPE, level), k)) for k, level in enumerate((300.0, 350.0, 120.0))]
    for frame, gone in zip(frames, (slice(130, None), slice(130, None), slice(None, 140)), strict=True):
        frame.data[:, gone] = np.nan
    out, found = brought(frames, [1.0, 1.0, 2.0], "plane")
    assert np.nanmedian(out[2]) == pytest.approx(300, abs=1)
    assert found.notes == ["", "", "sky by its own level: no overlap with the reference"]


def test_a_frame_without_a_good_pixel_says_so():
    frames = [frame_of(np.full(SHAPE, 300.0)), frame_of(np.full(SHAPE, np.nan))]
    _, found = brought(frames, [1.0, 1.0], "plane", noise=[18.0, 18.0])
    assert (found.of(1), found.notes[1]) == (0, "sky left as it is: too few good pixels")


# ---- mosaics ---------------------------------------------------------------------------------------------------------

PANE, OVERLAP = 400, 60
SIDE = 2 * PANE - OVERLAP
CLEAR_PANES = np.array([1.0, 0.8, 0.93, 0.6])


def panes():
    start = (0, PANE - OVERLAP)
    return [(slice(y, y + PANE), slice(x, x + PANE)) for y in start for x in start]


@cache
def mosaic(seed, order):
    """Four pointings of a nebula, each with its own sky and transparency, brought to the first one's; less the nebula and
    the first one's sky: (4, ny, nx), weights, and the noise of the first."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    nebula = 200 * np.clip(1 - ((x - 330) ** 2 + (y - 410) ** 2) / 190**2, 0, None) ** 2
    rng, frames = np.random.default_rng(seed), []
    skies = [SKY + rng.uniform(-90, 90) + slope(*rng.uniform(-40, 40, 2), (PANE, PANE)) for _ in CLEAR_PANES]
    for k, (pane, t) in enumerate(zip(panes(), CLEAR_PANES, strict=True)):
        data = np.full((SIDE, SIDE), np.nan)
        data[pane] = noisy(nebula[pane] * t + skies[k], 10 * seed + k)
        frames.append(frame_of(data))
    brought_frames, found = brought(frames, 1 / CLEAR_PANES, order)
    level, (along, across) = skies[0][0, 0], np.array([skies[0][1, 0], skies[0][0, 1]]) - skies[0][0, 0]
    left = np.array(brought_frames) - nebula - (level + along * y + across * x)
    noise = np.array([sky_noise(sky.mean()) for sky in skies])
    return left, (CLEAR_PANES / noise) ** 2, noise[0]


def seams(image, width=12, length=50):
    """Steps across the edges of the panes, from means of width x length pixels to either side."""
    steps = []
    for edge in (PANE - OVERLAP, PANE):
        for turned in (image, image.T):
            for at in range(0, SIDE - length, length):
                left, right = (
                    turned[at : at + length, edge - width : edge],
                    turned[at : at + length, edge : edge + width],
                )
                steps.append(right.mean() - left.mean())
    return np.array(steps)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_mosaic_has_no_steps_at_its_seams(seed):
    left, weight, sigma = mosaic(seed, "plane")
    seen = np.isfinite(left)
    stack = np.where(seen, left * weight[:, None, None], 0).sum(axis=0) / (seen * weight[:, None, None]).sum(axis=0)
    assert np.abs(seams(stack)).max() < 0.3 * sigma


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_planes_of_a_mosaic_do_not_run_away(seed):
    """Skies differed by 5, and over a frame by 4 noises of a pixel."""
    left, _, sigma = mosaic(seed, "plane")
    for frame, pane in zip(left[1:], panes()[1:], strict=True):
        assert np.abs(in_blocks(frame[pane], 80)).max() < 0.7 * sigma


def test_bends_do_not_run_away_either():
    left, _, sigma = mosaic(0, "surface")
    for frame, pane in zip(left[1:], panes()[1:], strict=True):
        assert np.abs(in_blocks(frame[pane], 80)).max() < 3 * sigma


def test_a_narrow_overlap_makes_no_wild_plane():
    """Of a frame with the slope of the reference only a strip of 2 blocks is in both."""
    frames = [frame_of(noisy(np.full((256, 800), level), k)) for k, level in enumerate((300.0, 340.0))]
    frames[0].data[:, 420:] = np.nan
    frames[1].data[:, :380] = np.nan
    out, _ = brought(frames, [1.0, 1.0], "plane")
    assert abs(np.mean(out[1][:, 760:]) - 300) < 1.5 * sky_noise(320)
    assert abs(np.mean(out[1][:, 380:420]) - np.mean(out[0][:, 380:420])) < 0.1 * sky_noise(320)


def test_many_blocks_are_joined_and_tell_the_same(monkeypatch):
    frames = hazy_frames([1.0, 0.8, 0.9])
    _, fine = brought(frames, [1.0, 1.25, 1 / 0.9], "plane")
    monkeypatch.setattr(scaling, "VALUES", 900)
    _, coarse = brought(frames, [1.0, 1.25, 1 / 0.9], "plane")
    np.testing.assert_allclose(coarse.of(1), fine.of(1), atol=3.0)


def test_a_large_set_has_its_skies_brought_together():
    rng = np.random.default_rng(0)
    levels, tilts = rng.uniform(-50, 50, 150), rng.uniform(-30, 30, (150, 2))
    blocks = np.array([SKY + a + slope(*t, (16, 16)) for a, t in zip(levels, tilts, strict=True)])
    blocks += rng.normal(0, 1.4, blocks.shape)
    found = scaling.surfaces(blocks, np.ones(150), 0, "plane", (256, 256), np.full(150, 18.0))
    np.testing.assert_allclose([found.mean(i) for i in range(150)], levels[0] - levels, atol=1.0)
