"""Identity of code and inputs: what must be equal for a product to be still valid."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

# Libraries that take part in the numbers. An upgrade of one makes the products anew whose code imports it.
NUMERIC = tuple("numpy astropy ccdproc astroscrappy reproject scipy sep drizzle seiza cv2 PIL tifffile".split())
# Under which names a library may have been installed.
DISTRIBUTIONS = {
    "PIL": ("pillow",),
    "cv2": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
}
KEPT = "__pycache__/identities.json"  # below the folder of scripts
ONLY_WORDS = {"history"}  # project modules by which no product differs but in its HISTORY


def identity(*parts) -> str:
    """A short hash of any values that have a stable text form; the order counts."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def content_identity(path) -> str:
    """A short hash of a file's bytes; ValueError where it cannot be read."""
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=8).hexdigest()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def code_identity(script: Path) -> str:
    """Hash of a script, of every project module that it reaches by imports, and of the versions of its numeric libraries.

    Comments, docstrings and layout do not count: only what Python would run; nor does the version of Python. What was
    told of a module is kept beside Python's bytecode, as long as its size and time stamp stay; where no bytecode is to be
    written, neither is this.
    """
    root = script.parent
    told = _told(root)
    before = dict(told)
    modules, libraries, todo = {}, set(), [script]
    while todo:
        path = todo.pop()
        if path not in modules:
            modules[path], names, outside = _module(path, told, root)
            libraries.update(outside)
            names = set(names) - ONLY_WORDS
            todo += [place for name in sorted(names) if (place := root / "firstlight" / f"{name}.py").exists()]
    if told != before:
        _keep(told, root)
    texts = [modules[path] for path in sorted(modules)]
    return identity(*texts, *(f"{name} {installed(name)}" for name in sorted(libraries)))


def _module(path: Path, told: dict, root: Path) -> list:
    """A module's hash, names of project modules and of numeric libraries that it imports, from what is told of it."""
    status, name = path.stat(), path.relative_to(root).as_posix()
    stamp = [status.st_size, status.st_mtime_ns]
    if name not in told or told[name][0] != stamp:
        told[name] = [stamp, *_read(path)]
    return told[name][1:]


def _read(path: Path) -> list:
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree):
        names.update(_imported(node))
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    parts = [name.split(".") for name in names]
    project = {part[1] for part in parts if part[0] == "firstlight" and len(part) > 1}
    return [identity(_plain(tree)), sorted(project), sorted({part[0] for part in parts} & set(NUMERIC))]


def _plain(node) -> str:
    """A tree as text that is the same in every Python: `ast.dump` and the fields that nodes have differ between them."""
    if isinstance(node, list):
        return f"[{','.join(map(_plain, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    told = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return f"{type(node).__name__}({','.join(f'{name}={_plain(value)}' for name, value in told)})"


@cache
def _told(root: Path) -> dict:
    """What earlier runs told of modules; nothing where another version of this one did."""
    try:
        kept = json.loads((root / KEPT).read_text())
        return kept["modules"] if kept["by"] == _by() else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _keep(told: dict, root: Path) -> None:
    if sys.dont_write_bytecode:
        return
    beside = root / f"{KEPT}.{os.getpid()}"
    try:
        beside.parent.mkdir(exist_ok=True)
        beside.write_text(json.dumps({"by": _by(), "modules": told}))
        beside.replace(root / KEPT)
    except OSError:  # somebody else's folder: it costs a second in each run
        pass


@cache
def _by() -> str:
    return identity(sys.version, content_identity(__file__))


def _imported(node: ast.AST) -> list[str]:
    """Full names that an import statement brings in; relative imports are of this package."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = "firstlight" if node.level else node.module
        if node.level and node.module:
            base += f".{node.module}"
        return [base] + [f"{base}.{alias.name}" for alias in node.names]
    return []


def versions() -> list[tuple[str, str]]:
    """Name and version of what made the numbers: firstlight, Python, Snakemake, the numeric libraries that are there."""
    from . import __version__

    names = {name: DISTRIBUTIONS.get(name, (name,))[0] for name in ("snakemake", *NUMERIC)}
    there = [(shown, installed(name)) for name, shown in names.items() if installed(name) != "absent"]
    return [("firstlight", __version__), ("Python", sys.version.split()[0]), *there]


@cache
def installed(library: str) -> str:
    """The version of a library that is installed, "absent" where it is not."""
    for name in DISTRIBUTIONS.get(library, (library,)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "absent"
