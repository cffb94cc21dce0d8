"""What a routed turn costs: floating-point operations, or money, of all that was called for it.

A model of N weights takes about 2N operations a token, read or written (Kaplan et al. 2020).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sparseft.errors import ConfigError
from sparseft.routing.expert import Prediction
from sparseft.routing.rollout import Step
from sparseft.routing.states import State
from sparseft.routing.texts import query_of
from sparseft.routing.turns import Context

__all__ = ["Costs", "ModelCost", "RouterCost"]


@dataclass(frozen=True)
class ModelCost:
    """One expert's.

    Attributes:
        parameters: N; None where it is not known: then only money can be counted.
        prompt_price, answer_price: per million tokens.
        instruction: tokens of a prompt beside exemplars and the turn itself.
        exemplars: of a prompt, each about as long as a turn with its answer.
    """

    parameters: float | None = None
    prompt_price: float = 0.0
    answer_price: float = 0.0
    instruction: int = 200
    exemplars: int = 10


@dataclass(frozen=True)
class RouterCost:
    """What deciding costs beside the calls of experts.

    Attributes:
        parameters: of the retriever; 0 without one.
        pool: vectors that are searched.
        width: of a vector.
    """

    parameters: float = 0.0
    pool: int = 0
    width: int = 0


@dataclass(frozen=True)
class Costs:
    """Of a small and a large model and a router.

    Attributes:
        unit: flops, or money, where the retriever counts nothing.
        tokens: counts those of a text, where a prediction does not say.
    """

    small: ModelCost
    large: ModelCost
    router: RouterCost
    unit: Literal["flops", "money"]
    tokens: Callable[[str], int]

    def __post_init__(self) -> None:
        for name, model in (("small", self.small), ("large", self.large)):
            if self.unit == "flops" and model.parameters is None:
                raise ConfigError(
                    f"expected the {name} model's parameters to count operations, got none; give "
                    "them, or count money."
                )

    def of(self, step: Step) -> float:
        """One routed turn."""
        total = self.routing(step.context)
        for place, answer in enumerate(step.asked):
            large = step.large and place == len(step.asked) - 1
            total += self.call(self.large if large else self.small, step.context, answer)
        return total

    def routing(self, context: Context) -> float:
        """The retriever's part."""
        if self.unit == "money" or not self.router.parameters:
            return 0.0
        read = 2 * self.router.parameters * self.tokens(query_of(context).text)
        return read + 2.0 * self.router.pool * self.router.width

    def call(self, model: ModelCost, context: Context, answer: Prediction) -> float:
        """One call of an expert."""
        turn = self.tokens(query_of(context).text)
        written = answer.answer_tokens or self.tokens(_text(answer.delta))
        read = answer.prompt_tokens
        if not read:
            read = model.instruction + turn + model.exemplars * (turn + written)
        if self.unit == "flops":
            assert model.parameters is not None
            return 2 * model.parameters * (read + written)
        if answer.price:
            return answer.price
        return (model.prompt_price * read + model.answer_price * written) / 1e6


def _text(delta: State) -> str:
    return json.dumps(dict(delta), ensure_ascii=False)
