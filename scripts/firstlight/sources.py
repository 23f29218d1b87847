"""Sources of a frame: positions, fluxes and shapes of its stars, its sky and its seeing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import profiles
from .frame import Frame, Mask

COLUMNS = {
    "x": "pix",  # from 0, as numpy counts
    "y": "pix",
    "flux": "",  # in the frame's unit; see `detect`
    "flux_err": "",
    "peak": "",
    "fwhm": "pix",
    "elongation": "",
    "theta": "deg",  # of the long axis, from x towards y
    "flag": "",
}
SATURATED, BLENDED, EDGE, ODD = 1, 2, 4, 8  # bits of `flag`
SHARPEST = 0.5  # pix, the least FWHM of a star before it falls on pixels: a single hot pixel has 0
SPIKE = 0.29  # least ratio of the smoothed peak to the peak: a single pixel has 0.25, a star of 1 pixel 0.34
SHAPING, FITTED = 60, 300  # stars, at most, that give the common profile, and that are fitted one by one
FEW = 10  # stars below which the common profile's FWHM is that of the frame
ROOM = 150_000, 1_000_000  # pixels above the threshold that sep has room for; to make room takes time
PIXELS = 60_000  # in all stamps of one kind, at most: wide stars are fitted in smaller numbers


def detect(frame: Frame, threshold: float = 5.0, minarea: int = 5, box: int = 64, limit: int = 3000):
    """Stars of a calibrated frame.

    threshold  of a pixel, in units of the sky's noise; minarea pixels above it make a source
    box        pixels, size of the background mesh
    limit      the brightest that are kept
    Returns (table, sky): a structured array with `COLUMNS`, brightest first, and a dict with keywords for the header,
    those that are not known left out. Flux is the sum within a radius of 1.5 FWHM; a frame without stars has zero rows.

    FWHM is that of the profile before it falls on pixels (`profiles`): fitted for the brightest good stars, and for the
    others from the share of their light that a small circle holds, tied to the fits. Elongation (long over short axis)
    and theta are fitted for the same stars, else from the moments of the pixels above the threshold.
    """
    import sep

    data, bad = _filled(frame)
    background = sep.Background(data, mask=bad, bw=box, bh=box, fw=3, fh=3)
    background.subfrom(data)
    above, noise = sky_between(data, bad)
    noise = noise or float(background.globalrms)
    sky = {
        "SKYLEVEL": (_middle_of_difference(frame.data, data, bad) + above, f"[{frame.unit}] sky level"),
        "SKYNOISE": (noise, f"[{frame.unit}] noise of a sky pixel"),
    }
    found = _extract(data, background.globalrms, bad, threshold, minarea)
    found = found[np.argsort(-found["flux"])][:limit]
    sky["NSTARS"] = (len(found), "sources found")
    if not len(found):
        return none_found(), sky
    table = np.zeros(len(found), none_found().dtype)
    for name in ("x", "y", "peak"):
        table[name] = found[name]
    table["flag"] = _flags(found, frame.mask, frame.shape)
    sigma = noise if frame.sigma is None else np.asarray(frame.sigma, np.float32)
    profile, fitted = _fitted(table, found, data, sigma, frame.mask)
    # Of few and faint stars the common fit knows more than a median.
    seeing = _clipped_median(table["fwhm"][fitted]) if len(fitted) >= FEW else profile.fwhm if profile else None
    radius = 1.5 * (seeing or 3.0)
    flux, error, _ = sep.sum_circle(data, table["x"], table["y"], radius, err=sigma, mask=bad)
    table["flux"], table["flux_err"] = flux, np.where(np.isfinite(error), error, noise * radius * np.sqrt(np.pi))
    _measure_others(table, found, fitted, profile, data, radius, bad)
    table = table[np.argsort(-table["flux"])]
    return table, sky | _typical(table, frame.unit, seeing, profile, len(fitted))


def _filled(frame: Frame) -> tuple[np.ndarray, np.ndarray | None]:
    """A copy of the data with 0 for what is not a number, and where pixels say nothing; None where all do."""
    data = np.array(frame.data, np.float32, order="C")
    bad = (frame.mask & Mask.UNUSABLE) != 0
    if not np.isfinite(data.sum()):
        absent = ~np.isfinite(data)
        bad |= absent
        data[absent] = 0
    return data, bad if bad.any() else None


def _typical(table, unit: str, seeing: float | None, profile: profiles.Profile | None, fitted: int) -> dict:
    """Keywords of a frame's stars, as far as they are known."""
    cards, brightness = {}, _typical_flux(table)
    if brightness:
        cards["STARFLUX"] = (brightness, f"[{unit}] median flux of 5th to 15th brightest")
    if seeing:
        cards["FWHM"] = (round(seeing, 3), "[pix] median FWHM of good stars before pixels")
        cards["ELONG"] = (round(profile.elongation, 3), "long over short axis of the mean star")
        cards["BETA"] = (round(profile.beta, 2), "Moffat exponent of the mean star, 500 for Gauss")
        cards["NFITTED"] = (fitted, "stars that FWHM is measured on")
    return cards


def none_found() -> np.ndarray:
    """The table of a frame without sources."""
    return np.zeros(0, [(name, "f8") for name in COLUMNS])


def quick_fwhm(image: np.ndarray, ignore: np.ndarray) -> float | None:
    """FWHM in pixels of the bright stars of an image (ny, nx) that may still hold cosmic rays; None if there are none.

    It is that of the profile before it falls on pixels, from the cores of the bright, round sources that cover at least
    nine pixels (a hit is sharper than any star, so no limit on the FWHM itself could tell them apart), or five where there
    are hardly any of nine; where most are long and lie alike the stars are trailed, and all sources count. With p the
    brightest pixel of a star and a, b its neighbours at a distance d to both sides, in that of four directions in which
    stars are narrowest,

        ln p - (ln a + ln b) / 2 = d^2 / (2 s^2),   FWHM^2 = 8 ln 2 (s^2 - 1/12)

    wherever in its pixel a Gaussian star stands. The 75th percentile of this is taken, since in most fields some stars are
    sharper than others. d is about half of the FWHM, so that other profiles are measured at half of their maximum.
    Measured on crowded fields with hits: within 2 % from 1.2 to 6 pixels for Gauss, within 5 % from 2 pixels on and up to
    9 % too large at 1.5 pixels for Moffat profiles of beta 3 and 4.
    """
    sky = background(image, ignore)
    image = np.subtract(image, sky.level, out=sky.level)
    image[ignore] = 0
    for pixels, fewest in ((9, 5), (5, 20)):
        found = _extract(image, sky.globalrms, None, 15.0, pixels, smooth=False)
        found, trailed = _round_or_trailed(found[found["flag"] == 0])
        if len(found) >= fewest:
            break
    else:
        return None
    found = found[np.argsort(-found["flux"])][:200]
    step = 1 if trailed else max(1, round(0.4 * float(np.median(half_light_fwhm(image, found)))))
    fall = _fall(image, found["xpeak"], found["ypeak"], step)
    if len(fall) < 5:
        return None
    variance = step**2 / (2 * float(np.percentile(fall, 75, axis=0).max())) - 1 / 12
    return float(np.sqrt(8 * np.log(2) * max(variance, 0.05)))


def _round_or_trailed(found):
    """(sources of sep that may be stars, whether they are trailed): tracks of particles are long too, but lie anyhow."""
    long = found["a"] >= 1.6 * found["b"]
    trailed = long.sum() > len(found) / 2 and abs(np.exp(2j * found["theta"][long]).mean()) > 0.7
    return (found, True) if trailed else (found[~long], False)


def _fall(image: np.ndarray, x: np.ndarray, y: np.ndarray, step: int) -> np.ndarray:
    """ln p - (ln a + ln b) / 2 of the pixels at x, y that stand best in their middle, in four directions, (n, 4); `step`
    is the distance of a, b along rows and columns, and along diagonals the fall is halved for the squared distance."""
    ny, nx = image.shape
    inside = (x >= step) & (x < nx - step) & (y >= step) & (y < ny - step)
    x, y = x[inside], y[inside]
    ways = [(0, step), (step, 0), (step, step), (step, -step)]
    sides = np.array([[image[y + way * dy, x + way * dx] for way in (1, -1)] for dy, dx in ways])
    good = (sides > 0).all(axis=(0, 1)) & (image[y, x] > 0)
    centre, sides = np.log(image[y, x][good]), np.log(sides[:, :, good])
    # Off the middle of its pixel a sharp star with wings shows more wing than core.
    shift = np.hypot(*(sides[:2, 0] - sides[:2, 1]))
    middle = shift <= np.median(shift) if len(shift) >= 10 else np.ones(len(shift), bool)
    return ((centre - sides.mean(axis=1)) / np.array([1, 1, 2, 2])[:, None])[:, middle].T


@dataclass(frozen=True)
class Sky:
    """The sky of an image: level (ny, nx) and noise of a pixel, under the names that sep gives them."""

    level: np.ndarray
    globalrms: float

    def back(self, dtype=np.float32) -> np.ndarray:
        """The level."""
        return self.level.astype(dtype, copy=False)


def background(image: np.ndarray, ignore: np.ndarray) -> Sky:
    """The sky of an image (ny, nx) by sep in a mesh of 64 pixels, without the pixels of `ignore`, bool (ny, nx).

    Of a large image every second pixel of every second row is looked at, which knows the level of a mesh to 0.04 noises
    instead of 0.02 in a quarter of the time: good for what stands far above the sky.
    """
    import cv2
    import sep

    step = 2 if min(image.shape) >= 512 else 1
    middle = np.float32(np.median(image[::7, ::7]))
    some = np.where(ignore[::step, ::step], middle, image[::step, ::step])
    found = sep.Background(np.ascontiguousarray(some, np.float32), bw=64 // step, bh=64 // step)
    level = found.back(dtype=np.float32)
    return Sky(cv2.resize(level, image.shape[::-1]) if step > 1 else level, float(found.globalrms))


def half_light_fwhm(image: np.ndarray, found) -> np.ndarray:
    """Twice the radius that holds half of the light: the FWHM of a Gaussian profile."""
    import sep

    reach = np.clip(6 * found["a"], 4, 30)
    radius, _ = sep.flux_radius(image, found["x"], found["y"], reach, 0.5, subpix=5)
    return 2 * radius


def _clipped_median(values: np.ndarray) -> float:
    """Median of positive values without those further from it than 3 sigma, sigma at least 5 %."""
    for _ in range(3):
        if len(values) < 3:
            break
        middle = np.median(values)
        spread = max(1.4826 * np.median(np.abs(values - middle)), 0.05 * middle)
        values = values[np.abs(values - middle) < 3 * spread]
    return float(np.median(values))


def _typical_flux(table) -> float | None:
    """How bright stars are in a frame: compared between frames of one field it tells the transparency."""
    flux = np.sort(table["flux"][table["flag"] <= SATURATED])[::-1][4:15]
    return round(float(np.median(flux)), 2) if len(flux) else None


def sky_between(image: np.ndarray, bad: np.ndarray | None = None, lag: int = 2) -> tuple[float, float | None]:
    """(level, noise) of the sky between the stars of an image (ny, nx) without its large-scale background.

    level  middle of the normal law that the values below the sky follow, where there are hardly any stars
    noise  standard deviation of a pixel; None where there are too few

    The noise is that of differences d = (a - b) / sqrt(2) of pixels `lag` apart (2: of one colour under a Bayer filter):
    what changes slowly falls out. Only pairs with (a + b) / sqrt(2) near the sky's are used, from 1 noise below to 0.5
    above: there are hardly any stars among them, and since the sum and the difference of two independent normal values
    are independent, to choose by the one leaves the other as it is.
    """
    step = image.size // 500_000 | 1  # odd: some detectors are read in pairs of rows
    a, b = (image[step // 2 :: step, start :: 2 * lag] for start in (0, lag))
    a = a[:, : b.shape[1]]
    if bad is not None:
        poor = bad[step // 2 :: step]
        use = ~(poor[:, :: 2 * lag][:, : b.shape[1]] | poor[:, lag :: 2 * lag])
        a, b = a[use], b[use]
    a, b = a.ravel(), b.ravel()
    if len(a) < 100:
        return 0.0, None
    total, difference = (a + b) / np.sqrt(2), (a - b) / np.sqrt(2)
    level, noise, some = 0.0, _clipped_deviation(difference), np.sort(a[:: 1 + len(a) // 60_000])
    for _ in range(3):
        distance = total - np.sqrt(2) * level
        plain = difference[(distance > -noise) & (distance < 0.5 * noise)]
        if len(plain) < 50 or noise <= 0:
            return 0.0, None
        noise = _usual_deviation(plain)
        level = _middle_of_lower_half(some, level, noise)
    return level, noise if noise > 0 else None


def _middle_of_difference(image: np.ndarray, flat: np.ndarray, bad: np.ndarray | None) -> float:
    """Median of what was subtracted; sep's own number counts the narrow meshes at the edge as much as whole ones."""
    some = (slice(3, None, 8), slice(3, None, 8))
    difference = (image[some] - flat[some])[slice(None) if bad is None else ~bad[some]]
    return float(np.median(difference)) if difference.size else 0.0


def _clipped_deviation(values: np.ndarray) -> float:
    """Standard deviation about 0 without what lies beyond 3.5 of it; of whole numbers too, where a median is coarse."""
    square = np.sort(values.astype(np.float32) ** 2)
    total, half = np.cumsum(square, dtype=float), len(square) // 2
    variance = 4 * float(square[half] + square[-1 - half]) / 2 or total[-1] / len(square)
    for _ in range(5):
        inside = np.searchsorted(square, np.float32(3.5**2 * variance))
        variance = total[inside - 1] / inside * 1.0057 if inside else 0.0  # what a normal law loses at 3.5
    return float(np.sqrt(variance))


def _usual_deviation(values: np.ndarray, run: int = 64) -> float:
    """Median over runs of neighbouring values of their standard deviation about 0: a nebula is noisier than the sky."""
    usual = _clipped_deviation(values)
    if len(values) < 20 * run:
        return usual
    square = values[: len(values) // run * run].astype(np.float32).reshape(-1, run) ** 2
    inside = square < 3.5**2 * usual**2
    variance = 1.0057 * np.where(inside, square, 0).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
    return float(np.sqrt(np.median(variance) / (1 - 2 / (9 * run)) ** 3))  # the median of chi^2 lies below its mean


def _middle_of_lower_half(values: np.ndarray, start: float, noise: float) -> float:
    """Middle of a normal law of width `noise` that has the mean of values (in order) between 2 widths below and 0.3 above
    it."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=float)])
    for _ in range(8):
        first = np.searchsorted(values, np.float32(start - 2 * noise), "right")
        last = np.searchsorted(values, np.float32(start + 0.3 * noise))
        if last <= first:
            break
        mean = (total[last] - total[first]) / (last - first)
        start += 2.4 * (mean - (start - 0.5501 * noise))  # the truncated law's own mean
    return float(start)


def _fitted(table, found, image, sigma, mask) -> tuple[profiles.Profile | None, np.ndarray]:
    """Fits of the brightest good stars: their common profile, and the rows of the table whose shape was filled in."""
    rows = np.flatnonzero(table["flag"] == 0)
    if len(rows) < 3:
        rows = np.flatnonzero(table["flag"].astype(int) & ~BLENDED == 0)
    start = _first_guess(image, found[rows[:SHAPING]])
    if start is None:
        return None, np.zeros(0, int)
    few, stamps = _stamps(rows[: 2 * SHAPING], table, found, image, sigma, mask, 2.5 * start.fwhm, start.fwhm)
    few, stamps = few[:SHAPING], stamps[:SHAPING]
    profile = profiles.common(stamps, start)
    like = _alike(profiles.each(stamps, profile))
    if like.any() and not like.all():
        profile = profiles.common(stamps[like], profile, profiles.FLOORS[-3:])
    rows, stamps = _stamps(rows[:FITTED], table, found, image, sigma, mask, 1.8 * profile.fwhm, profile.fwhm)
    fits = profiles.each(stamps, profile)
    like = _alike(fits)
    rows = rows[like]
    for name in ("fwhm", "elongation", "theta"):
        table[name][rows] = getattr(fits, name)[like]
    return (profile, rows) if len(rows) else (None, rows)


def _first_guess(image, found) -> profiles.Profile | None:
    """Where fits start from: the half-light widths, less the pixel's own and what wings add to them."""
    size = half_light_fwhm(image, found) if len(found) else np.zeros(0)
    size = np.sqrt(np.maximum(size[np.isfinite(size)] ** 2 - 0.9, 0))
    size = size[size >= SHARPEST]
    return profiles.Profile(0.88 * _clipped_median(size), 4.0) if len(size) else None


def _stamps(rows, table, found, image, sigma, mask, radius, fwhm) -> tuple[np.ndarray, profiles.Stamps]:
    """Stamps of those of the rows that no neighbour touches (of all of them where there are but a few), and these rows."""
    radius = int(np.clip(np.ceil(radius), 4, 40))
    rows = rows[: max(20, PIXELS // (2 * radius + 1) ** 2)]
    stamps = profiles.cut(image, sigma, mask == 0, table["x"][rows], table["y"][rows], radius)
    stamps = profiles.without_neighbours(stamps, rows, table["x"], table["y"], found["flux"], fwhm)
    whole = profiles.whole(stamps, fwhm)
    if whole.sum() < min(3, len(rows)):
        whole[:] = True
    return rows[whole], stamps[whole]


def _alike(fits: profiles.Fits) -> np.ndarray:
    """bool (n,): the stars among what was fitted; a hit is sharper than they are, a galaxy or a pair wider."""
    good = fits.trusted & (fits.fwhm >= SHARPEST)
    if good.sum() < 3:
        return good
    size = np.log(fits.fwhm)
    middle = np.log(_clipped_median(fits.fwhm[good]))
    spread = max(1.4826 * float(np.median(np.abs(size[good] - middle))), 0.05)
    return good & (np.abs(size - middle) < 4 * spread)


def _measure_others(table, found, fitted, profile, image, radius, bad) -> None:
    """Fill in the shapes that were not fitted; `flux` within `radius` is known."""
    import sep

    others = np.ones(len(table), bool)
    others[fitted] = False
    inner = max(0.4 * radius, 1.0)
    core = sep.sum_circle(image, table["x"], table["y"], inner, mask=bad)[0]
    share = core / np.maximum(table["flux"], 1e-9)
    width = profiles.width_of_share(share, profile.beta if profile else 4.0, inner, radius)
    added = np.nanmedian(width[fitted] ** 2 - table["fwhm"][fitted] ** 2) if len(fitted) else np.nan
    added = added if np.isfinite(added) else 0.9  # pix^2, what pixels add
    table["fwhm"][others] = np.sqrt(np.maximum(width**2 - added, SHARPEST**2))[others]
    table["elongation"][others] = (found["a"] / np.maximum(found["b"], 1e-3))[others]
    table["theta"][others] = np.degrees(found["theta"])[others]


def _extract(image, noise, bad, threshold, minarea, smooth=True):
    """Sources of sep. Smoothed, faint stars are found too, but a single bright pixel then covers nine."""
    import sep

    sep.set_sub_object_limit(1 << 16)  # sep gives up where a cluster of stars hangs together
    if bad is not None:
        image = np.where(bad, np.float32(0), image)  # all that sep does with a mask, but that it misses the first row
    options = {"minarea": minarea, "deblend_nthresh": 8, "clean": True} | ({} if smooth else {"filter_kernel": None})
    for room in ROOM:
        sep.set_extract_pixstack(room)
        try:
            return sep.extract(image, threshold * noise, **options)
        except Exception as error:  # sep knows no other
            if "buffer full" not in str(error) or room == ROOM[-1]:
                raise


def _flags(found, mask: np.ndarray, shape) -> np.ndarray:
    """Bits SATURATED, BLENDED, EDGE, ODD for each source of sep."""
    ny, nx = shape
    x = np.clip(np.round(found["x"]).astype(int), 0, nx - 1)
    y = np.clip(np.round(found["y"]).astype(int), 0, ny - 1)
    near = np.zeros(len(found), np.uint8)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near |= mask[np.clip(y + dy, 0, ny - 1), np.clip(x + dx, 0, nx - 1)]
    margin = 3 * found["a"]
    edge = (
        (found["x"] < margin) | (found["y"] < margin) | (found["x"] > nx - 1 - margin) | (found["y"] > ny - 1 - margin)
    )
    blended = (found["flag"] & 1) != 0
    odd = (near & Mask.UNUSABLE != 0) | (found["a"] > 3 * found["b"]) | (found["cpeak"] < SPIKE * found["peak"])
    return SATURATED * (near & Mask.SATURATED != 0) + BLENDED * blended + EDGE * edge + ODD * odd
