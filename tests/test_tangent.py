"""The tangent plane of a header against astropy's WCS, which is the reference for every formula in it."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from firstlight import tangent

POINTS = np.array([(0.0, 0.0), (511.5, 300.0), (-80.0, 1200.0), (1023.0, 1023.0), (100.25, 3.75)])


def plain(crval=(35.15, 57.13), **changes):
    """A header of a TAN projection, turned and flipped."""
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 512.0, "CRPIX2": 400.5})
    header.update({"CRVAL1": crval[0], "CRVAL2": crval[1], "LONPOLE": 180.0})
    header.update({"CD1_1": -1.6e-3, "CD1_2": 2e-4, "CD2_1": 1.9e-4, "CD2_2": 1.61e-3})
    header.update(changes)
    return header


def bent(back=True, **changes):
    """With SIP terms of a few pixels in the corners."""
    header = plain(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=3, B_ORDER=2)
    header.update({"A_2_0": 6e-6, "A_1_1": -4e-6, "A_3_0": 5e-9, "A_1_2": -3e-9, "B_0_2": -7e-6, "B_1_1": 2e-6})
    if back:
        header.update({"AP_ORDER": 2, "BP_ORDER": 2, "AP_1_0": 1e-5, "BP_0_2": 7e-6})
    header.update(changes)
    return header


def astropys(header):
    """The reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(header, naxis=2)


CASES = {
    "plain": plain(),
    "bent": bent(),
    "bent without the way back": bent(back=False),
    "south": plain((210.0, -89.2)),
    "pole": plain((100.0, 90.0)),
    "across zero": plain((0.05, 10.0)),
    "cdelt": fits.Header(
        {k: v for k, v in plain().items() if not k.startswith("CD")} | {"CDELT1": -1e-3, "CDELT2": 1.1e-3}
    ),
    "pc": fits.Header(
        {k: v for k, v in plain().items() if not k.startswith("CD")}
        | {"CDELT1": -1e-3, "CDELT2": 1e-3, "PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8}
    ),
}


@pytest.fixture(params=CASES, ids=str)
def both(request):
    header = CASES[request.param]
    return tangent.read(header), astropys(header)


@pytest.mark.parametrize("origin", [0, 1])
@pytest.mark.parametrize("call", ["all_pix2world", "wcs_pix2world", "pix2foc"])
def test_pixels_to_the_sky_as_astropy_has_it(both, call, origin):
    ours, theirs = (getattr(one, call)(POINTS, origin) for one in both)
    difference = ours - theirs
    if "world" in call:
        difference[:, 0] = (difference[:, 0] + 180) % 360 - 180
        difference[:, 0] *= np.cos(np.radians(theirs[:, 1]))
    assert np.abs(difference).max() < (1e-10 if "world" in call else 1e-7)


@pytest.mark.parametrize("origin", [0, 1])
def test_the_sky_to_pixels_as_astropy_has_it(both, origin):
    ours, theirs = both
    sky = theirs.wcs_pix2world(POINTS, 0)
    assert np.abs(ours.wcs_world2pix(sky, origin) - theirs.wcs_world2pix(sky, origin)).max() < 1e-6


def test_the_way_back_ends_where_it_began(both):
    ours, _ = both
    assert np.abs(ours.all_world2pix(ours.all_pix2world(POINTS, 0), 0) - POINTS).max() < 1e-5


def test_columns_may_be_given_one_by_one(both):
    ours, theirs = both
    mine = ours.all_pix2world(POINTS[:, 0], POINTS[:, 1], 0)
    assert np.allclose(mine, theirs.all_pix2world(POINTS[:, 0], POINTS[:, 1], 0), rtol=0, atol=1e-9)


def test_the_other_half_of_the_sky_is_on_no_pixel():
    assert np.isnan(tangent.read(plain()).wcs_world2pix([(215.15, -57.0)], 0)).all()


def test_where_the_terms_cannot_be_inverted_there_is_no_pixel():
    header = bent(A_3_0=1e-6)
    assert np.isnan(tangent.read(header).all_world2pix([(45.0, 57.0)], 0)).all()


def test_scale_is_astropys(both):
    assert np.allclose(both[0].pixel_scale_matrix, both[1].pixel_scale_matrix, rtol=1e-14)


def test_written_and_read_again_it_is_the_same(both):
    again = tangent.read(both[0].to_header())
    assert np.array_equal(again.all_pix2world(POINTS, 0), both[0].all_pix2world(POINTS, 0))


def test_astropy_reads_what_is_written(both):
    theirs = astropys(both[0].to_header())
    assert np.allclose(theirs.all_pix2world(POINTS, 0), both[0].all_pix2world(POINTS, 0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [(0, 3), (3, 0)])
def test_a_term_stands_where_its_powers_say(order):
    i, j = order
    header = bent()
    for key in [key for key in header if key.startswith(("A_", "B_", "AP_", "BP_"))]:
        del header[key]
    header.update({"A_ORDER": 3, "B_ORDER": 3, f"A_{i}_{j}": 1e-8})
    assert np.allclose(tangent.read(header).pix2foc(POINTS, 0), astropys(header).pix2foc(POINTS, 0), atol=1e-8)


@pytest.mark.parametrize(
    "changes",
    [
        {"CTYPE1": "RA---ZEA", "CTYPE2": "DEC--ZEA"},
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"},
        {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"},
        {"PV1_1": 0.1},
        {"CROTA2": 12.0},
        {"LONPOLE": 90.0},
        {"CUNIT1": "arcsec"},
        {"PC1_1": 1.0},
        {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-6},
        {"CD1_1": 0.0, "CD1_2": 0.0},
        {"CRVAL1": "12 30 00"},
        {"CRVAL2": 91.0},
        {"WCSAXES": 3},
        {"CRPIX1": "x"},
        {"PC001001": 0.8, "PC001002": -0.6, "PC002001": 0.6, "PC002002": 0.8},
        {"CD001001": 1e-3},
        {"D2IMDIS1": "LOOKUP"},
        {"AXISCORR": 1},
    ],
    ids=str,
)
def test_what_is_not_plainly_of_this_kind_is_left_to_astropy(changes):
    assert tangent.read(plain(**changes)) is None


def test_the_pole_without_its_longitude_is_left_to_astropy():
    header = plain((10.0, 90.0))
    del header["LONPOLE"]
    assert tangent.read(header) is None


@pytest.mark.parametrize(
    ("cards", "system"),
    [
        ({}, "ICRS"),
        ({"EQUINOX": 2000.0}, "FK5"),
        ({"RADESYS": "FK4"}, "FK4"),
        ({"EPOCH": 1950.0}, "FK4"),
        ({"EPOCH": 1950.0, "EQUINOX": 2000.0}, "FK5"),
    ],
)
def test_the_system_of_coordinates_is_kept(cards, system):
    header = plain(**cards)
    assert tangent.read(header).to_header()["RADESYS"] == astropys(header).wcs.radesys.strip() or system
    assert tangent.read(header).to_header()["RADESYS"] == system


@pytest.mark.parametrize(
    "cards",
    [{"EPOCH": 1950.0}, {"EPOCH": 2000.0}, {"RADESYS": "FK4"}, {"RADESYS": "FK5"}, {"RADESYS": "ICRS"}],
    ids=str,
)
def test_the_equinox_is_astropys(cards):
    header = plain(**cards)
    theirs = astropys(header).wcs.equinox
    assert tangent.read(header).equinox == (None if np.isnan(theirs) else theirs)
