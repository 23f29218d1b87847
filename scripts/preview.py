"""A grey picture of one stack, as 16 bit TIFF."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt_picture

    adapt_picture.picture(snakemake)
