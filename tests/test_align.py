"""Frames on their grid: placing by WCS and by stars, and what an aligned frame says of itself."""

from pathlib import Path

import numpy as np
import pytest
import simulated_night as sim
from aligning import (
    a_frame,
    a_grid,
    a_night,
    a_wcs,
    centroid,
    grid_of,
    light_header,
    noise,
    painted,
    star_field,
    table_of,
    turn,
)
from firstlight import align, astrometry, placing, raw, reduce, sources

REAL = Path(__file__).parents[2] / "shared" / "data"


def misplaced(placed, grid, frame_xy, grid_xy):
    """Largest distance on the grid (pix) between where stars are put and where they belong."""
    return np.hypot(*(placing.to_grid(grid, placed, frame_xy) - grid_xy).T).max()


TO_GRID = np.column_stack([turn(3.0), [25.3, -14.8]])


def on_frame(grid_xy, transform=TO_GRID):
    return np.linalg.solve(transform[:, :2], (grid_xy - transform[:, 2]).T).T


@pytest.mark.parametrize("celestial", [True, False])
@pytest.mark.parametrize("n", [7, 60])
def test_a_frame_without_wcs_is_placed_by_its_stars(celestial, n):
    xy = star_field(n)
    grid = a_grid(xy, a_wcs((399.5, 399.5)) if celestial else None)
    placed, how = placing.place(table_of(on_frame(xy)), None, grid)
    assert misplaced(placed, grid, on_frame(xy), xy) < 0.15
    assert how["ALIGNED"][0] == "stars"


def test_a_frame_after_the_meridian_flip_is_placed_by_its_stars():
    xy, flip = star_field(), np.array([[-1.0, 0.0, 812.0], [0.0, -1.0, 790.0]])
    grid = a_grid(xy)
    placed, _ = placing.place(table_of(on_frame(xy, flip)), None, grid)
    assert misplaced(placed, grid, on_frame(xy, flip), xy) < 0.1


@pytest.mark.parametrize("n", [3, 5])
def test_few_stars_place_a_frame_by_its_shift(n):
    xy, shift = star_field(n), np.array([[1.0, 0.0, 31.2], [0.0, 1.0, -17.5]])
    grid = a_grid(xy)
    placed, how = placing.place(table_of(on_frame(xy, shift), 0.02), None, grid)
    assert misplaced(placed, grid, on_frame(xy, shift), xy) < 0.1
    assert how["ALIGNED"][0] == "shift"


def test_a_wcs_that_is_a_little_off_is_tightened_to_the_grids_stars():
    xy, wcs = star_field(), a_wcs((399.5, 399.5))
    grid = a_grid(xy, wcs)
    off = astrometry.moved(wcs, np.column_stack([turn(3.05), TO_GRID[:, 2] + (1.2, -0.9)]))
    assert misplaced(off, grid, on_frame(xy), xy) > 1
    placed, how = placing.place(table_of(on_frame(xy)), off, grid)
    assert misplaced(placed, grid, on_frame(xy), xy) < 0.1
    assert (how["ALIGNED"][0], how["ALIGNN"][0]) == ("wcs+stars", 60)
    assert abs(how["ALIGNRMS"][0] / (0.05 * np.sqrt(2)) - 1) < 0.3


def test_with_few_stars_a_wcs_is_shifted_and_not_bent():
    """PinPoint's solutions of one night scatter by most of a pixel."""
    xy, wcs = star_field(6), a_wcs((399.5, 399.5))
    grid = a_grid(xy, wcs)
    off = astrometry.moved(wcs, TO_GRID + [[0, 0, 0.8], [0, 0, -0.3]])
    placed, how = placing.place(table_of(on_frame(xy)), off, grid)
    assert misplaced(placed, grid, on_frame(xy), xy) < 0.15
    assert how["ALIGNED"][0] == "wcs+shift"
    np.testing.assert_allclose(placed.pixel_scale_matrix, off.pixel_scale_matrix)


def test_a_wcs_that_the_stars_belie_is_not_believed():
    """Many headers carry what the mount believed, and without a catalogue nothing has checked it."""
    xy, wcs = star_field(), a_wcs((399.5, 399.5))
    grid = a_grid(xy, wcs)
    mount = astrometry.moved(wcs, TO_GRID + [[0, 0, 40.0], [0, 0, 25.0]])
    placed, how = placing.place(table_of(on_frame(xy)), mount, grid)
    assert misplaced(placed, grid, on_frame(xy), xy) < 0.1
    assert how["ALIGNED"][0] == "stars"


def test_a_wcs_stands_where_the_frame_shows_other_stars():
    xy, wcs = star_field(), a_wcs((399.5, 399.5))
    own = astrometry.moved(wcs, TO_GRID)
    placed, how = placing.place(table_of(star_field(40, seed=77)), own, a_grid(xy, wcs))
    assert placed is own and how["ALIGNED"][0] == "wcs"


def test_hot_pixels_do_not_hold_a_frame_back():
    """They stay where they are while the stars drift by 2.8 pixels: within reach of a wrong pair."""
    xy, drift = star_field(40), np.array([[1.0, 0.0, -1.2], [0.0, 1.0, 2.5]])
    hot = star_field(15, seed=8)
    grid = a_grid(np.vstack([xy, hot]))
    placed, _ = placing.place(table_of(np.vstack([on_frame(xy, drift), hot])), None, grid)
    assert misplaced(placed, grid, on_frame(xy, drift), xy) < 0.1


def test_sources_that_are_no_stars_place_nothing():
    table = table_of(on_frame(star_field()))
    table["flag"] = sources.ODD
    with pytest.raises(ValueError, match="0 stars"):
        placing.place(table, None, a_grid(star_field()))


def test_sip_of_a_frame_survives_tightening():
    night = a_night()
    wcs, flat = sim.make_wcs(night, (35.15, 57.13), 0.0), sim.make_wcs(a_night(0.0), (35.15, 57.13), 0.0)
    xy = star_field(size=512)
    frame_xy = wcs.all_world2pix(flat.all_pix2world(xy, 0), 0)
    grid = a_grid(xy, flat, 512)
    placed, _ = placing.place(table_of(frame_xy), wcs, grid)
    assert placed.sip is not None
    assert misplaced(placed, grid, frame_xy, xy) < 0.1


@pytest.mark.parametrize(("n", "seed"), [(2, 76), (40, 77), (500, 78)])
def test_an_unsolved_frame_of_another_field_is_refused_with_the_reason(n, seed):
    with pytest.raises(ValueError, match="stars"):
        placing.place(table_of(star_field(n, seed=seed)), None, a_grid(star_field(500)))


def test_a_frame_without_stars_or_wcs_is_refused():
    with pytest.raises(ValueError, match="0 stars in the frame"):
        placing.place(sources.none_found(), None, a_grid(star_field()))


def test_reference_light_itself_stays_as_it_is_on_a_pixel_grid():
    image, xy = noise(shape=(500, 512)), star_field(size=500)
    grid = grid_of(light_header(), table_of(xy))
    frame = a_frame(image, 2.0).with_(header=light_header())
    out = align.onto(frame, table_of(xy), grid)
    np.testing.assert_allclose(out.data, image, rtol=1e-5)
    assert out.header["ALIGNED"] == "reference" and "CTYPE1" not in out.header


def test_aligned_frame_carries_the_grids_wcs_and_no_other():
    wcs, xy = a_wcs((255.0, 250.0)), star_field(size=500)
    grid = grid_of(light_header(wcs), table_of(xy))
    own = astrometry.moved(wcs, np.column_stack([np.eye(2), [5.0, 3.0]]))
    head = light_header(own, "second", CROTA2=12.0, PLTSOLVD=True)
    out = align.onto(a_frame(noise(shape=(500, 512))).with_(header=head), table_of(xy - (5.0, 3.0)), grid)
    there = astrometry.read_wcs(out.header)
    assert astrometry.separation(there.all_pix2world(xy, 0), grid.wcs.all_pix2world(xy, 0)).max() * 3600 < 1e-4
    assert "CROTA2" not in out.header and "PLTSOLVD" not in out.header


def grid_and_light(grid_wcs, own, n=60, size=512, seed=5, transform=None):
    """A grid with stars, and the table of a light of WCS `own` that shows them."""
    xy = star_field(n, seed, size)
    grid = a_grid(xy, grid_wcs, size)
    return grid, own.all_world2pix(grid_wcs.all_pix2world(xy, 0), 0)


OTHERS = {  # WCS of a light of another camera or night, and the shape of its frame
    "flipped": (a_wcs((250.3, 260.8), 180.0), (512, 512)),
    "turned": (a_wcs((255.0, 240.0), 37.0), (512, 512)),
    "binned": (a_wcs((127.6, 127.2), 3.0, 4.0), (256, 256)),
    "finer": (a_wcs((380.2, 377.9), -20.0, 1.4), (760, 760)),
    "mirrored": (astrometry.tangent_wcs((35.0, 57.0), (255.2, 255.9), np.diag([1, 1]) * 2 / 3600), (512, 512)),
}


@pytest.fixture(scope="module", params=OTHERS)
def other(request):
    """A light of another kind on the grid: grid, places of its stars there, the light, it aligned."""
    own, shape = OTHERS[request.param]
    grid, xy = grid_and_light(a_wcs((255.5, 255.5)), own)
    inside = ((xy > 25) & (xy < np.array(shape[::-1]) - 26)).all(axis=1)
    side = astrometry.scale_of(own) / 2.0
    image = painted(*xy[inside].T, 1e5, 6.0 / side, shape)
    table = table_of(xy[inside], 0.0)
    light = a_frame(image, 5.0).with_(header=light_header(own, "other", FWHM=6.0 / side, SKYLEVEL=100.0, SKYNOISE=5.0))
    places = np.column_stack([grid.stars["x"], grid.stars["y"]])[inside]
    return grid, places, light, align.onto(light, table, grid)


def test_stars_of_another_camera_keep_flux_and_place(other):
    grid, places, _, out = other
    apart = np.sort(np.hypot(*(places[:, None] - places[None]).T), axis=1)[:, 1]
    good = ((places > 30) & (places < 480)).all(axis=1) & (apart > 45)
    found = np.array([centroid(np.nan_to_num(out.data), *place, reach=20) for place in places[good]])
    assert good.sum() > 8
    np.testing.assert_allclose(found[:, :2], places[good], atol=0.03)
    np.testing.assert_allclose(found[:, 2], 1e5, rtol=3e-3)


def test_noise_of_another_camera_is_in_its_sigma(other):
    grid, _, light, _ = other
    dark = a_frame(noise(4, light.shape, 0.0, 5.0), 5.0)
    out = align.align(dark, astrometry.read_wcs(light.header), grid.wcs, grid.shape)
    good = out.mask == 0
    assert abs((out.data / out.sigma)[good].std() - 1) < 0.01


def test_cards_of_a_light_are_told_in_pixels_of_the_grid(other):
    grid, _, light, out = other
    ratio = 2.0 / astrometry.scale_of(astrometry.read_wcs(light.header))
    assert abs(out.header["FWHM"] / 6.0 * 2.0 / 2.0 - 1) < 2e-3
    assert abs(out.header["SKYLEVEL"] / (100.0 * ratio**2) - 1) < 2e-3
    good = out.mask == 0
    assert abs(out.header["SKYNOISE"] / np.median(out.sigma[good]) - 1) < 0.01


def test_affine_cards_lead_from_the_grid_to_the_frame(other):
    grid, places, light, out = other
    get = out.header.get
    matrix = np.array(
        [[get("ALIGN11"), get("ALIGN12"), get("ALIGNX")], [get("ALIGN21"), get("ALIGN22"), get("ALIGNY")]]
    )
    exact = astrometry.read_wcs(light.header).all_world2pix(grid.wcs.all_pix2world(places, 0), 0)
    np.testing.assert_allclose(astrometry.apply_affine(matrix, places), exact, atol=0.02)


def test_a_frame_says_how_much_of_the_grid_it_covers_and_of_itself_it_loses():
    wcs = a_wcs((255.5, 255.5))
    out = align.align(
        a_frame(noise(shape=(512, 512))), astrometry.moved(wcs, np.array([[1, 0, 128], [0, 1, 0]])), wcs, (512, 512)
    )
    assert abs(out.header["ALIGNCOV"] - 0.75) < 0.01 and abs(out.header["ALIGNOFF"] - 0.25) < 0.01


def test_a_frame_beside_the_grid_is_dropped_with_the_key_that_helps():
    wcs, xy = a_wcs((399.5, 399.5)), star_field()
    frame = a_frame(noise(shape=(500, 512))).with_(
        header=light_header(astrometry.moved(wcs, TO_GRID + [[0, 0, 3000], [0, 0, 0]]))
    )
    with pytest.raises(ValueError, match="grid: extent: all"):
        align.onto(frame, table_of(star_field(30, seed=90)), a_grid(xy, wcs))


@pytest.mark.parametrize("n", [3, 5, 30])
def test_expected_error_of_a_placement_is_its_error(n):
    """Over 100 frames, by shift (3, 5 stars) and by an affine transformation."""
    transform = np.array([[1.0, 0.0, 11.2], [0.0, 1.0, -7.5]])
    said, done = [], []
    for seed in range(100):
        xy = star_field(n, seed=seed)
        grid = a_grid(xy)
        table = table_of(on_frame(xy, transform), 0.2, seed=seed + 1000)
        table["flux_err"] = table["flux"] * 0.2 / np.sqrt(2) / (3.0 / 2.355)  # noise that is known
        try:
            placed, how = placing.place(table, None, grid)
        except ValueError:
            continue
        off = placing.to_grid(grid, placed, on_frame(xy, transform)) - xy
        said.append(how["ALIGNERR"][0] ** 2)
        done.append((off**2).sum(axis=1).mean())
    assert len(done) > 60
    assert 0.75 < np.sqrt(np.mean(said) / np.mean(done)) < 1.33


def test_what_a_shift_cannot_know_is_not_averaged_away():
    """Three bright stars, and a camera that is a little nearer: more stars of this kind would not help."""
    xy = np.array([[200.0, 211.0], [540.0, 536.0], [768.0, 452.0]])
    grid = a_grid(xy)
    table = table_of((xy - 400) * 1.001 + 400, 0.0)
    table["flux_err"] = table["flux"] / 1000
    placed, how = placing.place(table, None, grid)
    error = np.hypot(*(placing.to_grid(grid, placed, np.column_stack([table["x"], table["y"]])) - xy).T)
    assert how["ALIGNED"][0] == "shift" and how["ALIGNERR"][0] > np.sqrt(np.mean(error**2))


def test_a_placement_that_is_not_known_well_is_told():
    head = {"ALIGNED": "shift", "ALIGNN": 3, "ALIGNERR": 0.48}
    assert "may be off by 0.48 pix" in " ".join(placing.words(head))
    assert len(placing.words(head | {"ALIGNERR": 0.1})) == 1
    assert "nothing tells" in " ".join(placing.words({"ALIGNED": "wcs", "ALIGNN": 0}))


def test_a_frame_of_another_half_of_the_sky_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="another half of the sky"):
        align.align(a_frame(noise()), a_wcs(), a_wcs(crval=(215.0, -57.0)), (96, 110))


# ---- real frames -----------------------------------------------------------------------------------------------------


def test_an_unsolved_frame_of_xo1_is_placed_where_its_stars_are():
    """Without a single calibration frame, and with hot pixels that stay while the stars drift by 2.8 pixels."""
    folder = REAL / "xo1_z"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    found = []
    for name in ("052955", "053326"):  # the last with a WCS, the first without
        data, head = raw.read(str(folder / f"XO1-b_z_20250602_{name}.fits"))
        frame = reduce.reduce(reduce.prepare(data, head, {}), reduce.Reduction())
        found.append((head, sources.detect(frame)[0]))
    (head, table), (unsolved, others) = found
    head["NAXIS1"] = head["NAXIS2"] = 1024
    grid = grid_of(head, table)
    assert astrometry.read_wcs(unsolved) is None
    placed, how = placing.place(others, None, grid)
    assert how["ALIGNED"][0] == "stars" and how["ALIGNN"][0] >= 15
    assert how["ALIGNRMS"][0] < 0.3
