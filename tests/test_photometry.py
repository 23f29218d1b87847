"""Zero points and depths. Truth: sources made from a catalogue with a known zero point and colour term."""

import numpy as np
import pytest
from astropy.wcs import WCS
from firstlight import catalogue, photometry, sources

ZERO, EXPOSURE = 22.5, 60.0


def a_wcs(size=1000, scale=1.5):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [35.0, 57.0], [size / 2, size / 2]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    return wcs


def a_field(n=80, term=0.0, scatter=0.01, seed=1, size=1000):
    """(sources, catalogue, wcs): stars on a lattice, so that none is near another, in an image of a known zero point."""
    rng = np.random.default_rng(seed)
    wcs, side = a_wcs(size), int(np.ceil(np.sqrt(n)))
    y, x = (np.indices((side, side)).reshape(2, -1)[:, :n] + 0.5) * size / side + rng.uniform(-5, 5, (2, n))
    stars = np.zeros(n, [(name, "f8") for name in catalogue.COLUMNS])
    stars["ra"], stars["dec"] = wcs.all_pix2world(x, y, 0)
    stars["mag"], stars["colour"] = rng.uniform(9, 14, n), rng.uniform(-0.2, 2.5, n)
    table = np.zeros(n, sources.none_found().dtype)
    magnitude = stars["mag"] + term * stars["colour"] + rng.normal(0, scatter, n)
    table["x"], table["y"], table["fwhm"] = x, y, 3.0
    table["flux"] = EXPOSURE * 10 ** (0.4 * (ZERO - magnitude))
    table["flux_err"] = np.sqrt(table["flux"])
    return table, stars, wcs


def test_the_zero_point_is_the_one_that_made_the_fluxes():
    table, stars, wcs = a_field()
    found = photometry.zero_point(table, wcs, stars, EXPOSURE)
    assert found.mag == pytest.approx(ZERO, abs=3 * found.error)
    assert found.error == pytest.approx(1.25 * 0.01 / np.sqrt(80), rel=0.4)
    assert found.stars > 70


def test_the_error_is_the_scatter_of_many_fields():
    found = [photometry.zero_point(*(t := a_field(seed=seed, scatter=0.05))[::2], t[1], EXPOSURE) for seed in range(40)]
    pulls = [(one.mag - ZERO) / one.error for one in found]
    assert np.std(pulls) == pytest.approx(1, abs=0.35)


def test_a_colour_term_brings_the_catalogue_to_the_images_band():
    table, stars, wcs = a_field(term=-0.3)
    without = photometry.zero_point(table, wcs, stars, EXPOSURE)
    named = photometry.zero_point(table, wcs, stars, EXPOSURE, -0.3)
    assert named.mag == pytest.approx(ZERO, abs=0.005)
    assert named.scatter < 0.02 < 0.1 < without.scatter


def test_stars_without_a_colour_take_no_part_in_a_colour_term():
    table, stars, wcs = a_field(term=-0.3)
    stars["colour"][::2] = np.nan
    assert photometry.zero_point(table, wcs, stars, EXPOSURE, -0.3).stars == 40


def test_variable_and_flagged_stars_do_not_count():
    table, stars, wcs = a_field()
    table["flux"][:12] *= 1.5
    table["flux"][12:30] *= 0.3
    table["flag"][12:30] = sources.SATURATED
    assert photometry.zero_point(table, wcs, stars, EXPOSURE).mag == pytest.approx(ZERO, abs=0.006)


def test_a_star_whose_companion_is_in_its_circle_does_not_count():
    table, stars, wcs = a_field()
    companions = stars[:30].copy()
    companions["mag"] += 1.0
    companions["dec"] += 2.0 / 3600
    table["flux"][:30] *= 1 + 10**-0.4
    found = photometry.zero_point(table, wcs, np.concatenate([stars, companions]), EXPOSURE)
    assert found.stars == 50
    assert found.mag == pytest.approx(ZERO, abs=0.006)


@pytest.mark.parametrize("lacking", ["wcs", "stars", "exposure", "sources"])
def test_without_something_to_compare_there_is_none(lacking):
    table, stars, wcs = a_field(n=9)
    given = {"wcs": wcs, "stars": stars, "exposure": EXPOSURE, "sources": table}
    given[lacking] = {"wcs": None, "stars": stars[:2], "exposure": 0.0, "sources": table[:2]}[lacking]
    assert photometry.zero_point(given["sources"], given["wcs"], given["stars"], given["exposure"]) is None


def test_depth_is_the_magnitude_whose_flux_is_five_times_the_noise_in_the_circle():
    rng = np.random.default_rng(3)
    noise, radius = 7.0, 4.0
    y, x = np.indices((25, 25)) - 12
    circle = x**2 + y**2 <= radius**2
    sums = rng.normal(0, noise, (4000, circle.sum())).sum(axis=1)
    limit = photometry.depth(noise, radius, 1.0, EXPOSURE, ZERO)
    assert EXPOSURE * 10 ** (0.4 * (ZERO - limit)) == pytest.approx(5 * sums.std(), rel=0.05)


def test_depth_without_a_zero_point_is_instrumental():
    with_zero, without = (photometry.depth(7.0, 4.0, 1.1, EXPOSURE, zero) for zero in (ZERO, None))
    assert with_zero - without == pytest.approx(ZERO)


def test_no_noise_gives_no_depth():
    assert photometry.depth(0.0, 4.0, 1.0, EXPOSURE) is None


# --- Stacks ---------------------------------------------------------------------------------------------------------
def told(named, stars_known=True):
    table, stars, wcs = a_field(term=-0.3)
    header = wcs.to_header()
    header.update({"EXPTIME": EXPOSURE, "FWHM": 3.0, "DEPTHINS": -3.0})
    meta = {"bands": ["Gaia G", "Gaia BP-RP"]}
    return photometry.stack_cards(header, table, stars if stars_known else None, meta, named)


def test_depth_of_a_named_band_is_in_its_magnitudes():
    cards = told({"band": "Johnson V", "colour_term": -0.3})
    assert cards["DEPTH"][0] == pytest.approx(ZERO - 3, abs=0.01)
    assert cards["DEPTHBND"][0] == "Johnson V" and "Johnson V" in cards["MAGZERO"][1]


def test_depth_stays_instrumental_where_no_band_is_named():
    cards = told({})
    assert (cards["DEPTH"][0], cards["DEPTHBND"][0]) == (-3.0, "instrumental")
    assert "Gaia G" in cards["MAGZERO"][1]


def test_depth_stays_instrumental_without_a_catalogue():
    cards = told({"band": "Johnson V", "colour_term": -0.3}, stars_known=False)
    assert cards["DEPTHBND"][0] == "instrumental" and "MAGZERO" not in cards


def test_fwhm_is_told_on_the_sky():
    assert told({})["FWHMSKY"][0] == pytest.approx(4.5, rel=1e-3)


def test_a_row_of_the_table_says_why_there_is_no_stack():
    row = photometry.row({"FLSTATUS": "dropped", "FLREASON": "no usable frame"})
    assert row["note"] == "no usable frame" and row["depth_mag"] == ""


def test_a_band_may_have_any_name():
    """Of greek letters too, which no FITS header holds."""
    from astropy.io import fits

    header = fits.Header({"EXPTIME": EXPOSURE, "DEPTHINS": -3.0})
    table, stars, wcs = a_field()
    header.extend(wcs.to_header())
    header.update(photometry.stack_cards(header, table, stars, {}, {"band": "H\u03b1", "colour_term": 0.0}))
    assert header["DEPTHBND"] == "H?" and "MAGZERO" in header


def test_stars_with_companions_are_those_that_a_tree_finds():
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(8)
    places, mag = rng.uniform(0, 300, (2000, 2)), rng.uniform(5, 15, 2000)
    which = rng.choice(2000, 500, replace=False)
    near = cKDTree(places).query_ball_point(places[which], 5.0)
    expected = [all(k == own or mag[k] > mag[own] + 3 for k in others) for own, others in zip(which, near, strict=True)]
    np.testing.assert_array_equal(photometry._alone(places, mag, which, 5.0), expected)
    assert not len(photometry._alone(places, mag, which[:0], 5.0))
