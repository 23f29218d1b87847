"""One light whose WCS its own job did not find: the server is asked, and what it says is a file beside the light."""

from firstlight import job

with job.logged(snakemake):
    import os

    from firstlight import adapt_nova, nova

    adapt_nova.ask(snakemake, os.environ.get(nova.KEY))
