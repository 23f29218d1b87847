"""Sources of a frame: positions, fluxes and shapes of its stars, its sky and its seeing."""

from __future__ import annotations

import numpy as np

from .frame import Frame, Mask

COLUMNS = {
    "x": "pix",  # from 0, as numpy counts
    "y": "pix",
    "flux": "",  # in the frame's unit; see `detect`
    "flux_err": "",
    "peak": "",
    "fwhm": "pix",
    "elongation": "",
    "flag": "",
}
SATURATED, BLENDED, EDGE, ODD = 1, 2, 4, 8  # bits of `flag`
SHARPEST = 1.0  # pix, the least FWHM of a star: a single hot pixel has 0.83


def detect(frame: Frame, threshold: float = 5.0, minarea: int = 5, box: int = 64, limit: int = 3000):
    """Stars of a calibrated frame.

    threshold  of a pixel, in units of the sky's noise; minarea pixels above it make a source
    box        pixels, size of the background mesh
    limit      the brightest that are kept
    Returns (table, sky): a structured array with `COLUMNS`, brightest first, and a dict with keywords for the header.
    Flux is the sum within a radius of 1.5 FWHM; a frame without stars has zero rows.
    """
    import sep

    bad = (frame.mask & Mask.UNUSABLE) != 0
    data = np.where(np.isfinite(frame.data), frame.data, np.float32(0)).astype(np.float32)
    background = sep.Background(data, mask=bad, bw=box, bh=box, fw=3, fh=3)
    image = data - background.back(dtype=np.float32)
    noise = background.globalrms
    found = _extract(image, noise, bad, threshold, minarea)
    found = found[np.argsort(-found["flux"])][:limit]
    table = np.zeros(len(found), [(name, "f8") for name in COLUMNS])
    if len(found):
        table["x"], table["y"], table["peak"] = found["x"], found["y"], found["peak"]
        table["elongation"] = found["a"] / np.maximum(found["b"], 1e-3)
        table["fwhm"] = half_light_fwhm(image, found)
        table["flag"] = _flags(found, frame.mask, frame.shape)
        table["flag"][~(table["fwhm"] >= SHARPEST)] = ODD
        seeing = typical_fwhm(table)
        radius = 1.5 * (seeing or 3.0)
        err = (
            noise if frame.sigma is None else np.where(np.isfinite(frame.sigma), frame.sigma, noise).astype(np.float32)
        )
        table["flux"], table["flux_err"], _ = sep.sum_circle(image, found["x"], found["y"], radius, err=err, mask=bad)
        table = table[np.argsort(-table["flux"])]
    seeing = typical_fwhm(table)
    good = table["flag"] == 0
    sky = {
        "SKYLEVEL": (float(background.globalback), f"[{frame.unit}] sky level"),
        "SKYNOISE": (float(noise), f"[{frame.unit}] noise of a sky pixel"),
        "NSTARS": (len(table), "sources found"),
        "FWHM": (round(seeing, 3) if seeing else 0.0, "[pix] median FWHM of good stars, 0 if unknown"),
        "STARFLUX": (_typical_flux(table), f"[{frame.unit}] median flux of the 5th to 15th brightest star"),
        "ELONG": (round(float(np.median(table["elongation"][good])), 3) if good.any() else 0.0, "median elongation"),
    }
    return table, sky


def none_found() -> np.ndarray:
    """The table of a frame without sources."""
    return np.zeros(0, [(name, "f8") for name in COLUMNS])


def quick_fwhm(image: np.ndarray, ignore: np.ndarray) -> float | None:
    """FWHM in pixels of the bright stars of an image (ny, nx) that may still hold cosmic rays; None if there are none.

    A hit is sharper than any star, so hits cannot be told from stars by a limit; the median of the bright, round sources
    that cover at least nine pixels is taken.
    """
    import sep

    image = np.ascontiguousarray(np.where(ignore, np.float32(np.median(image[::7, ::7])), image), np.float32)
    background = sep.Background(image, bw=64, bh=64)
    image = image - background.back(dtype=np.float32)
    found = _extract(image, background.globalrms, ignore, 15.0, 9, smooth=False)
    found = found[(found["a"] < 1.6 * found["b"]) & (found["flag"] == 0)]
    if len(found) < 5:
        return None
    found = found[np.argsort(-found["flux"])][:200]
    return float(np.median(half_light_fwhm(image, found)))


def half_light_fwhm(image: np.ndarray, found) -> np.ndarray:
    """Twice the radius that holds half of the light: the FWHM of a Gaussian profile."""
    import sep

    reach = np.clip(6 * found["a"], 4, 30)
    radius, _ = sep.flux_radius(image, found["x"], found["y"], reach, 0.5, subpix=5)
    return 2 * radius


def typical_fwhm(table) -> float | None:
    """Clipped median FWHM (pixels) of the good stars; None without any."""
    fwhm = table["fwhm"][(table["flag"] == 0) & np.isfinite(table["fwhm"]) & (table["fwhm"] > 0.5)][:500]
    for _ in range(3):
        if len(fwhm) < 3:
            break
        middle = np.median(fwhm)
        spread = max(1.4826 * np.median(np.abs(fwhm - middle)), 0.05 * middle)
        fwhm = fwhm[np.abs(fwhm - middle) < 3 * spread]
    return float(np.median(fwhm)) if len(fwhm) else None


def _typical_flux(table) -> float:
    """How bright stars are in a frame: compared between frames of one field it tells the transparency."""
    flux = np.sort(table["flux"][table["flag"] <= SATURATED])[::-1][4:15]
    return round(float(np.median(flux)), 2) if len(flux) else 0.0


def _extract(image, noise, bad, threshold, minarea, smooth=True):
    """Sources of sep. Smoothed, faint stars are found too, but a single bright pixel then covers nine."""
    import sep

    sep.set_extract_pixstack(1_000_000)
    image = np.where(bad, np.float32(0), image)  # sep's own mask misses the first row
    kernel = {} if smooth else {"filter_kernel": None}
    return sep.extract(image, threshold, err=noise, mask=bad, minarea=minarea, deblend_nthresh=16, clean=True, **kernel)


def _flags(found, mask: np.ndarray, shape) -> np.ndarray:
    """Bits SATURATED, BLENDED, EDGE, ODD for each source of sep."""
    ny, nx = shape
    x = np.clip(np.round(found["x"]).astype(int), 0, nx - 1)
    y = np.clip(np.round(found["y"]).astype(int), 0, ny - 1)
    near = np.zeros(len(found), np.uint8)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near |= mask[np.clip(y + dy, 0, ny - 1), np.clip(x + dx, 0, nx - 1)]
    margin = 3 * found["a"]
    edge = (
        (found["x"] < margin) | (found["y"] < margin) | (found["x"] > nx - 1 - margin) | (found["y"] > ny - 1 - margin)
    )
    blended = (found["flag"] & 1) != 0
    odd = (near & Mask.UNUSABLE != 0) | (found["a"] > 3 * found["b"])
    return SATURATED * (near & Mask.SATURATED != 0) + BLENDED * blended + EDGE * edge + ODD * odd
