"""What of the sky stays on the detector. Truth: fringes painted on lights that are known without them."""

from dataclasses import replace

import numpy as np
import pytest
import scenes
from conftest import reduced
from firstlight import fringe, scaling
from firstlight.frame import Frame, Mask, Unusable

SHAPE = (320, 320)
PERIOD = 70.0  # pix
RMS = 0.02  # of the sky
LEVELS = [2000.0, 2100.0, 2300.0, 2600.0, 2000.0, 1900.0, 1800.0, 2200.0]
AIRGLOW = [1.0, 1.0, 0.8, 0.6, 1.0, 1.1, 1.2, 0.9]  # the moon brightens the sky without fringes


def painted() -> np.ndarray:
    """Curved fringes (ny, nx), in shares of the sky."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (RMS * np.sqrt(2) * np.sin(2 * np.pi * (y + 0.3 * x + x**2 / 2000) / PERIOD)).astype(np.float32)


def night(reach=40.0, levels=LEVELS, seed=4):
    """Lights of one field, as the sky is without fringes."""
    view = scenes.View("light", shape=SHAPE, level=levels[0])
    views = scenes.dithered(view, len(levels), reach, seed, level=levels)
    sky = scenes.a_sky(extent=760, step=76, brightest=6e3, faintest=20)
    return [scenes.light(one, sky, seed) for one in views]


def fringed(light, share=1.0, flaws=0.0) -> fringe.Light:
    """A light with fringes of a sky that is `share` of its level."""
    data = light.frame.data + np.float32(share * light.view.level) * painted() + np.float32(flaws)
    frame = light.frame.with_(data=data)
    return fringe.Light(light.view.name, lambda: frame, light.table)


def subtracted(lights, pattern):
    return [fringe.subtract(one.read(), pattern, one.table) for one in lights]


@pytest.fixture(scope="module")
def clean():
    return night()


@pytest.fixture(scope="module")
def lights(clean):
    return [fringed(light, share) for light, share in zip(clean, AIRGLOW, strict=True)]


@pytest.fixture(scope="module")
def pattern(lights):
    return fringe.master(lights)


@pytest.fixture(scope="module")
def after(lights, pattern):
    return subtracted(lights, pattern)


def test_fringes_go(clean, after):
    """Less than 15 % of them stay in any light, stars included."""
    for light, frame, share in zip(clean, after, AIRGLOW, strict=True):
        left = np.std(frame.data - light.frame.data)
        assert left < 0.15 * share * light.view.level * RMS


def test_an_amplitude_is_that_of_the_light_not_of_its_sky(lights, after):
    """They follow what was painted within 3 %, where the level of the sky is off by a factor of two."""
    told = np.array([frame.header["FRINGEA"] for frame in after])
    ratio = told / np.multiply(LEVELS, AIRGLOW)
    assert np.abs(ratio / np.median(ratio) - 1).max() < 0.03


def test_a_pattern_is_in_shares_of_the_sky(pattern, after):
    """The Gaussian of 5 pixels leaves 0.9 of a wave of 70 pixels, which the amplitude brings back."""
    assert pattern.header["FRNGRMS"] == pytest.approx(0.9 * RMS, rel=0.05)
    assert np.median([frame.header["FRINGEA"] for frame in after]) == pytest.approx(np.median(LEVELS) / 0.9, rel=0.05)


def test_the_error_of_an_amplitude_is_its_scatter(after):
    told, error = (np.array([frame.header[key] for frame in after]) for key in ("FRINGEA", "FRINGEE"))
    ratio = told / np.multiply(LEVELS, AIRGLOW)
    pulls = (ratio / ratio.mean() - 1) * told / error
    assert 0.3 < np.std(pulls) < 3


def test_stars_keep_their_light(clean, lights, after):
    """Stars of S/N > 100 change by less than 0.1 %; what fringes did to each goes to an eighth."""
    fluxes = []
    for light, one, frame in zip(clean, lights, after, strict=True):
        bright = light.table[light.table["flux"] > 100 * light.table["flux_err"]]
        fluxes += list(
            zip(*(scaling.fluxes(image, bright, 7.0) for image in (light.frame, one.read(), frame)), strict=True)
        )
    true, before, now = np.array(fluxes)[np.isfinite(fluxes).all(axis=1)].T
    assert len(true) > 100
    assert abs(np.mean(now / true - 1)) < 0.001
    assert np.std(now / true - 1) < np.std(before / true - 1) / 8


def test_faint_stars_keep_their_light(clean, after):
    """Those that no single light shows lose less than 2 % in the mean of the lights; a night not dithered would cost 27 %."""
    lost = []
    sky = scenes.a_sky(extent=760, step=76, brightest=6e3, faintest=20)
    for light, frame in zip(clean, after, strict=True):
        places = scenes.on(light.view.wcs, sky)
        flux = sky.flux * light.view.exposure
        faint = (flux > 1000) & (flux < 3000) & ((places > 10) & (places < SHAPE[0] - 11)).all(axis=1)
        table = np.rec.fromarrays(places[faint].T, names="x,y")
        before, now = (
            scaling.fluxes(light.frame.with_(data=one), table, 4.5)
            for one in (light.frame.data + 1e4, frame.data + 1e4)
        )
        lost.append((now - before) / flux[faint])
    assert abs(np.nanmean(np.concatenate(lost))) < 0.02


def test_wings_of_stars_are_left_out_as_far_as_they_reach():
    """The mask of a star ends where a Moffat profile with exponent 2 is a tenth of the noise; a wide crest has none."""
    table = np.zeros(2, night(levels=[2000.0])[0].table.dtype)
    table["x"], table["y"], table["flux"], table["fwhm"] = [100.0, 220.0], [120.0, 200.0], 1e6, [3.0, 9.0]
    mask = fringe._wings(table, SHAPE, fwhm=3.0, noise=50.0)
    reach = mask[120].sum() / 2
    width = 3.0 / (2 * np.sqrt(np.sqrt(2) - 1))
    assert 1e6 / (np.pi * width**2) / (1 + (reach / width) ** 2) ** 2 == pytest.approx(5.0, rel=0.3)
    assert mask.sum() == pytest.approx(np.pi * reach**2, rel=0.06)


def test_stars_on_the_same_pixels_are_refused():
    lights = [fringed(light) for light in night(reach=1.0)]
    with pytest.raises(Unusable, match="same pixels as 100% of the 8 lights, at most 50% may"):
        fringe.master(lights)


def test_two_fields_not_dithered_are_refused():
    """Of two targets each taken without dithers, half of the lights stand on the same pixels; of three, a third."""
    there = [fringed(light) for light in night(reach=1.0)]
    elsewhere = [fringed(light) for light in night(reach=1.0, seed=5)]
    moved = [replace(one, table=_shifted(one.table, 30)) for one in elsewhere]
    assert fringe._alike(there[:4] + moved[:4], 5.0) == 0.5
    assert fringe._alike(there, 5.0) == 1.0


def _shifted(table, pixels):
    table = table.copy()
    table["x"] += pixels
    return table


def test_too_few_lights(lights):
    with pytest.raises(Unusable, match=r"4 usable lights of the night, 5 are needed \(fringe: fewest\)"):
        fringe.master(lights[:4])


def test_fewer_do_where_the_user_says_so(lights):
    assert fringe.master(lights[:4], fewest=4).header["NCOMBINE"] == 4


def test_a_light_without_stars_is_left_out(lights):
    cloudy = replace(lights[2], table=lights[2].table[:2])
    made = fringe.master([*lights[:2], cloudy, *lights[3:]])
    assert (made.header["NCOMBINE"], made.header["NLEFTOUT"]) == (7, 1)
    assert made.header["LEFT001"] == "light_02: 2 stars do not tell where it points"


def test_a_light_of_another_size_is_left_out(lights):
    small = lights[3].read()
    small = Frame(small.data[:300], small.header, small.sigma[:300], small.mask[:300], small.unit)
    made = fringe.master([*lights[:3], replace(lights[3], read=lambda: small), *lights[4:]])
    assert made.header["LEFT001"] == "light_03: it is 320x300, others are 320x320"


def test_no_pattern_is_refused(clean):
    without = [fringe.Light(light.view.name, lambda light=light: light.frame, light.table) for light in clean]
    with pytest.raises(Unusable, match="no pattern is seen"):
        fringe.master(without)


def test_a_flaw_is_not_smeared(clean, pattern):
    """A hot column and a dark edge that no mask names change the pattern beside them by less than 15 % of the fringes."""
    flaws = np.zeros(SHAPE)
    flaws[:, 150] = 5000
    flaws[:4] = -900
    made = fringe.master([fringed(light, share, flaws) for light, share in zip(clean, AIRGLOW, strict=True)])
    beside = np.zeros(SHAPE, bool)
    beside[20:, 140:161] = beside[10:20] = True
    assert np.std((made.data - pattern.data)[beside]) < 0.15 * RMS


def test_pixels_that_no_light_tells_of_are_not_touched(lights, pattern):
    blind = np.zeros(SHAPE, np.uint8)
    blind[100:160, 100:160] = Mask.BAD
    masked = [replace(one, read=lambda one=one: one.read().with_(mask=blind)) for one in lights]
    made = fringe.master(masked)
    out = fringe.subtract(masked[0].read(), made, masked[0].table)
    assert (made.mask[125:135, 125:135] == Mask.NO_DATA).all()
    assert np.array_equal(out.data[125:135, 125:135], masked[0].read().data[125:135, 125:135])


def test_the_noise_of_a_smoothed_pattern():
    """Its sigma is the scatter of many, with uneven weights and holes."""
    rng = np.random.default_rng(8)
    sigma = rng.uniform(0.5, 2, (60, 60)).astype(np.float32)
    told = rng.random((60, 60)) > 0.3
    told[20:30, 20:30] = False
    many = [fringe._smoothed(rng.normal(0, sigma).astype(np.float32), sigma, told, 3.0) for _ in range(400)]
    pulls = np.std([one[0] for one in many], axis=0) / np.where(many[0][1] > 0, many[0][1], 1)
    assert np.abs(np.median(pulls[many[0][2]]) - 1) < 0.02
    assert np.quantile(np.abs(pulls[many[0][2]] - 1), 0.98) < 0.12


def test_its_noise_is_added_and_is_common(lights, pattern, after):
    frame, out = lights[0].read(), after[0]
    added = (out.header["FRINGEA"] * pattern.sigma) ** 2
    assert np.allclose(out.sigma**2, frame.sigma**2 + added, rtol=1e-4)
    assert np.abs(out.common - 255 * added / out.sigma**2).max() <= 0.51
    assert np.median(out.sigma / frame.sigma) < 1.001


def test_a_light_without_the_pattern_stays(clean, pattern):
    out = fringe.subtract(clean[0].frame, pattern, clean[0].table)
    assert out.header["FRINGED"] is False
    assert out.data is clean[0].frame.data


def test_a_light_without_empty_sky_stays(lights, pattern):
    frame = lights[0].read()
    frame = frame.with_(mask=np.full(SHAPE, Mask.SATURATED, np.uint8))
    out = fringe.subtract(frame, pattern, lights[0].table)
    assert (out.header["FRINGED"], out.header["FRINGEE"]) == (False, -1.0)
    assert out.data is frame.data


def test_another_size_is_told(lights, pattern):
    small = Frame(pattern.data[:200], pattern.header, pattern.sigma[:200], pattern.mask[:200], "")
    with pytest.raises(ValueError, match="the fringe master is 320x200 but the frame is 320x320"):
        fringe.subtract(lights[0].read(), small, lights[0].table)


def test_through_the_workflow(small_night, tmp_path):
    """Only the filter that is named; a further light makes the pattern and what it was taken from anew, and nothing else."""
    folder = small_night.copy(tmp_path)
    config = folder / "config.yaml"
    config.write_text(config.read_text() + "fringe: {filters: [R], fewest: 3}\n")

    def run(*arguments):
        return reduced(folder, *arguments, code=folder / "code")

    lights = len(list((folder / "raw").glob("Light_R*")))
    chain = {"combine": 1, "preview": 1, "picture": 1, "stacks": 1, "ledger": 1, "report": 1}
    planned = run("--dry-run").jobs
    assert planned == {"fringe": 1, "align": lights} | chain
    assert run().jobs == planned
    assert not run("--dry-run").jobs
    (folder / "raw" / "Light_R_001.fits").write_bytes((small_night.spare / "Light_R_001.fits").read_bytes())
    assert run("--dry-run").jobs == {"light": 1, "fringe": 1, "align": lights + 1, "unsolved": 1} | chain
