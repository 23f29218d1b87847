"""Master bias of one night and camera."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt, masters

    adapt.master(snakemake, masters.master_bias)
