"""Headers: dialects, repairs, times, places, detectors, names. The truth is what the documents of each dialect say."""

from datetime import date, datetime
from pathlib import Path

import pytest
from astropy.io import fits
from firstlight import header, names, nights
from firstlight.header import Settings, coordinates, describe, detector, pixel_scale, repair
from firstlight.section import parse_section, section_text

DATA = Path(__file__).parents[2] / "shared" / "data"


def kind(settings=None, path="a.fits", **cards):
    return describe(cards, path, settings).kind


def night(path="raw/a.fits", settings=None, **cards):
    return describe(cards, path, settings or Settings(raw=("raw",))).night


# --- Kinds ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("LIGHT", "light"),
        ("Light Frame", "light"),
        ("object", "light"),
        ("Bias Frame", "bias"),
        ("zero", "bias"),
        ("DARK", "dark"),
        ("Dark Frame", "dark"),
        ("FLAT", "flat"),
        ("Flat Field", "flat"),
        ("skyflat", "flat"),
        ("domeflat", "flat"),
        ("DARKFLAT", "flatdark"),
        ("FLATDARK", "flatdark"),
        ("Dark Flat", "flatdark"),
        ("FLAT-DARK", "flatdark"),
        ("Focus image", "other"),
        ("lamp flat", "flat"),
    ],
)
def test_kind_words(word, expected):
    assert kind(IMAGETYP=word) == expected


@pytest.mark.parametrize("key", ["IMAGETYP", "OBSTYPE", "FRAME", "IMGTYPE", "OBS-TYPE"])
def test_kind_keywords(key):
    assert kind(**{key: "Dark Frame"}) == "dark"


def test_kind_of_sbig_codes():
    assert [kind(PICTTYPE=code) for code in (1, 2, 3, 4)] == ["light", "dark", "bias", "flat"]


def test_a_blank_kind_counts_as_absent():
    assert kind(IMAGETYP="   ", OBSTYPE="flat") == "flat"


def test_an_unknown_kind_is_passed_over():
    assert kind(FRAME="FK5", OBSTYPE="bias") == "bias"


def test_nothing_says_the_kind():
    said = describe({}, "a.fits")
    assert said.kind == "light"
    assert "nothing says what kind of frame this is: taken for a light" in said.notes


def test_patterns_are_the_last_resort():
    settings = Settings(kinds={"bias": {"file": "*zero*"}, "flat": {"OBJECT": "*dome*"}})
    assert kind(settings, "x/Zero_001.fit") == "bias"
    assert kind(settings, OBJECT="R Dome 3") == "flat"
    assert kind(settings, "x/Zero_001.fit", IMAGETYP="dark") == "dark"


def test_a_kind_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'flats' is not a kind of frame: one of flatdark, bias"):
        Settings(kinds={"flats": {"file": "*"}})


# --- Exposure, temperature, filter ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"EXPTIME": 60.0}, 60),
        ({"EXPOSURE": "30 s"}, 30),
        ({"EXPTIME": "unknown", "EXP_TIME": 5}, 5),
        ({"EXPTIME": -1, "ITIME": 2.5}, 2.5),
        ({"EXPOINUS": 2_500_000}, 2.5),
        ({"EXPTIME": 0}, 0),
        ({"EXPTIME": -1}, None),
        ({"EXPTIME": "long"}, None),
        ({"EXPTIME": True}, None),
        ({}, None),
    ],
)
def test_exposure(cards, expected):
    assert describe(cards, "a.fits").exposure == expected


def test_exposure_in_milliseconds_by_its_comment():
    assert describe(fits.Header([("EXPTIME", 1500, "exposure in ms")]), "a.fits").exposure == 1.5


def test_no_exposure_is_a_note():
    assert "no exposure time in the header" in describe({}, "a.fits").notes


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"CCD-TEMP": -25.07, "SET-TEMP": -25.0}, -25.07),
        ({"SET-TEMP": -20.0}, -20),
        ({"CAMTEMP": "44 C"}, 44),
        ({"CCD-TEMP": 180.2}, -92.95),
        ({"CCD-TEMP": -999}, None),
        ({}, None),
    ],
)
def test_temperature(cards, expected):
    assert describe(cards, "a.fits").temperature == expected


def test_kelvin_without_data_is_no_temperature():
    card = [("CAMTEMP", -1.0, "Camera Temperature in Kelvin, =-1 if no data")]
    assert describe(fits.Header(card), "a.fits").temperature is None


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"FILTER": "R"}, "R"),
        ({"FILTER": "r"}, "r"),
        ({"INSFILTE": "V "}, "V"),
        ({"FILTER": "H-Alpha"}, "Ha"),
        ({"FILTER": "Halpha"}, "Ha"),
        ({"FILTERS": 48}, "48"),
        ({"FILTER1": "open", "FILTER2": "V"}, "V"),
        ({"FILTER1": "Clear", "FILTER2": "Air"}, "none"),
        ({"FILTER": "None"}, "none"),
        ({"FILTER": ""}, "none"),
        ({}, "none"),
    ],
)
def test_filter(cards, expected):
    assert describe(cards, "a.fits").filter == expected


def test_own_filter_aliases_keep_the_known_ones():
    assert header.filter_name("Rot", {"R": ["Rot"]}) == "R"
    assert header.filter_name("H_alpha", {"R": ["Rot"]}) == "Ha"


def test_filter_aliases_regard_case():
    assert header.filter_name("r", {"Red": ["R"]}) == "r"


# --- Camera ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"XBINNING": 2, "YBINNING": 2}, "2x2"),
        ({"XBINNING": 2, "YBINNING": 1}, "2x1"),
        ({"CCDSUM": "2 4"}, "2x4"),
        ({"BINNING": "3x3"}, "3x3"),
        ({"BINNING": 2}, "2x2"),
        ({}, "1x1"),
    ],
)
def test_binning(cards, expected):
    assert describe(cards, "a.fits").binning == expected


NINA = {"SWCREATE": "N.I.N.A. 3.1 (x64)", "INSTRUME": "ZWO ASI2600MM Pro"}


@pytest.mark.parametrize(
    ("cards", "setting", "gain"),
    [
        ({"GAIN": 100, **NINA}, "100", None),
        ({"GAIN": 0, **NINA}, "0", None),
        ({"GAIN": 1, **NINA}, "1", None),
        ({"GAIN": 100, "EGAIN": 0.24, **NINA}, "100", 0.24),
        ({"GAIN": 139, "CREATOR": "ZWO ASIAIR Plus"}, "139", None),
        ({"GAIN": 2, "EGAIN": 1.7}, "2", 1.7),
        ({"GAIN": 120}, "120", None),
        ({"GAIN": 1.9}, "", 1.9),
        ({"GAIN": 2}, "", 2),
        ({"GAIN": 0.8, **NINA}, "", 0.8),
        ({"GAIN": -1}, "-1", None),
        ({"EGAIN": 0}, "", None),
        ({"ISO": 800}, "800", None),
        ({}, "", None),
    ],
)
def test_gain_or_setting(cards, setting, gain):
    assert describe(cards, "a.fits").gain_setting == setting
    assert detector(cards).gain == gain


def test_a_comment_tells_a_gain_from_a_setting():
    assert detector(fits.Header([("GAIN", 12, "[e-/ADU] gain")])).gain == 12


def test_no_focal_length_is_written_as_zero():
    assert describe({"FOCALLEN": 0.0}, "a.fits").focal_length is None


# --- Targets --------------------------------------------------------------------------------------------------------
def target(path="raw/a.fits", targets=None, **cards):
    return describe(cards, path, Settings(raw=("raw",), targets=targets or {})).target


@pytest.mark.parametrize("text", ["M 42", "m42", "M42 core", "M  42"])
def test_targets_compare_without_case_and_blanks(text):
    assert target(OBJECT=text, targets={"M42": ["M 42", "M42*"]}) == "M42"


def test_a_target_is_its_own_pattern():
    assert target(OBJECT="ngc 869", targets={"NGC869": []}) == "NGC869"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("raw/crab/a.fits", "crab"),
        ("raw/crab/lights/R/60s/a.fits", "crab"),
        ("raw/230313_crab/Light/a.fits", "crab"),
        ("raw/2023-03-13/a.fits", "J0534+2200"),
        ("raw/a.fits", "J0534+2200"),
        ("raw/H-Alpha/a.fits", "J0534+2200"),
    ],
)
def test_target_without_object(path, expected):
    assert target(path, RA=83.6, DEC=22.01) == expected


def test_target_of_which_nothing_is_known():
    assert target(OBJECT="unknown") == "unknown"


def test_only_lights_have_targets():
    assert target(OBJECT="M42", IMAGETYP="DARK") == ""


def test_pointing_name():
    assert header.pointing_name(31.312099, 46.769087) == "J0205+4646"
    assert header.pointing_name(331.0334, -0.9253) == "J2204-0055"


# --- Time and night -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"DATE-OBS": "2025-06-02T03:39:07.9"}, "2025-06-02T03:39:07.900"),
        ({"DATE-OBS": "2025-06-02 03:39:07"}, "2025-06-02T03:39:07.000"),
        ({"DATE-OBS": "2025-06-02T03:39:07Z"}, "2025-06-02T03:39:07.000"),
        ({"DATE-OBS": "2017-12-19T18:33:43.317-0700"}, "2017-12-20T01:33:43.317"),
        ({"DATE-OBS": "2017-12-20T01:33:43+05:30"}, "2017-12-19T20:03:43.000"),
        ({"DATE-OBS": "2013-07-13", "UT": "00:57:33"}, "2013-07-13T00:57:33.000"),
        ({"DATE-OBS": "2013-07-13", "TIME-OBS": "23:59:60"}, "2013-07-14T00:00:00.000"),
        ({"DATE-OBS": "2013-07-13", "UT": 1.5}, "2013-07-13T01:30:00.000"),
        ({"DATE-OBS": "02/06/25", "TIME-OBS": "03:39:07"}, "2025-06-02T03:39:07.000"),
        ({"DATE-OBS": "06/01/96", "TIME-OBS": "08:56:00"}, "1996-01-06T08:56:00.000"),
        ({"DATE-BEG": "2025-06-02T03:39:07"}, "2025-06-02T03:39:07.000"),
        ({"MJD-OBS": 58107.0625}, "2017-12-20T01:30:00.000"),
        ({"JD": 2458107.5625}, "2017-12-20T01:30:00.000"),
        ({"DATE-OBS": "nonsense", "JD": 2458107.5625}, "2017-12-20T01:30:00.000"),
        ({"DATE-OBS": "2013-07-13", "MJD-OBS": 56486.0}, None),
        ({"DATE-OBS": "0000-00-00T00:00:00"}, None),
        ({"DATE-OBS": "2025-13-45T03:39:07"}, None),
        ({"DATE-OBS": 2025}, None),
        ({}, None),
    ],
)
def test_time(cards, expected):
    assert describe(cards, "a.fits").time == expected


def test_an_offset_decides_the_night():
    assert night(**{"DATE-OBS": "2017-12-19T18:33:43-0700", "LONGITUD": 110.88}) == "2017-12-19"


def test_local_time_decides_the_night():
    assert night(**{"DATE-OBS": "2025-06-02T03:39:07", "DATE-LOC": "2025-06-01T21:39:07"}) == "2025-06-01"


@pytest.mark.parametrize(
    ("longitude", "utc", "expected"),
    [
        ("-105 49 13", "2025-06-02T03:39:07", "2025-06-01"),
        ("-105 49 13", "2025-06-01T20:00:00", "2025-06-01"),  # 12:57 local: the coming evening
        ("-105 49 13", "2025-06-01T18:00:00", "2025-05-31"),  # 10:57 local: the past evening
        (149.0, "2025-06-01T12:00:00", "2025-06-01"),
        (254.18, "2025-06-02T03:39:07", "2025-06-01"),
        ("105 49 13 W", "2025-06-02T03:39:07", "2025-06-01"),
    ],
)
def test_a_longitude_decides_the_night(longitude, utc, expected):
    assert night(**{"DATE-OBS": utc, "SITELONG": longitude}) == expected


def test_configured_longitude_comes_before_the_header():
    cards = {"DATE-OBS": "2025-06-02T03:39:07", "SITELONG": 105.8}
    assert night(settings=Settings(longitude=-105.8), **cards) == "2025-06-01"
    assert night(**cards) == "2025-06-01"  # 10:42 local
    assert night(settings=Settings(longitude=149.0), **cards) == "2025-06-02"


def test_longitude_from_geocentric_place():
    found = nights.longitude({"OBSGEO-X": -1994503.0, "OBSGEO-Y": -5037539.0})
    assert found[0] == pytest.approx(-111.6, abs=0.1)


def test_west_positive_by_its_comment():
    assert nights.longitude(fits.Header([("LONGITUD", 110.88, "degrees west")]))[0] == -110.88


def test_longitude_zero_is_not_set():
    assert nights.longitude({"SITELONG": "+00 00 00"}) is None


def test_a_light_by_day_is_a_note():
    said = describe({"DATE-OBS": "2025-06-02T03:39:07", "SITELONG": 105.8, "IMAGETYP": "light"}, "a.fits")
    assert any("west" in note for note in said.notes)


def test_without_place_the_night_is_left_open():
    assert night(**{"DATE-OBS": "2025-06-02T03:39:07"}) is None


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("230313", "2023-03-13"),
        ("20230313", "2023-03-13"),
        ("2023-03-13", "2023-03-13"),
        ("230313_crab/R", "2023-03-13"),
        ("230312", "2023-03-12"),
        ("230314", "2023-03-14"),
        ("230310", "2023-03-13"),
        ("201301", "2023-03-13"),
    ],
)
def test_a_folder_with_a_date_wins_within_a_day(folder, expected):
    cards = {"DATE-OBS": "2023-03-13T20:00:00", "SITELONG": 11.0}
    assert night(f"raw/{folder}/a.fits", **cards) == expected


def test_the_raw_folder_itself_may_be_a_date():
    said = describe({"DATE-OBS": "2023-03-13T20:00:00", "SITELONG": 11.0}, "230314/a.fits", Settings(raw=("230314",)))
    assert said.night == "2023-03-14"


def test_a_folder_date_stands_where_there_is_no_time():
    assert night("raw/230313/a.fits") == "2023-03-13"


@pytest.mark.parametrize("name", ["M42", "231345", "night1", "HD189733", "NGC 6946", "999999"])
def test_no_date_in_a_folder(name):
    assert nights.folder_date(name) is None


def test_night_starts_at_local_noon():
    assert nights.night_of(datetime(2025, 6, 1, 12, 0)) == date(2025, 6, 1)
    assert nights.night_of(datetime(2025, 6, 1, 11, 59)) == date(2025, 5, 31)


# --- Coordinates and scale ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"RA": "13 11 52.40", "DEC": "+27 52 41.0"}, (197.968333, 27.878056)),
        ({"OBJCTRA": "08:51:52", "OBJCTDEC": "-31:54:01"}, (132.966667, -31.900278)),
        ({"RA": 31.312099, "DEC": 46.769087}, (31.312099, 46.769087)),
        ({"RA": "31.312099", "DEC": "46.769087"}, (31.312099, 46.769087)),
        ({"RA": "1h30m00s", "DEC": "-00d30m00s"}, (22.5, -0.5)),
        ({"RA": " 22:04:08", "DEC": "-00:55:31"}, (331.033333, -0.925278)),
        ({"RA": "unknown", "DEC": "", "RA-MNT": 301.56439, "DEC-MNT": 44.456875}, (301.56439, 44.456875)),
        ({"RA": 10.0, "DEC": 95.0, "RA_OBS": 10.0, "DEC_OBS": -5.0}, (10.0, -5.0)),
        ({"CRVAL1": 38.5, "CRVAL2": 89.07, "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}, (38.5, 89.07)),
        ({"RA": "2.05E2", "DEC": "1E1"}, (205.0, 10.0)),
    ],
)
def test_coordinates(cards, expected):
    assert coordinates(cards)[:2] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"RA": 0.0, "DEC": 0.0},
        {"RA": "unknown", "DEC": "unknown"},
        {"RA": "", "DEC": ""},
        {"RA": 10.0},
        {"RA": 10.0, "DEC": 91.0},
        {"RA": "12 70 00", "DEC": "+10 00 00"},
        {"CRVAL1": 1.0, "CRVAL2": 1.0, "CTYPE1": "PIXEL", "CTYPE2": "PIXEL"},
        {"RA": float("nan"), "DEC": 1.0},
    ],
)
def test_no_coordinates(cards):
    assert coordinates(cards) is None


def test_plain_hours_by_the_unit_of_the_standard():
    """The comment of a card begins with its unit; of hours that is h."""
    card = fits.Header([("RA", 13.5, "[h] right ascension"), ("DEC", 1.0)])
    assert coordinates(card)[:2] == (202.5, 1.0)


def test_plain_hours_by_the_comment():
    card = fits.Header([("RA", 13.5, "[hours] right ascension"), ("DEC", 1.0)])
    assert coordinates(card)[0] == 202.5


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"IM_SCALE": 5.21}, 5.21),
        ({"SECPIX1": 0.56}, 0.56),
        ({"XPIXSZ": 13.0, "FOCALLEN": 4014.0, "XBINNING": 2}, 0.66802),
        ({"PIXSIZE1": 6.5, "FOCALLEN": 4014.0, "XBINNING": 2}, 0.66802),
        ({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CD1_2": 0.001, "CD2_1": 0.001}, 3.6),
        ({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -0.001, "CDELT2": 0.001}, 3.6),
    ],
)
def test_pixel_scale(cards, expected):
    assert pixel_scale(cards)[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("cards", [{}, {"XPIXSZ": 13.0, "FOCALLEN": 0.0}, {"SCALE": 0}, {"CDELT1": 1.0, "CDELT2": 1.0}])
def test_no_pixel_scale(cards):
    assert pixel_scale(cards) is None


# --- Detector -------------------------------------------------------------------------------------------------------
def test_nothing_is_invented():
    known = detector({})
    assert (known.gain, known.read_noise, known.saturation, known.bias_level) == (None, None, None, None)


def test_configuration_comes_before_the_header():
    known = detector(
        {"INSTRUME": "dcam-spare", "GAIN": 1.9}, [{"where": "dcam*", "gain": 1.33}, {"gain": 9, "read_noise": 16}]
    )
    assert (known.gain, known.read_noise) == (1.33, 16)


def test_a_camera_that_does_not_match_is_left_out():
    assert detector({"INSTRUME": "other"}, [{"where": "dcam*", "gain": 1.33}]).gain is None


def test_a_camera_by_any_keyword():
    assert detector({"XBINNING": 2}, [{"where": {"XBINNING": 2}, "gain": 2.6}]).gain == 2.6


@pytest.mark.parametrize("key", ["RDNOISE", "RON", "READNOIS", "ENOISE", "READNOISE"])
def test_read_noise(key):
    assert detector({key: 5.0}).read_noise == 5.0


def test_datamax_is_saturation_only_if_it_says_so():
    assert detector(fits.Header([("DATAMAX", 65535, "SATURATION LEVEL")])).saturation == 65535
    assert detector(fits.Header([("DATAMAX", 1037.9, "MAX PIXEL VALUE")])).saturation is None


@pytest.mark.parametrize(
    "text",
    ["[  17: 528,   1: 520]", "[17:528,1:520]", " [17 :528 , 1: 520 ] ", "17:528,1:520", "[17:528,*]", "[17:528, :]"],
)
def test_sections_in_odd_spellings(text):
    assert parse_section(text, (520, 536)) == (slice(0, 520), slice(16, 528))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("17:528", "trim section '17:528' is not of the form [x1:x2,y1:y2]: trim: region or cameras: trim sets"),
        ("[1:2:3,1:4]", "trim section '[1:2:3,1:4]' is not of the form"),
        ("[5:4,1:2]", "trim section [5:4,1:2] of 0x2 does not fit the frame of 9x8: the smaller number comes first;"),
        ("[4:1,1:2]", "trim section [4:1,1:2] of 0x2 does not fit the frame of 9x8: the smaller number comes first;"),
        ("[0:0,0:0]", "trim section [0:0,0:0] of 1x1 does not fit the frame of 9x8: columns and rows count from 1;"),
        ("[-1:4,1:2]", "trim section [-1:4,1:2] of 6x2 does not fit the frame of 9x8: columns and rows count from 1;"),
        ("[1:10,1:2]", "trim section [1:10,1:2] of 10x2 does not fit the frame of 9x8: same binning? trim: region or"),
        ("[1:9,2:9]", "trim section [1:9,2:9] of 9x8 does not fit the frame of 9x8: same binning? trim: region or"),
    ],
)
def test_wrong_sections_are_refused_with_both_sizes_and_a_way_out(text, message):
    with pytest.raises(ValueError) as caught:
        parse_section(text, (8, 9))
    assert str(caught.value).startswith(message)


def test_a_wrong_section_of_the_overscan_names_its_own_key():
    with pytest.raises(ValueError, match="^overscan section .*; cameras: overscan sets another, or none$"):
        parse_section("[0:0,0:0]", (8, 9), "overscan")


def test_a_section_survives_the_way_to_slices_and_back():
    assert section_text(parse_section("[2:9,3:8]", (8, 9))) == "[2:9,3:8]"


def test_trim_comes_from_the_camera_before_the_plain_region_before_the_header():
    cards = {"INSTRUME": "a", "TRIMSEC": "[1:2,1:2]", "DATASEC": "[1:5,1:5]"}
    cameras = [{"where": "b", "trim": "[1:6,1:6]"}, {"where": "a", "trim": "[1:3,1:3]"}]
    assert detector(cards, cameras, "[1:4,1:4]").trim == "[1:3,1:3]"
    assert detector(cards, cameras[:1], "[1:4,1:4]").trim == "[1:4,1:4]"
    assert detector(cards, cameras[:1]).trim == "[1:2,1:2]"


def test_the_keyword_for_data_is_the_trim_section_where_nothing_else_is():
    assert detector({"DATASEC": "[1:5,1:5]"}).trim == "[1:5,1:5]"


def test_none_switches_the_sections_of_a_header_off():
    cards = {"TRIMSEC": "[1:2,1:2]", "BIASSEC": "[3:3,1:2]"}
    known = detector(cards, {"trim": "none", "overscan": "none"}, "[1:4,1:4]")
    assert (known.trim, known.overscan) == (None, ())
    known = detector(cards, (), "none")
    assert (known.trim, known.overscan) == (None, ("[3:3,1:2]",))


def test_overscan_is_one_section_or_several():
    assert detector({}).overscan == ()
    assert detector({}, {"overscan": "[3:3,1:2]"}).overscan == ("[3:3,1:2]",)
    assert detector({"BIASSEC": "[9:9,1:2]"}, {"overscan": ["[1:1,1:2]", "[3:3,1:2]"]}).overscan == (
        "[1:1,1:2]",
        "[3:3,1:2]",
    )


def test_each_camera_has_its_own_mask_file():
    cameras = [{"where": "a", "mask": "a.fits"}, {"where": "b", "mask": "none"}, {"mask": "others.txt"}]
    assert [detector({"INSTRUME": name}, cameras).mask for name in "abc"] == ["a.fits", None, "others.txt"]
    assert header.mask_files(cameras) == ["a.fits", "others.txt"]
    assert header.mask_files({}) == header.mask_files({"mask": None}) == []


# --- Frames that cannot be used -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "cards", [{"BAYERPAT": "RGGB"}, {"BAYRPAT": "GBRG"}, {"COLORTYP": 2}, {"FILTER": "RGGB"}, {"MEASRGGB": "1 2 3 4"}]
)
def test_colour_sensors(cards):
    key, value = next(iter(cards.items()))
    assert header.colour_sensor(cards) == f"{key} = {value!r}"


@pytest.mark.parametrize("cards", [{}, {"BAYERPAT": ""}, {"BAYERPAT": "NONE"}, {"COLORTYP": 0}, {"FILTER": "R"}])
def test_mono_sensors(cards):
    assert header.colour_sensor(cards) is None


def test_configured_sensors():
    assert header.colour_sensor({}, {"bayer": "RGGB"}) == "cameras: bayer: RGGB"
    assert header.colour_sensor({"BAYERPAT": "RGGB"}, {"bayer": "none"}) is None


@pytest.mark.parametrize(
    "cards",
    [
        {"CALSTAT": "BDF"},
        {"CALSTAT": "D"},
        {"NCOMBINE": 5},
        {"STACKCNT": 2},
        {"SNAPSHOT": 3},
        {"FLVERS": "0.1.0"},
        {"FLATCOR": "Jan 1 done"},
        {"IMAGETYP": "Master Dark"},
    ],
)
def test_processed(cards):
    assert header.processed(cards).startswith(next(iter(cards)))


@pytest.mark.parametrize(
    "cards", [{}, {"CALSTAT": "  "}, {"NCOMBINE": 1}, {"SNAPSHOT": 1}, {"IMAGETYP": "DARK"}, {"FLATCOR": "no"}]
)
def test_raw_frames(cards):
    assert header.processed(cards) is None


# --- Repairs --------------------------------------------------------------------------------------------------------
def test_a_plain_mapping_sets_keywords():
    assert repair(fits.Header({"OBJECT": "m 42"}), "a.fits", {"OBJECT": "M42", "GAIN": 1.5})["OBJECT"] == "M42"


def test_the_header_passed_in_is_not_changed():
    before = fits.Header({"OBJECT": "m 42"})
    repair(before, "a.fits", {"OBJECT": "M42"})
    assert before["OBJECT"] == "m 42"


def test_order_is_rename_append_update():
    rule = {"update": {"OBJECT": "M42"}, "append": {"FILTER": "V", "GAIN": 1.5}, "rename": {"INSFILTE": "FILTER"}}
    out = repair(fits.Header({"INSFILTE": "R", "OBJECT": "x"}), "a.fits", [rule])
    assert (out["FILTER"], out["GAIN"], out["OBJECT"], "INSFILTE" in out) == ("R", 1.5, "M42", False)


def test_append_leaves_what_is_there():
    assert repair(fits.Header({"GAIN": 2.0}), "a.fits", [{"append": {"GAIN": 1.5}}])["GAIN"] == 2.0


def test_append_fills_a_blank():
    assert repair(fits.Header({"OBJECT": "  "}), "a.fits", [{"append": {"OBJECT": "M42"}}])["OBJECT"] == "M42"


def test_null_removes_a_keyword():
    assert "OBJECT" not in repair(fits.Header({"OBJECT": "x"}), "a.fits", {"OBJECT": None})


@pytest.mark.parametrize("where", ["*/M42_*.fit", "m42_1.FIT", "230313/*", "/data/raw/230313/M42_1.fit"])
def test_paths_that_match(where):
    assert repair(fits.Header(), "/data/raw/230313/M42_1.fit", [{"where": where, "update": {"A": 1}}])["A"] == 1


@pytest.mark.parametrize("where", ["M42", "M31*", "230314/*"])
def test_paths_that_do_not_match(where):
    assert "A" not in repair(fits.Header(), "/data/raw/230313/M42_1.fit", [{"where": where, "update": {"A": 1}}])


@pytest.mark.parametrize(
    ("where", "matches"),
    [
        ({"OBJECT": "ngc*"}, True),
        ({"OBJECT": "M*"}, False),
        ({"FILTER": "r"}, True),
        ({"FILTER": "R"}, False),
        ({"XBINNING": 1.0}, True),
        ({"NONE": "*"}, False),
    ],
)
def test_values_that_match(where, matches):
    out = repair(
        fits.Header({"OBJECT": "NGC 869", "FILTER": "r", "XBINNING": 1}),
        "a.fits",
        [{"where": where, "update": {"A": 1}}],
    )
    assert ("A" in out) == matches


@pytest.mark.parametrize(
    "key", ["SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "bzero", "BSCALE", "EXTEND", "XTENSION", "CHECKSUM", "ZIMAGE"]
)
def test_structural_keywords_are_refused(key):
    with pytest.raises(ValueError, match="how the pixels are stored"):
        repair(fits.Header(), "a.fits", {key: 1})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"udpate": {"A": 1}}], "item 1 has 'udpate': known are where"),
        (["x"], "item 1 is 'x'"),
        ({"A": "é"}, "plain ASCII"),
        ({"A": "a\nb"}, "plain ASCII"),
        ({"A": float("nan")}, "finite"),
        ({"TOO_LONG_KEY": 1}, "not a FITS keyword"),
        ([{"rename": {"A": "NAXIS"}}], "how the pixels are stored"),
        ([{"update": "x"}], "write a mapping"),
    ],
)
def test_wrong_repairs(rules, message):
    with pytest.raises(ValueError, match=message):
        Settings(header=rules)


def test_repairs_work_on_the_fast_mapping_too():
    values = header.Values([("INSFILTE", "R", "filter"), ("GAIN", 2, "")])
    out = repair(values, "a.fits", [{"rename": {"INSFILTE": "FILTER"}, "update": {"GAIN": None}}])
    assert (dict(out), out.comments["FILTER"], dict(values)) == (
        {"FILTER": "R"},
        "filter",
        {"INSFILTE": "R", "GAIN": 2},
    )


# --- Names ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("M 42", "M_42"),
        ("Cat's Eye Nebula", "Cats_Eye_Nebula"),
        ("XO1-b", "XO1-b"),
        ("../../x", "x"),
        ("/etc/passwd", "etcpasswd"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("$(touch x)", "touch_x"),
        ("{frame}*?[a]", "framea"),
        ("a\nb", "a_b"),
        ("con", "con_"),
        ("NUL.fits", "NUL_.fits"),
        ("com1", "com1_"),
        ("console", "console"),
        ("", "unnamed"),
        ("***", "unnamed"),
        ("Ångström", "Angstrom"),
    ],
)
def test_safe_names(text, expected):
    assert names.safe_name(text) == expected


def test_long_names_are_cut_and_stay_apart():
    one, other = names.safe_name("x" * 500), names.safe_name("x" * 499)
    assert len(one) == len(other) == 40
    assert one != other


def test_names_equal_but_for_case_are_told_apart():
    given = names.unique_names(["r", "R", "V"])
    assert given["V"] == "V"
    assert len({name.casefold() for name in given.values()}) == 3


def test_names_given_before_stay():
    assert names.unique_names(["r", "R"], kept={"r": "r"})["r"] == "r"


def test_a_name_that_looks_hashed_collides_with_nothing():
    first = names.unique_names(["a b", "a_b"])
    texts = ["a b", "a_b", next(name for name in first.values() if name != "a_b")]
    assert len({name.casefold() for name in names.unique_names(texts).values()}) == 3


# --- Settings -------------------------------------------------------------------------------------------------------
def test_settings_take_their_part_of_a_configuration():
    settings = Settings.from_config({"raw": 230313, "combine": {}, "longitude": -105.8, "header": {"A": 1}})
    assert (settings.raw, settings.longitude, settings.header[0]["update"]) == (("230313",), -105.8, {"A": 1})


def test_read_from_names_keyword_and_value():
    assert describe({"IMAGETYP": "Light Frame"}, "a.fits").read_from["kind"] == "IMAGETYP = 'Light Frame'"


# --- Real headers ---------------------------------------------------------------------------------------------------
real = pytest.mark.skipif(not DATA.exists(), reason="the folder of real frames ../shared/data is absent")


def of(name):
    return fits.getheader(DATA / name)


@real
def test_sections_frame():
    known = detector(of("sections/a8280271.fits"))
    assert (known.gain, known.read_noise) == (1.9, 5.0)
    assert parse_section(known.trim, (520, 536)) == (slice(0, 520), slice(16, 528))
    assert [parse_section(text, (520, 536)) for text in known.overscan] == [(slice(0, 520), slice(3, 13))]


@real
def test_microobservatory_frame():
    said = describe(of("hatp32_wide/HATP-32171220013343.FITS"), "a.FITS")
    assert (said.time, said.night, said.temperature, said.scale) == (
        "2017-12-20T01:33:43.317",
        "2017-12-19",
        -2.15,
        5.21,
    )


@real
def test_sbig_frame():
    cards = of("headers/neon-on-dome-10-sec-high-res-though-scope.fit")
    known = detector(cards)
    assert (known.gain, known.saturation, header.processed(cards), describe(cards, "a.fit").filter) == (
        1.74,
        65535,
        None,
        "none",
    )


@real
def test_colour_camera_of_astrofx():
    assert header.colour_sensor(of("headers/celestron_nightscape_10100_astro_fx_v106.fit")) == "COLORTYP = 2"
