"""A learning rate that follows how much is trained.

Adam moves every trained number by about the learning rate, whatever its gradient, so the model's
output moves more the more is trained. How much more depends on whether the moves add up:

- aligned (every one lowers the loss): the first-order fall of the loss is lr x |gradient|_1, which
  grows like the density: p = 1, as the learning rate of muP falls with the width (Yang et al. 2022,
  arXiv 2203.03466);
- independent: the output's variance grows like the density: p = 1/2, as rsLoRA scales its updates
  with the root of the rank (Kalajdzievski 2023, arXiv 2312.03732).

So lr = method.lr x (reference / density)^p. LoRA+ (Hayou et al. 2024, arXiv 2402.12354) derives its
two rates in the same way. The factor is clipped: it extrapolates from the density that method.lr
was tuned at.
"""

from __future__ import annotations

from typing import Any

from sparseft.errors import ConfigError

__all__ = ["LARGEST_FACTOR", "width_factor"]

LARGEST_FACTOR = 4.0


def width_factor(density: float, power: Any, reference: Any) -> float:
    """What the learning rate is multiplied with, in [1/4, 4]; 1 for a power of 0.

    Args:
        density: share of the backbone's parameters that is trained.
        power: p, 0 to 1.
        reference: the density at which the factor is 1.

    Raises:
        ConfigError: `power` or `reference` out of its range.
    """
    if not _number(power) or not 0 <= power <= 1:
        raise ConfigError(
            f"expected method.lr_by_width between 0 (off) and 1, got {power!r}; "
            "change method.lr_by_width."
        )
    if not _number(reference) or not 0 < reference <= 1:
        raise ConfigError(
            f"expected method.reference_density in (0, 1], got {reference!r}; "
            "change method.reference_density."
        )
    factor = float(reference / density) ** float(power)
    return min(max(factor, 1.0 / LARGEST_FACTOR), LARGEST_FACTOR)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
