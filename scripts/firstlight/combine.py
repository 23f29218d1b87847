"""One image per target and filter from the frames on its grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

from . import clipping, drizzling, filling, honesty, merging, pile, products, rejection, scaling, selection
from .frame import Frame, Unusable, printable

CLIPPINGS = ("auto", *pile.CLIPPINGS)
WEIGHTS = ("noise", "noise+fwhm", "none")
FRAME = 10  # bytes of a frame's pixel: data, sigma, mask, share of the masters


@dataclass
class Stack:
    """A combined image.

    frame     the image, its sigma, mask and header
    coverage  uint16 (ny, nx), frames that count in each pixel
    weight    float32 (ny, nx), sum of the weights that count, 1 where all do
    rejected  uint16 (ny, nx), values that were rejected
    inputs    table with a row for each frame, those left out by a limit included
    """

    frame: Frame
    coverage: np.ndarray
    weight: np.ndarray
    rejected: np.ndarray
    inputs: np.ndarray

    @property
    def planes(self) -> dict[str, tuple[np.ndarray, str]]:
        """The images beside the frame's own, as {extension: (image, what it is)}."""
        return {
            "COVERAGE": (self.coverage, "number of frames that count in each pixel"),
            "WEIGHT": (self.weight, "sum of the weights that count, 1 where all frames do"),
            "REJECTED": (self.rejected, "number of values that were rejected"),
        }


@dataclass(eq=False)  # arrays do not compare
class Input:
    """One frame on the grid and what is known of it.

    read()  gives the aligned Frame; called twice, once where memory holds all frames
    fwhm [pix], noise of a pixel of the sky [unit], exposure [s]: 0 where unknown; header of the aligned frame
    The rest is found as frames are combined: fluxes of the grid's stars, medians of blocks, where on the lattice of
    `honesty` there are data, what the masters brought of the variance, ... ; despite: why it would be left out, were there
    more frames.
    """

    name: str
    read: Callable[[], Frame]
    fwhm: float
    noise: float
    exposure: float
    header: fits.Header = field(default_factory=fits.Header)
    unit: str = ""
    flux: np.ndarray = field(default_factory=lambda: np.zeros(0))
    blocks: np.ndarray | None = None
    seen: np.ndarray | None = None
    common: float = 0.0
    scale: float = 1.0
    weight: float = 1.0
    offset: float = 0.0
    transparency: float = np.nan
    rejected: float = 0.0
    depth: float = 0.0
    note: str = ""
    despite: str = ""
    frame: Frame | None = None  # kept from the first reading

    def taken(self) -> Frame:
        """The frame, which is not kept any longer."""
        frame, self.frame = self.frame, None
        return self.read() if frame is None else frame

    @property
    def factors(self) -> np.ndarray:
        """Noise in circles over what pixels' sigmas tell (5), for `honesty.RADII`."""
        return honesty.factors_of(self.header)

    @property
    def depth_noise(self) -> float:
        """Noise of the sky of the scaled frame as it counts for stars and blocks, per pixel.

        Resampling makes pixels quieter by sharing their noise with neighbours; sums over some pixels are not quieter.
        """
        return self.scale * self.noise * honesty.factor_at(5, self.factors)


def usable(frames: list[tuple[str, fits.Header]], read: Callable) -> tuple[list[Input], list[tuple[str, str]]]:
    """The inputs among aligned frames, given as (path, header), and (name, reason) for those that were dropped.

    read(path) gives a Frame. Frames in another unit than most are dropped.
    """
    inputs, dropped = [], []
    units = [header.get("BUNIT") for _, header in frames if header.get("FLSTATUS") != "dropped"]
    unit = max(set(units), key=lambda u: (units.count(u), u), default="")
    for path, header in frames:
        name = str(header.get("FLFRAME", path))
        if header.get("FLSTATUS") == "dropped":
            dropped.append((name, f"{header.get('FLSTEP')}: {header.get('FLREASON')}"))
        elif header.get("BUNIT") != unit:
            dropped.append((name, f"combine: in {header.get('BUNIT')}, the others in {unit}: same gain for all?"))
        else:
            numbers = (float(header.get(key) or 0.0) for key in ("FWHM", "SKYNOISE", "EXPTIME"))
            inputs.append(Input(name, lambda path=path: read(path), *numbers, header))
    return inputs, dropped


def combine(
    inputs: list[Input],
    stars: np.ndarray,
    photometric_reference: str = "",
    method: str = "average",
    clip: str = "auto",
    low: float | None = None,
    high: float | None = None,
    iterations: int = 2,
    nlow: int = 0,
    nhigh: int = 1,
    scale: str = "stars",
    weight: str = "noise",
    background: str = "plane",
    memory: float = 1000e6,
    threads: int = 1,
    limits: dict | None = None,
    drizzle: dict | None = None,
    lights: dict | None = None,
    grid_wcs=None,
) -> Stack:
    """Combine frames on one grid, given in the order of their times.

    stars       x, y, fwhm of the grid's stars: fluxes are compared at these positions
    photometric_reference  name of the frame whose flux scale and sky the stack takes, if it is among the inputs; else
                the frame that would weigh most
    scale       "stars", "catalogue", "exposure" or "none", see `scaling.scales`
    weight      one number per frame of an average: "noise": 1 / (scale x sky noise)^2; "noise+fwhm": that over FWHM^2; "none"
    background  difference to the other frames in sky that is taken out, see `scaling.surfaces`
    clip        "auto": values are measured against what is known of their own noise and of the centre's, with limits that
                fit the number of frames, and what one frame alone has of light is looked for (`rejection`, `trails`);
                "sigclip": the same without the search; "extrema", "minmax", "none" as in `pile.combine`
    low, high   limits in deviations; None for those that fit the number of frames. Of minmax the values themselves
    threads     at most so many parts of the work are done at a time; the result does not depend on it
    limits      see `selection.select`, with the least number of frames as `keep`
    drizzle     {scale, pixfrac}: the image on finer pixels from the lights themselves, see `drizzling.drizzled`; with scale
                None not. lights, grid_wcs as there
    Raises Unusable where there is no input, ValueError for an option that does not exist.
    """
    _check(method, clip, weight, low, high)
    fine = bool((drizzle or {}).get("scale"))
    if fine and method != "average":
        raise ValueError(
            f"combine: drizzle makes averages, but method is {method!r}: set it to average, or scale to null"
        )
    if not inputs:
        raise Unusable("no usable frame to combine")
    shape = _measure(inputs, stars, scale, memory, threads)
    inputs, left_out, reference = _selected(inputs, photometric_reference, scale, limits or {})
    weight = weight if method == "average" else "none"
    weights = _weigh(inputs, weight)
    shared = honesty.shared([one.header for one in inputs], np.stack([one.seen for one in inputs]), shape)
    noises, shares = np.array([(one.scale * one.noise, one.common) for one in inputs]).T
    common = merging.common(shared, weights, noises, shares)
    with pile.Pile(shape, len(inputs), memory) as held:
        surfaces = _surfaces(inputs, reference, background, shape)
        bits, share = _fill(held, inputs, surfaces, common, threads)
        rejected = drizzling.Rejected(shape, len(inputs)) if fine else None
        if clip in ("auto", "sigclip"):
            fitting = rejection.limits(len(inputs), low, high, iterations)
            fwhm = np.array([one.fwhm for one in inputs])
            survive = merging.survivors(held, fwhm, fitting, clip == "auto", threads)
        else:

            def among(_, values, sigmas, flags):
                return clipping.reject(values, sigmas, flags == pile.GOOD, clip, low, high, iterations, nlow, nhigh)

            survive = merging.Survivors(among, np.inf if clip == "none" else 0.0)
        tell = rejected.add if fine else None
        result = merging.merged(held, survive, method, weights, common, share, threads, tell)
    emptied = (result.coverage == 0) & (result.rejected > 0)
    notes = [
        products.few(len(inputs)),
        products.stayed(inputs),
        *clipping.doubts(clip, len(inputs), nlow + nhigh, emptied),
    ]
    stack = _stack(inputs, left_out, reference, result, bits, common, (method, clip, weight), notes)
    if not fine:
        return stack
    found = drizzling.Found(rejected, common, share, bits.seen)
    return drizzling.drizzled(stack, inputs, lights, surfaces, found, grid_wcs, **drizzle)


def _check(method: str, clip: str, weight: str, low, high) -> None:
    options = (("method", method, pile.METHODS), ("clip", clip, CLIPPINGS), ("weight", weight, WEIGHTS))
    for name, value, allowed in options:
        if value not in allowed:
            raise ValueError(f"combine: {name} {value!r} is not one of {', '.join(allowed)}")
    if clip == "minmax" and (low is None or high is None or not low < high):
        raise ValueError(
            f"combine: clip minmax keeps values from low to high, but low is {low} and high is {high}: set both"
        )


def _measure(inputs: list[Input], stars: np.ndarray, scale: str, memory: float, threads: int) -> tuple[int, int]:
    """What is to be known of all frames before they are combined, from one reading of each, and the frames themselves where
    `memory` holds them; returns their shape."""
    usual = float(np.median([one.fwhm for one in inputs if one.fwhm > 0] or [3.0]))

    def measure(one: Input):
        frame = one.read()
        one.unit = frame.unit
        if scale in ("stars", "catalogue"):
            one.flux = scaling.fluxes(frame, stars, scaling.APERTURE * (one.fwhm or usual))
        one.blocks = scaling.block_medians(frame)
        points = honesty.lattice(frame.shape)
        one.seen = np.isfinite(frame.data[points[:, 1], points[:, 0]])
        if frame.common is not None:
            some = frame.common[::7, ::7][np.isfinite(frame.data[::7, ::7])]
            one.common = float(np.median(some)) / 255 if len(some) else 0.0
        if pile.fits(frame.shape, len(inputs), memory, FRAME):
            one.frame = frame
        return frame.shape

    shapes = list(filling.side_by_side(measure, inputs, threads))
    for one, (ny, nx) in zip(inputs, shapes, strict=True):
        if (ny, nx) != shapes[0]:
            first = f"{inputs[0].name} {shapes[0][1]}x{shapes[0][0]}"
            raise ValueError(f"combine: {one.name} is {nx}x{ny} but {first}: align them to one grid")
    known = [one.noise for one in inputs if one.noise > 0]
    for one in inputs:  # unknown must not mean: outweighs all others
        one.noise = one.noise if one.noise > 0 else max(known, default=1.0)
    return shapes[0]


def _selected(inputs: list[Input], wanted: str, scale: str, limits: dict):
    """(inputs that keep the limits, those left out as (input, reason), the photometric reference), all scaled."""
    reference = _reference(inputs, wanted)
    _bring_to_scale(inputs, reference, scale)
    reasons = selection.select([_qualities(one) for one in inputs], limits, limits.get("keep", 3))
    for one in inputs:
        one.despite = reasons.back.get(one.name, "")
    if not reasons:
        return inputs, [], reference
    left_out = [(one, reasons[one.name]) for one in inputs if one.name in reasons]
    for one, _ in left_out:
        one.frame = None
    inputs = [one for one in inputs if one.name not in reasons]
    reference = _reference(inputs, wanted)
    _bring_to_scale(inputs, reference, scale)
    return inputs, left_out, reference


def _reference(inputs: list[Input], wanted: str) -> Input:
    """The photometric reference: the frame of that name; else of those that cover at least half of what any covers the one
    whose stars stand out most."""
    named = [one for one in inputs if one.name == wanted]
    if named:
        return named[0]

    # One that shows a corner of the grid would leave the others' skies with little to be compared to.
    covered = [np.isfinite(one.blocks).sum() for one in inputs]
    bright = scaling.brightness(np.stack([one.flux for one in inputs]), np.array([one.exposure for one in inputs]))
    depths = [
        (float(light) / max(one.noise, 1e-9) / (one.fwhm or 10.0), one.name, one)
        for one, light, blocks in zip(inputs, bright, covered, strict=True)
        if blocks >= 0.5 * max(covered)
    ]
    return max(depths, key=lambda depth: depth[:2])[2]


def _bring_to_scale(inputs: list[Input], reference: Input, how: str) -> None:
    """Set scale, transparency and note of each input."""
    exposure = np.array([one.exposure for one in inputs])
    zero = np.array([float(one.header.get("MAGZERO") or np.nan) for one in inputs])
    flux = np.stack([one.flux for one in inputs])
    factors, notes = scaling.scales(flux, exposure, inputs.index(reference), how, zero)
    # Stars tell the transparency a few times better than zero points, but only of frames that they tie to each other.
    tied = np.array([how in ("stars", "catalogue") and scaling.BY_EXPOSURE not in note for note in notes])
    by_flux = tied.all() or (tied.any() and not np.isfinite(zero).all())
    clear = selection.transparencies(np.where(tied, factors, np.nan), exposure, None if by_flux else zero)
    for one, factor, note, part in zip(inputs, factors, notes, clear, strict=True):
        one.scale, one.note, one.transparency = float(factor), note, float(part)


def _qualities(one: Input) -> selection.Qualities:
    def card(key):
        value = one.header.get(key)
        return float(value) if isinstance(value, (int, float)) else float("nan")

    return selection.Qualities(
        one.name,
        fwhm=one.fwhm or float("nan"),
        elongation=card("ELONG"),
        sky=one.scale * card("SKYLEVEL"),
        noise=one.scale * one.noise,
        stars=card("NSTARS"),
        transparency=one.transparency,
    )


def _weigh(inputs: list[Input], weight: str) -> np.ndarray:
    """The weights of the inputs, the heaviest 1: their squares must fit into float32, whatever the unit."""
    known = [one.fwhm for one in inputs if one.fwhm > 0]
    usual = float(np.median(known)) if known else 1.0
    for one in inputs:
        one.weight = 1.0 if weight == "none" else 1 / max(one.depth_noise, 1e-12) ** 2
        if weight == "noise+fwhm":
            one.weight *= (usual / (one.fwhm or usual)) ** 2
    weights = np.array([one.weight for one in inputs])
    weights /= weights.max()
    for one, value in zip(inputs, weights, strict=True):
        one.weight = float(value)
    return weights


def _surfaces(inputs: list[Input], reference: Input, background: str, shape) -> scaling.Surfaces:
    """What is added to each input's sky."""
    blocks, scales, noise = (np.array([getattr(one, name) for one in inputs]) for name in ("blocks", "scale", "noise"))
    found = scaling.surfaces(blocks, scales, inputs.index(reference), background, shape, noise)
    for i, (one, note) in enumerate(zip(inputs, found.notes, strict=True)):
        one.offset, one.blocks = found.mean(i), None
        one.note = "; ".join(filter(None, (one.note, note, one.despite)))
    return found


def _fill(held: pile.Pile, inputs: list[Input], surfaces: scaling.Surfaces, common: merging.Common, threads: int):
    """Put all frames on the pile; returns their bits, and the masters' share of the variance (None for none)."""
    bits = filling.Bits(held.shape)
    share = filling.Share(held.shape) if common.any else None

    def prepare(number):
        one = inputs[number]
        frame = one.taken()
        return frame, filling.on_scale(frame, one.scale, lambda rows: surfaces.of(number, rows), one.noise)

    frames = filling.side_by_side(prepare, list(range(len(inputs))), threads)
    for weight, (frame, parts) in zip(common.weights, frames, strict=True):
        held.add(*parts)
        bits.add(frame.mask, parts[2])
        if share is not None:
            share.add(weight, parts[1], frame.common, parts[2])
    return bits, None if share is None else share.image()


def _stack(inputs, left_out, reference, result: merging.Merged, bits, common, how: tuple, notes: list[str]) -> Stack:
    """The stack, with all that is told of it in its header and table."""
    noises, deep, shares = np.array([(one.scale * one.noise, one.depth_noise, one.common) for one in inputs]).T
    gained = honesty.depth_gained(common.weights, deep, shares, common.shared)
    for one, lost, gain in zip(inputs, result.lost, gained, strict=True):
        one.rejected, one.depth = float(lost) / result.data.size, float(gain)
    factors = honesty.factors_of_stack(np.stack([one.factors for one in inputs]), common.weights, noises)
    wider = np.array([common.wider(radius) for radius in honesty.RADII])
    cards = products.cards(inputs, reference, *how, factors * wider)
    notes = [*notes, honesty.dithering(common.shared, common.cost)]
    if common.shared.known:
        cards["FLDITHER"] = (round(common.shared.positions, 2), "independent positions on the detector")
    if any(notes):
        cards["FLNOTE"] = printable("; ".join(filter(None, notes)))
    mask = bits.of(result.data, result.coverage)
    if result.difference is not None:
        size = honesty.BLOCK_RADIUS
        resampled = honesty.factor_at(size, factors)
        sky = honesty.empty_sky(result.data, result.sigma, mask, resampled * common.wider(size))
        correction = resampled * common.wider(size, halves=True)
        cards |= honesty.odd_even(result.difference, result.difference_sigma, sky, correction)
    header = products.shared_header([one.header for one in inputs], reference.header)
    frame = Frame(result.data, header, result.sigma, mask, reference.unit).with_(cards)
    return Stack(frame, result.coverage, result.weight, result.rejected, products.table(inputs, left_out))
