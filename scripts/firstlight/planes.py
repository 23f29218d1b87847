"""Stacks made ready for a picture: cut to what all filters cover, brought to one seeing, their sky taken away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .backdrop import Backdrop, backdrops
from .frame import Mask, size

KEPT = 0.6  # of what any filter covers: less than that is not cut down to what all cover
COARSE = 8  # pixels of a square, when it is asked what is covered
RAGGED = 0.02  # of a row or column at the edge that may lack data
DAMPED = 1e-5  # of a star's Fourier transform, below which the other's is not divided by it
SHARPER = 0.05  # pixels of FWHM that filters may differ by without being matched


@dataclass
class Plane:
    """One filter: data (ny, nx) less its sky, 0 where there are none; its noise; where it has data, where it is
    saturated; the sky that was taken away."""

    data: np.ndarray
    noise: float
    seen: np.ndarray
    clipped: np.ndarray
    sky: Backdrop


def check(stacks: dict) -> None:
    """Raise ValueError where the stacks {filter: (data, mask, ...)} are not of one size."""
    first = None
    for name, (data, mask, *_) in stacks.items():
        first = first or (name, data)
        for what, array in ((name, data), (f"mask of {name}", mask)):
            if array is not None and array.shape != first[1].shape:
                raise ValueError(f"{what} is {size(array)} but {first[0]} is {size(first[1])}: are all on one grid?")


def planes(stacks: dict, names: list, background: str = "plane") -> dict[str, Plane]:
    """The stacks of some filters less their sky (see `backdrops`); what is given is left as it is."""
    found = {}
    for name, sky in backdrops(stacks, names, background).items():
        data, mask, *_ = stacks[name]
        seen = _seen(data, mask)
        clipped = np.zeros(data.shape, bool) if mask is None else ((mask & Mask.SATURATED) != 0) & seen
        level = sky.image(data.shape) if sky.coefficients.size > 1 else np.float32(sky.coefficients[0, 0])
        plane = np.subtract(data, level, dtype=np.float32)
        plane[~seen] = 0
        found[name] = Plane(plane, sky.noise, seen, clipped, sky)
    return found


def _seen(data: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    seen = np.isfinite(data)
    if mask is not None:
        seen &= (mask & Mask.NO_DATA) == 0
    return seen


# What is covered


def covered(stacks: dict, crop: str = "common") -> tuple[slice, slice]:
    """The part (rows, columns) of stacks {filter: (data, mask, ...)} that a picture shows.

    crop  "common": the largest rectangle in which every filter has data, unless it keeps less than 60 % of what any
          filter covers; "all": what any filter covers
    Holes within the image, such as pixels that are bad in every frame, do not count; edges may be ragged by 2 %.
    """
    if crop not in ("common", "all"):
        raise ValueError(f"crop is {crop!r} but must be one of common, all")
    seen = [_seen(data, mask) for data, mask, *_ in stacks.values()]
    anywhere = np.logical_or.reduce(seen)
    whole = _box(anywhere)
    everywhere = np.logical_and.reduce(seen)
    if crop == "all" or not anywhere.any() or everywhere.all():
        return whole
    common = _trimmed(everywhere, _largest(_coarse(everywhere), everywhere.shape))
    kept = anywhere[common].sum() / anywhere.sum()
    return common if kept >= KEPT else whole


def _box(seen: np.ndarray) -> tuple[slice, slice]:
    """The rectangle around all that is True; everything where nothing is."""
    if not seen.any():
        return slice(0, seen.shape[0]), slice(0, seen.shape[1])
    ends = (np.flatnonzero(seen.any(axis=axis))[[0, -1]] for axis in (1, 0))
    return tuple(slice(int(first), int(last) + 1) for first, last in ends)


def _coarse(seen: np.ndarray) -> np.ndarray:
    """In squares of 8 pixels: True where most is."""
    ny, nx = (max(n // COARSE, 1) for n in seen.shape)
    sides = [seen.shape[0] // ny, seen.shape[1] // nx]
    cut = seen[: ny * sides[0], : nx * sides[1]].reshape(ny, sides[0], nx, sides[1])
    return cut.mean(axis=(1, 3), dtype=np.float32) > 0.5


def _largest(good: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """The largest rectangle of squares that are all True, in pixels of an image of `shape`.

    Row by row, with the height of True above each column; a rectangle under such a skyline ends where it is lower.
    """
    height, best, found = np.zeros(good.shape[1], int), 0, (0, 0, 0, 0)
    for row, line in enumerate(good):
        height = np.where(line, height + 1, 0)
        open_ = []  # (first column, height), rising
        for column, high in enumerate([*height.tolist(), 0]):
            start = column
            while open_ and open_[-1][1] >= high:
                start, tall = open_.pop()
                if tall * (column - start) > best:
                    best, found = tall * (column - start), (row + 1 - tall, row + 1, start, column)
            open_.append((start, high))
    sides = [n // m for n, m in zip(shape, good.shape, strict=True)]
    top, bottom, left, right = found
    ends = [n if stop == m else stop * side
            for n, m, stop, side in zip(shape, good.shape, (bottom, right), sides, strict=True)]  # fmt: skip
    return slice(top * sides[0], ends[0]), slice(left * sides[1], ends[1])


def _trimmed(seen: np.ndarray, box: tuple[slice, slice]) -> tuple[slice, slice]:
    """The box, less rows and columns at its edges that lack data, and with those next to it that do not."""
    (top, bottom), (left, right) = ((part.start, part.stop) for part in box)
    ny, nx = seen.shape

    def lacks(row=None, column=None):
        line = seen[row, left:right] if column is None else seen[top:bottom, column]
        return not line.size or 1 - line.mean() > RAGGED

    for _ in range(4 * COARSE):
        before = top, bottom, left, right
        if bottom - top > 1 and right - left > 1:
            top, bottom = top + lacks(row=top), bottom - lacks(row=bottom - 1)
            left, right = left + lacks(column=left), right - lacks(column=right - 1)
        if before == (top, bottom, left, right):
            break
    for _ in range(COARSE):
        top -= top > 0 and not lacks(row=top - 1)
        bottom += bottom < ny and not lacks(row=bottom)
        left -= left > 0 and not lacks(column=left - 1)
        right += right < nx and not lacks(column=right)
    return slice(int(top), int(bottom)), slice(int(left), int(right))


# One seeing


def moffat(square: np.ndarray, fwhm: float, beta: float) -> np.ndarray:
    """Share of a star's light in a pixel, by the square of its distance from the middle (Moffat 1969, A&A 3, 455)."""
    alpha = (fwhm / 2) ** 2 / (2 ** (1 / beta) - 1)
    return (beta - 1) / np.pi / alpha * (1 + square / alpha) ** -beta


def matched(stacks: dict, fwhm: dict[str, float], names: list, beta: dict[str, float] | None = None) -> dict:
    """The stacks with those of `names` brought to the stars of the widest among them.

    fwhm, beta  {filter: pixels}, {filter: Moffat exponent}; a filter without FWHM (0 or None) is left as it is, one
                without exponent has 4
    What has data is convolved with a kernel whose Fourier transform is that of the widest Moffat profile over that of
    the filter's own, 1 at most: cores and wings become alike, and nothing is sharpened. Saturation spreads by as much as
    its light does.
    """
    beta = beta or {}
    known = [name for name in names if fwhm.get(name)]
    widest = max(known, key=lambda name: fwhm[name], default=None)
    smooth = dict(stacks)
    for name in known:
        if fwhm[widest] - fwhm[name] > SHARPER:
            own, goal = ((fwhm[each], beta.get(each) or 4.0) for each in (name, widest))
            reach = int(np.ceil(np.sqrt(goal[0] ** 2 - own[0] ** 2) / 2))
            smooth[name] = (*_convolved(*stacks[name][:2], kernel(own, goal), reach), *stacks[name][2:])
    return smooth


def kernel(own: tuple[float, float], goal: tuple[float, float]) -> np.ndarray:
    """What brings stars of one FWHM [pix] and Moffat exponent to another: (n, n), n odd, of sum 1, the middle at [0, 0] as
    Fourier transforms have it."""
    n = 2 * int(np.ceil(8 * goal[0])) + 1
    place = np.fft.fftfreq(n, 1 / n)
    square = place[:, None] ** 2 + place**2
    one, other = (np.fft.rfft2(profile / profile.sum()) for profile in (moffat(square, *each) for each in (own, goal)))
    ratio = other * one.conj() / (np.abs(one) ** 2 + DAMPED**2)
    found = np.fft.irfft2(ratio / np.maximum(np.abs(ratio), 1), s=(n, n))
    return found / found.sum()


def _convolved(data, mask, small: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray | None]:
    from scipy.fft import irfft2, next_fast_len, rfft2
    from scipy.ndimage import binary_dilation

    seen, half = _seen(data, mask), len(small) // 2
    shape = tuple(next_fast_len(n + 2 * half, real=True) for n in data.shape)
    spread = np.zeros(shape, np.float32)
    at = np.roll(np.arange(-half, half + 1), half + 1)
    spread[np.ix_(at, at)] = small
    spread = rfft2(spread)

    def blurred(image):
        ends = [(half, size - half - n) for size, n in zip(shape, image.shape, strict=True)]
        out = irfft2(rfft2(np.pad(image, ends, mode="edge")) * spread, s=shape)
        return out[half : half + image.shape[0], half : half + image.shape[1]]

    level = np.float32(np.median(data[seen])) if seen.any() else np.float32(0)
    light = blurred(np.where(seen, data - level, np.float32(0)))
    if not seen.all():
        light = np.where(
            seen, light / np.maximum(blurred(seen.astype(np.float32)), np.float32(0.1)), np.float32(np.nan)
        )
    if mask is not None and (full := (mask & Mask.SATURATED) != 0).any():
        mask = mask | np.where(binary_dilation(full, iterations=reach), Mask.SATURATED, 0).astype(np.uint8)
    return light + level, mask
