"""make cluster-test: nights by way of profiles/slurm on a real Slurm of two nodes on this machine, undisturbed and with faults.

    PYTHONPATH=scripts:tests python tests/cluster.py FOLDER [NAME ...]

A small night is reduced here without Slurm, then copied for each fault, with some of its products taken away, so that Slurm
has to make them again while something goes wrong. After each, every product must be what it was, to the byte. The table at
the end says what was seen. Nothing outside the folder is written; a disk of few megabytes is mounted in it where permitted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from alike import differences
from conftest import PROJECT, make_small_night, reduced
from disturbance import Skip, Wrong, enlarge, small_disk
from slurm import Missing, Slurm, end_in_order

LIMIT = 600  # seconds after which a run is killed
# What a test cannot wait for, in place of the profile's: all two cores of a node, and questions to Slurm each few seconds.
QUICK = (
    "--cores 2 --latency-wait 5 --slurm-init-seconds-before-status-checks 9 --max-status-checks-per-second 2".split()
)

RUNS: list[subprocess.Popen] = []  # all that were begun


@dataclass
class Work:
    """A working folder in which Snakemake runs by way of Slurm."""

    folder: Path
    slurm: Slurm
    code: Path

    def start(self, *arguments) -> subprocess.Popen:
        """A run in a session of its own, killed after LIMIT; what it shows goes to the file `shown`."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", self.code / "Snakefile"]
        command += ["--workflow-profile", "slurm", *QUICK, *arguments]
        with open(self.folder / "shown", "ab") as shown:
            run = subprocess.Popen(
                list(map(str, command)),
                cwd=self.folder, env=self.slurm.environment, stdin=subprocess.DEVNULL, stdout=shown, stderr=shown,
                start_new_session=True,
            )  # fmt: skip
        RUNS.append(run)
        threading.Thread(target=killed_after, args=(run, LIMIT), daemon=True).start()
        return run

    def run(self, *arguments) -> int:
        """The same to its end; its exit code."""
        return self.start(*arguments).wait()

    @property
    def shown(self) -> str:
        return (self.folder / "shown").read_text(errors="replace")

    def without(self, *parts: str) -> Work:
        """Take products away, by patterns of their folders."""
        for part in parts:
            for path in sorted((self.folder / "results").glob(part)):
                shutil.rmtree(path)
        return self

    def submissions(self) -> int:
        """sbatch calls of all runs in this folder."""
        logs = (self.folder / ".snakemake" / "log").glob("*.log")
        return sum(path.read_text().count("has been submitted with SLURM jobid") for path in logs)


def killed_after(run: subprocess.Popen, seconds: float) -> None:
    """The outer limit of a run."""
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)


@contextlib.contextmanager
def none_left():
    """Ends what was begun and still runs, when this program is stopped."""
    try:
        yield
    finally:
        for run in RUNS:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


@dataclass
class Bench:
    """What the faults work with."""

    folder: Path
    slurm: Slurm
    night: object

    def work(self, name: str) -> Work:
        """A copy of the reduced night."""
        folder = self.folder / name
        folder.mkdir()
        return Work(self.night.copy(folder), self.slurm, folder / "code")

    def jobs(self, work: Work, states: str = "RUNNING") -> list[tuple[str, str]]:
        """(job, node) of a folder's jobs in the queue; "" for the node of one that waits."""
        text = self.slurm.run("squeue", "-h", "-t", states, "-o", "%A|%N|%Z", check=False)
        rows = [line.split("|") for line in text.splitlines()]
        return [(row[0], row[1]) for row in rows if len(row) == 3 and row[2] == str(work.folder)]

    def running(self, work: Work, run: subprocess.Popen) -> list[tuple[str, str]]:
        """(job, node) of its jobs at work, as soon as there is one."""
        while run.poll() is None:
            if jobs := self.jobs(work):
                return jobs
            time.sleep(0.2)
        raise Wrong("the run ended before a job was at work")

    def no_delay(self, job: str, run: subprocess.Popen) -> None:
        """Let Slurm begin a job anew at once that it put back into its queue, for which it takes two minutes by itself."""
        while (
            run.poll() is None
            and self.slurm.run("squeue", "-h", "-j", job, "-o", "%T", check=False).strip() != "PENDING"
        ):
            time.sleep(0.5)
        self.slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)

    def clear(self, work: Work) -> None:
        """Take out of the queue what a fault left in it."""
        for job, _ in self.jobs(work, "RUNNING,PENDING"):
            self.slurm.run("scancel", job, check=False)

    def accounts(self, work: Work, *columns: str) -> list[list[str]]:
        """A row per job of a folder as sacct has it: its number, these columns."""
        text = self.slurm.run("sacct", "-n", "-P", "-S", "now-1days", "-o", ",".join(["JobID", *columns, "WorkDir"]))
        rows = [line.split("|") for line in text.splitlines()]
        return [row[:-1] for row in rows if "." not in row[0] and row[-1] == str(work.folder)]


# --- What may go wrong. Each begins a run, disturbs it, brings it to its end, and tells what was seen.


def memory(bench: Bench, work: Work) -> str:
    """a job over its memory"""
    work.without("stacks")
    little = "combine:mem_mb=100 if attempt == 1 else 1000"
    expect(work.run("--set-resources", little) == 0, work)
    rows = bench.accounts(work, "ReqMem", "State")
    expect({"100M", "1000M"} <= {row[1] for row in rows}, work, rows)
    expect("exceeded memory limit" in work.shown and "tried again, with more memory" in work.shown, work)
    return "killed by Slurm at 100 MB; second attempt with 1000 MB"


def cancelled(bench: Bench, work: Work) -> str:
    """scancel of a job"""
    run = work.without("aligned/*/R").start()
    job, _ = bench.running(work, run)[0]
    bench.slurm.run("scancel", job)
    expect(run.wait() == 0, work)
    expect("tried again" in work.shown, work)
    return "the job was submitted once more"


def node(bench: Bench, work: Work) -> str:
    """a node dies with its jobs"""
    run = work.without("aligned/*/R").start()
    job, name = bench.running(work, run)[0]
    time.sleep(2)
    bench.slurm.crash(name)
    try:
        bench.no_delay(job, run)
        expect(run.wait() == 0, work)
    finally:
        bench.slurm.start_node(name)
        bench.slurm.wait_for_nodes()
    rows = bench.accounts(work, "State")
    states = ", ".join(sorted({row[1].lower() for row in rows if row[0] == job}))
    return f"Slurm put its job back into the queue: {states} on the other node"


def controller(bench: Bench, work: Work) -> str:
    """the controller stopped, started"""
    run = work.without("aligned/*/R").start()
    bench.running(work, run)
    bench.slurm.end("slurmctld")
    time.sleep(15)
    bench.slurm.start_controller()
    expect(run.wait() == 0, work)
    return "15 s without it; the run went on by itself"


def interrupt(bench: Bench, work: Work) -> str:
    """Ctrl-C"""
    run = work.without("aligned/*/R").start()
    bench.running(work, run)
    os.killpg(run.pid, signal.SIGINT)
    expect(run.wait() != 0, work)
    expect("say the same again to go on" in work.shown, work)
    end = time.monotonic() + 15
    while left := bench.jobs(work, "RUNNING,PENDING"):
        expect(time.monotonic() < end, work, left)
        time.sleep(0.3)
    expect(work.run() == 0, work)
    return "jobs gone from the queue; a second run finished"


def killed(bench: Bench, work: Work) -> str:
    """kill -9 of Snakemake"""
    run = work.without("aligned/*/R").start()
    bench.running(work, run)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    expect(work.run() == 1 and "--unlock" in work.shown, work)
    expect(work.run("--unlock") == 0 and work.run() == 0, work)
    return "locked, and says so; after --unlock a run finished"


def disk(bench: Bench, work: Work) -> str:
    """a full disk of the results"""
    products = work.without("aligned/*/R", "stacks").folder / "results"
    kept = products.rename(work.folder / "whole")
    products.mkdir()
    size = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file()) // 1000 + 3000
    with small_disk(products, size):
        shutil.copytree(kept, products, dirs_exist_ok=True)
        expect(work.run("--retries", 0) != 0 and "no space left on the disk" in work.shown, work)
        enlarge(products)
        expect(work.run() == 0, work)
        shutil.rmtree(kept)
        shutil.copytree(products, kept)
    products.rmdir()
    kept.rename(products)
    return "said so; with room made a second run finished"


def scratch(bench: Bench, work: Work) -> str:
    """a full scratch disk of the nodes"""
    place = work.without("stacks").folder / "scratch"
    place.mkdir()
    spilling = ["--set-resources", "combine:pile_mb=1", "--default-resources", f"tmpdir='{place}'", "mem_mb=500"]
    with small_disk(place, 1000):
        expect(work.run("--retries", 0, *spilling) != 0 and "no space left" in work.shown, work)
        enlarge(place)
        expect(work.run(*spilling) == 0, work)
    return "said so; with room made a second run finished"


def demo(bench: Bench, work: Work) -> str:
    """the demo night, no fault"""
    tests, raw = PROJECT / "tests", work.folder / "demo" / "raw"
    simulate = [sys.executable, tests / "simulated_night.py", raw, "--truth", raw.parent / "truth", "--no-images"]
    subprocess.run(simulate, check=True, stdout=subprocess.DEVNULL)
    places = [f"raw={raw}", "results=results", f"catalogue={tests}/data/double_cluster.ecsv"]
    # Without the other target's light: nothing solves it until the time is up, and how far that got differs from run to run.
    places.append("select={targets: [NGC869]}")
    configured = ["--configfile", tests / "demo.yaml", "--config", *places]
    local, remote = raw.parent / "local", raw.parent / "remote"
    local.mkdir(), remote.mkdir()
    begun, used = time.time(), children()
    reduced(local, *configured, "--cores", 2, code=work.code)
    seconds, used = time.time() - begun, children() - used
    begun, work = time.time(), Work(remote, work.slurm, work.code)
    expect(work.run(*configured) == 0, work)
    took = time.time() - begun
    rows = bench.accounts(work, "TotalCPU", "ReqMem", "Timelimit")
    cpu = sum(seconds_of(row[1]) for row in rows)
    if low := [row for row in rows if megabytes(row[2]) < 300 or not row[3][0].isdigit()]:
        raise Wrong(f"a job asked for too little memory, or for no time: {low[0]}")
    if differ := differences(local / "results", remote / "results"):
        raise Wrong(f"other products than without Slurm: {', '.join(differ[:3])}")
    return (
        f"{work.submissions()} submissions, {took:.0f} s and {cpu:.0f} s of CPU; "
        f"here without Slurm {seconds:.0f} s and {used:.0f} s of CPU"
    )


# Those that disturb Slurm itself, or count seconds, are alone; of the others two rows go on at a time, since they mostly wait.
ALONE: list[Callable] = [demo, node, controller]
BESIDE: list[list[Callable]] = [[memory, cancelled, interrupt], [killed, disk, scratch]]
FAULTS = [*ALONE, *(fault for row in BESIDE for fault in row)]


def expect(true: bool, work: Work, what: object = "") -> None:
    """Wrong, with the last that was shown, unless it is true."""
    if not true:
        raise Wrong(f"{what} {work.shown.strip()[-1500:]}".strip())


def children() -> float:
    """CPU seconds of the processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def megabytes(text: str) -> float:
    """A memory as sacct tells it."""
    return float(text.rstrip("MGKTcn")) * {"K": 1e-3, "M": 1, "G": 1e3}.get(text.rstrip("cn")[-1], 1)


def seconds_of(text: str) -> float:
    """A time as sacct tells it: [days-][hours:]minutes:seconds."""
    days, _, rest = text.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = 60 * total + float(part)
    return total + 86400 * float(days or 0)


def tried(bench: Bench, fault: Callable) -> tuple:
    """A line of the table: the fault, what was seen, seconds, whether the products are the same; and whether it passed
    (None: skipped)."""
    begun, work = time.monotonic(), bench.work(fault.__name__)
    seen, products, passed = _tried(bench, fault, work)
    bench.clear(work)
    seconds = f"{time.monotonic() - begun:.0f}"
    print(f"{fault.__doc__}: {seen} ({seconds} s, products {products})", flush=True)
    return fault.__doc__, seen, seconds, products, passed


def _tried(bench: Bench, fault: Callable, work: Work) -> tuple[str, str, bool | None]:
    try:
        seen = fault(bench, work)
    except Skip as reason:
        return f"skipped: {reason}", "-", None
    except Exception as error:
        print(f"--- {fault.__doc__}: {type(error).__name__}: {error}\n", file=sys.stderr)
        return f"{type(error).__name__}: {str(error).splitlines()[0][:60]}", "?", False
    differ = differences(bench.night.folder / "results", work.folder / "results")
    if differ:
        print(f"--- {fault.__doc__}: not the same: {', '.join(differ)}\n", file=sys.stderr)
    return seen, f"{len(differ)} differ" if differ else "identical", not differ


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new one")
    parser.add_argument("only", nargs="*", metavar="NAME", help=", ".join(one.__name__ for one in FAULTS))
    given = parser.parse_args()
    end_in_order()
    folder = given.folder.resolve()
    try:
        slurm = Slurm(folder / "slurm")
    except Missing as missing:
        print(f"The cluster test is skipped: {missing}.")
        return 0
    for name in ("night", "spare", "truth"):
        (folder / name).mkdir(parents=True)
    night = make_small_night(*(folder / name for name in ("night", "spare", "truth")))
    with slurm, none_left(), ThreadPoolExecutor(len(BESIDE)) as pool:
        bench = Bench(folder, slurm, night)

        def each(faults):
            return [tried(bench, fault) for fault in faults if not given.only or fault.__name__ in given.only]

        rows = each(ALONE) + [one for some in pool.map(each, BESIDE) for one in some]
    print("\n| fault | what was seen | s | products |\n| --- | --- | --- | --- |")
    print(*(f"| {' | '.join(row[:4])} |" for row in rows), sep="\n")
    failed = sum(row[4] is False for row in rows)
    if failed:
        print(f"\nThe folders are left to be looked at: {folder}")
    print(f"{sum(row[4] is True for row in rows)} passed, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
