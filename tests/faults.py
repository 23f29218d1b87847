"""make faults: a night that is disturbed in every way that the world has, and what comes of it.

    PYTHONPATH=scripts:tests python tests/faults.py FOLDER [NAME ...] [--kills N]

A small night is reduced undisturbed. Then it is begun anew for each fault, something goes wrong while it runs, and the same is
said again, with what the message on the terminal asks for and nothing else. Every product must be what it was, to the byte.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alike import differences, products
from astropy.io import fits
from conftest import SmallNight, make_small_night, snakemake
from disturbance import Skip, Wrong, enlarge, small_disk

TRACES = ("Traceback (most recent call last)", 'File "', "Error in rule")
LIMIT = 600  # s
LITTLE = 330e6  # bytes of address space: a job finds no room for its arrays, Python itself does


@dataclass
class Work:
    """A working folder in which nothing is made yet."""

    folder: Path
    night: SmallNight

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def start(self, *arguments, before: Callable | None = None) -> subprocess.Popen:
        """A run in a session of its own."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", self.folder / "code" / "Snakefile", *arguments]
        with open(self.folder / "shown", "ab") as shown:
            return subprocess.Popen(
                list(map(str, command)), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=shown, stderr=shown,
                start_new_session=True, preexec_fn=before,
            )  # fmt: skip

    def run(self, *arguments, **options) -> int:
        """The same to its end; its exit code."""
        run = self.start(*arguments, **options)
        try:
            return run.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            raise Wrong(f"not done after {LIMIT} s: {self.shown[-500:]}") from None

    def again(self) -> None:
        """The same is said again until it is done: at most once more with what the message asks for."""
        said = len(self.shown)
        code = self.run()
        if code and "--unlock" in self.shown[said:]:
            expect(self.run("--unlock") == 0, self)
            code = self.run()
        expect(code == 0, self)

    @property
    def shown(self) -> str:
        path = self.folder / "shown"
        return path.read_text(errors="replace") if path.exists() else ""

    def until(self, pattern: str, run: subprocess.Popen) -> Path:
        """The first file among the results that a pattern fits, as soon as it is there."""
        while run.poll() is None:
            for path in self.results.glob(pattern):
                return path
            time.sleep(0.01)
        raise Wrong(f"the run ended before there was {pattern}: {self.shown[-500:]}")

    def light(self) -> Path:
        """A raw light that the grid does not depend on."""
        head = fits.getheader(next(self.night.folder.glob("results/aligned/*/grid.fits")))
        return next(path for path in sorted(self.folder.glob("raw/Light_R_*.fits")) if path.stem not in head["GRIDREF"])


def expect(true: bool, work: Work, what: object = "") -> None:
    """Wrong, with the last that was shown, unless it is true."""
    if not true:
        raise Wrong(f"{what} {work.shown.strip()[-1500:]}".strip())


# --- What may go wrong. Each tells what was seen; `killed` happens as often as is asked for.


def killed(work: Work, seconds: float = 0.0) -> str:
    """kill -9 of all processes"""
    run = work.start()
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    there = len(products(work.results)) if work.results.exists() else 0
    work.again()
    return f"after {seconds:.1f} s, {there} files there"


def two_runs(work: Work) -> str:
    """a second run in the same folder"""
    run = work.start()
    work.until("masters/*/*/*.fits", run)
    said = len(work.shown)
    expect(work.run() != 0 and "lock" in work.shown[said:], work)
    expect(run.wait(LIMIT) == 0, work)
    return "it says that the folder is locked; the first finished"


def disk(work: Work) -> str:
    """a full disk"""
    with small_disk(work.results, 9000):
        expect(work.run() != 0 and "no space left on the disk" in work.shown, work)
        enlarge(work.results)
        work.again()
        kept = shutil.copytree(work.results, work.folder / "kept")
    work.results.rmdir()
    kept.rename(work.results)
    return "said so; with room the same again finished"


def memory(work: Work) -> str:
    """no memory"""
    expect(work.run(before=lambda: resource.setrlimit(resource.RLIMIT_AS, (int(LITTLE),) * 2)) != 0, work)
    expect("memory" in work.shown, work)
    work.again()
    return "said so; with memory the same again finished"


def raw_removed(work: Work) -> str:
    """a raw frame gone while running"""
    light = work.light()
    run = work.start()
    work.until("masters/*/*/bias.fits", run)
    light.rename(work.folder / light.name)
    run.wait(LIMIT)
    expect(work.run() == 0, work)  # the night without it
    expect(not list(work.results.glob(f"lights/**/{light.stem}*.fits")) or "nothing asks for" in work.shown, work)
    (work.folder / light.name).rename(light)
    work.again()
    return "left out; back again it counts"


def raw_changed(work: Work) -> str:
    """a raw frame changed while running"""
    light = work.light()
    whole = light.read_bytes()
    run = work.start()
    work.until("masters/*/*/bias.fits", run)
    other = bytearray(whole)
    other[-20000:-10000] = bytes(10000)
    light.write_bytes(other)
    run.wait(LIMIT)
    work.again()
    changed = products(work.results)
    light.write_bytes(whole)
    work.again()
    expect(products(work.results) != changed, work, "the changed frame made no difference")
    expect(work.run("tidy") == 0, work)  # the products of what it was meanwhile
    return "the run after it makes what depends on it anew"


def clock(work: Work) -> str:
    """a clock that goes back"""
    run = work.start()
    work.until("masters/*/*/flat_R.fits", run)
    os.killpg(run.pid, signal.SIGINT)
    run.wait(LIMIT)
    late = time.time() + 86400
    for path in work.results.rglob("*.fits"):
        os.utime(path, (late, late))
    expect(work.run() != 0 and "The clock has gone back" in work.shown, work)
    work.again()
    said = len(work.shown)
    expect(work.run() == 0 and "Nothing to be done" in work.shown[said:], work)
    return "products of tomorrow; finished, and nothing to do after it"


def edited(work: Work) -> str:
    """a product cut short by hand"""
    expect(work.run() == 0, work)
    for path in (next(work.results.glob("lights/*/*/R/*.fits")), next(work.results.glob("aligned/*/R/Light*.fits"))):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        expect(work.run() != 0 and "is damaged" in work.shown, work)
        path.unlink()
        work.again()
    return "named; removed, as the message says, it is made again"


FAULTS = (two_runs, disk, memory, raw_removed, raw_changed, clock, edited)


def tried(night: SmallNight, folder: Path, fault: Callable, *arguments) -> tuple[str, bool | None]:
    """What was seen of a fault, and whether it passed (None: skipped); its folder is removed if it did."""
    work = Work(night.copy_inputs(folder), night)
    try:
        seen = fault(work, *arguments)
        if traces := [trace for trace in TRACES if trace in work.shown]:
            raise Wrong(f"a traceback on the terminal ({traces[0]}): {work.shown[-3000:]}")
        if differ := differences(night.folder / "results", work.results):
            raise Wrong(f"not the same: {', '.join(differ[:5])}")
        expect(not snakemake(folder, "--dry-run", code=folder / "code").jobs, work, "there is more to do")
    except Skip as reason:
        return f"skipped: {reason}", None
    except Wrong as error:
        print(f"--- {fault.__doc__}, in {folder}: {error}\n", file=sys.stderr)
        return f"wrong: {str(error).splitlines()[0][:100]}", False
    shutil.rmtree(folder)
    return seen, True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new one")
    parser.add_argument("only", nargs="*", metavar="NAME", help=", ".join(one.__name__ for one in (killed, *FAULTS)))
    parser.add_argument("--kills", type=int, default=30, help="how often all is killed, at moments spread over a run")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder, rng = given.folder.resolve(), random.Random(given.seed)
    parts = [folder / name for name in ("night", "spare", "truth")]
    for part in parts:
        part.mkdir(parents=True)
    begun = time.monotonic()
    night = make_small_night(*parts)
    whole = time.monotonic() - begun
    moments = sorted(rng.uniform(0.5, whole) for _ in range(given.kills))
    todo = [(killed, moment) for moment in moments] + [(fault,) for fault in FAULTS]
    rows = []
    for number, (fault, *arguments) in enumerate(todo):
        if not given.only or fault.__name__ in given.only:
            rows.append((fault.__doc__, *tried(night, folder / f"{number}_{fault.__name__}", fault, *arguments)))
            print(": ".join(map(str, rows[-1][:2])), flush=True)
    print("\n| fault | tried | the same products after it | what was seen |\n| --- | --- | --- | --- |")
    for name in dict.fromkeys(row[0] for row in rows):
        seen = [row for row in rows if row[0] == name]
        print(f"| {name} | {len(seen)} | {sum(row[2] is True for row in seen)} | {seen[-1][1]} |")
    return min(sum(row[2] is False for row in rows), 1)


if __name__ == "__main__":
    sys.exit(main())
