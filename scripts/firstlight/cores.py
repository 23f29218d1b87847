"""Saturated cores of stars in a picture: the colour that their wings have.

By lists of pixels: they are few, and images are large.
"""

from __future__ import annotations

import numpy as np

from .planes import moffat

WINGS = 4  # pixels around a saturated core that tell its colour


def colour_cores(
    colours: list[np.ndarray],
    clipped: np.ndarray,
    seen: np.ndarray,
    seeing: list[tuple[float, float]] | None = None,
) -> None:
    """Give saturated cores (bool (ny, nx), with a pixel's width around each) the colour of their wings, in place.

    colours  float32 (ny, nx) each, linear, less their sky; seen: bool (ny, nx), where there are data
    seeing   FWHM [pix] and Moffat exponent of the stars in each of the colours, where these differ

    The ratios are those of the sums over the up to 4 pixels around, each divided by the share of a star's light that lies
    there: what has the worse seeing has the brighter wings, and would tint the core. The brightest channel of a core's
    pixel keeps its value, and a saturated one is at least as bright as the pixels next to the core. Cores without wings
    turn white.
    """
    if not clipped.any():
        return
    inside = _grown(clipped) & seen
    rows, columns = np.nonzero(inside)
    core = labels(rows, columns)
    at, near = _wings(rows, columns, core, inside, seen)
    number = int(core.max()) + 1 if len(core) else 0
    fluxes = np.stack([np.bincount(near, colour.ravel()[at], number) for colour in colours])
    if seeing is not None:
        middles = [np.bincount(core, place, number) / np.bincount(core, minlength=number) for place in (rows, columns)]
        square = (at // seen.shape[1] - middles[0][near]) ** 2 + (at % seen.shape[1] - middles[1][near]) ** 2
        fluxes /= np.stack([np.bincount(near, moffat(square, *each), number) + 1e-30 for each in seeing])
    strongest = fluxes.max(axis=0)
    ratios = np.where(strongest > 0, np.maximum(fluxes, 0) / np.where(strongest > 0, strongest, 1), 1)
    bright = np.maximum.reduce([colour[inside] for colour in colours])
    full, least = clipped[inside], np.full(number, -np.inf, np.float32)
    np.maximum.at(least, core[~full], bright[~full])
    bright = np.where(full, np.maximum(bright, least[core]), bright)
    share = np.where(full, np.float32(1), np.float32(0.5))  # a core's rim is between it and its wings
    for colour, ratio in zip(colours, ratios.astype(np.float32), strict=True):
        colour[inside] += share * (bright * ratio[core] - colour[inside])


def labels(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Number, from 0, of the group of touching pixels (corners too) that each of n pixels, in order of rows, belongs to."""
    wide = int(columns.max(initial=0)) + 3  # so that ends of rows do not touch the next row
    flat = rows.astype(np.int64) * wide + columns
    pairs = []
    for step in (1, wide - 1, wide, wide + 1):
        place = np.minimum(np.searchsorted(flat, flat + step), max(len(flat) - 1, 0))
        there = np.flatnonzero(flat[place] == flat + step)
        pairs.append((there, place[there]))
    one, other = (np.concatenate(part) for part in zip(*pairs, strict=True))
    group = np.arange(len(flat))
    while True:
        lower = np.minimum(group[one], group[other])
        new = group.copy()
        for side in (one, other):
            np.minimum.at(new, group[side], lower)
        new = new[new]
        if np.array_equal(new, group):
            return np.unique(group, return_inverse=True)[1]
        group = new


def _grown(image: np.ndarray) -> np.ndarray:
    """What is True, and its eight neighbours."""
    wide = image.copy()
    wide[1:] |= image[:-1]
    wide[:-1] |= image[1:]
    grown = wide.copy()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown


def _wings(rows, columns, core, inside: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (in the flat image) around cores that are seen, each once, and the core that each belongs to."""
    ny, nx = inside.shape
    walls = np.pad(inside, 1, constant_values=True)  # outside of the image there are no wings
    rim = ~(
        walls[rows, columns + 1]
        & walls[rows + 2, columns + 1]
        & walls[rows + 1, columns]
        & walls[rows + 1, columns + 2]
    )
    span = np.arange(-WINGS, WINGS + 1)
    y, x = np.broadcast_arrays(rows[rim, None, None] + span[:, None], columns[rim, None, None] + span)
    there = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
    own = np.broadcast_to(core[rim, None, None], there.shape)[there]
    at, first = np.unique(y[there] * nx + x[there], return_index=True)
    good = (seen & ~inside).ravel()[at]
    return at[good], own[first][good]
