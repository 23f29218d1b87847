"""What tests that disturb a run share (faults.py, cluster.py): how one ends otherwise than it should, a disk that fills."""

import contextlib
import os
import subprocess
from pathlib import Path


class Wrong(AssertionError):
    """A fault had another end than it should."""


class Skip(Exception):
    """This machine does not let a fault happen."""


@contextlib.contextmanager
def small_disk(place: Path, size: int):
    """A disk of so many kB at a folder."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        raise Skip("no permission to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def enlarge(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)
