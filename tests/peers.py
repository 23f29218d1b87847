"""The same calibrated lights stacked by firstlight, seiza and Siril, measured with one ruler.

    PYTHONPATH=scripts python tests/peers.py FOLDER [--truth FOLDER] [--work FOLDER]

FOLDER holds calibrated lights of one target and filter (any depth), as in results/lights/NGC869. Each program starts
from these files: finds their stars, registers, normalises, rejects, weighs, combines, writes; the seconds are for all
of that. Prints a table in Markdown. What is not installed has a row that says so.

`ruler` says what is measured, and how.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ruler
from astropy.io import fits
from firstlight import align, astrometry, combine, grid, io, sources
from firstlight.frame import Frame, Mask

PEDESTAL = 1000.0  # so that no value of the sky is negative, which Siril would cut

# What Siril's own script for monochrome lights says after calibration, with the weights by noise that it offers.
SIRIL = """requires 1.0.0
set32bits
setext fit
cd lights
convert light -out=../process
cd ../process
setref light_ {reference}
register light_ {registration}
stack r_light_ rej w 3 3 -norm=addscale {weights} -out=../stack
"""


@dataclass
class Stack:
    """What a program made: image (ny, nx), seconds, how it was asked; or why there is none."""

    program: str
    image: np.ndarray | None = None
    seconds: float = 0.0
    note: str = ""


# ---- The programs ----------------------------------------------------------------------------------------------------


def by_firstlight(paths: list[Path], reference: Path, work: Path) -> Stack:
    """All in one process; the aligned frames are written, which seiza is given too."""
    start = time.perf_counter()
    found = {}
    for path in paths:
        frame = io.read_frame(path)
        found[path] = sources.detect(frame)[0]
    light = grid.candidate(reference, io.read_header(reference))
    pixels, *_ = grid.choose([light], lambda _: found[reference], {})
    aligned = []
    for path in paths:
        frame = align.onto(io.read_frame(path), found[path], pixels)
        aligned.append(work / "aligned" / path.name)
        io.write_frame(aligned[-1], frame)
    inputs, _ = combine.usable([(path, io.read_header(path)) for path in aligned], io.read_frame)
    stack = combine.combine(inputs, pixels.stars, pixels.reference)
    parts = [io.image_hdu("COVERAGE", stack.coverage, "frames"), io.table_hdu("INPUTS", stack.inputs)]
    io.write_frame(work / "firstlight.fits", stack.frame, parts)
    return Stack("firstlight", stack.frame.data, time.perf_counter() - start, "defaults")


def by_seiza(paths: list[Path], reference: Path, work: Path, note: str, again: bool = False, **options) -> Stack:
    """`again`: the frames are kept and integrated once more, with all of them known, as its guide has it for outliers."""
    try:
        import seiza
    except ImportError:
        return Stack("seiza", note="not installed")
    start, out = time.perf_counter(), work / "seiza.fits"
    order = [str(reference), *(str(path) for path in paths if path != reference)]
    asked = seiza.StackOptions(**options)
    if again:
        stacker = seiza.LiveStacker(order[0], options=asked)
        for path in order[1:]:
            stacker.push_fits(path)
        stacker.reintegrate().write_fits(str(out))
        failed = stacker.rejected_frames
    else:
        failed = seiza.stack_fits(order, str(out), options=asked).rejected_frames
    note += f" ({failed} frames left out)" * bool(failed)
    return Stack("seiza", fits.getdata(out), time.perf_counter() - start, note)


def by_seiza_aligned(work: Path) -> Stack:
    """Only seiza's rejection, on the frames that firstlight aligned: nothing evens out their scales and skies."""
    try:
        import seiza
    except ImportError:
        return Stack("seiza", note="not installed")
    start = time.perf_counter()
    paths = sorted(map(str, (work / "aligned").glob("*.fits")))
    result = seiza.integrate_registered_frames(paths)
    stack = result[0] if isinstance(result, tuple) else result
    out = work / "seiza_aligned.fits"
    stack.write_fits(str(out))
    return Stack("seiza", fits.getdata(out), time.perf_counter() - start, "integrate_registered_frames on firstlight's")


def by_siril(paths: list[Path], reference: Path, work: Path, note: str, weights: str = "") -> Stack:
    program = shutil.which("siril-cli")
    if program is None:
        return Stack("Siril", note="siril-cli is not installed")
    folder = work / f"siril{len(list(work.glob('siril*')))}"
    (folder / "lights").mkdir(parents=True)
    images = {path: np.nan_to_num(fits.getdata(path), nan=0.0) for path in paths}
    # Siril takes floats between 0 and 1, and 0 for no data: one factor for all frames, undone below.
    top = max(float(image.max()) for image in images.values()) + 2 * PEDESTAL
    for number, (path, image) in enumerate(images.items(), 1):
        scaled = ((image + PEDESTAL) / top).clip(1e-6, 1).astype(np.float32)
        fits.writeto(folder / "lights" / f"light_{number:05d}.fit", scaled, _plain(path))
    for registration in (
        "",
        "-transf=similarity -minpairs=4",
    ):  # its own choice; where stars are few for that, a simpler
        shutil.rmtree(folder / "process", ignore_errors=True)
        (folder / "process").mkdir()
        script = folder / "script.ssf"
        script.write_text(
            SIRIL.format(reference=paths.index(reference) + 1, registration=registration, weights=weights)
        )
        start = time.perf_counter()
        done = subprocess.run([program, "-d", folder, "-s", script], capture_output=True, text=True, errors="replace")
        seconds = time.perf_counter() - start
        lost = [line for line in done.stdout.splitlines() if "Total:" in line and " 0 failed" not in line]
        if (folder / "stack.fit").exists() and not lost:
            break
    if not (folder / "stack.fit").exists():
        return Stack("Siril", note="registers too few frames")
    version = next((line.split()[-1] for line in done.stdout.splitlines() if "Welcome to siril" in line), "")
    image = fits.getdata(folder / "stack.fit").astype(np.float32)
    image = np.where(image == 0, np.nan, image * top)
    note += ", similarity" * bool(registration) + "".join(f" ({line.split('Total: ')[1]})" for line in lost)
    return Stack(f"Siril {version}", image, seconds, note)


def _plain(path: Path) -> fits.Header:
    """A light's header without its WCS, which Siril has no need of here."""
    keep = ("DATE-OBS", "EXPTIME", "OBJECT", "FILTER", "XPIXSZ", "YPIXSZ", "FOCALLEN", "INSTRUME")
    header = io.read_header(path)
    return fits.Header({key: header[key] for key in keep if key in header})


def print_table(stacks: list[Stack], rows: list[dict]) -> None:
    """In Markdown, on standard output."""
    trail = any("trail" in row for row in rows)
    head = [
        "program",
        "setup",
        "sky noise",
        "at equal FWHM",
        "FWHM",
        "flux scale",
        "scatter of flux",
        "brightest",
        "S/N of faint",
    ]
    head += ["trail"] * trail + ["seconds"]
    print("| " + " | ".join(head) + " |", "|" + " --- |" * len(head), sep="\n")
    rows = iter(rows)
    for stack in stacks:
        cells = [stack.program, stack.note]
        if stack.image is None:
            cells += ["-"] * (len(head) - 2)
        else:
            row = next(rows)
            cells += [
                f"{row['noise']:.3f}",
                f"{row['alike']:.3f}",
                f"{row['fwhm']:.2f}",
                f"{row['scale']:.4f}",
                f"{row['scatter']:.2f} %",
            ]
            cells += [f"{row['core']:+.2f} %", f"{row['snr']:.2f}"]
            cells += [f"{row['trail']:.2f}"] if trail else []
            cells += [f"{stack.seconds:.1f}"]
        print("| " + " | ".join(cells) + " |")


# ---- The demo night's truth ------------------------------------------------------------------------------------------


def painted_truth(folder: Path, frame: Frame, inputs: np.ndarray):
    """Image that a stack of the demo night should show without its sky, and the distance from its trail, or None."""
    import simulated_night as sim

    truth = sim.read_truth(folder)
    wcs, name = astrometry.read_wcs(frame.header), str(frame.header["FILTER"])
    reference = truth.light(_raw(frame.header["PHOTREF"]))
    scale = reference["transparency"] * frame.header["EXPTIME"]
    x, y = wcs.all_world2pix(np.asarray(truth.stars["ra"]), np.asarray(truth.stars["dec"]), 0)
    image = np.zeros(frame.shape, np.float32)
    trail = None
    for row in inputs[inputs["weight"] > 0]:
        light = truth.light(_raw(row["name"].decode()))
        profile = sim.Profile("moffat", light["fwhm"], truth.night.beta)
        sim.paint(image, x, y, np.asarray(truth.stars[f"flux_{name}"]) * scale * row["weight"], profile)
        trail = _distance(truth, light, wcs, frame.shape) if light["trail"] else trail
    return image, trail


def _raw(name: str) -> str:
    return f"{name.rsplit('_', 1)[0]}.fits"


def _distance(truth, light, wcs, shape):
    """Function of pixels of the stack: pixels from the axis of a light's trail."""
    ny, nx = shape
    some = np.array([(0, 0), (nx - 1, 0), (0, ny - 1), (nx - 1, ny - 1)], float)
    there = truth.wcs(light["file"]).all_world2pix(wcs.all_pix2world(some, 0), 0)
    (a, b, c), (d, e, f) = astrometry.fit_affine(some, there)
    angle = np.radians(light["trail_angle"])

    def away(x, y):
        px, py = a * x + b * y + c, d * x + e * y + f
        return (py - light["trail_y"]) * np.cos(angle) - (px - light["trail_x"]) * np.sin(angle)

    return away


def main(words: list[str] | None = None) -> None:
    """Read the arguments, run all programs, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, nargs="+", help="calibrated lights of one target and filter")
    parser.add_argument("--truth", type=Path, help="truth of the simulated night that they are from")
    parser.add_argument("--work", type=Path, help="new folder for what is made (else one that is removed)")
    arguments = parser.parse_args(words)
    for number, folder in enumerate(arguments.folder, 1):
        with tempfile.TemporaryDirectory() as scratch:
            compare(folder, (arguments.work or Path(scratch)) / str(number), arguments.truth)


def compare(folder: Path, work: Path, truth: Path | None = None) -> None:
    """All programs on the lights below one folder."""
    headers = {path: io.read_header(path) for path in sorted(folder.rglob("*.fits"))}
    lights = [path for path, header in headers.items() if not io.is_dropped(header) and header.get("FWHM")]
    reference = Path(grid.reference([grid.candidate(path, headers[path]) for path in lights]).path)
    (work / "aligned").mkdir(parents=True, exist_ok=True)
    stacks = [by_firstlight(lights, reference, work)]
    stacks.append(by_seiza(lights, reference, work, "defaults"))
    noise = {"weighting": "inverse-noise-variance", "normalization": "local-background"}
    note = "weights by noise, local background, reintegrated"
    stacks.append(by_seiza(lights, reference, work, note, again=True, **noise))
    stacks.append(by_seiza_aligned(work))
    stacks.append(by_siril(lights, reference, work, "rej w 3 3, addscale"))
    stacks.append(by_siril(lights, reference, work, "rej w 3 3, addscale, weighted", "-weighted"))
    frame, inputs = io.read_frame(work / "firstlight.fits"), io.read_extension(work / "firstlight.fits", "INPUTS")
    print(f"\n{folder.name}: {len(lights)} lights of {frame.shape[1]}x{frame.shape[0]}\n")
    image, trail = painted_truth(truth, frame, inputs) if truth else (None, None)
    saturated = (frame.mask & Mask.SATURATED) != 0
    # Some rejection costs nothing; a missing frame does.
    counts = io.read_extension(work / "firstlight.fits", "COVERAGE")
    covered = counts >= 0.7 * len(lights)
    fwhm = float(np.median([headers[path]["FWHM"] for path in lights]))
    images = [stack.image for stack in stacks if stack.image is not None]
    print_table(stacks, ruler.rows(images, covered, saturated, fwhm, image, trail))


if __name__ == "__main__":
    main()
