"""Cubic interpolation on turned grids against the plain sums over all taps."""

import numpy as np
import pytest
from aligning import MIDDLE, a_wcs
from firstlight import kernels, resample, tiles, turned
from firstlight.frame import Mask

RNG = np.random.default_rng(7)


def plain(image, x, y, power):
    """Sums of image times weights to a power, in double precision; positions as `turned` counts them."""
    (first_x, along), (first_y, up) = (kernels.taps(at.astype(float) + 1, "cubic") for at in (x, y))
    along, up = along.astype(float) ** power, up.astype(float) ** power
    return sum(up[m] * along[k] * image[first_y + m, first_x + k] for m in range(4) for k in range(4))


def by_turned(image, x, y, power):
    rooms = turned.Rooms()
    axes = turned.Axis(x, "x", rooms), turned.Axis(y, "y", rooms)
    return (turned.values, turned.variances)[power - 1](image.astype(np.float32), *axes, rooms)


def somewhere(shape, size=60):
    return RNG.uniform(0, size - 3, (2, *shape)).astype(np.float32)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (64, 50), (3, 700)])
@pytest.mark.parametrize("level", [1.0, 1e-20, 1e15])
def test_it_is_the_sum_over_all_taps(power, shape, level):
    image = RNG.uniform(0.5, 1.5, (60, 60)) * level
    x, y = somewhere(shape)
    np.testing.assert_allclose(by_turned(image, x, y, power), plain(image, x, y, power), rtol=1e-5)


@pytest.mark.parametrize("power", [1, 2])
def test_beside_a_pixel_that_stands_out(power):
    image = np.ones((60, 60))
    image[20, 30] = 1e6
    x, y = somewhere((200, 200), 50)
    np.testing.assert_allclose(by_turned(image, x, y, power), plain(image, x, y, power), atol=10)


@pytest.mark.parametrize("power", [1, 2])
def test_at_a_pixel_itself_it_is_that_pixel(power):
    image = RNG.normal(100, 10, (12, 12)).astype(np.float32)
    x, y = (at.astype(np.float32) for at in np.meshgrid(np.arange(9), np.arange(9)))
    np.testing.assert_array_equal(by_turned(image, x, y, power), image[1:10, 1:10])


def test_no_variance_is_negative():
    image = RNG.uniform(0, 1, (60, 60)) ** 20
    assert by_turned(image, *somewhere((300, 300)), 2).min() >= 0


# ---- as a whole frame is resampled -----------------------------------------------------------------------------------

SHAPE = (190, 170)


@pytest.fixture(scope="module", params=[7.0, 38.0, -20.0])
def turned_frame(request):
    """A frame with flagged pixels on a turned grid, and the same one pixel after the other: (data, sigma, mask, common),
    and the expected (data, sigma, mask), which pixels lie inside."""
    data, sigma = RNG.normal(1000, 30, SHAPE).astype(np.float32), RNG.uniform(25, 35, SHAPE).astype(np.float32)
    mask, common = np.zeros(SHAPE, np.uint8), RNG.integers(0, 255, SHAPE).astype(np.uint8)
    mask[RNG.random(SHAPE) < 0.01] = Mask.BAD
    mask[60:64, 80:84] = Mask.SATURATED
    positions = resample.Positions(a_wcs(), a_wcs(MIDDLE, request.param), SHAPE)
    frame = resample.Resampler(data, sigma, mask, "cubic", None, common)
    out = [np.empty(SHAPE, kind) for kind in (np.float32, np.float32, np.uint8, np.uint8)]
    frame.onto(positions, *out)
    x, y, area = positions.rows(slice(0, SHAPE[0]))
    values, variances, bits, inside = frame.at(x, y)
    near = [np.clip(kernels.nearest(at), 0, size - 1) for at, size in ((y, SHAPE[0]), (x, SHAPE[1]))]
    return positions, out, (values * area, np.sqrt(variances) * area, bits, common[tuple(near)]), inside


def test_most_of_it_is_filled_by_tiles_of_their_own_taps(turned_frame):
    alone = [tile for tile in tiles.tiles(turned_frame[0], "cubic") if tile.inside is not None and tile.steady is None]
    assert sum(np.prod(tile.shape) for tile in alone if tile.large) > 0.8 * turned_frame[3].sum()


@pytest.mark.parametrize("part", [0, 1])
def test_data_and_sigma_are_those_of_single_pixels_nearly(turned_frame, part):
    _, out, expected, inside = turned_frame
    step = (30, 10)[part]  # from one pixel to the next
    np.testing.assert_allclose(out[part][inside], expected[part][inside], rtol=1e-6, atol=5e-5 * step)


def test_bits_are_those_of_single_pixels(turned_frame):
    _, out, expected, inside = turned_frame
    np.testing.assert_array_equal(out[2][inside], expected[2][inside])


def test_the_masters_share_is_that_of_the_nearest_pixel_where_grids_are_turned(turned_frame):
    _, out, expected, inside = turned_frame
    assert np.mean(out[3][inside] != expected[3][inside]) < 1e-4


def test_outside_there_is_no_data(turned_frame):
    _, out, _, inside = turned_frame
    assert np.isnan(out[0][~inside]).all() and (out[2][~inside] == Mask.NO_DATA).all()


def test_with_an_opencv_that_rounds_positions_each_tap_is_looked_up(monkeypatch):
    """Versions before 5 know 32 positions between two pixels: a star would be off by up to one sigma."""
    import cv2

    monkeypatch.setattr(cv2, "__version__", "4.14.0")
    monkeypatch.setattr(turned, "exact", turned.exact.__wrapped__)
    monkeypatch.setattr(turned, "values", None)
    data = RNG.normal(1000, 30, SHAPE).astype(np.float32)
    out, bits = np.empty(SHAPE, np.float32), np.empty(SHAPE, np.uint8)
    positions = resample.Positions(a_wcs(), a_wcs(MIDDLE, 20.0), SHAPE)
    one = resample.Resampler(data, None, None, "cubic")
    one.onto(positions, out, None, bits)
    x, y, area = positions.rows(slice(0, SHAPE[0]))
    values, _, _, inside = one.at(x, y)
    np.testing.assert_allclose(out[inside], (values * area)[inside], rtol=1e-5)
