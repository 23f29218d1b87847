# The grid of a target, its lights on that grid, and one combined image per filter.


rule grid:
    message:
        "grid of {wildcards.target}"
    input:
        lights=grid_lights,
    output:
        f"{R}/aligned/{{target}}/grid.fits",
    log:
        f"{R}/logs/aligned/{{target}}/grid.log",
    params:
        options=CONFIG["grid"],
        code=code("grid"),
    resources:
        mem_mb=400,
    script:
        "../scripts/grid.py"


rule align:
    message:
        "align {wildcards.frame}"
    input:
        frame=lambda w: NIGHT.light(NIGHT.row(w)),
        sources=lambda w: NIGHT.light(NIGHT.row(w), "ecsv"),
        grid=f"{R}/aligned/{{target}}/grid.fits",
    output:
        kept("aligned", f"{R}/aligned/{{target}}/{{filter}}/{{frame}}.fits"),
    log:
        f"{R}/logs/aligned/{{target}}/{{filter}}/{{frame}}.log",
    benchmark:
        f"{R}/benchmarks/aligned/{{target}}/{{filter}}/{{frame}}.tsv"
    params:
        options=CONFIG["align"],
        code=code("align"),
    resources:
        mem_mb=megabytes(60),
    script:
        "../scripts/align.py"


rule combine:
    message:
        "combine {wildcards.target} in {wildcards.filter}"
    input:
        unpack(frames_of_stack),
        grid=f"{R}/aligned/{{target}}/grid.fits",
    output:
        f"{R}/stacks/{{target}}/{{filter}}.fits",
    log:
        f"{R}/logs/stacks/{{target}}/{{filter}}.log",
    benchmark:
        f"{R}/benchmarks/stacks/{{target}}/{{filter}}.tsv"
    params:
        options=CONFIG["combine"] | {"align": CONFIG["align"]["interpolation"]},
        made_from=lambda w: NIGHT.made_from(NIGHT.rows(w.target, w.filter)),
        code=code("combine"),
    resources:
        mem_mb=megabytes(60, 800),
    script:
        "../scripts/combine.py"
