"""The first step. Truth: closed forms, ccdproc on the same arrays."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from firstlight.frame import Mask
from firstlight.trim import trim
from values import frame, masked


def with_overscan():
    """A frame of 30x20 whose last 6 columns are overscan, with a level that changes from row to row."""
    rng = np.random.default_rng(3)
    data = rng.normal(0, 2, (20, 30)) + 300 + 3 * np.arange(20)[:, None]
    data[:, :24] += 1000
    return data


def test_overscan_in_columns_and_trim_agree_with_ccdproc():
    import ccdproc

    data = with_overscan()
    ours = trim(frame(data), None, (slice(0, 20), slice(25, 30)), (slice(2, 18), slice(1, 24)))
    raw = CCDData(data.astype(np.float32), unit="adu")
    flat = ccdproc.subtract_overscan(raw, fits_section="[26:30,1:20]", overscan_axis=1, median=True)
    theirs = ccdproc.trim_image(flat, fits_section="[2:24,3:18]")
    np.testing.assert_allclose(ours.data, theirs.data, atol=1e-3)


def test_overscan_in_rows_agrees_with_ccdproc():
    import ccdproc

    data = with_overscan().T
    ours = trim(frame(data), None, (slice(25, 30), slice(0, 20)), (slice(0, 24), slice(0, 20)))
    raw = CCDData(data.astype(np.float32), unit="adu")
    flat = ccdproc.subtract_overscan(raw, fits_section="[1:20,26:30]", overscan_axis=0, median=True)
    theirs = ccdproc.trim_image(flat, fits_section="[1:20,1:24]")
    np.testing.assert_allclose(ours.data, theirs.data, atol=1e-3)


def test_rows_that_the_overscan_does_not_reach_get_its_median_level():
    data = np.full((10, 12), 1000.0)
    data[2:9, 8:] = 100 + np.arange(7)[:, None]
    out = trim(frame(data), None, (slice(2, 9), slice(8, 12)))
    np.testing.assert_array_equal(out.data[[0, 1, 9], 0], 1000 - 103)
    np.testing.assert_array_equal(out.data[2:9, 0], 1000 - 100 - np.arange(7))


def test_saturation_is_judged_on_raw_values_and_grown_by_one_pixel():
    data = np.full((9, 12), 1000.0)
    data[:, 8:] = 600
    data[4, 3], data[1, 6] = 5000, 4999
    out = trim(frame(data), 5000, (slice(0, 9), slice(8, 12)), (slice(0, 9), slice(0, 8)))
    expected = np.zeros((9, 8), bool)
    expected[3:6, 2:5] = True
    np.testing.assert_array_equal(out.mask == Mask.SATURATED, expected)
    np.testing.assert_array_equal(out.mask != 0, expected)
    assert out.header["SATURATE"] == 5000


def test_saturation_beyond_the_cut_still_marks_its_neighbour_inside():
    data = np.full((6, 6), 100.0)
    data[2, 0] = 65535
    out = trim(frame(data), 65535, None, (slice(0, 6), slice(1, 6)))
    np.testing.assert_array_equal(np.flatnonzero(out.mask[:, 0]), [1, 2, 3])


def test_without_a_known_saturation_nothing_is_marked():
    assert not trim(frame(np.full((4, 4), 65535.0))).mask.any()


def test_cutting_moves_the_reference_pixel_with_the_stars():
    one = frame(np.zeros((10, 20)), CRPIX1=10.5, CRPIX2=4.0)
    out = trim(one, region=(slice(2, 10), slice(5, 20)))
    assert (out.header["CRPIX1"], out.header["CRPIX2"]) == (5.5, 2.0)
    assert one.header["CRPIX1"] == 10.5


@pytest.mark.parametrize("value", ["512.0", fits.card.Undefined()])
def test_a_reference_pixel_that_is_not_a_number_costs_no_frame(value):
    out = trim(frame(np.zeros((10, 20)), CRPIX1=value), region=(slice(2, 10), slice(5, 20)))
    assert out.shape == (8, 15)


def test_sections_of_the_raw_frame_do_not_outlive_the_cut():
    out = trim(frame(np.zeros((4, 4)), TRIMSEC="[1:3,1:4]", BIASSEC="[4:4,1:4]"), region=(slice(0, 4), slice(0, 3)))
    assert not {"TRIMSEC", "BIASSEC"} & set(out.header)


@pytest.mark.parametrize("which, what", [("region", "trim section"), ("overscan", "overscan section")])
def test_a_section_outside_of_the_frame_is_named_with_a_way_out(which, what):
    with pytest.raises(
        ValueError, match=rf"{what} \[3:21,1:10\] does not fit the frame of 20x10: give cameras: trim, overscan"
    ):
        trim(frame(np.zeros((10, 20))), **{which: (slice(0, 10), slice(2, 21))})


def test_an_earlier_mask_is_cut_along():
    out = trim(frame(np.zeros((4, 5)), mask=masked((4, 5), (1, 3, Mask.NO_DATA))), region=(slice(1, 4), slice(2, 5)))
    np.testing.assert_array_equal(out.mask, masked((3, 3), (0, 1, Mask.NO_DATA)))
