"""Plate solving of one frame, offline: a ladder of engines, first success wins, every attempt recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

from . import astrometry, sources

SCALES = (0.4, 0.8, 1.5, 3.0, 6.0, 12.0)  # arcsec/pix, tried where no header tells; each reaches 45 % both ways


@dataclass
class Attempt:
    """One rung: what was tried and what came of it. rms in arcsec."""

    engine: str
    reason: str = ""
    matched: int = 0
    rms: float = float("nan")
    seconds: float = 0.0
    wcs: object = None

    def __str__(self):
        result = f"{self.matched} stars, rms {self.rms:.2f} arcsec" if self.wcs is not None else self.reason
        return f"{self.engine}: {result} ({self.seconds:.2f} s)"


@dataclass
class Solution:
    """The WCS of a frame, or None, and all attempts."""

    wcs: object = None
    attempts: list[Attempt] = field(default_factory=list)

    def cards(self) -> dict:
        """Keywords for the header."""
        last = self.attempts[-1] if self.attempts else Attempt("none", "nothing was tried")
        cards = {
            "FLSOLVED": (self.wcs is not None, "the frame has a celestial WCS"),
            "FLSOLVER": (last.engine, "rung that solved it, or the last"),
        }
        if self.wcs is not None:
            cards["FLMATCH"] = (last.matched, "catalogue stars matched")
            if np.isfinite(last.rms):
                cards["FLWCSRMS"] = (round(last.rms, 4), "[arcsec] rms of the solution")
        else:
            reason = "; ".join(f"{a.engine}: {a.reason}" for a in self.attempts)
            cards["FLUNSOLV"] = reason.replace("\N{DEGREE SIGN}", " deg").encode("ascii", "replace").decode()
        return cards


def solve(
    table: np.ndarray,
    header: fits.Header,
    shape: tuple[int, int],
    stars: np.ndarray | None,
    centre: tuple[float, float] | None = None,
    scale: float | None = None,
    method: str = "ladder",
    radius: float = 2.0,
    scale_tolerance: float = 0.2,
    sip_order: int | None = None,
    time_limit: float = 20.0,
) -> Solution:
    """Find the WCS of a frame.

    table    its sources, brightest first (`sources.detect`); shape (ny, nx)
    stars    catalogue (`catalogue.standard`), None or empty without one
    centre   (ra, dec) in degrees, scale in arcsec/pix: hints from the header or the configuration
    method   "ladder", or "none": nothing is tried and nothing believed
    radius   degrees around the centre that are searched; sip_order None: 3, where lenses
             bend most, if 60 stars match, else none
    """
    solution = Solution()
    if method == "none":
        return solution
    rungs = ((_header, ()), (_seiza, (centre, scale, radius, scale_tolerance, sip_order, time_limit)))
    for rung, arguments in rungs:
        attempt = Attempt(rung.__name__.strip("_"))
        start = time.perf_counter()
        try:
            rung(attempt, table, header, shape, stars, *arguments)
        except ValueError as error:
            attempt.wcs, attempt.reason = None, str(error)
        attempt.seconds = time.perf_counter() - start
        solution.attempts.append(attempt)
        if attempt.wcs is not None:
            solution.wcs = attempt.wcs
            break
    return solution


def _header(attempt, table, header, shape, stars):
    """A WCS that is there already, checked against the catalogue where there is one."""
    wcs = astrometry.read_wcs(header)
    if wcs is None:
        raise ValueError("no WCS in the header")
    if stars is None or not len(stars):
        attempt.wcs = wcs
        attempt.reason = "not checked: no catalogue"
        return
    attempt.wcs, attempt.matched, attempt.rms = _tighten(wcs, table, stars, shape, 20.0)


def _seiza(attempt, table, header, shape, stars, centre, scale, radius, scale_tolerance, sip_order, time_limit):
    """Hinted solve with seiza against the catalogue."""
    import seiza

    if stars is None or not len(stars):
        raise ValueError("no catalogue")
    usable = table[(table["flux"] > 0) & np.isfinite(table["x"]) & np.isfinite(table["y"])]
    if len(usable) < 4:
        raise ValueError(f"{len(usable)} stars in the frame, too few to solve")
    if centre is None:
        centre, radius = _middle(stars)
    ny, nx = shape
    found = [seiza.Star(float(s["x"]), float(s["y"]), float(s["flux"])) for s in usable[:1000]]
    catalogue = seiza.StarCatalog.from_stars([(float(s["ra"]), float(s["dec"]), float(s["mag"])) for s in stars])
    guesses = [(scale, scale_tolerance)] if scale else [(s, 0.45) for s in SCALES]
    solved, reason = None, ""
    for guess, tolerance in guesses:
        try:
            solved = seiza.solve(
                found, catalogue, nx, ny, ra=centre[0], dec=centre[1], scale_arcsec_px=guess, radius_deg=radius,
                scale_tolerance=tolerance, sip_order=0, time_limit=time_limit / len(guesses),
            )  # fmt: skip
            break
        except (seiza.SolveError, TimeoutError) as error:  # a guess that takes too long is one that failed
            reason = str(error)
    if solved is None:
        raise ValueError(f"no solution near {centre[0]:.3f} {centre[1]:+.3f} at {scale or 'any scale'}: {reason}")
    wcs = astrometry.read_wcs(fits.Header(solved.fits_header_cards().items()))
    order = sip_order if sip_order is not None else (3 if solved.matched_stars >= 60 else 0)
    attempt.wcs, attempt.matched, attempt.rms = _tighten(wcs, table, stars, shape, 5.0, order)


def _tighten(wcs, table, stars, shape, reach: float, sip_order: int = 0):
    """Match sources and catalogue around a WCS and fit it anew, in narrowing circles: (wcs, matched, rms in arcsec).

    reach in pixels. Only twice as many catalogue stars are used as there are sources, so that faint ones do not match
    by chance. Raises ValueError where fewer than 6 stars agree, or no more than chance explains.
    """
    ny, nx = shape
    good = table[table["flag"] < sources.ODD]
    xy = np.column_stack([good["x"], good["y"]])
    matched, rms = 0, float("nan")
    sky = np.column_stack([stars["ra"], stars["dec"]])
    ra, dec = wcs.all_pix2world([[nx / 2, ny / 2]], 0)[0]
    near = astrometry.separation(sky, (ra, dec)) < np.hypot(nx, ny) / 2 * _scale(wcs) / 3600 * 1.2
    sky = sky[near][: 2 * max(len(xy), 20)]
    for radius in (reach, reach / 2, max(reach / 5, 1.5), 1.5):
        predicted = wcs.wcs_world2pix(sky, 0) if wcs.sip is None else wcs.all_world2pix(sky, 0, quiet=True)
        i, j = astrometry.nearest(xy, predicted, radius)
        matched = len(i)
        needed = max(6.0, astrometry.more_than_chance(xy, predicted, radius, 3)) if radius <= 1.5 else 4.0
        if matched < needed:
            least = f"at least {max(needed, 6):.0f} are needed"
            raise ValueError(f"{matched} of {len(xy)} stars agree with the catalogue, {least}")
        wcs = astrometry.refit(wcs, xy[i], sky[j], shift_only=matched < 6)
        rms = _rms(wcs, xy[i], sky[j])
    if sip_order >= 2 and matched >= 6 * sip_order**2:
        curved = _with_sip(xy[i], sky[j], shape, sip_order)
        curved_rms = _rms(curved, xy[i], sky[j]) if curved is not None else rms
        # More terms always fit better: beyond what (2 n - terms) explains they must gain 5 %.
        terms = (sip_order + 1) * (sip_order + 2)
        if curved_rms * np.sqrt((2 * matched - 6) / (2 * matched - terms)) < 0.95 * rms:
            return curved, matched, curved_rms
    return wcs, matched, rms


def _with_sip(xy, sky, shape, order):
    """TAN-SIP WCS through matched stars, or None where the fit fails."""
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import fit_wcs_from_points

    try:
        return fit_wcs_from_points(tuple(xy.T), SkyCoord(*sky.T, unit="deg"), proj_point="center", sip_degree=order)
    except Exception:  # scipy and wcslib each have their own ways to fail; the linear solution stands
        return None


def _rms(wcs, xy, sky) -> float:
    """Rms distance in arcsec, per star."""
    found = wcs.all_pix2world(xy, 0)
    residual = astrometry.to_plane(found, wcs.wcs.crval) - astrometry.to_plane(sky, wcs.wcs.crval)
    return float(np.sqrt((residual**2).sum(axis=1).mean()) * 3600)


def _scale(wcs) -> float:
    """arcsec/pix."""
    return float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600)


def _middle(stars) -> tuple[tuple[float, float], float]:
    """Centre of a catalogue and its radius, in degrees."""
    from .catalogue import field_of

    points = [(float(s["ra"]), float(s["dec"])) for s in stars[:: max(len(stars) // 200, 1)]]
    return field_of(points, 0.0, 0.0)
