"""Colour sensors: the pattern that is stated and the one that the pixels show, planes true to the sky in each colour."""

from dataclasses import fields as parts_of
from dataclasses import replace

import bayer_night
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from bayer_night import make_bayer_night
from firstlight import bayer, fields, frames, library, lights, masters, mosaic, raw, ready, reduce
from firstlight.channels import channels
from firstlight.config import complete, read_schema
from firstlight.frame import Mask
from firstlight.frames import Row
from firstlight.header import Settings
from firstlight.night import Night
from firstlight.pointing import rescaled
from scipy.ndimage import binary_dilation
from simulated_night import make_wcs

SMALL = replace(bayer_night.NIGHT, size=256, lights=1, cosmic_rays=200, flats=4, bias=5, darks=3, faint_stars=2000)
CAMERA = {"gain": 1.5, "read_noise": 7.0}


def table_of(folder, tmp_path, **settings):
    return frames.update([str(folder)], str(tmp_path / "results"), Settings(**settings))


class Reduced:
    """The one light of a small night in its three planes, as the jobs of a run make them."""

    def __init__(self, folder, tmp_path):
        schema = read_schema(bayer_night.Path(__file__).parents[1] / "config.schema.yaml")
        places = {"raw": str(folder), "results": str(tmp_path / "results"), "catalogue": "none"}
        self.table = table_of(folder, tmp_path)
        self.night = Night(self.table.rows, complete(places, schema))
        self.made = {}
        for kind, make in (("bias", masters.master_bias), ("dark", masters.master_dark)):
            self.made[kind] = make(self.frames(kind), 5, method="average", clip="none")
        self.made["flat"] = mosaic.each_site(
            lambda site: masters.master_flat(self.frames("flat", site), 5, method="average", clip="none")
        )

    def frames(self, kind, site=None):
        beside = {mosaic.PLACES: mosaic.text_of([site])} if site else {}
        return [self.reduced(row, beside) for row in self.table.rows if row.kind == kind]

    def reduced(self, row, beside):
        data, header = raw.read(row.path)
        frame = reduce.prepare(data, header, self.night.facts(row) | beside)
        return reduce.reduce(frame, reduce.Reduction(kind=row.kind, cameras=CAMERA, **self.made))

    def plane(self, name):
        row = next(row for row in self.night.plan.lights.values() if row.plane == name)
        return self.reduced(row, {})


CASES = [(pattern, rows) for pattern in bayer.PATTERNS for rows in ("BOTTOM-UP", "TOP-DOWN")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request, tmp_path_factory):
    pattern, rows = request.param
    folder = tmp_path_factory.mktemp("night")
    truth = make_bayer_night(folder / "raw", SMALL, pattern, rows)
    return truth, rows, Reduced(folder / "raw", folder)


def truth_of(case, letter, image):
    """A colour's plane of an image of the sky, as the file's rows are."""
    truth, rows, _ = case
    plane = truth.plane(image, letter)
    return plane[::-1] if rows == "TOP-DOWN" else plane


def test_the_pattern_is_that_of_the_first_stored_row(case):
    truth, rows, done = case
    stored = truth.pattern[2:] + truth.pattern[:2] if rows == "TOP-DOWN" else truth.pattern
    assert {row.bayer for row in done.table.rows} == {stored}
    assert not any("greens" in row.notes for row in done.table.rows)


@pytest.mark.parametrize("letter", "RGB")
def test_a_plane_holds_its_colour_with_true_sigma(case, letter):
    truth, _, done = case
    frame = done.plane(letter)
    expected = truth_of(case, letter, truth.signal(truth.lights()[0])[letter])
    assert frame.shape == expected.shape == (128, 128)
    good = frame.mask == 0
    pulls = ((frame.data - expected) / frame.sigma)[good]
    core = pulls[np.abs(pulls) < 5]
    assert good.mean() > 0.9 and len(core) > 0.998 * len(pulls)
    assert np.std(core) == pytest.approx(1, abs=0.03)
    assert abs(np.mean(core)) < 0.06  # the masters' own noise is shared by all pixels in one level


def test_flats_are_normalised_in_each_colour(case):
    truth, rows, done = case
    flat = done.made["flat"]
    for site in bayer.SITES:
        assert np.median(mosaic.site_of(flat.data, site)) == pytest.approx(1, abs=2e-3)
    response = truth.response[::-1] if rows == "TOP-DOWN" else truth.response
    good = flat.mask == 0
    assert np.std((flat.data - response)[good] / flat.sigma[good]) == pytest.approx(1, abs=0.05)


def test_dead_pixels_are_found_among_those_of_their_colour(case):
    truth, rows, done = case
    response = truth.response[::-1] if rows == "TOP-DOWN" else truth.response
    dead = response < 0.3
    flagged, hot = ((done.made[kind].mask & Mask.BAD) != 0 for kind in ("flat", "dark"))
    dead, flagged = dead & ~hot, flagged & ~hot
    assert dead.any() and flagged[dead].all() and flagged[~dead].mean() < 2e-4


def test_hits_are_found_in_the_planes(case):
    truth, rows, done = case
    light = truth.lights()[0]
    rays = truth.simulation.rays(str(light["file"]), SMALL.exposure)
    rays = rays[::-1] if rows == "TOP-DOWN" else rays
    frame = done.plane("R")
    site = bayer.sites_of(done.table.rows[0].bayer, "R")[0]
    hit = mosaic.site_of(rays, site) > 300
    found = (frame.mask & (Mask.COSMIC_RAY | Mask.BAD)) != 0
    assert hit.sum() > 3 and found[hit].mean() > 0.8
    for plane, most in ((frame, 1), (done.plane("G"), 2)):  # of two sites the bits are those of both
        pixels = ((plane.mask & Mask.COSMIC_RAY) != 0).sum()
        assert 0 < pixels <= plane.header["NCOSMIC"] <= most * pixels


def test_stars_that_are_sharp_in_a_plane_are_no_hits(tmp_path):
    """As of most colour cameras: two pixels of the sensor are one of the plane."""
    truth = make_bayer_night(tmp_path / "raw", replace(SMALL, seeing=(1.8, 2.2)), "GRBG")
    done = Reduced(tmp_path / "raw", tmp_path)
    light = truth.lights()[0]
    rays = truth.simulation.rays(str(light["file"]), SMALL.exposure)
    for letter in "RGB":
        frame, signal = done.plane(letter), truth.plane(truth.signal(light)[letter], letter)
        struck = truth.plane(binary_dilation(rays > 5, np.ones((5, 5))), letter) > 0
        bright = (signal > np.median(signal) + 20 * np.median(frame.sigma)) & ~struck
        assert bright.sum() > 100 and not (frame.mask[bright] & Mask.COSMIC_RAY).any()
        assert ((frame.mask[~struck] & Mask.COSMIC_RAY) != 0).mean() < 1e-4


def test_planes_say_nothing_of_a_mosaic(case):
    _, _, done = case
    for name in ("R", "G", "B"):
        header = done.plane(name).header
        assert not {"BAYERPAT", "XBAYROFF", "YBAYROFF", "COLORTYP", "FLSITES"} & set(header)
        assert header["FLPLANE"] == name and header["XPIXSZ"] == 2 * raw.read_header(done.table.rows[0].path)["XPIXSZ"]


# --- Single pieces


@pytest.mark.parametrize("site", [(0, 0), (1, 0), (0.5, 0.5)])
def test_a_wcs_with_distortion_is_right_for_a_plane(site):
    night = replace(SMALL, distortion=5.0)
    header = make_wcs(night, night.centre, 20.0).to_header(relax=True)
    whole = WCS(header)
    header["LTV1"], header["LTV2"] = -3.0, 0.0
    half = rescaled(header, 2, *site)
    x, y = np.random.default_rng(1).uniform(0, 127, (2, 50))
    sky = WCS(half).all_pix2world(np.column_stack([x, y]), 0)
    expected = whole.all_pix2world(np.column_stack([2 * x + site[1], 2 * y + site[0]]), 0)
    assert np.abs(sky - expected).max() < 1e-8
    # IRAF's offset: raw pixel 2 (k + site) + 1 + 3, counted from 1, is pixel k + 1 here
    assert half["LTV1"] == pytest.approx(-3 / 2 + (1 - site[1]) / 2)


def test_cd_matrix_and_pixel_sizes_double():
    header = fits.Header(
        {"CD1_1": 1e-4, "CD2_2": -1e-4, "XPIXSZ": 3.76, "YPIXSZ": 3.76, "CRPIX1": 101.0, "SECPIX": 0.5}
    )
    half = rescaled(header, 2, 0, 1)
    assert (half["CD1_1"], half["CD2_2"], half["XPIXSZ"], half["SECPIX"]) == (2e-4, -2e-4, 7.52, 1.0)
    assert half["CRPIX1"] == (101 - 1 - 1) / 2 + 1


def test_numbers_that_are_texts_and_offsets_without_scale_are_rescaled_too():
    half = rescaled(fits.Header({"XPIXSZ": "3.76", "PIXSIZE2": 3.76, "CD1_1": "1e-4", "LTV1": -8.0}), 2, 0, 0)
    assert (half["XPIXSZ"], half["PIXSIZE2"], half["CD1_1"]) == (7.52, 7.52, 2e-4)
    assert (1 - half["LTV1"]) / half["LTM1_1"] == 9 and "LTM2_2" not in half  # the raw pixel of the plane's first


def test_moving_a_pattern():
    assert [bayer.moved("RGGB", y, x) for y, x in bayer.SITES] == ["RGGB", "GRBG", "GBRG", "BGGR"]
    assert bayer.sites_of("GRBG", "G") == ((0, 0), (1, 1)) and bayer.sites_of("GRBG", "G2") == ((1, 1),)


def test_the_mean_of_greens_has_the_sigma_of_a_mean():
    rng = np.random.default_rng(2)
    header = fits.Header({"BAYERPAT": "RGGB", "FLPLANE": "G"})
    data = np.float32(rng.normal(100, 5, (64, 64)))
    frame = mosaic.taken_apart(mosaic.Frame(data, header, np.full((64, 64), 5, np.float32)))
    plane = mosaic.plane(frame)
    assert plane.shape == (32, 32) and plane.sigma == pytest.approx(5 / 2**0.5)
    assert plane.data == pytest.approx((data[0::2, 1::2] + data[1::2, 0::2]) / 2)


def test_an_odd_trim_moves_the_pattern():
    header = fits.Header({"BAYERPAT": "RGGB", "FLPLANE": "R"})
    data = np.zeros((9, 11), np.float32)
    data[2::2, 4::2] = 7  # red sites of the whole
    out = mosaic.taken_apart(mosaic.Frame(data[1:, 3:], header), 1, 3)
    assert out.header["FLSITES"] == "11" and out.shape == (4, 4)
    assert (out.data == 7).all()


# --- Which pattern


def settled(levels, kinds=("light",), stated="RGGB", cameras=None):
    paths = [str(number) for number in range(len(kinds))]
    stated = dict(zip(paths, stated if isinstance(stated, (list, tuple)) else [stated] * len(paths), strict=True))
    cameras = dict(zip(paths, cameras or ["camera"] * len(paths), strict=True))
    levels = dict(zip(paths, levels, strict=True))
    return bayer.settled(stated, dict(zip(paths, kinds, strict=True)), cameras, levels)


RISING = [300.0, 500.0, 501.0, 250.0, 0.5]  # greens at (0, 1) and (1, 0)
FALLING = [500.0, 300.0, 250.0, 501.0, 0.5]
EVEN = [500.0, 500.3, 499.8, 500.1, 0.5]


def test_pixels_that_agree_change_nothing():
    assert settled([RISING]) == ({"0": "RGGB"}, {})
    assert settled([EVEN]) == ({"0": "RGGB"}, {})


def test_pixels_that_disagree_turn_the_rows():
    patterns, notes = settled([FALLING])
    assert patterns == {"0": "GBRG"}
    assert notes["0"] == "colours RGGB are stated, but the greens lie as in GBRG, which is used"


def test_flats_tell_where_lights_do_not():
    patterns, _ = settled([EVEN, FALLING], ("light", "flat"))
    assert patterns == {"0": "GBRG", "1": "GBRG"}


def test_calibrations_that_state_nothing_are_of_their_camera():
    patterns, _ = settled([RISING, RISING, []], ("light", "flat", "bias"), ["RGGB", "", ""])
    assert set(patterns.values()) == {"RGGB"}


def test_a_colour_frame_among_mono_ones_changes_none_of_them():
    patterns, _ = settled([RISING, EVEN, EVEN, EVEN], ("light", "light", "flat", "bias"), ["RGGB", "", "", ""])
    assert patterns == {"0": "RGGB", "1": "", "2": "", "3": ""}


def test_greens_that_differ_a_little_are_greens_all_the_same():
    """Gr and Gb of a sensor differ by a percent, while red and blue may be equal by chance."""
    assert bayer.greens([400, 600, 606, 401], 0.2) == ""


def test_an_offset_of_columns_tells_nothing():
    assert bayer.greens([500, 510, 500, 510], 0.5) == ""


def test_levels_of_sites_pay_no_heed_to_stars():
    image = np.random.default_rng(3).normal(100, 3, (200, 220))
    image[1::2, ::2] += 50
    image[90:110, 90:110] += 5000
    *found, error = bayer.levels(image)
    assert found == pytest.approx([100, 100, 150, 100], abs=0.5) and error < 0.1


# --- What is stated


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({}, ""),
        ({"BAYERPAT": "RGGB"}, "RGGB"),
        ({"BAYERPAT": "rggb  "}, "RGGB"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1, "YBAYROFF": 0}, "GRBG"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 0, "YBAYROFF": 1}, "GBRG"),
        ({"COLORTYP": "GBRG"}, "GBRG"),
        ({"COLORTYP": 0}, ""),
        ({"FILTER": "GRBG"}, "GRBG"),
        ({"BAYERPAT": "RGGB", "COLORTYP": "BGGR"}, "RGGB"),
        ({"COLORTYP": "COLOR"}, None),
        ({"BAYERPAT": "CYGM"}, None),
        ({"MEASRGGB": "354 1024 1024 966"}, None),
    ],
)
def test_the_stated_pattern(cards, expected):
    assert bayer.stated_pattern(cards)[0] == expected


def test_the_configuration_overrules_the_header():
    assert bayer.stated_pattern({"BAYERPAT": "RGGB", "XBAYROFF": 1}, {"bayer": "bggr"})[0] == "BGGR"
    assert bayer.stated_pattern({"BAYERPAT": "RGGB"}, {"bayer": "none"}) == ("", "")
    assert bayer.stated_pattern({}, {"bayer": "GRBG"})[0] == "GRBG"
    assert bayer.overruled({"BAYERPAT": "RGGB"}, {"bayer": "rggb"}) == bayer.overruled({"BAYERPAT": "RGGB"}) == ""
    said = "cameras: bayer: BGGR is taken, though the header has BAYERPAT = 'RGGB'"
    assert bayer.overruled({"BAYERPAT": "RGGB"}, {"bayer": "BGGR"}) == said
    pattern, reason = bayer.stated_pattern({}, {"bayer": "RGBG"})
    assert pattern is None and reason == "'RGBG' is not one of RGGB, BGGR, GRBG, GBRG"


@pytest.mark.parametrize(("how", "reach"), [("planes", 1.0), ("demosaic", 1.0)])
def test_a_scale_that_is_stated_is_that_of_the_sensor(how, reach):
    pointed = {"ra": 83.8, "dec": -5.4, "scale": None, "nx": 2880, "ny": 3840, "time": "2025-11-14T20:00:00"}
    planes = lights.expanded([a_light(**pointed, target="M42", filter="none", band="none")], how)
    assert fields.wanted(planes, 1.5).reach == pytest.approx(reach, rel=1e-3)
    header = fits.Header({"FLPLANE": "R"} | ({"FLDEBAYR": "edge-aware"} if how == "demosaic" else {}))
    assert {mosaic.binned(header)} == {row.binned for row in planes}


# --- Masters of other programs


@pytest.mark.parametrize(
    "lamp", [{"R": 0.7, "G": 1.0, "B": 0.5}, {"R": 1.0, "G": 0.9, "B": 0.4}, {"R": 0.05, "G": 1.0, "B": 0.6}]
)
def test_a_flat_of_another_program_has_no_dead_colour(lamp):
    light = np.empty((256, 256))
    for site, letter in zip(bayer.SITES, "RGGB", strict=True):
        light[site[0] :: 2, site[1] :: 2] = 30000 * lamp[letter]
    rng = np.random.default_rng(1)
    light[100, 101] /= 5
    flat = ready.foreign(rng.normal(light, 0.003 * light).astype(np.float32), fits.Header(), {}, "flat")
    assert flat.header["NDEAD"] == ((flat.mask & Mask.UNUSABLE) != 0).sum() == 1 and flat.mask[100, 101] & Mask.BAD
    for site in bayer.SITES:
        one = mosaic.flat_at(flat, site)
        assert np.median(one.data) == pytest.approx(1, abs=1e-4) and np.median(one.sigma) == pytest.approx(
            0.003, rel=0.1
        )


def test_ready_masters_of_another_program_serve_colour_lights_alone(tmp_path):
    """Their size is that of a raw frame, not of a plane."""
    make_bayer_night(tmp_path / "all", SMALL, "RGGB")
    (tmp_path / "raw").mkdir()
    (tmp_path / "all/Light_V_001.fits").rename(tmp_path / "raw/Light_V_001.fits")
    for kind in ("Bias", "Dark", "Flat"):
        data, header = raw.read(str(next((tmp_path / "all").glob(f"{kind}_*.fits"))))
        header.update(IMAGETYP=f"Master {kind}", NCOMBINE=9)
        (tmp_path / "library").mkdir(exist_ok=True)
        fits.writeto(tmp_path / "library" / f"{kind}.fits", data.astype(np.float32), header)
    schema = read_schema(bayer_night.Path(__file__).parents[1] / "config.schema.yaml")
    results = str(tmp_path / "results")
    places = {
        "raw": str(tmp_path / "raw"),
        "results": results,
        "catalogue": "none",
        "masters": [str(tmp_path / "library")],
    }
    config = complete(places, schema)
    settings = Settings.from_config(config)
    night = Night(
        frames.update(config["raw"], results, settings).rows,
        config,
        library.update(config["masters"], results, settings),
    )
    for row in night.plan.lights.values():
        chosen = night.plan.chosen(row)
        assert chosen.bias and chosen.dark and chosen.flat


# --- What becomes of planes


def a_light(**facts):
    plain = {part.name: None for part in parts_of(Row)} | {"name": "Light_1_12345678", "kind": "light", "bayer": "RGGB"}
    return Row(**plain | {"nx": 60, "ny": 41, "filter": "none", "band": "none", "target": "M42", "scale": 1.5} | facts)


def test_a_frame_stands_for_three_lights():
    planes = lights.expanded([a_light()])
    assert [(row.name, row.filter, row.band, row.plane) for row in planes] == [
        (f"Light_1-{colour}_12345678", colour, colour, colour) for colour in "RGB"
    ]
    assert {(row.nx, row.ny, row.scale, row.flat_filter) for row in planes} == {(30, 20, 3.0, "none")}


def test_greens_apart_share_a_filter():
    planes = lights.expanded([a_light()], "sites")
    assert [(row.plane, row.filter) for row in planes] == [("R", "R"), ("G1", "G"), ("G2", "G"), ("B", "B")]
    assert {row.name for row in planes} < set(lights.names_of(a_light()))


@pytest.mark.parametrize(
    ("band", "expected"), [("UV/IR cut", "R"), ("L", "R"), ("RGGB", "R"), ("L-eXtreme", "L-eXtreme R")]
)
def test_glass_that_keeps_the_colours_is_not_named(band, expected):
    assert lights.expanded([a_light(band=band, filter=band)])[0].band == expected


def test_mono_frames_in_red_keep_their_name():
    mono = a_light(name="Mono_12345678", bayer="", filter="R", band="R")
    names = [row.filter for row in lights.expanded([mono, a_light()])]
    assert names == ["R", "TR", "TG", "TB"]
    sloan = a_light(name="Mono_12345678", bayer="", filter="g", band="g")
    assert [row.filter for row in lights.expanded([sloan, a_light()])] == ["g", "TR", "TG", "TB"]
    other = a_light(name="Other_12345678", bayer="", filter="R", band="R", target="M31")
    assert [row.filter for row in lights.expanded([other, a_light()])] == ["R", "R", "G", "B"]


def test_calibration_frames_stay_whole():
    flat = a_light(kind="flat")
    assert lights.expanded([flat]) == [flat]


@pytest.mark.parametrize(
    "names",
    [("R", "G", "B"), ("LP R", "LP G", "LP B"), ("L-eXtreme_R", "L-eXtreme_G", "L-eXtreme_B"), ("TR", "TG", "TB")],
)
def test_planes_become_the_colours_of_a_picture(names):
    assert channels(names) == {"R": [names[0]], "G": [names[1]], "B": [names[2]]}


# --- At full scale, interpolated


@pytest.mark.parametrize("pattern", bayer.PATTERNS)
def test_demosaicing_keeps_the_colour_and_its_own_pixels(pattern):
    """A field of one colour with a bright edge: each plane has its level everywhere, its own pixels to the bit."""
    rng, levels = np.random.default_rng(5), {"R": 900.0, "G": 1500.0, "B": 400.0}
    shade = np.ones((40, 48))
    shade[:, 24:] = 3
    sky = {letter: level * shade for letter, level in levels.items()}
    mosaic_of = mosaic.woven(
        [mosaic.site_of(sky[letter], site) for letter, site in zip(pattern, bayer.SITES, strict=True)]
    )
    data = (mosaic_of + rng.normal(0, 2, mosaic_of.shape)).astype(np.float32)
    for colour, level in levels.items():
        header = fits.Header({"BAYERPAT": pattern, "FLPLANE": colour, "FLDEBAYR": "edge-aware", "XPIXSZ": 3.0})
        frame = mosaic.taken_apart(mosaic.Frame(data, header, np.full(data.shape, 2, np.float32)))
        full = mosaic.plane(frame)
        assert full.shape == data.shape and full.header["XPIXSZ"] == 3.0 and "BAYERPAT" not in full.header
        own = np.zeros(data.shape, bool)
        for y, x in bayer.sites_of(pattern, colour):
            own[y::2, x::2] = True
        assert np.array_equal(full.data[own], data[own])
        assert np.array_equal((full.mask & Mask.INTERPOLATED) == 0, own)
        for part, by in ((full.data[4:-4, 4:20], 1), (full.data[4:-4, 28:44], 3)):
            assert np.median(part) == pytest.approx(level * by, rel=0.01) and part.std() < 3
