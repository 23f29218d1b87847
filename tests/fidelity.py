"""What a stack of a simulated night is worth, by the truth: so that nobody is fast by doing less.

The stars that the night was painted with are tied to those of the stack, whatever its pixels, unit and origin. `scatter` is
that of measured over true fluxes of bright stars that stand alone; `noise` that of the sky, as means over 8x8 pixels, in
electrons of a single exposure's stars; `fwhm` twice the radius of half a star's light. A stack that smooths has less noise
and wider stars.
"""

from __future__ import annotations

import numpy as np
import ruler
import sep
import simulated_night as sim
from firstlight import astrometry

BRIGHTEST = 100


def measure(image: np.ndarray, truth: sim.Truth, name: str) -> dict:
    """Numbers of a stack (ny, nx) in one filter: noise [electron], scatter [%], fwhm [pix], stars that count.

    0 and NaN are pixels without data. Raises ValueError where its stars are not those of the night.
    """
    nothing = ~np.isfinite(image) | (image == 0)
    data = np.where(nothing, np.median(image[~nothing]), image).astype(np.float32)
    data -= sep.Background(data, mask=nothing, bw=64, bh=64).back(dtype=np.float32)
    places, flux, fwhm = _stars(truth, name)
    transform = ruler.tie(places[np.argsort(-flux)][:400], ruler.bright(data))
    x, y = (np.ascontiguousarray(column) for column in astrometry.apply_affine(transform, places).T)
    painted = np.zeros(data.shape, np.float32)
    sim.paint(painted, x, y, flux, sim.Profile("moffat", fwhm, truth.night.beta))

    use = _usable(x, y, flux, nothing, 3.5 * fwhm, truth.night)
    if not use.any():
        raise ValueError(f"none of {len(flux)} stars stands alone, unsaturated and whole in the stack")
    measured, true = (sep.sum_circle(one, x[use], y[use], 3.5 * fwhm, subpix=0)[0] for one in (data, painted))
    ratio = measured / true
    half, _ = sep.flux_radius(data, x[use], y[use], np.full(use.sum(), 3.5 * fwhm), 0.5, subpix=5)
    scale = float(np.median(ratio))
    dark = ~nothing & (painted < 0.1 * ruler.robust(data[~nothing]) / scale)
    return {
        "noise": ruler.robust(ruler.blocks(data, dark)) / scale,
        "scatter": 100 * ruler.robust(ratio / scale),
        "fwhm": float(2 * np.median(half)),
        "stars": int(use.sum()),
    }


def _stars(truth: sim.Truth, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Places (n, 2) on the first light of a filter, electrons in an exposure, FWHM [pix] of the filter's lights."""
    lights = truth.lights[truth.lights["filter"] == name]
    places = np.column_stack(truth.positions(str(lights["file"][0])))
    ny, nx = truth.night.shape
    inside = (places > 0).all(axis=1) & (places < (nx, ny)).all(axis=1)
    flux = np.asarray(truth.stars[f"flux_{name}"], float) * truth.night.exposure
    return places[inside], flux[inside], float(np.median(lights["fwhm"]))


def _usable(x, y, flux, nothing: np.ndarray, radius: float, night: sim.Night) -> np.ndarray:
    """The brightest stars (n) that stand alone, whole within the image, far from saturation."""
    ny, nx = nothing.shape
    whole = (x > radius) & (y > radius) & (x < nx - 1 - radius) & (y < ny - 1 - radius)
    whole &= sep.sum_circle(nothing.astype(np.float32), x, y, radius, subpix=0)[0] == 0
    # A quarter of a star's light falls on its brightest pixel at most.
    whole &= 0.25 * flux < 0.5 * sim.FULL_SCALE * night.gain
    stars = np.rec.fromarrays([x, y, flux], names="x,y,flux")
    chosen = np.flatnonzero(whole & ruler.isolated(stars, radius, 0.05))
    use = np.zeros(len(x), bool)
    use[chosen[np.argsort(-flux[chosen])][:BRIGHTEST]] = True
    return use
