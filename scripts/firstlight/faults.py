"""Pixels of a master that are a detector's own faults: hot ones of a dark, dead ones of a flat."""

from __future__ import annotations

import numpy as np

from . import ordering
from .calibrate import local_scatter
from .frame import Frame, Mask

RING = [(y, x) for y in range(-3, 4) for x in range(-3, 4) if 8 <= y * y + x * x <= 10]  # neighbours 3 pixels away
FEW_LINES = 12  # of an image that is too small for its edges to be told apart


def flag_hot(master: Frame, hot: float = 10.0) -> Frame:
    """A master dark with the bit BAD on hot pixels and their number as NHOT.

    Hot is what lies above the median of the pixels 3 away, after the smooth part (amplifier glow) is taken out, by more
    than `hot` - 1 sigmas of the master (the 1 keeps those that were measured low), and by more than 6 times the
    scatter from pixel to pixel, which is larger where the dark currents of normal pixels differ. Neighbours so far away
    are not hot with it in clusters of up to 5x5 pixels, nor most of them along a hot column.
    """
    import sep

    data = np.ascontiguousarray(master.data, np.float32)
    bad = (master.mask & Mask.UNUSABLE) != 0
    rest = data - sep.Background(data, mask=bad, bw=16, bh=16, fw=1, fh=1).back() if min(data.shape) >= 16 else data
    excess = rest - _around(rest, bad)
    lowest = np.float32(max(hot - 1, hot / 2))
    limit = np.maximum(lowest * _smooth(master.sigma), 6 * local_scatter(excess))
    return _flagged(master, excess > limit, Mask.BAD, "NHOT", "hot pixels")


def flag_dead(master: Frame, dead: float = 0.5, lowest: float = 0.1) -> Frame:
    """A normalised master flat with the bits BAD on dead pixels (below the share `dead` of the median of the pixels 3
    away, by more than 5 sigma) and LOW_FLAT where the response is below `lowest`; their numbers as NDEAD, NLOWFLAT."""
    lacking = master.data < np.float32(dead) * _highest_around(master.data)
    places = np.nonzero(lacking)
    around = _around_at(master.data, (master.mask & Mask.UNUSABLE) != 0, *places)
    value, sigma = master.data[places], master.sigma[places]
    lacking[places] = (value < np.float32(dead) * around) & (around - value > 5 * sigma)
    master = _flagged(master, lacking, Mask.BAD, "NDEAD", "dead pixels")
    return _flagged(master, ~(master.data >= lowest), Mask.LOW_FLAT, "NLOWFLAT", "pixels of very low response")


def _around(image: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Median of the good pixels among the 16 that are 3 away, (ny, nx) float32; the pixel's own value where none is.

    Within 3 pixels of an edge, where all neighbours are on one side, the medians further in are continued.
    """
    ny, nx = image.shape
    padded, spoilt = (np.pad(one, 3, mode="reflect") for one in (image, bad))
    out = np.empty(image.shape, np.float32)
    rows = max(ordering.CHUNK // (4 * len(RING) * nx), 1)
    for start in range(0, ny, rows):
        end = min(start + rows, ny)
        views = [(slice(start + 3 + y, end + 3 + y), slice(3 + x, 3 + x + nx)) for y, x in RING]
        values = np.stack([padded[view] for view in views])
        if spoilt[start : end + 6].any():
            out[start:end] = ordering.median(values, ~np.stack([spoilt[view] for view in views]))
        else:
            planes = ordering.ordered(values.reshape(len(RING), -1), ordering.middles(len(RING)))
            out[start:end] = ordering.middle(planes).reshape(end - start, nx)
    out = np.where(np.isfinite(out), out, image)
    for lines in (out, out[::-1], out.T, out.T[::-1]):
        if len(lines) > FEW_LINES:
            lines[:3] = lines[3] + (lines[3] - lines[6]) * np.array([[1.0], [2 / 3], [1 / 3]], np.float32)
    return out


def _around_at(image: np.ndarray, bad: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`_around` at some pixels (n)."""
    inner = [np.pad(np.arange(length), 3, mode="reflect") for length in image.shape]
    steps = np.array(RING).T[:, :, None] + 3
    out = np.zeros(len(y), np.float32)
    for row, one in _continued(y, image.shape[0]):
        for column, other in _continued(x, image.shape[1]):
            places = inner[0][row + steps[0]], inner[1][column + steps[1]]
            middle = ordering.median(image[places], ~bad[places])
            out += (one * other).astype(np.float32) * np.where(np.isfinite(middle), middle, image[row, column])
    return out


def _continued(place: np.ndarray, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Lines and their factors that make the line at a place (n): itself, or near an edge the 4th and the 7th from it."""
    away = np.minimum(place, length - 1 - place)
    if length <= FEW_LINES or not (away < 3).any():
        return [(place, np.ones(len(place)))]
    beyond = np.maximum(1 - away / 3, 0)
    lines = [np.where(away < 3, line, away) for line in (3, 6)]
    lines = [np.where(place == away, line, length - 1 - line) for line in lines]
    return [(lines[0], 1 + beyond), (lines[1], -beyond)]


def _highest_around(image: np.ndarray) -> np.ndarray:
    """What `_around` cannot exceed: the highest of 7x7 pixels, and near edges what a continuation along both axes makes of
    the lowest and the highest."""
    import cv2

    image = np.where(np.isnan(image), np.float32(0), image)  # cv2 forgets what else is in a window with one
    out = cv2.dilate(np.ascontiguousarray(image, np.float32), np.ones((7, 7), np.uint8))
    for lines, edge in ((image, out), (image[::-1], out[::-1]), (image.T, out.T), (image.T[::-1], out.T[::-1])):
        near = np.ascontiguousarray(lines[:16], np.float32)
        low, high = (change(near, np.ones((25, 25), np.uint8))[:3] for change in (cv2.erode, cv2.dilate))
        edge[:3] = high + 4 * (high - low)
    return out


def _smooth(image: np.ndarray, block: int = 64) -> np.ndarray:
    """The large-scale part of an image, without what stands out."""
    import sep

    if min(image.shape) < block:
        return np.full(image.shape, ordering.median_of(image), np.float32)
    return sep.Background(np.ascontiguousarray(image, np.float32), bw=block, bh=block).back()


def _flagged(master: Frame, where: np.ndarray, bit: int, keyword: str, what: str) -> Frame:
    return master.with_(
        {keyword: (int(where.sum()), what)}, mask=master.mask | np.where(where, np.uint8(bit), np.uint8(0))
    )
