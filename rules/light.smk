# One job per light: calibrated, its sources, its WCS. The same steps one by one are in steps.smk.


rule light:
    input:
        unpack(inputs_of_light),
    output:
        frame=kept("lights", f"{R}/lights/{{target}}/{{night}}/{{filter}}/{{frame}}.fits"),
        sources=kept("lights", f"{R}/lights/{{target}}/{{night}}/{{filter}}/{{frame}}.ecsv"),
        attempts=f"{R}/solving/{{target}}/{{night}}/{{filter}}/{{frame}}.csv",
    log:
        f"{R}/logs/lights/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(130),
    params:
        options=NIGHT.light_options(),
        facts=facts_of_light,
        made_from=made_from,
        code=code("light"),
    message:
        "light {wildcards.frame}"
    script:
        "../scripts/light.py"


# A server is asked in a job of its own, which holds no core and no pixels while it waits; how many wait at a time is the
# resource nova of the profile. On a cluster it waits where Snakemake runs, not in a slot of the queue. A light that is
# solved already is done at once.
rule nova:
    input:
        unpack(catalogue_of),
        frame=lambda w: NIGHT.light(NIGHT.row(w)),
        sources=lambda w: NIGHT.light(NIGHT.row(w), "ecsv"),
    output:
        f"{R}/nova/{{target}}/{{night}}/{{filter}}/{{frame}}.fits",
    log:
        f"{R}/logs/nova/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    threads: 0
    resources:
        nova=1,
        mem_mb=300,
    params:
        options=NIGHT.nova_options(),
        attempt=lambda w: NIGHT.nova_attempt(NIGHT.row(w)),
        memory=lambda w: NIGHT.nova(NIGHT.row(w), "json"),
        code=code("nova"),
    message:
        "nova {wildcards.frame}"
    script:
        "../scripts/nova.py"
