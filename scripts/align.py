"""One light on its target's grid."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt

    adapt.align(
        snakemake.input.frame,
        snakemake.input.sources,
        adapt.read_grid(snakemake.input.grid),
        snakemake.params.options["interpolation"],
        snakemake.output[0],
    )
