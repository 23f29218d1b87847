"""Lights that are aligned within the job of their stack: the same frames whether they are held in memory or in files."""

import numpy as np
import pytest
from aligning import SHAPE, a_frame, a_wcs, noise
from firstlight import adapt_combine, adapt_grid, astrometry, io
from firstlight import grid as grids

MEMORY = {"in memory": 1e9, "in files": 1e3}


@pytest.fixture(scope="module", params=MEMORY)
def brought(request, tmp_path_factory):
    """(path, header, frame) of a light aligned in the job of a stack, the folder for files, and the light aligned alone."""
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    frame = a_frame(noise(), 10.0, np.zeros(SHAPE, np.uint8)).with_({"FLFRAME": "one", "FWHM": 2.5, "SKYNOISE": 10.0})
    frame = frame.with_(header=astrometry.replace_wcs(frame.header, a_wcs()))
    io.write_frame(folder / "one.fits", frame)
    io.write_table(
        folder / "one.ecsv", np.zeros(0, [(name, "f8") for name in ("x", "y", "fwhm", "flux", "flux_err", "flag")])
    )
    stars = np.zeros(0, [(name, "f8") for name in ("x", "y", "fwhm")])
    grid = grids.Grid(a_wcs(angle=9.0), True, SHAPE, stars, "one")
    light = folder / "one.fits", folder / "one.ecsv"
    alone = io.read_frame(adapt_grid.place(*light, grid, "cubic", folder / "alone.fits"))
    paths, header_of, frame_of = adapt_combine.align(
        [(*light, None, None)], grid, "cubic", str(folder / "scratch"), MEMORY[request.param]
    )
    return header_of(paths[0]), frame_of(paths[0]), (folder / "scratch").exists(), alone, request.param


def test_files_are_written_only_where_memory_does_not_hold_the_frames(brought):
    assert brought[2] == (brought[4] == "in files")


@pytest.mark.parametrize("part", ["data", "sigma", "mask"])
def test_the_frame_is_that_of_its_own_file(brought, part):
    np.testing.assert_array_equal(getattr(brought[1], part), getattr(brought[3], part))


@pytest.mark.parametrize("key", ["BUNIT", "FLFRAME", "FWHM", "SKYNOISE", "ALIGNCOV", "ALIGN11", "NCORR02", "CRVAL1"])
def test_the_cards_are_those_of_its_own_file(brought, key):
    assert brought[0][key] == brought[1].header[key] == brought[3].header[key]
