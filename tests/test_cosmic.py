"""Finding particle hits. Truth: injected hits and stars, ccdproc and astroscrappy on the same arrays."""

from dataclasses import dataclass

import numpy as np
import pytest
import simulated_night as sim
from astropy.nddata import CCDData
from firstlight import calibrate, cosmic, sources
from firstlight.frame import Frame, Mask
from scipy.ndimage import binary_dilation, maximum_filter
from values import BIT, frame, noisy

READ_NOISE = 5.0
GAIN, FULL_WELL = 1.5, 96000.0  # e-/ADU, e-


def field(fwhm, seed=30, shape=(200, 200), sky=200.0, hits=40, flux=60000):
    """A frame (electron, minus nothing) of Gaussian stars on a lattice and single-pixel hits between them.

    Returns the frame, where the hits are, where the stars are (within 2 FWHM, and the frame's edge).
    """
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    light, stars = np.full(shape, sky), np.zeros(shape, bool)
    for cy in np.arange(25, 190, 50):
        for cx in np.arange(25, 190, 50):
            distance = np.hypot(y - cy - rng.uniform(-0.5, 0.5), x - cx - rng.uniform(-0.5, 0.5))
            width = fwhm / 2.3548
            light += flux / (2 * np.pi * width**2) * np.exp(-(distance**2) / 2 / width**2)
            stars |= distance < 2 * fwhm
    sigma = np.sqrt(light + READ_NOISE**2)
    data = light + rng.normal(0, 1, shape) * sigma
    struck = np.zeros(shape, bool)
    stars[:4] = stars[-4:] = stars[:, :4] = stars[:, -4:] = True  # the methods need some pixels around a hit
    free = rng.permutation(np.argwhere(~stars))[:hits]
    struck[tuple(free.T)] = True
    data[struck] += 3000
    return frame(data, sigma, unit="electron"), struck, stars


@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_hits_are_found(method):
    one, struck, _ = field(3.0)
    out = cosmic.cosmic_ray(one, method=method, fwhm=3.0)
    flagged = (out.mask & Mask.COSMIC_RAY) != 0
    assert flagged[struck].all()
    assert out.header["NCOSMIC"] == flagged.sum()


@pytest.mark.parametrize("fwhm", [1.6, 2.0, 2.6, 4.0])
def test_stars_of_any_sharpness_are_no_hits(fwhm):
    one, _, stars = field(fwhm, hits=0)
    out = cosmic.cosmic_ray(one, fwhm=fwhm)
    assert not (out.mask[stars] & Mask.COSMIC_RAY).any()


def test_quiet_sky_has_hardly_a_false_hit():
    one, _, stars = field(3.0, hits=0)
    assert (cosmic.cosmic_ray(one, fwhm=3.0).mask[~stars] != 0).mean() < 1e-4


def test_laplacian_hits_are_ccdprocs():
    import ccdproc

    one, struck, _ = field(3.0)
    ours = cosmic.cosmic_ray(one, sigclip=4.5, sigfrac=0.3, objlim=5.0, guard=False)
    theirs = ccdproc.cosmicray_lacosmic(
        CCDData(one.data, unit="electron"),
        sigclip=4.5,
        sigfrac=0.3,
        objlim=5.0,
        gain=1.0,
        gain_apply=False,
        invar=one.sigma**2,
        satlevel=np.inf,
        niter=4,
        cleantype="medmask",
    )
    assert theirs.mask.sum() >= struck.sum()
    np.testing.assert_array_equal((ours.mask & Mask.COSMIC_RAY) != 0, theirs.mask)


@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_hits_are_looked_for_above_the_pedestal(method):
    one, struck, _ = field(3.0)
    hot = np.zeros(one.shape, np.float32)
    hot[10::20, 10::20] = 5000
    out = cosmic.cosmic_ray(one.with_(data=one.data + hot), hot, method=method, fwhm=3.0)
    clear = (hot > 0) & ~struck
    assert not (out.mask[clear] & Mask.COSMIC_RAY).any()


@pytest.mark.parametrize("bit", ["SATURATED", "BAD", "NO_DATA"])
@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_what_is_flagged_already_is_no_hit(method, bit):
    one, struck, _ = field(3.0)
    mask = np.where(struck, np.uint8(BIT[bit]), np.uint8(0))
    out = cosmic.cosmic_ray(one.with_(mask=mask), method=method, fwhm=3.0)
    np.testing.assert_array_equal(out.mask[struck], BIT[bit])


@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_hits_beside_bad_pixels_are_found(method):
    one, struck, _ = field(3.0)
    bad = np.roll(struck, 1, axis=1) & ~struck
    data = np.where(bad, 30000, one.data).astype(np.float32)
    out = cosmic.cosmic_ray(
        one.with_(data=data, mask=np.where(bad, np.uint8(Mask.BAD), np.uint8(0))), method=method, fwhm=3.0
    )
    assert (out.mask[struck] == Mask.COSMIC_RAY).all()
    assert (out.mask[bad] == Mask.BAD).all()
    np.testing.assert_array_equal(out.data, data)


def test_values_stay_until_the_flat_and_are_replaced_there_once():
    one, struck, _ = field(3.0)
    found = cosmic.cosmic_ray(one, fwhm=3.0)
    np.testing.assert_array_equal(found.data, one.data)
    out = calibrate.flat(found, None)
    assert np.abs(out.data[struck] - 200).max() < 60
    assert (out.mask[struck] == Mask.COSMIC_RAY | Mask.INTERPOLATED).all()


def test_early_replaces_at_once():
    one, struck, _ = field(3.0)
    out = cosmic.cosmic_ray(one, fwhm=3.0, replace="early")
    assert np.abs(out.data[struck] - 200).max() < 60


def test_method_none_finds_nothing():
    one, _, _ = field(3.0)
    assert cosmic.cosmic_ray(one, method="none") is one


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="cosmic_ray method 'lacosmic': laplacian, median or none?"):
        cosmic.cosmic_ray(noisy(31, 100, 10), method="lacosmic")


def test_options_of_astroscrappy_arrive():
    from astroscrappy import detect_cosmics

    one, _, _ = field(2.0)
    options = {"sepmed": False, "cleantype": "idw", "fsmode": "convolve", "psfmodel": "moffat", "psfbeta": 3.0}
    options |= {"sigclip": 4.5, "sigfrac": 0.4, "objlim": 1.0, "niter": 2, "psfsize": 9}
    ours = cosmic.cosmic_ray(one, fwhm=2.0, guard=False, **options)
    theirs, _ = detect_cosmics(one.data, invar=one.sigma**2, satlevel=np.inf, psffwhm=2.0, **options)
    assert theirs.any()
    np.testing.assert_array_equal(ours.mask == Mask.COSMIC_RAY, theirs)


def test_with_the_guard_edges_are_searched_as_if_the_frame_went_on_mirrored(monkeypatch):
    from astroscrappy import detect_cosmics

    one = crowd(2.5, *SETTINGS["wings"], size=160, count=30).frame
    ignore = (one.mask & Mask.SATURATED) != 0
    mirrored = [np.pad(part, cosmic.EDGE, mode="reflect") for part in (one.data, ignore, one.sigma**2)]
    theirs, _ = detect_cosmics(
        mirrored[0],
        inmask=mirrored[1],
        invar=mirrored[2],
        satlevel=np.inf,
        cleantype="medmask",
        sigclip=5.0,
        objlim=1.5,
    )
    monkeypatch.setattr(cosmic, "star_guard", lambda light, hits, *_: hits)
    ours = cosmic.cosmic_ray(one, fwhm=2.5).mask & Mask.COSMIC_RAY
    assert theirs[:6].any()
    np.testing.assert_array_equal(ours != 0, theirs[3:-3, 3:-3] & ~ignore)


@pytest.mark.parametrize("gbox", [2, 3, 6])
def test_hits_are_grown_by_a_window(gbox):
    one, struck, _ = field(3.0)
    plain, grown = (cosmic.cosmic_ray(one, fwhm=3.0, gbox=width).mask == Mask.COSMIC_RAY for width in (0, gbox))
    np.testing.assert_array_equal(grown, maximum_filter(plain, gbox))


@pytest.mark.parametrize("gbox", [0, 3])
def test_median_hits_are_ccdprocs(gbox):
    import ccdproc

    one, struck, _ = field(3.0)
    ours = cosmic.cosmic_ray(one, method="median", threshold=6.0, mbox=7, gbox=gbox, guard=False)
    _, theirs = ccdproc.cosmicray_median(one.data, one.sigma, thresh=6.0, mbox=7, gbox=gbox)
    assert theirs[struck].all()
    np.testing.assert_array_equal(ours.mask == Mask.COSMIC_RAY, theirs)


def test_early_replaces_by_the_median_of_the_good_pixels_of_rbox():
    one, struck, _ = field(3.0)
    found = cosmic.cosmic_ray(one, fwhm=3.0).mask == Mask.COSMIC_RAY
    out = cosmic.cosmic_ray(one, fwhm=3.0, replace="early", rbox=7)
    y, x = next((y, x) for y, x in np.argwhere(struck) if 3 <= y < 197 and 3 <= x < 197)
    window = np.s_[y - 3 : y + 4, x - 3 : x + 4]
    assert out.data[y, x] == np.median(one.data[window][~found[window]])
    assert (out.mask[found] == Mask.COSMIC_RAY | Mask.INTERPOLATED).all()


def test_a_star_without_a_middle_is_refused():
    with pytest.raises(ValueError, match="psfsize 8 has no middle pixel: 7 or 9?"):
        cosmic.cosmic_ray(noisy(31, 100, 10), psfsize=8)


# ---- crowded fields with saturated stars, close blends, tracks -------------------------------------------------------
SETTINGS = {"wings": ("moffat", 3.0, 30.0, 1.5), "sharp": ("gauss", 0.0, 3000.0, 7.0)}
SEEING = [1.5, 2.0, 2.5, 3.0, 4.0, 6.0]


@dataclass
class Crowd:
    """A frame of crowded stars from 5 sigma to five times saturation, and what is true of it."""

    frame: Frame
    fwhm: float
    x: np.ndarray
    y: np.ndarray
    rays: np.ndarray  # e-
    sigma: np.ndarray  # e-, without hits

    @property
    def saturated(self):
        return (self.frame.mask & Mask.SATURATED) != 0

    @property
    def strong(self):
        """Pixels to be found; not those beside saturated ones, where nothing is called a hit."""
        return (self.rays > 10 * self.sigma) & ~binary_dilation(self.saturated, np.ones((3, 3)))

    @property
    def clean(self):
        return ~binary_dilation(self.rays > 0.5 * self.sigma, np.ones((5, 5))) & ~self.saturated

    def found(self, **options):
        return (cosmic.cosmic_ray(self.frame, **options).mask & Mask.COSMIC_RAY) != 0


def bleeding(light):
    """Charge above the full well runs along its column until it has filled enough pixels, at least to saturation."""
    out = light.copy()
    for column in np.flatnonzero((light > FULL_WELL).any(axis=0)):
        rows = np.flatnonzero(light[:, column] > FULL_WELL)
        reach = int((light[rows, column] - FULL_WELL).sum() / FULL_WELL / 8)
        out[max(0, rows[0] - reach) : rows[-1] + reach + 1, column] = 1.05 * FULL_WELL
    return out


def crowd(fwhm, kind, beta, sky, read_noise, size=384, count=170, seed=1, noise=0, hits=True, every=1):
    """every: only each second pixel is looked at, as of a site of a mosaic; fwhm is in pixels that are looked at."""
    rng = np.random.default_rng([seed, int(10 * fwhm)])
    profile = sim.Profile(kind, fwhm, beta)
    faint, bright = 5 * np.sqrt(sky + read_noise**2), 5 * FULL_WELL
    x, y = rng.uniform(0, size, (2, count))
    flux = 10 ** rng.uniform(np.log10(faint), np.log10(bright), count) / min(1.0, profile.peak)
    close = count // 6  # so many have a neighbour within 1.5 FWHM
    x[:close], y[:close] = (v[close : 2 * close] + rng.uniform(-1.5, 1.5, close) * fwhm for v in (x, y))
    light = np.full((size * every, size * every), sky)
    sim.paint(light, x * every, y * every, flux * every**2, sim.Profile(kind, fwhm * every, beta))
    light = bleeding(np.ascontiguousarray(light[::every, ::every]))
    sigma = np.sqrt(light + read_noise**2)
    rng = np.random.default_rng([seed, int(10 * fwhm), noise])
    rays = struck(rng, size, np.sqrt(sky + read_noise**2)) if hits else np.zeros_like(light)
    counts = np.minimum(rng.poisson(light + rays) + rng.normal(0, read_noise, light.shape), FULL_WELL)
    mask = np.where(binary_dilation(counts >= FULL_WELL, np.ones((3, 3))), np.uint8(Mask.SATURATED), np.uint8(0))
    one = frame(np.round(counts / GAIN), mask=mask)
    one = calibrate.gain(calibrate.deviation(one, GAIN, read_noise, 0.0), GAIN)
    return Crowd(
        one.with_(unit="electron", data=one.data * (GAIN if one.unit == "adu" else 1)), fwhm, x, y, rays, sigma
    )


def struck(rng, size, sigma):
    """Electrons of tracks, some long, and of single and double pixels from 8 to 500 sigma of the sky."""
    rays = sim.cosmic_rays(rng, (size, size), 40)
    y, x = rng.integers(0, size - 1, (2, 80))
    charge = 10 ** rng.uniform(0.9, 2.7, 80) * sigma
    np.add.at(rays, (y, x), charge)
    side = np.arange(20) % 2
    np.add.at(rays, (y[:20] + side, x[:20] + 1 - side), charge[:20] * rng.uniform(0.3, 1, 20))
    return rays


@pytest.fixture(scope="module")
def crowds():
    """(crowd, hits found) of an FWHM and a setting, as `reduce` finds them; each made once."""
    known = {}

    def get(fwhm, setting):
        if (fwhm, setting) not in known:
            one = crowd(fwhm, *SETTINGS[setting])
            measured = sources.quick_fwhm(one.frame.data, one.frame.mask != 0)
            known[fwhm, setting] = one, one.found(fwhm=measured)
        return known[fwhm, setting]

    return get


@pytest.mark.parametrize("fwhm", SEEING)
def test_95_percent_of_the_pixels_hit_above_10_sigma_are_found(crowds, fwhm):
    found = np.concatenate([found[one.strong] for one, found in (crowds(fwhm, setting) for setting in SETTINGS)])
    assert len(found) > 400
    assert found.mean() >= 0.95


@pytest.mark.parametrize("fwhm", SEEING)
@pytest.mark.parametrize("setting", SETTINGS)
def test_less_than_1_in_10000_clean_pixels_is_flagged(crowds, setting, fwhm):
    one, found = crowds(fwhm, setting)
    assert one.clean.sum() > 90_000
    assert found[one.clean].mean() < 1e-4


@pytest.mark.parametrize("fwhm", SEEING)
@pytest.mark.parametrize("setting", SETTINGS)
def test_stars_keep_their_flux(crowds, setting, fwhm):
    import sep

    one, found = crowds(fwhm, setting)
    out = calibrate.interpolate(one.frame.with_(mask=one.frame.mask | found * np.uint8(Mask.COSMIC_RAY)))
    sky = sources.background(one.frame.data, one.saturated).back(dtype=np.float32)
    radius = 1.5 * fwhm
    near = {"saturated": one.saturated, "hit": ~one.clean & ~one.saturated}
    (before, error), after = (
        sep.sum_circle(image - sky, one.x, one.y, radius, err=one.frame.sigma)[:2]
        for image in (one.frame.data, out.data)
    )
    touched = {
        name: sep.sum_circle(what.astype(np.float32), one.x, one.y, radius + 1)[0] > 0 for name, what in near.items()
    }
    bright = (before > 50 * error) & ~touched["saturated"]
    assert bright.sum() > 25
    change = np.abs(after[0] / before - 1)
    assert np.median(change[bright]) < 0.001
    assert change[bright & ~touched["hit"]].max() < 0.01


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("fwhm", "every"), [(0.9, 1), (1.0, 1), (1.2, 1), (1.1, 2), (1.3, 2)])
def test_stars_of_about_a_pixel_are_no_hits(fwhm, every, setting):
    """As those of lenses, and of most colour sensors' planes."""
    one = crowd(fwhm, *SETTINGS[setting], every=every)
    found = one.found(fwhm=sources.quick_fwhm(one.frame.data, one.frame.mask != 0))
    assert (found & one.clean).sum() < 1e-5 * one.clean.sum()
    assert found[one.strong].mean() > (0.6 if fwhm < 1.2 else 0.9)


def test_where_stars_are_single_pixels_nothing_is_looked_for(capsys):
    one = crowd(0.7, *SETTINGS["wings"], every=2)
    fwhm = sources.quick_fwhm(one.frame.data, one.frame.mask != 0)
    assert not one.found(fwhm=fwhm).any() and f"stars of {fwhm:.2f} pixels are as sharp" in capsys.readouterr().out


@pytest.mark.parametrize("fwhm", [1.5, 3.0])
def test_an_fwhm_that_is_15_percent_off_is_good_enough(fwhm):
    one = crowd(fwhm, *SETTINGS["sharp"], size=256, count=75)
    for factor in (0.85, 1.15):
        found = one.found(fwhm=factor * fwhm)
        assert found[one.strong].mean() > 0.9
        assert found[one.clean].mean() < 3e-4


def test_without_an_fwhm_stars_are_safe_and_hits_on_the_sky_are_found():
    one = crowd(2.5, *SETTINGS["wings"], size=256, count=75)
    found = one.found(fwhm=None)
    assert found[one.strong].mean() > 0.9
    assert found[one.clean].mean() < 1e-4


@pytest.mark.parametrize("fwhm", [1.5, 2.5, 4.0])
def test_no_star_is_flagged_in_frame_after_frame(fwhm):
    """A blend that is taken for a hit in all frames of a field would be lost from their combination."""
    times = sum(
        crowd(fwhm, *SETTINGS["sharp"], size=160, count=70, noise=noise, hits=False).found(fwhm=fwhm).astype(int)
        for noise in range(5)
    )
    assert times.max() < 3


def test_the_guard_is_what_spares_them():
    one = crowd(2.5, *SETTINGS["sharp"], size=256, count=150, hits=False)
    limits = {"sigclip": 5.0, "sigfrac": 0.3, "objlim": 1.5}
    assert one.found(fwhm=2.5, guard=False, **limits)[one.clean].sum() > 50 * (1 + one.found(fwhm=2.5)[one.clean].sum())


def test_median_with_the_guard_finds_hits_and_leaves_stars_alone():
    one = crowd(2.5, *SETTINGS["wings"], size=256, count=75)
    found = one.found(method="median", fwhm=2.5)
    assert found[one.strong].mean() >= 0.95
    assert found[one.clean].mean() < 1e-4


def test_edges_of_bleeding_are_no_hits():
    one = crowd(2.0, *SETTINGS["wings"], size=256, count=75, hits=False)
    assert one.saturated.sum() > 100
    around = binary_dilation(one.saturated, np.ones((3, 3)), iterations=3)
    assert not one.found(fwhm=2.0)[around].any()


def test_hits_are_found_up_to_the_edge():
    data = np.random.default_rng(8).normal(200, 15, (80, 80))
    ring = np.ones((80, 80), bool)
    ring[3:-3, 3:-3] = ring[::79, ::79] = False
    places = tuple(np.argwhere(ring)[::7].T)
    data[places] += 3000
    found = cosmic.cosmic_ray(frame(data, 15.0, unit="electron"), fwhm=3.0).mask == Mask.COSMIC_RAY
    assert found[places].all()


def test_hot_pixels_with_a_dark_leave_no_holes():
    rng = np.random.default_rng(9)
    hot = np.zeros((200, 200))
    hot[5::10, 5::10] = np.geomspace(200, 20000, 400).reshape(20, 20)
    light = rng.poisson(100 + hot) + rng.normal(0, READ_NOISE, hot.shape)
    dark = np.mean([rng.poisson(hot) + rng.normal(0, READ_NOISE, hot.shape) for _ in range(5)], axis=0)
    one = frame(light, np.sqrt(100 + hot + READ_NOISE**2), unit="electron")
    assert cosmic.cosmic_ray(one, dark, fwhm=2.5).header["NCOSMIC"] == 0
    assert (cosmic.cosmic_ray(one, 0.0, fwhm=2.5).mask[hot > 0] == Mask.COSMIC_RAY).mean() > 0.9


# ---- the guard itself ------------------------------------------------------------------------------------------------
def guarded(light, fwhm, mask=None, sigma=1.0):
    """What the guard leaves of an image in which every pixel above 10 is flagged."""
    mask = np.zeros(light.shape, np.uint8) if mask is None else mask
    return cosmic.star_guard(light, light > 10, np.full(light.shape, sigma), mask, fwhm)


def plainly_guarded(light, hits, sigma, mask, fwhm):
    """The rules of the guard, one pixel after the other."""
    ny, nx = light.shape
    unusable = (mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0
    ratio = 1.03 * cosmic.sharpest(float(np.interp(fwhm, (3, 5), (0.82, 0.95))) * fwhm)
    kept, bleeding = set(), set()
    for y, x in np.argwhere(hits):
        p, noise = light[y, x], 4 * sigma[y, x]
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            power, sides = dy * dy + dx * dx, []
            for v, u in ((y + dy, x + dx), (y - dy, x - dx)):
                inside = 0 <= v < ny and 0 <= u < nx
                v, u = min(max(v, 0), ny - 1), min(max(u, 0), nx - 1)
                level = max(light[v, u], 0) + power * sigma[v, u]
                sides.append((inside, inside and not unusable[v, u], light[v, u], level))
                if mask[v, u] & Mask.SATURATED:
                    bleeding.add((y, x))
            (_, good, a, low), (_, well, b, lower) = sides
            if good and well and (fwhm >= 4 or p > max(a, b)) and p > ratio**power * np.sqrt(low * lower) + noise:
                kept.add((y, x))
            for near, far in (sides, sides[::-1]):
                if power == 1 and near[1] and not far[0] and p > ratio ** (1 + 2 * fwhm) * near[3] + noise:
                    kept.add((y, x))
    kept -= bleeding
    out = np.zeros(light.shape, bool)
    for y, x in kept | (set(map(tuple, np.argwhere(hits))) - bleeding):
        touched = kept & {(y + v, x + u) for v in (-1, 0, 1) for u in (-1, 0, 1)}
        out[y, x] = (y, x) in kept or any(light[place] > light[y, x] for place in touched)
    return out


@pytest.mark.parametrize("fwhm", [1.5, 2.5, 4.0])
def test_the_guard_is_what_its_rules_say_pixel_for_pixel(fwhm):
    one = crowd(fwhm, *SETTINGS["sharp"], size=160, count=70).frame
    light, hits = one.data - np.float32(3000), np.random.default_rng(1).random(one.shape) < 0.05
    hits |= light > 10 * one.sigma
    mask = one.mask | np.where(np.random.default_rng(2).random(one.shape) < 0.01, np.uint8(Mask.BAD), np.uint8(0))
    ours = cosmic.star_guard(light, hits, one.sigma, mask, fwhm)
    assert 100 < ours.sum() < 0.9 * hits.sum()
    np.testing.assert_array_equal(ours, plainly_guarded(light, hits, one.sigma, mask, fwhm))


@pytest.mark.parametrize("fwhm", SEEING)
def test_no_star_is_sharper_than_sharpest(fwhm):
    worst = 0.0
    for kind, beta, more in (("gauss", 0.0, 1.0), ("moffat", 3.0, 1.02), ("moffat", 4.0, 1.02)):
        image = np.zeros((40, 400))
        shift = np.linspace(-0.5, 0.5, 10)
        sim.paint(
            image,
            20 + 40 * np.arange(10) + 0.98 * shift,
            np.full(10, 20.0),
            np.full(10, 1e6),
            sim.Profile(kind, fwhm, beta),
        )
        row, peaks = image[20], [np.argmax(image[20] * (np.arange(400) // 40 == n)) for n in range(10)]
        ratio = max(row[x] / np.sqrt(row[x - 1] * row[x + 1]) for x in peaks)
        assert ratio <= more * cosmic.sharpest(fwhm) * 1.005
        worst = max(worst, ratio)
    assert worst > 0.98 * cosmic.sharpest(fwhm)


def test_a_single_pixel_and_a_track_are_kept_and_a_star_is_not():
    light = np.zeros((60, 60))
    sim.paint(light, [15.3], [15.4], [3000.0], sim.Profile("gauss", 2.0))
    light[40, 10] = 300
    light[45, 25:35] = 300
    kept = guarded(light, 2.0)
    assert kept[40, 10] and kept[45, 25:35].all()
    assert kept.sum() == 11


def test_fainter_neighbours_of_a_hit_stay_and_brighter_ones_go():
    light = np.zeros((40, 40))
    sim.paint(light, [20.0], [20.0], [1e5], sim.Profile("gauss", 4.0))
    light[20, 23] += 15000  # on the flank, brighter than what lies outside of it
    kept = guarded(light, 4.0)
    assert kept[20, 23] and kept[20, 24]
    assert not kept[20, 20] and not kept[20, 16]


def test_nothing_beside_saturated_pixels_is_a_hit():
    light, mask = np.zeros((20, 20)), np.zeros((20, 20), np.uint8)
    light[5, 5] = light[10, 10] = 300
    mask[11, 11] = Mask.SATURATED
    np.testing.assert_array_equal(np.argwhere(guarded(light, 2.0, mask)), [[5, 5]])


def test_bad_neighbours_are_not_compared():
    """The value of a bad pixel beside a star would make the star look sharp."""
    light, mask = np.zeros((40, 40)), np.zeros((40, 40), np.uint8)
    sim.paint(light, [20.0], [20.0], [5000.0], sim.Profile("gauss", 2.0))
    for place in ((20, 21), (19, 19), (21, 19)):
        light[place], mask[place] = 0, Mask.BAD
    assert not guarded(light, 2.0, mask).any()
    assert guarded(light, 2.0).any()


def test_a_star_at_the_edge_is_no_hit():
    light = np.zeros((40, 40))
    sim.paint(light, [20.0, 0.0, -0.4], [-0.3, 20.0, -0.4], [5000.0] * 3, sim.Profile("gauss", 2.0))
    assert (light > 10).any() and not guarded(light, 2.0).any()
