# Star catalogue of a target: the user's table in our columns, or a cone of Gaia. Made once, used by every frame.


rule catalogue:
    message:
        "catalogue of {wildcards.target}"
    input:
        unpack(catalogue_table),
    output:
        f"{R}/catalogues/{{target}}.ecsv",
    log:
        f"{R}/logs/catalogues/{{target}}.log",
    params:
        options=NIGHT.catalogue_options(),
        code=code("catalogue"),
    resources:
        mem_mb=500,
    script:
        "../scripts/catalogue.py"
