"""The jobs of a run, worked out from the night alone: which rule makes which files from which, and what is left to do.

It is what Snakemake finds out too, without its cost: to say what is ahead takes a second where planning takes a minute.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath

from .night import Night

PICTURE = (".png", ".tiff", ".fits", "_chart.png")


@dataclass(frozen=True)
class Job:
    """One job of a rule. `outputs` stay, `temporary` ones go when nothing needs them any more; `needs` are products only.

    row     a frame of the camera whose pixels it works on, None where it works on none
    images  how many images it reads; target: of grid, stack and picture, whose pixels are those of the grid
    """

    rule: str
    outputs: tuple[str, ...]
    needs: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()
    row: object = None
    images: int = 1
    target: str = ""

    def unkept(self) -> Job:
        """The same job with its temporary files alone."""
        return replace(self, outputs=self.temporary, temporary=())


def jobs(night: Night) -> list[Job]:
    """All jobs that the products of a night ask for, each after those that it needs."""
    out = _catalogues(night) + _masters(night) + _lights(night) + _grids(night) + _stacks(night)
    return out + _tables(night, out)


def log_of(job: Job, results: str) -> str:
    """Path of a job's log: that of its first product, below logs/."""
    product = PurePath((job.outputs + job.temporary)[0]).relative_to(results)
    return f"{results}/logs/{product.with_suffix('.log')}"


def to_do(all_jobs: list[Job], exists: Callable[[str], bool] = os.path.exists) -> list[Job]:
    """The jobs of which a product is missing, those that follow from them, and those that make again what these need and
    what is no longer there. What else is out of date, by an option or a changed frame, only Snakemake's records tell."""
    fleeting = {path for job in all_jobs for path in job.temporary}
    gone = {path for path in fleeting if not exists(path)}
    waiting: set[int] = set()
    new: set[str] = set()
    wanted: set[str] = set()
    while True:
        before = len(waiting)
        for number, job in enumerate(all_jobs):
            if number not in waiting and (not new.isdisjoint(job.needs) or not all(map(exists, job.outputs))):
                waiting.add(number)
                new.update(job.outputs, job.temporary)
        for number in range(len(all_jobs) - 1, -1, -1):
            job = all_jobs[number]
            if number in waiting or not wanted.isdisjoint(job.temporary):
                waiting.add(number)
                wanted |= gone.intersection(job.needs)
                new.update(job.outputs, job.temporary)
        if len(waiting) == before:
            return [all_jobs[number] for number in sorted(waiting)]


# --- Job by job -----------------------------------------------------------------------------------------------------
def _some(*paths: str | None) -> tuple[str, ...]:
    return tuple(path for path in paths if path)


def _catalogues(night: Night) -> list[Job]:
    paths = {target: night.catalogue(target) for target in night.plan.targets}
    return [Job("catalogue", (path,), images=0, target=target) for target, path in paths.items() if path]


def _masters(night: Night) -> list[Job]:
    """Masters after those that they are reduced with; what is measured of detectors before all of them."""
    masters = night.plan.used_masters()
    needs = {master.path: night.inputs_of_master(master) for master in masters}
    of_lights = _each(night, lambda row: night.inputs_of(row).get("detector"))
    measured = {path for path in (*of_lights, *(inputs.get("detector") for inputs in needs.values())) if path}
    places = {(row.night, row.camera): row for row in night.plan.lights.values()}
    places |= {(master.first.night, master.first.camera): master.first for master in masters if not master.ready}
    own, said = [], []
    for place, row in sorted(places.items(), key=lambda item: item[0]):
        if path := night.detector(place):
            own.append(Job("detector", (path,), row=row, images=sum(map(len, night.detector_frames(*place)))))
    for path in sorted(path for path in measured if "/masters/library/" in path):
        said.append(Job("ready_detector", (path,), (path.replace("_detector.csv", ".fits"),)))
    order = {"bias": 0, "dark": 1, "flatdark": 1, "flat": 2}
    made = []
    for master in sorted(masters, key=lambda master: order[master.kind]):
        rule = "ready_master" if master.ready else f"master_{'dark' if 'dark' in master.kind else master.kind}"
        path = f"{night.results}/{master.path}"
        made.append(Job(rule, (path,), _some(*needs[master.path].values()), row=master.first, images=len(master.rows)))
    ready = [job for job in made if job.rule == "ready_master"]
    return own + ready + said + [job for job in made if job.rule != "ready_master"]


def _each(night: Night, value: Callable) -> set:
    return {value(row) for row in night.plan.lights.values()}


def _lights(night: Night) -> list[Job]:
    out = []
    for row in night.plan.lights.values():
        frame, table, record = night.light(row), night.light(row, "ecsv"), night.attempts(row)
        catalogue = night.catalogue(row.target)
        needs = _some(*night.inputs_of(row).values(), catalogue)
        stays = night.keeps("lights")
        outputs, temporary = ((frame, table, record), ()) if stays else ((record,), (frame, table))
        out.append(Job("light", outputs, needs, temporary, row))
        if night.asks_nova:
            out.append(Job("nova", (night.nova(row),), _some(catalogue, frame, table), images=0))
    return out


def _grids(night: Night) -> list[Job]:
    """Grids, fringes and, where they are kept, aligned frames."""
    out = []
    for target in night.plan.targets:
        rows = night.grid_rows(target)
        out.append(Job("grid", (night.grid(target),), _of_lights(night, rows, sources=False), images=0))
    patterns = {night.fringe(row): row for row in night.plan.lights.values()}
    for path, row in sorted((path, row) for path, row in patterns.items() if path):
        rows = night.fringe_rows(row.night, row.camera, row.filter)
        needs = tuple(path for one in rows for path in (night.light(one), night.light(one, "ecsv")))
        out.append(Job("fringe", (path,), needs, row=row, images=len(rows)))
    if night.keeps("aligned"):
        for row in night.plan.lights.values():
            needs = (*_of_lights(night, [row]), *_some(night.fringe(row)), night.grid(row.target))
            out.append(Job("align", (night.aligned(row),), needs, row=row, target=row.target))
    return out


def _of_lights(night: Night, rows: Iterable, sources: bool = True) -> tuple[str, ...]:
    """What is made of lights before they are aligned."""
    paths = [night.light(row) for row in rows]
    paths += [night.light(row, "ecsv") for row in rows] if sources else []
    return tuple(paths + ([night.nova(row) for row in rows] if night.asks_nova else []))


def _stacks(night: Night) -> list[Job]:
    out = []
    for (target, name), rows in night.plan.stacks.items():
        if night.keeps("aligned"):
            frames = tuple(map(night.aligned, rows))
        else:
            frames = (*_of_lights(night, rows), *{path for path in map(night.fringe, rows) if path})
        needs = (*frames, *_some(night.catalogue(target)), night.grid(target))
        stack = night.stack(target, name)
        out.append(Job("combine", (stack,), needs, row=rows[0], images=len(rows), target=target))
        paths = tuple(f"{night.results}/pictures/{target}/{name}.{suffix}" for suffix in ("png", "tiff"))
        out.append(Job("preview", paths, (stack,), row=rows[0], target=target))
    for target, names in night.plan.targets.items():
        needs = (*(night.stack(target, name) for name in names), *_some(night.catalogue(target)))
        paths = tuple(f"{night.results}/pictures/{target}{end}" for end in PICTURE)
        row = night.rows(target)[0]
        out.append(Job("picture", paths, needs, row=row, images=len(names), target=target))
    return out


def _tables(night: Night, others: list[Job]) -> list[Job]:
    """What else a run makes: a table or a page that bears the name of its rule."""
    made = {path for job in others for path in job.outputs + job.temporary}
    rows = night.plan.lights.values()
    nova = [night.nova(row) for row in rows] if night.asks_nova else []
    needs = {
        night.unsolved(): (*map(night.attempts, rows), *nova),
        night.stacks_table(): tuple(night.stack(*key) for key in night.plan.stacks),
    }
    every = tuple(path for job in others for path in job.outputs)
    rest = [path for path in night.products() if path not in made]
    return [Job(PurePath(path).stem, (path,), needs.get(path, every), images=0) for path in rest]
