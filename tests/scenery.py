"""Drawn stacks for pictures: {filter: (data, mask, None)} with known colours."""

import numpy as np


def scene(colours, sky=(100, 300, 900), size=200, noise=5.0, stars=40, peak=3000.0, seed=1):
    """B, V, R: equal star fields times a filter's factor, on a flat noisy sky."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    field = np.zeros((size, size))
    for cy, cx, height in zip(*rng.uniform(15, size - 15, (2, stars)), rng.uniform(0.2, 1, stars) * peak, strict=True):
        field += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.5**2))
    stacks = {}
    for name, factor, level in zip("BVR", colours, sky, strict=True):
        data = level + factor * field + rng.normal(0, noise, field.shape)
        stacks[name] = (data.astype(np.float32), np.zeros(field.shape, np.uint8), None)
    return stacks


def drawn(blue, green, red, where=(60, 60), size=120, noise=1.0):
    """B, V, R with sky 0 and one 5x5 patch of the given values."""
    rng = np.random.default_rng(5)
    stacks = {}
    for name, value in zip("BVR", (blue, green, red), strict=True):
        data = rng.normal(0, noise, (size, size)).astype(np.float32)
        data[where[0] - 2 : where[0] + 3, where[1] - 2 : where[1] + 3] = value
        stacks[name] = (data, np.zeros(data.shape, np.uint8), None)
    return stacks


def coloured(slopes, zeros, colours, size=400, noise=3.0, seed=2, fwhm=3.0, brightest=300000.0, beta=None):
    """Stars of known colours c in B, V, R: flux * 10^(-0.4 (zero + slope c)), and where they are.

    slopes, zeros   of B, V, R [mag]; colours (n,) [mag]; fwhm a number or one for each filter; stars are Gaussians, or
    with `beta` Moffat profiles. Returns (stacks, stars with x, y, mag, colour); stars do not touch each other.
    """
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(len(colours))))
    step = (size - 60) / side
    place = (
        np.array([(i % side, i // side) for i in range(len(colours))]) * step
        + 30
        + rng.uniform(6, step - 6, (len(colours), 2))
    )
    flux = brightest * rng.uniform(0.2, 1, len(colours))
    stacks = {}
    for name, slope, zero, width in zip("BVR", slopes, zeros, np.broadcast_to(fwhm, 3), strict=True):
        data = 200 + rng.normal(0, noise, (size, size))
        for (x, y), total in zip(place, flux * 10 ** (-0.4 * (zero + slope * np.asarray(colours))), strict=True):
            add_star(data, x, y, total, width, beta)
        stacks[name] = (data.astype(np.float32), np.zeros(data.shape, np.uint8), None)
    mags = 20 - 2.5 * np.log10(flux)
    stars = np.rec.fromarrays([place[:, 0], place[:, 1], mags, np.asarray(colours, float)], names="x,y,mag,colour")
    return stacks, stars


def add_star(data, x, y, flux, fwhm, beta=None):
    """Paint a star of a total flux into an image."""
    rows, columns = np.mgrid[: data.shape[0], : data.shape[1]]
    square = (rows - y) ** 2 + (columns - x) ** 2
    if beta is None:
        data += flux * np.exp(-square * 4 * np.log(2) / fwhm**2) * 4 * np.log(2) / np.pi / fwhm**2
        return
    alpha = (fwhm / 2) ** 2 / (2 ** (1 / beta) - 1)
    data += flux * (beta - 1) / np.pi / alpha * (1 + square / alpha) ** -beta


def gradient(shape, *terms):
    """A sky with a slope: terms (i, j, amplitude) of y^i x^j with x, y from -1 to 1 across the image."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return sum(amplitude * y**i * x**j for i, j, amplitude in terms)


def shell(shape, centre, radius):
    """A nebula of peak 1: (1 - u)^2 (1 + 2 u) with u = (distance / radius)^2, nothing outside."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    u = np.minimum(((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / radius**2, 1)
    return (1 - u) ** 2 * (1 + 2 * u)
