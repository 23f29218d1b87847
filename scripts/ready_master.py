"""A ready master of the library in the form of the night's own."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import adapt, header, io, raw, ready

    options, path = snakemake.params.options, str(snakemake.input.file)

    def drop(reason):
        io.write_dropped(snakemake.output[0], "ready_master", reason, adapt.facts_header(snakemake.params.facts))
        job.tell(f"going on without {path}: {reason}")

    with job.dropping(drop):
        data, head, beside = raw.read_ready(snakemake.input.file)
        head = header.repair(head, path, options["header"])
        if ready.is_own(head):
            frame = ready.own(data, head, beside)
        else:
            like = header.repair(raw.read_header(snakemake.input.raw), str(snakemake.input.raw), options["header"])
            frame = ready.foreign(
                data,
                head,
                beside,
                facts=snakemake.params.facts,
                like=like,
                reduction=adapt.reduction(snakemake, "light"),
                **snakemake.params.known,
            )
        count = beside.get("COVERAGE")
        coverage = [] if count is None else [io.image_hdu("COVERAGE", count, "frames that count in each pixel")]
        io.write_frame(snakemake.output[0], frame, coverage)
        print(f"{path}: {frame.header['IMAGETYP']}, {frame.unit or 'normalised'}")
