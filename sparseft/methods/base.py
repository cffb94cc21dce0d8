"""What every method gets and gives, and the one registry of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sparseft.errors import ConfigError
from sparseft.models.task_model import TaskModel
from sparseft.saliency.tokens import ConstructWeights
from sparseft.selection.budget import lowest_layer_of_depth

if TYPE_CHECKING:
    from sparseft.selection import Selection
    from sparseft.sparse.refresh import RefreshOptions

__all__ = [
    "Method",
    "MethodContext",
    "Prepared",
    "freeze",
    "get",
    "in_full_precision",
    "names",
    "prepared",
    "read_options",
    "register",
    "upper_layers",
]


@dataclass(frozen=True)
class MethodContext:
    """What a method may look at besides the model.

    `batches(n)` gives n tokenised training batches on the model's device, drawn by the run's seed;
    `held_out(n, folds)` gives at most n batches one by one, and while a batch is looked at the head
    is one that was fitted to other folds; None where there is no head to fit again. `options` are
    the method's settings without its name and learning rate.
    """

    batches: Callable[[int], list[dict[str, Tensor]]]
    seed: int
    num_layers: int
    options: Mapping[str, Any] = field(default_factory=dict)
    held_out: Callable[[int, int], Iterator[dict[str, Tensor]]] | None = None
    constructs: ConstructWeights | None = None  # of the run's own constructs, where it mined some


@dataclass
class Prepared:
    """A model that is ready to be trained by any loop.

    `body` are the trained parameters besides the head, `head` those of the head; every other
    parameter is frozen. `optimizer` is "adamw" (torch's) or "sparse_adamw" (ours). `lr_factor`
    multiplies the body's learning rate. `refresh` asks the loop to exchange units; `selection` is
    then the one of the moment. `notes` is plain data for the record.
    """

    model: TaskModel
    body: list[nn.Parameter]
    head: list[nn.Parameter]
    optimizer: str = "adamw"
    selection: Selection | None = None
    analysis_seconds: float = 0.0
    lr_factor: float = 1.0
    refresh: RefreshOptions | None = None
    notes: dict[str, Any] = field(default_factory=dict)


Method = Callable[[TaskModel, MethodContext], Prepared]

_METHODS: dict[str, Method] = {}


def register(name: str) -> Callable[[Method], Method]:
    """Make a method known as `name`.

    Raises:
        ConfigError: the name is taken.
    """

    def keep(method: Method) -> Method:
        if _METHODS.setdefault(name, method) is not method:
            raise ConfigError(
                f"expected a new method name, got {name!r} twice; rename one of them."
            )
        return method

    return keep


def get(name: str) -> Method:
    """The method called `name`.

    Raises:
        ConfigError: there is none; the message lists all.
    """
    if name not in _METHODS:
        raise ConfigError(
            f"expected a method, one of {', '.join(names())}, got {name!r}; change method.name."
        )
    return _METHODS[name]


def names() -> tuple[str, ...]:
    """All registered method names, sorted."""
    return tuple(sorted(_METHODS))


def read_options(options: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """`defaults` with the given options laid over; a default's type is the option's type.

    Raises:
        ConfigError: an option is unknown or of another type.
    """
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        known = ", ".join(sorted(defaults)) or "none"
        raise ConfigError(
            f"expected only known options of the method, got method.{unknown[0]}; "
            f"choose from: {known}."
        )
    return {
        name: _checked(name, options.get(name, default), type(default))
        for name, default in defaults.items()
    }


def _checked(name: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not right or (kind is float and not math.isfinite(value)):
        raise ConfigError(
            f"expected method.{name} to be a {kind.__name__}, got {value!r}; change method.{name}."
        )
    return value


def positive(name: str, value: float) -> None:
    """Refuse an option that is not above 0."""
    if value <= 0:
        raise ConfigError(f"expected method.{name} above 0, got {value}; change method.{name}.")


def freeze(model: TaskModel) -> None:
    """Freeze the whole backbone; the head stays trained."""
    model.backbone.requires_grad_(False)
    model.head.requires_grad_(True)


def prepared(model: TaskModel, **fields: Any) -> Prepared:
    """`Prepared` of whatever in `model` requires a gradient now."""
    return Prepared(
        model=model,
        body=[weight for weight in model.backbone.parameters() if weight.requires_grad],
        head=list(model.head.parameters()),
        **fields,
    )


def in_full_precision(model: TaskModel) -> bool:
    """Make the backbone fp32, for methods that train its own weights; whether that changed it.

    Steps of a small learning rate vanish in bfloat16's 8 bits, so such weights need fp32 masters;
    the whole backbone is converted, since frozen and trained layers feed each other.
    """
    changed = any(weight.dtype != torch.float32 for weight in model.backbone.parameters())
    if changed:
        model.backbone.float()
    return changed


def upper_layers(num_layers: int, depth: float) -> range:
    """The indices of the upper `depth` (a share in (0, 1]) of the layers, at least one.

    Raises:
        ConfigError: the share is out of its range.
    """
    if not 0 < depth <= 1:
        raise ConfigError(
            f"expected method.depth above 0 and at most 1, got {depth}; it is the share of layers."
        )
    # The sparse method's own rule, so that equal depths are equal layers.
    return range(lowest_layer_of_depth(depth, num_layers), num_layers)
