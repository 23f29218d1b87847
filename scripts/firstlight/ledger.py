"""The balance of a night: what became of every file that was found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .lights import names_of

USED, DROPPED, NOT_NEEDED = "used", "dropped", "not needed"
DUPLICATE = "same pixels as"  # how the frames table says that a file is another's copy
COLUMNS = (
    "path",
    "kind",
    "night",
    "target",
    "filter",
    "exposure",
    "camera",
    "outcome",  # used, dropped, not needed
    "step",  # the rule that dropped it; read where the file could not be taken for a frame
    "reason",
    "products",  # that it is in, below the results folder, with " ; " between them
    "weight",  # its share of the first of them
)


@dataclass(frozen=True)
class Share:
    """What one product says of one frame: its weight, and if that is 0 at which step it was dropped, and why."""

    product: str
    weight: float
    step: str = ""
    reason: str = ""


def of_stack(product: str, inputs) -> dict[str, Share]:
    """Name of a light -> its share of a stack, from the stack's table of inputs (`products.COLUMNS`)."""
    return {name: _of_light(product, float(weight), note) for name, weight, note in _texts(inputs, "weight", "note")}


def _of_light(product: str, weight: float, note: str) -> Share:
    if weight > 0:
        return Share(product, weight)
    if note.startswith("dropped, "):  # before: the step stands with the reason
        step, _, reason = note.removeprefix("dropped, ").partition(": ")
        return Share(product, 0.0, step, reason)
    return Share(product, 0.0, "combine", note.removeprefix("left out, "))


def of_master(product: str, step: str, inputs) -> dict[str, Share]:
    """Identity of a frame's content -> its share of a master, from the master's table of inputs (name, content, note).

    step  the rule that makes such masters. All frames that count have an equal share.
    """
    rows = [(content, note) for _, content, note in _texts(inputs, "content", "note")]
    count = max(sum(not note for _, note in rows), 1)
    return {content: Share(product, 0.0, step, note) if note else Share(product, 1 / count) for content, note in rows}


def of_detector(product: str, rows: list[dict], bias: list[str], flats: list[str]) -> dict[str, Share]:
    """Identity of a frame's content -> its share of what was measured of a detector: bias frames told the read noise,
    flats the gain. Nothing of those that told nothing."""
    measured = {row["quantity"]: bool(row["measured"]) for row in rows}
    told = (bias if measured.get("read noise in adu") else []) + (flats if measured.get("gain") else [])
    return {content: Share(product, 1 / len(told)) for content in told}


def _texts(inputs, *columns: str):
    """Names of rows of a FITS table, whose texts are bytes, and some of its columns."""
    for row in inputs:
        values = (row[name] for name in ("name", *columns))
        yield [value.decode(errors="replace").strip() if isinstance(value, bytes) else value for value in values]


def ledger(
    rows: Iterable,
    rejected: Iterable,
    lights: Mapping[str, Share],
    calibrations: Mapping[str, list[Share]],
    left_out: Mapping[str, str],
) -> list[dict]:
    """A row with `COLUMNS` for each file found, by path: exactly one outcome for each.

    rows, rejected  of the frames table
    lights          name -> share, of all stacks
    calibrations    first 16 digits of the pixels' hash -> shares, of all masters and detectors
    left_out        path of a light that `missing: drop` leaves out -> the reason
    """
    out = [_entry(row, *_became(row, lights, calibrations, left_out)) for row in rows]
    out += [_rejected(one.path, one.reason) for one in rejected]
    return sorted(out, key=lambda entry: entry["path"])


def _became(row, lights, calibrations, left_out) -> tuple[str, list[Share]]:
    """Outcome of a frame, and what products say of it."""
    if row.path in left_out:
        return DROPPED, [Share("", 0.0, "matching", left_out[row.path])]
    if row.kind == "light":
        shares = _of_planes([lights[name] for name in names_of(row) if name in lights])
    else:
        shares = calibrations.get(row.pixel_hash[:16], [])
    lost = [share for share in shares if not share.weight]
    if lost:  # left out of its master: that pairs of frames told the gain as well does not make it good
        return DROPPED, lost
    if shares:
        return USED, shares
    why = "select: leaves it out" if row.kind == "light" else "no light needs it"
    return NOT_NEEDED, [Share("", 0.0, "", why)]


def _of_planes(shares: list[Share]) -> list[Share]:
    """Shares of a light that count; where a colour sensor's frame is lost in some of its planes, the first says why."""
    good = [share for share in shares if share.weight]
    lost = [share for share in shares if not share.weight]
    if not good or not lost:
        return shares
    return [replace(good[0], step=lost[0].step, reason=f"{lost[0].product}: {lost[0].reason}"), *good[1:]]


def _entry(row, outcome: str, shares: list[Share]) -> dict:
    first = shares[0]
    band = row.band if row.kind in ("light", "flat") else ""
    values = (row.path, row.kind, row.night, row.object, band, row.exposure, row.camera)
    products = " ; ".join(share.product for share in shares if share.product)
    weight = f"{first.weight:.4f}" if outcome == USED else ""
    return dict(zip(COLUMNS, (*values, outcome, first.step, first.reason, products, weight), strict=True))


def _rejected(path: str, reason: str) -> dict:
    copy = reason.startswith(DUPLICATE)
    known = {"path": path, "outcome": NOT_NEEDED if copy else DROPPED, "step": "" if copy else "read", "reason": reason}
    return dict.fromkeys(COLUMNS, "") | known


def check(entries: list[dict], found: int, told: int, lights: int) -> None:
    """Raise RuntimeError where the balance does not close: a file without a row or with two; lights of the plan that no
    stack tells of (`told` and `lights` are their numbers)."""
    paths = {entry["path"] for entry in entries}
    if not len(paths) == len(entries) == found:
        raise RuntimeError(f"the ledger has {len(entries)} rows for {found} files: this is a mistake in firstlight")
    if told != lights:
        raise RuntimeError(f"stacks tell of {told} lights, there are {lights}: this is a mistake in firstlight")


def told(entries: list[dict], most: int = 8) -> list[str]:
    """The balance in a few lines: '54 files: 53 used, 1 dropped', then the reasons of what was dropped."""
    counts = Counter(entry["outcome"] for entry in entries)
    parts = [f"{counts[outcome]} {outcome}" for outcome in (USED, DROPPED, NOT_NEEDED) if counts[outcome]]
    dropped = [entry for entry in reversed(entries) if entry["outcome"] == DROPPED]
    reasons = Counter(map(_alike, dropped))
    example = {_alike(entry): entry for entry in dropped}
    lines = [f"{len(entries)} files: {', '.join(parts) or 'nothing'}"]
    for alike, count in reasons.most_common(most):
        first = example[alike]
        which = first["path"] if count == 1 else f"{count} files, such as {first['path']}"
        lines.append(f"  dropped at {first['step']}: {which}: {first['reason']}")
    if len(reasons) > most:
        lines.append(f"  and {len(reasons) - most} more reasons, see ledger.csv")
    return lines


def _alike(entry: dict) -> tuple[str, str]:
    """What reasons that differ in measured values only have in common."""
    return entry["step"], re.sub(r"[+-]?\d[\d.]*", "#", entry["reason"])
