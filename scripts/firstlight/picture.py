"""From the stacks of a target to a picture: linear colours, then the stretch.

Everything here works on arrays. A stack is (data, mask, sigma): data float32 (ny, nx), any linear unit, NaN where
there is no data; mask uint8 (ny, nx), bits of `Mask`, or None; sigma is not used and may be None. Rows are in FITS
order (row 0 at the bottom) until `to_uint8` or `to_uint16` turns a finished image over for files that begin at the top.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .backdrop import SAMPLE, Backdrop
from .balance import Balance, balanced
from .channels import channels
from .cores import colour_cores
from .planes import Plane, check, matched, planes

SKY_GREY = 0.08  # where the automatic softening puts the empty sky, 0 black to 1 white
# Sky noises below the sky that are black: few enough to use the range, many enough not to cut off the noise.
BLACK = 4.0
NARROW = 2.0  # pix, FWHM of stars whose wings fall by more from pixel to pixel than their widths are known to
FAINTEST_WHITE = 50.0  # sky noises: without anything brighter the range is not stretched further, or noise fills it


@dataclass(frozen=True)
class Linear:
    """A picture before its stretch, proportional to light, the sky at 0.

    parts         which stacks make which channel, as `channels` says
    colours       float32 (ny, nx) each: red, green, blue, or the one grey channel; 0 where nothing has data
    luminance     float32 (ny, nx) where a filter gives the brightness, else None
    noise         of the brightness (the mean of the colours weighted with 1 / noise, or the luminance); colour_noise: the
                  root mean square of the channels'
    seen          bool (ny, nx), where any filter has data
    clipped       bool (ny, nx), where any filter is saturated; everywhere: where all are
    balance       factors of the filters, and where they are from; skies: what was taken away of each
    seeing        FWHM [pix] and Moffat exponent of each of the colours, where they are known and differ
    """

    parts: dict[str, list[str]]
    colours: list[np.ndarray]
    luminance: np.ndarray | None
    light: np.ndarray
    noise: float
    colour_noise: float
    seen: np.ndarray
    clipped: np.ndarray
    everywhere: np.ndarray
    balance: Balance
    skies: dict[str, Backdrop]
    seeing: list[tuple[float, float]] | None = None

    @property
    def names(self) -> list[str]:
        """Names of `colours`: R, G, B, or L."""
        return list("RGB") if len(self.colours) == 3 else ["L"]


def linear(
    stacks: dict,
    mapping=None,
    palette: str = "auto",
    background: str = "plane",
    balance="catalogue",
    white_star: str = "G2V",
    match_psf: bool = False,
    stars: np.ndarray | None = None,
    band: str = "",
    fwhm: dict[str, float] | None = None,
    beta: dict[str, float] | None = None,
) -> Linear:
    """The linear colours of a target: sky taken away, white balance done.

    stacks      {filter: (data, mask, sigma)} on one grid
    mapping, palette   as in `channels`
    background  "constant", "plane" or "surface", as in `backdrops`
    balance, white_star, stars, band   as in `balanced`
    match_psf   whether the filters of the colours are brought to the widest of them
    fwhm, beta  {filter: pixels} and {filter: Moffat exponent} of the stars, where they are known
    Where a filter has no data the others stand in for it.
    Raises ValueError for stacks of different sizes, a filter without a good pixel, or an option that does not exist.
    """
    check(stacks)
    parts = channels(stacks, mapping, palette)
    fwhm = fwhm or {}
    if match_psf:
        stacks = matched(stacks, fwhm, [name for channel in parts if channel != "L" for name in parts[channel]], beta)
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    found = planes(stacks, names, background)
    widest = max((fwhm.get(name) or 3.0 for name in names), default=3.0)
    factors = balanced(found, balance, white_star, stars, band, widest)
    for name, plane in found.items():
        plane.data *= np.float32(factors.factors[name])
        plane.noise *= factors.factors[name]
    seeing = None if match_psf else _seeing(parts, fwhm, beta or {})
    return replace(_mixed(parts, found, factors), seeing=seeing)


def stretched(
    picture: Linear,
    stretch: str = "asinh",
    black: float | None = None,
    white: float | None = None,
    softening: float | None = None,
    saturation: float = 1.0,
    smooth_colour: bool = True,
    saturated: str = "wings",
) -> np.ndarray:
    """The picture as it is seen: float32 (ny, nx, 3), or (ny, nx) if it is grey, from 0 to 1, rows in FITS order.

    stretch    "asinh", "lupton" or "linear"
    black      what is black, in sky noises below the sky (0 or more, default 4)
    white      what is white, in sky noises above the sky (default: what 2 pixels in 10,000 exceed, at least 50)
    softening  where asinh turns from linear to logarithmic, in sky noises (default: so that the sky is at 0.08)
    saturation  1 keeps the colours' ratios, 0 is grey
    smooth_colour  average the colour, not the brightness, over about 7 pixels where noise rules
    saturated  "wings": a core that is saturated in any filter has the colour of the 4 pixels around it; "white": it has no
               colour, and is white where it is saturated in every filter, as it always is in a grey picture; "mean": it
               is shown by its values

    With c a channel less its sky, I the brightest channel of the pixel, and b the black level:
        out_c = (c + b) F(I) / (I + b),   F(I) = asinh((I + b) / softening) / asinh((white + b) / softening)
    and a pixel with a channel above 1 is divided by it: the channels keep their ratios up to the brightest core. With
    "lupton" I is the mean of the three, as in Lupton et al. 2004, PASP 116, 133 (a red nebula is then flat long before
    it is white); with "linear" F(I) = (I + b) / (white + b). "Sky noise" is the geometric mean of the noise of one
    channel and sqrt(3) times that of their mean; they are equal where the channels are equally deep. With a luminance,
    c is it plus what c differs from the colours' mean. Where nothing has data the picture is black.
    Raises ValueError for an option that does not exist.
    """
    for what, value, known in (
        ("stretch", stretch, ("asinh", "lupton", "linear")),
        ("saturated", saturated, ("wings", "white", "mean")),
    ):
        if value not in known:
            raise ValueError(f"{what} is {value!r} but must be one of {', '.join(known)}")
    colours, light = [colour.copy() for colour in picture.colours], picture.light
    unit = _or_small(picture.noise, light)
    if len(colours) == 3:
        if picture.luminance is not None:
            for colour in colours:
                colour += picture.luminance - light
            light = picture.luminance
        colour_noise = _or_small(picture.colour_noise, light)
        unit = float(np.sqrt(np.sqrt(3) * unit * colour_noise))
        if saturated == "wings":
            colour_cores(colours, picture.clipped, picture.seen, picture.seeing)
        elif saturated == "white":
            highest = np.maximum.reduce([colour[picture.clipped] for colour in colours])
            for colour in colours:
                colour[picture.clipped] = highest
        _calm(colours, light, colour_noise if smooth_colour else 0.0, saturation)
        light = (
            sum(colours) / np.float32(3) if stretch == "lupton" else np.maximum(np.maximum(*colours[:2]), colours[2])
        )
    else:
        light = colours[0].copy()
    _stretch(colours, light, _limits(light, picture.seen, unit, black, white, softening), stretch)
    image = np.stack(colours, axis=-1) if len(colours) == 3 else colours[0]
    if saturated == "white" or (saturated == "wings" and image.ndim == 2):
        image[picture.everywhere] = 1
    image[~picture.seen] = 0
    return image


def render(stacks: dict, mapping=None, **options) -> np.ndarray:
    """`linear` and `stretched` in one, with the options of both."""
    kinds = "palette background balance white_star match_psf stars band fwhm beta".split()
    first = {name: options.pop(name) for name in kinds if name in options}
    return stretched(linear(stacks, mapping, **first), **options)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """A rendered image (0 to 1, FITS rows) as uint8 with the top row first, as PNG wants it."""
    return _integers(image, np.uint8)


def to_uint16(image: np.ndarray) -> np.ndarray:
    """A rendered image (0 to 1, FITS rows) as uint16 with the top row first, as TIFF wants it."""
    return _integers(image, np.uint16)


# Mixing


def _mixed(parts: dict, found: dict[str, Plane], balance: Balance) -> Linear:
    """The channels and their brightness, from balanced planes."""
    common = {
        "parts": parts,
        "seen": np.logical_or.reduce([plane.seen for plane in found.values()]),
        "clipped": np.logical_or.reduce([plane.clipped for plane in found.values()]),
        "everywhere": np.logical_and.reduce([plane.clipped for plane in found.values()]),
        "balance": balance,
        "skies": {name: plane.sky for name, plane in found.items()},
    }
    if "R" not in parts:
        light, _ = _mean_of(parts["L"], found)
        noise = _noise_of(parts["L"], found)
        return Linear(colours=[light], luminance=None, light=light, noise=noise, colour_noise=noise, **common)
    colours, has = zip(*(_mean_of(parts[key], found) for key in "RGB"), strict=True)
    each = np.array([_noise_of(parts[key], found) for key in "RGB"])
    weights = 1 / each if each.all() else np.ones(3)
    weights = (weights / weights.sum()).astype(np.float32)
    mean = sum(w * colour for w, colour in zip(weights, colours, strict=True))
    if not np.logical_and.reduce(has).all():
        mean /= np.maximum(sum(w * one for w, one in zip(weights, has, strict=True)), weights.min() / 2)
        colours = [np.where(one, colour, mean) for colour, one in zip(colours, has, strict=True)]
    noise, rms = float(np.sqrt(((weights * each) ** 2).sum())), float(np.sqrt((each**2).mean()))
    luminance = None
    if "L" in parts:
        luminance, has = _mean_of(parts["L"], found)
        luminance = np.where(has, luminance, mean)
        noise = _noise_of(parts["L"], found)
    return Linear(colours=list(colours), luminance=luminance, light=mean, noise=noise, colour_noise=rms, **common)


def _seeing(parts: dict, fwhm: dict, beta: dict) -> list[tuple[float, float]] | None:
    """Mean FWHM and exponent of each colour's filters (4 where it is not known); None where a colour has no FWHM, or so small
    a one that it tells nothing of wings some pixels away."""
    if "R" not in parts or not all(fwhm.get(name) for key in "RGB" for name in parts[key]):
        return None
    means = [
        (np.mean([fwhm[name] for name in parts[key]]), np.mean([beta.get(name) or 4.0 for name in parts[key]]))
        for key in "RGB"
    ]
    if min(width for width, _ in means) < NARROW:
        return None
    return [(float(width), float(exponent)) for width, exponent in means]


def _mean_of(names: list, found: dict[str, Plane]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the planes that have data at each pixel, and where any has."""
    if len(names) == 1:
        return found[names[0]].data, found[names[0]].seen
    count = sum(found[name].seen.astype(np.uint8) for name in names)
    total = sum(found[name].data for name in names)
    return total / np.maximum(count, 1).astype(np.float32), count > 0


def _noise_of(names: list, found: dict[str, Plane]) -> float:
    return float(np.sqrt(sum(found[name].noise ** 2 for name in names))) / len(names)


def _or_small(noise: float, light: np.ndarray) -> float:
    """The noise; of an image without any (a drawn one) a thousandth of its brightest pixel."""
    return noise or float(light.max()) / 1000 or 1.0


# Colour


def _calm(colours: list, light: np.ndarray, noise: float, saturation: float) -> None:
    """Scale what differs from the brightness, smoothed where that is below 20 noises, wholly below 5."""
    if noise > 0:
        faint = np.clip((np.float32(20 * noise) - light) / np.float32(15 * noise), 0, 1)
        near = np.maximum(_smooth(faint), np.float32(1e-6))
    for colour in colours:
        colour -= light
        if noise > 0:
            # Weighted with the faintness, so that no bright star's colour leaks into the sky around it.
            colour += faint * (_smooth(faint * colour) / near - colour)
        if saturation != 1:
            colour *= np.float32(saturation)
        colour += light


def _smooth(image: np.ndarray) -> np.ndarray:
    """Mean over about 7 pixels, on pairs of rows and columns: fine enough for colour, in a quarter of the time."""
    ny, nx = image.shape
    padded = np.pad(image, ((0, ny % 2), (0, nx % 2)), mode="edge") if ny % 2 or nx % 2 else image
    pairs = padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]
    wide = np.pad(pairs, 2, mode="edge")
    for n in pairs.shape:  # rows, then columns, by turning the image over twice: 1 2 3 2 1 is a mean of 3 twice
        wide = wide[:n] + wide[4 : n + 4] + 2 * (wide[1 : n + 1] + wide[3 : n + 3]) + 3 * wide[2 : n + 2]
        wide = wide.T
    wide *= np.float32(1 / 324)
    return wide.repeat(2, axis=0).repeat(2, axis=1)[:ny, :nx]


# Stretch


def _stretch(colours: list, light: np.ndarray, limits: tuple, stretch: str) -> None:
    """Replace the linear channels by 0 to 1, ratios kept; `light` is used up."""
    black, white, softening = (np.float32(value) for value in limits)
    light += black
    np.maximum(light, np.float32(1e-6) * softening, out=light)
    if stretch == "linear":
        factor = np.full_like(light, 1 / (white + black))
    else:
        factor = np.arcsinh(light / softening)
        factor /= np.arcsinh((white + black) / softening) * light
    for colour in colours:
        colour += black
        colour *= factor
        np.maximum(colour, 0, out=colour)
    highest = np.maximum(colours[0], 1)
    for colour in colours[1:]:
        np.maximum(highest, colour, out=highest)
    for colour in colours:
        colour /= highest


def _limits(light: np.ndarray, seen: np.ndarray, unit: float, black, white, softening) -> tuple:
    """Black, white and softening in the stack's unit, from sky noises or, where None, from the image."""
    black = BLACK if black is None else float(black)
    if white is None:
        step = max(1, int(np.sqrt(light.size / SAMPLE)))
        sample = light[::step, ::step][seen[::step, ::step]]
        tail = float(np.percentile(sample, 99.98)) / unit if sample.size else 0.0
        white = max(tail, FAINTEST_WHITE, black * (1 / SKY_GREY - 1))
    # With black at the sky the curve is that of the usual black: no curve could lift the sky to grey.
    softening = _softening(black or BLACK, float(white)) if softening is None else float(softening)
    return black * unit, float(white) * unit, softening * unit


def _softening(black: float, white: float) -> float:
    """The s of asinh(black / s) = SKY_GREY asinh((white + black) / s), by bisection: it puts the sky at SKY_GREY."""
    low, high = 1e-9 * black, 1e4 * (white + black)
    for _ in range(100):
        middle = np.sqrt(low * high)
        sky = np.arcsinh(black / middle) / np.arcsinh((white + black) / middle)
        low, high = (low, middle) if sky < SKY_GREY else (middle, high)
    return float(middle)


def _integers(image: np.ndarray, kind) -> np.ndarray:
    top = np.iinfo(kind).max
    return np.ascontiguousarray((np.clip(image[::-1], 0, 1) * np.float32(top) + np.float32(0.5)).astype(kind))
