# The frames table, look-ups for the other rule files, constraints, code identities. No other rule file has functions.
import sys

SCRIPTS = Path(workflow.basedir) / "scripts"
sys.path.insert(0, str(SCRIPTS))

from snakemake.exceptions import WorkflowError

from firstlight import frames
from firstlight.config import ConfigError, complete, read_schema
from firstlight.header import Settings
from firstlight.night import Night, check_folders
from firstlight.provenance import code_identity


def frames_table():
    """The frames table, brought up to date by the main process; jobs, and whoever meets a run at work, only read it."""
    results = CONFIG["results"]
    running = any((Path(".snakemake") / "locks").glob("*"))
    if Path(results, "frames.csv").exists() and (running or not workflow.is_main_process):
        return frames.read(results)
    return frames.update(CONFIG["raw"], results, Settings.from_config(CONFIG), progress)


def progress(done, total):
    """Say how far the reading of new frames is, now and then."""
    if done == total or done % 50 == 0:
        tell([f"reading new frames: {done} of {total}"])


def code(rule):
    """Identity of the code of a rule: its script, the modules that it imports, the libraries that make its numbers."""
    return code_identity(SCRIPTS / f"{rule}.py")


def made_from(wildcards):
    """Identity of what a light is made from."""
    return NIGHT.light_made_from(NIGHT.row(wildcards))


def raw_light(wildcards):
    """The raw file of a light; its time stamp does not count, its hashes do (`made_from`)."""
    return ancient(NIGHT.row(wildcards).path)


def masters_of_light(wildcards):
    """The masters that a light is calibrated with, by kind."""
    return NIGHT.masters_of(NIGHT.plan.chosen(NIGHT.row(wildcards)))


def facts_of_light(wildcards):
    """What the frames table knows of a light, as header cards."""
    return NIGHT.facts(NIGHT.row(wildcards))


def master_at(wildcards, name):
    """The master of a night and camera with this name."""
    return NIGHT.master(f"{R}/masters/{wildcards.night}/{wildcards.camera}/{name}.fits")


def raw_of_master(wildcards, name):
    """The raw files of a master; their time stamps do not count, their hashes do."""
    return [ancient(row.path) for row in master_at(wildcards, name).rows]


def facts_of_master(wildcards, name):
    """What the frames table knows of each raw file of a master, as header cards."""
    return [NIGHT.facts(row) for row in master_at(wildcards, name).rows]


def masters_of_master(wildcards, name):
    """The masters that the raw files of a master are reduced with, by kind."""
    return NIGHT.masters_of(NIGHT.plan.of_master(master_at(wildcards, name)))


def catalogue_table(wildcards):
    """The user's own table of stars, if there is one; its content counts, not its time stamp."""
    return {"table": ancient(CONFIG["catalogue"])} if CONFIG["catalogue"] not in ("", "gaia") else {}


def products():
    """Everything that a run makes and keeps; an error where there is nothing to make, or `missing: stop` ends the run.

    Looked at while parsing, since an error in an input function shows a traceback; rules that only tell still work then.
    """
    if {"headers", "--lint"} & set(sys.argv):
        return NIGHT.products()
    if not NIGHT.plan.lights:
        raise WorkflowError(NIGHT.nothing_to_make(len(TABLE.rows), len(TABLE.rejected)))
    if CONFIG["missing"] == "stop" and NIGHT.plan.missing:
        raise WorkflowError("missing: stop\n" + "\n".join(NIGHT.plan.missing))
    return NIGHT.products()


def tell(lines):
    """Say something on the terminal."""
    for line in lines:
        print(line, file=sys.stderr)


def grid_lights(wildcards):
    """Input of a grid: all lights of the target, or only the one that the grid there was taken from."""
    return NIGHT.grid_lights(wildcards.target)


def frames_of_stack(wildcards):
    """What a stack is combined from: aligned frames, or lights with their sources where aligned frames are not kept."""
    rows = NIGHT.rows(wildcards.target, wildcards.filter)
    if NIGHT.keeps("aligned"):
        return {"frames": [NIGHT.aligned(row) for row in rows]}
    return {"frames": [NIGHT.light(row) for row in rows], "sources": [NIGHT.light(row, "ecsv") for row in rows]}


def catalogue_of(wildcards):
    """The catalogue of a light's target, where one is configured."""
    return {"catalogue": f"{R}/catalogues/{wildcards.target}.ecsv"} if CONFIG["catalogue"] else {}


def megabytes(per_pixel, base=300):
    """Memory of a job: what Python and its libraries take, and some bytes per pixel of the largest frame; more on each attempt."""

    def needed(wildcards, attempt):
        return int((base + per_pixel * PIXELS / 1e6) * attempt)

    return needed


def kept(name, path):
    """An output that goes when nothing needs it any more, unless the configuration keeps it."""
    return path if NIGHT.keeps(name) else temp(path)


try:
    CONFIG = complete(config, read_schema(Path(workflow.basedir) / "config.schema.yaml"))
    check_folders(CONFIG["raw"], CONFIG["results"])
    TABLE = frames_table()
    NIGHT = Night(TABLE.rows, CONFIG)
except (ConfigError, ValueError) as error:
    raise WorkflowError(str(error))

R = CONFIG["results"]
PIXELS = max((row.nx * row.ny for row in TABLE.rows), default=1)


if workflow.is_main_process:
    tell(NIGHT.opening_words())
    if "tidy" in sys.argv:  # what goes is said before it goes, in a dry-run too
        tell(f"tidy: {path}" for path in NIGHT.stale())


wildcard_constraints:
    **NIGHT.constraints(),
    dark=r"(?:dark|flatdark)_[^/]+",
    frame=r"[A-Za-z0-9_.+-]+_[0-9a-f]{8}",
