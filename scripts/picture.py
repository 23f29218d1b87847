"""The colour picture of one target: PNG, 16 bit TIFF, linear FITS, chart."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt_picture

    adapt_picture.picture_of(snakemake)
