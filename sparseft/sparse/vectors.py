"""Modules whose vectors (a linear's bias, a norm's weight and bias) are trained as a whole.

As with selected entries of a matrix, the trained values are fp32 parameters of their own, also
over a bf16 base; the module's own vector holds them, and asks for no gradient. Any module class
will do: for the time of a forward its vectors are the same numbers with a way for the gradient.

A linear of which entries are trained too keeps its bias in `SparseLinear` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparseft.sparse.registry import forget, register
from sparseft_kernels.entries import Entries, read, write

__all__ = ["VectorModule", "become_vector_module"]

_NEVER = (0, -1)
_PREFIX = "sparse_vector_"
# A class is made once, so that equal modules are of equal class.
_CLASSES: dict[type[nn.Module], type[VectorModule]] = {}


class _WithGradient(torch.autograd.Function):
    """The vector that the module holds; its gradient goes to the values."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, values: Tensor) -> Tensor:
        ctx.value_dtype = values.dtype
        return vector.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient.to(ctx.value_dtype)


class VectorModule(nn.Module):
    """What `become_vector_module` mixes into a module's class."""

    sparse_plain: type[nn.Module]
    sparse_disabled: bool
    sparse_names: tuple[str, ...]
    _sparse_index: Tensor
    _sparse_bases: dict[str, Tensor]
    _sparse_stamps: dict[str, tuple[int, int]]

    def attach(self, names: Sequence[str]) -> None:
        """Take the vectors of these names, of one length, as base and starting values."""
        self.sparse_names, self.sparse_disabled = tuple(names), False
        self._sparse_stamps = dict.fromkeys(names, _NEVER)
        first = self._own(names[0])
        self._sparse_index = torch.arange(first.numel(), device=first.device, dtype=torch.int32)
        self._sparse_bases = {}
        for name in names:
            base = read(*self._entries(name)).clone()
            self._sparse_bases[name] = base
            master = torch.promote_types(base.dtype, torch.float32)
            self.register_parameter(_PREFIX + name, nn.Parameter(base.to(master, copy=True)))
        self.mark_written()

    def _own(self, name: str) -> nn.Parameter:
        own = self._parameters[name]
        assert own is not None
        return own

    def values(self, name: str) -> nn.Parameter:
        """The trained values of one vector."""
        return self._own(_PREFIX + name)

    def _entries(self, name: str) -> Entries:
        return Entries(self._own(name), "elements", self._sparse_index)

    @property
    def sparse_bias(self) -> Tensor:
        """Tells the registry that these values are no other module's."""
        return self.values(self.sparse_names[0])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own."""
        self.sync()
        if not self._training_values():
            return super().forward(*args, **kwargs)
        # What stands in __dict__ comes before registered parameters.
        own = self.__dict__
        for name in self.sparse_names:
            own[name] = _WithGradient.apply(self._own(name), self.values(name))
        try:
            return super().forward(*args, **kwargs)
        finally:
            for name in self.sparse_names:
                del own[name]

    def _training_values(self) -> bool:
        return (
            torch.is_grad_enabled()
            and not self.sparse_disabled
            and self.values(self.sparse_names[0]).requires_grad
        )

    def _stamp(self, name: str) -> tuple[int, int]:
        values = self.values(name)
        return id(values), values._version

    def mark_written(self, values: Tensor | None = None) -> None:
        """Note that the vectors hold the values (or those given) as they are now."""
        for name in self.sparse_names:
            own = self.values(name)
            if values is None or own is values:
                if id(own) != self._sparse_stamps[name][0]:
                    register(own, self)
                self._sparse_stamps[name] = self._stamp(name)

    def destination(self, values: Tensor) -> Entries | None:
        """Where an optimizer may write `values` through; nowhere if not ours, or while disabled."""
        if not self.sparse_disabled:
            for name in self.sparse_names:
                if values is self.values(name):
                    return self._entries(name)
        return None

    @torch.no_grad()
    def write_through(self) -> None:
        """Copy the values into the vectors, unless the delta is disabled."""
        if not self.sparse_disabled:
            for name in self.sparse_names:
                write(*self._entries(name), self.values(name))
            self.mark_written()

    def sync(self) -> None:
        """Write the values if they have changed since the last time; see `SparseModule.sync`."""
        if torch.compiler.is_compiling():
            return
        if any(self._sparse_stamps[name] != self._stamp(name) for name in self.sparse_names):
            self.write_through()

    def base(self) -> Iterator[tuple[Entries, Tensor]]:
        """The vectors, each with the base's numbers; while disabled it is the other way round."""
        for name in self.sparse_names:
            yield self._entries(name), self._sparse_bases[name]

    def detach_values(self) -> None:
        """Forget everything sparse; the vectors stay as they are."""
        for name in self.sparse_names:
            values = self._parameters.pop(_PREFIX + name)
            assert values is not None
            forget(values, self)
        for name in (
            "sparse_names", "sparse_disabled", "_sparse_index", "_sparse_bases", "_sparse_stamps"
        ):  # fmt: skip
            del self.__dict__[name]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # The class is made at run time, so it is named by the one it was made of.
        return _blank, (self.sparse_plain,), dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # As in SparseModule: a copy owns its values at once, and its first forward writes them.
        self._sparse_stamps = dict.fromkeys(self.sparse_names, _NEVER)
        self.mark_written()
        self._sparse_stamps = dict.fromkeys(self.sparse_names, _NEVER)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)
        self._sparse_index = fn(self._sparse_index)
        self._sparse_bases = {name: fn(base) for name, base in self._sparse_bases.items()}
        return result


def become_vector_module(module: nn.Module, names: Sequence[str]) -> VectorModule:
    """Change the class of a module in place, so that its vectors of these names are trained."""
    module.__class__ = _class_of(type(module))
    assert isinstance(module, VectorModule)
    module.attach(names)
    return module


def _class_of(plain: type[nn.Module]) -> type[VectorModule]:
    if plain not in _CLASSES:
        name = f"Vector{plain.__name__}"
        _CLASSES[plain] = type(name, (VectorModule, plain), {"sparse_plain": plain})
    return _CLASSES[plain]


def _blank(plain: type[nn.Module]) -> VectorModule:
    made = _class_of(plain)
    return made.__new__(made)
