"""Remove products that nothing asks for any more: AstroDART's clean-up."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import io

    removed = io.remove(snakemake.params.stale)
    job.tell(f"{len(removed)} files removed, listed in {snakemake.log[0]}")
    print(*removed, sep="\n")
