# Star catalogue of a target: the user's table in our columns, or a cone of Gaia. Made once, used by every frame.


rule catalogue:
    input:
        unpack(catalogue_table),
    output:
        f"{R}/catalogues/{{target}}.ecsv",
    log:
        f"{R}/logs/catalogues/{{target}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=500,
    params:
        options=NIGHT.catalogue_options(),
        code=code("catalogue"),
    message:
        "catalogue of {wildcards.target}"
    script:
        "../scripts/catalogue.py"
