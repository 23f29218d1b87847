"""A rough WCS fitted to the stars of a frame and its catalogue, and believed only where the stars bear it out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import astrometry, sources

USED = 1000  # brightest sources; more would not place a frame better
LEAST = 6  # stars that a solution needs whatever else speaks for it
# Chance that unrelated stars agree as well, below which a WCS is believed: one that was given, and the best of many.
GIVEN, SEARCHED = 1e-6, 1e-10


@dataclass(frozen=True)
class Fit:
    """A WCS that was borne out: stars matched, rms distance in arcsec, order of its distortion (1 without)."""

    wcs: object
    matched: int
    rms: float
    order: int


def positions(table: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) of the sources that may be stars, brightest first."""
    xy = np.column_stack([table["x"], table["y"]])
    return xy[(table["flag"] < sources.ODD) & (table["flux"] > 0) & np.isfinite(xy).all(axis=1)]


def tolerance_of(table: np.ndarray) -> float:
    """How far apart, in pixels, a source and its catalogue star may lie: wide stars are measured less well."""
    fwhm = table["fwhm"][(table["flag"] == 0) & (table["fwhm"] > 0)]
    return float(np.clip(0.4 * np.median(fwhm), 1.5, 5.0)) if len(fwhm) else 1.5


def tighten(
    wcs, table: np.ndarray, stars: np.ndarray, shape, reach=8.0, sip_order: int | None = None, doubt: float = SEARCHED
) -> Fit:
    """Match sources and catalogue stars around a rough WCS, fit it anew in narrowing circles, and judge it.

    table      sources, brightest first; stars: catalogue, brightest first; shape (ny, nx)
    reach      pixels that the rough WCS may be off
    sip_order  of the distortion; None for the highest up to 3 that the stars bear out
    doubt      chance of an accidental agreement that is allowed, `GIVEN` or `SEARCHED`

    All is done on the tangent plane at the centre of the frame, where a polynomial of the pixels is fitted. Only twice as
    many catalogue stars as sources are used, so that faint ones do not match by chance. Raises ValueError with what was
    found and what it takes, where fewer than 6 stars agree, no more than chance explains, or half as many on a mirrored or
    turned sky.
    """
    xy = positions(table)[:USED]
    task = _Task.of(wcs, xy, stars, shape, sip_order)
    final = tolerance_of(table)
    placed = task.first(reach) if reach > 10 else task.start
    for radius in (min(reach, 8.0), 4.0, 2.5, final, final, final):
        radius = max(radius, final)
        i, j = task.pairs(placed, radius)
        if len(i) < 4:
            _too_few(len(i), len(xy), LEAST)
        placed = task.fitted(i, j)
        placed = task.fitted(*task.without_strangers(placed, i, j))
    i, j = task.pairs(placed, final)
    task.judge(placed, final, len(i), doubt)
    order = task.order_for(i, j)
    return task.result(i, j, order)


def within(wcs, stars: np.ndarray, shape) -> np.ndarray:
    """The catalogue's stars that a WCS puts into a circle as large as an image of shape (ny, nx)."""
    ny, nx = shape
    sky = np.column_stack([stars["ra"], stars["dec"]])
    away = astrometry.separation(sky, astrometry.middle_of(wcs, shape))
    return stars[away < np.sqrt(nx * ny / np.pi) * astrometry.scale_of(wcs) / 3600]


def _too_few(matched: int, found: int, needed: float):
    raise ValueError(
        f"{matched} of {found} stars agree with the catalogue, at least {max(np.ceil(needed), LEAST):.0f} are needed"
    )


@dataclass
class _Task:
    """One frame on the tangent plane at its centre, in units of about a pixel."""

    wcs: object
    shape: tuple[int, int]
    xy: np.ndarray  # pixels of the sources
    start: np.ndarray  # where the rough WCS puts them
    plane: np.ndarray  # where the catalogue's stars are
    sky: np.ndarray
    sip_order: int | None

    @classmethod
    def of(cls, wcs, xy, stars, shape, sip_order):
        ny, nx = shape
        centre, scale = astrometry.middle_of(wcs, shape), astrometry.scale_of(wcs)
        sky = np.column_stack([stars["ra"], stars["dec"]])
        near = astrometry.separation(sky, centre) < 1.1 * np.hypot(nx, ny) / 2 * scale / 3600
        sky = sky[near]
        if not len(xy) or not len(sky):
            _too_few(0, len(xy), LEAST)
        start = astrometry.to_plane(wcs.all_pix2world(xy, 0), centre) * 3600 / scale
        plane = astrometry.to_plane(sky, centre) * 3600 / scale
        # The frame covers about half of the circle around it.
        keep = slice(0, 3 * max(len(xy), 20))
        return cls(wcs, shape, xy, start, plane[keep], sky[keep], sip_order)

    def first(self, reach: float) -> np.ndarray:
        """The start moved by the shift that most bright stars agree with, where that is more than chance."""
        a, b = self.start[:100], self.plane[:200]
        apart = (b[None, :, :] - a[:, None, :]).reshape(-1, 2)
        apart = apart[np.abs(apart).max(axis=1) < reach]
        if len(apart) < 4:
            return self.start
        votes = (np.abs(apart[:, None, :] - apart[None, :2000, :]).max(axis=2) < 3).sum(axis=0)
        best = apart[:2000][votes.argmax()]
        return self.start + apart[np.abs(apart - best).max(axis=1) < 3].mean(axis=0)

    def pairs(self, placed: np.ndarray, radius: float):
        return astrometry.nearest(placed, self.plane, radius)

    def order_of(self, matched: int) -> int:
        """The highest order that so many stars can carry."""
        if self.sip_order is not None:
            wanted = range(max(self.sip_order, 1), 0, -1)
            return next((o for o in wanted if o == 1 or matched >= (o + 1) * (o + 2)), 1)
        return next(o for o in (3, 2, 1) if o == 1 or matched >= 6 * o**2)

    def fitted(self, i, j, order: int | None = None):
        """Where a fit to some pairs puts all sources."""
        if len(i) < LEAST:  # scale and rotation stay
            return self.start + np.median(self.plane[j] - self.start[i], axis=0)
        order = order or self.order_of(len(i))
        base = self.start if order == 1 and self.keeps else self.xy
        middle, half = base.mean(axis=0), max(self.shape) / 2
        design = astrometry.polynomial(base[i], middle, half, order)
        coefficients = np.linalg.lstsq(design, self.plane[j], rcond=None)[0]
        return astrometry.polynomial(base, middle, half, order) @ coefficients

    @property
    def keeps(self) -> bool:
        """Whether the distortion that the WCS brought along stays where the stars are too few to fit it."""
        return self.sip_order is None and (self.wcs.sip is not None or not self.wcs.wcs.ctype[0].startswith("RA---TAN"))

    def without_strangers(self, placed, i, j):
        """The pairs whose distance is not far above that of most."""
        distance = np.hypot(*(placed[i] - self.plane[j]).T)
        near = distance <= max(4 * np.median(distance), 0.3)
        return (i[near], j[near]) if near.sum() >= LEAST else (i, j)

    def judge(self, placed, radius: float, matched: int, doubt: float) -> None:
        """Raise ValueError unless that many pairs are far more than unrelated stars would make.

        Of n bright sources and m bright stars on an area, n m pi radius^2 / area pairs are expected by chance; three more
        go to what was fitted. The deeper of the two lists is cut to about twice the other.
        """
        ny, nx = self.shape
        inside = (self.plane >= placed.min(axis=0) - radius) & (self.plane <= placed.max(axis=0) + radius)
        stars = self.plane[inside.all(axis=1)]
        n, m = min(len(placed), 2 * len(stars) + 10), min(len(stars), 2 * len(placed) + 10)
        i, j = astrometry.nearest(placed[:n], stars[:m], radius)
        needed = max(LEAST, 3 + _beyond_chance(n * m * np.pi * radius**2 / (nx * ny), doubt))
        if len(i) < needed:
            _too_few(matched, len(self.xy), max(needed, matched + 1))
        rivals = [len(self.pairs(placed @ turned, radius)[0]) for turned in _TURNED]
        if 2 * max(rivals) > matched:
            raise ValueError(
                f"{matched} of {len(self.xy)} stars agree with the catalogue, but {max(rivals)} do so on a sky turned over: "
                "no more than by chance"
            )

    def order_for(self, i, j) -> int:
        """The order of the distortion. More terms always fit better: theirs is the least N ln(S / N) + p ln N of the N
        coordinates, the sum S of squared residuals and the p terms (Schwarz 1978, Ann. Statist. 6, 461)."""
        if self.sip_order is not None:
            return self.order_of(len(i))
        return min(range(1, self.order_of(len(i)) + 1), key=lambda order: self.cost(i, j, order))

    def cost(self, i, j, order: int) -> float:
        squares = ((self.fitted(i, j, order)[i] - self.plane[j]) ** 2).sum()
        n = 2 * len(i)
        return float(n * np.log(max(squares, 1e-12) / n) + (order + 1) * (order + 2) * np.log(n))

    def result(self, i, j, order: int) -> Fit:
        xy, sky = self.xy[i], self.sky[j]
        if order == 1 and self.keeps:
            wcs = self.wcs  # in steps, since the tangent point moves
            for _ in range(3):
                wcs = astrometry.refit(wcs, xy, sky)
        else:
            wcs = astrometry.fit_sip(xy, sky, self.shape, order)
        return Fit(wcs, len(i), rms(wcs, xy, sky), order)


def _beyond_chance(expected: float, doubt: float) -> int:
    """The least number that is reached with a chance below `doubt` where `expected` are expected (Poisson)."""
    k = np.arange(1, int(expected + 12 * np.sqrt(expected)) + 60)
    logarithms = k * np.log(max(expected, 1e-12)) - expected - np.cumsum(np.log(k))
    tail = np.cumsum(np.exp(logarithms)[::-1])[::-1]  # chance of k or more
    return int(k[np.argmax(tail < doubt)])


# Turned by 90, 180 and 270 degrees, and mirrored both ways: what agrees with the sky then does so by chance.
_TURNED = [np.array(rows, float) for rows in (((0, 1), (-1, 0)), ((-1, 0), (0, -1)), ((0, -1), (1, 0)))]
_TURNED += [np.diag([1.0, -1.0]), np.diag([-1.0, 1.0])]


def rms(wcs, xy: np.ndarray, sky: np.ndarray) -> float:
    """Rms distance in arcsec between pixels (n, 2) and sky positions (n, 2) in degrees, per star."""
    return float(np.sqrt((astrometry.separation(wcs.all_pix2world(xy, 0), sky) ** 2).mean()) * 3600)
