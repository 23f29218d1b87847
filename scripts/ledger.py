"""What became of every file that was found: a row for each, exactly one outcome for each."""

from firstlight import job

with job.logged(snakemake):
    from collections import defaultdict

    from firstlight import frames, io, ledger

    options = snakemake.params.options
    results = options["results"]
    table = frames.read(results)
    lights, calibrations = {}, defaultdict(list)
    for path in snakemake.input.stacks:
        lights |= ledger.of_stack(path.removeprefix(f"{results}/"), io.read_extension(path, "INPUTS"))
    for path in snakemake.input.masters:
        head = io.read_header(path)
        step = head.get("FLSTEP") or str(head["IMAGETYP"]).replace(" ", "_")
        shares = ledger.of_master(path.removeprefix(f"{results}/"), step, io.read_extension(path, "INPUTS"))
        for content, share in shares.items():
            calibrations[content].append(share)
    for path, parts in options["detectors"].items():
        for content, share in ledger.of_detector(path.removeprefix(f"{results}/"), io.read_rows(path), *parts).items():
            calibrations[content].append(share)
    entries = ledger.ledger(table.rows, table.rejected, lights, calibrations, options["left_out"])
    ledger.check(entries, len(table.rows) + len(table.rejected), len(lights), options["lights"])
    io.write_rows(snakemake.output[0], entries, ledger.COLUMNS)
    print(*ledger.told(entries), sep="\n")
