"""firstlight: from a folder of raw frames to calibrated, solved, aligned and combined images.

Plain Python on arrays and headers. Nothing here knows Snakemake; only `io` and `raw` open files.
"""

from . import lean

__version__ = "0.1.0"

lean.import_fits()
