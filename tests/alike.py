"""Whether two results folders hold the same products, to the byte, but for what tells of a run and not of the frames."""

import csv
from pathlib import Path

# Logs; the cache with time stamps of raw files; what tells of the machine.
OF_THE_RUN = (".firstlight", "logs", "plan.txt", "report.html")


def products(results: Path) -> dict[str, bytes]:
    """Content of all products by their place among the results."""
    files = {path.relative_to(results): path for path in results.rglob("*") if path.is_file()}
    return {place.as_posix(): content(path) for place, path in files.items() if place.parts[0] not in OF_THE_RUN}


def differences(one: Path, other: Path) -> list[str]:
    """Places of products that the two results folders do not share."""
    first, second = products(one), products(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def content(path: Path) -> bytes:
    """A file's bytes; the record of how a light was solved goes without the seconds that it took."""
    if "solving" not in path.parts:
        return path.read_bytes()
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return repr([row | {"seconds": ""} for row in rows]).encode()
