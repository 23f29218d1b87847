"""Gain and read noise of one camera on one night, measured from pairs of its frames."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt

    adapt.detector(snakemake)
