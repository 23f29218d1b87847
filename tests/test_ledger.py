"""The balance of a night closes: every file found is used, dropped or not needed, whatever happened."""

import csv
import shutil
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import reduced, snakemake
from firstlight import io, ledger, products, raw
from firstlight.frames import Rejected
from firstlight.lights import names_of


# --- The rows ---------------------------------------------------------------------------------------------------------
@dataclass
class A:
    """A row of the frames table, what of it the ledger looks at."""

    path: str
    kind: str = "light"
    pixel_hash: str = "0" * 32
    night: str = "2025-11-14"
    object: str = "M 42"
    band: str = "R"
    exposure: float = 60.0
    camera: str = "cam"
    bayer: str = ""

    @property
    def name(self):
        return self.path.removesuffix(".fits")


def became(rows, rejected=(), lights=None, calibrations=None, left_out=None):
    entries = ledger.ledger(rows, rejected, lights or {}, calibrations or {}, left_out or {})
    return {entry["path"]: entry for entry in entries}


def a_stack():
    """The table of a stack of three frames: one counts, one was left out of it, one dropped before."""
    one = np.zeros(2, [(c, "U40" if c in products.TEXTS else "f8") for c in products.COLUMNS])
    one["name"], one["weight"], one["note"] = ["a", "b"], [1.0, 0.0], ["", "left out, FWHM 9 pix, above 3 sigma"]
    return io.table_hdu("INPUTS", products.with_dropped(one, [("c", "align: 0 stars: too few")])).data


def test_a_light_that_counts_is_used_with_its_weight():
    entry = became([A("a.fits")], lights=ledger.of_stack("stacks/M42/R.fits", a_stack()))["a.fits"]
    assert (entry["outcome"], entry["products"], entry["weight"]) == ("used", "stacks/M42/R.fits", "1.0000")
    assert entry["step"] == entry["reason"] == ""


@pytest.mark.parametrize(
    "name, step, reason", [("b", "combine", "FWHM 9 pix, above 3 sigma"), ("c", "align", "0 stars: too few")]
)
def test_a_light_that_does_not_count_says_at_which_step_and_why(name, step, reason):
    entry = became([A(f"{name}.fits")], lights=ledger.of_stack("stacks/M42/R.fits", a_stack()))[f"{name}.fits"]
    assert (entry["outcome"], entry["step"], entry["reason"], entry["weight"]) == ("dropped", step, reason, "")


def test_frames_of_a_master_are_known_by_their_content():
    table = io.table_of_texts(("name", "content", "note"), [("x", "1" * 16, ""), ("x", "2" * 16, "level 3 adu")])
    shares = ledger.of_master("masters/bias.fits", "master_bias", io.table_hdu("INPUTS", table).data)
    rows = [A("one/x.fits", "bias", "1" * 32), A("two/x.fits", "bias", "2" * 32), A("three/x.fits", "bias", "3" * 32)]
    entries = became(rows, calibrations={content: [share] for content, share in shares.items()})
    outcomes = [entries[row.path]["outcome"] for row in rows]
    assert outcomes == ["used", "dropped", "not needed"]
    assert entries["two/x.fits"]["reason"] == "level 3 adu" and entries["two/x.fits"]["step"] == "master_bias"


def test_a_frame_that_its_master_leaves_out_is_dropped_though_pairs_told_the_gain():
    shares = [ledger.Share("masters/a.fits", 0.0, "master_flat", "odd"), ledger.Share("masters/detector.csv", 0.25)]
    entry = became([A("f.fits", "flat")], calibrations={"0" * 16: shares})["f.fits"]
    assert (entry["outcome"], entry["step"], entry["reason"]) == ("dropped", "master_flat", "odd")


@pytest.mark.parametrize("gain, outcome", [("1.5", "used"), ("", "not needed")])
def test_flats_of_a_detector_count_where_they_told_its_gain(gain, outcome):
    told = [{"quantity": "gain", "measured": gain}, {"quantity": "read noise in adu", "measured": "4.7"}]
    shares = ledger.of_detector("masters/detector.csv", told, ["1" * 16], ["0" * 16])
    calibrations = {content: [share] for content, share in shares.items()}
    entry = became([A("f.fits", "flat")], calibrations=calibrations)["f.fits"]
    assert entry["outcome"] == outcome


def test_a_light_that_missing_drop_leaves_out_is_dropped_with_that_reason():
    entry = became([A("a.fits")], left_out={"a.fits": "no flat in filter R"})["a.fits"]
    assert (entry["outcome"], entry["step"], entry["reason"]) == ("dropped", "matching", "no flat in filter R")


def test_a_colour_frame_is_its_planes():
    row = A("a_12345678.fits", bayer="RGGB")
    lights = {f"a-{colour}_12345678": ledger.Share(f"stacks/M42/{colour}.fits", 0.5) for colour in "RGB"}
    assert set(lights) < set(names_of(row))
    entry = became([row], lights=lights)[row.path]
    assert entry["outcome"] == "used" and entry["products"].count("stacks/") == 3


def test_a_colour_frame_that_is_lost_in_one_plane_says_so():
    lights = {
        "a-R_12345678": ledger.Share("stacks/M42/R.fits", 0.5),
        "a-B_12345678": ledger.Share("stacks/M42/B.fits", 0.0, "align", "2 stars, at least 6 are needed"),
    }
    entry = became([A("a_12345678.fits", bayer="RGGB")], lights=lights)["a_12345678.fits"]
    assert (entry["outcome"], entry["step"]) == ("used", "align")
    assert entry["reason"] == "stacks/M42/B.fits: 2 stars, at least 6 are needed"


def test_a_light_that_was_not_selected_is_not_needed():
    assert became([A("a.fits")])["a.fits"]["outcome"] == "not needed"


@pytest.mark.parametrize("reason, outcome", [("no image in it", "dropped"), ("same pixels as a.fits", "not needed")])
def test_a_rejected_file_is_dropped_but_a_copy_is_not_needed(reason, outcome):
    entry = became([], [Rejected("x.fits", reason)])["x.fits"]
    assert (entry["outcome"], entry["reason"]) == (outcome, reason)


def test_a_file_with_two_rows_is_not_let_through():
    entries = ledger.ledger([A("a.fits"), A("a.fits")], [], {}, {}, {})
    with pytest.raises(RuntimeError, match="2 rows for 2 files"):
        ledger.check(entries, 2, 0, 0)


def test_a_light_that_no_stack_tells_of_is_not_let_through():
    with pytest.raises(RuntimeError, match="stacks tell of 0 lights, there are 1"):
        ledger.check(ledger.ledger([A("a.fits")], [], {}, {}, {}), 1, 0, 1)


def test_reasons_that_differ_in_numbers_only_are_told_once():
    said = ledger.told(list(became([], [Rejected(f"{n}.fits", f"level {n}.5 adu") for n in range(3)]).values()))
    assert said[1:] == ["  dropped at read: 3 files, such as 0.fits: level 0.5 adu"]


def test_the_balance_in_words():
    rejected = [Rejected(f"x{n}.fits", "no image in it") for n in range(3)] + [Rejected("y.fits", "same pixels as a")]
    said = ledger.told(list(became([], rejected).values()))
    assert said == ["4 files: 3 dropped, 1 not needed", "  dropped at read: 3 files, such as x0.fits: no image in it"]


# --- The workflow -----------------------------------------------------------------------------------------------------
def balance(folder):
    """The ledger of a working folder; its sum is that of the files that lie in the raw folder."""
    with open(folder / "results" / "ledger.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [path for path in (folder / "raw").rglob("*") if path.is_file() and raw.SUFFIX.search(path.name)]
    assert sorted(row["path"] for row in rows) == sorted(str(path.relative_to(folder)) for path in found)
    return {row["path"].removeprefix("raw/"): row for row in rows}


def outcomes(rows):
    return Counter(row["outcome"] for row in rows.values())


def test_all_frames_of_a_good_night_are_used(small_night):
    rows = balance(small_night.folder)
    assert set(outcomes(rows)) == {"used"}
    weights = Counter()
    for row in rows.values():
        weights[row["products"].split(" ; ")[0]] += float(row["weight"])
    assert all(abs(total - 1) < 2e-3 for total in weights.values()), "shares of a product add up to all of it"
    assert all(
        (small_night.folder / "results" / path).exists()
        for row in rows.values()
        for path in row["products"].split(" ; ")
    )


@pytest.fixture(scope="module")
def mixed(small_night, tmp_path_factory):
    """The night with a copy of a frame, broken files, a light without stars, a flat in a filter of no light, an odd bias."""
    folder = tmp_path_factory.mktemp("mixed")
    small_night.copy(folder)
    raws = folder / "raw"
    shutil.copy(raws / "Light_R_002.fits", raws / "copy.fits")
    whole = (raws / "Bias_001.fits").read_bytes()
    (raws / "cut.fits").write_bytes(whole[: len(whole) // 2])
    (raws / "empty.fits").touch()
    (raws / "text.fits").write_text("no image")
    for name in small_night.truth.lights["file"][small_night.truth.lights["starless"]]:
        shutil.copy(small_night.spare / name, raws / "starless.fits")
    other(raws / "Flat_R_001.fits", raws / "flat_z.fits", INSFILTE="z")
    other(raws / "Bias_002.fits", raws / "bias_odd.fits", add=3000)
    run = reduced(folder, code=folder / "code")
    return folder, balance(folder), run.text


def other(path, new, add=0, **cards):
    from astropy.io import fits

    with fits.open(path) as hdus:
        data, header = hdus[0].data.astype(np.int32) + add, hdus[0].header
        header.update(cards)
        data[0, 0] += 1  # other pixels: else it would be a copy
        fits.PrimaryHDU(data.astype(np.uint16), header).writeto(new)


@pytest.mark.parametrize(
    "name, outcome, step, reason",
    [
        ("cut.fits", "dropped", "read", ""),
        ("empty.fits", "dropped", "read", ""),
        ("text.fits", "dropped", "read", ""),
        ("starless.fits", "dropped", "align", "stars"),
        ("flat_z.fits", "not needed", "", "no light needs it"),
        ("bias_odd.fits", "dropped", "master_bias", "level"),
    ],
)
def test_what_is_not_used_says_why(mixed, name, outcome, step, reason):
    row = mixed[1][name]
    assert (row["outcome"], row["step"]) == (outcome, step)
    assert row["reason"] and reason in row["reason"]


def test_of_two_equal_frames_one_is_used(mixed):
    pair = [mixed[1][name]["outcome"] for name in ("copy.fits", "Light_R_002.fits")]
    assert sorted(pair) == ["not needed", "used"]


def test_all_the_others_are_used(mixed):
    assert outcomes(mixed[1])["used"] == len(mixed[1]) - 7


def test_the_end_of_the_run_tells_the_balance(mixed):
    _, rows, text = mixed
    counts = outcomes(rows)
    assert f"{len(rows)} files: {counts['used']} used, 5 dropped, 2 not needed" in text


@pytest.mark.parametrize("options", [["select={filters: [V]}"], ["missing=allow", "keep=[]"]])
def test_the_balance_closes_whatever_is_asked_for(small_night, tmp_path, options):
    folder = small_night.copy_inputs(tmp_path / "night")
    (folder / "raw" / "Flat_R_001.fits").unlink()
    reduced(folder, "--config", *options, code=folder / "code")
    rows = balance(folder)
    others = {row["outcome"] for name, row in rows.items() if name.startswith("Light_R_")}
    assert others == ({"not needed"} if "keep=[]" not in options else {"used"})
    assert {row["outcome"] for name, row in rows.items() if name.startswith("Light_V_")} == {"used"}


def test_a_night_of_nothing_usable_has_a_ledger_too(small_night, tmp_path):
    small_night.copy_inputs(tmp_path / "night")
    folder = tmp_path / "night"
    assert snakemake(folder, "--config", "trim={region: '[1:9999,1:9]'}", code=folder / "code").code != 0
    rows = balance(folder)
    assert set(outcomes(rows)) == {"dropped"} and {row["step"] for row in rows.values()} >= {"light", "master_bias"}
    assert all("section" in row["reason"] or row["reason"] for row in rows.values())


def test_a_night_with_all_broken_files_mixed_in(real, small_night, tmp_path):
    folder = small_night.copy(tmp_path / "night")
    shutil.copytree(real / "broken", folder / "raw" / "broken")
    reduced(folder, code=folder / "code")
    rows = balance(folder)
    broken = {name: row for name, row in rows.items() if name.startswith("broken/")}
    assert len(broken) == len(list((real / "broken").iterdir()))
    assert all(row["reason"] or row["outcome"] == "used" for row in broken.values())
    assert outcomes(rows)["used"] >= len(rows) - len(broken)
