"""What one frame alone has of light: trails of satellites and aeroplanes with their wings, what hits leave around them.

Clipping values one by one leaves what is weaker than its limits: the wings of a trail, or all of a faint one. Together
they are many times the noise: so the difference to the other frames is looked at in pixels of twice the size, smoothed.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from . import ordering, pile, rejection

# All lengths here are in pixels of twice the size.
SPAN = 7  # of the Gaussian
SMOOTHING = 0.75  # sigma of the Gaussian; with the size of the pixels about what a trail of 3 pixels asks for
EDGE = 2.5  # noises of the smoothed difference at which a structure ends; 0.5 of a frame's own in a pixel
TRAIL, BLOB = 5.0, 8.0  # noises that it must reach somewhere: if it is a line, and if it is not
LONG, SLIM = 12, 4  # a line: how long at least, and how many times its width
LARGEST = 32  # of a structure that is no line, across: what is larger may be cloud or nebula
BRIDGE, STOP = 40, 20  # of a line where stars hide it: between two visible parts, and beyond the last
WIDER = 1.5  # times what single values are allowed, where many together are looked at
PIECE = 5  # least visible part of a line beyond the structure that told it
MOST = 12  # lines of a frame
BAND = 1 << 17  # pixels of full size that are worked on at a time


def mark(held: pile.Pile, centre: rejection.Centre, fwhm: np.ndarray, threads: int = 1) -> np.ndarray:
    """Give the flag `rejection.TRAIL` to good pixels under light that one frame alone has; returns their numbers (n).

    fwhm  (n) of the frames [pix], 0 or NaN where unknown
    """
    if held.count < 2 or min(held.shape) < 4:
        return np.zeros(held.count, int)
    allowance = rejection.ALWAYS + WIDER * rejection.allowances(fwhm)
    reach = _reach(centre.values, max(rejection.window(fwhm, 2.0), 3))
    # Where two frames only see the sky the one is the other's centre: both their allowances count.
    further = None if centre.pairs is None else _where_pairs(centre.pairs) * np.float32(allowance.max())
    lock = threading.Lock()  # a scratch file has one place at a time

    def one(number):
        difference, noise, known = _binned(held, number, centre, lock)
        allowed = allowance[number] if further is None else allowance[number] + further
        found = foreign(difference, noise, known, allowed * reach)
        if found is None:
            return 0
        with lock:
            flags = held.part(number, slice(0, held.shape[0]))[2].copy()
            under = _full(found, held.shape) & (flags == pile.GOOD)
            flags[under] = rejection.TRAIL
            held.flag(number, flags)
        return int(under.sum())

    with ThreadPoolExecutor(threads) as pool:
        return np.array(list((pool.map if threads > 1 else map)(one, range(held.count))))


def foreign(difference, noise, known, slack) -> np.ndarray | None:
    """Pixels (ny, nx) that are under light which one frame alone has; None for none.

    difference  frame less centre, noise of a pixel of full size, both float32 (ny, nx) in pixels of twice the size
    known       where there is something to compare
    slack       float32 (ny, nx), difference that stars are allowed
    """
    import cv2

    deviation = np.square(noise)
    deviation += np.square(slack)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.divide(difference, np.sqrt(deviation, out=deviation), out=deviation)
    unknown = None if known.all() else ~known
    if unknown is not None:
        z[unknown] = 0
    z -= _background(z, known)
    if unknown is not None:
        z[unknown] = 0
    smooth = cv2.GaussianBlur(z, (SPAN, SPAN), SMOOTHING, borderType=cv2.BORDER_REFLECT)
    calm = slack < noise
    calm &= known
    sample = smooth[calm] if np.count_nonzero(calm) > 100 else smooth[known]
    scatter = 1.4826 * np.nan_to_num(ordering.median_of(np.abs(sample, out=sample), True))
    if not scatter > 0 or not smooth.max() > TRAIL * scatter:
        return None
    seen = smooth > EDGE * scatter
    labels, number = _labelled(seen)
    shapes = _shapes(labels, number, smooth / scatter)
    out = np.zeros(seen.shape, bool)
    blobs = np.flatnonzero(~shapes.line & (shapes.peak > BLOB) & (shapes.length < LARGEST)) + 1
    if len(blobs):
        wanted = np.zeros(number + 1, bool)
        wanted[blobs] = True
        out |= _cores(wanted[labels], z)
    lines = np.flatnonzero(shapes.line & (shapes.peak > TRAIL))
    for one in lines[np.argsort(-shapes.length[lines], kind="stable")]:
        out |= labels == one + 1
    for one in lines[np.argsort(-shapes.length[lines], kind="stable")][:MOST]:
        out |= _along(labels == one + 1, seen, ~calm)
    return out if out.any() else None


def _labelled(seen: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers (ny, nx) of the structures of pixels that touch, also by their corners, 0 for none; and how many there are."""
    import cv2

    number, labels = cv2.connectedComponents(seen.view(np.uint8), connectivity=8)
    return labels, number - 1


@dataclass(frozen=True)
class _Shapes:
    """Of each structure its highest value, its length, and whether it is a line."""

    peak: np.ndarray
    length: np.ndarray
    line: np.ndarray


def _shapes(labels: np.ndarray, number: int, height: np.ndarray) -> _Shapes:
    y, x = np.nonzero(labels)
    which = labels[y, x] - 1
    peak = np.zeros(number)
    np.maximum.at(peak, which, height[y, x])
    count = np.maximum(np.bincount(which, minlength=number), 1)

    def mean(values):
        return np.bincount(which, values, number) / count

    my, mx = mean(y), mean(x)
    dy, dx = y - my[which], x - mx[which]
    yy, xx, xy = mean(dy * dy), mean(dx * dx), mean(dx * dy)
    half = np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    # Of a uniform bar the variance is a twelfth of the squared length; a single pixel has its own.
    long, wide = (np.sqrt(12 * np.maximum((xx + yy) / 2 + way * half, 0) + 1) for way in (1, -1))
    return _Shapes(peak, long, (long >= LONG) & (long >= SLIM * wide))


def _cores(structures: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Of structures that are no lines what stands out by itself, and what touches that: smoothing widened them."""
    import cv2

    scatter = 1.4826 * ordering.median_of(np.abs(z[z != 0]), True)
    core = (structures & (z > 3 * scatter)).view(np.uint8)
    return structures & (cv2.dilate(core, np.ones((3, 3), np.uint8)) != 0)


def _along(structure: np.ndarray, seen: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """A line where it is visible or may be: pixels (ny, nx) as wide as its structure, wherever parts of it are seen along
    its direction, between them where stars hide it, and a little beyond."""
    y, x = np.nonzero(structure)
    cy, cx = y.mean(), x.mean()
    _, axes = np.linalg.eigh(np.cov(np.stack([y, x])))
    dy, dx = axes[:, 1]
    along, across = (y - cy) * dy + (x - cx) * dx, (x - cx) * dy - (y - cy) * dx
    half = max(float(np.percentile(np.abs(across), 90)), 1.0)
    ny, nx = structure.shape
    reach = int(np.hypot(ny, nx)) + 1
    t = np.arange(-reach, reach + 1)
    inside = (np.rint(cy + t * dy) >= 0) & (np.rint(cy + t * dy) < ny)
    inside &= (np.rint(cx + t * dx) >= 0) & (np.rint(cx + t * dx) < nx)
    t = t[inside]

    def sampled(image, off=0):
        rows, columns = np.rint(cy + t * dy - off * dx).astype(int), np.rint(cx + t * dx + off * dy).astype(int)
        return image[np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1)]

    own = (t >= along.min()) & (t <= along.max()) & sampled(structure)
    visible = _without_short(sampled(seen, -1) | sampled(seen) | sampled(seen, 1), PIECE) | own
    shown = t[_bridged(visible, sampled(hidden))]
    if not len(shown):
        return structure
    rows, columns = np.mgrid[:ny, :nx].astype(np.float32)
    rows, columns = rows - np.float32(cy), columns - np.float32(cx)
    place = np.rint(rows * np.float32(dy) + columns * np.float32(dx)).astype(int) + reach + 1
    filled = np.zeros(2 * reach + 3, bool)
    filled[shown + reach + 1] = True
    return (np.abs(columns * np.float32(dy) - rows * np.float32(dx)) <= half) & filled[
        np.clip(place, 0, len(filled) - 1)
    ]


def _runs(mask: np.ndarray):
    """Starts and ends of the runs of True in a line."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return zip(edges[::2], edges[1::2], strict=True)


def _without_short(mask: np.ndarray, least: int) -> np.ndarray:
    out = mask.copy()
    for start, end in _runs(mask):
        if end - start < least:
            out[start:end] = False
    return out


def _bridged(visible: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Where a line is taken to be: where it is visible, where it is hidden next to that, and through gaps of 3 pixels."""
    out = visible.copy()
    for start, end in _runs(~visible):
        before, after = start > 0, end < len(visible)
        length, open_gap = end - start, int((~hidden[start:end]).sum())
        if before and after and (length <= 3 or (length <= BRIDGE and open_gap <= 0.3 * length)):
            out[start:end] = True
            continue
        veiled = hidden[start:end]
        first = int(np.argmin(veiled)) if not veiled.all() else length
        last = int(np.argmin(veiled[::-1])) if not veiled.all() else length
        if before and first <= STOP:
            out[start : start + first] = True
        if after and last <= STOP:
            out[end - last : end] = True
    return out


def _background(z: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What changes slowly, as clouds and skies that no plane fits; structures are sought on top of it."""
    import sep

    if min(z.shape) < 64 or np.count_nonzero(known) < 0.05 * z.size:
        return np.full(z.shape, np.nan_to_num(ordering.median_of(z[known], True)), np.float32)
    return sep.Background(z, mask=~known, bw=64, bh=64, fw=3, fh=3).back(dtype=np.float32)


def _binned(held: pile.Pile, number: int, centre: rejection.Centre, lock):
    """Of one image of a pile, in pixels of twice the size: mean difference to the centre, noise of a pixel of full size,
    and where at least two of the four pixels are known; (ny // 2, nx // 2)."""
    ny, nx = (side // 2 * 2 for side in held.shape)
    out = tuple(np.empty((ny // 2, nx // 2), kind) for kind in (np.float32, np.float32, bool))
    height = max(BAND // nx // 2, 1) * 2
    for start in range(0, ny, height):
        rows = slice(start, min(start + height, ny))
        with lock:
            values, sigmas, flags = (array[:, :nx] for array in held.part(number, rows))
        difference, variance = values - centre.values[rows, :nx], np.square(sigmas)
        if centre.pairs is not None:
            np.maximum(variance, centre.pairs[rows, :nx], out=variance)
        lost = (flags != pile.GOOD) | np.isnan(difference)
        difference[lost] = variance[lost] = 0
        missing = _by_two(lost.astype(np.float32))  # share of the four
        of_known = 1 / np.maximum(1 - missing, np.float32(0.25))
        part = slice(start // 2, rows.stop // 2)
        np.multiply(_by_two(difference), of_known, out=out[0][part])
        np.sqrt(_by_two(variance) * of_known, out=out[1][part])
        np.logical_and(missing <= 0.5, out[1][part] > 0, out=out[2][part])
    return out


def _by_two(image: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels, float32 (ny // 2, nx // 2)."""
    import cv2

    ny, nx = (side // 2 for side in image.shape)
    return cv2.resize(image[: 2 * ny, : 2 * nx], (nx, ny), interpolation=cv2.INTER_AREA)


def _reach(values: np.ndarray, size: int) -> np.ndarray:
    """What the centre rises by in windows of size x size pixels of twice the size, less noise: wings of stars change
    further out than single pixels tell."""
    return rejection.above_noise(rejection.spread(_by_two(rejection.filled(values)), size))


def _where_pairs(pairs: np.ndarray) -> np.ndarray:
    """1 where two values only are good, in pixels of twice the size."""
    return (_by_two(pairs) > 0).astype(np.float32)


def _full(binned: np.ndarray, shape) -> np.ndarray:
    """Pixels of twice the size in those of an image (ny, nx); an odd last row or column as the one before."""
    import cv2

    ny, nx = (2 * side for side in binned.shape)
    out = cv2.resize(binned.view(np.uint8), (nx, ny), interpolation=cv2.INTER_NEAREST).view(bool)
    if out.shape == shape:
        return out
    return np.pad(out, [(0, side - have) for side, have in zip(shape, out.shape, strict=True)], mode="edge")
