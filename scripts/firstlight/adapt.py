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
