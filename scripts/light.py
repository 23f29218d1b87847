"""One light: calibrated in memory, its sources found, its WCS solved."""

from firstlight import job

with job.logged(snakemake):
    import numpy as np
    from firstlight import adapt, astrometry, catalogue, io, mosaic, photometry, pointing, reduce, solve, sources

    options, output = snakemake.params.options, snakemake.output

    def drop(reason):
        io.write_dropped(output.frame, "light", reason, adapt.facts_header(snakemake.params.facts))
        io.write_table(output.sources, sources.none_found())
        io.write_rows(output.attempts, [], solve.ATTEMPTS)

    with job.dropping(drop):
        raw = adapt.raw_frame(snakemake.input.raw, snakemake.params.facts, options["header"])
        frame = reduce.reduce(raw, adapt.reduction(snakemake, "light"))
        table, sky = sources.detect(frame, **options["sources"])
        stars = io.read_table(snakemake.input.catalogue) if "catalogue" in snakemake.input.keys() else None
        places = pointing.places(frame.header)
        settings = dict(options["solve"])
        settings["scale"] = mosaic.scale_of(frame.header, settings["scale"])
        solution = solve.solve(table, frame.header, frame.shape, stars, places, **settings)
        for attempt in solution.attempts:
            print(f"{attempt} ({attempt.seconds:.2f} s)")
        if stars is not None and solution.attempts and solution.wcs is None:
            diagonal = settings["scale"] * float(np.hypot(*frame.shape)) / 3600 if settings["scale"] else None
            solution.advice = catalogue.advice(io.read_meta(snakemake.input.catalogue), diagonal) or ""
            print(solution.advice)
        frame = frame.with_(sky | solution.cards(), header=astrometry.replace_wcs(frame.header, solution.wcs))
        zero = photometry.zero_point(table, solution.wcs, stars, frame.header.get("EXPTIME") or 0.0)
        if zero is not None:
            frame = frame.with_(zero.cards(photometry.band(io.read_meta(snakemake.input.catalogue))))
        io.write_frame(output.frame, frame)
        io.write_table(output.sources, table, sources.COLUMNS)
        io.write_rows(output.attempts, solution.rows(solve.light_of(frame.header)), solve.ATTEMPTS)
