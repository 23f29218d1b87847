"""Names from headers made safe as parts of a path."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.I)


def safe_name(text: str, limit: int = 40) -> str:
    """A part of a path made from any text: only A-Z a-z 0-9 + _ . - , never empty, hidden, an option or reserved.

    Blanks become '_', other characters go; what is too long is cut and gets 4 hex digits of the whole text's hash.
    """
    plain = unicodedata.normalize("NFKD", str(text))
    plain = re.sub(r"\s+", "_", plain.strip())
    plain = re.sub(r"[^A-Za-z0-9+_.-]", "", plain).lstrip(".-").rstrip(".")
    plain = _RESERVED.sub(lambda match: match.group() + "_", plain, count=1) if _RESERVED.match(plain) else plain
    if len(plain) > limit:
        plain = f"{plain[: limit - 5]}-{_digest(text)}"
    return plain or "unnamed"


def unique_names(texts: Iterable[str], kept: Mapping[str, str] | None = None, limit: int = 40) -> dict[str, str]:
    """A safe name for each text; no two equal, also without regard to case.

    Where several texts meet in one name, one keeps it plain and the others get 4 hex digits of their own hash. Names
    in `kept` (given before) stay as they are, so that a newcomer renames nothing; else the first in the alphabet
    of those that are their own safe name stays plain.
    """
    texts = sorted(set(texts))
    kept = kept or {}
    names = {text: kept[text] for text in texts if text in kept}
    taken = {name.casefold() for name in names.values()}
    waiting = [text for text in texts if text not in names]
    for text in sorted(waiting, key=lambda text: (safe_name(text, limit) != text, text)):
        name, digits = safe_name(text, limit), 4
        while name.casefold() in taken:
            name = f"{safe_name(text, limit)[: limit - digits - 1]}-{_digest(text, digits)}"
            digits += 2
        taken.add(name.casefold())
        names[text] = name
    return {text: names[text] for text in texts}


def _digest(text: str, digits: int = 4) -> str:
    return hashlib.blake2b(str(text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()[:digits]
