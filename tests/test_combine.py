"""Stacks of simulated frames on one grid: noise, outliers, seeing, cloud, sky and nebula against what was painted."""

from functools import cache

import numpy as np
import pytest
import simulated_night as sim
from astropy.io import fits
from firstlight import combine
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


def test_sharp_frames_weigh_more_where_that_is_asked_for():
    inputs = flat_inputs(2)
    inputs[1].fwhm = 2 * inputs[0].fwhm
    stack = stacked(inputs, NO_STARS, weight="noise+fwhm", **PLAIN)
    np.testing.assert_allclose(stack.inputs["weight"], [0.8, 0.2], rtol=0.01)


def test_all_weigh_the_same_where_that_is_asked_for():
    inputs = flat_inputs(4)
    inputs[0].noise *= 10
    np.testing.assert_allclose(stacked(inputs, NO_STARS, weight="none", **PLAIN).inputs["weight"], 0.25)


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
    assert stacked(flat_inputs(8), NO_STARS, **PLAIN).inputs["rejected"].max() < 3e-4


# ---- stars -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 8])
def test_stars_keep_their_flux_in_changing_seeing(n):
    seeing = np.linspace(2.3, 3.6, n)
    inputs = [an_input(exposed(expected(fwhm=f), k), f"f{k}", fwhm=f) for k, f in enumerate(seeing)]
    clipped = combine.fluxes(stacked(inputs).frame, STARS, 7.0)
    whole = combine.fluxes(stacked(inputs, clip="none").frame, STARS, 7.0)
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
    measured = combine.fluxes(stack.frame, STARS, 9.0)
    truth = combine.fluxes(exposed(expected(), 99).with_(data=expected().astype(np.float32)), STARS, 9.0)
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
        combine.fluxes(stacked(part).frame, STARS, 9.0) for part in (inputs, inputs[:2] + inputs[3:])
    )
    assert np.abs(with_cloud / without - 1)[FLUXES > 2e4].max() < 0.01


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
    np.testing.assert_array_equal(tight.inputs, free.inputs)


def test_the_order_of_frames_does_not_matter():
    inputs = starry_inputs(4)
    there, back = stacked(inputs), stacked(inputs[::-1])
    np.testing.assert_allclose(back.frame.data, there.frame.data, rtol=1e-5)


def test_reference_is_the_named_frame_else_the_deepest():
    frames = [exposed(expected(transparency=t), k) for k, t in enumerate((0.7, 1.0, 0.8))]
    inputs = [an_input(f, f"f{k}") for k, f in enumerate(frames)]
    assert stacked(inputs, reference="f2").frame.header["PHOTREF"] == "f2"
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
    table = combine.with_dropped(stack.inputs, [("lost", "align: 3 stars, at least 6 are needed")])
    assert table["name"].tolist() == ["f0", "f1", "lost"]
    assert (table["weight"][2], table["note"][2]) == (0.0, "dropped, align: 3 stars, at least 6 are needed")
    assert abs(table["weight"].sum() - 1) < 1e-9


def test_long_names_and_reasons_are_whole():
    """Two nights' frames may differ in the last letters of their names only."""
    names = [f"{'Light_of_a_target_with_a_very_long_name_' * 2}{end}" for end in ("0001_aaaaaaaa", "0002_bbbbbbbb")]
    inputs = flat_inputs(2)
    inputs[0].name, inputs[1].name = names
    table = combine.with_dropped(stacked(inputs, NO_STARS, **PLAIN).inputs, [(names[0] + "x", "reason " * 40 + "end")])
    assert table["name"].tolist() == [*names, names[0] + "x"]
    assert table["note"][2].endswith("end")


# ---- fluxes ----------------------------------------------------------------------------------------------------------


def test_fluxes_are_those_painted_whatever_the_sky():
    image = np.zeros(SHAPE)
    sim.paint(image, *PLACES, FLUXES, sim.Profile("gauss", 3.0))
    frame = Frame((image + 1000 + 2 * COLUMNS).astype(np.float32), fits.Header())
    np.testing.assert_allclose(combine.fluxes(frame, STARS, 6.0), FLUXES, rtol=3e-3, atol=30)


@pytest.mark.parametrize("bit", [Mask.BAD, Mask.SATURATED, Mask.COSMIC_RAY, Mask.NO_DATA])
def test_a_star_on_a_spoilt_pixel_has_no_flux(bit):
    mask = np.zeros(SHAPE, np.uint8)
    mask[round(PLACES[1, 3]), round(PLACES[0, 3])] = bit
    flux = combine.fluxes(exposed(expected(), 1, mask=mask), STARS, 5.0)
    assert np.flatnonzero(np.isnan(flux)).tolist() == [3]


def test_stars_off_the_frame_have_no_flux():
    stars = STARS[:4].copy()
    stars["x"] = [-50, 2, SHAPE[1] - 2, SHAPE[1] + 500]
    assert np.isnan(combine.fluxes(exposed(expected(), 1), stars, 5.0)).all()
