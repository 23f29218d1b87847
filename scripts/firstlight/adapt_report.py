"""What the adapter of report does: reads what a night left behind, and writes the page."""

from __future__ import annotations

import csv
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np

from . import __version__, config, io, provenance, report, report_facts, report_images, report_plots, textfile

WIDEST = 1400  # pixels of a picture; of many targets' less, so that the page stays one that opens
PREVIEW, SMALL = 420, 240
MOST_PICTURES = 6  # targets whose pictures are shown in full size
MOST_OUTLINES = 150  # frames that are drawn on the sky
MOST_UNSOLVED = 200
TEMPLATES = Path(__file__).parent / "templates"
SCHEMA = Path(__file__).parents[2] / "config.schema.yaml"
CATALOGUE_STARS = 60  # brightest ones, drawn for orientation


def report_of(snakemake) -> None:
    """The report of a night."""
    facts = gathered(snakemake.input, snakemake.params)
    texts = (textfile.read(str(TEMPLATES / f"report.{end}")) for end in ("html", "css", "js"))
    page = report.page(*texts, facts)
    textfile.write(snakemake.output[0], page)
    print(report.balance_words(facts["balance"]))


def gathered(given, params) -> dict:
    """All that the template names. given: the named inputs `stacks`, `masters`, `detectors`, `pictures`, `catalogues`;
    params: `names` (target and filter of each stack), `options` (the configuration)."""
    results = params.options["results"]
    known = {row["name"]: row for row in table(f"{results}/frames.csv")}
    ledger = table(f"{results}/ledger.csv")
    read = partial(_stack, known=known)
    stacks = [read(path, *names) for path, names in zip(given.stacks, params.names, strict=True)]
    targets = _targets(stacks, given, known)
    balance = report_facts.balance(ledger)
    schema = config.read_schema(SCHEMA)
    nights = sorted({row["night"] for row in known.values() if row["kind"] == "light" and row["night"]})
    return {
        "version": __version__,
        "title": report.some([target["name"] for target in targets]) or "No light",
        "subtitle": _subtitle(nights, known),
        "targets": targets,
        "balance": balance,
        "balance_words": report.balance_words(balance),
        "ledger": report.ledger_data(ledger) if ledger else "",
        "ledger_columns": report.LEDGER,
        "outcomes": sorted({row["outcome"] for row in ledger}),
        "kinds": sorted({row["kind"] for row in ledger}),
        "masters": [_master(path) for path in sorted(given.masters)],
        "detectors": [row for path in given.detectors for row in _detector(path)],
        "served": report_facts.served(table(f"{results}/matches.csv"), known),
        "unsolved": table(f"{results}/unsolved.csv")[:MOST_UNSOLVED],
        "changed": _yaml(report_facts.differing(params.options, config.defaults(schema))) or "nothing",
        "complete": _yaml(params.options),
        "versions": provenance.versions(),
        "costs": report_facts.costs(_logs(results)),
        "results": results,
    }


def table(path: str) -> list[dict]:
    """The rows of a table as text; none where there is no such file. Names of files that are not UTF-8 survive."""
    return list(csv.DictReader(StringIO(textfile.read(path) or "", newline="")))


def _logs(results: str):
    folder = Path(results, "logs")
    for path in sorted(folder.rglob("*.log")):
        yield path.relative_to(folder).as_posix(), textfile.read(str(path))


def _yaml(values: dict) -> str:
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110) if values else ""


def _subtitle(nights: list[str], known: dict) -> str:
    cameras = sorted({row["instrument"] or row["camera"] for row in known.values() if row["kind"] == "light"})
    scopes = sorted({row["telescope"] for row in known.values() if row["kind"] == "light" and row["telescope"]})
    first = (
        f"Night of {nights[0]}"
        if len(nights) == 1
        else f"{len(nights)} nights, {nights[0]} to {nights[-1]}"
        if nights
        else ""
    )
    return "; ".join(part for part in (first, report.some(scopes), report.some(cameras)) if part)


# --- targets ----------------------------------------------------------------------------------------------------------
def _stack(path: str, target: str, filter: str, known: dict) -> dict:
    """A stack's facts, its header, its frames."""
    header = io.read_header(path)
    out = report_facts.stack(header, target, filter) | {"header": header, "path": path}
    try:
        rows = io.read_extension(path, "INPUTS")
    except LookupError:
        return out | {"inputs": []}
    names = rows.dtype.names
    texts = [{name: _text(value) for name, value in zip(names, row, strict=True)} for row in rows.tolist()]
    return out | {"inputs": report_facts.frames(texts, filter, known)}


def _text(value):
    return value.decode(errors="replace").strip() if isinstance(value, bytes) else value


def _targets(stacks: list[dict], given, known: dict) -> list[dict]:
    """All that is shown of each target, those with the most light first."""
    folders: dict[str, list[dict]] = {}
    for one in stacks:
        folders.setdefault(Path(one["path"]).parent.name, []).append(one)
    order = sorted(folders, key=lambda name: -sum(one.get("exposure") or 0 for one in folders[name]))
    widest = WIDEST if len(order) <= MOST_PICTURES else WIDEST // 2
    return [_target(name, folders[name], given, known, widest) for name in order]


def _target(folder: str, stacks: list[dict], given, known: dict, widest: int) -> dict:
    name = stacks[0]["target"]
    out = {"name": name, "stacks": stacks, "picture": None, "chart": None}
    pictures = {tuple(Path(path).parts[-2:]): path for path in given.pictures}
    if path := pictures.get(("pictures", f"{folder}.png")):
        out["picture"] = _picture(path, widest, f"Picture of {name}")
    if path := pictures.get(("pictures", f"{folder}_chart.png")):
        out["chart"] = _picture(path, widest, f"Picture of {name} with coordinates, compass and scale")
    for one in stacks:
        path = pictures.get((folder, f"{Path(one['path']).stem}.png"))
        one["preview"] = _picture(path, PREVIEW, f"Stack of {name} in {one['filter']}, in grey") if path else None
    frames = [frame for one in stacks for frame in one["inputs"]]
    style = report_plots.styles([one["filter"] for one in stacks])
    out |= _plots(frames, style, next((one["unit"] for one in stacks if one.get("unit")), ""))
    out["left_out"] = [one for one in frames if one["left_out"]]
    return out | _sky(folder, stacks, frames, style, given, known)


def _picture(path: str, widest: int, alt: str) -> dict:
    image, texts = io.read_picture(path)
    url, width, height = report_images.jpeg(image, widest)
    said = [texts[key] for key in ("Description", "Comment") if texts.get(key)]
    alt = "; ".join([alt, *said[:1]])
    return {"url": url, "width": width, "height": height, "alt": alt, "caption": ". ".join(said)}


def _plots(frames: list[dict], style: dict, unit: str) -> dict:
    if len(frames) < 2:  # over a night there is nothing to see of one
        return {"plots": [], "key": ""}
    night = report_plots.Night(frames)
    measures = [(column, name, unit if column == "sky" else its) for column, name, its in report_facts.MEASURES]
    plots = [report_plots.over_night(frames, measure, night, style) for measure in measures]
    key = report_plots.key(style, any(one["left_out"] for one in frames))
    return {"plots": [plot for plot in plots if plot], "key": key}


def _sky(folder: str, stacks: list[dict], frames: list[dict], style: dict, given, known: dict) -> dict:
    """Where the stacks and their frames lie on the sky; why that is not known."""
    solved = [one for one in stacks if not one["dropped"] and one["solved"]]
    if not solved:
        there = any(not one["dropped"] for one in stacks)
        return {"sky": None, "unplaced": "No frame was solved, so its place on the sky is not known." if there else ""}
    header = solved[0]["header"]
    outline = partial(report_facts.outline, header)
    whole = {"corners": outline(0, 0, solved[0]["nx"], solved[0]["ny"]), "style": "grid", "name": "grid of the stacks"}
    placed = [one for one in frames if one["dx"] is not None and one["dy"] is not None and one["name"] in known]
    outlines = [
        {
            "corners": outline(one["dx"], one["dy"], int(known[one["name"]]["nx"]), int(known[one["name"]]["ny"])),
            "style": f"s{style[one['filter']]}",
            "name": one["name"],
        }
        for one in placed[:: len(placed) // MOST_OUTLINES + 1]
    ]
    centre = report_facts.sexagesimal(header["CRVAL1"], header["CRVAL2"])
    size = report_facts.size(whole["corners"])
    words = f"The stacks ({size}) about {centre} (ICRS); north is up, east left."
    words += " Thin outlines: the frames by their shift, without their rotation." if outlines else ""
    stars = report_facts.on_plane(header, _stars(folder, given))
    plot = report_plots.footprints(
        [*outlines, whole], stars, centre, f"Outline of the stacks on the sky: {size} about {centre}"
    )
    return {"sky": plot, "sky_words": words + (" Dots: the brightest stars of the catalogue." if stars else "")}


def _stars(folder: str, given) -> list[tuple[float, float, float]]:
    """The brightest stars of a target's catalogue: ra, dec, magnitude."""
    path = next((path for path in given.catalogues if Path(path).stem == folder), None)
    if path is None:
        return []
    stars = io.read_table(path)
    stars = stars[np.argsort(stars["mag"], kind="stable")[:CATALOGUE_STARS]]
    return list(zip(*(stars[name].tolist() for name in ("ra", "dec", "mag")), strict=True))


# --- masters ----------------------------------------------------------------------------------------------------------
def _master(path: str) -> dict:
    out = report_facts.master(io.read_header(path), path)
    if out["dropped"]:
        return out | {"image": None, "map": None}
    data = io.read_extension(path, "PRIMARY")
    mask = io.read_extension(path, "MASK")
    bad = mask > 0
    shown = report_images.small(data, bad, SMALL)
    grey, low, high = report_images.stretched(shown)
    out["structure"] = report_images.structure(shown)
    about = f"from {low:.4g} (black) to {high:.4g} (white) {out['unit']}"
    out["image"] = _image(report_images.jpeg(grey, SMALL), f"Master {out['name']}, {about}")
    flags = report_facts.flagged(mask)
    out["flags"] = ", ".join(f"{number} {name}" for name, number in flags)
    out["map"] = None
    if flags:
        out["map"] = _image(
            report_images.png(report_images.bad_map(bad, SMALL)), f"Bad pixels of {out['name']}: {out['flags']}"
        )
    return out


def _image(made: tuple[str, int, int], alt: str) -> dict:
    return dict(zip(("url", "width", "height"), made, strict=True)) | {"alt": alt}


def _detector(path: str) -> list[dict]:
    parts = Path(path).parts
    camera = f"{parts[-3]}, {parts[-2]}" if parts[-1] == "detector.csv" else parts[-1].removesuffix("_detector.csv")
    return [row | {"camera": camera} for row in table(path)]
