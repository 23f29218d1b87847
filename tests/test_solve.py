"""Solving against simulated fields whose WCS is known, and on real frames."""

from pathlib import Path

import numpy as np
import pytest
import simulated_night as sim
from astropy.io import fits
from firstlight import astrometry, catalogue, io, pointing, raw, solve, sources
from firstlight.frame import Frame

REAL = Path(__file__).parents[2] / "shared" / "data"
SHAPE = (1024, 1024)
CENTRE, SCALE = (35.0, 57.0), 2.0
CORNERS = np.array([[0.0, 0.0], [1023.0, 0.0], [0.0, 1023.0], [1023.0, 1023.0], [511.5, 511.5]])


def a_wcs(centre=CENTRE, angle=20.0, mirror=False, scale=SCALE):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    cd = scale / 3600 * np.array([[-c, -s], [-s, c]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    return astrometry.tangent_wcs(centre, (511.5, 511.5), cd)


def field(wcs, count=80, seed=1, noise=0.1, extra=0.2):
    """Sources of a frame with that WCS and a catalogue of nine times its area.

    count stars in the frame, of which every sixth was not found, and a part `extra` of false sources of any brightness.
    """
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-1024, 2048, (9 * count, 2))
    mag = 8 + 2.5 * np.log10(1 + rng.uniform(0, 300, len(xy)))
    stars = np.zeros(len(xy), [(name, "f8") for name in catalogue.COLUMNS])
    stars["ra"], stars["dec"] = wcs.all_pix2world(xy, 0).T
    stars["mag"] = mag
    seen = ((xy > 0) & (xy < 1023)).all(axis=1) & (rng.random(len(xy)) > 1 / 6)
    false = rng.uniform(0, 1023, (round(extra * count), 2))
    table = np.zeros(seen.sum() + len(false), [(name, "f8") for name in sources.COLUMNS])
    table["x"], table["y"] = np.vstack([xy[seen] + rng.normal(0, noise, (seen.sum(), 2)), false]).T
    table["flux"] = 10 ** (-0.4 * (np.append(mag[seen], rng.choice(mag, len(false))) - 20))
    table["fwhm"] = 3.0
    return table[np.argsort(-table["flux"])], stars[np.argsort(stars["mag"])]


OWN = ("header", "patterns", "seiza")  # the rungs that need nothing installed beside


def solved(table, stars, head=None, centre=CENTRE, scale=SCALE, order=OWN, **options):
    head = head if head is not None else fits.Header()
    return solve.solve(table, head, SHAPE, stars, centre, scale, order=order, **options)


def error_in_pixels(wcs, truth, xy=CORNERS):
    return astrometry.separation(wcs.all_pix2world(xy, 0), truth.all_pix2world(xy, 0)).max() * 3600 / SCALE


# ---- simulated fields ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["patterns", "seiza"])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("angle", [0, 93, 201])
def test_any_rotation_and_parity(angle, mirror, engine):
    truth = a_wcs(angle=angle, mirror=mirror)
    solution = solved(*field(truth), order=[engine])
    assert error_in_pixels(solution.wcs, truth) < 0.15
    assert np.sign(np.linalg.det(solution.wcs.pixel_scale_matrix)) == (1 if mirror else -1)


@pytest.mark.parametrize("away", [(0.5, 0.3), (-0.9, -0.2)])
def test_a_pointing_that_is_off(away):
    truth = a_wcs()
    solution = solved(*field(truth), centre=(CENTRE[0] + away[0], CENTRE[1] + away[1]))
    assert error_in_pixels(solution.wcs, truth) < 0.15


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_a_scale_that_is_off(factor):
    truth = a_wcs()
    assert error_in_pixels(solved(*field(truth), scale=SCALE * factor).wcs, truth) < 0.15


def test_without_a_pointing_the_catalogue_says_where():
    truth = a_wcs()
    assert error_in_pixels(solved(*field(truth), centre=None).wcs, truth) < 0.15


def test_without_a_scale_all_are_tried():
    truth = a_wcs()
    assert error_in_pixels(solved(*field(truth, count=60), scale=None, time_limit=6.0).wcs, truth) < 0.15


@pytest.mark.parametrize("centre", [(0.0, 20.0), (120.0, 89.9)])
def test_where_right_ascension_wraps_and_at_the_pole(centre):
    truth = a_wcs(centre)
    assert error_in_pixels(solved(*field(truth), centre=centre).wcs, truth) < 0.15


def test_rms_is_the_noise_of_the_positions():
    solution = solved(*field(a_wcs(), count=200, noise=0.2))
    expected = 0.2 * np.sqrt(2) * SCALE
    assert abs(solution.cards()["FLWCSRMS"][0] / expected - 1) < 0.12


def test_distortion_is_fitted():
    night = sim.Night(size=1024, field=1024 * SCALE / 3600, distortion=4.0)
    truth = sim.make_wcs(night, CENTRE, 20.0)
    table, stars = field(truth, count=250)
    everywhere = np.random.default_rng(8).uniform(0, 1023, (300, 2))
    assert error_in_pixels(solved(table, stars, sip_order=0).wcs, truth, everywhere) > 1.0
    solution = solved(table, stars)
    assert error_in_pixels(solution.wcs, truth, everywhere) < 0.2
    again = astrometry.read_wcs(astrometry.replace_wcs(fits.Header(), solution.wcs))
    assert error_in_pixels(again, truth, everywhere) < 0.2


@pytest.mark.parametrize("count", [75, 150])
def test_a_field_without_distortion_gets_no_sip_terms(count):
    for seed in range(2):
        assert solved(*field(a_wcs(), count=count, seed=seed)).wcs.sip is None


def test_centre_star_lies_where_fits_and_arrays_say():
    """A star painted on the central pixel: 256 in the array, 257 in FITS."""
    truth = astrometry.tangent_wcs((35.0, 57.0), (256.0, 256.0), np.diag([-2.0, 2.0]) / 3600)
    rng = np.random.default_rng(2)
    xy = np.vstack([[256.0, 256.0], rng.uniform(8, 505, (59, 2))])
    flux = np.append(3e5, rng.uniform(5e3, 1e5, 59))
    image = rng.normal(100, 5, (513, 513))
    sim.paint(image, *xy.T, flux, sim.Profile("gauss", 3.0))
    table, _ = sources.detect(Frame(image.astype(np.float32), fits.Header()))
    stars = np.zeros(60, [(name, "f8") for name in catalogue.COLUMNS])
    stars["ra"], stars["dec"] = truth.all_pix2world(xy, 0).T
    stars["mag"] = 20 - 2.5 * np.log10(flux)
    solution = solve.solve(table, fits.Header(), (513, 513), stars[np.argsort(stars["mag"])], CENTRE, SCALE)
    np.testing.assert_allclose(solution.wcs.all_world2pix([[35.0, 57.0]], 0), [[256.0, 256.0]], atol=0.08)
    card = astrometry.replace_wcs(fits.Header(), solution.wcs)
    np.testing.assert_allclose(astrometry.read_wcs(card).all_world2pix([[35.0, 57.0]], 1), [[257.0, 257.0]], atol=0.08)


# ---- the header's WCS ------------------------------------------------------------------------------------------------


def with_wcs(wcs):
    return astrometry.replace_wcs(fits.Header(), wcs)


def test_right_header_wcs_is_taken_and_tightened():
    truth = a_wcs()
    table, stars = field(truth)
    solution = solved(table, stars, with_wcs(a_wcs((35.003, 57.001))))
    assert [a.engine for a in solution.attempts] == ["header"]
    assert error_in_pixels(solution.wcs, truth) < 0.15


@pytest.mark.parametrize("count", [60, 1000])
def test_wrong_header_wcs_is_refused_and_the_next_rung_taken(count):
    """Also in crowded fields, where a few stars agree with anything."""
    truth = a_wcs()
    table, stars = field(truth, count=count)
    solution = solved(table, stars, with_wcs(a_wcs((35.25, 57.12))))
    assert [(a.engine, a.wcs is None) for a in solution.attempts] == [("header", True), ("patterns", False)]
    assert "stars agree with the catalogue" in solution.attempts[0].reason
    assert error_in_pixels(solution.wcs, truth) < 0.15


@pytest.mark.parametrize("stars", [None, catalogue.nothing()], ids=["none", "empty"])
def test_header_wcs_without_a_catalogue_is_taken_as_it_is(stars):
    table, _ = field(a_wcs())
    solution = solved(table, stars, with_wcs(a_wcs()))
    assert error_in_pixels(solution.wcs, a_wcs()) < 1e-6
    assert solution.attempts[0].reason == "not checked: no catalogue"
    assert (solution.cards()["FLSOLVER"][0], solution.cards()["FLMATCH"][0]) == ("header", 0)


# ---- no solution -----------------------------------------------------------------------------------------------------


def unsolvable(name):
    table, stars = field(a_wcs())
    elsewhere = field(a_wcs((80.0, 10.0)), count=60, seed=9)[0]
    return {
        "3 stars": (table[:3], stars),
        "no stars": (table[:0], stars),
        "no catalogue": (table, None),
        "empty catalogue": (table, stars[:0]),
        "catalogue of 3 stars": (table, stars[:3]),
        "wrong field": (elsewhere, stars),
        "all in one place": (np.repeat(table[:1], 30), stars),
    }[name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("3 stars", "3 stars in the frame"),
        ("no stars", "0 stars in the frame"),
        ("no catalogue", "no catalogue"),
        ("empty catalogue", "no catalogue"),
        ("catalogue of 3 stars", "only 3 stars in the catalogue"),
        ("wrong field", "no solution within 2 deg of 35.000 \\+57.000, 2 arcsec/pix .*then .*any scale"),
        ("all in one place", "no solution"),
    ],
)
def test_no_solution_is_a_reason_and_no_exception(name, reason):
    solution = solved(*unsolvable(name), time_limit=10.0)
    assert solution.wcs is None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(solution.attempts[-1].reason)


@pytest.mark.parametrize("scale", [SCALE, None], ids=["scale", "any scale"])
def test_no_time_is_a_reason_and_no_exception(scale):
    elsewhere = field(a_wcs((80.0, 10.0)), count=300, seed=9)[0]
    solution = solved(elsewhere, field(a_wcs())[1], scale=scale, time_limit=0.05)
    assert solution.wcs is None and solution.attempts[-1].reason


def test_a_guess_that_takes_too_long_does_not_keep_the_next_from_its_turn():
    """120 stars: the first scales that are tried here run out of their time."""
    truth = a_wcs()
    assert error_in_pixels(solved(*field(truth, count=120), scale=None, time_limit=3.0).wcs, truth) < 0.15


@pytest.mark.parametrize("centre", [(215.0, -57.0), (35.0, 95.0), (float("nan"), 0.0)])
def test_a_pointing_that_makes_no_sense_is_passed_over(centre):
    """The catalogue was made for the target, so its own place is as good a hint."""
    truth = a_wcs()
    assert error_in_pixels(solved(*field(truth, count=60), centre=centre).wcs, truth) < 0.15


def test_none_tries_and_believes_nothing():
    table, stars = field(a_wcs(), count=40)
    solution = solved(table, stars, with_wcs(a_wcs()), method="none")
    assert solution.wcs is None and solution.attempts == []
    assert solution.cards()["FLSOLVED"][0] is False


def test_the_whole_reason_is_in_the_file(tmp_path):
    table, stars = field(a_wcs(), count=40)
    solution = solved(table, stars[:3])
    frame = Frame(np.zeros((4, 4), np.float32), fits.Header()).with_(solution.cards())
    io.write_frame(tmp_path / "light.fits", frame)
    head = io.read_header(tmp_path / "light.fits")
    assert head["FLSOLVED"] is False
    assert "no WCS in the header" in head["FLUNSOLV"] and "only 3 stars in the catalogue" in head["FLUNSOLV"]


# ---- real frames -----------------------------------------------------------------------------------------------------


def real(name):
    folder = REAL / name
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return folder


def detected(path):
    data, head = raw.read(str(path))
    frame = Frame(data.astype(np.float32), head)
    return frame, sources.detect(frame)[0]


def test_all_frames_of_hatp32_wide_are_solved():
    """Raw frames with one pointing in all headers, from which the field drifts by 23 arcmin."""
    stars = catalogue.standard(io.read_any_table(real("catalogues") / "hatp32.ecsv"))
    paths = sorted(real("hatp32_wide").glob("*.FITS"))
    target = (31.0417, 46.6897)  # HAT-P-32
    middles = []
    for path in paths:
        frame, table = detected(path)
        centre, scale = pointing.places(frame.header), pointing.pixel_scale(frame.header)
        solution = solve.solve(table, frame.header, frame.shape, stars, centre, scale[0])
        assert solution.wcs is not None, f"{path.name}: {[str(a) for a in solution.attempts]}"
        assert abs(astrometry.scale_of(solution.wcs) - 5.16) < 0.02
        x, y = solution.wcs.all_world2pix([target], 0)[0]
        assert 0 < x < 650 and 0 < y < 500
        middles.append(solution.wcs.all_pix2world([[325, 250]], 0)[0])
    assert len(paths) == len(middles) == 12
    assert 20 < astrometry.separation(middles[0], np.array(middles)).max() * 60 < 26


def test_pinpoints_wcs_of_xo1_is_accepted_without_a_catalogue():
    frame, table = detected(real("xo1_z") / "XO1-b_z_20250602_041008.fits")
    solution = solve.solve(table, frame.header, frame.shape, None, None, None)
    assert (solution.wcs is not None, solution.attempts[-1].engine) == (True, "header")
    np.testing.assert_allclose(
        solution.wcs.all_pix2world([[511.0, 511.0]], 0)[0], (frame.header["CRVAL1"], frame.header["CRVAL2"]), atol=1e-8
    )


def test_a_header_without_coordinates_is_no_fault():
    solution = solve.solve(sources.none_found(), fits.Header(), (100, 100), None, [])
    assert solution.wcs is None and solution.attempts
