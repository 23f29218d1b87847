# The frames table, look-ups for the other rule files, constraints, code identities. No other rule file has functions.
import gc
import shlex
import sys
from functools import cache

# Planning makes millions of small objects that all stay: to look for garbage among them is a fifth of its time.
gc.disable()

SCRIPTS = Path(workflow.basedir) / "scripts"
QUESTIONS = {"headers", "plan", "origin"}  # rules that print their answer: nothing else is to stand about it

from firstlight import archive, catalogue, fields, frames, io, library, raw, textfile, words
from firstlight.config import ConfigError, complete, read_schema
from firstlight.header import Settings
from firstlight.job import plain
from firstlight.leftovers import leftovers
from firstlight.night import Night, check_folders
from firstlight.provenance import code_identity, identity


def frames_table():
    """The frames table, brought up to date by the main process; jobs, and whoever meets a run at work, only read it."""
    results = CONFIG["results"]
    if Path(results, "frames.csv").exists() and not at_the_wheel():
        return frames.read(results)
    return frames.update(
        CONFIG["raw"], results, Settings.from_config(CONFIG), TERMINAL.reading, exclude=CONFIG["masters"]
    )


def ready_masters():
    """The table of ready masters, likewise."""
    results, places = CONFIG["results"], CONFIG["masters"]
    if not places:
        return frames.Table()
    if Path(results, "library.csv").exists() and not at_the_wheel():
        return library.read(results)
    return library.update(places, results, Settings.from_config(CONFIG), TERMINAL.reading)


def at_the_wheel():
    """Whether this process brings tables up to date: the main one, and not while another run holds the lock."""
    return workflow.is_main_process and not any((Path(".snakemake") / "locks").glob("*"))


def code(rule, beside=""):
    """Identity of the code of a rule: its script, the modules that it imports, the libraries that make its numbers; and
    the files of a folder of the package that it fills in."""
    files = sorted((SCRIPTS / "firstlight" / beside).iterdir()) if beside else ()
    return "".join([code_identity(SCRIPTS / f"{rule}.py"), *(identity(one.read_text()) for one in files)])


def made_from_all():
    """Identity of all that was found, for what lists every file."""
    found = [f"{row.path} {row.pixel_hash} {row.header_hash}" for row in TABLE.rows]
    return identity(*found, *(f"{one.path} {one.reason}" for one in TABLE.rejected))


def made_from(wildcards):
    """Identity of what a light is made from."""
    return NIGHT.light_made_from(NIGHT.row(wildcards))


def raw_light(wildcards):
    """The raw file of a light; its time stamp does not count, its hashes do (`made_from`)."""
    return ancient(NIGHT.row(wildcards).path)


def masters_of_light(wildcards):
    """The masters that a light is calibrated with, by kind, and what was measured of its detector."""
    return NIGHT.inputs_of(NIGHT.row(wildcards))


def inputs_of_light(wildcards):
    """All that a light is made from: one function, since Snakemake asks each of them for each of thousands of lights."""
    return masters_of_light(wildcards) | catalogue_of(wildcards) | {"raw": raw_light(wildcards)}


def inputs_of_align(wildcards):
    """What is brought onto the grid: a light, its sources, where asked for its fringes and what the server says."""
    row = NIGHT.row(wildcards)
    both = {"frame": NIGHT.light(row), "sources": NIGHT.light(row, "ecsv")}
    return both | nova_of(wildcards) | fringe_of(wildcards)


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
    """The masters that the raw files of a master are reduced with, by kind, and what was measured of the detector."""
    return NIGHT.inputs_of_master(master_at(wildcards, name))


def ready_master(wildcards):
    """The ready master of the library with this name."""
    return NIGHT.master(f"{R}/masters/library/{wildcards.ready}.fits")


def raw_of_detector(wildcards):
    """The raw frames that gain and read noise are measured from: bias frames, then flats, in pairs."""
    return [ancient(row.path) for part in NIGHT.detector_frames(wildcards.night, wildcards.camera) for row in part]


def facts_of_detector(wildcards):
    """What the frames table knows of each of these, as header cards."""
    return [NIGHT.facts(row) for part in NIGHT.detector_frames(wildcards.night, wildcards.camera) for row in part]


def catalogue_table(wildcards):
    """The user's own table of stars, if there is one; its content counts, not its time stamp."""
    source = CONFIG["catalogue"]["source"]
    return {"table": ancient(source)} if catalogue.kind(source) == "table" else {}


def catalogue_options(wildcards):
    """The catalogue section, what identifies its source, the cone of the target."""
    return NIGHT.catalogue_options(wildcards.target)


def products():
    """Everything that a run makes and keeps; an error where there is nothing to make, or `missing: stop` ends the run.

    Looked at while parsing, since an error in an input function shows a traceback; rules that only tell still work then.
    """
    if (QUESTIONS | {"--lint"}) & set(sys.argv):
        return NIGHT.products()
    if not NIGHT.plan.lights:
        TERMINAL.stop(words.nothing_to_make(NIGHT, len(TABLE.rows), len(TABLE.rejected)))
    if CONFIG["missing"] == "stop" and (sentences := words.missing(NIGHT)):
        TERMINAL.stop(sentences)
    return NIGHT.products()


def at_scale():
    """Have Snakemake look up by hash what it looks for in lists: with N lights that is a matter of N^2.

    For each aligned light it asks whether the grid is among the grid's own inputs, and for each of the thousands of files
    of a job it goes through the jobs that make them, in search of pipes. Where it does so no more, nothing changes.
    """
    from snakemake.iocontainers import InputFiles
    from snakemake.jobs import Job

    def contains(files, path):
        if len(files) < 50:
            return list.__contains__(files, path)
        if getattr(files, "_by_hash", (0,))[0] != len(files):
            files._by_hash = len(files), set(files)
        return path in files._by_hash[1]

    InputFiles.__contains__ = contains
    Job.is_pipe_or_service_input = lambda job, path: False  # no rule here has a pipe or a service


def ready_to_run():
    """Once planned: look for garbage again, among what is new; and let only the end of a job call for the next ones.

    To keep to a number of jobs per second, Snakemake weighs all ready jobs anew each second, once more for every job that
    ended so far. Where jobs run on this machine their number is that of its cores, and there is nothing to keep to.
    """
    gc.freeze()
    gc.enable()
    quiet_starts()
    scheduler = getattr(workflow, "scheduler", None)
    if workflow.local_exec and hasattr(scheduler, "job_rate_limiter"):
        scheduler.job_rate_limiter = None


def quiet_starts():
    """Keep off the terminal what Python says when a job is stopped before it has opened its log."""
    from snakemake.shell import shell

    if workflow.local_exec and textfile.can_write(START):
        place = shlex.quote(str(Path(START).absolute())).replace("{", "{{").replace("}", "}}")
        TERMINAL.starts = START
        shell.prefix(f"set -euo pipefail; exec 2>>{place}; ")


def finished():
    """The last words of a run; it fails where no light of the night could be used."""
    asked = set(workflow.dag_settings.targets or ())
    TERMINAL.end()
    if asked & (QUESTIONS | {"tidy"}):
        return
    whole = asked <= {"all"}
    TERMINAL.done_words(words.closing(NIGHT) if whole else words.made(TERMINAL.outputs))
    if whole and (reason := words.useless(NIGHT)):
        TERMINAL.stop(reason)


def nothing_to_do():
    """What there is to say where all is made."""
    if set(workflow.dag_settings.targets or ()) <= {"all"}:
        TERMINAL.say(*words.nothing_done(NIGHT))
        if not TERMINAL.dry and (reason := words.useless(NIGHT)):
            TERMINAL.stop(reason)
    else:
        TERMINAL.say("Nothing to be done: what was asked for is made, and nothing has changed since.")


def grid_lights(wildcards):
    """Input of a grid: all lights of the target, or only the one that the grid there was taken from. Where that is gone those
    that are there, should the grid be made anew; they do not make it old."""
    if rows := NIGHT.grid_rows(wildcards.target):
        return {"lights": [NIGHT.light(row) for row in rows]} | nova_answers(rows)
    return {"lights": [ancient(path) for path in map(NIGHT.light, NIGHT.rows(wildcards.target)) if Path(path).exists()]}


def frames_of_stack(wildcards):
    """What a stack is combined from: aligned frames, or lights with their sources where aligned frames are not kept."""
    rows = NIGHT.rows(wildcards.target, wildcards.filter)
    aligned = {"frames": [NIGHT.aligned(row) for row in rows]} if NIGHT.keeps("aligned") else {}
    if aligned and not CONFIG["combine"]["drizzle"]["scale"]:
        return aligned
    lights = {"lights" if aligned else "frames": [NIGHT.light(row) for row in rows]}
    lights["sources"] = [NIGHT.light(row, "ecsv") for row in rows]
    fringes = [path for path in map(NIGHT.fringe, rows) if path]
    return aligned | lights | nova_answers(rows) | ({"fringe": fringes} if fringes else {})


def fringe_of(wildcards):
    """The pattern of the sky that is taken off a light before it is aligned, where one is asked for."""
    path = NIGHT.fringe(NIGHT.row(wildcards))
    return {"fringe": path} if path else {}


def nova_answers(rows):
    """What the server says about lights, where it is asked."""
    return {"nova": [NIGHT.nova(row) for row in rows]} if NIGHT.asks_nova else {}


def nova_of(wildcards):
    """What the server says about a light, where it is asked."""
    return {"nova": NIGHT.nova(NIGHT.row(wildcards))} if NIGHT.asks_nova else {}


def unsolved_of(wildcards):
    """The records of all lights' attempts, and what the server says about them where it is asked."""
    rows = NIGHT.plan.lights.values()
    return {"attempts": [NIGHT.attempts(row) for row in rows]} | nova_answers(rows)


def catalogue_of(wildcards):
    """The catalogue of a light's target, where one is configured."""
    path = NIGHT.catalogue(wildcards.target)
    return {"catalogue": path} if path else {}


def pixels(input):
    """Pixels of the largest raw frame, or of the grid or stack that a job reads, where that is there and larger."""
    made = [input.grid] if "grid" in input.keys() else list(input.get("stacks", []))[:1]
    return max([PIXELS, *(pixels_of(path, raw.stamp(path)) for path in made)])


@cache
def pixels_of(path, stamp):
    """Pixels of an image as it is: thousands of lights ask it of one grid."""
    return io.pixels(path)


def snakemakes():
    """Memory of the two Snakemakes that a job of a cluster starts before its own process: 150 and 135 MB."""
    return 0 if workflow.local_exec else 300


def megabytes(per_pixel, base=300):
    """Memory of a job: what Python and its libraries take, and some bytes per pixel of its images; more on each attempt."""

    def needed(wildcards, input, attempt):
        return int((snakemakes() + base + per_pixel * pixels(input) / 1e6) * attempt)

    return needed


def megabytes_of_pile(section):
    """Memory of a job that combines frames: the limit of its pile, what Python and its libraries take, the result, and what
    each further thread works on."""

    finer = (CONFIG["combine"]["drizzle"]["scale"] or 0) ** 2 if section == "combine" else 0

    def needed(wildcards, input, threads, attempt):
        per_pixel = 45 * threads + 70 * finer
        return int((snakemakes() + 400 + CONFIG[section]["memory"] + per_pixel * pixels(input) / 1e6) * attempt)

    return needed


def pile_of(section):
    """Memory of the pile of frames within such a job: less on each attempt, so that more passes over them are made."""
    return lambda wildcards, attempt: CONFIG[section]["memory"] // attempt


def threads_of_stack():
    """Threads of a job that combines frames: where there are more cores than stacks they share them. A cluster's jobs do not
    share this machine's cores: there it is one, or what the profile sets."""
    cores = workflow.resource_settings.cores or 1
    return max(cores // max(len(NIGHT.plan.stacks), 1), 1)


def asked_of_rules():
    """{rule: (MB, threads) that a job of it asks for}, as far as that can be told without its inputs."""
    from snakemake.iocontainers import InputFiles

    asked = {}
    for one in workflow.rules:
        given = dict(wildcards=None, input=InputFiles(), attempt=1)
        try:
            threads = one.resources["_cores"].evaluate(**given).value
            memory = one.resources["mem_mb"].evaluate(**given, threads=threads).value
        except (KeyError, AttributeError, TypeError, ValueError):
            continue
        asked[one.name] = float(memory), int(threads)
    return asked


@cache
def outlook():
    """What is ahead, for `snakemake plan`."""
    from firstlight.outlook import Outlook, look_around

    cores = workflow.resource_settings.cores or 1
    return Outlook(NIGHT, TABLE, look_around(NIGHT, cores, asked_of_rules()), textfile.read)


def kept(name, path):
    """An output that goes when nothing needs it any more, unless the configuration keeps it."""
    return path if NIGHT.keeps(name) else temp(path)


at_scale()
try:
    CONFIG = complete(config, read_schema(Path(workflow.basedir) / "config.schema.yaml"))
    check_folders(CONFIG["raw"], CONFIG["results"])
    library.check(CONFIG["masters"], CONFIG["raw"], CONFIG["results"])
    TABLE = frames_table()
    FIELDS = f"{CONFIG['results']}/catalogues/fields.csv"
    NIGHT = Night(TABLE.rows, CONFIG, ready_masters(), fields.from_text(textfile.read(FIELDS)))
except (ConfigError, ValueError) as error:
    TERMINAL.stop(str(error))
except OSError as error:
    TERMINAL.stop(plain(error))

R = TERMINAL.results = CONFIG["results"]
START = f"{R}/logs/start.txt"
PIXELS = max((row.nx * row.ny for row in TABLE.rows), default=1)


if at_the_wheel():
    textfile.write(f"{R}/matches.csv", NIGHT.matches())
    textfile.write(FIELDS, fields.to_text(NIGHT.fields(io.failed_at, archive.reachable)))


TERMINAL.idle = nothing_to_do
if QUESTIONS & set(sys.argv):
    TERMINAL.silent = True
elif "tidy" in sys.argv:  # what goes is said before it goes, in a dry-run too
    TERMINAL.silent = True
    TERMINAL.say(*(f"tidy: {path}" for path in leftovers(NIGHT)))
elif workflow.is_main_process and not TERMINAL.mute:
    TERMINAL.say(*words.opening(NIGHT, TABLE))


wildcard_constraints:
    **NIGHT.constraints(),
    dark=r"(?:dark|flatdark)_[^/]+",
    flat=r"flat_[^/]+",
    frame=r"[A-Za-z0-9_.+-]+_[0-9a-f]{8}",
