"""Gain and read noise of a detector from pairs of its frames, and whether to believe what headers say of them.

The difference of two frames of the same scene holds their noise alone: structure, dust and the response of each pixel
fall out (the photon transfer of Janesick 2001, Scientific Charge-Coupled Devices, chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 32  # pix; within a block light and level are even enough
BRIGHTEST = 0.75  # of saturation: above, detectors are less linear and neighbours share charge
TOLERANCE = 0.2  # relative difference of a stated value from the measured one that is allowed
SIGNIFICANT = 5.0  # errors by which a stated value must be off, beside the tolerance


@dataclass(frozen=True)
class Measured:
    """What pairs of frames tell of a detector; None where there was no pair for it."""

    gain: float | None = None  # e-/ADU
    gain_error: float | None = None
    read_noise: float | None = None  # ADU, without what rounding and overscan add
    read_noise_error: float | None = None


def detector(bias, flats, level=0.0, beside: float = 0.0, saturation: float | None = None) -> Measured:
    """Gain and read noise from pairs of bias frames and of flats, (ny, nx) each, in ADU.

    level       of a frame without light, ADU, a number or an image (ny, nx)
    beside      variance in ADU^2 that `deviation` adds by itself: of the rounding and of an overscan's level
    saturation  ADU
    """
    noise, error = read_noise(bias, beside) if bias else (None, None)
    found = gain(flats, level, noise**2 + beside, saturation) if flats and noise is not None else None
    return Measured(*(found or (None, None)), noise, error)


def read_noise(pairs, beside: float = 0.0) -> tuple[float, float] | tuple[None, None]:
    """Read noise and its error in ADU from pairs of bias frames: R^2 = var(B1 - B2) / 2 - beside; None, None where
    they do not differ."""
    variances = [_variance(_blocks(first - second)) / 2 for first, second in pairs]
    middle = [float(np.median(one)) for one in variances]
    total = float(np.median(middle))
    if total <= 0:
        return None, None
    error = max(_error_of_median(np.concatenate(variances)), _error_of_mean(middle))
    plain = max(total - beside, 0.0)
    return float(np.sqrt(plain)), error / (2 * np.sqrt(max(plain, total / 10)))


def gain(pairs, level, noise_variance: float, saturation: float | None = None) -> tuple[float, float] | None:
    """Gain and its error in e-/ADU from pairs of flats in ADU; None where they hold too little light.

        g = sum s1 (1 + r) / sum (var(F1 - r F2) - (1 + r^2) var_B),   r = s1 / s2

    s is the light of a block above `level`, var_B `noise_variance` that of a bias frame in ADU^2. Saturated
    blocks do not count, nor those above 0.75 of the saturation where others are left.
    """
    found = [one for one in (_gain_of_pair(*pair, level, noise_variance, saturation) for pair in pairs) if one]
    if not found:
        return None
    values, errors = np.array(found).T
    return float(np.median(values)), max(float(np.median(errors)) / len(found) ** 0.5, _error_of_mean(values))


def settle(
    name: str, unit: str, stated: float | None, measured: float | None, error: float | None, tolerance: float | None
):
    """(value, "stated", "measured" or "", sentence): the stated value, unless pairs contradict it or nothing is stated.

    tolerance  relative difference that is allowed; None believes what is stated
    """
    if measured is None or (stated is not None and tolerance is None):
        return stated, "stated" if stated is not None else "", ""
    said = f"{name} {measured:.3g} +- {error:.2g} {unit} measured from pairs of frames"
    if stated is None:
        return measured, "measured", said
    off = abs(stated - measured)
    if off <= tolerance * measured or off <= SIGNIFICANT * error:
        return stated, "stated", f"{name} {stated:g} {unit} stated, {said}"
    return (
        measured,
        "measured",
        f"{name} {stated:g} {unit} is stated, but {said}: the measured one is used "
        "(detector: tolerance: null takes what is stated)",
    )


@dataclass(frozen=True)
class Settled:
    """Gain (e-/ADU) and read noise (e-) that are used, None where unknown; by which they are known ("stated", "measured",
    ""); the measured read noise in electrons with its error; sentences."""

    gain: float | None
    gain_by: str
    read_noise: float | None
    read_noise_by: str
    measured_noise: tuple[float | None, float | None]
    sentences: tuple[str, ...]


def settled(stated, found: Measured, tolerance: float | None) -> Settled:
    """What is used of a detector, from what header or configuration state (a `header.Detector`) and what was measured."""
    gain, gain_by, gain_said = settle("gain", "e-/ADU", stated.gain, found.gain, found.gain_error, tolerance)
    noise = None, None
    if gain is not None and found.read_noise is not None:
        noise = gain * found.read_noise, gain * found.read_noise_error
    used, noise_by, noise_said = settle("read noise", "e-", stated.read_noise, *noise, tolerance)
    return Settled(gain, gain_by, used, noise_by, noise, tuple(filter(None, (gain_said, noise_said))))


def table(found: Measured, stated, used: Settled, bias: int, flats: int) -> list[dict]:
    """Rows for people and for jobs: what was measured, from how many pairs, what is stated and by what, which is used."""
    noise, noise_error = found.read_noise, found.read_noise_error
    lines = (
        ("gain", "electron/adu", found.gain, found.gain_error, flats, stated.gain, "gain", used.gain, used.gain_by),
        (
            "read noise",
            "electron",
            *used.measured_noise,
            bias,
            stated.read_noise,
            "read_noise",
            used.read_noise,
            used.read_noise_by,
        ),
        ("read noise in adu", "adu", noise, noise_error, bias, None, "", None, ""),
    )
    return [
        {
            "quantity": name,
            "unit": unit,
            "measured": _digits(value),
            "error": _digits(error),
            "pairs": number,
            "stated": _digits(said),
            "stated_by": stated.read_from.get(key, ""),
            "used": _digits(taken),
            "from": by,
        }
        for name, unit, value, error, number, said, key, taken, by in lines
    ]


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _gain_of_pair(first, second, level, noise_variance, saturation):
    one, two = _blocks(first - level), _blocks(second - level)
    s1, s2 = np.median(one, axis=1), np.median(two, axis=1)
    lit = (s1 > 0) & (s2 > 0)
    if saturation:
        lit &= np.mean((_blocks(first) >= saturation) | (_blocks(second) >= saturation), axis=1) < 0.01
        linear = lit & (np.maximum(s1, s2) < BRIGHTEST * (saturation - float(np.median(level))))
        lit = linear if linear.sum() >= 8 else lit
    if lit.sum() < 8:
        return None
    one, two, s1, s2 = one[lit], two[lit], s1[lit], s2[lit]
    ratio = s1 / s2
    shot = _variance(one - ratio[:, None] * two) - (1 + ratio**2) * noise_variance
    light = s1 * (1 + ratio)
    good = np.isfinite(shot)
    share = shot / light
    middle = np.median(share[good])
    good &= np.abs(share - middle) < 5 * 1.4826 * np.median(np.abs(share[good] - middle)) + 1e-12
    total = shot[good].sum()
    if total <= 0 or good.sum() < 8:
        return None
    value = light[good].sum() / total
    return value, value * np.std(share[good]) / middle / np.sqrt(good.sum()) if middle > 0 else np.inf


def _blocks(image: np.ndarray) -> np.ndarray:
    """An image (ny, nx) as blocks (n, BLOCK * BLOCK); what is left at its upper and right edge is cut off."""
    ny, nx = (length // BLOCK * BLOCK for length in image.shape)
    if not (ny and nx):
        return np.asarray(image, np.float64).reshape(1, -1)
    cut = np.asarray(image[:ny, :nx], np.float64).reshape(ny // BLOCK, BLOCK, nx // BLOCK, BLOCK)
    return cut.swapaxes(1, 2).reshape(-1, BLOCK * BLOCK)


def _variance(blocks: np.ndarray, limit: float = 5.0) -> np.ndarray:
    """Variance within each block without outliers: hits, hot pixels that flicker, stars."""
    middle = np.median(blocks, axis=1, keepdims=True)
    distance = np.abs(blocks - middle)
    # The median distance of whole numbers is too small by up to half a step.
    scatter = 1.4826 * (np.median(distance, axis=1, keepdims=True) + 0.5)
    for _ in range(2):
        good = distance <= limit * scatter
        n = good.sum(axis=1)
        mean = np.where(good, blocks, 0).sum(axis=1) / n
        variance = np.where(good, (blocks - mean[:, None]) ** 2, 0).sum(axis=1) / np.maximum(n - 1, 1)
        scatter = np.sqrt(variance)[:, None]
        distance = np.abs(blocks - mean[:, None])
    return variance


def _error_of_median(values: np.ndarray) -> float:
    spread = 1.4826 * np.median(np.abs(values - np.median(values)))
    return float(1.2533 * spread / np.sqrt(values.size))


def _error_of_mean(values) -> float:
    """Error of the middle of several pairs' values by their own scatter; 0 for one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
