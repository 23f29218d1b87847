# What of the sky stays on the detector, the grid of a target, its lights on that grid, and one combined image per filter.


rule grid:
    input:
        unpack(grid_lights),
    output:
        f"{R}/aligned/{{target}}/grid.fits",
    log:
        f"{R}/logs/aligned/{{target}}/grid.log",
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=400,
    params:
        options=CONFIG["grid"],
        code=code("grid"),
    message:
        "grid of {wildcards.target}"
    script:
        "../scripts/grid.py"


rule fringe:
    input:
        lights=lambda w: [NIGHT.light(row) for row in NIGHT.fringe_rows(w.night, w.camera, w.filter)],
        sources=lambda w: [NIGHT.light(row, "ecsv") for row in NIGHT.fringe_rows(w.night, w.camera, w.filter)],
    output:
        f"{R}/masters/{{night}}/{{camera}}/fringe_{{filter}}.fits",
    log:
        f"{R}/logs/masters/{{night}}/{{camera}}/fringe_{{filter}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes_of_pile("fringe"),
        pile_mb=pile_of("fringe"),
    params:
        options=NIGHT.fringe_options(),
        made_from=lambda w: NIGHT.made_from(NIGHT.fringe_rows(w.night, w.camera, w.filter)),
        code=code("fringe"),
    message:
        "fringes of {wildcards.night} in {wildcards.filter}"
    script:
        "../scripts/fringe.py"


rule align:
    input:
        unpack(inputs_of_align),
        grid=f"{R}/aligned/{{target}}/grid.fits",
    output:
        kept("aligned", f"{R}/aligned/{{target}}/{{filter}}/{{frame}}.fits"),
    log:
        f"{R}/logs/aligned/{{target}}/{{filter}}/{{frame}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(60),
    params:
        options=CONFIG["align"],
        code=code("align"),
    message:
        "align {wildcards.frame}"
    script:
        "../scripts/align.py"


rule combine:
    input:
        unpack(frames_of_stack),
        unpack(catalogue_of),
        grid=f"{R}/aligned/{{target}}/grid.fits",
    output:
        f"{R}/stacks/{{target}}/{{filter}}.fits",
    log:
        f"{R}/logs/stacks/{{target}}/{{filter}}.log",
    conda:
        "../envs/firstlight.yaml"
    threads: threads_of_stack()
    resources:
        mem_mb=megabytes_of_pile("combine"),
        pile_mb=pile_of("combine"),
    params:
        options=lambda w: NIGHT.combine_options(w.target, w.filter),
        made_from=lambda w: NIGHT.made_from(NIGHT.rows(w.target, w.filter)),
        code=code("combine"),
    message:
        "combine {wildcards.target} in {wildcards.filter}"
    script:
        "../scripts/combine.py"
