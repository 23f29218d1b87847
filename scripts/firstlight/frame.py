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

    def noisier(self, sigma: np.ndarray) -> Frame:
        """The frame with the noise (ny, nx) of a master, in its unit, in its sigma and in the share that is common to
        frames: sigma^2 = own^2 + master^2. As it is where it has no sigma."""
        if self.sigma is None:
            return self
        own, added = np.square(self.sigma), np.square(sigma)
        total = own + added
        before = 0 if self.common is None else self.common * (own / np.float32(255))
        share = np.divide(before + added, total, out=np.zeros_like(total), where=total > 0)
        return self.with_(sigma=np.sqrt(total), common=np.rint(255 * np.minimum(share, 1)).astype(np.uint8))


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
