"""Catalogues from tables of any make, and the cone that a target needs."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from firstlight import catalogue
from firstlight.astrometry import separation


def a_table(**columns):
    return Table(columns or {"ra": [10.0, 11.0], "dec": [20.0, 21.0], "mag": [9.0, 8.0]})


@pytest.mark.parametrize(
    "names",
    [
        ("ra", "dec", "phot_g_mean_mag", "bp_rp"),
        ("RAJ2000", "DEJ2000", "VTmag", "B-V"),
        ("RA_ICRS", "DE_ICRS", "Gmag", "BP-RP"),
        ("_RA", "_DE", "Vmag", "bv"),
        ("RA", "Dec", "r", "Color"),
        ("alpha", "delta", "Magnitude", "colour"),
    ],
)
def test_columns_are_known_by_many_names(names):
    stars = catalogue.standard(Table([[10.0], [20.0], [9.0], [0.5]], names=names))
    assert stars.dtype.names == tuple(catalogue.COLUMNS)
    assert stars[0].tolist() == (10.0, 20.0, 9.0, 0.5)


def test_gaias_own_table_is_understood():
    """What the archive's answer looks like: masked columns, units, columns nobody asked for."""
    table = Table({"source_id": [1, 2, 3], "ra": [10.0, 11.0, 12.0], "dec": [-1.0, 0.0, 1.0]})
    table["phot_g_mean_mag"] = MaskedColumn([12.0, 9.0, 10.0], mask=[False, False, True], unit="mag")
    table["bp_rp"] = MaskedColumn([0.7, 1.1, 0.2], mask=[True, False, False], unit="mag")
    stars = catalogue.standard(table)
    np.testing.assert_array_equal(stars["mag"], [9.0, 12.0])
    np.testing.assert_array_equal(stars["colour"], [1.1, np.nan])


def test_brightest_come_first():
    np.testing.assert_array_equal(catalogue.standard(a_table())["ra"], [11.0, 10.0])


def test_a_table_without_colours_has_nan_for_them():
    assert np.isnan(catalogue.standard(a_table())["colour"]).all()


@pytest.mark.parametrize(("missing", "there"), [("mag", "ra, dec"), ("dec", "ra, mag"), ("ra", "dec, mag")])
def test_a_missing_column_is_named_with_those_that_are_there(missing, there):
    table = a_table()
    table.remove_column(missing)
    with pytest.raises(ValueError, match=rf"no column for {missing} .*it has {there}.*: name one"):
        catalogue.standard(table)


@pytest.mark.parametrize("column", ["ra", "dec", "mag"])
def test_rows_without_a_position_or_a_magnitude_are_left_out(column):
    table = a_table()
    table[column][0] = np.nan
    np.testing.assert_array_equal(catalogue.standard(table)["ra"], [11.0])


def test_right_ascension_in_hours_becomes_degrees():
    table = a_table()
    table["ra"].unit = "hourangle"
    np.testing.assert_allclose(catalogue.standard(table)["ra"], [165.0, 150.0])


def test_sexagesimal_positions_become_degrees():
    table = Table({"RAJ2000": ["02 20 36.0"], "DEJ2000": ["-57 07 48"], "Vmag": [9.0]})
    stars = catalogue.standard(table)
    np.testing.assert_allclose((stars["ra"][0], stars["dec"][0]), (35.15, -57.13), atol=1e-9)


def test_positions_as_decimal_text_are_degrees():
    stars = catalogue.standard(Table({"ra": ["35.15"], "dec": ["-0.5"], "mag": [9.0]}))
    assert (stars["ra"][0], stars["dec"][0]) == (35.15, -0.5)


def test_declination_just_south_of_the_equator_keeps_its_sign():
    stars = catalogue.standard(Table({"ra": ["00:00:04"], "dec": ["-00:30:00"], "mag": [9.0]}))
    np.testing.assert_allclose((stars["ra"][0], stars["dec"][0]), (1 / 60, -0.5))


def test_columns_with_units_of_astropys_qtable():
    table = QTable({"ra": [10.0] * u.deg, "dec": [0.5] * u.rad, "mag": [9.0] * u.mag})
    np.testing.assert_allclose(catalogue.standard(table)["dec"], [np.degrees(0.5)])


def test_words_in_a_column_are_an_error_that_names_it():
    with pytest.raises(ValueError, match="mag"):
        catalogue.standard(Table({"ra": [1.0], "dec": [2.0], "mag": ["bright"]}))


def test_an_empty_table_is_an_empty_catalogue():
    stars = catalogue.standard(a_table()[:0])
    assert len(stars) == 0 and stars.dtype == catalogue.nothing().dtype


# ---- the cone --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pointings", "centre"),
    [
        ([(35.0, 57.0)], (35.0, 57.0)),
        ([(359.0, 0.0), (1.0, 0.0)], (0.0, 0.0)),
        ([(359.5, 10.0), (0.5, 10.0), (0.0, 10.0)], (0.0, 10.0)),
        ([(0.0, 89.5), (90.0, 89.5), (180.0, 89.5), (270.0, 89.5)], (0.0, 90.0)),
        ([(10.0, -89.9), (190.0, -89.7)], (190.0, -89.9)),
    ],
)
def test_the_cones_centre_is_between_the_pointings(pointings, centre):
    found, _ = catalogue.field_of(pointings, 1.0)
    assert 0 <= found[0] < 360
    assert separation(found, centre) < 0.001


@pytest.mark.parametrize("pointings", [[(359.0, 0.0), (1.0, 0.0)], [(0.0, 89.5), (180.0, 89.5)], [(35.0, 57.0)]])
def test_the_cone_holds_every_field_and_little_more(pointings):
    centre, radius = catalogue.field_of(pointings, field=1.4, margin=0.3)
    reach = separation(centre, np.array(pointings)).max() + 0.7
    np.testing.assert_allclose(radius, reach + 0.3)
    assert radius < 2.1
