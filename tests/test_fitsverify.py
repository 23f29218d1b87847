"""Products follow the FITS standard and open in other programs. Truth: fitsverify of HEASARC, astropy's readers."""

import shutil
import subprocess
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from conftest import reduced
from firstlight import io as products

KINDS = {
    "light": "lights/*/*/R/*.fits",
    "master bias": "masters/*/*/bias.fits",
    "master dark": "masters/*/*/dark_*.fits",
    "master flat": "masters/*/*/flat_R.fits",
    "grid": "aligned/*/grid.fits",
    "aligned light": "aligned/*/R/*.fits",
    "stack": "stacks/*/R.fits",
    "picture": "pictures/*.fits",
}
ON_THE_SKY = ("light", "aligned light", "stack", "picture")


@pytest.fixture(scope="session")
def verify():
    """What fitsverify finds in a file, as a list of lines."""
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed (Debian package fitsverify)")

    def found(path):
        done = subprocess.run([program, "-l", str(path)], capture_output=True, text=True)
        assert "Verification found" in done.stdout, done.stdout + done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith("***")][:-1]

    return found


def one(night, kind):
    return min((night.folder / "results").glob(KINDS[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_no_errors_and_no_warnings(small_night, verify, kind):
    assert verify(one(small_night, kind)) == []


def test_no_errors_in_a_ready_master_and_in_the_file_of_a_step(small_night, verify, tmp_path):
    folder = small_night.copy_inputs(tmp_path / "night")
    shutil.copytree(small_night.folder / "results" / "masters", folder / "ready")
    for path in folder.glob("raw/Bias*"):
        path.unlink()
    light = one(small_night, "light").relative_to(small_night.folder / "results" / "lights")
    step = f"results/steps/gain/{light}"
    reduced(folder, step, "--config", "masters=ready", code=folder / "code")
    paths = [folder / step, *folder.glob("results/masters/library/*.fits")]
    assert len(paths) > 1 and [line for path in paths for line in verify(path)] == []


def test_no_errors_in_the_mark_of_a_dropped_frame(small_night, verify, tmp_path):
    header = fits.getheader(one(small_night, "light"))
    products.write_dropped(tmp_path / "x.fits", "light", "a reason of many words, " * 9 + "and one \u00fc", header)
    assert verify(tmp_path / "x.fits") == []


def test_no_errors_where_extensions_are_compressed(small_night, verify, tmp_path, monkeypatch):
    frame = products.read_frame(one(small_night, "light"))
    monkeypatch.setattr(products, "_compressing", True)
    products.write_frame(tmp_path / "x.fits", frame)
    assert verify(tmp_path / "x.fits") == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("grid", "picture")])
def test_ccddata_reads_image_sigma_and_mask(small_night, kind):
    path = one(small_night, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = CCDData.read(path)
    sigma = fits.getdata(path, "UNCERT")
    assert data.mask.shape == data.shape and np.array_equal(data.uncertainty.array, sigma, equal_nan=True)


@pytest.mark.parametrize("kind", ON_THE_SKY)
def test_a_wcs_puts_them_all_on_the_same_sky(small_night, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wcs = WCS(fits.getheader(one(small_night, kind)), naxis=2)
    ra, dec = wcs.all_pix2world(192, 192, 1)
    assert abs(float(ra) - 35.15) < 0.1 and abs(float(dec) - 57.13) < 0.1
