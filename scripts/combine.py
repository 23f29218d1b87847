"""All frames of one target and filter into one image."""

from firstlight import job

with job.logged(snakemake):
    import tempfile

    from firstlight import adapt_grid, align, combine, io
    from firstlight.frame import Unusable

    options = dict(snakemake.params.options)
    memory, interpolation = options.pop("memory") * 1e6, options.pop("align")

    with (
        tempfile.TemporaryDirectory(prefix="firstlight-") as scratch,
        job.dropping(lambda reason: io.write_dropped(snakemake.output[0], "combine", reason), Unusable),
    ):
        grid = adapt_grid.read_grid(snakemake.input.grid)
        paths = snakemake.input.frames
        if "sources" in snakemake.input.keys():  # lights, where `keep` leaves out the aligned frames
            answers = snakemake.input.get("nova") or [None] * len(paths)
            paths = [
                adapt_grid.place(light, table, grid, interpolation, f"{scratch}/{number}.fits", answer)
                for number, (light, table, answer) in enumerate(
                    zip(paths, snakemake.input.sources, answers, strict=True)
                )
            ]
        inputs, dropped = combine.usable([(path, io.read_header(path)) for path in paths], io.read_frame)
        print(f"{len(inputs)} frames to combine", *(f"dropped {name}: {reason}" for name, reason in dropped), sep="\n")
        if grid is None:
            raise Unusable("the target has no grid, since none of its lights could be used")
        stack = combine.combine(inputs, grid.stars, grid.reference, memory=memory, **options)
        print(*stack.inputs.tolist(), sep="\n")
        coverage = io.image_hdu("COVERAGE", stack.coverage, "number of frames that count in each pixel")
        table = io.table_hdu("INPUTS", combine.with_dropped(stack.inputs, dropped))
        frame = stack.frame.with_(align.noise_cards(interpolation))
        io.write_frame(snakemake.output[0], frame, [coverage, table])
