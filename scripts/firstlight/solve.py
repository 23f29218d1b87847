"""Plate solving of one frame: a ladder of engines in a chosen order, first success wins, every attempt recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
from astropy.io import fits

from . import astrometry, patterns, tighten

ORDER = ("header", "patterns", "seiza", "solve-field")
SCALES = (
    0.4,
    0.8,
    1.5,
    3.0,
    6.0,
    12.0,
    25.0,
)  # arcsec/pix, tried where none is known or right; each reaches 45 % both ways
ANY = 1.45


@dataclass
class Attempt:
    """One rung: what was tried, with which hints, and what came of it. rms in arcsec, nan where nothing was measured."""

    engine: str
    reason: str = ""
    hints: str = ""
    matched: int = 0
    rms: float = float("nan")
    seconds: float = 0.0
    wcs: object = None

    def __str__(self):
        hints = f" {self.hints}" if self.hints and self.hints not in self.outcome else ""
        return f"{self.engine}{hints}: {self.outcome}"

    @property
    def outcome(self) -> str:
        """What came of it, in words."""
        if self.wcs is None or not np.isfinite(self.rms):
            return self.reason
        return f"{self.matched} stars, rms {self.rms:.2f} arcsec" + (f", {self.reason}" if self.reason else "")


@dataclass
class Solution:
    """The WCS of a frame, or None, all attempts, and advice to the user where nothing came of them."""

    wcs: object = None
    attempts: list[Attempt] = field(default_factory=list)
    advice: str = ""

    @property
    def reason(self) -> str:
        """Why nothing came of each attempt."""
        reasons = [f"{a.engine}: {a.reason}" for a in self.attempts if a.wcs is None] or ["nothing was tried"]
        return "; ".join(reasons + [self.advice] * bool(self.advice))

    def rows(self, light: dict) -> list[dict]:
        """The record of a light: a row for each attempt with the columns `ATTEMPTS`; light: its own of them.

        Seconds stand here alone: a light's file is the same whenever it is made.
        """
        rows = [
            {
                "engine": attempt.engine,
                "hints": attempt.hints,
                "seconds": f"{attempt.seconds:.2f}",
                "solved": attempt.wcs is not None,
                "matched": attempt.matched,
                "rms": f"{attempt.rms:.4f}" if np.isfinite(attempt.rms) else "",
                "reason": attempt.reason,
            }
            for attempt in self.attempts or [Attempt("none", "nothing was tried")]
        ]
        rows += [dict.fromkeys(rows[0], "") | {"reason": self.advice}] if self.advice and self.wcs is None else []
        return [light | row for row in rows]

    def cards(self) -> dict:
        """Keywords for the header; all that a ladder may write, None where one does not apply."""
        last = self.attempts[-1] if self.attempts else Attempt("none", "nothing was tried")
        solved = self.wcs is not None
        cards = {
            "FLSOLVED": (solved, "the frame has a celestial WCS"),
            "FLSOLVER": (last.engine, "rung that solved it, or the last"),
            "FLMATCH": (last.matched, "catalogue stars matched") if solved else None,
            "FLWCSRMS": (round(last.rms, 4), "[arcsec] rms of matched stars") if np.isfinite(last.rms) else None,
            "FLUNSOLV": None if solved else plain(self.reason),
        }
        tries = {f"FLTRY{n}": plain(str(attempt)) for n, attempt in enumerate(self.attempts, 1)}
        return {key: card for key, card in (cards | tries).items() if card is not None}


def plain(text: str) -> str:
    """Text as a header can hold it."""
    return " ".join(text.replace("\N{DEGREE SIGN}", " deg").encode("ascii", "replace").decode().split())


LIGHT = ("frame", "target", "night", "filter", "stars")
ATTEMPTS = (*LIGHT, "engine", "hints", "seconds", "solved", "matched", "rms", "reason")
UNSOLVED = (*LIGHT, "reason")


def light_of(header: fits.Header) -> dict:
    """A light's own columns of the tables, from its header."""
    keys = ("FLFRAME", "OBJECT", "NIGHT", "FILTER", "NSTARS")
    return {name: header.get(key, "") for name, key in zip(LIGHT, keys, strict=True)}


def unsolved(records: list[list[dict]], answers: list) -> list[dict]:
    """A row for each light that has no WCS, with the columns `UNSOLVED`, by name.

    records  of the lights, as `Solution.rows` gives them and a CSV file brings them back; a dropped light has no rows
    answers  for each light the header of a server's answer, or None
    """
    rows = []
    for record, answer in zip(records, answers, strict=True):
        answer = answer if answer is not None else {}
        if not record or any(str(row["solved"]) == "True" for row in record) or answer.get("FLSOLVED"):
            continue
        reasons = [f"{row['engine']}: {row['reason']}" if row["engine"] else row["reason"] for row in record]
        reason = answer.get("FLUNSOLV") or "; ".join(reasons)
        rows.append({name: record[0][name] for name in LIGHT} | {"reason": plain(reason)})
    return sorted(rows, key=lambda row: row["frame"])


@dataclass(frozen=True)
class Task:
    """What every rung is given; see `solve`. centres: hints, the most trustworthy first; until: monotonic time."""

    table: np.ndarray
    header: fits.Header
    shape: tuple[int, int]
    stars: np.ndarray | None
    centres: tuple[tuple[float, float], ...]
    scale: float | None
    radius: float
    scale_tolerance: float
    sip_order: int | None
    time_limit: float
    index: str | None
    until: float = float("inf")

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.until - time.monotonic()

    @property
    def sky(self) -> np.ndarray:
        """Positions (n, 2) of the catalogue's stars, brightest first, in degrees."""
        return np.column_stack([self.stars["ra"], self.stars["dec"]])


def solve(
    table: np.ndarray,
    header: fits.Header,
    shape: tuple[int, int],
    stars: np.ndarray | None,
    centre=None,
    scale: float | None = None,
    method: str = "ladder",
    order=ORDER,
    radius: float = 2.0,
    scale_tolerance: float = 0.2,
    sip_order: int | None = None,
    time_limit: float = 20.0,
    index: str | None = None,
) -> Solution:
    """Find the WCS of a frame; what goes wrong is the reason of an attempt, never an exception.

    table    its sources, brightest first (`sources.detect`); shape (ny, nx)
    stars    catalogue (`catalogue.standard`), None or empty without one
    centre   (ra, dec) in degrees, or a list of them, best first; scale in arcsec/pix: hints of header or configuration
    method   "ladder", or "none": nothing is tried and nothing believed
    order    rungs to climb: header, patterns, seiza, solve-field (nova is a rule of its own, see `nova`)
    radius   degrees around the centre that are searched; scale_tolerance relative error of the scale
    sip_order  of the distortion; None for what the stars bear out (see `tighten`)
    time_limit seconds for each rung; index: folder of astrometry.net's index files, None for the installed ones
    """
    solution = Solution()
    if method == "none":
        return solution
    one_place = centre is not None and len(centre) > 0 and np.ndim(centre) == 1
    centres = [centre] if one_place else list(centre or ())
    wcs = astrometry.read_wcs(header)
    centres += [] if wcs is None else [astrometry.middle_of(wcs, shape)]
    centres = _apart(centres, radius / 4)
    task = Task(table, header, shape, stars, centres, scale, radius, scale_tolerance, sip_order, time_limit, index)
    for name in order:
        if name not in RUNGS:
            continue
        attempt = Attempt(name)
        start = time.monotonic()
        try:
            RUNGS[name](attempt, replace(task, until=start + time_limit))
        except (ValueError, TimeoutError, ArithmeticError, OSError) as error:
            attempt.wcs, attempt.reason = None, str(error) or type(error).__name__
        attempt.seconds = time.monotonic() - start
        solution.attempts.append(attempt)
        if attempt.wcs is not None:
            solution.wcs = attempt.wcs
            break
    return solution


def _apart(centres, least: float) -> tuple[tuple[float, float], ...]:
    """Those of some places (ra, dec) that lie on the sky, and not within `least` degrees of one before them."""
    kept = []
    for ra, dec in centres:
        if np.isfinite(ra) and abs(dec) <= 90 and all(astrometry.separation((ra, dec), k) > least for k in kept):
            kept.append((float(ra) % 360, float(dec)))
    return tuple(kept)


def _take(attempt: Attempt, fit: tighten.Fit, note: str = "") -> None:
    """Fill in a solution that was borne out."""
    attempt.wcs, attempt.matched, attempt.rms, attempt.reason = fit.wcs, fit.matched, fit.rms, note


# ---- rungs -----------------------------------------------------------------------------------------------------------


def _header(attempt: Attempt, task: Task) -> None:
    """A WCS that is there already, checked against the catalogue where that has stars of its field."""
    wcs = astrometry.read_wcs(task.header)
    if wcs is None:
        raise ValueError("no WCS in the header")
    unchecked = _cannot_check(wcs, task)
    if unchecked:
        attempt.wcs, attempt.reason = wcs, f"not checked: {unchecked}"
        return
    fit = tighten.tighten(wcs, task.table, task.stars, task.shape, 20.0, task.sip_order, tighten.GIVEN)
    _take(attempt, fit)


def _cannot_check(wcs, task: Task) -> str:
    """Why a header's WCS cannot be held against the catalogue; ValueError where it lies elsewhere altogether."""
    if task.stars is None or not len(task.stars):
        return "no catalogue"
    centre = astrometry.middle_of(wcs, task.shape)
    if not np.isfinite(centre).all():
        raise ValueError("the header's WCS does not place the centre of the frame")
    inside = len(tighten.within(wcs, task.stars, task.shape))
    if inside >= tighten.LEAST:
        return ""
    middle, reach = around(task.stars)
    if astrometry.separation(centre, middle) > reach:
        raise ValueError(f"the header's WCS lies at {_place(centre)}, outside of the catalogue")
    return f"{inside} stars of the catalogue in the field"


def _patterns(attempt: Attempt, task: Task) -> None:
    """Our own patterns of bright stars against the catalogue."""
    xy = tighten.positions(task.table)
    _enough(xy, task)
    reasons = []
    # All hints are followed quickly before the first is followed thoroughly.
    for look, until in zip(patterns.LOOKS, (task.until - 0.5 * task.left, task.until), strict=True):
        for hint in _hints(attempt, replace(task, until=until)):
            try:
                for wcs in patterns.find(xy, task.sky, task.shape, hint, look):
                    try:
                        return _take(attempt, _borne_out(wcs, task))
                    except ValueError as error:
                        reasons.append(str(error))
            except TimeoutError:  # a hint that takes too long is one that failed
                pass
    nearest = f"; the best of {len(reasons)} candidates: {max(reasons, key=_first_number)}" if reasons else ""
    raise ValueError(f"no solution {attempt.hints}{nearest}")


def _seiza(attempt: Attempt, task: Task) -> None:
    """Seiza against the catalogue."""
    import seiza

    xy = tighten.positions(task.table)
    _enough(xy, task)
    ny, nx = task.shape
    found = [seiza.Star(x, y, 1.0 / (n + 1)) for n, (x, y) in enumerate(xy[:1000].tolist())]
    stars = task.stars
    catalogue = seiza.StarCatalog.from_stars(
        list(zip(stars["ra"].tolist(), stars["dec"].tolist(), stars["mag"].tolist(), strict=True))
    )
    reason = ""
    for hint in _hints(attempt, task, SCALES):
        try:
            solved = seiza.solve(
                found, catalogue, nx, ny, ra=hint.centre[0], dec=hint.centre[1], scale_arcsec_px=hint.scale,
                radius_deg=hint.radius, scale_tolerance=hint.reach - 1, sip_order=0,
                time_limit=max(hint.until - time.monotonic(), 0.01),
            )  # fmt: skip
        except (seiza.SolveError, TimeoutError) as error:
            reason = str(error)
            continue
        wcs = astrometry.read_wcs(fits.Header(solved.fits_header_cards().items()))
        try:
            return _take(attempt, _borne_out(wcs, task))
        except ValueError as error:
            reason = str(error)
    raise ValueError(f"no solution {attempt.hints}: {reason}")


def _solve_field(attempt: Attempt, task: Task) -> None:
    """Astrometry.net's solve-field, where it is installed, against its own index files."""
    from . import engines

    xy = tighten.positions(task.table)
    if len(xy) < 4:
        raise ValueError(f"{len(xy)} stars in the frame, too few to solve")
    known = [(task.centres[0], task.scale)] if task.centres else []
    tried = [*known, (None, task.scale)]
    factor = 1 + task.scale_tolerance
    for number, (centre, scale) in enumerate(tried):
        attempt.hints = _said(centre, task.radius, scale, factor)
        limits = (scale / factor, scale * factor) if scale else None
        seconds = task.left / (len(tried) - number)
        try:
            solved = engines.solve_field(
                xy, task.shape, centre, task.radius, limits, seconds, task.index, task.sip_order
            )
            return accept(attempt, solved.wcs, solved.xy, solved.sky, task)
        except (ValueError, TimeoutError) as error:
            reason = str(error)
    raise ValueError(reason)


def by_nova(task: Task, key: str | None, server: str, submission: int | None = None, taken=None) -> Attempt:
    """The attempt of the server of `nova.ask`, which gets `task.time_limit` seconds; nova.Unanswered where it does not say."""
    from . import nova

    xy = tighten.positions(task.table)
    attempt = Attempt("nova")
    start = time.monotonic()
    try:
        if len(xy) < 4:
            raise ValueError(f"{len(xy)} stars in the frame, too few to solve")
        words = asked(task)
        attempt.hints = f"submission {submission}" if submission is not None else ""
        wcs = nova.ask(words, key, task.time_limit, server, submission, taken)
        accept(attempt, wcs, np.zeros((0, 2)), np.zeros((0, 2)), task)
    except ValueError as error:
        attempt.wcs, attempt.reason = None, str(error)
    attempt.seconds = time.monotonic() - start
    return attempt


def asked(task: Task) -> dict:
    """What the server is asked about a frame: its hints as they are, without a scale where none is known."""
    from . import nova

    factor = 1 + task.scale_tolerance
    limits = (task.scale / factor, task.scale * factor) if task.scale else None
    centre = task.centres[0] if task.centres else None
    return nova.request(tighten.positions(task.table), task.shape, centre, task.radius, limits)


RUNGS = {"header": _header, "patterns": _patterns, "seiza": _seiza, "solve-field": _solve_field}


def accept(attempt: Attempt, wcs, xy, sky, task: Task) -> None:
    """Take the solution of an engine with a catalogue of its own: fitted to ours where that has stars enough in the
    field, else to the pairs (n, 2), (n, 2) of pixels and sky that the engine matched."""
    ours = tighten.within(wcs, task.stars, task.shape) if task.stars is not None else ()
    if len(ours) >= 2 * tighten.LEAST:
        try:
            return _take(attempt, tighten.tighten(wcs, task.table, task.stars, task.shape, 8.0, task.sip_order))
        except ValueError as error:
            if len(ours) >= 30:
                raise ValueError(f"its solution at {_place(astrometry.middle_of(wcs, task.shape))}: {error}") from error
    attempt.wcs, attempt.matched, attempt.reason = wcs, len(xy), "by its own index, not fitted to the catalogue"
    if len(xy):
        attempt.rms = tighten.rms(wcs, xy, sky)


def _borne_out(wcs, task: Task) -> tighten.Fit:
    """A candidate fitted to all stars; ValueError where they do not bear it out, or its pixels are no squares."""
    fit = tighten.tighten(wcs, task.table, task.stars, task.shape, 8.0, task.sip_order, tighten.SEARCHED)
    long, short = np.linalg.svd(fit.wcs.pixel_scale_matrix, compute_uv=False)
    if long > 1.1 * short:
        raise ValueError(
            f"{fit.matched} stars agree with the catalogue, but on pixels of sides 1 to {long / short:.2f}"
        )
    return fit


def _enough(xy, task: Task) -> None:
    if task.stars is None or not len(task.stars):
        raise ValueError("no catalogue")
    if len(xy) < tighten.LEAST:
        raise ValueError(f"{len(xy)} stars in the frame, too few to solve")
    if len(task.stars) < tighten.LEAST:
        raise ValueError(f"only {len(task.stars)} stars in the catalogue, too few to solve")


# ---- hints -----------------------------------------------------------------------------------------------------------


def _hints(attempt: Attempt, task: Task, scales=SCALES):
    """From the hints as they are to all of the catalogue at any scale; each gets its share of the time that is left."""
    middle, reach = around(task.stars)
    places = [(centre, task.radius) for centre in task.centres if astrometry.separation(centre, middle) < reach + 1]
    known = [(task.scale, 1 + task.scale_tolerance)] if task.scale else []
    anything = [(scale, ANY) for scale in sorted(scales, key=lambda s: abs(np.log(s / (task.scale or 1.5))))]
    plan = [(place, scale) for scale in known for place in [*places, (middle, reach)]]
    plan += [((middle, reach), scale) for scale in anything]
    first = ""
    for number, ((centre, radius), (scale, factor)) in enumerate(plan):
        if task.left <= 0:
            break
        # The hints as they are get most of the time; the last guesses are for frames that say little.
        share = 0.5 if known and number == 0 else 1 / (len(plan) - number)
        attempt.hints = _said(centre, radius, scale if factor != ANY else None, factor)
        first = first or attempt.hints
        yield patterns.Hint(centre, radius, scale, factor, time.monotonic() + share * task.left)
    if attempt.hints != first:
        attempt.hints = f"{first}, then {attempt.hints}"
    if task.left <= 0:
        attempt.hints += f", until the time was up (solve: time_limit: {task.time_limit:g})"


def _said(centre, radius: float, scale: float | None, reach: float) -> str:
    """A hint in words."""
    place = f"within {radius:.2g} deg of {_place(centre)}" if centre else "anywhere"
    return f"{place}, {scale:.3g} arcsec/pix +-{reach - 1:.0%}" if scale else f"{place}, any scale"


def _place(centre) -> str:
    return f"{centre[0]:.3f} {centre[1]:+.3f}"


def _first_number(text: str) -> int:
    return int(next((word for word in text.split() if word.isdigit()), 0))


def around(stars: np.ndarray) -> tuple[tuple[float, float], float]:
    """Centre (ra, dec) of a catalogue and the radius of the circle around it that holds it, in degrees."""
    ra, dec = np.radians(stars["ra"]), np.radians(stars["dec"])
    x, y, z = (np.cos(dec) * np.cos(ra)).mean(), (np.cos(dec) * np.sin(ra)).mean(), np.sin(dec).mean()
    centre = float(np.degrees(np.arctan2(y, x)) % 360), float(np.degrees(np.arctan2(z, np.hypot(x, y))))
    return centre, float(astrometry.separation(np.column_stack([stars["ra"], stars["dec"]]), centre).max())
