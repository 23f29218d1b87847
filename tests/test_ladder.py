"""The ladder against simulated fields in random places of the sky, and against frames that cannot be solved."""

import time
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from firstlight import astrometry, catalogue, io, pointing, raw, solve, sources, tighten
from firstlight.frame import Frame
from simulated_fields import SIZE, Field, field, table_of

OWN = ("header", "patterns", "seiza")
SHAPE = (SIZE, SIZE)


def climbed(found: Field, header=None, centre=None, scale=None, **options):
    """The solution of a field by the rungs that need nothing installed."""
    options = {"order": OWN, "time_limit": 10.0} | options
    head = fits.Header() if header is None else header
    return solve.solve(found.table, head, SHAPE, found.stars, centre or found.pointing, scale or found.scale, **options)


# ---- random places ---------------------------------------------------------------------------------------------------

TYCHO = 60  # stars per square degree, the mean of the sky


@pytest.mark.parametrize(
    ("degrees", "density", "deeper"),
    [
        (1.5, TYCHO, 1.5),
        (1.0, TYCHO, 1.5),
        (1.0, TYCHO, 0.0),
        (0.7, TYCHO, 1.5),
        (0.7, TYCHO, 3.0),
        (0.5, 2000, 0.0),
        (0.5, 2000, -1.0),
        (0.5, 2000, 1.0),
        (0.2, 5000, 0.0),
        (0.1, 20_000, 0.0),
        (0.1, 20_000, -1.5),
        (0.1, 5000, 0.0),
    ],
)
def test_twenty_random_places_are_all_solved(degrees, density, deeper):
    """Random rotation and parity, 15 % false sources, 5 % lost, a pointing that is up to 0.2 degrees off, a scale 3 % off."""
    errors = []
    for seed in range(20):
        found = field(seed, degrees, density, deeper)
        solution = climbed(found, scale=1.03 * found.scale)
        assert solution.wcs is not None, (seed, solution.reason)
        errors.append(found.error(solution.wcs))
    assert max(errors) < 0.1


@pytest.mark.parametrize(("degrees", "density"), [(1.5, TYCHO), (0.5, 2000), (0.1, 20_000)])
def test_six_pixels_of_cubic_distortion_are_fitted(degrees, density):
    for seed in range(6):
        found = field(100 + seed, degrees, density, 0.5, distortion=6.0)
        assert found.error(climbed(found, sip_order=3).wcs) < 0.1
        assert found.error(climbed(found).wcs) < 0.1  # the order that it finds by itself
        assert found.error(climbed(found, sip_order=1).wcs) > 0.7


@pytest.mark.parametrize("centre", [(0.0, 10.0), (359.95, -40.0), (180.0, 89.9), (77.0, -90.0)])
def test_where_right_ascension_wraps_and_at_the_poles(centre):
    found = field(3, 1.0, 200, centre=centre)
    assert found.error(climbed(found).wcs) < 0.1


@pytest.mark.parametrize("engine", ["patterns", "seiza"])
def test_unrelated_skies_are_not_solved(engine):
    """Frames of other places against catalogues of few and of many stars: no wrong solution."""
    for seed in range(6):
        for degrees, density in ((1.0, TYCHO), (0.5, 3000)):
            here, there = field(seed, degrees, density), field(500 + seed, degrees, density)
            strange = Field(there.table, here.stars, here.truth, here.pointing, here.scale)
            solution = climbed(strange, order=[engine], time_limit=0.4)
            assert solution.wcs is None and solution.reason


# ---- contradictory hints ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 2.0, 0.7, 1.4])
def test_a_wrong_scale_is_found_out(factor):
    found = field(7, 1.0, 200)
    solution = climbed(found, scale=factor * found.scale)
    assert found.error(solution.wcs) < 0.1
    assert "any scale" in solution.attempts[-1].hints


def test_a_pointing_two_degrees_off_is_found_out_within_the_catalogue():
    found = field(8, 1.0, 200, off=2.5)
    away = astrometry.from_plane([[2.0, 0.0]], found.truth.wcs.crval)[0]
    assert found.error(climbed(found, centre=tuple(away), radius=1.0).wcs) < 0.1


def test_right_ascension_in_hours_that_does_not_say_so_is_found_out():
    found = field(9, 1.0, 200, centre=(140.0, 20.0))
    header = fits.Header({"RA": found.pointing[0] / 15, "DEC": found.pointing[1]})
    places = pointing.places(header)
    assert astrometry.separation(places[0], (140.0, 20.0)) > 100
    assert found.error(climbed(found, centre=places).wcs) < 0.1


@pytest.mark.parametrize(
    ("cards", "places"),
    [
        ({"RA": "02:20:36", "DEC": "+57:08:00"}, [(35.15, 57.13333)]),
        ({"RA": 35.15, "DEC": 57.13}, [(35.15, 57.13)]),
        ({"RA": 2.3433, "DEC": 57.13}, [(2.3433, 57.13), (35.1495, 57.13)]),
        ({"RA": (2.3433, "[hours] of the mount"), "DEC": 57.13}, [(35.1495, 57.13)]),
        ({"RA": (2.3433, "[deg] of the mount"), "DEC": 57.13}, [(2.3433, 57.13)]),
        (
            {"OBJCTRA": "02 20 36", "OBJCTDEC": "-57 08 00", "RA": 35.0, "DEC": -57.0},
            [(35.0, -57.0), (35.15, -57.13333)],
        ),
        ({"TELRA": "2 20 36", "TELDEC": "-0 08 00"}, [(35.15, -0.13333)]),
        ({"RA": 0.0, "DEC": 0.0, "CAT-RA": "02:20:36", "CAT-DEC": "57:08:00"}, [(35.15, 57.13333)]),
        ({"RA": 35.0, "DEC": 95.0}, []),
        ({}, []),
    ],
)
def test_places_that_a_header_may_mean(cards, places):
    header = fits.Header()
    for key, card in cards.items():
        header[key] = card
    np.testing.assert_allclose(np.reshape(pointing.places(header), (-1, 2)), np.reshape(places, (-1, 2)), atol=1e-4)


@pytest.mark.parametrize(
    ("cards", "scale"),
    [
        ({"XPIXSZ": 9.0, "FOCALLEN": 1000.0, "XBINNING": 2}, 1.8564),
        ({"PIXSIZE": 4.5, "FOCALLEN": 1000.0, "XBINNING": 2}, 1.8564),
        ({"XPIXSZ": 9.0, "FOCAL": 1000.0}, 1.8564),
    ],
)
def test_scale_of_pixel_and_focal_length(cards, scale):
    assert pointing.pixel_scale(fits.Header(cards))[0] == pytest.approx(scale, rel=1e-4)


# ---- the header's WCS ------------------------------------------------------------------------------------------------


def spoiled(wcs, shift=0.0, flipped=False, scale=1.0, turn=0.0):
    """A WCS that is off by `shift` degrees, mirrored, of another scale, or turned by degrees."""
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    cd = wcs.pixel_scale_matrix @ np.array([[c, -s], [s, c]]) * scale @ np.diag([-1.0 if flipped else 1.0, 1.0])
    crval = astrometry.from_plane([[shift, 0.0]], wcs.wcs.crval)[0]
    return astrometry.tangent_wcs(crval, wcs.wcs.crpix - 1, cd)


@pytest.mark.parametrize(
    "wrong",
    [{"shift": 0.5}, {"flipped": True}, {"scale": 2.0}, {"scale": 1.1}, {"turn": 180.0}, {"turn": 5.0}, {"shift": 3.0}],
    ids=str,
)
@pytest.mark.parametrize("density", [TYCHO, 2000])
def test_a_wrong_header_wcs_is_refused_with_a_reason_and_the_next_rung_is_right(wrong, density):
    found = field(11, 1.0, density)
    header = astrometry.replace_wcs(fits.Header(), spoiled(found.truth, **wrong))
    solution = climbed(found, header)
    assert solution.attempts[0].wcs is None and solution.attempts[0].reason
    assert solution.attempts[1].engine == "patterns" and found.error(solution.wcs) < 0.1


def test_a_wrong_header_wcs_is_a_hint_for_the_next_rung():
    found = field(12, 1.0, 200, off=0.0)
    header = astrometry.replace_wcs(fits.Header(), spoiled(found.truth, shift=0.3, turn=40))
    solution = solve.solve(found.table, header, SHAPE, found.stars, None, found.scale, order=OWN, radius=0.7)
    place = astrometry.middle_of(spoiled(found.truth, shift=0.3, turn=40), SHAPE)
    assert f"of {place[0]:.3f} {place[1]:+.3f}" in solution.attempts[-1].hints


def test_a_header_wcs_where_the_catalogue_has_too_few_stars_is_taken_unchecked():
    found = field(13, 0.1, 100)
    assert 0 < len(found.stars)
    header = astrometry.replace_wcs(fits.Header(), found.truth)
    solution = climbed(found, header)
    assert solution.attempts[0].reason.startswith("not checked: ") and found.error(solution.wcs) < 1e-6


def test_a_header_wcs_outside_of_the_catalogue_is_refused():
    found = field(14, 0.1, 100)
    header = astrometry.replace_wcs(fits.Header(), spoiled(found.truth, shift=5.0))
    assert "outside of the catalogue" in climbed(found, header).attempts[0].reason


def test_distortion_that_a_header_brings_along_stays_where_stars_are_few():
    found = field(15, 1.0, 20, 0.0, noise=0.05, lost=0.0, distortion=6.0)
    header = astrometry.replace_wcs(fits.Header(), found.truth)
    solution = climbed(found, header)
    assert solution.attempts[0].engine == "header" and solution.attempts[0].matched < 24
    assert found.error(solution.wcs) < 0.1


# ---- pixels counted right --------------------------------------------------------------------------------------------


def test_a_trimmed_frame_keeps_its_solution_where_its_pixels_went():
    """What trim does to CRPIX and what the solver finds in the cut image is the same place on the sky."""
    found = field(16, 1.0, 400)
    cut = found.table[(found.table["x"] > 200) & (found.table["y"] > 100)].copy()
    cut["x"], cut["y"] = cut["x"] - 200, cut["y"] - 100
    solution = solve.solve(
        cut, fits.Header(), (SIZE - 100, SIZE - 200), found.stars, found.pointing, found.scale, order=OWN
    )
    whole = replace(solution.wcs, crpix=solution.wcs.crpix + (200, 100))
    assert found.error(whole) < 0.1


def test_binning_is_another_scale_of_the_same_sky():
    """Binned by 2, the centre of the first pixel lies at half a pixel of the unbinned frame."""
    found = field(17, 1.0, 400)
    binned = found.table.copy()
    binned["x"], binned["y"] = (found.table["x"] - 0.5) / 2, (found.table["y"] - 0.5) / 2
    solution = solve.solve(binned, fits.Header(), (512, 512), found.stars, found.pointing, 2 * found.scale, order=OWN)
    xy = np.random.default_rng(1).uniform(0, SIZE, (50, 2))
    away = astrometry.separation(solution.wcs.all_pix2world((xy - 0.5) / 2, 0), found.truth.all_pix2world(xy, 0))
    assert away.max() * 3600 / found.scale < 0.15


# ---- frames that cannot be solved ------------------------------------------------------------------------------------


def detected(image):
    return sources.detect(Frame(image.astype(np.float32), fits.Header()))[0]


def image_of(name):
    rng = np.random.default_rng(5)
    image = rng.normal(100, 5, SHAPE)
    if name == "hot pixels":
        image[rng.integers(0, SIZE, 3000), rng.integers(0, SIZE, 3000)] += 5000
    if name == "trails":
        for row in rng.integers(50, SIZE - 50, 40):
            start = rng.integers(0, SIZE - 300)
            image[row : row + 3, start : start + 200] += 300
    return image


@pytest.mark.parametrize("name", ["blank", "hot pixels", "trails"])
def test_a_frame_without_stars_is_a_reason_within_the_limit(name):
    found = field(18, 1.0, 200)
    start = time.monotonic()
    solution = climbed(Field(detected(image_of(name)), found.stars, None, found.pointing, found.scale), time_limit=2.0)
    assert solution.wcs is None and "patterns: " in solution.reason and "seiza: " in solution.reason
    assert time.monotonic() - start < 7


@pytest.mark.parametrize("count", [0, 3, 5])
def test_too_few_stars_are_counted_in_the_reason(count):
    found = field(19, 1.0, 200)
    solution = climbed(Field(found.table[:count], found.stars, None, found.pointing, found.scale))
    assert f"{count} stars in the frame" in solution.reason


def test_five_thousand_random_sources_are_a_reason_within_the_limit():
    found = field(20, 1.0, 3000)
    rng = np.random.default_rng(2)
    table = table_of(rng.uniform(0, SIZE, (5000, 2)), rng.uniform(10, 1e5, 5000))
    start = time.monotonic()
    solution = climbed(Field(table, found.stars, None, found.pointing, found.scale), time_limit=2.0)
    assert solution.wcs is None and time.monotonic() - start < 7


def test_five_thousand_sources_of_which_most_are_stars_are_solved():
    found = field(21, 1.0, 6000, 0.0)
    assert len(found.table) == 3000
    assert found.error(climbed(found).wcs) < 0.1


def test_a_catalogue_that_is_an_asterism_of_the_frame_by_chance_is_not_believed():
    """Six catalogue stars placed on random sources under one of many transformations."""
    rng = np.random.default_rng(4)
    found = field(22, 1.0, 200)
    sky = found.truth.all_pix2world(rng.uniform(0, SIZE, (40, 2)), 0)
    stars = np.zeros(40, [(name, "f8") for name in catalogue.COLUMNS])
    stars["ra"], stars["dec"] = sky.T
    six = Field(table_of(rng.uniform(0, SIZE, (60, 2)), 60 - np.arange(60.0)), stars, None, found.pointing, found.scale)
    six.table["x"][:6], six.table["y"][:6] = found.truth.wcs_world2pix(sky[:6], 0).T
    with pytest.raises(ValueError, match="at least"):
        tighten.tighten(found.truth, six.table, stars, SHAPE, doubt=1e-12)


# ---- what is recorded ------------------------------------------------------------------------------------------------


def test_each_attempt_is_a_card():
    found = field(23, 1.0, 200)
    cards = climbed(found).cards()
    assert cards["FLTRY1"] == "header: no WCS in the header"
    assert cards["FLTRY2"].startswith("patterns within 2 deg of ") and "stars, rms " in cards["FLTRY2"]
    assert cards["FLSOLVER"][0] == "patterns" and "FLUNSOLV" not in cards


def test_cards_fit_into_a_header_and_come_back(tmp_path):
    found = field(24, 1.0, 200)
    frame = Frame(np.zeros((4, 4), np.float32), fits.Header()).with_(climbed(found).cards())
    io.write_frame(tmp_path / "light.fits", frame)
    head = io.read_header(tmp_path / "light.fits")
    assert head["FLTRY2"].startswith("patterns within 2 deg of ")
    assert head.comments["FLWCSRMS"].startswith("[arcsec]")


def test_the_order_is_the_users():
    found = field(25, 1.0, 200)
    assert [a.engine for a in climbed(found, order=["seiza", "header", "patterns"]).attempts] == ["seiza"]


def test_seconds_are_in_the_record_and_not_in_the_light():
    """What is made again is the same to the byte."""
    found = field(26, 1.0, 200)
    solution = climbed(found)
    row = solution.rows({"frame": "a"})[-1]
    assert float(row["seconds"]) >= 0 and (row["engine"], row["solved"], row["frame"]) == ("patterns", True, "a")
    assert int(row["matched"]) > 50 and float(row["rms"]) < found.scale
    assert solution.cards() == climbed(found).cards()


def light(name, solution):
    cards = {"FLFRAME": name, "OBJECT": "M 1", "NIGHT": "2024-01-01", "FILTER": "V", "NSTARS": 2}
    return solution.rows(solve.light_of(fits.Header(cards)))


def test_unsolved_lights_are_rows_with_their_reasons(tmp_path):
    found = field(27, 1.0, 200)
    none = solve.solve(found.table[:2], fits.Header(), SHAPE, found.stars, order=OWN)
    none.advice = "a deeper catalogue would do"
    records = [light("b", climbed(found)), [], light("c", none)]
    for number, rows in enumerate(records):
        io.write_rows(tmp_path / f"{number}.csv", rows, solve.ATTEMPTS)
    records = [io.read_rows(tmp_path / f"{number}.csv") for number in range(3)]
    (row,) = solve.unsolved(records, [None] * 3)
    assert (row["frame"], row["target"], row["filter"], row["stars"]) == ("c", "M 1", "V", "2")
    assert row["reason"] == none.reason == none.cards()["FLUNSOLV"]
    assert row["reason"].count("2 stars in the frame") == 2 and row["reason"].endswith("a deeper catalogue would do")


def test_a_light_that_a_server_solved_is_not_listed():
    records = [light("a", solve.Solution()), light("b", solve.Solution())]
    answers = [fits.Header({"FLSOLVED": True}), fits.Header({"FLSOLVED": False, "FLUNSOLV": "none; nova: no key"})]
    rows = solve.unsolved(records, answers)
    assert [(row["frame"], row["reason"]) for row in rows] == [("b", "none; nova: no key")]
    assert solve.unsolved(records, [None, None])[0]["reason"] == "none: nothing was tried"


# ---- real frames -----------------------------------------------------------------------------------------------------


def test_panoptes_is_solved_where_its_own_wcs_says(real):
    """A colour sensor; cells of its pattern summed to pixels twice as wide, solved without its own WCS."""
    data, head = raw.read(str(real / "panoptes_bayer" / "solved.fits.fz"))
    ny, nx = (side // 2 * 2 for side in data.shape)
    image = data[:ny, :nx].astype(np.float32).reshape(ny // 2, 2, nx // 2, 2).sum(axis=(1, 3))
    table = detected(image)
    truth = astrometry.read_wcs(head)
    centre, scale = astrometry.middle_of(truth, (ny, nx)), astrometry.scale_of(truth)
    stars = catalogue.standard(io.read_any_table(real / "catalogues" / "panoptes.ecsv"))
    for engine in ("patterns", "seiza"):
        hint = (centre[0] + 0.5, centre[1] - 0.3)
        solution = solve.solve(table, fits.Header(), image.shape, stars, hint, 2.1 * scale, order=[engine])
        found = astrometry.middle_of(solution.wcs, image.shape)
        assert astrometry.separation(found, centre) * 3600 < 20
