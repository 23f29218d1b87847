"""Frames that are left out of a stack, and why. Truth: which frame was made bad, in what, and by how much."""

from pathlib import Path

import numpy as np
import pytest
from firstlight.config import ConfigError, complete, read_schema
from firstlight.selection import Qualities, select, transparencies

NONE = {"fwhm": None, "elongation": None, "sky": None, "stars": None, "transparency": None}
SCHEMA = read_schema(Path(__file__).parents[1] / "config.schema.yaml")


def night(n=14, **odd):
    """n frames of an ordinary night; odd maps a quality to {number of the frame: its value}."""
    rng = np.random.default_rng(5)
    columns = {
        "fwhm": 3.1 + rng.uniform(-0.3, 0.3, n),
        "elongation": 1.08 + rng.uniform(-0.03, 0.03, n),
        "sky": 300 + rng.uniform(-20, 20, n),
        "noise": np.full(n, 18.0),
        "stars": np.rint(400 + rng.uniform(-30, 30, n)),
        "transparency": 0.95 + rng.uniform(-0.04, 0.04, n),
    }
    for name, values in odd.items():
        for number, value in values.items():
            columns[name][number] = value
    return [Qualities(f"f{k}", **{name: float(column[k]) for name, column in columns.items()}) for k in range(n)]


BAD = {"fwhm": 4.9, "elongation": 1.6, "sky": 900.0, "stars": 90.0, "transparency": 0.4}
GOOD = {"fwhm": 2.0, "elongation": 1.0, "sky": 100.0, "stars": 900.0, "transparency": 1.2}
VALUES = {"fwhm": 4.0, "elongation": 1.3, "sky": 500.0, "stars": 200, "transparency": 0.7}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("limit", ["3 sigma", "value"])
def test_a_bad_frame_is_left_out_and_no_other(name, limit):
    frames = night(**{name: {6: BAD[name]}})
    assert list(select(frames, NONE | {name: VALUES[name] if limit == "value" else limit})) == ["f6"]


@pytest.mark.parametrize("name", GOOD)
def test_only_the_bad_side_counts(name):
    assert select(night(**{name: {6: GOOD[name]}}), NONE | {name: "3 sigma"}) == {}


def test_without_limits_all_stay():
    assert select(night(fwhm={6: 20.0}), NONE) == {}


@pytest.mark.parametrize("name", BAD)
def test_what_is_unknown_drops_no_frame(name):
    frames = night(**{name: {k: float("nan") for k in (1, 6)}})
    for limit in (VALUES[name], "3 sigma"):
        assert select(frames, NONE | {name: limit}) == {}


def test_a_night_of_equal_frames_loses_none():
    """Their scatter is tiny, and so would be 3 sigmas of it."""
    tiny = 1e-3 * np.arange(10)
    frames = [Qualities(f"f{k}", 3 + t, 1.1 + t, 300 + t, 18.0, 400 - 20 * k, 1 - t) for k, t in enumerate(tiny)]
    assert select(frames, dict.fromkeys(NONE, "3 sigma")) == {}


def test_a_sky_that_was_subtracted_before_has_its_noise_to_be_measured_by():
    frames = [Qualities(f"f{k}", sky=sky, noise=10.0) for k, sky in enumerate((0.0, 0.4, -0.3, 0.1, 5.0, 200.0))]
    assert list(select(frames, {"sky": "3 sigma"})) == ["f5"]


def test_frames_that_hid_behind_worse_ones_are_found():
    """The median and its spread are told again without those that were dropped."""
    fwhm = [3.0, 3.02, 3.04, 3.0, 3.9, 4.2, 9.0, 12.0]
    frames = [Qualities(f"f{k}", fwhm=value) for k, value in enumerate(fwhm)]
    first = np.median(fwhm) + 3 * 1.4826 * np.median(np.abs(fwhm - np.median(fwhm)))
    assert first > 4.2
    assert list(select(frames, {"fwhm": "3 sigma"})) == ["f4", "f5", "f6", "f7"]


def test_a_spread_is_not_told_from_three():
    frames = [Qualities(f"f{k}", fwhm=value) for k, value in enumerate((3.0, 3.0, 30.0))]
    assert select(frames, {"fwhm": "3 sigma"}, keep=1) == {}


def test_more_sigmas_are_more_patient():
    frames = night(fwhm={6: 4.2})
    assert list(select(frames, {"fwhm": "3 sigma"})) == ["f6"]
    assert select(frames, {"fwhm": "6 sigma"}) == {}


# ---- the least that is kept ------------------------------------------------------------------------------------------


def test_the_least_bad_come_back():
    frames = [Qualities(f"f{k}", fwhm=value) for k, value in enumerate((9.0, 5.0, 3.0, 7.0, 6.0))]
    chosen = select(frames, {"fwhm": 4.0}, keep=3)
    assert sorted(chosen) == ["f0", "f3"]
    assert sorted(chosen.back) == ["f1", "f4"]


def test_of_frames_with_more_faults_the_one_with_less_in_sum_comes_back():
    frames = [Qualities("both", fwhm=4.8, elongation=1.8), Qualities("one", fwhm=5.0, elongation=1.0)]
    assert list(select(frames, {"fwhm": 4.0, "elongation": 1.5}, keep=1)) == ["both"]


def test_those_that_come_back_say_so():
    frames = [Qualities(f"f{k}", fwhm=value) for k, value in enumerate((3.0, 5.0))]
    words = select(frames, {"fwhm": 4.0}, keep=2).back["f1"]
    assert words.startswith("FWHM 5.0 pix is above 4.0 (limits: fwhm)")
    assert "kept all the same, since 2 frames are the least (limits: keep)" in words


def test_a_few_frames_are_all_kept():
    assert select(night(3), dict.fromkeys(NONE, 0.0), keep=3) == {}


# ---- words -----------------------------------------------------------------------------------------------------------


def test_the_reason_has_the_numbers():
    """The median deviation is 0.2, so that the limit is 3.1 + 3 x 1.4826 x 0.2 = 3.99."""
    frames = [Qualities(f"f{k}", fwhm=value) for k, value in enumerate((2.8, 3.0, 3.1, 3.1, 3.4, 4.9))]
    expected = "FWHM 4.9 pix is above 4.0 (3 sigma above the median 3.1 of 6 frames)"
    assert select(frames, {"fwhm": "3 sigma"}) == {"f5": expected}


def test_a_reason_by_value_names_the_key():
    assert select([Qualities("a", stars=12)], {"stars": 50}, keep=0)["a"] == (
        "number of stars 12.0 is below 50.0 (limits: stars)"
    )


def test_all_faults_of_a_frame_are_named():
    reason = select(night(fwhm={6: 4.9}, transparency={6: 0.4}), {"fwhm": 4.0, "transparency": 0.7})["f6"]
    assert "FWHM 4.9 pix is above 4.0" in reason and "transparency 0.40 is below 0.70" in reason


def test_numbers_in_a_reason_differ():
    reason = select([Qualities("a", fwhm=4.2004)], {"fwhm": 4.2}, keep=0)["a"]
    assert "4.2004 pix is above 4.2000" in reason


# ---- limits as they are written --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["3 sigma", "3sigma", " 3.0 sigmas ", "3 sigma"])
def test_ways_to_write_sigmas(text):
    assert list(select(night(fwhm={6: 4.9}), {"fwhm": text})) == ["f6"]


@pytest.mark.parametrize("text", ["three sigma", "3 sigma above", "", "-1 sigma", "0 sigma", True])
def test_a_text_that_is_no_limit_is_an_error(text):
    with pytest.raises(ValueError, match="limits: fwhm: .* is neither a number nor a text like '3 sigma'"):
        select(night(), {"fwhm": text})


def test_a_limit_of_something_else_is_an_error():
    with pytest.raises(ValueError, match="limits: 'seeing' is not one of fwhm, elongation, sky, stars, transparency"):
        select(night(), {"seeing": 3})


def test_the_configuration_has_no_limits_unless_given():
    assert complete({}, SCHEMA)["limits"] == NONE | {"keep": 3}


@pytest.mark.parametrize("value", [4.2, 4, "3 sigma", "2.5 sigma", None])
def test_the_configuration_takes_numbers_and_sigmas(value):
    assert complete({"limits": {"fwhm": value}}, SCHEMA)["limits"]["fwhm"] == value


@pytest.mark.parametrize("value", ["3 sigm", "good", "-3 sigma", [3]])
def test_the_configuration_refuses_other_texts_with_the_key(value):
    with pytest.raises(ConfigError, match="limits.fwhm"):
        complete({"limits": {"fwhm": value}}, SCHEMA)


def test_a_number_that_arrived_as_text_is_one():
    """As `--config limits={fwhm: '4.2'}` brings it."""
    assert list(select(night(fwhm={6: 4.9}), complete({"limits": {"fwhm": "4.2"}}, SCHEMA)["limits"])) == ["f6"]


# ---- transparency ----------------------------------------------------------------------------------------------------


def test_transparency_is_flux_for_the_time_over_the_best():
    clear = np.array([0.5, 1.0, 0.25])
    exposure = np.array([60.0, 30.0, 120.0])
    flux = clear * exposure
    np.testing.assert_allclose(transparencies(flux[0] / flux, exposure), clear)


def test_one_frame_that_was_measured_too_bright_is_not_the_best():
    clear = np.array([1.0, 0.98, 0.97, 0.99, 3.0])
    assert np.abs(transparencies(1 / clear, np.ones(5))[:4] - 1).max() < 0.04


def test_transparency_by_the_catalogue_where_all_frames_have_a_zero_point():
    found = transparencies([1.0, 1.0, 1.0], [60, 60, 60], [20.0, 19.0, 20.0 - 2.5 * np.log10(2)])
    np.testing.assert_allclose(found, [1.0, 10**-0.4, 0.5])


def test_transparency_by_the_stars_where_one_zero_point_is_missing():
    np.testing.assert_allclose(transparencies([1.0, 2.0], [60, 60], [20.0, np.nan]), [1.0, 0.5])


def test_transparency_is_unknown_without_exposure():
    found = transparencies([1.0, 1.0, 2.0], [60.0, 0.0, 60.0])
    assert np.isnan(found[1]) and found[2] == 0.5
