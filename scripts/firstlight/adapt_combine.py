"""What the adapter of combine does where aligned frames are not kept: lights aligned within the job of their stack."""

from __future__ import annotations

from functools import partial

from . import adapt_grid, combine, io, pile, raw


def align(lights, grid, interpolation: str, folder: str, memory: float):
    """Lights (path, sources, answer, fringes) on a grid: their paths in a folder, and what reads a header and a frame from
    such a path. No file is written where `memory` bytes hold all frames of the stack: each is in memory until it is read."""
    in_memory = grid is not None and pile.fits(grid.shape, len(lights), memory, combine.FRAME)
    held = {} if in_memory else None
    paths = [
        adapt_grid.place(light, sources, grid, interpolation, f"{folder}/{number}.fits", *further, held)
        for number, (light, sources, *further) in enumerate(lights)
    ]
    held = held or {}
    return (
        paths,
        lambda path: held[path].header if path in held else io.read_header(path),
        lambda path: held.pop(path) if path in held else io.read_frame(path),
    )


def lights(given, grid) -> dict:
    """{name: function that gives a light before it is aligned, and its WCS on the grid}, from a job's inputs."""
    paths = given.get("lights") or given["frames"]
    further = [given.get(name) or [None] * len(paths) for name in ("nova", "fringe")]
    found = {}
    for path, sources, answer, fringes in zip(paths, given["sources"], *further, strict=True):
        found[raw.stem(path)] = partial(adapt_grid.placed, path, sources, grid, answer, fringes)
    return found
