"""Print what was read from which keyword of the raw frames, and what was odd."""

from firstlight import frames

print(frames.headers_report(snakemake.params.results))
