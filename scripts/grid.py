"""The grid of one target: the pixels of its reference light, or those that cover all its lights, and the stars on it."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt_grid, io
    from firstlight.frame import Unusable

    answers = snakemake.input.get("nova") or [None] * len(snakemake.input.lights)
    with job.dropping(lambda reason: io.write_dropped(snakemake.output[0], "grid", reason), Unusable):
        adapt_grid.choose(snakemake.input.lights, answers, snakemake.params.options, snakemake.output[0])
