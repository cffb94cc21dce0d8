"""The boundary to PEFT: wrap a backbone, with only the adapter's values trained."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from torch import nn

from sparseft.methods.base import upper_layers
from sparseft.models.task_model import TaskModel, no_input_gradients
from sparseft.selection.layout import layout_of

__all__ = ["linear_names", "wrap"]


def linear_names(model: TaskModel, depth: float) -> list[str]:
    """Module names, relative to the backbone, of all linears in the upper `depth` of its layers.

    Raises:
        ConfigError: `depth` is out of its range.
        ModelError: the backbone's shape is not recognised.
    """
    layers = layout_of(model.backbone).layers
    chosen = upper_layers(len(layers), depth)
    return [name for index in chosen for name in layers[index].linears.values()]


def wrap(model: TaskModel, config: PeftConfig, seed: int) -> Any:
    """Replace `model.backbone` by PEFT's wrapper of it; returns the wrapper.

    The adapter's values are drawn from `seed`; torch's global generators stay as they were.
    """
    backbone: Any = model.backbone
    device = next(model.parameters()).device
    # Where checkpointing is on already, PEFT would send backward through every frozen layer.
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        no_input_gradients(backbone),
        warnings.catch_warnings(),
    ):
        torch.manual_seed(seed)
        # PEFT reads a property that transformers 5.2x has renamed; it cannot be avoided here.
        warnings.filterwarnings(
            "ignore", r"`is_gradient_checkpointing` is deprecated", FutureWarning
        )
        wrapped: nn.Module = get_peft_model(backbone, config)
    model.backbone = wrapped
    model.head.requires_grad_(True)
    return wrapped
