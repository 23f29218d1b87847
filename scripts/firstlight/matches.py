"""The record of the matching: for each frame the masters that could have served it, and why one won."""

from __future__ import annotations

from .match import Chosen, Offer, Plan, asks, kinds_for

COLUMNS = (
    "frame", "kind", "master", "source", "nights", "exposure_ratio", "temperature_difference", "telescope",
    "focal_length_difference", "rotator_difference", "fits", "why_not", "chosen", "why",
)  # fmt: skip


MOST = 10  # masters of a kind that are told of for a frame: many nights would make a table of nights times lights


def matches(plan: Plan) -> list[tuple[str, ...]]:
    """For each light, and each master whose frames are reduced themselves, the masters that could have served it, as text
    in the order of `COLUMNS`: how far off it was (nights; k; C; relative; deg), whether it fits, which was chosen, why.

    Of each kind those that fit, the best first, then the nearest of the others, `MOST` in all.
    """
    known: dict = {}
    lines = []
    for row in plan.lights.values():
        for kind in kinds_for(row):
            key = asks(row, kind)
            if key not in known:
                known[key] = _record(plan, row, kind, plan.chosen(row))
            lines += [(row.name, *line) for line in known[key]]
    for master in plan.used_masters():
        if master.ready and master.kind == "flat":  # nothing is subtracted from it any more
            continue
        for kind in kinds_for(master.first):
            record = _record(plan, master.first, kind, plan.of_master(master))
            lines += [(master.path, *line) for line in record]
    return lines


def _record(plan: Plan, row, kind: str, chosen: Chosen) -> list[tuple[str, ...]]:
    lines, offers = [], plan.offers(row, kind)
    fitting = [offer for offer in offers if not offer.failed]
    for offer in offers[:MOST]:
        taken = getattr(chosen, kind) is offer.master
        lines.append((*_values(kind, offer), "yes" if taken else "no", _why(offer, offers, fitting)))
    return lines


def _values(kind: str, offer: Offer) -> tuple[str, ...]:
    master = offer.master
    number = len(master.rows)
    return (
        kind,
        master.path,
        master.first.path if master.ready else f"{number} frame{'s' * (number > 1)} of {master.first.night}",
        "" if offer.nights is None else str(offer.nights),
        _number(offer.exposure_ratio, ".4g"),
        _number(offer.temperature, "+.2f"),
        offer.telescope,
        _number(offer.focal_length, "+.4f"),
        _number(offer.rotator, "+.2f"),
        "no" if offer.failed else "yes",
        offer.why_not,
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _why(offer: Offer, offers: list[Offer], fitting: list[Offer]) -> str:
    """Why an offer that fits won against the next best, or lost against the best."""
    if offer.failed:
        return ""
    if len(offers) == 1:
        return "only one"
    if len(fitting) == 1:
        return "only one that fits"
    best = offer is fitting[0]
    other = fitting[1] if best else fitting[0]
    for mine, its in zip(offer.rank, other.rank, strict=True):
        if mine[2] != its[2]:
            return mine[0] if best else mine[1]
    return ""
