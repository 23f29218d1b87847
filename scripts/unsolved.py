"""Lights without a WCS, and why: a table, empty but for its head where all are solved."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import io, solve

    records = [io.read_rows(path) for path in snakemake.input.attempts]
    answers = [io.read_header(path) for path in snakemake.input.get("nova") or []] or [None] * len(records)
    rows = solve.unsolved(records, answers)
    io.write_rows(snakemake.output[0], rows, solve.UNSOLVED)
    print(f"{len(rows)} of {len(records)} lights are not solved")
