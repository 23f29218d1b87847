"""Two runs from the same frames give the same bytes. Truth: a night reduced twice, with other cores, another name of the
results' folder, the raw frames in another order in their folder and with other time stamps."""

import csv
import io
import os
import shutil
from pathlib import Path

import pytest
from conftest import reduced

# What tells of the run and not of the frames: logs, the cache with time stamps of the raw files, the plan and the report
# with what was measured of the machine.
OF_THE_RUN = ("logs/", ".firstlight/", "plan.txt", "report.html")


def products(results: Path) -> dict[str, bytes]:
    """Content of all products by their place among the results."""
    files = {path.relative_to(results).as_posix(): path for path in results.rglob("*") if path.is_file()}
    return {name: content(path) for name, path in files.items() if not name.startswith(OF_THE_RUN)}


def content(path: Path) -> bytes:
    """A file's bytes; the record of how a light was solved goes without the seconds that it took."""
    if "solving" not in path.parts:
        return path.read_bytes()
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    return repr([{**row, "seconds": None} for row in rows]).encode()


@pytest.fixture(scope="module")
def twice(small_night, tmp_path_factory):
    """Products of both runs."""
    folder = small_night.copy_inputs(tmp_path_factory.mktemp("again") / "night")
    shutil.rmtree(folder / "raw")
    (folder / "raw").mkdir()
    for number, path in enumerate(sorted((small_night.folder / "raw").iterdir(), reverse=True)):
        shutil.copy(path, folder / "raw")
        os.utime(folder / "raw" / path.name, (1e9 + number, 1e9 + number))
    cores = 1 if (os.cpu_count() or 1) > 1 else 2
    reduced(folder, "--cores", cores, "--config", "results=other", code=folder / "code")
    return products(small_night.folder / "results"), products(folder / "other")


def test_both_runs_make_the_same_files(twice):
    first, second = twice
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize("suffix", ["fits", "png", "tiff", "csv", "ecsv"])
def test_files_of_both_runs_have_the_same_bytes(twice, suffix):
    first, second = ({name: one for name, one in run.items() if name.endswith(f".{suffix}")} for run in twice)
    assert first and [name for name in first if first[name] != second.get(name)] == []
