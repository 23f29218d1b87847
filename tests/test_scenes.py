"""Simulated lights through align and combine, against what was painted: depth, sigmas, trails, nights, mosaics."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import scenes
import sep
from firstlight import align, astrometry, combine, grid, io
from firstlight.frame import Mask
from firstlight.grid import Grid
from scenes import Masters, Trail, View

STARS = scenes.a_sky()
CLOUDS = scenes.a_sky(nebula=0.15)
PLAIN = View("plain")


@dataclass
class Scene:
    """A stack of some views, and what it should be."""

    sky: scenes.Sky
    grid: Grid
    views: list
    stack: combine.Stack

    def __post_init__(self):
        self.frame, self.header = self.stack.frame, self.stack.frame.header
        rows = {str(row["name"]): row for row in self.stack.inputs}
        self.weights = np.array([rows[v.name]["weight"] if v.name in rows else 0.0 for v in self.views])
        self.reference = next(v for v in self.views if v.name == self.header["PHOTREF"])
        self.light = self.reference.exposure * self.reference.transparency  # e- of a star that gives 1 e-/s
        self.painted = scenes.painted(self.grid, self.sky, self.views, self.weights, self.light)
        self.rest = self.frame.data - self.painted - self.reference.level
        self.good = np.isfinite(self.frame.data) & ((self.frame.mask & Mask.UNUSABLE) == 0)
        stars = scenes.painted(self.grid, replace(self.sky, nebula=0.0), self.views, self.weights, self.light)
        self.empty = self.good & (stars < 0.1 * np.nanmedian(self.frame.sigma))  # pixels of the sky, without starlight

    @property
    def pulls(self):
        return (self.rest / self.frame.sigma)[self.empty]

    @property
    def xy(self):
        return scenes.on(self.grid.wcs, self.sky)

    def fluxes(self, radius):
        """Measured over true flux of the stars whose surroundings are whole, and which they are; radius in arcsec."""
        pixels = radius / astrometry.scale_of(self.grid.wcs)
        x, y = self.xy.T
        ny, nx = self.grid.shape
        inside = (x > 0) & (y > 0) & (x < nx - 1) & (y < ny - 1)
        lost = np.ones(len(x))
        lost[inside] = sep.sum_circle((~self.good).astype(np.float32), x[inside], y[inside], 1.6 * pixels + 2)[0]
        inside &= (lost == 0) & (np.hypot(x, y) > 0)
        edge = np.minimum(np.minimum(x, y), np.minimum(nx - 1 - x, ny - 1 - y))
        inside &= edge > 1.6 * pixels + 2
        data = np.where(self.good, self.frame.data, 0).astype(np.float32)
        ring = (1.2 * pixels, 1.6 * pixels)
        flux = sep.sum_circle(data, x[inside], y[inside], pixels, bkgann=ring, subpix=0)[0]
        truth = sep.sum_circle(self.painted.astype(np.float32), x[inside], y[inside], pixels, bkgann=ring, subpix=0)[0]
        which = np.flatnonzero(inside)
        bright = self.sky.flux[which] * self.light > 50 * self.noise(pixels)
        return (flux / truth)[bright], which[bright]

    def noise(self, pixels):
        return float(np.nanmedian(self.frame.sigma) * np.sqrt(np.pi) * pixels * 1.5)


def robust(values):
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def block_means(image, use, size=8):
    """Means of blocks (n) of which every pixel may be used."""
    ny, nx = (n // size * size for n in image.shape)

    def cut(array):
        return array[:ny, :nx].reshape(ny // size, size, nx // size, size).swapaxes(1, 2).reshape(-1, size * size)

    whole = cut(use).all(axis=1)
    return cut(image)[whole].mean(axis=1)


def grid_of(lights, **options) -> Grid:
    """As the workflow chooses it, with the first light for its reference."""
    known = {one.view.name: one for one in lights}
    first = lights[0].view.name
    candidates = [grid.candidate(name, one.frame.header) for name, one in known.items()]
    return grid.choose(candidates, lambda light: known[light.name].table, {"reference": first, **options})[0]


def aligned(lights, pixels):
    return {one.view.name: align.onto(one.frame, one.table, pixels) for one in lights}


def combined(frames, pixels):
    inputs, dropped = combine.usable([(name, frame.header) for name, frame in frames.items()], frames.__getitem__)
    assert not dropped
    return combine.combine(inputs, pixels.stars, pixels.reference)


def stacked(views, sky=STARS, **options) -> Scene:
    """options of the grid"""
    lights = [scenes.light(view, sky) for view in views]
    pixels = grid_of(lights, **options)
    return Scene(sky, pixels, views, combined(aligned(lights, pixels), pixels))


# ---- Depth and noise -------------------------------------------------------------------------------------------------


@cache
def changing():
    """Eight dithered lights through changing air, over changing sky."""
    conditions = {
        "level": [300.0, 260, 420, 330, 700, 300, 280, 310],
        "transparency": [1.0, 0.97, 0.95, 0.6, 0.98, 1.0, 0.93, 0.96],
        "seeing": [5.5, 5.0, 6.0, 6.5, 5.8, 7.0, 5.2, 6.2],
        "slope": [(0.0, 0.0), (20, -10), (-30, 5), (0, 40), (10, 10), (-15, 0), (0, -25), (8, 0)],
        "exposure": [60.0, 60, 60, 60, 60, 60, 30, 60],
    }
    return stacked(scenes.dithered(PLAIN, 8, **conditions), CLOUDS)


@cache
def sharing(reach):
    """Twelve lights whose masters are of 3 bias and 5 dark frames: sigma^2 = 1.436 read_noise^2 / 5 with medians."""
    view = View("shared", level=30.0, masters=Masters("few", 7.0 * (1.436 / 5 + 0.05) ** 0.5))
    return stacked(scenes.dithered(view, 12, reach=reach))


def test_depth_is_that_of_ideal_weights():
    scene = changing()
    precision = [(v.transparency * v.exposure / scene.light) ** 2 / v.sky_sigma**2 for v in scene.views]
    blocks = block_means(scene.rest, scene.empty)
    assert len(blocks) > 1000
    assert robust(blocks) * 8 * np.sqrt(sum(precision)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "scene", [changing, lambda: sharing(12.0), lambda: sharing(0.0)], ids=["changing", "dithered", "undithered"]
)
def test_sky_scatters_about_the_truth_as_sigma_says(scene):
    assert robust(scene().pulls) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "scene", [changing, lambda: sharing(12.0), lambda: sharing(0.0)], ids=["changing", "dithered", "undithered"]
)
def test_odd_and_even_frames_differ_as_sigma_says(scene):
    assert scene().header["ODDEVEN"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("radius", [3, 5, 10])
@pytest.mark.parametrize(
    "scene", [changing, lambda: sharing(12.0), lambda: sharing(3.0)], ids=["changing", "dithered", "hardly dithered"]
)
def test_errors_of_apertures_are_true(scene, radius):
    """On several lattices of circles; what masters left in neighbouring pixels is shared by frames that lie closer than
    the circle is wide."""
    one, pulls = scene(), []
    rest = np.where(one.empty, one.rest, 0).astype(np.float32)
    for start in range(0, 2 * radius + 2, max(radius // 2, 1)):
        line = np.arange(20.0 + start, 490, 2 * radius + 2)
        x, y = (p.ravel() for p in np.meshgrid(line, line))
        free = sep.sum_circle((~one.empty).astype(np.float32), x, y, radius, subpix=0)[0] == 0
        flux, error, _ = sep.sum_circle(rest, x[free], y[free], radius, err=one.frame.sigma, subpix=0)
        pulls.append(flux / (error * one.header[f"NCORR{radius:02d}"]))
    pulls = np.concatenate(pulls)
    assert len(pulls) > 600
    assert np.std(pulls) == pytest.approx(1, abs=0.1)


def test_stars_in_changing_seeing_keep_their_flux():
    ratio, _ = changing().fluxes(24.0)
    assert len(ratio) > 40
    assert np.median(ratio) == pytest.approx(1, abs=0.005)


@cache
def one_sharp():
    """Eight lights, of which one has much better seeing than the others."""
    return stacked(scenes.dithered(PLAIN, 8, seeing=[7.2] * 7 + [4.6]), scenes.a_sky(faintest=100.0))


@pytest.mark.parametrize("radius", [10.0, 24.0])
def test_nothing_is_eaten_from_stars_of_a_sharp_frame(radius):
    """Neither from their inner parts nor from their light as a whole."""
    ratio, _ = one_sharp().fluxes(radius)
    assert len(ratio) > 40
    assert np.median(ratio) == pytest.approx(1, abs=0.005)


def test_the_nebula_keeps_its_light():
    scene = changing()
    shape = scenes.nebula(CLOUDS, scene.grid.wcs, scene.grid.shape) * scene.light
    use = scene.empty & (shape > 0.2 * shape.max())
    brightness, added = (
        float(shape[use].max() / np.nanmedian(scene.frame.sigma)),
        scene.rest[use].sum() / shape[use].sum(),
    )
    assert brightness > 3
    assert added == pytest.approx(0, abs=0.02)


# ---- Trails ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peak", [60.0, 600.0, 6000.0])
@pytest.mark.parametrize("n", [4, 8])
def test_a_trail_stays_below_a_sigma_of_the_stack(n, peak):
    trail = Trail(peak, 37.0, 23.0)
    views = scenes.dithered(PLAIN, n, trail=[None, trail, *[None] * (n - 2)])
    scene = stacked(views)
    spoilt = views[1]
    away = trail.distance(*scenes.places(scene.grid, spoilt), spoilt.shape)
    pulls = scene.rest / scene.frame.sigma
    lines = [pulls[scene.empty & (np.abs(away - d) < 0.5)].mean() for d in range(-12, 13)]
    worst = float(np.abs(lines).max())
    assert worst < 1


# ---- Other cameras, other pointings ----------------------------------------------------------------------------------


@cache
def two_nights():
    """Four lights, and four of another night with the camera turned by 37 deg and flipped, with coarser pixels."""
    first = scenes.dithered(PLAIN, 4)
    other = View("other", (380, 380), 2.8, 217.0, (6.0, -9.0), 120.0, 6.5, 0.9, 900.0, night="2025-11-20")
    return first, scenes.dithered(other, 4, seed=5)


@cache
def both_nights():
    return stacked([*two_nights()[0], *two_nights()[1]])


def test_two_nights_give_one_stack():
    scene = both_nights()
    assert scene.header["NCOMBINE"] == 8
    assert np.median(scene.stack.coverage[100:400, 100:400]) == 8


def test_fluxes_of_two_nights_are_true():
    ratio, _ = both_nights().fluxes(24.0)
    assert len(ratio) > 40
    assert np.median(ratio) == pytest.approx(1, abs=0.005)


def test_positions_of_two_nights_are_true():
    scene = both_nights()
    _, bright = scene.fluxes(24.0)
    x, y = scene.xy[bright].T
    image = np.where(scene.good, scene.frame.data - scene.reference.level, 0).astype(np.float32)
    wx, wy, flag = sep.winpos(image, x, y, np.full(len(x), 1.3))
    off = np.hypot(wx - x, wy - y)[flag == 0]
    assert len(off) > 40
    assert np.median(off) < 0.05 and np.hypot(np.median(wx - x), np.median(wy - y)) < 0.02


def test_sky_of_two_nights_scatters_as_sigma_says():
    assert robust(both_nights().pulls) == pytest.approx(1, abs=0.05)


def test_adding_a_night_equals_a_run_from_scratch(tmp_path):
    """The grid and the first night's aligned frames come from files; data, sigma, mask and coverage are the same bits."""
    first, second = two_nights()
    scratch = both_nights()
    lights = [scenes.light(view, STARS) for view in (*first, *second)]
    for name, frame in aligned(lights[:4], scratch.grid).items():
        io.write_frame(tmp_path / f"{name}.fits", frame)
    frames = {view.name: io.read_frame(tmp_path / f"{view.name}.fits") for view in first}
    stack = combined(frames | aligned(lights[4:], scratch.grid), scratch.grid)
    for part in ("data", "sigma", "mask"):
        np.testing.assert_array_equal(getattr(stack.frame, part), getattr(scratch.frame, part))
    np.testing.assert_array_equal(stack.coverage, scratch.stack.coverage)


# ---- Mosaic ----------------------------------------------------------------------------------------------------------

SIDE, SHIFT = 300, 255  # pixels of a pane, and from one to the next: 15 % are shared


@cache
def mosaic():
    """Four pointings of three lights each, with skies, slopes and air of their own."""
    panes = []
    for k, (i, j) in enumerate([(-1, -1), (1, -1), (-1, 1), (1, 1)]):
        view = View(f"pane{k}", (SIDE, SIDE), pointing=(-i * SHIFT, j * SHIFT), minute=10 * k)
        levels = {
            "level": [300 + 60.0 * k + 15 * n for n in range(3)],
            "transparency": [1 - 0.06 * k] * 3,
            "slope": [(25.0 * (-1) ** k + 5 * n, 15.0 * k - 20) for n in range(3)],
        }
        panes.append(scenes.dithered(view, 3, reach=6.0, seed=20 + k, **levels))
    views = [view for pane in panes for view in pane]
    return stacked(views, CLOUDS, extent="all"), panes


def seams(scene, panes):
    """Steps of the sky across the edges of the panes (electrons), in stretches of 60 pixels along them.

    The stack has the sky of its reference, whose slope goes on over all panes: a plane is no seam, and is taken off.
    """
    rest = scene.rest - plane(scene.rest, scene.empty)
    steps = []
    for view in (pane[0] for pane in panes):
        px, py = scenes.places(scene.grid, view)
        for across, along in ((px, py), (py, px)):
            for edge, out in ((0, -1), (SIDE - 1, 1)):
                away = out * (across - edge)  # pixels, positive outside
                near = scene.empty & (np.abs(away) > 8) & (np.abs(away) < 20) & (along >= 20) & (along < SIDE - 40)
                stretch, outside, values = (along[near] - 20) // 60, away[near] > 0, rest[near]
                for number in range(4):
                    sides = [values[(stretch == number) & (outside == side)] for side in (True, False)]
                    if min(map(len, sides)) > 300:
                        steps.append(np.median(sides[0]) - np.median(sides[1]))
    return np.array(steps)


def plane(image, use):
    """The plane through an image (ny, nx), robustly: from medians of blocks of 32 pixels."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    blocks = [(slice(j, j + 32), slice(i, i + 32)) for j in range(0, y.shape[0], 32) for i in range(0, y.shape[1], 32)]
    values = [
        (x[b][use[b]].mean(), y[b][use[b]].mean(), 1.0, np.median(image[b][use[b]]))
        for b in blocks
        if use[b].sum() > 400
    ]
    *design, value = np.array(values).T
    a, b, c = np.linalg.lstsq(np.column_stack(design), value, rcond=None)[0]
    return a * x + b * y + c


def test_a_mosaic_has_no_seams():
    scene, panes = mosaic()
    steps = seams(scene, panes)
    assert len(steps) > 20
    largest = float(np.abs(steps).max() / np.nanmedian(scene.frame.sigma))
    assert largest < 0.3


def test_fluxes_agree_over_the_panes():
    scene, panes = mosaic()
    ratio, which = scene.fluxes(20.0)
    for pane in panes:
        x, y = scenes.on(pane[0].wcs, scene.sky)[which].T
        here = (x > 10) & (y > 10) & (x < SIDE - 10) & (y < SIDE - 10)
        assert here.sum() > 5
        assert np.median(ratio[here]) == pytest.approx(1, abs=0.01)


def test_all_panes_count():
    scene, _ = mosaic()
    assert scene.header["NCOMBINE"] == 12
    assert scene.good.mean() > 0.9
