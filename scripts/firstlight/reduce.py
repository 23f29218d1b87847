"""One raw frame through the steps: which numbers and masters each step is given, in memory or one file per step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from astropy.io import fits

from . import calibrate, cosmic, mosaic, pairs, sources, trim
from .frame import Frame, Mask, must_match, printable, row_blocks
from .header import detector, in_electrons
from .section import parse_section

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
    masks: dict = field(default_factory=dict)  # what `cameras: mask` names: see trim.bad_pixels
    equal_exposure: float = 0.02
    measured: pairs.Measured = pairs.Measured()
    _sites: dict = field(default_factory=dict, repr=False)

    def at(self, site: tuple[int, int]) -> Reduction:
        """The same for one site of a mosaic, with the masters' pixels there."""
        if site not in self._sites:
            bias, dark = (mosaic.at(master, site) for master in (self.bias, self.dark))
            self._sites[site] = replace(self, _sites={}, bias=bias, dark=dark, flat=mosaic.flat_at(self.flat, site))
        return self._sites[site]


def prepare(data: np.ndarray, header: fits.Header, facts: dict) -> Frame:
    """A raw image (ny, nx) and its repaired header as a frame in ADU, with what the frames table knows as standard cards.

    facts  keyword -> value, such as FILTER, EXPTIME, OBJECT, NIGHT, FLFRAME
    """
    frame = Frame(np.asarray(data, np.float32), header.copy()).with_(
        {key: value for key, value in facts.items() if value is not None}
    )
    if facts.get("EXPTIME", 0) is None:  # what the header has is no exposure
        frame.header.remove("EXPTIME", ignore_missing=True, remove_all=True)
    if mosaic.PATTERN in facts:  # counted from the first stored pixel, as the frames table does
        for key in mosaic.OFFSETS:
            frame.header.remove(key, ignore_missing=True)
    if np.issubdtype(data.dtype, np.integer) and data.dtype.itemsize <= 2:
        step = adc_step(data)
        frame.header["FLADCSTP"] = (step, "[adu] step of the ADC")
        largest = int(np.iinfo(data.dtype).max) // step * step
        frame.header["FLADCMAX"] = (largest, "[adu] largest value that the raw file can hold")
    if np.issubdtype(data.dtype, np.integer):
        return frame
    nothing = ~np.isfinite(frame.data)
    if nothing.all():
        raise ValueError("no pixel of this frame has a value")
    if nothing.any():
        filled = np.where(nothing, np.median(frame.data[~nothing]), frame.data)
        frame = frame.with_(data=filled, mask=np.where(nothing, np.uint8(Mask.NO_DATA), np.uint8(0)))
    return frame


def adc_step(data: np.ndarray) -> int:
    """The power of two of which all differences of whole numbers are multiples: 16 for 12 bits padded to 16, else 1."""
    differing, first = 0, data.flat[0]
    for rows in row_blocks(data.shape):
        differing |= int(np.bitwise_or.reduce(data[rows] ^ first, axis=None))
        if differing & 1:  # as in most frames at once
            break
    return differing & -differing or 1


def reduce(frame: Frame, reduction: Reduction) -> Frame:
    """A frame through all the steps of its kind, in memory."""
    for name in KIND_STEPS[reduction.kind]:
        frame = step(name, frame, reduction)
    return frame


def step(name: str, frame: Frame, reduction: Reduction) -> Frame:
    """A frame through one step, with what that step needs taken from the reduction; of a colour sensor's plane, which the first
    step takes out of the mosaic, each site by itself, until the last makes it one image."""
    places = mosaic.sites(frame.header) if name != "trim" else ()
    if not places:
        return _step(name, frame, reduction)
    parts = [_step(name, part, reduction.at(site)) for part, site in zip(mosaic.parts(frame), places, strict=True)]
    whole = mosaic.together(parts)
    return mosaic.plane(whole) if name == calibrate.STEPS[-1] else whole


def _step(name: str, frame: Frame, reduction: Reduction) -> Frame:
    if name in ("cosmic_ray", "bias", "dark"):
        reduction = replace(reduction, bias=at_gain_of(frame, reduction.bias), dark=at_gain_of(frame, reduction.dark))
    return globals()[f"_{name}"](frame, reduction)


def dark_ratio(exposure: float | None, dark_exposure: float | None, equal: float = 0.02) -> float:
    """k, the exposure over that of the dark; exactly 1 where they differ by less than the fraction `equal`."""
    if not exposure or not dark_exposure or abs(exposure / dark_exposure - 1) <= equal:
        return 1.0
    return exposure / dark_exposure


def _trim(frame, reduction):
    options = dict(reduction.options.get("trim", {}))
    stated, region = options.pop("saturation", None), options.pop("region", None)
    camera = detector(frame.header, reduction.cameras, region)
    saturation = (
        camera.saturation
        or stated
        or trim.find_saturation(frame.data, frame.header.get("FLADCSTP", 0))
        or frame.header.get("FLADCMAX")
    )
    region = parse_section(camera.trim, frame.shape, "trim") if camera.trim else None
    wanted = camera.overscan if options.get("overscan") != "none" else ()
    sections = [parse_section(text, frame.shape, "overscan") for text in wanted]
    bad = reduction.masks[camera.mask] if camera.mask else None
    if camera.mask:
        frame = frame.with_({"MASKFILE": (printable(camera.mask).split("/")[-1][:60], "bad pixels by this file")})
    frame = trim.trim(frame, saturation, region, sections, bad=bad, **options)
    return mosaic.taken_apart(frame, *(part.start for part in region or ()))


def _deviation(frame, reduction):
    camera = detector(frame.header, reduction.cameras)
    used = pairs.settled(
        camera, reduction.measured, reduction.options.get("detector", {}).get("tolerance", pairs.TOLERANCE)
    )
    _say_once(*used.sentences, *used.contradictions)
    gain, read_noise = used.gain, used.read_noise
    if reduction.kind == "bias":
        level = frame.data
    else:
        level = _level(frame, reduction, camera, gain)
        read_noise = _with_dark_current(read_noise, gain, reduction)
    step, level_noise = (float(frame.header.get(key, 0)) for key in ("FLADCSTP", "OVSCNOIS"))
    known_by = {"FLGAINBY": used.gain_by, "FLRDNBY": used.read_noise_by}
    source = "measured" if "measured" in known_by.values() else "formula"
    frame = calibrate.deviation(frame, gain, read_noise, level, step, level_noise, source)
    return frame.with_({key: value for key, value in known_by.items() if value})


@cache
def _say_once(*sentences: str) -> None:
    """Tell the log; of the frames of a master the same is true."""
    for sentence in sentences:
        print(sentence)


def _with_dark_current(read_noise, gain, reduction):
    """Read noise in e- that holds the dark current's own noise too, where no bias tells how much current a dark holds:
    then the scatter of the dark's frames about their master is the noise that is not of light."""
    dark = reduction.dark
    if reduction.bias is not None or dark is None or None in (read_noise, gain):
        return read_noise
    scatter, ratio = (dark.header.get(key) for key in ("FLSCATTR", "FLSIGRAT"))
    if not isinstance(scatter, float) or not isinstance(ratio, float):
        return read_noise
    # Below 1 the ratio is what clipping has cut off the scatter.
    return max(read_noise, scatter / min(ratio, 1.0) * gain / _gain_of(dark, gain))


def _gain(frame, reduction):
    known = frame.header.get("FLGAIN")
    frame = calibrate.gain(frame, known if isinstance(known, float) else None)
    return frame.with_(in_electrons(frame.header) if frame.unit == "electron" else None)


def _cosmic_ray(frame, reduction):
    options = reduction.options.get("cosmic_ray", {})
    looking = options.get("method", "laplacian") != "none"
    pedestal, known = 0.0, frame.mask
    ratio = _ratio(frame, reduction)
    for kind, share in (("bias", 1 - ratio), ("dark", ratio), ("flat", None)):
        master = getattr(reduction, kind)
        if master is None or share == 0:
            continue
        must_match(frame, master if share else master.with_(unit=frame.unit), f"master {kind}")
        known = known | master.mask  # a bad pixel looks like a hit, and like a star to what measures the FWHM
        if share and looking:
            pedestal = pedestal + np.float32(share) * master.data
    frame = frame.with_(mask=known)
    fwhm = sources.quick_fwhm(frame.data - pedestal, frame.mask != 0) if looking else None
    if fwhm is None and mosaic.sites(frame.header):
        fwhm = cosmic.UNKNOWN_OF_A_SITE
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


def _level(frame, reduction, camera, gain):
    """What is not light in a raw frame, in ADU: master bias, else the level of the master dark (for a dark its own),
    else the camera's stated level, else None."""
    if reduction.bias is not None:
        must_match(frame, reduction.bias.with_(unit=frame.unit), "master bias")
        return reduction.bias.data / np.float32(_gain_of(reduction.bias, gain or 1.0))
    if reduction.dark is not None:
        return float(np.median(reduction.dark.data)) / _gain_of(reduction.dark, gain or 1.0)
    if reduction.kind == "dark":
        return float(np.median(frame.data))
    return camera.bias_level


def _gain_of(master, otherwise: float | None) -> float | None:
    """What turns a master's values into ADU: its gain, 1 where it is in ADU; `otherwise` where it does not say."""
    if master.unit == "adu":
        return 1.0
    known = master.header.get("FLGAIN")
    return known if isinstance(known, float) else otherwise


def at_gain_of(frame, master):
    """A master in the unit and at the gain of a frame, where it says its own. Nights may differ in their measured gains;
    ADU are what they share, and the level of a bias is far above its noise."""
    gain = frame.header.get("FLGAIN") if frame.unit == "electron" else 1.0
    of_master = None if master is None else _gain_of(master, None)
    if not isinstance(gain, float) or of_master is None or (gain == of_master and frame.unit == master.unit):
        return master
    factor = np.float32(gain / of_master)
    scaled = {"FLGAIN": gain} if frame.unit == "electron" else {}
    if isinstance(master.header.get("FLSCATTR"), float):
        scaled["FLSCATTR"] = master.header["FLSCATTR"] * float(factor)
    sigma = None if master.sigma is None else master.sigma * factor
    return master.with_(scaled, data=master.data * factor, sigma=sigma, unit=frame.unit)
