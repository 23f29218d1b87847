"""Gain and read noise that a ready master was made with, for nights that have no frames to measure them from."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import io, ready

    io.write_rows(snakemake.output[0], ready.measured_rows(io.read_header(snakemake.input[0])))
