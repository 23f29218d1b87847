"""A simulated night on the Double Cluster: raw frames as a camera writes them, and the truth about every one of them.

    python tests/simulated_night.py RAW --truth TRUTH

paints the stars of data/double_cluster.ecsv, fainter stars, and a nebula of known profile; sends them through seeing,
cloud, vignetting, dust, hot and dead pixels, cosmic rays, gain and bias; and writes uint16 FITS files with awkward
headers. Everything is a parameter of `Night`. Each frame draws its chance from (seed, file name) alone: the same night
gives the same bytes, and a night with more frames holds those of the smaller one unchanged (from 5 lights per filter
on; with fewer, other lights are the spoilt ones).

Pixel positions count from 0 at the centre of the first pixel, images have the shape (ny, nx).
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from dataclasses import field as with_default
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS, Sip

STAR_TABLE = Path(__file__).parent / "data" / "double_cluster.ecsv"
CLUSTERS = ((34.75, 57.13), (35.60, 57.13))  # h and chi Persei, deg
OTHER_CENTRE = (40.53, 42.75)  # M 34, deg
MEGAPIXEL = 1024 * 1024
FULL_SCALE = 65535  # ADU
PIXEL_MICRON = 9.0
FOCAL_ERROR = 1.006  # what is written on the tube is never quite true

# A star's stamp ends where both hold: what is cut off is less than this part of its flux, and the edge is this faint.
WING_FRACTION = 1e-4
WING_ELECTRONS = 0.02

# The nebula is a soft shell: (1 - u)^2 (1 + SHELL u) (1 + LOBES u cos 3 theta) with u = (elliptical radius)^2, and 0
# outside u = 1.
SHELL = 6.0
LOBES = 0.35
SHELL_MAX = (7 / 9) ** 2 * (7 / 3)  # the largest value without lobes, at u = 2/9
SHELL_MEAN = (1 / 3 + SHELL / 12) / SHELL_MAX  # mean over the ellipse in units of that value; the lobes add nothing


@dataclass(frozen=True)
class Filter:
    """A filter: what it lets through of stars, sky and nebula, and how the camera is turned when it is in use.

    A star gives 10^(-0.4 (vt + colour bp_rp - zero)) e-/s.
    """

    zero: float  # mag that gives 1 e-/s
    colour: float  # magnitudes per magnitude of BP-RP
    sky: float  # e-/s/pix
    rotation: float  # deg, north lies this far counter-clockwise from up
    nebula: float  # brightest part of the nebula's shell, in units of the sky


FILTERS = {
    "R": Filter(zero=18.0, colour=-0.45, sky=3.5, rotation=0.0, nebula=3.0),
    "V": Filter(zero=18.25, colour=0.0, sky=2.5, rotation=3.0, nebula=1.0),
    "B": Filter(zero=18.6, colour=0.8, sky=1.6, rotation=-7.0, nebula=0.6),
    "I": Filter(zero=17.4, colour=-0.8, sky=5.0, rotation=1.5, nebula=1.0),
    "g": Filter(zero=18.5, colour=0.4, sky=2.0, rotation=-7.0, nebula=0.7),
    "r": Filter(zero=18.1, colour=-0.4, sky=3.2, rotation=0.0, nebula=3.0),
    "i": Filter(zero=17.5, colour=-0.75, sky=4.5, rotation=1.5, nebula=1.0),
    "Ha": Filter(zero=14.8, colour=-0.45, sky=0.15, rotation=0.0, nebula=30.0),
    "OIII": Filter(zero=14.8, colour=0.2, sky=0.12, rotation=3.0, nebula=6.0),
}


@dataclass(frozen=True)
class Night:
    """All parameters of a simulated night. Numbers "per megapixel" are per 1024x1024 pixels.

    Light in electrons: E = (stars t + nebula t + sky) exposure response + dark exposure, t the transparency; counted
    with Poisson noise, read with Gaussian noise, hit by cosmic rays, divided by the gain, put upon the bias, rounded
    and cut to 0..65535 ADU. Cloud dims stars and nebula and leaves the sky as it is.
    """

    size: int | tuple[int, int] = 1024  # pix; a number or (ny, nx)
    field: float = 1.7  # deg along the longer side
    centre: tuple[float, float] = (35.15, 57.13)  # ra, dec, deg
    filters: dict[str, Filter] = with_default(default_factory=lambda: {name: FILTERS[name] for name in "RVB"})
    lights: int = 8  # per filter, the spoilt ones among them
    bias: int = 9
    darks: int = 5
    flats: int = 5  # per filter
    exposure: float = 60.0  # s, of lights and darks
    flat_exposure: float = 3.0  # s
    flat_level: float = 28000.0  # e- where the response is 1
    seed: int = 1
    date: str = "2025-11-14"  # of the evening

    # detector
    gain: float = 1.5  # e-/ADU
    read_noise: float = 7.0  # e-
    bias_level: float = 1000.0  # ADU
    bias_structure: float = 1.0  # factor on columns, gradient and pixel pattern, a few ADU
    bias_drift: float = 0.0  # ADU, scatter of the level from frame to frame
    dark_current: float = 0.05  # e-/s/pix
    hot: int = 400  # per megapixel, 2 to 200 e-/s
    dead: int = 60  # per megapixel, response 0.05 to 0.2
    cosmic_rays: int = 40  # per megapixel and exposure
    pixel_response: float = 0.01  # relative scatter from pixel to pixel
    vignetting: float = 0.25  # loss in the corners
    dust: int = 6  # rings, half of them in every filter

    # sky
    faint_stars: int = 5000
    psf: str = "moffat"  # or "gauss"
    beta: float = 4.0  # of the Moffat profile
    seeing: tuple[float, float] = (2.3, 3.6)  # pix, range of the profile's FWHM before it is integrated over pixels
    dither: float = 12.0  # pix, largest shift along an axis
    distortion: float = 0.0  # pix in the corner, cubic
    gradient: float = 0.08  # of the sky, relative, from the centre to the corner
    sky_change: float = 0.1  # largest relative change of the sky from frame to frame
    transparency: tuple[float, float] = (0.94, 1.0)
    cloud_transparency: float = 0.35
    starless_sky: float = 0.1  # of the usual sky
    nebula: float = 1.0  # factor on its brightness, 0 for none
    nebula_size: float = 10.0  # arcmin, longer axis from edge to edge
    nebula_axes: float = 0.8  # shorter over longer axis
    nebula_place: tuple[float, float] = (0.10, -0.29)  # of the field, towards east and north of the centre
    trail_peak: float = 600.0  # e-, brightest part of a satellite trail

    # spoilt frames: how many of the night
    trail: int = 1
    cloud: int = 1
    starless: int = 1
    other_target: int = 1  # beside the lights of the target
    flip_from: int | None = None  # lights from this number (counted from 1) are taken after a meridian flip

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return (self.size, self.size) if isinstance(self.size, int) else (int(self.size[0]), int(self.size[1]))

    @property
    def scale(self) -> float:
        """Pixel scale in the centre, deg/pix."""
        return self.field / max(self.shape)

    def __post_init__(self):
        if self.psf not in ("moffat", "gauss"):
            raise ValueError(f"psf is {self.psf!r} but must be 'moffat' or 'gauss'")
        if not self.filters:
            raise ValueError("the night has no filters: name at least one")
        slots, spoilt = self.lights * len(self.filters), self.trail + self.cloud + self.starless
        if spoilt > slots:
            raise ValueError(
                f"{spoilt} of {slots} lights are to be spoilt: more lights, or less trail, cloud, starless"
            )


def filters_named(names: str) -> dict[str, Filter]:
    """Filters of a text such as "R,V,B", from the table FILTERS. Raises ValueError for a name that is not in it."""
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in FILTERS:
            raise ValueError(f"no filter {name!r} here, only {', '.join(FILTERS)}: add it to the table FILTERS")
    return {name: FILTERS[name] for name in chosen}


# ---- chance ----------------------------------------------------------------------------------------------------------


def chance(night: Night, *words: str) -> np.random.Generator:
    """The random numbers of one thing of one night: they depend on the seed and the thing's name only."""
    return np.random.default_rng([night.seed, zlib.crc32("/".join(words).encode())])


# ---- stars -----------------------------------------------------------------------------------------------------------


def make_stars(night: Night) -> Table:
    """Stars of the night's field: those of the table, then the faint ones.

    Returns a table with ra, dec (deg), vt, bp_rp (mag), flux_<filter> (e-/s at transparency 1 where the response is 1)
    and flag ("table" or "faint").
    """
    table = Table.read(STAR_TABLE, format="ascii.ecsv")
    reach = 0.55 * math.hypot(*night.shape) * night.scale
    near = _separation(table["ra"], table["dec"], night.centre) < reach
    rng = chance(night, "colours")  # drawn before the choice, so that a star's colour does not depend on the field
    drawn = _draw_colours(rng, np.asarray(table["ra"]), np.asarray(table["dec"]))
    colours = np.where(np.isnan(table["bp_rp"]), drawn, table["bp_rp"])
    faint = _faint_stars(night, reach)
    stars = Table(
        {
            "ra": np.concatenate([np.asarray(table["ra"])[near], faint["ra"]]),
            "dec": np.concatenate([np.asarray(table["dec"])[near], faint["dec"]]),
            "vt": np.concatenate([np.asarray(table["vt"], float)[near], faint["vt"]]),
            "bp_rp": np.concatenate([colours[near], faint["bp_rp"]]),
        }
    )
    _add_fluxes(stars, night)
    stars["flag"] = ["table"] * int(near.sum()) + ["faint"] * len(faint["ra"])
    return stars


def _add_fluxes(stars: Table, night: Night) -> None:
    for name, band in night.filters.items():
        stars[f"flux_{name}"] = 10 ** (-0.4 * (stars["vt"] + band.colour * stars["bp_rp"] - band.zero))
        stars[f"flux_{name}"].unit = "electron / s"
    stars["ra"].unit = stars["dec"].unit = "deg"


def _separation(ra, dec, centre) -> np.ndarray:
    """Angle from `centre`, deg."""
    a, d, a0, d0 = np.radians(np.asarray(ra)), np.radians(np.asarray(dec)), *np.radians(centre)
    half = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(half)))


def _offset(centre, east, north) -> tuple[np.ndarray, np.ndarray]:
    """Ra and dec (deg) of points in the tangent plane at `centre`, `east` and `north` in deg."""
    xi, eta, d0 = np.radians(east), np.radians(north), np.radians(centre[1])
    turn = np.arctan2(xi, np.cos(d0) - eta * np.sin(d0))
    dec = np.arctan2((np.sin(d0) + eta * np.cos(d0)) * np.cos(turn), np.cos(d0) - eta * np.sin(d0))
    return (centre[0] + np.degrees(turn)) % 360, np.degrees(dec)


def _draw_colours(rng, ra, dec) -> np.ndarray:
    """BP-RP (mag) of stars without one: blue where a cluster is near, else what the field has."""
    member = np.min([_separation(ra, dec, cluster) for cluster in CLUSTERS], axis=0) < 0.15
    normal = rng.standard_normal(len(ra))
    return np.clip(np.where(member, 0.45 + 0.2 * normal, 0.95 + 0.4 * normal), -0.2, 3.0)


def _faint_stars(night: Night, reach: float) -> dict[str, np.ndarray]:
    """Stars from vt 11 to 16, numbers growing as 10^(0.4 vt), a quarter of them crowding to the two clusters."""
    rng, count = chance(night, "faint stars"), night.faint_stars
    radius, angle = reach * np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
    ra, dec = _offset(night.centre, radius * np.cos(angle), radius * np.sin(angle))
    member = (rng.random(count) < 0.25) & (_separation(*np.transpose(CLUSTERS), night.centre).min() < reach)
    home = rng.integers(0, len(CLUSTERS), count)
    scatter = rng.normal(0, 0.09, (2, count))
    for number, cluster in enumerate(CLUSTERS):
        here = member & (home == number)
        ra[here], dec[here] = _offset(cluster, *scatter[:, here])
    bright, dim = 10 ** (0.4 * 11), 10 ** (0.4 * 16)
    vt = 2.5 * np.log10(bright + rng.random(count) * (dim - bright))
    return {"ra": ra, "dec": dec, "vt": vt, "bp_rp": _draw_colours(rng, ra, dec)}


def make_other_stars(night: Night) -> Table:
    """Random stars of the other target's field, columns as in `make_stars` without the flag."""
    rng, count = chance(night, "other target"), 600
    reach = 0.55 * math.hypot(*night.shape) * night.scale
    radius, angle = reach * np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
    ra, dec = _offset(OTHER_CENTRE, radius * np.cos(angle), radius * np.sin(angle))
    bright, dim = 10 ** (0.3 * 7), 10 ** (0.3 * 14)
    vt = np.log10(bright + rng.random(count) * (dim - bright)) / 0.3
    stars = Table({"ra": ra, "dec": dec, "vt": vt, "bp_rp": np.clip(rng.normal(0.8, 0.4, count), -0.2, 3.0)})
    _add_fluxes(stars, night)
    return stars


# ---- painting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """A round star profile of total 1: Moffat (Moffat 1969, A&A 3, 455) or Gauss, `fwhm` in pix."""

    kind: str
    fwhm: float
    beta: float = 4.0

    @property
    def width(self) -> float:
        """Moffat's alpha or Gauss's sigma, pix."""
        if self.kind == "gauss":
            return self.fwhm / math.sqrt(8 * math.log(2))
        return self.fwhm / (2 * math.sqrt(2 ** (1 / self.beta) - 1))

    @property
    def peak(self) -> float:
        """Value in the centre, per pix^2."""
        return (1 if self.kind == "gauss" else 2 * (self.beta - 1)) / (2 * math.pi * self.width**2)

    def value(self, square: np.ndarray) -> np.ndarray:
        """Value at squared distances from the centre, pix^2, in units of the peak. Overwrites its argument."""
        square *= (-0.5 if self.kind == "gauss" else 1) / self.width**2
        if self.kind == "gauss":
            return np.exp(square, out=square)
        square += 1
        np.reciprocal(square, out=square)
        if self.beta == 4:  # a general power takes ten times as long
            square *= square
            square *= square
            return square
        return np.power(square, self.beta, out=square)

    def radius_of_level(self, level: np.ndarray) -> np.ndarray:
        """Distance (pix) at which the profile falls to `level` (0 to 1) of its peak."""
        level = np.minimum(level, 1.0)
        square = -2 * np.log(level) if self.kind == "gauss" else level ** (-1 / self.beta) - 1
        return self.width * np.sqrt(square)

    def radius_of_wing(self, fraction: np.ndarray) -> np.ndarray:
        """Distance (pix) outside which lies `fraction` (0 to 1) of the total."""
        fraction = np.minimum(fraction, 1.0)
        square = -2 * np.log(fraction) if self.kind == "gauss" else fraction ** (1 / (1 - self.beta)) - 1
        return self.width * np.sqrt(square)


def stamp_radius(flux: np.ndarray, profile: Profile) -> np.ndarray:
    """Half the width (pix) of stamps for stars of `flux` electrons, as WING_FRACTION and WING_ELECTRONS ask."""
    fraction = np.maximum(WING_FRACTION, WING_ELECTRONS / flux)
    edge = profile.radius_of_level(WING_ELECTRONS / (flux * profile.peak))
    wing = profile.radius_of_wing(fraction)
    return np.where(fraction > WING_FRACTION, wing, np.maximum(wing, edge))


def paint(image: np.ndarray, x, y, flux, profile: Profile) -> None:
    """Add stars to `image` (ny, nx), in place, each profile integrated over the pixels.

    x, y are pixel positions, flux is in the unit of the image. The integral over a pixel is Gauss-Legendre quadrature
    with 3 or, for stars sharper than 2 pixels, 5 points along an axis: good to 1e-5 of the flux.
    """
    x, y, flux = (np.asarray(values, float) for values in (x, y, flux))
    some = flux > 0
    half = np.zeros(len(flux), int)
    # Few different sizes make few, large array operations.
    half[some] = 4 * np.ceil((stamp_radius(flux[some], profile) + 0.5) / 4)
    ny, nx = image.shape
    seen = some & (x > -half - 1) & (x < nx + half) & (y > -half - 1) & (y < ny + half)
    for size in np.unique(half[seen]):
        chosen = np.flatnonzero(seen & (half == size))
        step = max(1, 400_000 // (2 * int(size) + 1) ** 2)
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            _paint_stamps(image, x[part], y[part], flux[part], profile, int(size))


def _paint_stamps(image, x, y, flux, profile: Profile, half: int) -> None:
    ny, nx = image.shape
    reach = np.arange(-half, half + 1)
    columns = np.rint(x).astype(int)[:, None] + reach
    rows = np.rint(y).astype(int)[:, None] + reach
    stamps = _integrated(columns - x[:, None], rows - y[:, None], profile) * (flux * profile.peak)[:, None, None]
    inside = ((rows >= 0) & (rows < ny))[:, :, None] & ((columns >= 0) & (columns < nx))[:, None, :]
    places = rows[:, :, None] * nx + columns[:, None, :]
    np.add.at(image.reshape(-1), places[inside], stamps[inside])


def _integrated(dx: np.ndarray, dy: np.ndarray, profile: Profile) -> np.ndarray:
    """Integrals over pixels at dx (n, m), dy (n, m) from the stars, as stamps (n, m, m), in units of the peak."""
    nodes, weights = np.polynomial.legendre.leggauss(3 if profile.fwhm >= 2 else 5)
    total = np.zeros((*dy.shape, dx.shape[1]))
    for node_y, weight_y in zip(nodes / 2, weights / 2, strict=True):
        for node_x, weight_x in zip(nodes / 2, weights / 2, strict=True):
            value = profile.value(((dy + node_y) ** 2)[:, :, None] + ((dx + node_x) ** 2)[:, None, :])
            value *= weight_x * weight_y
            total += value
    return total


# ---- the detector ----------------------------------------------------------------------------------------------------


def _from_centre(shape) -> tuple[np.ndarray, np.ndarray]:
    """Rows (ny, 1) and columns (1, nx) from the centre, in units of half the diagonal."""
    ny, nx = shape
    half = math.hypot(ny, nx) / 2
    return (np.arange(ny)[:, None] - (ny - 1) / 2) / half, (np.arange(nx)[None, :] - (nx - 1) / 2) / half


def make_bias(night: Night) -> np.ndarray:
    """True bias (ny, nx), ADU: level, slope, columns, and a little pattern of the pixels."""
    rng, (ny, nx) = chance(night, "bias"), night.shape
    rows, columns = _from_centre(night.shape)
    structure = 4 * rows + 2 * columns**2 + rng.normal(0, 1.5, nx) + rng.normal(0, 0.4, (ny, nx))
    structure[:, rng.choice(nx, max(1, nx // 250), replace=False)] += 8
    return night.bias_level + night.bias_structure * structure


def make_dark(night: Night) -> np.ndarray:
    """True dark current (ny, nx), e-/s: a level, a glow in one corner, hot pixels."""
    rng, (ny, nx) = chance(night, "dark"), night.shape
    rows, columns = _from_centre(night.shape)
    dark = night.dark_current * (1 + 4 * np.exp(-((rows - 0.7) ** 2 + (columns - 0.7) ** 2) / 0.05))
    count = round(night.hot * ny * nx / MEGAPIXEL)
    places = rng.choice(ny * nx, count, replace=False)
    dark.reshape(-1)[places] += 10 ** rng.uniform(math.log10(2), math.log10(200), count)
    return dark


def make_response(night: Night, name: str) -> np.ndarray:
    """True response (ny, nx) in filter `name`: vignetting, dust, pixels, dead pixels.

    Its median is 1, so that a flat divided by its median is this very array.
    """
    rng, (ny, nx) = chance(night, "response"), night.shape
    rows, columns = _from_centre(night.shape)
    response = 1 - night.vignetting * (rows**2 + columns**2)
    common = night.dust // 2
    _add_dust(response, chance(night, "dust"), common)
    _add_dust(response, chance(night, "dust", name), night.dust - common)
    response *= 1 + night.pixel_response * np.clip(rng.standard_normal((ny, nx)), -5, 5)
    count = round(night.dead * ny * nx / MEGAPIXEL)
    places = rng.choice(ny * nx, count, replace=False)
    response.reshape(-1)[places] *= rng.uniform(0.05, 0.2, count)
    return response / np.median(response)


def _add_dust(response: np.ndarray, rng, count: int) -> None:
    """Shadows of grains out of focus: rings with a paler middle."""
    rows, columns = _from_centre(response.shape)
    for _ in range(count):
        y, x = rng.uniform(-0.6, 0.6, 2)
        radius, depth = rng.uniform(0.02, 0.06), rng.uniform(0.03, 0.08)
        distance = np.hypot(rows - y, columns - x)
        ring = np.exp(-(((distance - radius) / (0.3 * radius)) ** 2))
        response *= 1 - depth * np.maximum(ring, 0.4 * (distance < radius))


def cosmic_rays(rng, shape, count: int) -> np.ndarray:
    """Electrons (ny, nx) that `count` cosmic rays leave: straight tracks of 1 to 15 pixels at any angle."""
    ny, nx = shape
    steps = 4  # per pixel of track
    length = 1 + 14 * rng.random(count) ** 2  # most are short
    angle = rng.uniform(0, 2 * np.pi, count)
    start_x, start_y = rng.uniform(0, nx, count), rng.uniform(0, ny, count)
    charge = 10 ** rng.uniform(2.5, 4.0, count)  # electrons per pixel of track
    along = np.arange(0, 15 * steps + 1) / steps
    x = np.floor(start_x[:, None] + np.cos(angle)[:, None] * along).astype(int)
    y = np.floor(start_y[:, None] + np.sin(angle)[:, None] * along).astype(int)
    hit = (along < length[:, None]) & (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    left = np.broadcast_to(charge[:, None] / steps, hit.shape)[hit]
    return np.bincount((y * nx + x)[hit], left, ny * nx).reshape(shape)


# ---- the plan of the night -------------------------------------------------------------------------------------------


def plan_lights(night: Night) -> Table:
    """One row per light: everything that is true of it, pixels apart.

    The filters take turns. crpix counts from 1, as in a header. dx, dy (pix): how far the field's centre lies from the
    frame's. fwhm (pix): of the profile before it is integrated over pixels. sky (e-/s/pix): in the frame's centre.
    trail, cloud, starless, other: what is wrong with the light. trail_x, trail_y (pix), trail_angle (deg, from the x
    axis towards y): a point of the trail and its direction, nan without one.
    """
    spoilt = _spoilt_lights(night)
    names = list(night.filters)
    rows = []
    for number in range(1, night.lights + 1):
        for turn, name in enumerate(names):
            flags = spoilt.get((number, turn), ())
            rows.append(_plan_light(night, name, number, (number - 1) * len(names) + turn, flags))
    for extra in range(night.other_target):
        # Before the lights of the target, so that no time depends on how many those are.
        name, number = names[extra % len(names)], 1 + extra // len(names)
        rows.append(_plan_light(night, name, number, -3 - extra, ("other",)))
    return Table(rows=rows) if rows else Table()


def _spoilt_lights(night: Night) -> dict[tuple[int, int], tuple[str]]:
    """(number of the light, turn of the filter) -> what spoils it, from the third light on if there are so many."""
    filters = len(night.filters)
    slots = [(number, turn) for number in range(1, night.lights + 1) for turn in range(filters)]
    slots = slots[2 * filters :] + slots[: 2 * filters][::-1]
    flags = ["trail"] * night.trail + ["cloud"] * night.cloud + ["starless"] * night.starless
    # One further than a whole turn of filters, so that no filter takes all the trouble.
    stride = filters + 1 if len(slots) >= (filters + 1) * len(flags) else 1
    return {slots[index * stride]: (flag,) for index, flag in enumerate(flags)}


def _plan_light(night: Night, name: str, number: int, order: int, flags) -> dict:
    file = f"Light_{'M34_' if 'other' in flags else ''}{name}_{number:03d}.fits"
    rng, band = chance(night, file, "plan"), night.filters[name]
    dx, dy = rng.uniform(-night.dither, night.dither, 2)
    change = 1 + night.sky_change * rng.uniform(-1, 1)
    fwhm, clear = rng.uniform(*night.seeing), rng.uniform(*night.transparency)
    trail_angle, trail_x, trail_y = rng.uniform(20, 70), *(rng.uniform(0.3, 0.7, 2) * night.shape[::-1])
    flipped = night.flip_from is not None and number >= night.flip_from
    rotation = band.rotation + (180 if flipped else 0)
    other, starless = "other" in flags, "starless" in flags
    # The camera moves, so it is the field's centre that gets another place on the sky, and north turns with it.
    middle = OTHER_CENTRE if other else night.centre
    crval = make_wcs(night, middle, rotation).all_pix2world(
        [[c - d for c, d in zip(_middle(night), (dx, dy), strict=True)]], 0
    )
    cd = _cd(night, rotation)
    return {
        "file": file,
        "filter": name,
        "object": "M 34" if other else ("ngc 869" if number % 2 else "NGC869"),
        "date_obs": _time(night, timedelta(hours=23, minutes=57, seconds=30), order, night.exposure + 20),
        "crval1": crval[0, 0],
        "crval2": crval[0, 1],
        "crpix1": _middle(night)[0] + 1,
        "crpix2": _middle(night)[1] + 1,
        "cd1_1": cd[0, 0],
        "cd1_2": cd[0, 1],
        "cd2_1": cd[1, 0],
        "cd2_2": cd[1, 1],
        "dx": dx,
        "dy": dy,
        "rotation": rotation,
        "fwhm": fwhm,
        "transparency": 0.0 if starless else (night.cloud_transparency if "cloud" in flags else clear),
        "sky": band.sky * change * (night.starless_sky if starless else 1),
        "trail": "trail" in flags,
        "cloud": "cloud" in flags,
        "starless": starless,
        "other": other,
        "trail_x": trail_x if "trail" in flags else math.nan,
        "trail_y": trail_y if "trail" in flags else math.nan,
        "trail_angle": trail_angle if "trail" in flags else math.nan,
    }


def _time(night: Night, start: timedelta, order: int, every: float) -> str:
    time = datetime.fromisoformat(night.date) + start + timedelta(seconds=order * every)
    return time.isoformat(timespec="milliseconds")


def _middle(night: Night) -> tuple[float, float]:
    """x, y of the frame's centre, counted from 0."""
    ny, nx = night.shape
    return (nx - 1) / 2, (ny - 1) / 2


def _cd(night: Night, rotation: float) -> np.ndarray:
    turn = math.radians(rotation)
    return night.scale * np.array([[-math.cos(turn), -math.sin(turn)], [-math.sin(turn), math.cos(turn)]])


def make_wcs(night: Night, crval, rotation: float) -> WCS:
    """TAN projection about the frame's centre, parity as on the sky, `rotation` in deg; the distortion is in it as SIP.

    It is cubic: a pixel at distance r from the centre sees what lies at r (1 + k r^2) in the undistorted plane, with k
    such that the difference is `night.distortion` in the corner. The SIP terms say exactly that.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = list(crval)
    wcs.wcs.crpix = [value + 1 for value in _middle(night)]
    wcs.wcs.cd = _cd(night, rotation)
    if night.distortion:
        k = _distortion(night)
        a, b = np.zeros((4, 4)), np.zeros((4, 4))
        a[3, 0] = a[1, 2] = b[0, 3] = b[2, 1] = k
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
        wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.set()
    return wcs


def _distortion(night: Night) -> float:
    """k of r (1 + k r^2), per pix^2."""
    return night.distortion / (math.hypot(*night.shape) / 2) ** 3


# ---- light -----------------------------------------------------------------------------------------------------------


def sky_image(night: Night, light) -> np.ndarray:
    """Sky of a light (ny, nx), electrons in the whole exposure, before the response: a tilted plane."""
    angle = chance(night, "gradient").uniform(0, 2 * np.pi)
    rows, columns = _from_centre(night.shape)
    slope = night.gradient * (np.cos(angle) * columns + np.sin(angle) * rows)
    return light["sky"] * night.exposure * (1 + slope)


def nebula_centre(night: Night) -> tuple[float, float]:
    """Ra and dec of the nebula's centre, deg."""
    east, north = (part * night.field for part in night.nebula_place)
    ra, dec = _offset(night.centre, east, north)
    return float(ra), float(dec)


def nebula_flux(night: Night, name: str) -> float:
    """Total flux of the nebula in filter `name`, e-/s at transparency 1: SHELL_MEAN pi a b peak, a and b in pix."""
    a = night.nebula_size / 120 / night.scale
    peak = night.nebula * night.filters[name].nebula * night.filters[name].sky
    return SHELL_MEAN * math.pi * a * a * night.nebula_axes * peak


def nebula_image(night: Night, wcs: WCS, name: str) -> np.ndarray:
    """The nebula (ny, nx), e-/s/pix at transparency 1, as it falls on a frame with that WCS."""
    image = np.zeros(night.shape)
    size = night.nebula_size / 120
    peak = night.nebula * night.filters[name].nebula * night.filters[name].sky
    if not peak:
        return image
    x, y = wcs.all_world2pix([nebula_centre(night)], 0, quiet=True)[0]
    reach = size / night.scale * 1.1 + 3 * abs(night.distortion)
    box_y, box_x = (slice(max(0, math.floor(c - reach)), max(0, math.ceil(c + reach) + 1)) for c in (y, x))
    image[box_y, box_x] = peak * _nebula_shape(night, wcs, size, box_y, box_x)
    return image


def _nebula_shape(night: Night, wcs: WCS, size: float, box_y: slice, box_x: slice) -> np.ndarray:
    """Surface brightness in a box of pixels, in units of the shell's largest value."""
    ny, nx = night.shape
    columns, rows = np.meshgrid(np.arange(nx)[box_x] - (nx - 1) / 2, np.arange(ny)[box_y] - (ny - 1) / 2)
    k, square = _distortion(night), columns**2 + rows**2
    area = (1 + k * square) * (1 + 3 * k * square)  # of the sky under a pixel, so that distortion keeps the total
    columns, rows = columns * (1 + k * square), rows * (1 + k * square)
    plane = WCS(naxis=2)
    plane.wcs.ctype, plane.wcs.crval = ["RA---TAN", "DEC--TAN"], wcs.wcs.crval
    plane.wcs.cdelt = [1, 1]
    place = plane.wcs_world2pix([nebula_centre(night)], 0)[0] + 1  # deg from the frame's centre, in the tangent plane
    cd = wcs.wcs.cd
    east = cd[0, 0] * columns + cd[0, 1] * rows - place[0]
    north = cd[1, 0] * columns + cd[1, 1] * rows - place[1]
    turn = math.radians(35)
    major = (east * math.sin(turn) + north * math.cos(turn)) / size
    minor = (east * math.cos(turn) - north * math.sin(turn)) / (size * night.nebula_axes)
    u = major**2 + minor**2
    lobes = 1 + LOBES * u * np.cos(3 * np.arctan2(minor, major))
    return np.where(u < 1, (1 - u) ** 2 * (1 + SHELL * u) * lobes, 0) * area / SHELL_MAX


def trail_image(night: Night, light) -> np.ndarray:
    """A satellite's trail (ny, nx), electrons: a straight line over the whole frame, as wide as the seeing."""
    ny, nx = night.shape
    angle = math.radians(light["trail_angle"])
    rows, columns = np.arange(ny)[:, None] - light["trail_y"], np.arange(nx)[None, :] - light["trail_x"]
    distance = rows * math.cos(angle) - columns * math.sin(angle)
    return night.trail_peak * np.exp(-0.5 * (distance * math.sqrt(8 * math.log(2)) / light["fwhm"]) ** 2)


class Simulation:
    """What stays the same all night, made once: stars, bias, dark and responses; and from these each frame."""

    def __init__(self, night: Night):
        self.night = night
        self.stars = make_stars(night)
        self.other_stars = make_other_stars(night) if night.other_target else None
        self.lights = plan_lights(night)
        self.bias = make_bias(night)
        self.dark = make_dark(night)
        self.response = {name: make_response(night, name) for name in night.filters}

    def wcs(self, light) -> WCS:
        """The true WCS of a light."""
        return make_wcs(self.night, (light["crval1"], light["crval2"]), light["rotation"])

    def signal(self, light) -> np.ndarray:
        """Sky, nebula and stars of a light (ny, nx), expected electrons before the response."""
        night, wcs, name = self.night, self.wcs(light), light["filter"]
        image = sky_image(night, light)
        brightness = light["transparency"] * night.exposure
        if not brightness:
            return image
        if not light["other"]:
            image += brightness * nebula_image(night, wcs, name)
        stars = self.other_stars if light["other"] else self.stars
        x, y = wcs.all_world2pix(np.column_stack([stars["ra"], stars["dec"]]), 0, quiet=True).T
        profile = Profile(night.psf, light["fwhm"], night.beta)
        paint(image, x, y, brightness * np.asarray(stars[f"flux_{name}"]), profile)
        return image

    def expected(self, light, signal: np.ndarray) -> np.ndarray:
        """Electrons (ny, nx) that a light is expected to hold, with dark current, without cosmic rays."""
        night = self.night
        bright = signal + trail_image(night, light) if light["trail"] else signal
        return bright * self.response[light["filter"]] + self.dark * night.exposure

    def rays(self, file: str, exposure: float) -> np.ndarray:
        """Electrons (ny, nx) of the cosmic rays of a frame."""
        ny, nx = self.night.shape
        count = round(self.night.cosmic_rays * ny * nx / MEGAPIXEL * exposure / self.night.exposure)
        return cosmic_rays(chance(self.night, file, "rays"), self.night.shape, count)

    def read_out(self, file: str, electrons: np.ndarray | None, rays: np.ndarray | None = None) -> np.ndarray:
        """Raw counts (ny, nx), uint16, from expected electrons (None: no light) and the charge of cosmic rays."""
        night, rng = self.night, chance(self.night, file, "noise")
        counts = rng.normal(0, night.read_noise, night.shape)
        if electrons is not None:
            counts += rng.poisson(electrons)
        if rays is not None:
            counts += rays
        counts /= night.gain
        counts += self.bias
        if night.bias_drift:
            counts += rng.normal(0, night.bias_drift)
        return np.clip(np.rint(counts, out=counts), 0, FULL_SCALE).astype(np.uint16)


# ---- headers and files -----------------------------------------------------------------------------------------------


def make_header(night: Night, file: str, kind: str, exposure: float, date_obs: str) -> fits.Header:
    """Header of a raw frame as an acquisition program writes it: no gain, no read noise, no WCS, no FILTER."""
    ny, nx = night.shape
    temperature = -20 + 0.05 * chance(night, file, "temperature").standard_normal()
    header = fits.Header()
    header["DATE-OBS"] = (date_obs, "UTC start of exposure")
    header["EXPTIME"] = (float(exposure), "[s]")
    header["IMAGETYP"] = kind
    header["INSTRUME"] = f"SimCCD {nx}"
    header["TELESCOP"] = "Simulated astrograph"
    header["SET-TEMP"] = (-20.0, "[C]")
    header["CCD-TEMP"] = (round(temperature, 2), "[C]")
    header["XBINNING"] = header["YBINNING"] = 1
    header["XPIXSZ"] = (PIXEL_MICRON, "[um]")
    header["YPIXSZ"] = (PIXEL_MICRON, "[um]")
    header["FOCALLEN"] = (round(FOCAL_ERROR * PIXEL_MICRON / 1000 / math.radians(night.scale), 1), "[mm]")
    return header


def light_header(night: Night, light) -> fits.Header:
    """Header of a light: the pointing is that of the target, to which the mount has only nearly gone."""
    header = make_header(night, light["file"], "Light Frame", night.exposure, light["date_obs"])
    ra, dec = OTHER_CENTRE if light["other"] else night.centre
    header["OBJECT"] = str(light["object"])
    header["OBJCTRA"] = Angle(ra, "deg").to_string("hourangle", sep=" ", precision=1, pad=True)
    header["OBJCTDEC"] = Angle(dec, "deg").to_string("deg", sep=" ", precision=0, pad=True, alwayssign=True)
    header["INSFILTE"] = str(light["filter"])
    return header


def make_night(
    folder: Path | str,
    night: Night,
    truth: Path | str | None = None,
    images: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Truth:
    """Write the raw frames of `night` into `folder`, and where `truth` is a folder the truth into that.

    Where `images` is true, the truth has a FITS file for each light: expected electrons, CR and SIGNAL, all (ny, nx).
    `progress` is called with a line for each group of frames. Both folders are made if they are not there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tell = progress or (lambda line: None)
    simulation = Simulation(night)
    result = Truth(night, simulation.stars, simulation.lights, Path(truth) if truth else None, simulation)
    if truth:
        _write_truth(result)
        tell(f"truth: {len(simulation.stars)} stars, response, bias and dark into {truth}")
    _write_calibration(folder, simulation, tell)
    for name in [*night.filters]:
        chosen = [light for light in simulation.lights if light["filter"] == name]
        tell(f"lights {name}: {len(chosen)} of {night.exposure:g} s")
        for light in chosen:
            _write_light(folder, simulation, light, result.folder if images else None)
    return result


def _write_calibration(folder: Path, simulation: Simulation, tell) -> None:
    """Flats at dusk, then bias and darks, the lights about midnight: no time depends on how many frames there are."""
    night = simulation.night
    for turn, name in enumerate(night.filters):
        tell(f"flats {name}: {night.flats}")
        for number in range(1, night.flats + 1):
            file, order = f"Flat_{name}_{number:03d}.fits", (number - 1) * len(night.filters) + turn
            time = _time(night, timedelta(hours=17), order, night.flat_exposure + 10)
            header = make_header(night, file, "Flat Field", night.flat_exposure, time)
            header["INSFILTE"] = name
            lamp = night.flat_level * (1 + 0.05 * chance(night, file, "lamp").uniform(-1, 1))
            electrons = lamp * simulation.response[name] + simulation.dark * night.flat_exposure
            rays = simulation.rays(file, night.flat_exposure)
            _write_raw(folder / file, simulation.read_out(file, electrons, rays), header)
    tell(f"bias: {night.bias}")
    for number in range(1, night.bias + 1):
        file = f"Bias_{number:03d}.fits"
        header = make_header(night, file, "Bias Frame", 0, _time(night, timedelta(hours=19), number, 5))
        _write_raw(folder / file, simulation.read_out(file, None), header)
    tell(f"darks: {night.darks} of {night.exposure:g} s")
    for number in range(1, night.darks + 1):
        file = f"Dark_{night.exposure:g}s_{number:03d}.fits"
        time = _time(night, timedelta(hours=20), number, night.exposure + 5)
        header = make_header(night, file, "Dark Frame", night.exposure, time)
        electrons, rays = simulation.dark * night.exposure, simulation.rays(file, night.exposure)
        _write_raw(folder / file, simulation.read_out(file, electrons, rays), header)


def _write_light(folder: Path, simulation: Simulation, light, truth: Path | None) -> None:
    night, file = simulation.night, str(light["file"])
    signal = simulation.signal(light)
    electrons, rays = simulation.expected(light, signal), simulation.rays(file, night.exposure)
    _write_raw(folder / file, simulation.read_out(file, electrons, rays), light_header(night, light))
    if truth:
        parts = [
            fits.PrimaryHDU(electrons.astype(np.float32), fits.Header({"BUNIT": "electron"})),
            fits.ImageHDU((rays > 0).astype(np.uint8), name="CR"),
            fits.ImageHDU(signal.astype(np.float32), fits.Header({"BUNIT": "electron"}), name="SIGNAL"),
        ]
        fits.HDUList(parts).writeto(truth / f"{Path(file).stem}_truth.fits", overwrite=True)


def _write_raw(path: Path, counts: np.ndarray, header: fits.Header) -> None:
    fits.PrimaryHDU(counts, header).writeto(path, overwrite=True)


# ---- truth -----------------------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """What is true of a night. Tables `stars` and `lights` are described in `make_stars` and `plan_lights`.

    Pixels come from the truth folder where they were written, and are made again where not.
    """

    night: Night
    stars: Table
    lights: Table
    folder: Path | None = None
    _simulation: Simulation | None = with_default(default=None, repr=False)

    @property
    def simulation(self) -> Simulation:
        """The simulation itself, which can make each frame again."""
        if self._simulation is None:
            self._simulation = Simulation(self.night)
        return self._simulation

    @property
    def bias(self) -> np.ndarray:
        """True bias (ny, nx), ADU."""
        return self.simulation.bias

    @property
    def dark(self) -> np.ndarray:
        """True dark current (ny, nx), e-/s."""
        return self.simulation.dark

    @property
    def response(self) -> dict[str, np.ndarray]:
        """True response (ny, nx) of each filter, median 1."""
        return self.simulation.response

    def light(self, file: Path | str):
        """The row of a light, by the name of its raw file. Raises KeyError where there is none."""
        found = np.flatnonzero(self.lights["file"] == Path(file).name)
        if not len(found):
            raise KeyError(f"{Path(file).name} is none of the night's {len(self.lights)} lights")
        return self.lights[int(found[0])]

    def wcs(self, file: Path | str) -> WCS:
        """True WCS of a light, with SIP where the night has distortion."""
        light = self.light(file)
        return make_wcs(self.night, (light["crval1"], light["crval2"]), light["rotation"])

    def positions(self, file: Path | str) -> tuple[np.ndarray, np.ndarray]:
        """x, y of all stars in the pixels of a light, counted from 0; also of those outside the frame."""
        x, y = self.wcs(file).all_world2pix(np.column_stack([self.stars["ra"], self.stars["dec"]]), 0, quiet=True).T
        return x, y

    def sky(self, file: Path | str) -> np.ndarray:
        """Sky of a light (ny, nx), electrons in the exposure, before the response."""
        return sky_image(self.night, self.light(file))

    def nebula_flux(self, name: str) -> float:
        """Total flux of the nebula in a filter, e-/s at transparency 1."""
        return nebula_flux(self.night, name)

    def images(self, file: Path | str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Expected electrons float32, cosmic rays uint8, signal float32 of a light, each (ny, nx)."""
        path = self.folder / f"{Path(file).stem}_truth.fits" if self.folder else None
        if path and path.exists():
            with fits.open(path) as parts:
                return tuple(np.array(part.data, part.data.dtype.newbyteorder("=")) for part in parts)
        light = self.light(file)
        signal = self.simulation.signal(light)
        electrons = self.simulation.expected(light, signal)
        rays = self.simulation.rays(str(light["file"]), self.night.exposure) > 0
        return electrons.astype(np.float32), rays.astype(np.uint8), signal.astype(np.float32)


def _write_truth(truth: Truth) -> None:
    folder, night = truth.folder, truth.night
    folder.mkdir(parents=True, exist_ok=True)
    truth.stars.write(folder / "stars.ecsv", format="ascii.ecsv", overwrite=True)
    truth.lights.write(folder / "lights.ecsv", format="ascii.ecsv", overwrite=True)
    (folder / "night.json").write_text(json.dumps({"night": asdict(night), "made": _facts(truth)}, indent=1) + "\n")
    images = {f"flat_{name}": (image, "") for name, image in truth.response.items()}
    images |= {"bias": (truth.bias, "adu"), "dark": (truth.dark, "electron / s")}
    for name, (image, unit) in images.items():
        header = fits.Header({"BUNIT": unit})
        fits.PrimaryHDU(image.astype(np.float32), header).writeto(folder / f"{name}.fits", overwrite=True)


def _facts(truth: Truth) -> dict:
    """What follows from the parameters, for readers without this module."""
    night = truth.night
    return {
        "scale_arcsec": night.scale * 3600,
        "nebula": {
            "centre_deg": nebula_centre(night),
            "semi_major_arcmin": night.nebula_size / 2,
            "semi_minor_arcmin": night.nebula_size / 2 * night.nebula_axes,
            "position_angle_deg": 35,
            "profile": f"peak / {SHELL_MAX:.6f} * (1 - u)^2 (1 + {SHELL:g} u) (1 + {LOBES:g} u cos 3 theta), u < 1",
            "peak": {name: night.nebula * band.nebula * band.sky for name, band in night.filters.items()},
            "flux": {name: nebula_flux(night, name) for name in night.filters},
        },
        "response_mean": {name: float(image.mean()) for name, image in truth.response.items()},
    }


def read_truth(folder: Path | str) -> Truth:
    """The truth that `make_night` wrote into `folder`. Raises FileNotFoundError where there is none."""
    folder = Path(folder)
    values = json.loads((folder / "night.json").read_text())["night"]
    values["filters"] = {name: Filter(**band) for name, band in values["filters"].items()}
    night = Night(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    stars, lights = (Table.read(folder / f"{name}.ecsv", format="ascii.ecsv") for name in ("stars", "lights"))
    return Truth(night, stars, lights, folder)


# ---- command line ----------------------------------------------------------------------------------------------------


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Simulate a night on the Double Cluster: raw frames, and the truth about them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default = Night()
    parser.add_argument("raw", type=Path, metavar="RAW", help="folder for the raw frames")
    parser.add_argument("--truth", type=Path, metavar="FOLDER", help="folder for the truth; none is written without it")
    parser.add_argument("--no-images", action="store_true", help="leave the truth's image of each light out")
    parser.add_argument("--size", type=int, default=default.size, help="pixels along a side")
    parser.add_argument("--field", type=float, default=default.field, help="degrees along a side")
    parser.add_argument("--filters", default=",".join(default.filters), help=f"some of {','.join(FILTERS)}")
    parser.add_argument("--lights", type=int, default=default.lights, help="lights per filter")
    parser.add_argument("--bias", type=int, default=default.bias, help="bias frames")
    parser.add_argument("--darks", type=int, default=default.darks, help="dark frames")
    parser.add_argument("--flats", type=int, default=default.flats, help="flats per filter")
    parser.add_argument("--exposure", type=float, default=default.exposure, help="seconds, of lights and darks")
    parser.add_argument("--faint-stars", type=int, default=default.faint_stars, help="stars beyond the table")
    parser.add_argument("--distortion", type=float, default=default.distortion, help="pixels in the corner, cubic")
    parser.add_argument("--trail", type=int, default=default.trail, help="lights with a satellite trail")
    parser.add_argument("--cloud", type=int, default=default.cloud, help="lights through cloud")
    parser.add_argument("--starless", type=int, default=default.starless, help="lights without stars")
    parser.add_argument("--other-target", type=int, default=default.other_target, help="lights of another target")
    parser.add_argument("--seed", type=int, default=default.seed, help="another seed, another night")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    """The command line."""
    given = vars(_arguments(words))
    raw, truth, images = given.pop("raw"), given.pop("truth"), not given.pop("no_images")
    try:
        night = Night(**given | {"filters": filters_named(given["filters"])})
    except ValueError as error:
        raise SystemExit(f"simulated_night: {error}") from None
    make_night(raw, night, truth, images, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
