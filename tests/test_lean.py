"""What a job loads: only what it uses. Truth: Python's own account of imports, of every job of a night."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
# What takes a tenth of a second or more to load, which is more than most jobs take to do their work.
HEAVY = (
    "astropy.coordinates astropy.nddata astropy.stats astropy.table astropy.time astropy.units astropy.wcs astroquery ccdproc "
    "jsonschema matplotlib numcodecs pandas reproject scipy skimage".split()
)
# What a rule has good reason to load of them.
ALLOWED = {"catalogue": {"astropy.table", "astropy.units", "astropy.time", "astropy.coordinates"}}


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(SCRIPTS)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_itself_loads_nothing_heavy():
    code = f"import sys; from firstlight import frame, io, job; print([m for m in {HEAVY} if m in sys.modules])"
    assert python(code) == "[]"


def test_units_are_the_real_ones_when_they_are_asked_for():
    assert python("import firstlight; from astropy import units; print((3 * units.km).to('m'))") == "3000.0 m"


def test_where_units_were_replaced_for_annotations_they_work():
    code = "import firstlight; from astropy.utils import data; print(data.get_free_space_in_dir('.', unit=True).unit)"
    assert python(code) == "byte"


def test_what_was_loaded_before_stays():
    code = "from astropy import units; import firstlight, sys; print(sys.modules['astropy.units'] is units)"
    assert python(code) == "True"


def test_an_astropy_that_asks_for_more_gets_all():
    """A stand-in without the names that astropy imports is as one that lacks those of a later version."""
    code = (
        f"import sys, types; sys.path.append('{SCRIPTS}/firstlight'); import lean\n"
        "class Bare(types.ModuleType):\n    def __setattr__(self, name, value): pass\n"
        "lean.ModuleType = Bare\n"
        "lean.import_fits()\n"
        "from astropy.io import fits; print(fits.Header({'A': 1})['A'], 'astropy.units' in sys.modules)"
    )
    assert python(code) == "1 True"


def loaded(log: Path) -> set[str]:
    """Full names of the modules that a job loaded, by its log."""
    lines = log.read_text().splitlines()
    return {line.split("|")[-1].strip() for line in lines if line.startswith("import time:") and "|" in line}


@pytest.mark.parametrize(
    "rule", "catalogue detector master_bias master_dark master_flat light grid align combine unsolved".split()
)
def test_a_job_loads_nothing_heavy_that_it_does_not_need(small_night, rule):
    logs = [log for log in (small_night.folder / "results" / "logs").rglob("*.log") if rule_of(log) == rule]
    assert logs and all(map(loaded, logs))
    heavy = {module for log in logs for module in loaded(log) & set(HEAVY)}
    assert heavy <= ALLOWED.get(rule, set())


PLACES = {
    "catalogues": "catalogue",
    "detector": "detector",
    "bias": "master_bias",
    "dark": "master_dark",
    "flat": "master_flat",
    "lights": "light",
    "grid": "grid",
    "aligned": "align",
    "stacks": "combine",
    "unsolved": "unsolved",
    "ledger": "ledger",
    "report": "report",
    "pictures": "picture",
}


def rule_of(log: Path) -> str:
    """The rule whose log this is, by its name, else by the folder that it lies in."""
    parts = log.with_suffix("").parts
    return PLACES.get(parts[-1].split("_")[0]) or next(PLACES[part] for part in reversed(parts) if part in PLACES)
