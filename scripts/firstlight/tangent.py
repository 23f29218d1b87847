"""The tangent plane of a FITS header, with or without SIP terms: what nearly every solved frame has.

Greisen & Calabretta 2002 (A&A 395, 1061), Calabretta & Greisen 2002 (A&A 395, 1077), Shupe et al. 2005 (ASP Conf. 347,
491). The formulas are short, and astropy's WCS, which knows every projection, takes longer to import than a frame to
align. `read` leaves to it all that is not plainly of this kind, and a test holds the two together.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
from astropy.io import fits

TAN, TAN_SIP = ("RA---TAN", "DEC--TAN"), ("RA---TAN-SIP", "DEC--TAN-SIP")
# What gives a header another meaning than the cards read here: projection parameters, tables, rotations and matrices of old.
FOREIGN = re.compile(r"^((PV|PS|CPDIS|CPERR|CQDIS|CQERR|DP|DQ|CROTA|WAT|PROJP|PC0|CD0)\d|D2IM|AXISCORR)")
MATRIX = tuple((i, j) for i in (1, 2) for j in (1, 2))


@dataclass(frozen=True)
class Sip:
    """SIP terms: a, b (n, n) from pixels, ap, bp back to them, as they stand in headers: a[i, j] goes with u^i v^j."""

    a: np.ndarray
    b: np.ndarray
    ap: np.ndarray | None = None
    bp: np.ndarray | None = None


@dataclass(frozen=True)
class Tangent:
    """A TAN or TAN-SIP projection, with the part of the interface of astropy's WCS that is used here.

    crval  (ra, dec) degrees of the tangent point
    crpix  (x, y) of its pixel, counted from 1 as in FITS
    cd     (2, 2) degrees per pixel
    """

    crval: np.ndarray
    crpix: np.ndarray
    cd: np.ndarray
    sip: Sip | None = None
    radesys: str = "ICRS"
    equinox: float | None = None

    has_celestial = True

    @property
    def wcs(self) -> Tangent:
        """Itself: astropy keeps crval, crpix and ctype one level down."""
        return self

    @property
    def ctype(self) -> tuple[str, str]:
        """Of both axes, as in headers."""
        return TAN if self.sip is None else TAN_SIP

    @property
    def pixel_scale_matrix(self) -> np.ndarray:
        """(2, 2) degrees per pixel."""
        return self.cd

    def with_sip(self, sip: Sip | None) -> Tangent:
        """The same plane with these terms."""
        return replace(self, sip=sip)

    def pix2foc(self, *pixels) -> np.ndarray:
        """Pixels (n, 2) and their origin -> pixels on the plane from origin 1 (see `all_pix2world`): SIP alone."""
        (x, y), pack = _columns(pixels)
        u, v = x - self.crpix[0], y - self.crpix[1]
        if self.sip is not None:
            u, v = u + _polynomial(self.sip.a, u, v), v + _polynomial(self.sip.b, u, v)
        return pack(u + self.crpix[0] - 1 + pixels[-1], v + self.crpix[1] - 1 + pixels[-1])

    def all_pix2world(self, *pixels):
        """Sky (n, 2) degrees of pixels (n, 2) and their origin, 0 or 1; or of x, y and the origin, then as two arrays."""
        (x, y), pack = _columns(pixels)
        u, v = x - self.crpix[0], y - self.crpix[1]
        if self.sip is not None:
            u, v = u + _polynomial(self.sip.a, u, v), v + _polynomial(self.sip.b, u, v)
        return pack(*self._to_sky(u, v))

    def wcs_pix2world(self, *pixels):
        """As `all_pix2world`, without SIP."""
        (x, y), pack = _columns(pixels)
        return pack(*self._to_sky(x - self.crpix[0], y - self.crpix[1]))

    def wcs_world2pix(self, *sky):
        """Pixels (n, 2) of positions (n, 2) in degrees and the origin of pixels, without SIP; NaN for the sky's other half."""
        (ra, dec), pack = _columns(sky, 1)
        u, v = self._to_focal(ra, dec)
        return pack(u + self.crpix[0] - 1 + sky[-1], v + self.crpix[1] - 1 + sky[-1])

    def all_world2pix(self, *sky, tolerance: float = 1e-6, most: int = 30, quiet: bool = True):
        """Pixels of positions with SIP, to `tolerance` of a pixel.

        The terms are inverted by u <- f - A(u, v), begun at what AP, BP say. Where that does not settle, far outside of
        the image, the value is NaN.
        """
        (ra, dec), pack = _columns(sky, 1)
        f, g = self._to_focal(ra, dec)
        u, v = self._unbent(f, g, tolerance, most) if self.sip is not None else (f, g)
        return pack(u + self.crpix[0] - 1 + sky[-1], v + self.crpix[1] - 1 + sky[-1])

    def to_header(self, relax: bool = True) -> fits.Header:
        """Its cards, with a CD matrix."""
        header = fits.Header()
        header["WCSAXES"] = (2, "Number of coordinate axes")
        for axis, (point, value, kind) in enumerate(zip(self.crpix, self.crval, self.ctype, strict=True), 1):
            header[f"CTYPE{axis}"] = (kind, "gnomonic projection" + (", SIP terms" if self.sip is not None else ""))
            header[f"CUNIT{axis}"] = ("deg", "unit of CRVAL and CD")
            header[f"CRPIX{axis}"] = (float(point), "pixel of the tangent point")
            header[f"CRVAL{axis}"] = (float(value), "[deg] tangent point")
        for i, j in MATRIX:
            header[f"CD{i}_{j}"] = (float(self.cd[i - 1, j - 1]), "[deg/pix]")
        header["LONPOLE"] = (180.0, "[deg] native longitude of the celestial pole")
        header["LATPOLE"] = (float(self.crval[1]), "[deg] native latitude of the celestial pole")
        header["RADESYS"] = (self.radesys, "equatorial coordinate system")
        if self.equinox is not None:
            header["EQUINOX"] = (self.equinox, "[yr] equinox of the coordinates")
        for name, terms in _named(self.sip):
            order = len(terms) - 1
            header[f"{name}_ORDER"] = (order, f"SIP: order of {name}")
            for i, j in _powers(order):
                if terms[i, j]:
                    header[f"{name}_{i}_{j}"] = float(terms[i, j])
        return header

    def _to_sky(self, u, v):
        xi, eta = (np.radians(self.cd[i, 0] * u + self.cd[i, 1] * v) for i in (0, 1))
        ra0, dec0 = np.radians(self.crval)
        below = math.cos(dec0) - eta * math.sin(dec0)
        ra = np.degrees(ra0 + np.arctan2(xi, below)) % 360
        return ra, np.degrees(np.arctan2(math.sin(dec0) + eta * math.cos(dec0), np.hypot(xi, below)))

    def _to_focal(self, ra, dec):
        ra0, dec0 = np.radians(self.crval)
        east, dec = np.radians(ra) - ra0, np.radians(dec)
        up = np.sin(dec) * math.sin(dec0) + np.cos(dec) * math.cos(dec0) * np.cos(east)
        up = np.where(up > 0, up, np.nan)  # the other half of the sky is not on the plane
        xi = np.degrees(np.cos(dec) * np.sin(east) / up)
        eta = np.degrees((np.sin(dec) * math.cos(dec0) - np.cos(dec) * math.sin(dec0) * np.cos(east)) / up)
        back = np.linalg.inv(self.cd)
        return back[0, 0] * xi + back[0, 1] * eta, back[1, 0] * xi + back[1, 1] * eta

    def _unbent(self, f, g, tolerance, most):
        u, v = f, g
        if self.sip.ap is not None and self.sip.bp is not None:
            u, v = f + _polynomial(self.sip.ap, f, g), g + _polynomial(self.sip.bp, f, g)
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(most):
                new = f - _polynomial(self.sip.a, u, v), g - _polynomial(self.sip.b, u, v)
                step = np.hypot(new[0] - u, new[1] - v)
                u, v = new
                if not (step > tolerance).any():
                    break
            settled = step <= tolerance
        return np.where(settled, u, np.nan), np.where(settled, v, np.nan)


def read(header: fits.Header) -> Tangent | None:
    """The projection of a header, or None where it is of another kind, or where astropy should have a look at it."""
    kinds = tuple(str(header.get(f"CTYPE{axis}", "")).strip() for axis in (1, 2))
    keys = set(header)
    if kinds not in (TAN, TAN_SIP) or any(FOREIGN.match(key) for key in keys):
        return None
    bent = kinds == TAN_SIP
    if bent != ("A_ORDER" in keys and "B_ORDER" in keys) or header.get("WCSAXES", 2) != 2:
        return None
    if any(str(header.get(f"CUNIT{axis}", "deg")).strip() != "deg" for axis in (1, 2)):
        return None
    crval, crpix = ([header.get(f"{name}{axis}", default) for axis in (1, 2)] for name, default in _POINTS)
    cd = _matrix(header, keys)
    numbers = [*crval, *crpix, *np.ravel(cd), header.get("LONPOLE", 180.0)] if cd is not None else [None]
    if not all(_number(value) for value in numbers) or numbers[-1] != 180 or not np.linalg.det(np.array(cd, float)):
        return None
    if abs(crval[1]) > 90 or (crval[1] == 90 and "LONPOLE" not in keys):  # FITS turns the field there
        return None
    place = (np.array(crval, float), np.array(crpix, float), np.array(cd, float))
    sip = _sip(header, keys) if bent else None
    return None if bent and sip is None else Tangent(*place, sip, *_system(header))


_POINTS = (("CRVAL", None), ("CRPIX", 0.0))


def _system(header) -> tuple[str, float | None]:
    """The system of coordinates and its equinox [yr]; what FITS takes for one that is not named by what there is of the
    other."""
    system = str(header.get("RADESYS", header.get("RADECSYS", ""))).strip()
    equinox = next((header[key] for key in ("EQUINOX", "EPOCH") if _number(header.get(key))), None)
    if equinox is None:
        return system or "ICRS", {"FK4": 1950.0, "FK5": 2000.0}.get(system)
    return system or ("FK5" if equinox >= 1984 else "FK4"), equinox


def _matrix(header, keys):
    """(2, 2) from CD, or from CDELT and PC; None for a mixture."""
    cd, pc = ({f"{name}{i}_{j}" for i, j in MATRIX} & keys for name in ("CD", "PC"))
    if cd and pc:
        return None
    if cd:
        return [[header.get(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)]
    steps = [header.get(f"CDELT{axis}") for axis in (1, 2)]
    turns = [[header.get(f"PC{i}_{j}", float(i == j)) for j in (1, 2)] for i in (1, 2)]
    if not all(map(_number, [*steps, *turns[0], *turns[1]])):
        return None
    return [[step * turn for turn in row] for step, row in zip(steps, turns, strict=True)]


def _sip(header, keys) -> Sip | None:
    """The SIP terms of a header; None where they cannot be read."""
    terms = {}
    for name in ("A", "B", "AP", "BP"):
        if f"{name}_ORDER" not in keys:
            continue
        order = header[f"{name}_ORDER"]
        if not isinstance(order, int) or not 2 <= order <= 9:  # less is none for astropy
            return None
        terms[name] = np.zeros((order + 1, order + 1))
        for i, j in _powers(order):
            value = header.get(f"{name}_{i}_{j}", 0.0)
            if not _number(value):
                return None
            terms[name][i, j] = value
    return Sip(terms["A"], terms["B"], terms.get("AP"), terms.get("BP"))


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _named(sip: Sip | None):
    """Names and terms of what there is."""
    return [] if sip is None else [(name.upper(), terms) for name, terms in vars(sip).items() if terms is not None]


def _powers(order: int):
    return [(i, j) for i in range(order + 1) for j in range(order + 1 - i)]


def _polynomial(terms: np.ndarray, u, v):
    """Sum of terms[i, j] u^i v^j, by Horner's rule in both."""
    total = np.zeros_like(u)
    for i in range(len(terms) - 1, -1, -1):
        row = np.zeros_like(u)
        for j in range(len(terms) - 1 - i, -1, -1):
            row = row * v + terms[i, j]
        total = total * u + row
    return total


def _columns(arguments, origin: float | None = None):
    """Two columns of the arguments of a call of astropy's, from origin 1, and what packs two results as it does.

    origin  of the two where they are not pixels
    """
    *given, start = arguments
    shift = 0 if origin is not None else 1 - start
    if len(given) == 1:
        table = np.asarray(given[0], float).reshape(-1, 2)
        return (table[:, 0] + shift, table[:, 1] + shift), lambda x, y: np.column_stack([x, y])
    x, y = np.broadcast_arrays(*(np.asarray(one, float) for one in given))
    return (x + shift, y + shift), lambda x, y: [x, y]
