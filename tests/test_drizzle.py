"""Drizzle: drops of single frames as they must be, noise of many, and an undersampled night against its truth."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import sep
import simulated_night
from astropy.io import fits
from astropy.wcs import WCS
from conftest import PROJECT, reduced, snakemake
from firstlight import astrometry, combine, drizzling, honesty, io
from firstlight.frame import Frame, Mask
from firstlight.positions import Positions

SCALE = 1e-4  # deg per pixel


def plain_wcs(x=0.0, y=0.0, size=64, turn=0.0, pixel=1.0):
    """WCS of a frame whose middle lies x, y pixels of the grid beside the grid's middle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [10.0, 20.0]
    cos, sin = np.cos(turn), np.sin(turn)
    wcs.wcs.cd = SCALE * pixel * np.array([[-cos, sin], [sin, cos]])
    shift = np.linalg.solve(pixel * np.array([[cos, -sin], [sin, cos]]), [x, y])
    wcs.wcs.crpix = (size + 1) / 2 - shift
    wcs.wcs.set()
    return wcs


@dataclass
class One:
    """As much of an input of a stack as drops need."""

    name: str = "one"
    scale: float = 1.0
    weight: float = 1.0
    noise: float = 1.0
    header: fits.Header = field(default_factory=fits.Header)

    @property
    def depth_noise(self):
        return self.scale * self.noise


def dropped(frame, wcs, scale, pixfrac, size=64, rejected=None, **one):
    """Mean, weight and variance of one frame on a grid of `size`, finer by `scale`."""
    positions = Positions(plain_wcs(size=size), wcs, frame.shape, (size, size))
    spoilt = np.zeros((size, size), bool) if rejected is None else rejected
    shape = (round(size * scale),) * 2
    return drizzling._dropped(One(**one), frame, positions, lambda x, y: 0 * x, spoilt, shape, scale, pixfrac)


def noise(seed=1, size=64, level=100.0):
    data = np.random.default_rng(seed).normal(level, 3, (size, size)).astype(np.float32)
    return Frame(data, fits.Header(), np.full((size, size), 3, np.float32))


def test_a_frame_on_its_own_pixels_is_itself():
    frame = noise()
    mean, weight, variance = dropped(frame, plain_wcs(), 1, 1.0, weight=0.5)
    assert mean == pytest.approx(frame.data, rel=1e-5) and weight == pytest.approx(0.5, rel=1e-4)
    assert variance == pytest.approx(9, rel=1e-3)


def test_twice_as_fine_pixels_have_a_quarter_each():
    frame = noise()
    mean, _, variance = dropped(frame, plain_wcs(), 2, 1.0)
    assert mean == pytest.approx(np.repeat(np.repeat(frame.data, 2, 0), 2, 1) / 4, rel=1e-4)
    assert variance == pytest.approx(9 / 16, rel=1e-3)


def test_small_drops_leave_holes_about_them():
    _, weight, _ = dropped(noise(), plain_wcs(), 3, 0.3)
    assert (weight[1::3, 1::3] > 0).all()
    weight[1::3, 1::3] = 0
    assert not weight.any()


@pytest.mark.parametrize("pixfrac", [1.0, 0.6])
def test_the_flux_of_a_turned_frame_of_other_pixels_is_kept(pixfrac):
    """All light of a frame of wider pixels arrives, per area of the finer ones."""
    data = np.zeros((40, 40), np.float32)
    data[15:25, 14:26] = np.random.default_rng(2).uniform(500, 1000, (10, 12))
    frame = Frame(data, fits.Header(), np.ones((40, 40), np.float32))
    mean, weight, _ = dropped(frame, plain_wcs(3.3, -2.1, size=40, turn=0.4, pixel=1.3), 2, pixfrac)
    # Drops do not overlap: what they bring is their share of the area, and so is their weight.
    inside = weight > 0
    assert (mean * weight)[inside].sum() == pytest.approx(data.sum(), rel=1e-3)


def test_what_is_hit_or_rejected_does_not_count_and_what_is_replaced_hardly():
    frame = noise()
    frame.mask[20, 20], frame.mask[30, 30] = Mask.COSMIC_RAY | Mask.INTERPOLATED, Mask.BAD | Mask.INTERPOLATED
    rejected = np.zeros((64, 64), bool)
    rejected[40, 41] = True
    _, weight, _ = dropped(frame, plain_wcs(), 1, 1.0, rejected=rejected)
    assert max(weight[20, 20], weight[40, 41]) < 1e-9 and weight[41, 40] == pytest.approx(1)
    assert 0 < weight[30, 30] < 1e-5


def test_rejected_places_come_back_as_images():
    found = drizzling.Rejected((4, 5), 2)
    found.add(1, np.array([3, 7]))
    found.add(1, np.array([19]))
    assert not found.image(0).any()
    assert np.flatnonzero(found.image(1)).tolist() == [3, 7, 19]


@pytest.mark.parametrize(("scale", "pixfrac", "frames"), [(2, 0.8, 12), (2, 0.5, 25), (1, 1.0, 6), (1.5, 0.7, 15)])
def test_noise_of_sums_is_what_the_factors_say(scale, pixfrac, frames):
    """Frames of nothing but noise, dithered at random: single pixels by sigma, circles by sigma and factor."""
    rng, size = np.random.default_rng(4), 96
    shape = (round(size * scale),) * 2
    together, headers, inputs = drizzling._Sums.of_shape(shape), [], []
    for number in range(frames):
        x, y = rng.uniform(-6, 6, 2)
        frame, wcs = noise(number, size, 0.0), plain_wcs(x, y, size=size)
        together.add(*dropped(frame, wcs, scale, pixfrac, size=size))
        header = fits.Header()
        keys = ("ALIGN11", "ALIGN12", "ALIGNX", "ALIGN21", "ALIGN22", "ALIGNY")
        header.update(zip(keys, (1.0, 0.0, -x, 0.0, 1.0, -y), strict=True))
        headers.append(header)
        inputs.append(One(header=header))
    factors = drizzling.noise_factors(headers, inputs, (size, size), scale, pixfrac)
    inner = slice(round(10 * scale), -round(10 * scale))
    data, sigma = together.mean[inner, inner], together.sigma[inner, inner]
    assert np.isfinite(data).mean() > 0.99
    pulls = (data / sigma)[np.isfinite(data)]
    assert np.std(pulls) == pytest.approx(1, abs=0.04)
    filled, variance = (np.nan_to_num(image) for image in (data, sigma**2))
    for radius, factor in zip(drizzling.RADII[:4], factors, strict=False):
        reach = np.arange(-radius, radius + 1)
        circle = (reach[:, None] ** 2 + reach**2 <= radius**2).astype(float)
        from scipy.signal import fftconvolve

        sums, total = (fftconvolve(image.astype(float), circle, mode="valid") for image in (filled, variance))
        # 5 %, or what so few independent circles tell
        few = 2.5 * (2 * radius + 1) / len(sums)
        assert np.std(sums / np.sqrt(total)) == pytest.approx(factor, rel=max(0.05, few))


def test_medians_cannot_be_drizzled():
    with pytest.raises(ValueError, match="drizzle makes averages, but method is 'median'"):
        combine.combine([], np.zeros(0), method="median", drizzle={"scale": 2, "pixfrac": 0.8})


# --- An undersampled night


NIGHT = simulated_night.Night(
    size=256, field=0.42, filters=simulated_night.filters_named("V"), lights=14, bias=6, darks=4, flats=4,
    seeing=(1.25, 1.5), trail=1, cloud=0, starless=0, other_target=0, faint_stars=2000, nebula=0.0, cosmic_rays=80,
)  # fmt: skip
CONFIG = ("--config", "raw=raw", "results=results", f"catalogue={PROJECT / 'tests/data/double_cluster.ecsv'}")
FINER = "combine={drizzle: {scale: 2, pixfrac: 0.7}}"


@dataclass
class Look:
    """A stack beside its truth, both on its own pixels."""

    frame: Frame
    inputs: np.ndarray
    planes: dict
    painted: np.ndarray
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    scale: int

    @property
    def bad(self):
        return ~np.isfinite(self.frame.data) | ((self.frame.mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0)

    @property
    def stars(self):
        """The frame without its sky."""
        data = np.where(self.bad, 0, self.frame.data).astype(np.float32)
        size = 32 * self.scale
        return data - sep.Background(np.where(self.bad, 0, data - self.painted), mask=self.bad, bw=size, bh=size).back()

    def bright(self, least=10_000):
        margin = 25 * self.scale
        ny, nx = self.frame.shape
        inside = (self.x > margin) & (self.y > margin) & (self.x < nx - margin) & (self.y < ny - margin)
        chosen = np.flatnonzero(inside & (self.flux > least))
        touched = sep.sum_circle(
            self.bad.astype(np.float32), self.x[chosen], self.y[chosen], 6.0 * self.scale, subpix=1
        )[0]
        return chosen[touched == 0]

    def light(self, chosen, radius):
        return sep.sum_circle(self.stars, self.x[chosen], self.y[chosen], radius * self.scale)[0]


def look(path, truth, scale):
    frame, inputs = io.read_frame(path), io.read_extension(path, "INPUTS")
    wcs, stars = astrometry.read_wcs(frame.header), truth.stars
    x, y = wcs.all_world2pix(np.asarray(stars["ra"]), np.asarray(stars["dec"]), 0)
    reference = truth.light(f"{frame.header['PHOTREF'].rsplit('_', 1)[0]}.fits")
    flux = np.asarray(stars["flux_V"]) * reference["transparency"] * frame.header["EXPTIME"]
    painted = np.zeros(frame.shape, np.float32)
    for row in inputs[inputs["weight"] > 0]:
        light = truth.light(f"{row['name'].decode().rsplit('_', 1)[0]}.fits")
        profile = simulated_night.Profile("moffat", light["fwhm"] * scale, truth.night.beta)
        simulated_night.paint(painted, x, y, flux * row["weight"], profile)
    planes = {name: fits.getdata(path, name) for name in ("COVERAGE", "WEIGHT", "REJECTED")}
    return Look(frame, inputs, planes, painted, x, y, flux, scale)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drizzle")
    (folder / "config.yaml").write_text("header:\n  - rename: {INSFILTE: FILTER}\n")
    truth = simulated_night.make_night(folder / "raw", NIGHT, truth=folder / "truth", images=False)
    reduced(folder, "--cores", 2, *CONFIG)
    path = folder / "results" / "stacks" / "NGC869" / "V.fits"
    plain = look(path, truth, 1)
    run = reduced(folder, "--cores", 2, *CONFIG, FINER)
    return folder, run, plain, look(path, truth, 2)


def test_only_the_stack_and_what_follows_is_made_again(night):
    _, run, _, _ = night
    assert run.jobs["combine"] == 1 and not run.jobs["light"] and not run.jobs["align"]


def test_a_second_run_does_nothing(night):
    folder, _, _, _ = night
    assert not snakemake(folder, "--cores", 2, *CONFIG, FINER, "--dry-run").jobs


def test_flux_is_that_of_the_stack_on_the_grid(night):
    _, _, plain, finer = night
    chosen = np.intersect1d(plain.bright(), finer.bright())
    ratio = finer.light(chosen, 5) / plain.light(chosen, 5)
    assert len(chosen) > 10 and np.median(ratio) == pytest.approx(1, abs=0.005)
    true = sep.sum_circle(finer.painted, finer.x[chosen], finer.y[chosen], 10.0)[0]
    assert np.median(finer.light(chosen, 5) / true) == pytest.approx(1, abs=0.015)


def test_stars_are_where_the_finer_wcs_says(night):
    _, _, plain, finer = night
    chosen = np.intersect1d(plain.bright(), finer.bright())
    off = []
    for one in (plain, finer):
        size = 0.8 * one.scale
        images = ((one.stars, one.painted)[which] for which in (0, 1))
        seen, true = (np.array(sep.winpos(image, one.x[chosen], one.y[chosen], size)[:2]) for image in images)
        off.append(np.median((seen - true) / one.scale, axis=1))  # also what the grid's own WCS is off by
    assert np.abs(off[1] - off[0]).max() < 0.03


def test_stars_are_sharper_than_interpolated_ones(night):
    _, _, plain, finer = night
    chosen = np.intersect1d(plain.bright(), finer.bright())
    inner = [np.median(one.light(chosen, 1) / one.light(chosen, 5)) for one in (plain, finer)]
    assert inner[1] > 1.01 * inner[0]


def test_sigma_is_true(night):
    _, _, _, finer = night
    quiet = (finer.painted < 0.2 * np.nanmedian(finer.frame.sigma)) & ~finer.bad
    quiet[:50] = quiet[-50:] = False
    quiet[:, :50] = quiet[:, -50:] = False
    pulls = ((finer.stars - finer.painted) / finer.frame.sigma)[quiet]
    assert quiet.sum() > 20_000
    assert 1.4826 * np.median(np.abs(pulls - np.median(pulls))) == pytest.approx(1, abs=0.03)
    assert finer.frame.header["ODDEVEN"] == pytest.approx(1, abs=0.04)
    assert honesty.factors_of(finer.frame.header)[0] > 1.2


def test_the_trail_and_hits_leave_nothing(night):
    """What one frame alone has: no pixel of the sky stands out."""
    _, _, _, finer = night
    quiet = (finer.painted < 0.2 * np.nanmedian(finer.frame.sigma)) & ~finer.bad & (finer.planes["COVERAGE"] > 8)
    pulls = ((finer.stars - finer.painted) / finer.frame.sigma)[quiet]
    assert (pulls > 6).mean() < 2e-4


def test_images_beside_have_its_shape(night):
    _, _, plain, finer = night
    assert finer.frame.shape == tuple(2 * size for size in plain.frame.shape)
    assert all(image.shape == finer.frame.shape for image in finer.planes.values())
    assert finer.planes["COVERAGE"].max() == len(finer.inputs)
    middle = finer.planes["WEIGHT"][200:300, 200:300]
    assert np.median(middle) == pytest.approx(1, abs=0.03)
    assert finer.frame.header["DRIZSCAL"] == 2 and finer.frame.header["DRIZPIX"] == 0.7
    assert np.array_equal((finer.frame.mask & Mask.NO_DATA) != 0, ~np.isfinite(finer.frame.data))


def test_lights_that_are_not_kept_aligned_give_the_same(night, tmp_path):
    folder, _, _, finer = night
    (tmp_path / "raw").symlink_to(folder / "raw")
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text() + "keep: [lights]\n")
    reduced(tmp_path, "--cores", 2, *CONFIG, FINER)
    frame = io.read_frame(tmp_path / "results" / "stacks" / "NGC869" / "V.fits")
    assert np.array_equal(frame.data, finer.frame.data, equal_nan=True)
    assert np.array_equal(frame.sigma, finer.frame.sigma, equal_nan=True)


def test_wrong_options_are_told(night, tmp_path):
    folder, _, _, _ = night
    for options, words in (("{scale: 0.5}", "scale"), ("{pixfrac: 0}", "pixfrac"), ("{pixel: 2}", "pixel")):
        run = snakemake(folder, "--dry-run", *CONFIG, f"combine={{drizzle: {options}}}")
        assert run.code and words in run.text and "Traceback" not in run.text
