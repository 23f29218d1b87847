"""Where the CPU of a run of firstlight goes: rule by rule, and how much of it is start-up.

`noting/sitecustomize.py` has each process leave a note. Start-up of a job is its interpreter, what Snakemake puts before a
script, and all imports. All that is no job is start-up too: Snakemake itself (reading Snakefile and headers, scheduling),
and the shells between it and its jobs with what it takes to end a process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

JOB = re.compile(r"tmp\w+\.(\w+)\.py")  # the name that Snakemake gives the copy of an adapter that it runs
SNAKEMAKE, BETWEEN = "Snakemake itself", "shells, ends of processes"


@dataclass
class Stage:
    """All jobs of a rule: their number, sums of seconds on the clock, of CPU-seconds, and of these those of start-up."""

    rule: str
    jobs: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    start: float = 0.0


def environment(notes: Path) -> dict:
    """What a run needs in its environment to leave its notes in a folder."""
    notes.mkdir(parents=True, exist_ok=True)
    return {"PROCESS_NOTES": str(notes), "PYTHONPATH": str(Path(__file__).parent / "noting")}


def read(notes: Path, cpu: float) -> list[Stage]:
    """Stages of a run that took `cpu` seconds in all, the most costly first, what is no job last."""
    stages, snakemake = {}, Stage(SNAKEMAKE)
    for note in notes.glob("*.txt"):
        script, *numbers = note.read_text().rstrip("\n").split("\t")
        wall, own, children, start = map(float, numbers)
        if job := JOB.fullmatch(script):
            _count(stages.setdefault(job[1], Stage(job[1])), wall, own + children, start)
        elif script == "__main__.py":
            _count(snakemake, wall, own, own)
    between = cpu - snakemake.cpu - sum(stage.cpu for stage in stages.values())
    rest = Stage(BETWEEN, sum(stage.jobs for stage in stages.values()), 0.0, between, between)
    return [*sorted(stages.values(), key=lambda one: -one.cpu), snakemake, rest]


def _count(stage: Stage, wall: float, cpu: float, start: float) -> None:
    stage.jobs += 1
    stage.wall, stage.cpu, stage.start = stage.wall + wall, stage.cpu + cpu, stage.start + start


def start_up(stages: list[Stage], lights: int) -> tuple[float, float]:
    """Share of CPU that is start-up, Snakemake's own included, and the CPU-seconds of that per light."""
    start, cpu = sum(stage.start for stage in stages), sum(stage.cpu for stage in stages)
    return start / cpu, start / lights
