"""What every rule's adapter shares: its log, and what happens to a frame that cannot be used."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
import warnings
from contextlib import contextmanager, suppress

from . import history, io
from .frame import Unusable

# Lines of a log that begin so are shown on the terminal, by the process that runs the jobs (see `terminal`): so they are
# seen also where a job runs on another machine.
NOTE = "note: "
FAILED = "failed: "
MOST_PATHS = 8  # inputs that a log names one by one

_name = "job"


def tell(text: str) -> None:
    """Say something in the log that the terminal shows too, once for all jobs that say the same."""
    print(f"{NOTE}{_one_line(text)}")


@contextmanager
def logged(snakemake):
    """Send all that is printed, warnings and tracebacks included, to the rule's log, which begins with what is read and ends
    with what was written. Where it fails, the reason in plain words stands above the traceback.

    The exchange is made at the level of file descriptors, so that what C libraries print goes to the log too. With the
    context the process ends: to take down all that was imported would cost up to 0.2 s.
    """
    path = snakemake.log[0]
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    global _name
    _name = named(snakemake.rule, snakemake.wildcards)
    sys.stdout.flush()
    sys.stderr.flush()
    _keep_memory()
    io.compress_products(snakemake.config.get("compress", False))
    # What is made of a single frame is told by that frame's identity; what comes of many has one of its own.
    options = getattr(getattr(snakemake, "params", None), "options", None)
    io.sign_products(lambda: history.lines(snakemake.rule, options), "frame" not in _known(snakemake.wildcards))
    # OpenCV takes all cores unless told otherwise before it is loaded.
    os.environ["OPENCV_FOR_THREADS_NUM"] = str(snakemake.threads)
    with open(path, "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # in the order in which things happen, and there when the job is killed
    start = time.perf_counter()
    code = 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once")
            _say_inputs(snakemake)
            yield
        _say_outputs(snakemake)
        print(f"done in {time.perf_counter() - start:.2f} s, {_used()}")
        code = 0
    except KeyboardInterrupt:
        code = 130
        print("stopped on request")
    except Exception as error:
        with suppress(OSError):  # no space left for the log either
            print(f"{FAILED}{plain(error)}")
            traceback.print_exc()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def named(rule: str, wildcards) -> str:
    """A job as people know it: its rule and its frame, else all that tells it from others."""
    known = _known(wildcards)
    return " ".join([rule, *map(str, [known["frame"]] if "frame" in known else known.values())])


def _known(wildcards) -> dict:
    return dict(wildcards.items()) if hasattr(wildcards, "items") else dict(enumerate(wildcards))


def plain(error: BaseException) -> str:
    """An error in one sentence, with the way out where it is one that the machine or the folder causes."""
    text = _one_line(error)
    of = f" of {error.filename}" if getattr(error, "filename", None) else ""
    code = getattr(error, "errno", None)
    if isinstance(error, MemoryError):
        return f"not enough memory{text and f' ({text})'}: fewer jobs at a time (--cores 1) need less of it"
    if code in (errno.ENOSPC, errno.EDQUOT) or "space on disk" in text:  # in astropy's words
        return f"no space left on the disk{of or ' of the results, or of temporary files'}: make room there"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to read or write{of and of[3:]} ({error.strerror.lower()}): change it, or name another folder"
    if code in (errno.ENOENT, errno.ENOTDIR) and of:
        return f"no such file or folder: {of[4:]} (moved, removed, or where none can be made)"
    if isinstance(error, (ValueError, OSError)) and text:
        return text
    return f"{type(error).__name__}{text and f': {text}'}; this is a mistake in firstlight or a library, not in your frames"


def _one_line(text) -> str:
    return " ".join(str(text).split())


def _say_inputs(snakemake) -> None:
    paths = list(getattr(snakemake, "input", ()))
    for path in paths[:MOST_PATHS]:
        print(f"reads {path}")
    if len(paths) > MOST_PATHS:
        print(f"and {len(paths) - MOST_PATHS} more")


def _say_outputs(snakemake) -> None:
    for path in getattr(snakemake, "output", ()):
        print(f"wrote {path}, {os.path.getsize(path) / 1e6:.3g} MB")


def _keep_memory() -> None:
    """Have freed memory kept for the next image: what goes back to the system has to be cleared page by page when it comes
    again. glibc takes at most 32 MB as the size up to which it does so; elsewhere nothing happens."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; TypeError is Windows' answer
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    mallopt(mmap_threshold, 32 << 20)
    mallopt(trim_threshold, 2**31 - 1)


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
def dropping(write_dropped, faults=FRAME_FAULTS, name: str = ""):
    """Turn a fault of the frame itself into a dropped frame: `write_dropped(reason)` leaves its mark, the night goes on.

    Where many frames make one product pass `Unusable` as `faults`: one that is not foreseen must not cost a stack.
    name  of the frame, where the job's own does not say it
    """
    try:
        yield
    except faults as error:
        reason = str(error) if " " in str(error) else f"{type(error).__name__} {error}".strip()
        tell(f"{name or _name}: left out: {reason}")
        if not isinstance(error, Unusable):
            traceback.print_exc()
        write_dropped(reason)
