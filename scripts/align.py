"""One light on its target's grid."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt_grid

    adapt_grid.place(
        snakemake.input.frame,
        snakemake.input.sources,
        adapt_grid.read_grid(snakemake.input.grid),
        snakemake.params.options["interpolation"],
        snakemake.output[0],
        snakemake.input.get("nova"),
        snakemake.input.get("fringe"),
    )
