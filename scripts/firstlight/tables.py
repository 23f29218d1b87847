"""Small tables of mixed columns as text, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable


class _Lines(io.StringIO):
    """Rows end in a line feed, though csv takes them to end in both marks: only so does it quote either in a field."""

    def write(self, row: str) -> int:
        return super().write(row.removesuffix("\r\n") + "\n")


def table_text(columns: Iterable[str], lines: Iterable[Iterable]) -> str:
    """A table with the names of its columns; texts of any kind come back from csv.reader as they were."""
    text = _Lines(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return text.getvalue()
