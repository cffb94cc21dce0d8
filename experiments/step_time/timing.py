"""Methods take turns: shuffled order, round after round; ratios are taken inside a round."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["figures", "ratios", "take_turns"]

Step = Callable[[int], None]

MIN_ROUNDS = 3


def take_turns(
    steps: Mapping[str, Step],
    *,
    rounds: int,
    warm_up: int,
    steps_a_turn: int = 1,
    synchronise: Callable[[], None] = lambda: None,
    deadline: float = float("inf"),
) -> dict[str, list[float]]:
    """Seconds a step of each method, one number per round: the mean of the turn's steps.

    In a round every method has one turn, in an order that is shuffled anew. A turn is
    `steps_a_turn` steps in a row; the device is waited for before and after it, not in between, as
    in training. All methods see the same batches in the same round.

    Args:
        steps: by method; called with the number of the step, which chooses the batch.
        rounds: how many are kept, after `warm_up` that are not.
        deadline: of `time.monotonic`; once it has passed and three rounds are kept, no further
            round begins.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    with _no_garbage_collection():
        for round_ in range(warm_up + rounds):
            if round_ >= warm_up + MIN_ROUNDS and time.monotonic() > deadline:
                break
            order = list(steps)
            random.Random(round_).shuffle(order)
            for name in order:
                step = steps[name]
                synchronise()
                started = time.perf_counter()
                for index in range(round_ * steps_a_turn, (round_ + 1) * steps_a_turn):
                    step(index)
                synchronise()
                taken = (time.perf_counter() - started) / steps_a_turn
                if round_ >= warm_up:
                    seconds[name].append(taken)
            gc.collect()
    return seconds


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """None inside a step; what is there already is not looked through between the rounds, too."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if was:
            gc.enable()


def ratios(seconds: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Seconds over the reference's of the same round."""
    return [mine / other for mine, other in zip(seconds, reference, strict=True)]


def figures(values: Sequence[float], name: str, scale: float = 1.0) -> dict[str, Any]:
    """`name`_p20, `name`_median and `name`_p80 of the values times `scale`."""
    p20, median, p80 = (scale * np.percentile(values, [20, 50, 80])).tolist()
    return {f"{name}_p20": p20, f"{name}_median": median, f"{name}_p80": p80}
