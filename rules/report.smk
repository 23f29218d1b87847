# What there is to read about a night, and cleaning up after it. Rules that make no file are asked for by name.


rule unsolved:
    input:
        unpack(unsolved_of),
    output:
        NIGHT.unsolved(),
    log:
        f"{R}/logs/unsolved.log",
    conda:
        "../envs/firstlight.yaml"
    params:
        made_from=NIGHT.made_from(NIGHT.plan.lights.values()),
        code=code("unsolved"),
    message:
        "unsolved lights and their reasons"
    script:
        "../scripts/unsolved.py"


rule stacks:
    input:
        stacks=[NIGHT.stack(*key) for key in NIGHT.plan.stacks],
    output:
        NIGHT.stacks_table(),
    log:
        f"{R}/logs/stacks.log",
    conda:
        "../envs/firstlight.yaml"
    params:
        names=NIGHT.names_of_stacks(),
        code=code("stacks"),
    message:
        "depth and honesty of all stacks"
    script:
        "../scripts/stacks.py"


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


rule plan:
    log:
        f"{R}/logs/plan.log",
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    params:
        results=R,
        text=lambda w: outlook().text(),
        short=lambda w: outlook().text(short=True),
    message:
        "what is ahead"
    script:
        "../scripts/plan.py"


rule tidy:
    log:
        f"{R}/logs/tidy.log",
    conda:
        "../envs/firstlight.yaml"
    params:
        stale=lambda w: leftovers(NIGHT),
    message:
        "removing products that nothing asks for any more"
    script:
        "../scripts/tidy.py"
