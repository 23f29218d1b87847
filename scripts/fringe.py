"""The pattern that the sky leaves on the detector, from the lights of one night, camera and filter."""

from firstlight import job

with job.logged(snakemake):
    from functools import partial

    from firstlight import fringe, io
    from firstlight.frame import Unusable

    options = dict(snakemake.params.options)
    del options["memory"]  # which the job's share of it stands for, less on a second attempt
    memory = snakemake.resources.pile_mb * 1e6
    lights = []
    for path, table in zip(snakemake.input.lights, snakemake.input.sources, strict=True):
        head = io.read_header(path)
        if io.is_dropped(head):
            print(f"left out {path}: {io.dropped_reason(head)}")
        else:
            lights.append(fringe.Light(head["FLFRAME"], partial(io.read_frame, path), io.read_table(table)))
    with job.dropping(lambda reason: io.write_dropped(snakemake.output[0], "fringe", reason), Unusable):
        pattern = fringe.master(lights, memory=memory, **options)
        print(*fringe.words(pattern), sep="\n")
        io.write_frame(snakemake.output[0], pattern)
