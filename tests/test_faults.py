"""Hot and dead pixels are compared with what is around them. Truth: the plain median of the ring, pixel by pixel."""

import numpy as np
import pytest
from firstlight import faults

RING = [(y, x) for y in range(-3, 4) for x in range(-3, 4) if 8 <= y * y + x * x <= 10]


def scene(shape, spoilt, seed=1):
    """A flat with dead pixels, and which of its pixels are bad."""
    rng = np.random.default_rng(seed)
    image = (rng.normal(1, 0.05, shape) + np.linspace(0, 1, shape[1])).astype(np.float32)
    image[rng.random(shape) < 0.02] = 0
    return image, rng.random(shape) < spoilt


def ring_median(image, bad, y, x):
    values = [image[y + dy, x + dx] for dy, dx in RING if not bad[y + dy, x + dx]]
    return np.median(values) if values else image[y, x]


@pytest.mark.parametrize("spoilt", [0.0, 0.1, 0.9])
def test_what_is_around_a_pixel_is_the_median_of_the_good_ones_of_its_ring(spoilt):
    image, bad = scene((20, 24), spoilt)
    found = faults._around(image, bad)
    expected = [[ring_median(image, bad, y, x) for x in range(3, 21)] for y in range(3, 17)]
    np.testing.assert_allclose(found[3:-3, 3:-3], expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(40, 60), (13, 30), (12, 40), (9, 9), (100, 13)])
@pytest.mark.parametrize("spoilt", [0.0, 0.1, 0.6])
def test_some_pixels_alone_find_what_all_find(shape, spoilt):
    image, bad = scene(shape, spoilt)
    y, x = np.indices(shape).reshape(2, -1)
    found = faults._around_at(image, bad, y, x).reshape(shape)
    np.testing.assert_allclose(found, faults._around(image, bad), atol=2e-6)


@pytest.mark.parametrize("shape", [(40, 60), (13, 30), (9, 9)])
def test_no_dead_pixel_is_passed_over_unseen(shape):
    image, bad = scene(shape, 0.1, seed=2)
    assert (faults._highest_around(image) >= faults._around(image, bad) - 1e-6).all()


@pytest.mark.parametrize("shape", [(40, 60), (13, 30), (9, 9)])
def test_nor_is_one_beside_a_bad_pixel_without_a_value(shape):
    image, bad = scene(shape, 0.1, seed=2)
    image[bad] = np.nan
    around = faults._around(image, bad)
    assert (faults._highest_around(image) >= around - 1e-6)[np.isfinite(around)].all()
