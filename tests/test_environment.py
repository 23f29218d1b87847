"""What is installed: pinned to the file, the same for all ways to install it, under licences that let everybody use it."""

import re
from importlib import metadata

import licences
import pytest
import yaml
from conftest import PROJECT
from packaging.markers import Marker
from packaging.requirements import Requirement

ENVS = PROJECT / "envs"
LISTS = ("requirements", "slurm", "fuzz")


def wanted(name):
    """{package: version} of a list by hand."""
    lines = (ENVS / f"{name}.in").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def entries(name):
    """(package, version, marker, hashes) of each entry of a full list."""
    text = re.sub(r"\\\n", " ", (ENVS / f"{name}.txt").read_text())
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([\w.-]+)==(\S+)(?: ; (.*?))?((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*", line)
            assert match, line
            yield match[1].lower(), match[2], match[3], match[4].split()


@pytest.mark.parametrize("name", LISTS)
def test_every_package_is_pinned_with_the_hashes_of_its_files(name):
    """Nothing else stands there, such as an address to install from."""
    found = list(entries(name))
    assert found and all(hashes for *_, hashes in found)
    pins = {re.sub(r"[-_.]+", "-", package): version for package, version, *_ in found}
    assert {package: pins.get(package) for package in wanted(name)} == wanted(name)


def test_the_lists_agree_on_versions():
    """One environment takes them all."""
    versions = {(package, marker): version for package, version, marker, _ in entries("requirements")}
    for name in LISTS[1:]:
        for package, version, marker, _ in entries(name):
            assert versions.get((package, marker), version) == version, package


def test_conda_pins_equal_the_requirements():
    conda = yaml.safe_load((ENVS / "firstlight.yaml").read_text())["dependencies"]
    pip = next(item["pip"] for item in conda if isinstance(item, dict))
    named = dict(item.split("=") for item in conda if isinstance(item, str) and item != "pip" and ">" not in item)
    assert named | dict(item.split("==") for item in pip) == wanted("requirements")


def test_what_runs_here_is_what_is_pinned():
    here = {
        package: version
        for package, version, marker, _ in entries("requirements")
        if marker is None or Marker(marker).evaluate()
    }
    assert {package: metadata.version(package) for package in here} == here


def asked(package, extra=""):
    """What an installed package needs here, with what the extras need that it asks others for."""
    for need in map(Requirement, metadata.requires(package) or ()):
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            yield need
            for more in need.extras:
                yield from asked(need.name, more)


@pytest.mark.parametrize("name", LISTS)
def test_what_a_pinned_package_needs_is_pinned_too(name):
    """Nothing is looked up at installation: what were not in the lists would be missing."""
    lists = {
        list_: [entry for entry in entries(list_) if entry[2] is None or Marker(entry[2]).evaluate()] for list_ in LISTS
    }
    pins = {re.sub(r"[-_.]+", "-", entry[0]): entry[1] for entry in lists["requirements"] + lists[name]}
    try:
        needs = [(package, need) for package, *_ in lists[name] for need in asked(package)]
    except metadata.PackageNotFoundError as error:
        pytest.skip(f"{error} of envs/{name}.txt is not installed")
    for package, need in needs:
        version = pins.get(re.sub(r"[-_.]+", "-", need.name).lower())
        assert version and need.specifier.contains(version, prereleases=True), f"{package} needs {need}"


def test_all_licences_are_allowed(capsys):
    assert licences.main() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    "found",
    [
        ["GPL-3.0-only"],
        ["MIT", "Proprietary"],
        [],
        ["GNU Affero General Public License v3"],
        ["A Simple Commercial License"],
    ],
)
def test_a_licence_that_is_not_allowed_is_found(found):
    assert licences.refused(found)
