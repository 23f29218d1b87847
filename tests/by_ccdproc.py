"""A simulated night through plain ccdproc, one frame after another: the steps of firstlight as a careful person writes them.

    python tests/by_ccdproc.py RAW OUT FILTERS TRUTH

Clipped masters; lights with their deviation, cosmic rays found, bias, flat; sources by sep; resampled onto the first light;
a clipped average per filter; a colour picture. ccdproc solves no plate: a light's WCS is the true one, and costs nothing.
Gain and read noise are given. Each stage leaves its files, as its guide advises.
"""

import sys
import warnings
from pathlib import Path

import astropy.units as u
import ccdproc
import numpy as np
import sep
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning
from astropy.visualization import make_lupton_rgb
from PIL import Image
from simulated_night import read_truth

CLIP = {"sigma_clip": True, "sigma_clip_low_thresh": 4, "sigma_clip_high_thresh": 4}
CLIP |= {"sigma_clip_func": "median", "sigma_clip_dev_func": "mad_std"}  # by name it is twice as fast as by function
HOW = {"method": "average", "mem_limit": 1e9, "dtype": np.float32} | CLIP


def main(raw: Path, out: Path, filters: list[str], truth) -> None:
    """Stacks OUT/R.fits ..., and all that leads to them."""
    detector = {"gain": truth.night.gain * u.electron / u.adu, "readnoise": truth.night.read_noise * u.electron}
    frames = [CCDData.read(path, unit="adu") for path in sorted(raw.glob("Bias_*"))]
    bias = ccdproc.combine(frames, **HOW)
    bias.write(out / "bias.fits")
    bias = ccdproc.gain_correct(bias, detector["gain"])
    grid, stacks = None, []
    for name in filters:
        flat = master_flat(sorted(raw.glob(f"Flat_{name}_*")), bias, detector["gain"])
        flat.write(out / f"flat_{name}.fits")
        aligned = []
        for path in sorted(raw.glob(f"Light_{name}_*")):
            light = calibrated(CCDData.read(path, unit="adu"), bias, flat, **detector)
            light.wcs = truth.wcs(path)
            light.write(out / path.name)
            sky = describe(light, out / f"{path.stem}.ecsv")
            grid = grid or light
            light = ccdproc.wcs_project(
                light.subtract(sky * u.electron, handle_meta="first_found"), grid.wcs, grid.shape
            )
            light.write(out / f"aligned_{path.name}")
            aligned.append(light)
        stack = ccdproc.combine(aligned, **HOW)
        stack.write(out / f"{name}.fits")
        stacks.append(np.nan_to_num(stack.data))
    colours = [stacks[min(i, len(stacks) - 1)] for i in range(3)]
    Image.fromarray(make_lupton_rgb(*colours, stretch=100, Q=8)).save(out / "picture.png")


def master_flat(paths: list[Path], bias: CCDData, gain) -> CCDData:
    """Clipped average of flats less bias, each scaled by its median."""
    frames = [ccdproc.gain_correct(CCDData.read(path, unit="adu"), gain) for path in paths]
    frames = [ccdproc.subtract_bias(frame, bias) for frame in frames]
    return ccdproc.combine(frames, scale=lambda data: 1 / np.ma.median(data), **HOW)


def calibrated(light: CCDData, bias: CCDData, flat: CCDData, gain, readnoise) -> CCDData:
    """A light in electrons with its deviation, cosmic rays flagged and replaced."""
    light = ccdproc.create_deviation(light, gain=gain, readnoise=readnoise, disregard_nan=True)
    light = ccdproc.subtract_bias(ccdproc.gain_correct(light, gain), bias)
    light = ccdproc.cosmicray_lacosmic(light, sigclip=5, readnoise=readnoise.value, gain_apply=False)
    return ccdproc.flat_correct(light, flat)


def describe(light: CCDData, path: Path) -> float:
    """Write a table of a light's sources; the level of its sky."""
    data = np.ascontiguousarray(light.data, np.float32)
    sky = sep.Background(data)
    Table(sep.extract(data - sky.back(dtype=np.float32), 5 * sky.globalrms)).write(path)
    return sky.globalback


if __name__ == "__main__":
    warnings.simplefilter("ignore", AstropyWarning)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","), read_truth(sys.argv[4]))
