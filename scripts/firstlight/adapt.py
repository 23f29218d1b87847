"""What several adapters do alike: a raw frame read and prepared, a master made, a single step done."""

from __future__ import annotations

from astropy.io import fits

from . import header, io, job, raw, reduce
from .frame import Frame, Unusable


def raw_frame(path, facts: dict, repairs) -> Frame:
    """A raw file as a frame in ADU, its header repaired and completed."""
    data, head = raw.read(path)
    return reduce.prepare(data, header.repair(head, str(path), repairs), facts)


def facts_header(facts: dict) -> fits.Header:
    """The facts of the frames table as a header, for a frame that could not be read."""
    return fits.Header({key: value for key, value in facts.items() if value is not None})


def reduction(snakemake, kind: str) -> reduce.Reduction:
    """What the frames of a job are reduced with, from the job's masters and options."""
    options = snakemake.params.options
    return reduce.Reduction(
        kind=kind,
        cameras=options["cameras"],
        options=options,
        equal_exposure=options["equal_exposure"],
        **io.read_masters(snakemake.input),
    )


def master(snakemake, combine) -> None:
    """Reduce the raw frames of a master one by one, combine them with `combine`, write the product."""
    options = snakemake.params.options
    kind = snakemake.rule.removeprefix("master_")
    settings = reduction(snakemake, kind)
    combination = dict(options[snakemake.rule])
    memory = combination.pop("memory") * 1e6

    def frames():
        for path, facts in zip(snakemake.input.raw, snakemake.params.facts, strict=True):
            with job.dropping(lambda reason, path=path: print(f"left out {path}: {reason}")):
                named = facts | {"FLFRAME": raw.stem(path)}
                yield reduce.reduce(raw_frame(path, named, options["header"]), settings)

    with job.dropping(lambda reason: io.write_dropped(snakemake.output[0], snakemake.rule, reason), Unusable):
        product = combine(frames(), len(snakemake.input.raw), memory, **combination)
        io.write_frame(snakemake.output[0], product)
        print(f"{product.header['NCOMBINE']} frames, level {product.header['FLLEVEL']:.2f} {product.unit}")


def step(name: str, snakemake) -> None:
    """One step of a light from the file of the step before (the first from the raw frame) to its own file."""
    options = snakemake.params.options
    with job.dropping(lambda reason: io.write_dropped(snakemake.output[0], name, reason)):
        if "raw" in snakemake.input.keys():
            frame = raw_frame(snakemake.input.raw, snakemake.params.facts, options["header"])
        else:
            frame = io.read_frame(snakemake.input.frame)
        io.write_frame(snakemake.output[0], reduce.step(name, frame, reduction(snakemake, "light")))


def read_grid(path):
    """A target's grid from its file; None where it could not be made."""
    from .align import grid_from

    head = io.read_header(path)
    return None if io.is_dropped(head) else grid_from(head, io.read_extension(path, "STARS"))


def align(light, sources, grid, interpolation: str, output) -> str:
    """Write a light's file aligned to a grid, or the mark of a dropped frame; returns the path `output`."""
    from .align import onto

    head = io.read_header(light)
    with job.dropping(lambda reason: io.write_dropped(output, "align", reason, head)):
        if io.is_dropped(head):
            io.write_dropped(output, head["FLSTEP"], head["FLREASON"], head)
            return output
        if grid is None:
            raise Unusable("the target has no grid, since none of its lights could be used")
        frame = onto(io.read_frame(light), io.read_table(sources), grid, interpolation)
        print(f"placed by {frame.header['ALIGNED']}, {frame.header['ALIGNN']} stars shared with the grid")
        io.write_frame(output, frame)
    return output


def picture(snakemake) -> None:
    """Render the stacks of a job and write the picture in each form that is asked for; words where there is no stack."""
    from . import picture

    stacks, reasons = {}, []
    for path, name in zip(snakemake.input.stacks, snakemake.params.filters, strict=True):
        head = io.read_header(path)
        if io.is_dropped(head):
            reasons.append(f"{name}: {io.dropped_reason(head)}")
        else:
            frame = io.read_frame(path)
            stacks[name] = (frame.data, frame.mask, frame.sigma)
    image = picture.render(stacks, **snakemake.params.options) if stacks else None
    for path in snakemake.output:
        if image is None:
            io.write_words(path, ["No picture: no stack could be made.", *reasons])
        else:
            io.write_picture(path, picture.to_uint8(image) if path.endswith(".png") else picture.to_uint16(image))
