"""What is ahead of a night, in words: the text of `snakemake plan`."""

from __future__ import annotations

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from . import forecast, mending, raw
from . import header as headers
from .channels import channels
from .frames import Table
from .groups import Master
from .jobs import Job, jobs, log_of, to_do
from .match import Offer
from .night import Night
from .phrases import columns, count, cut, exposure, size, span, wrapped
from .section import parse_section
from .words import nothing_to_make

COLOURS = {"L": "brightness", "R": "red", "G": "green", "B": "blue"}
MOST = 30  # lines of a table that a terminal shows
FEW = 20  # sentences of a kind that a terminal shows
KINDS = ("light", "flat", "dark", "flatdark", "bias")
ODD_TEMPERATURE = 1.0  # C between a light and its dark that is told of


@dataclass
class Surroundings:
    """What is known beside the night itself, read by `look_around`."""

    cores: int = 1
    asked: Mapping[str, tuple[float, int]] = field(default_factory=dict)  # rule -> (MB, threads) that it asks for
    pixels: dict[str, float] = field(default_factory=dict)  # camera -> pixels of a trimmed frame
    gains: dict[str, float | None] = field(default_factory=dict)  # camera -> gain as stated, e-/ADU
    grids: dict[str, float] = field(default_factory=dict)  # target -> pixels of a grid that is there
    free: float | None = None  # bytes on the disk of the results
    installed: float | None = None  # bytes of memory of this machine


@dataclass
class Outlook:
    """The plan of a night: its jobs, what is left of them, and what they will take."""

    night: Night
    table: Table
    around: Surroundings
    read: Callable[[str], str | None]  # a log's text by its path
    exists: Callable[[str], bool] = os.path.exists

    @cached_property
    def jobs(self) -> list[Job]:
        """All jobs of the night, made or not."""
        return jobs(self.night)

    @cached_property
    def ahead(self) -> list[Job]:
        """Those that are left to do."""
        return to_do(self.jobs, self.exists)

    @cached_property
    def costs(self) -> dict[str, forecast.Cost]:
        """What jobs of each rule took in earlier runs here."""
        return forecast.costs(self.jobs, lambda job: self.read(log_of(job, self.night.results)), self.work)

    def pixels(self, job: Job) -> float:
        """Pixels of an image of a job."""
        on_sky = job.target and self.around.grids.get(job.target)
        return on_sky or (self.around.pixels.get(job.row.camera, job.row.nx * job.row.ny) if job.row else 0.0)

    def work(self, job: Job) -> float:
        """Pixels of all images that a job reads."""
        return self.pixels(job) * job.images

    def disk(self, some: list[Job]) -> float:
        """Bytes that the products of some jobs take."""
        colours = {target: 1 if set(parts) == {"L"} else 3 for target, parts in self.parts.items()}
        compress = self.night.config["compress"]
        return sum(forecast.disk(job, self.pixels, colours.get(job.target, 1), compress) for job in some)

    def duration(self, some: list[Job]) -> forecast.Duration:
        """How long some jobs take here."""
        return forecast.duration(some, self.costs, self.work, self.around.cores)

    @cached_property
    def parts(self) -> dict[str, dict]:
        """{target: which filters make which colour}, by wavelength where the configuration does not fit."""
        section, out = self.night.config["picture"], {}
        for target, bands in self.night.bands().items():
            try:
                out[target] = channels(bands, section["channels"], section["palette"])
            except ValueError:
                out[target] = channels(bands)
        return out

    def text(self, short: bool = False) -> str:
        """All that there is to say; `short` for a terminal, with long tables cut."""
        night, table = self.night, self.table
        most, few = (MOST, FEW) if short else (None, None)
        notes = ((row.path, note) for row in table.rows if row.notes for note in row.notes.split("; "))
        rejected = ((one.path, one.reason) for one in table.rejected)
        sections = {
            "Frames": cut(frames(table), most) + self.not_selected() if table.rows else [],
            "Rejected files": _remarks(mending.complaints(rejected), few),
        }
        if night.plan.lights:
            sections |= {
                "Masters": cut(masters(night), most),
                "Lights and their masters, in frames (! is odd)": cut(lights(night), most),
                "Missing or odd": self.odd(few) or ["  nothing"],
                "Headers": _remarks(mending.complaints(notes), few),
                "Stacks and their colours": cut(self.pictures(), most),
                "Jobs": self.table_of_jobs(),
                "What it takes": self.resources(),
            }
        else:
            why = wrapped(nothing_to_make(night, len(table.rows), len(table.rejected)))
            sections |= {"Headers": _remarks(mending.complaints(notes), few), "Nothing to make": why}
        told = ["\n".join([title, *lines]) for title, lines in sections.items() if lines]
        return "\n\n".join([f"Plan of {', '.join(night.config['raw'])}, products in {night.results}", *told]) + "\n"

    def not_selected(self) -> list[str]:
        """How many lights `select:` leaves aside."""
        plan = self.night.plan
        planned = [*plan.lights.values(), *(row for row, _ in plan.left_out)]
        found = {row.path for row in self.table.rows if row.kind == "light"}
        number = len(found - {row.path for row in planned})
        return [f"  {count(number, 'light is', 'lights are')} not selected (select:)"] if number else []

    def odd(self, most: int | None = None) -> list[str]:
        """What is missing or odd, with lines that mend it; what `missing:` makes of it."""
        said = mending.remarks(self.night, self.around.gains)
        lacking = self.night.plan.missing + self.night.plan.missing_of_masters()
        stop = self.night.config["missing"] == "stop" and lacking
        first = wrapped("missing: stop is set: nothing will run until what is missing is mended") if stop else []
        return first + _remarks(said, most)

    def pictures(self) -> list[str]:
        """What each stack holds, and which colour of the picture it becomes."""
        out = []
        for (target, name), rows in self.night.plan.stacks.items():
            band, parts = self.night.band(target, name), self.parts[target]
            used = [COLOURS[channel] for channel, names in parts.items() if band in names]
            colour = "grey" if used and set(parts) == {"L"} else ", ".join(used) or "not in the picture"
            out.append((rows[0].object, band, len(rows), span(sum(row.exposure or 0 for row in rows)), colour))
        return columns(("target", "filter", "frames", "total", "colour"), out, "llrrl")

    def table_of_jobs(self) -> list[str]:
        """Jobs by rule: how many in all, how many are done, what they take."""
        every, left = Counter(job.rule for job in self.jobs), Counter(job.rule for job in self.ahead)
        lines = []
        for rule in every:
            each = f"{self.costs[rule].mean:.1f} s" if rule in self.costs else "?"
            memory = f"{self.megabytes[rule]:.0f} MB" if self.megabytes[rule] else "?"
            lines.append((rule, every[rule], every[rule] - left[rule], left[rule], each, memory))
        total = (every.total(), every.total() - left.total(), left.total())
        return columns(
            ("rule", "jobs", "done", "to do", "each", "memory"), [*lines, ("total", *total, "", "")], "lrrrrr"
        )

    @cached_property
    def megabytes(self) -> dict[str, float]:
        """Memory of a job of each rule: as measured here, else what the rule asks for."""
        asked = {job.rule: self.around.asked.get(job.rule, (0.0, 1))[0] for job in self.jobs}
        return {rule: self.costs[rule].megabytes if rule in self.costs else mb for rule, mb in asked.items()}

    def resources(self) -> list[str]:
        """Disk, memory and time, with what they are known from."""
        return [*wrapped(self._disk()), *wrapped(self._memory()), *wrapped(self._time()), *self._hint()]

    def _disk(self) -> str:
        to_come, for_a_while = self.disk(self.ahead), self.disk([job.unkept() for job in self.ahead if job.temporary])
        kept = ", ".join(self.night.config["keep"]) or "neither lights nor aligned frames"
        kept += ", compressed" if self.night.config["compress"] else ""
        text = f"disk: {size(to_come) if to_come else 'nothing'} to be written, {size(self.disk(self.jobs))} in all "
        text += f"(kept: {kept}), from the sizes of the images, good to {20 if self.night.config['compress'] else 10}%"
        text += f"; up to {size(for_a_while)} more while it runs" if for_a_while else ""
        if self.night.config["grid"]["extent"] != "reference" and set(self.night.plan.targets) - set(self.around.grids):
            text += "; more where the frames of a target lie side by side"
        free = self.around.free
        if free is None:
            return text
        short = to_come + for_a_while > free
        return f"{text}; {size(free)} free" + (": TOO LITTLE, keep: [] or compress: true needs less" if short else "")

    def _memory(self) -> str:
        threads = {rule: number for rule, (_, number) in self.around.asked.items()}
        load, rule, beside = forecast.memory(self.ahead, self.megabytes, threads, self.around.cores)
        if not load:
            return "memory: unknown" if rule else "memory: none, there is nothing to do"
        source = "as measured in earlier runs here" if rule in self.costs else "as the rules ask for, which is the most"
        jobs_of_it = f"{beside} jobs of {rule} side by side" if beside > 1 else f"a job of {rule}"
        text = f"memory: {size(load * 1e6)} at most, by {jobs_of_it} ({source})"
        installed = self.around.installed
        if installed and load * 1e6 > 0.9 * installed:
            least = f"--resources mem_mb={installed * 0.8 / 1e6:.0f}"
            text += f"; this machine has {size(installed)}: {least} runs fewer at a time"
        return text

    def _time(self) -> str:
        if not self.ahead:
            return "time: nothing to do, all products are there"
        on = f"on {count(self.around.cores, 'core', 'cores')}"
        expected = self.duration(self.ahead)
        if not expected.logs:
            return f"time: unknown {on}: no log of an earlier run in {self.night.results}/logs tells of these jobs"
        most = f"{span(expected.mean)} ({span(expected.low)} to {span(expected.high)}, as jobs differ)"
        logs = f"the logs of {count(expected.logs, 'job', 'jobs')} of earlier runs here"
        text = f"time: about {most} {on}, from {logs}, with the machine as busy as then"
        return text + (f"; without {', '.join(expected.unknown)}, of which no log tells" if expected.unknown else "")

    def _hint(self) -> list[str]:
        done = len(self.jobs) - len(self.ahead)
        if not done:
            return []
        return [
            "",
            *wrapped(
                "Products that are there count as done; --dry-run tells what changed frames or options make anew."
            ),
        ]


def look_around(night: Night, cores: int, asked: Mapping[str, tuple[float, int]]) -> Surroundings:
    """Find out what a night alone does not tell: of each camera one header is read, of each target its grid's header."""
    import shutil

    from . import io

    out = Surroundings(cores, asked)
    for camera, row in {row.camera: row for row in night.plan.lights.values()}.items():
        out.pixels[camera], out.gains[camera] = _of_camera(night, row)
    out.grids = {target: n for target in night.plan.targets if (n := io.pixels(night.grid(target)))}
    place = os.path.abspath(night.results)
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    out.free = float(shutil.disk_usage(place).free)
    with contextlib.suppress(ValueError, OSError, AttributeError):  # not every system tells
        out.installed = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return out


def _of_camera(night: Night, row) -> tuple[float, float | None]:
    """Pixels of a trimmed frame and the gain as stated, by the header of one frame; by its size alone where that fails."""
    whole = float(row.nx * row.ny)
    try:
        values = headers.repair(raw.read_header(row.path), row.path, headers.repairs(night.config["header"]))
        known = headers.detector(values, night.config["cameras"], night.config["trim"]["region"])
        if not known.trim or known.trim.lower() == "none":
            return whole, known.gain
        rows, columns = parse_section(known.trim, (row.ny, row.nx))
        return float((rows.stop - rows.start) * (columns.stop - columns.start)), known.gain
    except (OSError, ValueError):
        return whole, None


# --- Tables ---------------------------------------------------------------------------------------------------------
def frames(table: Table) -> list[str]:
    """Frames by kind, night, target, filter, exposure and camera, and a total for each kind."""
    groups, exposures = Counter(), defaultdict(list)
    for row in table.rows:
        filter_ = "" if row.kind in ("bias", "dark", "flatdark") else row.band
        told = "" if row.kind in ("flat", "bias") else exposure(row.exposure)
        key = (KINDS.index(row.kind), row.night, row.object if row.kind == "light" else "", filter_, told, row.camera)
        groups[key] += 1
        exposures[key].append(row.exposure or 0.0)
    lines, totals = [], defaultdict(list)
    for key in sorted(groups):
        kind, night, target, filter_, told, camera = key
        totals[kind] += exposures[key]
        if kind == KINDS.index("flat"):
            ends = sorted({exposure(min(exposures[key])), exposure(max(exposures[key]))})
            told = ends[0] if len(ends) == 1 else f"{min(exposures[key]):.3g}-{max(exposures[key]):.3g} s"
        total = span(sum(exposures[key])) if kind == 0 else ""
        lines.append((KINDS[kind], night, target, filter_, told, camera, groups[key], total))
    for kind, values in sorted(totals.items()):
        total = span(sum(values)) if kind == 0 else ""
        lines.append((f"all {KINDS[kind]}", "", "", "", "", "", len(values), total))
    head = ("kind", "night", "target", "filter", "exposure", "camera", "frames", "total")
    return columns(head, lines, "llllrlrr", last=len(totals))


def masters(night: Night) -> list[str]:
    """The masters that are needed: of how many frames, and with which masters these are reduced themselves."""
    lines = []
    for master in night.plan.used_masters():
        own = night.plan.of_master(master)
        name = f"{master.path.removeprefix('masters/').removesuffix('.fits')}"
        asks = {"flat": ("bias", "dark"), "dark": ("bias",), "flatdark": ("bias",)}.get(master.kind, ())
        told = [_name(getattr(own, kind)) if kind in asks else "" for kind in ("bias", "dark")]
        told = ["", ""] if master.ready and master.kind == "flat" else told
        source = f"ready: {master.first.path}" if master.ready else count(len(master.rows), "frame", "frames")
        lines.append((name, source, *told))
    return columns(("master", "made of", "bias", "dark"), lines) if lines else ["  none"]


def _name(master: Master | None) -> str:
    return "none" if master is None else master.path.rpartition("/")[2].removesuffix(".fits")


def lights(night: Night) -> list[str]:
    """Which masters the lights get: those of a night, filter and exposure that get the same in one line, odd ones first."""
    groups = defaultdict(list)
    for row in night.plan.lights.values():
        chosen = night.plan.chosen(row)
        key = tuple(getattr(chosen, kind) and getattr(chosen, kind).path for kind in ("bias", "dark", "flat"))
        groups[row.night, row.band, exposure(row.exposure), row.camera, key].append(row)
    lines = []
    for (evening, band, told, _, _), rows in groups.items():
        cells = [_given(night, kind, rows) for kind in ("bias", "dark", "flat")]
        odd = any(strange for _, strange in cells)
        names = list(dict.fromkeys(row.object for row in rows))
        targets = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append((not odd, evening, band, (len(rows), band, told, evening, targets, *(text for text, _ in cells))))
    ordered = [("" if line[0] else "!", *line[-1]) for line in sorted(lines, key=lambda line: line[:3])]
    head = ("", "lights", "filter", "exposure", "night", "targets", "bias", "dark", "flat")
    return columns(head, ordered, "lrlrlllll")


def _given(night: Night, kind: str, rows) -> tuple[str, bool]:
    """A master in words, as it fits these lights, and whether there is something odd about it."""
    row = rows[0]
    offer, dark = night.plan.offer(row, kind), night.plan.offer(row, "dark")
    if offer is None:
        whole = kind == "bias" and dark is not None and not _scaled(night, row, dark)
        return ("in the dark", False) if whole else ("none", True)
    master = offer.master
    number = len(master.rows)
    text = "ready" if master.ready else str(number)
    odd = []
    if kind == "dark":
        warm = "" if master.temperature is None else f" {master.temperature:.0f} C"
        text += f" x {exposure(master.first.exposure)}{warm}"
        odd += [f"scaled {offer.exposure_ratio:.3g}"] if _scaled(night, row, offer) else []
        known = [light.temperature for light in rows if light.temperature is not None]
        off = [master.temperature - value for value in known] if master.temperature is not None else []
        most = max(off, key=abs, default=0.0)
        odd += [f"{abs(most):.1f} C too {'warm' if most > 0 else 'cold'}"] if abs(most) >= ODD_TEMPERATURE else []
    if offer.nights is None:
        odd.append("night unknown")
    elif offer.nights:
        odd.append(f"from {count(offer.nights, 'night', 'nights')} away")
    if number == 1 and not master.ready:
        odd.append("one frame only")
    return ", ".join([text, *odd]), bool(odd)


def _scaled(night: Night, row, dark: Offer) -> bool:
    """Whether a dark is brought to the exposure of a light."""
    return bool(dark.exposure_ratio) and abs(dark.exposure_ratio - 1) > night.config["match"]["exposure"]


def _remarks(remarks: list[mending.Remark], most: int | None = None) -> list[str]:
    """Sentences, each with the lines that mend it; those of several in a row that the same lines mend stand once."""
    shown = remarks if most is None else remarks[:most]
    out = []
    for one, after in zip(shown, [*shown[1:], None], strict=False):
        out += wrapped(one.sentence)
        if after is None or after.lines != one.lines:
            out += [f"        {line}" for line in one.lines]
    keys = Counter(key for mend in {tuple(one.lines): one.mend for one in shown}.values() for key in mend)
    if keys and max(keys.values()) > 1:
        out += wrapped("What stands under one key here goes together under one such key in the configuration.")
    return out + ([f"  ... {len(remarks) - len(shown)} more in plan.txt"] if len(shown) < len(remarks) else [])
