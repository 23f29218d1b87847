"""What every rule's adapter shares: its log, and what happens to a frame that cannot be used."""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from contextlib import contextmanager

from . import io

_terminal = 2
_name = "job"


def tell(text: str) -> None:
    """Say something on the terminal from a job whose output goes to its log."""
    os.write(_terminal, f"{text}\n".encode())


@contextmanager
def logged(snakemake):
    """Send all that is printed, warnings and tracebacks included, to the rule's log; a failure says one sentence.

    The exchange is made at the level of file descriptors, so that what C libraries print goes to the log too. With the
    context the process ends: to take down all that was imported would cost up to 0.2 s.
    """
    path = snakemake.log[0]
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    global _terminal, _name
    _terminal = os.dup(2)
    _name = " ".join([snakemake.rule, *map(str, snakemake.wildcards)])
    sys.stdout.flush()
    sys.stderr.flush()
    io.compress_products(snakemake.config.get("compress", False))
    # OpenCV takes all cores unless told otherwise before it is loaded.
    os.environ["OPENCV_FOR_THREADS_NUM"] = str(snakemake.threads)
    with open(path, "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once")
            yield
        print(f"done in {time.perf_counter() - start:.2f} s, {_used()}")
        code = 0
    except Exception as error:
        traceback.print_exc()
        tell(f"{snakemake.rule}: {str(error) or type(error).__name__} (details: {path})")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _used() -> str:
    """What the process took until now; Snakemake's own benchmarks, which ask twice a second, cost more than they tell."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return f"{usage.ru_utime + usage.ru_stime:.2f} s of CPU with start-up, {_most_memory(usage):.0f} MB at most"


def _most_memory(usage) -> float:
    """The largest memory of the process until now, in MB. On Linux `ru_maxrss` begins with that of the parent process."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
    except (OSError, StopIteration):
        return usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


# What the content of a frame can cause. Other errors (no memory, no space, a mistake in the code) stop the job.
FRAME_FAULTS = (ValueError, ArithmeticError, LookupError, RuntimeError)


@contextmanager
def dropping(write_dropped, faults=FRAME_FAULTS):
    """Turn a fault of the frame itself into a dropped frame: `write_dropped(reason)` leaves its mark, the night goes on.

    Where many frames make one product pass `Unusable` as `faults`: one that is not foreseen must not cost a stack.
    """
    try:
        yield
    except faults as error:
        traceback.print_exc()
        reason = str(error) or type(error).__name__
        print(f"dropped: {reason}")
        tell(f"{_name}: left out: {reason}")
        write_dropped(reason)
