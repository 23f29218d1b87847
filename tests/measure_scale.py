"""How a run grows with the number of frames: planning, nothing to do, one frame more, one less, in time and memory.

    python tests/measure_scale.py 300 1000 10000
    python tests/measure_scale.py 50000 --only most      # or plan

makes nights of tiny frames with the headers of real ones, and in place of every product the mark that stands for a frame
without an image. `snakemake --touch` makes Snakemake's records of them; so all that is measured is what is not pixels. What
is printed is a Markdown table, a column for each number of frames.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import meter
import numpy as np
from astropy.io import fits
from firstlight import fields, frames, grid, products, textfile
from firstlight import io as files
from firstlight.config import complete, read_schema
from firstlight.header import Settings
from firstlight.night import Night

PROJECT = Path(__file__).parents[1]
SIZE = 32  # pixels along each side
LIGHTS = 0.8  # share of all frames
NIGHTS = 20
FILTERS = ("B", "V", "R", "Ha", "OIII")
TARGETS = {"M 31": (10.68, 41.27), "NGC 869": (34.75, 57.13), "M 45": (56.75, 24.12), "M 81": (148.89, 69.07)}
# Snakemake waits 0.1 s for each job that is touched, so that time stamps differ: they do here without.
TOUCH = "import snakemake.executors.touch as t; t.Executor.SLEEPING_TIME = 0; from snakemake.cli import main; main()"
CONFIG = "catalogue: stars.csv\n"
DETECTOR = "quantity,unit,measured,error,pairs,stated,stated_by,used,from\ngain,,,,,,,,\nread noise in adu,,,,,,,,\n"
STARS = "ra,dec,mag\n10.68,41.27,9.0\n"


@dataclass
class Event:
    """What a call of Snakemake took: seconds of wall and CPU, MB of its processes at most, seconds until the first job's
    log."""

    name: str
    wall: float
    cpu: float
    memory: float
    first: float | None = None
    text: str = field(default="", repr=False)


# --- Frames ---------------------------------------------------------------------------------------------------------
def write_frames(folder: Path, number: int) -> None:
    """Raw frames of several nights, targets and filters: four fifths lights, the rest bias frames, darks and flats."""
    lights = round(LIGHTS * number)
    nights = min(NIGHTS, max(number // 50, 1))
    for n in range(lights):
        write_light(folder, n, nights)
    kinds = ["bias"] * 3 + ["dark"] * 2 + ["flat"] * len(FILTERS)
    for n in range(number - lights):
        kind, night = kinds[n % len(kinds)], n // len(kinds) % nights
        name = FILTERS[n % len(kinds) - len(kinds)] if kind == "flat" else None
        cards = {"IMAGETYP": kind, "EXPTIME": {"bias": 0.0, "dark": 120.0, "flat": 2.0 + n % 7}[kind], "FILTER": name}
        _write(folder / f"night_{night:02d}" / f"{kind}_{n:05d}.fits", n + 1_000_000, night, n, cards)


def write_light(folder: Path, n: int, nights: int) -> None:
    """The n-th light: filters take turns within a night, and each night has a target."""
    night = n % nights
    target = list(TARGETS)[night % len(TARGETS)]
    ra, dec = TARGETS[target]
    cards = {"IMAGETYP": "light", "OBJECT": target, "FILTER": FILTERS[n // nights % len(FILTERS)], "EXPTIME": 120.0}
    cards |= {"RA": ra + n % 11 / 1000, "DEC": dec + n % 7 / 1000}
    _write(folder / f"night_{night:02d}" / f"light_{n:05d}.fits", n, night, n, cards)


def _write(path: Path, seed: int, night: int, minute: int, cards: dict) -> None:
    """A raw frame of noise, with what a camera writes beside `cards`; its temperature wanders by tenths of a degree."""
    rng = np.random.default_rng(seed)
    moment = datetime(2025, 3, 1, 19) + timedelta(days=night, seconds=7 * minute % 36000)
    header = fits.Header()
    header["DATE-OBS"] = moment.isoformat(timespec="milliseconds")
    header["CCD-TEMP"] = round(-10 + rng.normal(0, 0.1), 1)
    header.update(
        {"INSTRUME": "Simulated CCD", "TELESCOP": "Newton 200/800", "XBINNING": 1, "YBINNING": 1, "GAIN": 1.5}
    )
    header.update({"RDNOISE": 7.0, "FOCALLEN": 800.0, "XPIXSZ": 9.0, "YPIXSZ": 9.0, "SITELONG": 10.0, "SITELAT": 50.0})
    header.update(
        {"OBSERVER": "nobody", "SWCREATE": "measure_scale", "SET-TEMP": -10.0, "AIRMASS": 1.1, "GUIDER": "none"}
    )
    header.update({key: value for key, value in cards.items() if value is not None})
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(rng.integers(900, 1100, (SIZE, SIZE), dtype=np.uint16), header).writeto(path)


# --- Products -------------------------------------------------------------------------------------------------------
def the_night() -> Night:
    """What the rules look their files up in, for the working folder."""
    config = complete({"catalogue": "stars.csv", "results": "results"}, read_schema(PROJECT / "config.schema.yaml"))
    table = frames.update(config["raw"], config["results"], Settings.from_config(config))
    return Night(table.rows, config, known=fields.from_text(textfile.read("results/catalogues/fields.csv")))


def write_products(night: Night) -> None:
    """A mark in place of every product; a grid says which lights it covers, since the next run reads that."""
    files.write_dropped("mark.fits", "measure", "no pixels here")
    mark = Path("mark.fits").read_bytes()
    for path in map(Path, night.products()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mark)
        if path.suffix == ".csv":
            path.write_text(DETECTOR if path.stem == "detector" else "")
        if path.suffix == ".png":
            files.write_picture(path, np.zeros((8, 8), np.uint8))
    empty = files.table_of_texts(("name", "content", "note"), [])
    for path in night.masters_of_raw():
        files.write_dropped(path, "measure", "no pixels here", tables={"INPUTS": empty})
    for key, rows in night.plan.stacks.items():
        inputs = products.with_dropped(None, [(row.name, "measure: no pixels here") for row in rows])
        files.write_dropped(night.stack(*key), "measure", "no pixels here", tables={"INPUTS": inputs})
    for target in night.plan.targets:
        names = np.array([(row.name,) for row in night.rows(target)], [("name", "U80")])
        header = fits.getheader("mark.fits")
        header["GRIDBY"] = grid.chosen_by(night.config["grid"])
        files.write_header(night.grid(target), header, {"LIGHTS": names})


ORDER = ("plan", "most", "all")
USELESS = "No light of this night could be used"  # true of products that were only touched


# --- Events ---------------------------------------------------------------------------------------------------------
def measure(number: int, folder: Path, only: str = "all") -> list[Event]:
    """The events of a night of so many frames, in an empty working folder: all, most that differ, or the plan alone."""
    os.chdir(folder)
    Path("config.yaml").write_text(CONFIG)
    Path("stars.csv").write_text(STARS)
    write_frames(Path("raw"), number)
    events: list[Event] = []

    def see(name, *arguments, rank="most", **options):
        if ORDER.index(rank) <= ORDER.index(only):
            events.append(snakemake(name, *arguments, **options))
            print(f"{number} frames: {name}: {_cell(events[-1])}", file=sys.stderr, flush=True)

    see("first plan, frames read", "--dry-run", rank="plan")
    see("plan, nothing made", "--dry-run", rank="all")
    if only == "plan":
        return events
    write_products(the_night())
    see("records made (`--touch`)", "--touch", "--forceall")
    see("nothing to do", "--dry-run")
    see("nothing to do, run", rank="all")
    write_light(Path("raw"), round(LIGHTS * number), min(NIGHTS, max(number // 50, 1)))
    see("one light added, plan", "--dry-run", rank="all")
    see("one light added, run", watch="results/logs")
    next(Path("raw").glob("*/light_00003.fits")).unlink()
    see("one light removed, plan", "--dry-run", rank="all")
    return events


def snakemake(name: str, *arguments: str, watch: str | None = None) -> Event:
    """Run Snakemake in the working folder; `watch` names the folder of logs, of which the first new file is waited for."""
    program = ["-c", TOUCH] if "--touch" in arguments else ["-m", "snakemake"]
    command = [sys.executable, *program, "--snakefile", str(PROJECT / "Snakefile"), *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start, first = time.time(), None
    with tempfile.TemporaryFile("w+") as said:
        before = _logs()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        peak = meter.Peak(process.pid)
        while watch and first is None and process.poll() is None:
            time.sleep(0.1)
            if any(path.stat().st_mtime > start for path in Path(watch).rglob("*.log")):
                first = time.time() - start
        usage = _ended(process)
        wall = time.time() - start
        memory = peak.end() / 1e6
        said.seek(0)
        text = said.read() + "".join(path.read_text() for path in _logs() - before)
    if process.returncode and USELESS not in text:
        raise RuntimeError(f"{name}: snakemake ended with {process.returncode}:\n{text[-3000:]}")
    return Event(name, wall, usage.ru_utime + usage.ru_stime, memory, first, text)


def _ended(process):
    """What a process and those that it waited for used."""
    if process.returncode is None:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return usage
    raise RuntimeError("the run ended before a job wrote its log")


def _logs() -> set[Path]:
    """Snakemake's own logs, in which the table of jobs stands."""
    return set(Path(".snakemake/log").glob("*.log"))


def table(columns: dict[int, list[Event]]) -> str:
    """A Markdown table: a row for each event, a column for each number of frames."""
    lines = ["| | " + " | ".join(f"{number} frames" for number in columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name in dict.fromkeys(event.name for events in columns.values() for event in events):
        cells = [next((_cell(event) for event in events if event.name == name), "") for events in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(event: Event) -> str:
    first = "" if event.first is None else f", first job after {event.first:.1f} s"
    return f"{event.wall:.1f} s ({event.cpu:.1f} CPU), {event.memory:.0f} MB{first}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=int, nargs="*", default=[300, 1000, 10000], help="how many raw frames")
    parser.add_argument("--keep", type=Path, help="a folder that the working folders stay in")
    parser.add_argument("--only", choices=ORDER, default="all", help="which events: 50000 frames take an hour for all")
    given = parser.parse_args()
    columns = {}
    with tempfile.TemporaryDirectory() as spare:
        place = (given.keep or Path(spare)).resolve()
        for number in given.frames:
            folder = place / str(number)
            folder.mkdir(parents=True)
            columns[number] = measure(number, folder, given.only)
    print(table(columns))


if __name__ == "__main__":
    main()
