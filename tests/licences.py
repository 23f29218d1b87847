"""make audit: under which licences the pinned packages stand, and whether firstlight may use all of them.

    python tests/licences.py

prints a table of what is installed of the lists in envs/ and ends with 1 where a licence is not among those that let the
program be used and passed on by everybody, or is not known.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

ENVS = Path(__file__).parents[1] / "envs"
LISTS = tuple(ENVS / f"{name}.txt" for name in ("requirements", "slurm", "fuzz"))
# Permissive ones, and those whose terms stay with the package itself.
ALLOWED = re.compile(
    r"\b(0?BSD|MIT|Apache|Python Software Foundation|PSF|Mozilla Public|MPL|LGPL|Lesser General|OFL|Zlib|CC0|ISC|Public Domain)\b"
    r"|\bLGPLv",
    re.I,
)
# What the metadata do not say, or say of a part that is not used here: read in the files of this very version.
READ = {
    "conda-inject==1.3.2": "MIT",
    "docutils==0.22.4": "Public Domain, BSD; of its tools for Emacs GPL",
    "drizzle==3.0.0": "BSD",
    "snakemake-interface-common==1.23.0": "MIT",
    "snakemake-interface-logger-plugins==2.1.0": "MIT",
    "snakemake-interface-report-plugins==1.3.0": "MIT",
    "snakemake-interface-scheduler-plugins==2.0.2": "MIT",
    "snakemake-interface-storage-plugins==4.4.1": "MIT",
}


def pinned() -> list[str]:
    """The packages of all lists, each once."""
    return sorted({name for pins in LISTS for name in re.findall(r"^([\w.-]+)==", pins.read_text(), re.M)})


def licence(package: str) -> list[str]:
    """The licences of an installed package, [] where nothing says it. Raises PackageNotFoundError."""
    said = metadata.metadata(package)
    if read := READ.get(f"{package}=={said['Version']}"):
        return [read]
    if expression := said.get("License-Expression"):
        return re.split(r"\s+(?:AND|OR)\s+", expression)
    kinds = [text.split(" :: ")[-1] for text in said.get_all("Classifier") or () if text.startswith("License ::")]
    return kinds or (said.get("License") or "").strip().splitlines()[:1]


def refused(licences: list[str]) -> bool:
    """Whether there is none, or one that is not allowed."""
    return not licences or not all(ALLOWED.search(one) for one in licences)


def main() -> int:
    faults = 0
    for package in pinned():
        try:
            found = licence(package)
        except metadata.PackageNotFoundError:  # of another platform or Python, or of a list that is not in use
            continue
        faults += refused(found)
        print(f"{package:40} {metadata.version(package):18} {', '.join(found)}{'   NOT ALLOWED' * refused(found)}")
    print(f"{faults} licences are not allowed, or not known" if faults else "all licences are allowed")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
