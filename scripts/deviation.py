"""Step deviation of one light, from the file of the step before to its own."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt

    adapt.step("deviation", snakemake)
