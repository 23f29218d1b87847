"""Which filter makes which colour."""

import pytest
from firstlight import channels


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["R", "B", "V"], {"R": ["R"], "G": ["V"], "B": ["B"]}),
        (["z", "H-Alpha", "g", "r"], {"R": ["z"], "G": ["r"], "B": ["g"]}),
        (["B", "V", "R", "I"], {"R": ["R", "I"], "G": ["V"], "B": ["B"]}),
        (["i", "r", "z"], {"R": ["z"], "G": ["i"], "B": ["r"]}),
        (["L", "R", "G", "B"], {"L": ["L"], "R": ["R"], "G": ["G"], "B": ["B"]}),
        (["B", "R"], {"R": ["R"], "G": ["B", "R"], "B": ["B"]}),
        (["B", "V", "Ha"], {"R": ["Ha"], "G": ["V"], "B": ["B"]}),
        (["V", "I", "Ha"], {"R": ["I"], "G": ["V", "I"], "B": ["V"]}),
        (["OIII", "SII", "Ha"], {"R": ["SII"], "G": ["Ha"], "B": ["OIII"]}),
        (["OIII", "H_alpha"], {"R": ["H_alpha"], "G": ["OIII"], "B": ["OIII"]}),
        (["Clear", "Ha"], {"R": ["Ha"], "G": ["Clear"], "B": ["Clear"]}),
        (["Clear"], {"L": ["Clear"]}),
        (["V"], {"L": ["V"]}),
        (["Ha"], {"L": ["Ha"]}),
        (["wheel 7", "wheel 8"], {"L": ["wheel 7", "wheel 8"]}),
    ],
)
def test_default_channels(filters, expected):
    assert channels.channels(filters) == expected


def test_case_tells_sloan_from_johnson():
    assert channels.channels(["R", "r", "B", "V"])["R"] == ["r", "R"]


def test_names_of_systems_and_primes_do_not_matter():
    assert channels.channels(["SDSS_g", "r'", "ip"]) == {"R": ["ip"], "G": ["r'"], "B": ["SDSS_g"]}


def test_mapping_wins_over_the_defaults():
    mapping = {"R": "Ha", "G": "V", "B": ["B", "g"]}
    assert channels.channels(["B", "g", "V", "R", "Ha"], mapping) == {"R": ["Ha"], "G": ["V"], "B": ["B", "g"]}


def test_a_mapping_of_nothing_is_none():
    assert channels.channels(["V"], {"R": [], "G": [], "B": [], "L": []}) == {"L": ["V"]}


def test_mapping_finds_another_spelling():
    assert channels.channels(["H-Alpha", "V", "B"], {"r": "Ha", "g": "V", "b": "B"})["R"] == ["H-Alpha"]


def test_mapping_without_green_takes_the_mean():
    assert channels.channels(["Ha", "OIII"], {"R": "Ha", "B": "OIII"})["G"] == ["OIII", "Ha"]


def test_mapping_names_what_is_not_there():
    with pytest.raises(ValueError, match="channel R asks for 'I' but there are stacks of B, V"):
        channels.channels(["B", "V"], {"R": "I", "G": "V", "B": "B"})


def test_mapping_without_blue_is_refused():
    with pytest.raises(ValueError, match="the mapping fills R, G: R, G and B are needed"):
        channels.channels(["B", "V"], {"R": "V", "G": "V"})


def test_no_filter_is_refused():
    with pytest.raises(ValueError, match="no stack"):
        channels.channels([])


@pytest.mark.parametrize(
    ("palette", "expected"),
    [
        ("SHO", {"R": ["S2"], "G": ["H-Alpha"], "B": ["OIII"]}),
        ("HOO", {"R": ["H-Alpha"], "G": ["OIII"], "B": ["OIII"]}),
        ("HOS", {"R": ["H-Alpha"], "G": ["OIII"], "B": ["S2"]}),
        ("natural", {"R": ["R", "H-Alpha", "S2"], "G": ["V", "OIII"], "B": ["B", "OIII"]}),
        ("auto", {"R": ["R"], "G": ["V"], "B": ["B"]}),
    ],
)
def test_palettes(palette, expected):
    assert channels.channels(["B", "V", "R", "OIII", "S2", "H-Alpha"], palette=palette) == expected


def test_natural_colours_of_lines_alone():
    assert channels.channels(["OIII", "Ha"], palette="natural") == {"R": ["Ha"], "G": ["OIII"], "B": ["OIII"]}
    assert channels.channels(["Hb", "Ha"], palette="natural") == {"R": ["Ha"], "G": ["Hb"], "B": ["Hb"]}


def test_a_palette_names_the_line_that_is_not_there():
    with pytest.raises(ValueError, match="palette SHO needs SII but there are stacks of Ha, OIII"):
        channels.channels(["Ha", "OIII"], palette="SHO")


def test_one_filter_is_grey_in_any_palette():
    assert channels.channels(["Ha"], palette="SHO") == channels.channels(["Ha"], palette="natural") == {"L": ["Ha"]}


def test_a_palette_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="palette is 'hubble' but must be one of auto, SHO"):
        channels.channels(["Ha"], palette="hubble")


def test_the_mapping_wins_over_the_palette():
    mapping = {"R": "OIII", "G": "Ha", "B": "Ha"}
    assert channels.channels(["Ha", "OIII"], mapping, "HOO")["R"] == ["OIII"]


def test_channels_in_words():
    assert channels.words({"R": ["Ha", "R"], "G": ["V"], "B": ["B"]}) == "R: Ha+R, G: V, B: B"
    assert channels.words({"L": ["V"]}) == "V"
