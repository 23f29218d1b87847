"""Whether stacks know their noise: what frames share of the masters' noise, half stacks, depth gained, dithers."""

from functools import cache

import numpy as np
import pytest
from astropy.io import fits
from firstlight import combine, honesty
from firstlight.frame import Frame, Mask

SHAPE = (320, 336)
RADII = (0, *honesty.RADII)
NO_STARS = np.zeros(0, [("x", "f8"), ("y", "f8"), ("fwhm", "f8")])


def masters(names="bdf"):
    return {key: name for key, name in zip(honesty.MASTERS, names, strict=True)}


def at(x, y, **cards):
    """Header of an aligned frame whose pixels lie x, y further on the detector than the grid's."""
    where = {"ALIGN11": 1.0, "ALIGN12": 0.0, "ALIGN21": 0.0, "ALIGN22": 1.0, "ALIGNX": float(x), "ALIGNY": float(y)}
    return fits.Header({"FWHM": 3.0, "SKYNOISE": 10.0, "EXPTIME": 60.0, **masters(), **where, **cards})


def seen(n):
    return np.ones((n, honesty.LATTICE**2), bool)


def shared(headers):
    return honesty.shared(headers, seen(len(headers)), SHAPE)


# ---- what frames share -----------------------------------------------------------------------------------------------


def test_the_correlation_is_that_of_resampled_noise():
    from firstlight import resample

    rng = np.random.default_rng(1)
    noise = rng.normal(size=(60, 400)).astype(np.float32)
    nothing = np.zeros(noise.shape, np.uint8)
    x, y = (p.astype(float) for p in np.meshgrid(np.arange(10, 380) + 0.0, np.arange(5, 55)))
    phase, frame = rng.uniform(0, 1, x.shape), resample.Resampler(noise, None, nothing, "cubic")
    for distance in (0.25, 0.5, 0.8, 1.0, 1.5):
        one, other = (frame.at((x + phase + d).astype(np.float32), y.astype(np.float32))[0] for d in (0, distance))
        assert np.mean(one * other) / np.mean(one**2) == pytest.approx(honesty.correlation(distance), abs=0.03)


def test_greens_of_a_colour_sensor_share_no_pixels():
    found = shared([at(0, 0, FLPLANE=plane) for plane in ("G1", "G2", "G1", "G2")])
    one, other = found.noise()[0, [1, 2]]
    assert (one, other) == (0.0, 1.0) and found.positions == pytest.approx(2)


def test_frames_that_lie_on_the_same_pixels_share_all():
    np.testing.assert_allclose(shared([at(0, 0)] * 3).noise(), 1.0)


def test_frames_that_are_dithered_share_nothing():
    np.testing.assert_allclose(shared([at(0, 0), at(3.2, 0), at(0, -7)]).noise(), np.eye(3), atol=0.01)


def test_frames_with_other_masters_share_nothing():
    np.testing.assert_allclose(shared([at(0, 0), at(0, 0, **masters("xyz"))]).noise(), np.eye(2))


def test_frames_without_masters_share_nothing():
    np.testing.assert_allclose(shared([at(0, 0, **masters(["", "", ""]))] * 2).noise(), np.eye(2))


def test_frames_that_do_not_say_where_they_lie_are_taken_to_share_nothing():
    found = shared([fits.Header(masters())] * 2)
    assert not found.known
    np.testing.assert_allclose(found.noise(), np.eye(2))


def test_a_turned_frame_shares_but_the_middle_of_the_turn():
    turned = {"ALIGN11": -1.0, "ALIGN22": -1.0, "ALIGNX": SHAPE[1] - 1.0, "ALIGNY": SHAPE[0] - 1.0}
    assert shared([at(0, 0), at(0, 0, **turned)]).noise()[0, 1] < 0.05


def test_only_where_both_see_the_sky_is_looked_at():
    """Frames whose distance changes over the field: at the left edge, where alone both have data, it is none."""
    sheared = at(0, 0, ALIGN11=1.05)
    left = np.zeros((2, honesty.LATTICE**2), bool)
    left[:, honesty.lattice(SHAPE)[:, 0] < 40] = True
    close = honesty.shared([at(0, 0, ALIGNX=1.65), sheared], left, SHAPE).noise()[0, 1]
    anywhere = shared([at(0, 0, ALIGNX=1.65), sheared]).noise()[0, 1]
    assert close > 0.9 > 0.3 > anywhere


def test_circles_share_while_they_overlap():
    found = shared([at(0, 0), at(6, 0)])
    overlap = [found.noise(radius)[0, 1] for radius in (1, 3, 5, 10)]
    np.testing.assert_allclose(overlap, [0, 0, 0.285, 0.624], atol=0.005)


@pytest.mark.parametrize("moves, positions", [([0] * 12, 1), (range(0, 60, 5), 12), ([0, 0, 0, 9, 9, 9], 2)])
def test_independent_positions_are_counted(moves, positions):
    assert shared([at(move, 0) for move in moves]).positions == pytest.approx(positions, rel=0.12)


def test_a_set_without_dithers_is_named_with_its_cost():
    text = honesty.dithering(shared([at(0.1 * k, 0) for k in range(12)]), 0.123)
    assert "not dithered: 12 frames on 1.3 independent positions" in text and "12% larger" in text


def test_a_dithered_set_is_not_named():
    assert honesty.dithering(shared([at(5 * k, 0) for k in range(12)]), 0.0) == ""


# ---- depth -----------------------------------------------------------------------------------------------------------


def test_equal_frames_add_the_same_depth():
    n = 4
    gained = honesty.depth_gained(np.ones(n), np.ones(n), np.zeros(n), shared([at(9 * k, 0) for k in range(n)]))
    np.testing.assert_allclose(gained, 100 * (1 - np.sqrt(3 / 4)), rtol=1e-6)


def test_a_frame_of_too_much_weight_takes_depth_away():
    gained = honesty.depth_gained(
        np.ones(3), np.array([1, 1, 5.0]), np.zeros(3), shared([at(9 * k, 0) for k in range(3)])
    )
    assert gained[2] < 0 < gained[0]


def test_frames_whose_noise_is_all_shared_add_nothing():
    gained = honesty.depth_gained(np.ones(3), np.ones(3), np.ones(3), shared([at(0, 0)] * 3))
    np.testing.assert_allclose(gained, 0, atol=1e-9)


def test_a_single_frame_is_all_of_the_depth():
    assert honesty.depth_gained(np.ones(1), np.ones(1), np.zeros(1), shared([at(0, 0)])).tolist() == [100.0]


# ---- stacks that know their noise ------------------------------------------------------------------------------------

BIAS, DARK, LIGHT = 3, 5, 12  # frames
READ_NOISE, SKY, DARK_LIGHT = 7.0, 30.0, 10.0


@cache
def lights(dither):
    """12 lights of an empty sky, calibrated with a master dark of 5 frames (its bias, of 3, in another master), and put
    on the grid by whole pixels; their sigmas are true."""
    rng = np.random.default_rng(5)
    wide = tuple(side + 80 for side in SHAPE)
    bias = rng.normal(0, READ_NOISE, (BIAS, *wide)).mean(axis=0)
    dark = (rng.poisson(DARK_LIGHT, (DARK, *wide)) + rng.normal(0, READ_NOISE, (DARK, *wide))).mean(axis=0)
    # A dark of half the length: half of both masters is taken away.
    own, masters_part = (
        SKY + DARK_LIGHT + READ_NOISE**2,
        (READ_NOISE**2 / BIAS + (DARK_LIGHT + READ_NOISE**2) / DARK) / 4,
    )
    share = np.full(SHAPE, round(255 * masters_part / (own + masters_part)), np.uint8)
    sigma = np.full(SHAPE, np.sqrt(own + masters_part), np.float32)
    moves = rng.integers(-35, 36, (LIGHT, 2)) if dither else np.zeros((LIGHT, 2), int)
    out = []
    for number, (x, y) in enumerate(moves):
        data = rng.poisson(SKY + DARK_LIGHT, wide) + rng.normal(0, READ_NOISE, wide)
        data = data - bias / 2 - (dark - DARK_LIGHT) / 2 - DARK_LIGHT
        part = data[40 + y : 40 + y + SHAPE[0], 40 + x : 40 + x + SHAPE[1]].astype(np.float32)
        header = at(40 + x, 40 + y, FLFRAME=f"f{number:02d}", SKYNOISE=float(sigma[0, 0]), BUNIT="electron")
        out.append(Frame(part, header, sigma, None, "electron", share))
    return out


def stacked(frames, **options):
    frames = {f"path{k:02d}": frame for k, frame in enumerate(frames)}
    inputs, _ = combine.usable([(name, frame.header) for name, frame in frames.items()], frames.__getitem__)
    return combine.combine(inputs, NO_STARS, "f00", **{"scale": "none", "background": "none"} | options)


@pytest.mark.parametrize("method", ["average", "median"])
@pytest.mark.parametrize("dither", [False, True])
def test_sky_scatters_about_the_truth_as_sigma_says(dither, method):
    frame = stacked(lights(dither), method=method).frame
    assert np.std((frame.data - SKY) / frame.sigma) == pytest.approx(1, abs=0.03)


def test_without_what_is_shared_sigma_would_be_too_small():
    """What the test above is able to see."""
    frame = stacked([one.with_(common=None) for one in lights(False)]).frame
    assert np.std((frame.data - SKY) / frame.sigma) > 1.1


@pytest.mark.parametrize("method", ["average", "sum"])
def test_sigma_is_true_where_the_masters_share_differs_from_frame_to_frame(method):
    """Two quiet frames whose noise is mostly the masters', four loud ones: a sum does not know the weights."""
    rng = np.random.default_rng(8)
    master, frames = rng.normal(0, 10, SHAPE), []
    for number, own in enumerate((5.0, 5.0, 40.0, 40.0, 40.0, 40.0)):
        sigma = np.hypot(own, 10.0)
        header = at(0, 0, FLFRAME=f"f{number:02d}", SKYNOISE=float(sigma), BUNIT="electron")
        image = (SKY + master + rng.normal(0, own, SHAPE)).astype(np.float32)
        share = np.full(SHAPE, round(255 * 100 / sigma**2), np.uint8)
        frames.append(Frame(image, header, np.full(SHAPE, sigma, np.float32), None, "electron", share))
    frame = stacked(frames, method=method).frame
    assert np.std(frame.data) / np.median(frame.sigma) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("dither", [False, True])
def test_odd_and_even_frames_differ_as_sigma_says(dither):
    header = stacked(lights(dither)).frame.header
    assert header["ODDEVEN"] == pytest.approx(1, abs=0.03)
    assert header["ODDEVEN8"] == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("radius", [3, 5, 10])
@pytest.mark.parametrize("dither", [False, True])
def test_noise_of_circles_is_what_the_factors_say(dither, radius):
    """Frames moved by less than the circle's radius share pixels of the detector in it."""
    import sep

    moved = [one.with_({f"NCORR{r:02d}": 1.0 for r in honesty.RADII}) for one in lights(dither)]
    frame = stacked(moved).frame
    y, x = (p.ravel().astype(float) for p in np.mgrid[12 : SHAPE[0] - 12 : 2 * radius, 12 : SHAPE[1] - 12 : 2 * radius])
    flux, error, _ = sep.sum_circle(frame.data - np.float32(SKY), x, y, radius, err=frame.sigma, subpix=0)
    pulls = flux / (error * frame.header[f"NCORR{radius:02d}"])
    assert np.std(pulls) == pytest.approx(1, abs=0.12)  # of some 240 circles, at the most


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_odd_and_even_frames_tell_wrong_sigmas(factor):
    wrong = [one.with_(sigma=one.sigma * np.float32(factor)) for one in lights(True)]
    assert stacked(wrong).frame.header["ODDEVEN"] == pytest.approx(1 / factor, abs=0.05)


def test_odd_and_even_frames_tell_a_sky_that_differs_on_larger_scales():
    rng = np.random.default_rng(2)
    rough = [np.kron(rng.normal(0, 1.5, (40, 42)), np.ones((8, 8))).astype(np.float32) for _ in range(LIGHT)]
    frames = [one.with_(data=one.data + more) for one, more in zip(lights(True), rough, strict=True)]
    header = stacked(frames).frame.header
    assert header["ODDEVEN"] < 1.05 and header["ODDEVEN8"] > 1.3


def test_one_frame_has_no_halves():
    header = stacked(lights(True)[:1]).frame.header
    assert "ODDEVEN" not in header and "ODDEVEN8" not in header


def test_a_stack_says_how_it_was_dithered():
    still, moved = (stacked(lights(dither)).frame.header for dither in (False, True))
    assert (still["FLDITHER"], moved["FLDITHER"]) == (1.0, pytest.approx(12, abs=0.5))
    assert "not dithered" in still["FLNOTE"] and "FLNOTE" not in moved


def test_stars_do_not_take_part():
    """A star in other seeing would pass for noise."""
    rng = np.random.default_rng(3)
    data = rng.normal(100, 5, SHAPE).astype(np.float32)
    data[50:60, 50:60] += 300
    sky = honesty.empty_sky(data, np.full(SHAPE, 5, np.float32), np.zeros(SHAPE, np.uint8))
    assert not sky[6:8, 6:8].any() and sky.mean() > 0.9


def test_flagged_pixels_do_not_take_part():
    mask = np.zeros(SHAPE, np.uint8)
    mask[80:88, 80:88] = Mask.SATURATED
    data = np.random.default_rng(3).normal(100, 5, SHAPE).astype(np.float32)
    sky = honesty.empty_sky(data, np.full(SHAPE, 5, np.float32), mask)
    assert not sky[10, 10] and sky.mean() > 0.9


# ---- correlated noise ------------------------------------------------------------------------------------------------


def test_factors_of_a_stack_are_those_of_its_frames_by_their_noise():
    factors = np.array([[1.0] * 5, [1.2] * 5])
    mixed = honesty.factors_of_stack(factors, np.array([1.0, 1.0]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(mixed, np.sqrt((1 + 4 * 1.44) / 5))


def test_a_frame_without_factors_does_not_count_for_them():
    factors = np.array([[np.nan] * 5, [1.2] * 5])
    np.testing.assert_allclose(honesty.factors_of_stack(factors, np.ones(2), np.ones(2)), 1.2)


def test_a_factor_between_two_radii_lies_between_theirs():
    assert honesty.factor_at(4.0, np.array([1.0, 1.1, 1.2, 1.4, 1.5])) == pytest.approx(1.3)
