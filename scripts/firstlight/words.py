"""What is said before a run and after it, as lines for the terminal."""

from __future__ import annotations

import csv
import io as text_files
import os
from collections import Counter
from pathlib import Path

from . import fields, textfile, wishes
from .channels import channels
from .channels import words as channel_words
from .leftovers import leftovers
from .phrases import count

MOST = 12  # sentences of a kind
COLOUR_NOTES = ("colours ", "cameras: bayer")
KINDS = ("light", "bias", "dark", "flat", "flatdark")


def nothing_to_make(night, frames: int, rejected: int) -> str:
    """Why there is no light to reduce, and the way out."""
    if not frames:
        which = f"all {rejected} files are" if rejected > 1 else "the one file there is"
        all_of_them = f"{which} rejected, see {night.results}/rejected.csv"
        found = all_of_them if rejected else "no FITS file there"
        return f"no usable frame in raw: {', '.join(night.config['raw'])}: {found}"
    if night.lights_before_selection:
        there = [f"{name}: {' '.join(sorted(values))}" for name, values in night.lights_before_selection.items()]
        asked = [f"{name}: [{', '.join(given)}]" for name, given in night.config["select"].items() if given]
        return f"select: {{{', '.join(asked)}}} fits no light; there are {', '.join(there)}"
    return f"no light among {count(frames, 'frame', 'frames')}: snakemake headers says what they were taken for"


def missing(night) -> str:
    """What `missing: stop` ends a run for, "" where nothing is missing."""
    sentences = night.plan.missing + night.plan.missing_of_masters()
    way_out = "Add what is missing, or say missing: allow (go on without) or drop (leave out what lacks it)."
    return "\n".join(["missing: stop", *sentences, way_out]) if sentences else ""


def opening(night, table) -> list[str]:
    """What is loud before a run: what was found, kinds of calibration that are missing, lights that are left out for it.

    table  of frames, see `frames.Table`
    """
    way_on = "going on without" if night.config["missing"] == "allow" else f"missing: {night.config['missing']}"
    words = ([_found(table, night.results)] if table.rows else []) + night.ready_words()
    words += _colours_of(table)
    words += [f"{sentence}; {way_on}" for sentence in night.plan.missing]
    words += wishes.unmet(night.config, list(night.plan.lights.values()), night.bands())
    words += [
        f"{target}: {count} lights point more than {fields.APART:g} deg from the others: the catalogue does not hold "
        "their stars (targets: gives them a name of their own)"
        for target, count in night.lights_apart().items()
    ]
    words += _first(night.plan.notes(), "notes, see matches.csv")
    return words + _first([f"{row.path}: left out, {reason}" for row, reason in night.plan.left_out], "lights like it")


def _found(table, results: str) -> str:
    """'54 frames: 25 lights, 14 bias; 2 files rejected (results/rejected.csv)'."""
    counts = Counter(row.kind for row in table.rows)
    said = {kind: _number(counts[kind], kind) if kind != "bias" else f"{counts[kind]} bias" for kind in KINDS}
    if colour := sum(bool(row.bayer) for row in table.rows if row.kind == "light"):
        said["light"] += f" ({colour if colour < counts['light'] else 'all'} in colour: R, G and B of each)"
    kinds = ", ".join(said[kind] for kind in KINDS if counts[kind])
    rejected = f"; {_number(len(table.rejected), 'file')} rejected ({results}/rejected.csv)" if table.rejected else ""
    return f"{_number(len(table.rows), 'frame')}: {kinds}{rejected}"


def _colours_of(table) -> list[str]:
    """Where header, configuration and pixels do not agree on the colours of a sensor."""
    notes = Counter(note for row in table.rows for note in row.notes.split("; ") if note.startswith(COLOUR_NOTES))
    return [f"{_number(number, 'frame')}: {note}" for note, number in notes.items()]


def closing(night) -> list[str]:
    """What a whole run came to: stacks, what became of the files, where to look, and what lies there without use."""
    return _stacks(night) + _files(night) + _unsolved(night) + _where(night) + _leftovers(night)


def nothing_done(night) -> list[str]:
    """The same where all was made before."""
    return [
        "Nothing to be done: everything is made, and nothing has changed since.",
        *_unsolved(night),
        *_where(night),
        *_leftovers(night),
    ]


def useless(night) -> str:
    """Why no stack of a night could be made, "" if there is one."""
    rows = _rows(f"{night.results}/stacks.csv")
    if not rows or any(row["frames"] for row in rows):
        return ""
    reasons = "; ".join(f"{row['target']} in {row['filter']}: {row['note']}" for row in rows[:MOST])
    return f"No light of this night could be used. {reasons}. What became of each file: {night.results}/ledger.csv"


def made(paths: list[str]) -> list[str]:
    """What a run of some files or steps made."""
    if len(paths) > MOST:
        return [f"{len(paths)} files made in {os.path.commonpath(paths)}"]
    return [f"made {path}" for path in paths]


def _stacks(night) -> list[str]:
    rows = _rows(f"{night.results}/stacks.csv")
    width = max((len(f"{row['target']} {row['filter']}") for row in rows), default=0)
    return [f"  {row['target']} {row['filter']}".ljust(width + 4) + _stack(row) for row in rows]


def _stack(row: dict) -> str:
    """One row of the table of stacks: '8 frames, 8 min, FWHM 3.03 pix, 5 sigma at 16.7 mag (V)'."""
    if not row["frames"]:
        return f"no stack: {row['note']}"
    parts = [_number(int(float(row["frames"])), "frame")]
    parts += [_time(exposure)] if (exposure := float(row["exposure_s"] or 0)) > 0 else []
    parts += [f"FWHM {float(row['fwhm_pix']):.2f} pix"] if row["fwhm_pix"] else []
    known = row["depth_mag"] and row["depth_band"] not in ("", "instrumental")
    parts += [f"5 sigma at {float(row['depth_mag']):.1f} mag ({row['depth_band']})"] if known else []
    return ", ".join(parts) + (f"; {row['left_out']} left out" if row["left_out"] not in ("", "0") else "")


def _files(night) -> list[str]:
    """The ledger's balance."""
    from . import ledger

    rows = _rows(f"{night.results}/ledger.csv")
    return ledger.told(rows) if rows else []


def _unsolved(night) -> list[str]:
    """How many lights have no place on the sky, of which targets."""
    raw = {row.name: row.path for row in night.plan.lights.values()}  # planes of a colour sensor share theirs
    unsolved = {(row["target"], raw.get(row["frame"], row["frame"])) for row in _rows(f"{night.results}/unsolved.csv")}
    counts = Counter(target for target, _ in sorted(unsolved))
    if not counts:
        return []
    which = ", ".join(f"{_number(count, 'light')} of {target}" for target, count in counts.most_common(MOST))
    which += f" and of {len(counts) - MOST} more targets" if len(counts) > MOST else ""
    return [
        f"Not solved: {which}; stars aligned them where they could: {night.results}/unsolved.csv says what was tried"
    ]


def _where(night) -> list[str]:
    """Where pictures, report and logs are, and which filter is which colour."""
    usable = {(row["target"], row["filter"]) for row in _rows(f"{night.results}/stacks.csv") if row["frames"]}
    names = dict(zip(night.plan.stacks, night.names_of_stacks(), strict=True))
    words = []
    for target, filters in night.plan.targets.items():
        path = f"{night.results}/pictures/{target}.png"
        bands = [names[target, name][1] for name in filters if tuple(names[target, name]) in usable]
        if bands and Path(path).exists():
            words.append(f"Picture: {path} ({_colours(night, bands)})")
    pages = [f"{night.results}/{name}" for name in ("report.html", "ledger.csv", "logs")]
    return words + ["More: " + ", ".join(path for path in pages if Path(path).exists())]


def _colours(night, bands: list[str]) -> str:
    section = night.config["picture"]
    try:
        return channel_words(channels(bands, section["channels"], section["palette"]))
    except ValueError:
        return channel_words(channels(bands))


def _leftovers(night) -> list[str]:
    stale = leftovers(night)
    if not stale:
        return []
    return [f"{len(stale)} files in {night.results} are asked for by nothing any more (snakemake tidy removes them)."]


def _first(sentences: list[str], of: str) -> list[str]:
    more = len(sentences) - MOST
    return sentences[:MOST] + ([f"and {more} more {of}"] if more > 0 else [])


def _rows(path: str) -> list[dict]:
    return list(csv.DictReader(text_files.StringIO(textfile.read(path) or "", newline="")))


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
