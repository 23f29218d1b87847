"""The grid of one target: the pixels of its reference light, without distortion, and that light's stars."""

from firstlight import job

with job.logged(snakemake):
    from firstlight import align, io, nova
    from firstlight.frame import Unusable

    answers = snakemake.input.get("nova") or [None] * len(snakemake.input.lights)
    pairs = zip(snakemake.input.lights, answers, strict=True)
    lights = [align.candidate(path, nova.light_header(path, answer)) for path, answer in pairs]
    with job.dropping(lambda reason: io.write_dropped(snakemake.output[0], "grid", reason), Unusable):
        best = align.reference([light for light in lights if light is not None], snakemake.params.options["reference"])
        header, stars = align.grid_header(best["header"], io.read_table(io.sources_path(best["path"])))
        print(f"{best['name']} is the reference, {len(stars)} stars")
        io.write_header(snakemake.output[0], header, {"STARS": stars})
