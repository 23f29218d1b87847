"""The colour picture of one target, as PNG and 16 bit TIFF."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt_picture

    adapt_picture.picture(snakemake)
