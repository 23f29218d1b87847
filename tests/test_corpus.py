"""Bad input of every kind (tests/corpus.py), mixed into a good night, through the whole chain. Truth: the night without it."""

import re
import shutil

import corpus
import pytest
from conftest import snakemake
from firstlight import io

TRACES = ("Traceback", 'File "', "Error in rule", "Warning")


@pytest.fixture(scope="module")
def mixed(small_night, tmp_path_factory):
    """The folder of a night with all that is bad mixed in, what is expected of each file, what the terminal showed, and the
    bytes and time stamps of the raw files before."""
    folder = small_night.copy_inputs(tmp_path_factory.mktemp("corpus") / "night")
    good = next((folder / "raw").glob("Light_R_*.fits"))
    expected = corpus.make(folder / "raw" / "bad", good)
    before = stamps(folder / "raw")
    run = snakemake(folder, "--cores", 2, code=folder / "code")
    return folder, expected, run, before


def stamps(folder):
    """Of all that lies in a folder: type, size, time of change."""
    states = {path: path.lstat() for path in folder.rglob("*")}
    return {path: (state.st_mode, state.st_size, state.st_mtime_ns) for path, state in states.items()}


def test_the_run_ends_well_and_shows_no_traceback(mixed):
    _, _, run, _ = mixed
    assert run.code == 0, run.text
    assert not [trace for trace in TRACES if trace in run.text], run.text


def test_each_bad_file_has_the_outcome_and_the_reason_that_it_should(mixed):
    folder, expected, _, _ = mixed
    rows = {row["path"]: row for row in io.read_rows(folder / "results" / "ledger.csv")}
    rows = {path.partition("bad/")[2]: row for path, row in rows.items() if "/bad/" in path}
    assert sorted(rows) == sorted(name for name, (outcome, _) in expected.items() if outcome)
    wrong = [
        (name, rows[name]["outcome"], rows[name]["reason"])
        for name, (outcome, reason) in expected.items()
        if outcome and (rows[name]["outcome"] != outcome or not re.search(reason, rows[name]["reason"]))
    ]
    assert not wrong, wrong


def test_the_good_frames_products_are_those_of_a_night_without_it(mixed, small_night):
    folder, _, _, _ = mixed
    there = {path.relative_to(small_night.folder) for part in ("lights", "masters", "aligned", "stacks", "pictures")
             for path in (small_night.folder / "results" / part).rglob("*") if path.is_file()}  # fmt: skip
    assert len(there) > 30
    assert [path for path in there if (folder / path).read_bytes() != (small_night.folder / path).read_bytes()] == []


def test_raw_files_stay_as_they_are(mixed):
    folder, _, _, before = mixed
    assert stamps(folder / "raw") == before


def test_a_run_after_it_has_nothing_to_do(mixed):
    folder, *_ = mixed
    assert not snakemake(folder, "--dry-run", code=folder / "code").jobs


def test_frames_of_a_folder_that_nobody_may_write_to(small_night, tmp_path):
    folder = small_night.copy_inputs(tmp_path / "night")
    for path in [*(folder / "raw").iterdir(), folder / "raw"]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert snakemake(folder, code=folder / "code").code == 0
    finally:
        (folder / "raw").chmod(0o755)
        shutil.rmtree(folder)


HOSTILE = (
    ("../../outside", "../up"),
    ("/etc/outside", "/R"),
    ("$(touch outside)", "`touch outside`"),
    ("a'b\"c", "{R}"),
    ("{wildcards.target}{0}", "*?[R]"),
    ("CON", "NUL"),
    ("x" * 60, "-rf"),
    ("M 31", "R"),
    ("M_31", "R"),
    ("m 31", "r"),
)


@pytest.fixture(scope="module")
def hostile(small_night, tmp_path_factory):
    """A folder that nothing but the run may write to, and what the terminal showed."""
    folder = small_night.copy_inputs(tmp_path_factory.mktemp("outer") / "inner" / "night")
    shutil.rmtree(folder / "raw")
    made = corpus.Corpus(folder / "raw", next((small_night.folder / "raw").glob("Light_R_*.fits")))
    for number, (target, band) in enumerate(HOSTILE):
        made.light(f"{number}.fits", "used", OBJECT=target, FILTER=band, INSFILTE=None)
    run = snakemake(folder, "--config", "catalogue=none", "keep=[]", code=folder / "code")
    return folder, run


def test_names_that_would_lead_elsewhere_lead_nowhere(hostile):
    folder, run = hostile
    assert run.code == 0, run.text
    assert not [trace for trace in TRACES if trace in run.text], run.text
    outer = folder.parents[1]
    assert {path.name for path in outer.iterdir()} == {"inner"}
    assert {path.name for path in folder.parent.iterdir()} == {"night"}
    assert {path.name for path in folder.iterdir()} == {
        "raw",
        "code",
        "config.yaml",
        "stars.csv",
        "results",
        ".snakemake",
    }
    stray = [path for path in folder.rglob("*outside") if not path.is_relative_to(folder / "results")]
    assert stray == []


def test_names_that_differ_have_stacks_of_their_own(hostile):
    folder, _ = hostile
    rows = io.read_rows(folder / "results" / "stacks.csv")
    assert [int(row["frames"]) for row in rows] == [1] * len(HOSTILE)
    assert len(list((folder / "results" / "stacks").glob("*/*.fits"))) == len(rows)
