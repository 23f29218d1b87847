"""What the adapters of align and combine do alike: the grid read, a light brought onto it."""

from __future__ import annotations

from . import align, io, job, nova
from .frame import Unusable


def read_grid(path):
    """A target's grid from its file; None where it could not be made."""
    head = io.read_header(path)
    return None if io.is_dropped(head) else align.grid_from(head, io.read_extension(path, "STARS"))


def place(light, sources, grid, interpolation: str, output, answer=None) -> str:
    """Write a light's file aligned to a grid, or the mark of a dropped frame; returns the path `output`.

    answer  file of what a server says about the light (see `nova`), where it was asked
    """
    head = nova.light_header(light, answer)
    with job.dropping(lambda reason: io.write_dropped(output, "align", reason, head)):
        if io.is_dropped(head):
            io.write_dropped(output, head["FLSTEP"], head["FLREASON"], head)
            return output
        if grid is None:
            raise Unusable("the target has no grid, since none of its lights could be used")
        frame = align.onto(io.read_frame(light).with_(header=head), io.read_table(sources), grid, interpolation)
        print(f"placed by {frame.header['ALIGNED']}, {frame.header['ALIGNN']} stars shared with the grid")
        io.write_frame(output, frame)
    return output
