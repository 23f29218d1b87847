"""Master bias, dark and flat: frames reduced as they are read, checked against each other, combined."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from . import pile
from .calibrate import robust_scatter
from .frame import Frame, Mask, Unusable, size


def master_bias(frames: Iterable[Frame], expected: int, memory: float = 500e6, **combination) -> Frame:
    """Master bias of reduced bias frames (trimmed, with sigma, in the master's unit); combination as in `pile.combine`."""
    return _combined(frames, expected, memory, combination, "bias")


def master_dark(
    frames: Iterable[Frame], expected: int, memory: float = 500e6, hot: float = 10.0, **combination
) -> Frame:
    """Master dark with its bias in it.

    hot  pixels whose level stands out from their neighbourhood by this many sigmas of the master get the bit BAD
    """
    master = _combined(frames, expected, memory, combination, "dark")
    from scipy.ndimage import median_filter

    excess = master.data - median_filter(master.data, size=5)
    noise = max(robust_scatter(excess), float(np.median(master.sigma)))
    return _flagged(master, excess > hot * noise, Mask.BAD, "NHOT", "hot pixels")


def master_flat(
    frames: Iterable[Frame], expected: int, memory: float = 500e6, dead: float = 0.5, lowest: float = 0.1, **combination
) -> Frame:
    """Master flat: each frame brought to its own level, combined, normalised to a median of 1.

    frames  in electrons or ADU after bias and dark
    dead    pixels whose response is below this share of their neighbourhood's get the bit BAD
    lowest  response under which nothing is divided: bit LOW_FLAT
    Frames without light (level not above zero) and frames of which more than a tenth is saturated are left out; raises
    ValueError where none is left.
    """
    master = _combined(_levelled(frames), expected, memory, combination, "flat")
    level = np.float32(np.median(master.data[(master.mask & Mask.UNUSABLE) == 0]))
    master = master.with_(data=master.data / level, sigma=master.sigma / level, unit="")
    from scipy.ndimage import median_filter

    around = median_filter(master.data, size=7)
    master = _flagged(master, master.data < dead * around, Mask.BAD, "NDEAD", "dead pixels")
    return _flagged(master, ~(master.data >= lowest), Mask.LOW_FLAT, "NLOWFLAT", "pixels of very low response")


def _levelled(frames: Iterable[Frame]):
    """Flats divided by their own level, the median of good pixels; useless ones left out with a word in the log."""
    for frame in frames:
        level = np.float32(np.median(frame.data[(frame.mask & Mask.UNUSABLE) == 0]))
        saturated = float(((frame.mask & Mask.SATURATED) != 0).mean())
        name = frame.header.get("FLFRAME", "flat")
        if not level > 0:
            print(f"left out {name}: level {level:.1f} {frame.unit}, no light in it")
        elif saturated > 0.1:
            print(f"left out {name}: {saturated:.0%} of it saturated")
        else:
            print(f"{name}: level {level:.1f} {frame.unit}")
            yield frame.with_({"FLATLEV": float(level)}, data=frame.data / level, sigma=frame.sigma / level)


def _combined(frames: Iterable[Frame], expected: int, memory: float, combination: dict, kind: str) -> Frame:
    headers, mask, held, unit = [], None, None, ""
    try:
        for frame in frames:
            if held is None:
                held, mask = pile.Pile(frame.shape, expected, memory), np.full(frame.shape, 255, np.uint8)
                unit = frame.unit
            elif (frame.shape, frame.unit) != (held.shape, unit):
                name, first = frame.header.get("FLFRAME", kind), f"{held.shape[1]}x{held.shape[0]} {unit}"
                print(f"left out {name}: {size(frame.data)} {frame.unit}, the first has {first}")
                continue
            held.add(frame.data, frame.sigma, (frame.mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0)
            mask &= frame.mask
            headers.append(frame.header)
        if held is None:
            raise Unusable(f"no usable {kind} frame")
        data, sigma, _ = pile.combine(held, **combination)
    finally:
        if held is not None:
            held.close()
    if combination.get("method") == "sum":  # what is subtracted from one frame has the level of one frame
        data, sigma = data / np.float32(len(headers)), sigma / np.float32(len(headers))
    header = headers[0].copy()
    header["IMAGETYP"] = f"master {kind}"
    header["NCOMBINE"] = (len(headers), "frames combined")
    header["FLLEVEL"] = (float(np.median(data)), "median level")
    header["FLNOISE"] = (float(np.median(sigma)), "median sigma")
    for number, one in enumerate(headers, 1):
        header[f"INPUT{number:03d}"] = str(one.get("FLFRAME", ""))[:60]
    few = {1: "one frame only: nothing could be rejected", 2: "two frames only: hardly anything could be rejected"}.get(
        len(headers)
    )
    if few:
        header["FLNOTE"] = few
    # A pixel that every calibration frame has saturated is a fault of the detector, not a bright star.
    mask = np.where(mask & Mask.SATURATED, mask | np.uint8(Mask.BAD), mask) & ~np.uint8(
        Mask.SATURATED | Mask.INTERPOLATED
    )
    return Frame(data, header, sigma, mask, unit)


def _flagged(master: Frame, where: np.ndarray, bit: int, keyword: str, what: str) -> Frame:
    return master.with_(
        {keyword: (int(where.sum()), what)}, mask=master.mask | np.where(where, np.uint8(bit), np.uint8(0))
    )
