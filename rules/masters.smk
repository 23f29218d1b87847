# Master bias, dark and flat. Their raw frames are reduced as they are read.


rule master_bias:
    input:
        raw=lambda w: raw_of_master(w, "bias"),
    output:
        f"{R}/masters/{{night}}/{{camera}}/bias.fits",
    log:
        f"{R}/logs/masters/{{night}}/{{camera}}/bias.log",
    benchmark:
        f"{R}/benchmarks/masters/{{night}}/{{camera}}/bias.tsv"
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(40, 800),
    params:
        options=NIGHT.options("header", "cameras", "trim", "master_bias"),
        facts=lambda w: facts_of_master(w, "bias"),
        made_from=lambda w: NIGHT.master_made_from(master_at(w, "bias")),
        code=code("master_bias"),
    message:
        "master bias of {wildcards.night}"
    script:
        "../scripts/master_bias.py"


rule master_dark:
    input:
        unpack(lambda w: masters_of_master(w, w.dark)),
        raw=lambda w: raw_of_master(w, w.dark),
    output:
        f"{R}/masters/{{night}}/{{camera}}/{{dark}}.fits",
    log:
        f"{R}/logs/masters/{{night}}/{{camera}}/{{dark}}.log",
    benchmark:
        f"{R}/benchmarks/masters/{{night}}/{{camera}}/{{dark}}.tsv"
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(40, 800),
    params:
        options=NIGHT.options("header", "cameras", "trim", "master_dark"),
        facts=lambda w: facts_of_master(w, w.dark),
        made_from=lambda w: NIGHT.master_made_from(master_at(w, w.dark)),
        code=code("master_dark"),
    message:
        "master dark of {wildcards.night}, {wildcards.dark}"
    script:
        "../scripts/master_dark.py"


rule master_flat:
    input:
        unpack(lambda w: masters_of_master(w, f"flat_{w.filter}")),
        raw=lambda w: raw_of_master(w, f"flat_{w.filter}"),
    output:
        f"{R}/masters/{{night}}/{{camera}}/flat_{{filter}}.fits",
    log:
        f"{R}/logs/masters/{{night}}/{{camera}}/flat_{{filter}}.log",
    benchmark:
        f"{R}/benchmarks/masters/{{night}}/{{camera}}/flat_{{filter}}.tsv"
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(40, 800),
    params:
        options=NIGHT.options("header", "cameras", "trim", "master_flat"),
        facts=lambda w: facts_of_master(w, f"flat_{w.filter}"),
        made_from=lambda w: NIGHT.master_made_from(master_at(w, f"flat_{w.filter}")),
        code=code("master_flat"),
    message:
        "master flat of {wildcards.night} in {wildcards.filter}"
    script:
        "../scripts/master_flat.py"
