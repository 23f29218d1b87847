"""Particle hits by their Laplacian. Truth: one call of astroscrappy with the same options; not a pixel may differ."""

import tracemalloc

import astroscrappy
import numpy as np
import pytest
import simulated_night as sim
from astropy.io import fits
from firstlight import laplacian

OURS = {"sigclip": 5.0, "sigfrac": 0.3, "objlim": 1.5, "cleantype": "medmask"}
THEIRS = {"sigclip": 4.5, "sigfrac": 0.3, "objlim": 5.0, "cleantype": "meanmask"}


def scrappy(image, ignore, variance, **options):
    return astroscrappy.detect_cosmics(image, inmask=ignore, invar=variance, satlevel=np.inf, **options)[0]


def assert_same(image, ignore, sigma, least=0, **options):
    """Equal masks, in which at least so many pixels are hit."""
    image, sigma = np.float32(image), np.broadcast_to(np.float32(sigma), np.shape(image)).copy()
    ignore = np.zeros(image.shape, bool) if ignore is None else ignore
    theirs = scrappy(image, ignore, sigma**2, **options)
    assert theirs.sum() >= least
    np.testing.assert_array_equal(laplacian.find(image, ignore, sigma**2, **options), theirs)


def crowd(seed, shape=(90, 110), share=0.02, charge=3000.0, sky=200.0):
    """Stars of all sharpness, and a share of pixels hit: (image, sigma)."""
    rng = np.random.default_rng(seed)
    image, (y, x) = rng.normal(sky, 15, shape), np.indices(shape)
    for _ in range(1 + image.size // 400):
        square = (y - rng.uniform(0, shape[0])) ** 2 + (x - rng.uniform(0, shape[1])) ** 2
        image += 10 ** rng.uniform(2, 5) * np.exp(-square / 2 / rng.uniform(0.6, 2) ** 2)
    hit = rng.random(shape) < share
    image[hit] += rng.exponential(charge, hit.sum())
    return image, np.sqrt(np.maximum(image, 0) + 25)


def scattered(seed, shape, share):
    return np.random.default_rng(seed).random(shape) < share


def noise():
    return np.random.default_rng(1).normal(200, 15, (120, 100)), None, 15.0


def stars_and_hits():
    image, sigma = crowd(2)
    return image, scattered(3, image.shape, 0.01), sigma


def dense():
    image, sigma = crowd(4, share=0.1)
    return image, None, sigma


def blobs():
    """Wide hits, whose middle has no pixel to be filled from, on a level far from that of the whole frame."""
    image, sigma = crowd(5, share=0.003)
    image[60:], sigma[60:] = image[60:] + 40000, np.sqrt(image[60:] + 40000)
    for y, x in ((10, 10), (20, 50), (70, 30), (75, 80)):
        height, width = 7, 11
        image[y : y + height, x : x + width] += 10.0 ** np.random.default_rng(y).uniform(3, 6, (height, width))
    return image, None, sigma


def bleeding():
    """A saturated star with its column, ignored, beside hits; a bad column that is not ignored."""
    image, sigma = crowd(6)
    y, x = np.indices(image.shape)
    full = (np.hypot(y - 40, x - 50) < 6) | (np.abs(x - 50) < 2)
    image[full], image[:, 80] = 65000, 30000
    image[38:44, 57] += 9000
    return image, full, sigma


def edges():
    image, sigma = crowd(7, share=0.005)
    image[:2], image[-1], image[:, 0], image[:, -3:] = 1e5, 1e4, -1e4, 5e4
    image[3], image[:, 3] = image[3] + 2000, image[:, 3] + 3000
    ignore = np.zeros(image.shape, bool)
    ignore[0], ignore[5:9, -1], ignore[20, 0] = True, True, True
    return image, ignore, sigma


def whole_numbers():
    """Many equal values, and a sigma that is one number."""
    image, _ = crowd(8, sky=20)
    return np.round(image), None, 3.0


def negative():
    image, sigma = crowd(9)
    return image - 5000, None, sigma


def huge():
    image, sigma = crowd(10)
    return image * 1e24, None, sigma * 1e10


def without_noise():
    image, _ = crowd(11)
    return image, None, 0.0


def mostly_ignored():
    image, sigma = crowd(12, share=0.05)
    return image, scattered(13, image.shape, 0.1), sigma


def ignored_altogether():
    image, sigma = crowd(14)
    return image, np.ones(image.shape, bool), sigma


SCENES = [noise, stars_and_hits, dense, blobs, bleeding, edges, whole_numbers, negative, huge, without_noise]
SCENES += [mostly_ignored, ignored_altogether]
SETTINGS = {"ours": OURS, "theirs": THEIRS, "idw": OURS | {"cleantype": "idw"}}
LIMITS = {
    "low": {"sigclip": 2.0, "sigfrac": 0.5, "objlim": 0.6, "cleantype": "medmask"},
    "nothing below 0": {"sigclip": 0.0, "sigfrac": 0.0, "objlim": 0.0, "cleantype": "meanmask"},
    "neighbours higher": OURS | {"sigfrac": 1.5},
    "once": OURS | {"niter": 1},
    "often": OURS | {"niter": 7},
}
LEFT_TO_ASTROSCRAPPY = {
    "full medians": OURS | {"sepmed": False},
    "convolved": OURS | {"fsmode": "convolve", "psfmodel": "moffat", "psffwhm": 2.2, "psfsize": 9, "psfbeta": 3.0},
    "negative": OURS | {"objlim": -1.0},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_the_mask_is_astroscrappys(scene, setting):
    full = setting == "ours" and scene not in (noise, ignored_altogether)
    assert_same(*scene(), least=50 if full else 0, **SETTINGS[setting])


@pytest.mark.parametrize("setting", LIMITS)
@pytest.mark.parametrize("scene", [stars_and_hits, dense, blobs], ids=lambda scene: scene.__name__)
def test_with_unusual_limits_too(scene, setting):
    assert_same(*scene(), least=50, **LIMITS[setting])


@pytest.mark.parametrize("setting", LEFT_TO_ASTROSCRAPPY)
def test_other_options_are_handed_on(setting):
    assert_same(*stars_and_hits(), least=50, **LEFT_TO_ASTROSCRAPPY[setting])


@pytest.mark.parametrize("seed", range(20))
def test_small_images_of_any_shape(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(5, 60, 2))
    image, sigma = crowd(seed, shape, share=rng.choice([0.01, 0.1, 0.4]), charge=rng.choice([300, 1e5]))
    options = {
        "sigclip": rng.choice([1, 3, 5]),
        "objlim": rng.choice([0.6, 5]),
        "cleantype": rng.choice(["medmask", "meanmask", "idw"]),
    }
    assert_same(image, scattered(seed + 100, shape, rng.choice([0, 0.03, 0.2])), sigma, **options)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 9), (4, 4), (0, 5)])
def test_what_is_all_edge_has_no_hits(shape):
    image = np.zeros(shape, np.float32)
    image[shape[0] // 2 : shape[0] // 2 + 1, shape[1] // 2] = 1e5
    found = laplacian.find(image, np.zeros(shape, bool), np.ones(shape, np.float32))
    assert found.shape == shape and not found.any()


@pytest.mark.parametrize(
    "changed", [{"DENSE": 10**9}, {"DENSE": 1}, {"DENSE": 10**9, "BAND": 500}, {"DENSE": 1, "BATCH": 7}, {"FILLED": 5}]
)
@pytest.mark.parametrize("scene", [stars_and_hits, dense, edges], ids=lambda scene: scene.__name__)
def test_it_is_all_the_same_how_pixels_are_taken_together(scene, changed, monkeypatch):
    for name, value in changed.items():
        monkeypatch.setattr(laplacian, name, value)
    assert_same(*scene(), **OURS)


def test_hits_without_good_pixels_around_are_filled_with_the_level_of_the_frame(monkeypatch):
    """That of the pixels that are neither ignored nor beside such, the lower one of two; edges do not grow."""
    image, _, sigma = blobs()
    image, variance, ignore = np.float32(image), np.float32(sigma) ** 2, np.zeros(image.shape, bool)
    image[0], ignore[0, ::3], ignore[85:] = -1000, True, True
    usable = np.ones(image.shape, bool)
    usable[0, ::3] = usable[1, 1:-1] = usable[84, 1:-1] = usable[85:] = False
    filled, levels = [], laplacian._Frame.levels.func
    monkeypatch.setattr(laplacian._Frame, "levels", property(lambda frame: filled.append(levels(frame)) or filled[-1]))
    laplacian.find(image, ignore, variance, **OURS)
    assert filled[0] == tuple(np.quantile(part[usable], 0.5, method="lower") for part in (image, variance))


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf, 1e31])
@pytest.mark.parametrize("which", [0, 2])
def test_what_cannot_be_calculated_is_left_to_astroscrappy(which, spoilt, monkeypatch):
    image, _, sigma = crowd(15)[0], None, crowd(15)[1]
    parts = [np.float32(image), np.zeros(image.shape, bool), np.float32(sigma) ** 2]
    parts[which][30, 40] = spoilt
    theirs = np.ones(image.shape, bool)
    monkeypatch.setattr(astroscrappy, "detect_cosmics", lambda *parts, **options: (theirs, None))
    assert laplacian.find(*parts, **OURS) is theirs


def test_the_median_of_all_pixels_is_left_to_astroscrappy(monkeypatch):
    """Its own result is not the same twice."""
    calls = []
    monkeypatch.setattr(astroscrappy, "detect_cosmics", lambda *_, **options: calls.append(options) or (None, None))
    one = np.ones((20, 20), np.float32)
    laplacian.find(one, one > 1, one, **OURS | {"cleantype": "median"})
    assert calls[0]["cleantype"] == "median"


def test_memory_is_bounded_where_most_pixels_are_hit():
    """As where a gain is wrong; in bytes per pixel."""
    rng, shape = np.random.default_rng(3), (600, 700)
    parts = np.float32(rng.normal(1000, 30, shape)), np.zeros(shape, bool), np.full(shape, 4, np.float32)
    tracemalloc.start()
    try:
        assert laplacian.find(*parts, **OURS).mean() > 0.5
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 80 * shape[0] * shape[1]


def test_the_inputs_stay_as_they_are():
    image, ignore, sigma = stars_and_hits()
    parts = [np.float32(image), ignore, np.float32(sigma) ** 2]
    copies = [part.copy() for part in parts]
    assert laplacian.find(*parts, **OURS).any()
    for part, copy in zip(parts, copies, strict=True):
        np.testing.assert_array_equal(part, copy)


@pytest.mark.parametrize("number", [5, 7, 9])
def test_medians_along_an_axis(number):
    values = np.random.default_rng(number).integers(0, 6, (40, 30)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(values, number, axis=0)
    np.testing.assert_array_equal(getattr(laplacian, f"_median{number}")(values), np.median(windows, axis=-1))


# ---- whole frames ----------------------------------------------------------------------------------------------------
def test_a_light_of_the_demo_night():
    night = sim.Night()
    simulation = sim.Simulation(night)
    light = simulation.lights[2]
    file, electrons = str(light["file"]), simulation.expected(light, simulation.signal(light))
    counts = simulation.read_out(file, electrons, simulation.rays(file, night.exposure))
    image = (counts - simulation.bias) * night.gain
    sigma = np.sqrt(np.maximum(image, 0) + night.read_noise**2)
    assert_same(image, counts > 60000, sigma, least=400, **OURS)


@pytest.mark.parametrize(("number", "setting"), [(0, OURS), (5, THEIRS), (11, OURS)])
def test_real_frames(real, number, setting):
    file = sorted((real / "xo1_z").glob("XO1-b*.fits"))[number]
    counts = fits.getdata(file).astype(np.float32)
    image = (counts - np.median(counts)) * 1.33 + 300
    sigma = np.sqrt(np.maximum(image, 0) + 16**2)
    assert_same(image, counts > 60000, sigma, least=5, **setting)
