"""Master dark of one night, camera, exposure and temperature."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt, masters

    adapt.master(snakemake, masters.master_dark)
