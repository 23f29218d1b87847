"""What the files of a picture say of themselves: where on the sky it is, what it was made from, how it was balanced."""

from __future__ import annotations

import re
import warnings

import numpy as np
from astropy.io import fits

from . import __version__, lean
from .astrometry import read_wcs, replace_wcs, wcs_cards
from .channels import words
from .frame import printable

COLOURS = {"R": "Red", "G": "Green", "B": "Blue", "L": "Grayscale"}
OFF = 0.02  # pixels at the edge, by which a scale and an angle may miss the WCS before its matrix is written too


def cut_header(header: fits.Header, box: tuple[slice, slice]) -> fits.Header:
    """A copy of a header for the part (rows, columns) of its image: the reference pixel of the WCS moves along."""
    header = header.copy()
    for key, part in (("CRPIX2", box[0]), ("CRPIX1", box[1])):
        if key in header:
            header[key] -= part.start
    return header


def mirrored(header: fits.Header) -> bool:
    """Whether the sky stands mirrored in an image whose first row is at the bottom: by its WCS (east is left of north), else
    by ROWORDER, with which capture programs say that their first row is the upper one."""
    wcs = read_wcs(header)
    if wcs is None:
        return str(header.get("ROWORDER", "")).strip().upper() == "TOP-DOWN"
    return bool(np.linalg.det(wcs.pixel_scale_matrix) > 0)


def overturned(header: fits.Header, ny: int) -> fits.Header:
    """A copy of a header for the same image of ny rows with its last row first.

    With y' = ny + 1 - y the second column of CD changes its sign, and of the SIP terms A_pq those of odd q, of B_pq the others
    (Shupe et al. 2005, ASP Conf. 347, 491).
    """
    wcs = read_wcs(header)
    clean = replace_wcs(header, None)
    clean.remove("ROWORDER", ignore_missing=True)
    if wcs is None:
        return clean
    cards = wcs_cards(wcs)
    cards["CRPIX2"] = ny + 1 - cards["CRPIX2"]
    for key in ("CD1_2", "CD2_2"):
        cards[key] = -cards[key]
    for key in cards:
        if term := re.fullmatch(r"([AB])P?_\d_(\d)", key):
            cards[key] *= (-1) ** (int(term[2]) + (term[1] == "B"))
    clean.extend(cards.cards, update=True)
    return clean


def celestial(header: fits.Header):
    """The celestial WCS of a header as astropy's, None where it has none."""
    if not str(header.get("CTYPE1", "")).strip():
        return None
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(header, naxis=2)
    return wcs if wcs.has_celestial else None


def exposure(headers: dict[str, fits.Header]) -> str:
    """Total exposure of stacks {filter: header} in words: '23 min (R 8 min, V 8 min, B 7 min)'. Planes of a colour sensor were
    exposed at once: the longest of them counts."""
    totals = {name: float(header.get("EXPTOT") or header.get("EXPTIME") or 0) for name, header in headers.items()}
    at_once: dict[str, list[float]] = {}  # planes behind the same glass
    for name, header in headers.items():
        plane = str(header.get("FLPLANE") or "")
        key = f"in colour {str(header.get('FILTER', '')).removesuffix(plane)}" if plane else name
        at_once.setdefault(key, []).append(totals[name])
    whole = _duration(sum(map(max, at_once.values())))
    if len(at_once) == 1 and len(set(totals.values())) == 1:
        return whole
    each = ", ".join(f"{name} {_duration(total)}" for name, total in totals.items())
    return whole + (f" ({each})" if len(totals) > 1 else "")


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def nights(headers: dict[str, fits.Header]) -> str:
    """When stacks were exposed, as far as they say: '2025-11-14', 'from 2025-11-14 to 2025-11-20'; the night where a
    stack is of one, else the dates of its first and last exposure."""
    dates = []
    for head in headers.values():
        for key in ("NIGHT",) if head.get("NIGHT") else ("DATE-BEG", "DATE-END"):
            dates += [str(head[key])[:10]] if head.get(key) else []
    first, last = min(dates, default=""), max(dates, default="")
    return first if first == last else f"from {first} to {last}"


def texts(title: str, parts: dict, headers: dict[str, fits.Header], balance: str) -> dict[str, str]:
    """Keywords of a PNG file, as its specification names them."""
    there = [words(parts), exposure(headers), nights(headers)]
    return {
        "Title": printable(title),
        "Description": printable("; ".join(word for word in there if word)),
        "Comment": printable(balance),
        "Software": f"firstlight {__version__}",
        "Made from": printable(", ".join(f"stack {name} {head.get('FLIDENT', '')}" for name, head in headers.items())),
    }


def packet(header: fits.Header, shape: tuple[int, int], said: dict[str, str], parts: dict) -> bytes | None:
    """Astronomy Visualization Metadata as an XMP packet, with which viewers put a picture on the sky; None without WCS.

    header  FITS header with the WCS of the picture, rows in FITS order: the metadata count from the bottom too, although
            a PNG file begins at the top (AVM 1.2, Hurt et al. 2011, Spatial.ReferencePixel)
    shape   (ny, nx); said: of `texts`

    The scale and the angle of the tangent plane are what all viewers read; they hold for pictures that are square and not
    mirrored. The matrix is written where they miss by more than 0.02 pixels, the whole WCS always.
    """
    wcs = read_wcs(header)
    if wcs is None:
        return None
    with lean.without("astropy.wcs"):  # only for reading pictures
        from pyavm import AVM

    ny, nx = shape
    avm = AVM()
    avm.Title, avm.Description = said["Title"], f"{said['Description']}; {said['Comment']}"
    avm.Spectral.ColorAssignment = [COLOURS[channel] for channel in parts]
    avm.Spectral.Bandpass = [printable("+".join(names)) for names in parts.values()]
    avm.Spatial.CoordinateFrame = wcs.wcs.radesys if wcs.wcs.radesys in ("ICRS", "FK5", "FK4") else "ICRS"
    avm.Spatial.Equinox = "2000.0" if not (wcs.wcs.equinox or 0) > 0 else f"{wcs.wcs.equinox:g}"
    avm.Spatial.CoordsystemProjection = wcs.wcs.ctype[0][5:8]
    avm.Spatial.ReferenceDimension = [float(nx), float(ny)]
    avm.Spatial.ReferenceValue = [float(value) for value in wcs.wcs.crval]
    avm.Spatial.ReferencePixel = [float(value) for value in wcs.wcs.crpix]
    matrix = wcs.pixel_scale_matrix
    scale, angle, model = scale_and_angle(matrix)
    if np.linalg.det(matrix) < 0:
        avm.Spatial.Scale, avm.Spatial.Rotation = [-scale, scale], angle
    if np.abs(matrix - model).max() * max(shape) > OFF * scale:
        avm.Spatial.CDMatrix = [float(value) for value in matrix.ravel()]
    avm.Spatial.FITSheader = _whole_wcs(wcs, shape)
    avm.Spatial.Quality = "Full"
    return avm.to_xmp()


def scale_and_angle(matrix: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Scale [deg/pix] and angle [deg] of the square, unmirrored image nearest to a CD matrix (2, 2), and its matrix.

    CD = s [[-cos a, -sin a], [-sin a, cos a]] (Calabretta & Greisen 2002, A&A 395, 1077, 6.1, with CDELT = -s, s).
    """
    cosine, sine = matrix[1, 1] - matrix[0, 0], -matrix[0, 1] - matrix[1, 0]
    scale = float(np.hypot(cosine, sine)) / 2
    model = np.array([[-cosine, -sine], [-sine, cosine]]) / 2
    return scale, float(np.degrees(np.arctan2(sine, cosine))) % 360, model


def _whole_wcs(wcs, shape: tuple[int, int]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = wcs.to_header(relax=True)
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, shape[1], shape[0]
    return str(header)


def cube_header(header: fits.Header, picture, title: str, headers: dict[str, fits.Header]) -> fits.Header:
    """Header of the linear picture: the WCS and the target of a stack, what the planes show and what they were scaled by."""
    kept = fits.Header()
    for card in header.cards:
        if card.keyword.startswith(("CTYPE", "CRVAL", "CRPIX", "CD", "PC", "CUNIT", "A_", "B_", "AP_", "BP_", "LONP",
                                    "LATP", "RADESYS", "EQUINOX", "TELESCOP", "INSTRUME", "NIGHT")):  # fmt: skip
            kept.append(card, end=True)
    if "CTYPE1" in kept:
        kept.insert(0, ("WCSAXES", 3))
        kept["CTYPE3"] = ("CHANNEL", "planes, named below")
        kept["CRPIX3"], kept["CRVAL3"] = 1.0, 1.0
        kept["CD3_3" if "CD1_1" in kept else "CDELT3"] = 1.0
    kept["OBJECT"] = printable(title)
    for number, name in enumerate(picture.names, 1):
        kept[f"CHANNEL{number}"] = (name, f"plane {number}: {'+'.join(picture.parts[name])}"[:47])
    for number, (name, factor) in enumerate(picture.balance.factors.items(), 1):
        kept[f"FILTER{number}"] = (printable(name), "filter")
        kept[f"BALANCE{number}"] = (round(factor, 6), "what its stack, less its sky, was multiplied by")
        kept[f"STACK{number}"] = (headers[name].get("FLIDENT", ""), "FLIDENT of its stack")
        kept[f"EXPTOT{number}"] = (headers[name].get("EXPTOT", ""), "[s] sum of its exposures")
    kept["BALANCED"] = (printable(picture.balance.source)[:68], "")
    kept["SKYNOISE"] = (round(picture.noise, 6), "noise of the mean of the planes")
    return kept
