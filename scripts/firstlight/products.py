"""What a stack says of itself: its header and the table of what went in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np
from astropy.io import fits

from . import history, honesty, photometry, resample, sources
from .frame import Frame, printable

# What belongs to one frame alone, also where there is but one, or where all agree by chance.
OF_A_FRAME = (
    "FLFRAME FLPIXELS FLKIND FLSOLVED FLSOLVER FLMATCH FLWCSRMS FLNOTE NCOSMIC NFITTED NSTARS STARFLUX SKYLEVEL SKYNOISE "
    "ELONG BETA FWHM MAGZERO MAGZERR MAGZSCAT NPHOT AIRMASS MJDREF MJD-OBS JD JD_UTC HJD BJD DATE DATE-LOC DATE-END "
    "DATE-AVG DATE-BEG TIME-OBS UT UTC LST SIDTIME OBJCTALT OBJCTAZ OBJCTHA CENTALT CENTAZ HA"
).split()
PREFIXES = ("ALIGN", "FLTRY", "NCORR")
LINES = ("HISTORY", "COMMENT")
OF_ALL = ("OBJECT", "FILTER")  # what frames were put together by, however each spells it
PHOTOMETRIC = 1.5  # FWHM, radius of the circle that depth is told for
OF_STACK = ("SKYLEVEL", "SKYNOISE", "NSTARS", "STARFLUX", "FWHM", "ELONG", "BETA", "NFITTED")
COLUMNS = (
    "name",
    "night",
    "weight",  # share of the stack
    "scale",  # that brought its flux to the reference's
    "offset",  # that brought its sky to the reference's, mean over the frame
    "fwhm",  # pixels of the grid
    "noise",  # of a pixel of the sky, in the frame's own scale
    "exposure",  # seconds
    "transparency",  # of the clearest frames
    "rejected",  # share of the grid's pixels
    "depth",  # per cent that the frame adds to the depth
    "ncorr",  # noise in a circle of 5 pixels over its pixels' sigmas
    "note",
    "time",  # DATE-OBS, start of the exposure
    "stars",
    "sky",  # level, at the frame's own scale
    "elong",  # ratio of a star's axes
    "wcsrms",  # arcsec, of the solution
    "dx",  # pixels of the grid from its middle to that of the frame
    "dy",
    "content",  # identity of the raw frame's pixels
)
TEXTS = ("name", "night", "note", "time", "content")
SAID = {"stars": "NSTARS", "sky": "SKYLEVEL", "elong": "ELONG", "wcsrms": "FLWCSRMS", "dx": "ALIGNDX", "dy": "ALIGNDY"}


def shared_header(headers: list[fits.Header], first: fits.Header) -> fits.Header:
    """A copy of the header `first` with those of its cards alone that all headers have alike, and without what belongs to
    a single frame; names of target and filter stay, and of HISTORY and COMMENT the lines that all have."""
    out = first.copy()
    for key in dict.fromkeys(out.keys()):
        if key in LINES:
            _keep_shared_lines(out, headers, key)
            continue
        alike = all(str(header.get(key)) == str(out.get(key)) for header in headers)
        if key and key not in OF_ALL and (not alike or key in OF_A_FRAME or key.startswith(PREFIXES)):
            out.remove(key, remove_all=True)
    return out


def _keep_shared_lines(out: fits.Header, headers: list[fits.Header], key: str) -> None:
    """Texts that all headers share; of those that name versions the names that all share, since not each frame needed every
    library."""
    whole, parts = (history.joined, history.wrapped) if key == "HISTORY" else (list, lambda text: [text])
    texts = [whole(header.get(key, ())) for header in headers]
    shared = [_shared(text, texts) for text in whole(out[key])]
    out.remove(key, remove_all=True)
    add = out.add_history if key == "HISTORY" else out.add_comment
    for line in (part for text in shared if text for part in parts(text)):
        add(line)


def _shared(text: str, texts: list[list[str]]) -> str:
    if all(text in others for others in texts):
        return text
    made, *libraries = text.split(", ")
    alike = [next((one.split(", ") for one in others if one.split(", ")[0] == made), []) for others in texts]
    if not re.fullmatch(r"\w+: firstlight \S+", made) or not all(alike):
        return ""
    return ", ".join([made, *(name for name in libraries if all(name in others for others in alike))])


def dates(headers: list[fits.Header]) -> dict:
    """Cards for when the light of a stack was taken, by DATE-OBS (the start, UTC) and EXPTIME of its frames; none where no
    frame says when. DATE-AVG is the mean of the exposures' middles, weighted by their length."""
    spans = [span for header in headers if (span := _span(header))]
    if not spans:
        return {}
    start, end = min(begin for begin, _ in spans), max(begin + length for begin, length in spans)
    total = sum((length for _, length in spans), timedelta())
    each = [(begin + length / 2 - start, length / total if total else 1 / len(spans)) for begin, length in spans]
    middle = start + sum((after * share for after, share in each), timedelta())
    named = {"BEG": (start, "start of the first exposure"), "END": (end, "end of the last exposure")}
    named["AVG"] = (middle, "mean time of the exposures")
    cards = {"DATE-OBS": (_text(start), "UTC, start of the first exposure")}
    cards |= {f"DATE-{name}": (_text(moment), f"UTC, {what}") for name, (moment, what) in named.items()}
    return cards | {f"MJD-{name}": (_mjd(moment), f"[d] {what}") for name, (moment, what) in named.items()}


def _span(header) -> tuple[datetime, timedelta] | None:
    text = re.sub(r"(\.\d{6})\d+|Z$", r"\1", str(header.get("DATE-OBS", "")).strip())
    try:
        begin = datetime.fromisoformat(text if ":" in text else "")  # a day alone is no time
    except ValueError:
        return None
    begin = begin.astimezone(UTC).replace(tzinfo=None) if begin.tzinfo else begin
    return begin, timedelta(seconds=float(header.get("EXPTIME") or 0.0))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _mjd(moment: datetime) -> float:
    return round((moment - datetime(1858, 11, 17)) / timedelta(days=1), 8)


def cards(inputs: list, reference, method: str, clip: str, weight: str, factors: np.ndarray) -> dict:
    """Header cards about what was combined, from the inputs of `combine` and the stack's `honesty.factors_of_stack`."""
    n = len(inputs)
    known = [one for one in inputs if one.fwhm > 0]
    out = dates([one.header for one in inputs]) | {
        "IMAGETYP": "stack",
        "NCOMBINE": (n, "frames combined"),
        "EXPTIME": (reference.exposure * (n if method == "sum" else 1), "[s] exposure that the flux scale refers to"),
        "EXPTOT": (round(_exposed(inputs), 3), "[s] sum of the exposures"),
        "PHOTREF": (reference.name, "frame that gives the flux scale"),
        "COMBINED": (f"{method}, {clip}", "method and rejection"),
        "WEIGHTED": (weight, "what frames were weighted by"),
    }
    if known:
        mean = np.average([one.fwhm for one in known], weights=[one.weight for one in known])
        out["FWHMIN"] = (round(float(mean), 3), "[pix] weighted mean of the frames' FWHM")
        out["FWHM"] = out["FWHMIN"]  # until the stack's own stars are measured
    planes = {str(one.header.get("FLPLANE") or "")[:1] for one in inputs}
    if len(planes) == 1 and "" not in planes:
        out["FLPLANE"] = (planes.pop(), "plane of a colour sensor")
    return out | resample.noise_cards(factors)


def _exposed(inputs: list) -> float:
    """Seconds that the raw frames were exposed for: both greens of one are exposed at once."""
    return sum({one.header.get("FLPIXELS") or one.name: one.exposure for one in inputs}.values())


def measured(frame: Frame, table_and_sky: tuple | None = None) -> dict:
    """Header cards of what a stack shows: its sky, its stars, and its instrumental depth.

    table_and_sky  what `sources.detect` gives, if that was called before
    DEPTHINS is the magnitude -2.5 log10(flux / EXPTIME) of a star whose flux in a circle of 1.5 FWHM is five times the
    noise of the sky there, what pixels share of it included (NCORRnn).
    """
    _, sky = sources.detect(frame) if table_and_sky is None else table_and_sky
    out = {key: sky[key] for key in OF_STACK if key in sky}
    fwhm = out.get("FWHM", (frame.header.get("FWHM"),))[0]
    noise = out.get("SKYNOISE", (0.0,))[0]
    if not fwhm or not noise:
        return out
    radius = PHOTOMETRIC * float(fwhm)
    correlation = honesty.factor_at(radius, honesty.factors_of(frame.header))
    depth = photometry.depth(noise, radius, correlation, float(frame.header.get("EXPTIME") or 0.0))
    if depth is not None:
        out["DEPTHINS"] = (round(depth, 3), f"[mag] of 1 {frame.unit}/s: 5 sigma of the sky")
        out["DEPTHRAD"] = (round(radius, 3), "[pix] radius of the circle of DEPTH")
    return out


def few(n: int) -> str:
    """What is to be said of a stack of so few frames, "" of more."""
    return {1: "one frame only: nothing was rejected", 2: "two frames only: rejection is weak"}.get(n, "")


def stayed(inputs: list) -> str:
    """What is to be said where frames beyond the limits are in the stack, "" where none is."""
    number = sum(bool(one.despite) for one in inputs)
    return f"{number} of {len(inputs)} frames are beyond the limits and stay (limits: keep)" if number else ""


def table(inputs: list, left_out: list[tuple]) -> np.ndarray:
    """The table of inputs with `COLUMNS`; those left out, given as (input, reason), with weight 0."""
    total = sum(one.weight for one in inputs)
    rows = [_row(one, one.weight / total, one.note) for one in inputs]
    return _typed(rows + [_row(one, 0.0, f"left out, {reason}") for one, reason in left_out])


def _row(one, weight: float, note: str) -> tuple:
    numbers = (one.scale, one.offset, one.fwhm, one.noise, one.exposure, one.transparency, one.rejected, one.depth)
    night, time, content = (printable(one.header.get(key, "")) for key in ("NIGHT", "DATE-OBS", "FLPIXELS"))
    said = (_number(one.header.get(key)) for key in SAID.values())
    correlation = honesty.factor_at(5, one.factors)
    return (one.name, night, weight, *numbers, correlation, printable(note), time, *said, content)


def _number(value) -> float:
    """A header's number; NaN for none."""
    return float(value) if isinstance(value, (int, float)) else np.nan


def with_dropped(rows: np.ndarray | None, dropped: list[tuple[str, str]]) -> np.ndarray:
    """The table of inputs (None where nothing was combined) with a row of weight 0 for each frame that was dropped before,
    given as (name, reason)."""
    nothing = {column: "" if column in TEXTS else np.nan if column in SAID else 0.0 for column in COLUMNS}
    more = [
        tuple((nothing | {"name": name, "note": printable(f"dropped, {reason}")}).values()) for name, reason in dropped
    ]
    return _typed(([] if rows is None else [tuple(row) for row in rows.tolist()]) + more)


def left_out(rows: np.ndarray) -> dict:
    """Header card with the number of frames in a table that do not count."""
    return {"NDROPPED": (int((rows["weight"] == 0).sum()), "frames left out, see the table INPUTS")}


def _typed(rows: list[tuple]) -> np.ndarray:
    """Rows as a structured array, whose columns of text hold their longest entry."""

    def kind(column, name):
        return f"U{max((len(row[column]) for row in rows), default=1) or 1}" if name in TEXTS else "f8"

    return np.array(rows, dtype=[(name, kind(column, name)) for column, name in enumerate(COLUMNS)])


def told(rows: np.ndarray) -> list[str]:
    """The table in words, a line for each frame, for the log."""
    dropped = [f"{row['name']}: {row['note']}" for row in rows if row["weight"] == 0]
    return [
        f"{row['name']}: weight {row['weight']:.3f}, scale {row['scale']:.4f}, sky {row['offset']:+.1f}, "
        f"FWHM {row['fwhm']:.2f} pix, transparency {row['transparency']:.2f}, rejected {row['rejected']:.2%}, "
        f"adds {row['depth']:.1f}% of depth" + (f"; {row['note']}" if row["note"] else "")
        for row in rows
        if row["weight"] > 0
    ] + dropped
