"""The first step. Truth: closed forms, simulated lines of known level and noise, ccdproc on the same arrays."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.modeling.models import Polynomial1D
from astropy.nddata import CCDData
from firstlight import io, reduce, trim
from firstlight.config import complete, read_schema
from firstlight.frame import Mask
from firstlight.night import Night
from firstlight.reduce import Reduction
from values import frame, masked

DATA = Path(__file__).parents[2] / "shared" / "data"
SCHEMA = Path(__file__).parents[1] / "config.schema.yaml"
real = pytest.mark.skipif(not DATA.exists(), reason="the folder of real frames ../shared/data is absent")

OVERSCAN, IMAGE = (slice(0, 20), slice(25, 30)), (slice(2, 18), slice(1, 24))


def with_overscan():
    """A frame of 30x20 whose last 6 columns are overscan, with a level that changes from row to row."""
    rng = np.random.default_rng(3)
    data = rng.normal(0, 2, (20, 30)) + 300 + 3 * np.arange(20)[:, None]
    data[:, :24] += 1000
    return data


def turned(section):
    return section[1], section[0]


def by_ccdproc(data, overscan, image, axis=1, **options):
    """The same done by ccdproc; sections in its spelling."""
    import ccdproc

    raw = CCDData(data.astype(np.float32), unit="adu")
    flat = ccdproc.subtract_overscan(raw, fits_section=overscan, overscan_axis=axis, **options)
    return ccdproc.trim_image(flat, fits_section=image).data


# --- Overscan -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options, theirs",
    [
        ({"overscan": "median"}, {"median": True}),
        ({"overscan": "mean"}, {"median": False}),
        ({"overscan": "polynomial", "order": 1}, {"model": Polynomial1D(1)}),
        ({"overscan": "polynomial", "order": 4}, {"model": Polynomial1D(4)}),
    ],
)
def test_overscan_in_columns_and_trim_agree_with_ccdproc(options, theirs):
    data = with_overscan()
    ours = trim.trim(frame(data), None, IMAGE, [OVERSCAN], **options)
    np.testing.assert_allclose(ours.data, by_ccdproc(data, "[26:30,1:20]", "[2:24,3:18]", **theirs), atol=1e-3)


def test_overscan_in_rows_agrees_with_ccdproc():
    data = with_overscan().T
    ours = trim.trim(frame(data), None, turned(IMAGE), [turned(OVERSCAN)])
    np.testing.assert_allclose(ours.data, by_ccdproc(data, "[1:20,26:30]", "[3:18,2:24]", 0, median=True), atol=1e-3)


@pytest.mark.parametrize("method", ["median", "mean", "polynomial"])
def test_rows_and_columns_are_treated_alike(method):
    data = with_overscan()
    upright = trim.trim(frame(data), None, IMAGE, [OVERSCAN], method)
    lying = trim.trim(frame(data.T), None, turned(IMAGE), [turned(OVERSCAN)], method)
    np.testing.assert_array_equal(lying.data.T, upright.data)
    assert lying.header["OVSCNOIS"] == upright.header["OVSCNOIS"]


def test_prescan_and_overscan_tell_the_level_together():
    data = np.full((6, 12), 1000.0)
    data[:, :2], data[:, 10:] = 100 + np.arange(6)[:, None], 104 + np.arange(6)[:, None]
    sections = [(slice(0, 6), slice(0, 2)), (slice(0, 6), slice(10, 12))]
    out = trim.trim(frame(data), None, (slice(0, 6), slice(2, 10)), sections, "mean")
    np.testing.assert_allclose(out.data, np.broadcast_to(1000 - 102 - np.arange(6)[:, None], (6, 8)), atol=1e-4)


def test_a_pixel_in_two_sections_counts_once():
    data = with_overscan()
    twice = [(slice(0, 20), slice(25, 28)), (slice(0, 20), slice(26, 30))]
    once = trim.trim(frame(data), None, IMAGE, [OVERSCAN], "mean")
    np.testing.assert_array_equal(trim.trim(frame(data), None, IMAGE, twice, "mean").data, once.data)


def test_none_leaves_the_overscan_where_it_is():
    data = with_overscan()
    out = trim.trim(frame(data), None, IMAGE, [OVERSCAN], "none")
    np.testing.assert_array_equal(out.data, data[IMAGE].astype(np.float32))
    assert "OVSCNOIS" not in out.header


def test_the_axis_can_be_told():
    data = np.full((10, 10), 1000.0)
    data[:, 8:] = 100 + np.arange(10)[:, None]
    sections = [(slice(0, 2), slice(8, 10))]
    rows = trim.trim(frame(data), None, (slice(0, 10), slice(0, 8)), sections, axis="rows")
    assert rows.data[:2, 0].tolist() == [900, 899]
    columns = trim.trim(frame(data), None, (slice(2, 10), slice(0, 10)), sections, axis="columns")
    np.testing.assert_array_equal(columns.data[:, 0], 899.5)


def test_a_short_window_has_its_overscan_beside_it_though_that_is_wider_than_high():
    data = np.full((4, 40), 1000.0)
    data[:, 30:] = 100 + np.arange(4)[:, None]
    out = trim.trim(frame(data), None, (slice(0, 4), slice(0, 30)), [(slice(0, 4), slice(30, 40))])
    np.testing.assert_array_equal(out.data, np.broadcast_to(900 - np.arange(4)[:, None], (4, 30)))


def test_sections_along_different_sides_are_refused_unless_the_axis_is_told():
    sections = [(slice(0, 10), slice(8, 10)), (slice(8, 10), slice(0, 10))]
    message = r"overscan sections \[9:10,1:10\] and \[1:10,9:10\] of the frame of 10x10 run along different sides: name"
    with pytest.raises(ValueError, match=message):
        trim.trim(frame(np.ones((10, 10))), None, None, sections)
    assert trim.trim(frame(np.ones((10, 10))), None, None, sections, axis="rows").shape == (10, 10)


def test_rows_that_the_overscan_does_not_reach_get_its_median_level():
    data = np.full((10, 12), 1000.0)
    data[2:9, 8:] = 100 + np.arange(7)[:, None]
    out = trim.trim(frame(data), None, None, [(slice(2, 9), slice(8, 12))])
    np.testing.assert_array_equal(out.data[[0, 1, 9], 0], 1000 - 103)
    np.testing.assert_array_equal(out.data[2:9, 0], 1000 - 100 - np.arange(7))


def test_a_polynomial_goes_on_level_beyond_the_overscan():
    data = np.full((10, 12), 1000.0)
    data[2:9, 8:] = 100 + np.arange(7)[:, None]
    out = trim.trim(frame(data), None, None, [(slice(2, 9), slice(8, 12))], "polynomial", 1)
    np.testing.assert_allclose(out.data[[0, 1, 9], 0], [900, 900, 894], atol=1e-3)


def test_a_polynomial_of_more_terms_than_lines_goes_through_all_of_them():
    values = np.array([[1.0, 1], [5, 5], [2, 2]])
    np.testing.assert_allclose(trim.overscan_level(values, "polynomial", 7)[0], [1, 5, 2], atol=1e-5)


def test_hits_in_the_overscan_do_not_bend_the_polynomial():
    rng = np.random.default_rng(4)
    values = rng.normal(300, 2, (200, 20))
    struck = values.copy()
    struck[rng.permutation(200)[:30], 3] += 5000
    clean, hit = (trim.overscan_level(one, "polynomial", 3)[0] for one in (values, struck))
    assert np.abs(hit - clean).max() < 0.2


@pytest.mark.parametrize("bit", [Mask.BAD, Mask.NO_DATA, Mask.SATURATED])
def test_flagged_pixels_of_the_overscan_do_not_count(bit):
    data = with_overscan()
    mask = np.zeros(data.shape, np.uint8)
    data[:, 25], mask[:, 25] = 9999.0, bit
    ours = trim.trim(frame(data, mask=mask), None, IMAGE, [OVERSCAN], "mean")
    np.testing.assert_allclose(ours.data, by_ccdproc(data, "[27:30,1:20]", "[2:24,3:18]"), atol=1e-3)


def test_an_overscan_without_a_usable_pixel_is_refused():
    with pytest.raises(ValueError, match="all pixels of the overscan are saturated or bad: cameras: overscan"):
        trim.trim(frame(np.full((20, 30), 65535.0)), 65535, IMAGE, [OVERSCAN])


def test_overscan_that_is_not_cut_off_is_no_data():
    out = trim.trim(frame(with_overscan()), None, None, [OVERSCAN])
    expected = np.zeros((20, 30), bool)
    expected[OVERSCAN] = True
    np.testing.assert_array_equal(out.mask, np.where(expected, Mask.NO_DATA, 0))


# --- Noise of the overscan's level ------------------------------------------------------------------------------------
@pytest.mark.parametrize("scatter", [1.5, 12.0])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 50])
@pytest.mark.parametrize("method", ["median", "mean"])
def test_the_noise_of_a_level_is_its_scatter_about_the_truth(method, n, scatter):
    rng = np.random.default_rng(n)
    truth = 300 + np.cumsum(rng.normal(0, 0.3, 20000))[:, None] * (n > 1)
    level, noise = trim.overscan_level(np.round(rng.normal(truth, scatter, (20000, n))), method, step=1.0)
    assert noise == pytest.approx((level - truth[:, 0]).std(), rel=0.04)


@pytest.mark.parametrize("order", [0, 1, 5])
def test_the_noise_of_a_polynomial_is_its_scatter_about_the_truth(order):
    rng = np.random.default_rng(order)
    truth = (300 + np.linspace(0, order, 300))[:, None]
    made = [trim.overscan_level(rng.normal(truth, 4, (300, 8)), "polynomial", order) for _ in range(400)]
    true = np.sqrt(np.mean([(level - truth[:, 0]) ** 2 for level, _ in made]))
    assert np.mean([noise for _, noise in made]) == pytest.approx(true, rel=0.08)
    assert true == pytest.approx(4 / np.sqrt(8) * np.sqrt((order + 1) / 300), rel=0.08)


def test_the_noise_of_lines_of_unequal_length_is_that_of_a_typical_one():
    rng = np.random.default_rng(8)
    values = rng.normal(100, 5, (20000, 12))
    values[::2, 4:] = np.nan
    level, noise = trim.overscan_level(values, "mean")
    assert noise == pytest.approx(5 * np.sqrt((1 / 4 + 1 / 12) / 2), rel=0.02)
    assert noise == pytest.approx((level - 100).std(), rel=0.02)


def test_hits_in_the_overscan_do_not_raise_the_noise():
    rng = np.random.default_rng(9)
    values = rng.normal(100, 5, (2000, 20))
    values[::50, 7] += 3000
    assert trim.overscan_level(values)[1] == pytest.approx(
        trim.overscan_level(rng.normal(100, 5, (2000, 20)))[1], rel=0.03
    )


def test_the_header_tells_level_and_noise_of_the_overscan():
    rng = np.random.default_rng(10)
    one = frame(rng.normal(500, 3, (4000, 24)), FLADCSTP=1)
    out = trim.trim(one, None, (slice(0, 4000), slice(0, 8)), [(slice(0, 4000), slice(8, 24))], "mean")
    assert out.header["OVSCLEV"] == pytest.approx(500, abs=0.1)
    assert out.header["OVSCNOIS"] == pytest.approx(3 / 4, rel=0.02)
    assert out.data.std() == pytest.approx(np.hypot(3, out.header["OVSCNOIS"]), rel=0.02)


def test_an_overscan_of_one_value_has_no_noise():
    level, noise = trim.overscan_level(np.full((5, 4), 7.0))
    assert (level.tolist(), noise) == ([7.0] * 5, 0.0)


# --- Saturation -------------------------------------------------------------------------------------------------------
def test_saturation_is_judged_on_raw_values_and_grown_by_one_pixel():
    data = np.full((9, 12), 1000.0)
    data[:, 8:] = 600
    data[4, 3], data[1, 6] = 5000, 4999
    out = trim.trim(frame(data), 5000, (slice(0, 9), slice(0, 8)), [(slice(0, 9), slice(8, 12))])
    expected = np.zeros((9, 8), bool)
    expected[3:6, 2:5] = True
    np.testing.assert_array_equal(out.mask == Mask.SATURATED, expected)
    np.testing.assert_array_equal(out.mask != 0, expected)
    assert out.header["SATURATE"] == 5000


def test_saturation_beyond_the_cut_still_marks_its_neighbour_inside():
    data = np.full((6, 6), 100.0)
    data[2, 0] = 65535
    out = trim.trim(frame(data), 65535, (slice(0, 6), slice(1, 6)))
    np.testing.assert_array_equal(np.flatnonzero(out.mask[:, 0]), [1, 2, 3])


def test_without_a_known_saturation_nothing_is_marked():
    assert not trim.trim(frame(np.full((4, 4), 65535.0))).mask.any()


# --- The cut ----------------------------------------------------------------------------------------------------------
def test_cutting_moves_the_reference_pixels_with_the_stars():
    one = frame(np.zeros((10, 20)), CRPIX1=10.5, CRPIX2=4.0, CRPIX1A=1.0, LTV1=-2.0, LTV2=3.0)
    out = trim.trim(one, region=(slice(2, 10), slice(5, 20)))
    assert [out.header[key] for key in ("CRPIX1", "CRPIX2", "CRPIX1A", "LTV1", "LTV2")] == [5.5, 2.0, -4.0, -7.0, 1.0]
    assert one.header["CRPIX1"] == 10.5


def test_a_star_keeps_its_place_on_the_sky():
    from astropy.wcs import WCS

    header = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 35.0,
        "CRVAL2": 57.0,
        "CDELT1": -1e-3,
        "CDELT2": 1e-3,
    }
    one = frame(np.zeros((10, 20)), **header, CRPIX1=10.5, CRPIX2=4.0)
    out = trim.trim(one, region=(slice(2, 10), slice(5, 20)))
    before, after = WCS(one.header).pixel_to_world_values(12, 6), WCS(out.header).pixel_to_world_values(7, 4)
    np.testing.assert_allclose(before, after, atol=1e-12)


@pytest.mark.parametrize("value", ["512.0", fits.card.Undefined()])
def test_a_reference_pixel_that_is_not_a_number_costs_no_frame(value):
    out = trim.trim(frame(np.zeros((10, 20)), CRPIX1=value), region=(slice(2, 10), slice(5, 20)))
    assert out.shape == (8, 15)


def test_without_a_cut_the_reference_pixel_stays():
    assert trim.trim(frame(np.zeros((4, 4)), CRPIX1=1.5)).header["CRPIX1"] == 1.5


def test_sections_of_the_raw_frame_do_not_outlive_the_step():
    names = ("TRIMSEC", "BIASSEC", "DATASEC", "CCDSEC", "DETSEC", "AMPSEC1")
    out = trim.trim(frame(np.zeros((4, 4)), **dict.fromkeys(names, "[1:3,1:4]"), SECZ=1.2))
    assert not set(names) & set(out.header)
    assert out.header["SECZ"] == 1.2


def test_an_earlier_mask_is_cut_along():
    one = frame(np.zeros((4, 5)), mask=masked((4, 5), (1, 3, Mask.NO_DATA)))
    out = trim.trim(one, region=(slice(1, 4), slice(2, 5)))
    np.testing.assert_array_equal(out.mask, masked((3, 3), (0, 1, Mask.NO_DATA)))


@pytest.mark.parametrize("which", ["trim", "overscan"])
def test_a_section_outside_of_the_frame_is_refused_with_both_sizes_and_a_way_out(which):
    outside = slice(0, 10), slice(2, 21)
    given = {"region": outside} if which == "trim" else {"sections": [outside]}
    message = rf"{which} section \[3:21,1:10\] of 19x10 does not fit the frame of 20x10: same .* cameras: {which} sets"
    with pytest.raises(ValueError, match=message):
        trim.trim(frame(np.zeros((10, 20))), **given)


def test_image_and_overscan_that_share_pixels_are_refused_with_all_sizes():
    message = (
        r"overscan section \[24:30,1:20\] of 7x20 and trim section \[2:24,3:18\] of 23x16 share pixels of the frame of "
        "30x20: cameras: trim or overscan sets another, or none"
    )
    with pytest.raises(ValueError, match=message):
        trim.trim(frame(with_overscan()), None, IMAGE, [(slice(0, 20), slice(23, 30))])


# --- Mask files -------------------------------------------------------------------------------------------------------
def flags(shape, *places):
    out = np.zeros(shape, bool)
    for y, x in places:
        out[y, x] = True
    return out


def test_an_image_of_the_raw_size_marks_raw_pixels():
    out = trim.trim(frame(np.zeros((20, 30))), region=IMAGE, bad=flags((20, 30), (5, 6), (0, 0), (5, 29)))
    np.testing.assert_array_equal(out.mask, masked((16, 23), (3, 5, Mask.BAD)))


def test_an_image_of_the_trimmed_size_marks_pixels_of_the_cut_frame():
    out = trim.trim(frame(np.zeros((20, 30))), region=IMAGE, bad=flags((16, 23), (3, 5)))
    np.testing.assert_array_equal(out.mask, masked((16, 23), (3, 5, Mask.BAD)))


def test_sections_mark_raw_pixels_counted_from_one():
    found = trim.bad_pixels(["[3:4,2:2]", "[6:6,*]"], (3, 6))
    np.testing.assert_array_equal(found, flags((3, 6), (1, 2), (1, 3), (0, 5), (1, 5), (2, 5)))


@pytest.mark.parametrize(
    "region, sizes",
    [(None, "is 7x5 but the frame is 30x20:"), (IMAGE, "is 7x5 but the frame is 30x20, 23x16 when trim")],
)
def test_a_mask_of_another_size_is_refused_with_the_sizes(region, sizes):
    with pytest.raises(ValueError, match=f"the mask file {sizes}.*same binning"):
        trim.trim(frame(np.zeros((20, 30))), region=region, bad=np.zeros((5, 7), bool))


def test_a_section_of_a_mask_outside_of_the_frame_is_refused():
    with pytest.raises(
        ValueError, match=r"mask section \[7:7,1:1\] of 1x1 does not fit the frame of 6x3: .*cameras: mask"
    ):
        trim.bad_pixels(["[7:7,1:1]"], (3, 6))


@pytest.mark.parametrize("name", ["bad.fits", "bad.fits.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_mask_image_is_true_where_it_is_not_zero(tmp_path, name, dtype):
    image = flags((4, 5), (1, 2), (3, 4)) * np.array(7, dtype)
    fits.writeto(tmp_path / name, image)
    np.testing.assert_array_equal(io.read_mask(tmp_path / name), image != 0)


def test_a_compressed_mask_image_is_read(tmp_path):
    image = flags((40, 50), (1, 2)).astype(np.uint8)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image)]).writeto(tmp_path / "bad.fits.fz")
    np.testing.assert_array_equal(io.read_mask(tmp_path / "bad.fits.fz"), image != 0)


def test_of_a_product_the_bits_are_the_mask(tmp_path):
    io.write_frame(tmp_path / "dark.fits", frame(np.full((4, 5), 9.0), 1.0, masked((4, 5), (2, 3, Mask.BAD))))
    np.testing.assert_array_equal(io.read_mask(tmp_path / "dark.fits"), flags((4, 5), (2, 3)))


def test_a_mask_in_words_has_sections_and_pixels(tmp_path):
    text = "# bad columns\n[ 3:4, 2:2]  # warm\n\n12 34\n5, 6\n[7:7,*]\n"
    (tmp_path / "bad.txt").write_text(text)
    assert io.read_mask(tmp_path / "bad.txt") == ["[ 3:4, 2:2]", "[12:12,34:34]", "[5:5,6:6]", "[7:7,*]"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"12 34\n12 34 56\n", "bad, line 2: '12 34 56' is neither a section"),
        (b"12.5 3\n", "bad, line 1: '12.5 3' is neither"),
        (b"\xff\xfe\x00", "is neither a FITS image nor text"),
        (b"SIMPLE  = nonsense", "bad cannot be read: "),
    ],
)
def test_a_mask_that_cannot_be_read_is_refused_in_words(tmp_path, content, message):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ValueError, match="^mask file .*" + message):
        io.read_mask(tmp_path / "bad")


def test_a_mask_file_without_an_image_or_that_is_not_there_is_refused(tmp_path):
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(ValueError, match="empty.fits has no image of two axes"):
        io.read_mask(tmp_path / "empty.fits")
    with pytest.raises(ValueError, match="gone.fits cannot be read: No such file"):
        io.read_mask(tmp_path / "gone.fits")


def test_a_mask_the_wrong_way_round_is_refused(tmp_path):
    fits.writeto(tmp_path / "good.fits", np.pad(np.zeros((1, 1), np.uint8), 1, constant_values=1))
    with pytest.raises(ValueError, match="good.fits calls 89% of the pixels bad: zero must stand for a good one"):
        io.read_mask(tmp_path / "good.fits")


def night(**config):
    return Night([], complete(config, read_schema(SCHEMA)))


def test_what_is_in_a_mask_file_takes_part_in_what_is_made_and_its_time_stamp_does_not(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text("1 1\n")
    cameras = [{"where": "a", "mask": str(path)}, {"where": "b", "mask": "none"}]
    first = night(cameras=cameras).light_options()
    os.utime(path, (1, 1))
    assert night(cameras=cameras).light_options() == first
    path.write_text("1 2\n")
    changed = night(cameras=cameras).light_options()
    assert {key for key in first if changed[key] != first[key]} == {"masks"}
    assert "masks" in night(cameras=cameras).options("trim") and "masks" not in night(cameras=cameras).options(
        "cameras"
    )


def test_a_mask_file_that_cannot_be_read_is_named_before_any_job(tmp_path):
    with pytest.raises(ValueError, match="cameras: mask: mask file nowhere/bad.fits cannot be read: No such file"):
        night(cameras={"mask": "nowhere/bad.fits"})
    (tmp_path / "bad.txt").write_text("column 5")
    with pytest.raises(ValueError, match="cameras: mask: .*bad.txt, line 1: 'column 5' is neither"):
        night(cameras={"mask": str(tmp_path / "bad.txt")})


# --- Through the chain ------------------------------------------------------------------------------------------------
SECTIONS = {"BIASSEC": "[ 33: 40, 1: 24]", "TRIMSEC": "[3: 30, 2: 23]"}
CARDS = {"INSTRUME": "cam", "EGAIN": 2.0, "RDNOISE": 6.0, "EXPTIME": 10.0}
NO_HITS = {"cosmic_ray": {"method": "none"}}


def raw_light(light=200.0, **cards):
    """A raw frame of 40x24 of some light (ADU) on a level of 1000 that rises from row to row, with its overscan."""
    rng = np.random.default_rng(12)
    data = 1000 + 2 * np.arange(24)[:, None] + rng.normal(0, 3, (24, 40))
    data[1:23, 2:30] += rng.normal(light, np.sqrt(light / 2), (22, 28))
    data[10, 20] = 70000
    data = np.clip(np.round(data), 0, 65535).astype(np.uint16)
    return reduce.prepare(data, fits.Header(CARDS | SECTIONS | cards), {})


@pytest.mark.parametrize("kind", ["bias", "dark", "flat", "light"])
def test_saturation_and_mask_file_arrive_at_the_end_of_every_kind(tmp_path, kind):
    image = np.zeros((24, 40), np.uint8)
    image[5, 7] = 1
    fits.writeto(tmp_path / "bad.fits", image)
    masks = {"bad.fits": io.read_mask(tmp_path / "bad.fits")}
    reduction = Reduction(kind, cameras={"mask": "bad.fits", "bias_level": 0.0}, options=NO_HITS, masks=masks)
    out = reduce.reduce(raw_light(), reduction)
    assert out.shape == (22, 28)
    assert out.header["MASKFILE"] == "bad.fits"
    assert (out.mask[4, 5] & Mask.BAD) and (out.mask & Mask.BAD != 0).sum() == 1
    assert np.argwhere(out.mask & Mask.SATURATED).tolist() == [[y, x] for y in (8, 9, 10) for x in (17, 18, 19)]


def test_overscan_and_cut_leave_the_light_and_a_known_noise():
    out = reduce.reduce(raw_light(), Reduction(cameras={"bias_level": 0.0}, options=NO_HITS))
    good = out.mask == 0
    assert np.median(out.data[good]) == pytest.approx(400, abs=2)
    assert ((out.data - 400) / out.sigma)[good].std() == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("method", ["median", "mean", "polynomial"])
def test_claimed_sigma_holds_the_noise_of_a_narrow_overscan(method):
    rng = np.random.default_rng(13)
    data = np.round(rng.normal(1000, 5, (3000, 24))).astype(np.uint16)
    sections = {"BIASSEC": "[21:23,1:3000]", "TRIMSEC": "[1:20,1:3000]"}
    one = reduce.prepare(data, fits.Header(CARDS | sections | {"RDNOISE": 10.0}), {})
    reduction = Reduction(cameras={"bias_level": 0.0}, options={"trim": {"overscan": method}} | NO_HITS)
    out = reduce.reduce(one, reduction)
    assert (out.data / out.sigma).std() == pytest.approx(1, abs=0.02)


def test_options_of_the_section_reach_the_step():
    one, plain = raw_light(), {"region": "[ 3:12, 2:9 ]", "overscan": "polynomial", "order": 1, "axis": "auto"}
    out = reduce.step("trim", one, Reduction(options={"trim": plain | {"saturation": None}}))
    expected = trim.trim(one, 65535, (slice(1, 9), slice(2, 12)), [(slice(0, 24), slice(32, 40))], "polynomial", 1)
    np.testing.assert_array_equal(out.data, expected.data)
    assert out.header["OVSCNOIS"] == expected.header["OVSCNOIS"]


def test_a_wrong_section_of_a_header_can_be_switched_off():
    wrong = raw_light(BIASSEC="[0:0,0:0]", TRIMSEC="[1:80,1:48]")
    with pytest.raises(ValueError, match="trim section .* of 80x48 does not fit the frame of 40x24: same binning"):
        reduce.step("trim", wrong, Reduction())
    with pytest.raises(ValueError, match="overscan section .* of 1x1 does not fit the frame of 40x24"):
        reduce.step("trim", wrong, Reduction(cameras={"trim": "none"}))
    out = reduce.step("trim", wrong, Reduction(cameras={"trim": "none", "overscan": "none"}))
    np.testing.assert_array_equal(out.data, wrong.data)
    out = reduce.step("trim", wrong, Reduction(options={"trim": {"region": "none", "overscan": "none"}}))
    np.testing.assert_array_equal(out.data, wrong.data)


def test_a_region_and_a_mask_as_in_a_plain_configuration_file_work_together(tmp_path):
    (tmp_path / "bad.txt").write_text("5 4\n")
    text = f"trim: {{region: '[3:12,2:9]', overscan: none}}\ncameras: {{mask: {tmp_path / 'bad.txt'}}}"
    options = night(**yaml.safe_load(text)).options("cameras", "trim")
    masks = {path: io.read_mask(path) for path in options["masks"]}
    out = reduce.step("trim", raw_light(), Reduction(cameras=options["cameras"], options=options, masks=masks))
    np.testing.assert_array_equal(out.mask, masked((8, 10), (2, 2, Mask.BAD)))


@real
@pytest.mark.parametrize("method", ["median", "mean", "polynomial"])
def test_overscan_of_a_real_frame_agrees_with_ccdproc(method):
    path = next((DATA / "sections").glob("*.fit*"))
    data, header = fits.getdata(path), fits.getheader(path)
    out = reduce.step("trim", reduce.prepare(data, header, {}), Reduction(options={"trim": {"overscan": method}}))
    theirs = {"median": {"median": True}, "mean": {}, "polynomial": {"model": Polynomial1D(3)}}[method]
    np.testing.assert_allclose(out.data, by_ccdproc(data, header["BIASSEC"], header["TRIMSEC"], **theirs), atol=0.02)
    assert out.header["OVSCNOIS"] < 1.2


@pytest.mark.parametrize(("scatter", "step"), [(0.3, 1), (1.2, 1), (0.8, 16)])
def test_a_quiet_bias_frame_is_not_saturated(scatter, step):
    data = np.round(np.random.default_rng(8).normal(100, scatter, (1000, 1000))) * step
    assert trim.find_saturation(data.astype(np.float32), step) is None


def piles_up(data, step):
    """The plain rule."""
    top, middle = float(data.max()), float(np.median(data))
    at_top = int((data == top).sum())
    just_below = int((data > top - max(0.02 * (top - middle), 4 * step)).sum()) - at_top
    return top if top > middle and at_top >= 10 and at_top > 3 * just_below else None


@pytest.mark.parametrize("clipped", [2000, 1200, 1030, 1001, 1000, 999, 950])
@pytest.mark.parametrize("stars", [0, 30, 3000])
def test_saturation_is_found_by_the_plain_rule(stars, clipped):
    rng = np.random.default_rng(stars + clipped)
    data = rng.normal(1000, 8, (200, 300))
    data.ravel()[:stars] += rng.pareto(0.7, stars) * 30
    data = np.minimum(np.round(data), clipped).astype(np.float32)
    assert trim.find_saturation(data, 1.0) == piles_up(data, 1.0)


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (60, 71)])
def test_saturated_pixels_grow_to_all_eight_neighbours_also_at_edges(shape):
    from scipy.ndimage import binary_dilation

    flags = np.random.default_rng(3).random(shape) < 0.05
    flags[-1, 0] = True
    out = trim.trim(frame(np.where(flags, 900, 100)), 900)
    np.testing.assert_array_equal(out.mask == Mask.SATURATED, binary_dilation(flags, np.ones((3, 3), bool)))
