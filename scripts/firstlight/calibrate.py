"""The steps from a raw frame to a calibrated one: trim, deviation, gain, cosmic_ray, bias, dark, flat.

Each step takes a frame and plain numbers or masters, and returns a new frame; a step that has nothing to go on
(no master, no known gain) returns the frame as it is, with a card that says so.
"""

from __future__ import annotations

import numpy as np

from .frame import MASTER_NAME, Frame, Mask, must_match, row_blocks

FILLED = Mask.UNUSABLE & ~Mask.NO_DATA  # bits of pixels whose values are replaced
STEPS = ("trim", "deviation", "gain", "cosmic_ray", "bias", "dark", "flat")


def deviation(
    frame: Frame,
    gain: float | None,
    read_noise: float | None,
    level=None,
    step: float = 0.0,
    level_noise: float = 0.0,
    source: str = "formula",
) -> Frame:
    """Standard deviation of each pixel of a frame in ADU.

        sigma^2 = max(E/g + (R/g)^2, (R/2g)^2) + q^2/12 + o^2   [ADU^2]

    E is the light: S - B averaged over 5x5 pixels where the pixel lies within 5 sigma of that average, else S - B itself.
    (The pixel's own value would bias sigma low where it fluctuates low: 5-14 % of the mean below 30 electrons.)
    gain g in e-/ADU, read_noise R in e-; level B in ADU, an image (ny, nx) or a number: what is not light. A frame
    without light (a bias) is given level=frame.data. step q and level_noise o in ADU: what the ADC rounds to, and the
    noise of the overscan level that was subtracted. With gain, read noise or level unknown (None) sigma is the local
    scatter of the frame. `source` is what the card SIGMASRC says where sigma is by the formula.
    """
    known = {"FLGAIN": (float(gain), "[electron/adu] gain used")} if gain is not None else {}
    if gain is None or read_noise is None or level is None:
        known["SIGMASRC"] = ("empirical", "sigma is the local scatter")
        return frame.with_(known, sigma=local_scatter(frame.data, step or 1.0))
    floor = np.float32((read_noise / gain) ** 2)
    beside = np.float32(step**2 / 12 + level_noise**2)
    known["SIGMASRC"] = (source, "sigma from gain and read noise")
    known["FLRDNOIS"] = (float(read_noise), "[electron] read noise used")
    if level is frame.data:  # without light every pixel has the same
        return frame.with_(known, sigma=np.full(frame.shape, np.sqrt(floor + beside), np.float32))
    return frame.with_(known, sigma=_sigma_of_light(frame.data, level, np.float32(gain), floor, beside))


def _sigma_of_light(data: np.ndarray, level, gain, floor, beside) -> np.ndarray:
    """The formula of `deviation` with floor (R/g)^2 and beside q^2/12 + o^2."""
    from cv2 import BORDER_REPLICATE, blur

    def variance(light, out=None):
        out = np.divide(light, gain, out=out)
        out += floor
        np.maximum(out, floor / 4, out=out)
        out += beside
        return out

    ny, sigma = len(data), np.empty(data.shape, np.float32)
    for rows in row_blocks(data.shape):
        around = slice(max(rows.start - 2, 0), min(rows.stop + 2, ny))  # two rows more, for the averages
        inner = slice(rows.start - around.start, rows.stop - around.start)
        light = np.subtract(data[around], level[around] if np.ndim(level) else level, dtype=np.float32)
        if not np.isfinite(light.sum()):
            light[~np.isfinite(light)] = 0  # one would spoil the averages of all that follow it
        smooth = blur(light, (5, 5), borderType=BORDER_REPLICATE)[inner]
        light, squares = light[inner], sigma[rows]
        variance(smooth, out=squares)
        distance = np.subtract(light, smooth, out=smooth)
        np.square(distance, out=distance)
        own = ~(distance < np.float32(25) * squares)
        if own.any():
            squares[own] = variance(light[own])
        np.sqrt(squares, out=squares)
    return sigma


def gain(frame: Frame, gain: float | None) -> Frame:
    """From ADU to electrons: data and sigma times the gain (e-/ADU). Without a gain the frame stays in ADU."""
    if gain is None:
        return frame.with_({"FLGAIN": ("unknown", "no gain known: the frame stays in adu")})
    factor = np.float32(gain)
    return frame.with_(
        data=frame.data * factor, sigma=None if frame.sigma is None else frame.sigma * factor, unit="electron"
    )


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
    low = np.flatnonzero((master.mask & Mask.LOW_FLAT) != 0)

    def divided(values):
        with np.errstate(divide="ignore", invalid="ignore"):
            out = values / master.data
        out.ravel()[low] = values.ravel()[low]
        return out

    data = divided(frame.data)
    if master.sigma is not None:
        frame = frame.noisier(master.sigma, data)
    sigma = None if frame.sigma is None else divided(frame.sigma)
    keywords = {"FLFLAT": (True, "divided by the master flat")} | _named("FLAT", master)
    mask = frame.mask | master.mask
    _fill(data, mask, np.flatnonzero((mask & FILLED) != 0))
    return _blanked(frame.with_(keywords, data=data, sigma=sigma, mask=mask))


def interpolate(frame: Frame, bits: int = FILLED) -> Frame:
    """Replace values flagged by one of some unusable bits by the median of the good pixels of the 5x5 (else 9x9) around
    them; set INTERPOLATED."""
    flagged = np.flatnonzero((frame.mask & bits) != 0)
    if not flagged.size:
        return frame
    data, mask = frame.data.copy(), frame.mask.copy()
    _fill(data, mask, flagged)
    return frame.with_(data=data, mask=mask)


def _fill(data: np.ndarray, mask: np.ndarray, flagged: np.ndarray) -> None:
    """Fill in the pixels of these indices of an image and its mask, none of them good, in place."""
    todo = np.column_stack(np.divmod(flagged, data.shape[1]))
    for radius in (2, 4):
        values = _median_around(data, mask, todo, radius)
        found = np.isfinite(values)
        rows, columns = todo[found].T
        data[rows, columns] = values[found]
        mask[rows, columns] |= Mask.INTERPOLATED
        todo = todo[~found]
        if not len(todo):
            break


def local_scatter(data: np.ndarray, step: float = 1.0, block: int = 64) -> np.ndarray:
    """Noise of a frame from itself: in each block the clipped scatter of differences of pixels two columns apart.

    Differences see the noise and not the level; the scatter of d = a - b is sqrt(2) times that of a pixel. `step` is what
    whole numbers were rounded to. float32 (ny, nx).
    """
    from cv2 import resize

    ny, nx = data.shape
    difference = data[:, 2:] - data[:, :-2]
    ys = np.linspace(0, ny, max(ny // block, 1) + 1).astype(int)
    xs = np.linspace(0, nx - 2, max(nx // block, 1) + 1).astype(int)
    grid = np.empty((len(ys) - 1, len(xs) - 1), np.float32)
    for j, (y0, y1) in enumerate(zip(ys[:-1], ys[1:], strict=True)):
        for i, (x0, x1) in enumerate(zip(xs[:-1], xs[1:], strict=True)):
            grid[j, i] = robust_scatter(difference[y0:y1, x0:x1], step) / np.sqrt(2)
    return resize(grid, (nx, ny))  # linear between the middles of the blocks


def robust_scatter(values: np.ndarray, step: float = 1.0) -> float:
    """Standard deviation of the core of a distribution, from the 16th to the 84th percentile; whole numbers have at
    least that of their rounding to multiples of `step`."""
    values = np.sort(values[np.isfinite(values)])
    if values.size < 8:
        return float("nan")
    core = np.array([0.158655, 0.841345])
    if np.mean(values == np.rint(values)) <= 0.9:  # frames of floats may run from 0 to 1
        low, high = np.interp(core * (values.size - 1), np.arange(values.size), values)
        return float(high - low) / 2
    # Between whole numbers the share below is interpolated, else the result would be a whole number itself.
    first = np.flatnonzero(values[1:] != values[:-1]) + 1  # of each value but the lowest
    if len(first) < 2:
        return step / np.sqrt(12)
    low, high = np.interp(core, first / values.size, (values[first - 1] + values[first]) / 2)
    return max(float(high - low) / 2, step / np.sqrt(12))


def _blanked(frame: Frame) -> Frame:
    """The frame with NaN where there is no data: what stood in for it during the steps goes no further."""
    nothing = (frame.mask & Mask.NO_DATA) != 0
    if not nothing.any():
        return frame
    sigma = None if frame.sigma is None else np.where(nothing, np.float32(np.nan), frame.sigma)
    return frame.with_(data=np.where(nothing, np.float32(np.nan), frame.data), sigma=sigma)


def _subtract(frame: Frame, master: Frame | None, factor: float, what: str, keyword: str) -> Frame:
    if master is None:
        return frame.with_({keyword: (False, f"no {what}")})
    if factor == 0:
        return frame.with_({keyword: (0.0, f"{what}: subtracted with the dark, which holds it")})
    must_match(frame, master, what)
    factor = np.float32(factor)
    if master.sigma is not None:
        frame = frame.noisier(master.sigma, factor)
    known = {keyword: (float(factor), f"{what}: share that was subtracted")} | _named(keyword[2:], master)
    data = np.multiply(master.data, factor, dtype=np.float32)
    return frame.with_(known, data=np.subtract(frame.data, data, out=data), mask=frame.mask | master.mask)


def _named(kind: str, master: Frame) -> dict:
    """Cards that name a master and the identity of its content."""
    return {
        f"{kind}COR": (master.header.get(MASTER_NAME, ""), "among the masters"),
        f"{kind}ID": (master.header.get("FLIDENT", ""), f"FLIDENT of the master {kind.lower()}"),
    }


def _median_around(data: np.ndarray, mask: np.ndarray, where: np.ndarray, radius: int) -> np.ndarray:
    """Median of the good pixels of the windows centred on `where` (n, 2), float32 (n,); NaN where there is none."""
    ny, nx = data.shape
    reach = np.arange(-radius, radius + 1)
    out = np.empty(len(where), np.float32)
    for start in range(0, len(where), 20_000):
        rows, columns = (where[start : start + 20_000, axis, None] + reach for axis in (0, 1))
        inside = ((rows >= 0) & (rows < ny))[:, :, None] & ((columns >= 0) & (columns < nx))[:, None, :]
        places = np.clip(rows, 0, ny - 1)[:, :, None], np.clip(columns, 0, nx - 1)[:, None, :]
        good = inside & ((mask[places] & Mask.UNUSABLE) == 0)
        windows = np.where(good, data[places], np.float32(np.nan)).reshape(len(rows), -1)
        windows.sort(axis=1)  # what does not count comes last
        last = np.maximum((~np.isnan(windows)).sum(axis=1), 1) - 1
        line = np.arange(len(windows))
        out[start : start + 20_000] = (windows[line, last // 2] + windows[line, (last + 1) // 2]) / 2
    return out
