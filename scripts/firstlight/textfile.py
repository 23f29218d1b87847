"""Text files of the results folder, whole or absent."""

from __future__ import annotations

import os


def read(path: str) -> str | None:
    """The text of a file, None where there is none. File names that are not UTF-8 survive the way there and back."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def can_write(path: str) -> bool:
    """Whether a file can be written, which is empty then."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w"):
            return True
    except OSError:
        return False


def remove_empty(path: str, also_filled: bool = False) -> None:
    """Remove a file in which there is nothing, or also one in which there is something."""
    try:
        if also_filled or os.path.getsize(path) == 0:
            os.remove(path)
    except OSError:
        pass


def write(path: str, text: str) -> bool:
    """Write a file whole or not at all, and only if its content changes; True where it was written."""
    if read(path) == text:
        return False
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    beside = f"{path}.{os.getpid()}.tmp"
    try:
        with open(beside, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
        os.replace(beside, path)
    finally:
        if os.path.exists(beside):
            os.remove(beside)
    return True
