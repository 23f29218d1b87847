"""Ready masters in the form that the night's own have: own ones as they are, those of other programs brought to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from astropy.io import fits

from . import faults, mosaic, reduce
from .calibrate import local_scatter
from .dialects import value_of
from .frame import Frame, Mask, Unusable, must_match, size

ELECTRON = ("electron", "electrons", "e", "e-")
FULL_SCALE = 65535.0  # [adu] what programs that keep values from 0 to 1 call 1
# Cards of programs that subtracted a bias; CALSTAT is MaxIm's, SUBBIAS of ccdproc, the others IRAF's.
NO_BIAS = ("SUBBIAS", "BIASCOR", "ZEROCOR")


def is_own(header: fits.Header) -> bool:
    """True for a product of this program."""
    return header.get("FLVERS") is not None


def own(data: np.ndarray, header: fits.Header, beside: dict[str, np.ndarray]) -> Frame:
    """A master of this program as it was written; `beside` holds its extensions UNCERT and MASK."""
    sigma, mask = beside.get("UNCERT"), beside.get("MASK")
    return Frame(
        np.asarray(data, np.float32),
        header,
        None if sigma is None else np.asarray(sigma, np.float32),
        None if mask is None else np.asarray(mask, np.uint8),
        header.get("BUNIT", "adu"),
    )


def foreign(
    data: np.ndarray,
    header: fits.Header,
    beside: dict[str, np.ndarray],
    kind: str,
    facts: dict | None = None,
    like: fits.Header | None = None,
    raw_shape: tuple[int, int] | None = None,
    reduction: reduce.Reduction | None = None,
    hot: float = 10.0,
    dead: float = 0.5,
    lowest: float = 0.1,
) -> Frame:
    """A master of another program in the form of ours.

    data        (ny, nx), ADU, electrons (BUNIT) or values from 0 to 1, which become 0 to 65535 ADU
    beside      extensions UNCERT, one standard deviation in the unit of the data, and MASK, not 0 where bad, if any
    kind        bias, dark, flatdark or flat
    facts       standard cards of the library's table
    like        header of a raw frame of the camera: its sections tell how frames are trimmed
    raw_shape   (ny, nx) of raw frames; a master of this size is trimmed, its overscan subtracted unless it is a flat
    reduction   what raw frames are trimmed with, and the master bias that was subtracted from a dark, if it was
    hot, dead, lowest  see `faults.flag_hot`, `faults.flag_dead`

    Without UNCERT sigma is the local scatter of the master, an upper limit: structure from pixel to pixel is in it. A
    dark without MASK gets its hot pixels flagged. A flat is divided by its median over good pixels, that of a colour sensor in
    each of its colours. A dark has its bias
    in it afterwards. Raises Unusable for a dark without its bias where there is no master bias, and for a flat without
    light.
    """
    reduction = reduction or reduce.Reduction()
    frame = reduce.prepare(data, header, facts or {})
    if str(value_of(header, "BUNIT") or "").lower() in ELECTRON:
        frame = frame.with_(unit="electron")
    sigma, flags = beside.get("UNCERT"), beside.get("MASK")
    if flags is not None:
        frame = frame.with_(mask=frame.mask | np.where(np.asarray(flags) != 0, np.uint8(Mask.BAD), np.uint8(0)))
    if sigma is not None:
        frame = frame.with_(sigma=_usable(np.asarray(sigma, np.float32)))
    if raw_shape is not None and frame.shape == tuple(raw_shape):
        frame = _trimmed(frame, kind, like or fits.Header(), reduction)
    frame = frame.with_({"IMAGETYP": f"master {'dark' if kind == 'flatdark' else kind}"})
    if kind == "flat":

        def finished(flat):
            return faults.flag_dead(_normalised(_with_sigma(flat)), dead, lowest)

        return mosaic.site_by_site(frame, finished) if mosaic.shows_colours(frame.data) else finished(frame)
    frame = _in_adu(_with_sigma(frame))
    if kind != "bias":
        frame = _with_bias(frame, header, reduce.at_gain_of(frame, reduction.bias))
        if flags is None:
            frame = faults.flag_hot(frame, hot)
    return frame.with_(
        {
            "FLLEVEL": (float(np.median(frame.data)), "median level"),
            "FLNOISE": (float(np.median(frame.sigma)), "median sigma"),
        }
    )


def measured_rows(header: fits.Header) -> list[dict[str, str]]:
    """Gain (e-/ADU) and read noise (ADU) that a master says were measured, as rows of a table like that of `detector`.

    What was only stated, or is not known, is left blank: a header or the configuration of this night may state it too.
    """
    gain, noise = header.get("FLGAIN"), header.get("FLRDNOIS")
    known = isinstance(gain, float) and header.get("FLGAINBY") == "measured"
    noise_known = isinstance(gain, float) and isinstance(noise, float) and header.get("FLRDNBY") == "measured"
    values = {
        "gain": (f"{gain:.6g}" if known else "", "electron/adu"),
        "read noise in adu": (f"{noise / gain:.6g}" if noise_known else "", "adu"),
    }
    return [
        {"quantity": name, "unit": unit, "measured": value, "error": "0" if value else "", "from": "ready master"}
        for name, (value, unit) in values.items()
    ]


def _usable(sigma: np.ndarray) -> np.ndarray:
    """Sigma without gaps: the median of the others where it is not a number."""
    good = np.isfinite(sigma)
    return sigma if good.all() else np.where(good, sigma, np.float32(np.median(sigma[good]) if good.any() else 0))


def _trimmed(frame: Frame, kind: str, like: fits.Header, reduction: reduce.Reduction) -> Frame:
    """The frame cut as raw frames of its camera are. What they call saturation is none in a master."""
    options = dict(reduction.options)
    if kind == "flat":  # its overscan has been dealt with, or divided by its level
        options["trim"] = {**options.get("trim", {}), "overscan": "none"}
    header = like.copy()
    header["LTV1"] = header["LTV2"] = 0.0  # tells where the cut begins
    cut = reduce.step("trim", frame.with_(header=header, sigma=None), replace(reduction, options=options))
    (ny, nx), y, x = cut.shape, -round(cut.header["LTV2"]), -round(cut.header["LTV1"])
    sigma = None if frame.sigma is None else frame.sigma[y : y + ny, x : x + nx].copy()
    header = frame.header.copy()
    header["FLTRIM"] = cut.header["FLTRIM"]
    return cut.with_(header=header, sigma=sigma, mask=cut.mask & ~np.uint8(Mask.SATURATED))


def _in_adu(frame: Frame) -> Frame:
    """Values from 0 to 1, as some programs keep them, brought to 16 bits."""
    good = frame.data[(frame.mask & Mask.UNUSABLE) == 0]
    if frame.unit != "adu" or not good.size or good.min() < 0 or good.max() > 1 or not np.median(good) > 0:
        return frame
    factor = np.float32(FULL_SCALE)
    note = {"FLSCALED": (FULL_SCALE, "values from 0 to 1 were multiplied by this")}
    return frame.with_(note, data=frame.data * factor, sigma=frame.sigma * factor)


def _with_sigma(frame: Frame) -> Frame:
    if frame.sigma is not None:
        return frame.with_({"SIGMASRC": ("given", "sigma of the file")})
    cards = {"SIGMASRC": ("empirical", "sigma is the local scatter")}
    return frame.with_(cards, sigma=local_scatter(frame.data))


def _normalised(frame: Frame) -> Frame:
    level = np.float32(np.median(frame.data[(frame.mask & Mask.UNUSABLE) == 0]))
    if not level > 0:
        raise Unusable(f"the flat has a level of {level:.3g}: there is no light in it")
    keywords = {"FLNORM": ("median", "statistic over good pixels that is 1"), "FLLEVEL": (1.0, "median level")}
    return frame.with_(keywords, data=frame.data / level, sigma=frame.sigma / level, unit="")


def _with_bias(frame: Frame, header: fits.Header, bias: Frame | None) -> Frame:
    """A dark with its bias in it: put back where it was subtracted, as cards say or the level shows."""
    said = _bias_is_out(header)
    if bias is None:
        if said:
            raise Unusable(f"the dark has its bias subtracted ({said}) and there is no bias to put back")
        return frame
    if bias.unit != frame.unit or bias.shape != frame.shape:
        if not said:  # nothing to compare its level with
            return frame
        if bias.shape == frame.shape:
            raise Unusable(
                f"the dark is in {frame.unit} without its bias ({said}), the bias to put back in {bias.unit}"
            )
        raise Unusable(f"the dark of {size(frame.data)} lacks its bias ({said}), which is {size(bias.data)}")
    level, noise = float(np.median(bias.data)), float(np.median(frame.sigma))
    if not said and not (level > 20 * noise and np.median(frame.data) < level / 2):
        return frame
    must_match(frame, bias, "master bias")
    sigma = frame.sigma if bias.sigma is None else np.hypot(frame.sigma, bias.sigma)
    note = {"FLBIASED": (said or "level", "why the master bias was put back")}
    return frame.with_(note, data=frame.data + bias.data, sigma=sigma, mask=frame.mask | bias.mask)


def _bias_is_out(header: fits.Header) -> str:
    """The card that says that the bias was subtracted, "" where none does."""
    status = value_of(header, "CALSTAT")
    if isinstance(status, str) and "B" in status.upper():
        return f"CALSTAT = {status}"
    for key in NO_BIAS:
        value = value_of(header, key)
        if value is not None and str(value).lower() not in ("no", "false", "f", "0"):
            return f"{key} = {value}"[:60]
    return ""
