"""make long: one run over thousands of small frames, watched for what grows: memory, open files, temporary files.

    PYTHONPATH=scripts:tests python tests/long.py FOLDER --frames 2000

A simulated night of tiny frames goes through the whole chain in one call of Snakemake, with a folder of its own for temporary
files. While it runs Snakemake's process is looked at each second. What it holds when a fifth and when all of the jobs are done
may differ by little, and nothing temporary may stay: else the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simulated_night

PROJECT = Path(__file__).parents[1]
FILTERS = ("R", "V", "B")
LIGHTS = 0.6  # share of all frames
GROWTH = 0.25  # of memory between a fifth and the end: the record of what ran grows with it
FILES = 5  # more open ones at the end


@dataclass
class Sample:
    """Snakemake's process at one moment: share of jobs that are done, MB, open files, files and MB that are temporary."""

    done: float
    memory: float
    opened: int
    temporary: int
    size: float


def make(folder: Path, frames: int) -> simulated_night.Truth:
    """The raw frames: three fifths lights, the rest bias frames, darks and flats."""
    lights = round(LIGHTS * frames / len(FILTERS))
    rest = frames - lights * len(FILTERS)
    flats = rest // 10
    night = simulated_night.Night(
        size=160, field=0.27, filters=simulated_night.filters_named(",".join(FILTERS)), lights=lights,
        bias=rest // 2, darks=rest - rest // 2 - flats * len(FILTERS), flats=flats, faint_stars=4000,
        trail=5, cloud=5, starless=5, other_target=0, nebula=0.0, dither=6.0,
    )  # fmt: skip
    truth = simulated_night.make_night(folder / "raw", night, images=False)
    stars = truth.stars[np.argsort(-truth.stars["flux_V"])][:800]
    magnitudes = 20 - 2.5 * np.log10(stars["flux_V"])
    rows = [f"{ra:.6f},{dec:.6f},{m:.3f}" for ra, dec, m in zip(stars["ra"], stars["dec"], magnitudes, strict=True)]
    (folder / "stars.csv").write_text("\n".join(["ra,dec,mag", *rows]) + "\n")
    (folder / "config.yaml").write_text("catalogue: stars.csv\nheader:\n  - rename: {INSFILTE: FILTER}\n")
    return truth


def run(folder: Path, cores: int) -> tuple[int, list[Sample], float]:
    """Exit code, samples and seconds of the run."""
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile"), "--cores", str(cores)]
    begun, samples = time.monotonic(), []
    with open(folder / "shown", "wb") as shown:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=shown, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(1)
            if (sample := looked_at(process.pid, folder, temporary)) is not None:
                samples.append(sample)
    return process.returncode, samples, time.monotonic() - begun


def looked_at(pid: int, folder: Path, temporary: Path) -> Sample | None:
    """A sample, None before jobs are counted or when the process is gone."""
    done = progress(folder)
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        opened = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    memory = re.search(r"VmRSS:\s+(\d+)", status)
    if done is None or memory is None:
        return None
    sizes = [size_of(path) for path in temporary.rglob("*")]
    return Sample(done, int(memory[1]) / 1e3, opened, len(sizes), sum(sizes) / 1e6)


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # gone meanwhile
        return 0


def progress(folder: Path) -> float | None:
    """Share of the jobs that Snakemake's own log says are done."""
    logs = sorted((folder / ".snakemake" / "log").glob("*.log"))
    if not logs:
        return None
    with open(logs[-1], "rb") as log:
        log.seek(max(log.seek(0, os.SEEK_END) - 20_000, 0))
        steps = re.findall(rb"(\d+) of (\d+) steps", log.read())
    return int(steps[-1][0]) / int(steps[-1][1]) if steps else None


def judged(samples: list[Sample], left: int) -> list[str]:
    """What grew, as sentences; none where nothing did."""
    first = [one for one in samples if 0.15 < one.done < 0.25]
    last = [one for one in samples if one.done > 0.9]
    if not first or not last:
        return [f"only {len(samples)} moments were seen: more frames are needed"]
    faults = []
    memory = [float(np.median([one.memory for one in part])) for part in (first, last)]
    if memory[1] > memory[0] * (1 + GROWTH):
        faults.append(f"memory grew from {memory[0]:.0f} to {memory[1]:.0f} MB")
    opened = [max(one.opened for one in part) for part in (first, last)]
    if opened[1] > opened[0] + FILES:
        faults.append(f"open files grew from {opened[0]} to {opened[1]}")
    if left:
        faults.append(f"{left} temporary files stay")
    return faults


def table(samples: list[Sample]) -> str:
    """A Markdown table of the run at six stages."""
    lines = ["| jobs done | memory [MB] | open files | temporary files | of [MB] |", "| --- | --- | --- | --- | --- |"]
    for share in (0.02, 0.2, 0.4, 0.6, 0.8, 0.99):
        near = min(samples, key=lambda one: abs(one.done - share))
        lines.append(f"| {near.done:.0%} | {near.memory:.0f} | {near.opened} | {near.temporary} | {near.size:.1f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new one")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True)
    make(folder, given.frames)
    code, samples, seconds = run(folder, given.cores)
    left = [path for path in (folder / "tmp").rglob("*") if path.is_file()]
    shown = (folder / "shown").read_text(errors="replace")
    faults = judged(samples, len(left)) + ([f"the run ended with {code}"] if code else [])
    faults += ["a traceback was shown"] if "Traceback" in shown else []
    print(*shown.splitlines()[-8:], sep="\n")
    print(f"\n{given.frames} frames, {seconds:.0f} s on {given.cores} cores\n{table(samples)}")
    print(*(f"WRONG: {fault}" for fault in faults), sep="\n")
    return min(len(faults), 1)


if __name__ == "__main__":
    sys.exit(main())
