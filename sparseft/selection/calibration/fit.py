"""From turns of many cases to milliseconds of each part.

Legend: R rounds, C cases, P parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_parts", "non_negative_least_squares", "steady_medians"]

Array = NDArray[np.float64]

_SWEEPS = 10


def steady_medians(seconds: Array) -> Array:
    """One time per case, freed of how fast the machine was in each round.

    A round in which everything took longer than usual says so in all its cases: the median over
    them is divided out, then a case's median over the rounds is taken (a multiplicative median
    polish, Tukey 1977). Cases of the same round are thus compared with each other.

    Args:
        seconds: [R, C], above 0.

    Returns:
        [C].
    """
    logs = np.log(seconds)
    cases = np.median(logs, axis=0)
    rounds = np.zeros(len(logs))
    for _ in range(_SWEEPS):
        rounds = np.median(logs - cases, axis=1)
        # What is usual stays with the cases.
        rounds -= np.median(rounds)
        cases = np.median(logs - rounds[:, None], axis=0)
    return np.exp(cases)


def fit_parts(
    amounts: Sequence[Mapping[str, float]], milliseconds: Sequence[float], parts: Sequence[str]
) -> dict[str, float]:
    """Milliseconds of each part, at least 0, with the least squared relative error.

    Args:
        amounts: of the C cases, by part; missing parts are 0.
        milliseconds: [C] measured, above 0.
        parts: P names.

    Returns:
        By part; those that no case has are left out.
    """
    used = [part for part in parts if any(case.get(part, 0.0) for case in amounts)]
    times = np.asarray(milliseconds, dtype=np.float64)
    matrix = np.array([[case.get(part, 0.0) for part in used] for case in amounts])
    found = non_negative_least_squares(matrix / times[:, None], np.ones(times.size))
    return {part: float(value) for part, value in zip(used, found, strict=True)}


def non_negative_least_squares(matrix: Array, target: Array) -> Array:
    """x >= 0 with the least |matrix x - target| (Lawson and Hanson 1974, chapter 23).

    Args:
        matrix: [C, P]; columns of zeros get 0.
        target: [C].

    Returns:
        [P].
    """
    norms = np.linalg.norm(matrix, axis=0)
    scale = np.where(norms > 0.0, norms, 1.0)
    a = matrix / scale
    x = np.zeros(a.shape[1])
    passive = np.zeros(a.shape[1], dtype=bool)
    tolerance = 1e-10 * max(1.0, float(np.linalg.norm(target)))
    for _ in range(3 * a.shape[1]):
        slope = a.T @ (target - a @ x)
        slope[passive | (norms == 0.0)] = -np.inf
        if slope.size == 0 or slope.max() <= tolerance:
            break
        passive[np.argmax(slope)] = True
        while True:
            trial = np.zeros_like(x)
            trial[passive] = np.linalg.lstsq(a[:, passive], target, rcond=None)[0]
            if trial[passive].min(initial=np.inf) > 0.0:
                break
            # As far towards the trial as nothing becomes negative; what reaches 0 stays there.
            shrinking = passive & (trial <= 0.0)
            step = np.min(x[shrinking] / np.maximum(x[shrinking] - trial[shrinking], 1e-300))
            x = x + step * (trial - x)
            passive &= x > 1e-14
            x[~passive] = 0.0
            if not passive.any():
                trial = np.zeros_like(x)
                break
        x = trial
    return x / scale
