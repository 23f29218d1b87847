"""The star catalogue of a target: a local table, or a cone of Gaia DR3, reduced to the columns that are used."""

from __future__ import annotations

import numpy as np

COLUMNS = {"ra": "deg", "dec": "deg", "mag": "mag", "colour": "mag"}
# Names by which tables call what we need, without regard to case; the first that is present counts.
ALIASES = {
    "ra": ("ra", "raj2000", "ra_icrs", "_ra", "ra_deg", "radeg", "alpha"),
    "dec": ("dec", "dej2000", "de_icrs", "_de", "dec_deg", "decdeg", "dedeg", "delta"),
    "mag": ("mag", "phot_g_mean_mag", "gmag", "vt", "vtmag", "vmag", "v", "rmag", "r", "magnitude"),
    "colour": ("colour", "color", "bp_rp", "bp-rp", "b-v", "bv"),
}


def standard(table) -> np.ndarray:
    """A table of stars (astropy Table) as a structured array with `COLUMNS`, brightest first; NaN where there is no colour.

    Positions may be in degrees, in hours where the column's unit says so, or sexagesimal text.
    Raises ValueError naming the columns that are there where a needed one is not, or the column that holds no numbers.
    """
    names = {name.lower(): name for name in table.colnames}
    stars = np.full(len(table), np.nan, [(name, "f8") for name in COLUMNS])
    for column, aliases in ALIASES.items():
        found = next((names[alias] for alias in aliases if alias in names), None)
        if found is not None:
            stars[column] = _numbers(table[found], column)
        elif column != "colour":
            raise ValueError(
                f"no column for {column} in the catalogue (it has {', '.join(table.colnames)}): name one {aliases[0]}?"
            )
    stars = stars[np.isfinite(stars["ra"]) & np.isfinite(stars["dec"]) & np.isfinite(stars["mag"])]
    return stars[np.argsort(stars["mag"], kind="stable")]


def _numbers(values, column: str) -> np.ndarray:
    """A table's column as float64 (n,), NaN where it is masked; right ascension and declination in degrees."""
    unit = str(getattr(values, "unit", "") or "")
    try:
        if np.asarray(values).dtype.kind in "US" and column in ("ra", "dec"):
            return np.array([_degrees(str(text), column) for text in values])
        numbers = np.ma.filled(np.ma.asarray(getattr(values, "value", values), float), np.nan)
    except ValueError as error:
        raise ValueError(f"column {values.name} of the catalogue cannot be used as {column}: {error}") from error
    if column == "ra" and unit in ("hourangle", "h", "hour", "hr"):
        return 15 * numbers
    return np.degrees(numbers) if column in ("ra", "dec") and unit == "rad" else numbers


def _degrees(text: str, column: str) -> float:
    """Degrees of '35.15', or of '02 20 36' and '02:20:36' (hours for right ascension); NaN of nothing."""
    parts = text.replace(":", " ").split()
    if not parts or text == "--":
        return float("nan")
    value = sum(abs(float(part)) / 60**place for place, part in enumerate(parts))
    sign = -1 if parts[0].startswith("-") else 1
    return sign * value * (15 if column == "ra" and len(parts) > 1 else 1)


def nothing() -> np.ndarray:
    """A catalogue without stars."""
    return np.zeros(0, [(name, "f8") for name in COLUMNS])


def gaia(centre: tuple[float, float], radius: float, limit: float = 17.0, rows: int = 20_000) -> np.ndarray:
    """Stars of Gaia DR3 in a cone, brightest first (Gaia Collaboration 2023, A&A 674, A1); asks the archive over the network.

    centre (ra, dec) and radius in degrees; G magnitude below `limit`. Raises OSError where the archive does not answer.
    """
    from astroquery.gaia import GaiaClass

    ra, dec = centre
    query = (
        f"SELECT TOP {rows} ra, dec, phot_g_mean_mag, bp_rp FROM gaiadr3.gaia_source "
        f"WHERE 1 = CONTAINS(POINT(ra, dec), CIRCLE({ra:.5f}, {dec:.5f}, {radius:.4f})) "
        f"AND phot_g_mean_mag < {limit} ORDER BY phot_g_mean_mag"
    )
    return standard(GaiaClass(show_server_messages=False).launch_job_async(query).get_results())


def field_of(
    pointings: list[tuple[float, float]], field: float, margin: float = 0.3
) -> tuple[tuple[float, float], float]:
    """Centre (ra, dec) and radius in degrees of a cone that holds fields of `field` degrees diagonal at all pointings."""
    from .astrometry import separation

    ra, dec = np.radians(np.array(pointings)).T
    x, y, z = (np.cos(dec) * np.cos(ra)).mean(), (np.cos(dec) * np.sin(ra)).mean(), np.sin(dec).mean()
    centre = (float(np.degrees(np.arctan2(y, x)) % 360 % 360), float(np.degrees(np.arctan2(z, np.hypot(x, y)))))
    spread = float(separation(centre, np.array(pointings)).max())
    return centre, spread + field / 2 + margin
