"""The star catalogue of one target, in the columns that are used, brightest first."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import catalogue, io

    options = snakemake.params.options
    if "table" in snakemake.input.keys():
        stars, source = catalogue.standard(io.read_any_table(snakemake.input.table)), "a local table"
    else:
        centre, radius = catalogue.field_of(snakemake.params.pointings, snakemake.params.field)
        try:
            stars, source = catalogue.gaia(centre, radius, options["gaia_limit"]), "Gaia DR3"
        except Exception as error:  # every layer below has its own; the night goes on without a catalogue
            print(f"no catalogue: the Gaia archive did not answer ({error}); remove {snakemake.output[0]} to ask again")
            stars, source = catalogue.nothing(), "nothing: the Gaia archive did not answer"
    print(f"{len(stars)} stars from {source}")
    io.write_table(snakemake.output[0], stars, catalogue.COLUMNS, {"source": source})
