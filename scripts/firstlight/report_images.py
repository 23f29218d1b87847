"""Images of the report: made small, stretched, and turned into data URLs that a page holds by itself."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np

CELLS = 16  # along each axis, that the structure of a master is measured in
BAD, GOOD = 30, 235  # greys of the map of bad pixels


def jpeg(image: np.ndarray, widest: int, quality: int = 80) -> tuple[str, int, int]:
    """A data URL of an image uint8 (ny, nx) or (ny, nx, 3), top row first, at most `widest` pixels along its longer side;
    its width and height."""
    from PIL import Image

    shown = Image.fromarray(image)
    step = max(shown.size) // (2 * widest)
    shown = shown.reduce(step) if step > 1 else shown  # averages, in a fraction of the time that thumbnail takes
    shown.thumbnail((widest, widest), Image.Resampling.BOX if step > 1 else Image.Resampling.BILINEAR)
    return _url(shown, "JPEG", quality=quality), *shown.size


def png(image: np.ndarray) -> tuple[str, int, int]:
    """The same without loss, of an image uint8 (ny, nx) as it is."""
    from PIL import Image

    shown = Image.fromarray(image)
    return _url(shown, "PNG", optimize=True), *shown.size


def _url(image, form: str, **options) -> str:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def squares(image: np.ndarray, step: int) -> np.ndarray:
    """An image (ny, nx) as (rows, step, columns, step), what does not fill a square cut off."""
    ny, nx = (size // step for size in image.shape)
    return image[: ny * step, : nx * step].reshape(ny, step, nx, step)


def small(data: np.ndarray, bad: np.ndarray, widest: int) -> np.ndarray:
    """The mean of the good pixels in squares, so that at most `widest` are left; where all are bad the median of all."""
    step = -(-max(data.shape) // widest)
    good = squares(~bad & np.isfinite(data), step)
    values = np.where(good, squares(np.nan_to_num(data), step), 0)
    count = good.sum(axis=(1, 3))
    mean = values.sum(axis=(1, 3), dtype=np.float64) / np.maximum(count, 1)
    known = mean[count > 0]
    return np.where(count > 0, mean, np.median(known) if known.size else 0.0)


def stretched(image: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Grey values uint8 of an image in FITS rows, top row first, and the values that are black and white (0.5 and 99.5 %)."""
    low, high = np.percentile(image, (0.5, 99.5))
    grey = np.clip((image - low) / ((high - low) or 1.0), 0, 1) * 255
    return np.flipud(grey).astype(np.uint8), float(low), float(high)


def structure(image: np.ndarray) -> float | None:
    """How far the level differs across an image: the range of the middle 90 % of `CELLS` x `CELLS` means of it."""
    if min(image.shape) < CELLS:
        return None
    step = min(image.shape) // CELLS
    low, high = np.percentile(squares(image, step).mean(axis=(1, 3)), (5, 95))
    return float(high - low)


def bad_map(bad: np.ndarray, widest: int) -> np.ndarray:
    """A map uint8, top row first, of bad pixels (ny, nx): a square that holds one is dark, the darker the more of it is bad."""
    step = -(-max(bad.shape) // widest)
    share = squares(bad, step).mean(axis=(1, 3))
    most = share.max() or 1.0
    grey = np.where(share > 0, GOOD - (GOOD - BAD) * (0.5 + 0.5 * share / most), GOOD)
    return np.flipud(grey).astype(np.uint8)
