# What there is to read about a night, and cleaning up after it. These rules make no files and are asked for by name.


rule headers:
    message:
        "what was read from the headers"
    log:
        f"{R}/logs/headers.log",
    params:
        results=R,
    script:
        "../scripts/headers.py"


rule tidy:
    message:
        "removing products that nothing asks for any more"
    log:
        f"{R}/logs/tidy.log",
    params:
        stale=lambda w: NIGHT.stale(),
    script:
        "../scripts/tidy.py"
