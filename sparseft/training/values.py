"""The trained values of a prepared model: copied out, and put back with the selection they are of.

After a refresh the same compact parameters stand for other entries, so values go with a selection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparseft import sparse
from sparseft.errors import CheckpointError
from sparseft.methods import Prepared
from sparseft.selection import Selection
from sparseft.sparse.reselect import reselect

__all__ = ["Snapshot", "TrainedValues"]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Values in the parameters' order; the selection they belong to, for the sparse method."""

    values: Sequence[Tensor]
    selection: Selection | None

    def state(self, with_selection: bool) -> dict[str, Any]:
        """Tensors and plain values, for a checkpoint."""
        content = None
        if with_selection and self.selection is not None:
            content = json.dumps(self.selection.to_dict())
        return {"values": list(self.values), "selection": content}

    @classmethod
    def of_state(cls, state: Mapping[str, Any], device: torch.device) -> Snapshot:
        """What `state` returned, on the device."""
        content = state["selection"]
        selection = None if content is None else Selection.from_dict(json.loads(content))
        return cls([value.to(device) for value in state["values"]], selection)


class TrainedValues:
    """The parameters that a method trains: those of the body, then those of the head."""

    def __init__(self, prepared: Prepared) -> None:
        self.parameters: list[nn.Parameter] = [*prepared.body, *prepared.head]
        self.device = self.parameters[0].device
        self._prepared = prepared

    def take(self) -> Snapshot:
        """A copy of the values as they are."""
        values = [parameter.detach().clone() for parameter in self.parameters]
        return Snapshot(values, self._prepared.selection)

    def with_values(self, values: Sequence[Tensor]) -> Snapshot:
        """Other values for the entries that are trained now."""
        return Snapshot(values, self._prepared.selection)

    def put(self, snapshot: Snapshot, optimizer: Optimizer | None = None) -> None:
        """Set the values, in the model's own weights too.

        Raises:
            CheckpointError: they are of other shapes; nothing is changed.
        """
        expected = [tuple(parameter.shape) for parameter in self.parameters]
        got = [tuple(value.shape) for value in snapshot.values]
        if expected != got:
            raise CheckpointError(
                f"expected a checkpoint of {len(expected)} parameters of this method's shapes, got "
                f"{len(got)} that differ; remove the checkpoint folder to start again."
            )
        prepared, selection = self._prepared, snapshot.selection
        if selection is not None and selection is not prepared.selection:
            reselect(prepared.model, selection, optimizer)
            prepared.selection = selection
        with torch.no_grad():
            for parameter, value in zip(self.parameters, snapshot.values, strict=True):
                parameter.copy_(value)
        if prepared.selection is not None:
            sparse.sync(prepared.model)
