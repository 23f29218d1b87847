"""What each way of resampling does to noise, stars and time.

`PYTHONPATH=scripts python tests/measure_interpolation.py` prints the table; methods can be named.

A frame of white noise, and fields of stars whose flux and width are known, are brought onto a grid that is shifted by parts
of a pixel and turned by 1.2 degrees; then onto one with pixels of twice the side. Pixels of stars are integrals over their
areas.
"""

import sys
import time

import numpy as np
from aligning import a_wcs
from astropy.io import fits
from firstlight import align, sources
from firstlight.frame import Frame, Mask
from scipy.special import erf

SIZE = 768
SKY, NOISE, FULL = 500.0, 10.0, 30_000.0
COLUMNS = {
    "noise of a pixel": "{:.3f}",
    "sigma": "{:.3f}",
    "NCORR05": "{:.2f}",
    "circle": "{:.3f}",
    "8x8": "{:.3f}",
    "flux %": "{:+.2f} ± {:.2f}",
    "FWHM 3": "{:+.1f} %",
    "FWHM 2": "{:+.1f} %",
    "hole at full star": "{:.1f}",
    "hole at sharp star": "{:.1f} %",
    "2x: 8x8": "{:.3f}",
    "2x: FWHM 4": "{:+.1f} %",
    "s/Mpx": "{:.2f}",
}


def painted(shape, x, y, flux, fwhm, reach=40):
    """Gaussian stars integrated over pixels (ny, nx), float64; flux (n,)."""
    width = fwhm / 2.35482 * np.sqrt(2)
    image = np.zeros(shape)
    for star_x, star_y, light in zip(x, y, np.broadcast_to(flux, len(x)), strict=True):
        column, row = round(star_x), round(star_y)
        i = np.arange(max(column - reach, 0), min(column + reach + 1, shape[1]))
        j = np.arange(max(row - reach, 0), min(row + reach + 1, shape[0]))
        across, along = (
            0.5 * (erf((k + 0.5 - c) / width) - erf((k - 0.5 - c) / width)) for k, c in ((i, star_x), (j, star_y))
        )
        image[j[0] : j[-1] + 1, i[0] : i[-1] + 1] += light * np.outer(along, across)
    return image


def lattice_of_stars(size, step=48, seed=5):
    """Places of stars apart from each other, at all phases of pixels."""
    places = np.arange(step, size - step // 2, step, dtype=float)
    x, y = (part.ravel() for part in np.meshgrid(places, places))
    return (part + np.random.default_rng(seed + k).uniform(-0.5, 0.5, len(x)) for k, part in enumerate((x, y)))


def a_frame(image, mask=None):
    sigma = np.full(image.shape, NOISE, np.float32)
    return Frame(image.astype(np.float32), fits.Header(), sigma, mask, "electron")


def grids(size):
    """WCS of the frame; of a grid at its own scale and of one twice as coarse, with their shapes."""
    middle = np.array([(size - 1) / 2] * 2)
    same = a_wcs(middle + (0.37, -0.21), angle=1.2)
    coarse = a_wcs((middle - 0.5) / 2 + (0.37, -0.21), angle=1.2, scale=4.0)
    return a_wcs(middle), (same, (size, size)), (coarse, (size // 2, size // 2))


def blocks(image, n=8):
    """Sums over n x n pixels of the middle of an image."""
    edge = image.shape[0] // 10
    image = image[edge:-edge, edge:-edge]
    rows, columns = (k // n for k in image.shape)
    return image[: rows * n, : columns * n].reshape(rows, n, columns, n).sum(axis=(1, 3))


def circles(image, radius=5):
    """Sums over circles of pixels that do not overlap, in the middle of an image."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    y, x = y[x**2 + y**2 <= radius**2], x[x**2 + y**2 <= radius**2]
    edge, step = image.shape[0] // 10, 2 * radius + 3
    rows, columns = np.meshgrid(*[np.arange(edge, n - edge, step) for n in image.shape], indexing="ij")
    return image[rows.ravel()[:, None] + y, columns.ravel()[:, None] + x].sum(axis=1)


def noise_numbers(method, wcs, grid, shape, frames=4):
    """(scatter of pixels over the frame's, scatter over sigma, NCORR05, scatter in circles over what is said, blocks)."""
    rng = np.random.default_rng(1)
    edge = shape[0] // 10
    middle = (slice(edge, -edge),) * 2
    pixels, pulls, sums, said, blocked, factor = [], [], [], [], [], 1.0
    for _ in range(frames):
        out = align.align(a_frame(rng.normal(0, NOISE, (SIZE, SIZE))), wcs, grid, shape, method)
        factor = out.header["NCORR05"]
        area = out.header["ALIGN11"] ** 2 + out.header["ALIGN12"] ** 2
        pixels.append(out.data[middle] / area)
        pulls.append(out.data[middle] / out.sigma[middle])
        sums.append(circles(out.data))
        said.append(factor**2 * circles(out.sigma**2))
        blocked.append(blocks(out.data).ravel() / (8 * NOISE * np.sqrt(area)))
    return np.std(pixels) / NOISE, np.std(pulls), factor, np.std(sums) / np.sqrt(np.mean(said)), np.std(blocked)


def star_numbers(method, wcs, grid, shape, fwhm):
    """(median error of the flux, its scatter, growth of the FWHM), in percent; without noise."""
    import sep

    x, y = lattice_of_stars(SIZE)
    image = painted((SIZE, SIZE), x, y, 2e5, fwhm)
    ours = align.align(a_frame(image + SKY), wcs, grid, shape, method)
    area = ours.header["ALIGN11"] ** 2 + ours.header["ALIGN12"] ** 2
    places = grid.all_world2pix(wcs.all_pix2world(np.column_stack([x, y]), 0), 0)
    inside = ((places > 30) & (places < shape[0] - 30)).all(axis=1)
    data = np.nan_to_num(ours.data - SKY * area).astype(np.float32)
    flux = sep.sum_circle(data, *places[inside].T, 3 * fwhm / np.sqrt(area), subpix=0)[0]
    error = 100 * (flux / 2e5 - 1)
    scattered = np.random.default_rng(3).normal(0, 1, shape)  # detection needs some noise
    seen = sources.detect(ours.with_(data=(ours.data + scattered).astype(np.float32)))[1]["FWHM"][0] * np.sqrt(area)
    own = image + SKY + np.random.default_rng(3).normal(0, 1, image.shape)
    before = sources.detect(a_frame(own))[1]["FWHM"][0]
    return np.median(error), np.std(error), 100 * (seen / before - 1)


def hole(method, wcs, grid, shape, fwhm, flux, full=np.inf):
    """How far the light beside a star without noise falls below the sky, in electrons of its brightest pixel."""
    x, y = lattice_of_stars(SIZE, 96)
    image = painted((SIZE, SIZE), x, y, flux, fwhm)
    mask = np.zeros(image.shape, np.uint8)
    clipped = image > full
    near = clipped.copy()
    for axis in (0, 1):
        near |= np.roll(near, 1, axis) | np.roll(near, -1, axis)
    mask[near & (full < np.inf)] = Mask.SATURATED
    out = align.align(a_frame(np.minimum(image, full), mask), wcs, grid, shape, method)
    return -np.nanmin(out.data), min(image.max(), full)


def numbers(method):
    """The row of a method, in the order of `COLUMNS`."""
    wcs, same, coarse = grids(SIZE)
    frame = a_frame(np.random.default_rng(1).normal(SKY, NOISE, (SIZE, SIZE)))
    align.align(frame, wcs, *same, method)  # libraries loaded
    start = time.perf_counter()
    align.align(frame, wcs, *same, method)
    seconds = (time.perf_counter() - start) / (SIZE**2 / 1e6)
    noise = noise_numbers(method, wcs, *same)
    flux, scatter, wide = star_numbers(method, wcs, *same, 3.0)
    sharp = star_numbers(method, wcs, *same, 2.0)[2]
    rim = hole(method, wcs, *same, 3.0, 2e6, FULL)[0] / NOISE
    below, peak = hole(method, wcs, *same, 1.5, 1e5)
    twice = noise_numbers(method, wcs, *coarse)
    coarse_width = star_numbers(method, wcs, *coarse, 4.0)[2]
    return [*((n,) for n in noise), (flux, scatter), (wide,), (sharp,), (rim,), (100 * below / peak,), (twice[4],),
            (coarse_width,), (seconds,)]  # fmt: skip


def main(methods):
    print("| method |", " | ".join(COLUMNS), "|")
    print("| --- |", " | ".join("---:" for _ in COLUMNS), "|")
    for method in methods:
        row = numbers(method)
        cells = [text.format(*values) for text, values in zip(COLUMNS.values(), row, strict=True)]
        print(f"| {method} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or align.INTERPOLATIONS)
