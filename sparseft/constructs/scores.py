"""How strongly a token group points to a class, and how surely.

All scores are of one table: a group occurs in k of N texts, a class has n of them, and y texts of
the class hold the group. A text counts once however often it repeats the group, for texts are what
was drawn independently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["bh_q_values", "fisher_p_values", "log_odds_z", "mutual_information"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TINY = 1e-300  # a smaller p-value is as good as this one


def log_odds_z(y: Ints, k: Ints, n: Ints, total: int, prior_strength: float) -> Floats:
    """Log-odds ratio with an informative Dirichlet prior, over its standard deviation.

    Monroe, Colaresi & Quinn 2008, "Fightin' Words", eq. 15 to 22, for texts with and without the
    group (so the Dirichlet is a Beta). The prior of either side is `prior_strength` x N imagined
    texts that hold the group as often as all texts do. With a weak prior the variance of a group
    that no other class has is so large that impure groups come first; 1 ranks them right.

    Args:
        y, k, n: int64 [M], the counts above.
        total: N.
        prior_strength: imagined texts by real ones, above 0.

    Returns:
        float64 [M], positive where the class holds the group more often than the others do.
    """
    share = (k + 0.5) / (total + 1.0)
    imagined = prior_strength * total
    with_prior, without_prior = imagined * share, imagined * (1.0 - share)
    inside, inside_not = y + with_prior, n - y + without_prior
    outside, outside_not = k - y + with_prior, total - n - (k - y) + without_prior
    difference = np.log(inside / inside_not) - np.log(outside / outside_not)
    variance = 1 / inside + 1 / inside_not + 1 / outside + 1 / outside_not
    return np.asarray(difference / np.sqrt(variance), np.float64)


def mutual_information(y: Ints, k: Ints, n: Ints, total: int) -> Floats:
    """Bits that knowing of the group tells about the class (one class against the rest).

    Args:
        y, k, n: int64 [M], the counts above.
        total: N.

    Returns:
        float64 [M], 0 or more.
    """
    bits = np.zeros(len(y))
    cells = (
        (y, k, n),
        (k - y, k, total - n),
        (n - y, total - k, n),
        (total - k - n + y, total - k, total - n),
    )
    for count, row, column in cells:
        # 0 log 0 is 0; a cell with a count has a row and a column that have one too.
        ratio = count * float(total) / np.maximum(row * column.astype(np.float64), 1.0)
        bits += count / total * np.log2(np.where(count > 0, ratio, 1.0))
    return np.maximum(bits, 0.0)


def fisher_p_values(y: Ints, k: Ints, n: Ints, total: Ints | int) -> Floats:
    """One-sided p-values of Fisher's exact test: P(Y >= y) with k and n given.

    The hypergeometric tail is summed term by term until what is left cannot be seen in a double, so
    small counts need no approximation and large ones get none. Equal tables are computed once.

    Args:
        y, k, n: int64 [M], the counts above.
        total: N, one for all or int64 [M].

    Returns:
        float64 [M] in (0, 1], not below 1e-300. A group that is no more frequent in the class than
        in all texts gets 1.
    """
    p = np.ones(len(y))
    totals = np.broadcast_to(np.asarray(total, np.int64), y.shape)
    above = np.flatnonzero(y * totals.astype(np.float64) > k * n.astype(np.float64))
    if not len(above):
        return p
    tables, which = np.unique(
        np.stack([y[above], k[above], n[above], totals[above]], axis=1), axis=0, return_inverse=True
    )
    p[above] = _tail(*tables.T)[which.reshape(-1)]
    return p


def _tail(y: Ints, k: Ints, n: Ints, total: Ints) -> Floats:
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total.max() + 1)))])

    def log_choose(a: Ints, b: Ints) -> Floats:
        return np.asarray(log_factorial[a] - log_factorial[b] - log_factorial[a - b])

    log_first = log_choose(n, y) + log_choose(total - n, k - y) - log_choose(total, k)
    # The sum relative to its first term: above the mean the terms fall.
    sums = np.ones(len(y))
    term = np.ones(len(y))
    x = y.copy()
    active = np.flatnonzero(x < np.minimum(k, n))
    while len(active):
        a, b, c = x[active], k[active], n[active]
        ratio = (b - a) * (c - a) / ((a + 1.0) * (total[active] - b - c + a + 1.0))
        term[active] *= ratio
        sums[active] += term[active]
        x[active] += 1
        more = (term[active] > 1e-17 * sums[active]) & (x[active] < np.minimum(b, c))
        active = active[more]
    log_p = log_first + np.log(sums)
    return np.exp(np.clip(log_p, np.log(_TINY), 0.0))


def bh_q_values(p: Floats, tests: int) -> Floats:
    """Benjamini & Hochberg 1995: the false discovery rate at which each test is accepted.

    Args:
        p: float64 [M], the p-values of the tests that can succeed.
        tests: how many were made in all; the others count as p = 1.

    Returns:
        float64 [M] in (0, 1].
    """
    if not len(p):
        return np.zeros(0)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * tests / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q
