"""The demo night against its truth: fluxes, sigmas, positions, nebula, trail, cosmic rays, and the frames that are no good.

The truth is painted on the stack's own grid from the night's star table, with each frame's profile and weight; what is
left of the stack after it is taken away should be smooth sky and noise.
"""

import re
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
import sep
import simulated_night
from astropy.io import fits
from conftest import PROJECT, reduced
from firstlight import astrometry, io
from firstlight.frame import Frame, Mask
from scipy.ndimage import binary_dilation

FILTERS = ("R", "V", "B")


@dataclass
class Stacked:
    """A stack of the demo night and its truth on the same pixels, electrons per reference exposure."""

    frame: Frame
    inputs: np.ndarray
    stars: np.ndarray
    nebula: np.ndarray
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    truth: simulated_night.Truth
    scale: float
    sky: np.ndarray = field(init=False)

    def __post_init__(self):
        self.bad = (self.frame.mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0
        rest = np.where(np.isfinite(self.frame.data), self.frame.data - self.stars - self.nebula, 0).astype(np.float32)
        self.sky = sep.Background(rest, mask=self.bad, bw=64, bh=64).back(dtype=np.float32)
        self.rest = np.where(self.bad, 0, rest - self.sky)

    @property
    def wcs(self):
        return astrometry.read_wcs(self.frame.header)

    def light(self, name):
        """The truth of an input, by its name in the table of inputs."""
        return self.truth.light(f"{name.rsplit('_', 1)[0]}.fits")

    def clean(self, radius):
        """Stars whose circle lies within the image and has no flagged pixel."""
        flags = (self.bad | ~np.isfinite(self.frame.data)).astype(np.float32)
        inside = (self.x > 40) & (self.y > 40) & (self.x < flags.shape[1] - 40) & (self.y < flags.shape[0] - 40)
        touched = np.ones(len(self.x))
        touched[inside] = sep.sum_circle(flags, self.x[inside], self.y[inside], radius)[0]
        return inside & (touched == 0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo night, reduced with the demo's own configuration."""
    folder, truth = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("truth")
    made = simulated_night.make_night(folder / "raw", simulated_night.Night(), truth=truth, images=False)
    settings = ["raw=raw", "results=results", f"catalogue={PROJECT / 'tests/data/double_cluster.ecsv'}"]
    run = reduced(folder, "--configfile", PROJECT / "tests/demo.yaml", "--config", *settings)
    return folder / "results", made, run


@pytest.fixture(scope="module")
def stacks(demo):
    """Filter -> its stack, painted once."""
    results, truth, _ = demo
    return cache(lambda name: _stacked(results, truth, name))


@pytest.fixture(params=FILTERS)
def stacked(stacks, request):
    return stacks(request.param)


def _stacked(results, truth, name):
    path = results / "stacks" / "NGC869" / f"{name}.fits"
    frame, inputs = io.read_frame(path), io.read_extension(path, "INPUTS")
    wcs = astrometry.read_wcs(frame.header)
    reference = truth.light(f"{frame.header['PHOTREF'].rsplit('_', 1)[0]}.fits")
    scale = reference["transparency"] * frame.header["EXPTIME"]
    flux = np.asarray(truth.stars[f"flux_{name}"]) * scale
    x, y = wcs.all_world2pix(np.asarray(truth.stars["ra"]), np.asarray(truth.stars["dec"]), 0)
    stars = np.zeros(frame.shape, np.float32)
    for row in inputs[inputs["weight"] > 0]:
        light = truth.light(f"{row['name'].decode().rsplit('_', 1)[0]}.fits")
        profile = simulated_night.Profile("moffat", light["fwhm"], truth.night.beta)
        simulated_night.paint(stars, x, y, flux * row["weight"], profile)
    nebula = simulated_night.nebula_image(truth.night, wcs, name).astype(np.float32) * np.float32(scale)
    return Stacked(frame, inputs, stars, nebula, x, y, flux, truth, scale)


def test_all_is_made_and_said(demo):
    results, _, run = demo
    assert "pictures/NGC869.png" in run.text
    assert sorted(p.name for p in (results / "stacks" / "NGC869").iterdir()) == ["B.fits", "R.fits", "V.fits"]
    assert (results / "stacks" / "M_34" / "R.fits").exists(), "the frame of another target has a stack of its own"


def test_gain_and_read_noise_are_measured(demo):
    """No header of the night says them."""
    results, truth, _ = demo
    rows = {row["quantity"]: row for row in io.read_rows(next(results.glob("masters/*/*/detector.csv")))}
    assert float(rows["gain"]["used"]) == pytest.approx(truth.night.gain, rel=0.01)
    assert float(rows["read noise"]["used"]) == pytest.approx(truth.night.read_noise, rel=0.01)


@pytest.fixture(scope="module")
def hits(demo):
    """Of every fourth light: (pixels that a ray left above 10 sigma, of them flagged, clean pixels, of them flagged)."""
    from scipy.ndimage import binary_dilation

    results, truth, _ = demo
    counts = np.zeros(4)
    for path in sorted((results / "lights" / "NGC869").rglob("*.fits"))[::4]:
        frame = io.read_frame(path)
        name = f"{path.name.rsplit('_', 1)[0]}.fits"
        electrons, *_ = truth.images(name)
        rays = truth.simulation.rays(name, truth.night.exposure)
        known = (frame.mask & (Mask.SATURATED | Mask.BAD | Mask.LOW_FLAT)) != 0
        flagged = (frame.mask & Mask.COSMIC_RAY) != 0
        strong = (rays > 10 * np.sqrt(np.maximum(electrons, 0) + truth.night.read_noise**2)) & ~known
        clean = ~binary_dilation(rays > 0, np.ones((3, 3)), iterations=2) & ~known
        counts += [strong.sum(), (strong & flagged).sum(), clean.sum(), (clean & flagged).sum()]
    return counts


def test_strong_hits_are_found(hits):
    assert hits[0] > 300 and hits[1] > 0.95 * hits[0]


def test_clean_pixels_are_no_hits(hits):
    """Stars in blends and on the flanks of saturated ones among them."""
    assert hits[3] < 1e-4 * hits[2]


def test_fluxes_of_bright_stars(stacked):
    """Unsaturated stars at S/N > 50, without anything fitted: the median of measured over true within 0.5 %."""
    radius = 2.5 * float(np.median(stacked.inputs["fwhm"][stacked.inputs["weight"] > 0]))
    use = stacked.clean(radius)
    extra, error, _ = sep.sum_circle(stacked.rest, stacked.x[use], stacked.y[use], radius, err=stacked.frame.sigma)
    flux = stacked.flux[use]
    bright = flux > 50 * error
    assert bright.sum() > 30
    ratio = 1 + extra[bright] / flux[bright]
    assert np.median(ratio) == pytest.approx(1, abs=0.005)


def test_pulls_of_star_fluxes(stacked):
    """(measured - true) / claimed error over circles of 3 pixels has a width of 1.0 +- 0.1."""
    radius = 3.0
    use = stacked.clean(radius)
    extra, error, _ = sep.sum_circle(stacked.rest, stacked.x[use], stacked.y[use], radius, err=stacked.frame.sigma)
    error *= stacked.frame.header["NCORR03"]
    snr = stacked.flux[use] / error
    pulls = (extra / error)[(snr > 3) & (snr < 60)]
    assert len(pulls) > 300
    assert 1.4826 * np.median(np.abs(pulls - np.median(pulls))) == pytest.approx(1, abs=0.1)


def test_pulls_of_sky(stacked):
    """Pixels far from stars scatter as their sigma says."""
    empty = (stacked.stars < 0.5 * stacked.frame.sigma) & ~stacked.bad & np.isfinite(stacked.frame.data)
    pulls = (stacked.rest / stacked.frame.sigma)[empty]
    assert len(pulls) > 50_000
    assert 1.4826 * np.median(np.abs(pulls - np.median(pulls))) == pytest.approx(1, abs=0.05)


def test_half_stacks_agree_within_their_sigma(stacked):
    for key in ("ODDEVEN", "ODDEVEN8"):
        assert stacked.frame.header[key] == pytest.approx(1, abs=0.05)


def test_stars_are_as_sharp_as_the_frames(stacked):
    """FWHM of the stack, measured on its own stars, against the mean of the frames' by their weights."""
    frames = stacked.inputs[stacked.inputs["weight"] > 0]
    true = np.array([stacked.light(row["name"].decode())["fwhm"] for row in frames])
    assert stacked.frame.header["FWHM"] == pytest.approx(np.average(true, weights=frames["weight"]), rel=0.05)


def test_each_frames_transparency_is_found(stacked):
    frames = stacked.inputs[stacked.inputs["weight"] > 0]
    true = np.array([stacked.light(row["name"].decode())["transparency"] for row in frames])
    ratio = frames["transparency"] / true
    assert np.abs(ratio / np.median(ratio) - 1).max() < 0.005


def test_depth_is_the_scatter_of_empty_circles(stacked):
    """The magnitude of a star that is five times what sums over circles of 1.5 FWHM, far from stars, scatter by."""
    header, radius = stacked.frame.header, stacked.frame.header["DEPTHRAD"]
    shine = stacked.stars + 1e9 * stacked.bad + 1e9 * ~np.isfinite(stacked.frame.data)
    y, x = (np.indices((60, 60)).reshape(2, -1) + 1) * stacked.frame.shape[0] / 62
    empty = sep.sum_circle(shine.astype(np.float32), x, y, radius)[0] < 100
    sums = sep.sum_circle(stacked.rest, x[empty], y[empty], radius, subpix=0)[0]
    flux = 5 * 1.4826 * np.median(np.abs(sums - np.median(sums)))
    assert empty.sum() > 300
    assert header["DEPTHINS"] == pytest.approx(-2.5 * np.log10(flux / header["EXPTIME"]), abs=0.1)


def test_depth_in_a_named_band_is_by_the_truths_magnitudes(demo):
    header = fits.getheader(demo[0] / "stacks" / "NGC869" / "V.fits")
    reference = demo[1].light(f"{header['PHOTREF'].rsplit('_', 1)[0]}.fits")
    assert (header["DEPTHBND"], header["DEPTH"]) == (
        "V",
        pytest.approx(header["DEPTHINS"] + header["MAGZERO"], abs=0.002),
    )
    light = next((demo[0] / "lights").rglob(f"{header['PHOTREF']}.fits"))
    assert header["MAGZERO"] == pytest.approx(fits.getheader(light)["MAGZERO"], abs=0.02), "the stack is on its scale"
    clear = header["MAGZERO"] - 2.5 * np.log10(reference["transparency"])
    others = [fits.getheader(path) for path in (demo[0] / "lights").rglob("*_V_*.fits")]
    for other in others:
        row = demo[1].light(f"{other['FLFRAME'].rsplit('_', 1)[0]}.fits")
        assert other["MAGZERO"] - 2.5 * np.log10(row["transparency"]) == pytest.approx(clear, abs=0.02)


def test_positions(stacked):
    """Centroids of bright stars lie within 0.2 pixel of the catalogue through the stack's WCS, and on average on it."""
    use = stacked.clean(8) & (stacked.flux > np.sort(stacked.flux)[-150])
    image = np.nan_to_num(stacked.frame.data - stacked.sky).astype(np.float32)
    x, y, flag = sep.winpos(image, stacked.x[use], stacked.y[use], np.full(use.sum(), 1.2))
    # Neighbours pull a centroid too: the same measurement on the truth alone is what it should be.
    tx, ty, _ = sep.winpos(stacked.stars + stacked.nebula, stacked.x[use], stacked.y[use], np.full(use.sum(), 1.2))
    off = np.hypot(x - tx, y - ty)[flag == 0]
    assert len(off) > 60
    assert np.median(off) < 0.05 and np.quantile(off, 0.95) < 0.2


def test_flux_of_the_nebula(stacked):
    """The sum over the nebula, stars taken away, is its analytic flux within 1 %.

    Around saturated cores, where pixels of some frames alone count, the model of the stars does not hold.
    """
    core = binary_dilation((stacked.frame.mask & Mask.SATURATED) != 0, iterations=10)
    inside = (stacked.nebula > 0) & np.isfinite(stacked.frame.data) & ~stacked.bad & ~core
    measured = stacked.rest[inside].sum() + stacked.nebula[inside].sum()
    expected = stacked.truth.nebula_flux(str(stacked.frame.header["FILTER"])) * stacked.scale
    assert stacked.nebula[inside].sum() == pytest.approx(expected, rel=0.1), "hardly a pixel of it is missing"
    assert measured == pytest.approx(stacked.nebula[inside].sum(), rel=0.01)


def on_grid(stacked, light, image):
    """A truth image of one light at the pixels of the stack, by nearest pixel."""
    ny, nx = stacked.frame.shape
    gx, gy = np.meshgrid(np.arange(nx), np.arange(ny))
    sky = stacked.wcs.all_pix2world(np.column_stack([gx.ravel(), gy.ravel()]), 0)
    x, y = np.rint(stacked.truth.wcs(light["file"]).all_world2pix(sky, 0)).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
    out = np.zeros(nx * ny, image.dtype)
    out[inside] = image[y[inside], x[inside]]
    return out.reshape(ny, nx)


def pulls_where(stacked, where):
    """Pulls of the rest at some pixels that are not on bright stars, where profiles never match to a sigma."""
    quiet = where & ~stacked.bad & (stacked.stars < 5 * stacked.frame.sigma) & np.isfinite(stacked.frame.data)
    return (stacked.rest / stacked.frame.sigma)[quiet]


def test_satellite_trail_is_gone(demo, stacks):
    lights = demo[1].lights
    light = lights[lights["trail"]][0]
    stacked = stacks(str(light["filter"]))
    bright = simulated_night.trail_image(stacked.truth.night, light)
    pulls = pulls_where(stacked, on_grid(stacked, light, bright) > 0.02 * bright.max())
    assert len(pulls) > 2000
    assert abs(pulls.mean()) < 1 and np.quantile(pulls, 0.99) < 5


def test_cosmic_rays_are_gone(stacked):
    """Pixels that any frame has a hit in are no worse than others: fewer than 1 in 100 stands out by 5 sigma."""
    hits = np.zeros(stacked.frame.shape, bool)
    simulation = stacked.truth.simulation
    for row in stacked.inputs[stacked.inputs["weight"] > 0]:
        light = stacked.light(row["name"].decode())
        rays = simulation.rays(light["file"], stacked.truth.night.exposure)
        hits |= on_grid(stacked, light, rays) > 20
    pulls = pulls_where(stacked, hits)
    assert len(pulls) > 200
    assert (np.abs(pulls) > 5).mean() < 0.01


def test_frame_without_stars_is_dropped_with_its_reason(demo):
    results, truth, _ = demo
    light = truth.lights[truth.lights["starless"]][0]
    inputs = io.read_extension(results / "stacks" / "NGC869" / f"{light['filter']}.fits", "INPUTS")
    row = next(row for row in inputs if row["name"].decode().startswith(str(light["file"]).removesuffix(".fits")))
    assert row["weight"] == 0
    assert "stars" in row["note"].decode() and "dropped" in row["note"].decode()
    dropped = fits.getheader(next((results / "aligned").rglob(f"{row['name'].decode()}.fits")))
    assert dropped["FLSTATUS"] == "dropped" and dropped["NAXIS"] == 0 and dropped["FLSTEP"] == "align"


def test_frame_through_cloud_counts_little_and_says_so(demo):
    results, truth, _ = demo
    light = truth.lights[truth.lights["cloud"]][0]
    inputs = io.read_extension(results / "stacks" / "NGC869" / f"{light['filter']}.fits", "INPUTS")
    row = next(row for row in inputs if row["name"].decode().startswith(str(light["file"]).removesuffix(".fits")))
    assert 0 < row["weight"] < 0.5 * np.median(inputs["weight"])
    assert "transparency 0.3" in row["note"].decode()


def test_no_job_takes_more_than_a_gigabyte(demo):
    """Peak memory as each job's log tells it; frames here are a quarter of 2048x2048."""
    results, *_ = demo
    told = [re.search(r"(\d+) MB at most", path.read_text()) for path in (results / "logs").rglob("*.log")]
    assert len(told) > 50 and all(told) and max(int(peak[1]) for peak in told) < 600


def test_picture_shows_colours(demo):
    from PIL import Image

    results, *_ = demo
    image = np.asarray(Image.open(results / "pictures" / "NGC869.png")).astype(float)
    assert image.shape[2] == 3 and min(image.shape[:2]) > 800, "what all filters cover of 1024x1024"
    stars = image[image.max(axis=2) > 120]
    assert (stars[:, 0] - stars[:, 2]).std() > 30, "red and blue stars differ"
    assert np.abs(np.median(image.reshape(-1, 3), axis=0) - np.median(image)).max() < 6, "the sky is grey"
