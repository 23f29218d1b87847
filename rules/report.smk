# What there is to read about a night, and cleaning up after it. Rules that make no file are asked for by name.


rule unsolved:
    input:
        unpack(unsolved_of),
    output:
        NIGHT.unsolved(),
    log:
        f"{R}/logs/unsolved.log",
    localrule: True
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
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    params:
        names=NIGHT.names_of_stacks(),
        code=code("stacks"),
    message:
        "depth and honesty of all stacks"
    script:
        "../scripts/stacks.py"


rule ledger:
    input:
        stacks=[NIGHT.stack(*key) for key in NIGHT.plan.stacks],
        masters=NIGHT.masters_of_raw(),
    output:
        NIGHT.ledger(),
    log:
        f"{R}/logs/ledger.log",
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    params:
        options=NIGHT.ledger_options(),
        made_from=made_from_all(),
        code=code("ledger"),
    message:
        "what became of every file"
    script:
        "../scripts/ledger.py"


rule report:
    input:
        **NIGHT.report_inputs(),
    output:
        NIGHT.report(),
    log:
        f"{R}/logs/report.log",
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(60),
    params:
        names=NIGHT.names_of_stacks(),
        options=CONFIG,
        made_from=made_from_all(),
        code=code("report", beside="templates"),
    message:
        "the report"
    script:
        "../scripts/report.py"


rule headers:
    log:
        f"{R}/logs/headers.log",
    localrule: True
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


rule origin:
    log:
        f"{R}/logs/origin.log",
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    params:
        results=R,
        of=CONFIG["of"],
    message:
        "what a product was made from"
    script:
        "../scripts/origin.py"


rule tidy:
    log:
        f"{R}/logs/tidy.log",
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    params:
        stale=lambda w: leftovers(NIGHT),
    message:
        "removing products that nothing asks for any more"
    script:
        "../scripts/tidy.py"
