"""Two runs from the same frames give the same bytes. Truth: a night reduced twice, with other cores, another name of the
results' folder, the raw frames in another order in their folder and with other time stamps."""

import os
import shutil

import pytest
from alike import products
from conftest import reduced


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
