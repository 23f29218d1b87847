"""The configuration against its schema. Truth: what a user would type, and the sentence that mends it."""

import copy
import datetime
import re
from pathlib import Path

import pytest
import yaml
from firstlight.config import ConfigError, complete, read_schema, says

ROOT = Path(__file__).parents[1]
SCHEMA = read_schema(ROOT / "config.schema.yaml")


def typed(text):
    """A configuration as it comes from a file."""
    return complete(yaml.safe_load(text) or {}, SCHEMA)


def fault(text):
    with pytest.raises(ConfigError) as caught:
        typed(text)
    return str(caught.value)


# --- Defaults -------------------------------------------------------------------------------------------------------
def test_an_empty_configuration_has_every_default():
    config = complete({}, SCHEMA)
    assert set(config) == set(SCHEMA["properties"])
    assert (config["raw"], config["results"], config["missing"]) == (["raw"], "results", "allow")
    darks = {"exposure": 0.02, "temperature": 2.0, "scale_dark": True, "scale_limit": 3.0}
    flats = {"telescope": True, "focal_length": 0.03, "rotator": 2.0}
    assert config["match"] == darks | flats | {"nights": None} and config["masters"] == []
    assert config["trim"] == {"saturation": None, "region": None, "overscan": "median", "order": 3, "axis": "auto"}


def test_a_default_is_filled_in_beside_a_key_that_is_given():
    config = typed("match: {temperature: 5}")
    assert (config["match"]["temperature"], config["match"]["exposure"]) == (5, 0.02)


def test_sections_that_share_a_form_keep_their_own_defaults():
    config = complete({}, SCHEMA)
    assert config["combine"]["method"] == "average" and config["master_bias"]["method"] == "median"
    assert "hot" in config["master_dark"] and "hot" not in config["master_bias"]


@pytest.mark.parametrize("text", ["raw:", "catalogue: null", "match: {temperature: }", "missing: ~", "select:"])
def test_a_key_without_a_value_means_the_default(text):
    assert typed(text) == complete({}, SCHEMA)


def test_filling_in_changes_neither_what_was_given_nor_the_schema():
    given, schema = {"match": {"temperature": 5}, "raw": 230313}, copy.deepcopy(SCHEMA)
    complete(given, SCHEMA)["keep"].append("changed")
    assert given == {"match": {"temperature": 5}, "raw": 230313}
    assert SCHEMA == schema


def test_a_complete_configuration_is_complete():
    config = complete({}, SCHEMA)
    assert complete(config, SCHEMA) == config


def test_the_configuration_that_comes_along_is_valid():
    typed((ROOT / "config.yaml").read_text())


def test_every_key_is_described_and_has_a_default():
    def keys(schema, where=""):
        for key, part in schema.get("properties", {}).items():
            yield f"{where}{key}", part
            yield from keys(part, f"{where}{key}.")

    lacking = [
        key for key, part in keys(SCHEMA) if not part.get("description") or not {"default", "properties"} & set(part)
    ]
    assert lacking == []


def test_every_default_is_valid_by_the_schemas_own_rules():
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(complete({}, SCHEMA))


def test_channels_of_a_picture_take_one_filter_or_several():
    parts = typed("picture: {channels: {R: Ha, G: [V, 3], B: B}}")["picture"]["channels"]
    assert parts == {"R": ["Ha"], "G": ["V", "3"], "B": ["B"], "L": []}


# --- Names that look like numbers -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text, raw",
    [
        ("raw: 230313", ["230313"]),
        ("raw: night1", ["night1"]),
        ("raw: [night1, 230313]", ["night1", "230313"]),
        ("raw: 2023-03-13", ["2023-03-13"]),
    ],
)
def test_a_folder_is_text_whatever_it_looks_like(text, raw):
    assert typed(text)["raw"] == raw


def test_other_paths_are_text_too():
    assert typed("results: 230313")["results"] == "230313"


@pytest.mark.parametrize("text", ["catalogue: 230313", "catalogue: {source: 230313}"])
def test_a_catalogue_is_its_source_or_a_section(text):
    section = typed(text)["catalogue"]
    assert (section["source"], section["number"], section["columns"]["mag"]) == ("230313", 20000, "")


def test_a_night_is_text_though_yaml_reads_a_date():
    assert yaml.safe_load("2023-03-13") == datetime.date(2023, 3, 13)
    assert typed("select: {nights: [2023-03-13]}")["select"]["nights"] == ["2023-03-13"]
    assert typed("select: {nights: 2023-03-13}")["select"]["nights"] == ["2023-03-13"]


@pytest.mark.parametrize("key", ["targets", "filters"])
def test_names_of_targets_and_filters_are_text(key):
    assert typed(f"{key}: {{891: [891, NGC 891]}}")[key] == {"891": ["891", "NGC 891"]}


@pytest.mark.parametrize("key", ["targets", "filters"])
def test_one_name_needs_no_list(key):
    assert typed(f"{key}: {{M42: M 42}}")[key] == {"M42": ["M 42"]}


def test_header_values_and_camera_numbers_stay_what_they_are():
    config = typed("header: {GAIN: 1.5, OBSID: 230313}\ncameras: {gain: 2}")
    assert config["header"] == {"GAIN": 1.5, "OBSID": 230313}
    assert config["cameras"]["gain"] == 2


def test_a_date_for_a_header_card_is_text_at_any_depth():
    config = typed("header: [{where: night1, update: {DATE-OBS: 2023-03-13T22:00:00}, append: {NIGHT: 2023-03-13}}]")
    assert config["header"][0]["update"] == {"DATE-OBS": "2023-03-13T22:00:00"}
    assert config["header"][0]["append"] == {"NIGHT": "2023-03-13"}


# --- Cameras --------------------------------------------------------------------------------------------------------
def test_one_camera_needs_no_list_and_several_are_one():
    one = typed("cameras: {gain: 1.5, trim: '[  17: 528, *]'}")["cameras"]
    assert (one["gain"], one["trim"], one["mask"]) == (1.5, "[  17: 528, *]", None)
    first, second = typed("cameras: [{where: {XBINNING: 2}, overscan: none}, {overscan: ['[1:2,1:9]', '[8:9,1:9]']}]")[
        "cameras"
    ]
    assert (first["where"], first["overscan"]) == ({"XBINNING": 2}, "none")
    assert (second["where"], second["overscan"]) == (None, ["[1:2,1:9]", "[8:9,1:9]"])


def test_items_of_cameras_are_described_too():
    items = SCHEMA["properties"]["cameras"]["items"]
    assert items["properties"] == SCHEMA["properties"]["cameras"]["properties"]
    assert items["additionalProperties"] is False


# --- Faults ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text, sentence",
    [
        ("mising: drop", "configuration: unknown key 'mising': did you mean 'missing'?"),
        ("match: {temprature: 3}", "configuration: unknown key 'match.temprature': did you mean 'temperature'?"),
        ("grid: {zzz: 3}", "configuration: unknown key 'grid.zzz': known here: reference"),
        ("missing: stopp", "configuration: missing: 'stopp' is not one of allow, drop, stop (what to do"),
        (
            "combine: {clip: kappa}",
            "configuration: combine.clip: 'kappa' is not one of auto, sigclip, minmax, extrema, none (how",
        ),
        ("keep: [lights, raw]", "configuration: keep.1: 'raw' is not one of lights, aligned"),
        ("calibrated: 7", "configuration: calibrated: 7 should be of type boolean (accept frames"),
        ("match: {exposure: much}", "configuration: match.exposure: 'much' should be of type number (relative"),
        ("longitude: east", "configuration: longitude: 'east' should be of type number or null (of the site"),
        ("match: 3", "configuration: match: 3 should be of type object (how near"),
        ("results: [a]", "configuration: results: ['a'] should be of type string (folder"),
        ("raw: true", "configuration: raw: True should be of type array (folder"),
        ("header: GAIN", "configuration: header: 'GAIN' should be of type object or array (repairs"),
        ("targets: [M42]", "configuration: targets: ['M42'] should be of type object (names"),
        ("match: {exposure: -1}", "configuration: match.exposure: -1: -1 is less than the minimum of 0 (relative"),
        (
            "sources: {threshold: 0}",
            "configuration: sources.threshold: 0: 0 is less than or equal to the minimum of 0 (limit",
        ),
        ("cameras: {gian: 2}", "configuration: unknown key 'cameras.gian': did you mean 'gain'?"),
        (
            "cameras: [{where: a}, {overscn: no}]",
            "configuration: unknown key 'cameras.1.overscn': did you mean 'overscan'?",
        ),
        ("cameras: {gain: two}", "configuration: cameras.gain: 'two' should be of type number or null ([electron/adu]"),
        ("cameras: {gain: 0}", "configuration: cameras.gain: 0: 0 is less than or equal to the minimum of 0 ([elec"),
        ("cameras: [dcam]", "configuration: cameras.0: 'dcam' should be of type object (one item"),
        (
            "cameras: {trim: '1:20'}",
            "configuration: cameras.trim: '1:20' is not of the form that is read here (what is",
        ),
        (
            "cameras: {trim: [1:20,1:30]}",
            "configuration: cameras.trim: [80, 90] should be of type string or null (what",
        ),
        (
            "cameras: {overscan: ['[1:2,1:3]', 4:5]}",
            "configuration: cameras.overscan.1: '245' is not of the form that is",
        ),
        ("trim: {region: '[1:20]'}", "configuration: trim.region: '[1:20]' is not of the form that is read here (kept"),
        (
            "trim: {overscan: mode}",
            "configuration: trim.overscan: 'mode' is not one of median, mean, polynomial, none (",
        ),
        ("trim: {axis: x}", "configuration: trim.axis: 'x' is not one of auto, rows, columns ("),
        ("cosmic_ray: {niter: 1.5}", "configuration: cosmic_ray.niter: 1.5 should be of type integer (laplacian"),
        ("limits: {fwhm: three sigma}", "configuration: limits.fwhm: 'three sigma' is not of the form that is read"),
        ("limits: {fwhm: -2}", "configuration: limits.fwhm: -2: -2 is less than or equal to the minimum of 0 ([pix"),
        ("limits: {transparency: 50}", "configuration: limits.transparency: 50: 50 is greater than the maximum of 1"),
        (
            "photometry: {bands: {V: Johnson V}}",
            "configuration: photometry.bands.V: 'Johnson V' should be of type object (for example {band: Johnson V,",
        ),
        ("picture: {palette: XXX}", "configuration: picture.palette: 'XXX' is not one of auto, SHO, HOO, HOS, natural"),
        ("picture: {channels: {Q: V}}", "configuration: unknown key 'picture.channels.Q': known here: R, G, B, L"),
        ("picture: {black: -1}", "configuration: picture.black: -1: -1 is less than the minimum of 0 (what is black"),
        ("picture: {white: 0}", "configuration: picture.white: 0: 0 is less than or equal to the minimum of 0 (what"),
        ("grid: {scale: -1}", "configuration: grid.scale: -1: -1 is less than or equal to the minimum of 0 ([arcsec"),
        ("solve: {sip_order: 9}", "configuration: solve.sip_order: 9: 9 is greater than the maximum of 5 (order"),
    ],
)
def test_each_fault_is_one_sentence_with_the_key_and_a_way_out(text, sentence):
    said = fault(text)
    assert said.startswith(sentence)
    assert "\n" not in said


def test_all_faults_are_said_at_once_one_on_a_line():
    said = fault("mising: drop\nreslts: x\nmatch: {exposure: -1}\ncalibrated: 7").splitlines()
    assert len(said) == 4
    assert all(line.startswith("configuration: ") for line in said)
    keys = {re.search(r"mising|reslts|match.exposure|calibrated", line).group() for line in said}
    assert keys == {"mising", "reslts", "match.exposure", "calibrated"}


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("filters: {X: [R], Y: [R]}", "configuration: filters: 'R' stands for both X and Y: leave it with one of them"),
        ("filters: {X: [Y], Y: [R]}", "configuration: filters: 'Y' stands for both X and Y: leave it with one of them"),
        (
            "targets: {A: [NGC*], B: ['ngc *']}",
            "configuration: targets: 'ngc *' stands for both A and B: leave it with one of them",
        ),
        (
            "cameras: {bayer: RGBG}",
            "configuration: cameras.bayer: 'RGBG' is not of the form that is read here (pattern of",
        ),
        (
            "cameras: [{trim: '[9:1,*]'}]",
            "configuration: cameras: trim is '[9:1,*]': the smaller number comes first",
        ),
        (
            "cameras: {overscan: ['[1:9,*]', '[0:3,*]']}",
            "configuration: cameras: overscan is '[0:3,*]': columns and rows count from 1",
        ),
        ("trim: {region: '[1:9,9:8]'}", "configuration: trim: region is '[1:9,9:8]': the smaller number comes first"),
        (
            "combine: {low: 0}",
            "configuration: combine: low is 0, but clip auto takes it for a number of deviations: above 0, or clip none",
        ),
        (
            "master_bias: {high: -2}",
            "configuration: master_bias: high is -2, but clip sigclip takes it for a number of deviations: above 0",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_named(text, sentence):
    assert fault(text).startswith(sentence)


@pytest.mark.parametrize(
    "text",
    [
        "filters: {r: [rp], R: [Rc]}",
        "filters: {X: [X, Y, Y]}",
        "targets: {M42: ['M42*'], M43: ['M 43']}",
        "master_bias: {clip: minmax, low: -5, high: 5}",
        "master_bias: {clip: none, low: -5}",
    ],
)
def test_what_only_looks_like_a_contradiction_is_taken(text):
    assert typed(text)


def test_a_key_that_is_a_number_is_unknown_in_words():
    assert fault("5: x").startswith("configuration: unknown key '5': ")


def test_a_fault_of_the_configuration_is_a_value_error():
    assert issubclass(ConfigError, ValueError)


# --- Names of combining in other programs ---------------------------------------------------------------------------
@pytest.mark.parametrize("section", ["master_bias", "master_dark", "master_flat", "combine"])
@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("{combining_method: mean, clipping_method: sigmaclip}", {"method": "average", "clip": "sigclip"}),
        ("{method: average, clip: sigma_clip}", {"method": "average", "clip": "sigclip"}),
        ("{low_thresh: 2, high_thresh: 5}", {"low": 2, "high": 5}),
        ("{clip: minmax_clipping, minclip: 900, maxclip: 1100}", {"clip": "minmax", "low": 900, "high": 1100}),
        ("{clipping_method: extrema_clipping, nlow: 1}", {"clip": "extrema", "nlow": 1}),
        ("{method: scaled}", {"method": "average"}),
        ("{method: weighted}", {"method": "average", "weight": "noise"}),
    ],
)
def test_names_of_other_programs_mean_ours(section, theirs, ours):
    got = typed(f"{section}: {theirs}")[section]
    assert {key: got[key] for key in ours} == ours
    assert set(got) == set(complete({}, SCHEMA)[section])


@pytest.mark.parametrize("section, scale", [("master_bias", "level"), ("master_dark", "level"), ("combine", "stars")])
def test_scaled_is_an_average_of_what_was_brought_to_one_level(section, scale):
    assert typed(f"{section}: {{method: scaled}}")[section]["scale"] == scale
    assert typed(f"{section}: {{method: scaled, scale: exposure}}")[section]["scale"] == "exposure"


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("{low: 3, minclip: 4}", "master_bias: low and minclip are the same thing: keep low only"),
        ("{high_thresh: 3, maxclip: 4}", "master_bias: high_thresh and maxclip are the same thing: keep high only"),
        ("{method: median, combining_method: mean}", "master_bias: method and combining_method are the same thing"),
        ("{method: weighted, weight: none}", "master_bias: method 'weighted' and weight 'none' contradict each other"),
        ("{method: scaled, scale: none}", "master_bias: method 'scaled' and scale 'none' contradict each other"),
    ],
)
def test_one_thing_said_twice_is_an_error(text, sentence):
    assert fault(f"master_bias: {text}").startswith(f"configuration: {sentence}")


def test_an_unknown_key_of_combining_is_still_said_in_our_names():
    assert fault("combine: {low_tresh: 3}").startswith("configuration: unknown key 'combine.low_tresh': ")
    assert fault("trim: {minclip: 3}").startswith("configuration: unknown key 'trim.minclip': ")


def test_null_is_kept_where_it_means_something():
    schema = SCHEMA
    kept = complete({"detector": {"tolerance": None}, "match": {"focal_length": None}, "trim": None}, schema)
    assert (kept["detector"]["tolerance"], kept["match"]["focal_length"], kept["match"]["rotator"]) == (None, None, 2.0)
    assert kept["trim"] == complete({}, schema)["trim"]


def test_nested_values_of_the_command_line_arrive_as_text_and_become_numbers():
    given = {"match": {"scale_limit": "50", "scale_dark": "false", "nights": "null"}, "cameras": {"gain": "1.4"}}
    config = complete(given, SCHEMA)
    assert config["match"] | {"scale_limit": 50, "scale_dark": False, "nights": None} == config["match"]
    assert config["cameras"]["gain"] == 1.4


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("raw: [a\nresults: x\n", "c.yaml, line 2: "),
        ("raw: a\n\tresults: x\n", "c.yaml, line 2: "),
        ("just words\n", "c.yaml has no keys: each line is KEY: VALUE"),
        ("- raw\n", "c.yaml has no keys"),
        ("raw: a\n# b\nraw: b\n", "c.yaml, line 3: raw stands in line 1 already"),
        ("match: {exposure: 1, exposure: 2}\n", "c.yaml, line 1: exposure stands in line 1 already"),
        ("header:\n  - update: {A: 1}\n    update: {B: 2}\n", "c.yaml, line 3: update stands in line 2 already"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_its_line(text, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as said:
        says("c.yaml")
    assert str(said.value).startswith(sentence) and "\n" not in str(said.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"raw: \xff\xfe\n")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        says(tmp_path / "c.yaml")


@pytest.mark.parametrize(("text", "said"), [(None, False), ("", False), ("# raw: a\n", False), ("raw: a\n", True)])
def test_a_file_of_comments_says_nothing(text, said, tmp_path):
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    assert says(tmp_path / "c.yaml") is said
