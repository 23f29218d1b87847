"""A raw frame through the chain. Truth: a simulated detector of known bias, dark current, response and noise."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from firstlight import calibrate, cosmic, io, reduce
from firstlight.frame import Frame, Mask
from firstlight.reduce import Reduction
from sensor import EXPOSURE, GAIN, READ_NOISE, Detector

DATA = Path(__file__).parents[2] / "shared" / "data"
real = pytest.mark.skipif(not DATA.exists(), reason="the folder of real frames ../shared/data is absent")

NO_HITS = {"cosmic_ray": {"method": "none"}}


def pulls(out, light, clean=None):
    keep = out.mask == 0 if clean is None else clean
    return ((out.data - light) / out.sigma)[keep]


# --- Preparing ------------------------------------------------------------------------------------------------------
def test_what_the_table_knows_becomes_cards_and_the_raw_header_stays():
    header = fits.Header({"OBJECT": "m 42"})
    out = reduce.prepare(np.zeros((2, 2), np.uint16), header, {"OBJECT": "M42", "FILTER": None, "EXPTIME": 60.0})
    assert (out.header["OBJECT"], out.header["EXPTIME"]) == ("M42", 60.0)
    assert "FILTER" not in out.header
    assert dict(header) == {"OBJECT": "m 42"}


@pytest.mark.parametrize("nonsense", ["-5", "unknown", -1.0])
def test_an_exposure_that_is_none_goes(nonsense):
    header = fits.Header({"EXPTIME": nonsense})
    assert "EXPTIME" not in reduce.prepare(np.zeros((2, 2), np.uint16), header, {"EXPTIME": None}).header


def test_without_facts_the_raw_header_stays_too():
    header = fits.Header({"OBJECT": "m 42"})
    reduce.prepare(np.zeros((2, 2), np.uint16), header, {})
    assert dict(header) == {"OBJECT": "m 42"}


@pytest.mark.parametrize("dtype, largest", [(np.uint16, 65535), (np.int16, 32767), (np.uint8, 255)])
def test_the_largest_value_of_the_raw_type_is_where_it_saturates(dtype, largest):
    out = reduce.prepare(np.full((5, 5), largest, dtype), fits.Header(), {})
    assert (reduce.step("trim", out, Reduction()).mask == Mask.SATURATED).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_other_types_saturate_nowhere(dtype):
    out = reduce.prepare(np.full((5, 5), 65535, dtype), fits.Header(), {})
    assert not reduce.step("trim", out, Reduction()).mask.any()


def test_pixels_that_are_not_numbers_have_no_data_and_spoil_no_neighbour():
    data = np.full((9, 9), 100, np.float32)
    data[4, 4], data[0, 0] = np.nan, np.inf
    out = reduce.prepare(data, fits.Header({"EGAIN": GAIN, "RDNOISE": READ_NOISE}), {})
    assert np.argwhere(out.mask).tolist() == [[0, 0], [4, 4]]
    assert (out.mask[out.mask > 0] == Mask.NO_DATA).all()
    out = reduce.reduce(out, Reduction(cameras={"bias_level": 0.0}, options=NO_HITS))
    assert np.argwhere(~np.isfinite(out.data)).tolist() == [[0, 0], [4, 4]], (
        "NaN where there is no data, and only there"
    )
    assert np.argwhere(~np.isfinite(out.sigma)).tolist() == [[0, 0], [4, 4]]


def test_infinite_pixels_in_the_majority_leave_a_finite_frame():
    data = np.full((4, 4), np.inf, np.float32)
    data[0] = 100
    assert np.isfinite(reduce.prepare(data, fits.Header(), {}).data).all()


def test_a_frame_without_any_value_is_refused():
    with pytest.raises(ValueError, match="no pixel of this frame has a value"):
        reduce.prepare(np.full((3, 3), np.nan, np.float32), fits.Header(), {})


# --- Numbers for the steps ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "exposure, dark, k", [(60, 60, 1), (60.5, 60, 1), (30, 60, 0.5), (120, 60, 2), (62, 60, 62 / 60)]
)
def test_the_share_of_a_dark_is_the_ratio_of_exposures(exposure, dark, k):
    assert reduce.dark_ratio(exposure, dark) == pytest.approx(k, abs=1e-12)


def test_saturation_comes_from_the_camera_before_the_options_before_the_file():
    one = Detector(shape=(8, 8)).frame()
    header = {"trim": {"saturation": 40000.0}}
    assert reduce.step("trim", one, Reduction()).header["SATURATE"] == 65535
    assert reduce.step("trim", one, Reduction(options=header)).header["SATURATE"] == 40000
    assert (
        reduce.step("trim", one, Reduction(options=header, cameras={"saturation": 50000})).header["SATURATE"] == 50000
    )


def test_a_gain_in_the_configuration_wins_over_the_header():
    out = reduce.reduce(Detector(shape=(8, 8)).frame(100.0), Reduction("bias", cameras={"gain": 2.0}))
    assert out.header["FLGAIN"] == 2.0
    assert np.median(out.sigma) == pytest.approx(np.hypot(READ_NOISE, 2.0 / np.sqrt(12)))


def test_without_a_known_gain_the_light_stays_in_adu_with_an_empirical_sigma():
    data, header = Detector().raw(300.0)
    del header["EGAIN"]
    out = reduce.reduce(reduce.prepare(data, header, {}), Reduction(options=NO_HITS))
    assert (out.unit, out.header["SIGMASRC"]) == ("adu", "empirical")
    truth = np.sqrt((330 + READ_NOISE**2) / GAIN**2 + 3**2 + (0.03 * 300 / GAIN) ** 2 + (0.29 * 30 / GAIN) ** 2)
    assert np.median(out.sigma) == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize(
    "parts, source",
    [
        ({}, "empirical"),
        ({"cameras": {"bias_level": 500.0}}, "formula"),
        ({"masters": ("bias",)}, "formula"),
        ({"masters": ("dark",)}, "formula"),
    ],
)
def test_sigma_is_by_formula_where_the_level_is_known(parts, source):
    sensor = Detector(shape=(60, 60))
    made = sensor.masters(3)
    chosen = {kind: made[kind] for kind in parts.get("masters", ())}
    out = reduce.step("deviation", sensor.frame(3000.0), Reduction(cameras=parts.get("cameras", ()), **chosen))
    assert out.header["SIGMASRC"] == source
    if source == "formula":
        truth = np.sqrt(3000 + 30 * ("dark" not in chosen) + READ_NOISE**2) / GAIN
        assert np.median(out.sigma) == pytest.approx(truth, rel=0.01)


def test_a_bias_in_electrons_that_does_not_say_its_gain_has_that_of_the_frame():
    sensor = Detector(shape=(60, 60))
    one, made = sensor.frame(3000.0), sensor.masters(3)["bias"]
    header = made.header.copy()
    del header["FLGAIN"]
    out, same = (reduce.step("deviation", one, Reduction(bias=b)) for b in (made.with_(header=header), made))
    np.testing.assert_array_equal(out.sigma, same.sigma)


def test_without_any_calibration_a_light_is_as_it_was_read():
    sensor = Detector(shape=(20, 20))
    one = sensor.frame(100.0)
    out = reduce.reduce(one, Reduction(options=NO_HITS))
    np.testing.assert_array_equal(out.data, one.data * np.float32(GAIN))
    assert [out.header[key] for key in ("FLBIAS", "FLDARK", "FLFLAT")] == [False, False, False]


@pytest.mark.parametrize("kind", ["bias", "dark"])
def test_a_master_of_another_size_is_refused_in_words(kind):
    small = Frame(
        np.ones((4, 6), np.float32), fits.Header({"EXPTIME": EXPOSURE}), np.ones((4, 6), np.float32), unit="electron"
    )
    with pytest.raises(ValueError, match=f"master {kind} is 6x4 but the frame is 20x10: same binning"):
        reduce.reduce(Detector(shape=(10, 20)).frame(), Reduction(**{kind: small}))


@pytest.mark.parametrize("kind", ["bias", "dark"])
def test_a_master_of_another_measured_gain_is_brought_to_the_frames(kind):
    sensor = Detector(shape=(60, 60))
    one, made = sensor.frame(300.0), sensor.masters(3)[kind]
    same = reduce.reduce(one, Reduction(options=NO_HITS, **{kind: made}))

    def scaled(factor, unit, gain):
        cards = {"FLGAIN": gain, "FLSCATTR": made.header["FLSCATTR"] * factor}
        return made.with_(cards, data=made.data * np.float32(factor), sigma=made.sigma * np.float32(factor), unit=unit)

    for master in (scaled(1.01, "electron", 1.01 * GAIN), scaled(1 / GAIN, "adu", GAIN)):
        out = reduce.reduce(one, Reduction(options=NO_HITS, **{kind: master}))
        np.testing.assert_allclose(out.data, same.data, atol=0.01)
        np.testing.assert_allclose(out.sigma, same.sigma, rtol=1e-4)


def test_a_master_in_electrons_of_unknown_gain_is_refused_for_a_frame_in_adu():
    sensor = Detector(shape=(60, 60))
    data, header = sensor.raw()
    del header["EGAIN"]
    one = reduce.prepare(data, header, {})
    with pytest.raises(ValueError, match="master bias is in electron but the frame is in adu: same gain for both?"):
        reduce.reduce(one, Reduction(bias=sensor.masters(3)["bias"].with_({"FLGAIN": "unknown"})))


def test_a_master_in_electrons_is_brought_to_a_frame_in_adu():
    sensor = Detector(shape=(60, 60))
    data, header = sensor.raw()
    del header["EGAIN"]
    out = reduce.reduce(reduce.prepare(data, header, {}), Reduction(options=NO_HITS, bias=sensor.masters(30)["bias"]))
    assert out.unit == "adu"
    assert np.median(out.data) == pytest.approx(30 / GAIN, rel=0.05)


# --- The chain against the truth ------------------------------------------------------------------------------------
@pytest.mark.parametrize("sky", [3, 30, 300, 3000, 30000])
@pytest.mark.parametrize("n", [3, 30])
def test_claimed_sigma_is_the_scatter_through_all_masters(n, sky, made):
    sensor, masters_of = made
    out = reduce.reduce(sensor.frame(float(sky)), Reduction(options=NO_HITS, **masters_of(n, EXPOSURE)))
    assert pulls(out, sky).std() == pytest.approx(1, abs=0.02)
    assert out.data[out.mask == 0].mean() == pytest.approx(sky, abs=max(0.35, 0.003 * sky))


@pytest.mark.parametrize("sky", [3, 300, 30000])
@pytest.mark.parametrize("n", [3, 30])
def test_claimed_sigma_is_the_scatter_with_a_dark_of_twice_the_exposure(n, sky, made):
    sensor, masters_of = made
    out = reduce.reduce(sensor.frame(float(sky)), Reduction(options=NO_HITS, **masters_of(n, 2 * EXPOSURE)))
    assert (out.header["FLBIAS"], out.header["FLDARK"]) == (0.5, 0.5)
    assert pulls(out, sky).std() == pytest.approx(1, abs=0.02)


def test_a_dark_of_the_same_exposure_needs_no_bias():
    sensor = Detector(dark_rate=0.02)
    chosen = sensor.masters(30) | {"bias": None}
    out = reduce.reduce(sensor.frame(300.0), Reduction(options=NO_HITS, **chosen))
    assert out.data[out.mask == 0].mean() == pytest.approx(300, rel=0.003)
    assert pulls(out, 300).std() == pytest.approx(1, abs=0.02)


def test_a_bias_alone_leaves_the_dark_current_in(made):
    sensor, masters_of = made
    out = reduce.reduce(sensor.frame(0.0), Reduction(options=NO_HITS, bias=masters_of(30, EXPOSURE)["bias"]))
    assert out.data.mean() == pytest.approx(sensor.dark_rate.mean() * EXPOSURE, rel=0.01)


def test_a_master_bias_frame_has_the_read_noise(made):
    sensor, _ = made
    out = reduce.reduce(sensor.frame(0.0, 0.0), Reduction("bias"))
    assert pulls(out, sensor.bias * GAIN).std() == pytest.approx(1, abs=0.02)


@pytest.fixture(scope="module")
def made():
    """A detector and its masters of n frames with darks of some exposure, each made once."""
    sensor, known = Detector(), {}

    def masters_of(n, dark_exposure):
        if (n, dark_exposure) not in known:
            known[n, dark_exposure] = sensor.masters(n, dark_exposure)
        return dict(known[n, dark_exposure])

    return sensor, masters_of


@pytest.mark.parametrize("dark_exposure, k", [(EXPOSURE, 1.0), (2 * EXPOSURE, 0.5), (EXPOSURE / 2, 2.0), (None, 0.0)])
def test_hits_are_looked_for_above_bias_and_dark_as_they_will_be_subtracted(monkeypatch, dark_exposure, k):
    sensor = Detector(shape=(40, 40))
    made = sensor.masters(3, dark_exposure or EXPOSURE)
    chosen = {"bias": made["bias"], "dark": made["dark"] if dark_exposure else None}
    seen = []
    monkeypatch.setattr(cosmic, "cosmic_ray", lambda frame, pedestal, **_: seen.append(pedestal) or frame)
    reduce.reduce(sensor.frame(), Reduction(**chosen))
    np.testing.assert_allclose(seen[0], (1 - k) * made["bias"].data + k * made["dark"].data, rtol=1e-5)


# --- Hits, hot pixels, masks ----------------------------------------------------------------------------------------
HITS = {"cosmic_ray": {"method": "laplacian", "sigclip": 5.0, "sigfrac": 0.3, "objlim": 5.0}}


@pytest.fixture(scope="module")
def struck():
    """A light with hits and the masters of its sensor: (light, masters, where hits, hot, warm, dead pixels are)."""
    sensor = Detector(shape=(120, 120), seed=5)
    free = np.random.default_rng(6).permutation(np.argwhere(np.ones((110, 110)))) + 5
    hits, hot, warm, dead = (np.zeros(sensor.shape, bool) for _ in range(4))
    for where, places in ((hits, free[:40]), (hot, free[40:70]), (warm, free[70:100]), (dead, free[100:110])):
        where[tuple(places.T)] = True
    sensor.dark_rate[hot], sensor.dark_rate[warm], sensor.response[dead] = 500.0, 1.2, 0.2
    made = sensor.masters(9)
    light = sensor.frame(200.0, EXPOSURE, np.where(hits, 3000.0, 0.0))
    return light, made, hits, hot, warm, dead


def test_hits_are_found_and_replaced(struck):
    light, made, hits, *_ = struck
    out = reduce.reduce(light, Reduction(options=HITS, **made))
    assert (out.mask[hits] & Mask.COSMIC_RAY).all()
    assert np.abs(out.data[hits] - 200).max() < 5 * np.median(out.sigma)


def test_hot_and_dead_pixels_are_bad_and_no_hits(struck):
    light, made, hits, hot, _, dead = struck
    out = reduce.reduce(light, Reduction(options=HITS, **made))
    np.testing.assert_array_equal(out.mask[(hot | dead) & ~hits], Mask.BAD | Mask.INTERPOLATED)


def test_bad_pixels_known_from_the_masters_are_not_searched_for_hits(struck):
    light, made, hits, *_ = struck
    known = np.where(hits, np.uint8(Mask.BAD), np.uint8(0))
    for kind in ("dark", "flat"):
        marked = made | {kind: made[kind].with_(mask=made[kind].mask | known)}
        out = reduce.reduce(light, Reduction(options=HITS, **marked))
        assert not (out.mask[hits] & Mask.COSMIC_RAY).any()


def test_no_hole_is_dug_where_the_dark_is_subtracted(struck):
    light, made, hits, hot, warm, dead = struck
    out = reduce.reduce(light, Reduction(options=HITS, **made))
    assert np.abs((out.data - 200) / out.sigma)[(hot | warm | dead) & ~hits].max() < 5.5
    assert (out.mask[warm & ~hits] == 0).all()


def test_bits_of_frame_and_masters_all_arrive(struck):
    light, made, *_ = struck
    mask = np.zeros(light.shape, np.uint8)
    mask[2, 2], mask[2, 4] = Mask.SATURATED, Mask.NO_DATA
    flat = made["flat"]
    low = flat.mask.copy()
    low[2, 6] |= Mask.LOW_FLAT
    out = reduce.reduce(light.with_(mask=mask), Reduction(options=NO_HITS, **made | {"flat": flat.with_(mask=low)}))
    assert [out.mask[2, x] for x in (2, 4, 6)] == [Mask.SATURATED, Mask.NO_DATA, Mask.LOW_FLAT | Mask.INTERPOLATED]


# --- The same pixels both ways --------------------------------------------------------------------------------------
@pytest.mark.parametrize("without", [(), ("bias",), ("dark",), ("flat",), ("bias", "dark", "flat")])
@pytest.mark.parametrize("replace", ["late", "early"])
def test_single_steps_through_files_give_the_same_bits(tmp_path, struck, without, replace):
    light, made, *_ = struck
    chosen = {kind: master for kind, master in made.items() if kind not in without}
    for kind, master in chosen.items():
        io.write_frame(tmp_path / f"{kind}.fits", master)
    options = {"cosmic_ray": HITS["cosmic_ray"] | {"replace": replace}}
    reduction = Reduction(options=options, **{kind: io.read_frame(tmp_path / f"{kind}.fits") for kind in chosen})
    whole = reduce.reduce(light, reduction)
    one = light
    for name in calibrate.STEPS:
        io.write_frame(tmp_path / f"{name}.step.fits", reduce.step(name, one, reduction))
        one = io.read_frame(tmp_path / f"{name}.step.fits")
    for part in ("data", "sigma", "mask"):
        assert getattr(one, part).tobytes() == getattr(whole, part).tobytes()
    assert one.unit == whole.unit
    for key in ("FLBIAS", "FLDARK", "FLFLAT", "NCOSMIC", "SIGMASRC", "FLGAIN"):
        assert one.header.get(key) == whole.header.get(key)


# --- Real frames ----------------------------------------------------------------------------------------------------
@real
def test_a_real_frames_sections_are_used_as_its_header_says():
    import ccdproc
    from astropy.nddata import CCDData

    path = next((DATA / "sections").glob("*.fit*"))
    data, header = fits.getdata(path), fits.getheader(path)
    out = reduce.step("trim", reduce.prepare(data, header, {}), Reduction())
    raw = CCDData(data.astype(np.float32), unit="adu")
    flat = ccdproc.subtract_overscan(raw, fits_section=header["BIASSEC"], overscan_axis=1, median=True)
    theirs = ccdproc.trim_image(flat, fits_section=header["TRIMSEC"])
    assert out.shape == theirs.shape
    np.testing.assert_allclose(out.data, theirs.data, atol=0.01)


# --- What frames share ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "sky"), [(3, 30.0), (3, 3000.0), (10, 30.0)])
def test_common_is_the_variance_that_lights_share_through_their_masters(n, sky, made):
    sensor, masters_of = made
    settings = Reduction(options=NO_HITS, **masters_of(n, EXPOSURE))
    lights = [reduce.reduce(sensor.frame(sky), settings) for _ in range(8)]
    good = np.logical_and.reduce([one.mask == 0 for one in lights])
    values = np.array([one.data[good] - sky for one in lights])
    own = values.var(axis=0, ddof=1).mean()
    shared = values.mean(axis=0).var() - own / len(lights)  # what the mean of many would still scatter by
    claimed = np.mean([(one.common / 255 * one.sigma**2)[good].mean() for one in lights])
    assert claimed == pytest.approx(shared, rel=0.05)
    assert own + shared == pytest.approx(
        np.mean([np.square(one.sigma[good], dtype=float).mean() for one in lights]), rel=0.02
    )


def test_without_masters_nothing_is_common(made):
    out = reduce.reduce(made[0].frame(300.0), Reduction(options=NO_HITS))
    assert out.common is None


def test_a_light_names_its_masters(made):
    sensor, masters_of = made
    named = {
        kind: master.with_({"FLMASTER": f"night/cam/{kind}"}) for kind, master in masters_of(3, 2 * EXPOSURE).items()
    }
    out = reduce.reduce(sensor.frame(300.0), Reduction(options=NO_HITS, **named))
    assert [out.header[f"{kind}COR"] for kind in ("BIAS", "DARK", "FLAT")] == [f"night/cam/{kind}" for kind in named]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("step", [1, 2, 16])
def test_the_step_of_an_adc_is_what_divides_all_differences(step, dtype):
    data = (np.random.default_rng(2).integers(0, 7, (300, 400)) * step + 3).astype(dtype)
    assert reduce.adc_step(data) == step
    data[-1, -1] += 1  # one pixel tells
    assert reduce.adc_step(data) == 1
    assert reduce.adc_step(np.full((5, 5), 9, dtype)) == 1
