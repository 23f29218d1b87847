"""What the adapter of nova does: a light's table of sources to the server, its answer to a file."""

from __future__ import annotations

import json

from astropy.io import fits

from . import astrometry, io, mosaic, nova, pointing, solve, textfile
from .provenance import identity


def ask(snakemake, key: str | None) -> None:
    """Ask the server about a light that is not solved, and write its answer as a header-only FITS file.

    A question that stays without an answer leaves a number that is another parameter of the rule in the next run.
    """
    head, output = io.read_header(snakemake.input.frame), snakemake.output[0]
    if io.is_dropped(head):
        return _write(output, f"not asked: {io.dropped_reason(head)}")
    if head.get("FLSOLVED"):
        return _write(output, f"not asked: solved by {head.get('FLSOLVER')}")
    options, path, number = snakemake.params.options, snakemake.params.memory, snakemake.params.attempt
    task = _task(snakemake, head, options)
    asked = identity(json.dumps(solve.asked(task)), options["nova_url"])

    def remember(submission, attempt=number):
        textfile.write(path, nova.memory(asked, submission, attempt))

    submission = nova.remembered(textfile.read(path), asked)
    try:
        attempt = solve.by_nova(task, key, options["nova_url"], submission, remember)
    except nova.Unanswered as error:
        remember(error.submission, number + 1)
        print(error)
        return _write(output, f"nova: {error}", {"FLUNSOLV": _reasons(head, error)})
    print(attempt)
    remember(None)
    solution = solve.Solution(attempt.wcs, [attempt])
    cards = {key: card for key, card in solution.cards().items() if key in nova.CARDS}
    if attempt.wcs is None:
        cards["FLUNSOLV"] = _reasons(head, attempt.reason)
    _write(output, str(attempt), cards, attempt.wcs)


def _reasons(head, last) -> str:
    """The reasons of a light's own rungs and that of the server."""
    return "; ".join(filter(None, (head.get("FLUNSOLV"), f"nova: {last}")))


def _write(path, said: str, cards: dict | None = None, wcs=None) -> None:
    header = fits.Header()
    header["FLSOLVED"] = (False, "the server found a WCS")
    for key, card in (cards or {}).items():
        header[key] = card
    header["FLNOVA"] = solve.plain(said)
    io.write_header(path, astrometry.replace_wcs(header, wcs))


def _task(snakemake, head, options: dict) -> solve.Task:
    """What the rungs of a light were given, from its product."""
    stars = io.read_table(snakemake.input.catalogue) if "catalogue" in snakemake.input.keys() else None
    return solve.Task(
        table=io.read_table(snakemake.input.sources),
        header=head,
        shape=(head["NAXIS2"], head["NAXIS1"]),
        stars=stars,
        centres=tuple(pointing.places(head)),
        scale=mosaic.scale_of(head, options["scale"]),
        radius=options["radius"],
        scale_tolerance=options["scale_tolerance"],
        sip_order=options["sip_order"],
        time_limit=options["nova_time_limit"],
        index=None,
    )
