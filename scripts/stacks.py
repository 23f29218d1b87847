"""What each stack is worth: a table with a row for each target and filter."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import io, photometry

    rows = [photometry.row(io.read_header(path)) for path in snakemake.input.stacks]
    for row, (target, filter) in zip(rows, snakemake.params.names, strict=True):
        row |= {"target": target, "filter": filter}
    io.write_rows(snakemake.output[0], rows, photometry.ROW)
