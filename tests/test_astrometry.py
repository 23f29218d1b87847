"""Planes, fits and matches against closed forms, astropy, and headers that real programs wrote."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simulated_night as sim
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import fit_wcs_from_points
from firstlight import astrometry
from scipy.spatial import cKDTree

REAL = Path(__file__).parents[2] / "shared" / "data"
CENTRES = [(0.0, 0.0), (0.0002, 30.0), (359.9998, -45.0), (35.0, 57.0), (120.0, 90.0), (200.0, -90.0), (77.0, 89.9)]


def turn(angle, scale=1.0, mirror=False):
    """Matrix (2, 2) of a rotation by `angle` degrees and a scale, of the mirrored field where asked for."""
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])


def a_wcs(crval=(35.0, 57.0), scale=2.0, angle=17.0, middle=(511.5, 511.5)):
    """TAN, parity as on the sky; scale in arcsec/pix."""
    return astrometry.tangent_wcs(crval, middle, turn(angle, scale / 3600, mirror=True))


def sip_wcs():
    """A WCS with 5 pixels of cubic distortion in the corners of 1024x1024 pixels."""
    return sim.make_wcs(sim.Night(size=1024, field=0.6, distortion=5.0), (35.0, 57.0), 17.0)


def some_pixels(n=60, size=1024, seed=3):
    return np.random.default_rng(seed).uniform(0, size, (n, 2))


def on_sky(wcs, xy):
    return wcs.all_pix2world(xy, 0)


def pixel_distance(wcs, other, xy):
    """Largest distance in pixels of `wcs` between where two WCS see the pixels `xy`."""
    away = astrometry.separation(on_sky(wcs, xy), on_sky(other, xy))
    return away.max() / np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))


# ---- planes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crval", CENTRES)
def test_plane_there_and_back(crval):
    plane = np.random.default_rng(1).uniform(-2, 2, (200, 2))
    back = astrometry.to_plane(astrometry.from_plane(plane, crval), crval)
    np.testing.assert_allclose(back, plane, atol=1e-9)


@pytest.mark.parametrize("crval", CENTRES)
def test_plane_is_astropys(crval):
    wcs = astrometry.tangent_wcs(crval, (0.0, 0.0), np.eye(2))
    plane = np.random.default_rng(2).uniform(-2, 2, (200, 2))
    away = astrometry.separation(astrometry.from_plane(plane, crval), wcs.wcs_pix2world(plane, 0))
    assert away.max() * 3600 < 1e-6


def test_right_ascension_stays_between_0_and_360():
    ra = astrometry.from_plane([[-1.0, 0.0], [1.0, 0.0]], (0.0, 0.0))[:, 0]
    np.testing.assert_allclose(ra, [359.0, 1.0], atol=1e-3)


@pytest.mark.parametrize(
    ("a", "b", "angle"),
    [((359.5, 0), (0.5, 0), 1.0), ((10, 89), (190, 89), 2.0), ((0, -90), (123, 90), 180.0), ((5, 60), (7, 60), 1.0)],
)
def test_separation_in_closed_form(a, b, angle):
    exact = 2 * np.degrees(np.arcsin(0.5 * np.sin(np.radians(1)))) if a == (5, 60) else angle
    np.testing.assert_allclose(astrometry.separation(a, b), exact, rtol=1e-12)


def test_separation_of_a_thousandth_of_an_arcsec_is_not_rounded_away():
    tiny = 1e-3 / 3600
    np.testing.assert_allclose(astrometry.separation((30.0, 40.0), (30.0, 40.0 + tiny)), tiny, rtol=1e-4)


# ---- fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crval", [(35.0, 57.0), (0.001, -10.0), (80.0, 89.8)])
def test_fit_tangent_finds_the_wcs(crval):
    truth, xy = a_wcs(crval), some_pixels()
    fitted = astrometry.fit_tangent(xy, on_sky(truth, xy), crval)
    assert pixel_distance(truth, fitted, some_pixels(seed=4)) < 1e-6


def test_tangent_wcs_counts_from_0_and_its_card_from_1():
    wcs = a_wcs(middle=(100.0, 200.0))
    np.testing.assert_allclose(on_sky(wcs, [[100.0, 200.0]])[0], (35.0, 57.0), atol=1e-12)
    assert (astrometry.wcs_cards(wcs)["CRPIX1"], astrometry.wcs_cards(wcs)["CRPIX2"]) == (101.0, 201.0)


BENT = astrometry.read_wcs(sip_wcs().to_header(relax=True))


@pytest.mark.parametrize("truth", [a_wcs(), BENT, a_wcs((120.0, 89.9))], ids=["tan", "sip", "pole"])
def test_refit_recovers_shift_rotation_and_scale(truth):
    xy = some_pixels()
    sky = on_sky(truth, xy)
    crval = astrometry.from_plane([[0.002, -0.003]], truth.crval)[0]
    wcs = replace(truth, crval=crval, cd=truth.cd @ turn(0.3, 1.004))
    assert pixel_distance(truth, wcs, xy) > 4
    for _ in range(3):
        wcs = astrometry.refit(wcs, xy, sky)
    assert pixel_distance(truth, wcs, some_pixels(seed=4)) < 1e-6


def test_refit_keeps_sip_and_crpix():
    truth, xy = sip_wcs(), some_pixels()
    new = astrometry.refit(truth, xy, on_sky(truth, xy))
    np.testing.assert_array_equal(new.sip.a, truth.sip.a)
    np.testing.assert_allclose(new.wcs.crpix, truth.wcs.crpix)


def test_refit_of_few_stars_moves_and_does_not_turn():
    truth, xy = a_wcs(), some_pixels(4)
    wcs = astrometry.refit(a_wcs((35.001, 57.001)), xy, on_sky(truth, xy), shift_only=True)
    np.testing.assert_allclose(wcs.pixel_scale_matrix, truth.pixel_scale_matrix, atol=1e-15)
    assert pixel_distance(truth, wcs, xy) < 0.05


def test_refit_leaves_other_projections_alone():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---ZEA", "DEC--ZEA"], [35.0, 57.0], [-0.001, 0.001]
    wcs.wcs.set()
    assert astrometry.refit(wcs, some_pixels(), on_sky(wcs, some_pixels())) is wcs


@pytest.mark.parametrize("matrix", [turn(0), turn(33, 1.7), turn(180), turn(90, 0.5, mirror=True)])
def test_moved_frame_sees_the_sky_through_the_transformation(matrix):
    wcs, transform, xy = a_wcs(), np.column_stack([matrix, [12.3, -45.6]]), some_pixels()
    here = on_sky(astrometry.moved(wcs, transform), xy)
    there = on_sky(wcs, astrometry.apply_affine(transform, xy))
    assert astrometry.separation(here, there).max() * 3600 < 1e-6


def test_without_distortion_is_right_in_the_middle_and_near_at_the_edge():
    wcs = sip_wcs()
    flat = astrometry.without_distortion(wcs, (1024, 1024))
    assert flat.sip is None
    assert pixel_distance(wcs, flat, np.array([[511.5, 511.5]])) < 0.01
    assert pixel_distance(wcs, flat, some_pixels(400)) < 3.0  # of 5 without a fitted scale


def test_pixel_plane_counts_pixels():
    transform = np.column_stack([turn(3), [130.0, -210.0]])
    frame, xy = astrometry.moved(astrometry.pixel_plane(), transform), some_pixels(size=4096)
    plane = astrometry.pixel_plane().wcs_world2pix(on_sky(frame, xy), 0)
    np.testing.assert_allclose(plane, astrometry.apply_affine(transform, xy), atol=1e-6)


def test_affine_and_similarity_in_closed_form():
    a = some_pixels()
    sheared = np.array([[1.1, 0.2, 5.0], [-0.1, 0.9, 7.0]])
    np.testing.assert_allclose(astrometry.fit_affine(a, astrometry.apply_affine(sheared, a)), sheared, atol=1e-9)
    for mirror in (False, True):
        similar = np.column_stack([turn(50, 1.3, mirror), [5.0, -7.0]])
        np.testing.assert_allclose(
            astrometry.fit_similarity(a, astrometry.apply_affine(similar, a)), similar, atol=1e-9
        )


# ---- matches ---------------------------------------------------------------------------------------------------------


def test_nearest_is_mutual():
    a, b = np.array([[0.0, 0.0], [0.6, 0.0], [50.0, 50.0]]), np.array([[0.5, 0.0], [90.0, 90.0]])
    i, j = astrometry.nearest(a, b, 2.0)
    assert (i.tolist(), j.tolist()) == ([1], [0])


@pytest.mark.parametrize(("a", "b"), [(0, 5), (5, 0), (0, 0)])
def test_nearest_of_nothing_is_nothing(a, b):
    i, j = astrometry.nearest(np.zeros((a, 2)), np.zeros((b, 2)), 2.0)
    assert len(i) == len(j) == 0


def two_views(n, missing, false, seed, mirror=False, noise=0.2):
    """Stars of one field in two frames, brightest first: `missing` of them not in the second, `false` more in it."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(0, 1024, (n, 2))
    transform = np.column_stack([turn(rng.uniform(0, 360), rng.uniform(0.5, 2), mirror), rng.uniform(-300, 300, 2)])
    b = astrometry.apply_affine(transform, a) + rng.normal(0, noise, a.shape)
    low, high = b.min(axis=0), b.max(axis=0)
    b = list(b[np.sort(rng.permutation(n)[: n - round(missing * n)])])
    for star in rng.uniform(low, high, (round(false * n), 2)):
        b.insert(rng.integers(0, len(b) + 1), star)
    return a, np.array(b), transform


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("n", "missing", "false"), [(6, 0, 0), (15, 0.3, 0.3), (30, 0.3, 0.3), (300, 0.3, 0.3)])
def test_match_stars_through_shift_rotation_scale_and_mirror(n, missing, false, mirror):
    for seed in range(4):
        a, b, transform = two_views(n, missing, false, seed, mirror)
        found, i, j = astrometry.match_stars(a, b)
        assert np.abs(astrometry.apply_affine(found, a) - astrometry.apply_affine(transform, a)).max() < 1.0
        assert len(i) > 0.9 * (1 - missing) * n
        np.testing.assert_allclose(astrometry.apply_affine(transform, a[i]), b[j], atol=2.0)


@pytest.mark.parametrize("n", [6, 20, 100, 500, 1500])
def test_match_stars_refuses_unrelated_fields(n):
    rng = np.random.default_rng(n)
    a, b = rng.uniform(0, 1024, (n, 2)), rng.uniform(0, 1024, (min(n, 500), 2))
    with pytest.raises(ValueError, match="stars agree"):
        astrometry.match_stars(a, b)


def test_match_stars_says_how_many_stars_it_needs():
    with pytest.raises(ValueError, match="5 stars, at least 6 are needed"):
        astrometry.match_stars(some_pixels(5), some_pixels(20))


def test_match_stars_is_not_deceived_by_stars_on_a_line():
    line = np.column_stack([np.linspace(0, 1000, 12), np.linspace(0, 500, 12)])
    with pytest.raises(ValueError, match="stars agree"):
        astrometry.match_stars(line, some_pixels(12))


@pytest.mark.parametrize("n", [3, 5, 12])
def test_match_shift_of_few_stars(n):
    a = some_pixels(n, seed=n)
    transform, i, j = astrometry.match_shift(a, (a + (37.2, -18.4))[::-1])
    np.testing.assert_allclose(transform, [[1, 0, 37.2], [0, 1, -18.4]], atol=1e-9)
    np.testing.assert_array_equal(j, n - 1 - i)


def test_two_stars_are_enough_for_a_telescope_that_was_not_moved():
    a = np.array([[768.1, 451.9], [199.9, 210.8], [540.1, 529.8]])
    b = np.array([[768.0, 451.5], [199.5, 210.3], [540.9, 555.5], [986.9, 640.6], [183.8, 698.9]])
    transform, i, j = astrometry.match_shift(a, b)
    np.testing.assert_allclose(transform[:, 2], [-0.25, -0.45], atol=1e-6)
    with pytest.raises(ValueError, match="no shift that more than 2 stars agree with"):
        astrometry.match_shift(a + 100, b)


def test_two_stars_hardly_ever_agree_by_chance():
    """Six and ten stars anywhere in 1024x1024 pixels."""
    agreed = 0
    for seed in range(200):
        a, b = np.split(np.random.default_rng(seed).uniform(0, 1024, (16, 2)), [6])
        try:
            astrometry.match_shift(a, b)
            agreed += 1
        except ValueError:
            pass
    assert agreed <= 2


def test_match_shift_refuses_unrelated_fields():
    for seed in range(5):
        with pytest.raises(ValueError, match="stars agree"):
            astrometry.match_shift(some_pixels(40, seed=seed), some_pixels(40, seed=seed + 100))


@pytest.mark.parametrize("radius", [0.3, 3.0, 40.0, 5000.0])
def test_nearest_is_what_trees_say(radius):
    rng = np.random.default_rng(6)
    a, b = rng.uniform(-500, 500, (700, 2)), rng.uniform(-400, 700, (900, 2))
    b[:300] = a[:300] + rng.normal(0, 1, (300, 2))
    a[5], b[7] = np.nan, np.inf
    ia, ib = np.flatnonzero(np.isfinite(a).all(axis=1)), np.flatnonzero(np.isfinite(b).all(axis=1))
    distance, to_b = cKDTree(b[ib]).query(a[ia], distance_upper_bound=radius)
    _, to_a = cKDTree(a[ia]).query(b[ib])
    expected = [(ia[n], ib[to_b[n]]) for n in np.flatnonzero(np.isfinite(distance)) if to_a[to_b[n]] == n]
    assert list(zip(*astrometry.nearest(a, b, radius), strict=True)) == expected and len(expected) > 10


# ---- own SIP fit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 3, 4])
def test_sip_fit_is_that_of_astropy(order):
    """On the same noisy pairs; astropy's own fit iterates, ours is one linear problem."""
    truth, xy = sip_wcs(), some_pixels(300)
    sky = on_sky(truth, xy + np.random.default_rng(5).normal(0, 0.1, xy.shape))
    ours = astrometry.fit_sip(xy, sky, (1024, 1024), order)
    theirs = fit_wcs_from_points(tuple(xy.T), SkyCoord(*sky.T, unit="deg"), proj_point="center", sip_degree=order)
    assert rms_distance(ours, sky, xy) <= 1.001 * rms_distance(theirs, sky, xy)
    assert pixel_distance(ours, theirs, some_pixels(200, seed=9)) < 0.06


def rms_distance(wcs, sky, xy):
    return np.sqrt((astrometry.separation(on_sky(wcs, xy), sky) ** 2).mean())


def test_sip_fit_without_noise_is_exact_everywhere_and_goes_back(tmp_path):
    truth = sip_wcs()
    wcs = astrometry.fit_sip(some_pixels(200), on_sky(truth, some_pixels(200)), (1024, 1024), 3)
    everywhere = some_pixels(500, seed=8)
    assert pixel_distance(truth, wcs, everywhere) < 1e-3
    with fits.open(_written(tmp_path, astrometry.replace_wcs(fits.Header(), wcs))) as hdus:
        again = WCS(hdus[0].header)
    assert pixel_distance(wcs, again, everywhere) < 1e-6
    focal = again.sip_pix2foc(everywhere, 0)
    np.testing.assert_allclose(again.sip_foc2pix(focal, 0), everywhere, atol=0.02)


@pytest.mark.parametrize("crval", CENTRES)
def test_plain_fit_finds_a_tan_at_any_place(crval):
    truth = a_wcs(crval)
    wcs = astrometry.fit_sip(some_pixels(30), on_sky(truth, some_pixels(30)), (1024, 1024), 1)
    assert wcs.sip is None and pixel_distance(truth, wcs, some_pixels(200, seed=4)) < 1e-5


# ---- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"CTYPE1": "RA---TAN"},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 0.0, "CRVAL2": 0.0, "CDELT1": 0.0, "CDELT2": 0.0},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": "north", "CRVAL2": 0.0, "CDELT1": 1.0},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 35.0, "CRVAL2": 57.0},
        {"CTYPE1": "RA---NON", "CTYPE2": "DEC--SENSE", "CRVAL1": 1.0, "CRVAL2": 1.0},
        {"CTYPE1": "PIXEL", "CTYPE2": "PIXEL", "CRVAL1": 1.0, "CRVAL2": 1.0},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 9.0, "CRVAL2": 9.0, "CD1_1": 1.0, "CD2_1": 1.0},
    ],
    ids=["empty", "half", "zero-scale", "text", "no-scale", "no-projection", "pixels", "singular"],
)
def test_a_header_without_a_usable_wcs_has_none(cards):
    assert astrometry.read_wcs(fits.Header(cards)) is None


def real_header(name):
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with fits.open(path) as hdus:
        return hdus[-1].header.copy()


PINPOINT = "xo1_z/XO1-b_z_20250602_041008.fits"
SIP = "panoptes_bayer/solved.fits.fz"


def test_pinpoint_header_keeps_nothing_of_its_old_wcs():
    header = real_header(PINPOINT)
    new = astrometry.replace_wcs(header, a_wcs((10.0, -20.0)))
    gone = ("CROTA1", "CROTA2", "CDELT1", "CDELT2", "PLTSOLVD", "PA", "EPOCH", "RADECSYS", "EQUINOX")
    assert all(key in header for key in gone)
    assert [key for key in gone if key in new] == []
    assert (new["OBJECT"], new["OBJCTRA"]) == (header["OBJECT"], header["OBJCTRA"])
    assert all(new.count(key) == 1 for key in ("CTYPE1", "CRVAL1", "CRPIX1", "CD1_1", "RADESYS"))
    assert pixel_distance(a_wcs((10.0, -20.0)), WCS(new), some_pixels()) < 1e-6


def test_pinpoint_wcs_is_read_as_the_cd_matrix_says():
    header = real_header(PINPOINT)
    wcs = astrometry.read_wcs(header)
    matrix = [[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)]
    np.testing.assert_allclose(wcs.pixel_scale_matrix, matrix, rtol=1e-12)
    np.testing.assert_allclose(on_sky(wcs, [[511.0, 511.0]])[0], (header["CRVAL1"], header["CRVAL2"]), atol=1e-9)


def test_a_wcs_of_crota_and_cdelt_alone_is_rewritten_as_it_was():
    header = real_header(PINPOINT)
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        del header[key]
    wcs = astrometry.read_wcs(header)
    assert pixel_distance(wcs, WCS(astrometry.replace_wcs(header, wcs)), some_pixels()) < 1e-6


@pytest.mark.parametrize(
    "old", [{"PC001001": 0.8, "PC002001": 0.6}, {"CD001002": 1e-3}, {"D2IMDIS1": "Lookup"}, {"AXISCORR": 1}], ids=str
)
def test_a_matrix_or_a_table_of_old_is_not_read_along_with_a_new_wcs(old):
    new = astrometry.tangent_wcs((83.0, 22.0), (10.0, 20.0), [[-3e-4, 0], [0, 3e-4]])
    header = astrometry.replace_wcs(fits.Header(old), new)
    assert not set(old) & set(header)
    assert np.allclose(WCS(header).all_pix2world(5, 5, 0), new.all_pix2world(5, 5, 0), rtol=0, atol=1e-9)


def test_sip_header_gets_one_tan_wcs_without_a_term_left_over():
    header = real_header(SIP)
    new = astrometry.replace_wcs(header, a_wcs((10.0, -20.0)))
    assert "A_0_2" in header and "BP_1_1" in header and "IMAGEW" in header
    left = [key for key in new if key.startswith(("A_", "B_", "AP_", "BP_", "IMAGE")) and key != "IMAGEID"]
    assert (left, new["CTYPE1"]) == ([], "RA---TAN")
    assert pixel_distance(a_wcs((10.0, -20.0)), WCS(new), some_pixels()) < 1e-6


def test_real_sip_terms_survive_writing_and_reading(tmp_path):
    wcs = astrometry.read_wcs(real_header(SIP))
    header = astrometry.replace_wcs(real_header(SIP), wcs)
    with fits.open(_written(tmp_path, header)) as hdus:
        again = astrometry.read_wcs(hdus[0].header)
    xy = some_pixels(size=700)
    distorted = astrometry.fit_tangent(xy, on_sky(wcs, xy), wcs.wcs.crval)
    assert pixel_distance(wcs, distorted, xy) > 0.5  # the terms matter here
    assert pixel_distance(wcs, again, xy) < 1e-6


def test_refitted_sip_survives_writing_and_reading(tmp_path):
    truth, xy = sip_wcs(), some_pixels()
    wcs = astrometry.refit(truth, xy, on_sky(truth, xy))
    with fits.open(_written(tmp_path, astrometry.replace_wcs(fits.Header(), wcs))) as hdus:
        again = astrometry.read_wcs(hdus[0].header)
        assert hdus[0].header["CTYPE1"] == "RA---TAN-SIP"
    assert pixel_distance(truth, again, xy) < 1e-6


def test_of_a_header_of_many_hands_one_wcs_is_left():
    """Alternative systems, a third axis, polynomials of plates and of look-up tables, IRAF's words for the same."""
    words = """CTYPE1A CRVAL1A CRPIX1A CD1_1A WCSNAMEA RADESYSA CTYPE3 CRVAL3 CRPIX3 CDELT3 PV1_1 PV2_17 PC1_1 PC001002
        AMDX1 AMDY13 PPO3 PLTRAH PLTDECSN CNPIX1 TR1_14 WAT0_001 WAT2_003 LTV1 LTM2_2 WCSDIM CPDIS1 PROJP3 A_DMAX BP_0_1
        EPOCH CROTA2 CDELT1 PA"""
    kept = {
        "OBJECT": "M 1",
        "PAPER": 1,
        "CDELAY": 2,
        "LTIME": 3,
        "PCOUNTER": 4,
        "A_OFFSET": 5,
        "ROTATOR": 6,
        "TRACK": 7,
    }
    header = fits.Header(kept | {word: 1.0 for word in words.split() if word != "PC001002"})
    new = astrometry.replace_wcs(header, a_wcs((10.0, -20.0)))
    assert set(new) - set(astrometry.wcs_cards(a_wcs((10.0, -20.0)))) == set(kept)
    assert pixel_distance(a_wcs((10.0, -20.0)), WCS(new), some_pixels()) < 1e-6


@pytest.mark.parametrize("angle", [0, 77, 200])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_wcs_of_pc_and_cdelt_is_the_same_as_one_of_cd(angle, mirror):
    cd = turn(angle, 2.0 / 3600, mirror)
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 5.0, "CRVAL2": 60.0, "CRPIX1": 100.0, "CRPIX2": 50.0}
    cards |= {"CDELT1": -1.0 / 3600, "CDELT2": 2.0 / 3600}
    for i in (0, 1):
        for j in (0, 1):
            cards[f"PC{i + 1}_{j + 1}"] = cd[i, j] / cards[f"CDELT{i + 1}"]
    header = fits.Header(cards)
    wcs = astrometry.read_wcs(header)
    np.testing.assert_allclose(wcs.pixel_scale_matrix, cd, rtol=1e-12)
    new = astrometry.replace_wcs(header, wcs)
    assert "PC1_1" not in new and "CDELT1" not in new
    assert pixel_distance(wcs, WCS(new), some_pixels()) < 1e-6


def test_without_a_wcs_nothing_of_the_old_one_is_left():
    clean = astrometry.replace_wcs(real_header(PINPOINT), None)
    assert astrometry.read_wcs(clean) is None
    assert [key for key in clean if key.startswith(("CTYPE", "CRVAL", "CD1_", "CROTA"))] == []


def test_the_header_that_was_given_is_not_changed():
    header = real_header(PINPOINT)
    before = header.copy()
    astrometry.replace_wcs(header, None)
    assert header.tostring() == before.tostring()


def _written(folder, header):
    path = folder / "wcs.fits"
    fits.PrimaryHDU(np.zeros((700, 700), np.float32), header).writeto(path, output_verify="silentfix+ignore")
    return path


@pytest.mark.parametrize("mirror", [False, True])
def test_many_similarities_at_once_are_those_one_by_one(mirror):
    rng = np.random.default_rng(12)
    a = rng.uniform(0, 1000, (20, 3, 2))
    b = a @ turn(40, 1.1, mirror) + (30, -20) + rng.normal(0, 5, a.shape)
    expected = [astrometry.fit_similarity(one, other) for one, other in zip(a, b, strict=True)]
    np.testing.assert_allclose(astrometry._similarities(a, b), expected, atol=1e-6)


def test_stars_that_agree_are_those_that_a_tree_finds():
    rng = np.random.default_rng(13)
    a, b = rng.uniform(0, 500, (75, 2)), rng.uniform(0, 500, (300, 2))
    transforms = np.array([np.column_stack([turn(angle), [angle, 3]]) for angle in range(0, 360, 30)])
    tree = cKDTree(b)
    expected = [
        np.isfinite(tree.query(astrometry.apply_affine(t, a), distance_upper_bound=2.0)[0]).sum() for t in transforms
    ]
    np.testing.assert_array_equal(astrometry._agreeing(transforms, a, b, 2.0), expected)


@pytest.mark.parametrize("wcs", [a_wcs(), BENT], ids=["tan", "sip"])
def test_what_other_libraries_get_is_the_same_wcs(wcs):
    theirs = astrometry.as_astropy(wcs)
    assert isinstance(theirs, WCS) and astrometry.as_astropy(theirs) is theirs
    assert pixel_distance(wcs, theirs, some_pixels()) < 1e-6
