"""A cap holds for all threads together, and nothing is refused that would have had room."""

from __future__ import annotations

import threading
import time

import pytest

from sparseft.errors import ConfigError
from sparseft.routing.experts import Budget, BudgetExhausted, Prices


def test_prices_are_for_a_million_tokens() -> None:
    assert Prices(prompt=2.0, answer=10.0).of(500_000, 100_000) == pytest.approx(2.0)


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf")])
def test_caps_and_prices_below_0_are_refused(bad: float) -> None:
    with pytest.raises(ConfigError):
        Budget(money=bad)
    with pytest.raises(ConfigError):
        Prices(answer=bad)


def test_calls_are_capped_and_none_is_given_back() -> None:
    budget = Budget(calls=2)
    for _ in range(2):
        budget.reserve(1.0).settle(0.0)
    with pytest.raises(BudgetExhausted, match=r"^budget exhausted"):
        budget.reserve(0.0)
    assert budget.sent == 2


def test_what_was_not_used_of_a_bound_comes_back() -> None:
    budget = Budget(money=1.0)
    for _ in range(5):
        budget.reserve(0.5).settle(0.1)
    assert budget.spent == pytest.approx(0.5)
    with pytest.raises(BudgetExhausted, match="budget exhausted"):
        budget.reserve(0.6)


def test_a_charge_is_settled_once() -> None:
    budget = Budget()
    charge = budget.reserve(1.0)
    charge.settle(0.5)
    charge.settle(0.5)
    assert budget.spent == 0.5


def test_a_call_waits_for_the_one_under_way_and_takes_what_it_leaves() -> None:
    budget = Budget(money=1.0)
    first = budget.reserve(0.8)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(budget.reserve(0.8)))
    thread.start()
    time.sleep(0.05)
    assert not got
    first.settle(0.1)
    thread.join(5)
    assert len(got) == 1


def test_a_call_that_waited_in_vain_is_refused() -> None:
    budget = Budget(money=1.0)
    first = budget.reserve(0.8)
    refused: list[BudgetExhausted] = []

    def ask() -> None:
        try:
            budget.reserve(0.8)
        except BudgetExhausted as error:
            refused.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.05)
    first.settle(0.8)
    thread.join(5)
    assert len(refused) == 1


def test_threads_never_exceed_the_cap_together() -> None:
    budget = Budget(calls=40, money=3.0)
    prices = [0.05, 0.1, 0.2]

    def ask(seed: int) -> None:
        for turn in range(30):
            try:
                charge = budget.reserve(0.2)
            except BudgetExhausted:
                return
            time.sleep(0.0002)
            charge.settle(prices[(seed + turn) % 3])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert budget.sent <= 40 and budget.spent <= 3.0
    # Not refused before its time: another call of the bound has no room, or no call is left.
    assert budget.sent == 40 or budget.spent > 2.8
