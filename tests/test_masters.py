"""Master bias, dark and flat. Truth: injected levels, hits, hot and dead pixels, simulated noise, and ccdproc."""

import numpy as np
import pytest
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
    assert "FLNOTE" not in header


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
    assert master.unit == "" and not master.mask.any()


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
