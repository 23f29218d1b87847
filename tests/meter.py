"""What a command costs: seconds, CPU, memory, bytes written, of its whole tree of processes.

CPU is user and system time of all processes that were waited for (`wait4`). Memory is the largest sum of the proportional
set sizes (PSS: pages that processes share count once) of the tree, looked at every 0.1 s. Bytes written are those that
went to files, also to files that are gone again (`write_bytes` of Linux, which adds up as children are waited for);
elsewhere nothing is said of them.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.1  # s, between looks at the memory


@dataclass(frozen=True)
class Cost:
    """What a command cost. `code` is its exit code, `wall` and `cpu` in s, `peak` and `written` in MB (10^6 bytes)."""

    code: int
    wall: float
    cpu: float
    peak: float
    written: float


def run(command: list, folder: Path, log: Path, environment: dict | None = None) -> Cost:
    """Run a command in a folder, its output into `log`. Raises FileNotFoundError where there is no such program.

    `environment` is added to that of this process; None takes a variable out. Python may write bytecode.
    """
    variables = os.environ | {"PYTHONDONTWRITEBYTECODE": None} | (environment or {})
    variables = {key: value for key, value in variables.items() if value is not None}
    before, start = _written(), time.perf_counter()
    with open(log, "w") as out:
        child = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        peak = Peak(child.pid)
        _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)  # what Popen would wait for has been waited for
    return Cost(child.returncode, wall, used.ru_utime + used.ru_stime, peak.end() / 1e6, (_written() - before) / 1e6)


class Peak(threading.Thread):
    """Looks at the memory of a tree of processes until `end`, which tells the largest sum in bytes."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.largest, self.done = pid, 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(EVERY):
            self.largest = max(self.largest, sum(map(_memory, [self.pid, *_below(self.pid)])))

    def end(self) -> int:
        self.done.set()
        self.join()
        return self.largest


def _below(pid: int) -> list[int]:
    """All processes that a process started, and those that they did."""
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _memory(pid: int) -> int:
    """Bytes of a process, its share of what it has in common with others (elsewhere than on Linux all that it holds)."""
    import psutil

    try:
        memory = psutil.Process(pid).memory_full_info()
        return getattr(memory, "pss", memory.rss)
    except psutil.Error:
        return 0


def _written() -> float:
    """Bytes that this process, and those that it waited for, have written to files; NaN where nothing tells."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return float("nan")
    return float(next((line.split()[1] for line in lines if line.startswith("write_bytes")), "nan"))
