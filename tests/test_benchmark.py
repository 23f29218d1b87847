"""The benchmark: a tiny night through firstlight and ccdproc, a peer that is absent, and each of its rulers on known costs."""

import csv
import sys
from pathlib import Path

import benchmark
import fidelity
import meter
import numpy as np
import pieces
import programs
import pytest
import simulated_night as sim
import stages

BUSY = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder after a run on two small lights, Siril not being there."""
    folder = tmp_path_factory.mktemp("benchmark")
    night = ["--size", "320", "--lights", "2", "--bias", "3", "--flats", "2", "--filters", "R"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs.shutil, "which", lambda name: None)
        benchmark.main([str(folder), *night, "--only", "like,ccdproc,siril", "--no-pieces"])
    return folder


def lines(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def table(run):
    return {line["program"]: line for line in lines(run / "table.csv")}


def test_both_programs_reduce_the_night(table):
    assert table["firstlight, like"]["note"] == table["ccdproc"]["note"] == ""
    assert all(float(line["cpu"]) > 1 and float(line["peak"]) > 50 for line in table.values() if not line["note"])


def test_ratio_is_that_of_what_both_took(table):
    like, ccdproc = table["firstlight, like"], table["ccdproc"]
    for what in ("wall", "cpu"):
        assert float(like[f"{what}/ccdproc"]) == pytest.approx(float(like[what]) / float(ccdproc[what]))


def test_a_peer_that_is_absent_has_a_row_that_says_so(run, table):
    assert table["Siril"]["note"] == "not installed: siril-cli"
    assert "| Siril | not installed: siril-cli | - |" in (run / "table.md").read_text()


def test_stacks_of_all_programs_are_held_against_the_truth(table):
    for line in table.values():
        assert line["note"] or (float(line["scatter"]) < 3 and 2.5 < float(line["fwhm"]) < 5)


def test_stages_are_all_jobs_and_all_of_the_cpu(run, table):
    found = {line["rule"]: line for line in lines(run / "stages.csv")}
    assert int(found["light"]["jobs"]) == 2 and int(found["combine"]["jobs"]) == 1
    total = sum(float(line["cpu"]) for line in found.values())
    assert total == pytest.approx(float(table["firstlight, like"]["cpu"]))
    assert all(0 < float(line["start"]) <= float(line["cpu"]) for line in found.values())


def test_what_programs_made_goes_and_the_night_stays(run):
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == ["raw", "truth"]


def test_machine_and_versions_are_named(run):
    text = (run / "table.md").read_text()
    assert f"Python {sys.version.split()[0]}, snakemake {benchmark.version('snakemake')}" in text
    assert "GB" in text and "cores" in text


# --- a program that fails -----------------------------------------------------------------------------------------------
def test_a_program_that_fails_says_why_and_leaves_its_files(tmp_path, monkeypatch):
    def failing(night, row, work):
        row.cost = meter.run([sys.executable, "-c", "raise OSError('no space')"], work, work / "log")

    monkeypatch.setitem(programs.PROGRAMS, "seiza", (failing, "seiza", ""))
    row = programs.reduce("seiza", programs.Night(tmp_path, sim.Night()))
    assert row.note == "ended with code 1: OSError: no space"
    assert (tmp_path / "seiza" / "log").exists()


def test_no_ratio_to_a_program_that_failed():
    cost = meter.Cost(0, 4.0, 8.0, 1.0, 1.0)
    rows = [programs.Row("full", "", "", cost), programs.Row("siril", "", "", cost, note="ended with code 1")]
    assert not any("siril" in key for key in benchmark.rows_table(rows)[0])


def test_frames_that_are_no_simulated_night_are_left_alone(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine.fits").touch()
    with pytest.raises(SystemExit, match="no simulated night"):
        benchmark.main([str(tmp_path), "--only", "siril", "--no-pieces"])
    assert (tmp_path / "raw" / "mine.fits").exists()


# --- bars ----------------------------------------------------------------------------------------------------------------
def test_a_bar_is_held_or_not():
    rows = [
        programs.Row(key, key, "", meter.Cost(0, wall, 1.0, 1.0, 1.0)) for key, wall in (("like", 9.0), ("siril", 10.0))
    ]
    slow = pieces.Piece("cosmic rays", 2.0, "astroscrappy", 4.0, bar=0.25)
    text = benchmark.bars_text(benchmark.bars(rows, [slow], 1))
    assert "| wall of like over that of Siril | 0.90 | 1 | yes |" in text
    assert "| CPU of cosmic rays, over astroscrappy | 0.50 | 0.25 | **no** |" in text


# --- what a command costs ------------------------------------------------------------------------------------------------
def test_cpu_of_children_counts(tmp_path):
    inner = BUSY.format(0.3)
    outer = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {inner!r}])\n"
    cost = meter.run([sys.executable, "-c", outer], tmp_path, tmp_path / "log")
    assert 0.3 < cost.cpu < 1.0 and cost.wall > 0.3 and cost.code == 0


def test_memory_is_the_largest_that_a_tree_held(tmp_path):
    held = "import time; a = bytearray(80_000_000); a[::4096] = a[::4096]; time.sleep(0.5)"
    outer = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {held!r}])\n"
    assert 80 < meter.run([sys.executable, "-c", outer], tmp_path, tmp_path / "log").peak < 200


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux tells what was written")
def test_bytes_count_that_are_gone_again(tmp_path):
    code = "import os; open('x', 'wb').write(bytes(20_000_000)); os.remove('x')"
    assert 20 <= meter.run([sys.executable, "-c", code], tmp_path, tmp_path / "log").written < 25


# --- start-up ------------------------------------------------------------------------------------------------------------
def noted(folder: Path, script: str) -> list[float]:
    """Seconds, own CPU, that of children, that of start-up, of a job that imports a firstlight of our making."""
    (folder / "firstlight.py").write_text(BUSY.format(0.1))
    (folder / "late.py").write_text(BUSY.format(0.05))
    job = folder / "tmpabc.light.py"
    job.write_text(script)
    environment = stages.environment(folder / "notes")
    environment["PYTHONPATH"] += f":{folder}"
    meter.run([sys.executable, job], folder, folder / "log", environment)
    name, *numbers = next((folder / "notes").glob("*.txt")).read_text().split("\t")
    assert name == job.name, (folder / "log").read_text()
    return [float(number) for number in numbers]


@pytest.mark.parametrize("end", ["", "import os; os._exit(0)"])
def test_start_up_is_all_imports_wherever_they_stand_and_nothing_else(tmp_path, end):
    work = BUSY.format(0.3)
    _, own, _, start = noted(
        tmp_path, f"import firstlight\n{work}def later():\n    import late\nlater(); later()\n{end}"
    )
    assert 0.15 < start < 0.3
    assert own - start > 0.29


def test_notes_are_summed_by_rule(tmp_path):
    notes = {1: "tmpa_1.light.py\t3\t2\t0.5\t0.5", 2: "tmpb2.light.py\t3\t1\t0\t0.25", 3: "__main__.py\t9\t1\t3.5\t1"}
    for number, note in notes.items():
        (tmp_path / f"{number}.txt").write_text(f"{note}\n")
    light, main, between = stages.read(tmp_path, 5.0)
    assert light == stages.Stage("light", 2, 6.0, 3.5, 0.75)
    assert main == stages.Stage(stages.SNAKEMAKE, 1, 9.0, 1.0, 1.0)
    assert between == stages.Stage(stages.BETWEEN, 2, 0.0, 0.5, 0.5)
    assert stages.start_up([light, main, between], 2) == (0.45, 1.125)


# --- what a stack is worth -----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sky():
    """A small night's truth, and the light of its first frame as a perfect camera would see it."""
    plain = {"trail": 0, "cloud": 0, "starless": 0, "other_target": 0, "nebula": 0}
    night = sim.Night(size=512, filters=sim.filters_named("R"), lights=1, faint_stars=300, **plain)
    truth = sim.Truth(night, sim.make_stars(night), sim.plan_lights(night))
    return truth, truth.simulation.signal(truth.lights[0])


def noisy(image, scatter, seed=1):
    return (image + np.random.default_rng(seed).normal(0, scatter, image.shape)).astype(np.float32)


def test_noise_is_that_of_the_sky_at_the_scale_of_the_stars(sky):
    truth, light = sky
    clear = truth.lights["transparency"][0]
    found = fidelity.measure(noisy(1e-5 * light, 1e-5 * 16), truth, "R")
    assert found["noise"] == pytest.approx(16 / 8 / clear, rel=0.1)


def test_fluxes_that_are_off_scatter(sky):
    truth, light = sky
    tilt = 1 + 0.2 * np.linspace(-1, 1, light.shape[1])
    good, bad = (fidelity.measure(noisy(image, 5), truth, "R")["scatter"] for image in (light, light * tilt))
    assert good < 1 and bad > 5


def test_a_stack_of_another_field_is_refused(sky):
    truth, light = sky
    image = np.full(light.shape, 200.0)
    x, y = np.random.default_rng(3).uniform(10, 500, (2, 200))
    sim.paint(image, x, y, np.geomspace(1e3, 1e5, 200), sim.Profile("moffat", 3.0, 4.0))
    with pytest.raises(ValueError, match="stars"):
        fidelity.measure(noisy(image, 5), truth, "R")


def test_a_stack_may_lie_mirrored_turned_and_moved(sky):
    truth, light = sky
    plain, moved = (fidelity.measure(noisy(image, 5), truth, "R") for image in (light, light[::-1, 30:].T.copy()))
    assert moved["scatter"] < 1
    assert moved["fwhm"] == pytest.approx(plain["fwhm"], rel=0.03)


# --- single functions ----------------------------------------------------------------------------------------------------
def test_single_functions_agree_with_those_beside(run):
    """Small frames: what is looked at is that both do the same, not how long it takes."""
    frame = pieces.a_light(run / "raw", sim.read_truth(run / "truth"), 0)
    assert pieces.hits(frame)[0].same == "to the pixel"
    assert all(float(piece.same.removeprefix("to ")) < 1e-6 for piece in pieces.combined(5, frame.shape))
