# One job per light: calibrated, its sources, its WCS. The same steps one by one are in steps.smk.


rule light:
    input:
        unpack(masters_of_light),
        unpack(catalogue_of),
        raw=raw_light,
    output:
        frame=kept("lights", f"{R}/lights/{{target}}/{{night}}/{{filter}}/{{frame}}.fits"),
        sources=kept("lights", f"{R}/lights/{{target}}/{{night}}/{{filter}}/{{frame}}.ecsv"),
    log:
        f"{R}/logs/lights/{{target}}/{{night}}/{{filter}}/{{frame}}.log",
    benchmark:
        f"{R}/benchmarks/lights/{{target}}/{{night}}/{{filter}}/{{frame}}.tsv"
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
