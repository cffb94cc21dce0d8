"""Token weights, and unit sensitivities without a dense weight gradient."""

from sparseft.saliency.sensitivity import Sensitivities, unit_sensitivities
from sparseft.saliency.tokens import token_saliency

__all__ = ["Sensitivities", "token_saliency", "unit_sensitivities"]
