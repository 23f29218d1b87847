"""Frames that should be alike, looked at for those that are not: in level, scatter, structure and single pixels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from . import estimate, ordering

BLOCKS = 16  # along each side of the map in which structure is looked for
DENSITY = 16  # pixels that are sampled along each side of a block
SURE = 7.0  # errors of a block's mean that no good frame reaches
SPREAD = 5.0  # standard deviations of the others' levels
USUAL = 3.0  # times what is usual among the others
QUARTILES = (0.158655, 0.5, 0.841345)  # one standard deviation below, the middle, one above


@dataclass(frozen=True)
class Sample:
    """Some 65,000 pixels of a frame in an even grid, and its level.

    values, poor  (h, w), poor where a pixel tells nothing; blocks (rows, columns) of the grid
    level, sigma  medians of the frame's good sampled values and of their sigmas
    """

    values: np.ndarray
    poor: np.ndarray
    blocks: tuple[int, int]
    level: float
    sigma: float


@dataclass(frozen=True)
class Limits:
    """How far a frame may differ from the others; None does not look. See `odd_ones`."""

    level: float | None = 1.0
    scatter: float | None = 1.5
    structure: float | None = 0.5
    pixels: float | None = 0.001
    relative: bool = False


def sample(data: np.ndarray, sigma: np.ndarray, poor: np.ndarray) -> Sample:
    """The sample of a frame (ny, nx)."""
    blocks = tuple(max(min(BLOCKS, length // 8), 1) for length in data.shape)
    lengths = [number * min(DENSITY, length // number) for number, length in zip(blocks, data.shape, strict=True)]
    grid = np.ix_(*(np.arange(short) * long // short for short, long in zip(lengths, data.shape, strict=True)))
    values, bad = data[grid], poor[grid] | ~np.isfinite(data[grid])
    good = ~bad if not bad.all() else np.ones_like(bad)
    return Sample(values, bad, blocks, float(np.median(values[good])), float(np.median(sigma[grid][good])))


def odd_ones(samples: list[Sample], limits: Limits, unit: str = "") -> tuple[dict[int, str], str]:
    """Which frames are unlike the others, with the reason in words, and a note where that could not be told.

    A frame is compared with what the others have in common, and its limits widen with the others' own differences:
      level      further from the median of the others than `limits.level` noises of a pixel and 5 of their spreads
      scatter    noise of a pixel more than `limits.scatter` times that of the others, or as much less; of flats (relative)
                 noise over claimed sigma, since their levels differ
      structure  mean of one of 16x16 blocks off by `limits.structure` noises of a pixel (relative: by that share of the
                 level), 7 errors of that mean, and 3 times what is usual among the others
      pixels     share of pixels more than 6 noises off above `limits.pixels` and 3 times that of any other
    The most different frame goes first, then the rest are compared again, while three or more are left. Where as many
    would go as stay nobody can tell which are right: then all stay.
    """
    left, odd = list(range(len(samples))), {}
    while len(left) > 2:
        verdicts = _verdicts([samples[number] for number in left], limits, unit)
        worst = max(range(len(left)), key=lambda place: verdicts[place][0])
        score, reason = verdicts[worst]
        if not score > 1:
            break
        odd[left.pop(worst)] = reason
    if len(odd) * 2 >= len(samples) and odd:
        return {}, f"the frames differ from each other too much to tell which are right; one of them: {reason}"
    return dict(sorted(odd.items())), ""


def standing_out(samples: list[Sample], limit: float = 5.0) -> list[float]:
    """For each frame the share of pixels that lie above the median of all by more than `limit` noises."""
    rest, use = _residuals(samples)
    return [float((one > limit * _noise(one, use))[use].mean()) if use.any() else 0.0 for one in rest]


def stars(difference: np.ndarray, error: np.ndarray, unknown: np.ndarray, limit: float = 6.0) -> np.ndarray:
    """Where stars (ny, nx) are in the difference of a flat to the others, with their wings.

    Connected pixels above 2 sigma in the image smoothed by a Gaussian of FWHM 3, whose sum is more than `limit` of its
    errors, and 3 pixels around them.
    """
    import cv2
    import sep

    image = np.ascontiguousarray(np.where(unknown, 0, difference), np.float32)
    noise = np.ascontiguousarray(np.where(unknown, 1, error), np.float32)
    box = min(64, *image.shape)
    sky = sep.Background(image, mask=unknown, bw=box, bh=box).back(dtype=np.float32)
    sep.set_extract_pixstack(max(300_000, image.size))
    axis = np.arange(-3, 4)
    kernel = np.exp(-(axis[:, None] ** 2 + axis**2) * 4 * np.log(2) / 3**2)
    found, places = sep.extract(
        image - sky,
        2.0,
        err=noise,
        mask=unknown,
        minarea=5,
        filter_kernel=kernel,
        deblend_cont=1.0,
        clean=False,
        segmentation_map=True,
    )
    flux, variance = (np.bincount(places.ravel(), one.ravel(), len(found) + 1) for one in (image - sky, noise**2))
    real = flux > limit * np.sqrt(variance)
    real[0] = False  # what belongs to no source
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(real[places].view(np.uint8), cross, iterations=3) != 0


def _residuals(samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Each sample less its level and the median of all (n, h, w), and which pixels count (h, w): those good in all.

    Without the level a frame that lies between two others would be the median itself, and seem to have no noise.
    """
    values = np.stack([one.values - np.float32(one.level) for one in samples])
    use = ~np.any([one.poor for one in samples], axis=0)
    return values - ordering.median(values, np.ones(values.shape, bool)), use


def _noise(rest: np.ndarray, use: np.ndarray) -> float:
    """Scatter of a pixel from differences of neighbours, which do not see structure."""
    difference = (rest[:, 1:] - rest[:, :-1])[use[:, 1:] & use[:, :-1]]
    if difference.size < 8:
        return float("nan")
    low, high = np.percentile(difference, [15.8655, 84.1345])
    width = float(high - low) / 2
    for _ in range(2):  # whole numbers have a coarse percentile but a fine standard deviation
        core = difference[np.abs(difference) <= 5 * width] if width > 0 else difference
        width = float(core.std())
    return width / np.sqrt(2)


def _middle(values: np.ndarray, near: float) -> float:
    """Mean of what lies near the median: the median of whole numbers is too coarse."""
    middle = float(np.median(values))
    core = values[np.abs(values - middle) <= near]
    return float(core.mean()) if core.size else middle


def _blocks(rest: np.ndarray, use: np.ndarray, blocks: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels of rows x columns blocks (blocks, pixels), NaN where they do not count, and for each block its median
    and its scatter from percentiles."""
    rows, columns = blocks
    shape = (rows, rest.shape[0] // rows, columns, rest.shape[1] // columns)
    parts = np.where(use, rest, np.nan).reshape(shape).swapaxes(1, 2).reshape(rows * columns, -1)
    ordered = np.sort(parts, axis=1)
    last = np.isfinite(parts).sum(axis=1) - 1
    low, middle, high = (ordered[np.arange(len(parts)), (q * last).clip(min=0).astype(int)] for q in QUARTILES)
    return parts, middle, (high - low) / 2


def _block_means(parts: np.ndarray, middle: np.ndarray, noise: np.ndarray):
    """Means of what lies within 4 noises of each block's median, and their errors; NaN where hardly a pixel counts. And
    the share of all pixels that lie more than 6 noises from it."""
    distance = np.abs(parts - middle[:, None])
    near = distance <= 4 * noise[:, None]
    number = near.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(near, parts, 0).sum(axis=1) / np.where(number > 7, number, np.nan)
        return means, noise / np.sqrt(number), float((distance > 6 * noise[:, None]).sum() / np.isfinite(parts).sum())


def _verdicts(samples: list[Sample], limits: Limits, unit: str) -> list[tuple[float, str]]:
    """For each frame how far beyond its limits it is (1 is on them) in what it is worst in, and what it is in words."""
    n, blocks = len(samples), samples[0].blocks
    rest, use = _residuals(samples)
    if use.mean() < 0.1:
        return [(0.0, "")] * n
    raw = np.array([_noise(one, use) for one in rest])
    claimed = np.array([one.sigma for one in samples])
    if not (limits.relative and (claimed > 0).all()):
        claimed = np.ones(n)
    over = np.maximum(raw / _of_residual(claimed), 1e-12)
    noise = over * claimed
    levels = np.array([one.level for one in samples])
    offsets = levels + np.array([_middle(one[use], 4 * scatter) for one, scatter in zip(rest, raw, strict=True)])
    parts, middles, widths = zip(*(_blocks(one, use, blocks) for one in rest), strict=True)
    # Some blocks have more noise than others, as where an amplifier glows, but they have it in most frames.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a block without a good pixel
        usual = np.fmax(np.nanmedian(np.array(widths) / np.maximum(raw, 1e-12)[:, None], axis=0), 1)
    found = [_block_means(*one, usual * scatter) for *one, scatter in zip(parts, middles, raw, strict=True)]
    maps, errors, far = (np.array(part) for part in zip(*found, strict=True))
    out = []
    for i in range(n):
        others = np.arange(n) != i
        found = [(0.0, "")]
        typical = float(np.median(noise[others]))
        if limits.level is not None:
            found.append(_level(offsets, levels, others, i, limits.level * typical, unit))
        if limits.structure is not None:
            least = limits.structure * (1.0 if limits.relative else typical)
            found.append(_structure(maps, errors, others, i, least, limits.relative, unit, blocks))
        if limits.scatter is not None:
            found.append(_scatter(over, others, i, limits, unit))
        if limits.pixels is not None:
            found.append(_pixels(far, others, i, limits.pixels, int(use.sum())))
        score = max(found)[0]  # one fault shows in many ways: the first of these is said
        out.append((score, next((reason for part, reason in found if part > min(score, 1)), "")))
    return out


def _of_residual(sigmas: np.ndarray) -> np.ndarray:
    """Standard deviations of values less the median of all, from those of the values.

    The median has a part of each value's own noise in it: var = s^2 - 2 s / S + f n / S^2, S = sum of 1/s, f the factor
    of a median.
    """
    n, total = len(sigmas), (1 / sigmas).sum()
    variance = sigmas**2 - 2 * sigmas / total + float(estimate.median_factor(n)) * n / total**2
    return np.sqrt(np.maximum(variance, 0.3 * sigmas**2))


def _level(offsets, levels, others, i, least, unit):
    middle = np.median(offsets[others])
    spread = 1.4826 * float(np.median(np.abs(offsets[others] - middle)))
    allowed = max(least, SPREAD * spread)
    typical = float(np.median(levels[others]))
    text = f"level {levels[i]:.1f} {unit}, the others {typical:.1f}, allowed are {allowed:.1f} of difference"
    return abs(float(offsets[i] - middle)) / allowed, text


def _scatter(over, others, i, limits, unit):
    usual = float(np.median(over[others]))
    ratio = max(over[i] / usual, usual / over[i])
    what = "times its claimed sigma" if limits.relative else unit
    text = f"scatter of {over[i]:.2f} {what}, the others {usual:.2f}, allowed is a factor of {limits.scatter:g}"
    return float(np.log(ratio) / np.log(limits.scatter)), text


def _structure(maps, errors, others, i, least, relative, unit, blocks):
    difference = _flat(maps[i] - np.median(maps[others], axis=0))
    allowed = np.maximum(least, SURE * errors[i])
    among = [_largest(_flat(one - np.median(rest, axis=0))) for one, rest in _each(maps[others])]
    allowed = np.maximum(allowed, USUAL * float(np.median(among)))
    score = np.nan_to_num(np.abs(difference) / allowed)
    place = int(score.argmax())
    row, column = divmod(place, blocks[1])
    amount = f"{difference[place]:+.2%}" if relative else f"{difference[place]:+.1f} {unit}"
    limit = f"{allowed[place]:.2%}" if relative else f"{allowed[place]:.1f}"
    where = f"{(column + 0.5) / blocks[1]:.0%} of the width and {(row + 0.5) / blocks[0]:.0%} of the height"
    return float(score[place]), f"differs from the others by {amount} at {where}, allowed are {limit}"


def _pixels(far, others, i, limit, number):
    usual = float(far[others].max())
    allowed = max(limit, USUAL * usual)
    allowed += 3 * np.sqrt(allowed / number)  # a few pixels are soon some more
    text = f"{far[i]:.2%} of its pixels stand out from the others, of theirs {usual:.2%} at the most"
    return float(far[i] / allowed), f"{text}, allowed are {allowed:.2%}"


def _each(maps):
    """Each map with the rest of them."""
    for k in range(len(maps)):
        yield maps[k], np.delete(maps, k, axis=0)


def _flat(difference):
    """A map less its median."""
    return difference - np.nanmedian(difference) if np.isfinite(difference).any() else difference


def _largest(difference) -> float:
    return float(np.nanmax(np.abs(difference))) if np.isfinite(difference).any() else 0.0
