"""The first step, on raw ADU: saturated and bad pixels marked, overscan subtracted, the frame cut to its region."""

from __future__ import annotations

import re

import numpy as np

from .estimate import median_factor
from .frame import Frame, Mask, size
from .ordering import median_of
from .section import parse_section, section_text

# Cards of the frame's own geometry. The reference pixels (also of other WCS, CRPIX1A) and IRAF's offset from the raw
# pixels move with the cut; sections in raw pixels mean nothing after it.
_OFFSETS = re.compile(r"(?:CRPIX([12])[A-Z]?|LTV([12]))")
_SECTIONS = re.compile(r"(?:TRIM|BIAS|DATA|CCD|DET|AMP)SEC[0-9A-Z]?")


def trim(
    frame: Frame,
    saturation: float | None = None,
    region=None,
    sections=(),
    overscan: str = "median",
    order: int = 3,
    axis: str = "auto",
    bad=None,
) -> Frame:
    """Mark saturated and bad pixels, subtract the overscan, cut to the region.

    saturation  level in ADU, as read; pixels at or above it and their eight neighbours get the bit SATURATED
    region      (rows, columns) slices of the raw frame to keep; None keeps all of it, the overscan with the bit NO_DATA
    sections    list of (rows, columns) slices of the overscan, prescan included
    overscan    how the level of a line comes from its overscan pixels, see `overscan_level`; "none" leaves it
    axis        "rows": each row has a level of its own, "columns": each column, "auto": whichever the sections cover more of
    bad         pixels that get the bit BAD, see `bad_pixels`

    The header then holds OVSCLEV, the median level, and OVSCNOIS, the noise of the level of a line: it adds to the noise
    of each of the line's pixels. Raises ValueError where a section does not lie within the frame, region and overscan
    share pixels, or nothing in the overscan can be used.
    """
    data, mask, header, shape = frame.data, frame.mask, frame.header.copy(), frame.shape
    region = None if region is None else _inside(region, shape, "trim")
    sections = [] if overscan == "none" else [_inside(one, shape, "overscan") for one in sections]
    if saturation is not None:
        full = data >= saturation
        mask = mask | _bits(_grown(full), Mask.SATURATED) if full.any() else mask
        header["SATURATE"] = (saturation, "[adu] saturation level used")
    if bad is not None:
        mask = mask | _bits(bad_pixels(bad, shape, region), Mask.BAD)
    if sections:
        _refuse_shared(sections, region, shape)
        by_row = _by_row(sections, shape, axis)
        level, noise = _level_of(frame.with_(mask=mask), sections, by_row, overscan, order)
        level = level[:, None] if by_row else level[None, :]
        header["OVSCLEV"] = (float(np.median(level)), "[adu] median level of the overscan")
        header["OVSCNOIS"] = (noise, "[adu] noise of the overscan level of a line")
        if region is None:
            mask = mask.copy()
            for section in sections:
                mask[section] |= Mask.NO_DATA
            data = data - level
        else:
            data = data[region] - level[region[0] if by_row else slice(None), slice(None) if by_row else region[1]]
            mask = mask[region]
    elif region is not None:
        data, mask = data[region], mask[region]
    _move(header, region)
    header["FLTRIM"] = (bool(sections) or region is not None, "overscan subtracted or frame cut")
    return frame.with_(data=np.ascontiguousarray(data), mask=np.ascontiguousarray(mask), header=header)


def overscan_level(
    values: np.ndarray, method: str = "median", order: int = 3, step: float = 0.0
) -> tuple[np.ndarray, float]:
    """The level of each line and the noise of a line's level, from values (lines, n) in ADU, NaN where there is none.

    method  "median" or "mean" of a line's pixels, or "polynomial" of degree `order` in the line's number through the
            means, pixels beyond 5 sigma left out (medians of rounded values are rounded, in many lines the same way)
    step    what the values were rounded to
    With s the scatter of a pixel about its line and p = order + 1 the variance of a level is

        mean  s^2 / n,    median  f(n) s^2 / n + step^2 / 12,    polynomial  (p / lines) s^2 / n

    with f of `estimate.median_factor`; the noise is the root of its mean over lines. Lines without a pixel take the median of
    all levels, with a polynomial that of the nearest line. Raises ValueError where no line has a pixel.
    """
    values = values.astype(float)
    if method == "polynomial":
        values = _without_hits(values)
    count = np.isfinite(values).sum(axis=1)
    reached = np.flatnonzero(count)
    if not reached.size:
        raise ValueError("all pixels of the overscan are saturated or bad: cameras: overscan says where it is")
    values, n = values[reached], count[reached]
    levels = np.nanmedian(values, axis=1) if method == "median" else np.nanmean(values, axis=1)
    share = (median_factor(n) if method == "median" else 1.0) / n
    pixel = _pixel_variance(values, levels, n, share)
    variance = pixel * share
    if method == "median" and step:
        variance = variance + _rounding_variance(n, np.sqrt(pixel), step)
    lines, outside = np.arange(len(count)), np.median(levels)
    if method == "polynomial":
        levels, leverage = _fitted(reached, levels, np.sqrt(n), order)
        variance, outside = variance * leverage, np.interp(lines, reached, levels)
    full = np.broadcast_to(outside, len(count)).astype(np.float32)
    full[reached] = levels
    return full, float(np.sqrt(variance.mean()))


def bad_pixels(bad, shape: tuple[int, int], region=None) -> np.ndarray:
    """Where a raw frame of `shape` (ny, nx) has bad pixels, bool (ny, nx).

    bad  an image of flags as large as the raw frame or as its region, or FITS sections of the raw frame as texts
    Raises ValueError where the image has another size or a section does not lie within the frame.
    """
    flags = np.zeros(shape, bool)
    if not isinstance(bad, np.ndarray):
        for section in bad:
            flags[parse_section(section, shape, "mask")] = True
        return flags
    place = (slice(None), slice(None)) if bad.shape == shape or region is None else region
    if bad.shape != flags[place].shape:
        trimmed = "" if region is None else f", {size(flags[place])} when trimmed"
        raise ValueError(
            f"the mask file is {size(bad)} but the frame is {size(flags)}{trimmed}: same binning? "
            "give this camera its own under cameras: mask, or none"
        )
    flags[place] = bad
    return flags


def find_saturation(data: np.ndarray, step: float = 0.0) -> float | None:
    """The level (ADU) at which the pixels of a raw frame pile up, or None where they do not.

    Noise and stars leave fewer and fewer pixels towards the maximum; clipping leaves many at the maximum itself. `step`
    of the ADC: a quiet bias frame has but a few values, and many pixels at the highest.
    """
    top = float(data.max())
    at_top = int(np.count_nonzero(data == top))
    if at_top < 10:
        return None

    def piled_up(middle: float) -> bool:
        just_below = int(np.count_nonzero(data > top - max(0.02 * (top - middle), 4 * step))) - at_top
        return at_top > 3 * just_below

    # The median takes longer than all the rest: where there is a pile even if it were as low as the minimum, it says no more.
    if 2 * at_top < data.size and piled_up(float(data.min())):
        return top
    middle = median_of(data)
    return top if top > middle and piled_up(middle) else None


def _inside(section, shape, part: str) -> tuple[slice, slice]:
    return parse_section(section_text(section), shape, part)


def _refuse_shared(sections, region, shape) -> None:
    """Overscan pixels saw no light: where they are part of the image one of the two sections is wrong."""
    if region is None:
        return
    kept = np.zeros(shape, bool)
    kept[region] = True
    for section in sections:
        if kept[section].any():
            raise ValueError(
                f"overscan section {section_text(section)} of {size(kept[section])} and trim section "
                f"{section_text(region)} of {size(kept[region])} share pixels of the frame of {size(kept)}: "
                "cameras: trim or overscan sets another, or none"
            )


def _by_row(sections, shape, axis: str) -> bool:
    """True where each row has its own level, False for each column."""
    if axis != "auto":
        return axis == "rows"
    # Shares of the frame, not pixels: a short window's overscan may be wider than high.
    tall = {
        (rows.stop - rows.start) / shape[0] >= (columns.stop - columns.start) / shape[1] for rows, columns in sections
    }
    if len(tall) > 1:
        named = " and ".join(map(section_text, sections))
        raise ValueError(
            f"overscan sections {named} of the frame of {shape[1]}x{shape[0]} run along different sides: "
            "name those of one side under cameras: overscan, or say which by trim: axis"
        )
    return tall.pop()


def _level_of(frame: Frame, sections, by_row: bool, method: str, order: int) -> tuple[np.ndarray, float]:
    """Level of each row (or column) of a frame and its noise, from the pixels of the sections that can be used."""
    data, mask = (frame.data, frame.mask) if by_row else (frame.data.T, frame.mask.T)
    sections = [section if by_row else section[::-1] for section in sections]
    across = np.zeros(data.shape[1], bool)
    for _, columns in sections:
        across[columns] = True
    strip = np.zeros(data.shape, bool)
    for section in sections:
        strip[section] = True
    usable = strip[:, across] & ((mask[:, across] & (Mask.UNUSABLE | Mask.SATURATED)) == 0)
    values = np.where(usable, data[:, across], np.float32(np.nan))
    step = frame.header.get("FLADCSTP")
    return overscan_level(values, method, order, step if isinstance(step, (int, float)) else 0.0)


def _without_hits(values: np.ndarray) -> np.ndarray:
    """Values with NaN in place of those beyond 5 sigma of their line's median."""
    n = np.isfinite(values).sum(axis=1)
    some = n > 0
    if not some.any():
        return values
    n, out = n[some], values.copy()
    levels = np.nanmedian(values[some], axis=1)
    scatter = np.sqrt(_pixel_variance(values[some], levels, n, median_factor(n) / n))
    out[some] = np.where(np.abs(values[some] - levels[:, None]) > 5 * scatter, np.nan, values[some])
    return out


def _pixel_variance(values: np.ndarray, levels: np.ndarray, n: np.ndarray, share: np.ndarray) -> float:
    """Variance of a pixel about its line's true level, all lines together, outliers beyond 5 sigma left out.

    A residual from the line's own mean or median has s^2 (1 + v - 2/n) of it, where v s^2 is the variance of that level
    (the covariance of a pixel with either is s^2 / n).
    """
    many = n > 1
    if not many.any():  # one pixel a line: neighbouring lines tell
        return float(np.mean(np.diff(levels) ** 2) / 2) if len(levels) > 1 else 0.0
    residuals = (values - levels[:, None])[many] / np.sqrt(1 + share - 2 / n)[many, None]
    residuals = residuals[np.isfinite(residuals)]
    low, high = np.percentile(residuals, [15.8655, 84.1345])
    core = residuals[np.abs(residuals) <= 5 * (high - low) / 2] if high > low else residuals
    return float(np.mean(core**2))


def _rounding_variance(n: np.ndarray, scatter: float, step: float) -> np.ndarray:
    """What rounding adds to the variance of a median of n values: step^2/12 of an odd number of many. The two values in
    the middle of an even number lie 2.5 scatter/n apart, and their mean is rounded the less the more steps that is (fits
    simulated lines to 10 %)."""
    gap = 2.5 * scatter / (n * step)
    return step**2 / 12 * (1 - 1 / n) * np.where(n % 2, 1, 1 / (1 + 3 * gap))


def _fitted(lines: np.ndarray, levels: np.ndarray, weights: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """The polynomial through the levels at their lines, and by how much it lowers the variance of each (leverage)."""
    from numpy.polynomial.legendre import legvander

    middle, half = (lines[-1] + lines[0]) / 2, max((lines[-1] - lines[0]) / 2, 1)
    terms = legvander((lines - middle) / half, min(order, len(lines) - 1))
    basis = np.linalg.qr(terms * weights[:, None])[0]
    return basis @ (basis.T @ (levels * weights)) / weights, (basis**2).sum(axis=1)


def _move(header, region) -> None:
    """Bring the header's geometry to the cut frame."""
    for key in list(header):
        match = _OFFSETS.fullmatch(key)
        if match and region is not None and isinstance(header[key], (int, float)):
            header[key] -= region[1 if "1" in match.groups() else 0].start
        elif _SECTIONS.fullmatch(key):
            header.remove(key, ignore_missing=True, remove_all=True)


def _bits(where: np.ndarray, bit: int) -> np.ndarray:
    return np.where(where, np.uint8(bit), np.uint8(0))


def _grown(flags: np.ndarray) -> np.ndarray:
    """Flags and their eight neighbours."""
    from cv2 import dilate

    return dilate(flags.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
