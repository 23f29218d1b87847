"""The cone of a target's catalogue: that it holds the frames, and that it does not follow every frame that is added."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from firstlight import fields
from firstlight.astrometry import separation


def row(ra=35.0, dec=57.0, time="2026-01-01T12:00:00.000", scale=1.0, nx=3600, ny=0):
    """A light with a field of one degree."""
    return SimpleNamespace(ra=ra, dec=dec, time=time, scale=scale, nx=nx, ny=ny, binned=1)


def cone_of(rows, known=None, margin=0.5, scale=None):
    return fields.chosen(fields.wanted(rows, scale), known, margin)


@pytest.mark.parametrize(
    "places",
    [
        [(35.0, 57.0)],
        [(359.0, 0.0), (1.0, 0.0)],
        [(359.5, 10.0), (0.5, 10.0), (0.0, 12.0)],
        [(0.0, 89.5), (90.0, 89.5), (180.0, 89.5), (270.0, 89.5)],
        [(10.0, -89.9), (190.0, -89.7)],
    ],
)
def test_the_cone_holds_every_frame_and_its_margin_and_little_more(places):
    cone = cone_of([row(ra, dec) for ra, dec in places])
    reach = separation(np.array(places), cone.centre).max() + 0.5
    assert reach + 0.5 - 0.02 <= cone.radius <= reach + 0.5 + 0.05
    assert 0 <= cone.ra < 360


def test_a_frame_far_from_the_others_has_no_part_in_the_cone():
    need = fields.wanted([row(35.0 + step, 57.0) for step in (0, 0.1, 0.2)] + [row(2.3, 57.0)])
    assert need.apart == 1 and separation(need.centre, (35.1, 57.0)) < 0.1 and need.reach < 0.7


def test_a_mosaic_of_some_degrees_has_one_cone():
    need = fields.wanted([row(35.0, 50.0), row(35.0, 54.0)])
    assert need.apart == 0 and need.reach == pytest.approx(2.5)


def test_the_scale_of_the_configuration_stands_in():
    assert fields.wanted([row(scale=None)], 2.0).reach == pytest.approx(1.0)


def test_frames_of_unknown_scale_are_taken_for_wide():
    assert fields.wanted([row(scale=None)]).reach == fields.UNKNOWN_FIELD / 2


def test_frames_that_do_not_say_where_they_point():
    need = fields.wanted([row(ra=None, dec=None), row(35.0, None)])
    cone = fields.chosen(need, None, 0.5)
    assert need.centre is None and cone.centre is None and cone.radius == 1.0


def test_a_frame_without_a_place_does_not_spoil_the_others():
    assert fields.wanted([row(), row(ra=None, dec=None)]).centre == pytest.approx((35.0, 57.0))


def test_the_mean_date_is_a_julian_year():
    assert fields.wanted([row(time="2000-01-01T12:00:00"), row(time="2010-01-01T00:00:00")]).epoch == pytest.approx(
        2005.0, abs=0.01
    )
    assert fields.wanted([row(time=None)]).epoch is None


# Kept, or not


def test_a_dithered_frame_that_is_added_moves_nothing():
    known = cone_of([row(35.0, 57.0), row(35.02, 57.01)])
    for offset in np.linspace(-0.2, 0.2, 21):
        assert cone_of([row(35.0, 57.0), row(35.02, 57.01), row(35.0, 57.0 + offset)], known) is known


def test_a_frame_that_is_removed_moves_nothing():
    known = cone_of([row(35.0, 57.0), row(35.0, 58.0)])
    assert cone_of([row(35.0, 57.0)], known) is known


def test_a_frame_beyond_the_cone_makes_a_new_one():
    known = cone_of([row(35.0, 57.0)])
    new = cone_of([row(35.0, 57.0), row(35.0, 58.0)], known)
    assert new.radius > known.radius and separation(new.centre, (35.0, 58.0)) + 0.5 < new.radius


def test_another_margin_makes_a_new_one():
    assert cone_of([row()], cone_of([row()]), margin=0.2).radius == pytest.approx(0.7, abs=0.011)


@pytest.mark.parametrize(("year", "kept"), [("2026-06-01", True), ("2029-01-01", False)])
def test_frames_of_other_years_make_a_new_one(year, kept):
    known = cone_of([row()])
    assert (cone_of([row(time=f"{year}T12:00:00")], known) is known) == kept


def test_a_place_that_becomes_known_makes_a_new_one():
    assert cone_of([row()], cone_of([row(None, None)])).centre == (35.0, 57.0)


def test_the_record_is_read_as_it_was_written():
    known = {
        "M 31, a": cone_of([row()]),
        "b": cone_of([row(None, None, None)]),
        "c": fields.Field(1.0, 2.0, 3.0, 4.0, 5.0, "t"),
    }
    assert fields.from_text(fields.to_text(known)) == known


@pytest.mark.parametrize("text", [None, "", "target,ra\nM31,5\n"])
def test_a_record_of_another_kind_is_no_record(text):
    assert fields.from_text(text) == {}


# Asked again


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def again(seconds_ago, reachable=True, before=""):
    failed = (NOW - timedelta(seconds=seconds_ago)).isoformat() if seconds_ago is not None else None
    one = fields.Field(1.0, 2.0, 3.0, again=failed if before == "same" else before)
    return fields.retried(one, failed, lambda: reachable, NOW) is not one


def test_an_archive_that_failed_is_asked_again_later():
    assert again(3600)


def test_it_is_not_asked_again_right_after():
    assert not again(30)


def test_it_is_not_asked_again_while_it_cannot_be_reached():
    """A failure makes all lights of the target anew as well; so nothing is tried that must fail."""
    assert not again(3600, reachable=False)


def test_what_has_been_decided_stays_so():
    """The same failure gives the same mark: a dry-run, the run after it, and a run that is taken up again."""
    assert not again(3600, before="same")


def test_a_catalogue_that_did_not_fail_is_left_alone():
    asked = []
    one = fields.Field(1.0, 2.0, 3.0, again="2025-01-01T00:00:00+00:00")
    assert fields.retried(one, None, lambda: asked.append(1), NOW) is one and not asked
