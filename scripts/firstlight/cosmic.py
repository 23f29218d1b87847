"""Particle hits: found in a frame that still holds its bias and dark, flagged; replaced at the end of the steps."""

from __future__ import annotations

import math

import numpy as np

from . import laplacian, sources
from .calibrate import interpolate
from .frame import Frame, Mask

UNKNOWN_FWHM = 1.5  # pix, taken where there are too few stars to measure: the sharpest that are expected
UNKNOWN_OF_A_SITE = 0.85  # the same of a site of a colour sensor, whose pixels lie twice as far apart
TOO_SHARP = 0.8  # pix, FWHM of stars that hardly reach beyond one pixel, as hits
PAIRS = ((0, 1), (1, 0), (1, 1), (1, -1))  # steps (y, x) to one of two opposite neighbours
NARROWER = 0.82, 0.95  # of the FWHM up to 3, from 5 pix on: stars may be so much sharper than measured
WIDE = 4.0  # pix, FWHM from which slopes are so gentle that noise does not make them sharp
EDGE = 3  # pix, the width that L.A.Cosmic leaves out at the edges of a frame


def cosmic_ray(
    frame: Frame,
    pedestal: np.ndarray | float = 0.0,
    method: str = "laplacian",
    fwhm: float | None = None,
    sigclip: float | None = None,
    sigfrac: float | None = None,
    objlim: float | None = None,
    niter: int = 4,
    sepmed: bool = True,
    cleantype: str = "medmask",
    fsmode: str = "median",
    psfmodel: str = "gauss",
    psffwhm: float | None = None,
    psfsize: int = 7,
    psfbeta: float = 4.765,
    threshold: float = 5.0,
    mbox: int = 11,
    gbox: int = 0,
    rbox: int = 0,
    guard: bool = True,
    replace: str = "late",
) -> Frame:
    """Find particle hits and set the bit COSMIC_RAY; the values stay until `flat` replaces them.

    pedestal   what is not light, (ny, nx) or a number in the frame's unit (bias and dark): hits are looked for in frame
               minus pedestal
    method     "laplacian": L.A.Cosmic (van Dokkum 2001, PASP 113, 1420) as astroscrappy has it, with the frame's own sigma;
               "median": pixels `threshold` sigma above the median of mbox x mbox pixels, as ccdproc and IRAF do; "none"
    fwhm       pix, of the stars as `sources.quick_fwhm` measures it; None where it is unknown
    sigclip, sigfrac, objlim      of L.A.Cosmic; None as `laplacian_limits` says
    niter, sepmed, cleantype      of astroscrappy, as is fsmode "median" or "convolve" (with a star of psfmodel, psffwhm,
               psfsize, psfbeta; psffwhm None is that of the frame)
    guard      what stars look like is no hit (`star_guard`), and hits are found up to the frame's edge; without it the
               mask is that of astroscrappy or ccdproc. Where stars are sharper than 0.8 pixels nothing can tell them from
               hits, and none are looked for: in a stack what one frame alone has is rejected
    gbox       pix, hits are grown by a window of that width; 0 not at all
    replace    "early" replaces the values at once, as AstroDART does, by the median of the good pixels within a window
               of width rbox (0: of 5, else 9)

    A frame without sigma is returned as it is. Raises ValueError for an unknown method and an even psfsize.
    """
    if method not in ("laplacian", "median", "none"):
        raise ValueError(f"cosmic_ray method {method!r}: laplacian, median or none?")
    if method == "none" or frame.sigma is None:
        return frame
    if psfsize % 2 == 0:
        raise ValueError(f"cosmic_ray psfsize {psfsize} has no middle pixel: {psfsize - 1} or {psfsize + 1}?")
    ignore = (frame.mask & (Mask.BAD | Mask.SATURATED | Mask.NO_DATA)) != 0
    if guard and fwhm is not None and fwhm < TOO_SHARP:
        print(f"cosmic rays: none are looked for, since stars of {fwhm:.2f} pixels are as sharp")
        return frame.with_({"NCOSMIC": (0, "pixels flagged as cosmic rays")})
    image, blind = _searched(frame, pedestal, ignore)
    if method == "laplacian":
        limits = laplacian_limits(fwhm, guard)
        chosen = {"sigclip": sigclip, "sigfrac": sigfrac, "objlim": objlim}
        limits.update({key: value for key, value in chosen.items() if value is not None})
        psf = {"psfmodel": psfmodel, "psffwhm": psffwhm or fwhm or 2.5, "psfsize": psfsize, "psfbeta": psfbeta}
        how = limits | {"niter": niter, "sepmed": sepmed, "cleantype": cleantype, "fsmode": fsmode} | psf
        hits = _laplacian(image, frame.sigma, blind, EDGE if guard else 0, **how)
    else:
        limits = {"threshold": threshold, "mbox": mbox}
        hits = _above_median(image, frame.sigma, threshold, mbox)
    hits &= ~ignore
    candidates = np.count_nonzero(hits)
    if guard:
        image -= sources.background(image, blind).back(dtype=np.float32)
        hits = star_guard(image, hits, frame.sigma, frame.mask, fwhm)
    if gbox > 0:
        hits = _grown(hits, gbox) & ~ignore
    count = np.count_nonzero(hits)
    mask = frame.mask | hits * np.uint8(Mask.COSMIC_RAY)
    found = frame.with_({"NCOSMIC": (count, "pixels flagged as cosmic rays")}, mask=mask)
    said = f"of {candidates} that {method} found" + (", the others no sharper than stars" if guard else "")
    print(f"cosmic rays: {count} pixels {said}, {limits}")
    return _replaced(found, rbox) if replace == "early" else found


def laplacian_limits(fwhm: float | None, guard: bool = True) -> dict[str, float]:
    """Thresholds of L.A.Cosmic. With the star guard they may be low, since it takes care of the stars: 5, 0.3 and 1.5,
    the last falling to 0.6 from 2.5 to 3.5 pixels FWHM, beyond which hits on stars are else lost.

    Without it they must leave stars of this FWHM (pixels) alone: sharp stars have as much fine structure as a hit. They
    are then 7, 0.3 and 12 from 2.7 pixels on, rising to 12, 0.5 and 60 at 1.5 pixels, where 10 % of the hits are missed;
    close blends and the flanks of saturated stars are flagged all the same, in crowded fields 1 to 30 pixels in 10,000.
    """
    if guard:
        wide = 0.0 if fwhm is None else float(np.clip(fwhm - 2.5, 0.0, 1.0))
        return {"sigclip": 5.0, "sigfrac": 0.3, "objlim": 1.5 - 0.9 * wide}
    sharp = 0.0 if fwhm is None else float(np.clip((2.7 - fwhm) / (2.7 - 1.5), 0.0, 1.0))
    return {
        "sigclip": 7.0 + 5.0 * sharp,
        "sigfrac": 0.3 + 0.2 * sharp,
        "objlim": 12.0 * (60.0 / 12.0) ** sharp,
    }


def star_guard(
    light: np.ndarray, hits: np.ndarray, sigma: np.ndarray, mask: np.ndarray, fwhm: float | None
) -> np.ndarray:
    """Those of the flagged pixels that are sharper than any star can be, bool (ny, nx).

    Stars, blends and flanks are sums of profiles of one width, and where p is a pixel of a Gaussian profile and a, b are
    opposite neighbours of it, p = k sqrt(a b) wherever the star stands in its pixel; sums and other profiles have less.
    So a hit is what has, in any of four directions,

        p > a, b   and   p > 1.03 k' sqrt(a+ b+) + 4 sigma,    a+ = max(a, 0) + sigma_a,

    (the first only below 4 pixels FWHM), k' = `sharpest` of 0.82 FWHM (0.95 from 5 pixels on) along rows and columns;
    along diagonals with the square of 1.03 k' and 2 sigma_a. The 0.82 is for an FWHM that is wrong and for stars that are
    elongated or differ over the field, the 3 % for pixels that are not yet flat. Fainter flagged neighbours of a hit stay
    flagged. Beside saturated pixels nothing is a hit, since the edges of bleeding are as sharp; other bad pixels are not
    compared. On the frame's edge a star may stand outside of it: there p > (1.03 k')^(1 + 2 FWHM) a+ + 4 sigma, a the
    pixel inwards, is what no star less than one FWHM outside can do.

    Measured on crowded fields (170 stars in 384x384 pixels up to five times saturation, many close pairs; Gauss and
    Moffat; sky 30 and 3000 e-), per FWHM of 1.5, 2, 2.5, 3, 4, 6 pixels: of the pixels hit above 10 sigma L.A.Cosmic finds
    0.98 to 1.00 and the guard leaves 0.98, 0.99, 0.98, 0.99, 0.99, 0.98; of 10,000 clean ones L.A.Cosmic flags 147, 199,
    36, 46, 81, 33 and the guard leaves less than 0.1, also with an FWHM 15 % too large; with one 15 % too small it leaves
    0.96 to 0.98 of the hits. With an FWHM unknown no star is flagged, and 2 to 7 % of the hits are missed, 20 % where
    stars are as wide as 6 pixels. Of stars of 0.9, 1.0, 1.2 pixels, also where only each second pixel is there, the guard
    leaves none, and 0.65 to 0.88, 0.65 to 0.95, 0.91 to 0.97 of the hits.

    light      (ny, nx), less its sky; sigma in the same unit; mask the bits of `Mask`
    hits       bool (ny, nx), flagged pixels: only these are looked at
    fwhm       pix, of stars before they fall on pixels; None is taken as 1.5
    """
    y, x = np.divmod(np.flatnonzero(hits), hits.shape[1])
    fwhm = fwhm or UNKNOWN_FWHM
    ratio = 1.03 * sharpest(float(np.interp(fwhm, (3, 5), NARROWER)) * fwhm)
    value, noise = light[y, x], 4 * sigma[y, x]
    sharp, bleeding = np.zeros(len(y), bool), np.zeros(len(y), bool)
    for dy, dx in PAIRS:
        power = dy**2 + dx**2
        sides = [_neighbour(y + way * dy, x + way * dx, light, sigma, mask, power) for way in (1, -1)]
        inside, usable, beside, level = zip(*sides, strict=True)
        both = inside[0] & inside[1] & usable[0] & usable[1]
        ridge = (value > np.maximum(*beside)) | (fwhm >= WIDE)
        sharp |= both & ridge & (value > ratio**power * np.sqrt(level[0] * level[1]) + noise)
        for near, far in ((0, 1), (1, 0)) if power == 1 else ():
            inwards = usable[near] & ~inside[far]
            sharp |= inwards & (value > ratio ** (1 + 2 * fwhm) * level[near] + noise)
        for way in (1, -1):
            _, row, column = _clipped(y + way * dy, x + way * dx, light.shape)
            bleeding |= (mask[row, column] & Mask.SATURATED) != 0
    sharp &= ~bleeding
    return _with_fainter_neighbours(light, y, x, sharp, ~bleeding)


def _with_fainter_neighbours(light, y, x, chosen, allowed) -> np.ndarray:
    """The chosen ones of places y, x and the allowed ones of them that touch a brighter chosen one, bool (ny, nx)."""
    seen = np.zeros(light.shape, bool)
    seen[y, x] = chosen
    for dy, dx in PAIRS:
        for row, column in ((y + dy, x + dx), (y - dy, x - dx)):
            inside, row, column = _clipped(row, column, light.shape)
            chosen = chosen | (allowed & inside & seen[row, column] & (light[y, x] < light[row, column]))
    seen[y, x] = chosen
    return seen


def sharpest(fwhm: float) -> float:
    """Largest p / sqrt(a b) of a star's brightest pixel p and its neighbours a, b to the left and right, FWHM in pixels.

    That of a Gaussian profile integrated over pixels, wherever it stands: 18, 7.3, 2.8, 1.9, 1.3, 1.08 at 0.8, 1, 1.5, 2, 3,
    6 pixels.
    Moffat profiles of beta 3 and 4 have at most 2 % more (less below 2.5 pixels); on the flanks of a star of 1.5 pixels
    it is up to 10 % more.
    """
    width = max(fwhm, 0.5) / math.sqrt(8 * math.log(2))

    def share(place):
        ends = (math.erf((place + side) / width / math.sqrt(2)) for side in (0.5, -0.5))
        return next(ends) - next(ends)

    return max(share(at) / math.sqrt(share(1 - at) * share(1 + at)) for at in np.linspace(0, 0.5, 6))


def _searched(frame: Frame, pedestal, ignore: np.ndarray):
    """The frame less its pedestal, float32 (ny, nx), and the pixels that a method must be told to leave out.

    Next to those astroscrappy finds nothing, so bad pixels are filled for it instead.
    """
    image = np.ascontiguousarray(frame.data - pedestal, np.float32)
    filled = interpolate(frame.with_(data=image, mask=frame.mask & ~np.uint8(Mask.INTERPOLATED)), Mask.BAD)
    return filled.data, ignore & ((filled.mask & Mask.INTERPOLATED) == 0)


def _laplacian(image, sigma, ignore, edge, **options) -> np.ndarray:
    """The hits of L.A.Cosmic; with `edge`, the frame is mirrored at its edges by so many pixels, where it finds none."""
    from cv2 import BORDER_REFLECT_101, copyMakeBorder

    edge = min(edge, *(side - 1 for side in image.shape))
    ignore = ignore.view(np.uint8)
    image, ignore, sigma = (copyMakeBorder(part, *[edge] * 4, BORDER_REFLECT_101) for part in (image, ignore, sigma))
    # Saturated pixels are ignored already, known from raw ADU.
    hits = laplacian.find(image, ignore, np.square(sigma, out=sigma), **options)
    ny, nx = hits.shape
    return np.ascontiguousarray(hits[edge : ny - edge, edge : nx - edge])


def _above_median(image, sigma, threshold, mbox) -> np.ndarray:
    from scipy.ndimage import median_filter

    return (image - median_filter(image, size=mbox)) / sigma > threshold


def _grown(hits: np.ndarray, width: int) -> np.ndarray:
    from cv2 import dilate

    return dilate(hits.view(np.uint8), np.ones((width, width), np.uint8)).view(bool)


def _replaced(frame: Frame, rbox: int) -> Frame:
    """The frame with the values of its hits replaced, from a window of width rbox where that has a good pixel."""
    out = interpolate(frame, Mask.COSMIC_RAY)
    hits = (frame.mask & Mask.COSMIC_RAY) != 0
    if rbox < 2 or not hits.any():
        return out
    good = np.where((frame.mask & Mask.UNUSABLE) == 0, frame.data, np.float32(np.nan))
    good = np.pad(good, (rbox // 2, (rbox - 1) // 2), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(good, (rbox, rbox))[hits].reshape(-1, rbox * rbox)
    some = np.isfinite(windows).any(axis=1)
    places = tuple(np.argwhere(hits)[some].T)
    out.data[places] = np.nanmedian(windows[some], axis=1)
    out.mask[places] |= Mask.INTERPOLATED
    return out


def _neighbour(row, column, light, sigma, mask, power):
    """Whether places lie inside of the image, whether they can be used, their light, and that with a margin for noise."""
    inside, row, column = _clipped(row, column, light.shape)
    usable = (mask[row, column] & (Mask.UNUSABLE | Mask.SATURATED)) == 0
    value = light[row, column]
    return inside, usable, value, np.maximum(value, 0) + power * sigma[row, column]


def _clipped(row, column, shape):
    """Whether places lie inside of an image, and the nearest rows and columns that do."""
    ny, nx = shape
    inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
    return inside, np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)
