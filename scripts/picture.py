"""The colour picture of one target, as PNG and 16 bit TIFF."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt

    adapt.picture(snakemake)
