"""firstlight beside other programs on one simulated night, each from raw frames to a stack per filter.

    PYTHONPATH=scripts python tests/benchmark.py FOLDER [--size 2048] [--lights 8] [--only full,siril] ...

FOLDER gets the night, which is kept for the next time, and table.md, table.csv, stages.csv, pieces.csv. `programs` says how
each is run, `meter` what is measured, `fidelity` what a stack is worth, `stages` what start-up is, `pieces` how single
functions are compared.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import datetime
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pieces
import programs
import simulated_night as sim
import stages
from programs import PROGRAMS, Night, Row

PEERS = ("siril", "seiza", "ccdproc")
LIBRARIES = (
    "snakemake",
    "numpy",
    "astropy",
    "opencv-python-headless",
    "sep",
    "seiza",
    "ccdproc",
    "reproject",
    "astroscrappy",
)


# ---- Tables ----------------------------------------------------------------------------------------------------------


def rows_table(rows: list[Row]) -> list[dict]:
    """One mapping per program, numbers as they are; of firstlight also its ratios to each peer that there is."""
    peers = {row.key: row.cost for row in rows if row.key in PEERS and not row.note}
    table = []
    for row in rows:
        line = {"program": row.program, "does": row.does, "note": row.note}
        if not row.note:
            line |= {"wall": row.cost.wall, "cpu": row.cost.cpu, "peak": row.cost.peak, "written": row.cost.written}
            line |= row.worth
        if not row.note and row.key not in PEERS:
            for key, cost in peers.items():
                line |= {f"wall/{key}": row.cost.wall / cost.wall, f"cpu/{key}": row.cost.cpu / cost.cpu}
        table.append(line)
    return table


COLUMNS = {
    "program": "program",
    "does": "does",
    "wall": "wall [s]",
    "cpu": "CPU [s]",
    "peak": "memory [MB]",
    "written": "written [MB]",
    "noise": "sky noise [e-]",
    "scatter": "scatter of flux [%]",
    "fwhm": "FWHM [pix]",
}
DIGITS = {"wall": 1, "cpu": 1, "peak": 0, "written": 0, "noise": 3, "scatter": 2, "fwhm": 2}


def programs_text(rows: list[Row]) -> list[str]:
    """The table of programs in Markdown; ratios as wall / CPU over that of the peer."""
    table = rows_table(rows)
    peers = [key for key in PEERS if any(f"wall/{key}" in line for line in table)]
    names = {key: PROGRAMS[key][1] for key in peers}
    lines = _head([*COLUMNS.values(), *(f"over {names[key]}" for key in peers)])
    for line in table:
        cells = [_number(line.get(key), DIGITS.get(key)) for key in COLUMNS]
        cells[1] = line["note"] or line["does"]
        for key in peers:
            ratios = [line.get(f"{what}/{key}") for what in ("wall", "cpu")]
            cells.append("-" if ratios[0] is None else "{:.2g} / {:.2g}".format(*ratios))
        lines.append(_row(cells))
    return lines


def stages_text(row: Row, lights: int) -> list[str]:
    """Where the CPU of a run of firstlight went, in Markdown."""
    share, each = stages.start_up(row.stages, lights)
    lines = [f"### {row.program}, rule by rule", ""]
    lines += [f"Start-up {share:.0%} of CPU, {each:.2f} CPU-seconds per light.", ""]
    lines += _head(["rule", "jobs", "wall [s]", "CPU [s]", "of which start-up [s]", "CPU [s] of a job", "start-up"])
    for one in row.stages:
        cells = [one.rule, str(one.jobs), f"{one.wall:.1f}", f"{one.cpu:.1f}", f"{one.start:.1f}"]
        lines.append(_row([*cells, f"{one.cpu / one.jobs:.2f}", f"{one.start / one.cpu:.0%}"]))
    return lines


def pieces_text(found: list[pieces.Piece]) -> list[str]:
    """Single functions beside those of others, in Markdown."""
    lines = _head(["piece", "firstlight, CPU [s]", "beside", "CPU [s]", "times faster", "same values"])
    for one in found:
        ratio = "-" if one.theirs is None else f"{one.theirs / one.ours:.1f}"
        lines.append(_row([one.name, f"{one.ours:.3f}", one.beside, _number(one.theirs, 3), ratio, one.same]))
    return lines


def bars(rows: list[Row], found: list[pieces.Piece], lights: int) -> list[tuple[str, float, float]]:
    """What firstlight holds itself to: (what, value, at most), of what was run."""
    lines = {row.key: line for row, line in zip(rows, rows_table(rows), strict=True)}
    wanted = [("like", "siril", 1.0), ("full", "siril", 2.5), ("full", "ccdproc", 0.2)]
    told = [
        (f"wall of {key} over that of {PROGRAMS[peer][1]}", lines[key][f"wall/{peer}"], most)
        for key, peer, most in wanted
        if f"wall/{peer}" in lines.get(key, {})
    ]
    for row in rows:
        if row.stages and not row.note:
            share, each = stages.start_up(row.stages, lights)
            told += [(f"start-up of {row.key}, share of CPU", share, 0.30)]
            told += [(f"start-up of {row.key} per light, CPU-seconds", each, 0.60)]
    told += [
        (f"CPU of {one.name}, over {one.beside}", one.ours / one.theirs, one.bar)
        for one in found
        if one.bar and one.theirs
    ]
    return told


def bars_text(told: list[tuple[str, float, float]]) -> list[str]:
    """The bars in Markdown."""
    lines = _head(["bar", "is", "at most", "held"])
    return lines + [
        _row([what, f"{is_:.2f}", f"{most:g}", "yes" if is_ <= most else "**no**"]) for what, is_, most in told
    ]


def _head(names: list[str]) -> list[str]:
    return [_row(names), "|" + " --- |" * len(names)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value, digits: int | None) -> str:
    if value is None or value != value:
        return "-"
    return str(value) if digits is None else f"{value:.{digits}f}"


# ---- Machine and versions --------------------------------------------------------------------------------------------


def machine() -> str:
    """Processor, cores, memory and versions, in a sentence each."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = [f"{name} {_version(name)}" for name in LIBRARIES]
    return (
        f"{_processor()}, {cores} cores, {memory:.0f} GB, {platform.system()} {platform.release()}. "
        f"Python {platform.python_version()}, {', '.join(told)}, {_siril_version()}."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _siril_version() -> str:
    program = shutil.which("siril-cli")
    if program is None:
        return "Siril not installed"
    words = subprocess.run([program, "--version"], capture_output=True, text=True, errors="replace").stdout.split()
    return f"Siril {words[-1]}" if words else "Siril"


# ---- The run ---------------------------------------------------------------------------------------------------------


def arguments(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the night, what is made of it, and the tables")
    parser.add_argument("--size", type=int, default=2048, help="pixels along a side")
    parser.add_argument("--lights", type=int, default=8, help="per filter")
    parser.add_argument("--bias", type=int, default=15, help="bias frames")
    parser.add_argument("--flats", type=int, default=8, help="per filter")
    parser.add_argument("--filters", default="R,V,B", help="of the night")
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs that run")
    parser.add_argument("--no-pieces", action="store_true", help="leave out the comparison of single functions")
    parser.add_argument("--keep", action="store_true", help="leave what the programs made")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    """Make the night, run the programs, write and print the tables."""
    asked = arguments(words)
    filters = sim.filters_named(asked.filters)
    numbers = {"size": asked.size, "lights": asked.lights, "bias": asked.bias, "flats": asked.flats}
    parameters = sim.Night(**numbers, filters=filters, darks=0, cloud=0, starless=0, other_target=0)
    night = Night(asked.folder.resolve(), parameters)
    night.folder.mkdir(parents=True, exist_ok=True)
    tell("the night", parameters.size)
    try:
        night.make()
    except ValueError as error:
        raise SystemExit(f"benchmark: {error}") from None
    rows = []
    for key in asked.only.split(","):
        tell(PROGRAMS[key][1], f"{os.getloadavg()[0]:.1f} processes busy before")
        rows.append(programs.reduce(key, night, asked.keep))
    if not asked.no_pieces:
        tell("single functions")
    found = [] if asked.no_pieces else pieces.compare(night.raw, night.truth)
    text = report(night, rows, found)
    (night.folder / "table.md").write_text(text)
    _csv(night.folder / "table.csv", rows_table(rows))
    _csv(night.folder / "pieces.csv", [dataclasses.asdict(one) for one in found])
    _csv(
        night.folder / "stages.csv", [{"run": row.key} | dataclasses.asdict(one) for row in rows for one in row.stages]
    )
    print(text)


def report(night: Night, rows: list[Row], found: list[pieces.Piece]) -> str:
    """All tables in Markdown, with the machine and the night named."""
    asked = night.parameters
    parts = [["# firstlight beside other programs"]]
    parts += [
        [
            f"{asked.bias} bias, {asked.flats} flats and {asked.lights} lights in each of {', '.join(night.filters)}, "
            f"{asked.size}x{asked.size} pixels. {datetime.date.today()}, {machine()}"
        ],
        programs_text(rows),
    ]
    parts += [stages_text(row, night.lights) for row in rows if row.stages and not row.note]
    parts += [["### Single functions"], pieces_text(found)] if found else []
    told = bars(rows, found, night.lights)
    parts += [["### Bars"], bars_text(told)] if told else []
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _csv(path: Path, lines: list[dict]) -> None:
    names = list(dict.fromkeys(name for line in lines for name in line))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(lines)


def tell(*words) -> None:
    """Say on the terminal what runs."""
    print("benchmark:", *words, flush=True)


if __name__ == "__main__":
    main()
