"""One raw frame through the steps: which numbers and masters each step is given, in memory or one file per step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits

from . import calibrate, cosmic, sources, trim
from .frame import Frame, Mask, must_match
from .header import detector, parse_section

# Frames of each kind go through these steps before they are combined into their master.
KIND_STEPS = {
    "bias": ("trim", "deviation", "gain"),
    "dark": ("trim", "deviation", "gain"),
    "flat": ("trim", "deviation", "gain", "bias", "dark"),
    "light": calibrate.STEPS,
}


@dataclass
class Reduction:
    """What a frame is reduced with: masters (None where there is none), camera settings and options of the steps."""

    kind: str = "light"
    bias: Frame | None = None
    dark: Frame | None = None
    flat: Frame | None = None
    cameras: object = ()
    options: dict = field(default_factory=dict)
    equal_exposure: float = 0.02


def prepare(data: np.ndarray, header: fits.Header, facts: dict) -> Frame:
    """A raw image (ny, nx) and its repaired header as a frame in ADU, with what the frames table knows as standard cards.

    facts  keyword -> value, such as FILTER, EXPTIME, OBJECT, NIGHT, FLFRAME
    """
    frame = Frame(np.asarray(data, np.float32), header.copy()).with_(
        {key: value for key, value in facts.items() if value is not None}
    )
    if np.issubdtype(data.dtype, np.integer) and data.dtype.itemsize <= 2:
        frame.header["FLADCMAX"] = (int(np.iinfo(data.dtype).max), "[adu] largest value that the raw file can hold")
    nothing = ~np.isfinite(frame.data)
    if nothing.all():
        raise ValueError("no pixel of this frame has a value")
    if nothing.any():
        filled = np.where(nothing, np.median(frame.data[~nothing]), frame.data)
        frame = frame.with_(data=filled, mask=np.where(nothing, np.uint8(Mask.NO_DATA), np.uint8(0)))
    return frame


def reduce(frame: Frame, reduction: Reduction) -> Frame:
    """A frame through all the steps of its kind, in memory."""
    for name in KIND_STEPS[reduction.kind]:
        frame = step(name, frame, reduction)
    return frame


def step(name: str, frame: Frame, reduction: Reduction) -> Frame:
    """A frame through one step, with what that step needs taken from the reduction."""
    return globals()[f"_{name}"](frame, reduction)


def dark_ratio(exposure: float | None, dark_exposure: float | None, equal: float = 0.02) -> float:
    """k, the exposure over that of the dark; exactly 1 where they differ by less than the fraction `equal`."""
    if not exposure or not dark_exposure or abs(exposure / dark_exposure - 1) <= equal:
        return 1.0
    return exposure / dark_exposure


def _trim(frame, reduction):
    camera = detector(frame.header, reduction.cameras)
    stated = camera.saturation or reduction.options.get("trim", {}).get("saturation")
    saturation = stated or trim.find_saturation(frame.data) or frame.header.get("FLADCMAX")
    overscan, region = (parse_section(text) if text else None for text in (camera.overscan, camera.trim))
    return trim.trim(frame, saturation, overscan, region)


def _deviation(frame, reduction):
    camera = detector(frame.header, reduction.cameras)
    level = frame.data if reduction.kind == "bias" else _level(frame, reduction, camera)
    return calibrate.deviation(frame, camera.gain, camera.read_noise, level)


def _gain(frame, reduction):
    return calibrate.gain(frame, detector(frame.header, reduction.cameras).gain)


def _cosmic_ray(frame, reduction):
    options = reduction.options.get("cosmic_ray", {})
    pedestal, known = 0.0, frame.mask
    ratio = _ratio(frame, reduction)
    for kind, share in (("bias", 1 - ratio), ("dark", ratio), ("flat", None)):
        master = getattr(reduction, kind)
        if master is None or share == 0:
            continue
        must_match(frame, master if share else master.with_(unit=frame.unit), f"master {kind}")
        known = known | master.mask  # a bad pixel looks like a hit, and like a star to what measures the FWHM
        if share:
            pedestal = pedestal + np.float32(share) * master.data
    frame = frame.with_(mask=known)
    fwhm = None
    if options.get("method", "laplacian") == "laplacian":
        fwhm = sources.quick_fwhm(frame.data - pedestal, frame.mask != 0)
    return cosmic.cosmic_ray(frame, pedestal, fwhm=fwhm, **options)


def _bias(frame, reduction):
    return calibrate.bias(frame, reduction.bias, 1 - _ratio(frame, reduction))


def _dark(frame, reduction):
    return calibrate.dark(frame, reduction.dark, _ratio(frame, reduction))


def _flat(frame, reduction):
    return calibrate.flat(frame, reduction.flat)


def _ratio(frame, reduction) -> float:
    """Share k of the dark; 0 without one."""
    if reduction.dark is None:
        return 0.0
    return dark_ratio(frame.header.get("EXPTIME"), reduction.dark.header.get("EXPTIME"), reduction.equal_exposure)


def _level(frame, reduction, camera):
    """What is not light in a raw frame, in ADU: master bias, else the level of the master dark (for a dark its own),
    else the camera's stated level, else None."""
    gain = camera.gain or 1.0
    if reduction.bias is not None:
        must_match(frame, reduction.bias.with_(unit=frame.unit), "master bias")
        return reduction.bias.data / np.float32(gain)
    if reduction.dark is not None:
        return float(np.median(reduction.dark.data)) / gain
    if reduction.kind == "dark":
        return float(np.median(frame.data))
    return camera.bias_level
