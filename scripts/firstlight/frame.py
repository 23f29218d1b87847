"""The one value that flows through the chain: an image with its sigma, mask, header and unit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from astropy.io import fits


class Mask:
    """Bits of a frame's mask; a pixel may carry several. Zero is a good pixel."""

    BAD = 1  # the detector's own fault: hot, dead, or named in a mask file
    SATURATED = 2  # at or above the saturation level on raw ADU, or next to such a pixel
    COSMIC_RAY = 4  # a particle hit, in this frame alone
    LOW_FLAT = 8  # response too low to divide by
    NO_DATA = 16  # outside of the image, or not a number
    INTERPOLATED = 32  # the value was replaced from good neighbours

    NAMES = {1: "BAD", 2: "SATURATED", 4: "COSMIC_RAY", 8: "LOW_FLAT", 16: "NO_DATA", 32: "INTERPOLATED"}
    # Values under these bits say nothing about the sky. A saturated pixel does: at least this much.
    UNUSABLE = BAD | COSMIC_RAY | LOW_FLAT | NO_DATA


MASTER_NAME = "FLMASTER"  # card that a master carries in memory: where it lies among the masters


class Unusable(ValueError):
    """Raised on purpose where frames give no product: the night goes on without it, and its place says why."""


@dataclass(frozen=True)
class Frame:
    """An image and what is known about it.

    data    float32 (ny, nx), in `unit`
    sigma   float32 (ny, nx), standard deviation of `data` in the same unit; None before `deviation`
    mask    uint8 (ny, nx), bits of `Mask`
    header  FITS header without the cards that describe the array itself
    unit    "adu" or "electron"
    common  uint8 (ny, nx), what the masters brought of the variance `sigma`^2, in 1/255 of it: the part of the noise that
            frames share where they see the sky with the same pixel and the same masters; None for nothing
    """

    data: np.ndarray
    header: fits.Header
    sigma: np.ndarray | None = None
    mask: np.ndarray | None = None
    unit: str = "adu"
    common: np.ndarray | None = None

    def __post_init__(self):
        if self.mask is None:
            object.__setattr__(self, "mask", np.zeros(self.data.shape, np.uint8))
        for name in ("sigma", "mask", "common"):
            array = getattr(self, name)
            if array is not None and array.shape != self.data.shape:
                raise ValueError(f"{name} is {size(array)} but the image is {size(self.data)}")

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.data.shape

    def with_(self, keywords: dict | None = None, **changes) -> Frame:
        """A copy with some parts replaced and `keywords` (value, or (value, comment)) set in a copy of the header."""
        header = changes.pop("header", self.header)
        if keywords:
            header = header.copy()
            for key, value in keywords.items():
                header[key] = value
        return replace(self, header=header, **changes)

    def noisier(self, sigma: np.ndarray, times=1.0) -> Frame:
        """The frame with `times` the noise `sigma` (ny, nx) of a master in its own sigma, and in the share that is common
        to frames: sigma^2 = own^2 + (times master)^2. times: a number or an image (ny, nx) that brings the master's noise
        to the frame's unit. As it is where it has no sigma."""
        if self.sigma is None:
            return self
        out, common = np.empty(self.shape, np.float32), np.empty(self.shape, np.uint8)
        for rows in row_blocks(self.shape):
            own = np.square(self.sigma[rows])
            added = np.multiply(sigma[rows], times[rows] if np.ndim(times) else np.float32(times), dtype=np.float32)
            np.square(added, out=added)
            if self.common is None:
                total = np.add(own, added, out=own)
            else:
                total = own + added
                own *= self.common[rows] / np.float32(255)
                added += own
            np.sqrt(total, out=out[rows])
            share = np.divide(added, total, out=np.zeros_like(total), where=total > 0)
            share *= 255
            np.copyto(common[rows], np.rint(np.minimum(share, 255, out=share), out=share), casting="unsafe")
        return self.with_(sigma=out, common=common)


def row_blocks(shape: tuple[int, int], pixels: int = 1 << 16):
    """Slices of rows of an image (ny, nx) that hold about so many pixels: few enough that what is made of them stays in
    the processor's cache from one operation to the next, many enough that calls cost nothing."""
    ny, nx = shape
    high = max(1, pixels // max(nx, 1))
    return [slice(start, min(start + high, ny)) for start in range(0, ny, high)]


def size(array: np.ndarray) -> str:
    """'1024x2048' for people: columns by rows, as cameras are described."""
    ny, nx = array.shape
    return f"{nx}x{ny}"


def must_match(frame: Frame, master: Frame, what: str) -> None:
    """Raise ValueError unless a master has the frame's size and unit."""
    if master.shape != frame.shape:
        raise ValueError(
            f"{what} is {size(master.data)} but the frame is {size(frame.data)}: same binning and trim section?"
        )
    if master.unit != frame.unit:
        raise ValueError(
            f"{what} is in {master.unit} but the frame is in {frame.unit}: same gain for both? cameras: gain gives it"
        )


def printable(text: str) -> str:
    """Text reduced to what a FITS header may hold."""
    return "".join(c if " " <= c <= "~" else "?" if c > "~" else " " for c in str(text))
