"""Single functions of firstlight beside those of others that do the same, on the same arrays in one process.

CPU-seconds, the least of three calls, of one where that takes longer than 10 s. Each comparison gives the same work to
both: one call, arrays in memory, settings alike; `same` says how far the results agree.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import numpy as np
import simulated_night as sim
from astropy.io import fits
from astropy.wcs import WCS
from firstlight import align, astrometry, cosmic, grid, pile, sources
from firstlight.frame import Frame

LONG = 10.0  # s, of what is called once only
LIMITS = {"sigclip": 5.0, "sigfrac": 0.3, "objlim": 1.5}


@dataclass(frozen=True)
class Piece:
    """CPU-seconds of a function of ours and of theirs; the bar is what ours may take at most, in units of theirs."""

    name: str
    ours: float
    beside: str
    theirs: float | None
    same: str = "-"
    bar: float | None = None


def compare(raw: Path, truth: sim.Truth, piles: tuple[int, ...] = (15, 60)) -> list[Piece]:
    """All pieces, on lights of a simulated night and on piles of so many frames of its size."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        first, second = (a_light(raw, truth, number) for number in (0, 1))
        found = [*hits(first), *resampled(first, second)]
        for number in piles:
            found += combined(number, first.shape)
    return found


def a_light(raw: Path, truth: sim.Truth, number: int) -> Frame:
    """A light of the night's first filter in electrons, with sigma by the formula, and its true WCS."""
    night = truth.night
    file = str(truth.lights["file"][truth.lights["filter"] == list(night.filters)[0]][number])
    with fits.open(raw / file) as parts:
        counts, header = parts[0].data, parts[0].header
    data = ((counts - truth.bias) * night.gain).astype(np.float32)
    sigma = np.sqrt(np.maximum(data, 0) + np.float32(night.read_noise**2))
    header = astrometry.replace_wcs(header, truth.wcs(file))
    header["FLFRAME"] = Path(file).stem
    return Frame(data, header, sigma, np.zeros(data.shape, np.uint8), "electron")


def hits(frame: Frame) -> list[Piece]:
    """Particle hits, beside one call of astroscrappy with the same settings; then with the guard that spares stars."""
    theirs = "astroscrappy.detect_cosmics"
    plain, ours = least(lambda: cosmic.cosmic_ray(frame, guard=False, **LIMITS))
    guarded, _ = least(lambda: cosmic.cosmic_ray(frame, fwhm=3.0))
    if find_spec("astroscrappy") is None:
        return [Piece("cosmic rays", plain, theirs, None)]
    from astroscrappy import detect_cosmics

    how = {"satlevel": np.inf, "niter": 4, "sepmed": True, "cleantype": "medmask", "fsmode": "median"}
    cpu, (mask, _) = least(lambda: detect_cosmics(frame.data, invar=frame.sigma**2, **LIMITS, **how))
    other = int(((ours.mask != 0) != mask).sum())
    same = "to the pixel" if other == 0 else f"{other} pixels differ"
    return [
        Piece("cosmic rays", plain, theirs, cpu, same, 0.25),
        Piece("cosmic rays with the star guard", guarded, theirs, cpu, "fewer stars", 0.25),
    ]


def combined(number: int, shape) -> list[Piece]:
    """A pile of frames, clipped once, beside ccdproc; sigmas far below the noise, so that both clip by the scatter."""
    rng = np.random.default_rng(number)
    images = [rng.normal(1000, 10, shape).astype(np.float32) for _ in range(number)]
    for image in images:
        image[rng.random(shape) < 0.001] += 3000
    return [_combined(images, method) for method in ("median", "average")]


def _combined(images: list[np.ndarray], method: str) -> Piece:
    shape = images[0].shape
    sigma, flags = np.full(shape, 1e-6, np.float32), np.full(shape, pile.GOOD, np.uint8)

    def ours():
        with pile.Pile(shape, len(images), 4e9) as held:
            for image in images:
                held.add(image, sigma, flags)
            return pile.combine(held, method, "sigclip", 4.0, 4.0, iterations=1)[0]

    name = f"{method} of {len(images)} frames"
    cpu, values = least(ours)
    if find_spec("ccdproc") is None:
        return Piece(name, cpu, "ccdproc.combine", None)
    import ccdproc
    from astropy.nddata import CCDData

    frames = [CCDData(image, unit="adu") for image in images]
    how = {"sigma_clip_func": "median", "sigma_clip_dev_func": "mad_std", "dtype": np.float32, "mem_limit": 4e9}
    limits = {"sigma_clip": True, "sigma_clip_low_thresh": 4, "sigma_clip_high_thresh": 4}
    theirs, expected = least(lambda: ccdproc.combine(frames, method=method, **limits, **how))
    return Piece(name, cpu, "ccdproc.combine", theirs, _alike(np.abs(values / expected.data - 1)), 0.1)


def _alike(apart: np.ndarray, limit: float = 1e-6) -> str:
    """How far results agree: within the limit, and how many pixels lie beyond it (a value within rounding of the limit of
    clipping is left out by one and not by the other)."""
    beyond = int((apart > limit).sum())
    return f"to {apart[apart <= limit].max(initial=0):.0e}" + (f", but for {beyond} pixels" if beyond else "")


def resampled(first: Frame, second: Frame) -> list[Piece]:
    """A light on another's pixels: data, sigma and mask by us, data alone by reproject; with its stars found by seiza."""
    wcs, onto = (astrometry.read_wcs(frame.header) for frame in (second, first))
    cpu, ours = least(lambda: align.align(second, wcs, onto, first.shape))
    name, theirs = "aligning data, sigma, mask", "reproject_interp, bicubic, data alone"
    found = [Piece(name, cpu, theirs, None)]
    if find_spec("reproject"):
        from reproject import reproject_interp

        how = {"shape_out": first.shape, "order": "bicubic", "return_footprint": False, "roundtrip_coords": False}
        theirs_of, theirs_onto = (WCS(frame.header) for frame in (second, first))
        other, expected = least(lambda: reproject_interp((second.data, theirs_of), theirs_onto, **how))
        both = np.isfinite(ours.data) & np.isfinite(expected)
        ratio = np.nansum(ours.data[both]) / np.nansum(expected[both])
        found = [Piece(name, cpu, theirs, other, f"sum of light to {abs(ratio - 1):.0e}")]
    return [*found, _registered(first, second)]


def _registered(first: Frame, second: Frame) -> Piece:
    """Stars found, matched, and the light resampled; seiza also normalises it and adds it to its stack."""
    lights = {"first": first, "second": second}
    tables = {name: sources.detect(frame)[0] for name, frame in lights.items()}
    pixels, *_ = grid.choose([grid.candidate("first", first.header)], lambda _: tables["first"], {})
    cpu, _ = least(lambda: align.onto(second, sources.detect(second)[0], pixels))
    name, theirs = "finding stars, registering, aligning", "seiza's LiveStacker.push_fits"
    if find_spec("seiza") is None:
        return Piece(name, cpu, theirs, None)
    import seiza

    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}.fits" for name in lights]
        for path, frame in zip(paths, lights.values(), strict=True):
            fits.writeto(path, frame.data)
        stackers = [seiza.LiveStacker(paths[0]) for _ in range(3)]
        return Piece(name, cpu, theirs, least(lambda: stackers.pop().push_fits(paths[1]))[0])


def least(call: Callable) -> tuple[float, object]:
    """CPU-seconds of a call, all its threads counted, and what it gave."""
    spent = []
    while len(spent) < 3 and (not spent or spent[0] < LONG):
        start = time.process_time()
        result = call()
        spent.append(time.process_time() - start)
    return min(spent), result
