"""Zero points: the magnitude of one electron (or ADU) per second, by the stars of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import astrometry
from .frame import printable

FEWEST = 3  # stars that a zero point is believed of
FAINTEST = 10.0  # flux over its error, of a star that takes part


@dataclass(frozen=True)
class ZeroPoint:
    """mag = `mag` - 2.5 log10(flux / exposure); error of `mag` from the scatter of `stars` stars, and that scatter."""

    mag: float
    error: float
    stars: int
    scatter: float

    def cards(self, band: str) -> dict:
        """Keywords for the header of an image; band: whose magnitudes these are."""
        return {
            "MAGZERO": (round(self.mag, 4), f"[mag] of flux 1 in 1 s within 1.5 FWHM, {printable(band)}"[:60]),
            "MAGZERR": (round(self.error, 4), "[mag] error of MAGZERO by the scatter of stars"),
            "MAGZSCAT": (round(self.scatter, 4), "[mag] scatter of a star about MAGZERO"),
            "NPHOT": (self.stars, "stars that give MAGZERO"),
        }


def zero_point(
    table: np.ndarray, wcs, stars: np.ndarray | None, exposure: float, colour_term: float | None = None
) -> ZeroPoint | None:
    """The zero point of an image from its sources and the catalogue; None where fewer than 3 stars give one.

        Z = median of m + k c + 2.5 log10(flux / exposure)

    table        sources with x, y, flux, flux_err, fwhm, flag; wcs the image's celestial one, or None
    stars        catalogue with ra, dec [deg], mag m and colour c [mag], or None
    exposure     [s] that the fluxes refer to
    colour_term  k, which brings the catalogue's band to the image's: m_image = m + k c; stars without a colour are left
                 out then. None: the catalogue's own band, and an image whose band differs has colours in its scatter

    Only stars without a flag count, and a star from which another in the catalogue that is up to 3 mag fainter lies
    within the circle of the flux is left out. The error is 1.25 times the scatter over sqrt(n), that of a median.
    """
    if wcs is None or stars is None or not len(stars) or not exposure > 0:
        return None
    good = table[(table["flag"] == 0) & (table["flux"] > FAINTEST * table["flux_err"])]
    if len(good) < FEWEST:
        return None
    radius = 1.5 * float(np.median(good["fwhm"]))
    places = wcs.all_world2pix(np.column_stack([stars["ra"], stars["dec"]]), 0, quiet=True)
    inside = np.isfinite(places).all(axis=1)
    places, stars = places[inside], stars[inside]
    i, j = astrometry.nearest(np.column_stack([good["x"], good["y"]]), places, radius)
    alone = _alone(places, stars["mag"], j, radius)
    i, j = i[alone], j[alone]
    each = stars["mag"][j] + 2.5 * np.log10(good["flux"][i] / exposure)
    if colour_term is not None:
        each = (each + colour_term * stars["colour"][j])[np.isfinite(stars["colour"][j])]
    return _clipped(each)


def _alone(places: np.ndarray, mag: np.ndarray, which: np.ndarray, radius: float) -> np.ndarray:
    """bool (n,): of the stars `which`, those without a companion within `radius` that is less than 3 mag fainter."""
    own, other, _ = astrometry.close(places[which], places, radius)
    spoilt = (other != which[own]) & ~(mag[other] > mag[which[own]] + 3)
    alone = np.ones(len(which), bool)
    alone[own[spoilt]] = False
    return alone


def _clipped(values: np.ndarray) -> ZeroPoint | None:
    for _ in range(5):
        if len(values) < FEWEST:
            return None
        middle = float(np.median(values))
        scatter = 1.4826 * float(np.median(np.abs(values - middle)))
        keep = np.abs(values - middle) <= max(3 * scatter, 0.02)
        if keep.all():
            break
        values = values[keep]
    return ZeroPoint(middle, 1.25 * scatter / float(np.sqrt(len(values))), len(values), scatter)


def band(meta: dict) -> str:
    """Whose magnitudes a catalogue has, from what its file says of itself."""
    return str((meta.get("bands") or ["the catalogue's band"])[0])


def depth(
    sky_noise: float, radius: float, correlation: float, exposure: float, zero: float | None = None, sigmas: float = 5.0
) -> float | None:
    """Magnitude of a point source of `sigmas` times the sky's noise in a circle; instrumental where `zero` is None.

        m = zero - 2.5 log10(sigmas n sqrt(pi r^2) f / t)

    sky_noise n of a pixel; radius r in pixels; correlation f, by what noise in that circle exceeds what its pixels tell;
    exposure t that fluxes refer to. The flux meant is that within the circle, as zero points are.
    """
    flux = sigmas * sky_noise * np.sqrt(np.pi) * radius * correlation
    if not (flux > 0 and exposure > 0):
        return None
    return float((zero or 0.0) - 2.5 * np.log10(flux / exposure))


def stack_cards(header, table: np.ndarray, stars: np.ndarray | None, meta: dict, named: dict) -> dict:
    """Cards of a stack that tell its depth in magnitudes, and its FWHM on the sky.

    header  of the stack, with DEPTHINS, its instrumental depth, where that is known; table: its sources
    stars, meta  the catalogue and what its file says of itself, or None and {}
    named   {"band": name, "colour_term": k} of the filter from the configuration, or {}: then the depth stays instrumental,
            since the catalogue's band is not the filter's
    """
    wcs = astrometry.read_wcs(header)
    zero = zero_point(table, wcs, stars, header.get("EXPTIME") or 0.0, named.get("colour_term"))
    whose = named.get("band") or band(meta)
    cards = {} if zero is None else zero.cards(whose)
    if wcs is not None and header.get("FWHM"):
        cards["FWHMSKY"] = (round(header["FWHM"] * astrometry.scale_of(wcs), 3), "[arcsec] FWHM")
    if "DEPTHINS" in header:
        told = zero is not None and bool(named)
        cards["DEPTH"] = (round(header["DEPTHINS"] + (zero.mag if told else 0.0), 3), "[mag] of a star of 5 sigma")
        cards["DEPTHBND"] = (printable(whose) if told else "instrumental", "band that DEPTH is told in")
    return cards


# Columns of the table of stacks, and the keywords that they are taken from.
ROW = {
    "target": "OBJECT",
    "filter": "FILTER",
    "frames": "NCOMBINE",
    "left_out": "NDROPPED",
    "exposure_s": "EXPTOT",
    "fwhm_pix": "FWHM",
    "fwhm_arcsec": "FWHMSKY",
    "sky_noise": "SKYNOISE",
    "depth_mag": "DEPTH",
    "depth_band": "DEPTHBND",
    "odd_even": "ODDEVEN",
    "odd_even_8": "ODDEVEN8",
    "dithers": "FLDITHER",
    "note": "FLNOTE",
}


def row(header) -> dict:
    """The row of a stack in the table of stacks, from its header; "" for what it does not say, the reason as the note
    where there is no stack."""
    values = {column: header.get(key, "") for column, key in ROW.items()}
    values = {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in values.items()}
    return values | ({"note": header.get("FLREASON", "")} if header.get("FLSTATUS") == "dropped" else {})
