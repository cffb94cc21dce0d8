"""A task's model made ready by a method, where the task is not classification."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from sparseft import methods
from sparseft.config import RunConfig
from sparseft.errors import ConfigError
from sparseft.methods import MethodContext, Prepared
from sparseft.models import TaskModel
from sparseft.models.task_model import in_whole_batches
from sparseft.selection.layout import layout_of
from sparseft.training.devices import seed_everything
from sparseft.training.loop import Batches

__all__ = ["HeldOut", "prepare_task"]

HeldOut = Callable[[int, int], Iterator[dict[str, Tensor]]]
_KEYS = ("input_ids", "attention_mask", "labels")


def prepare_task(
    config: RunConfig,
    method: methods.Method,
    model: TaskModel,
    loader: Batches,
    held_out: HeldOut | None,
    most: int | None = None,
) -> Prepared:
    """Let a method freeze, wrap and select in a model.

    Args:
        loader: the training batches; its epoch is 0 afterwards.
        held_out: `held_out(count, folds)` gives batches under a head that has not seen them; None:
            no head was fitted to any row, so to the pretrained model all of them are held out.
        most: batches of an analysis, whatever the method asks for; None: no limit.

    Raises:
        ConfigError: the method trains nothing of the backbone, or refreshes its units.
    """

    def within(count: int) -> int:
        return count if most is None else min(count, most)

    def analysed(count: int) -> list[dict[str, Tensor]]:
        loader.set_epoch(config.training.epochs)  # an order that training never sees
        drawn: list[dict[str, Tensor]] = []
        for batch in loader.batches():
            drawn.append({key: batch[key] for key in _KEYS})
            if len(drawn) == within(count):
                break
        loader.set_epoch(0)
        return drawn

    def unseen(count: int, folds: int) -> Iterator[dict[str, Tensor]]:
        return iter(analysed(count)) if held_out is None else held_out(within(count), folds)

    context = MethodContext(
        batches=analysed,
        seed=config.seed,
        num_layers=len(layout_of(model).layers),
        options={k: v for k, v in config.method.items() if k not in ("name", "lr")},
        held_out=unseen,
    )
    seed_everything(config.seed)
    with in_whole_batches(model):
        prepared = method(model, context)
    task = config.task.name
    if prepared.refresh is not None:
        raise ConfigError(
            f"expected method.refresh=null with task={task}, got refreshes; leave it out."
        )
    if not prepared.body:
        raise ConfigError(
            f"expected a method that trains the backbone, got {config.method['name']}: what a "
            f"model of task={task} has beside it is small; choose another method."
        )
    return prepared
