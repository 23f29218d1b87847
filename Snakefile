# firstlight: from a folder of raw FITS frames to calibrated, solved, aligned and combined images and a colour picture.
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

# What a user edits; every key has a default (config.schema.yaml), so a folder without the file works too.
if Path("config.yaml").exists():

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
    tell(NIGHT.closing_words())


onerror:
    tell(["A job failed; its log says why. What is done stays done: mend it and say the same again."])
