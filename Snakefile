# firstlight: from a folder of raw FITS frames to calibrated, solved, aligned and combined images and a colour picture.
import sys
from pathlib import Path

from snakemake.utils import min_version

# The oldest that the tests have run with.
min_version("9.27")

# From here on the terminal shows progress and plain words in place of Snakemake's blocks of each job.
sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))
from firstlight.config import ConfigError, says
from firstlight.terminal import attach

TERMINAL = attach(workflow)

# What a user edits; every key has a default (config.schema.yaml), so a folder without the file works too.
try:
    STATED = says("config.yaml")
except ConfigError as error:
    TERMINAL.stop(str(error))
if STATED:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/masters.smk"
include: "rules/light.smk"
include: "rules/steps.smk"
include: "rules/catalogue.smk"
include: "rules/stack.smk"
include: "rules/picture.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        products(),


onstart:
    ready_to_run()


onsuccess:
    finished()


onerror:
    TERMINAL.failed_words()
