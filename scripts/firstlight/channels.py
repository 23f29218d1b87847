"""Which filter makes which colour of a picture: by the configuration, by a palette, else by wavelength."""

from __future__ import annotations

import re

# Effective wavelengths in nm, to put bands in order. A name is looked up as written first, then in lower case: the case
# of a letter tells Sloan from Johnson (r, R).
BROAD = {
    "u": 355, "U": 365, "B": 440, "b": 445, "g": 477, "G": 530, "V": 551, "v": 551, "r": 622, "R": 641,
    "i": 763, "I": 806, "z": 905, "Z": 905, "y": 963, "Y": 1020,
    "blue": 445, "green": 530, "red": 640, "bp": 511, "rp": 777, "ir": 850,
}  # fmt: skip
NARROW = {
    "heii": 468.6, "hb": 486.1, "hbeta": 486.1, "oiii": 500.7, "o3": 500.7, "o": 500.7,
    "ha": 656.3, "halpha": 656.3, "h": 656.3, "nii": 658.4, "n2": 658.4, "sii": 672.4, "s2": 672.4, "s": 672.4,
}  # fmt: skip
CLEAR = {"l", "lum", "luminance", "clear", "c", "none", "nofilter", "open", "empty", "air", "w", "white", "unknown", ""}
HA, OIII, SII = 656.3, 500.7, 672.4
LINES = {HA: "Ha", OIII: "OIII", SII: "SII"}
# Red, green and blue of the palettes that are named after the lines in that order.
PALETTES = {"SHO": (SII, HA, OIII), "HOO": (HA, OIII, OIII), "HOS": (HA, OIII, SII)}
NAMES = ("auto", *PALETTES, "natural")


def channels(filters, mapping=None, palette: str = "auto") -> dict[str, list[str]]:
    """Which stacks make which channel: {"R": [...], "G": [...], "B": [...]}, or {"L": [...]} for a grey picture.

    filters  names of the stacks
    mapping  {"R": "Ha", "G": "V", "B": ["B", "g"]}: wins over all else. "L" alone makes a grey picture; "L" beside the
             colours gives the brightness, they then only the colour. A green left out is the mean of red and blue.
    palette  "SHO" (SII, Ha, OIII are red, green, blue), "HOO" (Ha red, OIII green and blue), "HOS" (Ha, OIII, SII),
             "natural" (lines join the colour that the eye sees them in: Ha, NII, SII red, OIII green and blue, Hb and
             HeII blue; broad bands as in "auto"), or "auto":
      three or more broad bands  blue below 500 nm, green to 600 nm, red above where each has a band, else parted at
                                 the widest gaps (g, r, z: B, G, R; B V R I: B, G, both in R). Narrow bands stay out.
      two broad bands            blue and red with green their mean; with H-alpha, if it is the longest, as red.
      one broad band or clear    grey; with narrow bands the longest of them is red, the band itself green and blue.
      narrow bands alone         SII, Ha, OIII: R, G, B; two: the longer is R, the other G and B; one: grey.
    Clear or luminance becomes "L" where there are colours from broad bands. Names that are not known give no colour:
    they are left out, or averaged to grey if there is nothing else. One filter is always grey.
    Raises ValueError where there is no filter, or the mapping or the palette asks for one that is not there.
    """
    filters = list(filters)
    if not filters:
        raise ValueError("no stack to make a picture of: at least one filter is needed")
    if palette not in NAMES:
        raise ValueError(f"palette is {palette!r} but must be one of {', '.join(NAMES)}")
    if mapping and any(mapping.values()):
        return _mapped(filters, mapping)
    broad, narrow, clear = _bands(filters)
    if palette in PALETTES and len(filters) > 1:
        return _named_palette(palette, narrow, filters)
    if palette == "natural" and narrow and (natural := _natural(broad, narrow)):
        return natural
    if len(broad) >= 3:
        return _with_luminance(_spread(broad), clear)
    if len(broad) == 2:
        return _with_luminance(_from_two(broad, narrow), clear)
    if len(narrow) >= 2:
        return _lines(narrow)
    white = broad or clear
    if narrow and white:
        return {"R": narrow[-1:], "G": white, "B": white}
    return {"L": white or narrow or filters}


def words(parts: dict[str, list[str]]) -> str:
    """The channels in a few words: 'R: Ha, G: V, B: B+g', of a grey picture the filter alone."""
    if set(parts) == {"L"}:
        return "+".join(parts["L"])
    return ", ".join(f"{channel}: {'+'.join(names)}" for channel, names in parts.items())


def _plain(name: str) -> str:
    """A filter's name without what differs between programs: blanks, dashes, primes, the name of the system."""
    bare = re.sub(r"[\s_\-'.()\[\]]+", "", str(name))
    short = re.sub(r"^(sdss|sloan|ps1?|johnson|bessell?|cousins|astrodon)(?=.)", "", bare, flags=re.IGNORECASE)
    return short if short in BROAD else re.sub(r"^([ugrizy])p$", r"\1", short)


# A colour sensor's plane behind some glass ("LP G", "L-eXtreme_R"), or beside mono frames in that filter ("TR").
_PLANE = re.compile(r"(?:.+[ _])?T?([RGB])")


def _wavelength(table: dict, name: str):
    plain = _plain(name)
    found = table.get(plain, table.get(plain.lower()))
    if found is None and (plane := _PLANE.fullmatch(str(name))):
        return table.get(plane[1])
    return found


def _bands(filters) -> tuple[list, list, list]:
    """Broad, narrow and clear filters, each from the shortest wavelength to the longest."""
    broad = [name for name in filters if _wavelength(BROAD, name)]
    narrow = [name for name in filters if name not in broad and _wavelength(NARROW, name)]
    clear = [name for name in filters if name not in broad + narrow and _plain(name).lower() in CLEAR]
    broad.sort(key=lambda name: (_wavelength(BROAD, name), name))
    narrow.sort(key=lambda name: (_wavelength(NARROW, name), name))
    return broad, narrow, sorted(clear)


def _spread(broad: list) -> dict:
    """Three or more bands in order of wavelength: by the eye's colours if they fill all three, else at the gaps."""
    nm = [_wavelength(BROAD, name) for name in broad]
    first, second = sum(value < 500 for value in nm), sum(value < 600 for value in nm)
    if not 0 < first < second < len(nm):
        widest = sorted(range(1, len(nm)), key=lambda i: (nm[i - 1] - nm[i], i))[:2]
        first, second = sorted(widest)
    return {"R": broad[second:], "G": broad[first:second], "B": broad[:first]}


def _from_two(broad: list, narrow: list) -> dict:
    blue, red = broad
    alpha = [name for name in narrow if _wavelength(NARROW, name) == HA]
    if alpha and _wavelength(BROAD, red) < HA:
        return {"R": alpha, "G": [red], "B": [blue]}
    return {"R": [red], "G": [blue, red], "B": [blue]}


def _lines(narrow: list) -> dict:
    there = {_wavelength(NARROW, name): name for name in narrow}
    if set(PALETTES["SHO"]) <= set(there):
        return {channel: [there[line]] for channel, line in zip("RGB", PALETTES["SHO"], strict=True)}
    if len(narrow) == 2:
        return {"R": [narrow[1]], "G": [narrow[0]], "B": [narrow[0]]}
    return {"R": [narrow[-1]], "G": narrow[1:-1], "B": [narrow[0]]}


def _named_palette(palette: str, narrow: list, filters: list) -> dict:
    parts = {}
    for channel, line in zip("RGB", PALETTES[palette], strict=True):
        parts[channel] = [name for name in narrow if _wavelength(NARROW, name) == line]
        if not parts[channel]:
            raise ValueError(f"palette {palette} needs {LINES[line]} but there are stacks of {', '.join(filters)}")
    return parts


def _natural(broad: list, narrow: list) -> dict | None:
    """Lines in the colours that they have, beside the broad bands; None where a channel stays empty."""
    parts = {"R": [], "G": [], "B": []}
    if len(broad) >= 2:
        parts = _spread(broad) if len(broad) > 2 else _from_two(broad, [])
    for name in narrow:
        nm = _wavelength(NARROW, name)
        for channel in "R" if nm > 600 else "GB" if nm == OIII else "B":
            parts[channel] = parts[channel] + [name]
    if not parts["G"] and parts["B"]:
        parts["G"] = parts["B"]
    return parts if all(parts.values()) else None


def _with_luminance(colours: dict, clear: list) -> dict:
    return {"L": clear, **colours} if clear else colours


def _mapped(filters: list, mapping: dict) -> dict:
    """The configuration's choice, in the names of the stacks."""
    parts = {}
    for channel, wanted in mapping.items():
        key = str(channel).upper()
        if key not in ("R", "G", "B", "L"):
            raise ValueError(f"channel is {key!r} but must be one of R, G, B, L")
        wanted = [wanted] if isinstance(wanted, str) else list(wanted or [])
        if wanted:
            parts[key] = [_named(name, filters, key) for name in wanted]
    if set(parts) in ({"R", "B"}, {"L", "R", "B"}):
        parts["G"] = list(dict.fromkeys(parts["B"] + parts["R"]))
    if set(parts) not in ({"L"}, {"R", "G", "B"}, {"L", "R", "G", "B"}):
        raise ValueError(f"the mapping fills {', '.join(parts) or 'no channel'}: R, G and B are needed, or L for grey")
    return {key: parts[key] for key in "LRGB" if key in parts}


def _named(name: str, filters: list, channel: str) -> str:
    """The stack that a configured name means: the same name, else the same band in another spelling."""
    if name in filters:
        return name
    same = [f for f in filters if _plain(f) == _plain(name)]
    same += [f for f in filters if _wavelength(NARROW, name) and _wavelength(NARROW, f) == _wavelength(NARROW, name)]
    if not same:
        raise ValueError(
            f"channel {channel} asks for {name!r} but there are stacks of {', '.join(filters)}: name one of them"
        )
    return same[0]
