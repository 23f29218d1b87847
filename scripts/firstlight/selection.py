"""Which frames are too poor for a stack: limits by value or by what is usual among them, with the reason in words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

NAN = float("nan")
FEWEST = 4  # frames of which a spread is told


@dataclass(frozen=True)
class Qualities:
    """What is known of a frame; NaN for unknown.

    fwhm in pixels of the grid; elongation, the ratio of axes; sky and noise, its level and the noise of a pixel, in the
    stack's unit and at its flux scale; stars, their number; transparency, see `transparencies`
    """

    name: str
    fwhm: float = NAN
    elongation: float = NAN
    sky: float = NAN
    noise: float = NAN
    stars: float = NAN
    transparency: float = NAN


@dataclass(frozen=True)
class _Kind:
    """A quality: what people call it, its unit, on which side it is bad (1 above, -1 below), and the least share of its
    median that counts as a standard deviation, so that a night of equal frames loses none."""

    words: str
    unit: str
    bad: int
    least: float

    @property
    def side(self) -> str:
        return "above" if self.bad > 0 else "below"


KINDS = {
    "fwhm": _Kind("FWHM", " pix", 1, 0.05),
    "elongation": _Kind("elongation", "", 1, 0.03),
    "sky": _Kind("sky", "", 1, 0.1),
    "stars": _Kind("number of stars", "", -1, 0.1),
    "transparency": _Kind("transparency", "", -1, 0.05),
}


class Selection(dict):
    """Reason by the name of each frame that is left out; `back` has those that stay in spite of one, as there would be
    too few frames else."""

    def __init__(self, reasons: dict[str, str], back: dict[str, str]):
        super().__init__(reasons)
        self.back = back


@dataclass
class _Fault:
    """Why a frame goes, and how far beyond its limits it is, in shares of these."""

    reasons: list[str] = field(default_factory=list)
    excess: float = 0.0


def select(frames: list[Qualities], limits: dict, keep: int = 3) -> Selection:
    """The frames that are too poor: their names and the reasons, and `back`, those that would be but are needed.

    limits  of fwhm, elongation, sky (most), stars, transparency (least), each a number, a text like "3 sigma", or None for
            no limit. In sigmas: worse than the median by so many robust ones (1.4826 times the median deviation), which are
            at least 5 % of the median (elongation 3, sky and stars 10 %); told again without those that are beyond, until
            none is, from 4 frames on.
    keep    frames that stay whatever they are like: the least bad come back, those whose excesses over their limits, as
            shares of these, are the least in sum

    Only the bad side counts, and what is unknown drops no frame. Raises ValueError for a text that is no limit.
    """
    limits = {name: value for name, value in limits.items() if value is not None and name != "keep"}
    unknown = [name for name in limits if name not in KINDS]
    if unknown:
        raise ValueError(f"limits: {unknown[0]!r} is not one of {', '.join(KINDS)}, keep")
    parsed = {name: _parsed(name, value) for name, value in limits.items()}
    left, faults = list(range(len(frames))), {}
    while left:
        found = {}
        for name, limit in parsed.items():
            for place, reason, excess in _beyond([frames[i] for i in left], name, *limit):
                fault = found.setdefault(left[place], _Fault())
                fault.reasons.append(reason)
                fault.excess += excess
        if not found:
            break
        faults |= found
        left = [i for i in left if i not in found]
    back = sorted(faults, key=lambda i: (faults[i].excess, frames[i].name))[: max(keep - len(left), 0)]
    kept = f"kept all the same, since {keep} frames are the least (limits: keep)"
    reasons, spared = {}, {}
    for i in sorted(faults):
        words = "; ".join(faults[i].reasons)
        if i in back:
            spared[frames[i].name] = f"{words}; {kept}"
        else:
            reasons[frames[i].name] = words
    return Selection(reasons, spared)


def transparencies(scales, exposures, zero_points=None) -> np.ndarray:
    """Transparency (m,) of each frame, as a fraction of the best of them.

        10^(0.4 (Z_i - Z_best)) where all frames have a zero point, else (1 / (scale_i t_i)) over that of the best

    scales       factors of flux that bring frames to one of them; exposures t [s]
    zero_points  Z [mag of flux 1 in 1 s] by the catalogue, NaN where there is none
    The best is the highest of up to 3 frames, the second of more, and the 95th percentile of many: one frame that was
    measured too bright must not make all others cloudy. NaN where neither is known. Whatever else changes the flux of a
    star, as another telescope does, counts as transparency.
    """
    scales, exposures = np.asarray(scales, float), np.asarray(exposures, float)
    zero = np.full(len(scales), NAN) if zero_points is None else np.asarray(zero_points, float)
    product = scales * exposures
    rate = 1 / np.where(np.isfinite(product) & (product > 0), product, NAN)
    if np.isfinite(zero).all():
        rate = 10 ** (0.4 * (zero - np.max(zero, initial=-np.inf)))
    told = np.sort(rate[np.isfinite(rate)])
    if not len(told):
        return rate
    return rate / (told[-1] if len(told) < FEWEST else np.quantile(told, 0.95, method="lower"))


def _parsed(name: str, value) -> tuple[float | None, float | None]:
    """(sigmas, None) or (None, value) of a limit."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return None, float(value)
    match = re.fullmatch(r"\s*([+-]?\d+\.?\d*|[+-]?\.\d+)\s*(sigmas?)?\s*", str(value))
    if not match or (match[2] and float(match[1]) <= 0):
        raise ValueError(f"limits: {name}: {value!r} is neither a number nor a text like '3 sigma'")
    return (float(match[1]), None) if match[2] else (None, float(match[1]))


def _beyond(frames: list[Qualities], name: str, sigmas: float | None, limit: float | None):
    """(place in the list, reason, excess) of the frames on the bad side of a limit."""
    kind, usual = KINDS[name], None
    values = np.array([getattr(frame, name) for frame in frames], float)
    told = values[np.isfinite(values)]
    if sigmas is not None:
        if len(told) < FEWEST:
            return
        usual = float(np.median(told))
        spread = max(1.4826 * float(np.median(np.abs(told - usual))), _least(name, usual, frames))
        limit = usual + kind.bad * sigmas * spread
    for place, own in enumerate(values):
        if kind.bad * (own - limit) > 0:
            digits = _digits(own, limit)
            why = f"limits: {name}"
            if usual is not None:
                why = f"{sigmas:g} sigma {kind.side} the median {usual:.{digits}f} of {len(told)} frames"
            reason = f"{kind.words} {own:.{digits}f}{kind.unit} is {kind.side} {limit:.{digits}f} ({why})"
            yield place, reason, float(abs(own - limit) / max(abs(limit), 1e-9))


def _least(name: str, usual: float, frames: list[Qualities]) -> float:
    """The least standard deviation of a quality: a share of the median; stars are counted, and sky that differs by less
    than the noise of a pixel harms none."""
    share = KINDS[name].least * abs(usual)
    if name == "stars":
        return max(share, abs(usual) ** 0.5)
    noise = [frame.noise for frame in frames if np.isfinite(frame.noise)]
    return max(share, float(np.median(noise))) if name == "sky" and noise else share


def _digits(own: float, limit: float) -> int:
    """Decimals that show two numbers to differ."""
    least = 0 if max(abs(own), abs(limit)) >= 100 else 1 if max(abs(own), abs(limit)) >= 2 else 2
    return next((n for n in range(least, 9) if f"{own:.{n}f}" != f"{limit:.{n}f}"), 9)
