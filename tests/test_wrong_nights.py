"""Nights that lack something, or are of something else: what is said, in words and without a traceback, and that what can
still be made right is right. Each case states what the right result is."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import snakemake
from firstlight import io

R, V = "results/stacks/NGC869/R.fits", "results/stacks/NGC869/V.fits"


@pytest.fixture
def night(small_night, tmp_path):
    """The small night's raw frames and configuration, in which nothing is made yet."""
    folder = small_night.copy_inputs(tmp_path / "night")

    def without(*patterns):
        for pattern in patterns:
            for path in (folder / "raw").glob(pattern):
                path.unlink()
        return folder

    return without


def run(folder, *arguments, **options):
    done = snakemake(folder, *arguments, code=folder / "code", **options)
    assert "Traceback" not in done.text
    return done


def whole(folder, *arguments):
    """A run that ends well."""
    done = run(folder, "--cores", 2, *arguments)
    assert done.code == 0, done.text
    return done


def rewrite(folder, pattern, change):
    """Frames changed in place: change(header, data) gives the data."""
    for path in (folder / "raw").glob(pattern):
        with fits.open(path) as hdus:
            header, data = hdus[0].header.copy(), hdus[0].data.copy()
        fits.PrimaryHDU(change(header, data), header).writeto(path, overwrite=True)


def values(path):
    frame = io.read_frame(path)
    return frame.data[np.isfinite(frame.data)]


def test_flats_of_another_filter_only(night, small_night):
    folder = night("Flat_R_*")
    done = whole(folder)
    assert "no flat for 3 lights of NGC869 in R" in done.text and "there are flats of this camera in V" in done.text
    # the filter that has its flats is not touched by what the other lacks
    light = next((small_night.folder / "results/lights/NGC869").glob("*/V/*.fits"))
    same = folder / light.relative_to(small_night.folder)
    assert np.array_equal(io.read_frame(light).data, io.read_frame(same).data, equal_nan=True)
    assert not io.read_header(next((folder / "results/lights/NGC869").glob("*/R/*.fits")))["FLFLAT"]


def test_no_bias_but_darks_of_the_lights_exposure(night, small_night):
    """A dark of equal exposure has the bias in it: the sky comes out at the level that it has with a bias."""
    folder = night("Bias_*")
    done = whole(folder)
    # its flats, of another exposure, have neither
    assert "no bias for flat_R.fits" in done.text and not re.search("no bias for [0-9]+ light", done.text)
    levels = [
        np.median(values(next((where / "results/lights/NGC869").glob("*/R/*.fits"))))
        for where in (folder, small_night.folder)
    ]
    assert levels[0] == pytest.approx(levels[1], rel=0.01)


def test_no_calibration_at_all(night):
    folder = night("Bias_*", "Dark_*", "Flat_*")
    done = whole(folder)
    for kind in ("bias", "dark", "flat"):
        assert f"no {kind} for 3 lights of NGC869 in R" in done.text and "there is none at all" in done.text
    frame = io.read_frame(folder / R)
    light = io.read_header(next((folder / "results/lights/NGC869").glob("*/R/*.fits")))
    # What is not light is not known: sigma is the scatter that is seen. Columns of the bias, which all frames share, are in
    # it, so that it is too large, never too small.
    assert frame.unit == "electron" and light["SIGMASRC"] == "empirical"
    assert frame.header["ODDEVEN"] < 1.05


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(300.0, "300 s -20 C, scaled 0.2"), (5.0, "too short to be scaled")],
)
def test_darks_of_another_exposure(night, seconds, words):
    """With a bias a longer dark is scaled, one that is too short is not used, and both are said."""
    folder = night()

    def other(header, data):
        header["EXPTIME"] = seconds
        return data

    rewrite(folder, "Dark_*", other)
    assert words in " ".join(run(folder, "plan").text.split())


def test_darks_of_another_exposure_without_a_bias(night):
    folder = night("Bias_*")

    def other(header, data):
        header["EXPTIME"] = 300.0
        return data

    rewrite(folder, "Dark_*", other)
    assert "without a bias none can be scaled" in " ".join(run(folder, "plan").text.split())


def test_one_light_alone(night):
    folder = night("Bias_*", "Dark_*", "Flat_*", "Light_V_*")
    for path in sorted((folder / "raw").glob("Light_R_*"))[1:]:
        path.unlink()
    done = whole(folder)
    assert "one frame only: nothing was rejected" in done.text and (folder / "results/pictures/NGC869.png").exists()
    stack, light = io.read_frame(folder / R), io.read_frame(next((folder / "results/lights/NGC869").glob("*/R/*.fits")))
    assert np.nanmedian(stack.data) == pytest.approx(np.nanmedian(light.data), rel=1e-3)


def test_one_bias_frame(night):
    folder = night("Bias_002*", "Bias_003*")
    whole(folder)
    header = io.read_header(next((folder / "results/masters").glob("*/*/bias.fits")))
    assert header["NCOMBINE"] == 1 and header["FLNOTE"] == "one frame only: nothing could be rejected"


def test_flats_without_light(night):
    """A flat that is no brighter than its noise is not divided by; its lights go on without, and that is said."""
    folder = night()
    bias = fits.getdata(next((folder / "raw").glob("Bias_*")))

    def dark(header, data):
        return (bias.astype(int) + np.random.default_rng(int(data.sum()) % 1000).integers(-3, 4, bias.shape)).astype(
            np.uint16
        )

    rewrite(folder, "Flat_R_*", dark)
    done = whole(folder)
    assert "no usable flat frame" in done.text
    light = io.read_header(next((folder / "results/lights/NGC869").glob("*/R/*.fits")))
    assert not light["FLFLAT"]


def test_a_light_of_another_size(night):
    """Another size is another camera: it lacks its calibration, which is said, and spoils none of the others."""
    folder = night()
    path = next((folder / "raw").glob("Light_R_*"))

    def cut(header, data):
        return data[:300, :320]

    rewrite(folder, path.name, cut)
    done = whole(folder)
    assert "no bias for 1 light of NGC869 in R" in done.text and "320x300" in done.text
    inputs = io.read_extension(folder / R, "INPUTS")
    assert (inputs["weight"] > 0).sum() >= 3


def test_exposures_that_are_none(night):
    """Neither of lights nor of their calibration: the dark is subtracted as it is, which is said, and none is invented."""
    folder = night()
    done = whole(folder, "--config", "header={EXPTIME: unknown}")
    assert "exposure not known of both: dark of unknown exposure subtracted as it is" in done.text
    products = [*(folder / "results/lights").rglob("*.fits"), *(folder / "results/masters").rglob("*_*.fits")]
    assert len(products) >= 9 and not any("EXPTIME" in io.read_header(path) for path in products)


def test_a_catalogue_without_positions(night):
    folder = night("Flat_*", "Dark_*", "Light_V_*")
    (folder / "stars.csv").write_text("name,mag\nVega,0.0\n")
    done = run(folder, "--cores", 2)
    assert done.code == 1 and "no column for ra in the catalogue (it has name, mag): name one ra" in done.text


def test_no_file_at_all(tmp_path):
    (tmp_path / "raw").mkdir()
    done = snakemake(tmp_path, "--cores", 1)
    assert done.code == 1 and "no usable frame in raw: raw: no FITS file there" in done.text
    assert "Traceback" not in done.text


def test_nothing_but_files_that_cannot_be_used(tmp_path):
    (tmp_path / "raw").mkdir()
    for number in range(3):
        (tmp_path / "raw" / f"{number}.fits").write_bytes(b"no FITS" * number)
    done = snakemake(tmp_path, "--cores", 1)
    assert done.code == 1 and "all 3 files are rejected, see results/rejected.csv" in done.text
    assert "Traceback" not in done.text


def test_no_light(night):
    done = run(night("Light_*"), "--cores", 1)
    assert done.code == 1 and "no light among" in done.text and "snakemake headers" in done.text


# --- Values that cannot be meant, each in one sentence that names key and value and what is allowed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("keep=[stacks]", "keep"),
        (
            "combine={clip: minmax}",
            "combine: clip minmax keeps values from low to high, but low is null and high is null: set both",
        ),
        ("combine={clip: minmax, low: 5, high: 1}", "but low is 5 and high is 1: set both, low below high"),
        ("grid={scale: -1}", "grid.scale: -1"),
        ("cosmic_ray={method: magic}", "cosmic_ray.method: 'magic' is not one of laplacian, median, none"),
        ("match={nights: soon}", "match.nights: 'soon' should be of type integer or null"),
        ("catalogue=nowhere.csv", "nowhere.csv cannot be read: No such file"),
        ("masters=[nowhere]", "nowhere"),
        ("cameras={mask: nowhere.fits}", "cameras: mask: mask file nowhere.fits cannot be read"),
        ("raw=nowhere", "nowhere"),
        ("longitude=1000", "longitude"),
        ("missing=perhaps", "missing: 'perhaps' is not one of"),
        ("raw=[]", "raw: names no folder: set it to the folder of your frames"),
        ("results=stars.csv", "results: stars.csv cannot be a folder, since stars.csv is a file: name another"),
        ("results=stars.csv/out", "results: stars.csv/out cannot be a folder, since stars.csv is a file: name another"),
        ("select={targets: [M99]}", "select: {targets: [M99]} fits no light; there are targets: NGC869"),
        ("filters={X: [R], Y: [R]}", "filters: 'R' stands for both X and Y: leave it with one of them"),
        ("combine={low: -1}", "combine: low is -1, but clip auto takes it for a number of deviations: above 0"),
    ],
)
def test_a_value_that_cannot_be_meant(night, given, words):
    done = run(night(), "--cores", 1, "--config", given)
    assert done.code == 1 and words in done.text, done.text
    lines = [line for line in done.text.splitlines() if line.strip() and not line.startswith("Using")]
    assert len(lines) <= 4, done.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("trim={region: '[1:500,1:500]'}", "does not fit the frame of 384x384"),
        ("cameras={overscan: '[1:20,1:384]', trim: '[10:384,1:384]'}", "share pixels of the frame"),
    ],
)
def test_sections_that_do_not_fit_say_so(night, given, words):
    """They hold for all frames: nothing could be used, and the run says that and fails."""
    done = run(night("Flat_*", "Dark_*"), "--cores", 2, "--config", given)
    assert done.code == 1 and words in done.text and "No light of this night could be used" in done.text


@pytest.fixture
def reachable(night):
    """A small night in a folder that other users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(shutil.copytree(night("Flat_*", "Dark_*", "Light_V_*"), Path(folder) / "night"))


def dry_run_by_another(folder, denied, *arguments):
    """Exit code and words of a dry-run by a user who may not do with `denied` what its permissions forbid."""
    prefix = as_nobody(folder) if os.access(denied, os.R_OK | os.W_OK) else []  # root may do all
    environment = dict(os.environ, HOME=str(folder), XDG_CACHE_HOME=str(folder / "cache"), PYTHONDONTWRITEBYTECODE="1")
    command = [*prefix, sys.executable, "-m", "snakemake", "--snakefile", str(folder / "code" / "Snakefile")]
    done = subprocess.run(
        [*command, "--dry-run", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    return done.returncode, said


def test_a_file_that_nobody_may_read(reachable):
    """As a user who may not read it: a row with that reason, and the night goes on."""
    path = next((reachable / "raw").glob("Bias_*"))
    path.chmod(0)
    code, said = dry_run_by_another(reachable, path)
    assert code == 0, said
    rejected = (reachable / "results" / "rejected.csv").read_text()
    assert f"{path.name},cannot be read: Permission denied" in rejected


def test_results_where_nothing_may_be_written(reachable):
    place = reachable / "locked"
    place.mkdir()
    place.chmod(0o555)
    code, said = dry_run_by_another(reachable, place, "--config", "results=locked/out")
    assert code == 1 and "results: locked/out cannot be made, since you may not write to" in said, said


def as_nobody(folder) -> list[str]:
    """What runs a command as a user without rights, to whom the folder is given; skips where that cannot be."""
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if not shutil.which("setpriv"):
        pytest.skip("this user reads every file, and there is no setpriv to be another")
    if subprocess.run([*prefix, sys.executable, "-c", "import snakemake"], cwd=folder, capture_output=True).returncode:
        pytest.skip("this user reads every file, and another cannot run this Python")
    subprocess.run(["chown", "-R", "65534:65534", str(folder)], check=True)
    return prefix
