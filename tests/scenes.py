"""Calibrated lights of a small simulated sky, as frames in memory: what align and combine are given, and the truth.

A `Sky` lies in the tangent plane about one place, so that a light may see it with any pixel scale, rotation and
pointing. A `View` is what differs from light to light. `light` paints one with noise of known sigma, `reference_grid`
and `mosaic_grid` are grids as a target would have, and `expected` paints what a stack should show.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import simulated_night as sim
from astropy.io import fits
from firstlight import astrometry, sources
from firstlight.frame import Frame

CENTRE = (150.0, 35.0)  # deg
BETA = 4.0
SPREAD = 1 / np.sqrt(8 * np.log(2))  # sigma of a Gaussian of FWHM 1


@dataclass(frozen=True)
class Sky:
    """Stars at (n, 2) arcsec from the centre, east and north, with flux (n,) in e-/s; and a nebula, Gaussian, of a peak
    in e-/s/arcsec^2, with the FWHM and the place of its middle in arcsec."""

    stars: np.ndarray
    flux: np.ndarray
    nebula: float = 0.0
    nebula_fwhm: float = 300.0
    nebula_at: tuple[float, float] = (120.0, -80.0)

    @property
    def positions(self) -> np.ndarray:
        """(n, 2) deg."""
        return astrometry.from_plane(self.stars / 3600, CENTRE)


@dataclass(frozen=True)
class Masters:
    """The noise that a set of masters brings to each light: the same electrons in the same pixel of the detector."""

    name: str
    sigma: float

    def noise(self, shape) -> np.ndarray:
        return np.random.default_rng(_number(self.name)).normal(0, self.sigma, shape)


@dataclass(frozen=True)
class Trail:
    """A satellite's trail through the middle of a light, shifted across itself: as wide as the seeing."""

    peak: float  # e-
    angle: float = 30.0  # deg, from x towards y
    shift: float = 0.0  # pix

    def distance(self, x, y, shape) -> np.ndarray:
        """Pixels from its axis."""
        a, ny, nx = np.radians(self.angle), *shape
        return (y - (ny - 1) / 2) * np.cos(a) - (x - (nx - 1) / 2) * np.sin(a) - self.shift


@dataclass(frozen=True)
class View:
    """How one light sees the sky."""

    name: str
    shape: tuple[int, int] = (512, 512)
    scale: float = 2.0  # arcsec/pix
    rotation: float = 0.0  # deg
    pointing: tuple[float, float] = (0.0, 0.0)  # arcsec east, north
    exposure: float = 60.0  # s
    seeing: float = 6.0  # arcsec, FWHM
    transparency: float = 1.0
    level: float = 300.0  # e-/pix of the sky
    slope: tuple[float, float] = (0.0, 0.0)  # e-/pix, what the sky gains over the frame's width and height
    read_noise: float = 7.0  # e-
    masters: Masters | None = None
    trail: Trail | None = None
    night: str = "2025-11-14"
    minute: int = 0  # of the night, when it was begun

    @property
    def wcs(self):
        angle, (ny, nx) = np.radians(self.rotation), self.shape
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        crval = astrometry.from_plane(np.array([self.pointing]) / 3600, CENTRE)[0]
        return astrometry.tangent_wcs(
            crval, ((nx - 1) / 2, (ny - 1) / 2), self.scale / 3600 * np.diag([-1.0, 1.0]) @ turn
        )

    @property
    def fwhm(self) -> float:
        """Of its stars, pix."""
        return self.seeing / self.scale

    @property
    def sky_sigma(self) -> float:
        """Noise of a pixel of the sky in the middle, e-."""
        common = self.masters.sigma if self.masters else 0.0
        return float(np.sqrt(self.level + self.read_noise**2 + common**2))


@dataclass(frozen=True)
class Light:
    """A calibrated light, the table of its sources, and what it is a view of."""

    view: View
    frame: Frame
    table: np.ndarray = field(repr=False)


def a_sky(extent: float = 1100.0, step: float = 95.0, brightest=1e4, faintest=60.0, nebula: float = 0.0, seed=1) -> Sky:
    """Stars on a jittered lattice, far enough apart that each has a sky of its own; extent and step in arcsec, e-/s."""
    rng = np.random.default_rng(seed)
    line = np.arange(-extent / 2, extent / 2 + 1, step)
    places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    places = places + rng.uniform(-0.12, 0.12, places.shape) * step
    return Sky(places, rng.permutation(np.geomspace(brightest, faintest, len(places))), nebula)


def electrons(view: View, sky: Sky) -> np.ndarray:
    """What a light would count without noise, (ny, nx)."""
    image = np.zeros(view.shape)
    flux = sky.flux * view.exposure * view.transparency
    sim.paint(image, *on(view.wcs, sky).T, flux, sim.Profile("moffat", view.fwhm, BETA))
    if sky.nebula:
        image += nebula(sky, view.wcs, view.shape) * view.exposure * view.transparency
    y, x = np.mgrid[: view.shape[0], : view.shape[1]]
    image += view.level + sum(s * (p / n - 0.5) for s, p, n in zip(view.slope, (x, y), view.shape[::-1], strict=True))
    if view.trail:
        away = view.trail.distance(x, y, view.shape) / (view.fwhm * SPREAD)
        image += view.trail.peak * np.exp(-0.5 * away**2)
    return image


def light(view: View, sky: Sky, seed: int = 0) -> Light:
    """A view with Poisson noise, read noise and that of the masters, and sigmas that are true; its sources are known to
    the precision that their light gives."""
    rng = np.random.default_rng([seed, _number(view.name)])
    clean = electrons(view, sky)
    data = rng.poisson(clean) + rng.normal(0, view.read_noise, view.shape)
    variance, common = clean + view.read_noise**2, None
    if view.masters:
        data = data + view.masters.noise(view.shape)
        variance = variance + view.masters.sigma**2
        common = np.rint(255 * view.masters.sigma**2 / variance).astype(np.uint8)
    table = _table(view, sky, rng)
    parts = (np.sqrt(variance).astype(np.float32), np.zeros(view.shape, np.uint8), "electron", common)
    return Light(view, Frame(data.astype(np.float32), _header(view, table), *parts), table)


def on(wcs, sky: Sky) -> np.ndarray:
    """Pixels (n, 2) of the stars."""
    return wcs.wcs_world2pix(sky.positions, 0)


def places(grid, view: View) -> tuple[np.ndarray, np.ndarray]:
    """x and y on a light of each pixel of a grid, both (ny, nx); good to 0.01 pixel over fields as small as these."""
    y, x = np.mgrid[: grid.shape[0], : grid.shape[1]]
    some = np.stack(np.meshgrid(*(np.linspace(0, n - 1, 5) for n in grid.shape[::-1])), axis=-1).reshape(-1, 2)
    there = view.wcs.wcs_world2pix(grid.wcs.all_pix2world(some, 0), 0)
    a, b = astrometry.fit_affine(some, there)
    return a[0] * x + a[1] * y + a[2], b[0] * x + b[1] * y + b[2]


def nebula(sky: Sky, wcs, shape) -> np.ndarray:
    """e-/s of the nebula in each pixel (ny, nx)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    plane = 3600 * astrometry.to_plane(wcs.all_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0), CENTRE)
    square = ((plane - sky.nebula_at) ** 2).sum(axis=1).reshape(shape) / (sky.nebula_fwhm * SPREAD) ** 2
    return sky.nebula * np.exp(-0.5 * square) * astrometry.scale_of(wcs) ** 2


def enclosed(view: View, radius: float) -> float:
    """Share of a star's light within a circle; radius in arcsec."""
    width = sim.Profile("moffat", view.seeing, BETA).width
    return 1 - (1 + (radius / width) ** 2) ** (1 - BETA)


def painted(grid, sky: Sky, views: list[View], weights: np.ndarray, scale: float) -> np.ndarray:
    """Stars and nebula as a stack of views should show them, (ny, nx): `scale` times their e-/s."""
    image, pixel = np.zeros(grid.shape), astrometry.scale_of(grid.wcs)
    for view, weight in zip(views, weights / np.sum(weights), strict=True):
        profile = sim.Profile("moffat", view.seeing / pixel, BETA)
        sim.paint(image, *on(grid.wcs, sky).T, sky.flux * scale * weight, profile)
    return image + nebula(sky, grid.wcs, grid.shape) * scale if sky.nebula else image


def dithered(view: View, n: int, reach: float = 12.0, seed: int = 3, **changes) -> list[View]:
    """n views a few minutes apart, the first where `view` points, the others up to `reach` pixels away; each value of
    `changes` is a list with one for each view."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(n):
        off = rng.uniform(-reach, reach, 2) * view.scale * (k > 0)
        east, north = np.add(view.pointing, off)
        own = {name: values[k] for name, values in changes.items()}
        at = {"pointing": (float(east), float(north)), "minute": view.minute + 2 * k}
        out.append(replace(view, **{"name": f"{view.name}_{k:02d}", **at, **own}))
    return out


def _table(view: View, sky: Sky, rng) -> np.ndarray:
    flux = sky.flux * view.exposure * view.transparency
    area = np.pi * (1.5 * view.fwhm) ** 2
    error = np.sqrt(flux + area * view.sky_sigma**2)
    xy = on(view.wcs, sky) + rng.normal(0, 1, (len(flux), 2)) * (view.fwhm / 2.35 * error / flux)[:, None]
    seen = (flux > 10 * error) & ((xy > 3) & (xy < np.array(view.shape[::-1]) - 4)).all(axis=1)
    table = np.zeros(seen.sum(), [(name, "f8") for name in sources.COLUMNS])
    table["x"], table["y"] = xy[seen].T
    table["flux"], table["flux_err"], table["fwhm"], table["elongation"] = flux[seen], error[seen], view.fwhm, 1.0
    return table[np.argsort(-table["flux"])]


def _header(view: View, table: np.ndarray) -> fits.Header:
    cards = {
        "FLFRAME": view.name,
        "OBJECT": "scene",
        "FILTER": "R",
        "BUNIT": "electron",
        "NAXIS1": view.shape[1],
        "NAXIS2": view.shape[0],
        "DATE-OBS": f"{view.night}T{20 + view.minute // 60:02d}:{view.minute % 60:02d}:00.000",
        "NIGHT": view.night,
        "EXPTIME": view.exposure,
        "FWHM": view.fwhm,
        "BETA": BETA,
        "ELONG": 1.0,
        "SKYNOISE": view.sky_sigma,
        "SKYLEVEL": view.level,
        "NSTARS": len(table),
        "STARFLUX": float(np.median(table["flux"][4:15])) if len(table) > 5 else 0.0,
        "FLSOLVED": True,
    }
    masters = view.masters.name if view.masters else ""
    named = {f"{kind}COR": f"{masters}/{kind.lower()}" if masters else "" for kind in ("BIAS", "DARK", "FLAT")}
    return astrometry.replace_wcs(fits.Header(cards | named), view.wcs)


def _number(text: str) -> int:
    return int.from_bytes(text.encode()[-7:], "big")
