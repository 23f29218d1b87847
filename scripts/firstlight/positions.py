"""Where the pixels of a grid lie on a frame: exact on a lattice of them, interpolated in between."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

COARSEST, FINEST = 64, 4  # pixels between exact positions
ERROR = 1e-4  # pix, that a position may be off by: where it would be more there are more exact ones, and lower strips
# A kernel one pixel wide sees all of a frame whose pixels are smaller than the grid's by up to this much: at 1.2 cubic and
# bilinear lose 0.1 and 0.5 % of depth, at 1.5 already 5 and 6 %. From here on they are widened by the scale.
WIDEN = 1.2


@dataclass(frozen=True)
class Lines:
    """Values of pixels that change linearly from row to row: `first` (c,) on the first row, by `step` (c,) each row."""

    first: np.ndarray
    step: np.ndarray

    def row(self, number: int) -> np.ndarray:
        """The values on one row."""
        return self.first + number * self.step

    def part(self, rows: slice, columns: slice) -> Lines:
        """Those of some rows and columns alone."""
        first = self.row(rows.start) if rows.start else self.first
        return Lines(first[columns], self.step[columns])

    def less(self, first, step: float, out: np.ndarray) -> np.ndarray:
        """out (rows, c) float32: the values less `first` (a number or (c,)) on the first row, and by `step` more each row."""
        steps = (self.step - step).astype(np.float32)
        np.multiply(np.arange(len(out), dtype=np.float32)[:, None], steps, out=out)
        out += (self.first - first).astype(np.float32)
        return out


class Positions:
    """Where the pixels of a grid lie on a frame.

    wcs of the frame, of shape `frame_shape` (ny, nx); grid_wcs and shape (ny, nx) of the grid. The distortion (SIP) of
    both is used. In between the exact positions a cubic polynomial goes through the four nearest ones along each axis.
    step: pixels between exact positions: `COARSEST`, or half as many until the error in between is below `ERROR` on the
    frame, which falls to a sixteenth each time. nodes: the pixels of the grid that these are at, columns and rows.
    x, y, area: at the exact positions, (rows, columns); area of a grid pixel in pixels of the frame. stretch: the step
    on the frame's x and y that one pixel of the grid makes, two arrays.
    """

    def __init__(self, wcs, grid_wcs, shape, frame_shape=None):
        self.shape, self.frame_shape = shape, frame_shape or shape
        self.step = COARSEST
        self._measure(wcs, grid_wcs)
        while self.step > FINEST and (self._cell() > min(self.frame_shape) / 8 or self._error() > ERROR):
            self.step //= 2
            self._measure(wcs, grid_wcs)

    def _measure(self, wcs, grid_wcs) -> None:
        """Exact positions every `step` pixels, from one before the grid to one beyond it."""
        self.nodes = [np.arange(-self.step, size + 2 * self.step, self.step) for size in self.shape[::-1]]
        x, y = np.meshgrid(*self.nodes)
        sky = grid_wcs.all_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0)
        self.x, self.y = (column.reshape(x.shape) for column in on_frame(wcs, sky, self.frame_shape).T)
        dx_dy, dx_dx = np.gradient(self.x, self.step, edge_order=2)
        dy_dy, dy_dx = np.gradient(self.y, self.step, edge_order=2)
        self.area = np.abs(dx_dx * dy_dy - dx_dy * dy_dx)
        self.stretch = np.hypot(dx_dx, dx_dy), np.hypot(dy_dx, dy_dy)

    def _cell(self) -> float:
        """Side, in pixels of the frame, of the squares that exact positions are the corners of; 0 where none is known."""
        known = [stretch[np.isfinite(stretch)] for stretch in self.stretch]
        return self.step * max((median(part) for part in known if part.size), default=0.0)

    def _worst(self, off) -> float:
        """The largest length of two images of x and y at the exact positions, on the frame or next to it; 0 for none."""
        return float(np.fmax.reduce(np.hypot(*off)[self._near()], initial=0.0))

    def _near(self) -> np.ndarray:
        """Which of the exact positions lie on the frame or next to it; bool (rows, columns)."""
        (ny, nx), beside = self.frame_shape, self._cell()
        return (self.x > -beside) & (self.x < nx + beside) & (self.y > -beside) & (self.y < ny + beside)

    def _error(self) -> float:
        """How far (pix) positions may be off, at the most: a sixteenth of what those of a lattice twice as coarse are in
        the middle between its own along a row and a column together. 0 where there are too few to tell."""
        off = []
        for values in (self.x, self.y):
            here = np.zeros(values.shape)
            for v, out in ((values, here), (values.T, here.T)):
                out[3:-3] += np.abs(v[3:-3] - (9 * (v[2:-4] + v[4:-2]) - v[:-6] - v[6:]) / 16)
            off.append(here)
        return self._worst(off) / 16

    def height(self, most: int) -> int:
        """Up to how many rows, at most so many, positions change linearly from row to row, within `ERROR`."""
        bend = [np.abs(np.diff(values, 2, axis=0, prepend=np.nan, append=np.nan)) for values in (self.x, self.y)]
        bend = self._worst(bend) / self.step**2
        return max(min(int(np.sqrt(8 * ERROR / bend)) if bend > 1e-12 else most, most), 1)

    @property
    def inside(self) -> np.ndarray:
        """Which of the exact positions lie on the frame; bool (rows, columns)."""
        return within(self.x, self.y, self.frame_shape)

    def typical(self, values: np.ndarray) -> float:
        """Median of values at the exact positions over those on the frame; over all where none is."""
        return median(values[self.inside if self.inside.any() else np.isfinite(values)])

    def widest(self) -> float | None:
        """By how much kernels are to be widened at the most; None where they are not."""
        where = self.inside if self.inside.any() else slice(None)
        if max(self.typical(stretch) for stretch in self.stretch) <= WIDEN:
            return None
        return float(max(np.nanmax(stretch[where]) for stretch in self.stretch))

    def affine(self) -> np.ndarray:
        """(2, 3): least-squares x', y' on the frame = matrix @ (x, y, 1) on the grid, over the part on the frame."""
        for where in (self.inside, self._near(), np.isfinite(self.x)):
            rows, columns = np.nonzero(where)
            design = np.column_stack([self.nodes[0][columns], self.nodes[1][rows], np.ones(len(rows))])
            if len(rows) >= 3 and np.linalg.matrix_rank(design) == 3:  # a small frame may hold one line of them
                break
        on_frame = np.column_stack([self.x[rows, columns], self.y[rows, columns]])
        return np.linalg.lstsq(design, on_frame, rcond=None)[0].T

    def turned(self, turn: Turn) -> Positions:
        """The same on the frame as `turn` turns it."""
        new = copy.copy(self)
        new.frame_shape = self.frame_shape[::-1] if turn.transposed else self.frame_shape
        x, y = (self.y, self.x) if turn.transposed else (self.x, self.y)
        ny, nx = new.frame_shape
        new.x, new.y = nx - 1 - x if turn.flip_x else x, ny - 1 - y if turn.flip_y else y
        new.stretch = self.stretch[::-1] if turn.transposed else self.stretch
        return new

    def upright(self) -> Turn:
        """How the frame is to be turned for its rows to run along the grid's, as far as right angles can."""
        matrix = self.affine()[:, :2]
        transposed = abs(matrix[0, 1]) + abs(matrix[1, 0]) > abs(matrix[0, 0]) + abs(matrix[1, 1])
        along, up = np.diag(matrix[::-1] if transposed else matrix)
        return Turn(bool(transposed), bool(along < 0), bool(up < 0))

    def columns(self, rows: slice) -> slice | None:
        """The columns of the grid, at most, that lie on the frame in some rows; None where none does."""
        ny, nx = self.frame_shape
        there = slice(rows.start // self.step + 1, (rows.stop - 1) // self.step + 3)
        x, y = self.x[there], self.y[there]
        beside = 2 * self.step * np.maximum(*self.stretch)[there]
        near = (x > -beside) & (x < nx + beside) & (y > -beside) & (y < ny + beside)
        found = np.flatnonzero(near.any(axis=0))
        if not len(found):
            return None
        low, high = self.nodes[0][found[[0, -1]]]
        return slice(int(np.clip(low, 0, self.shape[1])), int(np.clip(high + 1, 0, self.shape[1])))

    def lines(self, rows: slice, columns: slice, *values: np.ndarray) -> list[Lines]:
        """x, y and the area on some rows and columns, as straight from the first row to the one beyond the last as
        `height` says; or `values` given at the exact positions."""
        low = columns.start // self.step
        high = max(-(-columns.stop // self.step), low)  # columns from node low + 1 up to node high + 1
        there = slice(columns.start - low * self.step, columns.stop - low * self.step)
        part = _cubic(np.arange(self.step) / self.step)
        out = []
        for coarse in values or (self.x, self.y, self.area):
            ends = []
            for row in (rows.start, rows.stop):
                j = min(row // self.step, len(coarse) - 4)
                along = _cubic(row / self.step - j) @ coarse[j : j + 4, low : high + 3]
                four = np.stack([along[k : k + high - low] for k in range(4)], axis=1)
                ends.append((four @ part.T).ravel()[there])
            out.append(Lines(ends[0], (ends[1] - ends[0]) / (rows.stop - rows.start)))
        return out

    def rows(self, rows: slice, *values: np.ndarray) -> list[np.ndarray]:
        """x, y and the area (r, nx) on some rows of the grid; or `values` given at the exact positions."""
        columns, values = slice(0, self.shape[1]), values or (self.x, self.y, self.area)
        single = [self.lines(slice(row, row + 1), columns, *values) for row in range(rows.start, rows.stop)]
        return [np.array([lines[k].first for lines in single]) for k in range(len(values))]

    def at(self, x: np.ndarray, y: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
        """x and y, or `values`, at any whole pixels x, y of the grid, roughly: bilinear between the exact positions."""
        i, j = x // self.step, y // self.step
        fi, fj = x / self.step - i, y / self.step - j
        i, j = i + 1, j + 1
        out = []
        for v in values or (self.x, self.y):
            low, high = v[j, i] * (1 - fi) + v[j, i + 1] * fi, v[j + 1, i] * (1 - fi) + v[j + 1, i + 1] * fi
            out.append(low * (1 - fj) + high * fj)
        return out


def _cubic(t) -> np.ndarray:
    """Weights (..., 4) of values at -1, 0, 1, 2 in the cubic polynomial through them, at t."""
    t = np.asarray(t, float)
    before, after, beyond = t + 1, t - 1, t - 2
    return np.stack(
        [-t * after * beyond / 6, before * after * beyond / 2, -before * t * beyond / 2, before * t * after / 6],
        axis=-1,
    )


@dataclass(frozen=True)
class Turn:
    """A turn of an image by right angles: x and y exchanged or not, then each mirrored or not."""

    transposed: bool
    flip_x: bool
    flip_y: bool

    def image(self, image: np.ndarray) -> np.ndarray:
        """An image (ny, nx) turned: a copy in order in memory, or itself where nothing is to be done."""
        import cv2

        ny, nx = image.shape
        if self.transposed:
            image = cv2.transpose(image, dst=np.empty((nx, ny), image.dtype))
        if self.flip_x or self.flip_y:
            code = -1 if self.flip_x and self.flip_y else 1 if self.flip_x else 0
            image = cv2.flip(image, code, dst=np.empty_like(image))
        return image


def within(x: np.ndarray, y: np.ndarray, shape) -> np.ndarray:
    """Which positions lie on an image of shape (ny, nx): those whose nearest pixel does."""
    ny, nx = shape
    return (x > -0.5) & (x < nx - 0.5) & (y > -0.5) & (y < ny - 0.5)


def median(values: np.ndarray) -> float:
    """Median of finite values (n,). numpy's own loads its masked arrays first, which takes longer than all that is done
    with it here."""
    values = np.sort(values)
    return float(values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def on_frame(wcs, sky: np.ndarray, frame_shape) -> np.ndarray:
    """Pixels (n, 2) of a frame. Distortion is undone on the frame and around it only: far outside a polynomial turns
    back, and would show a part of the sky twice."""
    with np.errstate(invalid="ignore"):
        xy = np.asarray(wcs.wcs_world2pix(sky, 0))
        if wcs.sip is None:
            return xy
        size = np.array(frame_shape[::-1])
        near = ((xy > -0.25 * size - 50) & (xy < 1.25 * size + 50)).all(axis=1)
    xy = xy.copy()
    if near.any():
        xy[near] = wcs.all_world2pix(sky[near], 0, quiet=True)
    return xy
