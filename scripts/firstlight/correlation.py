"""Noise that the pixels of a grid share, because they take from the same pixels of a frame."""

from __future__ import annotations

import numpy as np

from . import kernels
from .positions import Positions, within

RADII = (1, 2, 3, 5, 10)  # pix, of the circles that factors are given for
# Multiples of these fill a square evenly: powers of 1 / 1.3247..., the root of x^3 = x + 1.
EVEN = np.array([0.7548776662466927, 0.5698402909980532])


def noise_factors(positions: Positions, kernel: str) -> list[float]:
    """For circles of the `RADII` in pixels of the grid: the noise of their sum over what their pixels' sigmas tell, which
    share pixels of the frame.

    With weights w_ip of the frame's pixels p in the grid's pixels i: factor^2 = sum_p (sum_i w_ip)^2 / sum_i sum_p w_ip^2
    over the pixels i of a circle, averaged over circles (above) and pixels (below the line) that are spread over the part
    of the grid that the frame covers, at their real positions. 1 for a frame that is not moved at all.
    """
    weight, _ = _weights(positions, kernel, _spread_out(positions, 4000, 0)[:, None, :])
    alone = float((weight**2).sum() / weight.shape[1])
    factors = []
    for radius in RADII:
        dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
        circle = np.column_stack([dx, dy])[dx**2 + dy**2 <= radius**2]
        middle = _spread_out(positions, max(10_000 // len(circle), 50), radius)
        weight, place = _weights(positions, kernel, middle[:, None, :] + circle)
        together = np.bincount(place.ravel(), weight.ravel())
        factors.append(float(np.sqrt((together**2).sum() / (alone * len(middle) * len(circle)))))
    return factors


def noise_cards(factors) -> dict:
    """Header cards of what `noise_factors` gives, or of a stack's; none for NaN."""
    return {
        f"NCORR{radius:02d}": (round(float(factor), 4), f"noise in circle of {radius} pix over pixels' sigmas")
        for radius, factor in zip(RADII, factors, strict=True)
        if np.isfinite(factor)
    }


def _weights(positions: Positions, kernel: str, pixels: np.ndarray):
    """Weights (taps, n, m) of the frame's pixels in the grid's pixels (n, m, 2), and the places of these taps, numbered so
    that each of the n groups has numbers of its own."""
    columns, rows = (np.clip(pixels[..., axis], 0, positions.shape[1 - axis] - 1) for axis in (0, 1))
    x, y = positions.at(columns, rows)
    stretch = positions.at(columns, rows, *positions.stretch) if positions.widest() else (None, None)
    (first_x, weights_x), (first_y, weights_y) = (
        kernels.taps(x, kernel, stretch[0]),
        kernels.taps(y, kernel, stretch[1]),
    )
    first_x, first_y = (first - first.min(axis=1, keepdims=True) for first in (first_x, first_y))
    width, height = first_x.max() + len(weights_x), first_y.max() + len(weights_y)
    place = (np.arange(len(pixels))[:, None] * height + first_y) * width + first_x
    shift = np.arange(len(weights_y))[:, None] * width + np.arange(len(weights_x))
    weight = weights_y[:, None] * weights_x
    return weight.reshape(-1, *place.shape), shift.reshape(-1, 1, 1) + place


def _spread_out(positions: Positions, count: int, margin: int) -> np.ndarray:
    """About `count` pixels (n, 2) of the grid (x, y) spread over the part that a frame covers, away from its edges where it
    is large; scattered, so that no period of the grid's pixels on the frame's is met again and again."""
    inside = positions.inside
    rows, columns = np.nonzero(inside if inside.any() else np.isfinite(positions.x))
    known = np.column_stack([positions.nodes[0][columns], positions.nodes[1][rows]])
    known = np.clip(known, 0, np.array(positions.shape[::-1]) - 1)
    low, high = known.min(axis=0), known.max(axis=0)
    away = np.minimum(margin, (high - low) // 3)
    low, high = low + away, high - away
    samples = int(np.ceil(np.sqrt(count)))
    cells = np.stack(np.meshgrid(np.arange(samples), np.arange(samples)), axis=-1).reshape(-1, 2)
    scatter = np.arange(1, len(cells) + 1)[:, None] * EVEN % 1
    found = np.floor(low + (cells + scatter) / samples * (high - low)).astype(int)
    x, y = positions.at(*found.T)
    on = within(x, y, positions.frame_shape)
    return found[on] if on.any() else known[:1]
