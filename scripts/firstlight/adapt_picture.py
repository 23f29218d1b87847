"""What the adapters of picture and preview do alike: stacks read, a picture written."""

from __future__ import annotations

from . import io
from .picture import channels, render, to_uint8, to_uint16


def picture(snakemake) -> None:
    """Render the stacks of a job and write the picture in each form that is asked for; words where there is no stack."""
    stacks, reasons = {}, []
    for path, name in zip(snakemake.input.stacks, snakemake.params.filters, strict=True):
        head = io.read_header(path)
        if io.is_dropped(head):
            reasons.append(f"{name}: {io.dropped_reason(head)}")
        else:
            frame = io.read_frame(path)
            stacks[name] = (frame.data, frame.mask, frame.sigma)
    image = _rendered(stacks, **snakemake.params.options) if stacks else None
    for path in snakemake.output:
        if image is None:
            io.write_words(path, ["No picture: no stack could be made.", *reasons])
        else:
            io.write_picture(path, to_uint8(image) if path.endswith(".png") else to_uint16(image))


def _rendered(stacks, mapping=None, **options):
    """The picture by the configured channels; by wavelength for a target that lacks one of their filters."""
    try:
        channels(stacks, mapping)
    except ValueError as error:
        print(f"picture: channels do not fit this target, filters are taken by wavelength: {error}")
        mapping = None
    return render(stacks, mapping=mapping, **options)
