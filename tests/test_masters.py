"""Master bias, dark and flat. Truth: injected levels, hits, hot and dead pixels, simulated noise, and ccdproc."""

import numpy as np
import pytest
import simulated_night as sim
from astropy.io import fits
from firstlight import masters
from firstlight.frame import Frame, Mask, Unusable

SHAPE = (40, 50)


def frames(n, level=300.0, sigma=5.0, seed=1, shape=SHAPE, unit="electron", mask=None):
    rng = np.random.default_rng(seed)
    return [
        Frame(
            rng.normal(level, sigma, shape).astype(np.float32),
            fits.Header({"FLFRAME": f"frame_{number}", "EXPTIME": 60.0}),
            np.full(shape, sigma, np.float32),
            None if mask is None else mask.copy(),
            unit,
        )
        for number in range(n)
    ]


def with_pixel(one, y, x, value=None, bit=0):
    data, mask = one.data.copy(), one.mask.copy()
    data[y, x] = data[y, x] if value is None else value
    mask[y, x] |= bit
    return one.with_(data=data, mask=mask)


MAKERS = {"bias": masters.master_bias, "dark": masters.master_dark, "flat": masters.master_flat}


# --- What all have in common ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", MAKERS)
def test_a_master_says_what_it_is_and_what_it_was_made_of(kind):
    header = MAKERS[kind](frames(4), 4).header
    assert (header["IMAGETYP"], header["NCOMBINE"], header["EXPTIME"]) == (f"master {kind}", 4, 60.0)
    assert [header[f"INPUT{n:03d}"] for n in (1, 2, 3, 4)] == ["frame_0", "frame_1", "frame_2", "frame_3"]
    assert "FLNOTE" not in header and "FLFRAME" not in header


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("n, said", [(1, "one frame only"), (2, "two frames only")])
def test_a_master_of_one_or_two_frames_says_so(kind, n, said):
    assert MAKERS[kind](frames(n), n).header["FLNOTE"].startswith(said)


@pytest.mark.parametrize("kind", MAKERS)
def test_without_a_frame_there_is_no_master_and_the_night_goes_on(kind):
    with pytest.raises(Unusable, match=f"no usable {kind} frame"):
        MAKERS[kind](iter([]), 3)


@pytest.mark.parametrize("n", [3, 4, 30])
@pytest.mark.parametrize("method", ["median", "average"])
def test_claimed_sigma_is_the_scatter_of_the_master(method, n):
    master = masters.master_bias(frames(n, shape=(150, 200)), n, method=method, clip="sigclip", low=4, high=4)
    assert np.std((master.data - 300) / master.sigma) == pytest.approx(1, abs=0.02)


def test_a_hit_in_one_frame_is_clipped():
    pile = frames(7)
    pile[3] = with_pixel(pile[3], 10, 20, 9000)
    master = masters.master_dark(pile, 7, method="average")
    assert abs(master.data[10, 20] - 300) < 5 * master.sigma[10, 20]
    assert master.mask[10, 20] == 0


def test_a_value_saturated_in_one_frame_does_not_count_even_without_clipping():
    pile = frames(3)
    pile[1] = with_pixel(pile[1], 5, 5, 52000, Mask.SATURATED)
    master = masters.master_bias(pile, 3, method="average", clip="none")
    assert master.data[5, 5] == pytest.approx((pile[0].data[5, 5] + pile[2].data[5, 5]) / 2)
    assert master.mask[5, 5] == 0


def test_a_bit_that_all_frames_have_stays_in_the_master():
    mask = np.zeros(SHAPE, np.uint8)
    mask[7, 8] = Mask.BAD
    assert np.argwhere(masters.master_bias(frames(3, mask=mask), 3).mask).tolist() == [[7, 8]]


@pytest.mark.parametrize("kind", ["bias", "dark"])
def test_what_is_subtracted_has_the_level_of_one_frame_also_as_a_sum(kind):
    added = MAKERS[kind](frames(6), 6, method="sum", clip="none")
    mean = MAKERS[kind](frames(6), 6, method="average", clip="none")
    np.testing.assert_allclose(added.data, mean.data, rtol=1e-6)
    np.testing.assert_allclose(added.sigma, mean.sigma, rtol=1e-6)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("odd", [{"unit": "adu"}, {"shape": (20, 50)}])
def test_a_frame_of_another_unit_or_size_is_left_out_with_a_word(kind, odd, capsys):
    stranger = frames(1, seed=9, **odd)[0].with_({"FLFRAME": "stranger"})
    master = MAKERS[kind]([*frames(3), stranger], 4)
    assert (master.header["NCOMBINE"], master.shape) == (3, SHAPE)
    assert "left out stranger: " in capsys.readouterr().out


@pytest.mark.parametrize("kind", MAKERS)
def test_a_limit_of_memory_changes_no_bit(kind):
    whole, bounded = (MAKERS[kind](frames(9), 9, memory=memory) for memory in (500e6, 1e5))
    for name in ("data", "sigma", "mask"):
        assert getattr(whole, name).tobytes() == getattr(bounded, name).tobytes()


def test_frames_are_taken_one_by_one():
    made = []

    def stream():
        for one in frames(5):
            made.append(one.header["FLFRAME"])
            yield one

    master = masters.master_bias(stream(), 5)
    assert master.header["NCOMBINE"] == len(made) == 5


@pytest.mark.parametrize("n", [3, 30])
def test_pulls_of_a_master_bias_with_clipping_are_one(n):
    truth = 1000 + np.random.default_rng(9).normal(0, 5, (150, 200)).astype(np.float32)
    pile = [one.with_(data=one.data - 300 + truth) for one in frames(n, shape=truth.shape)]
    rng = np.random.default_rng(n)
    pile = [one.with_(data=one.data + np.where(rng.random(truth.shape) < 3e-4, 900, 0).astype("f4")) for one in pile]
    master = masters.master_bias(pile, n, low=4, high=4)
    assert np.std((master.data - truth) / master.sigma) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_number_of_frames_in_each_pixel_is_kept(kind):
    pile = frames(6)
    pile[2] = with_pixel(pile[2], 10, 20, 9000)
    pile[4] = with_pixel(pile[4], 10, 20, bit=Mask.COSMIC_RAY)
    master = MAKERS[kind](pile, 6)
    assert master.count.dtype == np.uint16 and master.count.shape == master.shape
    assert master.count[10, 20] == 4 and np.median(master.count) == 6


def test_a_pixel_that_no_frame_knows_is_bad():
    bits = (Mask.COSMIC_RAY, Mask.NO_DATA, Mask.BAD)
    master = masters.master_bias([with_pixel(one, 3, 4, bit=bit) for one, bit in zip(frames(3), bits, strict=True)], 3)
    assert master.count[3, 4] == 0 and master.mask[3, 4] == Mask.BAD


@pytest.mark.parametrize("kind", MAKERS)
def test_a_rejection_of_nothing_or_all_is_told(kind):
    made = MAKERS[kind](frames(3), 3, clip="extrema", nlow=2, nhigh=2)
    assert made.header["FLNOTE"] == "clip extrema rejected nothing: nlow + nhigh are 4, of 3 frames"
    said = "clip minmax rejected all values of 100% of the pixels: are low and high right?"
    if kind == "flat":
        with pytest.raises(Unusable, match="no usable flat frame, divided by its level: clip minmax rejected all"):
            MAKERS[kind](frames(3), 3, clip="minmax", low=-2.0, high=-1.0)
    else:
        assert MAKERS[kind](frames(3), 3, clip="minmax", low=-2.0, high=-1.0).header["FLNOTE"] == said


@pytest.mark.parametrize("n", [2, 3, 9])
def test_the_scatter_of_a_frame_is_measured_beside_the_claimed_sigma(n):
    pile = [one.with_(sigma=one.sigma / 2) for one in frames(n, shape=(150, 200))]
    header = masters.master_bias(pile, n, low=9, high=9, method="average").header
    assert header["FLSCATTR"] == pytest.approx(5, rel=0.03) and "electron" in header.comments["FLSCATTR"]
    assert header["FLSIGRAT"] == pytest.approx(2, rel=0.03)


def test_one_frame_has_no_scatter():
    assert not {"FLSCATTR", "FLSIGRAT"} & set(masters.master_bias(frames(1), 1).header)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("odd", [{"unit": "adu"}, {"shape": (20, 50)}])
def test_the_majority_decides_and_not_the_first(kind, odd, capsys):
    stranger = frames(1, seed=9, **odd)[0].with_({"FLFRAME": "stranger"})
    master = MAKERS[kind]([stranger, *frames(3)], 4)
    assert (master.header["NCOMBINE"], master.shape) == (3, SHAPE)
    form = "50x40 adu" if "unit" in odd else "50x20 electron"
    assert f"left out stranger: it is {form}, most are 50x40 electron" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["bias", "dark"])
def test_a_frame_unlike_the_others_is_left_out_and_named(kind, capsys):
    pile = frames(5)
    pile[1] = pile[1].with_(data=pile[1].data + np.float32(100))
    master = MAKERS[kind](pile, 5, method="average", clip="none")
    header = master.header
    assert (header["NCOMBINE"], header["NLEFTOUT"]) == (4, 1)
    assert header["LEFT001"].startswith("frame_1: level 40") and header["INPUT002"] == "frame_2"
    assert "left out frame_1: level 40" in capsys.readouterr().out
    np.testing.assert_allclose(master.data, np.mean([pile[k].data for k in (0, 2, 3, 4)], axis=0), rtol=1e-5)


def test_bits_of_a_frame_that_is_left_out_do_not_count():
    mask = np.zeros(SHAPE, np.uint8)
    mask[7, 8] = Mask.BAD
    pile = frames(4, mask=mask)
    odd = pile[0].with_(data=pile[0].data + np.float32(500), mask=np.zeros(SHAPE, np.uint8))
    assert np.argwhere(masters.master_bias([odd, *pile], 5).mask).tolist() == [[7, 8]]


@pytest.mark.parametrize("kind", ["bias", "dark"])
def test_frames_are_brought_to_their_mean_level(kind):
    pile = [one.with_(data=one.data * k, sigma=one.sigma * k) for one, k in zip(frames(3), (0.5, 1, 1.5), strict=True)]
    how = {"scale": "level", "level_limit": None, "scatter_limit": None, "clip": "none"}
    master = MAKERS[kind](pile, 3, method="average", **how)
    assert np.median(master.data) == pytest.approx(300, rel=0.01)
    assert np.std(master.data) == pytest.approx(5 / np.sqrt(3), rel=0.1)
    assert np.median(master.sigma) == pytest.approx(5 / np.sqrt(3), rel=0.01)


def test_differences_of_level_that_scaling_removes_are_no_noise():
    pile = [one.with_(data=one.data * k, sigma=one.sigma * k) for one, k in zip(frames(3), (0.9, 1, 1.1), strict=True)]
    how = {"scale": "level", "level_limit": None, "scatter_limit": None, "clip": "none", "method": "average"}
    master = masters.master_dark(pile, 3, known_level=False, **how)
    assert np.median(master.sigma) == pytest.approx(5 / np.sqrt(3), rel=0.05)


def test_frames_are_brought_to_their_median_exposure():
    pile = [one.with_({"EXPTIME": 60.0 * k}, data=one.data * k) for one, k in zip(frames(3), (1, 2, 4), strict=True)]
    how = {"level_limit": None, "scatter_limit": None, "structure_limit": None, "pixel_limit": None}
    master = masters.master_dark(pile, 3, method="average", clip="none", scale="exposure", **how)
    assert master.header["EXPTIME"] == 120
    assert np.median(master.data) == pytest.approx(600, rel=0.01)


def test_a_scale_without_what_it_needs_is_refused_with_the_frames_name():
    pile = [one.with_({"EXPTIME": 0.0}) for one in frames(3)]
    with pytest.raises(Unusable, match="scale: exposure, but frame_0 has no exposure time"):
        masters.master_dark(pile, 3, scale="exposure")


def test_an_average_by_noise_is_the_best_there_is():
    pile = [*frames(1, sigma=20.0, shape=(150, 200)), *frames(1, seed=2, shape=(150, 200))]
    master = masters.master_bias(pile, 2, method="average", weight="noise", clip="none")
    assert np.median(master.sigma) == pytest.approx(1 / np.sqrt(1 / 400 + 1 / 25), rel=1e-4)
    assert np.std(master.data) == pytest.approx(1 / np.sqrt(1 / 400 + 1 / 25), rel=0.03)


# --- Dark -----------------------------------------------------------------------------------------------------------
def test_hot_pixels_are_bad_and_no_others():
    hot = np.zeros(SHAPE, bool)
    hot[[3, 20, 39, 0], [4, 30, 49, 25]] = True
    pile = [one.with_(data=one.data + np.float32(200) * hot) for one in frames(9, sigma=3.0)]
    master = masters.master_dark(pile, 9)
    np.testing.assert_array_equal((master.mask & Mask.BAD) != 0, hot)
    assert master.header["NHOT"] == 4


def test_a_gradient_of_the_dark_is_not_hot():
    glow = np.float32(8) * np.arange(50, dtype=np.float32)
    pile = [one.with_(data=one.data + glow) for one in frames(5, sigma=3.0)]
    assert not masters.master_dark(pile, 5).mask.any()


@pytest.mark.parametrize("known, claimed", [(True, 5.0), (False, 8.0)])
def test_the_noise_of_dark_current_of_unknown_level_is_taken_from_the_frames(known, claimed):
    shape, n = (150, 200), 5
    pile = [one.with_(sigma=np.full(shape, 5, np.float32)) for one in frames(n, sigma=8.0, shape=shape)]
    master = masters.master_dark(pile, n, known_level=known, method="average", low=9, high=9)
    assert np.median(master.sigma) == pytest.approx(claimed / np.sqrt(n), rel=0.02)


def test_sigma_is_never_lowered_to_the_scatter():
    pile = [one.with_(sigma=one.sigma * 3) for one in frames(5, shape=(150, 200))]
    master = masters.master_dark(pile, 5, known_level=False, method="average")
    assert np.median(master.sigma) == pytest.approx(15 / np.sqrt(5), rel=0.001)


def dark_with_hot(n, level, read_noise, glow, shape=(256, 256)):
    """Frames of a detector with hot pixels, alone, in clusters and columns, and where they are."""
    rng = np.random.default_rng(n)
    y, x = np.indices(shape)
    normal = level * (1 + rng.normal(0, 0.005, shape)) + glow * np.exp(-np.hypot(x, y) / 40)
    sigma = np.sqrt((normal + read_noise**2) * {3: 1.347, 30: 1.55}[n] / n)
    hot = rng.random(shape) < 0.003
    hot[50:53, 60:63] = hot[:, 100] = hot[30:200, 170:172] = hot[:, 0] = True
    current = normal + hot * sigma * 10 ** rng.uniform(1, 3, shape)
    current[:, (0, 100)] = (normal + 12 * sigma)[:, (0, 100)]
    return [
        Frame(
            (rng.poisson(current) + rng.normal(500, read_noise, shape)).astype(np.float32),
            fits.Header(),
            np.sqrt(current + read_noise**2).astype(np.float32),
            unit="electron",
        )
        for _ in range(n)
    ], hot


@pytest.mark.parametrize("n", [3, 30])
@pytest.mark.parametrize("level, read_noise, glow", [(1.0, 8.0, 0), (0.5, 1.5, 1000), (1000.0, 5.0, 300)])
def test_hot_pixels_are_found_and_normal_ones_are_not(n, level, read_noise, glow):
    pile, hot = dark_with_hot(n, level, read_noise, glow)
    found = (masters.master_dark(pile, n, low=4, high=4).mask & Mask.BAD) != 0
    assert found[hot].mean() >= 0.95
    assert found[~hot].mean() < 1e-4


# --- Flat -----------------------------------------------------------------------------------------------------------
def response(shape=SHAPE):
    y, x = np.indices(shape)
    vignette = 1 - 0.4 * ((y / shape[0] - 0.5) ** 2 + (x / shape[1] - 0.5) ** 2)
    return vignette / np.median(vignette)


def flats(levels, shape=SHAPE, seed=2, truth=None):
    rng = np.random.default_rng(seed)
    truth = response(shape) if truth is None else truth
    out = []
    for number, level in enumerate(levels):
        light = level * truth
        data = rng.normal(light, np.sqrt(np.maximum(light, 1))).astype(np.float32)
        sigma = np.sqrt(np.maximum(light, 1)).astype(np.float32)
        out.append(Frame(data, fits.Header({"FLFRAME": f"flat_{number}"}), sigma, unit="electron"))
    return out


def test_flats_of_any_brightness_give_the_response():
    master = masters.master_flat(flats([5000, 20000, 10000, 40000, 7000]), 5)
    assert np.median(master.data) == pytest.approx(1, abs=1e-6)
    assert np.std(master.data / response() - 1) < 0.008
    assert np.mean(master.data / response()) == pytest.approx(1, abs=0.001)
    assert master.unit == "" and not master.mask.any() and master.header["FLATLEV"] == pytest.approx(10000, rel=0.01)


def test_claimed_sigma_of_a_flat_is_its_scatter():
    shape = (150, 200)
    master = masters.master_flat(flats([20000] * 7, shape), 7)
    pulls = (master.data - response(shape)) / master.sigma
    assert np.std(pulls) == pytest.approx(1, abs=0.02)


def test_a_flat_is_ccdprocs():
    import ccdproc
    from astropy.nddata import CCDData

    pile = flats([5000, 20000, 10000, 40000, 7000])
    theirs = ccdproc.combine(
        [CCDData(one.data.astype(float), unit="electron") for one in pile],
        method="median",
        scale=lambda image: 1 / np.median(image),
    )
    ours = masters.master_flat(pile, 5, method="median", clip="none")
    np.testing.assert_allclose(ours.data, theirs.data / np.median(theirs.data), rtol=1e-5)


def test_a_star_in_one_twilight_flat_is_clipped():
    pile = flats([20000] * 5)
    pile[2] = with_pixel(pile[2], 10, 10, 60000)
    assert masters.master_flat(pile, 5, method="average").data[10, 10] == pytest.approx(response()[10, 10], rel=0.02)


def test_flats_without_light_or_burnt_out_are_left_out_with_a_word(capsys):
    pile = flats([20000, 10000, 15000])
    dark = pile[0].with_({"FLFRAME": "lamp_off"}, data=pile[0].data * 0 - 3)
    burnt = pile[0].with_({"FLFRAME": "burnt"}, mask=np.full(SHAPE, Mask.SATURATED, np.uint8))
    master = masters.master_flat([dark, burnt, *pile], 5)
    said = capsys.readouterr().out
    assert master.header["NCOMBINE"] == 3
    assert "left out lamp_off: level -3.0 electron, no light in it" in said
    assert "left out burnt: 100% of it saturated" in said


def test_where_all_flats_are_without_light_there_is_no_master():
    with pytest.raises(Unusable, match="no usable flat frame"):
        masters.master_flat([one.with_(data=-one.data) for one in flats([100, 100])], 2)


def test_dead_pixels_are_bad_and_dust_is_not():
    truth = response()
    truth[10, 10] = 0.2
    truth[20:30, 20:30] *= 0.6
    master = masters.master_flat(flats([20000] * 5, truth=truth), 5)
    assert np.argwhere(master.mask & Mask.BAD).tolist() == [[10, 10]]
    assert master.header["NDEAD"] == 1


def test_response_near_zero_is_too_low_to_divide_by():
    truth = response()
    truth[:, 0] = 0.02
    truth[5, 30] = 0.0
    master = masters.master_flat(flats([20000] * 5, truth=truth), 5)
    expected = np.zeros(SHAPE, bool)
    expected[:, 0] = expected[5, 30] = True
    np.testing.assert_array_equal((master.mask & Mask.LOW_FLAT) != 0, expected)


def test_flagged_pixels_do_not_set_the_level():
    mask = np.zeros(SHAPE, np.uint8)
    mask[:30] = Mask.BAD
    pile = [one.with_(mask=mask, data=np.where(mask, 0, one.data)) for one in flats([20000] * 3, truth=np.ones(SHAPE))]
    assert np.median(masters.master_flat(pile, 3).data[30:]) == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize("n, level", [(3, 20000), (30, 20000), (3, 500)])
def test_dead_pixels_are_found_and_live_ones_are_not(n, level):
    rng = np.random.default_rng(n)
    truth = response((256, 256)) * (1 + rng.normal(0, 0.01, (256, 256)))
    dead = rng.random(truth.shape) < 0.002
    dead[40:42, 50:52] = dead[:, 200] = True
    truth[dead] *= rng.uniform(0.05, 0.2, dead.sum())
    found = (masters.master_flat(flats([level] * n, truth.shape, truth=truth), n).mask & Mask.BAD) != 0
    assert found[dead].mean() >= 0.95
    assert found[~dead].mean() < 1e-4


def test_a_flat_too_faint_is_left_out(capsys):
    pile = flats([20000, 15000, 10000])
    dim = pile[0].with_({"FLFRAME": "dim"}, data=pile[0].data / 1000, sigma=np.full(SHAPE, 7, np.float32))
    assert masters.master_flat([dim, *pile], 4).header["NCOMBINE"] == 3
    assert "left out dim: level 20.0 electron is below 5 times its noise of 7.0" in capsys.readouterr().out
    assert masters.master_flat(pile, 3, faintest=12000.0).header["NCOMBINE"] == 2
    assert "left out flat_2: level 99" in capsys.readouterr().out


def test_a_flat_through_a_cloud_is_left_out_with_a_word(capsys):
    pile = flats([20000] * 5, (150, 200))
    pile[3] = pile[3].with_(data=pile[3].data * np.linspace(0.97, 1.03, 200, dtype=np.float32))
    assert masters.master_flat(pile, 5).header["NCOMBINE"] == 4
    assert "left out flat_3: differs from the others by " in capsys.readouterr().out


@pytest.mark.parametrize("normalise", ["median", "mean"])
def test_the_statistic_that_becomes_one_is_stated(normalise):
    truth = response() ** 3
    master = masters.master_flat(flats([20000] * 5, truth=truth), 5, normalise=normalise)
    assert getattr(np, normalise)(master.data.astype(float)) == pytest.approx(1, abs=1e-5)
    assert master.header["FLNORM"] == normalise


def test_an_average_of_flats_by_noise_claims_what_it_has():
    pile = flats([40000, 5000, 2000], (150, 200))
    master = masters.master_flat(pile, 3, method="average", weight="noise", clip="none")
    assert np.std((master.data - response((150, 200))) / master.sigma) == pytest.approx(1, abs=0.03)
    assert np.median(master.sigma) == pytest.approx(1 / np.sqrt(47000), rel=0.02)


@pytest.mark.parametrize("levels", [[20000] * 3, [40000, 20000, 10000, 5000, 2500], [30000] * 20])
def test_claimed_sigma_of_flats_of_any_brightness_is_their_scatter(levels):
    master = masters.master_flat(flats(levels, (150, 200)), len(levels), low=4, high=4)
    assert np.std((master.data - response((150, 200))) / master.sigma) == pytest.approx(1, abs=0.03)


def twilight(n, shape=(320, 320), stars=120):
    """Flats of a darkening sky, dithered, through a field of bright and faint stars; and the true response."""
    rng = np.random.default_rng(n)
    truth = response(shape) * (1 + rng.normal(0, 0.01, shape))
    x, y = rng.uniform(-40, shape[0] + 40, (2, stars))
    flux, out = np.minimum(1500 * (rng.pareto(0.8, stars) + 1), 2e6), []
    for number, level in enumerate(np.geomspace(40000, 8000, n)):
        light, (dx, dy) = np.zeros(shape), rng.uniform(-40, 40, 2)
        near = (x + dx > 4) & (x + dx < shape[1] - 5) & (y + dy > 4) & (y + dy < shape[0] - 5)
        sim.paint(light, x[near] + dx, y[near] + dy, flux[near] * (1 + number / 2), sim.Profile("moffat", 3.0))
        expected = (level + light) * truth
        data = np.minimum(rng.poisson(expected) + rng.normal(0, 7, shape), 150000).astype(np.float32)
        burnt = np.where(expected > 150000, np.uint8(Mask.SATURATED), np.uint8(0))
        sigma = np.sqrt(expected + 49).astype(np.float32)
        out.append(Frame(data, fits.Header({"FLFRAME": f"sky_{number}"}), sigma, burnt, "electron"))
    return out, truth / np.median(truth)


def beyond_noise(master, truth):
    """Rms of the difference to the truth, less that of the claimed noise; and its largest part."""
    good = (master.mask & Mask.UNUSABLE) == 0
    rest = (master.data / truth)[good]
    rest = rest / np.median(rest) - 1
    return np.sqrt(max(np.mean(rest**2) - np.mean((master.sigma / truth)[good] ** 2), 0)), np.abs(rest).max()


@pytest.mark.parametrize("method", ["median", "average"])
@pytest.mark.parametrize("n", [5, 9])
def test_twilight_flats_come_out_without_their_stars(n, method):
    pile, truth = twilight(n)
    master = masters.master_flat(pile, n, method=method, low=4, high=4)
    assert master.header["NCOMBINE"] == n and not master.mask.any()
    rms, largest = beyond_noise(master, truth)
    assert rms < 0.002 and largest < 0.03


def test_clipping_alone_leaves_more_of_the_stars():
    pile, truth = twilight(5)
    master = masters.master_flat(pile, 5, method="average", low=4, high=4, stars=False)
    assert beyond_noise(master, truth)[1] > 0.03


@pytest.mark.parametrize("n", [3, 10])
def test_a_master_flat_is_the_response_beyond_its_noise(n):
    truth = response((256, 256)) * (1 + np.random.default_rng(1).normal(0, 0.01, (256, 256)))
    truth /= np.median(truth)
    assert beyond_noise(masters.master_flat(flats([30000] * n, truth.shape, truth=truth), n), truth)[0] < 0.002
