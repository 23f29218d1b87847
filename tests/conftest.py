"""What tests share: running the workflow as a user would, a small night that it has reduced, the folders of real frames."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import simulated_night

PROJECT = Path(__file__).parents[1]
REAL = PROJECT.parent / "shared" / "data"
CODE = ("Snakefile", "config.schema.yaml", "rules", "scripts", "profiles", "envs")


@dataclass
class Run:
    """What a call of Snakemake came to: its exit code, what the terminal showed, its own log."""

    code: int
    text: str
    log: str = ""

    @property
    def jobs(self) -> Counter:
        """Jobs by rule: those that were finished, or in a dry-run those that would be run."""
        done = Counter(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", self.log))
        if not done and "Job stats:" in self.text:
            table = self.text.split("Job stats:")[1].split("total")[0]
            done = Counter({rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)})
        return Counter({rule: n for rule, n in done.items() if rule != "all"})


def snakemake(folder: Path, *arguments, code: Path = PROJECT, timeout: float = 900, **variables) -> Run:
    """Run Snakemake in a folder on the project (or a copy of its code), with these variables in its environment."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | variables
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(code / "Snakefile"), *map(str, arguments)]
    before = set((folder / ".snakemake" / "log").glob("*.log"))
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        timeout=timeout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    logs = set((folder / ".snakemake" / "log").glob("*.log")) - before
    return Run(done.returncode, done.stdout, "".join(path.read_text() for path in logs))


def reduced(folder: Path, *arguments, **options) -> Run:
    """Run Snakemake and fail with its output where it fails."""
    run = snakemake(folder, *arguments, **options)
    assert run.code == 0, run.text
    return run


@pytest.fixture(scope="session")
def real():
    """The folder of real frames; skips where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"the real frames are not here ({REAL.name} beside the project)")
    return REAL


CONFIG = """
catalogue: stars.csv
header:
  - rename: {INSFILTE: FILTER}
  - append: {GAIN: 1.5, RDNOISE: 7.0}
cosmic_ray: {niter: 1}
"""


@dataclass
class SmallNight:
    """A reduced night of two filters, and frames that it was not given."""

    folder: Path
    spare: Path
    truth: simulated_night.Truth

    def copy(self, where: Path) -> Path:
        """A working folder of its own, records and time stamps included."""
        subprocess.run(["cp", "-a", f"{self.folder}/.", str(where)], check=True)
        return where

    def copy_inputs(self, where: Path) -> Path:
        """A working folder in which nothing is made yet."""
        for part in ("raw", "code", "config.yaml", "stars.csv"):
            source = self.folder / part
            where.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, where / part)
        return where


@pytest.fixture(scope="session")
def small_night(tmp_path_factory) -> SmallNight:
    """A night of 384x384 pixels, large enough that Snakemake goes by time stamps, not by checksums; reduced once."""
    return make_small_night(*(tmp_path_factory.mktemp(name) for name in ("night", "spare", "truth")))


def make_small_night(folder: Path, spare: Path, truth: Path) -> SmallNight:
    """The same in these folders."""
    night = simulated_night.Night(
        size=384,
        field=0.64,
        filters=simulated_night.filters_named("R,V"),
        lights=5,
        bias=4,
        darks=3,
        flats=3,
        trail=0,
        cloud=0,
        starless=1,
        other_target=0,
        faint_stars=4000,
    )
    truth = simulated_night.make_night(spare, night, truth=truth, images=False)
    stars = truth.stars[np.argsort(-truth.stars["flux_V"])][:1500]
    mag = 20 - 2.5 * np.log10(stars["flux_V"])
    rows = [f"{ra:.6f},{dec:.6f},{m:.3f}" for ra, dec, m in zip(stars["ra"], stars["dec"], mag, strict=True)]
    (folder / "stars.csv").write_text("\n".join(["ra,dec,mag", *rows]) + "\n")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "raw").mkdir()
    starless = set(truth.lights["file"][truth.lights["starless"]])
    keep_back = {"Light_R_001.fits", "Light_V_005.fits", "Light_V_004.fits", "Bias_004.fits"} | starless
    for file in sorted(spare.glob("*.fits")):
        if file.name not in keep_back:
            shutil.move(file, folder / "raw" / file.name)
    for part in CODE:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, folder / "code" / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / "code").mkdir(exist_ok=True)
            shutil.copy2(source, folder / "code" / part)
    reduced(folder, code=folder / "code", PYTHONPROFILEIMPORTTIME="1")  # logs say what jobs load (test_lean)
    return SmallNight(folder, spare, truth)
