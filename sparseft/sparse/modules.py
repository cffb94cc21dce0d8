"""Linear and Embedding modules whose weight is trained at selected entries.

An existing module changes its class in place, so names, hooks and identity stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sparseft.sparse.autograd import CompactEmbedding, CompactLinear
from sparseft.sparse.plan import Plan
from sparseft.sparse.registry import forget, register
from sparseft_kernels.entries import Entries, read, write

__all__ = ["SparseEmbedding", "SparseLinear", "SparseModule"]

# What no values are stamped with.
_NEVER = (0, -1)
_OWN = ("sparse_values", "sparse_bias")


def _stamp(values: Tensor | None) -> tuple[int, int]:
    # In-place changes raise the version (for fused optimizers see registry); assignment of a new
    # tensor changes the identity.
    return (0, 0) if values is None else (id(values), values._version)


class SparseModule(nn.Module):
    """What sparse modules share: compact values beside the weight that holds them."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    sparse_values: nn.Parameter
    sparse_bias: nn.Parameter | None
    sparse_plan: Plan
    sparse_base: tuple[Tensor, Tensor | None]
    sparse_disabled: bool
    _sparse_written: list[tuple[int, int]]

    def attach(self, plan: Plan, shared: nn.Parameter | None = None) -> None:
        """Take the current entries as both the base and the starting values (fp32 masters).

        Args:
            plan: which entries.
            shared: the compact values of a tied module, to train the same numbers.
        """
        base = plan.read(self.weight.detach())
        base_bias = None
        if plan.bias:
            assert self.bias is not None
            base_bias = read(*plan.bias_entries(self.bias.detach()))
        master = torch.promote_types(base.dtype, torch.float32)
        if shared is None:
            shared = nn.Parameter(base.to(master, copy=True))
        self.sparse_values = shared
        self.sparse_bias = (
            None if base_bias is None else nn.Parameter(base_bias.to(master, copy=True))
        )
        self.sparse_plan, self.sparse_base = plan, (base, base_bias)
        self.sparse_disabled = False
        self._sparse_written = [_NEVER, _NEVER]
        self.mark_written()

    def mark_written(self, values: Tensor | None = None) -> None:
        """Note that the weight holds the compact values (or those given) as they are now."""
        for place, name in enumerate(_OWN):
            own = self._parameters.get(name)
            if values is None or own is values:
                stamp = _stamp(own)
                if own is not None and stamp[0] != self._sparse_written[place][0]:
                    register(own, self)
                self._sparse_written[place] = stamp

    def destination(self, values: Tensor) -> Entries | None:
        """Where an optimizer may write `values` through; nowhere if not ours, or while disabled."""
        own = self._parameters
        if self.sparse_disabled:
            return None
        if values is own["sparse_values"]:
            return self.sparse_plan.entries(self.weight)
        if values is own.get("sparse_bias") and self.bias is not None:
            return self.sparse_plan.bias_entries(self.bias)
        return None

    def detach_values(self) -> None:
        """Forget everything sparse; the weight stays as it is."""
        for name in ("sparse_values", "sparse_bias"):
            values = self._parameters.pop(name, None)
            if values is not None:
                forget(values, self)
        for name in (
            "sparse_plan", "sparse_base", "sparse_disabled", "_sparse_written", "sparse_bias"
        ):  # fmt: skip
            self.__dict__.pop(name, None)

    @torch.no_grad()
    def write_through(self) -> None:
        """Copy the compact values into the weight, unless the delta is disabled."""
        if self.sparse_disabled:
            return
        plan, bias_values = self.sparse_plan, self.sparse_bias
        plan.write(self.weight, self.sparse_values)
        if bias_values is not None:
            assert self.bias is not None
            write(*plan.bias_entries(self.bias), bias_values)
        self.mark_written()

    def base(self) -> Iterator[tuple[Entries, Tensor]]:
        """The trained entries of weight and bias, each with the base's numbers for them.

        While the delta is disabled it is the other way round: the weight holds the base's.
        """
        base, base_bias = self.sparse_base
        yield self.sparse_plan.entries(self.weight), base
        if base_bias is not None:
            assert self.bias is not None
            yield self.sparse_plan.bias_entries(self.bias), base_bias

    def sync(self) -> None:
        """Write the compact values into the weight if they have changed since the last time.

        Compiled code cannot look: there the hook after every optimizer step keeps the weight true,
        and after any other change `sparseft.sync(model)`.
        """
        if torch.compiler.is_compiling():
            return
        if self._sparse_written != [_stamp(self.sparse_values), _stamp(self.sparse_bias)]:
            self.write_through()

    def training_values(self) -> bool:
        """Whether this forward pass must leave a graph for the compact values."""
        return (
            torch.is_grad_enabled()
            and not self.sparse_disabled
            and self.sparse_values.requires_grad
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # A copy owns its values from the start, for optimizers that never see a forward of ours (a
        # compiled one); whether its weight holds them is for the first forward to see.
        self._sparse_written = [_NEVER, _NEVER]
        if self._parameters.get("sparse_values") is not None:
            self.mark_written()
        self._sparse_written = [_NEVER, _NEVER]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)
        self.sparse_plan.move(fn)
        base, base_bias = self.sparse_base
        self.sparse_base = (fn(base), None if base_bias is None else fn(base_bias))
        return result


class SparseLinear(SparseModule, nn.Linear):  # type: ignore[misc]
    """`nn.Linear` with compact values; see `CompactLinear` for the gradient."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., k] to [..., n]; the dense matmul over the module's own weight."""
        self.sync()
        if not self.training_values():
            return nn.functional.linear(input, self.weight, self.bias)
        device = input.device.type
        if not torch.is_autocast_enabled(device):
            return self._compact(input)
        # Inside an autograd.Function autocast would save the uncast input; cast it here.
        with torch.autocast(device, enabled=False):
            return self._compact(input.to(torch.get_autocast_dtype(device)))

    def _compact(self, x: Tensor) -> Tensor:
        plan = self.sparse_plan
        output = CompactLinear.apply(
            x, self.weight, self.bias, self.sparse_values, self.sparse_bias,
            plan.index, plan.structure, plan.edge,
        )  # fmt: skip
        return output


class SparseEmbedding(SparseModule, nn.Embedding):  # type: ignore[misc]
    """`nn.Embedding` with compact values for the selected rows."""

    bias = None

    def forward(self, input: Tensor) -> Tensor:
        """[...] token ids to [..., d]."""
        self.sync()
        if not self.training_values():
            return nn.functional.embedding(input, self.weight, self.padding_idx)
        output = CompactEmbedding.apply(
            input, self.weight, self.sparse_values, self.sparse_plan.index, self.padding_idx
        )
        return output
