"""Where pixels of a grid lie on a frame, against the whole chain of both WCS, pixel by pixel."""

import numpy as np
import pytest
import simulated_night as sim
from aligning import a_night, a_wcs
from firstlight import astrometry
from firstlight.positions import Positions, within
from firstlight.tiles import PIXELS, tiles

MIDDLE = np.array([299.5, 259.5])
MIRRORED = astrometry.tangent_wcs((35.0, 57.0), MIDDLE, np.diag([1, 1]) * 2 / 3600)
ZENITH = a_wcs(MIDDLE, crval=(35.0, 90.0))  # the pole on the frame
# WCS of the frame, of the grid, the grid's shape; frames are 520 x 600
PLAIN = {
    "shifted": (a_wcs(MIDDLE), a_wcs(MIDDLE + (3.3, -2.7)), (520, 600)),
    "turned a little": (a_wcs(MIDDLE, 0.03), a_wcs(MIDDLE + 0.2), (520, 600)),
    "turned by 30 degrees": (a_wcs(MIDDLE, 30.0), a_wcs(MIDDLE), (520, 600)),
    "turned by 90.2 degrees": (a_wcs(MIDDLE, 90.2), a_wcs(MIDDLE), (520, 600)),
    "after the meridian flip": (a_wcs(MIDDLE, 180.1), a_wcs(MIDDLE), (520, 600)),
    "mirrored": (MIRRORED, a_wcs(MIDDLE), (520, 600)),
    "on coarse pixels": (a_wcs(MIDDLE), a_wcs(MIDDLE / 2.3, 12.0, 4.6), (226, 261)),
    "on fine pixels": (a_wcs(MIDDLE), a_wcs(MIDDLE * 1.7, 5.0, 2.0 / 1.7), (884, 1020)),
    "in the corner of a mosaic": (a_wcs(MIDDLE), a_wcs(MIDDLE + (1200, 650), 3.0), (1000, 1500)),
    "two degrees aside": (a_wcs(MIDDLE, crval=(38.6, 57.0)), a_wcs(MIDDLE + (3528.0, -90.0)), (520, 600)),
    "at the pole": (ZENITH, a_wcs(MIDDLE, 20.0, crval=(90.0, 89.9)), (520, 600)),
}


def distorted(size, pixels, angle, shape=None, crpix=(0.0, 0.0)):
    """WCS of a frame of which SIP moves the corners by so many pixels; of a straight grid; its shape; the frame's."""
    wcs, grid = (
        sim.make_wcs(a_night(bend, size), (35.15, 57.13), turn) for bend, turn in ((pixels, angle), (0.0, 0.0))
    )
    grid = astrometry.tangent_wcs(grid.wcs.crval, grid.wcs.crpix - 1 + crpix, grid.pixel_scale_matrix)
    return wcs, grid, shape or (size, size), (size, size)


DISTORTED = {
    "5 pixels": distorted(1024, 5.0, 3.0),
    "40 pixels": distorted(400, 40.0, 30.0),
    "at the edge of a mosaic": distorted(512, 8.0, 90.0, (900, 1400), (1000.0, 500.0)),
}
CASES = {name: (*case, (520, 600)) for name, case in PLAIN.items()} | DISTORTED


def whole_chain(wcs, grid, shape):
    """x, y (ny, nx) on the frame of all pixels of the grid."""
    x, y = np.meshgrid(np.arange(shape[1], dtype=float), np.arange(shape[0], dtype=float))
    sky = grid.all_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0)
    places = wcs.wcs_world2pix(sky, 0) if wcs.sip is None else wcs.all_world2pix(sky, 0, tolerance=1e-6, quiet=True)
    return (part.reshape(shape) for part in np.asarray(places).T)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """Positions of a frame, and x, y by the whole chain; kernels are steady for cubic."""
    wcs, grid, shape, frame_shape = CASES[request.param]
    positions = Positions(wcs, grid, shape, frame_shape)
    x, y = whole_chain(wcs, grid, shape)
    with np.errstate(invalid="ignore"):
        inside = within(x, y, frame_shape)
    if wcs.sip is not None:  # far outside the polynomial turns back
        near = np.hypot(*(np.asarray(wcs.wcs_world2pix(sky_of(grid, shape), 0)) - np.array(frame_shape[::-1]) / 2).T)
        inside &= near.reshape(shape) < 1.2 * max(frame_shape)
    return positions, x, y, inside


def sky_of(grid, shape):
    x, y = np.meshgrid(np.arange(shape[1], dtype=float), np.arange(shape[0], dtype=float))
    return grid.all_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0)


def test_positions_are_those_of_the_whole_chain(case):
    positions, x, y, inside = case
    assert inside.sum() > 1000
    worst = 0.0
    for tile in tiles(positions, "cubic"):
        if tile.inside is None:
            continue
        there, rows = inside[tile.place], np.arange(tile.shape[0])[:, None]
        for line, exact in zip(tile.lines, (x, y), strict=False):
            off = line.first + rows * line.step - exact[tile.place]
            worst = max(worst, np.abs(off[there]).max(initial=0))
    assert worst < 2e-4


def test_every_pixel_of_the_grid_is_in_one_tile(case):
    positions, *_ = case
    count = np.zeros(positions.shape, int)
    for tile in tiles(positions, "cubic"):
        count[tile.place] += 1
    assert (count == 1).all()


def test_what_tiles_say_of_lying_on_the_frame_is_so(case):
    positions, _, _, inside = case
    for tile in tiles(positions, "cubic"):
        here = inside[tile.place]
        if tile.inside is None:
            assert here.sum() <= 2  # such as lie on its very edge
        elif tile.inside:
            assert (~here).sum() <= 2


def test_steady_tiles_take_the_pixels_that_are_told(case):
    positions, x, y, _ = case
    for tile in tiles(positions, "cubic"):
        if tile.steady is None:
            continue
        row, column = tile.steady
        rows, columns = np.arange(tile.shape[0])[:, None], np.arange(tile.shape[1])
        for exact, first in ((x, column + columns), (y, row + rows)):
            fraction = exact[tile.place] - first - 1
            assert fraction.min() > -3e-4 and fraction.max() < 1 + 3e-4


def test_a_frame_that_is_hardly_turned_is_nearly_all_steady():
    """So that its taps are slices: this is what makes aligning quick."""
    wcs, grid, shape = PLAIN["turned a little"]
    sizes = [(tile.shape[0] * tile.shape[1], tile.steady) for tile in tiles(Positions(wcs, grid, shape), "cubic")]
    assert sum(size for size, steady in sizes if steady) > 0.9 * np.prod(shape)


@pytest.mark.parametrize("name", ["after the meridian flip", "turned by 90.2 degrees", "mirrored"])
def test_a_turn_by_right_angles_brings_a_frame_upright(name):
    wcs, grid, shape = PLAIN[name]
    positions = Positions(wcs, grid, shape, (520, 600))
    turn = positions.upright()
    upright = positions.turned(turn)
    assert np.abs(upright.affine()[:, :2] - np.eye(2)).max() < 0.01
    image = np.random.default_rng(1).normal(size=(520, 600)).astype(np.float32)
    turned = turn.image(image)
    assert turned.shape == upright.frame_shape
    (x, y), (new_x, new_y) = (
        (np.rint(p.at(np.array([260]), np.array([270]))).astype(int)) for p in (positions, upright)
    )
    assert turned[new_y, new_x] == image[y, x]


@pytest.mark.parametrize("shape", [(37, 1771), (64, 1025), (101, 700), (1, 40_000), (3, 5)])
def test_tiles_fit_into_the_room_that_is_kept_for_them(shape):
    wcs, grid = a_wcs((shape[1] / 2, shape[0] / 2)), a_wcs((shape[1] / 2 + 0.2, shape[0] / 2))
    sizes = [tile.shape[0] * tile.shape[1] for tile in tiles(Positions(wcs, grid, shape), "cubic") if tile.lines]
    assert sizes and max(sizes) <= PIXELS


def test_bent_frames_have_exact_positions_closer_together():
    straight, bent = (Positions(*DISTORTED[name]) for name in ("5 pixels", "40 pixels"))
    assert bent.height(64) < straight.height(64) <= 64
