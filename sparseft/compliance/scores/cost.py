"""What an evaluation costs on a machine of one's own, and at prices that somebody states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sparseft.compliance.transcript import Json
from sparseft.errors import ConfigError

__all__ = [
    "StatedCost",
    "TokenPrice",
    "api_cost",
    "compare_costs",
    "cost_per_evaluation",
    "token_prices",
]


@dataclass(frozen=True)
class TokenPrice:
    """What an API asks per million tokens. No prices are built in: they change, and must be dated.

    Attributes:
        date: when the price held, as YYYY-MM-DD or YYYY-MM.
        source: where it stands.
    """

    name: str
    input_per_million: float
    output_per_million: float
    date: str
    source: str

    def __post_init__(self) -> None:
        for key in ("input_per_million", "output_per_million"):
            _not_negative(f"{key} of {self.name}", getattr(self, key))
        _dated(self.name, self.date, self.source)


@dataclass(frozen=True)
class StatedCost:
    """What somebody states that one evaluation costs; `low` and `high` are equal for one figure."""

    name: str
    low: float
    high: float
    date: str
    source: str

    def __post_init__(self) -> None:
        _not_negative(f"low of {self.name}", self.low)
        if not self.low <= self.high < math.inf:
            raise ConfigError(
                f"expected low <= high for {self.name}, got {self.low} and {self.high}; swap them."
            )
        _dated(self.name, self.date, self.source)


def cost_per_evaluation(
    seconds: float, price_per_hour: float, utilisation: float = 1.0, concurrency: float = 1.0
) -> float:
    """The price of one evaluation, in the currency of `price_per_hour`.

    Args:
        seconds: an evaluation takes, start to end.
        price_per_hour: of the machine.
        utilisation: share of the paid time in which it evaluates, in (0, 1].
        concurrency: evaluations at work at a time while each takes `seconds`.

    Raises:
        ConfigError: one of them is out of its range.
    """
    _not_negative("seconds", seconds)
    _not_negative("price_per_hour", price_per_hour)
    if not 0 < utilisation <= 1:
        raise ConfigError(
            f"expected utilisation greater than 0 and at most 1, got {utilisation}; change it."
        )
    if not 0 < concurrency < math.inf:
        raise ConfigError(f"expected concurrency greater than 0, got {concurrency}; change it.")
    return seconds / 3600 * price_per_hour / (utilisation * concurrency)


def api_cost(price: TokenPrice, input_tokens: float, output_tokens: float) -> float:
    """The price of one evaluation with these tokens.

    Raises:
        ConfigError: a negative number of tokens.
    """
    _not_negative("input_tokens", input_tokens)
    _not_negative("output_tokens", output_tokens)
    return (
        input_tokens * price.input_per_million + output_tokens * price.output_per_million
    ) / 1_000_000


def token_prices(table: Sequence[Mapping[str, Json]]) -> tuple[TokenPrice, ...]:
    """Prices from plain data, such as a YAML file's list.

    Raises:
        ConfigError: an entry lacks a key, has an unknown one, or a value of another type.
    """
    known: dict[str, type] = {
        "name": str,
        "input_per_million": float,
        "output_per_million": float,
        "date": str,
        "source": str,
    }
    prices = []
    for entry in table:
        if not isinstance(entry, Mapping) or set(entry) != set(known):
            got = sorted(map(str, entry)) if isinstance(entry, Mapping) else type(entry).__name__
            raise ConfigError(
                f"expected a price with exactly {', '.join(known)}, got {got}; change it."
            )
        # YAML reads an unquoted day as a date.
        values: dict[str, Json] = {
            k: str(v) if isinstance(v, date) else v for k, v in entry.items()
        }
        for key, kind in known.items():
            value = values[key]
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number if kind is float else isinstance(value, str)):
                raise ConfigError(
                    f"expected {key} to be a {'number' if kind is float else 'text'}, got "
                    f"{value!r}; change it."
                )
        prices.append(TokenPrice(**values))
    return tuple(prices)


def compare_costs(
    own: float,
    prices: Sequence[TokenPrice] = (),
    input_tokens: float = 0,
    output_tokens: float = 0,
    stated: Sequence[StatedCost] = (),
) -> list[dict[str, Json]]:
    """One's own cost of an evaluation beside what others ask or state for one.

    For example beside the figures of arXiv 2606.05781, whose own model takes 0.013 dollars:

        compare_costs(own, stated=[StatedCost(
            "LLM APIs", 0.025, 0.055, "2026-06", "arXiv 2606.05781")])

    Args:
        own: of `cost_per_evaluation`, in the currency of the prices.
        input_tokens, output_tokens: of one evaluation at the API's, for `prices`.

    Returns:
        For each other: name, low, high (an evaluation), low_ratio and high_ratio (to one's own;
        None where that is 0), date, source.
    """
    _not_negative("own", own)
    listed = [
        StatedCost(
            price.name,
            api_cost(price, input_tokens, output_tokens),
            api_cost(price, input_tokens, output_tokens),
            price.date,
            price.source,
        )
        for price in prices
    ]
    return [
        {
            "name": each.name,
            "low": each.low,
            "high": each.high,
            "low_ratio": each.low / own if own else None,
            "high_ratio": each.high / own if own else None,
            "date": each.date,
            "source": each.source,
        }
        for each in (*listed, *stated)
    ]


def _not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ConfigError(f"expected {name} of 0 or more, got {value}; change it.")


def _dated(name: str, day: str, source: str) -> None:
    try:
        date.fromisoformat(day if len(day) > 7 else f"{day}-01")
    except ValueError as error:
        raise ConfigError(
            f"expected the date of {name} as YYYY-MM-DD or YYYY-MM, got {day!r}; change it."
        ) from error
    if not source.strip():
        raise ConfigError(f"expected the source of {name}, got none; say where the price stands.")
