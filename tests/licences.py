"""make audit: under which licences the pinned packages stand, and whether firstlight may use all of them.

    python tests/licences.py

prints a table of what is installed of envs/requirements.txt and ends with 1 where a licence is not among those that let the
program be used and passed on by everybody, or is not known.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

PINS = Path(__file__).parents[1] / "envs" / "requirements.txt"
# Permissive ones, and those whose terms stay with the package itself.
ALLOWED = re.compile(
    r"0?BSD\b|MIT\b|MIT-CMU|Apache|Python Software Foundation|PSF|Mozilla Public|MPL|LGPL|Lesser General|OFL|Zlib|CC0|ISC\b|"
    r"Public Domain|matplotlib|Enthought",
    re.I,
)
# What the metadata do not say, or say of a part that is not used here: read in the package's own files.
READ = {
    "conda-inject": "MIT",
    "cycler": "BSD",
    "docutils": "Public Domain, BSD; of its tools for Emacs GPL",
    "drizzle": "BSD",
    "kiwisolver": "BSD",
    "scikit-image": "BSD",
    "snakemake-interface-common": "MIT",
    "snakemake-interface-logger-plugins": "MIT",
    "snakemake-interface-report-plugins": "MIT",
    "snakemake-interface-scheduler-plugins": "MIT",
    "snakemake-interface-storage-plugins": "MIT",
}


def pinned(pins: Path = PINS) -> dict[str, str]:
    """{package: version} of a list of pins; of one that differs by Python or platform, what holds here is installed."""
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", pins.read_text(), re.M)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def licence(package: str) -> list[str]:
    """The licences of an installed package, [] where nothing says it. Raises PackageNotFoundError."""
    said = metadata.metadata(package)
    if package in READ:
        return [READ[package]]
    if expression := said.get("License-Expression"):
        return re.split(r"\s+(?:AND|OR)\s+", expression)
    kinds = [text.split(" :: ")[-1] for text in said.get_all("Classifier") or () if text.startswith("License ::")]
    return kinds or (said.get("License") or "").strip().splitlines()[:1]


def refused(licences: list[str]) -> bool:
    """Whether there is none, or one that is not allowed."""
    return not licences or not all(ALLOWED.search(one) for one in licences)


def main() -> int:
    faults = 0
    for package in sorted(pinned()):
        try:
            found = licence(package)
        except metadata.PackageNotFoundError:  # of another platform or Python
            continue
        faults += refused(found)
        print(f"{package:40} {metadata.version(package):18} {', '.join(found)}{'   NOT ALLOWED' * refused(found)}")
    print(f"{faults} licences are not allowed, or not known" if faults else "all licences are allowed")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
