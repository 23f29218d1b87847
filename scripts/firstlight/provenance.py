"""Identity of code and inputs: what must be equal for a product to be still valid."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

# Libraries that take part in the numbers. An upgrade of one makes the products anew whose code imports it.
NUMERIC = tuple("numpy astropy ccdproc astroscrappy reproject scipy sep seiza cv2 PIL tifffile".split())
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless"}


def identity(*parts) -> str:
    """A short hash of any values that have a stable text form; the order counts."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def content_identity(path) -> str:
    """A short hash of a file's bytes; ValueError where it cannot be read."""
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=8).hexdigest()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def code_identity(script: Path) -> str:
    """Hash of a script, of every project module that it reaches by imports, and of the versions of its numeric libraries.

    Comments, docstrings and layout do not count: only what Python would run.
    """
    package = script.parent / "firstlight"
    modules, libraries, todo = {}, set(), [script]
    while todo:
        path = todo.pop()
        if path in modules:
            continue
        modules[path], project, outside = _read(path, package, path.stat().st_mtime_ns)
        libraries |= outside
        todo += project
    texts = [modules[path] for path in sorted(modules)]
    return identity(*texts, *(f"{name} {_version(name)}" for name in sorted(libraries)))


@cache
def _read(path: Path, package: Path, _stamp: int) -> tuple[str, list[Path], set[str]]:
    """One module: its hash, the project modules that it imports, the numeric libraries that it imports."""
    tree = ast.parse(path.read_text())
    project, outside = [], set()
    for node in ast.walk(tree):
        for name in _imported(node):
            head, _, rest = name.partition(".")
            if head != "firstlight":
                outside |= {head} & set(NUMERIC)
            elif (module := package / f"{rest.split('.')[0]}.py").exists():
                project.append(module)
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return identity(ast.dump(tree)), project, outside


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


@cache
def _version(library: str) -> str:
    try:
        return metadata.version(DISTRIBUTIONS.get(library, library))
    except metadata.PackageNotFoundError:
        return "absent"
