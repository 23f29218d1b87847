"""What tests of grids, placing and resampling share: fields of stars and planes that are known exactly."""

import numpy as np
import simulated_night as sim
from astropy.io import fits
from firstlight import align, astrometry, sources
from firstlight import grid as grids
from firstlight.frame import Frame

SHAPE = (96, 110)
MIDDLE = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])


def turn(angle, scale=1.0):
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return np.array([[c, -s], [s, c]])


def a_wcs(crpix=MIDDLE, angle=0.0, scale=2.0, crval=(35.0, 57.0)):
    """TAN; scale in arcsec/pix."""
    return astrometry.tangent_wcs(crval, crpix, np.diag([-1.0, 1.0]) @ turn(angle, scale / 3600))


def shifted(dx, dy):
    """WCS of a grid whose pixel (x, y) lies at (x + dx, y + dy) on the frame of `a_wcs()`."""
    return a_wcs(MIDDLE - (dx, dy))


def a_frame(image, sigma=None, mask=None):
    sigma = None if sigma is None else np.broadcast_to(np.float32(sigma), image.shape)
    return Frame(np.asarray(image, np.float32), fits.Header(), sigma, mask, "electron")


def onto(image, grid_wcs, kernel="cubic", shape=SHAPE, wcs=None, **parts):
    return align.align(a_frame(image, **parts), wcs or a_wcs(), grid_wcs, shape, kernel)


def noise(seed=1, shape=SHAPE, level=100.0, scatter=10.0):
    return np.random.default_rng(seed).normal(level, scatter, shape)


def pixels(shape=SHAPE):
    return np.meshgrid(np.arange(shape[1], dtype=float), np.arange(shape[0], dtype=float))


def painted(x, y, flux=1e5, fwhm=3.0, shape=SHAPE):
    image = np.zeros(shape)
    sim.paint(
        image,
        np.atleast_1d(x),
        np.atleast_1d(y),
        np.broadcast_to(flux, np.shape(np.atleast_1d(x))),
        sim.Profile("gauss", fwhm),
    )
    return image


def centroid(image, x, y, reach=12):
    """x, y, sum of the light within a box about a star on no sky."""
    box = (slice(round(y) - reach, round(y) + reach + 1), slice(round(x) - reach, round(x) + reach + 1))
    columns, rows = pixels(image.shape)
    light = image[box].astype(float)
    return (columns[box] * light).sum() / light.sum(), (rows[box] * light).sum() / light.sum(), light.sum()


def a_night(distortion=5.0, size=512):
    return sim.Night(size=size, field=1.7, distortion=distortion)


def star_field(n=60, seed=5, size=800):
    """Positions (n, 2) on the grid, brightest first."""
    return np.random.default_rng(seed).uniform(20, size - 20, (n, 2))


def a_grid(xy, wcs=None, size=800):
    stars = np.zeros(len(xy), [("x", "f8"), ("y", "f8"), ("fwhm", "f8")])
    stars["x"], stars["y"], stars["fwhm"] = *xy.T, 3.0
    celestial = wcs is not None
    return grids.Grid(wcs or astrometry.pixel_plane(), celestial, (size, size), stars, "first")


def table_of(xy, scatter=0.05, seed=6):
    table = np.zeros(len(xy), [(name, "f8") for name in sources.COLUMNS])
    table["x"], table["y"] = (xy + np.random.default_rng(seed).normal(0, scatter, xy.shape)).T
    table["flux"], table["fwhm"] = np.linspace(1e5, 1e3, len(xy)), 3.0
    return table


def light_header(wcs=None, name="first", **cards):
    head = fits.Header({"NAXIS1": 512, "NAXIS2": 500, "OBJECT": "M 42", "FLFRAME": name} | cards)
    return astrometry.replace_wcs(head, wcs)


def grid_of(header, table):
    """The grid that a single light gives, from its header and its sources."""
    return grids.choose([grids.Light(str(header.get("FLFRAME", "")), header)], lambda light: table, {})[0]
