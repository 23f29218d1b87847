# Pictures: in colour of a target, and a grey TIFF of each of its stacks.


rule picture:
    message:
        "picture of {wildcards.target}"
    input:
        stacks=lambda w: [NIGHT.stack(w.target, name) for name in NIGHT.plan.targets[w.target]],
    output:
        f"{R}/pictures/{{target}}.png",
        f"{R}/pictures/{{target}}.tiff",
    log:
        f"{R}/logs/pictures/{{target}}.log",
    params:
        options=NIGHT.picture_options(),
        filters=lambda w: [NIGHT.band(w.target, name) for name in NIGHT.plan.targets[w.target]],
        code=code("picture"),
    resources:
        mem_mb=megabytes(130),
    script:
        "../scripts/picture.py"


rule preview:
    message:
        "grey picture of {wildcards.target} in {wildcards.filter}"
    input:
        stacks=lambda w: [NIGHT.stack(w.target, w.filter)],
    output:
        f"{R}/pictures/{{target}}/{{filter}}.tiff",
    log:
        f"{R}/logs/pictures/{{target}}/{{filter}}.log",
    params:
        options={},
        filters=lambda w: [NIGHT.band(w.target, w.filter)],
        code=code("preview"),
    resources:
        mem_mb=megabytes(100),
    script:
        "../scripts/preview.py"
