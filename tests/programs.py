"""The programs that `benchmark` compares, each run on the same simulated night in a process of its own, cold.

Cold: nothing is made before, raw frames and libraries have been read once, bytecode is written. What is not installed, or
fails, has a row that says so.
"""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import by_siril
import fidelity
import meter
import simulated_night as sim
import stages
import yaml
from astropy.io import fits

TESTS = Path(__file__).resolve().parent
PROJECT = TESTS.parent
TARGET = "NGC869"  # as firstlight names the simulated night's
SNAKEMAKE = [sys.executable, "-m", "snakemake"]
LIKE = {
    "cosmic_ray": {"method": "none"},
    "solve": {"method": "none"},
    "catalogue": "none",
    "keep": [],
    "photometry": {},
}


@dataclass
class Row:
    """A program: what it does, what it cost, what its stack is worth; or the note that says why there is nothing."""

    key: str
    program: str
    does: str
    cost: meter.Cost | None = None
    worth: dict = field(default_factory=dict)
    note: str = ""
    stages: list[stages.Stage] = field(default_factory=list)


@dataclass
class Night:
    """A simulated night in FOLDER/raw, its truth in FOLDER/truth; what programs make goes beside."""

    folder: Path
    parameters: sim.Night
    truth: sim.Truth | None = None

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def filters(self) -> list[str]:
        return list(self.parameters.filters)

    @property
    def lights(self) -> int:
        return self.parameters.lights * len(self.filters)

    def make(self) -> None:
        """Simulate it, unless it is there already; then read every frame once, so that none comes from the disk.

        Raises ValueError where FOLDER/raw holds something else, which is not touched.
        """
        truth = self.folder / "truth"
        if not (truth / "night.json").exists() and self.raw.exists():
            raise ValueError(f"{self.raw} is there and no simulated night: name another folder")
        if not self._is_there(truth):
            shutil.rmtree(self.raw, ignore_errors=True)
            shutil.rmtree(truth, ignore_errors=True)
            sim.make_night(self.raw, self.parameters, truth, images=False)
        self.truth = sim.read_truth(truth)
        for path in self.raw.iterdir():
            path.read_bytes()

    def _is_there(self, truth: Path) -> bool:
        """Whether the folders hold this very night, all of it."""
        asked = self.parameters
        frames = asked.bias + (asked.flats + asked.lights) * len(asked.filters)
        made = (truth / "night.json").exists() and sim.read_truth(truth).night == asked
        return made and len(list(self.raw.glob("*.fits"))) == frames


def reduce(key: str, night: Night, keep: bool = False) -> Row:
    """Reduce the night with one of PROGRAMS in FOLDER/key, which goes unless it is to be kept or the program failed."""
    run, program, does = PROGRAMS[key]
    row, work = Row(key, program, does), night.folder / key
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        stacks = run(night, row, work)
        if row.cost.code:
            raise RuntimeError(f"ended with code {row.cost.code}: {_complaint(work / 'log')}")
        row.worth = fidelity.measure(fits.getdata(stacks[0]), night.truth, night.filters[0])
    except (LookupError, RuntimeError, OSError, ValueError) as error:
        row.note = str(error)
    if not keep and not (row.note and row.cost):
        shutil.rmtree(work)
    return row


def _firstlight(night: Night, row: Row, work: Path) -> list[Path]:
    """With the header repair and the catalogue of the demo; `like` asks for the stacks alone."""
    settings = yaml.safe_load((TESTS / "demo.yaml").read_text())
    settings |= {"raw": str(night.raw), "results": "results", "catalogue": str(PROJECT / settings["catalogue"])}
    settings |= LIKE if row.key == "like" else {}
    (work / "night.yaml").write_text(yaml.safe_dump(settings))
    command = [*SNAKEMAKE, "--configfile", work / "night.yaml", "--snakefile", PROJECT / "Snakefile"]
    _warm(command, work / "warm")
    stacks = [Path("results", "stacks", TARGET, f"{name}.fits") for name in night.filters]
    notes = stages.environment(work / "notes")
    row.cost = meter.run(command + stacks * (row.key == "like"), work, work / "log", notes)
    row.stages = stages.read(work / "notes", row.cost.cpu)
    return [work / path for path in stacks]


def _warm(command: list, folder: Path) -> None:
    """Have the bytecode written and the libraries read; what the dry-run made is of no use in another folder."""
    compileall.compile_dir(PROJECT / "scripts", quiet=1)
    folder.mkdir()
    meter.run([*command, "--dry-run"], folder, folder / "log")


def _ccdproc(night: Night, row: Row, work: Path) -> list[Path]:
    arguments = [night.raw, work, ",".join(night.filters), night.folder / "truth"]
    return _script("by_ccdproc", ("ccdproc", "reproject", "astroscrappy", "sep", "PIL"), arguments, night, row)


def _seiza(night: Night, row: Row, work: Path) -> list[Path]:
    return _script("by_seiza", ("seiza",), [night.raw, work, ",".join(night.filters)], night, row)


def _script(name: str, needs: tuple, arguments: list, night: Night, row: Row) -> list[Path]:
    """A script beside this one, after what it needs was imported once."""
    if missing := [package for package in needs if find_spec(package) is None]:
        raise LookupError(f"not installed: {', '.join(missing)}")
    work = arguments[1]
    meter.run([sys.executable, "-c", f"import {', '.join(needs)}"], work, work / "log")
    row.cost = meter.run([sys.executable, TESTS / f"{name}.py", *arguments], work, work / "log")
    return [work / f"{name}.fits" for name in night.filters]


def _siril(night: Night, row: Row, work: Path) -> list[Path]:
    program = shutil.which("siril-cli")
    if program is None:
        raise LookupError("not installed: siril-cli")
    subprocess.run([program, "--version"], capture_output=True)
    script = by_siril.prepare(night.raw, work, night.filters)
    row.cost = meter.run([program, "-d", work, "-s", script], work, work / "log")
    return [work / f"{name}.fit" for name in night.filters]


def _complaint(log: Path) -> str:
    """What a program said last, of an error if it named one."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if "error" in line.lower()]
    return (named or lines or ["it said nothing"])[-1]


PROGRAMS = {
    "full": (_firstlight, "firstlight, full", "every step; sigma, mask, WCS, pictures"),
    "like": (_firstlight, "firstlight, like", "calibrates, registers, stacks; sigma, mask"),
    "siril": (_siril, "Siril", "calibrates, registers, stacks"),
    "seiza": (_seiza, "seiza", "calibrates, mends pixels, registers, stacks"),
    "ccdproc": (_ccdproc, "ccdproc", "as full, but its WCS is given"),
}
