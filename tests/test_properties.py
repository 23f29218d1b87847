"""What holds for any header, section, date, coordinate, name, number and configuration, not only for those that somebody
thought of. Hypothesis makes them up, the same ones in each run; `make fuzz` tries other and many more (EXAMPLES=2000).
"""

import base64
import csv
import io
import json
import math
import os
import random
import re
import string
import zlib
from datetime import date, datetime, timedelta
from pathlib import Path

import fuzz
import numpy as np
import pytest
import yaml
from astropy.io import fits
from firstlight import frames, header, names, nights, pointing, raw, textfile
from firstlight.cards import REMARKS, parse
from firstlight.cards import values as plain_values
from firstlight.config import ConfigError, complete, read_schema, says
from firstlight.dialects import COORDINATES, KEYWORDS, KINDS, Values, as_number, structural
from firstlight.frame import Frame
from firstlight.io import read_rows, write_rows
from firstlight.provenance import identity
from firstlight.section import parse_section, section_text
from firstlight.trim import trim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
settings.register_profile(
    "firstlight", max_examples=EXAMPLES or 100, derandomize=not EXAMPLES, deadline=None, database=None
)
settings.load_profile("firstlight")
SCHEMA = read_schema(Path(__file__).parents[1] / "config.schema.yaml")

# --- What the world writes into headers -----------------------------------------------------------------------------
WORDS = ["", "unknown", "N/A", "nan", "inf", "-", "0", "-1", "1e400", "00:00:00", "12:34:56.7", "-12 34 56", "12h34m",
         "60:60:60", "2025-06-01", "2025-06-01T24:00:00", "2025-02-30T01:02:03", "0000-00-00T00:00:00", "01/06/25",
         "31/31/99", "2100-12-31T24:00:60.9-1400", "1880-01-01T00:00:00+1400", "[1:20,1:30]", "[*,-5:3]", "2 2", "0x0",
         "Light", "dark flat", "RGGB", "T", "1.5 e-/ADU", "105 W", "9" * 60]  # fmt: skip
READ = sorted({key for keys in (*KEYWORDS.values(), *COORDINATES) for key in keys} | {
    "GAIN", "EGAIN", "DATE-OBS", "DATE-LOC", "DATE-BEG", "DATAMAX", "XPIXSZ", "FOCALLEN", "CTYPE1", "CTYPE2", "CRVAL1",
    "CRVAL2", "CD1_1", "CD1_2", "CDELT1", "CDELT2", "PC1_1", "XBINNING", "YBINNING", "CCDSUM", "BINNING", "CALSTAT",
    "OBSGEO-X", "OBSGEO-Y", "FLVERS"})  # fmt: skip
ascii_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70)
keywords = st.sampled_from(READ) | st.text(string.ascii_uppercase + string.digits + "-_", min_size=1, max_size=8)
numbers = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1E999", "-1.D+400", "1.5D3", ".5", "5.", "007", "+3", "1e-320", "NaN", "Infinity", "(1.0, 2.0)"]),
)
strings = (st.sampled_from(WORDS) | ascii_text).map(lambda text: "'" + text.replace("'", "''")[:66] + "'")
comments = st.sampled_from(["", "s", "ms", "hours", "[h] deg", "unbinned", "east", "west", "e-/ADU", "kelvin"])
cards = st.one_of(
    st.builds(lambda key, value, comment: f"{key:8}= {value} / {comment}"[:80], keywords, numbers | strings, comments),
    st.builds(lambda key, value: f"{key:8}= {value}"[:80], keywords, numbers | strings | st.sampled_from("TF")),
    st.builds(lambda text: f"CONTINUE  '{text[:60]}&'", ascii_text),
    st.builds(lambda key, value: f"HIERARCH ESO {key} = {value}"[:80], keywords, numbers | strings),
    st.builds(lambda key, text: f"{key:8}{text}"[:80], st.sampled_from(["COMMENT", "HISTORY", "", "END", "="]), ascii_text),
    ascii_text,
)  # fmt: skip
texts = st.lists(cards, max_size=12).map(lambda lines: "\n".join(line.rstrip() for line in lines if line.strip()))
paths = st.lists(st.sampled_from(["raw", "230313", "2025-06-01_x", "Ha", "M 31", "..", "lights", "a\nb", "d\udc80"])
                 | ascii_text.map(lambda text: text.replace("/", "")), max_size=4).map(
    lambda parts: "/".join([*parts, "x.fits"]))  # fmt: skip


def quiet(call, *arguments):
    with raw.quiet():
        return call(*arguments)


def entry_of(text, **more):
    """What the frames table's cache keeps of a file with this header."""
    packed = base64.b64encode(zlib.compress(text.encode("ascii"), 1)).decode("ascii")
    empty = {"notes": [], "constant": None, "levels": [], "nx": 9, "ny": 8, "pixel_hash": "0" * 32}
    return empty | {"text": packed} | more


# --- Headers --------------------------------------------------------------------------------------------------------
def same(one, other):
    """Equal, of one type; astropy calls a card without a value None."""
    one, other = (None if isinstance(value, fits.card.Undefined) else value for value in (one, other))
    return type(one) is type(other) and repr(one) == repr(other)


@given(texts)
@example("GAIN    = 1E999")
@example("GAIN    = -1.0D+400 / of no number")
@example("OBJECT  = 'M 31'\nOBJ?CT  = 'M 33'")
def test_any_header_is_read_both_ways_alike(text):
    """The quick reading, by which frames are sorted, and astropy's, which a job has, say the same."""
    found, notes = quiet(parse, text)
    plain, same_notes = quiet(plain_values, text)
    assert notes == same_notes
    assert list(plain) == [key for key in found if key not in REMARKS]
    assert all(same(plain[key], found[key]) for key in plain)


@pytest.mark.parametrize("key", ["OBJ*", "OBJ?CT", "*"])
def test_a_pattern_of_keywords_is_no_keyword_for_the_table_nor_for_a_job(key):
    """Astropy would look up all that fit."""
    text, rules = "OBJECT  = 'M 31'", header.repairs([{"where": {key: "*"}, "update": {"FILTER": "R"}}])
    for found in (parse(text)[0], plain_values(text)[0]):
        assert "FILTER" not in header.repair(found, "x.fits", rules)


@given(texts)
def test_a_header_that_was_read_can_be_written_and_says_the_same_again(text):
    assume("CONTINUE" not in text)  # what it continues may be no text
    found, _ = quiet(parse, text)
    written = quiet(found.tostring, "\n", False, False)
    again, notes = quiet(parse, "\n".join(line.rstrip() for line in written.split("\n") if line.strip()))
    assert notes == []
    said, said_again = ({key: one[key] for key in one if key not in REMARKS} for one in (found, again))
    assert list(said_again) == list(said)
    for key, value in said.items():  # astropy gives a number 20 characters
        assert said_again[key] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


@given(texts, paths)
@example("CCDSUM  = '" + "9" * 60 + "&'\n" + "\n".join(["CONTINUE  '" + "9" * 66 + "&'"] * 80), "x.fits")
def test_any_header_is_described_within_what_can_be(text, path):
    values, out = quiet(frames.described, path, entry_of(text), header.Settings(raw=("raw",)))
    assert out.kind in {*KINDS, "other"}
    assert out.exposure is None or 0 <= out.exposure < math.inf
    assert out.temperature is None or -200 < out.temperature < 100
    assert (out.ra is None) == (out.dec is None)
    assert out.ra is None or (0 <= out.ra < 360 and -90 <= out.dec <= 90)
    assert out.scale is None or 0.001 < out.scale < 3600
    assert out.focal_length is None or 0 < out.focal_length < math.inf
    assert re.fullmatch(r"[1-9]\d*x[1-9]\d*", out.binning)
    assert out.time is None or 1878 < datetime.fromisoformat(out.time).year < 2106
    assert out.night is None or date.fromisoformat(out.night)
    assert bool(out.target) == (out.kind == "light")


@given(st.lists(st.tuples(texts, paths), max_size=4, unique_by=lambda one: one[1]))
def test_any_frames_become_rows_with_names_for_files_and_come_back_from_the_table(tmp_path_factory, night):
    where, sets = tmp_path_factory.getbasetemp(), header.Settings(raw=("raw",))
    files = {}
    for number, (text, path) in enumerate(night):
        entry = entry_of(text, pixel_hash=f"{number:032x}")
        files[path] = json.loads(json.dumps(entry | {"said": quiet(frames._said, path, entry, sets)}))
    table = frames._table({"files": files})
    assert sorted(row.path for row in [*table.rows, *table.rejected]) == sorted(files)
    for row in table.rows:
        parts = [row.name, row.night, row.filter, row.camera, *([row.target] if row.kind == "light" else [])]
        assert all(re.fullmatch(r"[A-Za-z0-9+_][A-Za-z0-9+_.-]*", part) for part in parts)
    for name, kind, rows in (("frames", frames.Row, table.rows), ("rejected", frames.Rejected, table.rejected)):
        textfile.write(str(where / f"{name}.csv"), frames.to_csv(kind, rows))
    assert frames.read(str(where)) == table


@given(texts, st.sampled_from(READ + ["COMMENT", "HIERARCH ESO A"]), st.none() | ascii_text | st.floats() | st.integers(),
       st.sampled_from(["rename", "append", "update"]), st.sampled_from(READ))  # fmt: skip
@example("FILTER  = 'R'", "FILTER", None, "rename", "FILTER")
@example("COMMENT   a word", "COMMENT", None, "rename", "FILTER")
@example("", "ITIME", 10**100, "update", "FILTER")
@example("", "BAYERPAT", " ", "append", "FILTER")
def test_any_repair_is_refused_or_does_the_same_to_both_headers_and_can_be_written(text, key, value, part, other):
    try:
        rules = header.repairs({part: {key: other if part == "rename" else value}})
    except ValueError as error:
        assert str(error).startswith("header: ") and "\n" not in str(error)
        return
    found, plain = quiet(parse, text)[0], quiet(plain_values, text)[0]
    slow, fast = quiet(header.repair, found, "x.fits", rules), quiet(header.repair, plain, "x.fits", rules)
    assert {*slow} - {*REMARKS} == {*fast} - {*REMARKS}
    assert all(same(slow[k], fast[k]) for k in fast if k not in REMARKS)
    if part == "rename" and plain.get(key) not in (None, ""):
        assert other in fast
    quiet(slow.tostring)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | ascii_text | st.dates(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["where", "rename", "append", "update", "FILTER"]) | st.integers() | ascii_text,
                        inner, max_size=3)))  # fmt: skip
@example({"rename": {"A": None}})
def test_any_section_of_repairs_is_taken_or_refused_in_a_sentence(section):
    try:
        rules = header.repairs(section if isinstance(section, (dict, list)) else [section])
    except ValueError as error:
        assert str(error).startswith("header: ") and "\n" not in str(error)
    else:
        assert all(isinstance(new, str) and not structural(new) for rule in rules for new in rule["rename"].values())
        quiet(header.repair, Values([("FILTER", "R", "")]), "a/x.fits", rules)


# --- Whole files: what the table accepts, a job can read -------------------------------------------------------------
@given(st.lists(cards, max_size=6), st.sampled_from([8, 16, 32, 64, -32, -64, 12, 0]), st.lists(st.integers(-1, 6), max_size=4),
       st.sampled_from([None, 0, 1, 32768, 1e300, -1e300, 1e-320, "1E999", "'x'"]), st.binary(max_size=400))  # fmt: skip
def test_a_file_that_the_table_accepts_is_read_with_the_same_pixels(tmp_path_factory, lines, bits, axes, scale, data):
    path = tmp_path_factory.getbasetemp() / "any.fits"
    head = ["SIMPLE  =                    T", f"BITPIX  = {bits:20}", f"NAXIS   = {len(axes):20}"]
    head += [f"NAXIS{number:<3}= {length:20}" for number, length in enumerate(axes, 1)]
    head += [] if scale is None else [f"BSCALE  = {scale}", "BLANK   =                    0"]
    text = "".join(line.ljust(80) for line in [*head, *lines, "END"])
    path.write_bytes(text.encode().ljust(-(-len(text) // 2880) * 2880) + data)
    try:
        scanned = quiet(raw.scan, str(path))
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        return
    pixels, found = raw.read(str(path))
    assert pixels.shape == (scanned.ny, scanned.nx) and raw.pixel_hash(pixels) == scanned.pixel_hash
    assert same(raw.read_header(str(path)).tostring(), found.tostring())


@pytest.mark.parametrize("seed", sorted(fuzz.SEEDS.iterdir()), ids=lambda path: path.name)
def test_changed_bytes_of_a_file_give_a_frame_or_a_reason(seed, tmp_path):
    """What `make fuzz` does, but the same few changes in each run."""
    rng, content = random.Random(seed.name), seed.read_bytes()
    fuzz.check(content, tmp_path / "x.fits")
    for _ in range(EXAMPLES or 60):
        other = content
        for _ in range(rng.randrange(1, 4)):
            other = fuzz.changed(other, rng)
        fuzz.check(other, tmp_path / "x.fits")


def test_the_files_to_start_from_are_frames_in_all_wrappings_and_small(tmp_path):
    seeds = sorted(fuzz.SEEDS.iterdir())
    frames_among = [path.name for path in seeds if fuzz.check(path.read_bytes(), tmp_path / "x.fits")]
    assert {path.name for path in seeds} - set(frames_among) == {"cube.fits", "master.fits"}
    assert {Path(name).suffix for name in frames_among} == {".fits", ".fz", ".gz", ".bz2"}
    assert sum(path.stat().st_size for path in seeds) < 100_000


@pytest.mark.parametrize("card", ["GCOUNT  = -1", "GCOUNT  = -99999999999999999", "PCOUNT  = -1000"])
def test_a_negative_number_of_data_is_refused_in_a_sentence(card, tmp_path):
    """Found by `make fuzz`: a file asked for fewer bytes than none gives all, or an error of another kind."""
    content = (fuzz.SEEDS / "uint16.fits").read_bytes()
    at = content.index(b"OBJECT  =")
    (tmp_path / "x.fits").write_bytes(content[:at] + card.ljust(80).encode() + content[at + 80 :])
    with pytest.raises(ValueError, match="is negative: it is damaged"):
        raw.read(str(tmp_path / "x.fits"))


def test_a_ready_master_with_a_damaged_extension_is_refused_in_a_sentence(tmp_path):
    """Found by `make fuzz`: astropy gives such a unit no data at all."""
    path = tmp_path / "x.fits"
    content = (fuzz.SEEDS / "master.fits").read_bytes()
    assert set(raw.read_ready(str(fuzz.SEEDS / "master.fits"))[2]) == {"UNCERT", "MASK"}
    path.write_bytes(content.replace(b"XTENSION= 'IMAGE   '", b"XTENSION= 'IMAGE   /"))
    with pytest.raises(ValueError, match="beside the image cannot be read"):
        raw.read_ready(str(path))


# --- Regions and sections -------------------------------------------------------------------------------------------
ends = st.integers(-3, 40).map(str) | st.just("9" * 5000)
ranges = st.builds(lambda one, two, gap: f"{one}{gap}:{two}", ends, ends, st.sampled_from(["", " "])) | st.sampled_from(
    "*:"
)
sections = st.builds(
    lambda x, y, form: form.format(x, y), ranges, ranges, st.sampled_from(["[{},{}]", "{},{}", " [ {} , {} ] "])
)
shapes = st.tuples(st.integers(1, 30), st.integers(1, 30))


@given(sections | st.text(max_size=20), shapes)
def test_a_section_lies_within_the_frame_or_is_refused_in_a_sentence(text, shape):
    try:
        rows, columns = parse_section(text, shape)
    except ValueError as error:
        assert str(error).startswith("trim section ") and "cameras: trim" in str(error)
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert 0 <= rows.start < rows.stop <= shape[0] and 0 <= columns.start < columns.stop <= shape[1]
        assert parse_section(section_text((rows, columns)), shape) == (rows, columns)


@given(st.data(), shapes)
def test_trimming_keeps_just_the_pixels_that_the_section_counts(data, shape):
    """Pixels hold their own FITS coordinates, counted from 1."""
    y, x = np.mgrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    (y1, y2), (x1, x2) = (sorted(data.draw(st.tuples(st.integers(1, n), st.integers(1, n)))) for n in shape)
    head = fits.Header({"CRPIX1": 7.0, "CRPIX2": -2.5, "TRIMSEC": "[1:1,1:1]"})
    frame = Frame((1000 * y + x).astype(np.float32), head)
    out = trim(frame, region=parse_section(f"[{x1}:{x2},{y1}:{y2}]", shape), overscan="none")
    assert out.shape == (y2 - y1 + 1, x2 - x1 + 1)
    assert (out.data[0, 0], out.data[-1, -1]) == (1000 * y1 + x1, 1000 * y2 + x2)
    assert (out.header["CRPIX1"], out.header["CRPIX2"]) == (7.0 - (x1 - 1), -2.5 - (y1 - 1))
    assert "TRIMSEC" not in out.header


# --- Dates ----------------------------------------------------------------------------------------------------------
moments = st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 30))
any_value = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40), st.sampled_from(WORDS)
)


@given(moments, st.sampled_from(["T", " ", "  "]), st.integers(-14 * 4, 14 * 4).filter(bool) | st.none())
def test_a_time_of_exposure_comes_back(moment, between, quarters):
    """With an offset from UTC it is the local time that is written, and UTC that is meant."""
    offset = timedelta(minutes=15 * (quarters or 0))
    local = moment.replace(microsecond=moment.microsecond // 1000 * 1000) + offset
    text = local.isoformat(sep="T", timespec="milliseconds").replace("T", between)
    hours, minutes = divmod(15 * abs(quarters or 0), 60)
    text += "" if quarters is None else f"{'-' if quarters < 0 else '+'}{hours:02d}:{minutes:02d}"
    utc, said, _ = nights.moment_of({"DATE-OBS": text})
    assert utc == local - offset and said == (None if quarters is None else quarters / 4)


@given(st.dates(date(1970, 1, 1), date(2069, 12, 31)))
def test_a_day_is_read_in_each_way_of_writing_it(day):
    ways = ["%Y-%m-%d", "%Y/%m/%d", "%d/%m/%y", "%d/%m/%Y", "%Y-%m-%dT01:02:03"]
    assert {nights.parse_date(day.strftime(way)) for way in ways} == {day}
    if day.year >= 2000:
        assert {nights.folder_date(day.strftime(way)) for way in ("%y%m%d", "%Y%m%d", "%Y-%m-%d", "%y%m%d_crab")} == {
            day
        }


@given(st.dictionaries(st.sampled_from(["DATE-OBS", "DATE-BEG", "UT", "TIME-OBS", "MJD-OBS", "JD", "UTC"]), any_value))
def test_any_words_are_no_moment_or_one_of_this_age(values):
    found = nights.moment_of(values)
    assert found is None or 1878 < found[0].year < 2106


@given(moments, st.dates(date(1900, 1, 1), date(2099, 12, 31)) | st.none())
def test_a_night_begins_on_the_day_or_the_day_before(local, folder):
    night = nights.night_of(local, folder)
    assert night in ({local.date(), local.date() - timedelta(1)} | {folder})
    assert abs(night - (local - timedelta(hours=12)).date()) <= timedelta(1)
    assert folder is None or abs(folder - (local - timedelta(hours=12)).date()) > timedelta(1) or night == folder


@given(st.lists(st.floats(0, 24, exclude_max=True), min_size=1, max_size=20))
def test_noon_lies_where_no_frame_was_taken(hours):
    noon = frames.longest_gap(hours)
    assert -1 <= noon < 23
    away = min(min((noon - hour) % 24, (hour - noon) % 24) for hour in hours)
    assert away >= 12 / len(hours) - 1e-6


# --- Coordinates and numbers ----------------------------------------------------------------------------------------
@given(st.integers(0, 359), st.integers(0, 59), st.integers(0, 59), st.booleans(),
       st.sampled_from(["{}:{:02d}:{:02d}", "{} {} {}", "{}d{}m{}s", "{}h {}m {}s", "{}°{}'{}\""]))  # fmt: skip
def test_an_angle_is_read_in_each_way_of_writing_it(whole, minutes, seconds, negative, form):
    size = whole + minutes / 60 + seconds / 3600
    text = "-" * negative + form.format(whole, minutes, seconds)
    assert pointing.angle_of(text) == pytest.approx(-size if negative else size, abs=1e-9)


@given(any_value | ascii_text)
@example("9" * 400)
@example("9" * 400 + ":00:00")
def test_any_words_are_no_angle_and_no_number_or_a_finite_one(value):
    for found in (pointing.angle_of(value), as_number(value)):
        assert found is None or math.isfinite(found)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["{!r}", " {!r} ", "{!r} C", "{:+.17e}"]))
def test_a_number_comes_back(number, form):
    assert as_number(form.format(number)) == number
    assert as_number(f"{number:.17e}".replace("e", "D")) == number


@given(st.floats(0, 359.999), st.floats(-90, 90))
def test_a_pointing_in_degrees_comes_back(ra, dec):
    assume((ra, dec) != (0, 0))
    assert pointing.coordinates({"RA": ra, "DEC": dec})[:2] == (ra, dec)


@given(
    st.dictionaries(
        st.sampled_from([key for pair in COORDINATES[:4] for key in pair] + ["CRVAL1", "CRVAL2"]), any_value
    )
)
def test_any_words_point_nowhere_or_onto_the_sky(values):
    values |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    found = [place[:2] for place in [pointing.coordinates(values)] if place] + pointing.places(values)
    assert all(0 <= ra < 360 and -90 <= dec <= 90 and (ra, dec) != (0, 0) for ra, dec in found)


# --- Names ----------------------------------------------------------------------------------------------------------
NASTY = ["../../x", "/etc/x", "..", ".", "", "-rf", ".hidden", "CON", "nul.fits", "com1", "a" * 500, "$(rm x)", "`x`",
         "{x}", "{wildcard}", "*?[a]", "M 31", "M_31", "m 31", "Ω Ari", "a\nb", 'a"b', "r", "R", "\udc80", "lpt9.x."]  # fmt: skip
any_name = st.sampled_from(NASTY) | st.text(max_size=60)


@given(any_name, st.sampled_from([12, 40, 60]))
def test_any_name_is_a_plain_part_of_a_path(text, limit):
    name = names.safe_name(text, limit)
    assert re.fullmatch(r"[A-Za-z0-9+_][A-Za-z0-9+_.-]*", name) and not name.endswith(".") and len(name) <= limit
    assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)", name.split(".")[0])
    assert names.safe_name(name, limit) == name


@given(st.lists(any_name, max_size=8, unique=True), st.lists(any_name, max_size=4, unique=True))
def test_names_differ_also_without_case_and_newcomers_rename_nothing(texts, newcomers):
    first = names.unique_names(texts)
    both = names.unique_names([*texts, *newcomers], kept=first)
    assert {name: both[name] for name in first} == first
    assert len({name.casefold() for name in both.values()}) == len(both) == len({*texts, *newcomers})


@given(st.lists(st.text(max_size=12), min_size=2, max_size=4))
@example(["a\rb", "c"])
@example(['a"b', "\n"])
def test_any_texts_come_back_from_a_table(row):
    text = frames.table_text(["a"] * len(row), [row])
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] == [row]


@given(any_name, any_name)
@example("raw/\udc80.fits", "a")
def test_any_texts_have_an_identity_and_other_texts_another(one, other):
    assert identity(one) == identity(one)
    assert (identity(one) == identity(other)) == (one == other)


def test_a_table_of_files_with_names_of_any_bytes_comes_back(tmp_path):
    rows = [{"path": 'raw/n\udcff\ra"b\n.fits', "reason": "x, y"}]
    write_rows(tmp_path / "t.csv", rows)
    assert read_rows(tmp_path / "t.csv") == rows


# --- The configuration ----------------------------------------------------------------------------------------------
def keys_of(schema, where=()):
    for key, part in schema.get("properties", {}).items():
        yield (*where, key)
        yield from keys_of(part, (*where, key))


KEYS = sorted(set(keys_of(SCHEMA)))
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), st.dates(), st.binary(max_size=5),
    st.sampled_from(WORDS), st.sampled_from(["lights", "all", "2023-13-45", "0x_", "none", "3 sigma", "a\0b", "a\nb"]),
    st.sampled_from(["[" * 3000, "9" * 5000, 10**400, {1, 2}]),
)  # fmt: skip
inner_keys = st.sampled_from([key[-1] for key in KEYS]) | st.text(max_size=5) | st.integers() | st.dates() | st.none()
any_yaml = st.recursive(leaves, lambda part: st.lists(part, max_size=3) | st.dictionaries(inner_keys, part, max_size=3))


def nested(path, value):
    for key in reversed(path):
        value = {key: value}
    return value


def accepted(config, key):
    """The complete configuration, or None where it is refused; anything but a sentence about the key is a fault."""
    try:
        whole = complete(config, SCHEMA)
        header.Settings.from_config(whole)
    except ValueError as error:
        for line in str(error).split("\n"):
            assert re.search(rf"\b{key}\b", line) and len(line) < 1500, line[:2000]
            assert line.startswith(("configuration: ", f"{key}: ")) and line.isprintable(), line
        return None
    return whole


@settings(max_examples=4 * (EXAMPLES or 100))
@given(st.sampled_from(KEYS), any_yaml)
@example(("longitude",), "2023-13-45")
@example(("longitude",), "0x_")
@example(("longitude",), 1e9)
@example(("longitude",), "[" * 3000)
@example(("match", "exposure"), math.nan)
@example(("combine", "memory"), math.inf)
@example(("cameras", "gain"), 10**400)
@example(("kinds",), {"bias": 5})
@example(("kinds",), {"bias": {"file": {1, 2}}})
@example(("targets",), {"a\nb": 5})
@example(("results",), "a\0b")
@example(("results",), "")
@example(("header",), {"OBJECT": b"x"})
def test_any_value_of_any_key_is_accepted_or_refused_in_a_sentence_with_the_key(path, value):
    whole = accepted(nested(path, value), path[0])
    if whole is not None:
        assert complete(whole, SCHEMA) == whole
        json.dumps(whole, allow_nan=False)
        quiet(header.describe, Values([("OBJECT", "x", "")]), "raw/x.fits", header.Settings.from_config(whole))
        quiet(header.detector, Values([("INSTRUME", "x", "")]), whole["cameras"])


def test_a_value_that_contains_itself_is_refused_with_its_key():
    loop = {}
    loop["b"] = loop
    assert accepted({"header": {"a": loop}}, "header") is None


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_each_key_refuses_what_it_cannot_mean(path):
    """Neither a set nor a number that is none is of use anywhere."""
    for value in ({1, 2}, math.nan, -math.inf):
        assert accepted(nested(path, value), path[0]) is None


@given(st.sampled_from(KEYS), st.text(string.ascii_lowercase + "_", min_size=1, max_size=12))
def test_any_unknown_key_is_named_and_its_value_is_not(path, key):
    """The value may be anything, also what nobody else should read."""
    section = path[:-1]
    assume((*section, key) not in KEYS and section not in [("catalogue",)])
    with pytest.raises(ConfigError) as caught:
        complete(nested((*section, key), "not-for-others-4711"), SCHEMA)
    assert key in str(caught.value) and "4711" not in str(caught.value)


FILES = st.text(st.sampled_from("raw: []{}&*!?|>-'\"#%@`,\n\t 0x_.129abT\\"), max_size=60)


@settings(max_examples=3 * (EXAMPLES or 100))
@given(FILES)
@example("select: {nights: 2023-13-45}")
@example("longitude: 0x_")
@example("raw: &a [*a]")
@example("raw: !foo bar")
@example("raw: " + "[" * 3000)
@example("raw: {[a]: b}")
@example("raw: {? [a] : b, ? [a] : b}")
@example("a: 1\n---\nb: 2\n")
def test_any_file_is_a_configuration_or_refused_in_a_sentence_with_its_name(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_text(text)
    try:
        stated = says(path)
    except ConfigError as error:
        assert str(error).startswith(str(path)) and str(error).isprintable()
        return
    found = yaml.safe_load(text)
    assert stated is (found is not None)
    assert found is None or isinstance(found, dict)
