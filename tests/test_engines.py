"""astrometry.net's solve-field, the real one where it is installed, and programs that hang or fail."""

import os
import shutil
import stat
import subprocess
import time

import numpy as np
import pytest
from astropy.io import fits
from firstlight import astrometry, catalogue, engines, io, solve
from simulated_fields import SIZE, Field, table_of

SHAPE = (SIZE, SIZE)
CENTRE = (35.0, 57.13)


def real_field(real, degrees=1.9, angle=30.0, mirror=False, seed=1):
    """A frame of the Double Cluster's surroundings, as the Tycho stars there would be found."""
    stars = catalogue.standard(io.read_any_table(real / "catalogues" / "double_cluster.ecsv"))
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    cd = degrees / SIZE * np.array([[c, -s], [s, c]]) @ np.diag([1.0 if mirror else -1.0, 1.0])
    truth = astrometry.tangent_wcs(CENTRE, (511.5, 511.5), cd)
    rng = np.random.default_rng(seed)
    xy = truth.wcs_world2pix(np.column_stack([stars["ra"], stars["dec"]]), 0)
    inside = ((xy > 1) & (xy < SIZE - 2)).all(axis=1)
    xy = xy[inside] + rng.normal(0, 0.1, (inside.sum(), 2))
    table = table_of(xy, 10 ** (-0.4 * (stars["mag"][inside] - 20)))
    return Field(table, stars, truth, (CENTRE[0] + 0.3, CENTRE[1] - 0.2), 3600 * degrees / SIZE)


@pytest.fixture(scope="module")
def program():
    """The real program with index files; skips where there is none."""
    if shutil.which(engines.PROGRAM) is None:
        pytest.skip("solve-field is not installed (Debian: astrometry.net, astrometry-data-tycho2)")
    random = np.random.default_rng(3).uniform(0, SIZE, (30, 2))
    try:
        engines.solve_field(random, SHAPE, (10.0, 10.0), 1.0, (3.0, 4.0), 20.0)
    except ValueError as error:
        if "index" in str(error) and "no match" not in str(error):
            pytest.skip(f"{error}")


def climbed(found, stars=None, **options):
    return solve.solve(
        found.table, fits.Header(), SHAPE, stars, found.pointing, found.scale, order=["solve-field"], **options
    )


@pytest.mark.parametrize("mirror", [False, True])
def test_its_pixels_are_counted_from_one(program, real, mirror):
    """Without a catalogue of ours its own WCS is taken: a count that is off by one would be off by 1.4 pixels."""
    found = real_field(real, mirror=mirror)
    solution = climbed(found)
    assert found.error(solution.wcs) < 0.25
    assert (solution.attempts[0].matched > 15, solution.attempts[0].rms < found.scale) == (True, True)


def test_with_a_catalogue_its_solution_is_fitted_to_all_stars(program, real):
    found = real_field(real)
    solution = climbed(found, found.stars)
    assert found.error(solution.wcs) < 0.1 and solution.attempts[0].matched > 100


def test_it_says_that_it_does_not_solve(program):
    """It exits with 0 all the same."""
    random = np.random.default_rng(4).uniform(0, SIZE, (60, 2))
    with pytest.raises(ValueError, match="solve-field found no match with its index files"):
        engines.solve_field(random, SHAPE, CENTRE, 1.0, (6.0, 7.0), 30.0)


def test_chosen_index_files(program, real, tmp_path):
    found = real_field(real)
    assert "no index files" in climbed(found, index=str(tmp_path)).reason
    assert "is no folder" in climbed(found, index=str(tmp_path / "nowhere")).reason


def fake(folder, monkeypatch, script):
    """A program of the same name that does something else."""
    path = folder / "solve-field"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


XY = np.random.default_rng(5).uniform(0, SIZE, (40, 2))


def test_a_child_that_hangs_is_ended_with_its_own_children(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, f"sleep 300 & echo $! > {tmp_path}/child; sleep 300")
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="did not end in its time"):
        engines.solve_field(XY, SHAPE, seconds=0.5)
    assert time.monotonic() - start < 3
    child = (tmp_path / "child").read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", "-p", child], capture_output=True, text=True, check=False).stdout
    assert not state.strip() or state.strip().startswith("Z")


def test_a_ladder_goes_on_after_a_child_that_hangs(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "sleep 300")
    table = table_of(XY, np.arange(40.0, 0, -1))
    solution = solve.solve(
        table, fits.Header(), SHAPE, None, CENTRE, 5.0, order=["solve-field", "header"], time_limit=1
    )
    assert [a.engine for a in solution.attempts] == ["solve-field", "header"]
    assert "did not end" in solution.reason and solution.attempts[0].seconds < 4


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo broken library; exit 127", "solve-field failed: broken library"), ("exit 0", "it said nothing")],
)
def test_a_program_that_fails_is_a_reason(tmp_path, monkeypatch, script, reason):
    fake(tmp_path, monkeypatch, script)
    with pytest.raises(ValueError, match=reason):
        engines.solve_field(XY, SHAPE, seconds=5)


def test_a_program_that_claims_success_and_leaves_no_wcs_is_a_reason(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, 'touch "$(dirname $1)/field.solved"')
    table = table_of(XY, np.arange(40.0, 0, -1))
    solution = solve.solve(table, fits.Header(), SHAPE, None, CENTRE, 5.0, order=["solve-field"], time_limit=5)
    assert solution.wcs is None and solution.reason


def test_without_the_program_the_reason_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="solve-field is not installed"):
        engines.solve_field(XY, SHAPE)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "exit 0")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(ValueError, match="failed"):
        engines.solve_field(XY, SHAPE, seconds=5)
    assert list(scratch.iterdir()) == []
