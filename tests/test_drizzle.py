"""Drizzle: drops of single frames as they must be, noise of many, and an undersampled night against its truth."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import scenes
import sep
import simulated_night
from astropy.io import fits
from astropy.wcs import WCS, Sip
from conftest import PROJECT, reduced, snakemake
from firstlight import align, astrometry, combine, drizzling, grid, honesty, io, products, provenance
from firstlight.frame import Frame, Mask
from firstlight.positions import Positions
from scipy.signal import fftconvolve

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
    depth_noise: float = 1.0
    header: fits.Header = field(default_factory=fits.Header)


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


@pytest.mark.parametrize("pixfrac", [1.0, 0.7])
def test_an_unturned_frame_is_what_drizzle_makes_of_it(pixfrac):
    """The library called once, with places in closed form, on counts and their variances."""
    from drizzle.resample import Drizzle

    frame = noise()
    mean, weight, variance = dropped(frame, plain_wcs(1.3, -0.6), 2, pixfrac)
    theirs = Drizzle(kernel="square", out_shape=(128, 128), fillval="0", fillval2="0", disable_ctx=True)
    y, x = np.mgrid[:64, :64]
    places = np.stack([2 * (x + 1.3 + 0.5) - 0.5, 2 * (y - 0.6 + 0.5) - 0.5], axis=-1)
    theirs.add_image(frame.data, 1.0, places, data2=frame.sigma**2, pixfrac=pixfrac)
    inner = (slice(8, -8), slice(8, -8))
    covered = weight[inner] > 0
    assert np.array_equal(covered, theirs.out_wht[inner] > 0)
    assert mean[inner] == pytest.approx(theirs.out_img[inner] / 4, rel=1e-4)
    assert variance[inner][covered] == pytest.approx(theirs.out_img2[0][inner][covered] / 16, rel=1e-3)


@pytest.mark.parametrize("distortion", [0.0, 2e-6])
@pytest.mark.parametrize(("turn", "x"), [(0.0, 0.0), (0.1, 60.0), (0.8, -90.0), (1.6, 0.0)])
@pytest.mark.parametrize("size", [150, 300])
def test_a_light_reaches_all_pixels_that_lie_on_it(size, turn, x, distortion):
    """Also next to the edges of a grid that it overhangs, turned and with edges that are bent by 7 pixels."""
    n = 300
    wcs = plain_wcs(x, -x / 2, size=n, turn=turn)
    if distortion:
        a, b = np.zeros((2, 4, 4))
        a[3, 0] = a[1, 2] = b[0, 3] = b[2, 1] = distortion
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
        wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    frame = Frame(np.ones((n, n), np.float32), fits.Header(), np.ones((n, n), np.float32))
    _, weight, _ = dropped(frame, wcs, 2, 1.0, size=size)
    y, x = np.mgrid[: 2 * size, : 2 * size]
    sky = plain_wcs(size=size).wcs_pix2world(np.column_stack([(v.ravel() + 0.5) / 2 - 0.5 for v in (x, y)]), 0)
    there = wcs.all_world2pix(sky, 0, quiet=True)
    inside = ((there > 1) & (there < n - 2)).all(axis=1).reshape(x.shape)
    assert inside.sum() > 10_000
    assert weight[inside] == pytest.approx(1, abs=0.02)


def test_one_row_more_than_are_dropped_at_a_time():
    shape = (drizzling.ROWS + 1, 40)
    frame = Frame(np.ones(shape, np.float32), fits.Header(), np.ones(shape, np.float32))
    positions = Positions(plain_wcs(size=40), plain_wcs(size=40), shape, shape)
    _, weight, _ = drizzling._dropped(One(), frame, positions, lambda x, y: 0 * x, np.zeros(shape, bool), shape, 1, 1.0)
    assert weight == pytest.approx(1, abs=1e-3)


def test_holes_are_told_and_what_lies_beside_the_lights_is_none():
    there = np.zeros((90, 90), bool)
    there[31:60:3, 31:60:3] = True  # small drops of one frame
    gaps = drizzling._gaps(there, 3)
    assert gaps.sum() == 28 * 28 - 100 and not gaps[:31].any() and not gaps[:, :31].any()
    data = np.where(there, np.float32(1), np.float32(np.nan))
    note = drizzling._cards(fits.Header(), data, there.astype(np.uint16), 3, 0.3)["FLNOTE"]
    assert note.startswith("8.4% of the pixels between others got no drop")
    assert "FLNOTE" not in drizzling._cards(fits.Header(), data[31:60:3, 31:60:3], there[31:60:3, 31:60:3] * 1, 3, 0.3)


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


@pytest.mark.parametrize(
    ("scale", "pixfrac", "frames", "turn", "pixel"),
    [
        (2, 0.8, 12, 0, 1),
        (2, 0.5, 25, 0, 1),
        (1, 1.0, 6, 0, 1),
        (1.5, 0.7, 15, 0, 1),
        (2, 0.5, 12, 0.06, 1),
        (3, 0.6, 6, 0.5, 1),
        (2, 0.8, 6, 0, 2.5),
    ],
)
def test_noise_of_sums_is_what_the_factors_say(scale, pixfrac, frames, turn, pixel):
    """Frames of nothing but noise, dithered at random, in part turned or of wider pixels: single pixels by sigma, circles by
    sigma and factor. How quiet interpolation had made the aligned frames does not count."""
    rng, size = np.random.default_rng(4), 128
    shape = (round(size * scale),) * 2
    together, headers, inputs = drizzling._Sums.of_shape(shape), [], []
    for number in range(frames):
        x, y = rng.uniform(-6, 6, 2)
        angle, width = turn * number / (frames - 1), pixel if number % 2 else 1.0
        frame, wcs = noise(number, size, 0.0), plain_wcs(x, y, size=size, turn=angle, pixel=width)
        together.add(*dropped(frame, wcs, scale, pixfrac, size=size))
        header = placed(wcs, size)
        headers.append(header)
        inputs.append(One(header=header, noise=quiet(x) * quiet(y), depth_noise=1 / width))
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
        sums, total = (fftconvolve(image.astype(float), circle, mode="valid") for image in (filled, variance))
        # 3 %, or what so few independent circles tell
        few = 2.5 * (2 * radius + 1) / len(sums)
        assert np.std(sums / np.sqrt(total)) == pytest.approx(factor, rel=max(0.03, few))


def quiet(x):
    """Noise of a pixel that linear interpolation makes of two, x pixels beside one of them."""
    return np.hypot(x % 1, 1 - x % 1)


def test_noise_is_looked_at_on_all_finer_pixels_of_a_pixel():
    places = 2 * drizzling._middles((40, 40), 2) % 2
    assert np.unique(places.round(6), axis=0).tolist() == [[0.5, 0.5], [0.5, 1.5], [1.5, 0.5], [1.5, 1.5]]


def placed(wcs, size):
    """The cards ALIGNnn of a frame of this WCS on the grid of `size`."""
    at = np.array([[0.0, 0], [size - 1, 0], [0, size - 1]])
    there = wcs.wcs_world2pix(plain_wcs(size=size).wcs_pix2world(at, 0), 0)
    (a, c), (b, d) = (there[1:] - there[0]) / (size - 1)
    keys = ("ALIGN11", "ALIGN12", "ALIGNX", "ALIGN21", "ALIGN22", "ALIGNY")
    return fits.Header(dict(zip(keys, (a, b, there[0, 0], c, d, there[0, 1]), strict=True)))


def test_medians_cannot_be_drizzled():
    with pytest.raises(ValueError, match="drizzle makes averages, but method is 'median'"):
        combine.combine([], np.zeros(0), method="median", drizzle={"scale": 2, "pixfrac": 0.8})


def test_another_version_of_the_library_makes_stacks_anew(monkeypatch):
    script = PROJECT / "scripts" / "combine.py"
    before = provenance.code_identity(script)
    installed = provenance.installed
    monkeypatch.setattr(provenance, "installed", lambda name: "4.0" if name == "drizzle" else installed(name))
    assert provenance.code_identity(script) != before


# --- Undersampled lights of known noise


@dataclass
class Seen:
    """A stack of undersampled lights, and where their stars lie on it."""

    stack: combine.Stack
    x: np.ndarray
    y: np.ndarray
    scale: int
    sky: float
    painted: np.ndarray

    @property
    def rest(self):
        return self.stack.frame.data - self.sky / self.scale**2 - self.painted

    @property
    def empty(self):
        return self.painted < 0.1 * np.nanmedian(self.stack.frame.sigma)

    def light(self, radius):
        data = np.nan_to_num(self.stack.frame.data - self.sky / self.scale**2)
        return sep.sum_circle(data, self.x, self.y, radius * self.scale)[0]

    @property
    def places(self):
        """Where the stars are seen less where they are painted, pix of the grid (2, n)."""
        data = np.nan_to_num(self.rest + self.painted)
        found = [np.array(sep.winpos(d, self.x, self.y, 0.8 * self.scale)[:2]) for d in (data, self.painted)]
        return (found[0] - found[1]) / self.scale

    @property
    def depth(self):
        return self.stack.frame.with_(products.measured(self.stack.frame)).header["DEPTHINS"]


def lights_of(hit=None):
    """Eight dithered lights, a little turned, of changing sky; stars of FWHM 1.4 pixels. `hit` is put into one of them."""
    sky = scenes.a_sky(extent=800, step=60, brightest=3e4, faintest=3000)
    view = scenes.View("light", shape=(400, 400), seeing=2.8, masters=scenes.Masters("few", 5.0))
    changes = {"level": [300.0, 260, 420, 330, 300, 300, 280, 310], "rotation": [0.0, 1, -2, 0, 3, 0, 180, 0.5]}
    lights = [scenes.light(one, sky) for one in scenes.dithered(view, 8, **changes)]
    if hit is not None:
        lights[2].frame.data[hit] += 5000
    return sky, lights


def seen(hit=None, **drizzle):
    """The stack on the grid and the finer one, and where a pixel of the light that is hit lies on each."""
    sky, lights = lights_of(hit)
    views = {one.view.name: one for one in lights}
    known = [grid.candidate(name, one.frame.header) for name, one in views.items()]
    chosen = grid.choose(known, lambda one: views[one.name].table, {"reference": lights[0].view.name})[0]
    frames = {name: align.onto(one.frame, one.table, chosen) for name, one in views.items()}
    given = {
        name: lambda one=one: (one.frame, align.placed(one.frame, one.table, chosen)[0]) for name, one in views.items()
    }
    found = []
    for scale in (1, drizzle["scale"]):
        inputs, _ = combine.usable([(name, frame.header) for name, frame in frames.items()], frames.__getitem__)
        more = {} if not found else {"drizzle": drizzle, "lights": given, "grid_wcs": chosen.wcs}
        stack = combine.combine(inputs, chosen.stars, chosen.reference, **more)
        wcs, (ny, nx) = astrometry.read_wcs(stack.frame.header) if found else chosen.wcs, stack.frame.shape
        x, y = wcs.wcs_world2pix(sky.positions, 0).T
        painted = np.zeros((ny, nx), np.float32)
        simulated_night.paint(painted, x, y, sky.flux * 60, simulated_night.Profile("moffat", 1.4 * scale, scenes.BETA))
        whole = (x > 25 * scale) & (y > 25 * scale) & (x < nx - 25 * scale) & (y < ny - 25 * scale)
        found.append(Seen(stack, x[whole], y[whole], scale, 300.0, painted))
    return (*found, chosen, views)


@pytest.fixture(scope="module")
def finest():
    return seen(scale=2, pixfrac=0.6)


@pytest.mark.parametrize("drizzle", [(2, 0.6), (1, 1.0), (3, 0.8)])
def test_stars_have_their_flux(finest, drizzle):
    plain, finer, *_ = finest if drizzle == (2, 0.6) else seen(scale=drizzle[0], pixfrac=drizzle[1])
    true = sep.sum_circle(finer.painted, finer.x, finer.y, 6.0 * finer.scale)[0]
    assert len(true) > 80
    assert np.median(finer.light(6) / true) == pytest.approx(1, abs=0.003)
    assert np.median(finer.light(6) / plain.light(6)) == pytest.approx(1, abs=0.002)


def test_stars_have_their_places(finest):
    _, finer, *_ = finest
    assert np.abs(np.median(finer.places, axis=1)).max() < 0.015
    assert 1.4826 * np.median(np.abs(finer.places)) < 0.03


def test_stars_gain_light_in_their_middles(finest):
    plain, finer, *_ = finest
    inner = [np.median(one.light(0.8) / one.light(6)) for one in (plain, finer)]
    assert inner[1] > 1.03 * inner[0]


def test_noise_of_the_sky_is_what_sigma_says(finest):
    _, finer, *_ = finest
    use = finer.empty.copy()
    use[:60] = use[-60:] = use[:, :60] = use[:, -60:] = False
    assert np.std((finer.rest / finer.stack.frame.sigma)[use]) == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize("radius", [2, 3, 5])
def test_noise_of_circles_is_what_the_factors_say_of_real_lights(finest, radius):
    _, finer, *_ = finest
    rng, margin = np.random.default_rng(1), 60
    x, y = rng.integers(margin, 800 - margin, (2, 40_000))
    stars, light, variance = (
        sep.sum_circle(np.nan_to_num(image).astype(np.float32), x, y, radius + 0.01, subpix=1)[0]
        for image in (~finer.empty, finer.rest, np.square(finer.stack.frame.sigma))
    )
    pulls = (light / np.sqrt(variance))[stars == 0]
    factor = dict(zip(drizzling.RADII, honesty.factors_of(finer.stack.frame.header), strict=True))[radius]
    assert len(pulls) > 5000 and np.std(pulls) == pytest.approx(factor, rel=0.05)


def test_depth_is_that_of_the_stack_on_the_grid(finest):
    """Neither hides noise from the other: a star's circle of 1.5 FWHM, correlation included."""
    plain, finer, *_ = finest
    assert finer.depth == pytest.approx(plain.depth, abs=0.06)


def test_all_frames_cover_the_middle_with_all_their_weight(finest):
    _, finer, *_ = finest
    inner = (slice(100, -100), slice(100, -100))
    assert np.median(finer.stack.coverage[inner]) >= 6
    # Each frame drops 0.36 of its area, in which it counts 1 / 0.36.
    assert finer.stack.weight[inner].mean() == pytest.approx(1, abs=0.005)


def test_a_hit_of_one_light_leaves_nothing():
    place = (203, 190)
    _, clean, *_ = seen(scale=2, pixfrac=0.6)
    _, finer, chosen, views = seen(hit=place, scale=2, pixfrac=0.6)
    light = views["light_02"]
    where = chosen.wcs.wcs_world2pix(light.view.wcs.wcs_pix2world([place[::-1]], 0), 0)[0]
    x, y = np.rint(2 * (where + 0.5) - 0.5).astype(int)
    box = (slice(y - 6, y + 7), slice(x - 6, x + 7))
    added = finer.stack.frame.data[box] - clean.stack.frame.data[box]
    assert finer.stack.rejected[box].any() and finer.stack.coverage[y, x] < clean.stack.coverage[y, x]
    assert np.abs(added / clean.stack.frame.sigma[box]).max() < 3  # 130 were it to count


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
    wrong = (
        ("drizzle: {scale: 0.5}", "scale"),
        ("drizzle: {pixfrac: 0}", "pixfrac"),
        ("drizzle: {pixel: 2}", "pixel"),
        ("drizzle: {scale: 2}, method: median", "drizzle makes averages, but method is median: set it to average"),
    )
    for options, words in wrong:
        run = snakemake(folder, "--dry-run", *CONFIG, f"combine={{{options}}}")
        assert run.code and words in run.text and "Traceback" not in run.text
