"""Grids: which light they are taken from, what they cover, their stars."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import simulated_night as sim
from aligning import a_night, a_wcs, grid_of, light_header, star_field, table_of
from astropy.io import fits
from firstlight import astrometry, io
from firstlight import grid as grids
from firstlight.config import complete, read_schema
from firstlight.frame import Unusable
from firstlight.night import Night

SCHEMA = Path(__file__).parents[1] / "config.schema.yaml"


def test_grid_of_a_distorted_light_has_no_distortion_and_its_stars_moved():
    wcs, xy = sim.make_wcs(a_night(), (35.15, 57.13), 0.0), star_field(size=500)
    made = grid_of(light_header(wcs), table_of(xy, 0.0))
    header = grids.grid_header(made, "M 42", {})
    grid = grids.grid_from(header, made.stars)
    assert (grid.celestial, grid.shape, grid.reference) == (True, (500, 512), "first")
    assert grid.wcs.sip is None and not any(key.startswith("A_") for key in header)
    back = grid.wcs.all_pix2world(np.column_stack([grid.stars["x"], grid.stars["y"]]), 0)
    assert astrometry.separation(back, wcs.all_pix2world(xy, 0)).max() * 3600 < 0.01


def test_grid_of_an_unsolved_light_is_its_pixels_and_carries_no_sky():
    xy = star_field(size=500)
    made = grid_of(light_header(), table_of(xy, 0.0))
    header = grids.grid_header(made, "M 42", {})
    grid = grids.grid_from(header, made.stars)
    assert not grid.celestial and "CTYPE1" not in header
    np.testing.assert_allclose(np.column_stack([grid.stars["x"], grid.stars["y"]]), xy)


def test_grid_takes_good_stars_alone():
    table = table_of(star_field(50))
    table["flag"][:4], table["flux"][4] = (1, 2, 4, 8), -3.0
    stars = grid_of(light_header(), table).stars
    np.testing.assert_array_equal(stars["x"], table["x"][5:])


def a_candidate(name, **cards):
    cards = {"FLSOLVED": True, "FWHM": 3.0, "STARFLUX": 1e4, "ELONG": 1.1, "SKYNOISE": 10.0} | cards
    return grids.candidate(name, fits.Header({"FLFRAME": name} | cards))


@pytest.mark.parametrize(
    "worse",
    [
        {"FLSOLVED": False, "STARFLUX": 1e6},
        {"FWHM": 4.0},
        {"FWHM": 0.0},
        {"STARFLUX": 5e3},
        {"SKYNOISE": 20.0},
        {"ELONG": 2.0},
    ],
)
def test_reference_is_the_best_light(worse):
    lights = [a_candidate("a"), a_candidate("z", **worse)]
    assert grids.reference(lights).name == grids.reference(lights[::-1]).name == "a"


def test_reference_that_is_asked_for_is_taken():
    assert grids.reference([a_candidate("night1_a"), a_candidate("night2_b", FWHM=9.0)], "night2").name == "night2_b"


def test_a_whole_name_goes_before_a_part_of_one():
    assert grids.reference([a_candidate("a"), a_candidate("ab", STARFLUX=1e9)], "a").name == "a"


def test_reference_that_is_not_there_costs_no_target():
    assert grids.reference([a_candidate("a")], "gone").name == "a"


def test_dropped_lights_are_no_candidates():
    assert a_candidate("a", FLSTATUS="dropped") is None


def test_no_light_gives_no_grid():
    with pytest.raises(Unusable, match="no usable light"):
        grids.reference([])


# ---- what a grid covers ----------------------------------------------------------------------------------------------

BASE = a_wcs((255.5, 249.5))  # of a light of 512x500 pixels, 2 arcsec wide


def pane(dx, dy, angle=0.0, name="pane", scale=2.0, **cards):
    """A solved light whose middle lies dx, dy pixels from that of `BASE`."""
    crval = BASE.all_pix2world([[255.5 + dx, 249.5 + dy]], 0)[0]
    return light_header(
        a_wcs((255.5, 249.5), angle, scale, crval), name, FLSOLVED=True, STARFLUX=1e4, FWHM=3.0, **cards
    )


def chosen(headers, tables=None, **options):
    """(grid, names of the lights it covers, words) of some lights; the first is the reference."""
    lights = [grids.candidate(str(number), header) for number, header in enumerate(headers)]
    tables = tables or [table_of(star_field(40, seed, 490)) for seed in range(len(headers))]
    options = {"reference": headers[0]["FLFRAME"], "extent": "reference", "north_up": False, "scale": None} | options
    return grids.choose(lights, lambda light: tables[int(light.path)], options)


def corners(header):
    nx, ny = header["NAXIS1"], header["NAXIS2"]
    xy = np.array([[-0.5, -0.5], [nx - 0.5, -0.5], [-0.5, ny - 0.5], [nx - 0.5, ny - 0.5]])
    return astrometry.read_wcs(header).all_pix2world(xy, 0)


MOSAIC = [pane(0, 0, name="a"), pane(430, 10, 3.0, "b"), pane(10, 420, 180.0, "c"), pane(440, 430, 91.0, "d")]


def test_a_grid_without_options_is_its_references_pixels():
    grid, names, words = chosen(MOSAIC)
    assert (grid.shape, names, words) == ((500, 512), ["a"], [])
    np.testing.assert_allclose(grid.wcs.wcs_world2pix(corners(MOSAIC[0])[:1], 0), [[-0.5, -0.5]], atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"north_up": True}, {"scale": 3.3}, {"north_up": True, "scale": 1.7}], ids=str)
def test_a_grid_over_all_lights_covers_their_corners_and_hardly_more(options):
    grid, names, _ = chosen([*MOSAIC, light_header(BASE, "unsolved")], extent="all", **options)
    assert sorted(names) == list("abcd")
    xy = np.vstack([grid.wcs.wcs_world2pix(corners(header), 0) for header in MOSAIC])
    ny, nx = grid.shape
    assert (xy.min(axis=0) > -1.6).all() and (xy.max(axis=0) < (nx + 0.6, ny + 0.6)).all()
    assert (xy.min(axis=0) < 0.6).all() and (xy.max(axis=0) > (nx - 1.6, ny - 1.6)).all()


def test_pixels_of_a_grid_over_all_are_the_references():
    """Shifted by whole pixels: so the reference is not resampled."""
    grid, _, _ = chosen(MOSAIC, extent="all")
    xy = grid.wcs.wcs_world2pix(BASE.all_pix2world([[0.0, 0.0], [300.0, 400.0]], 0), 0)
    np.testing.assert_allclose(xy, np.round(xy), atol=1e-3)


def test_north_is_up_and_east_left_if_wanted():
    grid, _, _ = chosen([pane(0, 0, 37.0, "a")], north_up=True)
    matrix = grid.wcs.pixel_scale_matrix * 3600
    np.testing.assert_allclose(matrix, [[-2, 0], [0, 2]], atol=1e-6)


@pytest.mark.parametrize("north_up", [False, True])
def test_scale_of_a_grid_is_free(north_up):
    grid, _, _ = chosen([pane(0, 0, 37.0, "a")], scale=3.0, north_up=north_up)
    assert abs(astrometry.scale_of(grid.wcs) - 3.0) < 1e-6
    assert north_up or abs(grid.shape[1] - 512 * 2 / 3) < 2


def test_a_light_of_another_field_under_the_same_name_costs_nobody_the_grid():
    grid, names, words = chosen([*MOSAIC, pane(20_000, 0, name="astray")], extent="all")
    assert "astray" not in names and len(names) == 4 and grid.shape[1] < 1200
    assert len(words) == 1 and "astray" in words[0] and "grid: scale" in words[0]


def test_a_scale_that_makes_too_many_pixels_is_refused():
    with pytest.raises(Unusable, match="grid: scale: 0.1 arcsec/pix"):
        chosen(MOSAIC, scale=0.1)


def test_options_that_need_a_solution_say_so_without_one():
    grid, names, words = chosen([light_header(name="a")], extent="all", north_up=True)
    assert not grid.celestial and names == ["a"]
    assert "extent: all, north_up: True does nothing" in words[0]


def test_a_named_reference_without_a_solution_says_so_where_others_have_one():
    _, _, words = chosen(
        [light_header(name="a"), light_header(a_wcs(), "b", FLSOLVED=True)], extent="all", reference="a"
    )
    assert words == ["grid: extent: all does nothing: the reference a is not solved"]


def test_a_light_of_the_other_side_of_the_sky_is_named_with_its_distance():
    heads = [light_header(a_wcs(crval=c), n, FLSOLVED=True) for c, n in (((35.0, 57.0), "b"), ((215.0, -57.0), "a"))]
    _, names, words = chosen(heads, extent="all", reference="b")
    assert names == ["b"] and "nan" not in words[0] and "Not covered: a" in words[0]


# ---- stars of many lights --------------------------------------------------------------------------------------------


def shown(header, sky, off=(0.0, 0.0), scatter=0.0):
    """Table of the stars that a light shows of those at `sky`; off: error of its WCS in pixels."""
    xy = astrometry.read_wcs(header).all_world2pix(sky, 0)
    inside = ((xy > 10) & (xy < np.array([502, 490]))).all(axis=1)
    return table_of(xy[inside] + off, scatter)


@pytest.fixture(scope="module")
def mosaic_stars():
    """Stars on the sky (degrees) over all panes."""
    grid = chosen(MOSAIC, extent="all")[0]
    xy = np.random.default_rng(4).uniform(5, 900, (400, 2))
    return grid.wcs.all_pix2world(xy, 0)


def on(grid):
    return np.column_stack([grid.stars["x"], grid.stars["y"]])


def test_stars_of_all_panes_are_on_a_grid_over_all(mosaic_stars):
    grid = chosen(MOSAIC, [shown(pane, mosaic_stars) for pane in MOSAIC], extent="all")[0]
    wanted = grid.wcs.all_world2pix(mosaic_stars, 0)
    inside = np.any([_well_inside(pane, mosaic_stars) for pane in MOSAIC], axis=0)
    apart = np.hypot(*(on(grid)[:, None] - wanted[inside][None]).T)
    assert inside.sum() > 300 and apart.min(axis=1).max() < 0.02
    assert len(on(grid)) <= 400, "a star of two panes is one"


def _well_inside(header, sky):
    xy = astrometry.read_wcs(header).all_world2pix(sky, 0)
    return ((xy > 20) & (xy < np.array([490, 478]))).all(axis=1)


def test_a_panes_own_error_of_its_wcs_makes_no_step(mosaic_stars):
    """Its stars are placed by those that it shares with its neighbour."""
    off = [(0, 0), (1.2, -0.8), (-0.9, 0.4), (0.5, 1.1)]
    grid = chosen(MOSAIC, [shown(pane, mosaic_stars, o) for pane, o in zip(MOSAIC, off, strict=True)], extent="all")[0]
    wanted = grid.wcs.all_world2pix(mosaic_stars, 0)
    apart = np.hypot(*(on(grid)[:, None] - wanted[None]).T).min(axis=0)
    assert apart.max() < 0.1


def test_the_references_stars_come_first_and_stay():
    table = table_of(star_field(60, 3, 490))
    grid = chosen(MOSAIC, [table, *[table_of(star_field(40, seed, 490)) for seed in (7, 8, 9)]], extent="all")[0]
    reference = grid.wcs.all_world2pix(BASE.all_pix2world(np.column_stack([table["x"], table["y"]]), 0), 0)
    np.testing.assert_allclose(on(grid)[:60], reference, atol=0.01)


def test_what_one_of_two_lights_shows_is_no_star(mosaic_stars):
    """Two lights of the pane b see a particle each; the reference and c show what they alone cover."""
    lights = [pane(0, 0, name="a"), pane(430, 10, 3.0, "b"), pane(431, 9, 3.0, "b2")]
    tables = [shown(light, mosaic_stars) for light in lights]
    particle = tables[1][-1:].copy()
    particle["x"], particle["y"] = 400.3, 77.7
    with_it = [tables[0], np.concatenate([tables[1], particle]), tables[2]]
    ours, without = (chosen(lights, some, extent="all")[0] for some in (with_it, tables))
    np.testing.assert_allclose(on(ours), on(without))


def test_width_of_stars_is_told_in_pixels_of_the_grid():
    grid = chosen([pane(0, 0, name="a")], scale=4.0)[0]
    np.testing.assert_allclose(grid.stars["fwhm"], 1.5, rtol=1e-3)


def test_stars_of_one_area_do_not_crowd_out_others():
    stars = np.random.default_rng(3).uniform(0, 500, (1200, 2))
    rows = np.vstack([stars, stars[:100] + 600])
    kept = grids._evenly(rows, grids.candidate("", pane(0, 0)), chosen(MOSAIC)[0])
    assert len(kept) <= 600 and (kept > 550).all(axis=1).sum() == 100


# ---- chosen once and kept --------------------------------------------------------------------------------------------


@pytest.fixture
def night(tmp_path):
    """Look-ups of a night of three lights, whose grid was chosen by its options (see `written`)."""
    config = complete({"results": str(tmp_path), "raw": "raw"}, read_schema(SCHEMA))
    night = Night([], config)
    night.rows = lambda target: [SimpleNamespace(name=name) for name in "abc"]
    return night


def written(night, covers, options):
    grid = grid_of(light_header(BASE, covers[0]), table_of(star_field(20, 1, 490)))
    names = np.array([(name,) for name in covers], [("name", "U20")])
    header = grids.grid_header(grid, "M 42", options)
    io.write_header(night.grid("M_42"), header, {"STARS": grid.stars, "LIGHTS": names})


def names(night):
    return [row.name for row in night.grid_rows("M_42")]


def test_without_a_grid_all_lights_may_give_it(night):
    assert names(night) == ["a", "b", "c"]


def test_a_grid_is_kept_by_the_lights_it_covers(night):
    written(night, "b", night.config["grid"])
    assert names(night) == ["b"]
    written(night, "ac", night.config["grid"])
    assert names(night) == ["a", "c"]


def test_lights_that_are_gone_are_asked_for_no_more(night):
    written(night, ["b", "gone"], night.config["grid"])
    assert names(night) == ["b"]


@pytest.mark.parametrize("change", [{"reference": "c"}, {"extent": "all"}, {"north_up": True}, {"scale": 1.0}], ids=str)
def test_other_options_choose_among_all_lights_again(night, change):
    written(night, "b", night.config["grid"])
    night.config["grid"] |= change
    assert names(night) == ["a", "b", "c"]


def test_a_grid_that_could_not_be_made_is_tried_with_all_lights(night):
    io.write_dropped(night.grid("M_42"), "grid", "no usable light")
    assert names(night) == ["a", "b", "c"]
