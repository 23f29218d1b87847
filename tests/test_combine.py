"""Stacks of simulated frames on one grid: noise, outliers, seeing, cloud, sky and nebula against what was painted."""

from functools import cache

import numpy as np
import pytest
import simulated_night as sim
from astropy.io import fits
from firstlight import combine, history, products, scaling
from firstlight.frame import Frame, Mask, Unusable

SHAPE = (256, 272)
READ_NOISE = 7.0
SKY = 300.0
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)


def star_places(step=34):
    """x, y of stars far enough apart for their local skies."""
    y, x = (
        grid.ravel() for grid in np.meshgrid(np.arange(30, SHAPE[0] - 20, step), np.arange(30, SHAPE[1] - 20, step))
    )
    return np.array([x, y]) + np.random.default_rng(4).uniform(-2, 2, (2, len(x)))


PLACES = star_places()
FLUXES = np.geomspace(1e5, 4e3, PLACES.shape[1])
STARS = np.zeros(len(FLUXES), [("x", "f8"), ("y", "f8"), ("fwhm", "f8")])
STARS["x"], STARS["y"] = PLACES
NO_STARS = STARS[:0]


@cache
def starlight(fwhm):
    """The stars alone (ny, nx), electrons."""
    image = np.zeros(SHAPE)
    sim.paint(image, *PLACES, FLUXES, sim.Profile("moffat", fwhm))
    return image


def expected(fwhm=3.0, transparency=1.0, sky=SKY, extra=0.0):
    """Electrons (ny, nx) that a frame would have without noise; cloud dims `extra` as it does the stars."""
    return (starlight(fwhm) + extra) * transparency + sky


def exposed(electrons, seed, mask=None, name="", **cards):
    """A frame of Poisson and read noise with its true sigma."""
    rng = np.random.default_rng(seed)
    data = rng.poisson(electrons) + rng.normal(0, READ_NOISE, SHAPE)
    sigma = np.sqrt(electrons + READ_NOISE**2).astype(np.float32)
    return Frame(data.astype(np.float32), fits.Header({"FLFRAME": name} | cards), sigma, mask, "electron")


def an_input(frame, name, fwhm=3.0, noise=None, exposure=60.0):
    """fwhm as `sources` measures it; noise of the sky."""
    noise = float(np.sqrt(np.median(frame.data) + READ_NOISE**2)) if noise is None else noise
    return combine.Input(name, lambda: frame, fwhm, noise, exposure)


def flat_inputs(n, sky=SKY, seed=0):
    frames = [exposed(np.full(SHAPE, sky), seed + k) for k in range(n)]
    return [an_input(frame, f"f{k}") for k, frame in enumerate(frames)]


def starry_inputs(n, seed=0, **scene):
    return [an_input(exposed(expected(**scene), seed + k), f"f{k}") for k in range(n)]


def stacked(inputs, stars=STARS, reference="f0", **options):
    return combine.combine(inputs, stars, reference, **options)


PLAIN = {"scale": "none", "background": "none"}


# ---- noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["average", "median", "sum"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
def test_sigma_of_the_sky_is_its_scatter(n, method):
    stack = stacked(flat_inputs(n), NO_STARS, method=method, **PLAIN)
    level = SKY * (n if method == "sum" else 1)
    pulls = (stack.frame.data - level) / stack.frame.sigma
    assert abs(pulls.std() - 1) < 0.02
    assert abs(pulls.mean()) < 0.03


def test_sigma_of_frames_of_different_noise_is_their_scatter():
    skies = (100.0, 300.0, 900.0, 2000.0, 300.0)
    inputs = [an_input(exposed(np.full(SHAPE, sky), k), f"f{k}") for k, sky in enumerate(skies)]
    stack = stacked(inputs, NO_STARS, scale="none", background="constant")
    pulls = (stack.frame.data - 100.0) / stack.frame.sigma
    assert abs(pulls.std() - 1) < 0.02


def test_sigma_of_a_scaled_frame_is_scaled_too():
    frames = [exposed(np.full(SHAPE, sky), k) for k, sky in enumerate((300.0, 150.0, 75.0))]
    inputs = [an_input(f, f"f{k}", exposure=60.0 / 2**k) for k, f in enumerate(frames)]
    stack = stacked(inputs, NO_STARS, scale="exposure", background="none")
    pulls = (stack.frame.data - 300.0) / stack.frame.sigma
    assert abs(pulls.std() - 1) < 0.02


def test_weights_are_those_of_least_noise():
    skies = np.array([100.0, 300.0, 900.0, 2000.0])
    inputs = [an_input(exposed(np.full(SHAPE, sky), k), f"f{k}") for k, sky in enumerate(skies)]
    stack = stacked(inputs, NO_STARS, scale="none", background="constant")
    best = 1 / (skies + READ_NOISE**2)
    np.testing.assert_allclose(stack.inputs["weight"], best / best.sum(), rtol=0.01)
    assert abs(np.median(stack.frame.sigma) * np.sqrt(best.sum()) - 1) < 0.01


def block_noise(image):
    """Scatter of the means of 8x8 pixels, of blocks without NaN."""
    means = image.reshape(SHAPE[0] // 8, 8, SHAPE[1] // 8, 8).mean(axis=(1, 3))
    return np.nanstd(means)


def test_blocks_are_as_deep_as_ideal_weights_make_them():
    """Cloud, a bright sky, a short exposure: the weights come from the frames' own stars and skies."""
    clear, skies = np.array([1.0, 0.35, 0.9, 1.0, 0.5]), np.array([300.0, 300.0, 2000.0, 400.0, 150.0])
    exposures = [60.0, 60.0, 60.0, 60.0, 30.0]
    frames = [
        exposed(expected(transparency=t, sky=sky), k) for k, (t, sky) in enumerate(zip(clear, skies, strict=True))
    ]
    noises = np.sqrt(skies + READ_NOISE**2)
    inputs = [
        an_input(f, f"f{k}", noise=float(n), exposure=e)
        for k, (f, n, e) in enumerate(zip(frames, noises, exposures, strict=True))
    ]
    stack = stacked(inputs, background="constant")
    share = (clear / noises) ** 2 / ((clear / noises) ** 2).sum()
    ideal = sum(w * (f.data - sky) / t for w, f, sky, t in zip(share, frames, skies, clear, strict=True))
    dark = starlight(3.0) < 0.3
    found, best = (block_noise(np.where(dark, image, np.nan)) for image in (stack.frame.data, ideal))
    assert found == pytest.approx(best, rel=0.05)
    np.testing.assert_allclose(stack.inputs["weight"], share, rtol=0.05)


def test_weights_look_at_noise_that_resampling_has_not_hidden():
    """Pixels of a frame that was moved by half a pixel are quieter, and share their noise with neighbours."""
    inputs = flat_inputs(2)
    inputs[1].noise *= 0.7
    inputs[0].header, inputs[1].header = fits.Header({"NCORR05": 1.0}), fits.Header({"NCORR05": 1 / 0.7})
    np.testing.assert_allclose(stacked(inputs, NO_STARS, **PLAIN).inputs["weight"], 0.5, rtol=1e-3)


def test_a_frame_of_unknown_seeing_counts_as_a_usual_one():
    inputs = flat_inputs(3)
    inputs[2].fwhm = 0.0
    stack = stacked(inputs, NO_STARS, weight="noise+fwhm", **PLAIN)
    np.testing.assert_allclose(stack.inputs["weight"], 1 / 3, rtol=0.01)
    assert stack.frame.header["FWHMIN"] == 3.0


def test_sharp_frames_weigh_more_where_that_is_asked_for():
    inputs = flat_inputs(2)
    inputs[1].fwhm = 2 * inputs[0].fwhm
    stack = stacked(inputs, NO_STARS, weight="noise+fwhm", **PLAIN)
    np.testing.assert_allclose(stack.inputs["weight"], [0.8, 0.2], rtol=0.01)


def test_all_weigh_the_same_where_that_is_asked_for():
    inputs = flat_inputs(4)
    inputs[0].noise *= 10
    np.testing.assert_allclose(stacked(inputs, NO_STARS, weight="none", **PLAIN).inputs["weight"], 0.25)


@pytest.mark.parametrize("method", ["median", "sum"])
def test_what_knows_no_weights_is_not_said_to_be_weighted(method):
    inputs = flat_inputs(4)
    inputs[0].noise *= 10
    stack = stacked(inputs, NO_STARS, method=method, **PLAIN)
    np.testing.assert_allclose(stack.inputs["weight"], 0.25)
    assert stack.frame.header["WEIGHTED"] == "none"


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e12])
def test_the_unit_of_the_frames_does_not_matter(unit):
    frames = [exposed(np.full(SHAPE, SKY), k) for k in range(4)]
    scaled = [f.with_(data=f.data * np.float32(unit), sigma=f.sigma * np.float32(unit)) for f in frames]
    inputs = [an_input(f, f"f{k}", noise=18.0 * unit) for k, f in enumerate(scaled)]
    stack = stacked(inputs, NO_STARS, **PLAIN).frame
    pulls = (stack.data / np.float32(unit) - SKY) / (stack.sigma / np.float32(unit))
    assert abs(pulls.std() - 1) < 0.02


def test_a_frame_of_unknown_noise_does_not_outweigh_all_others():
    inputs = flat_inputs(4)
    inputs[2].noise = 0.0
    stack = stacked(inputs, NO_STARS, **PLAIN)
    assert stack.inputs["weight"][2] < 0.3
    assert np.isfinite(stack.frame.sigma).all()


def test_frames_without_sigma_are_clipped_by_their_skys_noise():
    inputs = [an_input(exposed(np.full(SHAPE, SKY), k).with_(sigma=None), f"f{k}") for k in range(4)]
    stack = stacked(inputs, NO_STARS, **PLAIN)
    assert abs((stack.frame.data - SKY).std() / np.median(stack.frame.sigma) - 1) < 0.03


# ---- outliers --------------------------------------------------------------------------------------------------------

TRAIL_DISTANCE = np.abs((ROWS - 0.7 * COLUMNS - 40) / np.hypot(1, 0.7))


@pytest.mark.parametrize("n", [4, 8])
def test_a_satellites_trail_in_one_frame_is_gone(n):
    clean = [expected(fwhm=3.0) for _ in range(n)]
    trail = 600 * np.exp(-0.5 * (TRAIL_DISTANCE / 1.4) ** 2)
    without = [an_input(exposed(image, k), f"f{k}") for k, image in enumerate(clean)]
    clean[2] = clean[2] + trail
    spoilt = [an_input(exposed(image, k), f"f{k}") for k, image in enumerate(clean)]
    a, b = stacked(spoilt), stacked(without)
    left = (a.frame.data - b.frame.data) / b.frame.sigma
    for near in range(8):
        zone = (TRAIL_DISTANCE >= near) & (TRAIL_DISTANCE < near + 1)
        assert abs(left[zone].mean()) < 1.0
    assert a.coverage[TRAIL_DISTANCE < 2].mean() < n - 0.9
    assert a.inputs["rejected"].argmax() == 2 and a.inputs["rejected"][2] > 0.02


@pytest.mark.parametrize("n", [3, 4, 8])
def test_cosmic_rays_that_were_missed_are_gone(n):
    rays = sim.cosmic_rays(np.random.default_rng(1), SHAPE, 60)
    frames = [exposed(np.full(SHAPE, SKY), k) for k in range(n)]
    frames[1] = frames[1].with_(data=frames[1].data + rays.astype(np.float32))
    stack = stacked([an_input(f, f"f{k}") for k, f in enumerate(frames)], NO_STARS, **PLAIN)
    pulls = ((stack.frame.data - SKY) / stack.frame.sigma)[rays > 200]
    assert len(pulls) > 100
    assert abs(pulls.mean()) < 0.5 and np.abs(pulls).max() < 6


def test_what_dims_a_frame_is_rejected_too():
    frames = [exposed(np.full(SHAPE, 1000.0), k) for k in range(5)]
    data = frames[3].data.copy()
    data[100:110, 100:110] = 100
    frames[3] = frames[3].with_(data=data)
    stack = stacked([an_input(f, f"f{k}") for k, f in enumerate(frames)], NO_STARS, **PLAIN)
    assert abs(stack.frame.data[100:110, 100:110].mean() - 1000) < 8
    assert (stack.coverage[100:110, 100:110] == 4).mean() > 0.95


def test_little_is_rejected_of_a_clean_sky():
    assert stacked(flat_inputs(8), NO_STARS, **PLAIN).inputs["rejected"].max() < 1.5e-3


# ---- stars -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 8])
def test_stars_keep_their_flux_in_changing_seeing(n):
    seeing = np.linspace(2.3, 3.6, n)
    inputs = [an_input(exposed(expected(fwhm=f), k), f"f{k}", fwhm=f) for k, f in enumerate(seeing)]
    clipped = scaling.fluxes(stacked(inputs).frame, STARS, 7.0)
    whole = scaling.fluxes(stacked(inputs, clip="none").frame, STARS, 7.0)
    bright = FLUXES > 1e4
    assert bright.sum() > 15
    assert np.abs(clipped[bright] / whole[bright] - 1).max() < 3e-3
    assert abs(np.median(clipped / whole) - 1) < 1e-3


def test_a_median_would_not_keep_them():
    """Why the default is an average: this is what the test above is able to see."""
    seeing = np.linspace(2.3, 3.6, 8)
    inputs = [an_input(exposed(expected(fwhm=f), k), f"f{k}", fwhm=f) for k, f in enumerate(seeing)]
    peak = tuple(np.rint(PLACES[::-1, :6]).astype(int))
    median, average = (stacked(inputs, method=m, clip="none").frame.data[peak] for m in ("median", "average"))
    assert (np.abs(median / average - 1) > 3e-3).sum() >= 4


def test_flux_of_stars_is_that_of_the_reference():
    stack = stacked(starry_inputs(6))
    measured = scaling.fluxes(stack.frame, STARS, 9.0)
    truth = scaling.fluxes(exposed(expected(), 99).with_(data=expected().astype(np.float32)), STARS, 9.0)
    assert abs(np.median(measured / truth) - 1) < 3e-3


# ---- cloud, exposure, scale ------------------------------------------------------------------------------------------


def test_a_frame_through_cloud_is_scaled_weighed_down_and_named():
    clear = [1.0, 0.97, 0.35, 1.0, 0.9]
    inputs = [an_input(exposed(expected(transparency=t), k), f"f{k}") for k, t in enumerate(clear)]
    stack = stacked(inputs)
    np.testing.assert_allclose(stack.inputs["scale"], 1 / np.array(clear), rtol=0.012)
    assert stack.inputs["weight"][2] / stack.inputs["weight"][0] == pytest.approx(0.35**2, rel=0.05)
    assert stack.inputs["note"].tolist() == ["photometric reference", "", "transparency 0.35 of the reference", "", ""]


def test_a_frame_through_cloud_does_not_change_the_stars():
    clear = [1.0, 1.0, 0.35, 1.0, 1.0]
    inputs = [an_input(exposed(expected(transparency=t), k), f"f{k}") for k, t in enumerate(clear)]
    with_cloud, without = (
        scaling.fluxes(stacked(part).frame, STARS, 9.0) for part in (inputs, inputs[:2] + inputs[3:])
    )
    assert np.abs(with_cloud / without - 1)[FLUXES > 2e4].max() < 0.01


@pytest.mark.parametrize("clouded", [1, 2])
@pytest.mark.parametrize("stars", [2, 4, 8])
def test_frames_that_show_no_star_take_no_light_from_a_sparse_field(stars, clouded):
    """Such a frame has a place by its header; scaled by its exposure it would count as much as the others."""
    clear = [1.0] * 3 + [0.0] * clouded
    inputs = [an_input(exposed(expected(transparency=t), k), f"f{k}") for k, t in enumerate(clear)]
    stack = stacked(inputs, STARS[:stars])
    flux, truth = (scaling.fluxes(f, STARS[:12], 9.0) for f in (stack.frame, inputs[0].read()))
    assert abs(np.median(flux / truth) - 1) < 0.01
    assert all("transparency 0.0" in note for note in stack.inputs["note"][3:])


def test_a_frame_that_shows_no_star_is_no_reference():
    inputs = [an_input(exposed(expected(transparency=t), k), f"f{k}") for k, t in enumerate([1.0, 1.0, 0.0])]
    inputs[2].noise /= 2
    assert stacked(inputs, STARS[:4], reference="of another filter").frame.header["PHOTREF"] != "f2"


def test_half_the_exposure_is_no_cloud():
    inputs = starry_inputs(2)
    inputs.append(an_input(exposed(expected(transparency=0.5, sky=SKY / 2), 7), "f2", exposure=30.0))
    stack = stacked(inputs)
    assert abs(stack.inputs["scale"][2] / 2 - 1) < 0.012
    assert stack.inputs["note"][2] == ""
    assert (stack.frame.header["EXPTIME"], stack.frame.header["EXPTOT"]) == (60.0, 150.0)


def test_scale_by_exposure_where_that_is_asked_for():
    inputs = flat_inputs(2)
    inputs[1].exposure = 20.0
    assert stacked(inputs, scale="exposure").inputs["scale"].tolist() == [1.0, 3.0]


def test_without_shared_stars_the_exposure_scales_and_that_is_noted():
    inputs = flat_inputs(2)
    inputs[1].exposure = 30.0
    stack = stacked(inputs, STARS[:2])
    assert stack.inputs["scale"][1] == 2.0
    assert "scaled by exposure: 0 stars shared" in stack.inputs["note"][1]


def test_a_variable_star_does_not_set_the_scale():
    bright = np.zeros(SHAPE)
    sim.paint(bright, *PLACES[:, :1], FLUXES[:1], sim.Profile("moffat", 3.0))
    inputs = [an_input(exposed(expected(), 0), "f0"), an_input(exposed(expected() + bright, 1), "f1")]
    assert abs(stacked(inputs).inputs["scale"][1] - 1) < 0.01


def test_a_sum_says_the_exposure_that_its_flux_stands_for():
    stack = stacked(flat_inputs(3), NO_STARS, method="sum", **PLAIN)
    assert abs(np.median(stack.frame.data) / (3 * SKY) - 1) < 0.01
    assert stack.frame.header["EXPTIME"] == 180.0


# ---- sky and nebula --------------------------------------------------------------------------------------------------

NEBULA = 200 * np.clip(1 - ((COLUMNS - 150) ** 2 + (ROWS - 120) ** 2) / 50**2, 0, None) ** 2


def test_nebula_keeps_its_flux_under_skies_of_different_level_and_slope():
    rng = np.random.default_rng(3)
    clear, inputs = [1.0, 0.95, 0.5, 0.9, 1.0, 0.8], []
    for k, t in enumerate(clear):
        level, across, along = rng.uniform(-0.3, 0.3, 3) if k else (0, 0, 0)
        sky = SKY * (1 + level + across * COLUMNS / SHAPE[1] + along * ROWS / SHAPE[0])
        inputs.append(an_input(exposed(expected(transparency=t, sky=sky, extra=NEBULA), k), f"f{k}"))
    stack = stacked(inputs)
    truth = expected(extra=NEBULA)
    inside = (COLUMNS - 150) ** 2 + (ROWS - 120) ** 2 < 50**2
    assert abs((stack.frame.data - truth)[inside].sum() / NEBULA.sum()) < 0.01
    away = np.hypot(COLUMNS - 150, ROWS - 120) > 60
    assert np.abs([(stack.frame.data - truth)[away & side].mean() for side in (ROWS < 60, ROWS > 190)]).max() < 1.0


def test_the_stacks_sky_is_the_references():
    inputs = [an_input(exposed(np.full(SHAPE, sky), k), f"f{k}") for k, sky in enumerate((300.0, 100.0, 700.0))]
    stack = stacked(inputs, NO_STARS, scale="none", background="constant")
    np.testing.assert_allclose(stack.inputs["offset"], [0, 200, -400], atol=2.0)
    assert abs(np.median(stack.frame.data) - 300) < 1


def test_skies_stay_as_they_are_where_that_is_asked_for():
    inputs = [an_input(exposed(np.full(SHAPE, sky), k), f"f{k}") for k, sky in enumerate((300.0, 100.0))]
    stack = stacked(inputs, NO_STARS, weight="none", clip="none", **PLAIN)
    assert abs(np.median(stack.frame.data) - 200) < 1


def test_frames_that_overlap_in_part_have_no_step_in_the_sky():
    """A drifting field: the sky's difference is known in the overlap alone."""
    frames = [
        exposed(np.full(SHAPE, sky) + slope * COLUMNS, k) for k, (sky, slope) in enumerate(((300, 0), (450, 0.3)))
    ]
    data, sigma, mask = frames[1].data.copy(), frames[1].sigma.copy(), frames[1].mask.copy()
    data[:, :170] = sigma[:, :170] = np.nan
    mask[:, :170] = Mask.NO_DATA
    frames[1] = frames[1].with_(data=data, sigma=sigma, mask=mask)
    stack = stacked([an_input(f, f"f{k}", noise=19.0) for k, f in enumerate(frames)], NO_STARS, scale="none")
    assert abs(np.median(stack.frame.data[:, :165]) - np.median(stack.frame.data[:, 175:])) < 1.0
    assert stack.coverage[:, :165].max() == 1 and np.median(stack.coverage[:, 175:]) == 2
    assert np.isfinite(stack.frame.data).all()


# ---- masks -----------------------------------------------------------------------------------------------------------


def masked_inputs(n, bits, at=(50, 60), value=60000.0):
    """n flat frames; bits maps the number of a frame to the bit and a false value at one pixel."""
    inputs = []
    for k in range(n):
        frame = exposed(np.full(SHAPE, SKY), k)
        data, mask = frame.data.copy(), np.zeros(SHAPE, np.uint8)
        if k in bits:
            data[at], mask[at] = value, bits[k]
        inputs.append(an_input(frame.with_(data=data, mask=mask), f"f{k}"))
    return inputs


def test_pixel_saturated_in_all_frames_keeps_its_mean_and_the_bit():
    stack = stacked(masked_inputs(4, dict.fromkeys(range(4), Mask.SATURATED)), NO_STARS, **PLAIN)
    assert stack.frame.data[50, 60] == pytest.approx(60000, rel=1e-4)
    assert stack.frame.mask[50, 60] == Mask.SATURATED
    assert stack.coverage[50, 60] == 0


@pytest.mark.parametrize("bit", [Mask.BAD, Mask.COSMIC_RAY, Mask.LOW_FLAT, Mask.SATURATED])
@pytest.mark.parametrize("method", ["average", "median"])
def test_pixel_bad_in_one_frame_is_filled_from_the_others(bit, method):
    stack = stacked(masked_inputs(4, {1: bit}), NO_STARS, method=method, **PLAIN)
    assert abs(stack.frame.data[50, 60] - SKY) < 5 * stack.frame.sigma[50, 60]
    assert (stack.frame.mask[50, 60], stack.coverage[50, 60]) == (0, 3)
    assert stack.frame.sigma[50, 60] > 1.1 * np.median(stack.frame.sigma)


def test_pixel_bad_in_the_reference_is_filled_from_the_others():
    stack = stacked(masked_inputs(3, {0: Mask.BAD}), NO_STARS, **PLAIN)
    assert abs(stack.frame.data[50, 60] - SKY) < 5 * stack.frame.sigma[50, 60]


def test_pixel_bad_in_all_frames_is_still_marked():
    stack = stacked(masked_inputs(3, dict.fromkeys(range(3), Mask.BAD), value=250.0), NO_STARS, **PLAIN)
    assert stack.frame.mask[50, 60] & Mask.BAD
    assert stack.frame.data[50, 60] == pytest.approx(250.0)


def test_a_value_without_sigma_does_not_count():
    frames = [exposed(np.full(SHAPE, SKY), k) for k in range(3)]
    frames = [f.with_(common=np.full(SHAPE, 50, np.uint8)) for f in frames]
    frames[1].sigma[50, 60] = np.nan
    stack = stacked([an_input(f, f"f{k}") for k, f in enumerate(frames)], NO_STARS, **PLAIN)
    assert np.isfinite(stack.frame.sigma).all() and stack.coverage[50, 60] == 2


def test_pixel_that_no_frame_has_whole_carries_what_spoilt_it():
    bits = {0: Mask.SATURATED, 1: Mask.BAD, 2: Mask.COSMIC_RAY}
    stack = stacked(masked_inputs(3, bits), NO_STARS, **PLAIN)
    assert (stack.frame.mask[50, 60], stack.coverage[50, 60]) == (sum(bits.values()), 0)


def test_interpolated_in_one_frame_does_not_mark_the_stack():
    stack = stacked(masked_inputs(4, {1: Mask.COSMIC_RAY | Mask.INTERPOLATED}, value=SKY), NO_STARS, **PLAIN)
    assert stack.frame.mask[50, 60] == 0


@pytest.mark.parametrize("method", ["average", "median", "sum"])
def test_where_no_frame_has_data_the_stack_has_none(method):
    inputs = []
    for k in range(3):
        frame = exposed(np.full(SHAPE, SKY), k)
        outside = COLUMNS < 20
        data, sigma = (np.where(outside, np.float32(np.nan), part) for part in (frame.data, frame.sigma))
        mask = np.where(outside, Mask.NO_DATA, 0).astype(np.uint8)
        inputs.append(an_input(frame.with_(data=data, sigma=sigma, mask=mask), f"f{k}", noise=18.0))
    stack = stacked(inputs, NO_STARS, method=method, **PLAIN)
    assert np.isnan(stack.frame.data[:, :20]).all() and np.isfinite(stack.frame.data[:, 20:]).all()
    assert (stack.frame.mask[:, :20] == Mask.NO_DATA).all() and (stack.frame.mask[:, 20:] == 0).all()
    assert (stack.coverage[:, :20] == 0).all()


# ---- one frame, two frames, none -------------------------------------------------------------------------------------


def test_one_frame_is_a_stack_that_says_so():
    inputs = starry_inputs(1)
    stack = stacked(inputs)
    np.testing.assert_array_equal(stack.frame.data, inputs[0].read().data)
    np.testing.assert_allclose(stack.frame.sigma, inputs[0].read().sigma, rtol=1e-6)
    assert (stack.frame.header["NCOMBINE"], "one frame only" in stack.frame.header["FLNOTE"]) == (1, True)


def test_two_frames_say_so_and_lose_their_cosmic_rays():
    frames = [exposed(np.full(SHAPE, SKY), k) for k in range(2)]
    data = frames[1].data.copy()
    data[::20, ::20] += 5000
    frames[1] = frames[1].with_(data=data)
    stack = stacked([an_input(f, f"f{k}") for k, f in enumerate(frames)], NO_STARS, **PLAIN)
    assert "two frames only" in stack.frame.header["FLNOTE"]
    assert stack.frame.data[::20, ::20].max() < SKY + 6 * READ_NOISE * 3


def test_three_frames_have_nothing_to_say():
    assert "FLNOTE" not in stacked(flat_inputs(3), NO_STARS, **PLAIN).frame.header


def test_no_frame_is_no_stack():
    with pytest.raises(Unusable, match="no usable frame"):
        stacked([])


# ---- memory, names, rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"method": "median"}, {"clip": "extrema"}, {"clip": "none", "method": "sum"}])
def test_a_limit_of_memory_changes_no_bit(options):
    inputs = starry_inputs(5)
    free, tight = (stacked(inputs, memory=memory, **options) for memory in (500e6, 1e6))
    np.testing.assert_array_equal(tight.frame.data, free.frame.data)
    np.testing.assert_array_equal(tight.frame.sigma, free.frame.sigma)
    np.testing.assert_array_equal(tight.frame.mask, free.frame.mask)
    assert tight.inputs.tobytes() == free.inputs.tobytes()


def test_the_order_of_frames_does_not_matter():
    inputs = starry_inputs(4)
    there, back = stacked(inputs), stacked(inputs[::-1])
    np.testing.assert_allclose(back.frame.data, there.frame.data, rtol=1e-5)


def test_reference_is_the_named_frame_else_the_deepest():
    frames = [exposed(expected(transparency=t), k) for k, t in enumerate((0.7, 1.0, 0.8))]
    inputs = [an_input(f, f"f{k}") for k, f in enumerate(frames)]
    assert stacked(inputs, reference="f2").frame.header["PHOTREF"] == "f2"
    assert stacked(inputs, reference="of another filter").frame.header["PHOTREF"] == "f1"


def test_a_frame_that_shows_a_corner_is_no_reference():
    """Its few stars may be the brightest, but most of the others' skies would have nothing to be compared to."""
    frames = [exposed(expected(), k) for k in range(4)]
    data, mask = np.full(SHAPE, np.nan, np.float32), np.full(SHAPE, Mask.NO_DATA, np.uint8)
    data[:60, :130], mask[:60, :130] = frames[2].data[:60, :130], 0
    frames[2] = frames[2].with_(data=data, mask=mask)
    inputs = [an_input(f, f"f{k}", noise=12.0 if k == 2 else 18.7) for k, f in enumerate(frames)]
    assert stacked(inputs, reference="of another filter").frame.header["PHOTREF"] != "f2"


def test_the_deepest_frame_is_told_by_stars_that_frames_share():
    """A frame whose faint stars are lost, here to bad pixels, does not show brighter ones."""
    frames = [exposed(expected(transparency=t), k) for k, t in enumerate((0.7, 1.0, 0.8))]
    frames[0] = frames[0].with_(mask=np.where(COLUMNS > 150, Mask.BAD, 0).astype(np.uint8))
    inputs = [an_input(f, f"f{k}", noise=18.7) for k, f in enumerate(frames)]
    assert stacked(inputs, reference="of another filter").frame.header["PHOTREF"] == "f1"


def aligned_header(name, **cards):
    return fits.Header({"FLFRAME": name, "BUNIT": "electron", "FWHM": 3.1, "SKYNOISE": 12.0, "EXPTIME": 60.0} | cards)


def test_usable_frames_carry_their_numbers():
    inputs, dropped = combine.usable([("path", aligned_header("a"))], str.upper)
    assert (inputs[0].name, inputs[0].fwhm, inputs[0].noise, inputs[0].exposure) == ("a", 3.1, 12.0, 60.0)
    assert inputs[0].read() == "PATH" and dropped == []


def test_each_input_reads_its_own_file():
    inputs, _ = combine.usable([("p", aligned_header("a")), ("q", aligned_header("b"))], str.upper)
    assert [one.read() for one in inputs] == ["P", "Q"]


def test_dropped_frames_are_listed_with_step_and_reason():
    head = aligned_header("b", FLSTATUS="dropped", FLSTEP="align", FLREASON="3 stars")
    inputs, dropped = combine.usable([("p", aligned_header("a")), ("q", head)], str.upper)
    assert len(inputs) == 1 and dropped == [("b", "align: 3 stars")]


def test_frames_in_another_unit_than_most_are_dropped_with_both_units():
    frames = [("p", aligned_header("a")), ("q", aligned_header("b", BUNIT="adu")), ("r", aligned_header("c"))]
    inputs, dropped = combine.usable(frames, str.upper)
    assert [one.name for one in inputs] == ["a", "c"]
    assert dropped[0][0] == "b" and "in adu, the others in electron" in dropped[0][1]


def test_dropped_frames_have_rows_of_no_weight():
    stack = stacked(flat_inputs(2), NO_STARS, **PLAIN)
    table = products.with_dropped(stack.inputs, [("lost", "align: 3 stars, at least 6 are needed")])
    assert table["name"].tolist() == ["f0", "f1", "lost"]
    assert (table["weight"][2], table["note"][2]) == (0.0, "dropped, align: 3 stars, at least 6 are needed")
    assert abs(table["weight"].sum() - 1) < 1e-9


def test_long_names_and_reasons_are_whole():
    """Two nights' frames may differ in the last letters of their names only."""
    names = [f"{'Light_of_a_target_with_a_very_long_name_' * 2}{end}" for end in ("0001_aaaaaaaa", "0002_bbbbbbbb")]
    inputs = flat_inputs(2)
    inputs[0].name, inputs[1].name = names
    table = products.with_dropped(stacked(inputs, NO_STARS, **PLAIN).inputs, [(names[0] + "x", "reason " * 40 + "end")])
    assert table["name"].tolist() == [*names, names[0] + "x"]
    assert table["note"][2].endswith("end")


# ---- selection -------------------------------------------------------------------------------------------------------


def test_a_frame_beyond_a_limit_is_left_out_with_its_numbers():
    inputs = starry_inputs(5)
    inputs[3].fwhm = 6.0
    stack = stacked(inputs, limits={"fwhm": 4.0, "keep": 3})
    assert stack.frame.header["NCOMBINE"] == 4
    row = stack.inputs[-1]
    assert (row["name"], row["weight"], row["fwhm"]) == ("f3", 0.0, 6.0)
    assert row["note"].startswith("left out, FWHM 6.0 pix is above 4.0")


def test_a_limit_on_transparency_looks_at_the_stars():
    clear = [1.0, 0.97, 0.35, 1.0, 0.9]
    inputs = [an_input(exposed(expected(transparency=t), k), f"f{k}") for k, t in enumerate(clear)]
    stack = stacked(inputs, limits={"transparency": 0.6})
    assert stack.inputs["name"].tolist() == ["f0", "f1", "f3", "f4", "f2"]
    assert stack.inputs["transparency"][-1] == pytest.approx(0.35, abs=0.02)


def test_another_reference_is_taken_where_the_best_is_left_out():
    inputs = starry_inputs(5)
    inputs[0].fwhm = 6.0
    stack = stacked(inputs, limits={"fwhm": 4.0})
    assert stack.frame.header["PHOTREF"] != "f0" and stack.inputs["scale"][0] == pytest.approx(1, abs=0.02)


def test_frames_that_are_needed_stay_and_that_is_noted():
    inputs = flat_inputs(3)
    inputs[1].fwhm = 6.0
    stack = stacked(inputs, NO_STARS, limits={"fwhm": 4.0, "keep": 3}, **PLAIN)
    assert stack.frame.header["NCOMBINE"] == 3 and "kept all the same" in stack.inputs["note"][1]
    assert stack.frame.header["FLNOTE"].startswith("1 of 3 frames are beyond the limits and stay (limits: keep)")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clip": "extrema", "nlow": 1, "nhigh": 2}, "clip extrema rejected nothing: nlow + nhigh are 3, of 3 frames"),
        ({"clip": "extrema"}, ""),
        ({"clip": "minmax", "low": 1e6, "high": 2e6}, "clip minmax rejected all values of 100% of the pixels: are"),
        ({"clip": "minmax", "low": 0.0, "high": 1e6}, ""),
    ],
)
def test_a_rejection_of_nothing_or_all_is_told(options, said):
    note = stacked(flat_inputs(3), NO_STARS, **PLAIN, **options).frame.header.get("FLNOTE", "")
    assert said in note and ("rejected" in note) == bool(said)


# ---- products --------------------------------------------------------------------------------------------------------


def light_header(number, **cards):
    start = f"2025-11-14T23:{50 + 2 * number:02d}:30.000"
    own = {"FLFRAME": f"f{number}", "DATE-OBS": start, "AIRMASS": 1.1 + number / 10, "SKYLEVEL": 300.0, "ALIGNX": 3.5}
    alike = {"OBJECT": "M 34", "FILTER": "V", "EXPTIME": 60.0, "GAIN": 1.5, "NCOSMIC": 7, "FLTRY1": "header"}
    return fits.Header(own | alike | cards)


def with_headers(n):
    inputs = flat_inputs(n)
    for number, one in enumerate(inputs):
        one.header = light_header(number)
    return inputs


def test_the_header_has_the_dates_of_all_exposures():
    header = stacked(with_headers(4), NO_STARS, **PLAIN).frame.header
    assert header["DATE-OBS"] == header["DATE-BEG"] == "2025-11-14T23:50:30.000"
    assert header["DATE-END"] == "2025-11-14T23:57:30.000"
    assert header["DATE-AVG"] == "2025-11-14T23:54:00.000"
    assert header["MJD-AVG"] == pytest.approx(60993 + (23 + 54 / 60) / 24, abs=1e-7)


def test_the_mean_date_goes_with_the_exposures():
    headers = [light_header(0, EXPTIME=60.0), light_header(1, EXPTIME=180.0)]
    assert products.dates(headers)["DATE-AVG"][0] == "2025-11-14T23:53:15.000"


def test_frames_without_a_date_have_none():
    assert (
        products.dates([fits.Header({"DATE-OBS": text}) for text in ("", "yesterday", "2025-11-14", "20251114")]) == {}
    )


@pytest.mark.parametrize("n", [1, 4])
def test_the_header_has_nothing_of_a_single_frame(n):
    header = stacked(with_headers(n), NO_STARS, **PLAIN).frame.header
    for key in ("FLFRAME", "AIRMASS", "SKYLEVEL", "ALIGNX", "NCOSMIC", "FLTRY1"):
        assert key not in header
    assert (header["OBJECT"], header["FILTER"], header["GAIN"]) == ("M 34", "V", 1.5)


def test_a_target_that_frames_spell_differently_keeps_its_name():
    inputs = with_headers(3)
    inputs[1].header["OBJECT"], inputs[2].header["FILTER"] = "M34", "Johnson V"
    header = stacked(inputs, NO_STARS, **PLAIN).frame.header
    assert (header["OBJECT"], header["FILTER"]) == ("M 34", "V")


def test_what_only_some_frames_say_is_not_said_of_the_stack():
    inputs = with_headers(3)
    inputs[0].header["TELESCOP"] = "one of two"
    assert "TELESCOP" not in stacked(inputs, NO_STARS, **PLAIN).frame.header


def test_the_header_says_what_the_stack_shows():
    inputs = starry_inputs(4)
    for number, one in enumerate(inputs):
        one.header = light_header(number, NCORR05=1.2, NCORR03=1.2)
    frame = stacked(inputs, background="constant").frame
    header = frame.with_(products.measured(frame)).header
    assert header["FWHM"] == pytest.approx(3.0, rel=0.03) and header["FWHMIN"] == 3.0
    assert header["SKYNOISE"] == pytest.approx(np.median(frame.sigma), rel=0.05)
    assert header["SKYLEVEL"] == pytest.approx(SKY, rel=0.02)
    noise = 1.2 * np.sqrt((SKY + READ_NOISE**2) / 4 * np.pi) * header["DEPTHRAD"]
    assert header["DEPTHRAD"] == pytest.approx(1.5 * header["FWHM"], abs=0.01)
    assert header["DEPTHINS"] == pytest.approx(-2.5 * np.log10(5 * noise / 60), abs=0.06)


def test_planes_tell_what_counts_in_each_pixel():
    stack = stacked(masked_inputs(4, {1: Mask.BAD}), NO_STARS, **PLAIN)
    assert (stack.coverage.dtype, stack.weight.dtype, stack.rejected.dtype) == (np.uint16, np.float32, np.uint16)
    assert (stack.coverage[50, 60], stack.weight[50, 60], stack.rejected[50, 60]) == (
        3,
        pytest.approx(0.75, abs=0.01),
        0,
    )


def test_rejected_values_are_mapped_and_counted():
    frames = [exposed(np.full(SHAPE, SKY), k) for k in range(4)]
    data = frames[2].data.copy()
    data[::20, ::20] += 5000
    frames[2] = frames[2].with_(data=data)
    stack = stacked([an_input(f, f"f{k}") for k, f in enumerate(frames)], NO_STARS, **PLAIN)
    assert (stack.rejected[::20, ::20] == 1).all() and stack.inputs["rejected"].argmax() == 2
    np.testing.assert_allclose(stack.inputs["rejected"].sum(), stack.rejected.mean(), rtol=1e-6)


def test_what_each_frame_adds_to_the_depth():
    skies = np.array([300.0, 300.0, 3000.0])
    inputs = [an_input(exposed(np.full(SHAPE, sky), k), f"f{k}") for k, sky in enumerate(skies)]
    stack = stacked(inputs, NO_STARS, scale="none", background="constant")
    precision = 1 / (skies + READ_NOISE**2)
    without = 1 - np.sqrt(1 - precision / precision.sum())
    np.testing.assert_allclose(stack.inputs["depth"], 100 * without, rtol=0.02)


def test_the_table_names_the_night_of_each_frame():
    inputs = with_headers(2)
    inputs[0].header["NIGHT"], inputs[1].header["NIGHT"] = "2025-11-14", "2025-11-20"
    assert stacked(inputs, NO_STARS, **PLAIN).inputs["night"].tolist() == ["2025-11-14", "2025-11-20"]


def test_the_log_has_a_line_for_each_frame():
    table = products.with_dropped(stacked(flat_inputs(2), NO_STARS, **PLAIN).inputs, [("lost", "align: 3 stars")])
    lines = products.told(table)
    assert lines[0].startswith("f0: weight 0.50") and lines[2].endswith("dropped, align: 3 stars")
    assert products.left_out(table)["NDROPPED"][0] == 1


@pytest.mark.parametrize("options", [{"method": "mode"}, {"clip": "kappa"}, {"weight": "exposure"}, {"clip": "minmax"}])
def test_an_unknown_option_is_named(options):
    with pytest.raises(ValueError, match=f"combine: {next(iter(options))}"):
        stacked(flat_inputs(2), NO_STARS, **options)


def test_frames_of_two_sizes_are_no_stack():
    inputs = flat_inputs(2)
    small = inputs[1].read().with_(data=np.zeros((64, 64), np.float32), sigma=None, mask=np.zeros((64, 64), np.uint8))
    inputs[1].read = lambda: small
    with pytest.raises(ValueError, match="f1 is 64x64 but f0 272x256"):
        stacked(inputs, NO_STARS, **PLAIN)


def test_threads_change_no_bit():
    inputs = starry_inputs(5)
    one, two = (stacked(inputs, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(two.frame.data, one.frame.data)
    np.testing.assert_array_equal(two.frame.sigma, one.frame.sigma)
    assert two.frame.header["ODDEVEN"] == one.frame.header["ODDEVEN"]


# --- Transparency -----------------------------------------------------------------------------------------------------
def transparencies(n, **options):
    inputs = [
        an_input(exposed(expected(transparency=t), seed, name=f"f{seed}"), f"f{seed}") for seed, t in enumerate(n)
    ]
    for one, t in zip(inputs, n, strict=True):
        one.header["MAGZERO"] = 20.0 + 2.5 * np.log10(t) + (0.05 if one is inputs[0] else 0.0)
    return combine.combine(inputs, STARS, "f0", **options).inputs["transparency"]


def test_transparency_is_by_the_stars_where_they_tell_it():
    found = transparencies([1.0, 0.6, 0.9])
    np.testing.assert_allclose(found / found[0], [1.0, 0.6, 0.9], rtol=0.01)


def test_transparency_is_by_the_catalogue_where_flux_is_not_compared():
    found = transparencies([1.0, 0.6, 0.9], scale="exposure")
    np.testing.assert_allclose(found / found[0], np.array([1.0, 0.6, 0.9]) / [1, 1.047, 1.047], rtol=0.01)


def test_a_frame_whose_stars_tell_nothing_takes_nobody_elses_transparency():
    """A limit must find the cloud in one frame also where all stars of another are saturated."""
    frames = [exposed(expected(transparency=t), k) for k, t in enumerate([1.0, 0.6, 0.9, 0.95, 1.0])]
    frames[4] = frames[4].with_(mask=np.where(starlight(3.0) > 20, Mask.SATURATED, 0).astype(np.uint8))
    inputs = [an_input(frame, f"f{k}", noise=18.7) for k, frame in enumerate(frames)]
    stack = combine.combine(inputs, STARS, "f0", limits={"transparency": 0.8})
    told = dict(zip(stack.inputs["name"], stack.inputs["transparency"], strict=True))
    assert told["f1"] == pytest.approx(0.6, abs=0.04) and np.isnan(told["f4"])
    assert stack.inputs["name"][-1] == "f1" and stack.inputs["note"][-1].startswith("left out, transparency")


def test_of_history_a_stack_keeps_the_lines_that_all_frames_have():
    headers = [fits.Header() for _ in range(2)]
    for number, header in enumerate(headers):
        for line in ("camera: cooled", f"guided by star {number}", "light: firstlight"):
            header.add_history(line)
    out = products.shared_header(headers, headers[0])
    assert list(out["HISTORY"]) == ["camera: cooled", "light: firstlight"]


def test_of_versions_those_are_kept_that_all_frames_name():
    """One light needed another solver: its line, too long for a card, must not cost the others theirs."""
    long = "light: firstlight 0.1.0, Python 3.11.7, numpy 2.4.6, astropy 8.0.2, sep 1.4.1, reproject 0.21.0"
    headers = []
    for text in (long, f"{long}, seiza 0.45.0", long):
        header = fits.Header({"OBJECT": "M 1"})
        for part in history.wrapped(text):
            header.add_history(part)
        headers.append(header)
    for first in (headers[0], headers[1]):
        assert history.joined(products.shared_header(headers, first)["HISTORY"]) == [long]
