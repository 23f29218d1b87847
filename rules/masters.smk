# What a detector's frames tell of it; master bias, dark and flat. Their raw frames are reduced as they are read.


rule detector:
    input:
        raw=raw_of_detector,
    output:
        f"{R}/masters/{{night}}/{{camera}}/detector.csv",
    log:
        f"{R}/logs/masters/{{night}}/{{camera}}/detector.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(150),
    params:
        options=NIGHT.options("header", "cameras", "trim", "detector"),
        bias=lambda w: len(NIGHT.detector_frames(w.night, w.camera)[0]),
        facts=facts_of_detector,
        made_from=lambda w: NIGHT.detector_made_from(w.night, w.camera),
        code=code("detector"),
    message:
        "gain and read noise of {wildcards.camera} on {wildcards.night}"
    script:
        "../scripts/detector.py"


rule master_bias:
    input:
        unpack(lambda w: masters_of_master(w, "bias")),
        raw=lambda w: raw_of_master(w, "bias"),
    output:
        f"{R}/masters/{{night}}/{{camera}}/bias.fits",
    log:
        f"{R}/logs/masters/{{night}}/{{camera}}/bias.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes_of_pile("master_bias"),
        pile_mb=pile_of("master_bias"),
    params:
        options=NIGHT.options("header", "cameras", "trim", "detector", "master_bias"),
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
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes_of_pile("master_dark"),
        pile_mb=pile_of("master_dark"),
    params:
        options=NIGHT.options("header", "cameras", "trim", "detector", "master_dark"),
        facts=lambda w: facts_of_master(w, w.dark),
        made_from=lambda w: NIGHT.master_made_from(master_at(w, w.dark)),
        code=code("master_dark"),
    message:
        "master dark of {wildcards.night}, {wildcards.dark}"
    script:
        "../scripts/master_dark.py"


rule master_flat:
    input:
        unpack(lambda w: masters_of_master(w, w.flat)),
        raw=lambda w: raw_of_master(w, w.flat),
    output:
        f"{R}/masters/{{night}}/{{camera}}/{{flat}}.fits",
    log:
        f"{R}/logs/masters/{{night}}/{{camera}}/{{flat}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes_of_pile("master_flat"),
        pile_mb=pile_of("master_flat"),
    params:
        options=NIGHT.options("header", "cameras", "trim", "detector", "match", "master_flat"),
        facts=lambda w: facts_of_master(w, w.flat),
        made_from=lambda w: NIGHT.master_made_from(master_at(w, w.flat)),
        code=code("master_flat"),
    message:
        "master flat of {wildcards.night}, {wildcards.flat}"
    script:
        "../scripts/master_flat.py"


rule ready_master:
    input:
        unpack(lambda w: NIGHT.inputs_of_master(ready_master(w))),
        file=lambda w: ancient(ready_master(w).first.path),
        raw=lambda w: ancient(NIGHT.ready_raw(ready_master(w))),
    output:
        f"{R}/masters/library/{{ready}}.fits",
    log:
        f"{R}/logs/masters/library/{{ready}}.log",
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(60),
    params:
        options=NIGHT.options("header", "cameras", "trim"),
        facts=lambda w: NIGHT.ready_facts(ready_master(w)),
        known=lambda w: NIGHT.ready_known(ready_master(w)),
        made_from=lambda w: NIGHT.master_made_from(ready_master(w)),
        code=code("ready_master"),
    message:
        "ready master {wildcards.ready}"
    script:
        "../scripts/ready_master.py"


rule ready_detector:
    input:
        f"{R}/masters/library/{{ready}}.fits",
    output:
        f"{R}/masters/library/{{ready}}_detector.csv",
    log:
        f"{R}/logs/masters/library/{{ready}}_detector.log",
    localrule: True
    conda:
        "../envs/firstlight.yaml"
    resources:
        mem_mb=megabytes(0),
    params:
        code=code("ready_detector"),
    message:
        "gain and read noise by {wildcards.ready}"
    script:
        "../scripts/ready_detector.py"
