"""torch's optimizers, and after each step the trained values stand in their weights.

State exists for the compact values alone, and weight decay touches nothing else. On CUDA one kernel
launch steps all tensors of the model and writes the weights on the way; elsewhere, and for options
the kernel has not, the update is torch.optim's own and the weights are written after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from sparseft.errors import ConfigError
from sparseft.optim.batch import Batch, Group, Owners, collect, may_launch, scalar_rate
from sparseft.sparse.registry import write_through
from sparseft_kernels import sparse_adamw
from sparseft_kernels.sparse_adamw import AdamWOptions, SGDOptions

__all__ = ["SparseAdamW", "SparseSGD"]

Rounding = Literal["nearest", "stochastic"]
_ROUNDINGS = ("nearest", "stochastic")


class _WriteThrough(Optimizer):
    """What the optimizers share: clipping, the choice of an implementation, rounding."""

    writes_through = True

    max_grad_norm: float | None = None
    rounding: Rounding = "nearest"
    seed: int = 0
    #: Norm of all gradients before the last step was clipped, on the device.
    grad_norm: Tensor | None = None

    _owners: Owners
    _kernel: str  # name of the update in `sparse_adamw`
    _torch: type[Optimizer]

    def _set(self, max_grad_norm: float | None, rounding: Rounding, seed: int) -> None:
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ConfigError(
                f"expected max_grad_norm above 0, got {max_grad_norm}; pass None not to clip."
            )
        if rounding not in _ROUNDINGS:
            raise ConfigError(f"expected rounding of {_ROUNDINGS}, got {rounding!r}; choose one.")
        if not 0 <= seed < 2**63:
            raise ConfigError(f"expected a seed in [0, 2^63), got {seed}; choose another.")
        self.max_grad_norm, self.rounding, self.seed = max_grad_norm, rounding, seed
        self._owners = Owners()
        for group in self.param_groups:
            reason = self._unfit(group)
            if rounding == "stochastic" and reason is not None:
                raise _no_stochastic(reason)
            if max_grad_norm is not None and group.get("differentiable"):
                raise ConfigError(
                    "expected max_grad_norm=None with differentiable=True, got "
                    f"{max_grad_norm}; clip in the graph with torch.nn.utils."
                )

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("max_grad_norm", "rounding", "seed")}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._owners = Owners()
        super().__setstate__(state)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on the compact values; their weights hold the result afterwards.

        Args:
            closure: computes the loss anew and returns it.

        Returns:
            What the closure returned.

        Raises:
            ConfigError: options that contradict each other or the model; nothing is changed.
        """
        loss: float | None = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        batches, rest = self._divide()
        total = self._total_norm()
        if rest is None:
            self._torch_step(total)
        elif rest:
            with self._only(rest):
                self._torch_step(total)
        for batch in batches:
            clip = None
            if total is not None and self.max_grad_norm is not None:
                # As torch.nn.utils.clip_grad_norm_ has it.
                clip = torch.clamp(self.max_grad_norm / (total + 1e-6), max=1.0)
                clip = clip.to(batch.device, torch.float32)
            seed = self.seed if self.rounding == "stochastic" else None
            self._launch(batch, clip, seed)
            batch.mark_written()
        return loss

    def _divide(self) -> tuple[list[Batch], set[int] | None]:
        """Batches for launches, and the ids of the parameters left for torch (None: all)."""
        stochastic = self.rounding == "stochastic"
        # A GradScaler leaves these with optimizers that are told fused=True.
        scale, found_inf = (getattr(self, name, None) for name in ("grad_scale", "found_inf"))
        if scale is not None and self.max_grad_norm is not None:
            raise ConfigError(
                "expected unscaled gradients for max_grad_norm, got a GradScaler's; "
                "call scaler.unscale_(optimizer) before the step."
            )
        scaled = scale is not None or found_inf is not None
        if scaled and stochastic:
            raise ConfigError(
                "expected an optimizer without fused=True for stochastic rounding under a "
                "GradScaler; leave the option out."
            )
        if scaled or not (stochastic or may_launch(self.param_groups)):
            return [], None
        batches, left = collect(self.param_groups, self._unfit, self._owners)
        rest = {id(parameter) for parameter, _, _ in left}
        taken = []
        for batch in batches:
            decision = sparse_adamw.decide(self._kernel, batch.parameters, batch.entries)
            if stochastic or decision.implementation == "triton":
                self._check_capture(batch.device)
                taken.append(batch)
            else:
                rest.update(map(id, batch.parameters))
        if stochastic:
            self._check_stochastic(taken, left)
        return taken, rest

    def _torch_step(self, total: Tensor | None) -> None:
        """torch's own step, clipped by the norm of all gradients, and the weights after it."""
        if total is not None and self.max_grad_norm is not None:
            parameters = [p for group in self.param_groups for p in group["params"]]
            torch.nn.utils.clip_grads_with_norm_(parameters, self.max_grad_norm, total)
        _bare(self._torch.step)(self)
        write_through(self.param_groups)

    def _check_stochastic(
        self, batches: Sequence[Batch], left: Sequence[tuple[Tensor, Any, str]]
    ) -> None:
        for _, entries, reason in left:
            if entries is not None and entries.weight.dtype != torch.float32:
                raise _no_stochastic(reason)
        for batch in batches:
            if any(e is not None and e.weight.dtype == torch.float16 for e in batch.entries):
                raise _no_stochastic("weights of torch.float16")

    def _check_capture(self, device: torch.device) -> None:
        """Nothing but what AdamW adds."""

    def _total_norm(self) -> Tensor | None:
        self.grad_norm = None
        if self.max_grad_norm is not None:
            gradients = [
                p.grad for group in self.param_groups for p in group["params"] if p.grad is not None
            ]
            total = torch.nn.utils.get_total_norm(gradients)
            # Sharded gradients have a sharded norm.
            self.grad_norm = total.full_tensor() if hasattr(total, "full_tensor") else total
        return self.grad_norm

    @contextmanager
    def _only(self, parameters: set[int]) -> Iterator[None]:
        """The optimizer with these parameters alone."""
        groups = self.param_groups
        self.param_groups = [
            {**group, "params": [p for p in group["params"] if id(p) in parameters]}
            for group in groups
        ]
        try:
            yield
        finally:
            self.param_groups = groups

    def _unfit(self, group: Group) -> str | None:
        """Why the kernel has not what a group asks for."""
        for option in ("amsgrad", "maximize", "differentiable", "foreach"):
            if group.get(option):
                return f"{option}=True"
        for option in ("foreach", "fused"):
            if group.get(option) is False:
                return f"{option}=False"
        return None

    def _launch(self, batch: Batch, clip: Tensor | None, seed: int | None) -> None:
        raise NotImplementedError


def _no_stochastic(reason: str) -> ConfigError:
    return ConfigError(
        "expected float32 values in bfloat16 weights and plain options for "
        f"rounding='stochastic', got {reason}; round to nearest, or change that."
    )


def _bare(step: Any) -> Callable[[Optimizer], Any]:
    """A step without torch's hooks, which already run around ours."""
    return step.__wrapped__ if getattr(step, "hooked", False) else step


class SparseAdamW(_WriteThrough, torch.optim.AdamW):
    """`torch.optim.AdamW` (Loshchilov & Hutter 2019, arXiv 1711.05101) with write-through.

    Takes any parameters and all of AdamW's options: `sparseft.trainable(model)` holds compact
    values and the head. Checkpoints are AdamW's, both ways.

    On CUDA float32 parameters are stepped by one kernel launch, unless amsgrad, maximize,
    differentiable, foreach or fused=False ask for torch's own; what the kernel does not take is
    stepped by torch. In a CUDA graph (capturable=True) options are those of the capture, but for a
    learning rate that is a tensor on the device.

    Args:
        params, lr, betas, eps, weight_decay, amsgrad, options: as torch.optim.AdamW has them.
        max_grad_norm: clip the gradients' global norm to it, as `torch.nn.utils.clip_grad_norm_`
            does over all parameters; the host does not wait for the norm (`grad_norm`).
        rounding: how values enter bfloat16 weights: to "nearest", or "stochastic": up or down at
            random so that the mean is right. A later write of the same values without a step
            (`sparseft.sync`, a loaded checkpoint's first forward) rounds to nearest.
        seed: of stochastic rounding; equal seeds give equal bits.

    Raises:
        ConfigError: values out of range, or stochastic rounding with options only torch has.
    """

    _kernel = "adamw"
    _torch = torch.optim.AdamW

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        max_grad_norm: float | None = None,
        rounding: Rounding = "nearest",
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)
        self._set(max_grad_norm, rounding, seed)

    def _unfit(self, group: Group) -> str | None:
        if any(isinstance(beta, Tensor) for beta in group["betas"]):
            return "betas that are tensors"
        return super()._unfit(group)

    def _check_capture(self, device: torch.device) -> None:
        if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
            return
        if not all(group["capturable"] for group in self.param_groups):
            raise ConfigError(
                "expected capturable=True for a step inside a CUDA graph, got False; "
                "pass it to the optimizer."
            )

    def _launch(self, batch: Batch, clip: Tensor | None, seed: int | None) -> None:
        states = [_adamw_state(self.state[p], p) for p in batch.parameters]
        sparse_adamw.adamw_(
            batch.parameters,
            batch.gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["step"] for state in states],
            batch.entries,
            [
                AdamWOptions(
                    scalar_rate(group["lr"], batch.device), group["betas"][0], group["betas"][1],
                    group["eps"], group["weight_decay"],
                )
                for group in self.param_groups
            ],
            groups=batch.groups, clip=clip, seed=seed, numbers=batch.numbers,
        )  # fmt: skip


def _adamw_state(state: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
    if not state:
        state["step"] = _counter(parameter)
        state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = torch.zeros_like(parameter)
    _fit_step(state, parameter)
    for name in ("exp_avg", "exp_avg_sq"):
        if not state[name].is_contiguous():
            state[name] = state[name].contiguous()
    return state


def _counter(parameter: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.float32, device=parameter.device)


def _fit_step(state: dict[str, Any], parameter: Tensor) -> None:
    """torch keeps counters on the CPU where its own kernels want them there."""
    step = state["step"]
    if step.device != parameter.device or step.dtype != torch.float32:
        state["step"] = step.to(parameter.device, torch.float32)


class SparseSGD(_WriteThrough, torch.optim.SGD):
    """`torch.optim.SGD` with write-through; all of its options, and those of `SparseAdamW`.

    With stochastic rounding the state holds a step counter too, which torch's SGD ignores.
    """

    _kernel = "sgd"
    _torch = torch.optim.SGD

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        max_grad_norm: float | None = None,
        rounding: Rounding = "nearest",
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov, **options)
        self._set(max_grad_norm, rounding, seed)

    def _unfit(self, group: Group) -> str | None:
        if isinstance(group["weight_decay"], Tensor):
            return "a weight decay that is a tensor"
        return super()._unfit(group)

    def _launch(self, batch: Batch, clip: Tensor | None, seed: int | None) -> None:
        momenta: list[Tensor | None] = []
        fresh: list[bool] = []
        for parameter, place in zip(batch.parameters, batch.groups, strict=True):
            state = self.state[parameter]
            buffer = state.get("momentum_buffer")
            fresh.append(buffer is None)
            if self.param_groups[place]["momentum"] == 0:
                buffer = None
            elif buffer is None:
                buffer = state["momentum_buffer"] = torch.empty_like(parameter)
            elif not buffer.is_contiguous():
                buffer = state["momentum_buffer"] = buffer.contiguous()
            momenta.append(buffer)
        steps = None if seed is None else [self._step_of(p) for p in batch.parameters]
        sparse_adamw.sgd_(
            batch.parameters, batch.gradients, momenta, fresh, batch.entries,
            [
                SGDOptions(
                    scalar_rate(group["lr"], batch.device), group["momentum"],
                    group["dampening"], group["weight_decay"], group["nesterov"],
                )
                for group in self.param_groups
            ],
            groups=batch.groups, clip=clip, seed=seed, steps=steps, numbers=batch.numbers,
        )  # fmt: skip

    def _step_of(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "step" not in state:
            state["step"] = _counter(parameter)
        _fit_step(state, parameter)
        step: Tensor = state["step"]
        return step
