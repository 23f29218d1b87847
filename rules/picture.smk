# Pictures: in colour of a target, and in grey of each of its stacks.


rule picture:
    input:
        unpack(catalogue_of),
        stacks=lambda w: [NIGHT.stack(w.target, name) for name in NIGHT.plan.targets[w.target]],
    output:
        png=f"{R}/pictures/{{target}}.png",
        tiff=f"{R}/pictures/{{target}}.tiff",
        cube=f"{R}/pictures/{{target}}.fits",
        chart=f"{R}/pictures/{{target}}_chart.png",
    log:
        f"{R}/logs/pictures/{{target}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(130),
    params:
        options=NIGHT.picture_options(),
        filters=lambda w: [NIGHT.band(w.target, name) for name in NIGHT.plan.targets[w.target]],
        code=code("picture"),
    message:
        "picture of {wildcards.target}"
    script:
        "../scripts/picture.py"


rule preview:
    input:
        stacks=lambda w: [NIGHT.stack(w.target, w.filter)],
    output:
        png=f"{R}/pictures/{{target}}/{{filter}}.png",
        tiff=f"{R}/pictures/{{target}}/{{filter}}.tiff",
    log:
        f"{R}/logs/pictures/{{target}}/{{filter}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(100),
    params:
        options={"background": "constant", "crop": "all"},
        filters=lambda w: [NIGHT.band(w.target, w.filter)],
        code=code("preview"),
    message:
        "grey picture of {wildcards.target} in {wildcards.filter}"
    script:
        "../scripts/preview.py"
