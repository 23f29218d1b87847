"""Master flat of one night, camera and filter."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt, masters

    adapt.master(snakemake, masters.master_flat)
