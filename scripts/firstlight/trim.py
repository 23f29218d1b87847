"""The first step, on raw ADU: saturated pixels marked, overscan subtracted, the frame cut to its region."""

from __future__ import annotations

import numpy as np

from .frame import Frame, Mask, size


def trim(frame: Frame, saturation: float | None = None, overscan=None, region=None) -> Frame:
    """Mark saturated pixels, subtract the overscan, cut to the region.

    saturation  level in ADU, as read; pixels at or above it and their eight neighbours get the bit SATURATED
    overscan    (rows, columns) slices of the overscan; the median of each row (or column) is subtracted along its longer side
    region      (rows, columns) slices of the image to keep
    Raises ValueError where a region does not lie within the frame.
    """
    data, mask = frame.data, frame.mask
    if saturation is not None:
        mask = mask | np.where(_grown(data >= saturation), np.uint8(Mask.SATURATED), np.uint8(0))
    if overscan is not None:
        _inside(overscan, data, "overscan section")
        strip = data[overscan]
        axis = 1 if strip.shape[0] >= strip.shape[1] else 0
        level = np.median(strip, axis=axis, keepdims=True).astype(np.float32)
        lines = overscan[0] if axis == 1 else overscan[1]
        full = np.full((data.shape[1 - axis],), np.median(level), np.float32)
        full[lines] = level.ravel()
        data = data - (full[:, None] if axis == 1 else full[None, :])
    header = frame.header.copy()
    if region is not None:
        _inside(region, data, "trim section")
        data, mask = data[region], mask[region]
        for axis, piece in (("1", region[1]), ("2", region[0])):
            if isinstance(header.get(f"CRPIX{axis}"), (int, float)):
                header[f"CRPIX{axis}"] -= piece.indices(10**9)[0]
    for key in ("TRIMSEC", "BIASSEC", "DATASEC", "CCDSEC"):
        header.remove(key, ignore_missing=True)
    if saturation is not None:
        header["SATURATE"] = (saturation, "[adu] saturation level used")
    header["FLTRIM"] = (overscan is not None or region is not None, "overscan subtracted or frame cut")
    return frame.with_(data=np.ascontiguousarray(data), mask=np.ascontiguousarray(mask), header=header)


def find_saturation(data: np.ndarray) -> float | None:
    """The level (ADU) at which the pixels of a raw frame pile up, or None where they do not.

    Noise and stars leave fewer and fewer pixels towards the maximum; clipping leaves many at the maximum itself.
    """
    top, middle = float(data.max()), float(np.median(data))
    at_top = int((data == top).sum())
    just_below = int((data > top - 0.02 * (top - middle)).sum()) - at_top
    return top if top > middle and at_top >= 10 and at_top > 3 * just_below else None


def _inside(region, data: np.ndarray, what: str) -> None:
    for piece, length in zip(region, data.shape, strict=True):
        if piece.stop > length or piece.start < 0 or piece.stop <= piece.start:
            rows, columns = region
            raise ValueError(
                f"{what} [{columns.start + 1}:{columns.stop},{rows.start + 1}:{rows.stop}] does not fit the frame of "
                f"{size(data)}: give cameras: trim, overscan for this camera?"
            )


def _grown(flags: np.ndarray) -> np.ndarray:
    """Flags and their eight neighbours."""
    if not flags.any():
        return flags
    from scipy.ndimage import binary_dilation

    return binary_dilation(flags, np.ones((3, 3), bool))
