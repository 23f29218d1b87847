"""Kernels that values between pixels are made with: their shapes, and the weights of the pixels around a position."""

from __future__ import annotations

from functools import cache

import numpy as np


def _cubic(t):
    t = np.abs(t)
    outer = np.maximum(2 - t, 0)
    inner = np.maximum(1 - t, 0)
    return outer * outer * (1 - t) / 2 + inner * inner * (2 * t - 1)


def _triangle(t):
    return np.maximum(1 - np.abs(t), 0)


def _box(t):
    return ((t >= -0.5) & (t < 0.5)).astype(np.float32)


def _lanczos3(t):
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)


# Half the width in pixels, and the kernel: Keys 1981 (IEEE ASSP 29, 1153) with a = -1/2, and what everybody knows.
KERNELS = {"cubic": (2.0, _cubic), "bilinear": (1.0, _triangle), "nearest": (0.5, _box), "lanczos3": (3.0, _lanczos3)}
NEGATIVE = ("cubic", "lanczos3")  # those that undershoot beside a star that is cut off


def count(kernel: str, widest: float | None = None) -> int:
    """How many pixels along one axis a kernel takes, widened by up to `widest`."""
    return int(np.ceil(2 * KERNELS[kernel][0] * (widest or 1.0) - 1e-6))


def first(position: np.ndarray, kernel: str) -> np.ndarray:
    """The first of the pixels (whole float) that a kernel takes for positions along one axis, and the next `count` - 1."""
    if kernel == "nearest":
        return np.floor(position + _HALF)
    return np.floor(position) - (count(kernel) // 2 - 1)


# Halves all go one way, rounding errors or not: else a shift by half a pixel doubles some pixels and skips others; at the
# end of a row it may be the pixel beyond.
_HALF = 0.500001


def nearest(position: np.ndarray) -> np.ndarray:
    """The pixel (int32) next to positions along one axis."""
    return first(position, "nearest").astype(np.int32)


def weights(kernel: str, t: np.ndarray, out: np.ndarray) -> None:
    """Weights out (count, ...) of the pixels from `first` on; t (...) the position less `first`, less all but one of the
    pixels before it, so from 0 to 1. All float32; t is left as it is."""
    if kernel == "nearest":
        out[0] = 1
    elif kernel == "bilinear":
        np.subtract(1, t, out=out[0])
        out[1] = t
    elif kernel == "cubic":
        _cubic_weights(t, out)
    else:
        _lanczos3_weights(t, out)


def weights_by_rows(kernel: str, first: np.ndarray, step: np.ndarray, out: np.ndarray) -> None:
    """`weights` out (count, r, c) for t that begins with `first` (c,) and grows by `step` (c,) from row to row.

    On a column each weight is a polynomial of the row, or so near to one that few rows tell all the others.
    """
    rows, known = out.shape[1], _ROWS[kernel]
    if rows <= 2 * known or (kernel == "lanczos3" and np.abs(step).max() * rows > 0.1):
        weights(kernel, (first + np.arange(rows)[:, None] * step).astype(np.float32), out)
        return
    on = np.linspace(0, rows - 1, known)
    some = np.empty((len(out), known, out.shape[2]), np.float32)
    weights(kernel, (first + on[:, None] * step).astype(np.float32), some)
    np.matmul(_from_few(rows, known), some, out=out)


@cache
def _from_few(rows: int, known: int) -> np.ndarray:
    """Weights (rows, known) of the values on `known` rows, evenly spread, in the polynomial through them on each row."""
    on = np.linspace(0, rows - 1, known)
    table = [[np.prod([(row - b) / (a - b) for b in on if b != a]) for a in on] for row in range(rows)]
    return np.array(table, np.float32)


_ROWS = {"nearest": 1, "bilinear": 2, "cubic": 4, "lanczos3": 4}


def _cubic_weights(t, out) -> None:
    """With u = 1 - t: w0 = -t u^2 / 2, w3 = -t^2 u / 2, w1 = u + w3 - 2 w0, w2 = t + w0 - 2 w3."""
    w0, w1, w2, w3 = out
    np.subtract(1, t, out=w1)
    np.multiply(t, w1, out=w2)
    w2 *= np.float32(-0.5)
    np.multiply(w2, w1, out=w0)
    np.multiply(w2, t, out=w3)
    np.subtract(w3, w0, out=w2)
    w1 += w2
    w1 -= w0
    np.subtract(t, w2, out=w2)
    w2 -= w3


def _lanczos3_weights(t, out) -> None:
    """Divided by their sum. At k - t the kernel is in proportion to (-1)^k sin(pi (k - t) / 3) / (k - t)^2, and the sine
    of a difference needs the sine and the cosine of pi t / 3 alone."""
    t = np.clip(t, 1e-6, 1 - 1e-6)  # a pixel itself has 0 / 0
    sine, cosine = np.sin(t * np.float32(np.pi / 3)), np.cos(t * np.float32(np.pi / 3))
    total, part = np.zeros_like(t), np.empty_like(t)
    for weight, k in zip(out, range(-2, 4), strict=True):
        sign = -1 if k % 2 else 1
        np.multiply(sine, np.float32(sign * np.cos(np.pi * k / 3)), out=weight)
        np.multiply(cosine, np.float32(sign * np.sin(np.pi * k / 3)), out=part)
        weight -= part
        np.subtract(k, t, out=part)
        part *= part
        weight /= part
        total += weight
    np.divide(1, total, out=total)
    for weight in out:
        weight *= total


def wide_weights(kernel: str, offset: np.ndarray, stretch: np.ndarray, out: np.ndarray) -> None:
    """Weights out (n, ...), divided by their sum, of a kernel widened by the factor `stretch`, for n pixels from the one at
    `offset` from the position on. All float32."""
    shape = KERNELS[kernel][1]
    narrow = 1 / stretch
    at, total = offset * narrow, np.zeros_like(offset)
    for weight in out:
        weight[...] = shape(at)
        total += weight
        at += narrow
    np.divide(1, total, out=total)
    for weight in out:
        weight *= total


def taps(position: np.ndarray, kernel: str, stretch: np.ndarray | None = None):
    """First pixel (int32) and the weights (n, ...) float32 of the pixels from there on, for positions along one axis.

    stretch  factor (like position) by which the kernel is widened, taken for 1 below 1; None leaves it as it is
    """
    if stretch is None:
        start = first(position, kernel)
        out = np.empty((count(kernel), *position.shape), np.float32)
        weights(kernel, (position - start - (len(out) - 1) // 2).astype(np.float32), out)
        return start.astype(np.int32), out
    stretch = np.maximum(stretch, 1.0)
    start = np.floor(position - KERNELS[kernel][0] * stretch) + 1
    out = np.empty((count(kernel, stretch.max(initial=1.0)), *position.shape), np.float32)
    wide_weights(kernel, (start - position).astype(np.float32), stretch.astype(np.float32), out)
    return start.astype(np.int32), out
