#!/bin/sh
# properties = {properties}
# At its end, however it comes to it, a job notes its exit code where `status` looks for it. A job that is killed leaves no note.
trap 'code=$?; note=.snakemake/queue/${{JOB_ID:-${{PBS_JOBID%%.*}}}}; echo $code >$note.part && mv $note.part $note' EXIT
{exec_job}
