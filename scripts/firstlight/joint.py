"""Frames that see different parts of one scene, brought to each other: a robust least-squares fit of all at once."""

from __future__ import annotations

import numpy as np

from . import ordering

CUT = 4.685  # of Tukey's biweight: 95 % of the efficiency of a plain mean where nothing is odd
LEAST = 1e-3  # weight that is left to odd values, so that no frame comes loose from the others
NARROWEST = 0.5  # share of the usual spread that a frame's own is at least: a few values may agree by chance
SETTLED = 1e-3  # of a value's error: changes below this end the iteration


def solve(
    values: np.ndarray, sigma: np.ndarray, basis: np.ndarray, anchor: int, prior: np.ndarray | None = None
) -> np.ndarray:
    """Terms p (m, k) of each frame that bring what the frames measured to one scene, which is fitted along.

        minimise  sum_ib w_ib (y_ib + sum_k p_ik phi_ikb - c_b)^2 / sigma_ib^2 + sum_ik (p_ik / prior_ik)^2,  p_anchor = 0

    values   y (m, n): m frames, n places; NaN where a frame does not tell
    sigma    expected errors, broadcast to (m, n); only their proportions matter but for the prior
    basis    phi (m or 1, k, n)
    anchor   number of the frame whose terms are 0
    prior    (m, k) how large terms may be expected, inf for any; None for any
    All frames must be connected, see `groups`; else what is not keeps 0.

    c_b is eliminated, so that the equations are for m k unknowns whatever n. Weights w follow the residuals over their
    frame's own spread and over sqrt(1 - h), h the share that a value has in its c_b: first those of the least sum of
    absolute residuals, which some odd values do not lead astray, then Tukey's biweight (Beaton & Tukey 1974,
    Technometrics 16, 147). Where the fit is worse than `sigma` tells, the prior widens with it.
    """
    known = np.isfinite(values)
    known &= known.sum(axis=0) > 1  # what one frame alone sees tells nothing of the others
    y = np.where(known, values, 0.0)
    sigma = np.where(known, sigma, 1.0)
    certain = np.where(known, 1 / sigma**2, 0.0)
    basis = np.broadcast_to(np.asarray(basis, float), (len(y), *basis.shape[1:]))
    prior = np.full(basis.shape[:2], np.inf) if prior is None else prior
    moved, weight, spread = y, certain, np.ones(len(y))
    for step in range(30):
        terms = _least_squares(y, weight, basis, anchor, prior * max(float(np.median(spread)), 1.0))
        before, moved = moved, y + np.matmul(terms[:, None, :], basis)[:, 0]
        total = weight.sum(axis=0)
        total = np.where(total > 0, total, np.inf)
        apart = np.abs(moved - (weight * moved).sum(axis=0) / total) / sigma
        apart /= np.sqrt(np.maximum(1 - weight / total, 1e-6))
        spread = _spreads(apart, known)
        apart /= spread[:, None]
        if step > 9 and (np.abs(moved - before) < SETTLED * sigma * spread[:, None])[known].all():
            break
        trust = 1 / np.maximum(apart, 0.3) if step < 8 else (1 - np.minimum(apart / CUT, 1) ** 2) ** 2
        weight = certain * np.maximum(trust, LEAST) / spread[:, None] ** 2
    return terms


def groups(known: np.ndarray, least: int) -> np.ndarray:
    """A number for each frame (m,), equal for those that are connected, directly or through others, by at least `least`
    places that both know; known bool (m, n)."""
    told = known.astype(np.float32)
    tied = told @ told.T >= least
    group, number = np.full(len(known), -1), 0
    for first in range(len(known)):
        if group[first] >= 0:
            continue
        fresh = np.array([first])
        while len(fresh):
            group[fresh] = number
            fresh = np.flatnonzero(tied[fresh].any(axis=0) & (group < 0))
        number += 1
    return group


def _least_squares(y, weight, basis, anchor: int, prior) -> np.ndarray:
    """Terms (m, k) for fixed weights, from the normal equations with the scene eliminated."""
    m, k, n = basis.shape
    total = weight.sum(axis=0)
    total = np.where(total > 0, total, 1.0)
    weighted = weight[:, None, :] * basis
    rest = y - (weight * y).sum(axis=0) / total
    vector = -np.matmul(weighted, rest[:, :, None])[:, :, 0]
    own = np.matmul(weighted, basis.transpose(0, 2, 1))
    weighted /= np.sqrt(total)
    flat = weighted.reshape(m * k, n)
    matrix = -(flat @ flat.T).reshape(m, k, m, k)
    each = np.arange(m)
    matrix[each, :, each, :] += own
    matrix = matrix.reshape(m * k, m * k)
    # The least of rounding errors would do where a term is not told at all, as the slope of a single block.
    loose = 1e-10 * np.diagonal(own, axis1=1, axis2=2)
    diagonal = (1 / prior**2 + np.where(loose > 0, loose, 1.0)).ravel()
    matrix[np.arange(m * k), np.arange(m * k)] += diagonal
    free = np.repeat(each != anchor, k)
    terms = np.zeros(m * k)
    terms[free] = np.linalg.solve(matrix[np.ix_(free, free)], vector.ravel()[free])
    return terms.reshape(m, k)


def _spreads(apart: np.ndarray, known: np.ndarray) -> np.ndarray:
    """For each frame (m,) what the median of its residuals over their errors makes a standard deviation."""
    own = np.array(
        [1.4826 * ordering.median_of(a[k], True) if k.sum() >= 5 else np.nan for a, k in zip(apart, known, strict=True)]
    )
    told = np.isfinite(own)
    usual = ordering.median_of(own[told]) if told.any() else 1.4826 * ordering.median_of(apart[known])
    usual = max(usual, 1e-9)
    return np.maximum(np.where(told, own, usual), NARROWEST * usual)
