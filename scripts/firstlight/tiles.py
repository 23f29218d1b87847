"""A grid in tiles that fit into the processor's cache, with pixels that follow a frame's own wherever they do.

Frames of one camera are shifted and hardly turned: over hundreds of pixels the next pixel of the grid lies on the next pixel
of the frame. There the pixels to be added up are slices, and need not be looked up one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import kernels
from .positions import Lines, Positions, within

HEIGHT, PIXELS = 128, 1 << 15  # rows and pixels of a tile, at most
SMALL = 1 << 14  # pixels of a tile that is not worth being cut further
FEW = 1 << 9  # pixels up to which a tile that is not steady had better be filled pixel by pixel, with those of others
# pix, that a position may lie off the pixels that the kernel was made for: its polynomials are continued, and hardly differ
NEAR = 5e-5


@dataclass(frozen=True)
class Tile:
    """Some rows and columns of a grid; lines: where they lie on a frame, x, y, area and what was asked for.

    inside: whether all of it lies on the frame, or some may; None for a tile beside the frame, which has no lines
    steady: (row, column) of the first pixel that a kernel takes at the tile's first one, where those that it takes at all
            others lie as far from it as they do from theirs; else None
    nearest: the same for the nearest pixel; None where nobody has looked, too
    """

    rows: slice
    columns: slice
    lines: tuple[Lines, ...] = ()
    inside: bool | None = None
    steady: tuple[int, int] | None = None
    nearest: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(r, c)."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def place(self) -> tuple[slice, slice]:
        """Its pixels in an image of the grid."""
        return self.rows, self.columns

    @property
    def large(self) -> bool:
        """Whether it has enough pixels to be worth being filled together."""
        return self.steady is not None or self.shape[0] * self.shape[1] > FEW

    def at(self, rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
        """x, y, area, and what was asked for, of some pixels of its own."""
        return [line.first[columns] + rows * line.step[columns] for line in self.lines]

    def part(self, rows: slice, columns: slice) -> Tile:
        """Some of its own rows and columns."""
        at = [
            slice(own.start + s.start, own.start + s.stop) for own, s in zip(self.place, (rows, columns), strict=True)
        ]
        pixels = [p and (p[0] + rows.start, p[1] + columns.start) for p in (self.steady, self.nearest)]
        return Tile(*at, tuple(line.part(rows, columns) for line in self.lines), self.inside, *pixels)

    def columns_of(self, cuts) -> list[Tile]:
        """Its parts between columns."""
        return [
            self.part(slice(0, self.shape[0]), slice(a, b)) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if a < b
        ]


def tiles(positions: Positions, kernel: str, *more: np.ndarray):
    """All pixels of a grid in tiles; kernel that is to be steady; more: values at the exact positions for further lines."""
    height = positions.height(HEIGHT)
    for start in range(0, positions.shape[0], height):
        rows = slice(start, min(start + height, positions.shape[0]))
        there = positions.columns(rows) or slice(0, 0)
        lines = positions.lines(rows, there, positions.x, positions.y, positions.area, *more)
        strip = Tile(rows, there, tuple(lines))
        low, first, last, high = _on_frame(strip, positions.frame_shape)
        yield Tile(rows, slice(0, there.start + low))
        yield Tile(rows, slice(there.start + high, positions.shape[1]))
        for start, stop, inside in ((low, first, False), (first, last, True), (last, high, False)):
            for part in strip.columns_of((start, stop)):
                if inside:
                    part = replace(part, inside=True, nearest=steady(part, "nearest"))
                else:
                    part = replace(part, inside=False)
                yield from _steady_parts(part, kernel) if inside and not more else _small_parts(part)


def _on_frame(strip: Tile, shape) -> tuple[int, int, int, int]:
    """Columns of a strip from and up to which some pixel may lie on a frame (first and last), and all do (in between)."""
    ny, nx = shape
    x, y = ((line.first, line.row(strip.shape[0] - 1)) for line in strip.lines[:2])
    may = (np.maximum(*x) > -0.5) & (np.minimum(*x) < nx - 0.5) & (np.maximum(*y) > -0.5) & (np.minimum(*y) < ny - 0.5)
    low, high = _range(may)
    all_do = within(x[0], y[0], shape) & within(x[1], y[1], shape)
    first, last = _range(all_do)
    return (low, first, last, high) if first < last and all_do[first:last].all() else (low, high, high, high)


def _range(there: np.ndarray) -> tuple[int, int]:
    """First and beyond the last that is true; 0, 0 where none is."""
    found = np.flatnonzero(there)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)


def _steady_parts(tile: Tile, kernel: str) -> list[Tile]:
    """A tile of any width in parts, steady ones as far as they are worth it."""
    height, width = tile.shape
    column, row, sure = _first_taps(tile, kernel)
    changes = (np.diff(column) != 0) | (np.diff(row) != 0) | (np.diff(sure.astype(np.int8)) != 0)
    cuts = [0, *(np.flatnonzero(changes) + 1), width]
    if (len(cuts) - 1) * SMALL > height * width:
        return _small_parts(tile)
    parts = []
    for part, cut in zip(tile.columns_of(cuts), cuts, strict=False):
        if sure[cut]:
            parts += _small_parts(replace(part, steady=(int(row[cut]), int(column[cut]) + cut)))
        elif height > 1 and height * part.shape[1] > SMALL:
            for rows in (slice(0, height // 2), slice(height // 2, height)):
                parts += _steady_parts(part.part(rows, slice(0, part.shape[1])), kernel)
        else:
            parts += _small_parts(part)
    return parts


def steady(tile: Tile, kernel: str) -> tuple[int, int] | None:
    """The `Tile.steady` of a tile for a kernel."""
    column, row, sure = _first_taps(tile, kernel)
    if sure.all() and (column == column[0]).all() and (row == row[0]).all():
        return int(row[0]), int(column[0])
    return None


def _first_taps(tile: Tile, kernel: str):
    """For each column (c,) the first pixel of the kernel along x, less what it grows by along a row, and that along y on the
    first row; and whether on all rows it is that, or as far from it as the row. Between first and last row all changes
    by equal steps."""
    height, width = tile.shape
    near = 0.0 if kernel == "nearest" else NEAR
    found, sure = [], np.ones(width, bool)
    for line, across, down in ((tile.lines[0], 1, 0), (tile.lines[1], 0, 1)):
        top = line.first - across * np.arange(width)
        bottom = top + (height - 1) * (line.step - down)
        found.append(kernels.first(np.minimum(top, bottom) + near, kernel))
        sure &= kernels.first(np.maximum(top, bottom) - near, kernel) <= found[-1]
    return *found, sure


def _small_parts(tile: Tile) -> list[Tile]:
    """A tile in parts of at most `PIXELS`."""
    height, width = tile.shape
    number = -(-width // (PIXELS // height))
    return tile.columns_of([width * k // number for k in range(number + 1)])
