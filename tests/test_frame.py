"""The value that flows through the chain. Truth: its own promises, written out."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from astropy.io import fits
from firstlight.frame import Frame, Mask, Unusable, must_match, row_blocks, size


def frame(shape=(3, 4), unit="adu", **parts):
    return Frame(np.ones(shape, np.float32), fits.Header({"OBJECT": "M42"}), unit=unit, **parts)


def test_a_frame_without_a_mask_gets_one_of_good_pixels():
    one = frame()
    assert one.mask.dtype == np.uint8
    assert one.mask.shape == (3, 4)
    assert not one.mask.any()


@pytest.mark.parametrize("part, dtype", [("mask", np.uint8), ("sigma", np.float32)])
def test_a_part_of_another_size_is_refused_with_both_sizes(part, dtype):
    with pytest.raises(ValueError, match=f"{part} is 3x4 but the image is 4x3"):
        frame(**{part: np.zeros((4, 3), dtype)})


def test_a_frame_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        frame().unit = "electron"


def test_with_keywords_leaves_the_first_header_alone():
    first = frame()
    second = first.with_({"GAIN": (1.5, "e-/ADU"), "OBJECT": "M43"})
    assert "GAIN" not in first.header
    assert first.header["OBJECT"] == "M42"
    assert (second.header["GAIN"], second.header.comments["GAIN"]) == (1.5, "e-/ADU")
    assert second.header["OBJECT"] == "M43"


def test_with_takes_a_header_and_keywords_together_and_changes_neither_header():
    given = fits.Header({"FILTER": "R"})
    out = frame().with_({"GAIN": 2.0}, header=given)
    assert list(out.header) == ["FILTER", "GAIN"]
    assert list(given) == ["FILTER"]


def test_size_is_columns_by_rows():
    assert size(np.zeros((2, 5))) == "5x2"


def test_a_master_of_another_size_names_both_sizes_and_a_way_out():
    with pytest.raises(ValueError, match=r"master flat is 2x1 but the frame is 4x3: same binning and trim section\?"):
        must_match(frame(), frame((1, 2)), "master flat")


def test_a_master_of_another_unit_names_both_units_and_a_way_out():
    with pytest.raises(ValueError, match=r"master bias is in electron but the frame is in adu: same gain for both\?"):
        must_match(frame(), frame(unit="electron"), "master bias")


def test_bits_are_distinct_named_and_fit_one_byte():
    bits = [
        value for name, value in vars(Mask).items() if name.isupper() and isinstance(value, int) and name != "UNUSABLE"
    ]
    assert sorted(bits) == [1 << n for n in range(len(bits))]
    assert {value: getattr(Mask, name) for value, name in Mask.NAMES.items()} == {value: value for value in bits}
    assert max(bits) < 256


def test_saturated_and_interpolated_values_still_say_something():
    assert not Mask.UNUSABLE & (Mask.SATURATED | Mask.INTERPOLATED)


def test_a_frame_without_use_is_a_fault_of_the_frame():
    from firstlight.job import FRAME_FAULTS

    assert issubclass(Unusable, FRAME_FAULTS)


@pytest.mark.parametrize("shape", [(1, 1), (7, 100_000), (500, 333), (0, 5)])
def test_blocks_hold_every_row_once(shape):
    rows = [row for block in row_blocks(shape) for row in range(shape[0])[block]]
    assert rows == list(range(shape[0]))
    assert all(
        (block.stop - block.start) * shape[1] <= 1 << 16 or block.stop - block.start == 1 for block in row_blocks(shape)
    )


@pytest.mark.parametrize("factor", [1.0, 0.3, "image"])
@pytest.mark.parametrize("before", [False, True], ids=["first master", "second master"])
def test_noise_of_a_master_adds_in_squares_and_its_share_is_kept(before, factor):
    rng, shape = np.random.default_rng(4), (301, 411)
    own, master = rng.uniform(0, 5, (2, *shape)).astype(np.float32)
    own[:50], master[25:75] = 0, 0
    times = rng.uniform(-2, 2, shape).astype(np.float32) if factor == "image" else factor
    common = rng.integers(0, 256, shape).astype(np.uint8) if before else None
    out = frame(shape, sigma=own, common=common).noisier(master, times)
    added, total = (times * master) ** 2, own**2 + (times * master) ** 2
    shared = added + (common / 255.0 * own**2 if before else 0)
    np.testing.assert_allclose(out.sigma, np.sqrt(total), rtol=1e-6)
    share = 255 * np.divide(shared, total, out=np.zeros_like(total), where=total > 0)
    assert np.abs(out.common - share).max() < 0.501
