"""Geometry of stars and pixels: tangent planes, matching lists of stars, fitting transformations and WCS.

Pixel positions count from 0, as arrays do; FITS cards count from 1 and astropy's WCS translates.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from astropy.io import fits

from .tangent import Sip, Tangent
from .tangent import read as read_tangent

# Everything that a WCS may have left in a header: removed before a new one is written.
WCS_CARDS = (
    # of any axis and any alternative: an axis too many, or a second WCS, is read by others even if we do not
    r"^(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CNAME|CRDER|CSYER)\d[A-Z]?$|^CROTA\d$|^(CD|PC|PV|PS)\d_\d+[A-Z]?$|^(CD|PC)0\d{5}$"
    r"|^(EQUINOX|RADESYS|LONPOLE|LATPOLE|WCSAXES|WCSNAME)[A-Z]?$|^(EPOCH|RADECSYS|PLTSOLVD|PA|IMAGEW|IMAGEH)$"
    # distortion: SIP, plates of sky surveys, PinPoint, look-up tables
    r"|^(A|B|AP|BP)_(\d_\d|ORDER|DMAX)$|^TR[12]_\d+$|^AMD[XY]\d+$|^PPO\d$|^PLT(RA|DEC)[A-Z]+$|^CNPIX\d$"
    r"|^(CP|CQ)(DIS|ERR)\d$|^D[PQ]\d|^D2IM|^AXISCORR$|^PROJP\d$"
    # of IRAF: its own words for the same, and for where a section of a frame came from
    r"|^WAT\d_\d+$|^WCSDIM$|^LT[VM]\d(_\d)?$"
)


def read_wcs(header: fits.Header):
    """The celestial WCS of a header, or None where there is none that can be used: a `tangent.Tangent` where it is plainly
    of that kind, else astropy's."""
    placed = all(isinstance(header.get(key), (int, float)) for key in ("CRVAL1", "CRVAL2"))
    if "CTYPE1" not in header or not placed or not any(key in header for key in ("CD1_1", "CD1_2", "CDELT1")):
        return None  # wcslib would take 0 and one degree per pixel for what is missing
    return read_tangent(header) or _read_by_astropy(header)


def _read_by_astropy(header: fits.Header):
    import warnings

    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wcs = WCS(header, naxis=2)
            usable = wcs.has_celestial and abs(np.linalg.det(wcs.pixel_scale_matrix)) > 0
        except Exception:  # astropy raises many kinds for broken cards; all mean: no WCS to be had
            return None
    return wcs if usable else None


def wcs_cards(wcs) -> fits.Header:
    """The cards of a WCS, CD matrix and SIP terms included."""
    header = wcs.to_header(relax=True)
    matrix = wcs.pixel_scale_matrix
    for name in list(header):
        if name.startswith(("PC", "CDELT")):
            del header[name]
    for i in (0, 1):
        for j in (0, 1):
            header[f"CD{i + 1}_{j + 1}"] = (matrix[i, j], "[deg/pix]")
    return header


def replace_wcs(header: fits.Header, wcs) -> fits.Header:
    """A copy of a header with one WCS and no left-overs of an older one; with None as `wcs` without any."""
    import re

    clean = header.copy()
    for keyword in {k for k in clean if re.match(WCS_CARDS, k)}:
        clean.remove(keyword, remove_all=True)
    if wcs is not None:
        clean.extend(wcs_cards(wcs).cards, update=True)
    return clean


def tangent_wcs(crval, crpix, cd) -> Tangent:
    """A TAN WCS; crpix from 0 (x, y), cd in deg/pix (2, 2)."""
    return Tangent(np.array(crval, float), np.array(crpix, float) + 1, np.array(cd, float))


def as_astropy(wcs):
    """A WCS as astropy's, for libraries that ask for one."""
    if not isinstance(wcs, Tangent):
        return wcs
    from astropy.wcs import WCS

    return WCS(wcs.to_header())


def pixel_plane():
    """A WCS that only counts pixels: an arbitrary tangent plane of one arcsec pixels, for targets without a solution.

    Two frames on this plane are related by an exact affine transformation. It is never written to a product.
    """
    return tangent_wcs((0.0, 0.0), (0.0, 0.0), np.diag([1 / 3600, 1 / 3600]))


def moved(wcs, transform: np.ndarray):
    """The WCS of a frame whose pixels (x, y) lie at transform @ (x, y, 1) on the pixels of `wcs` (without SIP).

    transform  (2, 3) affine matrix
    """
    linear, shift = transform[:, :2], transform[:, 2]
    crpix = np.linalg.solve(linear, wcs.wcs.crpix - 1 - shift)
    return tangent_wcs(wcs.wcs.crval, crpix, wcs.pixel_scale_matrix @ linear)


def without_distortion(wcs, shape):
    """The TAN WCS nearest to `wcs` over an image of shape (ny, nx), referred to the image's centre."""
    ny, nx = shape
    centre = np.array([(nx - 1) / 2, (ny - 1) / 2])
    crval = wcs.all_pix2world([centre], 0)[0]
    x, y = np.meshgrid(np.linspace(0, nx - 1, 15), np.linspace(0, ny - 1, 15))
    xy = np.column_stack([x.ravel(), y.ravel()])
    return fit_tangent(xy, wcs.all_pix2world(xy, 0), crval)


def fit_tangent(xy: np.ndarray, sky: np.ndarray, crval):
    """Least-squares TAN WCS through pixels (n, 2) and sky positions (n, 2) in degrees, tangent at about `crval`."""
    plane = to_plane(sky, crval)
    design = np.column_stack([xy, np.ones(len(xy))])
    solution = np.linalg.lstsq(design, plane, rcond=None)[0]
    cd, offset = solution[:2].T, solution[2]
    return tangent_wcs(crval, np.linalg.solve(cd, -offset), cd)


def refit(wcs, xy: np.ndarray, sky: np.ndarray, shift_only: bool = False):
    """The WCS with its linear part fitted anew to stars; its SIP terms and tangent point stay.

    xy (n, 2) pixels from 0, sky (n, 2) degrees. With `shift_only` (few stars) scale and rotation stay too. Moving the
    tangent point turns the axes a little, so large corrections are made in repeated calls. Other projections than TAN
    are returned as they are.
    """
    if not wcs.wcs.ctype[0].startswith("RA---TAN"):
        return wcs
    focal = wcs.pix2foc(xy, 0) - (wcs.wcs.crpix - 1)  # pix2foc applies SIP alone
    plane = to_plane(sky, wcs.wcs.crval)
    matrix = wcs.pixel_scale_matrix
    if shift_only:
        offset = np.median(plane - focal @ matrix.T, axis=0)
    else:
        solution = np.linalg.lstsq(np.column_stack([focal, np.ones(len(xy))]), plane, rcond=None)[0]
        matrix, offset = solution[:2].T, solution[2]
    # The offset is taken up by the tangent point: with SIP, whose origin is CRPIX, the pixel cannot move.
    new = tangent_wcs(from_plane(offset[None], wcs.wcs.crval)[0], wcs.wcs.crpix - 1, matrix)
    return new if wcs.sip is None else new.with_sip(Sip(wcs.sip.a, wcs.sip.b, wcs.sip.ap, wcs.sip.bp))


def polynomial(xy: np.ndarray, middle, half: float, order: int) -> np.ndarray:
    """Terms x^i y^j with i + j <= order, lowest powers first, of pixels (n, 2) counted from `middle` in units of `half`."""
    x, y = ((np.asarray(xy, float) - middle) / half).T
    return np.column_stack([x**i * y**j for i, j in powers(order)])


def powers(order: int) -> list[tuple[int, int]]:
    """Exponents (i, j) of the terms of `polynomial`: 1, x, y, x^2, x y, y^2 ..."""
    return [(total - j, j) for total in range(order + 1) for j in range(total + 1)]


def fit_sip(xy: np.ndarray, sky: np.ndarray, shape, order: int):
    """Least-squares TAN-SIP WCS through pixels (n, 2) from 0 and sky positions (n, 2) in degrees.

    With u, v the pixels from the centre of an image of shape (ny, nx), which becomes CRPIX, the plane is CD (u + A(u, v),
    v + B(u, v)), A and B of the orders 2 to `order` (Shupe et al. 2005, ASP Conf. 347, 491). A polynomial in all its
    coefficients, so it is one linear fit; it is repeated while the tangent point moves to the centre. The inverse terms
    AP, BP are fitted to the same polynomial over the image. order 0 and 1 give a plain TAN.
    """
    middle = (np.array(shape[::-1], float) - 1) / 2
    half = max(shape) / 2
    order = max(order, 1)
    design = polynomial(xy, middle, half, order)
    crval = sky[0]
    for _ in range(4):
        crval = from_plane(_solved(design, to_plane(sky, crval))[:1], crval)[0]
    coefficients = _solved(design, to_plane(sky, crval))  # anew: at a pole the least step turns the axes
    cd = coefficients[1:3].T / half
    wcs = tangent_wcs(crval, middle, cd)
    return wcs.with_sip(_sip(np.linalg.solve(cd, coefficients.T).T, half, order)) if order > 1 else wcs


def _solved(design: np.ndarray, plane: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(design, plane, rcond=None)[0]


def _sip(terms: np.ndarray, half: float, order: int) -> Sip:
    """SIP terms from those (k, 2) of `polynomial`, in pixels; the linear part of the WCS has the first three."""
    a, b, ap, bp = (np.zeros((order + 1, order + 1)) for _ in range(4))
    for (i, j), term in zip(powers(order), terms, strict=True):
        if i + j > 1:
            a[i, j], b[i, j] = term / half ** (i + j)
    edge = np.linspace(-1, 1, 13)
    u, v = (half * grid.ravel() for grid in np.meshgrid(edge, edge))
    uv = np.column_stack([u, v])
    bent = uv + polynomial(uv, 0, half, order)[:, 3:] @ terms[3:]
    back = np.linalg.lstsq(polynomial(bent, 0, half, order), uv - bent, rcond=None)[0]
    for (i, j), term in zip(powers(order), back, strict=True):
        ap[i, j], bp[i, j] = term / half ** (i + j)
    return Sip(a, b, ap, bp)


def scale_of(wcs) -> float:
    """Side of a pixel in arcsec, from its area."""
    return float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600)


def middle_of(wcs, shape) -> tuple[float, float]:
    """Where on the sky (deg) the centre of an image of shape (ny, nx) lies."""
    ny, nx = shape
    ra, dec = wcs.all_pix2world([[(nx - 1) / 2, (ny - 1) / 2]], 0)[0]
    return float(ra), float(dec)


def to_plane(sky: np.ndarray, crval) -> np.ndarray:
    """Gnomonic projection of (n, 2) degrees about crval: (n, 2) degrees on the tangent plane."""
    ra, dec = np.radians(np.asarray(sky, float).T)
    ra0, dec0 = np.radians(crval)
    d = ra - ra0
    denominator = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(d)
    xi = np.cos(dec) * np.sin(d) / denominator
    eta = (np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(d)) / denominator
    return np.degrees(np.column_stack([xi, eta]))


def from_plane(plane: np.ndarray, crval) -> np.ndarray:
    """The inverse of `to_plane`."""
    xi, eta = np.radians(np.asarray(plane, float).T)
    ra0, dec0 = np.radians(crval)
    below = np.cos(dec0) - eta * np.sin(dec0)
    ra = ra0 + np.arctan2(xi, below)
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, below))
    return np.degrees(np.column_stack([ra % (2 * np.pi), dec]))


def separation(a, b):
    """Angle in degrees between positions (..., 2) (ra, dec) in degrees."""
    ra1, dec1 = np.moveaxis(np.radians(np.asarray(a, float)), -1, 0)
    ra2, dec2 = np.moveaxis(np.radians(np.asarray(b, float)), -1, 0)
    sines = np.sin((dec2 - dec1) / 2) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin((ra2 - ra1) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(sines, 0, 1))))


def nearest(a: np.ndarray, b: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the pairs of points (n, 2), (m, 2) that are each other's nearest within `radius`, in the order of `a`."""
    i, j, distance = close(a, b, radius)
    to_b, to_a = np.full(len(a), -1), np.full(len(b), -1)
    far_first = np.argsort(-distance, kind="stable")  # of several assignments the last stays
    to_b[i[far_first]], to_a[j[far_first]] = j[far_first], i[far_first]
    i = np.flatnonzero(to_b >= 0)
    i = i[to_a[to_b[i]] == i]
    return i, to_b[i]


def close(a: np.ndarray, b: np.ndarray, radius: float):
    """All pairs (indices into a and b, distance) of points nearer than `radius`.

    Points are sorted into square cells of that side, so that only neighbouring cells need be looked at: for some thousand
    points as fast as a tree, without a library that takes longer to load than this takes to run.
    """
    none = np.zeros(0, int)
    ia, ib = (np.flatnonzero(np.isfinite(points).all(axis=1)) for points in (a, b))
    if not len(ia) or not len(ib):
        return none, none, np.zeros(0)
    low = np.minimum(a[ia].min(axis=0), b[ib].min(axis=0))
    cell_a, cell_b = (np.floor((points - low) / radius).astype(np.int64) for points in (a[ia], b[ib]))
    height = max(cell_a[:, 1].max(), cell_b[:, 1].max()) + 3
    key_a, key_b = (cell @ np.array([height, 1]) for cell in (cell_a, cell_b))
    order = np.argsort(key_b, kind="stable")
    key_b = key_b[order]
    pairs = []
    order_a = np.argsort(key_a)
    key_a, place = key_a[order_a], np.empty(len(key_a), int)
    place[order_a] = np.arange(len(key_a))
    for column in (-height, 0, height):  # the three cells of a column lie together
        first, last = (np.searchsorted(key_b, key_a + column + row, side) for row, side in ((-1, "left"), (1, "right")))
        pairs.append(runs(first[place], last[place]))
    i, j = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    i, j = ia[i], ib[order[j]]
    distance = np.hypot(*(a[i] - b[j]).T)
    near = distance < radius
    return i[near], j[near], distance[near]


def runs(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each n all numbers from first[n] up to and without last[n]: (n repeated, the numbers)."""
    count = last - first
    n = np.repeat(np.arange(len(count)), count)
    return n, np.arange(count.sum()) + np.repeat(first - np.cumsum(count) + count, count)


def more_than_chance(a: np.ndarray, b: np.ndarray, radius: float, free: int) -> float:
    """How many pairs within `radius` it takes to believe that points a (n, 2) and b (m, 2) show the same stars.

    Of unrelated points n m pi radius^2 / area pairs are expected; eight times their scatter allows for the many
    transformations that were tried, and `free` stars for those that the transformation was fitted to.
    """
    if not len(a) or not len(b):
        return float(free)
    low, high = b.min(axis=0) - radius, b.max(axis=0) + radius
    over = ((a >= low) & (a <= high)).all(axis=1).sum()
    expected = over * len(b) * np.pi * radius**2 / np.prod(high - low)
    return free + expected + 8 * np.sqrt(expected)


def fit_affine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least-squares affine transformation (2, 3) that takes points a (n, 2) to b (n, 2)."""
    return np.linalg.lstsq(np.column_stack([a, np.ones(len(a))]), b, rcond=None)[0].T


def fit_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least-squares shift, rotation, scale (and mirror where that fits better) that takes a to b, as (2, 3).

    With z = x + iy: b = p a + q, or b = p conj(a) + q for the mirrored field.
    """
    za, zb = a @ [1, 1j], b @ [1, 1j]
    best = None
    for mirrored in (False, True):
        z = za.conj() if mirrored else za
        (p, q), *_ = np.linalg.lstsq(np.column_stack([z, np.ones(len(z))]), zb, rcond=None)
        rms = np.abs(p * z + q - zb).std()
        if best is None or rms < best[0]:
            sign = -1 if mirrored else 1
            best = rms, np.array([[p.real, -sign * p.imag, q.real], [p.imag, sign * p.real, q.imag]])
    return best[1]


def apply_affine(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, 2) through an affine transformation (2, 3)."""
    return points @ transform[:, :2].T + transform[:, 2]


def match_stars(a: np.ndarray, b: np.ndarray, tolerance: float = 2.0, brightest: int = 25, least: int = 6):
    """Match two lists of stars, brightest first, without knowing shift, rotation or scale.

    Triangles of bright stars have two ratios of sides that no shift, rotation or scale changes (Groth 1986, AJ 91,
    1244). Each pair of similar triangles proposes a similarity; the one that most stars of both lists agree with wins,
    and is refined by an affine fit to all its pairs.
    a (n, 2), b (m, 2) pixels. Returns (transform (2, 3) from a to b, indices into a, indices into b).
    Raises ValueError with the number of stars where fewer than `least` agree.
    """
    if min(len(a), len(b)) < least:
        raise ValueError(f"{min(len(a), len(b))} stars, at least {least} are needed to match frames")
    shapes_a, corners_a = _triangles(a[:brightest])
    shapes_b, corners_b = _triangles(b[:brightest])
    i, j, _ = close(shapes_a, shapes_b, 0.004)
    bright = a[: 3 * brightest]
    transform, most = None, 0
    for start in range(0, min(len(i), 20_000), 200):
        some = slice(start, start + 200)
        proposed = _similarities(a[corners_a[i[some]]], b[corners_b[j[some]]])
        agreeing = _agreeing(proposed, bright, b, tolerance)
        if agreeing.max() > most:
            transform, most = proposed[agreeing.argmax()], int(agreeing.max())
        if most > 0.6 * min(len(bright), len(b)):
            break
    if most < least:
        raise ValueError(f"only {most} stars agree with any shift, rotation and scale, at least {least} are needed")
    for fit in (fit_similarity, fit_affine, fit_affine):
        i, j = nearest(apply_affine(transform, a), b, tolerance)
        if len(i) < least:
            raise ValueError(
                f"only {len(i)} stars agree with any shift, rotation and scale, at least {least} are needed"
            )
        transform = fit(a[i], b[j])
    on_b = apply_affine(transform, a)
    i, j = nearest(on_b, b, tolerance)
    if len(i) < max(least, more_than_chance(on_b, b, tolerance, 3)):
        raise ValueError(f"{len(i)} of {len(a)} and {len(b)} stars agree, no more than by chance: the same field?")
    return transform, i, j


def _similarities(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`fit_similarity` of t lists of points (t, n, 2) to as many others: (t, 2, 3)."""
    za, zb = a @ [1, 1j], b @ [1, 1j]
    middle_b = zb.mean(axis=1, keepdims=True)
    best, least = None, np.inf
    for mirrored in (False, True):
        z = za.conj() if mirrored else za
        middle = z.mean(axis=1, keepdims=True)
        z, target = z - middle, zb - middle_b
        p = ((z.conj() * target).sum(axis=1) / (np.abs(z) ** 2).sum(axis=1))[:, None]
        rms = np.abs(p * z - target).std(axis=1)[:, None, None]
        p, q, sign = p[:, 0], (middle_b - p * middle)[:, 0], -1 if mirrored else 1
        rows = [[p.real, -sign * p.imag, q.real], [p.imag, sign * p.real, q.imag]]
        found = np.moveaxis(np.array(rows), 2, 0)
        best = found if best is None else np.where(rms < least, found, best)
        least = np.minimum(rms, least)
    return best


def _agreeing(transforms: np.ndarray, a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray:
    """How many of the points a (n, 2) each of the transformations (t, 2, 3) brings to within `tolerance` of one of b."""
    moved = a @ transforms[:, :, :2].transpose(0, 2, 1) + transforms[:, None, :, 2]
    hit = np.zeros(moved.shape[:2], bool)
    hit.ravel()[close(moved.reshape(-1, 2), b, tolerance)[0]] = True
    return hit.sum(axis=1)


def match_shift(a: np.ndarray, b: np.ndarray, tolerance: float = 3.0, least: int = 3, still: float = 30.0):
    """Match two lists of few stars of one camera, which differ by a shift alone; arguments and result as `match_stars`.

    The shift that most pairs of stars agree with wins. Two stars are enough for a shift of less than `still` pixels, that
    of a telescope that nobody moved, in frames so empty that chance would find such a pair in one of a hundred.
    Raises ValueError where fewer than `least` agree or there is a rival.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{min(len(a), len(b))} stars, at least {least} are needed to match frames")
    a, b = a[:60], b[:60]
    shifts = (b[None, :, :] - a[:, None, :]).reshape(-1, 2)
    votes = np.array([(np.hypot(*(shifts - shift).T) < tolerance).sum() for shift in shifts])
    needed, near = least, np.hypot(*shifts.T) < still
    density = len(shifts) * np.pi / np.prod(np.ptp(b, axis=0) + 2 * tolerance)
    if votes.max() < least and near.any() and density**2 * (still * tolerance) ** 2 < 0.01:
        shifts, votes, needed = shifts[near], votes[near], 2
    best = shifts[votes.argmax()]
    rivals = votes[np.hypot(*(shifts - best).T) > 3 * tolerance]
    if votes.max() < needed or (len(rivals) and rivals.max() == votes.max()):
        raise ValueError(f"no shift that more than {votes.max()} stars agree with, at least {least} are needed")
    middle = np.median(shifts[np.hypot(*(shifts - best).T) < tolerance], axis=0)
    i, j = nearest(a + middle, b, tolerance)
    if needed == least and len(i) < max(least, more_than_chance(a + middle, b, tolerance, 2)):
        raise ValueError(f"{len(i)} of {len(a)} and {len(b)} stars agree on a shift, no more than by chance")
    return np.column_stack([np.eye(2), np.median(b[j] - a[i], axis=0)]), i, j


def _triangles(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shapes (t, 2) and corners (t, 3) of all triangles: corners in the order of the lengths of the opposite sides,
    shape the shortest and the middle side over the longest. Triangles too flat or too equal in sides say little."""
    corners = np.array(list(combinations(range(len(points)), 3)))
    p = points[corners]
    sides = np.stack(
        [
            np.linalg.norm(p[:, 1] - p[:, 2], axis=1),
            np.linalg.norm(p[:, 0] - p[:, 2], axis=1),
            np.linalg.norm(p[:, 0] - p[:, 1], axis=1),
        ],
        axis=1,
    )
    order = np.argsort(sides, axis=1)
    sides = np.take_along_axis(sides, order, axis=1)
    corners = np.take_along_axis(corners, order, axis=1)
    shapes = sides[:, :2] / np.maximum(sides[:, 2:], 1e-9)
    telling = (sides[:, 0] > 20) & (shapes[:, 1] < 0.98) & (shapes[:, 1] - shapes[:, 0] > 0.02)
    return shapes[telling], corners[telling]
