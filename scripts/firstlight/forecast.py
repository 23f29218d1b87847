"""What jobs will take, in disk, memory and time: from the sizes of images, and from what the logs of earlier runs tell."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .jobs import PICTURE, Job

# Bytes per pixel of what is written: the image, and beside it sigma, mask and what else there is of each pixel.
IMAGE = 4.0
BESIDE = {"light": 6.0, "align": 6.0, "fringe": 6.0, "combine": 13.0} | dict.fromkeys(
    ("master_bias", "master_dark", "master_flat", "ready_master"), 7.0
)
COMPRESSED = 0.45  # what is left of extensions
SOURCES = 0.12  # bytes per pixel of a table of sources: by the demo night, 1000 stars in a megapixel
CHANNEL = {".png": 0.55, ".tiff": 2.0, ".fits": 4.0, "_chart.png": 0.6}  # bytes per pixel and colour, as they shrink
HEADERS = 25e3  # bytes of headers, and of tables and logs, which hardly grow with pixels
START = 0.4  # s of a job that are the same for any number of pixels
BEFORE = 0.2  # s from the start of a process until its log's clock begins
SAMPLE = 200  # logs of a rule that are read
_LAST = re.compile(r"done in ([\d.]+) s, ([\d.]+) s of CPU with start-up, ([\d.]+) MB at most\s*$")


@dataclass(frozen=True)
class Told:
    """What the log of a job says of its cost."""

    seconds: float
    cpu: float
    megabytes: float

    @property
    def wall(self) -> float:
        """s from start to end: the clock of a log begins after start-up, that of its CPU with it."""
        return max(self.seconds + BEFORE, self.cpu)


@dataclass(frozen=True)
class Cost:
    """What one job of a rule takes, by its logs: the mean, what a quarter stay below and a quarter exceed (s), memory."""

    logs: int
    work: float  # mean number of pixels of these jobs
    mean: float
    low: float
    high: float
    megabytes: float

    def seconds(self, work: float, typical: float) -> float:
        """s of a job with so many pixels; `typical` is one of mean, low, high."""
        start = min(START, typical)
        return start + (typical - start) * (work / self.work if self.work else 1.0)


@dataclass(frozen=True)
class Duration:
    """s that jobs take on so many cores, between low and high; `unknown` are the rules of which no log tells."""

    mean: float
    low: float
    high: float
    logs: int
    unknown: tuple[str, ...] = ()


def told(text: str | None) -> Told | None:
    """What a log's last line says, None where the job did not come to its end."""
    match = _LAST.search(text or "")
    return Told(*map(float, match.groups())) if match else None


def costs(jobs: Iterable[Job], read: Callable[[Job], str | None], work: Callable[[Job], float]) -> dict[str, Cost]:
    """{rule: what its jobs take}, of the rules of which a log tells.

    read  the text of a job's log, None where there is none; of many jobs of a rule only some are asked for
    work  a job's pixels
    """
    by_rule = defaultdict(list)
    for job in jobs:
        by_rule[job.rule].append(job)
    out = {}
    for rule, members in by_rule.items():
        some = members[:: max(len(members) // SAMPLE, 1)]
        found = [(told(read(job)), work(job)) for job in some]
        known = [(one, pixels) for one, pixels in found if one is not None]
        if known:
            walls = sorted(one.wall for one, _ in known)
            mean = sum(walls) / len(walls)
            low, high = walls[(len(walls) - 1) // 4], walls[-1 - (len(walls) - 1) // 4]
            pixels = sum(pixels for _, pixels in known) / len(known)
            most = max(one.megabytes for one, _ in known)
            out[rule] = Cost(len(known), pixels, mean, min(low, mean), max(high, mean), most)
    return out


def duration(jobs: list[Job], known: dict[str, Cost], work: Callable[[Job], float], cores: int) -> Duration:
    """s that jobs take: their sum over the cores, or the longest chain of jobs that wait for one another."""
    rules = {job.rule for job in jobs}
    values = []
    for part in ("mean", "low", "high"):
        total, ends = 0.0, {}
        for job in jobs:
            cost = known.get(job.rule)
            seconds = cost.seconds(work(job), getattr(cost, part)) if cost else 0.0
            total += seconds
            end = seconds + max((ends.get(path, 0.0) for path in job.needs), default=0.0)
            ends.update(dict.fromkeys(job.outputs + job.temporary, end))
        values.append(max(total / max(cores, 1), max(ends.values(), default=0.0)))
    logs = sum(known[rule].logs for rule in rules & set(known))
    return Duration(*values, logs, tuple(sorted(rules - set(known))))


def disk(job: Job, pixels: Callable[[Job], float], filters: int = 1, compress: bool = False) -> float:
    """Bytes that the products of a job take which stay on disk.

    pixels   of an image of a job; filters: how many colours the picture of a target has, 1 or 3
    compress whether extensions are compressed
    """
    if not job.outputs:
        return 0.0
    n, beside = pixels(job), BESIDE.get(job.rule)
    if job.rule == "picture":
        return HEADERS + n * filters * sum(CHANNEL[end] for end in PICTURE)
    if job.rule == "preview":
        return HEADERS + n * (CHANNEL[".png"] + CHANNEL[".tiff"])
    if job.rule == "light" and len(job.outputs) == 1:  # the record of solving alone
        return 1e3
    if beside is None:
        return HEADERS
    sources = SOURCES * n if job.rule == "light" else 0.0
    return HEADERS + n * (IMAGE + beside * (COMPRESSED if compress else 1.0)) + sources


def memory(jobs: list[Job], megabytes: dict[str, float], threads: dict[str, int], cores: int) -> tuple[float, str, int]:
    """(MB, rule, number) of the largest load by jobs of one rule side by side, on so many cores."""
    count = defaultdict(int)
    for job in jobs:
        count[job.rule] += 1
    loads = []
    for rule, number in count.items():
        beside = min(number, max(cores // max(threads.get(rule, 1), 1), 1))
        loads.append((beside * megabytes.get(rule, 0.0), rule, beside))
    return max(loads, default=(0.0, "", 0))
