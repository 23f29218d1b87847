"""One image per target and filter from the frames on its grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

from . import pile
from .frame import Frame, Mask, Unusable


@dataclass
class Stack:
    """A combined image: the frame, the number of frames that count in each pixel, and what became of each input."""

    frame: Frame
    coverage: np.ndarray
    inputs: np.ndarray


@dataclass
class Input:
    """One frame on the grid and what is known of it before its pixels are combined.

    read()  gives the aligned Frame; called twice at the most
    """

    name: str
    read: Callable[[], Frame]
    fwhm: float
    noise: float
    exposure: float
    flux: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scale: float = 1.0
    weight: float = 1.0
    offset: float = 0.0
    rejected: float = 0.0
    note: str = ""


def usable(frames: list[tuple[str, fits.Header]], read: Callable) -> tuple[list[Input], list[tuple[str, str]]]:
    """The inputs among aligned frames, given as (path, header), and (name, reason) for those that were dropped.

    read(path) gives a Frame. Frames in another unit than most are dropped.
    """
    inputs, dropped, units = (
        [],
        [],
        [header.get("BUNIT") for _, header in frames if header.get("FLSTATUS") != "dropped"],
    )
    unit = max(set(units), key=lambda u: (units.count(u), u), default="")
    for path, header in frames:
        name = str(header.get("FLFRAME", path))
        if header.get("FLSTATUS") == "dropped":
            dropped.append((name, f"{header.get('FLSTEP')}: {header.get('FLREASON')}"))
        elif header.get("BUNIT") != unit:
            dropped.append((name, f"combine: in {header.get('BUNIT')}, the others in {unit}: same gain for all?"))
        else:
            numbers = (float(header.get(key) or 0.0) for key in ("FWHM", "SKYNOISE", "EXPTIME"))
            inputs.append(Input(name, lambda path=path: read(path), *numbers))
    return inputs, dropped


def combine(
    inputs: list[Input],
    stars: np.ndarray,
    photometric_reference: str = "",
    method: str = "average",
    clip: str = "sigclip",
    low: float = 4.0,
    high: float = 4.0,
    iterations: int = 2,
    nlow: int = 0,
    nhigh: int = 1,
    scale: str = "stars",
    weight: str = "noise",
    background: str = "plane",
    memory: float = 1000e6,
) -> Stack:
    """Combine frames on one grid.

    stars       x, y, fwhm of the grid's stars: fluxes are compared at these positions
    photometric_reference  name of the frame whose flux scale and sky the stack takes, if it is among the inputs; else
                the frame that would weigh most
    scale       "stars": ratio of star fluxes to the reference; "exposure"; "none"
    weight      one number per frame: "noise": 1 / (scale x sky noise)^2; "noise+fwhm": that over FWHM^2; "none"
    background  difference to the reference in sky that is taken out: "constant", "plane", "none"
    method, clip, low, high, iterations, nlow, nhigh as in `pile.combine`; sigclip here measures each value against its
                own sigma and allows for stars: (gradient of the median image times the difference in seeing) is added in
                quadrature, so that no star is eaten in changing seeing.
    Raises Unusable where there is no input.
    """
    if not inputs:
        raise Unusable("no usable frame to combine")
    fwhm = float(np.median([i.fwhm for i in inputs if i.fwhm > 0] or [3.0]))
    # Wide enough that wings lost in the worst seeing do not pass for transparency: between 2.3 and 3.6 pixels of seeing
    # a Moffat profile of beta 2.5 changes by 1.1 % within 3.5 FWHM, of beta 4 by 0.09 %; within 3 by 1.7 and 0.2 %.
    radius = 3.5 * max([i.fwhm for i in inputs if i.fwhm > 0] or [3.0])
    for one in inputs:
        one.flux = fluxes(one.read(), stars, radius) if scale == "stars" else np.zeros(0)
    known = [one.noise for one in inputs if one.noise > 0]
    for one in inputs:
        one.noise = (
            one.noise if one.noise > 0 else max(known, default=1.0)
        )  # unknown must not mean: outweighs all others
    reference = _reference(inputs, photometric_reference)
    base = reference.read()
    for one in inputs:
        one.scale, one.note = _scale(one, reference, scale)
        one.weight = _weight(one, weight, fwhm)
    heaviest = max(one.weight for one in inputs)
    for one in inputs:
        one.weight /= heaviest  # their squares must fit into float32, whatever the unit
    common, seen = np.full(base.shape, 255, np.uint8), np.zeros(base.shape, np.uint8)
    with pile.Pile(base.shape, len(inputs), memory) as held:
        for one in inputs:
            frame = one.read()
            surface = _difference(base, frame, one.scale, background) if one is not reference else np.float32(0)
            one.offset = float(np.mean(surface))
            value = frame.data * np.float32(one.scale) + surface
            absent = ~np.isfinite(value)
            poor = (frame.mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0
            sigma = frame.sigma if frame.sigma is not None else np.full(base.shape, one.noise, np.float32)
            flags = np.where(absent, pile.ABSENT, np.where(poor, pile.POOR, pile.GOOD)).astype(np.uint8)
            held.add(np.where(absent, 0, value), np.where(absent, 0, sigma * np.float32(one.scale)), flags)
            common &= np.where(absent, 255, frame.mask).astype(np.uint8)
            seen |= np.where(absent, 0, frame.mask).astype(np.uint8)
        if clip == "sigclip":
            result = _clipped(held, inputs, fwhm, method, low, high, iterations)
        else:
            weights = [one.weight for one in inputs]
            result = pile.combine(held, method, clip, low, high, iterations, nlow, nhigh, weights)
    data, sigma, coverage = result
    mask = np.where(coverage == 0, seen, common & seen)
    mask = np.where(np.isfinite(data), mask, Mask.NO_DATA).astype(np.uint8)
    frame = base.with_(_cards(inputs, reference, method, clip), data=data, sigma=sigma, mask=mask)
    return Stack(frame, coverage, _table(inputs))


def fluxes(frame: Frame, stars: np.ndarray, radius: float) -> np.ndarray:
    """Fluxes of the grid's stars in one frame: sum within `radius` pixels less the local sky; NaN where pixels are bad
    or missing."""
    import sep

    if not len(stars):
        return np.zeros(0)
    bad = (frame.mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0
    data = np.where(np.isfinite(frame.data), frame.data, np.float32(0))
    good = (~bad).astype(np.float32)
    x, y = (np.ascontiguousarray(stars[name], float) for name in "xy")
    ny, nx = frame.shape
    # subpix=0 is the exact overlap: sampled areas scatter by a percent, and whole circles would look cut.
    clean, area = (sep.sum_circle(image, x, y, radius, subpix=0)[0] for image in (good, np.ones_like(good)))
    around, ring = (sep.sum_circann(image, x, y, 2 * radius, 3 * radius)[0] for image in (good, np.ones_like(good)))
    whole = area > 0.999 * np.pi * radius**2
    use = whole & (clean > area - 0.5) & (around > 0.5 * ring) & (x > 0) & (y > 0) & (x < nx - 1) & (y < ny - 1)
    flux = np.full(len(x), np.nan)
    flux[use] = sep.sum_circle(data, x[use], y[use], radius, mask=bad, bkgann=(2 * radius, 3 * radius), subpix=0)[0]
    return np.where(flux > 0, flux, np.nan)


def _reference(inputs: list[Input], wanted: str) -> Input:
    named = [one for one in inputs if one.name == wanted]
    if named:
        return named[0]

    def depth(one):
        known = np.isfinite(one.flux)
        brightness = np.nanmedian(one.flux) if known.sum() >= 3 else one.exposure
        return float(brightness) / max(one.noise, 1e-9) / (one.fwhm or 10.0), one.name

    return max(inputs, key=depth)


def _scale(one: Input, reference: Input, scale: str) -> tuple[float, str]:
    """Factor that brings a frame to the reference's flux, and a note."""
    by_time = reference.exposure / one.exposure if one.exposure > 0 and reference.exposure > 0 else 1.0
    if one is reference or scale == "none":
        return 1.0, "photometric reference" if one is reference else ""
    if scale == "exposure":
        return by_time, ""
    known = np.isfinite(one.flux) & np.isfinite(reference.flux)
    if known.sum() < 3:
        return by_time, f"scaled by exposure: {known.sum()} stars shared with the reference"
    ratio, weight = reference.flux[known] / one.flux[known], reference.flux[known]
    for _ in range(3):
        middle = _weighted_median(ratio, np.sqrt(weight))
        near = np.abs(ratio / middle - 1) < max(3 * 1.4826 * np.median(np.abs(ratio / middle - 1)), 0.005)
        ratio, weight = ratio[near], weight[near]
    factor = _weighted_median(ratio, np.sqrt(weight))
    transparency = by_time / factor
    return factor, f"transparency {transparency:.2f} of the reference" if transparency < 0.7 else ""


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _weight(one: Input, weight: str, fwhm: float) -> float:
    if weight == "none":
        return 1.0
    depth = 1.0 / max(one.scale * one.noise, 1e-12) ** 2
    return depth * (fwhm / one.fwhm) ** 2 if weight == "noise+fwhm" and one.fwhm > 0 else depth


def _difference(base: Frame, frame: Frame, scale: float, order: str, block: int = 32):
    """Surface to add to scale * frame so that its sky is the reference's, from medians of the difference in blocks.

    Only the difference is fitted: a nebula is in both and falls out.
    """
    if order == "none":
        return np.float32(0)
    ny, nx = base.shape
    usable = ((base.mask | frame.mask) & (Mask.UNUSABLE | Mask.SATURATED)) == 0
    difference = np.where(usable, base.data - np.float32(scale) * frame.data, np.nan)
    rows, columns = max(ny // block, 1), max(nx // block, 1)
    by, bx = ny // rows, nx // columns
    blocks = (
        difference[: rows * by, : columns * bx].reshape(rows, by, columns, bx).swapaxes(1, 2).reshape(rows, columns, -1)
    )
    enough = np.isfinite(blocks).mean(axis=2) > 0.5
    if not enough.any():
        return np.float32(0)
    value = np.nanmedian(blocks[enough], axis=1)
    y, x = (np.argwhere(enough) + 0.5).T * np.array([[by], [bx]])
    design = np.column_stack([np.ones_like(x), x / nx - 0.5, y / ny - 0.5])
    if order == "constant" or len(value) < 9:
        design = design[:, :1]
    keep = np.ones(len(value), bool)
    for _ in range(4):
        solution = np.linalg.lstsq(design[keep], value[keep], rcond=None)[0]
        residual = value - design @ solution
        keep = np.abs(residual) <= 3 * max(1.4826 * np.median(np.abs(residual[keep])), 1e-9)
    if len(solution) == 1:
        return np.float32(solution[0])
    across = solution[1] * ((np.arange(nx) + 0.5) / nx - 0.5)
    along = solution[2] * ((np.arange(ny) + 0.5) / ny - 0.5)
    return (solution[0] + along[:, None] + across[None, :]).astype(np.float32)


def _clipped(held: pile.Pile, inputs: list[Input], fwhm: float, method: str, low: float, high: float, iterations: int):
    """`pile.combine` with rejection against each value's own sigma, with allowance for stars."""
    from scipy.ndimage import maximum_filter, minimum_filter

    centre = np.empty(held.shape, np.float32)
    for rows, values, _, flags in held.strips():
        centre[rows] = _centre(values, flags == pile.GOOD)
    filled = np.nan_to_num(centre, nan=float(np.nanmedian(centre)) if np.isfinite(centre).any() else 0.0)
    gradient = maximum_filter(filled, 3) - minimum_filter(filled, 3)
    # A peak changes with the square of the seeing, the gradient of 3 pixels sees but part of it: hence the half more.
    allowance = np.array([0.1 + 1.5 * abs((one.fwhm or fwhm) / fwhm - 1) for one in inputs], np.float32)
    weights = np.array([one.weight for one in inputs], np.float32)
    out = np.empty(held.shape, np.float32), np.empty(held.shape, np.float32), np.empty(held.shape, np.uint16)
    lost = np.zeros(held.count)
    for rows, values, sigmas, flags in held.strips():
        start = good = flags == pile.GOOD
        tolerance = np.sqrt(sigmas**2 + (allowance[:, None, None] * gradient[rows]) ** 2)
        middle = centre[rows]
        for _ in range(iterations):
            distance = values - middle
            good = start & (distance <= np.float32(high) * tolerance) & (distance >= np.float32(-low) * tolerance)
            middle = _centre(values, good)
        for array, piece in zip(out, pile.merge(values, sigmas, flags, good, method, weights), strict=True):
            array[rows] = piece
        lost += (start & ~good).sum(axis=(1, 2))
    for one, n in zip(inputs, lost, strict=True):
        one.rejected = float(n) / (held.shape[0] * held.shape[1])
    return out


def _centre(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Median of the good values; of two the lower, since what disturbs a sky adds light."""
    two = good.sum(axis=0) == 2
    middle = pile.median(values, good)
    return np.where(two, np.where(good, values, np.inf).min(axis=0), middle) if two.any() else middle


def _cards(inputs: list[Input], reference: Input, method: str, clip: str) -> dict:
    n = len(inputs)
    weights = np.array([one.weight for one in inputs])
    seeing = np.array([one.fwhm for one in inputs])
    cards = {
        "IMAGETYP": "stack",
        "NCOMBINE": (n, "frames combined"),
        "EXPTIME": (reference.exposure * (n if method == "sum" else 1), "[s] exposure that the flux scale refers to"),
        "EXPTOT": (round(sum(one.exposure for one in inputs), 3), "[s] sum of the exposures"),
        "PHOTREF": (reference.name, "frame that gives the flux scale"),
        "COMBINED": (f"{method}, {clip}", "method and rejection"),
        "FWHM": (round(float(np.average(seeing, weights=weights)), 3), "[pix] weighted mean of the inputs"),
    }
    if n < 3:
        cards["FLNOTE"] = "one frame only: nothing was rejected" if n == 1 else "two frames only: rejection is weak"
    return cards


def _table(inputs: list[Input]) -> np.ndarray:
    names = ("name", "weight", "scale", "offset", "fwhm", "noise", "exposure", "rejected", "note")
    total = sum(one.weight for one in inputs)
    rows = [
        (i.name, i.weight / total, i.scale, i.offset, i.fwhm, i.noise, i.exposure, i.rejected, i.note) for i in inputs
    ]
    return np.array(rows, dtype=list(zip(names, (_text(rows, 0), *["f8"] * 7, _text(rows, -1)), strict=True)))


def _text(rows: list[tuple], column: int) -> str:
    """Type of a column of text that holds its longest entry."""
    return f"U{max((len(row[column]) for row in rows), default=1) or 1}"


def with_dropped(table: np.ndarray, dropped: list[tuple[str, str]]) -> np.ndarray:
    """The table of inputs with a row of weight 0 for each dropped frame."""
    nothing = [0.0] * (len(table.dtype.names) - 2)
    rows = [tuple(row) for row in table.tolist()] + [(name, *nothing, f"dropped, {reason}") for name, reason in dropped]
    names = table.dtype.names
    return np.array(
        rows, dtype=list(zip(names, (_text(rows, 0), *["f8"] * len(nothing), _text(rows, -1)), strict=True))
    )
