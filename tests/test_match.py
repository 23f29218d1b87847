"""Who goes with whom. Truth: rows made by hand, of which an observer would say at once what belongs together."""

from dataclasses import replace
from pathlib import Path

import pytest
from firstlight import match, matches
from firstlight.config import complete, read_schema
from firstlight.frames import Row

SCHEMA = Path(__file__).parents[1] / "config.schema.yaml"
DEFAULTS = complete({}, read_schema(SCHEMA))["match"]
TONIGHT, BEFORE, LONG_AGO = "2023-03-13", "2023-03-12", "2023-01-01"


def row(name, kind="light", night=TONIGHT, **facts):
    """A row of a plain camera; hashes follow the name."""
    plain = dict(
        path=f"raw/{name}.fits", name=f"{name}_00000000", kind=kind, night=night,
        target="M42" if kind == "light" else "", filter="none" if kind in ("bias", "dark", "flatdark") else "R",
        camera="cam_1x1_100x100", exposure=60.0, binning="1x1", gain_setting="", temperature=-10.0, nx=100, ny=100,
        time=f"{night}T22:00:00", instrument="cam", readout="", offset="", telescope="", focal_length=None,
        rotator=None, object="M 42", band="R", ra=None, dec=None, scale=None, header_hash=f"h{name}",
        pixel_hash=f"p{name}", notes="",
    )  # fmt: skip
    if kind == "bias":
        plain["exposure"] = 0.0
    return Row(**plain | facts)


def chosen(*rows, missing="allow", frame="light", **options):
    """What the row of this name is calibrated with, as {kind: names of the master's frames}, and its notes."""
    plan = match.plan(rows, DEFAULTS | options, missing)
    one = next(row for row in rows if row.name.startswith(frame))
    found = plan.chosen(one)
    used = {kind: getattr(found, kind) for kind in ("bias", "dark", "flat")}
    return {k: [r.path[4:-5] for r in m.rows] for k, m in used.items() if m is not None}, " | ".join(found.notes)


LIGHT = row("light")


# --- Groups ---------------------------------------------------------------------------------------------------------
def test_frames_of_a_kind_night_and_camera_make_a_master():
    rows = [row("b1", "bias"), row("b2", "bias"), row("b3", "bias", BEFORE), row("b4", "bias", camera="other")]
    masters = match.plan(rows, DEFAULTS).masters
    assert {path: [r.name[:2] for r in m.rows] for path, m in masters.items()} == {
        f"masters/{BEFORE}/cam_1x1_100x100/bias.fits": ["b3"],
        f"masters/{TONIGHT}/cam_1x1_100x100/bias.fits": ["b1", "b2"],
        f"masters/{TONIGHT}/other/bias.fits": ["b4"],
    }


def test_darks_are_told_apart_by_exposure_temperature_and_kind():
    rows = [row("a", "dark"), row("b", "dark", exposure=30.0), row("c", "dark", temperature=5.2), row("d", "flatdark")]
    rows += [row("e", "dark", temperature=None), row("f", "dark", exposure=0.5), row("g", "dark", temperature=-9.6)]
    names = {path.rsplit("/")[-1]: len(m.rows) for path, m in match.plan(rows, DEFAULTS).masters.items()}
    assert names == {
        "dark_60s_-10C.fits": 2,
        "dark_30s_-10C.fits": 1,
        "dark_60s_5C.fits": 1,
        "flatdark_60s_-10C.fits": 1,
        "dark_60s_unknownC.fits": 1,
        "dark_0.5s_-10C.fits": 1,
    }


def test_a_shutter_that_is_a_millisecond_off_makes_no_master_of_its_own():
    rows = [row("a", "dark", exposure=59.998), row("b", "dark", exposure=60.0), row("c", "dark", exposure=60.0023)]
    assert [path.rsplit("/")[-1] for path in match.plan(rows, DEFAULTS).masters] == ["dark_60s_-10C.fits"]


def test_flats_are_told_apart_by_filter():
    rows = [row("a", "flat"), row("b", "flat", filter="V"), row("c", "flat", exposure=3.0)]
    names = {path.rsplit("/")[-1]: len(m.rows) for path, m in match.plan(rows, DEFAULTS).masters.items()}
    assert names == {"flat_R.fits": 2, "flat_V.fits": 1}


def test_a_stack_holds_the_lights_of_a_target_and_filter_of_all_nights_in_order_of_time():
    rows = [row("late"), row("early", night=BEFORE), row("v", filter="V"), row("other", target="M31")]
    plan = match.plan(rows, DEFAULTS)
    assert {key: [r.name.split("_")[0] for r in found] for key, found in plan.stacks.items()} == {
        ("M31", "R"): ["other"],
        ("M42", "R"): ["early", "late"],
        ("M42", "V"): ["v"],
    }
    assert plan.targets == {"M31": ["R"], "M42": ["R", "V"]}


def test_rows_in_any_order_give_the_same_plan():
    rows = [LIGHT, row("b1", "bias"), row("b2", "bias"), row("d", "dark"), row("f", "flat"), row("l2")]
    one, other = match.plan(rows, DEFAULTS), match.plan(rows[::-1], DEFAULTS)
    assert one.masters == other.masters and one.stacks == other.stacks


# --- Choice ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_the_master_of_the_nearest_night_is_taken(kind):
    rows = [row("old", kind, LONG_AGO), row("near", kind, "2023-03-15"), row("far", kind, "2023-04-01")]
    assert chosen(LIGHT, *rows)[0][kind] == ["near"]


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_of_two_equally_near_nights_the_earlier_is_taken(kind):
    rows = [row("after", kind, "2023-03-14"), row("before", kind, BEFORE)]
    assert chosen(LIGHT, *rows)[0][kind] == ["before"]


def test_nights_across_a_month_are_counted_in_days():
    light = row("light", night="2023-03-01")
    assert chosen(light, row("feb", "bias", "2023-02-27"), row("mar", "bias", "2023-03-08"))[0]["bias"] == ["feb"]


def test_a_night_that_is_unknown_is_the_last_choice_but_one():
    assert chosen(LIGHT, row("unknown", "bias", "unknown"), row("old", "bias", "2010-01-01"))[0]["bias"] == ["old"]
    assert chosen(LIGHT, row("unknown", "bias", "unknown"))[0]["bias"] == ["unknown"]


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_a_master_of_another_camera_is_never_taken(kind):
    assert chosen(LIGHT, row("other", kind, camera="cam_2x2_50x50"))[0] == {}


def test_a_flat_of_another_filter_is_never_taken():
    found, notes = chosen(LIGHT, row("v", "flat", filter="V", band="V"))
    assert "flat" not in found and "no flat in filter R" in notes


@pytest.mark.parametrize("exposure, taken", [(60.0, True), (61.0, True), (58.9, True), (62.0, False), (58.0, False)])
def test_without_a_bias_only_a_dark_of_equal_exposure_is_taken(exposure, taken):
    found, notes = chosen(LIGHT, row("d", "dark", exposure=exposure))
    assert ("dark" in found) == taken
    assert ("no dark of 60 s, without a bias none can be scaled" in notes) != taken


def test_a_dark_of_equal_exposure_is_preferred_to_a_longer_one_of_the_night():
    found, notes = chosen(LIGHT, row("b", "bias"), row("long", "dark", exposure=600.0), row("same", "dark", BEFORE))
    assert found["dark"] == ["same"] and "scaled" not in notes


@pytest.mark.parametrize("exposure, taken", [(20.0, True), (19.9, False), (600.0, True)])
def test_a_dark_is_scaled_up_to_the_limit_and_down_without_one(exposure, taken):
    found, notes = chosen(LIGHT, row("b", "bias"), row("d", "dark", exposure=exposure))
    assert ("dark" in found) == taken
    if taken:
        assert f"dark of {exposure:g} s scaled to 60 s" in notes
    else:
        assert "the longest dark has 19.9 s, too short to be scaled to 60 s (match: scale_limit)" in notes


def test_the_limit_and_the_scaling_itself_can_be_configured():
    rows = (LIGHT, row("b", "bias"), row("d", "dark", exposure=10.0))
    assert "dark" in chosen(*rows, scale_limit=6.0)[0]
    assert "match: scale_dark is off" in chosen(*rows, scale_limit=6.0, scale_dark=False)[1]


def test_of_one_nights_darks_the_longest_is_scaled():
    rows = [row("b", "bias"), row("short", "dark", exposure=30.0), row("long", "dark", exposure=300.0)]
    assert chosen(LIGHT, *rows)[0]["dark"] == ["long"]


def test_tonights_dark_is_scaled_rather_than_a_longer_one_of_last_winter():
    rows = [row("b", "bias"), row("tonight", "dark", exposure=120.0), row("winter", "dark", LONG_AGO, exposure=600.0)]
    assert chosen(LIGHT, *rows)[0]["dark"] == ["tonight"]


@pytest.mark.parametrize(
    "temperature, taken", [(-10.0, True), (-8.0, True), (-12.0, True), (-7.9, False), (None, True)]
)
def test_a_dark_within_the_tolerance_of_temperature_is_taken(temperature, taken):
    found, notes = chosen(LIGHT, row("d", "dark", temperature=temperature))
    assert ("dark" in found) == taken
    assert ("no dark within 2 C" in notes) != taken


def test_of_one_nights_darks_that_of_the_nearest_temperature_is_taken():
    rows = [row("warm", "dark", temperature=-9.0), row("cold", "dark", temperature=-12.0)]
    assert chosen(row("light", temperature=-10.4), *rows)[0]["dark"] == ["warm"]
    assert chosen(row("light", temperature=-10.6), *rows)[0]["dark"] == ["cold"]


def test_of_one_nights_darks_that_of_the_nearest_exposure_is_taken():
    rows = [row("a", "dark", exposure=59.0), row("b", "dark", exposure=60.0), row("c", "dark", exposure=61.0)]
    assert [chosen(row("light", exposure=x), *rows)[0]["dark"] for x in (59.0, 60.0, 61.0)] == [["a"], ["b"], ["c"]]


def test_a_light_of_unknown_exposure_says_what_dark_it_got():
    found, notes = chosen(row("light", exposure=None), row("d", "dark"))
    assert found["dark"] == ["d"] and "exposure not known of both: dark of 60 s subtracted as it is" in notes


def test_flats_are_reduced_with_flat_darks_before_darks_and_lights_never_with_flat_darks():
    rows = [row("flat", "flat", exposure=3.0), row("d", "dark", exposure=3.0), row("fd", "flatdark", exposure=3.0)]
    assert chosen(*rows, frame="flat")[0]["dark"] == ["fd"]
    assert chosen(*rows[:2], frame="flat")[0]["dark"] == ["d"]
    assert "dark" not in chosen(LIGHT, row("fd", "flatdark"))[0]


def test_without_anything_each_missing_kind_is_said():
    assert chosen(LIGHT)[1] == "no dark | no bias: the level that is not light stays in the frame | no flat in filter R"


# --- Masters of masters ---------------------------------------------------------------------------------------------
NIGHT = [LIGHT, row("b", "bias"), row("d", "dark"), row("f", "flat", exposure=3.0), row("fd", "flatdark", exposure=3.0)]


def of(plan, name):
    """The masters that the frames of the master of this file name are reduced with."""
    found = plan.of_master(next(m for path, m in plan.masters.items() if path.endswith(name)))
    return {
        kind: getattr(found, kind).path.rsplit("/")[-1] for kind in ("bias", "dark", "flat") if getattr(found, kind)
    }


def test_each_kind_of_master_is_reduced_with_what_it_needs():
    plan = match.plan(NIGHT, DEFAULTS)
    assert of(plan, "/bias.fits") == {}
    assert of(plan, "/dark_60s_-10C.fits") == {"bias": "bias.fits"}
    assert of(plan, "/flatdark_3s_-10C.fits") == {"bias": "bias.fits"}
    assert of(plan, "/flat_R.fits") == {"bias": "bias.fits", "dark": "flatdark_3s_-10C.fits"}


def test_flat_darks_keep_a_dark_of_the_same_exposure_to_themselves():
    rows = [row("fd", "flatdark", exposure=3.0), row("d", "dark", exposure=3.0)]
    assert of(match.plan(rows, DEFAULTS), "/flatdark_3s_-10C.fits") == {}


def test_only_masters_that_something_needs_are_made():
    extra = [
        row("bv", "bias", LONG_AGO),
        row("v", "flat", filter="V"),
        row("d9", "dark", exposure=900.0),
        row("o", "bias", camera="x"),
    ]
    used = match.plan(NIGHT + extra, DEFAULTS).used_masters()
    assert [m.path.rsplit("/")[-1] for m in used] == [
        "bias.fits",
        "dark_60s_-10C.fits",
        "flat_R.fits",
        "flatdark_3s_-10C.fits",
    ]


def test_no_master_uses_itself_directly_or_by_another():
    plan = match.plan([*NIGHT, row("d3", "dark", exposure=3.0), row("f2", "flat", BEFORE)], DEFAULTS)
    order = {"bias": 0, "dark": 1, "flatdark": 1, "flat": 2}
    for master in plan.masters.values():
        for part in ("bias", "dark", "flat"):
            other = getattr(plan.of_master(master), part)
            assert other is None or order[other.kind] < order[master.kind]


# --- Identity -------------------------------------------------------------------------------------------------------
def identity(*rows):
    (master,) = match.plan(rows, DEFAULTS).masters.values()
    return master.identity


BIASES = [row("b1", "bias"), row("b2", "bias")]


def test_a_masters_identity_is_that_of_its_pixels_and_headers_whatever_the_files_are_called():
    renamed = [replace(r, path=f"elsewhere/x{n}.fits", name=f"x{n}_00000000") for n, r in enumerate(reversed(BIASES))]
    assert identity(*renamed) == identity(*BIASES)


@pytest.mark.parametrize("change", [{"pixel_hash": "new"}, {"header_hash": "new"}])
def test_a_masters_identity_changes_with_a_frames_pixels_or_header(change):
    assert identity(BIASES[0], replace(BIASES[1], **change)) != identity(*BIASES)


def test_a_masters_identity_changes_when_a_frame_comes_or_goes():
    assert len({identity(*BIASES), identity(BIASES[0]), identity(*BIASES, row("b3", "bias"))}) == 3


# --- Missing calibrations -------------------------------------------------------------------------------------------
def test_what_is_missing_is_said_with_example_and_number():
    plan = match.plan([LIGHT, row("light2"), row("b", "bias"), row("d", "dark")], DEFAULTS)
    assert plan.missing == [
        "no flat for 2 lights of M 42 in R (camera cam_1x1_100x100, 60 s, night 2023-03-13, for example raw/light.fits): "
        "there is none at all; masters: may name a ready one"
    ]
    assert len(plan.lights) == 2 and not plan.left_out


@pytest.mark.parametrize(
    "light, other, options, words",
    [
        ({"temperature": -10.0}, ("dark", {"temperature": -4.0}), {}, "-4 C, looked for -10 C (match: temperature: 2)"),
        ({}, ("dark", {"exposure": 10.0}), {}, "10 s, looked for 60 s (match: exposure: 0.02), without a bias none"),
        ({}, ("dark", {"night": BEFORE}), {"nights": 0}, "night 2023-03-12, looked for 2023-03-13 (match: nights: 0)"),
        ({"rotator": 2.0}, ("flat", {"rotator": 90.0}), {}, "rotator 90 deg, looked for 2 deg (match: rotator: 2)"),
        ({"focal_length": 530.0}, ("flat", {"focal_length": 800.0}), {}, "800 mm, looked for 530 mm (match: focal_length: 0.03)"),
        ({"telescope": "A"}, ("flat", {"telescope": "B"}), {}, "telescope B, looked for A (match: telescope: true)"),
        ({}, ("flat", {"filter": "V", "band": "V"}), {}, "there are flats of this camera in V"),
        ({}, ("flat", {"camera": "small"}), {}, "there is one of camera small; masters: may name"),
    ],
)  # fmt: skip
def test_what_was_there_is_said_with_both_values_and_the_key_that_relaxes_it(light, other, options, words):
    kind, facts = other
    plan = match.plan([row("light", **light), row("x", kind, **facts)], DEFAULTS | options)
    (sentence,) = [one for one in plan.missing if one.startswith(f"no {kind}")]
    assert words in sentence


def test_the_three_nearest_of_many_that_do_not_fit_are_named():
    darks = [row(f"d{n}", "dark", f"2023-02-{n:02d}", temperature=20.0) for n in range(1, 21)]
    sentence = next(one for one in match.plan([LIGHT, *darks], DEFAULTS).missing if one.startswith("no dark"))
    assert [f"2023-02-{n}" in sentence for n in (20, 19, 18, 17)] == [True, True, True, False]
    assert "and 17 more, see matches.csv" in sentence


def test_lights_of_other_exposures_are_told_apart_where_something_is_missing():
    plan = match.plan([LIGHT, row("long", exposure=600.0), row("b", "bias"), row("f", "flat")], DEFAULTS)
    assert [sentence.split(", night")[0].split(", ")[1] for sentence in plan.missing] == ["60 s", "600 s"]


def test_masters_of_another_night_are_said_before_a_run():
    plan = match.plan(
        [LIGHT, row("l2"), row("b", "bias", BEFORE), row("d", "dark"), row("f", "flat", LONG_AGO)], DEFAULTS
    )
    assert "flat from 71 nights away: flat_R.fits of 2023-01-01 (2 lights of M 42 in R)" in plan.notes()
    assert not any("bias.fits" in note and "2 lights" in note for note in plan.notes())  # the dark replaces it


def test_a_flat_without_a_dark_is_a_note_and_listed_where_missing_stops():
    rows = [LIGHT, row("b", "bias"), row("d", "dark"), row("f", "flat", exposure=300.0)]
    plan = match.plan(rows, DEFAULTS, "stop")
    assert plan.missing == []
    (note,) = [one for one in plan.notes() if one.startswith("no dark for flat_R.fits of 2023-03-13")]
    assert "exposure 60 s, looked for 300 s, too short to be scaled (match: scale_limit: 3)" in note
    (listed,) = plan.missing_of_masters()
    assert note.startswith(listed)


def test_a_flat_without_bias_and_dark_lacks_both():
    plan = match.plan([LIGHT, row("d", "dark"), row("f", "flat", exposure=300.0)], DEFAULTS, "stop")
    assert [one.partition(" for ")[0] for one in plan.missing_of_masters()] == ["no bias", "no dark"]


def test_a_dark_of_equal_exposure_makes_up_for_a_bias():
    plan = match.plan([LIGHT, row("d", "dark"), row("f", "flat")], DEFAULTS)
    assert plan.missing == []


def test_a_whole_night_misses_nothing():
    assert match.plan(NIGHT, DEFAULTS, "stop").missing == []


def test_stop_lists_every_case_at_once():
    plan = match.plan([LIGHT, row("v", filter="V", band="V")], DEFAULTS, "stop")
    assert [sentence.split(" (")[0] for sentence in plan.missing] == [
        f"no {kind} for 1 light of M 42 in {band}" for kind in ("bias", "dark", "flat") for band in ("R", "V")
    ]


COLD = {"temperature": -30.0}


def test_drop_leaves_out_lights_whose_fellows_have_the_calibration():
    plan = match.plan(
        [LIGHT, row("cold", **COLD), row("b", "bias"), row("d", "dark"), row("f", "flat")], DEFAULTS, "drop"
    )
    assert list(plan.lights) == ["light_00000000"]
    ((left, reason),) = plan.left_out
    assert left.path == "raw/cold.fits"
    assert reason == "no dark, which other lights of M 42 in R have (missing: drop)"
    assert [r.name for r in plan.stacks["M42", "R"]] == ["light_00000000"]


def test_drop_leaves_lights_alone_where_no_fellow_has_it():
    plan = match.plan([LIGHT, row("light2"), row("b", "bias")], DEFAULTS, "drop")
    assert len(plan.lights) == 2 and plan.left_out == []


def test_drop_counts_only_fellows_of_the_same_target_and_filter():
    rows = [
        LIGHT,
        row("cold", target="M31", object="M31", **COLD),
        row("b", "bias"),
        row("d", "dark"),
        row("f", "flat"),
    ]
    assert len(match.plan(rows, DEFAULTS, "drop").lights) == 2


def test_drop_never_empties_a_stack():
    flat_only = row("flat_only", camera="a", night=TONIGHT)
    dark_only = row("dark_only", camera="b", night=TONIGHT)
    rows = [flat_only, dark_only, row("f", "flat", camera="a"), row("d", "dark", camera="b")]
    plan = match.plan(rows, DEFAULTS, "drop")
    assert len(plan.stacks["M42", "R"]) == 1


def test_allow_keeps_all_lights():
    plan = match.plan([LIGHT, row("cold", **COLD), row("b", "bias"), row("d", "dark"), row("f", "flat")], DEFAULTS)
    assert len(plan.lights) == 2 and len(plan.missing) == 1


# --- Selection ------------------------------------------------------------------------------------------------------
SKY = [
    LIGHT,
    row("v", filter="V", band="V"),
    row("old", night=LONG_AGO),
    row("other", target="M31", object="Andromeda Nebula"),
    row("small", filter="r_1a2b", band="r"),
]


@pytest.mark.parametrize(
    "select, names",
    [
        ({}, "light v old other small"),
        ({"targets": [], "nights": [], "filters": []}, "light v old other small"),
        ({"targets": ["M31"]}, "other"),
        ({"targets": ["m 42"]}, "light v old small"),
        ({"targets": ["andromedanebula"]}, "other"),
        ({"nights": [LONG_AGO]}, "old"),
        ({"filters": ["V"]}, "v"),
        ({"filters": ["R"]}, "light old other"),
        ({"filters": ["r"]}, "small"),
        ({"filters": ["R", "V"], "nights": [TONIGHT], "targets": ["M42"]}, "light v"),
        ({"targets": ["M 33"]}, ""),
    ],
)
def test_only_selected_lights_are_reduced(select, names):
    plan = match.plan(SKY, DEFAULTS, "allow", select)
    assert {name.split("_")[0] for name in plan.lights} == set(names.split())


def test_calibration_frames_of_other_nights_stay_available_when_a_night_is_selected():
    plan = match.plan([LIGHT, row("b", "bias", LONG_AGO)], DEFAULTS, "allow", {"nights": [TONIGHT]})
    assert plan.chosen(LIGHT).bias is not None


# --- Telescope, focal length, rotator -------------------------------------------------------------------------------
def flats_of(*rows, **options):
    """{file name: names of its frames} of the master flats."""
    masters = match.plan(rows, DEFAULTS | options).masters
    return {path.rsplit("/")[-1]: sorted(r.path[4:-5] for r in m.rows) for path, m in masters.items()}


@pytest.mark.parametrize(
    "key, light, flat, taken",
    [
        ("focal_length", 3986.2, 4014.0, True),
        ("focal_length", 4014.0, 3900.0, True),
        ("focal_length", 4014.0, 3880.0, False),
        ("rotator", 359.5, 1.0, True),
        ("rotator", 1.0, -359.2, True),
        ("rotator", 359.0, 1.5, False),
        ("rotator", 90.0, 270.0, False),
        ("telescope", "ARCSAT 0.5-m", "arcsat 0.5-M ", True),
        ("telescope", "FSQ106", "C11", False),
        ("telescope", "", "C11", True),
        ("rotator", None, 90.0, True),
        ("focal_length", 530.0, None, True),
    ],
)
def test_a_flat_fits_where_telescope_focal_length_and_rotator_do_or_one_is_not_known(key, light, flat, taken):
    found, _ = chosen(row("light", **{key: light}), row("f", "flat", **{key: flat}))
    assert ("flat" in found) == taken


@pytest.mark.parametrize("key, value", [("telescope", False), ("focal_length", None), ("rotator", None)])
def test_each_of_these_criteria_can_be_switched_off(key, value):
    ours, its = {"telescope": ("A", "B"), "focal_length": (500.0, 900.0), "rotator": (0.0, 90.0)}[key]
    rows = row("light", **{key: ours}), row("f", "flat", **{key: its})
    assert "flat" not in chosen(*rows)[0] and "flat" in chosen(*rows, **{key: value})[0]


def test_of_one_night_a_flat_of_the_known_set_up_is_preferred_to_an_unknown_one():
    light = row("light", rotator=90.0, telescope="A")
    rows = [row("unknown", "flat", "2023-03-12"), row("known", "flat", "2023-03-14", rotator=90.0, telescope="A")]
    assert chosen(light, *rows)[0]["flat"] == ["known"]
    tonight = row("tonight", "flat")
    assert chosen(light, *rows, tonight)[0]["flat"] == ["tonight"]


def test_flats_of_one_night_with_other_set_ups_make_masters_of_their_own_and_the_earliest_keeps_the_plain_name():
    rows = [row(f"a{n}", "flat", rotator=r, time=f"{TONIGHT}T18:0{n}:00") for n, r in enumerate((89.7, 90.2, 90.4))]
    rows += [row(f"b{n}", "flat", rotator=r, time=f"{TONIGHT}T19:0{n}:00") for n, r in enumerate((359.6, 0.4))]
    wanted = {"flat_R.fits": ["a0", "a1", "a2"], "flat_R_rot0.fits": ["b0", "b1"]}
    assert flats_of(*rows) == flats_of(*rows[::-1]) == wanted
    assert chosen(row("light", rotator=0.1), *rows)[0]["flat"] == ["b0", "b1"]
    assert chosen(row("light", rotator=91.0), *rows)[0]["flat"] == ["a0", "a1", "a2"]


def test_names_of_flats_say_what_differs():
    early = row("a", "flat", telescope="FSQ 106", focal_length=530.0, time="0")
    assert set(flats_of(early, row("b", "flat", telescope="C11/HD", focal_length=2800.0))) == {
        "flat_R.fits",
        "flat_R_C11HD_fl2800.fits",
    }
    assert set(flats_of(early, row("b", "flat", telescope="FSQ 106", focal_length=385.0))) == {
        "flat_R.fits",
        "flat_R_fl385.fits",
    }
    narrow = [row(name, "flat", rotator=angle) for name, angle in (("a", 90.1), ("b", 90.3))]
    assert set(flats_of(*narrow, rotator=0.05)) == {"flat_R.fits", "flat_R_rot90.3.fits"}


def test_a_suffix_never_meets_a_filter_of_that_name():
    rows = [row("a", "flat", rotator=0.0, time="0"), row("b", "flat", rotator=90.0), row("c", "flat", filter="R_rot90")]
    found = flats_of(*rows)
    assert found["flat_R.fits"] == ["a"] and found["flat_R_rot90.fits"] == ["c"] and len(found) == 3


def test_flats_that_do_not_say_join_the_only_set_up_there_is_and_stay_alone_between_two():
    rows = [row("a", "flat", rotator=0.0), row("b", "flat")]
    assert flats_of(*rows) == {"flat_R.fits": ["a", "b"]}
    assert sorted(flats_of(*rows, row("c", "flat", rotator=90.0)).values()) == [["a"], ["b"], ["c"]]


def test_a_rotator_that_creeps_on_makes_no_endless_chain():
    rows = [row(f"f{n:02d}", "flat", rotator=float(n)) for n in range(40)]
    masters = match.plan(rows, DEFAULTS).masters.values()
    for master in masters:
        angles = [r.rotator for r in master.rows]
        assert max(angles) - min(angles) <= 4.0
    assert 8 <= len(masters) <= 20


def test_focal_lengths_that_a_solver_wrote_stay_one_master():
    rows = [row(f"f{n}", "flat", focal_length=f) for n, f in enumerate((3986.2, 3995.6, 4001.5, 4014.0))]
    assert list(flats_of(*rows)) == ["flat_R.fits"]


# --- Temperatures ---------------------------------------------------------------------------------------------------
def darks_of(*temperatures, **options):
    """{end of the name: temperatures} of master darks."""
    rows = [row(f"d{n:02d}", "dark", temperature=t) for n, t in enumerate(temperatures)]
    masters = match.plan(rows, DEFAULTS | options).masters
    return {path[:-5].rsplit("_")[-1]: sorted(r.temperature for r in m.rows) for path, m in masters.items()}


@pytest.mark.parametrize("step", [0.0, 0.25, 0.5, 0.9])
def test_darks_of_one_temperature_make_one_master_wherever_it_is_rounded(step):
    found = darks_of(-19.4 - step, -19.6 - step, -19.5 - step)
    assert len(found) == 1


def test_two_set_points_make_two_masters_whatever_their_scatter():
    found = darks_of(-10.3, -9.8, -10.1, -15.2, -14.9)
    assert found == {"-10C": [-10.3, -10.1, -9.8], "-15C": [-15.2, -14.9]}


def test_a_warming_camera_makes_no_endless_chain():
    values = [n / 10 for n in range(0, 101)]
    found = darks_of(*values)
    assert sorted(t for group in found.values() for t in group) == values
    assert all(max(group) - min(group) <= DEFAULTS["temperature"] for group in found.values()) and len(found) <= 8
    darks = [row(f"d{n}", "dark", temperature=value) for n, value in enumerate(values)]
    for temperature in (0.0, 5.0, 10.0):
        assert "dark" in chosen(row("light", temperature=temperature), *darks)[0]


def test_names_are_as_plain_as_tells_temperatures_apart():
    assert set(darks_of(-10.2, -9.8, temperature=0.2)) == {"-10.2C", "-9.8C"}
    assert set(darks_of(-0.4)) == {"0C"}


# --- Nights and library ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("nights, taken", [(None, True), (1, True), (0, False)])
@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_masters_of_nights_too_far_away_are_not_taken(kind, nights, taken):
    assert (kind in chosen(LIGHT, row("old", kind, BEFORE), nights=nights)[0]) == taken


def with_library(rows, library, **options):
    return match.plan(rows, DEFAULTS | options, library=library)


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_a_ready_master_serves_where_the_night_has_none_and_stands_below_library(kind):
    ready = row("mine", kind, LONG_AGO)
    found = getattr(with_library([LIGHT], [ready]).chosen(LIGHT), kind)
    assert found.ready and found.path == "masters/library/mine_00000000.fits" and found.rows == (ready,)


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_own_frames_go_before_the_library_of_as_near_a_night_and_a_nearer_night_before_both(kind):
    own, far = row("own", kind), row("own", kind, LONG_AGO)
    ready = row("ready", kind, temperature=-10.1, rotator=3.0)
    light = row("light", temperature=-10.1, rotator=3.0)
    assert not getattr(with_library([light, own], [ready]).chosen(light), kind).ready
    assert getattr(with_library([light, far], [ready]).chosen(light), kind).ready


def test_of_ready_masters_only_darks_ask_for_another_master():
    library = [row("b", "bias"), row("d", "dark"), row("f", "flat")]
    plan = with_library([LIGHT], library)
    found = {m.kind: plan.of_master(m) for m in plan.masters.values()}
    assert found["bias"] == found["flat"] == match.Chosen() and found["dark"].bias.kind == "bias"


# --- The record -----------------------------------------------------------------------------------------------------
def record(*rows, library=(), frame="light_00000000", **options):
    """Lines of the record for one frame, as dicts."""
    plan = match.plan(rows, DEFAULTS | options, library=library)
    lines = [dict(zip(matches.COLUMNS, line, strict=True)) for line in matches.matches(plan)]
    return [line for line in lines if line["frame"] == frame]


def test_each_master_that_could_have_served_is_recorded_with_how_far_off_it_was():
    light = row("light", rotator=10.0, focal_length=1000.0, telescope="A")
    rows = [
        light,
        row("b", "bias", BEFORE),
        row("d", "dark", exposure=30.0, temperature=-9.0),
        row("f", "flat", LONG_AGO, rotator=11.5, focal_length=1010.0, telescope="B"),
    ]
    bias, dark, flat = record(*rows)
    assert (bias["kind"], bias["nights"], bias["source"]) == ("bias", "1", "1 frame of 2023-03-12")
    assert (dark["exposure_ratio"], dark["temperature_difference"]) == ("2", "+1.00")
    assert (flat["telescope"], flat["focal_length_difference"], flat["rotator_difference"]) == (
        "other",
        "+0.0100",
        "+1.50",
    )
    assert [line["fits"] for line in (bias, dark, flat)] == ["yes", "yes", "no"]
    assert flat["why_not"] == "telescope B, looked for A (match: telescope: true)" and flat["chosen"] == "no"


def test_the_record_says_which_won_and_why():
    rows = [LIGHT, row("near", "bias", BEFORE), row("far", "bias", LONG_AGO)]
    near, far = record(*rows)
    assert (near["chosen"], near["why"]) == ("yes", "nearest night")
    assert (far["chosen"], far["why"]) == ("no", "farther night")


@pytest.mark.parametrize(
    "one, other, library, why",
    [
        (row("a", "dark"), row("b", "dark", exposure=120.0), False, "equal exposure"),
        (row("a", "dark", exposure=60.2), row("b", "dark", exposure=60.9), False, "nearer exposure"),
        (row("a", "dark", temperature=-10.2), row("b", "dark", temperature=-11.9), False, "nearer temperature"),
        (row("a", "dark", exposure=300.0), row("b", "dark", exposure=120.0), False, "longer exposure"),
        (row("a", "bias"), row("b", "bias"), True, "of the night's own frames"),
        (row("a", "bias", BEFORE), row("b", "bias", "2023-03-14"), False, "the earlier of two as near"),
        (row("a", "bias"), row("b", "bias", camera="x"), False, "only one"),
        (row("a", "dark"), row("b", "dark", temperature=20.0), False, "only one that fits"),
    ],
)
def test_reasons(one, other, library, why):
    rows = [LIGHT, row("z", "bias"), one] if one.kind == "dark" else [LIGHT, one]
    lines = record(*rows, *([] if library else [other]), library=[other] if library else ())
    (line,) = [line for line in lines if line["kind"] == one.kind and line["chosen"] == "yes"]
    assert line["why"] == why


def test_of_many_masters_the_record_tells_of_the_nearest():
    """A table of all nights for all lights would grow with the square of the frames."""
    far = [row(f"b{n}", "bias", f"2023-01-{n:02d}") for n in range(1, 31)]
    lines = record(LIGHT, *far, row("near", "bias", BEFORE))
    assert len(lines) == matches.MOST and lines[0]["chosen"] == "yes"
    assert [int(line["nights"]) for line in lines] == [1, *range(42, 51)]


def test_lights_that_ask_alike_are_compared_with_all_masters_once(monkeypatch):
    rows = [row(f"l{n}", filter=f"f{n % 3}", exposure=float(n)) for n in range(30)] + [row("b", "bias")]
    calls, offered = [], match.Plan._offered_bias
    monkeypatch.setattr(match.Plan, "_offered_bias", lambda *given: calls.append(given) or offered(*given))
    match.plan(rows, DEFAULTS)
    assert len(calls) == 1


def test_masters_that_are_reduced_themselves_are_recorded_too():
    lines = record(*NIGHT, frame=f"masters/{TONIGHT}/cam_1x1_100x100/flat_R.fits")
    assert [(line["kind"], line["chosen"], line["why"]) for line in lines] == [
        ("bias", "yes", "only one"),
        ("dark", "yes", "equal exposure"),
        ("dark", "no", "to be scaled"),
    ]


def test_two_thousand_lights_and_thirty_candidates_take_no_minute():
    """Half a second on a machine that has nothing else to do; what grows with the square would take minutes."""
    from time import perf_counter

    lights = [row(f"l{n}", temperature=round(-10 + n % 40 / 100, 2), exposure=60.0) for n in range(2000)]
    rows = lights + [
        row(f"{kind}{n}", kind, f"2023-02-{n:02d}") for n in range(1, 11) for kind in ("bias", "dark", "flat")
    ]
    start = perf_counter()
    plan = match.plan(rows, DEFAULTS)
    lines = matches.matches(plan)
    taken = perf_counter() - start
    assert len(lines) > 60_000 and taken < 20.0
