"""The star catalogue of one target, in the columns that are used, brightest first."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt_catalogue, catalogue, io

    options, field, target = (
        snakemake.params.options["catalogue"],
        snakemake.params.options["field"],
        snakemake.wildcards.target,
    )
    table = io.read_any_table(snakemake.input.table) if "table" in snakemake.input.keys() else None
    made = adapt_catalogue.make(options, field, table)
    words = f"{len(made.stars)} stars from {made.meta['source']}"
    print(words)
    if "note" in made.meta:
        going_on = "; asked again at a later run" if "failed" in made.meta else ""
        job.tell(f"catalogue of {target}: {made.meta['note']}; going on with {words}{going_on}")
    io.write_table(snakemake.output[0], made.stars, catalogue.COLUMNS, made.meta)
