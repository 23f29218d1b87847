"""What is to be made of a folder of frames, as files: the look-ups that the rules ask."""

from __future__ import annotations

import re
from pathlib import Path

from . import match
from .frame import printable
from .provenance import content_identity, identity

# Configuration sections whose options take part in a light, beside its masters.
LIGHT_OPTIONS = ("header", "cameras", "trim", "cosmic_ray", "sources", "solve")
RAW_OPTIONS = ("header", "cameras", "trim")


class Night:
    """The products that a frames table and a configuration ask for, their names and their inputs.

    table   rows of the frames table; config complete (see `config.complete`)
    Paths begin with the results folder and can be asked for on Snakemake's command line.
    """

    def __init__(self, rows, config: dict):
        self.config = config
        self.results = config["results"]
        lights = [row for row in rows if row.kind == "light"]
        self.lights_before_selection = {
            f"{name}s": {getattr(row, column) for row in lights}
            for name, column in (("target", "object"), ("night", "night"), ("filter", "band"))
            if lights
        }
        self.plan = match.plan(rows, config["match"], config["missing"], config["select"])
        self._masters = {f"{self.results}/{path}": master for path, master in self.plan.masters.items()}

    # Names

    def light(self, row, suffix: str = "fits") -> str:
        """Path of a calibrated light, or of its table of sources (`ecsv`)."""
        return self._of_light("lights", row, suffix)

    def _of_light(self, room: str, row, suffix: str = "fits") -> str:
        """Path of what is made of one light, below the folder `room`."""
        return f"{self.results}/{room}/{row.target}/{row.night}/{row.filter}/{row.name}.{suffix}"

    def aligned(self, row) -> str:
        """Path of a light on its target's grid."""
        return f"{self.results}/aligned/{row.target}/{row.filter}/{row.name}.fits"

    def grid(self, target: str) -> str:
        """Path of a target's grid."""
        return f"{self.results}/aligned/{target}/grid.fits"

    def stack(self, target: str, filter: str) -> str:
        """Path of a combined image."""
        return f"{self.results}/stacks/{target}/{filter}.fits"

    def steps(self) -> list[str]:
        """All files of single steps."""
        from .calibrate import STEPS

        return [self._of_light(f"steps/{step}", row) for step in STEPS for row in self.plan.lights.values()]

    def products(self) -> list[str]:
        """Everything that `rule all` makes and keeps."""
        masters = [f"{self.results}/{master.path}" for master in self.plan.used_masters()]
        rows = self.plan.lights.values()
        lights = (
            [self.light(row, suffix) for row in rows for suffix in ("fits", "ecsv")] if self.keeps("lights") else []
        )
        aligned = [self.aligned(row) for row in rows] if self.keeps("aligned") else []
        grids = [self.grid(target) for target in self.plan.targets]
        catalogues = (
            [f"{self.results}/catalogues/{target}.ecsv" for target in self.plan.targets]
            if self.config["catalogue"]
            else []
        )
        stacks = [self.stack(*key) for key in self.plan.stacks]
        pictures = [
            f"{self.results}/pictures/{target}.{suffix}" for target in self.plan.targets for suffix in ("png", "tiff")
        ]
        previews = [f"{self.results}/pictures/{target}/{name}.tiff" for target, name in self.plan.stacks]
        return masters + catalogues + lights + grids + aligned + stacks + pictures + previews

    def keeps(self, what: str) -> bool:
        """Whether `lights` or `aligned` stay on disk."""
        return what in self.config["keep"]

    def constraints(self) -> dict[str, str]:
        """Regular expressions for the wildcards, from what is there: a typo fails at once."""
        masters = [master.first for master in self.plan.masters.values()]
        lights = list(self.plan.lights.values())
        kinds = {"target": {row.target for row in lights}, "filter": {row.filter for row in lights + masters}}
        kinds |= {"night": {row.night for row in lights + masters}, "camera": {row.camera for row in masters}}
        return {kind: "|".join(map(re.escape, sorted(names))) or "(?!)" for kind, names in kinds.items()}

    # Inputs and parameters of rules

    def row(self, wildcards):
        """The row of a light; KeyError where there is none."""
        return self.plan.lights[wildcards.frame]

    def rows(self, target: str, filter: str | None = None) -> list:
        """The lights of a target, or of one of its filters, in order of time."""
        return [row for (t, f), rows in self.plan.stacks.items() if t == target and filter in (None, f) for row in rows]

    def masters_of(self, chosen: match.Chosen) -> dict[str, str]:
        """Named master inputs: kind -> path, for those that there are."""
        there = {kind: getattr(chosen, kind) for kind in ("bias", "dark", "flat")}
        return {kind: f"{self.results}/{master.path}" for kind, master in there.items() if master is not None}

    def master(self, path: str) -> match.Master:
        """The master of a product's path."""
        return self._masters[path]

    def facts(self, row) -> dict:
        """What the frames table knows of a frame, as standard header cards. It is recorded with the job, so a calibration
        frame goes without its name: renaming it makes nothing anew."""
        name = {"FLFRAME": row.name} if row.kind == "light" else {}
        return name | {
            "OBJECT": printable(row.object) or None,
            "FILTER": printable(row.band),
            "EXPTIME": row.exposure,
            "DATE-OBS": row.time,
            "NIGHT": row.night,
            "IMAGETYP": row.kind,
            "FLPIXELS": row.pixel_hash[:16],
        }

    def options(self, *sections: str) -> dict:
        """The configuration of some sections as one dict, so that swapped values are seen as a change."""
        return {section: self.config[section] for section in sections} | {
            "equal_exposure": self.config["match"]["exposure"]
        }

    def light_options(self) -> dict:
        """Options of the rule light."""
        options = self.options(*LIGHT_OPTIONS)
        options["solve"] = {key: value for key, value in options["solve"].items() if key != "gaia_limit"}
        return options | {"catalogue": bool(self.config["catalogue"])}

    def catalogue_options(self) -> dict:
        """Options of the rule catalogue: which table by its content, or the limit of the archive's cone."""
        source = self.config["catalogue"]
        if source in ("", "gaia"):
            return {"source": source, "gaia_limit": self.config["solve"]["gaia_limit"]}
        return {"source": content_identity(source)}

    def picture_options(self) -> dict:
        """Options of the rule picture, in the names of its function."""
        options = dict(self.config["picture"])
        return {"mapping": options.pop("channels") or None} | options

    def band(self, target: str, filter: str) -> str:
        """A filter as people write it."""
        return self.rows(target, filter)[0].band

    def grid_lights(self, target: str) -> list[str]:
        """Input of a target's grid: all its lights while there is none; then only the one that it was taken from.

        So a better light that arrives later does not move the grid, and a change of its own light does.
        """
        rows = self.rows(target)
        chosen = _reference_of(self.grid(target))
        return [self.light(row) for row in rows if chosen is None or row.name == chosen]

    def made_from(self, rows) -> str:
        """Identity of a set of frames by their names, for products that depend on which frames there are."""
        return identity(*(row.name for row in rows))

    def light_made_from(self, row) -> str:
        """Identity of what a light is made from: its pixels, its header after repairs, and which masters there are for it
        (what is in them shows by their time stamps)."""
        masters = sorted(self.masters_of(self.plan.chosen(row)).values())
        return f"{row.pixel_hash} {row.header_hash} {' '.join(masters)}"

    def master_made_from(self, master: match.Master) -> str:
        """The same for a master: its frames, and which masters they are reduced with."""
        return f"{master.identity} {' '.join(sorted(self.masters_of(self.plan.of_master(master)).values()))}"

    def pointing(self, target: str) -> dict:
        """Where a target's lights point and the largest diagonal of a field (degrees), for a cone of the catalogue."""
        rows = [row for row in self.rows(target) if row.ra is not None and row.dec is not None]
        if not rows:
            return {}
        scale = max((row.scale or self.config["solve"]["scale"] or 0 for row in rows), default=0)
        field = scale / 3600 * max((row.nx**2 + row.ny**2) ** 0.5 for row in rows)
        return {"pointings": sorted({(round(row.ra, 2), round(row.dec, 2)) for row in rows}), "field": field or 1.0}

    # Before and after a run

    def nothing_to_make(self, frames: int, rejected: int) -> str:
        """Why there is no light to reduce, and the way out."""
        if not frames:
            found = (
                f"all {rejected} files are rejected, see {self.results}/rejected.csv"
                if rejected
                else "no FITS file there"
            )
            return f"no usable frame in raw: {', '.join(self.config['raw'])}: {found}"
        if self.lights_before_selection:
            there = ", ".join(
                f"{name}: {' '.join(sorted(values))}" for name, values in self.lights_before_selection.items()
            )
            return f"select: fits no light; there are {there}"
        return f"no light among {frames} frames: snakemake headers says what they were taken for"

    def opening_words(self) -> list[str]:
        """What is loud before a run: kinds of calibration that are missing, and lights that are left out for it."""
        way_on = "going on without" if self.config["missing"] == "allow" else f"missing: {self.config['missing']}"
        words = [f"{sentence}: {way_on}" for sentence in self.plan.missing]
        return words + [f"{row.path}: left out, {reason}" for row, reason in self.plan.left_out]

    def closing_words(self) -> list[str]:
        """A few lines for the end of a run: where to look, and what lies there without use."""
        pictures = [f"{self.results}/pictures/{target}.png" for target in self.plan.targets]
        there = [path for path in pictures if Path(path).exists()]
        words = ["Pictures: " + " ".join(there)] if there else []
        if stale := self.stale():
            words.append(
                f"{len(stale)} files in {self.results} are asked for by nothing any more (snakemake tidy removes them)."
            )
        return words

    def stale(self) -> list[str]:
        """Products on disk that nothing asks for any more: only files of a product's name, never a raw file, and of FITS
        files only those that say that firstlight made them."""
        wanted = set(self.products())
        frame, any_part = r"[^/]+_[0-9a-f]{8}", r"[^/]+"
        shapes = (
            rf"masters/{any_part}/{any_part}/{any_part}\.fits",
            rf"catalogues/{any_part}\.ecsv",
            rf"lights/{any_part}/{any_part}/{any_part}/{frame}\.(fits|ecsv)",
            rf"steps/{any_part}/{any_part}/{any_part}/{any_part}/{frame}\.fits",
            rf"aligned/{any_part}/(grid|{any_part}/{frame})\.fits",
            rf"stacks/{any_part}/{any_part}\.fits",
            rf"pictures/{any_part}(\.png|\.tiff|/{any_part}\.tiff)",
        )
        product = re.compile("|".join(shapes))
        found = []
        for kind in ("masters", "catalogues", "lights", "steps", "aligned", "stacks", "pictures"):
            for path in Path(self.results, kind).rglob("*"):
                name = path.relative_to(self.results).as_posix()
                if str(path) not in wanted and product.fullmatch(name) and path.is_file() and _is_ours(path):
                    found.append(str(path))
        return sorted(found)


def check_folders(raw: list[str], results: str) -> None:
    """Raise ValueError where raw frames lie where products are written: results may lie inside a raw folder, not around it."""
    made = Path(results).resolve()
    for folder in raw:
        place = Path(folder).resolve()
        if place == made or made in place.parents:
            raise ValueError(
                f"the raw folder {folder} lies in the results folder {results}: name another folder for results"
            )


def _is_ours(path: Path) -> bool:
    """True for a file that is not FITS, or whose first header says which version of firstlight made it."""
    from astropy.io import fits

    if path.suffix != ".fits":
        return True
    try:
        return "FLVERS" in fits.getheader(path)
    except OSError:
        return False


def _reference_of(grid: str) -> str | None:
    """The reference light that a grid file names; None where there is no such file, or no light could be used."""
    from astropy.io import fits

    try:
        return fits.getheader(grid).get("GRIDREF")
    except OSError:
        return None
