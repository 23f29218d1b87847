"""What several adapters do alike: a raw frame read and prepared, a master made, a single step done."""

from __future__ import annotations

import numpy as np
from astropy.io import fits

from . import header, io, job, mosaic, pairs, raw, reduce
from .frame import Frame, Unusable

INPUTS = ("name", "content", "note")  # of each raw frame of a master; why it was left out


def raw_frame(path, facts: dict, repairs) -> Frame:
    """A raw file as a frame in ADU, its header repaired and completed.

    Raises `raw.Changed` where it is not what the frames table was made from: what came of it would be taken for a product of
    the frame that it was, also when that frame is back.
    """
    try:
        data, head = raw.read(path)
    except ValueError as error:
        raise raw.Changed(path, f": {error}") from error
    if raw.pixel_hash(data)[:16] != facts["FLPIXELS"]:
        raise raw.Changed(path)
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
        masks={path: io.read_mask(path) for path in options.get("masks", ())},
        equal_exposure=options.get("equal_exposure", 0.02),
        measured=_measured(snakemake.input.get("detector")),
        **io.read_masters(snakemake.input),
    )


def _measured(path) -> pairs.Measured:
    """What pairs of frames told of the detector; nothing where there were none."""
    if path is None:
        return pairs.Measured()
    rows = {row["quantity"]: row for row in io.read_rows(path)}
    numbers = [rows[name][column] for name in ("gain", "read noise in adu") for column in ("measured", "error")]
    return pairs.Measured(*(float(number) if number else None for number in numbers))


def detector(snakemake) -> None:
    """Measure gain and read noise from pairs of raw frames, write them beside what is stated."""
    options, settings = snakemake.params.options, reduction(snakemake, "bias")
    trimmed, beside, saturation, stated = [], [], [], header.Detector()
    for path, facts in zip(snakemake.input.raw, snakemake.params.facts, strict=True):
        frame = None
        with job.dropping(lambda reason: None, name=f"{snakemake.rule} {path}"):
            named = facts | {"FLFRAME": raw.stem(path)}
            if facts.get(mosaic.PATTERN):  # blocks of one colour; green has the most light
                named[mosaic.PLANE] = "G1"
            frame = reduce.step("trim", raw_frame(path, named, options["header"]), settings)
            stated = header.detector(frame.header, options["cameras"])
            steps = (frame.header.get("FLADCSTP", 0) ** 2 / 12, frame.header.get("OVSCNOIS", 0) ** 2)
            beside.append(sum(steps))
            if len(trimmed) >= snakemake.params.bias:
                saturation.append(frame.header.get("SATURATE"))
        trimmed.append(None if frame is None else (frame.shape, pairs.sample(frame.data)))
    number = snakemake.params.bias
    (dark, size), (lit, size_lit) = _pairs(trimmed[:number]), _pairs(trimmed[number:])
    if dark and lit and size != size_lit:
        print("flats of another size than the bias frames are left out: does cameras: trim hold for both?")
        lit = []
    level = np.mean([one for pair in dark for one in pair], axis=0) if dark else 0.0
    found = pairs.detector(dark, lit, level, np.median(beside or [0]), min(filter(None, saturation), default=None))
    used = pairs.settled(stated, found, options["detector"]["tolerance"])
    for sentence in used.sentences:
        print(sentence)
    for sentence in used.contradictions:
        job.tell(f"{snakemake.wildcards.camera}: {sentence}")
    io.write_rows(snakemake.output[0], pairs.table(found, stated, used, len(dark), len(lit)))


def _pairs(frames) -> tuple[list[tuple], tuple[int, int] | None]:
    """Neighbours (first and second, third and fourth ...) of which both could be read and have one shape, and that shape.

    frames  (shape, what `pairs.sample` took) of each, None for one that could not be read
    """
    both = [(a, b) for a, b in zip(frames[::2], frames[1::2], strict=True) if a is not None and b is not None]
    shape = both[0][0][0] if both else None
    return [(a, b) for (one, a), (other, b) in both if one == other == shape], shape


def master(snakemake, combine) -> None:
    """Reduce the raw frames of a master one by one, combine them with `combine`, write the product."""
    options = snakemake.params.options
    kind = snakemake.rule.removeprefix("master_")
    settings = reduction(snakemake, kind)
    combination = dict(options[snakemake.rule])
    del combination["memory"]  # which the job's share of it stands for, less on a second attempt
    if kind == "dark":
        combination["known_level"] = settings.bias is not None

    unread = {}

    def frames(site=None):
        for path, facts in zip(snakemake.input.raw, snakemake.params.facts, strict=True):
            named = facts | {"FLFRAME": raw.stem(path), mosaic.PLACES: site and mosaic.text_of([site])}

            def left_out(reason, path=path, content=facts["FLPIXELS"]):
                print(f"left out {path}: {reason}")
                unread[content] = raw.stem(path), content, reason

            with job.dropping(left_out):
                yield reduce.reduce(raw_frame(path, named, options["header"]), settings)

    def write_dropped(reason):
        pairs = zip(snakemake.input.raw, snakemake.params.facts, strict=True)
        inputs = (unread.get(facts["FLPIXELS"], (raw.stem(path), facts["FLPIXELS"], reason)) for path, facts in pairs)
        io.write_dropped(
            snakemake.output[0], snakemake.rule, reason, tables={"INPUTS": io.table_of_texts(INPUTS, inputs)}
        )

    def made(site=None):
        return combine(frames(site), len(snakemake.input.raw), snakemake.resources.pile_mb * 1e6, **combination)

    with job.dropping(write_dropped, Unusable):
        colour = kind == "flat" and any(facts.get(mosaic.PATTERN) for facts in snakemake.params.facts)
        product = mosaic.each_site(made) if colour else made()
        coverage = io.image_hdu("COVERAGE", product.count, "number of frames that count in each pixel")
        inputs = io.table_hdu("INPUTS", io.table_of_texts(INPUTS, [*product.inputs, *unread.values()]))
        io.write_frame(snakemake.output[0], product, [coverage, inputs])
        print(f"{product.header['NCOMBINE']} frames, level {product.header['FLLEVEL']:.2f} {product.unit}".rstrip())


def step(name: str, snakemake) -> None:
    """One step of a light from the file of the step before (the first from the raw frame) to its own file."""
    options = snakemake.params.options
    with job.dropping(lambda reason: io.write_dropped(snakemake.output[0], name, reason)):
        if "raw" in snakemake.input.keys():
            frame = raw_frame(snakemake.input.raw, snakemake.params.facts, options["header"])
        else:
            frame = io.read_frame(snakemake.input.frame)
        io.write_frame(snakemake.output[0], reduce.step(name, frame, reduction(snakemake, "light")))
