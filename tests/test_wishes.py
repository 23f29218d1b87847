"""What a configuration names that is not there. Truth: frames that a test makes up."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from firstlight.config import complete, read_schema
from firstlight.wishes import unmet

SCHEMA = read_schema(Path(__file__).parents[1] / "config.schema.yaml")
LIGHTS = [SimpleNamespace(name=f"M42_{name}_0a1b2c3d", filter=name, band=name) for name in ("Ha", "V")]


def said(**sections):
    return unmet(complete(sections, SCHEMA), LIGHTS, {"M42": ["Ha", "V"], "M_34": ["R"]})


def test_nothing_is_said_of_the_defaults():
    assert said() == []


@pytest.mark.parametrize("name", ["M42_V", "0a1b2c3d", "M42_V_0a1b2c3d"])
def test_nothing_is_said_of_a_reference_that_is_there(name):
    assert said(grid={"reference": name}) == []


def test_a_reference_that_is_in_no_name_is_named():
    assert said(grid={"reference": "nonsense"}) == [
        "grid: reference: 'nonsense' is in no light's name; each target's best light is taken"
    ]


def test_filters_without_a_light_are_named_for_fringes():
    assert said(fringe={"filters": ["V", "z", "all"]}) == ["fringe: filters: z: no light is in it"]


def test_filters_without_a_light_are_named_for_depths():
    bands = {name: {"band": "x", "colour_term": 0.0} for name in ("V", "B")}
    assert said(photometry={"bands": bands}) == ["photometry: bands: B: no light is in it"]


def test_channels_that_a_target_lacks_are_named_with_the_target():
    words = said(picture={"channels": {"R": "Ha", "G": "V", "B": "B"}})
    assert words[0] == (
        "picture: M42: channel B asks for 'B' but there are stacks of Ha, V: name one of them; "
        "its filters are taken by wavelength"
    )
    assert len(words) == 2 and words[1].startswith("picture: M_34: channel R asks for 'Ha'")


def test_a_palette_that_a_target_lacks_lines_for_is_named():
    assert said(picture={"palette": "HOO"}) == [
        "picture: M42: palette HOO needs OIII but there are stacks of Ha, V; its filters are taken by wavelength"
    ]
