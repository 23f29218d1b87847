"""The mosaic of a colour sensor, pixel by pixel: four sites (R, G, G, B), each an image of half the scale.

The site (y, x) of a mosaic (ny, nx) is every second pixel from there on, an image (ny // 2, nx // 2) of one colour. Steps that
look at a pixel's neighbours see those of its own colour this way; nothing is interpolated between colours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .bayer import OFFSETS, PATTERNS, SITES, levels, moved, sites_of
from .dialects import KEYWORDS
from .frame import Frame, Mask
from .pointing import pixel_scale, rescaled

PATTERN, PLANE, PLACES = "BAYERPAT", "FLPLANE", "FLSITES"  # cards of a frame in memory
BY_COLOUR = "FLMOSAIC"  # card of a flat
DEBAYER = "FLDEBAYR"  # card of a light that is to have all pixels in one colour
_COUNTED = ("NCOSMIC",)  # cards that count pixels
_OF_FLATS = {"NCOMBINE": min, "NLEFTOUT": max, "FLSCATTR": max, "FLSIGRAT": max, "NDEAD": sum, "NLOWFLAT": sum}
LAMP = 0.03  # share of its level by which the sites of a colour sensor's flat differ, at the least


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


def binned(header) -> int:
    """Pixels of the sensor that a pixel of a light is wide: 2 in a colour sensor's planes."""
    return 2 if PLANE in header and DEBAYER not in header else 1


def scale_of(header, stated: float | None) -> float | None:
    """arcsec/pix of a light: what the configuration states of the sensor, else what its header says; None for unknown."""
    if stated:
        return stated * binned(header)
    known = pixel_scale(header)
    return known[0] if known else None


def text_of(places) -> str:
    """Sites as the card FLSITES has them."""
    return " ".join(f"{y}{x}" for y, x in places)


def taken_apart(frame: Frame, y: int = 0, x: int = 0) -> Frame:
    """A trimmed frame reduced to the sites of its plane, one above the other: (n ny // 2, nx // 2); to all of them where it is
    to be demosaiced; as it is where no card names a plane or sites.

    y, x  where the trimmed frame begins in the raw one, for the card BAYERPAT
    """
    header = frame.header
    if header.get(PATTERN) in PATTERNS:
        frame = frame.with_({PATTERN: moved(header[PATTERN], y, x)})
        if PLANE in header:
            wanted = SITES if DEBAYER in header else sites_of(frame.header[PATTERN], header[PLANE])
            frame.header[PLACES] = text_of(wanted)
    places = sites(frame.header)
    if not places:
        return frame
    whole = together([at(frame, site) for site in places])
    if DEBAYER in header:
        return whole
    middle = np.mean(places, axis=0)
    return whole.with_(header=_no_mosaic(rescaled(frame.header, 2, *middle)))


def _no_mosaic(header):
    """A header without the cards of a mosaic: nobody is to take a plane for one."""
    for key in (*KEYWORDS["colour"], *OFFSETS):
        header.remove(key, ignore_missing=True)
    return header


def parts(frame: Frame) -> list[Frame]:
    """The sites of a frame that `taken_apart` made; what its header counts the first has."""
    number = len(sites(frame.header))
    others = frame.header.copy()
    for key in _COUNTED:
        others.remove(key, ignore_missing=True)
    split = {
        name: np.split(image, number)
        for name in ("data", "sigma", "mask", "common")
        if (image := getattr(frame, name)) is not None
    }
    return [
        Frame(
            header=others if i else frame.header, unit=frame.unit, **{name: images[i] for name, images in split.items()}
        )
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
    counts = {key: sum(one.header.get(key, 0) for one in parts) for key in _COUNTED if key in first.header}
    return Frame(header=first.header, unit=first.unit, **joined).with_(counts)


def plane(frame: Frame) -> Frame:
    """The plane of a frame whose steps are done: its site, or the mean of its two greens a and b.

    data = (a + b) / 2,   sigma = sqrt(sigma_a^2 + sigma_b^2) / 2,   mask: the bits of both
    """
    if DEBAYER in frame.header:
        return demosaiced(frame)
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


def demosaiced(frame: Frame) -> Frame:
    """All pixels of a frame whose steps are done in the colour of its plane, (ny, nx): those of other sites interpolated by
    OpenCV with regard to edges, with sigma and bits of the nearest pixel of the colour and the bit INTERPOLATED.

    For pictures. What is interpolated between colours shares noise, and stars get the shape of their neighbours' colours.
    """
    import cv2

    found, header = parts(frame), frame.header.copy()
    pattern, colour = header[PATTERN], header[PLANE]
    del header[PLACES]
    nearest = _nearest(pattern, colour)
    images = {
        name: woven([getattr(found[place], name) for place in nearest])
        for name in ("data", "sigma", "mask", "common")
        if getattr(found[0], name) is not None
    }
    values = woven([np.where(np.isfinite(one.data), one.data, _middle(one.data)) for one in found])
    low, high = float(values.min()), float(values.max())
    step = max(high - low, 1e-30) / 65535  # OpenCV demosaics whole numbers
    whole = np.rint((values - low) / step).astype(np.uint16)
    full = cv2.demosaicing(whole, getattr(cv2, f"COLOR_Bayer{pattern}2RGB_EA"))[..., "RGB".index(colour)]
    own = woven([np.full(found[0].shape, letter == colour) for letter in pattern])
    unknown = (images["mask"] & Mask.NO_DATA) != 0
    images["data"] = np.where(own | unknown, images["data"], full * np.float32(step) + np.float32(low))
    images["mask"] = np.where(own, images["mask"], images["mask"] | np.uint8(Mask.INTERPOLATED))
    return Frame(header=_no_mosaic(header), unit=frame.unit, **images)


def _middle(image: np.ndarray) -> float:
    """Median of what is a number, 0 where nothing is."""
    known = image[np.isfinite(image)]
    return float(np.median(known)) if known.size else 0.0


def _nearest(pattern: str, colour: str) -> list[int]:
    """For each site the number of one of the colour: itself, else in the same row, the same column, across."""
    return [next(number for number in (i, i ^ 1, i ^ 2, i ^ 3) if pattern[number] == colour) for i in range(len(SITES))]


def woven(images) -> np.ndarray:
    """One image (2 ny, 2 nx) of those (ny, nx) of the four sites."""
    ny, nx = images[0].shape
    out = np.empty((2 * ny, 2 * nx), images[0].dtype)
    for (y, x), image in zip(SITES, images, strict=True):
        out[y::2, x::2] = image
    return out


# --- Masters --------------------------------------------------------------------------------------------------------
def each_site(make: Callable[[tuple[int, int]], Frame]) -> Frame:
    """A master of which each site is made by itself, so that level, neighbours and outliers are those of one colour.

    make(site)  the master (`masters.Master`) of a site
    """
    made = [make(site) for site in SITES]
    header = rescaled(made[0].header, 1 / 2, 0, 0)  # that of the whole again
    del header[PLACES]
    return replace(_as_one(made, header), inputs=_inputs(made), count=woven([one.count for one in made]))


def site_by_site(master: Frame, make: Callable[[Frame], Frame]) -> Frame:
    """What a function makes of each site of a master flat, as one master again."""
    made = [make(at(master, site)) for site in SITES]
    return _as_one(made, made[0].header.copy())


def _as_one(made: list[Frame], header) -> Frame:
    """Masters of the four sites woven together."""
    header[BY_COLOUR] = (True, "each site of the mosaic is normalised by itself")
    for key, pick in _OF_FLATS.items():
        if key in header:
            header[key] = pick(one.header[key] for one in made if key in one.header)
    images = {name: woven([getattr(one, name) for one in made]) for name in ("data", "sigma", "mask")}
    return replace(made[0], header=header, **images)


def shows_colours(flat: np.ndarray) -> bool:
    """Whether the levels of a flat's sites (ny, nx) differ as a lamp's colours make them."""
    found = levels(flat)
    return bool(found) and max(found[:4]) - min(found[:4]) > max(LAMP * max(found[:4]), 10 * found[4])


def _inputs(made: list) -> tuple[tuple[str, str, str], ...]:
    """Inputs of all sites: a frame that some site could use is not left out."""
    found: dict[tuple[str, str], str] = {}
    for one in made:
        for name, content, note in one.inputs:
            found[name, content] = "" if not note else found.get((name, content), note)
    return tuple((*key, note) for key, note in found.items())
