"""The simulated night keeps its own promises: what the truth says is what the frames show."""

from dataclasses import replace

import numpy as np
import pytest
import simulated_night as sim
from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_scales

TWO = {name: sim.FILTERS[name] for name in "RV"}
SMALL = sim.Night(size=(320, 384), field=1.0, filters=TWO, lights=4, bias=2, darks=1, flats=2, faint_stars=300)
QUIET = replace(SMALL, lights=1, faint_stars=0, nebula=0.0, trail=0, cloud=0, starless=0, other_target=0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Raw folder and truth of the small night, as read back from disk."""
    raw, truth = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("truth")
    sim.make_night(raw, SMALL, truth)
    return raw, sim.read_truth(truth)


def raw_electrons(raw, truth, file):
    """A raw frame minus its true bias (ny, nx), electrons; and where it can be trusted."""
    counts = fits.getdata(raw / file).astype(float)
    return (counts - truth.bias) * truth.night.gain, counts < sim.FULL_SCALE


def flagged(truth, flag):
    """The only light with that flag."""
    (light,) = [row for row in truth.lights if row[flag]]
    return light


def plain(truth, name="R"):
    """A light of a filter with nothing wrong."""
    flags = ("trail", "cloud", "starless", "other")
    return next(row for row in truth.lights if row["filter"] == name and not any(row[flag] for flag in flags))


def lone_stars(truth, file, reach):
    """x, y, row of stars `reach` pixels from the frame's edge and twice that from every other star; brightest first."""
    x, y = truth.positions(file)
    ny, nx = truth.night.shape
    inside = np.flatnonzero((x > reach) & (x < nx - 1 - reach) & (y > reach) & (y < ny - 1 - reach))
    lone = [i for i in inside if np.sum(np.hypot(x - x[i], y - y[i]) < 2 * reach) == 1]
    lone.sort(key=lambda i: truth.stars["vt"][i])
    return x[lone], y[lone], np.array(lone)


def cut(image, x, y, reach):
    """The square of `image` that reaches `reach` pixels from the pixel nearest to x, y."""
    column, row = round(x), round(y)
    return image[row - reach : row + reach + 1, column - reach : column + reach + 1]


# ---- light -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("psf", ["moffat", "gauss"])
def test_stamps_hold_the_stars_flux(psf):
    truth = sim.Truth(night := replace(QUIET, psf=psf), sim.make_stars(night), sim.plan_lights(night))
    light = truth.lights[0]
    signal = truth.images(light["file"])[2] - truth.sky(light["file"])
    x, y, lone = lone_stars(truth, light["file"], 16)
    sums = [cut(signal, *place, 16).sum() for place in zip(x[:8], y[:8], strict=True)]
    expected = truth.stars["flux_R"][lone[:8]] * night.exposure * light["transparency"]
    assert len(sums) == 8
    np.testing.assert_allclose(sums, expected, rtol=1e-3)


@pytest.mark.parametrize("flux", [30.0, 1e3, 1e7])
@pytest.mark.parametrize(
    "profile", [sim.Profile("moffat", 1.5), sim.Profile("moffat", 5.0, 2.5), sim.Profile("gauss", 3)]
)
def test_painted_flux_is_whole_to_the_wing(profile, flux):
    image = np.zeros((401, 401))
    sim.paint(image, [200.37], [199.81], [flux], profile)
    assert abs(image.sum() - flux) < 1.2 * max(sim.WING_FRACTION * flux, sim.WING_ELECTRONS)


@pytest.mark.parametrize(
    "profile", [sim.Profile("moffat", 3.1), sim.Profile("moffat", 3.1, 2.5), sim.Profile("gauss", 3.1)]
)
def test_profile_is_half_at_half_the_fwhm(profile):
    assert profile.value(np.array([(3.1 / 2) ** 2]))[0] == pytest.approx(0.5)


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.6])
def test_gauss_in_a_pixel_is_the_error_functions(fwhm):
    from scipy.special import erf

    image, profile = np.zeros((41, 41)), sim.Profile("gauss", fwhm)
    sim.paint(image, [20.3], [19.6], [1e5], profile)
    edges = (np.arange(42) - 0.5)[:, None] - [20.3, 19.6]
    along_x, along_y = np.diff(0.5 * erf(edges / profile.width / np.sqrt(2)), axis=0).T
    np.testing.assert_allclose(image, 1e5 * np.outer(along_y, along_x), atol=1e5 * 1e-5)


def test_star_beyond_the_edge_leaves_its_wing():
    whole, part = np.zeros((80, 80)), np.zeros((40, 80))
    sim.paint(whole, [30.2], [42.7], [1e6], sim.Profile("moffat", 3.0))
    sim.paint(part, [30.2], [42.7], [1e6], sim.Profile("moffat", 3.0))
    np.testing.assert_array_equal(part, whole[:40])
    assert part.sum() > 1000


@pytest.mark.parametrize("change", [{}, {"distortion": 6.0}, {"size": 1024, "dither": 40.0}])
def test_nebula_adds_up_to_its_analytic_flux(change):
    night = replace(QUIET, nebula=1.0, **change)
    light = sim.plan_lights(night)[1]
    wcs = sim.make_wcs(night, (light["crval1"], light["crval2"]), light["rotation"])
    assert sim.nebula_image(night, wcs, "V").sum() == pytest.approx(sim.nebula_flux(night, "V"), rel=2e-3)


def test_nebula_lies_where_the_truth_says():
    night = replace(QUIET, nebula=1.0)
    light = sim.plan_lights(night)[1]
    wcs = sim.make_wcs(night, (light["crval1"], light["crval2"]), light["rotation"])
    image = sim.nebula_image(night, wcs, "V")
    rows, columns = np.indices(image.shape)
    middle = [(image * columns).sum() / image.sum(), (image * rows).sum() / image.sum()]
    np.testing.assert_allclose(middle, wcs.all_world2pix([sim.nebula_centre(night)], 0)[0], atol=0.3)


@pytest.mark.parametrize("size", [512, 1024])
def test_nebula_spans_a_fifth_to_three_times_the_sky(size):
    night = sim.Night(size=size, trail=0)
    image = sim.nebula_image(night, sim.make_wcs(night, night.centre, 0), "R") / night.filters["R"].sky
    assert 2.9 < image.max() < 3.5
    assert np.count_nonzero((image > 0) & (image < 0.2)) > 50


# ---- positions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{}, {"distortion": 5.0}, {"flip_from": 1}])
def test_bright_stars_lie_where_the_wcs_says(change):
    truth = sim.Truth(night := replace(QUIET, **change), sim.make_stars(night), sim.plan_lights(night))
    file = truth.lights[1]["file"]  # the filter whose camera is turned
    signal = truth.images(file)[2] - truth.sky(file)
    x, y, _ = lone_stars(truth, file, 12)
    rows, columns = np.mgrid[-12:13, -12:13]
    for place in list(zip(x, y, strict=True))[:10]:
        stamp = cut(signal, *place, 12)
        centroid = [(stamp * columns).sum() / stamp.sum(), (stamp * rows).sum() / stamp.sum()]
        np.testing.assert_allclose(centroid, np.array(place) - np.rint(place), atol=0.02)


def test_field_centre_is_dithered_by_dx_dy(written):
    _, truth = written
    for light in truth.lights[:8]:
        place = truth.wcs(light["file"]).all_world2pix([truth.night.centre], 0)[0]
        np.testing.assert_allclose(place - (191.5, 159.5), (light["dx"], light["dy"]), atol=0.05)


def test_dithers_stay_within_their_range_and_differ():
    shifts = np.array(list(sim.plan_lights(replace(SMALL, lights=40))["dx", "dy"].as_array().tolist()))
    assert 11 < np.abs(shifts).max() <= 12
    assert len(np.unique(shifts)) == shifts.size


@pytest.mark.parametrize(("name", "angle"), [("R", 0.0), ("V", 3.0)])
def test_north_is_turned_by_the_rotation(written, name, angle):
    _, truth = written
    wcs = truth.wcs(plain(truth, name)["file"])
    start, end = wcs.all_world2pix([wcs.wcs.crval, wcs.wcs.crval + [0, 0.1]], 0)
    assert np.degrees(np.arctan2(-(end - start)[0], (end - start)[1])) == pytest.approx(angle, abs=1e-6)


def test_parity_is_that_of_the_sky(written):
    _, truth = written
    assert all(np.linalg.det(truth.wcs(file).wcs.cd) < 0 for file in truth.lights["file"])


def test_distortion_reaches_its_value_in_the_corner():
    night = replace(QUIET, distortion=6.0)
    bent, straight = (sim.make_wcs(n, night.centre, 0) for n in (night, replace(night, distortion=0.0)))
    corner = [[383.5, 319.5]]
    seen = straight.all_world2pix(bent.all_pix2world(corner, 0), 0)
    assert np.hypot(*(seen - corner)[0]) == pytest.approx(6.0, rel=1e-6)


# ---- the detector ----------------------------------------------------------------------------------------------------


def test_bias_pair_shows_the_read_noise(written):
    raw, truth = written
    first, second = (raw_electrons(raw, truth, f"Bias_{number:03d}.fits")[0] for number in (1, 2))
    rounding = truth.night.gain / np.sqrt(12)
    assert np.std(first - second) / np.sqrt(2) == pytest.approx(np.hypot(7.0, rounding), rel=0.01)


@pytest.mark.parametrize("flag", [None, "trail", "cloud", "starless", "other"])
def test_noise_about_the_expected_electrons(written, flag):
    raw, truth = written
    light = flagged(truth, flag) if flag else plain(truth)
    electrons, good = raw_electrons(raw, truth, light["file"])
    expected, rays, _ = truth.images(light["file"])
    good &= rays == 0
    pulls = ((electrons - expected) / np.sqrt(expected + 49 + truth.night.gain**2 / 12))[good]
    assert pulls.std() == pytest.approx(1, abs=0.01)
    assert pulls.mean() == pytest.approx(0, abs=0.015)
    assert np.abs(pulls).max() < 6.5


def test_expected_electrons_follow_the_formula(written):
    _, truth = written
    light = plain(truth)
    expected, _, signal = truth.images(light["file"])
    np.testing.assert_allclose(expected, signal * truth.response["R"] + 60 * truth.dark, rtol=1e-5)


def test_cosmic_rays_are_where_the_truth_marks_them(written):
    raw, truth = written
    light = flagged(truth, "starless")
    electrons, _ = raw_electrons(raw, truth, light["file"])
    expected, rays, _ = truth.images(light["file"])
    excess = (electrons - expected)[rays > 0]
    assert 5 <= excess.size <= 5 * 15 * 3  # 40 per megapixel are 5 on this frame
    assert np.median(excess) > 200


@pytest.mark.parametrize("seed", range(3))
def test_tracks_are_up_to_fifteen_pixels_long(seed):
    from scipy.ndimage import find_objects, label

    tracks = sim.cosmic_rays(np.random.default_rng(seed), (4000, 4000), 300) > 0
    boxes = find_objects(label(tracks, np.ones((3, 3)))[0])
    extents = [max(part.stop - part.start for part in box) for box in boxes]
    assert len(boxes) > 290
    assert min(extents) <= 2
    assert 13 <= np.percentile(extents, 99) <= 16


def test_flats_show_the_response(written):
    raw, truth = written
    electrons = sum(raw_electrons(raw, truth, f"Flat_V_{number:03d}.fits")[0] for number in (1, 2))
    ratio = electrons / np.median(electrons) / truth.response["V"]
    alive = truth.response["V"] > 0.5
    assert np.std(ratio[alive]) < 0.006
    assert np.median(ratio) == pytest.approx(1, abs=1e-3)


def test_response_has_median_one_and_dead_pixels(written):
    _, truth = written
    response = truth.response["R"]
    assert np.median(response) == pytest.approx(1)
    assert np.count_nonzero(response < 0.25) == round(60 * 320 * 384 / sim.MEGAPIXEL)


def test_hot_pixels_are_in_the_dark(written):
    raw, truth = written
    electrons, _ = raw_electrons(raw, truth, "Dark_60s_001.fits")
    hot = truth.dark > 2
    assert np.count_nonzero(hot) == round(400 * 320 * 384 / sim.MEGAPIXEL)
    np.testing.assert_allclose(np.median(electrons[hot] / truth.dark[hot]), 60, rtol=0.03)


# ---- spoilt lights ---------------------------------------------------------------------------------------------------


def test_each_trouble_spoils_one_light(written):
    _, truth = written
    for flag in ("trail", "cloud", "starless", "other"):
        assert truth.lights[flag].sum() == 1


def test_trail_runs_over_the_whole_frame(written):
    raw, truth = written
    light = flagged(truth, "trail")
    electrons, _ = raw_electrons(raw, truth, light["file"])
    angle = np.radians(light["trail_angle"])
    along = np.arange(-600, 600)
    x = np.rint(light["trail_x"] + along * np.cos(angle)).astype(int)
    y = np.rint(light["trail_y"] + along * np.sin(angle)).astype(int)
    inside = (x >= 0) & (x < 384) & (y >= 0) & (y < 320)
    on_line = electrons[y[inside], x[inside]] - 60 * truth.dark[y[inside], x[inside]]
    ends = np.concatenate([on_line[:30], on_line[-30:]])
    assert np.median(ends) > np.median(electrons) + 250


def test_cloud_dims_the_stars_and_not_the_sky(written):
    raw, truth = written
    light = flagged(truth, "cloud")
    electrons, _ = raw_electrons(raw, truth, light["file"])
    name = str(light["filter"])
    clean = (electrons - 60 * truth.dark) / truth.response[name] - truth.sky(light["file"])
    x, y, lone = lone_stars(truth, light["file"], 8)
    flux = truth.stars[f"flux_{name}"][lone[:6]] * 60
    ratio = [cut(clean, *place, 8).sum() for place in zip(x[:6], y[:6], strict=True)] / flux
    assert np.median(ratio) == pytest.approx(0.35, rel=0.05)
    assert np.median(clean + truth.sky(light["file"])) == pytest.approx(60 * TWO[name].sky, rel=0.12)


def test_starless_light_is_only_sky_at_a_low_level(written):
    _, truth = written
    light = flagged(truth, "starless")
    signal = truth.images(light["file"])[2]
    np.testing.assert_allclose(signal, truth.sky(light["file"]), rtol=1e-6)
    assert light["sky"] < 0.12 * truth.night.filters[light["filter"]].sky


def test_other_target_has_its_own_place_and_name(written):
    raw, truth = written
    light = flagged(truth, "other")
    header = fits.getheader(raw / light["file"])
    assert header["OBJECT"] == "M 34"
    np.testing.assert_allclose((light["crval1"], light["crval2"]), sim.OTHER_CENTRE, atol=0.05)


def test_too_many_spoilt_lights_are_refused():
    with pytest.raises(ValueError, match="3 of 2 lights are to be spoilt"):
        replace(SMALL, lights=1)


# ---- headers ---------------------------------------------------------------------------------------------------------

FILES = ["Light_R_001.fits", "Bias_001.fits", "Dark_60s_001.fits", "Flat_V_001.fits"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("key", ["GAIN", "EGAIN", "RDNOISE", "FILTER", "CRVAL1", "CTYPE1", "CD1_1", "SITELONG"])
def test_awkward_headers_lack_what_would_help(written, file, key):
    assert key not in fits.getheader(written[0] / file)


@pytest.mark.parametrize(
    ("file", "kind", "exposure", "name"),
    [
        ("Light_R_001.fits", "Light Frame", 60, "R"),
        ("Bias_001.fits", "Bias Frame", 0, None),
        ("Dark_60s_001.fits", "Dark Frame", 60, None),
        ("Flat_V_001.fits", "Flat Field", 3, "V"),
    ],
)
def test_headers_say_what_a_frame_is(written, file, kind, exposure, name):
    header = fits.getheader(written[0] / file)
    assert (header["IMAGETYP"], header["EXPTIME"], header.get("INSFILTE")) == (kind, exposure, name)


@pytest.mark.parametrize("file", FILES)
def test_frames_are_unsigned_sixteen_bit(written, file):
    data = fits.getdata(written[0] / file)
    assert data.dtype == np.uint16 and data.shape == (320, 384)


def test_object_is_spelt_in_two_ways(written):
    raw, truth = written
    assert {fits.getheader(raw / file)["OBJECT"] for file in truth.lights["file"][:8]} == {"ngc 869", "NGC869"}


def test_header_gives_the_pointing_without_the_dither(written):
    from astropy.coordinates import SkyCoord

    header = fits.getheader(written[0] / "Light_V_002.fits")
    place = SkyCoord(header["OBJCTRA"], header["OBJCTDEC"], unit=("hourangle", "deg"))
    assert place.separation(SkyCoord(*SMALL.centre, unit="deg")).arcsec < 1


def test_header_gives_the_scale_to_one_percent(written):
    raw, truth = written
    header = fits.getheader(raw / "Light_R_001.fits")
    scale = 206.265 * header["XPIXSZ"] / header["FOCALLEN"]
    true = proj_plane_pixel_scales(truth.wcs("Light_R_001.fits"))[0] * 3600
    assert 0.002 < abs(scale / true - 1) < 0.01


def test_night_runs_over_midnight(written):
    days = {fits.getheader(path)["DATE-OBS"][:10] for path in written[0].glob("*.fits")}
    assert days == {"2025-11-14", "2025-11-15"}


# ---- the same again --------------------------------------------------------------------------------------------------


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_seed_gives_the_same_bytes(written, tmp_path):
    sim.make_night(tmp_path, SMALL)
    assert contents(tmp_path) == contents(written[0])


def test_another_seed_gives_other_frames(written, tmp_path):
    sim.make_night(tmp_path, replace(QUIET, seed=2))
    assert all(written[0].joinpath(name).read_bytes() != data for name, data in contents(tmp_path).items())


def test_more_frames_leave_the_others_as_they_are(tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    sim.make_night(few, replace(QUIET, lights=1, flats=1))
    sim.make_night(many, replace(QUIET, lights=2, flats=2, bias=3))
    kept = contents(many)
    assert len(kept) > len(contents(few))
    assert all(kept[name] == data for name, data in contents(few).items())


def test_truth_is_read_as_it_was_made(written):
    _, truth = written
    fresh = sim.Simulation(SMALL)
    assert truth.night == SMALL
    assert list(truth.lights["file"]) == list(fresh.lights["file"])
    np.testing.assert_array_equal(truth.stars["flux_R"], fresh.stars["flux_R"])


def test_images_are_the_same_from_disk_and_made_again(written):
    _, truth = written
    again = sim.Truth(truth.night, truth.stars, truth.lights)
    for stored, made in zip(truth.images("Light_V_001.fits"), again.images("Light_V_001.fits"), strict=True):
        np.testing.assert_array_equal(stored, made)


@pytest.mark.parametrize("name", ["bias", "dark", "flat_R", "flat_V"])
def test_truth_folder_holds_the_detector(written, name):
    _, truth = written
    true = {"bias": truth.bias, "dark": truth.dark}.get(name)
    true = truth.response[name[-1]] if true is None else true
    np.testing.assert_allclose(fits.getdata(truth.folder / f"{name}.fits"), true, rtol=1e-6)


def test_unknown_light_is_named(written):
    with pytest.raises(KeyError, match="Light_Z_001.fits is none of the night's 9 lights"):
        written[1].light("Light_Z_001.fits")


# ---- the defaults and the command line -------------------------------------------------------------------------------


def test_about_twenty_stars_saturate_by_default():
    from scipy.ndimage import label

    simulation = sim.Simulation(sim.Night())
    light = simulation.lights[0]
    counts = simulation.read_out(str(light["file"]), simulation.expected(light, simulation.signal(light)))
    assert 12 <= label(counts == sim.FULL_SCALE)[1] <= 30


@pytest.mark.parametrize("name", ["R", "V", "B"])
def test_twelfth_magnitude_has_a_signal_to_noise_of_a_hundred(name):
    night, band = sim.Night(), sim.FILTERS[name]
    flux = night.exposure * 10 ** (-0.4 * (12 + 0.8 * band.colour - band.zero))
    noise = np.sqrt(flux + np.pi * 4**2 * (band.sky * night.exposure + night.read_noise**2))
    assert 80 < flux / noise < 130


def test_command_line_writes_night_and_truth(tmp_path, capsys):
    words = "--size 96 --lights 2 --bias 1 --darks 1 --flats 1 --filters R,V --faint-stars 10 --no-images".split()
    sim.main([str(tmp_path / "raw"), "--truth", str(tmp_path / "truth"), *words])
    assert len(list((tmp_path / "raw").iterdir())) == 1 + 1 + 2 + 4 + 1
    assert not list((tmp_path / "truth").glob("*_truth.fits"))
    assert len(capsys.readouterr().out.splitlines()) == 7  # truth, two of flats, bias, darks, two of lights


def test_unknown_filter_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(SystemExit, match="no filter 'Q' here, only R, V, B"):
        sim.main([str(tmp_path), "--filters", "R,Q"])


def test_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="psf is 'airy' but must be"):
        replace(SMALL, psf="airy")
