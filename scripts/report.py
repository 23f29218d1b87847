"""The report of a night: one page that opens by itself."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt_report

    adapt_report.report_of(snakemake)
