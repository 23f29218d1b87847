"""The mosaic of a colour sensor, pixel by pixel: four sites (R, G, G, B), each an image of half the scale.

The site (y, x) of a mosaic (ny, nx) is every second pixel from there on, an image (ny // 2, nx // 2) of one colour. Steps that
look at a pixel's neighbours see those of its own colour this way; nothing is interpolated between colours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .bayer import OFFSETS, PATTERNS, SITES, moved, sites_of
from .dialects import KEYWORDS
from .frame import Frame, Mask
from .pointing import rescaled

PATTERN, PLANE, PLACES = "BAYERPAT", "FLPLANE", "FLSITES"  # cards of a frame in memory
BY_COLOUR = "FLMOSAIC"  # card of a flat
_COUNTED = ("NCOSMIC",)  # cards that count pixels


# --- Sites of images and frames -------------------------------------------------------------------------------------
def site_of(image: np.ndarray | None, site: tuple[int, int]) -> np.ndarray | None:
    """One site of an image (ny, nx): (ny // 2, nx // 2)."""
    if image is None:
        return None
    ny, nx = (length // 2 * 2 for length in image.shape)
    return np.ascontiguousarray(image[site[0] : ny : 2, site[1] : nx : 2])


def at(frame: Frame | None, site: tuple[int, int]) -> Frame | None:
    """One site of a master; its header is that of the whole."""
    if frame is None:
        return None
    parts = {name: site_of(getattr(frame, name), site) for name in ("data", "sigma", "mask", "common")}
    return Frame(header=frame.header, unit=frame.unit, **parts)


def flat_at(master: Frame | None, site: tuple[int, int]) -> Frame | None:
    """One site of a master flat; of one that was normalised as a whole, by its own median."""
    part = at(master, site)
    if part is None or part.header.get(BY_COLOUR):
        return part
    good = (part.mask & Mask.UNUSABLE) == 0
    level = np.float32(np.median(part.data[good])) if good.any() else np.float32(0)
    if not level > 0:
        raise ValueError("the master flat has no light in one of the sensor's colours")
    return part.with_(data=part.data / level, sigma=None if part.sigma is None else part.sigma / level)


def sites(header) -> tuple[tuple[int, int], ...]:
    """The sites that a frame in the course of its steps consists of; () of a frame that is whole."""
    return tuple((int(text[0]), int(text[1])) for text in str(header.get(PLACES) or "").split())


def text_of(places) -> str:
    """Sites as the card FLSITES has them."""
    return " ".join(f"{y}{x}" for y, x in places)


def taken_apart(frame: Frame, y: int = 0, x: int = 0) -> Frame:
    """A trimmed frame reduced to the sites of its plane, one above the other: (n ny // 2, nx // 2); as it is where no card
    names a plane or sites.

    y, x  where the trimmed frame begins in the raw one, for the card BAYERPAT
    """
    header = frame.header
    if header.get(PATTERN) in PATTERNS:
        frame = frame.with_({PATTERN: moved(header[PATTERN], y, x)})
        if PLANE in header:
            frame.header[PLACES] = text_of(sites_of(frame.header[PATTERN], header[PLANE]))
    places = sites(frame.header)
    if not places:
        return frame
    whole = together([at(frame, site) for site in places])
    middle = np.mean(places, axis=0)
    header = rescaled(frame.header, 2, *middle)
    for key in (*KEYWORDS["colour"], *OFFSETS):  # a plane is no mosaic: nobody is to take it for one
        header.remove(key, ignore_missing=True)
    return whole.with_(header=header)


def parts(frame: Frame) -> list[Frame]:
    """The sites of a frame that `taken_apart` made."""
    number = len(sites(frame.header))
    split = {
        name: np.split(image, number)
        for name in ("data", "sigma", "mask", "common")
        if (image := getattr(frame, name)) is not None
    }
    return [
        Frame(header=frame.header, unit=frame.unit, **{name: images[i] for name, images in split.items()})
        for i in range(number)
    ]


def together(parts: list[Frame]) -> Frame:
    """Sites as one frame again, one above the other; cards that count pixels are summed."""
    first, *others = parts
    if not others:
        return first
    joined = {
        name: None if getattr(first, name) is None else np.concatenate([getattr(one, name) for one in parts])
        for name in ("data", "sigma", "mask", "common")
    }
    counts = {key: sum(one.header[key] for one in parts) for key in _COUNTED if key in first.header}
    return Frame(header=first.header, unit=first.unit, **joined).with_(counts)


def plane(frame: Frame) -> Frame:
    """The plane of a frame whose steps are done: its site, or the mean of its two greens a and b.

    data = (a + b) / 2,   sigma = sqrt(sigma_a^2 + sigma_b^2) / 2,   mask: the bits of both
    """
    found = parts(frame)
    header = frame.header.copy()
    del header[PLACES]
    if len(found) == 1:
        return found[0].with_(header=header)
    a, b = found
    sigma = common = None
    if a.sigma is not None:
        squares = np.square(a.sigma), np.square(b.sigma)
        total = squares[0] + squares[1]
        sigma = np.sqrt(total) / 2
        if a.common is not None:
            shared = squares[0] * a.common + squares[1] * b.common
            share = np.divide(shared, total, out=np.zeros_like(total), where=total > 0)
            common = np.rint(share).astype(np.uint8)
    return Frame((a.data + b.data) / 2, header, sigma, a.mask | b.mask, frame.unit, common)


# --- Masters --------------------------------------------------------------------------------------------------------
def each_site(make: Callable[[tuple[int, int]], Frame]) -> Frame:
    """A master of which each site is made by itself, so that level, neighbours and outliers are those of one colour.

    make(site)  the master (`masters.Master`) of a site
    """
    made = [make(site) for site in SITES]
    first = made[0]
    ny, nx = first.shape

    def woven(name: str):
        image = np.empty((2 * ny, 2 * nx), getattr(first, name).dtype)
        for (y, x), one in zip(SITES, made, strict=True):
            image[y::2, x::2] = getattr(one, name)
        return image

    header = first.header.copy()
    del header[PLACES]
    header[BY_COLOUR] = (True, "each site of the mosaic is normalised by itself")
    for key, pick in (("NCOMBINE", min), ("NLEFTOUT", max), ("FLSCATTR", max), ("FLSIGRAT", max)):
        if key in header:
            header[key] = pick(one.header[key] for one in made if key in one.header)
    return replace(
        first,
        header=header,
        inputs=_inputs(made),
        **{name: woven(name) for name in ("data", "sigma", "mask", "count")},
    )


def _inputs(made: list) -> tuple[tuple[str, str, str], ...]:
    """Inputs of all sites: a frame that some site could use is not left out."""
    found: dict[tuple[str, str], str] = {}
    for one in made:
        for name, content, note in one.inputs:
            found[name, content] = "" if not note else found.get((name, content), note)
    return tuple((*key, note) for key, note in found.items())
