"""Finding particle hits. Truth: injected hits and stars, ccdproc on the same arrays."""

import numpy as np
import pytest
from astropy.nddata import CCDData
from firstlight import calibrate, cosmic
from firstlight.frame import Mask
from values import BIT, frame, noisy

READ_NOISE = 5.0


def field(fwhm, seed=30, shape=(200, 200), sky=200.0, hits=40, flux=60000):
    """A frame (electron, minus nothing) of Gaussian stars on a lattice and single-pixel hits between them.

    Returns the frame, where the hits are, where the stars are (within 2 FWHM, and the frame's edge).
    """
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    light, stars = np.full(shape, sky), np.zeros(shape, bool)
    for cy in np.arange(25, 190, 50):
        for cx in np.arange(25, 190, 50):
            distance = np.hypot(y - cy - rng.uniform(-0.5, 0.5), x - cx - rng.uniform(-0.5, 0.5))
            width = fwhm / 2.3548
            light += flux / (2 * np.pi * width**2) * np.exp(-(distance**2) / 2 / width**2)
            stars |= distance < 2 * fwhm
    sigma = np.sqrt(light + READ_NOISE**2)
    data = light + rng.normal(0, 1, shape) * sigma
    struck = np.zeros(shape, bool)
    stars[:4] = stars[-4:] = stars[:, :4] = stars[:, -4:] = True  # the methods need some pixels around a hit
    free = rng.permutation(np.argwhere(~stars))[:hits]
    struck[tuple(free.T)] = True
    data[struck] += 3000
    return frame(data, sigma, unit="electron"), struck, stars


@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_hits_are_found(method):
    one, struck, _ = field(3.0)
    out = cosmic.cosmic_ray(one, method=method, fwhm=3.0)
    flagged = (out.mask & Mask.COSMIC_RAY) != 0
    assert flagged[struck].all()
    assert out.header["NCOSMIC"] == flagged.sum()


@pytest.mark.parametrize("fwhm", [1.6, 2.0, 2.6, 4.0])
def test_stars_of_any_sharpness_are_no_hits(fwhm):
    one, _, stars = field(fwhm, hits=0)
    out = cosmic.cosmic_ray(one, fwhm=fwhm)
    assert not (out.mask[stars] & Mask.COSMIC_RAY).any()


def test_quiet_sky_has_hardly_a_false_hit():
    one, _, stars = field(3.0, hits=0)
    assert (cosmic.cosmic_ray(one, fwhm=3.0).mask[~stars] != 0).mean() < 1e-4


def test_laplacian_hits_are_ccdprocs():
    import ccdproc

    one, struck, _ = field(3.0)
    ours = cosmic.cosmic_ray(one, sigclip=4.5, sigfrac=0.3, objlim=5.0)
    theirs = ccdproc.cosmicray_lacosmic(
        CCDData(one.data, unit="electron"),
        sigclip=4.5,
        sigfrac=0.3,
        objlim=5.0,
        gain=1.0,
        gain_apply=False,
        invar=one.sigma**2,
        satlevel=np.inf,
        niter=4,
        cleantype="medmask",
    )
    assert theirs.mask.sum() >= struck.sum()
    np.testing.assert_array_equal((ours.mask & Mask.COSMIC_RAY) != 0, theirs.mask)


@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_hits_are_looked_for_above_the_pedestal(method):
    one, struck, _ = field(3.0)
    hot = np.zeros(one.shape, np.float32)
    hot[10::20, 10::20] = 5000
    out = cosmic.cosmic_ray(one.with_(data=one.data + hot), hot, method=method, fwhm=3.0)
    clear = (hot > 0) & ~struck
    assert not (out.mask[clear] & Mask.COSMIC_RAY).any()


@pytest.mark.parametrize("bit", ["SATURATED", "BAD", "NO_DATA"])
@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_what_is_flagged_already_is_no_hit(method, bit):
    one, struck, _ = field(3.0)
    mask = np.where(struck, np.uint8(BIT[bit]), np.uint8(0))
    out = cosmic.cosmic_ray(one.with_(mask=mask), method=method, fwhm=3.0)
    np.testing.assert_array_equal(out.mask[struck], BIT[bit])


@pytest.mark.parametrize("method", ["laplacian", "median"])
def test_hits_beside_bad_pixels_are_found(method):
    one, struck, _ = field(3.0)
    bad = np.roll(struck, 1, axis=1) & ~struck
    data = np.where(bad, 30000, one.data).astype(np.float32)
    out = cosmic.cosmic_ray(
        one.with_(data=data, mask=np.where(bad, np.uint8(Mask.BAD), np.uint8(0))), method=method, fwhm=3.0
    )
    assert (out.mask[struck] == Mask.COSMIC_RAY).all()
    assert (out.mask[bad] == Mask.BAD).all()
    np.testing.assert_array_equal(out.data, data)


def test_values_stay_until_the_flat_and_are_replaced_there_once():
    one, struck, _ = field(3.0)
    found = cosmic.cosmic_ray(one, fwhm=3.0)
    np.testing.assert_array_equal(found.data, one.data)
    out = calibrate.flat(found, None)
    assert np.abs(out.data[struck] - 200).max() < 60
    assert (out.mask[struck] == Mask.COSMIC_RAY | Mask.INTERPOLATED).all()


def test_early_replaces_at_once():
    one, struck, _ = field(3.0)
    out = cosmic.cosmic_ray(one, fwhm=3.0, replace="early")
    assert np.abs(out.data[struck] - 200).max() < 60


def test_method_none_finds_nothing():
    one, _, _ = field(3.0)
    assert cosmic.cosmic_ray(one, method="none") is one


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="cosmic_ray method 'lacosmic': laplacian, median or none?"):
        cosmic.cosmic_ray(noisy(31, 100, 10), method="lacosmic")
