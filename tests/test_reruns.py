"""The table of reruns: for each event a dry-run, a run that does just that, and a run after it that does nothing."""

import os
import re
import shutil
from collections import Counter

import pytest
from astropy.io import fits
from conftest import reduced

CHAIN = {"combine": 1, "preview": 1, "picture": 1, "stacks": 1, "ledger": 1, "report": 1}
BOTH = {"combine": 2, "preview": 2, "picture": 1, "stacks": 1, "ledger": 1, "report": 1}  # the same for both filters
REPORTS = {"unsolved": 1}  # what is told of all lights together


class Folder:
    """A working folder of the small night, to which something happens."""

    def __init__(self, night, path):
        self.path = night.copy(path)
        self.spare, self.truth, self.code = night.spare, night.truth, self.path / "code"
        self.raw, self.results = self.path / "raw", self.path / "results"

    def snakemake(self, *arguments, **options):
        return reduced(self.path, *arguments, code=self.code, **options)

    def expect(self, jobs: dict, *arguments, **options):
        """The dry-run names these jobs, the run does them, and nothing is left to do."""
        planned = self.snakemake("--dry-run", *arguments, **options).jobs
        assert planned == Counter(jobs)
        if jobs:
            assert self.snakemake(*arguments, **options).jobs == planned
            assert not self.snakemake("--dry-run", *arguments, **options).jobs

    def lights(self, filter_=""):
        return sorted(self.raw.glob(f"Light_{filter_}*.fits"))

    def reference(self):
        """The raw file of the light that the grid was taken from."""
        name = fits.getheader(next(self.results.glob("aligned/*/grid.fits")))["GRIDREF"]
        return self.raw / f"{re.sub('_[0-9a-f]{8}$', '', name)}.fits"

    def other_light(self):
        """A light that the grid does not depend on."""
        return next(light for light in self.lights() if light != self.reference())

    def add(self, name):
        shutil.copy2(self.spare / name, self.raw / name)


@pytest.fixture
def folder(small_night, tmp_path):
    return Folder(small_night, tmp_path)


def starless(folder):
    """Name of the frame without stars, and whether it was kept back."""
    return str(folder.truth.lights["file"][folder.truth.lights["starless"]][0])


def n_lights(folder, filter_=""):
    return len(folder.lights(filter_))


# Nothing to do


def test_nothing_happened(folder):
    folder.expect({})


def test_one_raw_file_touched(folder):
    os.utime(folder.lights()[0])
    folder.expect({})


def test_all_raw_files_touched(folder):
    for file in folder.raw.iterdir():
        os.utime(file)
    folder.expect({})


def test_a_script_touched(folder):
    os.utime(folder.code / "scripts" / "light.py")
    folder.expect({})


def test_all_code_touched(folder):
    for file in folder.code.rglob("*"):
        os.utime(file)
    folder.expect({})


def test_a_comment_changed(folder):
    module = folder.code / "scripts" / "firstlight" / "combine.py"
    module.write_text(module.read_text() + "\n# A remark.\n")
    folder.expect({})


def test_raw_calibration_files_renamed_and_moved(folder):
    (folder.raw / "calibration").mkdir()
    for number, file in enumerate(sorted(folder.raw.glob("Bias*")) + sorted(folder.raw.glob("Flat*"))):
        file.rename(folder.raw / "calibration" / f"other_{number}.fits")
    folder.expect({"ledger": 1, "report": 1})  # which name the files


# Lights come, go and change


@pytest.mark.parametrize("name", ["Light_V_004.fits", "Light_V_005.fits", "Light_R_001.fits"])
def test_a_light_added(folder, name):
    """One in between, a later one, and an earlier one than all others."""
    folder.add(name)
    folder.expect({"light": 1, "align": 1} | CHAIN | REPORTS)


def test_a_better_light_added(folder):
    """A sharper light than the grid's reference does not move the grid."""
    name = "Light_V_004.fits"
    with fits.open(folder.spare / name) as hdus:
        hdus[0].header["OBJECT"] = "NGC869"
        hdus.writeto(folder.raw / "Light_V_better.fits")
    folder.expect({"light": 1, "align": 1} | CHAIN | REPORTS)


def test_a_light_without_stars_added(folder):
    folder.add(starless(folder))
    folder.expect({"light": 1, "align": 1} | CHAIN | REPORTS)


def test_a_light_removed(folder):
    folder.other_light().unlink()
    folder.expect(CHAIN | REPORTS)


def test_the_reference_removed_keeps_the_grid(folder):
    """Until it is made anew, as for other code: then it is chosen from all that is left."""
    gone = folder.reference()
    gone.unlink()
    folder.expect(CHAIN | REPORTS)
    folder.snakemake("--forcerun", "grid")
    assert folder.reference().exists() and folder.reference() != gone
    assert not folder.snakemake("--dry-run").jobs


def change_pixels(path):
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[100:110, 100:110] += 1


def change_header(path):
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["OBSERVER"] = "somebody else"


def test_header_of_a_light_changed(folder):
    change_header(folder.other_light())
    folder.expect({"light": 1, "align": 1} | CHAIN | REPORTS)


def test_pixels_of_a_light_changed(folder):
    """Other pixels are another frame: its name carries their hash."""
    change_pixels(folder.other_light())
    folder.expect({"light": 1, "align": 1} | CHAIN | REPORTS)


def test_header_of_the_reference_changed(folder):
    change_header(folder.reference())
    folder.expect({"light": 1, "grid": 1, "align": n_lights(folder)} | BOTH | REPORTS)


# Calibration frames


def whole_chain(folder, **more):
    lights = n_lights(folder)
    return {"light": lights, "grid": 1, "align": lights} | BOTH | REPORTS | more


CALIBRATIONS = {"detector": 1, "master_bias": 1, "master_dark": 1, "master_flat": 2}


def test_a_bias_added(folder):
    folder.add("Bias_004.fits")
    folder.expect(whole_chain(folder, **CALIBRATIONS))


def test_a_bias_removed(folder):
    (folder.raw / "Bias_001.fits").unlink()
    folder.expect(whole_chain(folder, **CALIBRATIONS))


def test_a_bias_changed(folder):
    change_pixels(folder.raw / "Bias_001.fits")
    folder.expect(whole_chain(folder, **CALIBRATIONS))


def test_a_flat_removed_that_gain_was_measured_from(folder):
    (folder.raw / "Flat_V_001.fits").unlink()
    folder.expect(whole_chain(folder, **CALIBRATIONS))


def test_another_flat_removed(folder):
    (folder.raw / "Flat_V_003.fits").unlink()
    lights = n_lights(folder, "V")
    reference_in_v = "_V_" in folder.reference().name
    jobs = {"master_flat": 1, "light": lights, "align": lights} | CHAIN | REPORTS
    if reference_in_v:
        jobs = {"master_flat": 1, "light": lights, "grid": 1, "align": n_lights(folder)} | BOTH | REPORTS
    folder.expect(jobs)


def test_all_flats_of_a_filter_removed(folder):
    """Other masters than before, without any that is new: the lights are made anew without."""
    for flat in folder.raw.glob("Flat_V*"):
        flat.unlink()
    folder.expect(whole_chain(folder, **CALIBRATIONS | {"master_flat": 1}))


# Options, code, libraries


def configure(folder, text):
    path = folder.path / "config.yaml"
    path.write_text(path.read_text() + text)


def test_an_option_of_combine(folder):
    configure(folder, "combine: {high: 5.0}\n")
    folder.expect(BOTH)


def test_two_values_of_combine_swapped(folder):
    configure(folder, "combine: {low: 3.0, high: 5.0}\n")
    folder.snakemake()
    path = folder.path / "config.yaml"
    path.write_text(path.read_text().replace("low: 3.0, high: 5.0", "low: 5.0, high: 3.0"))
    folder.expect(BOTH)


def test_a_line_of_the_module_of_combine(folder):
    module = folder.code / "scripts" / "firstlight" / "combine.py"
    module.write_text(module.read_text() + "\nFURTHER = 1\n")
    folder.expect(BOTH)


def test_the_look_of_the_report_changed(folder):
    style = folder.code / "scripts" / "firstlight" / "templates" / "report.css"
    style.write_text(style.read_text() + "h1 { color: red; }\n")
    folder.expect({"report": 1})


def test_an_option_of_a_step(folder):
    path = folder.path / "config.yaml"
    path.write_text(path.read_text().replace("niter: 1", "niter: 2"))
    folder.expect(whole_chain(folder))


def test_an_option_of_solving(folder):
    configure(folder, "solve: {sip_order: 0}\n")
    folder.expect(whole_chain(folder))


def test_the_content_of_the_catalogue(folder):
    path = folder.path / "stars.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    folder.expect(whole_chain(folder, catalogue=1))


def test_the_catalogue_touched(folder):
    os.utime(folder.path / "stars.csv")
    folder.expect({})


def test_a_library_upgraded(folder):
    """A newer seiza is pretended by its metadata alone: the rule whose code imports it runs again, and what follows."""
    metadata = folder.path / "newer" / "seiza-99.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: seiza\nVersion: 99.0\n")
    folder.expect(whole_chain(folder), PYTHONPATH=str(metadata.parent))


# Targets


def test_a_target_added(folder):
    with fits.open(folder.spare / "Light_V_004.fits") as hdus:
        hdus[0].header["OBJECT"] = "M 34"
        hdus.writeto(folder.raw / "Light_M34.fits")
    folder.expect({"catalogue": 1, "light": 1, "grid": 1, "align": 1} | CHAIN | REPORTS)


def test_a_target_removed_from_the_selection(folder):
    with fits.open(folder.spare / "Light_V_004.fits") as hdus:
        hdus[0].header["OBJECT"] = "M 34"
        hdus.writeto(folder.raw / "Light_M34.fits")
    folder.snakemake()
    configure(folder, "select: {targets: [NGC869]}\n")
    folder.expect(REPORTS | {"stacks": 1, "ledger": 1, "report": 1})


# Products on disk


def test_a_product_removed_comes_back(folder):
    next(folder.results.glob("stacks/*/V.fits")).unlink()
    folder.expect(CHAIN)


def test_tidy_removes_what_nothing_asks_for(folder):
    light = folder.other_light()
    light.unlink()
    folder.snakemake()
    stale = sorted(folder.results.glob(f"*/**/{light.stem}_*.fits"))
    assert len(stale) == 2, "its light and its aligned frame are still there"
    wanted = {path for path in folder.results.rglob("*.fits")} - set(stale)
    folder.snakemake("tidy")
    assert not any(path.exists() for path in stale)
    assert {path for path in folder.results.rglob("*.fits")} == wanted
    folder.expect({})


def test_second_run_gives_the_same_bytes(folder):
    """What is made again from the same input is the same to the byte."""
    light = next(folder.results.glob("lights/*/*/V/*.fits"))
    stack = next(folder.results.glob("stacks/*/V.fits"))
    before = {path: path.read_bytes() for path in (light, stack)}
    folder.snakemake("--forcerun", "light", "combine")
    assert all(path.read_bytes() == content for path, content in before.items())
