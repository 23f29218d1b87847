"""Small frames for the tests of steps, and their like in astropy."""

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from firstlight.frame import Frame, Mask

BIT = {name: bit for bit, name in Mask.NAMES.items()}


def frame(data, sigma=None, mask=None, unit="adu", **cards):
    data = np.asarray(data, np.float32)
    sigma = None if sigma is None else np.broadcast_to(np.float32(sigma), data.shape).copy()
    return Frame(data, fits.Header(cards), sigma, mask, unit)


def ccd(one):
    sigma = None if one.sigma is None else StdDevUncertainty(one.sigma.astype(float))
    return CCDData(one.data.astype(float), unit=one.unit or u.one, uncertainty=sigma, mask=one.mask != 0)


def noisy(seed, level, sigma, shape=(40, 50), unit="electron"):
    rng = np.random.default_rng(seed)
    return frame(rng.normal(level, sigma, shape), rng.uniform(0.8, 1.2, shape) * sigma, unit=unit)


def masked(shape, *places):
    """A mask with (y, x, bit) set."""
    mask = np.zeros(shape, np.uint8)
    for y, x, bit in places:
        mask[y, x] |= bit
    return mask


def same(ours, theirs):
    np.testing.assert_allclose(ours.data, theirs.data, rtol=2e-6)
    np.testing.assert_allclose(ours.sigma, theirs.uncertainty.array, rtol=2e-6)
