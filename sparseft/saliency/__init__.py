"""Token weights with the check of them, and unit sensitivities without a dense weight gradient."""

from sparseft.saliency.areas import Comparison
from sparseft.saliency.curves import Curves, CurveSet, saliency_curves
from sparseft.saliency.integrated import Attribution, integrated_gradients
from sparseft.saliency.rollout import attention_rollout
from sparseft.saliency.sensitivity import Sensitivities, unit_sensitivities
from sparseft.saliency.tokens import IN_PASS, token_saliency, token_weights

__all__ = [
    "IN_PASS",
    "Attribution",
    "Comparison",
    "CurveSet",
    "Curves",
    "Sensitivities",
    "attention_rollout",
    "integrated_gradients",
    "saliency_curves",
    "token_saliency",
    "token_weights",
    "unit_sensitivities",
]
