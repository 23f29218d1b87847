"""From the stacks of a target to a picture: which filter makes which colour, neutral sky, white balance, stretch.

Everything here works on arrays. A stack is (data, mask, sigma): data float32 (ny, nx), any linear unit, NaN where
there is no data; mask uint8 (ny, nx), bits of `Mask`, or None; sigma is not used and may be None. Rows are in FITS
order (row 0 at the bottom) until `to_uint8` or `to_uint16` turns a finished image over for files that begin at the top.
"""

from __future__ import annotations

import re

import numpy as np

from .frame import Mask, size

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

SKY_GREY = 0.08  # where the automatic softening puts the empty sky, 0 black to 1 white
# Sky noises below the sky that are black: few enough to use the range, many enough not to cut off the noise.
BLACK = 4.0
FAINTEST_WHITE = 50.0  # sky noises: without anything brighter the range is not stretched further, or noise fills it
SAMPLE = 150_000  # pixels that limits are taken from; a median of so many is good to 0.3 % of the noise
STARS, FEWEST_STARS = 300, 5  # of the white balance: as many as are used, and as few as are believed


def channels(filters, mapping=None) -> dict[str, list[str]]:
    """Which stacks make which channel: {"R": [...], "G": [...], "B": [...]}, or {"L": [...]} for a grey picture.

    filters  names of the stacks
    mapping  {"R": "Ha", "G": "V", "B": ["B", "g"]}: wins over the defaults. "L" alone makes a grey picture; "L" beside
             the colours gives the brightness, they then only the colour. A green left out is the mean of red and blue.
    Default, with bands in order of wavelength:
      three or more broad bands  blue below 500 nm, green to 600 nm, red above where each has a band, else parted at
                                 the widest gaps (g, r, z: B, G, R; B V R I: B, G, both in R). Narrow bands stay out.
      two broad bands            blue and red with green their mean; with H-alpha, if it is the longest, as red.
      one broad band or clear    grey; with narrow bands the longest of them is red, the band itself green and blue.
      narrow bands alone         SII, Ha, OIII: R, G, B; two: the longer is R, the other G and B; one: grey.
    Clear or luminance becomes "L" where there are colours from broad bands. Names that are not known give no colour:
    they are left out, or averaged to grey if there is nothing else.
    Raises ValueError where there is no filter, or the mapping asks for one that is not there.
    """
    filters = list(filters)
    if not filters:
        raise ValueError("no stack to make a picture of: at least one filter is needed")
    if mapping:
        return _mapped(filters, mapping)
    broad, narrow, clear = _bands(filters)
    if len(broad) >= 3:
        return _with_luminance(_spread(broad), clear)
    if len(broad) == 2:
        return _with_luminance(_from_two(broad, narrow), clear)
    if len(narrow) >= 2:
        return _palette(narrow)
    white = broad or clear
    if narrow and white:
        return {"R": narrow[-1:], "G": white, "B": white}
    return {"L": white or narrow or filters}


def sky_level(data: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
    """Level and noise of the empty sky of an image (ny, nx), in its unit: a clipped median, and 1.4826 MAD.

    The noise is taken from the pixels below the median, where stars and nebulae do not reach, and the pixels further
    than 3 of it away are left out until hardly any is. Masked pixels and NaN do not count; of large images every n-th
    row and column is looked at.
    Raises ValueError where no pixel is good.
    """
    part, good = _sampled(data, mask)
    if not good.any():
        raise ValueError(f"no sky level: none of {size(data)} pixels is both a number and unmasked")
    return _clipped_median(part[good])


def star_balance(stacks: dict) -> dict[str, float]:
    """Factor for each filter that makes the field's stars white on the median; all 1 where fewer than 5 stars serve.

    stacks  {filter: (data, mask, sigma)} on one grid
    Fluxes are sums within 6 pixels less the median of a ring, for the 300 most prominent stars that are not saturated
    in any filter. factor = median(reference / flux), the reference being the filter with the deepest stars, factor 1.
    """
    _check(stacks)
    planes, noises, seen, saturated = _planes(stacks, list(stacks))
    return _star_factors(planes, noises, seen, saturated)


def render(
    stacks: dict,
    mapping=None,
    stretch: str = "asinh",
    black: float | None = None,
    white: float | None = None,
    softening: float | None = None,
    balance="stars",
    saturation: float = 1.0,
    smooth_colour: bool = True,
    saturated: str = "white",
) -> np.ndarray:
    """The picture of a target: float32 (ny, nx, 3), or (ny, nx) if it is grey, from 0 to 1, rows in FITS order.

    stacks     {filter: (data, mask, sigma)} on one grid
    mapping    as in `channels`
    stretch    "asinh" or "linear"
    black      what is black, in sky noises below the sky (default 4)
    white      what is white, in sky noises above the sky (default: what 2 pixels in 10,000 exceed, at least 50)
    softening  where asinh turns from linear to logarithmic, in sky noises (default: so that the sky is at 0.08)
    balance    "stars" (see `star_balance`), "none", or {filter: factor}
    saturation  1 keeps the colours' ratios, 0 is grey
    smooth_colour  average the colour, not the brightness, over about 7 pixels where noise rules
    saturated  "white": what is saturated in every filter is white; "mean": it is shown by its value

    With c a channel less its sky, I the brightest channel of the pixel, and b the black level:
        out_c = (c + b) F(I) / (I + b),   F(I) = asinh((I + b) / softening) / asinh((white + b) / softening)
    and a pixel with a channel above 1 is divided by it: the channels keep their ratios up to the brightest core (Lupton
    et al. 2004, PASP 116, 133, who take the mean for I; a red nebula is then flat long before it is white). "Sky noise"
    is the geometric mean of the noise of one channel and sqrt(3) times that of their mean, which is weighted with
    1 / noise; they are equal where the channels are equally deep. With "L", c is L plus what c differs from that mean.
    A value saturated in some filters only is raised to the highest of the others, or its star would change colour.
    Where a filter has no data the others stand in for it; where none has, the picture is black.
    Raises ValueError for stacks of different sizes, a filter without a good pixel, or an option that does not exist.
    """
    _one_of("stretch", stretch, ("asinh", "linear"))
    _one_of("saturated", saturated, ("white", "mean"))
    _check(stacks)
    parts = channels(stacks, mapping)
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    planes, noises, seen, clipped = _planes(stacks, names)
    factors = _factors(balance, planes, noises, seen, clipped)
    for name in names:
        planes[name] *= np.float32(factors[name])
        noises[name] *= factors[name]
    everywhere = _lift(planes, clipped)
    colours, light, noise, colour_noise = _mixed(parts, planes, noises, seen)
    del planes
    anywhere = np.logical_or.reduce(list(seen.values()))
    unit = _or_small(noise, light)
    if len(colours) == 3:
        colour_noise = _or_small(colour_noise, light)
        unit = float(np.sqrt(np.sqrt(3) * unit * colour_noise))
        _colours(colours, light, colour_noise if smooth_colour else 0.0, saturation)
        light = np.maximum(np.maximum(*colours[:2]), colours[2])
    limits = _limits(light, anywhere, unit, stretch, black, white, softening)
    _stretched(colours, light, limits, stretch)
    image = np.stack(colours, axis=-1) if len(colours) == 3 else colours[0]
    if saturated == "white":
        image[everywhere] = 1
    image[~anywhere] = 0
    return image


def to_uint8(image: np.ndarray) -> np.ndarray:
    """A rendered image (0 to 1, FITS rows) as uint8 with the top row first, as PNG wants it."""
    return _integers(image, np.uint8)


def to_uint16(image: np.ndarray) -> np.ndarray:
    """A rendered image (0 to 1, FITS rows) as uint16 with the top row first, as TIFF wants it."""
    return _integers(image, np.uint16)


# Filters


def _plain(name: str) -> str:
    """A filter's name without what differs between programs: blanks, dashes, primes, the name of the system."""
    bare = re.sub(r"[\s_\-'.()\[\]]+", "", str(name))
    short = re.sub(r"^(sdss|sloan|ps1?|johnson|bessell?|cousins|astrodon)(?=.)", "", bare, flags=re.IGNORECASE)
    return short if short in BROAD else re.sub(r"^([ugrizy])p$", r"\1", short)


def _wavelength(table: dict, name: str):
    plain = _plain(name)
    return table.get(plain, table.get(plain.lower()))


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


def _palette(narrow: list) -> dict:
    lines = {_wavelength(NARROW, name): name for name in narrow}
    if {SII, HA, OIII} <= set(lines):
        return {"R": [lines[SII]], "G": [lines[HA]], "B": [lines[OIII]]}
    if len(narrow) == 2:
        return {"R": [narrow[1]], "G": [narrow[0]], "B": [narrow[0]]}
    return {"R": [narrow[-1]], "G": narrow[1:-1], "B": [narrow[0]]}


def _with_luminance(colours: dict, clear: list) -> dict:
    return {"L": clear, **colours} if clear else colours


def _mapped(filters: list, mapping: dict) -> dict:
    """The configuration's choice, in the names of the stacks."""
    parts = {}
    for channel, wanted in mapping.items():
        key = str(channel).upper()
        _one_of("channel", key, ("R", "G", "B", "L"))
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


# Planes: one per filter, its sky at zero


def _check(stacks: dict) -> None:
    first = None
    for name, (data, mask, *_) in stacks.items():
        first = first or (name, data)
        for what, array in ((name, data), (f"mask of {name}", mask)):
            if array is not None and array.shape != first[1].shape:
                raise ValueError(f"{what} is {size(array)} but {first[0]} is {size(first[1])}: are all on one grid?")


def _one_of(what: str, value: str, known: tuple) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r} but must be one of {', '.join(known)}")


def _sampled(data: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Every n-th row and column of an image, and where they are good."""
    step = max(1, int(np.sqrt(data.size / SAMPLE)))
    part = data[::step, ::step]
    good = np.isfinite(part)
    if mask is not None:
        good &= mask[::step, ::step] == 0
    return part, good


def _clipped_median(values: np.ndarray) -> tuple[float, float]:
    for _ in range(20):
        level = float(np.median(values))
        noise = 1.4826 * float(np.median(level - values[values <= level]))
        kept = values[np.abs(values - level) <= 3 * noise] if noise > 0 else values
        if kept.size > 0.998 * values.size:
            break
        values = kept
    return level, noise


def _skies(stacks: dict, names: list) -> dict[str, tuple[float, float]]:
    """Level and noise of the sky in each filter, all taken at the same places: the darkest, where a nebula is not.

    The places are squares of a 24th of the image whose median, in noises summed over the filters, lies within half a
    noise of the tenth of them that is darkest: all of a flat sky, the edges around a nebula.
    """
    parts = {name: _sampled(*stacks[name][:2]) for name in names}
    skies, depth = {}, 0.0
    for name, (part, good) in parts.items():
        try:
            skies[name] = level, noise = sky_level(*stacks[name][:2])
        except ValueError as error:
            raise ValueError(f"filter {name}: {error}") from None
        depth = depth + np.where(good, part - np.float32(level), np.inf) / np.float32(noise or 1)
    side = min(depth.shape) // 24
    if side < 4:
        return skies
    rows, columns = depth.shape[0] // side, depth.shape[1] // side
    squares = depth[: rows * side, : columns * side].reshape(rows, side, columns, side)
    medians = np.median(squares.swapaxes(1, 2).reshape(rows, columns, -1), axis=2)
    if not np.isfinite(medians).any():
        return skies
    limit = np.percentile(medians[np.isfinite(medians)], 10) + 0.5 * np.sqrt(len(names))
    dark = np.kron(medians <= limit, np.ones((side, side), bool))
    for name, (part, good) in parts.items():
        skies[name] = _clipped_median(
            part[: dark.shape[0], : dark.shape[1]][dark & good[: dark.shape[0], : dark.shape[1]]]
        )
    return skies


def _planes(stacks: dict, names: list) -> tuple[dict, dict, dict, dict]:
    """Copies less their sky, their noises, where each has data, and where each is saturated."""
    planes, noises, seen, clipped = {}, {}, {}, {}
    for name, (level, noises[name]) in _skies(stacks, names).items():
        data, mask, *_ = stacks[name]
        seen[name] = np.isfinite(data)
        clipped[name] = np.zeros(data.shape, bool)
        if mask is not None:
            seen[name] &= (mask & Mask.NO_DATA) == 0
            clipped[name] = ((mask & Mask.SATURATED) != 0) & seen[name]
        planes[name] = np.subtract(data, np.float32(level), dtype=np.float32)
        planes[name][~seen[name]] = 0
    return planes, noises, seen, clipped


def _lift(planes: dict, clipped: dict) -> np.ndarray:
    """Raise values saturated in some filters to the highest of all there; returns where every filter is saturated."""
    everywhere = np.logical_and.reduce(list(clipped.values()))
    rows, columns = np.nonzero(np.logical_or.reduce(list(clipped.values())))
    if rows.size:
        highest = np.max([plane[rows, columns] for plane in planes.values()], axis=0)
        for name, plane in planes.items():
            own = plane[rows, columns]
            plane[rows, columns] = np.where(clipped[name][rows, columns], highest, own)
    return everywhere


# White balance


def _factors(balance, planes: dict, noises: dict, seen: dict, clipped: dict) -> dict[str, float]:
    if isinstance(balance, dict):
        return {name: float(balance.get(name, 1.0)) for name in planes}
    _one_of("balance", balance, ("stars", "none"))
    if balance == "none" or len(planes) == 1:
        return dict.fromkeys(planes, 1.0)
    return _star_factors(planes, noises, seen, clipped)


def _star_factors(planes: dict, noises: dict, seen: dict, clipped: dict) -> dict[str, float]:
    y, x = _stars(planes, noises, seen, clipped)
    fluxes = {name: _fluxes(plane, y, x) for name, plane in planes.items()}
    ones = dict.fromkeys(planes, 1.0)
    good = np.logical_and.reduce([flux > 0 for flux in fluxes.values()]) if y.size else np.zeros(0, bool)
    if good.sum() < FEWEST_STARS:
        return ones
    depth = {name: np.median(flux[good]) / max(noises[name], 1e-30) for name, flux in fluxes.items()}
    reference = fluxes[max(depth, key=depth.get)][good]
    return {name: float(np.median(reference / flux[good])) for name, flux in fluxes.items()}


def _stars(planes: dict, noises: dict, seen: dict, clipped: dict) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of prominent, unsaturated stars: peaks that stand out of what lies 8 pixels to all sides."""
    far, edge = 8, 10
    shape = next(iter(planes.values())).shape
    if min(shape) <= 2 * edge + 2:
        return np.zeros(0, int), np.zeros(0, int)
    depth = sum(plane / np.float32(noises[name] or 1) for name, plane in planes.items())
    depth /= np.float32(np.sqrt(len(planes)))
    inner = depth[edge:-edge, edge:-edge]
    rise = inner - np.maximum(_shifted(depth, far, 0, edge), _shifted(depth, -far, 0, edge))
    np.minimum(rise, inner - np.maximum(_shifted(depth, 0, far, edge), _shifted(depth, 0, -far, edge)), out=rise)
    peak = rise > 8
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        peak &= (inner >= _shifted(depth, dy, dx, edge)) & (inner > _shifted(depth, -dy, -dx, edge))
    y, x = np.nonzero(peak)
    order = np.argsort(-rise[y, x])[: 10 * STARS]
    y, x = y[order] + edge, x[order] + edge
    if y.size == 0:
        return y, x
    rows, columns = _around(y, x, 6)
    whole = np.ones(y.size, bool)
    for name in planes:
        whole &= (seen[name][rows, columns] & ~clipped[name][rows, columns]).all(axis=(1, 2))
    # A hot pixel stands alone among its eight neighbours; no star does, however good the seeing.
    stamp = depth[rows, columns]
    local = np.median(stamp, axis=(1, 2))
    whole &= stamp[:, 6, 6] - local < 0.6 * (stamp[:, 5:8, 5:8].sum(axis=(1, 2)) - 9 * local)
    return y[whole][:STARS], x[whole][:STARS]


def _shifted(image: np.ndarray, dy: int, dx: int, edge: int) -> np.ndarray:
    """The view of an image without its edge, seen from (dy, dx) away."""
    ny, nx = image.shape
    return image[edge + dy : ny - edge + dy, edge + dx : nx - edge + dx]


def _around(y: np.ndarray, x: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (n, 2 reach + 1, 2 reach + 1) of the squares around n pixels."""
    span = np.arange(-reach, reach + 1)
    return y[:, None, None] + span[:, None], x[:, None, None] + span


def _fluxes(plane: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sum within 6 pixels of each star less the median of the ring from 7 to 10 pixels."""
    span = np.arange(-10, 11)
    distance = np.hypot(span[:, None], span)
    rows, columns = _around(y, x, 10)
    stamps = plane[rows, columns]
    local = np.median(stamps[:, (distance > 7) & (distance <= 10)], axis=1)
    inside = distance <= 6
    return stamps[:, inside].sum(axis=1) - local * inside.sum()


# Channels, colour and stretch


def _mixed(parts: dict, planes: dict, noises: dict, seen: dict) -> tuple[list, np.ndarray, float, float]:
    """The linear channels (one, or red, green, blue), the brightness (ny, nx), its noise, and that of the colours."""
    if "R" not in parts:
        light, _ = _mean_of(parts["L"], planes, seen)
        noise = _noise_of(parts["L"], noises)
        return [light.copy()], light, noise, noise
    colours, has = zip(*(_mean_of(parts[key], planes, seen) for key in "RGB"), strict=True)
    each = np.array([_noise_of(parts[key], noises) for key in "RGB"])
    weights = 1 / each if each.all() else np.ones(3)
    weights = (weights / weights.sum()).astype(np.float32)
    mean = sum(w * colour for w, colour in zip(weights, colours, strict=True))
    mean /= np.maximum(sum(w * one for w, one in zip(weights, has, strict=True)), weights.min() / 2)
    colours = [np.where(one, colour, mean) for colour, one in zip(colours, has, strict=True)]
    noise, rms = float(np.sqrt(((weights * each) ** 2).sum())), float(np.sqrt((each**2).mean()))
    if "L" not in parts:
        return colours, mean, noise, rms
    light, has = _mean_of(parts["L"], planes, seen)
    light = np.where(has, light, mean)
    for colour in colours:
        colour += light - mean
    return colours, light, _noise_of(parts["L"], noises), rms


def _mean_of(names: list, planes: dict, seen: dict) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the planes that have data at each pixel, and where any has."""
    if len(names) == 1:
        return planes[names[0]], seen[names[0]]
    count = sum(seen[name].astype(np.uint8) for name in names)
    return sum(planes[name] for name in names) / np.maximum(count, 1), count > 0


def _noise_of(names: list, noises: dict) -> float:
    return float(np.sqrt(sum(noises[name] ** 2 for name in names))) / len(names)


def _or_small(noise: float, light: np.ndarray) -> float:
    """The noise; of an image without any (a drawn one) a thousandth of its brightest pixel."""
    return noise or float(light.max()) / 1000 or 1.0


def _colours(colours: list, light: np.ndarray, noise: float, saturation: float) -> None:
    """Scale what differs from the brightness, smoothed where that is below 20 noises, wholly below 5."""
    if noise > 0:
        faint = np.clip((np.float32(20 * noise) - light) / np.float32(15 * noise), 0, 1)
        near = np.maximum(_smooth(faint), np.float32(1e-6))
    for colour in colours:
        colour -= light
        if noise > 0:
            # Weighted with the faintness, so that no bright star's colour leaks into the sky around it.
            colour += faint * (_smooth(faint * colour) / near - colour)
        colour *= np.float32(saturation)
        colour += light


def _smooth(image: np.ndarray) -> np.ndarray:
    """Mean over about 7 pixels, on pairs of rows and columns: fine enough for colour, in a quarter of the time."""
    from scipy.ndimage import uniform_filter

    ny, nx = image.shape
    padded = np.pad(image, ((0, ny % 2), (0, nx % 2)), mode="edge") if ny % 2 or nx % 2 else image
    pairs = padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]
    pairs *= np.float32(0.25)
    smooth = uniform_filter(uniform_filter(pairs, 3, mode="nearest"), 3, mode="nearest")
    return smooth.repeat(2, axis=0).repeat(2, axis=1)[:ny, :nx]


def _stretched(channels: list, light: np.ndarray, limits: tuple, stretch: str) -> None:
    """Replace the linear channels by 0 to 1, ratios kept; `light` is used up."""
    black, white, softening = (np.float32(value) for value in limits)
    light += black
    np.maximum(light, np.float32(1e-6) * black, out=light)
    if stretch == "linear":
        factor = np.full_like(light, 1 / (white + black))
    else:
        factor = np.arcsinh(light / softening)
        factor /= np.arcsinh((white + black) / softening) * light
    for channel in channels:
        channel += black
        channel *= factor
        np.maximum(channel, 0, out=channel)
    highest = np.maximum(channels[0], 1)
    for channel in channels[1:]:
        np.maximum(highest, channel, out=highest)
    for channel in channels:
        channel /= highest


def _limits(light: np.ndarray, seen: np.ndarray, unit: float, stretch: str, black, white, softening) -> tuple:
    """Black, white and softening in the stack's unit, from sky noises or, where None, from the image."""
    black = BLACK if black is None else float(black)
    if white is None:
        step = max(1, int(np.sqrt(light.size / SAMPLE)))
        sample = light[::step, ::step][seen[::step, ::step]]
        tail = float(np.percentile(sample, 99.98)) / unit if sample.size else 0.0
        white = max(tail, FAINTEST_WHITE, black * (1 / SKY_GREY - 1))
    softening = _softening(black, float(white)) if softening is None else float(softening)
    return black * unit, float(white) * unit, softening * unit


def _softening(black: float, white: float) -> float:
    """The s of asinh(black / s) = SKY_GREY asinh((white + black) / s), by bisection: it puts the sky at SKY_GREY."""
    low, high = 1e-9 * black, 1e4 * (white + black)
    for _ in range(100):
        middle = np.sqrt(low * high)
        sky = np.arcsinh(black / middle) / np.arcsinh((white + black) / middle)
        low, high = (low, middle) if sky < SKY_GREY else (middle, high)
    return float(middle)


def _integers(image: np.ndarray, kind) -> np.ndarray:
    top = np.iinfo(kind).max
    return np.ascontiguousarray((np.clip(image[::-1], 0, 1) * np.float32(top) + np.float32(0.5)).astype(kind))
