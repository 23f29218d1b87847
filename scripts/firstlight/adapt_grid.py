"""What the adapters of grid, align and combine do alike: the grid read and written, a light brought onto it."""

from __future__ import annotations

import numpy as np

from . import align, fringe, io, job, nova, placing
from . import grid as grids
from .frame import MASTER_NAME, Unusable


def choose(paths, answers, options: dict, output) -> None:
    """Write the grid of a target's lights: header, table STARS, table LIGHTS of those that it covers.

    paths of the lights, answers what a server says about each (see `nova`) or None. Raises Unusable where there is none.
    """
    given = [(path, nova.light_header(path, answer)) for path, answer in zip(paths, answers, strict=True)]
    lights = [light for light in (grids.candidate(path, header) for path, header in given) if light is not None]
    grid, names, words = grids.choose(lights, lambda light: io.read_table(io.sources_path(light.path)), options)
    target = next(light.header.get("OBJECT", "") for light in lights)
    ny, nx = grid.shape
    print(f"{grid.reference} is the reference; {nx}x{ny} pixels over {len(names)} lights, {len(grid.stars)} stars")
    if not grid.celestial:
        print("no light is solved: the grid is the reference's pixels, without a place on the sky")
    for sentence in words:
        job.tell(f"{target}: {sentence}")
    table = np.array([(name,) for name in names], [("name", f"U{max(map(len, names)) or 1}")])
    io.write_header(output, grids.grid_header(grid, target, options), {"STARS": grid.stars, "LIGHTS": table})


def read_grid(path):
    """A target's grid from its file; None where it could not be made."""
    head = io.read_header(path)
    return None if io.is_dropped(head) else grids.grid_from(head, io.read_extension(path, "STARS"))


def place(light, sources, grid, interpolation: str, output, answer=None, fringes=None, held=None) -> str:
    """Write a light's file aligned to a grid, or the mark of a dropped frame; returns the path `output`.

    answer   file of what a server says about the light (see `nova`), where it was asked
    fringes  file of the pattern that is taken off first (see `fringe`), where it is to be
    held     dict that takes the aligned frame under that path, as it would be read from there, instead of the file
    """
    head = nova.light_header(light, answer)
    with job.dropping(
        lambda reason: io.write_dropped(output, "align", reason, head), name=f"align {head.get('FLFRAME', light)}"
    ):
        if io.is_dropped(head):
            io.write_dropped(output, head["FLSTEP"], head["FLREASON"], head)
            return output
        if grid is None:
            raise Unusable("the target has no grid, since none of its lights could be used")
        table = io.read_table(sources)
        frame = _without_fringes(io.read_frame(light).with_(header=head), fringes, table)
        frame = align.onto(frame, table, grid, interpolation)
        print(*placing.words(frame.header), sep="\n")
        _tell_lost(frame.header)
        if held is None:
            io.write_frame(output, frame)
        else:
            held[output] = frame.with_({"BUNIT": frame.unit}, header=io.product_header(frame.header))
    return output


def placed(light, sources, grid, answer=None, fringes=None):
    """A light as it is before it is aligned, and its WCS on the grid: (frame, wcs)."""
    table = io.read_table(sources)
    frame = _without_fringes(io.read_frame(light).with_(header=nova.light_header(light, answer)), fringes, table)
    return frame, align.placed(frame, table, grid)[0]


def _without_fringes(frame, path, table):
    """A light less the pattern in a file; as it is where there is none, or none that fits."""
    if path is None:
        return frame
    if io.is_dropped(head := io.read_header(path)):
        print(f"fringes stay in it: {io.dropped_reason(head)}")
        return frame
    name = str(path).split("/masters/")[-1].removesuffix(".fits")
    try:
        frame = fringe.subtract(frame, io.read_frame(path).with_({MASTER_NAME: name}), table)
        print(*fringe.words(frame), sep="\n")
    except ValueError as error:
        print(f"fringes stay in it: {error}")
    return frame


def _tell_lost(header) -> None:
    """Say where a frame loses much of itself off the grid."""
    lost = header["ALIGNOFF"]
    if lost > align.LOST:
        job.tell(
            f"{header.get('FLFRAME', '')}: {lost:.0%} of it lies off the grid; grid: extent: all makes one for all"
        )
