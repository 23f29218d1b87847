"""What products say of how they were made. Truth: the configuration, installed versions, and files that are changed."""

import csv
import shutil
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
import yaml
from astropy.io import fits
from conftest import PROJECT, reduced
from firstlight import header, history, io, origin, reduce
from firstlight.config import complete, read_schema
from PIL import Image
from values import frame

WORDS = {"where": {"INSTRUME": "it's: a, {b}"}, "list": [1, 2.5, None, True, "60"], "nothing": {}, "none": None}


# --- The form of HISTORY ----------------------------------------------------------------------------------------------
def test_options_can_be_read_back_as_yaml():
    assert yaml.safe_load(history.compact(WORDS)) == WORDS


@pytest.mark.parametrize("text", ["short", "two words " * 30 + "end", "x" * 200, f"{'y' * 71} z {'a b ' * 40}end"])
def test_a_wrapped_text_fits_the_cards_and_is_whole_again(text):
    parts = history.wrapped(text)
    assert max(map(len, parts)) <= 72
    cards = fits.Header()
    for part in ["before", *parts, "after"]:
        cards.add_history(part)
    assert history.joined(cards["HISTORY"]) == ["before", text, "after"]


def test_single_values_stand_in_one_text():
    texts = history.joined(history.lines("align", {"interpolation": "cubic", "number": 3, "empty": {}}))
    assert texts[1:] == ['align: interpolation = "cubic", number = 3']


def test_libraries_are_named_that_are_loaded():
    code = "from firstlight import history; print(history.joined(history.lines('light', None))[0])"
    said = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(PROJECT / "scripts")}, capture_output=True
    )
    assert f"numpy {np.__version__}".encode() in said.stdout and b"ccdproc" not in said.stdout


# --- Identities -------------------------------------------------------------------------------------------------------
@pytest.fixture
def signed(monkeypatch):
    """Products written here are signed as a job's are."""
    monkeypatch.setattr(io, "_history", lambda: ["test: firstlight 1"])
    monkeypatch.setattr(io, "_identified", True)
    return frame(np.arange(600.0).reshape(20, 30), sigma=np.ones((20, 30)))


def identity(path):
    return fits.getheader(path)["FLIDENT"]


def test_the_identity_is_that_of_the_file_as_it_is_read(signed, tmp_path):
    io.write_frame(tmp_path / "x.fits", signed)
    assert io.identity_of(tmp_path / "x.fits") == identity(tmp_path / "x.fits")


@pytest.mark.parametrize("part", ["data", "sigma", "mask"])
def test_one_other_pixel_is_another_identity(signed, tmp_path, part):
    io.write_frame(tmp_path / "x.fits", signed)
    array = getattr(signed, part).copy()
    array[3, 4] += 1
    io.write_frame(tmp_path / "y.fits", signed.with_(**{part: array}))
    assert identity(tmp_path / "x.fits") != identity(tmp_path / "y.fits")


def test_compression_keeps_the_identity(signed, tmp_path, monkeypatch):
    io.write_frame(tmp_path / "x.fits", signed)
    monkeypatch.setattr(io, "_compressing", True)
    io.write_frame(tmp_path / "y.fits", signed)
    assert identity(tmp_path / "x.fits") == identity(tmp_path / "y.fits") == io.identity_of(tmp_path / "y.fits")


def test_what_is_made_of_one_frame_does_not_keep_the_identity_of_another_file(signed, tmp_path, monkeypatch):
    monkeypatch.setattr(io, "_identified", False)
    io.write_frame(tmp_path / "x.fits", signed.with_({"FLIDENT": "0123456789abcdef"}))
    assert "FLIDENT" not in fits.getheader(tmp_path / "x.fits")


def test_history_of_the_camera_stays_and_comes_first(signed, tmp_path):
    cards = fits.Header()
    cards.add_history("written by a camera")
    io.write_frame(tmp_path / "x.fits", signed.with_(header=cards))
    with fits.open(tmp_path / "x.fits") as hdus:
        assert list(hdus[0].header["HISTORY"]) == ["written by a camera", "test: firstlight 1"]
        assert all("HISTORY" not in hdu.header for hdu in hdus[1:])


# --- Electrons --------------------------------------------------------------------------------------------------------
RAW = {"EGAIN": 1.5, "GAIN": 1.5, "RDNOISE": 6.0, "FLGAIN": 1.5, "FLRDNOIS": 7.0, "SATURATE": 60000}


def in_electrons(**cards):
    return reduce.step("gain", frame(np.ones((9, 9)), sigma=np.ones((9, 9))).with_(RAW | cards), reduce.Reduction())


def test_an_image_in_electrons_has_a_gain_of_one():
    out = in_electrons().header
    assert (out["EGAIN"], out["GAIN"], out["FLGAIN"]) == (1.0, 1.0, 1.5)


def test_read_noise_and_saturation_are_in_electrons_as_they_were_used():
    out = in_electrons().header
    assert (out["RDNOISE"], out["SATURATE"]) == (7.0, 90000.0)


def test_a_setting_of_the_camera_stays():
    assert in_electrons(GAIN=120).header["GAIN"] == 120


def test_without_a_gain_the_cards_stay():
    raw = frame(np.ones((9, 9)), sigma=np.ones((9, 9))).with_({"RDNOISE": 6.0, "GAIN": 120, "FLGAIN": "unknown"})
    out = reduce.step("gain", raw, reduce.Reduction()).header
    assert out["RDNOISE"] == 6.0 and "EGAIN" not in out


def test_no_later_step_reads_them():
    one = in_electrons()
    other = one.with_({"EGAIN": 9.0, "GAIN": 9.0, "RDNOISE": 99.0, "SATURATE": 1.0})
    for name in ("cosmic_ray", "bias", "dark", "flat"):
        one, other = (reduce.step(name, each, reduce.Reduction()) for each in (one, other))
    assert all(np.array_equal(getattr(one, part), getattr(other, part)) for part in ("data", "sigma", "mask"))


def test_a_reader_of_headers_finds_a_gain_of_one_in_a_light(light):
    assert header.detector(fits.getheader(light)).gain == 1.0


# --- Products of a night ----------------------------------------------------------------------------------------------
@pytest.fixture
def results(small_night):
    return small_night.folder / "results"


@pytest.fixture
def light(results):
    return min(results.glob("lights/*/*/R/*.fits"))


@pytest.fixture
def stack(results):
    return next(results.glob("stacks/*/R.fits"))


def texts(path):
    return history.joined(fits.getheader(path)["HISTORY"])


def test_a_light_names_the_options_of_its_steps(small_night, light):
    given = yaml.safe_load((small_night.folder / "config.yaml").read_text())
    config = complete(given, read_schema(PROJECT / "config.schema.yaml"))
    said = next(text for text in texts(light) if text.startswith("light: cosmic_ray = "))
    assert yaml.safe_load(said.partition(" = ")[2]) == config["cosmic_ray"] and config["cosmic_ray"]["niter"] == 1


@pytest.mark.parametrize("library", ["numpy", "astropy", "sep"])
def test_a_light_names_the_versions_of_its_libraries(light, library):
    assert f"{library} {metadata.version(library)}" in texts(light)[0]


@pytest.mark.parametrize("rule", ["light", "align", "combine"])
def test_a_stack_says_how_its_frames_were_made(stack, rule):
    assert any(text.startswith(f"{rule}: firstlight ") for text in texts(stack))


@pytest.mark.parametrize("kind, name", [("DARK", "dark_*"), ("FLAT", "flat_R")])
def test_a_light_names_its_masters_and_their_content(results, light, kind, name):
    cards, master = fits.getheader(light), next(results.glob(f"masters/*/*/{name}.fits"))
    assert master == results / "masters" / f"{cards[f'{kind}COR']}.fits"
    assert cards[f"{kind}ID"] == io.identity_of(master)


def test_a_picture_names_its_stacks_and_their_content(results):
    cards = fits.getheader(next(results.glob("pictures/*.fits")))
    known = {cards[f"FILTER{n}"]: cards[f"STACK{n}"] for n in (1, 2)}
    assert known == {path.stem: io.identity_of(path) for path in results.glob("stacks/*/*.fits")}
    said = Image.open(next(results.glob("pictures/*_chart.png"))).text["Made from"]
    assert sorted(said.split(", ")) == [f"stack {name} {content}" for name, content in sorted(known.items())]


# --- The tree ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def copied(results, tmp_path):
    return shutil.copytree(results, tmp_path / "results", ignore=shutil.ignore_patterns("logs"))


def tree(results, pattern):
    return origin.origin(str(next(results.glob(pattern))), str(results)).splitlines()


def test_a_stack_goes_back_to_every_raw_file_that_is_in_it(small_night, results):
    lines = tree(results, "stacks/*/R.fits")
    raw = {line.split()[1] for line in lines if line.strip().startswith("raw ") and line.endswith(": unchanged")}
    known = {path.name for path in (small_night.folder / "raw").iterdir()}
    assert raw == {f"raw/{name}" for name in known if "_V_" not in name}


def test_a_master_is_told_in_full_only_once(results):
    lines = tree(results, "stacks/*/R.fits")
    assert sum("dark_60s" in line for line in lines) > 2
    assert sum(line.strip().startswith("raw raw/Dark") for line in lines) == 3


@pytest.mark.parametrize("name", ["pictures/*_chart.png", "pictures/*.tiff", "pictures/*/R.png"])
def test_a_picture_goes_back_to_raw_files_too(results, name):
    assert any(line.strip().startswith("raw raw/Bias") for line in tree(results, name))


def test_a_raw_file_that_is_gone_is_said(copied, light):
    content, table = fits.getheader(light)["FLPIXELS"], copied / "frames.csv"
    rows = list(csv.DictReader(table.open()))
    io.write_rows(table, [row for row in rows if not row["pixel_hash"].startswith(content)])
    gone = [line.strip() for line in tree(copied, "stacks/*/R.fits") if origin.GONE in line]
    assert gone == [f"raw {content}: {origin.GONE}"]


def test_a_master_that_changed_since_is_said(copied):
    path = next(copied.glob("masters/*/*/flat_R.fits"))
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[5, 5] += 1
    said = [line for line in tree(copied, "stacks/*/R.fits") if f"flat {path}" in line]
    assert said and all(line.endswith(f"made anew since, {io.identity_of(path)}") for line in said)


@pytest.mark.parametrize(
    "name, word", [("", "Name a product"), ("nothing.fits", "not there"), ("ledger.csv", "is no product")]
)
def test_what_cannot_be_told_is_said(results, name, word):
    assert word in origin.origin(name and str(results / name), str(results))


def test_snakemake_tells_it(small_night, tmp_path):
    folder = small_night.copy(tmp_path)
    of = next(folder.glob("results/stacks/*/R.fits")).relative_to(folder)
    run = reduced(folder, "origin", "--config", f"of={of}", code=folder / "code")
    assert f"\n{of}\n    light: firstlight" in f"\n{run.text}" and "raw raw/Light_R_002.fits" in run.text
