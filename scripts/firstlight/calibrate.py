"""The steps from a raw frame to a calibrated one: trim, deviation, gain, cosmic_ray, bias, dark, flat.

Each step takes a frame and plain numbers or masters, and returns a new frame; a step that has nothing to go on
(no master, no known gain) returns the frame as it is, with a card that says so.
"""

from __future__ import annotations

import numpy as np

from .frame import Frame, Mask, must_match, size

STEPS = ("trim", "deviation", "gain", "cosmic_ray", "bias", "dark", "flat")


def trim(frame: Frame, saturation: float | None = None, overscan=None, region=None) -> Frame:
    """Mark saturated pixels, subtract the overscan, cut to the region.

    saturation  level in ADU, as read; pixels at or above it and their eight neighbours get the bit SATURATED
    overscan    (rows, columns) slices of the overscan; the median of each row (or column) is subtracted along its longer side
    region      (rows, columns) slices of the image to keep
    Raises ValueError where a region does not lie within the frame.
    """
    data, mask = frame.data, frame.mask
    if saturation is not None:
        mask = mask | np.where(_grown(data >= saturation), np.uint8(Mask.SATURATED), np.uint8(0))
    if overscan is not None:
        _inside(overscan, data, "overscan section")
        strip = data[overscan]
        axis = 1 if strip.shape[0] >= strip.shape[1] else 0
        level = np.median(strip, axis=axis, keepdims=True).astype(np.float32)
        lines = overscan[0] if axis == 1 else overscan[1]
        full = np.full((data.shape[1 - axis],), np.median(level), np.float32)
        full[lines] = level.ravel()
        data = data - (full[:, None] if axis == 1 else full[None, :])
    header = frame.header.copy()
    if region is not None:
        _inside(region, data, "trim section")
        data, mask = data[region], mask[region]
        for axis, piece in (("1", region[1]), ("2", region[0])):
            if isinstance(header.get(f"CRPIX{axis}"), (int, float)):
                header[f"CRPIX{axis}"] -= piece.indices(10**9)[0]
    for key in ("TRIMSEC", "BIASSEC", "DATASEC", "CCDSEC"):
        header.remove(key, ignore_missing=True)
    if saturation is not None:
        header["SATURATE"] = (saturation, "[adu] saturation level used")
    header["FLTRIM"] = (overscan is not None or region is not None, "overscan subtracted or frame cut")
    return frame.with_(data=np.ascontiguousarray(data), mask=np.ascontiguousarray(mask), header=header)


def find_saturation(data: np.ndarray) -> float | None:
    """The level (ADU) at which the pixels of a raw frame pile up, or None where they do not.

    Noise and stars leave fewer and fewer pixels towards the maximum; clipping leaves many at the maximum itself.
    """
    top, middle = float(data.max()), float(np.median(data))
    at_top = int((data == top).sum())
    just_below = int((data > top - 0.02 * (top - middle)).sum()) - at_top
    return top if top > middle and at_top >= 10 and at_top > 3 * just_below else None


def deviation(frame: Frame, gain: float | None, read_noise: float | None, level=None) -> Frame:
    """Standard deviation of each pixel of a frame in ADU.

        sigma^2 = max(E/g + (R/g)^2, (R/2g)^2)   [ADU^2]

    E is the light: S - B averaged over 5x5 pixels where the pixel lies within 5 sigma of that average, else S - B itself.
    (The pixel's own value would bias sigma low where it fluctuates low: 5-14 % of the mean below 30 electrons.)
    gain g in e-/ADU, read_noise R in e-; level B in ADU, an image (ny, nx) or a number: what is not light. A frame
    without light (a bias) is given level=frame.data. With any of them None sigma is the local scatter of the frame.
    """
    if gain is None or read_noise is None or level is None:
        return frame.with_({"SIGMASRC": ("empirical", "sigma is the local scatter")}, sigma=local_scatter(frame.data))
    floor = np.float32((read_noise / gain) ** 2)

    def variance(light):
        return np.maximum(light / np.float32(gain) + floor, floor / 4)

    light = np.subtract(frame.data, level, dtype=np.float32)
    smooth = _box_mean(light, 5)
    expected = np.where(np.abs(light - smooth) < 5 * np.sqrt(variance(smooth)), smooth, light)
    keywords = {
        "SIGMASRC": ("formula", "sigma from gain and read noise"),
        "FLGAIN": (float(gain), "[electron/adu] gain used"),
        "FLRDNOIS": (float(read_noise), "[electron] read noise used"),
    }
    return frame.with_(keywords, sigma=np.sqrt(variance(expected)))


def gain(frame: Frame, gain: float | None) -> Frame:
    """From ADU to electrons: data and sigma times the gain (e-/ADU). Without a gain the frame stays in ADU."""
    if gain is None:
        return frame.with_({"FLGAIN": ("unknown", "no gain known: the frame stays in adu")})
    factor = np.float32(gain)
    return frame.with_(
        data=frame.data * factor, sigma=None if frame.sigma is None else frame.sigma * factor, unit="electron"
    )


def cosmic_ray(
    frame: Frame,
    pedestal: np.ndarray | float = 0.0,
    method: str = "laplacian",
    fwhm: float | None = None,
    sigclip: float | None = None,
    sigfrac: float | None = None,
    objlim: float | None = None,
    niter: int = 4,
    threshold: float = 8.0,
    box: int = 5,
    replace: str = "late",
) -> Frame:
    """Find particle hits and set the bit COSMIC_RAY; the values stay until `flat` replaces them.

    pedestal   what is not light, in the frame's unit (bias and dark): hits are looked for in frame minus pedestal
    method     "laplacian": L.A.Cosmic (van Dokkum 2001, PASP 113, 1420) by astroscrappy with the frame's own sigma;
               "median": pixels `threshold` sigma above the median of a box x box window; "none"
    fwhm       of the stars in pixels; sets sigclip, sigfrac, objlim where these are None, since sharp stars look
               like hits (`laplacian_limits`)
    replace    "early" replaces the values at once, as AstroDART does
    """
    if method == "none" or frame.sigma is None:
        return frame
    image = np.ascontiguousarray(frame.data - np.float32(pedestal) if np.isscalar(pedestal) else frame.data - pedestal)
    ignore = (frame.mask & (Mask.BAD | Mask.SATURATED | Mask.NO_DATA)) != 0
    # Next to pixels that it is told to leave out astroscrappy finds nothing, so bad pixels are filled for it instead.
    filled = interpolate(frame.with_(data=image), Mask.BAD)
    image, blind = filled.data, ignore & ((filled.mask & Mask.INTERPOLATED) == 0)
    if method == "laplacian":
        limits = laplacian_limits(fwhm)
        chosen = {"sigclip": sigclip, "sigfrac": sigfrac, "objlim": objlim}
        limits.update({key: value for key, value in chosen.items() if value is not None})
        hits = _laplacian(image, frame.sigma, blind, niter, **limits)
    elif method == "median":
        from scipy.ndimage import median_filter

        hits = image - median_filter(image, size=box) > threshold * frame.sigma
        limits = {"threshold": threshold}
    else:
        raise ValueError(f"cosmic_ray method {method!r}: laplacian, median or none?")
    hits &= ~ignore
    mask = frame.mask | np.where(hits, np.uint8(Mask.COSMIC_RAY), np.uint8(0))
    found = frame.with_({"NCOSMIC": (int(hits.sum()), "pixels flagged as cosmic rays")}, mask=mask)
    print(f"cosmic rays: {int(hits.sum())} pixels, {method}, {limits}")
    return interpolate(found, Mask.COSMIC_RAY) if replace == "early" else found


def laplacian_limits(fwhm: float | None) -> dict[str, float]:
    """Thresholds of L.A.Cosmic that leave stars of this FWHM (pixels, as `sources.quick_fwhm` measures it) alone.

    Sharp stars have as much fine structure as a hit. Measured on simulated crowded fields: from 3.2 pixels on 7 and 12
    find 98 % of the pixels hit above 10 sigma and flag 5 clean ones in 10,000; at 2.1 pixels (stars of 1.5 pixels before
    they fall on pixels) it takes 12 and 60 for that, and 5 % of the hits more are missed.
    """
    sharp = 0.0 if fwhm is None else float(np.clip((3.2 - fwhm) / (3.2 - 2.1), 0.0, 1.0))
    return {
        "sigclip": 7.0 + 5.0 * sharp,
        "sigfrac": 0.3 + 0.2 * sharp,
        "objlim": 12.0 * (60.0 / 12.0) ** sharp,
    }


def bias(frame: Frame, master: Frame | None, share: float = 1.0) -> Frame:
    """Subtract `share` times the master bias: data - s MB, var + s^2 var_MB. The share is 1 - k where a dark with its
    bias in it follows with ratio k."""
    return _subtract(frame, master, share, "master bias", "FLBIAS")


def dark(frame: Frame, master: Frame | None, ratio: float = 1.0) -> Frame:
    """Subtract `ratio` k times the master dark, which has its bias in it: data - k MD, var + k^2 var_MD."""
    return _subtract(frame, master, ratio, "master dark", "FLDARK")


def flat(frame: Frame, master: Frame | None) -> Frame:
    """Divide by the normalised master flat, relative errors in quadrature; then replace flagged values, once.

        out = L / F,  sigma^2 = (sigma_L / F)^2 + (L sigma_F / F^2)^2

    Where the response is too low (bit LOW_FLAT of the master) nothing is divided and the value is replaced. This is the
    last step: pixels without data become NaN.
    """
    if master is None:
        return _blanked(interpolate(frame.with_({"FLFLAT": (False, "no master flat")})))
    must_match(frame, master.with_(unit=frame.unit), "master flat")
    safe = np.where(master.mask & Mask.LOW_FLAT, np.float32(1), master.data)
    data = frame.data / safe
    sigma = None
    if frame.sigma is not None:
        variance = frame.sigma**2 if master.sigma is None else frame.sigma**2 + (data * master.sigma) ** 2
        sigma = np.sqrt(variance) / safe
    keywords = {"FLFLAT": (True, "divided by the master flat")}
    return _blanked(interpolate(frame.with_(keywords, data=data, sigma=sigma, mask=frame.mask | master.mask)))


def interpolate(frame: Frame, bits: int = Mask.UNUSABLE & ~Mask.NO_DATA) -> Frame:
    """Replace flagged values by the median of the good pixels of the 5x5 (else 9x9) around them; set INTERPOLATED."""
    flagged = (frame.mask & bits) != 0
    if not flagged.any():
        return frame
    data, mask = frame.data.copy(), frame.mask.copy()
    good = np.where((frame.mask & Mask.UNUSABLE) == 0, frame.data, np.float32(np.nan))
    todo = np.argwhere(flagged)
    for radius in (2, 4):
        values = _median_around(good, todo, radius)
        found = np.isfinite(values)
        rows, columns = todo[found].T
        data[rows, columns] = values[found]
        mask[rows, columns] |= Mask.INTERPOLATED
        todo = todo[~found]
        if not len(todo):
            break
    return frame.with_(data=data, mask=mask)


def local_scatter(data: np.ndarray, block: int = 64) -> np.ndarray:
    """Noise of a frame from itself: in each block the clipped scatter of differences of pixels two columns apart.

    Differences see the noise and not the level; the scatter of d = a - b is sqrt(2) times that of a pixel. float32 (ny, nx).
    """
    from scipy.ndimage import zoom

    ny, nx = data.shape
    difference = data[:, 2:] - data[:, :-2]
    ys = np.linspace(0, ny, max(ny // block, 1) + 1).astype(int)
    xs = np.linspace(0, nx - 2, max(nx // block, 1) + 1).astype(int)
    grid = np.empty((len(ys) - 1, len(xs) - 1), np.float32)
    for j, (y0, y1) in enumerate(zip(ys[:-1], ys[1:], strict=True)):
        for i, (x0, x1) in enumerate(zip(xs[:-1], xs[1:], strict=True)):
            grid[j, i] = robust_scatter(difference[y0:y1, x0:x1]) / np.sqrt(2)
    return zoom(grid, (ny / grid.shape[0], nx / grid.shape[1]), order=1, mode="nearest", grid_mode=True).astype(
        np.float32
    )


def robust_scatter(values: np.ndarray) -> float:
    """Standard deviation of the core of a distribution, from the 16th to the 84th percentile; whole numbers have at
    least that of their rounding."""
    values = values[np.isfinite(values)]
    if values.size < 8:
        return float("nan")
    low, high = np.percentile(values, [15.8655, 84.1345])
    rounded = np.mean(values == np.round(values)) > 0.9  # not in frames of floats, which may run from 0 to 1
    return max(float(high - low) / 2, float(1 / np.sqrt(12)) if rounded else 0.0)


def _blanked(frame: Frame) -> Frame:
    """The frame with NaN where there is no data: what stood in for it during the steps goes no further."""
    nothing = (frame.mask & Mask.NO_DATA) != 0
    if not nothing.any():
        return frame
    sigma = None if frame.sigma is None else np.where(nothing, np.float32(np.nan), frame.sigma)
    return frame.with_(data=np.where(nothing, np.float32(np.nan), frame.data), sigma=sigma)


def _subtract(frame: Frame, master: Frame | None, factor: float, what: str, keyword: str) -> Frame:
    if master is None or factor == 0:
        return frame.with_({keyword: (0.0 if master is not None else False, f"{what}: not subtracted")})
    must_match(frame, master, what)
    factor = np.float32(factor)
    sigma = frame.sigma
    if sigma is not None and master.sigma is not None:
        sigma = np.sqrt(sigma**2 + (factor * master.sigma) ** 2)
    return frame.with_(
        {keyword: (float(factor), f"{what}: share that was subtracted")},
        data=frame.data - factor * master.data,
        sigma=sigma,
        mask=frame.mask | master.mask,
    )


def _laplacian(image, sigma, ignore, niter, sigclip, sigfrac, objlim) -> np.ndarray:
    from astroscrappy import detect_cosmics

    hits, _ = detect_cosmics(
        image,
        inmask=ignore,
        invar=np.ascontiguousarray(sigma**2),
        sigclip=sigclip,
        sigfrac=sigfrac,
        objlim=objlim,
        satlevel=np.inf,  # saturated pixels are in the mask already, known from raw ADU
        niter=niter,
        cleantype="medmask",
    )
    return hits.astype(bool)


def _inside(region, data: np.ndarray, what: str) -> None:
    for piece, length in zip(region, data.shape, strict=True):
        if piece.stop > length or piece.start < 0 or piece.stop <= piece.start:
            rows, columns = region
            raise ValueError(
                f"{what} [{columns.start + 1}:{columns.stop},{rows.start + 1}:{rows.stop}] does not fit the frame of "
                f"{size(data)}: give cameras: trim, overscan for this camera?"
            )


def _grown(flags: np.ndarray) -> np.ndarray:
    """Flags and their eight neighbours."""
    if not flags.any():
        return flags
    from scipy.ndimage import binary_dilation

    return binary_dilation(flags, np.ones((3, 3), bool))


def _box_mean(image: np.ndarray, width: int) -> np.ndarray:
    from scipy.ndimage import uniform_filter

    return uniform_filter(image, width, mode="nearest")


def _median_around(image: np.ndarray, where: np.ndarray, radius: int) -> np.ndarray:
    """Median of the finite values of the windows centred on `where` (n, 2); NaN where there is none."""
    import warnings

    padded = np.pad(image, radius, constant_values=np.nan)
    steps = np.arange(2 * radius + 1)
    out = np.empty(len(where), np.float32)
    for start in range(0, len(where), 100_000):
        rows, columns = where[start : start + 100_000].T
        windows = padded[rows[:, None, None] + steps[:, None], columns[:, None, None] + steps]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a window without a finite value
            out[start : start + 100_000] = np.nanmedian(windows.reshape(len(rows), -1), axis=1)
    return out
