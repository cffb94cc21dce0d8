"""What may be spent on calls: a cap that experts and threads share."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from sparseft.errors import ConfigError, SparseftError

__all__ = ["FREE", "Budget", "BudgetExhausted", "Charge", "Prices"]


class BudgetExhausted(SparseftError):
    """Another call would go over the cap."""


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in any one currency.

    Attributes:
        prompt, answer: of the tokens sent and of those answered.

    Raises:
        ConfigError: one is negative or not finite.
    """

    prompt: float = 0.0
    answer: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(price) and price >= 0 for price in (self.prompt, self.answer)):
            raise ConfigError(f"expected prices of 0 or more, got {self}; correct them.")

    def of(self, prompt_tokens: int, answer_tokens: int) -> float:
        """The price of a call."""
        return (prompt_tokens * self.prompt + answer_tokens * self.answer) / 1e6


FREE = Prices()


class Charge:
    """One call's share of a budget: what it may cost at most, until it is known what it did."""

    def __init__(self, budget: Budget, bound: float) -> None:
        self._budget = budget
        self._bound: float | None = bound

    def settle(self, price: float) -> None:
        """Say what the call cost; only the first time counts."""
        if self._bound is not None:
            bound, self._bound = self._bound, None
            self._budget._settle(bound, price)


class Budget:
    """A cap on calls and money.

    A call reserves the most that it can cost before it is sent, so that calls under way never
    exceed the cap together. One that does not fit beside calls under way waits for them, as they
    mostly cost less than they reserved.

    Args:
        calls: requests that may be sent, retries included; None: any number.
        money: that may be spent, in the currency of the prices; None: any amount.

    Raises:
        ConfigError: a cap is negative or not finite.
    """

    def __init__(self, calls: int | None = None, money: float | None = None) -> None:
        for cap in (calls, money):
            if cap is not None and not (math.isfinite(cap) and cap >= 0):
                raise ConfigError(f"expected caps of 0 or more, or None, got {cap}; change it.")
        self._calls, self._money = calls, money
        self._sent, self._spent, self._reserved, self._open = 0, 0.0, 0.0, 0
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        caps = f"calls={self._calls}, money={self._money}"
        return f"Budget({caps}, sent={self._sent}, spent={self._spent:g})"

    @property
    def sent(self) -> int:
        """Calls so far."""
        return self._sent

    @property
    def spent(self) -> float:
        """Money so far, by calls that have ended."""
        return self._spent

    def reserve(self, bound: float) -> Charge:
        """Room for one call; whoever takes it must settle it.

        Args:
            bound: the most that the call can cost.

        Raises:
            BudgetExhausted: there is no room, and there will be none.
        """
        with self._changed:
            while True:
                if self._calls is not None and self._sent >= self._calls:
                    raise BudgetExhausted(self._exhausted(bound))
                if self._money is None or self._spent + self._reserved + bound <= self._money:
                    break
                if not self._open or self._spent + bound > self._money:
                    raise BudgetExhausted(self._exhausted(bound))
                self._changed.wait()
            self._sent += 1
            self._open += 1
            self._reserved += bound
        return Charge(self, bound)

    def _settle(self, bound: float, price: float) -> None:
        with self._changed:
            self._open -= 1
            # No remainder of sums and differences stays behind where nothing is under way.
            self._reserved = self._reserved - bound if self._open else 0.0
            self._spent += price
            self._changed.notify_all()

    def _exhausted(self, bound: float) -> str:
        calls = "any number of" if self._calls is None else self._calls
        money = "any amount" if self._money is None else f"{self._money:g}"
        return (
            f"budget exhausted: expected room for a call of up to {bound:.6g} within {calls} calls "
            f"and {money} of money, got {self._sent} calls sent and {self._spent:.6g} spent; raise "
            "the budget. Answers in the cache stay free."
        )
