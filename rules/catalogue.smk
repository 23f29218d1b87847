# Star catalogue of a target: a table in our columns, or a cone of one of the sources. Made once, used by every frame.


rule catalogue:
    input:
        unpack(catalogue_table),
    output:
        f"{R}/catalogues/{{target}}.ecsv",
    log:
        f"{R}/logs/catalogues/{{target}}.log",
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=500,
    params:
        options=catalogue_options,
        code=code("catalogue"),
    message:
        "catalogue of {wildcards.target}"
    script:
        "../scripts/catalogue.py"
