"""A night that is disturbed while it runs, in a few of the ways of tests/faults.py (`make faults` has all, many times)."""

import shutil
from pathlib import Path

import faults
import pytest
from firstlight import adapt, raw


@pytest.mark.parametrize(
    ("fault", "arguments"),
    [(faults.killed, [3.0]), (faults.killed, [6.0]), (faults.raw_changed, []), (faults.clock, [])],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_products_are_those_of_an_undisturbed_run(small_night, tmp_path, fault, arguments):
    seen, passed = faults.tried(small_night, tmp_path / "work", fault, *arguments)
    assert passed, seen


@pytest.fixture
def light(small_night, tmp_path):
    """A raw light, and what the frames table says of it."""
    path = Path(shutil.copy(next((small_night.folder / "raw").glob("Light_*.fits")), tmp_path))
    return path, {"FLPIXELS": raw.scan(str(path)).pixel_hash[:16]}


def test_a_raw_frame_that_is_another_by_now_is_no_frame_of_that_name(light):
    path, facts = light
    adapt.raw_frame(path, facts, [])
    content = bytearray(path.read_bytes())
    content[-4000] ^= 1
    path.write_bytes(content)
    with pytest.raises(raw.Changed, match="has changed since this run began: say the same again"):
        adapt.raw_frame(path, facts, [])


def test_one_that_was_cut_meanwhile_is_not_taken_for_a_bad_frame(light):
    """A bad frame is dropped for good; one that was whole when the run began may be whole again."""
    path, facts = light
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(raw.Changed, match="has changed since this run began: .* say the same again"):
        adapt.raw_frame(path, facts, [])
