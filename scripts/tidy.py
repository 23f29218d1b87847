"""Remove products that nothing asks for any more: AstroDART's clean-up."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import io

    removed = io.remove(snakemake.params.stale)
    print(*removed, sep="\n")
    job.tell(f"{len(removed)} files removed, listed in {snakemake.log[0]}" if removed else "nothing to remove")
