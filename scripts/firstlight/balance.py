"""White balance: by stars whose colours a catalogue knows, else by the stars of the field, which are white on average."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .planes import Plane

STARS, FEWEST_STARS = 300, 5  # as many as are used, and as few as are believed
# Colours of main sequence stars (Pecaut & Mamajek 2013, ApJS 208, 9, table of 2022): Gaia BP-RP and Johnson B-V.
WHITE = {
    "A0V": (-0.04, 0.00),
    "F0V": (0.38, 0.30),
    "F5V": (0.59, 0.44),
    "G2V": (0.82, 0.65),
    "K0V": (0.98, 0.82),
}
FAINTER = 2.5  # mag, of a second star of the catalogue within the circle, or the colour is that of neither
SPREAD = 0.25  # mag, of the colours that a slope is taken from; stars more alike must be close to white themselves
BEYOND = 0.3  # mag, how far beyond the stars' colours a slope is followed
FAR, EDGE = 8, 10  # pixels: a star stands out of what lies that far to all sides; none is taken that near to the edge


@dataclass(frozen=True)
class Balance:
    """Factor of each filter, and in words where it is from."""

    factors: dict[str, float]
    source: str

    @property
    def words(self) -> str:
        """'white is G2V by 212 stars of the catalogue: B 1.52, V 1, R 0.71'; without factors where all are 1."""
        if set(self.factors.values()) == {1.0}:
            return self.source
        return f"{self.source}: " + ", ".join(f"{name} {factor:.4g}" for name, factor in self.factors.items())


def balanced(
    planes: dict[str, Plane],
    how="catalogue",
    white_star: str = "G2V",
    stars: np.ndarray | None = None,
    band: str = "",
    fwhm: float = 3.0,
) -> Balance:
    """Factors that make a star of a given colour white.

    planes      {filter: Plane} on one grid
    how         "catalogue": by `stars`, where these do not serve by the field, where that does not either none;
                "stars": by the field; "none"; or {filter: factor}
    white_star  spectral type that is white, of `WHITE`
    stars       structured (n,) with x, y [pix, from 0], mag, colour [mag], the catalogue's; or None
    band        which colour that is, in the words of the catalogue ("Gaia BP-RP", "b-v")
    fwhm        [pix] of the widest star: fluxes are sums within twice that, at least 4 pixels

    By the catalogue: -2.5 log10(flux / flux of the deepest filter) is a straight line in the colour, fitted with
    clipping at 3 of its scatter; its value at the colour of the white star, in magnitudes, is the factor. By the field:
    the median of the flux ratios is 1. Only stars that are saturated in no filter count, 300 at most.
    Raises ValueError for a word that is not among the above.
    """
    if isinstance(how, dict):
        return Balance({name: float(how.get(name, 1.0)) for name in planes}, "white balance as configured")
    for what, value, known in (("balance", how, ("catalogue", "stars", "none")), ("white_star", white_star, WHITE)):
        if value not in known:
            raise ValueError(f"{what} is {value!r} but must be one of {', '.join(known)}")
    if how == "none" or len(planes) == 1:
        why = "no white balance" if len(planes) > 1 else "one filter, no white balance"
        return Balance(dict.fromkeys(planes, 1.0), why)
    y, x = prominent(planes)
    fluxes = _fluxes(planes, y, x, max(2 * fwhm, 4.0))
    good = np.logical_and.reduce([flux > 0 for flux in fluxes.values()])
    y, x, fluxes = y[good], x[good], {name: flux[good] for name, flux in fluxes.items()}
    why = ""
    if how == "catalogue":
        found, why = _by_catalogue(planes, fluxes, _colours(y, x, stars, fwhm), white_star, band)
        if found:
            return found
    if len(x) < FEWEST_STARS:
        few = f"no white balance, since only {len(x)} stars serve"
        return Balance(dict.fromkeys(planes, 1.0), few + why)
    reference = _deepest(planes, fluxes)
    factors = {name: float(np.median(fluxes[reference] / flux)) for name, flux in fluxes.items()}
    return Balance(factors, f"white is the median of {len(x)} stars of the field" + why)


def prominent(planes: dict[str, Plane]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of prominent stars that are saturated in no filter: peaks that stand out of what lies 8 pixels to
    all sides, by at least 8 noises, those that do most first."""
    first = next(iter(planes.values())).data
    if min(first.shape) <= 2 * EDGE + 2:
        return np.zeros(0, int), np.zeros(0, int)
    depth = sum(plane.data / np.float32(plane.noise or 1) for plane in planes.values())
    depth /= np.float32(np.sqrt(len(planes)))
    inner = depth[EDGE:-EDGE, EDGE:-EDGE]
    rise = inner - np.maximum(_shifted(depth, FAR, 0), _shifted(depth, -FAR, 0))
    np.minimum(rise, inner - np.maximum(_shifted(depth, 0, FAR), _shifted(depth, 0, -FAR)), out=rise)
    peak = rise > 8
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        peak &= (inner >= _shifted(depth, dy, dx)) & (inner > _shifted(depth, -dy, -dx))
    y, x = np.nonzero(peak)
    order = np.argsort(-rise[y, x])[: 10 * STARS]
    y, x = y[order] + EDGE, x[order] + EDGE
    if y.size == 0:
        return y, x
    rows, columns = _around(y, x, 6)
    whole = np.ones(y.size, bool)
    for plane in planes.values():
        whole &= (plane.seen[rows, columns] & ~plane.clipped[rows, columns]).all(axis=(1, 2))
    # A hot pixel stands alone among its eight neighbours; no star does, however good the seeing.
    stamp = depth[rows, columns]
    local = np.median(stamp, axis=(1, 2))
    whole &= stamp[:, 6, 6] - local < 0.6 * (stamp[:, 5:8, 5:8].sum(axis=(1, 2)) - 9 * local)
    return y[whole][:STARS], x[whole][:STARS]


def _shifted(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The view of an image without its edge, seen from (dy, dx) away."""
    ny, nx = image.shape
    return image[EDGE + dy : ny - EDGE + dy, EDGE + dx : nx - EDGE + dx]


def _around(y: np.ndarray, x: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (n, 2 reach + 1, 2 reach + 1) of the squares around n pixels."""
    span = np.arange(-reach, reach + 1)
    return y[:, None, None] + span[:, None], x[:, None, None] + span


def _fluxes(planes: dict[str, Plane], y: np.ndarray, x: np.ndarray, radius: float) -> dict[str, np.ndarray]:
    """Sums within a radius of each star less the median of a ring around, 4 pixels wide; NaN too near to the edge."""
    reach = int(np.ceil(radius + 5))
    span = np.arange(-reach, reach + 1)
    distance = np.hypot(span[:, None], span)
    inside, ring = distance <= radius, (distance > radius + 1) & (distance <= radius + 5)
    ny, nx = next(iter(planes.values())).data.shape
    whole = (y >= reach) & (x >= reach) & (y < ny - reach) & (x < nx - reach)
    rows, columns = _around(y[whole], x[whole], reach)
    fluxes = {}
    for name, plane in planes.items():
        stamps = plane.data[rows, columns]
        fluxes[name] = np.full(len(y), np.nan)
        fluxes[name][whole] = stamps[:, inside].sum(axis=1) - np.median(stamps[:, ring], axis=1) * inside.sum()
    return fluxes


def _deepest(planes: dict[str, Plane], fluxes: dict[str, np.ndarray]) -> str:
    return max(planes, key=lambda name: np.median(fluxes[name]) / max(planes[name].noise, 1e-30))


def _colours(y: np.ndarray, x: np.ndarray, stars: np.ndarray | None, fwhm: float) -> np.ndarray:
    """The catalogue's colour of each star (n,); NaN where it has none, or two of like brightness for one."""
    colours = np.full(len(x), np.nan)
    if stars is None or not len(x):
        return colours
    radius = max(2 * fwhm, 4.0)
    stars = stars[np.argsort(stars["y"])]
    first, last = (np.searchsorted(stars["y"], y + reach) for reach in (-radius, radius))
    for i in range(len(x)):
        near = stars[first[i] : last[i]]
        distance = np.hypot(near["x"] - x[i], near["y"] - y[i])
        near, distance = near[distance <= radius], distance[distance <= radius]
        order = np.argsort(near["mag"])[:2]
        alone = len(order) == 1 or (len(order) and np.diff(near["mag"][order])[0] > FAINTER)
        if alone and distance[order[0]] <= max(fwhm, 2.0):
            colours[i] = near["colour"][order[0]]
    return colours


def white_colour(white_star: str, band: str) -> float | None:
    """The white star's colour in the catalogue's band; None where the band is not known."""
    plain = "".join(c for c in band.lower() if c.isalnum())
    gaia, johnson = WHITE[white_star]
    if "bprp" in plain:
        return gaia
    return johnson if plain in ("bv", "johnsonbv") else None


def _by_catalogue(planes, fluxes, colours, white_star, band) -> tuple[Balance | None, str]:
    """The balance by known colours, or None and why not, in words."""
    known = np.isfinite(colours)
    white = white_colour(white_star, band)
    if known.sum() < FEWEST_STARS:
        return None, f" ({known.sum()} of them have a colour in the catalogue)" if known.any() else ""
    if white is None:
        return None, f" (the white of {white_star} is not known in the catalogue's colour {band!r})"
    colours, fluxes = colours[known], {name: flux[known] for name, flux in fluxes.items()}
    low, high = np.percentile(colours, [5, 95])
    if not low - BEYOND <= white <= high + BEYOND or (high - low < SPREAD and not low <= white <= high):
        return None, f" (the stars' colours, {low:.2f} to {high:.2f}, say nothing of {white_star} at {white:.2f})"
    reference = _deepest(planes, fluxes)
    factors = {
        name: 10 ** (0.4 * _at(white, colours, 2.5 * np.log10(fluxes[reference] / flux), high - low >= SPREAD))
        for name, flux in fluxes.items()
    }
    return Balance(factors, f"white is {white_star} by {len(colours)} stars of the catalogue"), ""


def _at(white: float, colours: np.ndarray, ratios: np.ndarray, sloped: bool) -> float:
    """Value at one colour of the line through (colours, ratios), of which outliers are left out."""
    terms = np.stack([np.ones_like(colours), colours - white], axis=1)[:, : 1 + sloped]
    good = np.ones(len(colours), bool)
    fit = np.zeros(terms.shape[1])
    fit[0] = np.median(ratios)
    for _ in range(20):
        # Least absolute deviations first, so that the one red companion in an aperture does not tilt the line.
        weights = 1 / np.sqrt(np.maximum(np.abs(ratios - terms @ fit), 1e-3))
        fit = np.linalg.lstsq(terms * weights[:, None], ratios * weights, rcond=None)[0]
    for _ in range(10):
        rest = ratios - terms @ fit
        scatter = max(1.4826 * float(np.median(np.abs(rest[good]))), 1e-4)
        kept = np.abs(rest) <= 3 * scatter
        if kept.sum() < FEWEST_STARS or np.array_equal(kept, good):
            break
        good = kept
        fit = np.linalg.lstsq(terms[good], ratios[good], rcond=None)[0]
    return float(fit[0])
