"""Master bias, dark and flat: frames reduced as they are read, checked against each other, combined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

from . import clipping, estimate, ordering, pile, quality
from .faults import flag_dead, flag_hot
from .frame import Frame, Mask, Unusable, printable

OF_ONE = ("FLFRAME", "FLPIXELS")  # cards that name a single frame
SEEN = 1.02  # a scatter by so much above the claimed one is more than the error of its measurement


@dataclass(frozen=True)
class Master(Frame):
    """A combined calibration frame.

    count   uint16 (ny, nx), number of frames that count in each pixel
    inputs  (name, identity of the content, why it was left out or "") of each frame
    """

    count: np.ndarray | None = None
    inputs: tuple[tuple[str, str, str], ...] = ()


def master_bias(
    frames: Iterable[Frame],
    expected: int,
    memory: float = 1000e6,
    scale: str = "none",
    weight: str = "none",
    level_limit: float | None = 1.0,
    scatter_limit: float | None = 1.5,
    structure_limit: float | None = 0.5,
    pixel_limit: float | None = 0.001,
    **combination,
) -> Master:
    """Master bias of reduced bias frames (trimmed, with sigma, in the master's unit).

    frames, expected, memory  frames, how many there will be about, and bytes that the pile of them may take
    scale   what brings frames to each other before they are combined: none; "level": each to the mean of their levels;
            "exposure": each to the median of their exposures
    weight  "noise": an average weighs each frame by 1 / (median sigma)^2; none
    *_limit what makes a frame unlike the others, see `quality.odd_ones`
    combination  method, clip, low, high, iterations, nlow, nhigh as in `pile.combine`
    Frames that are unlike the others are left out with a word. The header has, beside the median claimed sigma
    (FLNOISE), the scatter of one frame that was observed (FLSCATTR) and its ratio to the claimed one (FLSIGRAT).
    Raises Unusable where there is no frame.
    """
    limits = quality.Limits(level_limit, scatter_limit, structure_limit, pixel_limit)
    return _combined(frames, expected, memory, "bias", limits, combination, scale, weight)


def master_dark(
    frames: Iterable[Frame],
    expected: int,
    memory: float = 1000e6,
    hot: float = 10.0,
    known_level: bool = True,
    scale: str = "none",
    weight: str = "none",
    level_limit: float | None = 1.0,
    scatter_limit: float | None = 1.5,
    structure_limit: float | None = 0.5,
    pixel_limit: float | None = 0.001,
    **combination,
) -> Master:
    """Master dark with its bias in it; see `master_bias`.

    hot     pixels that stand out from their neighbourhood by more than this many sigmas of the master get the bit BAD
    known_level  False where the frames' sigmas lack the noise of the dark current, since no bias told how much of the
            level it is: then the variance that was observed beyond the claimed one is added
    """
    limits = quality.Limits(level_limit, scatter_limit, structure_limit, pixel_limit)
    master = _combined(frames, expected, memory, "dark", limits, combination, scale, weight, known_level=known_level)
    return flag_hot(master, hot)


def master_flat(
    frames: Iterable[Frame],
    expected: int,
    memory: float = 1000e6,
    normalise: str = "median",
    dead: float = 0.5,
    lowest: float = 0.1,
    saturated: float = 0.1,
    faintest: float | None = None,
    stars: bool = True,
    weight: str = "none",
    scatter_limit: float | None = 2.0,
    structure_limit: float | None = 0.01,
    pixel_limit: float | None = 0.003,
    **combination,
) -> Master:
    """Master flat: each frame brought to its own level (its median), combined, normalised.

    frames      in electrons or ADU after bias and dark
    normalise   statistic over good pixels that becomes 1: median or mean
    dead        pixels whose response is below this share of their neighbourhood's get the bit BAD
    lowest      response under which nothing is divided: bit LOW_FLAT
    saturated   share of saturated pixels above which a frame is left out
    faintest    level, in the frames' unit, below which a frame is left out; None for 5 times the noise of a pixel
    stars       look in each frame for what stands out from the others (stars in a twilight sky) and leave it out
    The rest as in `master_bias`; structure in shares of the level. Raises Unusable where no frame is left.
    """
    if normalise not in ("median", "mean"):
        raise ValueError(f"normalise {normalise!r}: median or mean?")
    left_out = []
    limits = quality.Limits(None, scatter_limit, structure_limit, pixel_limit, relative=True)
    levelled = _levelled(frames, saturated, faintest, left_out)
    master = _combined(
        levelled, expected, memory, "flat", limits, combination, "none", weight, stars=stars, left_out=left_out
    )
    good = master.data[(master.mask & Mask.UNUSABLE) == 0]
    if not len(good):
        why = master.header.get("FLNOTE", "none of them has a pixel that is good")
        raise Unusable(f"no usable flat frame, divided by its level: {why}")
    level = np.float32(good.mean(dtype=float) if normalise == "mean" else ordering.median_of(good, True))
    if not level > 0:
        raise Unusable(f"no usable flat frame: the {normalise} of what they make is {level:.3g}, not above zero")
    master = master.with_(
        {"FLNORM": (normalise, "statistic over good pixels that is 1"), "FLLEVEL": (1.0, f"{normalise} level")},
        data=master.data / level,
        sigma=master.sigma / level,
        unit="",
    )
    return flag_dead(master, dead, lowest)


@dataclass
class _Gathered:
    """Frames of one size and unit, and what has to be known of each before they are combined."""

    held: pile.Pile
    unit: str
    headers: list[fits.Header] = field(default_factory=list)
    masks: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # where bits are set, and which
    samples: list[quality.Sample] = field(default_factory=list)

    def add(self, frame: Frame) -> None:
        poor = (frame.mask & (Mask.UNUSABLE | Mask.SATURATED)) != 0
        self.held.add(frame.data, frame.sigma, poor.view(np.uint8))
        where = np.flatnonzero(frame.mask)
        self.masks.append((where, frame.mask.flat[where]))
        self.samples.append(quality.sample(frame.data, frame.sigma, poor))
        self.headers.append(frame.header)

    def drop(self, numbers) -> None:
        self.held.drop(numbers)
        for part in (self.headers, self.masks, self.samples):
            part[:] = [one for number, one in enumerate(part) if number not in numbers]

    def common_mask(self) -> np.ndarray:
        """The bits that a pixel has in every frame."""
        common = np.full(self.held.shape, 255, np.uint8)
        for where, bits in self.masks:
            mask = np.zeros(self.held.shape, np.uint8)
            mask.flat[where] = bits
            common &= mask
        return common


def _combined(
    frames,
    expected,
    memory,
    kind,
    limits,
    combination,
    scale="none",
    weight="none",
    stars=False,
    left_out=None,
    known_level=True,
) -> Master:
    left_out = [] if left_out is None else left_out
    gathered = {}
    try:
        for frame in frames:
            form = (frame.shape, frame.unit)
            if form not in gathered:  # strangers wait in a file until it is known who is in the majority
                gathered[form] = _Gathered(pile.Pile(frame.shape, expected, 0 if gathered else memory), frame.unit)
            gathered[form].add(frame)
        if not gathered:
            raise Unusable(f"no usable {kind} frame" + (f": {left_out[0][2]}" if left_out else ""))
        most = max(gathered.values(), key=lambda one: one.held.count)
        for one in gathered.values():
            if one is not most:
                form = f"{one.held.shape[1]}x{one.held.shape[0]} {one.unit}"
                others = f"{most.held.shape[1]}x{most.held.shape[0]} {most.unit}"
                for header in one.headers:
                    _leave_out(left_out, header, f"it is {form}, most are {others}")
                one.held.close()
        most.held.memory = memory
        return _made(most, kind, limits, combination, scale, weight, stars, left_out, known_level)
    finally:
        for one in gathered.values():
            one.held.close()


def _made(gathered: _Gathered, kind, limits, combination, scale, weight, stars, left_out, known_level) -> Master:
    odd, note = quality.odd_ones(gathered.samples, limits, gathered.unit)
    for number, reason in odd.items():
        _leave_out(left_out, gathered.headers[number], reason)
    gathered.drop(odd)
    if note:
        print(note)
    held, headers = gathered.held, gathered.headers
    scales = _scales(gathered.samples, headers, scale)
    if stars and held.count > 2:
        _leave_out_stars(gathered)
    noises = np.array([one.sigma for one in gathered.samples]) * (1 if scales is None else scales)
    lacking = 0.0 if known_level else _lacking_variance(gathered.samples, scales)
    gathered.samples.clear()
    weights = (noises.min() / noises) ** 2 if weight == "noise" and (noises > 0).all() else None
    data, sigma, count, variance, ratio = pile.combine_observed(
        held, weights=weights, scales=scales, beside=lacking, **combination
    )
    if combination.get("method") == "sum":  # what is subtracted from one frame has the level of one frame
        data, sigma = data / np.float32(held.count), sigma / np.float32(held.count)
    mask = gathered.common_mask()
    emptied = (count == 0) & (mask & Mask.UNUSABLE == 0)
    ranks = combination.get("nlow", 0) + combination.get("nhigh", 1)
    doubts = clipping.doubts(combination.get("clip", ""), held.count, ranks, emptied)
    note = "; ".join(filter(None, (note, *doubts)))
    header = headers[0].copy()
    for key in OF_ONE:
        header.remove(key, ignore_missing=True)
    if lacking:
        header["SIGMASRC"] = ("measured", "sigma raised to the scatter of the frames")
    if scale == "exposure":
        header["EXPTIME"] = float(np.median([one["EXPTIME"] for one in headers]))
    for key, value in _cards(kind, gathered, data, sigma, variance, ratio, left_out, note).items():
        header[key] = value
    # A pixel that every calibration frame has saturated is a fault of the detector, not a bright star. And what no frame
    # knows, each for its own reason, cannot be trusted either.
    fault = ((mask & Mask.SATURATED) != 0) | emptied
    mask = np.where(fault, mask | np.uint8(Mask.BAD), mask) & ~np.uint8(Mask.SATURATED | Mask.INTERPOLATED)
    nothing = ~np.isfinite(data)
    if nothing.any():
        data, sigma = np.where(nothing, np.float32(0), data), np.where(nothing, np.float32(0), sigma)
        mask = np.where(nothing, mask | np.uint8(Mask.NO_DATA), mask)
    inputs = tuple((*_named(one), "") for one in headers) + tuple(left_out)
    return Master(data, header, sigma, mask, gathered.unit, count=count, inputs=inputs)


def _cards(kind, gathered: _Gathered, data, sigma, variance, ratio, left_out, note) -> dict:
    headers, n = gathered.headers, len(gathered.headers)
    unit = "of level" if kind == "flat" else gathered.unit
    cards = {
        "IMAGETYP": f"master {kind}",
        "NCOMBINE": (n, "frames combined"),
        "FLLEVEL": (_median(data), "median level"),
        "FLNOISE": (_median(sigma), "median sigma"),
        "NLEFTOUT": (len(left_out), "frames left out"),
    }
    if kind == "flat":
        levels = [one["FLATLEV"] for one in headers]
        cards["FLATLEV"] = (float(np.median(levels)), "median level of the flats, in their unit")
    observed, over = (_median(one) ** 0.5 for one in (variance, ratio))
    if np.isfinite(observed):
        cards["FLSCATTR"] = (observed, f"[{unit}] scatter of one frame about master")
        if np.isfinite(over):
            cards["FLSIGRAT"] = (over, "that scatter over the claimed sigma")
    for number, one in enumerate(headers[:999], 1):
        cards[f"INPUT{number:03d}"] = str(one.get("FLFRAME", ""))[:60]
    for number, (name, _, reason) in enumerate(left_out[:999], 1):
        cards[f"LEFT{number:03d}"] = printable(f"{name}: {reason}")
    if n < 3:
        few = {1: "one frame only: nothing could be rejected", 2: "two frames only: hardly anything could be rejected"}
        note = few[n]
    if note:
        cards["FLNOTE"] = note
    return cards


def _median(image: np.ndarray) -> float:
    """Median of what is known; NaN for nothing."""
    return ordering.median_of(image if np.isfinite(image.sum()) else image[~np.isnan(image)])


def _levelled(frames: Iterable[Frame], saturated: float, faintest: float | None, left_out: list):
    """Flats divided by their own level, the median of good pixels; useless ones left out with a word in the log."""
    for frame in frames:
        name = frame.header.get("FLFRAME", "flat")
        burnt = np.count_nonzero(frame.mask & Mask.SATURATED) / frame.mask.size
        good = (frame.mask & Mask.UNUSABLE) == 0
        if not good.any():
            _leave_out(left_out, frame.header, "it has no good pixel")
            continue
        level, noise = ordering.median_of(frame.data[good], True), ordering.median_of(frame.sigma[::4, ::4])
        dimmest = 5 * noise if faintest is None else faintest
        if not level > 0:
            _leave_out(left_out, frame.header, f"level {level:.1f} {frame.unit}, no light in it")
        elif burnt > saturated:
            _leave_out(
                left_out,
                frame.header,
                f"{burnt:.0%} of it saturated, more than {saturated:.0%} (master_flat: saturated)",
            )
        elif level < dimmest:
            why = f"5 times its noise of {noise:.1f}" if faintest is None else f"{faintest:.1f}"
            _leave_out(left_out, frame.header, f"level {level:.1f} {frame.unit} is below {why} (master_flat: faintest)")
        else:
            print(f"{name}: level {level:.1f} {frame.unit}")
            by = np.float32(level)
            yield frame.with_({"FLATLEV": float(level)}, data=frame.data / by, sigma=frame.sigma / by)


def _leave_out(left_out: list, header: fits.Header, reason: str) -> None:
    name, content = _named(header)
    print(f"left out {name}: {reason}")
    left_out.append((name, content, reason))


def _named(header: fits.Header) -> tuple[str, str]:
    """Name and identity of the content of a frame."""
    return str(header.get("FLFRAME", "a frame")), str(header.get("FLPIXELS", ""))


def _scales(samples, headers, scale: str) -> np.ndarray | None:
    """What each frame is multiplied by; None where that is nothing."""
    if scale == "none":
        return None
    if scale not in ("level", "exposure"):
        raise ValueError(f"scale {scale!r}: none, level or exposure?")
    if scale == "level":
        levels = np.array([one.level for one in samples])
        fault, target = "has no level above zero", levels.mean()
    else:
        levels = np.array([float(one.get("EXPTIME") or 0) for one in headers])
        fault, target = "has no exposure time", np.median(levels)
    for header, level in zip(headers, levels, strict=True):
        if not level > 0:
            raise Unusable(f"scale: {scale}, but {header.get('FLFRAME', 'a frame')} {fault}: set scale to none?")
    return target / levels


def _leave_out_stars(gathered: _Gathered) -> None:
    """Flag as poor, in each flat that has any, what stands out from the median of all."""
    starry = [number for number, share in enumerate(quality.standing_out(gathered.samples)) if share > 1e-4]
    if not starry:
        return
    held = gathered.held
    reference, error, count = pile.combine(held, "median", "sigclip", 4.0, 4.0)
    for number in starry:
        data, sigma, flags = held.image(number)
        # Where the others know nothing the frame would be compared with itself.
        known = (flags == pile.GOOD) & (count > 1)
        found = quality.stars(data - reference, np.hypot(sigma, error), ~known)
        print(f"{gathered.headers[number].get('FLFRAME', 'flat')}: {found.mean():.2%} of it under stars")
        held.flag(number, np.where(found & (flags == pile.GOOD), np.uint8(pile.POOR), flags))


def _lacking_variance(samples: list[quality.Sample], scales: np.ndarray | None) -> float:
    """Variance of a pixel that frames show among each other beyond what their sigmas claim; 0 where that is little."""
    if len(samples) < 2:
        return 0.0
    factors = np.ones(len(samples)) if scales is None else scales
    values = np.stack([np.where(one.poor, np.nan, one.values * by) for one, by in zip(samples, factors, strict=True)])
    seen = np.var(values, axis=0, ddof=1)  # NaN where one of them is poor
    observed = float(np.nanmedian(seen)) * float(estimate.chi_correction(len(samples))[-1])
    claimed = float(np.median([one.sigma * by for one, by in zip(samples, factors, strict=True)])) ** 2
    return observed - claimed if observed > SEEN**2 * claimed else 0.0
