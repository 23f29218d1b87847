"""The workflow as a user meets it: one command a night, single steps, choices of the configuration, bad input."""

import os
import shutil
from collections import Counter

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.time import Time, TimeDelta
from astropy.wcs import WCS
from conftest import PROJECT, reduced, snakemake
from firstlight import io, raw
from firstlight.calibrate import STEPS
from PIL import Image


@pytest.fixture
def folder(small_night, tmp_path):
    return small_night.copy(tmp_path)


def run(folder, *arguments):
    return reduced(folder, *arguments, code=folder / "code")


# Real nights, each with one command


def inputs(results, target, name):
    table = io.read_extension(results / "stacks" / target / f"{name}.fits", "INPUTS")
    return table[table["weight"] > 0]


@pytest.fixture(scope="module")
def xo1(real, tmp_path_factory):
    folder = tmp_path_factory.mktemp("xo1")
    reduced(folder, "--config", f"raw={real / 'xo1_z'}", "results=out")
    return folder / "out"


def balance(results, raws):
    """Outcomes of the ledger, whose rows are the files that there are, each once."""
    rows = io.read_rows(results / "ledger.csv")
    found = [str(path) for path in raws.rglob("*") if path.is_file() and raw.SUFFIX.search(path.name)]
    assert sorted(row["path"] for row in rows) == sorted(found)
    return Counter(row["outcome"] for row in rows)


def test_xo1(xo1):
    """12 lights of XO-1 in one stack, 4 of them placed by their stars; the pointing frame is a target of its own."""
    assert len(inputs(xo1, "XO1-b", "z")) == 12
    assert len(inputs(xo1, "43Bet_Com", "z")) == 1
    placed = [fits.getheader(path)["ALIGNED"] for path in (xo1 / "aligned" / "XO1-b" / "z").iterdir()]
    assert sorted(placed) == ["stars"] * 4 + ["wcs+stars"] * 8
    stack = xo1 / "stacks" / "XO1-b" / "z.fits"
    assert WCS(fits.getheader(stack)).has_celestial
    assert abs(WCS(fits.getheader(stack)).wcs.crval - [240.55, 28.18]).max() < 0.1
    image = Image.open(xo1 / "pictures" / "XO1-b.png")
    assert image.size == (1024, 1024) and np.asarray(image).std() > 2


def test_the_balance_of_xo1_closes(xo1, real):
    assert balance(xo1, real / "xo1_z") == {"used": 28}


def measured(table):
    """The rows of a table of a detector: quantity -> row."""
    return {row["quantity"]: row for row in io.read_rows(table)}


def test_gain_and_read_noise_of_xo1_are_measured(xo1):
    """No header of it says a gain; its makers' figures are 1.33 e-/ADU and 16 e-."""
    rows = measured(next(xo1.glob("masters/*/*/detector.csv")))
    assert float(rows["gain"]["measured"]) == pytest.approx(1.33, rel=0.1)
    assert float(rows["read noise"]["measured"]) == pytest.approx(16, rel=0.05)
    header = fits.getheader(next(xo1.glob("lights/XO1-b/*/z/*.fits")))
    assert (header["BUNIT"], header["SIGMASRC"]) == ("electron", "measured")


def test_stars_of_xo1_agree_between_frames(xo1):
    """Frames aligned by WCS and by stars alone show their stars at one place: 0.3 arcsec, 0.45 pixel."""
    import sep

    paths = sorted((xo1 / "aligned" / "XO1-b" / "z").iterdir())
    stars = io.read_extension(xo1 / "aligned" / "XO1-b" / "grid.fits", "STARS")[:8]
    places = []
    for path in paths:
        image = np.nan_to_num(io.read_frame(path).data)
        image -= np.median(image)
        x, y, _ = sep.winpos(image, stars["x"], stars["y"], np.full(len(stars), 1.6))
        places.append(np.column_stack([x, y]))
    spread = np.median(np.abs(np.array(places) - np.median(places, axis=0)), axis=0)
    assert np.median(spread) * 0.67 < 0.3


def test_hatp32(real, tmp_path):
    """No calibration frames, no IMAGETYP, drifting by 23': 12 of 12 solved, aligned and combined, in ADU with empirical sigma."""
    catalogue = real / "catalogues" / "hatp32.ecsv"
    reduced(tmp_path, "--config", f"raw={real / 'hatp32_wide'}", "results=out", f"catalogue={catalogue}")
    lights = [fits.getheader(path) for path in (tmp_path / "out" / "lights").rglob("*.fits")]
    assert [light["FLSOLVED"] for light in lights] == [True] * 12
    used = [row["name"].decode() for row in inputs(tmp_path / "out", "HATP-32", "Clear")]
    assert len(used) == 12
    stack = fits.getheader(tmp_path / "out" / "stacks" / "HATP-32" / "Clear.fits")
    assert stack["BUNIT"] == "adu" and stack["SIGMASRC"] == "empirical"
    assert balance(tmp_path / "out", real / "hatp32_wide") == {"used": 12}


def test_catseye(real, tmp_path):
    """Four calibrated lights, two with flats of another night; no WCS anywhere, so a stack on pixels, and a colour picture.

    A gain of 2 that is stated, half as much again as pairs of flats show, is named and not used.
    """
    run = reduced(tmp_path, "--config", f"raw={real / 'catseye_grzha'}", "results=out", "header={append: {EGAIN: 2.0}}")
    assert "gain 2 e-/ADU is stated, but gain 1.34" in run.text
    for table in (tmp_path / "out" / "masters").rglob("detector.csv"):
        assert float(measured(table)["gain"]["used"]) == pytest.approx(1.33, rel=0.1)
    assert balance(tmp_path / "out", real / "catseye_grzha") == {"used": 22}
    lights = [fits.getheader(path) for path in (tmp_path / "out" / "lights").rglob("*.fits")]
    assert len(lights) == 4 and all(light["FLFLAT"] and light["FLDARK"] == 1 for light in lights)
    assert {path.parts[-3] for path in (tmp_path / "out" / "masters").rglob("flat_*.fits")} == {
        "2025-05-31",
        "2025-06-04",
    }
    stacks = sorted((tmp_path / "out" / "stacks" / "Cats_Eye_Nebula").iterdir())
    assert len(stacks) == 4
    for stack in stacks:
        header = fits.getheader(stack)
        assert header["NCOMBINE"] == 1 and "one frame only" in header["FLNOTE"] and "CRVAL1" not in header
    assert Image.open(tmp_path / "out" / "pictures" / "Cats_Eye_Nebula.png").mode == "RGB"


# Single steps


def test_steps_give_the_pixels_of_the_fast_path(folder):
    run(folder, "steps")
    lights = sorted((folder / "results" / "lights").rglob("*.fits"))
    assert len(lights) > 4
    for light in lights:
        whole = io.read_frame(light)
        last = io.read_frame(str(light).replace("/lights/", "/steps/flat/"))
        for part in ("data", "sigma", "mask", "common"):
            np.testing.assert_array_equal(getattr(whole, part), getattr(last, part))
    assert {path.name for path in (folder / "results" / "steps").iterdir()} == set(STEPS)


def test_one_step_of_one_frame(folder):
    light = next((folder / "results" / "lights").rglob("*.fits"))
    wanted = str(light.relative_to(folder)).replace("/lights/", "/steps/gain/")
    assert run(folder, wanted).jobs == {"trim": 1, "deviation": 1, "gain": 1}
    assert io.read_frame(folder / wanted).unit == "electron"


def test_products_open_as_ccddata(folder):
    for path in ("stacks/*/R.fits", "lights/*/*/R/*.fits", "masters/*/*/bias.fits"):
        frame = CCDData.read(next((folder / "results").glob(path)))
        assert frame.uncertainty.array.shape == frame.mask.shape == frame.data.shape
        assert str(frame.unit) == "electron"


# Choices


def without_history(path):
    """The bytes of each image and table of a file, and the cards but for HISTORY, in which rule align has lines of its own."""
    with fits.open(path) as hdus:
        cards = [[str(card) for card in hdu.header.cards if card.keyword != "HISTORY"] for hdu in hdus]
        return cards, [None if hdu.data is None else hdu.data.tobytes() for hdu in hdus]


def test_without_aligned_files_the_stack_is_the_same(folder):
    stack = next((folder / "results" / "stacks").rglob("R.fits"))
    before = without_history(stack)
    with (folder / "config.yaml").open("a") as config:
        config.write("keep: [lights]\n")
    run(folder, "--forcerun", "combine")
    assert without_history(stack) == before
    run(folder, "tidy")
    assert not list((folder / "results" / "aligned").rglob("*_*.fits"))


def test_a_night_added_later_gives_the_stacks_of_a_run_from_scratch(small_night, tmp_path):
    """On the same grid: the pixels, the record of inputs and the header are the same to the byte."""
    grid = fits.getheader(next((small_night.folder / "results").glob("aligned/*/grid.fits")))
    later = tmp_path / "later"
    later.mkdir()
    for name in ("Light_V_004.fits", "Light_R_001.fits"):
        with fits.open(small_night.spare / name) as hdus:
            hdus[0].header["DATE-OBS"] = (Time(hdus[0].header["DATE-OBS"]) + TimeDelta(2, format="jd")).isot
            hdus.writeto(later / f"another_night_{name}")
    for name in ("grown", "scratch"):
        small_night.copy_inputs(tmp_path / name)
        with (tmp_path / name / "config.yaml").open("a") as config:
            config.write(f"grid: {{reference: {grid['GRIDREF']}}}\n")
    run(tmp_path / "grown")
    for name in ("grown", "scratch"):
        shutil.copytree(later, tmp_path / name / "raw" / "later")
        run(tmp_path / name)
    grown, scratch = (sorted((tmp_path / name / "results" / "stacks").rglob("*.fits")) for name in ("grown", "scratch"))
    assert len(grown) == 2 and [path.read_bytes() for path in grown] == [path.read_bytes() for path in scratch]
    assert len(set(fits.getdata(grown[0], "INPUTS")["night"])) == 2


def test_nothing_kept_but_what_is_asked_for(small_night, tmp_path):
    """`keep: []` from scratch leaves masters, grid, stacks and pictures."""
    small_night.copy_inputs(tmp_path)
    with (tmp_path / "config.yaml").open("a") as config:
        config.write("keep: []\n")
    run(tmp_path)
    assert not list((tmp_path / "results" / "lights").rglob("*.fits"))
    assert {path.name for path in (tmp_path / "results" / "aligned").rglob("*.fits")} == {"grid.fits"}
    assert not reduced(tmp_path, "--dry-run", code=tmp_path / "code").jobs


def test_missing_stop_lists_every_case_before_any_pixel(folder):
    for flat in (folder / "raw").glob("Flat_*"):
        flat.unlink()
    done = snakemake(folder, "--config", "missing=stop", code=folder / "code")
    assert done.code != 0 and not done.jobs
    assert "no flat" in done.text and "in R" in done.text and "in V" in done.text
    assert "Traceback" not in done.text


def test_missing_drop_leaves_out_lights_whose_fellows_have_it(folder):
    """A light of another binning has no flat; its fellows have."""
    light = next((folder / "raw").glob("Light_R_*"))
    with fits.open(light) as hdus:
        hdus[0].data = hdus[0].data[::2, ::2].copy()
        hdus[0].header["XBINNING"] = hdus[0].header["YBINNING"] = 2
        hdus.writeto(folder / "raw" / "Light_R_binned.fits")
    done = run(folder, "--config", "missing=drop")
    assert "Light_R_binned.fits: left out, no" in done.text
    assert not list((folder / "results" / "lights").rglob("Light_R_binned*"))


def test_missing_allow_goes_on_and_says_so(folder):
    for flat in (folder / "raw").glob("Flat_V*"):
        flat.unlink()
    run(folder)
    light = next((folder / "results" / "lights").glob("*/*/V/*.fits"))
    assert fits.getheader(light)["FLFLAT"] is False


def test_unknown_key_names_the_nearest(folder):
    done = snakemake(folder, "--config", "catalouge=stars.csv", code=folder / "code")
    assert done.code != 0 and "did you mean 'catalogue'" in done.text and "Traceback" not in done.text


def test_no_raw_folder_is_a_sentence(folder):
    done = snakemake(folder, "--config", "raw=nowhere", code=folder / "code")
    assert done.code != 0 and "nowhere does not exist" in done.text and "Traceback" not in done.text


def test_a_folder_without_lights_is_a_sentence(folder):
    """No file, only calibrations, a selection that fits nothing: each says so and what is there, and fails."""
    (folder / "empty").mkdir()
    (folder / "biases").mkdir()
    shutil.copy(folder / "raw" / "Bias_001.fits", folder / "biases")
    for settings, words in (
        (["raw=empty", "results=out1"], "no FITS file there"),
        (["raw=biases", "results=out2"], "no light among 1 frame:"),
        (["select={filters: [rr]}"], "there are targets: NGC869"),
    ):
        done = snakemake(folder, "--config", *settings, code=folder / "code")
        assert done.code != 0 and words in done.text and "Traceback" not in done.text


def test_raw_frames_below_the_results_are_refused(folder):
    """Where products are written is no place for raw frames, whatever is asked for."""
    shutil.copytree(folder / "raw", folder / "out" / "lights")
    for place in ("out", "out/lights"):
        for target in ("all", "tidy"):
            done = snakemake(folder, target, "--config", f"raw={place}", "results=out", code=folder / "code")
            assert done.code != 0 and "lies in the results folder" in done.text
    assert len(list((folder / "out" / "lights").iterdir())) == len(list((folder / "raw").iterdir()))


def test_tidy_touches_only_what_firstlight_made(folder):
    """A user's own files among the products stay, also under a product's name; what goes is listed by the dry-run."""
    light = next((folder / "results" / "lights").rglob("*.fits"))
    own = [light.with_name("Light_R_099_01234567.fits"), light.with_name("diary.txt")]
    shutil.copy(next((folder / "raw").glob("Light_*")), own[0])
    own[1].write_text("clear night")
    old = light.with_name("Light_R_098_01234567.fits")
    shutil.copy(light, old)
    assert f"tidy: {old.relative_to(folder)}" in run(folder, "tidy", "--dry-run").text and old.exists()
    run(folder, "tidy")
    assert not old.exists() and light.exists() and all(path.exists() for path in own)


def test_tidy_refuses_a_selection_that_fits_nothing(folder):
    before = sorted((folder / "results").rglob("*.fits"))
    done = snakemake(folder, "tidy", "--config", "select={filters: [Claer]}", code=folder / "code")
    assert done.code != 0 and "fits no light" in done.text
    assert sorted((folder / "results").rglob("*.fits")) == before


def test_headers_prints_what_was_read_from_where(folder):
    text = run(folder, "headers").text
    assert "IMAGETYP" in text and "EXPTIME" in text


def test_wrong_target_on_the_command_line_fails_at_once(folder):
    done = snakemake(folder, "results/stacks/NGC_0815/R.fits", code=folder / "code")
    assert done.code != 0 and "Nothing makes" in done.text


# Bad input


def test_bad_frames_do_not_stop_the_night(folder, real):
    """Unreadable files and a copy are rows of rejected.csv, a colour frame goes its own way; the good frames' products stay."""
    stack = next((folder / "results" / "stacks").rglob("R.fits"))
    before = stack.read_bytes()
    shutil.copytree(real / "broken", folder / "raw" / "broken")
    shutil.copy(real / "panoptes_bayer" / "tiny.fits", folder / "raw")
    (folder / "raw" / "empty.fits").touch()
    good = next((folder / "raw").glob("Light_R*"))
    (folder / "raw" / "cut.fits").write_bytes(good.read_bytes()[:100_000])
    shutil.copy(good, folder / "raw" / "copy.fits")
    run(folder)
    rejected = (folder / "results" / "rejected.csv").read_text()
    for name in ("empty.fits", "cut.fits", "copy.fits", "c4d_210318_191034_zri.fits.fz", "table.fits"):
        assert f"{name}," in rejected, rejected
    assert "same pixels" in rejected and "tiny.fits" not in rejected
    assert "RGGB" in next(line for line in (folder / "results/frames.csv").open() if "tiny.fits" in line)
    assert stack.read_bytes() == before


def test_raw_folder_is_only_read(small_night, tmp_path):
    """A night in a folder without write permission; neither bytes nor time stamps of the frames change."""
    raw = small_night.folder / "raw"
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in raw.iterdir()}
    mode = raw.stat().st_mode
    os.chmod(raw, 0o555)
    try:
        shutil.copy2(small_night.folder / "stars.csv", tmp_path)
        shutil.copy2(small_night.folder / "config.yaml", tmp_path)
        reduced(tmp_path, "--config", f"raw={raw}", "select={filters: [V]}")
    finally:
        os.chmod(raw, mode)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in raw.iterdir()} == before


# The project


def test_every_key_of_the_schema_is_described():
    import yaml

    def walk(schema, path=""):
        for key, part in schema.get("properties", {}).items():
            assert part.get("description"), f"{path}{key}"
            assert "type" in part, f"{path}{key}"
            walk(part, f"{path}{key}.")

    walk(yaml.safe_load((PROJECT / "config.schema.yaml").read_text()))
