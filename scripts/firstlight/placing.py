"""Where a frame lies on its target's grid: by its own WCS, tightened on shared stars, or by its stars alone."""

from __future__ import annotations

import numpy as np

from . import astrometry, sources
from .positions import median

BLURRED = 0.3  # pix, expected error of a placement from which on stars of a stack grow visibly


def place(table: np.ndarray, wcs, grid, tolerance: float = 2.0):
    """Where a frame lies on the grid (`grid.Grid`).

    table  the frame's sources, brightest first; wcs its own celestial WCS, or None; tolerance in pixels of the grid
    Returns (WCS of the frame on the grid's sky, how: dict of keywords). A frame's own WCS is tightened to the grid's
    stars where enough of both agree; without one, or where the stars belie it, they are matched to the grid's. Raises
    ValueError with the reason where it cannot be placed.
    """
    stars = table[table["flag"] < sources.ODD][:1500]
    xy = np.column_stack([stars["x"], stars["y"]])
    on_grid = np.column_stack([grid.stars["x"], grid.stars["y"]])
    if wcs is None or not grid.celestial:
        transform, how = _by_stars(xy, on_grid, tolerance)
        placed = astrometry.moved(grid.wcs, transform)
    else:
        placed, how = _checked(wcs, xy, on_grid, grid, tolerance)
    sky = grid.wcs.all_pix2world(on_grid, 0) if len(on_grid) else on_grid
    for radius in (2 * tolerance, tolerance, tolerance):
        predicted = to_grid(grid, placed, xy)
        i, j = _together(predicted, on_grid, *astrometry.nearest(predicted, on_grid, radius))
        if len(i) < 12:  # too few to improve on a solution that used more; but headers are a pixel off at times
            if how == "wcs" and len(i) >= max(4, astrometry.more_than_chance(predicted, on_grid, radius, 1)):
                placed = astrometry.refit(placed, xy[i], sky[j], shift_only=True)
                how = "wcs+shift"
            break
        placed = astrometry.refit(placed, xy[i], sky[j])
        how = "wcs+stars" if how.startswith("wcs") else how
    residual = to_grid(grid, placed, xy[i]) - on_grid[j]
    keywords = {
        "ALIGNED": (how, "how the frame was placed on the grid"),
        "ALIGNN": (len(i), "stars shared with the grid"),
    }
    if len(i):
        rms = float(np.sqrt((residual**2).sum(axis=1).mean()))
        keywords["ALIGNRMS"] = (round(rms, 3), "[pix] rms distance of shared stars")
    error = placing_error(residual, how, _noise(stars[i]) * _scale(placed, grid))
    if error is not None:
        keywords["ALIGNERR"] = (round(error, 3), "[pix] expected error of the placement")
    return placed, keywords


def placing_error(residual: np.ndarray, how: str, noise: np.ndarray) -> float | None:
    """Expected error in pixels, of both axes together, of a placement that leaves these residuals (n, 2).

    noise  (n,) expected error of the stars' places along one axis
    With p parameters fitted to each axis (1 for a shift, 3 for an affine transformation) and the scatter s^2 =
    sum |residual|^2 / (n - p) the fit's own error is s sqrt(p / n), averaged over the stars. What a shift leaves beyond
    the stars' noise is rotation and scale that it does not know, which does not average out, and is added. None where
    the stars do not say.
    """
    shift = how.endswith("shift")
    fitted = 0 if how == "wcs" else 1 if shift else 3
    n = len(residual)
    if n <= fitted:
        return None
    scatter = float((residual**2).sum() / (n - fitted))
    if not fitted:
        return float(np.sqrt(scatter))
    alone = float(np.mean(4 * noise**2))  # two axes, on the frame and on the grid
    # Of few stars the scatter is known badly itself: by a factor sqrt(1 / (n - 1)) for two axes.
    left = scatter - alone if shift and scatter > alone * (1 + 2 / np.sqrt(n - 1)) else 0.0
    return float(np.sqrt(scatter * fitted / n + left))


def words(header) -> list[str]:
    """What the cards of a placement mean, for a log."""
    name, n, error = header["ALIGNED"], header["ALIGNN"], header.get("ALIGNERR")
    known = "" if error is None else f", expected error {error} pix"
    said = [f"placed by {name}, {n} stars shared with the grid{known}"]
    if error is None and name != "reference":
        said.append("with so few shared stars nothing tells how well it is placed")
    elif error is not None and error > BLURRED:
        said.append(
            f"the placement may be off by {error} pix, more than {BLURRED}: {n} shared stars do not tell it better; its stars "
            "may be smeared in the stack, and coloured at their rims in a picture"
        )
    return said


def to_grid(grid, wcs, xy: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) of a frame on the grid."""
    return grid.wcs.wcs_world2pix(wcs.all_pix2world(xy, 0), 0) if len(xy) else np.zeros((0, 2))


def _noise(stars: np.ndarray) -> np.ndarray:
    """Expected error (pix) of the stars' places along one axis: the width of their profile over their signal to noise."""
    width = np.clip(stars["fwhm"], 1.0, 20.0) / 2.355
    return width * np.clip(stars["flux_err"], 0, None) / np.maximum(stars["flux"], 1e-9)


def _scale(wcs, grid) -> float:
    """Side of a frame's pixel in pixels of the grid."""
    return astrometry.scale_of(wcs) / astrometry.scale_of(grid.wcs)


def _by_stars(xy: np.ndarray, on_grid: np.ndarray, tolerance: float) -> tuple[np.ndarray, str]:
    """Transformation (2, 3) from a frame to the grid by its stars: any from 6 stars on, a plain shift from 3, a small
    one from 2."""
    if min(len(xy), len(on_grid)) < 2:
        raise ValueError(f"{len(xy)} stars in the frame, {len(on_grid)} on the grid: too few to match them")
    try:
        return astrometry.match_stars(xy, on_grid, tolerance)[0], "stars"
    except ValueError as any_transformation:
        try:
            return astrometry.match_shift(xy, on_grid)[0], "shift"
        except ValueError as shift:
            raise ValueError(f"{any_transformation}; {shift}") from shift


def _checked(wcs, xy: np.ndarray, on_grid: np.ndarray, grid, tolerance: float):
    """A frame's own WCS and "wcs"; or, where the stars contradict it and agree on another place, that and "stars".

    Many headers carry what the mount believed. A WCS that was checked against a catalogue passes here at once; one that
    shares no stars with the grid (another filter, a small overlap) stays.
    """
    predicted = to_grid(grid, wcs, xy)
    agreeing = len(astrometry.nearest(predicted, on_grid, 2 * tolerance)[0])
    if agreeing < max(6, astrometry.more_than_chance(predicted, on_grid, 2 * tolerance, 0)):
        try:
            return astrometry.moved(grid.wcs, astrometry.match_stars(xy, on_grid, tolerance)[0]), "stars"
        except ValueError:
            pass
    return wcs, "wcs"


def _together(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray):
    """The pairs (indices into a and b) whose distance is that of most: hot pixels do not move with the stars."""
    if len(i) < 6:
        return i, j
    apart = a[i] - b[j]
    distance = np.hypot(*(part - median(part) for part in apart.T))
    keep = distance <= max(4 * median(distance), 0.2)
    return i[keep], j[keep]
