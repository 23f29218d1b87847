"""Print what is ahead and write it down; on the terminal long tables are cut short."""

from firstlight import textfile

textfile.write(f"{snakemake.params.results}/plan.txt", snakemake.params.text)
print(snakemake.params.short, end="")
