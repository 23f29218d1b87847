"""Headers as capture programs write them, one fixture each, through the frames table: what is understood of them.

The cards follow what the programs' manuals and the headers that users publish say: N.I.N.A. (its documentation of FITS
keywords), ASIAIR, SharpCap and Dwarf (headers in users' posts and tools), Seestar (headers of its single frames), MaxIm DL
("FITS File Header Definitions" in its help), KStars/Ekos by INDI (its CCD driver). Places and serial numbers are made up.
"""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from firstlight import frames, header
from firstlight.header import Settings

HEADERS = Path(__file__).parent / "data" / "headers"


def cards_of(name: str) -> fits.Header:
    return fits.Header.fromstring((HEADERS / f"{name}.txt").read_text().rstrip("\n"), sep="\n")


def table_of(tmp_path, files: dict):
    """The frames table of raw files, {name: header}; each with noise of its own."""
    (tmp_path / "raw").mkdir()
    for number, (name, cards) in enumerate(files.items()):
        data = np.random.default_rng(number).integers(300, 400, (40, 60), dtype=np.uint16)
        fits.PrimaryHDU(data, cards).writeto(tmp_path / "raw" / name)
    return frames.update(str(tmp_path / "raw"), str(tmp_path / "results"), Settings())


# What is to be understood of each: camera and its settings, gain in e-/ADU if the header has it, filter, place, time, night
LIGHTS = {
    "nina": dict(
        instrument="ZWO ASI2600MC Pro", gain_setting="100", offset="50", temperature=-9.8, band="UV/IR cut", exposure=180.0,
        ra=83.8221, dec=-5.3911, time="2026-08-15T06:02:11.123", night="2026-08-14", object="M 42", bayer="RGGB",
        telescope="Esprit 100ED", focal_length=550.0, rotator=91.25,
    ),
    "asiair": dict(
        instrument="ZWO ASI2600MC Pro", gain_setting="100", offset="50", temperature=-10.1, band="L-eXtreme",
        exposure=300.0, ra=10.680833, dec=41.269167, time="2025-09-01T22:15:00.518", night="2025-09-01", object="M 31",
        bayer="RGGB", telescope="EQMod Mount", focal_length=250.0, rotator=None,
    ),
    "sharpcap": dict(
        instrument="ZWO ASI533MC Pro", gain_setting="100", offset="30", temperature=-10.0, band="none", exposure=30.0,
        ra=303.0291667, dec=38.3533333, time="2025-09-10T02:11:12.123", night="2025-09-09", object="NGC 6888",
        bayer="RGGB", telescope="", focal_length=400.0, rotator=None,
    ),
    "seestar": dict(
        instrument="Seestar S50", gain_setting="80", offset="", temperature=28.375, band="LP", exposure=20.0, ra=314.295,
        dec=31.2353, time="2025-09-25T04:34:12.418", night="2025-09-24", object="NGC 6995", bayer="GRBG",
        telescope="S50_00000000", focal_length=250.0, rotator=None,
    ),
    "dwarf": dict(
        instrument="DWARF 3", gain_setting="60", offset="", temperature=12.0, band="Astro", exposure=60.0, ra=10.6847,
        dec=41.2687, time="2025-10-20T21:35:12.345", night="2025-10-20", object="M 31", bayer="RGGB", telescope="DWARF 3",
        focal_length=150.0, rotator=None,
    ),
    "maxim": dict(
        instrument="SBIG STC-428-OSC", gain_setting="", offset="", temperature=-20.05, band="Luminance", exposure=300.0,
        ra=250.4208333, dec=36.46, time="2025-06-15T05:00:00.000", night="2025-06-14", object="M13", bayer="GRBG",
        telescope="", focal_length=1000.0, rotator=None,
    ),
    "ekos": dict(
        instrument="ZWO CCD ASI294MC Pro", gain_setting="120", offset="30", temperature=-10.0, band="none", exposure=120.0,
        ra=314.82, dec=44.53, time="2025-08-01T03:10:00.000", night="2025-07-31", object="NGC 7000", bayer="RGGB",
        telescope="EQMod Mount", focal_length=400.0, rotator=None,
    ),
}  # fmt: skip
GAINS = {"nina": 0.244, "maxim": 0.37}  # e-/ADU; of the others GAIN is the camera's setting and nothing tells
SCALES = {
    "nina": 1.410, "asiair": 3.102, "sharpcap": 1.939, "seestar": 2.393, "dwarf": 2.750, "maxim": 0.928, "ekos": 2.388,
}  # fmt: skip


def test_each_fixture_is_looked_at():
    assert {path.stem for path in HEADERS.glob("*.txt")} == set(LIGHTS) == set(SCALES)


@pytest.mark.parametrize("name", LIGHTS)
def test_a_light(tmp_path, name):
    table = table_of(tmp_path, {"light.fits": cards_of(name)})
    assert not table.rejected
    (row,) = table.rows
    assert row.kind == "light"
    for key, value in LIGHTS[name].items():
        found = getattr(row, key)
        assert found == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value), key
    assert row.scale == pytest.approx(SCALES[name], abs=1e-3)


@pytest.mark.parametrize("name", LIGHTS)
def test_a_setting_is_never_taken_for_electrons(name):
    assert header.detector(cards_of(name)).gain == GAINS.get(name)


@pytest.mark.parametrize("name", LIGHTS)
def test_a_mono_camera_of_the_same_program(tmp_path, name):
    cards = cards_of(name)
    for key in ("BAYERPAT", "XBAYROFF", "YBAYROFF", "COLORTYP"):
        cards.remove(key, ignore_missing=True)
    if name == "maxim":
        cards["COLORTYP"] = 0  # of a monochrome sensor
    (row,) = table_of(tmp_path, {"light.fits": cards}).rows
    assert row.bayer == ""


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        (
            "nina",
            "IMAGETYP",
            {"BIAS": "bias", "DARK": "dark", "FLAT": "flat", "DARKFLAT": "flatdark", "SNAPSHOT": "light"},
        ),
        ("asiair", "IMAGETYP", {"Bias": "bias", "Dark": "dark", "Flat": "flat"}),
        ("sharpcap", "FRAMETYP", {"Bias": "bias", "Dark": "dark", "Flat": "flat"}),
        ("seestar", "IMAGETYP", {"Dark": "dark", "Flat": "flat"}),
        (
            "maxim",
            "IMAGETYP",
            {"Bias Frame": "bias", "Dark Frame": "dark", "Flat Field": "flat", "Flat Frame": "flat", "BIAS": "bias"},
        ),
        ("ekos", "IMAGETYP", {"Bias Frame": "bias", "Dark Frame": "dark", "Flat Frame": "flat"}),
    ],
)
def test_kinds(tmp_path, name, key, words):
    files = {}
    for word in words:
        cards = cards_of(name)
        cards[key] = word
        files[f"{word.replace(' ', '_')}.fits"] = cards
    kinds = {Path(row.path).stem.replace("_", " "): row.kind for row in table_of(tmp_path, files).rows}
    assert kinds == words


def test_what_a_seestar_has_stacked_is_no_raw_frame(tmp_path):
    cards = cards_of("seestar")
    cards["STACKCNT"] = 212
    table = table_of(tmp_path, {"Stacked_212_NGC 6995_20.0s_LP.fit": cards})
    assert not table.rows and "already calibrated or stacked (STACKCNT = 212)" in table.rejected[0].reason


def test_calibration_frames_of_a_dwarf_are_known_by_their_names(tmp_path):
    """Their headers have little more than the image."""
    bare = fits.Header({"ORIGIN": "DWARFLAB"})
    names = {
        "dark_exp_30.000000_gain_60_bin_1_34C_stack_1.fits": ("dark", 30.0, "60", 34.0),
        "raw_10s_60_0000_20260102-184951912_35C.fits": ("dark", 10.0, "60", 35.0),
        "bias_gain_2_bin_1.fits": ("bias", 0.0, "2", None),
        "flat_gain_2_bin_1_ir_0.fits": ("flat", None, "2", None),
    }
    rows = table_of(tmp_path, dict.fromkeys(names, bare)).rows
    found = {Path(row.path).name: (row.kind, row.exposure, row.gain_setting, row.temperature) for row in rows}
    assert found == names
    assert not any("taken for a light" in row.notes for row in rows)


def test_a_header_that_says_the_kind_is_believed_before_the_name(tmp_path):
    cards = cards_of("dwarf")
    cards["IMAGETYP"] = "Light"
    (row,) = table_of(tmp_path, {"flat_gain_2_bin_1.fits": cards}).rows
    assert (row.kind, row.gain_setting) == ("light", "60")


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("stacked-16_M 31_60s60_Astro_20251020-223000000.fits", "calibrated: true"),
        ("Stacked_212_NGC 6995_20.0s_LP.fit", "calibrated: true"),
        ("dark_exp_30.000000_gain_60_bin_1_22C_stack_10.fits", "masters:"),
    ],
)
def test_a_stack_that_only_its_name_tells_is_no_raw_frame(tmp_path, name, way_out):
    cards = cards_of("dwarf") if "dark" not in name else fits.Header({"ORIGIN": "DWARFLAB"})
    table = table_of(tmp_path, {name: cards})
    assert not table.rows
    assert f"stacked (by its name, {name})" in table.rejected[0].reason and way_out in table.rejected[0].reason
