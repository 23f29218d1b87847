"""What the report tells, as plain values gathered from headers, tables and logs: no file is opened, nothing is drawn."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import PurePath

from .forecast import told
from .frame import Mask

HONEST = 0.03  # by how much the spread of half stacks may differ from 1 and sigma still count as true
# What is plotted of each frame over the night: column of INPUTS, name, unit.
MEASURES = (
    ("fwhm", "FWHM", "pix"),
    ("sky", "sky", ""),
    ("stars", "stars found", ""),
    ("transparency", "transparency", "of the clearest"),
    ("dx", "shift in x", "pix"),
    ("dy", "shift in y", "pix"),
    ("wcsrms", "rms of the solution", "arcsec"),
    ("elong", "elongation", ""),
)
# Which rule wrote a log, by its place below logs/: the first that fits.
PLACES = (
    ("masters/library/*_detector.log", "ready_detector"),
    ("masters/library/*.log", "ready_master"),
    ("masters/*/*/detector.log", "detector"),
    ("masters/*/*/bias.log", "master_bias"),
    ("masters/*/*/dark_*.log", "master_dark"),
    ("masters/*/*/flatdark_*.log", "master_dark"),
    ("masters/*/*/flat_*.log", "master_flat"),
    ("masters/*/*/fringe_*.log", "fringe"),
    ("catalogues/*.log", "catalogue"),
    ("lights/*/*/*/*.log", "light"),
    ("nova/*/*/*/*.log", "nova"),
    ("aligned/*/grid.log", "grid"),
    ("aligned/*/*/*.log", "align"),
    ("stacks/*/*.log", "combine"),
    ("pictures/*/*.log", "preview"),
    ("pictures/*.log", "picture"),
)


def balance(ledger: list[dict]) -> dict:
    """What became of the files: their number, that of each outcome, and of each step at which files were dropped."""
    outcomes = Counter(row["outcome"] for row in ledger)
    dropped = Counter(row["step"] for row in ledger if row["outcome"] == "dropped")
    return {"files": len(ledger), "outcomes": dict(outcomes), "dropped": dropped.most_common()}


def number(value) -> float | None:
    """A header's or a table's value as a finite number, None where it is none."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def time_of(text) -> datetime | None:
    """The moment that a DATE-OBS tells, as far as it tells one; its zone is left aside."""
    text = str(text or "").strip().removesuffix("Z")[:26]
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None) if "T" in text or ":" in text else None
    except ValueError:
        return None


# --- stacks and their frames ------------------------------------------------------------------------------------------
def stack(header, target: str, filter: str) -> dict:
    """What a stack's header says of it; of one that could not be made the reason alone (`dropped`)."""
    out = {"target": target, "filter": filter, "dropped": ""}
    if header.get("FLSTATUS") == "dropped":
        return out | {"dropped": str(header.get("FLREASON", "?"))}
    keys = {
        "frames": "NCOMBINE", "left_out": "NDROPPED", "exposure": "EXPTOT", "fwhm": "FWHM", "fwhm_sky": "FWHMSKY",
        "noise": "SKYNOISE", "depth": "DEPTH", "odd_even": "ODDEVEN", "odd_even_8": "ODDEVEN8", "dithers": "FLDITHER",
        "nx": "NAXIS1", "ny": "NAXIS2",
    }  # fmt: skip
    out |= {name: number(header.get(key)) for name, key in keys.items()}
    out["band"] = str(header.get("DEPTHBND", "") or "")
    out["unit"] = str(header.get("BUNIT", "") or "")
    out["method"] = str(header.get("COMBINED", "") or "")
    out["note"] = str(header.get("FLNOTE", "") or "")
    out["solved"] = "CD1_1" in header and "CRVAL1" in header
    return out | {"halves": halves(out["odd_even"], out["odd_even_8"])}


def halves(spread: float | None, of_blocks: float | None) -> dict:
    """The test of half stacks in words: the spread of (odd - even frames) over what sigma claims, on empty sky."""
    if spread is None:
        return {"verdict": "", "words": "too few frames for two halves"}
    blocks = f"; in 8x8 pixels {of_blocks:.2f}" if of_blocks is not None else ""
    off = spread - 1
    if abs(off) <= HONEST:
        return {"verdict": "honest", "words": f"as sigma says: {spread:.3f}{blocks}"}
    how = "more" if off > 0 else "less"
    size = "small" if off > 0 else "large"
    words = f"{abs(off):.0%} {how} than sigma says ({spread:.3f}{blocks}): sigma is too {size}"
    return {"verdict": f"too {size}", "words": words}


def frames(rows, filter: str, known: dict[str, dict]) -> list[dict]:
    """The frames of a stack, from the rows (dicts) of its table INPUTS: name, filter, time, note, whether it was left out, and
    `MEASURES`, None where nothing was measured. known: rows of the frames table by name, for times that INPUTS lacks."""
    out = []
    for row in rows:
        gone = not number(row.get("weight"))
        one = {"name": row["name"], "filter": filter, "night": row.get("night", ""), "note": row.get("note", "")}
        one |= {"left_out": gone, "weight": number(row.get("weight")) or 0.0}
        raw = known.get(row["name"], {})
        one["time"] = time_of(row.get("time")) or time_of(raw.get("time"))
        one["night"] = one["night"] or raw.get("night", "")
        for name, *_ in MEASURES:
            value = number(row.get(name))
            # A frame that was dropped before it was measured has zeros; none of what never is zero is zero.
            nothing = value == 0 and (
                name in ("fwhm", "transparency", "elong", "wcsrms") or (gone and not one_was_met(row))
            )
            one[name] = None if nothing else value
        out.append(one)
    return out


def one_was_met(row) -> bool:
    """Whether a frame reached its stack: one that was dropped before has neither exposure nor FWHM in the table."""
    return bool(number(row.get("exposure")) or number(row.get("fwhm")))


# --- masters ----------------------------------------------------------------------------------------------------------
def master(header, path: str) -> dict:
    """What a master's header says of it: kind, frames, level, noise, who was left out and why."""
    name = path.split("/masters/")[-1].removesuffix(".fits")
    out = {
        "name": name,
        "kind": str(header.get("IMAGETYP", "")).removeprefix("master ") or PurePath(path).stem.split("_")[0],
    }
    if header.get("FLSTATUS") == "dropped":
        return out | {"dropped": str(header.get("FLREASON", "?"))}
    keys = {
        "frames": "NCOMBINE", "level": "FLLEVEL", "noise": "FLNOISE", "scatter": "FLSCATTR", "ratio": "FLSIGRAT",
        "exposure": "EXPTIME", "temperature": "CCD-TEMP", "gain": "FLGAIN", "read_noise": "FLRDNOIS",
    }  # fmt: skip
    out |= {key: number(header.get(card)) for key, card in keys.items()}
    out["unit"] = str(header.get("BUNIT", "") or "") or "of level"
    out["note"] = str(header.get("FLNOTE", "") or "")
    out["outliers"] = [str(header[key]) for key in header if key.startswith("LEFT") and key[4:].isdigit()]
    return out | {"dropped": ""}


def flagged(mask) -> list[tuple[str, int]]:
    """Name and number of pixels of each bit that is set in a mask (ny, nx)."""
    counts = [(name, int(((mask & bit) > 0).sum())) for bit, name in Mask.NAMES.items()]
    return [(name, count) for name, count in counts if count]


# --- which master went where ------------------------------------------------------------------------------------------
def served(matches, known: dict[str, dict]) -> list[dict]:
    """Which master served which frames and why: a row for each (target, filter, night, kind, master, reason).

    matches  rows of matches.csv as dicts; known: rows of the frames table by name
    Where none was chosen for a frame, the reason is that against the best that there was. A frame whose dark already holds
    the bias has no bias chosen: that is told only where nothing else of the frame's was chosen either.
    """
    groups, lacking = defaultdict(list), {}
    for row in matches:
        key = row["frame"], row["kind"]
        if row["chosen"] == "yes":
            lacking[key] = None
            groups[
                _place(row["frame"], known) + (row["kind"], row["master"], row["source"], _how_far(row), row["why"])
            ].append(row["frame"])
        else:
            lacking.setdefault(key, row["why_not"] or row["why"])
    for (frame, kind), reason in lacking.items():
        if reason is not None:
            groups[_place(frame, known) + (kind, "", "", "", reason)].append(frame)
    names = ("of", "kind", "master", "source", "apart", "why")
    out = [dict(zip(names, key, strict=True)) | {"frames": frames} for key, frames in groups.items()]
    order = {"bias": 0, "dark": 1, "flatdark": 1, "flat": 2}
    return sorted(out, key=lambda row: (row["of"].startswith("masters/"), row["of"], order.get(row["kind"], 9)))


def _place(frame: str, known: dict[str, dict]) -> tuple[str]:
    row = known.get(frame)
    return (f"{row['object'] or row['target']}, {row['band']}, {row['night']}" if row else frame,)


def _how_far(row: dict) -> str:
    """How far a master was off: '0 nights, exposure x1, +0.01 C'."""
    nights = "same night" if row["nights"] == "0" else f"{row['nights']} nights apart" if row["nights"] else ""
    ratio = f"{row['exposure_ratio']} of its exposure" if row["exposure_ratio"] not in ("", "1") else ""
    ratio = ratio or ("same exposure" if row["exposure_ratio"] else "")
    return ", ".join(part for part in (nights, ratio, _degrees(row["temperature_difference"])) if part)


def _degrees(text: str) -> str:
    """Temperatures differ a little from frame to frame: in half degrees, so that frames alike stand in one row."""
    value = number(text)
    if value is None:
        return ""
    return f"{round(2 * value) / 2:+.1f} °C" if abs(value) >= 0.25 else "same temperature"


# --- configuration, time ----------------------------------------------------------------------------------------------
def differing(config: dict, defaults: dict) -> dict:
    """The part of a complete configuration that differs from the defaults, nested as it is."""
    out = {}
    for key, value in config.items():
        default = defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            if inner := differing(value, default):
                out[key] = inner
        elif value != default:
            out[key] = value
    return out


def rule_of(log: str) -> str:
    """The rule that wrote a log, by its path below logs/; the file's own name where the place is not known."""
    path = PurePath(log)
    depth = len(path.parts)
    return next((rule for form, rule in PLACES if form.count("/") + 1 == depth and path.match(form)), path.stem)


def costs(logs) -> list[dict]:
    """Time and memory per rule, from (path below logs/, text) of each log: jobs, seconds, CPU seconds, largest MB; the
    longest first. Logs without a last line that tells (a job that did not end) count as `unfinished`."""
    rules = defaultdict(lambda: {"jobs": 0, "seconds": 0.0, "cpu": 0.0, "megabytes": 0.0, "unfinished": 0})
    for path, text in logs:
        rule, one = rules[rule_of(path)], told(text)
        if one is None:
            rule["unfinished"] += 1
            continue
        rule["jobs"] += 1
        rule["seconds"] += one.seconds
        rule["cpu"] += one.cpu
        rule["megabytes"] = max(rule["megabytes"], one.megabytes)
    told_of = [{"rule": name} | values for name, values in rules.items() if values["jobs"]]
    return sorted(told_of, key=lambda row: -row["cpu"])


# --- on the sky -------------------------------------------------------------------------------------------------------
def outline(header, x: float, y: float, nx: float, ny: float) -> list[tuple[float, float]]:
    """Corners (xi, eta) in arcmin east and north of a grid's centre of projection, of nx times ny pixels of the grid whose
    first pixel is the grid's pixel (x, y), from 0. The grid is tangential: its CD matrix leads to the plane."""
    corners = ((x, y), (x + nx, y), (x + nx, y + ny), (x, y + ny))
    return [_plane(header, column + 0.5, row + 0.5) for column, row in corners]


def _plane(header, column: float, row: float) -> tuple[float, float]:
    dx, dy = column - header["CRPIX1"], row - header["CRPIX2"]
    cd = [header.get(key, 0.0) for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")]
    return 60 * (cd[0] * dx + cd[1] * dy), 60 * (cd[2] * dx + cd[3] * dy)


def size(corners: list[tuple[float, float]]) -> str:
    """Width and height of an outline: '102 x 102 arcmin'."""
    (x0, y0), (x1, y1), (x2, y2) = corners[:3]
    wide, high = math.hypot(x1 - x0, y1 - y0), math.hypot(x2 - x1, y2 - y1)
    return f"{wide:.3g} x {high:.3g} arcmin"


def sexagesimal(ra: float, dec: float) -> str:
    """'02h20m36s +57°08\u203256\u2033' of coordinates in degrees."""
    seconds = round(ra % 360 * 240) % 86400
    hours, minutes = divmod(seconds, 3600)
    arc = round(abs(dec) * 3600)
    degrees, rest = divmod(arc, 3600)
    sign = "\u2212" if dec < 0 else "+"
    return (
        f"{hours:02d}h{minutes // 60:02d}m{minutes % 60:02d}s "
        f"{sign}{degrees:02d}\u00b0{rest // 60:02d}\u2032{rest % 60:02d}\u2033"
    )


def on_plane(header, stars) -> list[tuple[float, float, float]]:
    """Stars (ra, dec in degrees, magnitude) on the plane of a grid: xi, eta in arcmin, radius of a dot in the plot."""
    a0, d0 = math.radians(header["CRVAL1"]), math.radians(header["CRVAL2"])
    out = []
    brightest = min((mag for *_, mag in stars), default=0.0)
    for ra, dec, mag in stars:
        a, d = math.radians(ra) - a0, math.radians(dec)
        depth = math.sin(d0) * math.sin(d) + math.cos(d0) * math.cos(d) * math.cos(a)
        if depth > 0:
            xi = math.cos(d) * math.sin(a) / depth
            eta = (math.cos(d0) * math.sin(d) - math.sin(d0) * math.cos(d) * math.cos(a)) / depth
            out.append((math.degrees(xi) * 60, math.degrees(eta) * 60, max(3.4 - 0.5 * (mag - brightest), 0.7)))
    return out
