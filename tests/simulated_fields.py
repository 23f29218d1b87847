"""Lists of sources with a known WCS, and catalogues of the sky around them, as real ones differ from each other."""

from dataclasses import dataclass

import numpy as np
from firstlight import astrometry, catalogue, sources
from firstlight.tangent import Sip

SIZE = 1024
DEPTH = 11.5  # mag of the faintest catalogue stars
SLOPE = 0.45  # growth of the logarithm of star counts with magnitude


@dataclass(frozen=True)
class Field:
    """Sources and catalogue of a frame of 1024x1024 pixels, its true WCS, a pointing that is off, its scale in arcsec/pix."""

    table: np.ndarray
    stars: np.ndarray
    truth: object
    pointing: tuple[float, float]
    scale: float

    def error(self, wcs) -> float:
        """Rms distance in pixels from the truth over the whole frame."""
        x, y = np.meshgrid(*2 * [np.linspace(0, SIZE - 1, 11)])
        xy = np.column_stack([x.ravel(), y.ravel()])
        away = astrometry.separation(wcs.all_pix2world(xy, 0), self.truth.all_pix2world(xy, 0)) * 3600 / self.scale
        return float(np.sqrt((away**2).mean()))


def field(
    seed: int,
    degrees: float,
    density: float,
    deeper: float = 1.5,
    noise: float = 0.1,
    lost: float = 0.05,
    spurious: float = 0.15,
    distortion: float = 0.0,
    off: float = 0.2,
    centre=None,
) -> Field:
    """A frame of a random place with random rotation and parity.

    degrees     side of the frame; density: catalogue stars per square degree
    deeper      magnitudes by which the frame goes deeper than the catalogue (negative: less deep)
    noise       pixels, of a position; lost: share of stars not found; spurious: false sources per star
    distortion  pixels at the middle of an edge, growing with the cube of the distance from the centre
    off         degrees by which the pointing may be wrong
    """
    rng = np.random.default_rng(seed)
    centre = centre or (rng.uniform(0, 360), np.degrees(np.arcsin(rng.uniform(-1, 1))))
    truth = _wcs(rng, centre, degrees / SIZE, distortion)
    sky, mag = _sky(rng, centre, 0.75 * degrees + off + 0.3, density, max(deeper, 0.0))
    listed = mag < DEPTH
    stars = np.zeros(listed.sum(), [(name, "f8") for name in catalogue.COLUMNS])
    stars["ra"], stars["dec"], stars["mag"] = *sky[listed].T, mag[listed]
    xy = truth.wcs_world2pix(sky, 0)
    near = (np.abs(xy - SIZE / 2) < 0.6 * SIZE).all(axis=1)  # far away a cubic turns back
    if distortion:
        xy[near] = truth.all_world2pix(sky[near], 0, quiet=True)
    bright = mag + rng.normal(0, 0.3, len(mag))  # in another band
    seen = ((xy > 2) & (xy < SIZE - 3)).all(axis=1) & (rng.random(len(mag)) > lost) & (bright < DEPTH + deeper)
    false = rng.poisson(spurious * seen.sum())
    away, turn = rng.uniform(0, off), rng.uniform(0, 2 * np.pi)
    pointing = astrometry.from_plane([[away * np.cos(turn), away * np.sin(turn)]], centre)[0]
    positions = np.vstack([xy[seen] + rng.normal(0, noise, (seen.sum(), 2)), rng.uniform(0, SIZE - 1, (false, 2))])
    mags = np.append(bright[seen], rng.choice(bright[seen], false) if false else [])
    table = table_of(positions, 10 ** (-0.4 * (mags - 20)))
    return Field(table, stars[np.argsort(stars["mag"])], truth, tuple(pointing), 3600 * degrees / SIZE)


def table_of(xy, flux) -> np.ndarray:
    """A table of sources at pixels (n, 2), brightest first."""
    table = np.zeros(len(xy), [(name, "f8") for name in sources.COLUMNS])
    table["x"], table["y"] = np.asarray(xy).reshape(-1, 2).T
    table["flux"], table["fwhm"] = flux, 3.0
    return table[np.argsort(-table["flux"])][:3000]


def _wcs(rng, centre, scale: float, distortion: float):
    angle, middle = rng.uniform(0, 2 * np.pi), (SIZE - 1) / 2
    c, s = np.cos(angle), np.sin(angle)
    cd = scale * np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if rng.random() < 0.5 else 1.0, 1.0])
    wcs = astrometry.tangent_wcs(centre, (middle, middle), cd)
    if distortion:
        a, b = np.zeros((4, 4)), np.zeros((4, 4))
        a[3, 0] = a[1, 2] = b[0, 3] = b[2, 1] = distortion / middle**3
        return wcs.with_sip(Sip(a, b))
    return wcs


def _sky(rng, centre, radius: float, density: float, deeper: float):
    """Positions (n, 2) in a circle and their magnitudes; density of those of the catalogue per square degree."""
    n = rng.poisson(density * 10 ** (SLOPE * deeper) * np.pi * radius**2)
    away = np.arccos(1 - rng.random(n) * (1 - np.cos(np.radians(radius))))
    turn = rng.uniform(0, 2 * np.pi, n)
    plane = np.degrees(np.tan(away))[:, None] * np.column_stack([np.cos(turn), np.sin(turn)])
    return astrometry.from_plane(plane, centre), DEPTH + deeper + np.log10(1 - rng.random(n)) / SLOPE
