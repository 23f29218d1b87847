"""The ruler of large nights, on a night of 20 frames: that every event is measured, and is the event that it says."""

import os
import re

import measure_scale
import pytest


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    before = os.getcwd()
    try:
        yield {event.name: event for event in measure_scale.measure(20, tmp_path_factory.mktemp("scale"))}
    finally:
        os.chdir(before)


def jobs(event):
    """Jobs that a run announces, without `all` and the total."""
    table = event.text.split("Job stats:")[1].split("total")[0] if "Job stats:" in event.text else ""
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.M) if rule != "all"}


CHAIN = {"combine": 1, "preview": 1, "picture": 1, "stacks": 1, "unsolved": 1, "ledger": 1, "report": 1}


def test_each_light_is_planned(events):
    planned = jobs(events["plan, nothing made"])
    assert planned["light"] == planned["align"] == 16
    assert planned == jobs(events["first plan, frames read"])


def test_with_all_products_and_records_nothing_is_to_be_done(events):
    for name in ("nothing to do", "nothing to do, run"):
        assert "Nothing to be done" in events[name].text


def test_a_light_more_is_its_own_jobs_and_those_of_its_stack(events):
    for name in ("one light added, plan", "one light added, run"):
        assert jobs(events[name]) == {"light": 1, "align": 1} | CHAIN


def test_a_light_less_is_one_stack(events):
    assert jobs(events["one light removed, plan"]) == CHAIN


def test_all_that_is_told_is_measured(events):
    for event in events.values():
        assert event.cpu > 0 and event.wall > 0 and 50 < event.memory < 500
    added = events["one light added, run"]
    assert 0 < added.first < added.wall


def test_the_table_has_a_column_for_each_number_of_frames():
    event = measure_scale.Event("nothing to do", 1.25, 1.0, 100.0)
    text = measure_scale.table({300: [event], 10000: [event]})
    assert text.splitlines() == [
        "| | 300 frames | 10000 frames |",
        "| --- | --- | --- |",
        "| nothing to do | 1.2 s (1.0 CPU), 100 MB | 1.2 s (1.0 CPU), 100 MB |",
    ]
