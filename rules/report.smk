# What there is to read about a night, and cleaning up after it. These rules make no files and are asked for by name.


rule headers:
    log:
        f"{R}/logs/headers.log",
    conda:
        "../envs/firstlight.yaml"
    params:
        results=R,
    message:
        "what was read from the headers"
    script:
        "../scripts/headers.py"


rule tidy:
    log:
        f"{R}/logs/tidy.log",
    conda:
        "../envs/firstlight.yaml"
    params:
        stale=lambda w: NIGHT.stale(),
    message:
        "removing products that nothing asks for any more"
    script:
        "../scripts/tidy.py"
