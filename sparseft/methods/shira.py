"""SHiRA: single weights of all linears at random places (Bhardwaj et al., 2024, arXiv 2406.13175).

Through PEFT. A linear of m x n weights trains r (m + n) of them: as many as LoRA of the same r.
"""

from __future__ import annotations

import torch
from peft import ShiraConfig
from torch import Tensor, nn

from sparseft.errors import ConfigError
from sparseft.methods.adapters import linear_names, wrap
from sparseft.methods.base import (
    MethodContext,
    Prepared,
    in_full_precision,
    positive,
    prepared,
    read_options,
    register,
)
from sparseft.models.task_model import TaskModel

__all__ = ["shira"]


@register("shira")
def shira(model: TaskModel, context: MethodContext) -> Prepared:
    """Train r (m + n) random weights of each linear in the upper `depth` of the layers."""
    options = read_options(context.options, r=8, depth=1.0)
    positive("r", options["r"])
    targets = linear_names(model, options["depth"])
    for name in targets:
        linear = model.backbone.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        rows, columns = linear.weight.shape
        most = (rows * columns) // (rows + columns)
        if options["r"] > most:
            raise ConfigError(
                f"expected method.r of at most {most}, got {options['r']}: {name} has only "
                f"{rows} x {columns} weights; set a smaller method.r."
            )
    # PEFT adds its fp32 values to a clone of the weight, in the weight's precision.
    upcast = in_full_precision(model)
    config = ShiraConfig(r=options["r"], target_modules=targets)
    # PEFT's own mask draws the same places in all linears of one shape; one generator for all
    # linears makes them independent.
    generator = torch.Generator().manual_seed(context.seed)

    def random_places(linear: nn.Linear, r: int, **_: object) -> Tensor:
        rows, columns = linear.weight.shape
        mask = torch.zeros(rows * columns, dtype=torch.bool)
        mask[torch.randperm(rows * columns, generator=generator)[: r * (rows + columns)]] = True
        return mask.view(rows, columns).to(linear.weight.device)

    config.mask_fn = random_places
    # PEFT builds a sparse tensor in every forward; torch warns until somebody has said whether
    # its indices are to be checked. Saying "no" changes nothing: that is the silent default.
    checks = torch.sparse.check_sparse_tensor_invariants
    if not checks.is_enabled():
        checks.disable()
    wrap(model, config, context.seed)
    return prepared(model, notes={"linears": len(targets), "upcast_to_fp32": upcast})
