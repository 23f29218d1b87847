"""The grid of a target: the pixels that all its frames are brought onto, and the stars on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.io import fits

from . import astrometry, placing, sources
from .frame import Unusable
from .positions import on_frame
from .provenance import identity

LARGEST = 20  # times the pixels of the reference light: beyond it frames of two fields share a name
STARS = 500  # of one light
NEAR = 2.0  # pix of the grid, within which two stars are one


@dataclass(frozen=True)
class Grid:
    """The pixels of a target: shape (ny, nx), WCS, stars (x, y, fwhm; brightest first), name of the reference light.

    celestial False: no frame of the target was solved; the WCS only counts the reference light's pixels
    """

    wcs: object
    celestial: bool
    shape: tuple[int, int]
    stars: np.ndarray
    reference: str


@dataclass(frozen=True)
class Light:
    """A light that a grid can be chosen by: its name, header (with NAXIS1, NAXIS2) and the path of its file."""

    name: str
    header: fits.Header
    path: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.header["NAXIS2"], self.header["NAXIS1"]

    @property
    def solved(self) -> bool:
        """Whether its WCS was checked against the sky."""
        return bool(self.header.get("FLSOLVED"))

    @property
    def wcs(self):
        """Its celestial WCS, or None."""
        return astrometry.read_wcs(self.header)

    @property
    def depth(self) -> float:
        """How far its stars stand out: bright, sharp and round over a quiet sky."""
        get = self.header.get
        flux, noise = get("STARFLUX", 0.0), max(get("SKYNOISE", 1.0), 1e-9)
        return flux / noise / (get("FWHM", 0.0) or 99.0) / max(get("ELONG", 1.0), 1.0)


def candidate(path, header) -> Light | None:
    """A light that a grid can be chosen by; None for a dropped one."""
    return None if header.get("FLSTATUS") == "dropped" else Light(str(header.get("FLFRAME", "")), header, str(path))


def reference(candidates: list[Light], wanted: str = "") -> Light:
    """The light that a target's grid is taken from: the named one; else a solved one before an unsolved, then the one whose
    stars stand out most.

    wanted: part of a name. Raises Unusable where the list is empty.
    """
    if not candidates:
        raise Unusable("no usable light to take a grid from")
    named = [light for light in candidates if wanted and wanted == light.name]
    named = named or [light for light in candidates if wanted and wanted in light.name]
    if wanted and not named:
        print(f"grid: reference {wanted!r} is in no usable light's name: the best light is taken")
    return max(named or candidates, key=lambda light: (light.solved, light.depth, light.name))


def chosen_by(options: dict) -> str:
    """Identity of the options that a grid was chosen by: with others it is chosen anew."""
    return identity(*sorted(options.items()))


def choose(lights: list[Light], read_table, options: dict) -> tuple[Grid, list[str], list[str]]:
    """The grid of a target's usable lights: (grid, names of the lights it covers, words worth telling).

    read_table(light) gives its sources. options: `reference` part of a light's name, `extent` "reference" or "all",
    `north_up`, `scale` in arcsec/pix or None. Without any of them the pixels are the reference's, without its distortion;
    `all` covers every solved light. Raises Unusable without a usable light, and where `scale` makes too many pixels.
    """
    best = reference(lights, options.get("reference", ""))
    wcs = best.wcs
    if wcs is None:
        asked = [
            f"{key}: {options[key]}"
            for key in ("extent", "north_up", "scale")
            if options.get(key) not in (None, False, "reference")
        ]
        why = (
            f"the reference {best.name} is not solved"
            if any(light.solved for light in lights)
            else "no light is solved"
        )
        words = [f"grid: {', '.join(asked)} does nothing: {why}"] if asked else []
        return _pixels_of(best, read_table(best)), [best.name], words
    covers = [best]
    if options.get("extent") == "all":
        covers += sorted(
            (light for light in lights if light.solved and light is not best),
            key=lambda light: (_apart(best, light), light.name),
        )
    plane, shape, covers, words = _plane(covers, bool(options.get("north_up")), options.get("scale"))
    stars = union(Grid(plane, True, shape, _stars(np.zeros((0, 3))), best.name), covers, read_table)
    return Grid(plane, True, shape, stars, best.name), [light.name for light in covers], words


def grid_header(grid: Grid, name: str = "", options: dict | None = None) -> fits.Header:
    """The header of a grid's file; name of the target, options that the grid was chosen by."""
    header = fits.Header()
    header["OBJECT"] = name
    header["GRIDREF"] = (grid.reference, "light that the grid is taken from")
    header["GRIDNX"], header["GRIDNY"] = (grid.shape[1], "[pix] width"), (grid.shape[0], "[pix] height")
    header["GRIDBY"] = (chosen_by(options or {}), "identity of the options it was chosen by")
    return astrometry.replace_wcs(header, grid.wcs if grid.celestial else None)


def grid_from(header: fits.Header, stars: np.ndarray) -> Grid:
    """The grid from its file's header and table of stars."""
    wcs = astrometry.read_wcs(header)
    shape = header["GRIDNY"], header["GRIDNX"]
    return Grid(wcs or astrometry.pixel_plane(), wcs is not None, shape, stars, header["GRIDREF"])


def union(grid: Grid, lights: list[Light], read_table) -> np.ndarray:
    """Stars of some lights on the grid: x, y, fwhm; read_table(light) gives its sources.

    The first light's come first and stay where they are. Each further light is placed by those that are known, so that its
    own WCS's error makes no step, and adds its brightest; where two lights cover a place, a star must be in both (a
    particle is in one). Within an area of the size of the first light the first `STARS` are kept.
    """
    known = np.zeros((0, 4))  # x, y, fwhm, rank in its own light
    seen, covered = np.zeros(0, int), np.zeros(0, int)
    for number, light in enumerate(lights):
        table, wcs = read_table(light), light.wcs
        if number:
            wcs = placing.place(table, wcs, Grid(grid.wcs, True, grid.shape, _stars(known), grid.reference))[0]
        good = good_stars(table)
        on_grid = placing.to_grid(grid, wcs, np.column_stack([good["x"], good["y"]]))
        i, j, _ = astrometry.close(known[:, :2], on_grid, NEAR)
        seen[np.unique(i)] += 1
        covered += _on(light, wcs, grid, known[:, :2])
        new = np.setdiff1d(np.arange(len(good)), j)
        fwhm = good["fwhm"] * astrometry.scale_of(wcs) / astrometry.scale_of(grid.wcs)
        known = np.vstack([known, np.column_stack([on_grid, fwhm, np.arange(len(good))])[new]])
        seen = np.append(seen, np.full(len(new), 1 if number else 2))  # nobody need confirm the first light's
        covered = np.append(covered, np.ones(len(new), int))
        if not number:
            first = len(known)
    later = np.arange(len(known)) >= first
    order = np.lexsort((known[:, 3], later))
    keep = (seen > 1) | (covered < 2)
    return _stars(_evenly(known[order[keep[order]]], lights[0], grid))


def good_stars(table: np.ndarray) -> np.ndarray:
    """The stars of a light that tell a place, brightest first."""
    good = table[(table["flag"] == 0) & (table["flux"] > 0)]
    if len(good) < 30:  # where stars are few a saturated or blended one still tells the place
        good = table[(table["flag"] < sources.EDGE) & (table["flux"] > 0)]
    return good[:STARS]


def _pixels_of(light: Light, table: np.ndarray) -> Grid:
    """The grid that is just the pixels of an unsolved light."""
    good = good_stars(table)
    stars = _stars(np.column_stack([good["x"], good["y"], good["fwhm"]]))
    return Grid(astrometry.pixel_plane(), False, light.shape, stars, light.name)


def _plane(covers: list[Light], north_up: bool, scale: float | None):
    """WCS and shape that cover some lights, the reference first: (wcs, shape, the lights that fit, words on the others).

    Lights are left out from the farthest on while the grid would have more than `LARGEST` times the reference's pixels: one
    light of another field under the same name must not cost the others their grid.
    """
    best = covers[0]
    plane = astrometry.without_distortion(best.wcs, best.shape)
    if len(covers) == 1 and not north_up and not scale:
        return plane, best.shape, covers, []
    side = scale or astrometry.scale_of(plane)
    if north_up:
        plane = astrometry.tangent_wcs(plane.wcs.crval, (0.0, 0.0), np.diag([-1, 1]) * side / 3600)
    else:
        ratio = side / astrometry.scale_of(plane)
        plane = astrometry.tangent_wcs(plane.wcs.crval, (plane.wcs.crpix - 1) / ratio, plane.pixel_scale_matrix * ratio)
    outlines = [plane.wcs_world2pix(_outline(light), 0) for light in covers]
    low = np.minimum.accumulate([outline.min(axis=0) for outline in outlines])
    high = np.maximum.accumulate([outline.max(axis=0) for outline in outlines])
    pixels = np.prod(high - low, axis=1)
    largest = LARGEST * best.shape[0] * best.shape[1]
    fitting = int(np.searchsorted(pixels, largest, side="right"))
    if not fitting:
        raise Unusable(
            f"grid: scale: {side:g} arcsec/pix makes {pixels[0]:.3g} pixels of {best.name}, more than {LARGEST} times its "
            f"own {best.shape[0] * best.shape[1]:.3g}: a larger scale makes fewer"
        )
    words = []
    if fitting < len(covers):
        out = ", ".join(light.name for light in covers[fitting:])
        would = f"{pixels[-1]:.3g} pixels" if np.isfinite(pixels[-1]) else "half of the sky"
        words = [
            f"grid: extent: all would make {would}, more than {LARGEST} times the pixels of {best.name}: two fields under one "
            f"name? Not covered: {out}; a larger grid: scale makes room for them"
        ]
    covers = covers[:fitting]
    if north_up:
        return *_north_up(covers, side), covers, words
    low, high = np.floor(low[fitting - 1] + 0.55), np.ceil(high[fitting - 1] - 0.55)
    wcs = astrometry.tangent_wcs(plane.wcs.crval, plane.wcs.crpix - 1 - low, plane.pixel_scale_matrix)
    width, height = (high - low + 1).astype(int)
    return wcs, (int(height), int(width)), covers, words


def _north_up(covers: list[Light], side: float):
    """WCS with north up and east left that covers some lights, and its shape; side of a pixel in arcsec."""
    from astropy import units
    from reproject.mosaicking import find_optimal_celestial_wcs

    wcs, shape = find_optimal_celestial_wcs(
        [(light.shape, astrometry.as_astropy(light.wcs)) for light in covers],
        frame="icrs",
        resolution=side * units.arcsec,
    )
    return astrometry.tangent_wcs(wcs.wcs.crval, wcs.wcs.crpix - 1, wcs.pixel_scale_matrix), shape


def _outline(light: Light) -> np.ndarray:
    """Sky positions (n, 2) along the outer edge of a light's pixels."""
    ny, nx = light.shape
    along = np.linspace(-0.5, 0.5, 9)
    edge = np.full(9, 0.5)
    unit = np.vstack([np.column_stack(side) for side in ((along, -edge), (along, edge), (-edge, along), (edge, along))])
    return light.wcs.all_pix2world((unit + 0.5) * (nx, ny) - 0.5, 0)


def _on(light: Light, wcs, grid: Grid, xy: np.ndarray) -> np.ndarray:
    """Which places (n, 2) on the grid lie on a light, away from its edge where no star is believed."""
    if not len(xy):
        return np.zeros(0, bool)
    ny, nx = light.shape
    x, y = on_frame(wcs, grid.wcs.wcs_pix2world(xy, 0), light.shape).T
    return (x > 15) & (x < nx - 16) & (y > 15) & (y < ny - 16)


def _apart(a: Light, b: Light) -> float:
    """Degrees between the middles of two lights."""
    return float(astrometry.separation(astrometry.middle_of(a.wcs, a.shape), astrometry.middle_of(b.wcs, b.shape)))


def _stars(rows: np.ndarray) -> np.ndarray:
    """x, y, fwhm (n, 3 or more) as a structured array."""
    stars = np.zeros(len(rows), [("x", "f8"), ("y", "f8"), ("fwhm", "f8")])
    stars["x"], stars["y"], stars["fwhm"] = np.asarray(rows)[:, :3].T
    return stars


def _evenly(rows: np.ndarray, light: Light, grid: Grid) -> np.ndarray:
    """The first `STARS` rows (x, y, ...) of each cell of a light's size."""
    size = np.array(light.shape[::-1]) * astrometry.scale_of(light.wcs) / astrometry.scale_of(grid.wcs)
    cells = np.floor(rows[:, :2] / size).astype(int)
    keep = np.zeros(len(rows), bool)
    for cell in np.unique(cells, axis=0):
        keep[np.flatnonzero((cells == cell).all(axis=1))[:STARS]] = True
    return rows[keep]
