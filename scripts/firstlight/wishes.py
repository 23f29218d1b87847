"""What a configuration names that none of the frames is: said before a run, since it goes on without."""

from __future__ import annotations

from .channels import channels


def unmet(config: dict, lights: list, filters: dict[str, list[str]]) -> list[str]:
    """A sentence for each wish that cannot be met.

    config   complete, see `config.complete`
    lights   rows of the frames table; filters: {target: its filters, as people write them}
    """
    words = _fringe(config["fringe"], lights) + _grid(config["grid"], lights) + _bands(config["photometry"], lights)
    return words + _picture(config["picture"], filters)


def _fringe(section: dict, lights: list) -> list[str]:
    there = {name for row in lights for name in (row.filter, row.band)}
    missing = [name for name in section["filters"] if name not in there | {"all"}]
    return [f"fringe: filters: {name}: no light is in it" for name in missing]


def _grid(section: dict, lights: list) -> list[str]:
    wanted = section["reference"]
    if not wanted or any(wanted in row.name for row in lights):
        return []
    return [f"grid: reference: {wanted!r} is in no light's name; each target's best light is taken"]


def _bands(section: dict, lights: list) -> list[str]:
    there = {row.band for row in lights}
    return [f"photometry: bands: {name}: no light is in it" for name in section["bands"] if name not in there]


def _picture(section: dict, filters: dict[str, list[str]]) -> list[str]:
    words = []
    for target, names in filters.items():
        try:
            channels(names, section["channels"], section["palette"])
        except ValueError as error:
            words.append(f"picture: {target}: {error}; its filters are taken by wavelength")
    return words
