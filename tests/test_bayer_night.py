"""A night of a one-shot-colour camera through the whole chain, without configuration, against its truth; real frames; and
colour and mono frames of one target side by side."""

import shutil
from dataclasses import replace

import bayer_night
import numpy as np
import pytest
import sep
import simulated_night
from astropy.io import fits
from conftest import PROJECT, reduced
from firstlight import astrometry, io
from firstlight.frame import Mask
from PIL import Image

CATALOGUE = f"catalogue={PROJECT / 'tests/data/double_cluster.ecsv'}"
WHITE = 0.82  # BP-RP of the Sun


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bayer")
    truth = bayer_night.make_bayer_night(folder / "raw", pattern="GRBG")
    run = reduced(folder, "--cores", 2, "--config", "raw=raw", "results=results", CATALOGUE)
    return folder / "results", truth, run


def stack_of(night, letter):
    results, truth, _ = night
    frame = io.read_frame(results / "stacks" / "NGC869" / f"{letter}.fits")
    wcs, stars = astrometry.read_wcs(frame.header), truth.simulation.stars
    x, y = wcs.all_world2pix(np.asarray(stars["ra"]), np.asarray(stars["dec"]), 0)
    reference = next(
        light
        for light in truth.lights()
        if frame.header["PHOTREF"].startswith(str(light["file"]).removesuffix(".fits"))
    )
    # A pixel of a plane saw a quarter of the light that falls on its 2x2 pixels of the sensor.
    scale = reference["transparency"] * frame.header["EXPTIME"] / 4
    return frame, x, y, np.asarray(stars[f"flux_{bayer_night.BANDS[letter]}"]) * scale


def test_one_grid_three_stacks_one_picture(night):
    results, _, run = night
    assert "22 frames: 6 lights (all in colour: R, G and B of each)" in run.text
    assert sorted(path.name for path in (results / "stacks/NGC869").iterdir()) == ["B.fits", "G.fits", "R.fits"]
    assert "(R: R, G: G, B: B)" in run.text
    assert "22 files: 22 used" in run.text
    shapes = {io.read_header(results / f"stacks/NGC869/{letter}.fits")["NAXIS1"] for letter in "RGB"}
    assert len(shapes) == 1 and shapes < set(range(240, 300))


def test_gain_and_read_noise_are_measured_in_one_colour(night):
    results, truth, _ = night
    rows = {row["quantity"]: row for row in io.read_rows(next(results.glob("masters/*/*/detector.csv")))}
    assert float(rows["gain"]["used"]) == pytest.approx(truth.night.gain, rel=0.015)
    assert float(rows["read noise"]["used"]) == pytest.approx(truth.night.read_noise, rel=0.015)


@pytest.mark.parametrize("letter", "RGB")
def test_stars_have_their_fluxes_and_places(night, letter):
    """Circles about bright stars in the stack and in the truth painted on its pixels: the field is crowded."""
    frame, x, y, flux = stack_of(night, letter)
    results, truth, _ = night
    fine = np.zeros((2 * frame.shape[0], 2 * frame.shape[1]), np.float32)  # pixels of the sensor
    for row in io.read_extension(results / f"stacks/NGC869/{letter}.fits", "INPUTS"):
        light = truth.simulation.lights[
            truth.simulation.lights["file"] == f"{row['name'].decode().split('-')[0]}.fits"
        ][0]
        profile = simulated_night.Profile("moffat", light["fwhm"], truth.night.beta)
        simulated_night.paint(fine, 2 * x, 2 * y, 4 * flux * row["weight"], profile)
    painted = np.ascontiguousarray(fine[::2, ::2])
    bad = ((frame.mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0) | ~np.isfinite(frame.data)
    data = np.where(bad, 0, frame.data).astype(np.float32)
    data -= sep.Background(np.where(bad, 0, data - painted), mask=bad, bw=32, bh=32).back()
    ny, nx = frame.shape
    inside = (x > 20) & (y > 20) & (x < nx - 21) & (y < ny - 21)
    bright = np.flatnonzero(inside & (flux > 8000))
    x, y = x[bright], y[bright]
    seen, _, flags = sep.sum_circle(data, x, y, 4.0, mask=bad)
    true, _, _ = sep.sum_circle(painted, x, y, 4.0)
    clean = flags == 0
    assert clean.sum() > 25
    assert np.median((seen / true)[clean]) == pytest.approx(1, abs=0.01)
    places = [np.array(sep.winpos(image, x[clean], y[clean], 1.0)[:2]) for image in (data, painted)]
    off = places[0] - places[1]
    assert np.abs(np.median(off, axis=1)).max() < 0.03 and np.median(np.hypot(*off)) < 0.06


@pytest.mark.parametrize("letter", "RGB")
def test_noise_of_the_sky_is_what_sigma_says(night, letter):
    """In single lights, before resampling: differences of the true sky and the calibrated one."""
    results, truth, _ = night
    light = truth.lights()[2]
    path = next(results.glob(f"lights/NGC869/*/{letter}/{str(light['file']).removesuffix('.fits')}-{letter}_*.fits"))
    frame = io.read_frame(path)
    expected = truth.plane(truth.signal(light)[letter], letter)
    good = (frame.mask == 0) & (expected < 3 * np.median(expected))
    pulls = ((frame.data - expected) / frame.sigma)[good]
    assert np.std(pulls[np.abs(pulls) < 5]) == pytest.approx(1, abs=0.02)


def test_stars_like_the_sun_are_white_in_the_picture(night):
    results, truth, _ = night
    _, x, y, flux = stack_of(night, "G")
    stars = truth.simulation.stars
    picture = np.asarray(Image.open(results / "pictures/NGC869.png").convert("RGB"), float)[::-1]
    ny, nx = picture.shape[:2]
    inside = (x > 5) & (y > 5) & (x < nx - 6) & (y < ny - 6)
    sunny = np.flatnonzero(inside & (np.abs(stars["bp_rp"] - WHITE) < 0.12) & (flux > 3000))
    cool = np.flatnonzero(inside & (stars["bp_rp"] > 1.6) & (flux > 3000))
    colours = {
        name: np.median([picture[round(y[i]), round(x[i])] for i in chosen], axis=0)
        for name, chosen in (("sunny", sunny), ("cool", cool))
    }
    assert len(sunny) > 8 and len(cool) > 3
    red, green, blue = colours["sunny"]
    assert red / green == pytest.approx(1, abs=0.08) and blue / green == pytest.approx(1, abs=0.08)
    red, green, blue = colours["cool"]
    assert red > 1.15 * green > 1.15 * blue


def test_steps_are_those_of_the_light_job(night):
    results, truth, _ = night
    path = next(results.glob("lights/NGC869/*/G/*.fits"))
    step = path.relative_to(results / "lights")
    reduced(results.parent, f"results/steps/flat/{step}", "--config", "raw=raw", "results=results", CATALOGUE)
    one, other = io.read_frame(path), io.read_frame(results / "steps/flat" / step)
    assert np.array_equal(one.data, other.data, equal_nan=True) and np.array_equal(one.mask, other.mask)
    assert np.array_equal(one.sigma, other.sigma, equal_nan=True)


# --- At full scale


@pytest.fixture(scope="module")
def drizzled(night, tmp_path_factory):
    """The same night again with drizzle: both greens are lights of their own, in one stack."""
    folder = tmp_path_factory.mktemp("drizzled")
    shutil.copytree(night[0].parent, folder, dirs_exist_ok=True)
    finer = "combine={drizzle: {scale: 2, pixfrac: 0.5}}"
    run = reduced(folder, "--cores", 2, "--config", "raw=raw", "results=results", CATALOGUE, finer)
    return folder / "results", night[1], run


def test_greens_are_lights_of_their_own(drizzled):
    results, _, run = drizzled
    assert run.jobs["light"] == 12 and run.jobs["combine"] == 3
    names = [row["name"].decode() for row in io.read_extension(results / "stacks/NGC869/G.fits", "INPUTS")]
    assert len(names) == 12 and sum("-G1_" in name for name in names) == 6
    assert "22 files: 22 used" in run.text


@pytest.mark.parametrize("letter", "RGB")
def test_stars_at_full_scale_are_those_of_the_planes(night, drizzled, letter):
    """The same light at the same places, without interpolation; photosites as large as the finer pixels."""
    plain, x, y, flux = stack_of(night, letter)
    finer, x2, y2, flux2 = stack_of(drizzled, letter)
    assert finer.shape == tuple(2 * size for size in plain.shape)
    bright = np.flatnonzero((x > 30) & (y > 30) & (x < plain.shape[1] - 31) & (y < plain.shape[0] - 31) & (flux > 8000))
    light, places = [], []
    for frame, at_x, at_y, scale in ((plain, x[bright], y[bright], 1), (finer, x2[bright], y2[bright], 2)):
        bad = ~np.isfinite(frame.data) | ((frame.mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0)
        data = np.where(bad, 0, frame.data).astype(np.float32)
        data -= sep.Background(data, mask=bad, bw=32 * scale, bh=32 * scale).back()
        seen, _, flags = sep.sum_circle(data, at_x, at_y, 4.0 * scale, mask=bad)
        light.append(np.where(flags == 0, seen, np.nan))
        places.append(np.array(sep.winpos(data, at_x, at_y, 1.2 * scale)[:2]) / scale - np.array([at_x, at_y]) / scale)
    ratio = light[1] / light[0] * (flux / flux2)[bright]  # the flux scale may be that of another frame
    assert np.isfinite(ratio).sum() > 20 and np.nanmedian(ratio) == pytest.approx(1, abs=0.01)
    assert np.abs(np.nanmedian(places[1] - places[0], axis=1)).max() < 0.03


# --- Side by side


def mono_night(folder):
    mono = replace(
        bayer_night.NIGHT, size=256, lights=3, bias=4, darks=3, flats=3, seeing=(2.2, 2.6), dither=10.0, field=0.85
    )
    return simulated_night.make_night(folder, mono, images=False)


def test_a_colour_frame_in_a_mono_night_goes_its_own_way(tmp_path, night):
    mono_night(tmp_path / "raw")
    settings = ("--cores", 2, "--config", "raw=raw", "results=results", CATALOGUE)
    reduced(tmp_path, *settings)
    names = ("R", "V", "B")
    before = {name: (tmp_path / f"results/stacks/NGC869/{name}.fits").read_bytes() for name in names}
    colour = night[0].parent / "raw"
    shutil.copy2(next(colour.glob("Light_V_001.fits")), tmp_path / "raw" / "colour.fits")
    run = reduced(tmp_path, *settings)
    stacks = sorted(path.stem for path in (tmp_path / "results/stacks/NGC869").iterdir())
    assert stacks == ["B", "R", "TB", "TG", "TR", "V"]
    assert "10 lights (1 in colour: R, G and B of each)" in run.text
    assert {name: (tmp_path / f"results/stacks/NGC869/{name}.fits").read_bytes() for name in names} == before
    assert run.jobs["light"] == 3 and run.jobs["combine"] == 3


def test_a_mono_frame_in_a_colour_night_goes_its_own_way(tmp_path, night):
    results, _, _ = night
    shutil.copytree(results.parent, tmp_path / "night")
    mono_night(tmp_path / "mono")
    shutil.copy2(tmp_path / "mono" / "Light_V_002.fits", tmp_path / "night" / "raw" / "mono.fits")
    run = reduced(tmp_path / "night", "--cores", 2, "--config", "raw=raw", "results=results", CATALOGUE)
    made = {path.stem for path in (tmp_path / "night/results/stacks/NGC869").iterdir()}
    assert made == {"R", "G", "B", "V"}
    assert run.jobs["light"] == 1 and run.jobs["combine"] == 1


# --- Real frames


def test_panoptes(tmp_path, real):
    """Frames of a telephoto lens, undersampled; RGGB is stated, the greens show GBRG. The planes' solutions must put the sky
    at the same places of the sensor."""
    places = ["results=results", f"catalogue={real / 'catalogues/panoptes.ecsv'}", f"raw={real / 'panoptes_bayer'}"]
    run = reduced(tmp_path, "--cores", 2, "--config", *places)
    assert "how its colours lie (MEASRGGB" in run.text
    for name in ("solved", "unsolved"):
        planes = {}
        for letter in "RGB":
            header = fits.getheader(next((tmp_path / "results/lights").glob(f"*/*/{letter}/{name}-{letter}_*.fits")))
            planes[letter] = astrometry.read_wcs(header)
        site = {"R": (0, 1), "G": (0.5, 0.5), "B": (1, 0)}  # x, y of GBRG
        at = np.stack(np.meshgrid(*[np.linspace(50, 650, 7)] * 2), axis=-1).reshape(-1, 2)  # on the sensor
        sky = {letter: planes[letter].all_pix2world((at - site[letter]) / 2, 0) for letter in planes}
        for letter in "RB":
            off = planes["G"].all_world2pix(sky[letter], 0) - planes["G"].all_world2pix(sky["G"], 0)
            assert np.median(np.hypot(*off.T)) < 0.5


def test_demosaiced_lights_make_a_picture_at_full_scale(night, tmp_path):
    """For pictures: as large as the sensor, stars as bright as in the planes of half the scale."""
    shutil.copytree(night[0].parent, tmp_path, dirs_exist_ok=True)
    settings = ("--config", "raw=raw", "results=results", CATALOGUE, "debayer=demosaic")
    run = reduced(tmp_path, "--cores", 2, *settings)
    # The grid there fitted lights of half the scale: it was chosen by lights that are others now.
    assert run.jobs["light"] == 18 and run.jobs["grid"] == 1
    picture = Image.open(tmp_path / "results/pictures/NGC869.png")
    assert min(picture.size) > 480
    stars = night[1].simulation.stars
    frame = io.read_frame(tmp_path / "results/stacks/NGC869/G.fits")
    assert frame.header["FLDEBAYR"] == "edge-aware"
    x, y = astrometry.read_wcs(frame.header).all_world2pix(np.asarray(stars["ra"]), np.asarray(stars["dec"]), 0)
    plain, half_x, half_y, flux = stack_of(night, "G")
    ny, nx = plain.shape
    bright = np.flatnonzero((half_x > 20) & (half_y > 20) & (half_x < nx - 21) & (half_y < ny - 21) & (flux > 20_000))
    light = []
    for one, at_x, at_y, scale in ((plain, half_x, half_y, 1), (frame, x, y, 2)):
        bad = ~np.isfinite(one.data)
        data = np.where(bad, 0, one.data).astype(np.float32)
        data -= sep.Background(data, mask=bad, bw=32 * scale, bh=32 * scale).back()
        light.append(sep.sum_circle(data, at_x[bright], at_y[bright], 5.0 * scale)[0] / one.header["EXPTIME"])
    assert np.median(light[1] / light[0]) == pytest.approx(4, rel=0.05)
