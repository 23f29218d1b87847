"""Lights without a WCS, and why: a table, empty but for its head where all are solved."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import io, nova, solve

    answers = snakemake.input.get("nova") or [None] * len(snakemake.input.lights)
    headers = [nova.light_header(*pair) for pair in zip(snakemake.input.lights, answers, strict=True)]
    rows = solve.unsolved(headers)
    io.write_rows(snakemake.output[0], rows, solve.UNSOLVED)
    print(f"{len(rows)} of {len(headers)} lights are not solved")
