"""All frames of one target and filter into one image."""

from firstlight import job

with job.logged(snakemake):
    import tempfile

    from firstlight import adapt_combine, adapt_grid, combine, io, photometry, products, raw, sources
    from firstlight.frame import Unusable

    options = dict(snakemake.params.options)
    interpolation, band = options.pop("align"), options.pop("photometry")
    del options["memory"]  # which the job's share of it stands for, less on a second attempt
    memory = snakemake.resources.pile_mb * 1e6

    dropped = []

    def write_dropped(reason):
        known = dict(dropped)
        everything = [(name, known.get(name, f"combine: {reason}")) for name in map(raw.stem, snakemake.input.frames)]
        tables = {"INPUTS": products.with_dropped(None, everything)}
        io.write_dropped(snakemake.output[0], "combine", reason, tables=tables)

    with tempfile.TemporaryDirectory(prefix="firstlight-") as scratch, job.dropping(write_dropped, Unusable):
        grid = adapt_grid.read_grid(snakemake.input.grid)
        paths, read_header, read_frame = snakemake.input.frames, io.read_header, io.read_frame
        if (
            "sources" in snakemake.input.keys() and "lights" not in snakemake.input.keys()
        ):  # `keep` leaves out aligned frames
            further = [snakemake.input.get(name) or [None] * len(paths) for name in ("nova", "fringe")]
            lights = list(zip(paths, snakemake.input.sources, *further, strict=True))
            paths, read_header, read_frame = adapt_combine.align(lights, grid, interpolation, scratch, memory)
        inputs, dropped = combine.usable([(path, read_header(path)) for path in paths], read_frame)
        print(f"{len(inputs)} frames to combine")
        if grid is None:
            raise Unusable("the target has no grid, since none of its lights could be used")
        if options["drizzle"]["scale"]:
            options |= {"lights": adapt_combine.lights(snakemake.input, grid), "grid_wcs": grid.wcs}
        stack = combine.combine(inputs, grid.stars, grid.reference, memory=memory, threads=snakemake.threads, **options)
        table = products.with_dropped(stack.inputs, dropped)
        print(*products.told(table), sep="\n")
        stars = sources.detect(stack.frame)
        frame = stack.frame.with_(products.measured(stack.frame, stars) | products.left_out(table))
        known = snakemake.input.get("catalogue")
        catalogue = (io.read_table(known), io.read_meta(known)) if known else (None, {})
        frame = frame.with_(photometry.stack_cards(frame.header, stars[0], *catalogue, band))
        if note := frame.header.get("FLNOTE"):
            job.tell(f"combine {snakemake.wildcards.target} {snakemake.wildcards.filter}: {note}")
        planes = [io.image_hdu(name, *plane) for name, plane in stack.planes.items()]
        io.write_frame(snakemake.output[0], frame, [*planes, io.table_hdu("INPUTS", table)])
