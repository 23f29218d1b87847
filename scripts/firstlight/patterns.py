"""Where on the sky a frame lies, by patterns of its bright stars: the project's own solver, for one field of a catalogue.

Triangles of stars keep the ratios of their sides under any shift, rotation, scale and mirror (Groth 1986, AJ 91, 1244).
The catalogue is looked at in tiles of the size of the frame, from the hint outwards, each with its brightest stars only,
so that both lists are as deep as each other whatever frame and catalogue hold.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from . import astrometry

# Stars of a list from which triangles are made, and how far their shapes may differ: a quick look, and a thorough one for
# frames whose bright stars are not those of the catalogue, and for lenses that bend.
LOOKS = ((24, 0.004), (36, 0.008))
CHECKED = 60  # bright sources that a proposal is checked with
NEAR = 3.0  # pix from which on they agree, up to twice that
OVERLAP = 0.4  # of the frame's shorter side, the step from tile to tile


@dataclass(frozen=True)
class Hint:
    """Where to look: centre (ra, dec) and radius in degrees, scale in arcsec/pix, right within the factor `reach` such as
    1.2, and time.monotonic() at which to give up."""

    centre: tuple[float, float]
    radius: float
    scale: float
    reach: float
    until: float


def find(xy: np.ndarray, sky: np.ndarray, shape, hint: Hint, look: tuple[int, float] = LOOKS[0]):
    """Rough WCS that bright stars propose, the best of each tile, nearest to the hint first (a generator).

    xy       pixels (n, 2) of sources, brightest first; sky (m, 2) degrees of catalogue stars, brightest first
    shape    (ny, nx) of the frame; look: one of `LOOKS`
    Raises TimeoutError where the hint's time is up.
    """
    ny, nx = shape
    centre, scale = hint.centre, hint.scale
    sky = sky[astrometry.separation(sky, centre) < min(hint.radius + 2 * np.hypot(nx, ny) * scale / 3600, 60)]
    if len(sky) < 5:
        return
    plane = astrometry.to_plane(sky, centre) * 3600 / scale  # in pixels of the assumed scale
    size = np.sqrt(nx * ny / np.pi) * 1.05  # radius of a circle as large as the frame
    step = OVERLAP * min(nx, ny)
    tiles = _tiles(hint.radius * 3600 / scale, step, plane.min(axis=0) - step, plane.max(axis=0) + step)
    stars, width = look
    shortest = 0.1 * min(nx, ny)
    frame = _Triangles.of(xy[:stars], shortest)
    for tile in tiles if frame is not None else ():
        if time.monotonic() > hint.until:
            raise TimeoutError("its time was up")
        inside = ((plane - tile) ** 2).sum(axis=1) < size**2
        found = _propose(xy, frame, plane[inside], stars, width, hint.reach, shortest)
        if found is not None:
            yield _wcs(found, centre, scale, shape)


def _tiles(radius: float, step: float, low, high) -> np.ndarray:
    """Centres of tiles (k, 2) that cover a circle around 0, as far as they lie between `low` and `high`, the middle first."""
    first = np.ceil(np.maximum(low, -radius - step) / step)
    last = np.floor(np.minimum(high, radius + step) / step)
    x, y = (np.arange(a, b + 1) * step for a, b in zip(first, last, strict=True))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    distance = np.hypot(*grid.T)
    return grid[np.argsort(distance, kind="stable")][: int((distance <= radius + step).sum())]


class _Triangles:
    """Triangles of some points: shape (t, 3) as the logarithm of the longest side and the ratios of the others to it,
    and corners as complex numbers (t, 3), in the order of the sides opposite to them."""

    def __init__(self, shapes, corners):
        self.shapes, self.corners = shapes, corners

    @classmethod
    def of(cls, points: np.ndarray, shortest: float):
        """None where there is no triangle that tells anything: longer than `shortest`, not flat, no two sides equal."""
        if len(points) < 3:
            return None
        z = (points @ [1, 1j])[_combinations(len(points))]
        sides = np.abs(np.stack([z[:, 1] - z[:, 2], z[:, 0] - z[:, 2], z[:, 0] - z[:, 1]], axis=1))
        order = np.argsort(sides, axis=1)
        sides = np.take_along_axis(sides, order, axis=1)
        z = np.take_along_axis(z, order, axis=1)
        longest = np.maximum(sides[:, 2], 1e-9)
        short, middle = sides[:, 0] / longest, sides[:, 1] / longest
        telling = (sides[:, 2] > 2 * shortest) & (sides[:, 0] > shortest / 2) & (middle < 0.985)
        telling &= (middle - short > 0.015) & (short + middle > 1.02)
        if not telling.any():
            return None
        return cls(np.stack([np.log(longest), short, middle], axis=1)[telling], z[telling])


@cache
def _combinations(n: int) -> np.ndarray:
    return np.array(list(combinations(range(n), 3)))


def _propose(xy, frame: _Triangles, plane, stars: int, width: float, reach: float, shortest: float):
    """The similarity (p, q, mirrored) from pixels to the tile's plane that most bright sources agree with, or None.

    With z = x + iy it is p z + q, of the mirrored frame p conj(z) + q.
    """
    if len(plane) < 5:
        return None
    catalogue = _Triangles.of(plane[:stars], shortest)
    if catalogue is None:
        return None
    i, j = _alike(frame.shapes, catalogue.shapes, width, np.log(reach))
    if not len(i):
        return None
    a, b = frame.corners[i], catalogue.corners[j]
    mirrored = (_turn(a) > 0) != (_turn(b) > 0)
    a = np.where(mirrored[:, None], a.conj(), a)
    ma, mb = a.mean(axis=1), b.mean(axis=1)
    p = ((a - ma[:, None]).conj() * (b - mb[:, None])).sum(axis=1) / (np.abs(a - ma[:, None]) ** 2).sum(axis=1)
    q = mb - p * ma
    near = np.abs(np.log(np.abs(p))) < np.log(reach) * 1.05
    p, q, mirrored = p[near], q[near], mirrored[near]
    if not len(p):
        return None
    # All but the best are dropped by a few bright sources, which saves most of the work.
    taken = _Raster(plane[: max(2 * stars, CHECKED)])
    for count, share in ((15, 0.02), (CHECKED, 0.0)):
        agree = _agreeing(taken, xy[:count], p, q, mirrored)
        if len(p) > 200 and share:
            best = np.argsort(-agree, kind="stable")[: max(200, int(share * len(p)))]
            p, q, mirrored = p[best], q[best], mirrored[best]
    best = agree.argmax()
    return (p[best], q[best], bool(mirrored[best])) if agree[best] >= 5 else None


def _alike(a: np.ndarray, b: np.ndarray, width: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of shapes (n, 3), (m, 3) of triangles: ratios within `width`, logarithms of the longest side within `reach`."""
    order = np.argsort(b[:, 1])
    short = b[order, 1]
    first, last = (np.searchsorted(short, a[:, 1] + side * width) for side in (-1, 1))
    i, j = astrometry.runs(first, last)
    j = order[j]
    near = (np.abs(a[i, 2] - b[j, 2]) < width) & (np.abs(a[i, 0] - b[j, 0]) < reach)
    return i[near], j[near]


class _Raster:
    """Which squares of side `NEAR` hold a star, or are next to one that does."""

    def __init__(self, points: np.ndarray):
        self.low = points.min(axis=0) - 2 * NEAR
        cells = self.cells(points)
        self.taken = np.zeros(cells.max(axis=0) + 3, bool)
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                self.taken[cells[:, 0] + dx, cells[:, 1] + dy] = True

    def cells(self, points: np.ndarray) -> np.ndarray:
        return np.floor((points - self.low) / NEAR).astype(int)

    def at(self, z: np.ndarray) -> np.ndarray:
        """Whether complex numbers lie on or beside a star's square."""
        x, y = (np.floor((part - low) / NEAR) for part, low in zip((z.real, z.imag), self.low, strict=True))
        nx, ny = self.taken.shape
        inside = (x >= 0) & (y >= 0) & (x < nx) & (y < ny)
        return inside & self.taken[np.where(inside, x, 0).astype(int), np.where(inside, y, 0).astype(int)]


def _agreeing(taken: _Raster, xy, p, q, mirrored) -> np.ndarray:
    """How many of the sources each similarity puts on a star."""
    z = xy @ [1, 1j]
    z = np.where(mirrored[:, None], z.conj()[None, :], z[None, :]) * p[:, None] + q[:, None]
    return taken.at(z).sum(axis=1)


def _turn(z: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles (t, 3)."""
    return ((z[:, 1] - z[:, 0]).conj() * (z[:, 2] - z[:, 0])).imag


def _wcs(found, centre, scale: float, shape):
    """The similarity as a WCS whose tangent point is the frame's centre."""
    p, q, mirrored = found
    ny, nx = shape
    xy = np.array([[0, 0], [nx - 1, 0], [0, ny - 1], [nx - 1, ny - 1]], float)
    z = xy @ [1, 1j]
    z = p * (z.conj() if mirrored else z) + q
    sky = astrometry.from_plane(np.column_stack([z.real, z.imag]) * scale / 3600, centre)
    return astrometry.fit_sip(xy, sky, shape, 1)
