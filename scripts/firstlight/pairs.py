"""Gain and read noise of a detector from pairs of its frames, and whether to believe what headers say of them.

The difference of two frames of the same scene holds their noise alone: structure, dust and the response of each pixel
fall out (the photon transfer of Janesick 2001, Scientific Charge-Coupled Devices, chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .ordering import median_of

BLOCK = 32  # pix; within a block light and level are even enough
MOST_BLOCKS = 1024  # of a frame that are looked at: of a pair they tell the gain to 0.2 %, the read noise to 0.1 %
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


def sample(image: np.ndarray, most: int = MOST_BLOCKS) -> np.ndarray:
    """Of a large image (ny, nx) at most so many blocks, spread over all of it, side by side as an image float32
    (BLOCK, n BLOCK); a smaller one as it is. Frames of one shape give the same blocks."""
    ny, nx = (length // BLOCK for length in image.shape)
    if nx * ny <= most:
        return image
    rows, columns = np.divmod(np.linspace(0, nx * ny - 1, most).astype(int), nx)
    cut = image[: ny * BLOCK, : nx * BLOCK].reshape(ny, BLOCK, nx, BLOCK)
    return np.float32(cut[rows, :, columns]).swapaxes(0, 1).reshape(BLOCK, -1)


def read_noise(pairs, beside: float = 0.0) -> tuple[float, float] | tuple[None, None]:
    """Read noise and its error in ADU from pairs of bias frames: R^2 = var(B1 - B2) / 2 - beside; None, None where
    they do not differ."""
    variances = [_variance(_blocks(first) - _blocks(second)) / 2 for first, second in pairs]
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
    """(value, "stated", "measured" or "", sentence, whether pairs contradict what is stated); a stated value is used unless
    they do.

    tolerance  relative difference that is allowed; None believes what is stated
    """
    if measured is None or (stated is not None and tolerance is None):
        return stated, "stated" if stated is not None else "", "", False
    said = f"{name} {measured:.3g} +- {error:.2g} {unit} measured from pairs of frames"
    if stated is None:
        return measured, "measured", said, False
    off = abs(stated - measured)
    if off <= tolerance * measured or off <= SIGNIFICANT * error:
        return stated, "stated", f"{name} {stated:g} {unit} stated, {said}", False
    return (
        measured,
        "measured",
        f"{name} {stated:g} {unit} is stated, but {said}: the measured one is used "
        "(detector: tolerance: null takes what is stated)",
        True,
    )


@dataclass(frozen=True)
class Settled:
    """Gain (e-/ADU) and read noise (e-) that are used, None where unknown; by which they are known ("stated", "measured",
    ""); the measured read noise in electrons with its error; sentences, and on what measurement contradicts."""

    gain: float | None
    gain_by: str
    read_noise: float | None
    read_noise_by: str
    measured_noise: tuple[float | None, float | None]
    sentences: tuple[str, ...]
    contradictions: tuple[str, ...]


def settled(stated, found: Measured, tolerance: float | None) -> Settled:
    """What is used of a detector, from what header or configuration state (a `header.Detector`) and what was measured."""
    gain, gain_by, *gain_said = settle("gain", "e-/ADU", stated.gain, found.gain, found.gain_error, tolerance)
    noise = None, None
    if gain is not None and found.read_noise is not None:
        noise = gain * found.read_noise, gain * found.read_noise_error
    used, noise_by, *noise_said = settle("read noise", "e-", stated.read_noise, *noise, tolerance)
    said = [gain_said, noise_said]
    contradictions = tuple(sentence for sentence, against in said if against)
    sentences = tuple(sentence for sentence, against in said if sentence and not against)
    return Settled(gain, gain_by, used, noise_by, noise, sentences, contradictions)


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
    dark = _blocks(level) if np.ndim(level) else np.float32(level)
    one, two = _blocks(first) - dark, _blocks(second) - dark
    s1, s2 = _medians(one), _medians(two)
    lit = (s1 > 0) & (s2 > 0)
    if saturation:
        lit &= np.mean(np.maximum(_blocks(first), _blocks(second)) >= saturation, axis=1) < 0.01
        linear = lit & (np.maximum(s1, s2) < BRIGHTEST * (saturation - median_of(np.asarray(level))))
        lit = linear if linear.sum() >= 8 else lit
    if lit.sum() < 8:
        return None
    one, two, s1, s2 = one[lit], two[lit], s1[lit], s2[lit]
    ratio = s1 / s2
    shot = _variance(one - ratio[:, None].astype(np.float32) * two) - (1 + ratio**2) * noise_variance
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
    """An image (ny, nx) as blocks float32 (n, BLOCK * BLOCK); what is left at its upper and right edge is cut off."""
    ny, nx = (length // BLOCK * BLOCK for length in image.shape)
    if not (ny and nx):
        return np.asarray(image, np.float32).reshape(1, -1)
    cut = np.asarray(image[:ny, :nx], np.float32).reshape(ny // BLOCK, BLOCK, nx // BLOCK, BLOCK)
    return cut.swapaxes(1, 2).reshape(-1, BLOCK * BLOCK)


def _medians(blocks: np.ndarray) -> np.ndarray:
    """Median of each row; to sort them is several times quicker than numpy's median."""
    rows, n = np.sort(blocks, axis=1), blocks.shape[1]
    return (rows[:, (n - 1) // 2] + rows[:, n // 2]) / 2


def _variance(blocks: np.ndarray, limit: float = 5.0) -> np.ndarray:
    """Variance within each block without outliers: hits, hot pixels that flicker, stars. float64 (n,)"""
    rest = blocks - _medians(blocks)[:, None]  # near 0: squares of float32 lose nothing
    mean = np.zeros((len(rest), 1), np.float32)
    # The median distance of whole numbers is too small by up to half a step.
    scatter = 1.4826 * (_medians(np.abs(rest))[:, None] + 0.5)
    for _ in range(2):
        good = np.abs(rest - mean) <= limit * scatter
        n, core = np.count_nonzero(good, axis=1), np.where(good, rest, 0)
        total, squares = core.sum(axis=1).astype(float), np.einsum("ij,ij->i", core, core).astype(float)
        variance = np.maximum(squares - total**2 / n, 0) / np.maximum(n - 1, 1)
        mean, scatter = (np.float32(one)[:, None] for one in (total / n, np.sqrt(variance)))
    return variance


def _error_of_median(values: np.ndarray) -> float:
    spread = 1.4826 * np.median(np.abs(values - np.median(values)))
    return float(1.2533 * spread / np.sqrt(values.size))


def _error_of_mean(values) -> float:
    """Error of the middle of several pairs' values by their own scatter; 0 for one."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
