# The steps of a light, one rule and one file each, made on demand: `snakemake steps`, or a single file under steps/.
# Rule light does the same in memory; the pixels are the same.


rule steps:
    input:
        lambda w: NIGHT.steps(),


rule trim:
    input:
        raw=raw_light,
    output:
        f"{R}/steps/trim/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    log:
        f"{R}/logs/steps/trim/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(100),
    params:
        options=NIGHT.options("header", "cameras", "trim"),
        facts=facts_of_light,
        made_from=made_from,
        code=code("trim"),
    message:
        "step trim of {wildcards.frame}"
    script:
        "../scripts/trim.py"


rule deviation:
    input:
        unpack(masters_of_light),
        frame=f"{R}/steps/trim/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    output:
        f"{R}/steps/deviation/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    log:
        f"{R}/logs/steps/deviation/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(100),
    params:
        options=NIGHT.options("cameras", "detector"),
        made_from=made_from,
        code=code("deviation"),
    message:
        "step deviation of {wildcards.frame}"
    script:
        "../scripts/deviation.py"


rule gain:
    input:
        frame=f"{R}/steps/deviation/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    output:
        f"{R}/steps/gain/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    log:
        f"{R}/logs/steps/gain/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(100),
    params:
        options=NIGHT.options("cameras"),
        made_from=made_from,
        code=code("gain"),
    message:
        "step gain of {wildcards.frame}"
    script:
        "../scripts/gain.py"


rule cosmic_ray:
    input:
        unpack(masters_of_light),
        frame=f"{R}/steps/gain/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    output:
        f"{R}/steps/cosmic_ray/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    log:
        f"{R}/logs/steps/cosmic_ray/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(100),
    params:
        options=NIGHT.options("cameras", "match", "cosmic_ray"),
        made_from=made_from,
        code=code("cosmic_ray"),
    message:
        "step cosmic_ray of {wildcards.frame}"
    script:
        "../scripts/cosmic_ray.py"


rule bias:
    input:
        unpack(masters_of_light),
        frame=f"{R}/steps/cosmic_ray/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    output:
        f"{R}/steps/bias/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    log:
        f"{R}/logs/steps/bias/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(100),
    params:
        options=NIGHT.options("cameras", "match"),
        made_from=made_from,
        code=code("bias"),
    message:
        "step bias of {wildcards.frame}"
    script:
        "../scripts/bias.py"


rule dark:
    input:
        unpack(masters_of_light),
        frame=f"{R}/steps/bias/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    output:
        f"{R}/steps/dark/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    log:
        f"{R}/logs/steps/dark/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(100),
    params:
        options=NIGHT.options("cameras", "match"),
        made_from=made_from,
        code=code("dark"),
    message:
        "step dark of {wildcards.frame}"
    script:
        "../scripts/dark.py"


rule flat:
    input:
        unpack(masters_of_light),
        frame=f"{R}/steps/dark/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    output:
        f"{R}/steps/flat/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    log:
        f"{R}/logs/steps/flat/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(100),
    params:
        options=NIGHT.options("cameras"),
        made_from=made_from,
        code=code("flat"),
    message:
        "step flat of {wildcards.frame}"
    script:
        "../scripts/flat.py"
