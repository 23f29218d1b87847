"""A grey picture of one stack, as PNG and 16 bit TIFF."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt_picture

    adapt_picture.preview_of(snakemake)
