"""Solvers that are programs of their own: astrometry.net's `solve-field` (Lang et al. 2010, AJ 139, 1782)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from . import astrometry, io, textfile

PROGRAM = "solve-field"
BRIGHTEST = 300  # sources that are handed over


@dataclass(frozen=True)
class Solved:
    """A WCS, and the pairs that it rests on: pixels (n, 2) from 0, sky (n, 2) in degrees."""

    wcs: object
    xy: np.ndarray
    sky: np.ndarray


def solve_field(
    xy: np.ndarray,
    shape,
    centre=None,
    radius: float = 2.0,
    scales: tuple[float, float] | None = None,
    seconds: float = 20.0,
    index: str | None = None,
    order: int | None = None,
) -> Solved:
    """Solve a list of sources with astrometry.net's own program and index files.

    xy       pixels (n, 2) from 0, brightest first; shape (ny, nx)
    centre   (ra, dec) and radius in degrees, None for the whole sky; scales: least and largest arcsec/pix, None for any
    seconds  after which the program and all its children are ended
    index    folder of index files; None for those of the installation
    order    of its SIP polynomial, 0 for none, None for its own choice

    Raises ValueError with the reason where the program is not installed or does not solve: it exits with 0 then too, so
    its mark of success is looked for. TimeoutError where its time was up.
    """
    if shutil.which(PROGRAM) is None:
        raise ValueError(f"{PROGRAM} is not installed")
    if index and not Path(index).is_dir():
        raise ValueError(f"solve: index: {index} is no folder; name one with astrometry.net's index files")
    with tempfile.TemporaryDirectory(prefix="firstlight-") as folder:
        place = Path(folder)
        rows = np.zeros(min(len(xy), BRIGHTEST), [("X", "f8"), ("Y", "f8"), ("FLUX", "f8")])
        rows["X"], rows["Y"] = xy[: len(rows)].T + 1  # it counts pixels from 1
        rows["FLUX"] = np.arange(len(rows), 0, -1)
        io.write_header(place / "field.fits", fits.Header(), {"SOURCES": rows})
        command = _command(place, shape, centre, radius, scales, seconds, order)
        if index:
            textfile.write(place / "engine.cfg", f"add_path {Path(index).resolve()}\nautoindex\n")
            command += ["--config", str(place / "engine.cfg")]
        said = run(command, seconds, place)
        if not (place / "field.solved").exists():
            raise ValueError(_why(said))
        return _read(place)


def _command(place: Path, shape, centre, radius, scales, seconds: float, order: int) -> list[str]:
    ny, nx = shape
    words = [PROGRAM, str(place / "field.fits"), "--dir", str(place), "--temp-dir", str(place), "--overwrite"]
    words += ["--width", str(nx), "--height", str(ny), "--x-column", "X", "--y-column", "Y", "--sort-column", "FLUX"]
    words += ["--no-plots", "--no-remove-lines", "--uniformize", "0", "--crpix-center"]
    words += ["--new-fits", "none", "--rdls", "none", "--match", "none", "--index-xyls", "none"]
    words += ["--cpulimit", str(max(1, round(seconds)))]
    if order is not None:
        words += ["--tweak-order", str(order)] if order >= 2 else ["--no-tweak"]
    if centre is not None:
        words += ["--ra", f"{centre[0]:.6f}", "--dec", f"{centre[1]:.6f}", "--radius", f"{radius:.4f}"]
    if scales is not None:
        words += [
            "--scale-units",
            "arcsecperpix",
            "--scale-low",
            f"{scales[0]:.5f}",
            "--scale-high",
            f"{scales[1]:.5f}",
        ]
    return words


def run(command: list[str], seconds: float, folder) -> str:
    """Run a program and return what it printed; it and all its children are ended after that many seconds.

    It leads a process group of its own, since `solve-field` starts others that would outlive it.
    """
    environment = os.environ | {"TMPDIR": str(folder)}
    child = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return child.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{command[0]} did not end in its time (solve: time_limit)") from error
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.stdout.close()
        child.wait()


def _why(said: str) -> str:
    """What the program's last words say about its failure."""
    if "cpu time limit" in said.lower() or "cpulimit" in said.lower():
        return f"{PROGRAM} found nothing in its time"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any("at least one index" in line.lower() for line in lines):
        return f"{PROGRAM} has no index files: install some, or name their folder with solve: index"
    if any(line.startswith("Did not solve") for line in lines):
        return f"{PROGRAM} found no match with its index files"
    return f"{PROGRAM} failed: {lines[-1][:120] if lines else 'it said nothing'}"


def _read(place: Path) -> Solved:
    wcs = astrometry.read_wcs(io.read_header(place / "field.wcs"))
    if wcs is None:
        raise ValueError(f"{PROGRAM} wrote no WCS that can be read")
    pairs = np.zeros((0, 4))
    if (place / "field.corr").exists():
        rows = io.read_extension(place / "field.corr", 1)
        pairs = np.column_stack([rows[n] for n in ("field_x", "field_y", "index_ra", "index_dec")]).astype(float)
    return Solved(wcs, pairs[:, :2] - 1, pairs[:, 2:])
