"""What the adapters of picture and preview do: stacks read, pictures written."""

from __future__ import annotations

import numpy as np

from . import io, picture, tags
from .astrometry import read_wcs
from .backdrop import sampled
from .channels import channels, words
from .planes import check, covered

# What the function `stretched` takes of a job's options; `linear` takes the rest.
STRETCH = ("stretch", "black", "white", "softening", "saturation", "saturated")


def picture_of(snakemake) -> None:
    """The picture of a target in all its files; words in each of them where there is no stack."""
    made = _made(snakemake)
    if made is None:
        return
    result, image, said, header, headers = made
    output = snakemake.output
    io.write_cube(
        output.cube,
        result.colours,
        tags.cube_header(header, result, said["Title"], headers),
        result.luminance,
    )
    _write(output, image, said, header, result.parts)
    from .chart import chart

    eight = picture.to_uint8(image)
    drawn = chart(eight, tags.celestial(header), said["Title"], said["Description"], said["Comment"])
    io.write_picture(output.chart, drawn, said)


def preview_of(snakemake) -> None:
    """A stack in grey."""
    made = _made(snakemake)
    if made is not None:
        result, image, said, header, _ = made
        _write(snakemake.output, image, said, header, result.parts)


def _write(output, image: np.ndarray, said: dict, header, parts: dict) -> None:
    packet = tags.packet(header, image.shape[:2], said, parts)
    io.write_picture(output.png, picture.to_uint8(image), said, packet)
    io.write_picture(output.tiff, picture.to_uint16(image), said, packet)


def _made(snakemake):
    """The linear picture, the stretched one, what is said of it, its header, those of the stacks; None without a stack."""
    options = dict(snakemake.params.options)
    crop = options.pop("crop", "all")
    stacks, headers, reasons = _stacks(snakemake)
    print(*(f"left out: {reason}" for reason in reasons), sep="\n", end="\n" if reasons else "")
    if not stacks:
        for path in snakemake.output:
            io.write_words(path, ["No picture: no stack could be made.", *reasons])
        return None
    check(stacks)
    stacks, headers = _upright(stacks, headers)
    parts, options = _channels(stacks, options)
    used = list(dict.fromkeys(name for part in parts.values() for name in part))
    stacks, headers = ({name: values[name] for name in used} for values in (stacks, headers))
    box = covered(stacks, crop)
    stacks = {name: tuple(array[box] for array in stack) for name, stack in stacks.items()}
    header = tags.cut_header(headers[used[0]], box)
    result = picture.linear(
        stacks,
        stars=_stars(snakemake, header),
        band=_band(snakemake),
        fwhm={name: head.get("FWHM") for name, head in headers.items()},
        beta={name: head.get("BETA") for name, head in headers.items()},
        **{key: value for key, value in options.items() if key not in STRETCH},
    )
    image = picture.stretched(result, **{key: value for key, value in options.items() if key in STRETCH})
    title = str(header.get("OBJECT") or snakemake.wildcards.target)
    said = tags.texts(title, parts, headers, result.balance.words)
    print(f"picture: {words(parts)}; {result.balance.words}")
    for name, sky in result.skies.items():
        print(f"sky of {name}: noise {sky.noise:.4g}, taken away with a slope of {sky.slope:.4g} across the picture")
    ny, nx = image.shape[:2]
    print(f"{nx}x{ny} pixels, from x {box[1].start}, y {box[0].start} of the stacks")
    return result, image, said, header, headers


def _stacks(snakemake) -> tuple[dict, dict, list[str]]:
    """The stacks of a job {filter: (data, mask)}, their headers, and why others are not there."""
    stacks, headers, reasons = {}, {}, []
    for path, name in zip(snakemake.input.stacks, snakemake.params.filters, strict=True):
        try:
            frame = io.read_frame(path)
        except ValueError as error:
            reasons.append(f"{name}: {error}")
            continue
        if not sampled(frame.data, frame.mask)[1].any():
            reasons.append(f"{name}: none of the stack's pixels is both a number and unmasked")
            continue
        stacks[name], headers[name] = (frame.data, frame.mask), frame.header
    return stacks, headers, reasons


def _upright(stacks: dict, headers: dict) -> tuple[dict, dict]:
    """Stacks and headers, all with their rows in reverse where the sky would stand mirrored."""
    if not any(map(tags.mirrored, headers.values())):
        return stacks, headers
    print("rows are taken in reverse: the sky would stand mirrored")
    ny = next(iter(stacks.values()))[0].shape[0]
    stacks = {name: tuple(np.ascontiguousarray(array[::-1]) for array in stack) for name, stack in stacks.items()}
    return stacks, {name: tags.overturned(header, ny) for name, header in headers.items()}


def _channels(stacks: dict, options: dict) -> tuple[dict, dict]:
    """The configured channels; by wavelength for a target that lacks one of their filters."""
    try:
        return channels(stacks, options.get("mapping"), options.get("palette", "auto")), options
    except ValueError as error:
        print(f"picture: channels do not fit this target, filters are taken by wavelength: {error}")
        return channels(stacks), options | {"mapping": None, "palette": "auto"}


def _stars(snakemake, header) -> np.ndarray | None:
    """The catalogue's stars in pixels of the picture; None without catalogue or WCS."""
    path, wcs = snakemake.input.get("catalogue"), read_wcs(header)
    if path is None or wcs is None:
        return None
    stars = io.read_table(path)
    x, y = wcs.all_world2pix(stars["ra"], stars["dec"], 0, quiet=True) if len(stars) else (stars["ra"], stars["dec"])
    near = np.isfinite(x) & np.isfinite(y)
    return np.rec.fromarrays([part[near] for part in (x, y, stars["mag"], stars["colour"])], names="x,y,mag,colour")


def _band(snakemake) -> str:
    path = snakemake.input.get("catalogue")
    bands = io.read_meta(path).get("bands") if path else None
    return str(bands[1]) if bands and len(bands) > 1 else ""
