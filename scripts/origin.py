"""Print what a product was made from, down to the raw files."""

from firstlight import origin

print(origin.origin(snakemake.params.of, snakemake.params.results))
