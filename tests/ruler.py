"""One ruler for stacks of the same sky that different programs made.

Each stack is tied to the first by the stars they share, in place (affine) and in flux (median ratio of bright stars in
circles that hold all their light). Stars and sky are looked for in the mean of all stacks, so that no one's noise
decides. Sky noise is the scatter of means over 8x8 pixels without stars; FWHM twice the radius of half the light.
Sharp stacks have more noise even in such blocks, 4 % between cubic and bilinear: so it is measured once more after all
were brought to the widest one's FWHM by a Gaussian. The S/N of faint stars is their flux there within one FWHM over the
scatter of circles of that size on empty sky.
"""

from __future__ import annotations

import numpy as np
import sep
from firstlight import astrometry

BLOCK = 8


class Ruler:
    """Stars, sky and common area of some stacks, on the pixels of the first."""

    def __init__(self, images: list[np.ndarray], fwhm: float, covered: np.ndarray):
        self.fwhm, first = fwhm, images[0]
        places = [bright(image) for image in images]
        self.to = [tie(places[0], others) for others in places]
        on_first = [_moved(image, transform, first.shape) for image, transform in zip(images, self.to, strict=True)]
        gains = [_gain(on_first[0], image) for image in on_first]
        mean = np.mean([_level(image) / gain for image, gain in zip(on_first, gains, strict=True)], axis=0)
        self.common = _inner(np.isfinite(mean) & covered, int(4 * fwhm) + 2)
        self.stars, self.starlight = _stars(mean, self.common, fwhm)

    def measure(self, number: int, image: np.ndarray) -> dict:
        """Fluxes of the stars, noise of blocks, of circles, of pixels, and FWHM, in the image's own unit."""
        places = astrometry.apply_affine(self.to[number], np.column_stack([self.stars["x"], self.stars["y"]]))
        x, y = (np.ascontiguousarray(column) for column in places.T)
        covered, dark = self.onto(number, image.shape, self.common), self.onto(number, image.shape, self.starlight)
        usable = covered & np.isfinite(image)
        data = np.where(np.isfinite(image), image, np.nanmedian(image)).astype(np.float32)
        data -= sep.Background(data, mask=dark | ~usable, bw=64, bh=64).back(dtype=np.float32)
        wide = 3.5 * self.fwhm
        flux = sep.sum_circle(data, x, y, wide, subpix=0)[0]
        half, _ = sep.flux_radius(data, x, y, np.full(len(x), wide), 0.5, normflux=flux, subpix=5)
        sky = usable & ~dark
        return {
            "flux": flux,
            "fwhm": 2 * half,
            "blocks": robust(blocks(data, sky)),
            "data": data,
            "sky": sky,
            "at": (x, y),
        }

    def faint(self, one: dict, fwhm: float, widest: float) -> tuple[np.ndarray, float]:
        """S/N (n) of stars in circles of one FWHM, and noise of blocks, at the widest stack's resolution; `one` as
        `measure` gave it."""
        from scipy.ndimage import gaussian_filter

        data = gaussian_filter(one["data"], np.sqrt(max(widest**2 - fwhm**2, 0) / (8 * np.log(2))))
        flux = sep.sum_circle(data, *one["at"], widest, subpix=0)[0]
        return flux / robust(_circles(data, one["sky"], widest)), robust(blocks(data, one["sky"]))

    def onto(self, number: int, shape, image: np.ndarray) -> np.ndarray:
        """A mask on the first stack's pixels, on those of another."""
        x, y = _affine(_inverse(self.to[number]), shape)
        i, j = np.rint(x).astype(int), np.rint(y).astype(int)
        inside = (i >= 0) & (j >= 0) & (i < image.shape[1]) & (j < image.shape[0])
        out = np.zeros(shape, bool)
        out[inside] = image[j[inside], i[inside]]
        return out


def tie(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Affine transformation (2, 3) from the pixels of one stack to those of another; their bright stars (n, 2)."""
    transform, *_ = astrometry.match_stars(a, b)
    for radius in (2.0, 1.0):
        i, j = astrometry.nearest(astrometry.apply_affine(transform, a), b, radius)
        transform = astrometry.fit_affine(a[i], b[j])
    return transform


def bright(image: np.ndarray) -> np.ndarray:
    """Positions (n, 2) of stars, brightest first."""
    data = np.where(np.isfinite(image), image, np.nanmedian(image)).astype(np.float32)
    background = sep.Background(data)
    found = sep.extract(data - background.back(), 10 * background.globalrms)
    found = found[np.argsort(-found["flux"])][:400]
    x, y, _ = sep.winpos(data - background.back(), found["x"], found["y"], np.full(len(found), 1.3))
    return np.column_stack([x, y])


def _moved(image: np.ndarray, transform: np.ndarray, shape) -> np.ndarray:
    from scipy.ndimage import map_coordinates

    x, y = _affine(transform, shape)
    return map_coordinates(image.astype(np.float32), [y, x], order=1, cval=np.nan)


def _affine(transform: np.ndarray, shape) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    (a, b, c), (d, e, f) = transform
    return a * x + b * y + c, d * x + e * y + f


def _inverse(transform: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(transform[:, :2])
    return np.column_stack([linear, -linear @ transform[:, 2]])


def _level(image: np.ndarray) -> np.ndarray:
    return image - np.nanmedian(image)


def _gain(first: np.ndarray, image: np.ndarray) -> float:
    """Rough ratio of two images' light, from their brightest pixels that are not the very brightest."""
    a, b = _level(first), _level(image)
    both = np.isfinite(a) & np.isfinite(b)
    low, high = np.quantile(a[both], [0.995, 0.9995])
    use = both & (a > low) & (a < high)
    return float(np.median(b[use]) / np.median(a[use]))


def _inner(mask: np.ndarray, border: int) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return binary_erosion(mask, np.ones((3, 3)), iterations=border)


def _stars(mean: np.ndarray, common: np.ndarray, fwhm: float):
    """Table of stars within the common area, and where there is starlight (ny, nx)."""
    from scipy.ndimage import binary_dilation

    data = np.where(np.isfinite(mean), mean, 0).astype(np.float32)
    background = sep.Background(data, mask=~np.isfinite(mean), bw=64, bh=64)
    data -= background.back()
    sep.set_extract_pixstack(2_000_000)
    found, areas = sep.extract(data, 2.0, err=background.globalrms, minarea=4, segmentation_map=True)
    light = binary_dilation(areas > 0, np.ones((3, 3)), iterations=max(int(fwhm), 2))
    # The wings of the brightest reach further than any threshold shows.
    for star in found[found["flux"] > 2000 * background.globalrms]:
        reach = int(4 * fwhm * (1 + 0.3 * np.log10(star["flux"] / (2000 * background.globalrms))))
        y, x = int(star["y"]), int(star["x"])
        light[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1] = True
    x, y = np.rint(found["x"]).astype(int), np.rint(found["y"]).astype(int)
    return found[common[y, x]], light


def blocks(data: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Means over blocks of BLOCK x BLOCK pixels that are all of use."""
    ny, nx = (n // BLOCK * BLOCK for n in data.shape)

    def cut(array):
        return array[:ny, :nx].reshape(ny // BLOCK, BLOCK, nx // BLOCK, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK**2)

    return cut(data)[cut(use).all(axis=1)].mean(axis=1)


def _circles(data: np.ndarray, use: np.ndarray, radius: float) -> np.ndarray:
    """Sums over circles on empty sky, on a lattice."""
    step = 2 * radius + 1
    y, x = (p.ravel() for p in np.mgrid[step : data.shape[0] - step : step, step : data.shape[1] - step : step])
    free = sep.sum_circle((~use).astype(np.float32), x, y, radius, subpix=0)[0] == 0
    return sep.sum_circle(data, x[free], y[free], radius, subpix=0)[0]


def robust(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if len(values) else float("nan")


def isolated(stars: np.ndarray, radius: float, share: float = 0.01) -> np.ndarray:
    """Stars without a neighbour within `radius` that has more than a share of their light."""
    apart = np.hypot(stars["x"][:, None] - stars["x"], stars["y"][:, None] - stars["y"])
    np.fill_diagonal(apart, np.inf)
    return ~((apart < radius) & (stars["flux"] > share * stars["flux"][:, None])).any(axis=1)


def rows(images: list[np.ndarray], covered, saturation, fwhm: float, truth=None, trail=None) -> list[dict]:
    """One row of numbers for each image of the same sky.

    covered, saturation (ny, nx) bool on the first stack: where all frames are, where a star is saturated; truth: the
    image that it should be; trail: function giving the distance of its pixels from the axis of a satellite's trail
    """
    ruler = Ruler(images, fwhm, covered)
    seen = [ruler.measure(number, image) for number, image in enumerate(images)]
    first, stars = seen[0], ruler.stars
    alone = isolated(stars, 7 * fwhm) & (_circled(saturation, stars, 2 * fwhm) == 0)
    width = [float(np.median(one["fwhm"][alone & (one["flux"] > np.quantile(one["flux"], 0.8))])) for one in seen]
    alike = [ruler.faint(one, w, max(width)) for one, w in zip(seen, width, strict=True)]
    depth = [snr for snr, _ in alike]
    bright = alone & (first["flux"] > 50 * first["blocks"] * BLOCK * np.sqrt(np.pi) * 3.5 * fwhm)
    middle = np.mean(depth, axis=0)
    faint = alone & (middle > 5) & (middle < 20)
    standard = first["flux"] if truth is None else _circled(truth, stars, 3.5 * fwhm)
    out = []
    for number, one in enumerate(seen):
        ratio = one["flux"][bright] / standard[bright]
        scale = np.median(ratio)
        brightest = np.argsort(-standard[bright])[: max(bright.sum() // 4, 3)]
        row = {
            "noise": one["blocks"] / scale,
            "alike": alike[number][1] / scale,
            "fwhm": width[number],
            "scale": float(scale),
            "scatter": 100 * robust(ratio / scale),
            "core": 100 * (np.median(ratio[brightest]) / scale - 1),
            "snr": float(np.median(depth[number][faint])),
            "stars": (int(bright.sum()), int(faint.sum())),
        }
        if trail is not None:
            away = trail(*_affine(_inverse(ruler.to[number]), one["data"].shape))
            dark = ~ruler.onto(number, away.shape, truth > 2 * first["blocks"]) & np.isfinite(images[number])
            row["trail"] = _along(one["data"], dark, away)
        out.append(row)
    return out


def _circled(image: np.ndarray, stars: np.ndarray, radius: float) -> np.ndarray:
    return sep.sum_circle(image.astype(np.float32), stars["x"], stars["y"], radius, subpix=0)[0]


def _along(data: np.ndarray, dark: np.ndarray, away: np.ndarray) -> float:
    """Largest mean along a trail, at any distance from its axis, in units of the scatter of a pixel of the sky."""
    lines = [data[dark & (np.abs(away - d) < 0.5)].mean() for d in range(-8, 9)]
    return float(np.abs(lines).max() / robust(data[dark & (np.abs(away) > 20)]))
