"""What of the sky stays on the detector: fringes, and what flats left. Measured from a night's lights, taken off each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.io import fits

from . import pile, sources
from .frame import MASTER_NAME, Frame, Mask, Unusable, must_match, printable

SEEN = 2  # lights, at least, that see empty sky with a pixel if it is to tell of the pattern
BRIGHTEST = 30  # stars that tell whether two lights point alike
TOGETHER = 0.5  # share of these on the same pixels from which on they do; and share of the lights that may
STARLIGHT = 3.0  # noises of the smoothed sky above which there is a star
SURE = 3.0  # errors of its amplitude that a pattern is worth subtracting from
CLIP = 3.0  # standard deviations
FLAW = 6.0  # noises by which a single pixel stands out from a smooth pattern
WINGS = 0.1  # noises of a pixel at which a star's light ends
WIDE = 0.45  # periods, sigma of the Gaussian that the sky is told with
SQUARE = 8  # pixels, side of the squares that it is told on
EXTREME = 5.0  # times the usual pattern: the few pixels where it is stronger do not settle its amplitude
ROUNDS = 2  # once the pattern is known, fainter stars are found, and lights know their amplitudes


@dataclass(frozen=True)
class Light:
    """A calibrated light that is read when it is needed, with the table of its sources; read() is called twice."""

    name: str
    read: Callable[[], Frame]
    table: np.ndarray


def master(
    lights: Sequence[Light], smooth: float = 5.0, period: float = 256.0, fewest: int = 5, memory: float = 1000e6
) -> Frame:
    """The pattern that the sky leaves on the detector, in shares of the sky's brightness, from lights of one camera and
    filter, of any targets.

    smooth  pixels, sigma of the Gaussian that the pattern is smoothed with; 0 for none
    period  pixels, longest of the pattern; what is wider is taken for the sky's own slope and glow
    fewest  lights that are needed; memory in bytes for the pile of them
    Each light less its sky and its stars (with what is around them) is divided by its amplitude, at first SKYLEVEL, then
    what `amplitude` finds. Pixel by pixel the clipped mean P of what is left, each light weighing 1 / variance, has the
    weight W, the sum of these, and with the Gaussian G

        F = (G * PW) / (G * W),   sigma_F^2 = (G^2 * W) / (G * W)^2

    Where too few lights see empty sky F is 0 with the bit NO_DATA. A star too faint to be found loses the share of its
    light that one light has in F: lights that mostly see the same stars with the same pixels are refused.
    Raises Unusable for too few lights, for those, and where no pattern rises above its noise.
    """
    usable, left_out = _usable(lights)
    _enough(usable, left_out, fewest)
    alike = _alike(usable, smooth)
    if alike > TOGETHER:
        raise Unusable(
            f"a light has its stars on the same pixels as {alike:.0%} of the {len(usable)} lights, at most "
            f"{TOGETHER:.0%} may: it would cost them light; dithers of more than {_reach(usable, smooth):.0f} pixels help"
        )
    pattern = None
    for _ in range(ROUNDS):
        pattern, used = _round(usable, pattern, smooth, period, memory, left_out)
        _enough(used, left_out, fewest)
    rms, noise = _strength(pattern)
    if rms <= noise:
        raise Unusable(f"no pattern is seen: {rms:.2%} of the sky rms where the noise alone makes {noise:.2%}")
    cards = {
        "IMAGETYP": "fringes",
        "NCOMBINE": (len(used), "lights that the pattern is from"),
        "NLEFTOUT": (len(left_out), "lights left out"),
        "FRNGRMS": (round(rms, 6), "rms of the pattern, share of the sky"),
        "FRNGNOIS": (round(noise, 6), "rms of its noise"),
        "FRNGSAME": (round(alike, 3), "share of lights on the same pixels as one"),
    }
    cards |= {f"INPUT{number:03d}": name[:60] for number, name in enumerate(used[:999], 1)}
    cards |= {f"LEFT{number:03d}": printable(text) for number, text in enumerate(left_out[:999], 1)}
    return pattern.with_(cards)


def subtract(frame: Frame, pattern: Frame, table: np.ndarray) -> Frame:
    """A calibrated light less the pattern of `master`, times one number (FRINGEA) that is fitted to its empty sky.

        out = data - A F,   var = var + A^2 sigma_F^2

    Cards: FRINGED the pattern's name, False where there is nothing of it; FRINGEA, FRINGEE A and its error.
    Raises ValueError where the pattern is of another size.
    """
    must_match(frame, pattern.with_(unit=frame.unit), "the fringe master")
    fitted, error = amplitude(frame, pattern, table)
    known = {
        "FRINGEA": (round(fitted, 4), f"[{frame.unit}] amplitude of the sky's pattern"),
        "FRINGEE": (round(error, 4) if np.isfinite(error) else -1.0, f"[{frame.unit}] its error, -1 for no sky"),
    }
    if not fitted > SURE * error:
        return frame.with_(known | {"FRINGED": (False, "nothing of the sky's pattern is seen")})
    known["FRINGED"] = (pattern.header.get(MASTER_NAME) or True, "pattern of the sky that was subtracted")
    by = np.float32(fitted)
    return frame.noisier(by * pattern.sigma).with_(known, data=frame.data - by * pattern.data)


def words(frame: Frame) -> list[str]:
    """What the cards of a pattern, or of a light less one, mean, for a log."""
    head, lines = frame.header, []
    if "FRNGRMS" in head:
        lines += [f"left out {head[key]}" for key in head if key.startswith("LEFT")]
        lines.append(
            f"pattern of {head['NCOMBINE']} lights: rms {head['FRNGRMS']:.2%} of the sky, noise {head['FRNGNOIS']:.2%}; a light "
            f"has its stars on the same pixels as {head['FRNGSAME']:.0%} of them"
        )
    if "FRINGEA" in head:
        done = "are subtracted" if head["FRINGED"] else "stay in it"
        lines.append(f"fringes of a sky of {head['FRINGEA']:.1f} +- {head['FRINGEE']:.1f} {frame.unit} {done}")
    return lines


def amplitude(frame: Frame, pattern: Frame, table: np.ndarray) -> tuple[float, float]:
    """How bright the sky is that makes the pattern in a light, and the error of it, in the light's unit.

    Least squares over its empty sky, clipped at 3 standard deviations; stars are looked for after the pattern is taken
    off with the amplitude that SKYLEVEL says. (0, inf) where there is no such sky.
    """
    start = _level(frame)
    rest, free = _empty_sky(frame, start * pattern.data, table, pattern.header["FRNGPER"])
    free &= _usual(pattern)
    shape, value = pattern.data[free].astype(float), rest[free].astype(float)
    weight = np.ones(value.size) if frame.sigma is None else 1 / np.square(frame.sigma[free], dtype=float)
    more, error = 0.0, np.inf
    for _ in range(5):
        power = float((weight * shape * shape).sum())
        if not power > 0:
            return 0.0, np.inf
        more = float((weight * shape * value).sum()) / power
        left = value - more * shape
        scatter = 1.4826 * float(np.median(np.abs(left)))
        error = scatter * float(np.sqrt((weight**2 * shape * shape).sum())) / power
        near = np.abs(left) <= CLIP * scatter
        if near.all():
            break
        shape, value, weight = shape[near], value[near], weight[near]
    return start + more, error


def _usable(lights: Sequence[Light]) -> tuple[list[Light], list[str]]:
    """The lights whose stars tell where they point, and a sentence on each of the others."""
    usable, left_out = [], []
    for light in lights:
        if len(_stars(light)) < 3:
            left_out.append(f"{light.name}: {len(_stars(light))} stars do not tell where it points")
        else:
            usable.append(light)
    return usable, left_out


def _enough(lights: Sequence, left_out: list[str], fewest: int) -> None:
    if len(lights) < fewest:
        others = f", {len(left_out)} are left out ({left_out[0]})" if left_out else ""
        raise Unusable(f"{len(lights)} usable lights of the night, {fewest} are needed (fringe: fewest){others}")


def _stars(light: Light) -> np.ndarray:
    """Pixels (n, 2) of a light's good stars, brightest first."""
    good = light.table[light.table["flag"] < sources.ODD]
    return np.column_stack([good["x"], good["y"]])


def _reach(lights: Sequence[Light], smooth: float) -> float:
    """Pixels within which a star's light reaches in a smoothed pattern."""
    widths = [float(np.median(light.table["fwhm"])) for light in lights]
    return max(float(np.median(widths)), smooth)


def _alike(lights: Sequence[Light], smooth: float) -> float:
    """The share of the lights, itself among them, that have their stars on the same pixels as a light; the mean."""
    from scipy.spatial import cKDTree

    places, reach = [_stars(light) for light in lights], _reach(lights, smooth)
    trees = [cKDTree(place[: 2 * BRIGHTEST]) for place in places]
    found = [
        [np.isfinite(tree.query(one[:BRIGHTEST], distance_upper_bound=reach)[0]).mean() for tree in trees]
        for one in places
    ]
    return float((np.array(found) > TOGETHER).mean())


def _round(lights, before: Frame | None, smooth: float, period: float, memory: float, left_out: list):
    """The pattern by all lights, and the names of those that told it; `before` is what is known of it by now."""
    held, header, used, brighter = None, fits.Header(), [], []
    try:
        for light in lights:
            frame = light.read()
            if held is None:
                held, header = pile.Pile(frame.shape, len(lights), memory), _header(frame)
            by, error = _level(frame), 0.0
            if before is not None and frame.shape == before.shape:
                by, error = amplitude(frame, before, light.table)
            if reason := _unfit(frame, held.shape, by, error):
                if (text := f"{light.name}: {reason}") not in left_out:
                    left_out.append(text)
                continue
            known = np.float32(0) if before is None else before.data
            rest, free = _empty_sky(frame, by * known, light.table, period)
            sigma = frame.sigma if frame.sigma is not None else np.full(frame.shape, _scatter(rest[free]), np.float32)
            flags = np.where(free, np.uint8(pile.GOOD), np.uint8(pile.ABSENT))
            held.add(rest / np.float32(by) + known, sigma / np.float32(by), flags)
            used.append(light.name)
            brighter.append(by / _level(frame))
        if not used:
            raise Unusable("no light shows the sky: " + "; ".join(left_out[:3]))
        pattern = _combined(held, smooth, period, header)
        shares = np.float32(np.median(brighter))  # amplitudes may be off by a factor that is common to all
        return pattern.with_(data=pattern.data * shares, sigma=pattern.sigma * shares), used
    finally:
        if held is not None:
            held.close()


def _unfit(frame: Frame, shape, by: float, error: float) -> str:
    """Why a light tells nothing of the pattern; "" if it does."""
    if frame.shape != shape:
        return f"it is {frame.shape[1]}x{frame.shape[0]}, others are {shape[1]}x{shape[0]}"
    if not by > 0:
        return f"level of its sky {by:.1f} {frame.unit}, not above zero"
    return "" if by > SURE * error else f"nothing of the pattern is seen in it ({by:.1f} +- {error:.1f} {frame.unit})"


def _header(frame: Frame) -> fits.Header:
    """What all lights of a camera and filter have in common."""
    keys = ("INSTRUME", "TELESCOP", "FILTER", "NIGHT", "FLCAMERA")
    return fits.Header([(key, frame.header[key]) for key in keys if key in frame.header])


def _combined(held: pile.Pile, smooth: float, period: float, header: fits.Header) -> Frame:
    """The smoothed mean of the pile."""
    some = [held.image(number)[1][::5, ::5] for number in range(held.count)]
    noises = np.array([np.median(one[one > 0]) if (one > 0).any() else np.inf for one in some])
    data, sigma, count = pile.combine(held, "average", "sigclip", CLIP, CLIP, weights=(noises.min() / noises) ** 2)
    told = (count >= min(SEEN, held.count)) & np.isfinite(data) & (sigma > 0)
    data[~told], sigma[~told] = 0, 1
    if smooth > 0:
        told = _without_flaws(data, sigma, told, smooth)
    smoothed, sigma, known = _smoothed(data, sigma, told, smooth)
    usual = known & (np.abs(smoothed) < FLAW * _scatter(smoothed[known]))
    smoothed[known] -= _wide(smoothed, usual, period)[known]
    mask = np.where(known, np.uint8(0), np.uint8(Mask.NO_DATA))
    header["FRNGPER"] = (period, "[pix] longest period of the pattern")
    return Frame(smoothed, header, sigma, mask, "")


def _without_flaws(data: np.ndarray, sigma: np.ndarray, told: np.ndarray, smooth: float) -> np.ndarray:
    """`told` without pixels that a smooth pattern does not hold, such as hot ones and dark edges: to be smeared would make
    them worse. What looks like one at first comes back where the pattern around leads up to it."""
    use = told & (np.abs(data) < FLAW * _scatter(data[told]))
    for _ in range(5):
        smoothed, _, known = _smoothed(data, sigma, use, smooth)
        away = np.abs(data - smoothed)
        use = told & known & (away < FLAW * np.maximum(sigma, _scatter(away[use])))
    return use


def _smoothed(data: np.ndarray, sigma: np.ndarray, told: np.ndarray, smooth: float):
    """Mean under a Gaussian of the data that are told, weighted by 1 / sigma^2, its sigma, and where enough is told (ny,
    nx); the first two are 0 elsewhere."""
    from scipy.ndimage import gaussian_filter

    weight = np.where(told, sigma**-2, 0).astype(np.float32)
    total, squares = weight, weight
    if smooth > 0:
        total = gaussian_filter(weight, smooth, mode="constant")
        # The square of a Gaussian is one of sigma / sqrt(2).
        squares = gaussian_filter(weight, smooth / np.sqrt(2), mode="constant") / np.float32(4 * np.pi * smooth**2)
        data = gaussian_filter(data * weight, smooth, mode="constant") / np.where(total > 0, total, 1)
    usual = float(np.median(weight[weight > 0])) if (weight > 0).any() else 0.0
    known = (total > 0.05 * usual) & (total > 0)
    safe = np.where(known, total, 1)
    sigma = np.where(known, np.sqrt(np.maximum(squares, 0)) / safe, 0)
    return np.where(known, data, 0).astype(np.float32), sigma.astype(np.float32), known


def _strength(pattern: Frame) -> tuple[float, float]:
    """Rms of a pattern without what noise makes of it, and of its noise; where it is not unusually strong."""
    known = _usual(pattern)
    if not known.any():
        return 0.0, 0.0
    noise = float(np.mean(np.square(pattern.sigma[known], dtype=float)))
    total = float(np.var(pattern.data[known], dtype=float))
    return float(np.sqrt(max(total - noise, 0))), float(np.sqrt(noise))


def _usual(pattern: Frame) -> np.ndarray:
    """Where a pattern is known and not unusually strong: few pixels at an edge must not settle what it is like."""
    known = pattern.mask == 0
    return known & (np.abs(pattern.data) < EXTREME * _scatter(pattern.data[known]))


def _level(frame: Frame) -> float:
    value = frame.header.get("SKYLEVEL")
    return float(value) if isinstance(value, (int, float)) else float(np.nanmedian(frame.data))


def _empty_sky(frame: Frame, known, table: np.ndarray, period: float) -> tuple[np.ndarray, np.ndarray]:
    """(rest, free), both (ny, nx): a light less what is `known` of the pattern, and less what is wider than a period, the
    sky; and where it is usable and there is no starlight."""
    bad = ((frame.mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0) | ~np.isfinite(frame.data)
    data = np.where(np.isfinite(frame.data), frame.data - known, np.float32(0)).astype(np.float32)
    fwhm = float(frame.header.get("FWHM") or 3.0)
    stars = bad | _wings(table, frame.shape, fwhm, float(frame.header.get("SKYNOISE") or 1.0))
    used = ~stars
    for _ in range(3):  # with stars and flaws left out the sky is known better
        rest = data - _wide(data, used, period)
        light = _starlight(rest, ~used, bad, fwhm)
        used = ~stars & ~light & (np.abs(rest) < FLAW * _scatter(rest[used]))
    return rest, ~stars & ~light


def _wide(data: np.ndarray, use: np.ndarray, period: float) -> np.ndarray:
    """What of an image (ny, nx) is wider than a period: the mean, under a Gaussian, of the pixels that are of use.

    Its sigma of 0.45 periods keeps 98 % of a wave of that period out. Told on squares of 8 pixels.
    """
    from scipy.ndimage import gaussian_filter, zoom

    ny, nx = data.shape
    edges = [np.arange(0, n, SQUARE) for n in (ny, nx)]
    sums = [
        np.add.reduceat(np.add.reduceat(part, edges[0], 0), edges[1], 1)
        for part in (np.where(use, data, 0), use * np.float32(1))
    ]
    level, share = (gaussian_filter(part.astype(float), WIDE * period / SQUARE, mode="constant") for part in sums)
    if not share.any():
        return np.zeros_like(data)
    usual = sums[0].sum() / sums[1].sum()  # where nothing is near
    small = np.where(share > 1e-6 * share.max(), level / np.maximum(share, 1e-30), usual)
    whole = zoom(small, SQUARE, order=1, mode="nearest", grid_mode=True)
    return whole[:ny, :nx].astype(np.float32)


def _wings(table: np.ndarray, shape: tuple[int, int], fwhm: float, noise: float) -> np.ndarray:
    """Where the known stars shine (ny, nx), by a profile with wings as wide as they come.

    I(r) = flux / (pi a^2) (1 + r^2 / a^2)^-2, a = 0.777 FWHM (Moffat, beta = 2), down to 0.1 noises of a pixel. What is
    wider than stars are, a crest of the pattern perhaps, does not count.
    """
    ny, nx = shape
    out = np.zeros(shape, bool)
    width = 0.777 * fwhm
    for star in table[(table["fwhm"] < 2 * fwhm) | ((table["flag"].astype(int) & sources.SATURATED) != 0)]:
        steep = np.sqrt(max(star["flux"], 0) / (np.pi * width**2 * WINGS * noise))
        reach = width * np.sqrt(max(steep - 1, 0))
        x0, x1 = max(int(star["x"] - reach), 0), min(int(star["x"] + reach) + 2, nx)
        y0, y1 = max(int(star["y"] - reach), 0), min(int(star["y"] + reach) + 2, ny)
        dy, dx = np.arange(y0, y1)[:, None] - star["y"], np.arange(x0, x1) - star["x"]
        out[y0:y1, x0:x1] |= dy**2 + dx**2 <= reach**2
    return out


def _starlight(rest: np.ndarray, ignore: np.ndarray, bad: np.ndarray, fwhm: float) -> np.ndarray:
    """Where there is light on the scale of stars, and one FWHM around; `ignore` does not count for the noise."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    smooth = gaussian_filter(np.where(bad, np.float32(0), rest), max(fwhm / 2.355, 1.0))
    return maximum_filter(smooth > STARLIGHT * _scatter(smooth[~ignore]), 2 * int(np.ceil(fwhm)) + 1)


def _scatter(values: np.ndarray) -> float:
    """Robust standard deviation about 0 of some of the values."""
    some = values[:: max(values.size // 200_000, 1)]
    return 1.4826 * float(np.median(np.abs(some))) if some.size else 0.0
