"""Experts: recorded predictions, endpoints, and, in `experts.local`, models on this machine.

`local` is imported by its own name, as it needs torch and transformers.
"""

from sparseft.routing.experts.answers import MalformedAnswer, parse_answer
from sparseft.routing.experts.budget import Budget, BudgetExhausted, Prices
from sparseft.routing.experts.cache import ResponseCache
from sparseft.routing.experts.endpoint import EndpointExpert
from sparseft.routing.experts.prompt import Prompt
from sparseft.routing.experts.recorded import RecordedExpert
from sparseft.routing.experts.retries import RetryPolicy
from sparseft.routing.experts.settings import Endpoint

__all__ = [
    "Budget",
    "BudgetExhausted",
    "Endpoint",
    "EndpointExpert",
    "MalformedAnswer",
    "Prices",
    "Prompt",
    "RecordedExpert",
    "ResponseCache",
    "RetryPolicy",
    "parse_answer",
]
