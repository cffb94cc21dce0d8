"""AdamW and SGD over compact values in plain torch, and the rounding of what is written through.

Each operation rounds once, to float32: no product is fused with a sum. The numbers are those of
torch.optim within float32 rounding, and those of the Triton kernel bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseft_kernels.entries import Entries, write
from sparseft_kernels.sparse_adamw.common import Common

__all__ = ["adamw", "philox", "rounding_noise", "sgd", "stochastic_bfloat16"]

_STEP_BITS = 25  # float32 counts steps exactly up to 2^24
_MASK = 0xFFFFFFFF


def adamw(
    values: Sequence[Tensor], gradients: Sequence[Tensor], exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor], steps: Sequence[Tensor], common: Common,
) -> None:  # fmt: skip
    """One AdamW step (Loshchilov & Hutter 2019, arXiv 1711.05101), in place.

    Args:
        values, gradients, exp_avgs, exp_avg_sqs: float32 tensors of equal sizes.
        steps: float32 scalars, steps taken so far; advanced by one.
        common: options and where the values stand.
    """
    for number, group in enumerate(common.groups):
        p, m, v = values[number], exp_avgs[number], exp_avg_sqs[number]
        g = _clipped(gradients[number], common.clip)
        _, beta1, beta2, epsilon, decay = common.options[group]
        rate = _rate(common, group, p.device)  # float64, as all scalars until the update
        step = steps[number].add_(1.0)
        size = (rate / (1.0 - _power(beta1, step))).float()
        root = (1.0 / (1.0 - _power(beta2, step)).sqrt()).float()
        m.add_((g - m) * (1.0 - beta1))
        v.mul_(beta2).add_((g * g) * (1.0 - beta2))
        # Through float64, since torch's float32 root is not correctly rounded on every CPU.
        below = v.double().sqrt().float() * root + epsilon
        change = m / below * size
        p.mul_((1.0 - rate * decay).float()).sub_(change)
        _write_through(p, step, common, number)


def sgd(
    values: Sequence[Tensor], gradients: Sequence[Tensor], momenta: Sequence[Tensor | None],
    fresh: Sequence[bool], steps: Sequence[Tensor | None], common: Common,
) -> None:  # fmt: skip
    """One step of SGD with momentum as torch.optim.SGD defines it, in place.

    Args:
        values, gradients: float32 tensors of equal sizes.
        momenta: buffers of the same sizes; None where the group has no momentum.
        fresh: whether a buffer is new: it then becomes the gradient.
        steps: float32 scalars to advance, needed for stochastic rounding; or None.
        common: options and where the values stand.
    """
    for number, group in enumerate(common.groups):
        p, buffer = values[number], momenta[number]
        g = _clipped(gradients[number], common.clip)
        _, momentum, dampening, decay, nesterov = common.options[group]
        if decay != 0:
            g = g + p * decay
        if momentum != 0 and buffer is not None:
            if fresh[number]:
                buffer.copy_(g)
            else:
                buffer.mul_(momentum).add_(g * (1.0 - dampening))
            g = g + buffer * momentum if nesterov else buffer
        p.sub_(g * _rate(common, group, p.device).float())
        step = steps[number]
        _write_through(p, None if step is None else step.add_(1.0), common, number)


def _clipped(gradient: Tensor, clip: Tensor | None) -> Tensor:
    return gradient if clip is None else gradient * clip


def _rate(common: Common, group: int, device: torch.device) -> Tensor:
    """float64 scalar."""
    rate = common.rates[group]
    if rate is None:
        return torch.full((), common.options[group][0], dtype=torch.float64, device=device)
    return rate.reshape(()).double()


def _power(base: float, exponent: Tensor) -> Tensor:
    """base ** exponent in float64 by products alone: the same bits on every machine."""
    bits = exponent.to(torch.int32)
    result = torch.ones_like(bits, dtype=torch.float64)
    for _ in range(_STEP_BITS):
        result = torch.where((bits & 1) == 1, result * base, result)
        base = base * base
        bits = bits >> 1
    return result


# --- write-through -------------------------------------------------------------------------------


def _write_through(values: Tensor, step: Tensor | None, common: Common, number: int) -> None:
    entries: Entries | None = common.entries[number]
    if entries is None:
        return
    weight, structure, index, edge = entries
    values = values.reshape(entries.shape)
    if common.seed is not None and weight.dtype == torch.bfloat16:
        assert step is not None
        noise = rounding_noise(common.seed, values.numel(), common.numbers[number], step)
        values = stochastic_bfloat16(values, noise.reshape(values.shape))
    write(weight, structure, index, edge, values)


def philox(
    c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, k0: int, k1: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 (Salmon et al. 2011, *Parallel random numbers: as easy as 1, 2, 3*).

    Args:
        c0, c1, c2, c3: counter words, int64 tensors of numbers below 2^32.
        k0, k1: key words below 2^32.

    Returns:
        Four random words of the same kind.
    """
    for _ in range(10):
        # Products of two 32-bit numbers wrap around in int64; their bits are right all the same.
        odd, even = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0 = ((even >> 32) & _MASK) ^ c1 ^ k0
        c2 = ((odd >> 32) & _MASK) ^ c3 ^ k1
        c1, c3 = even & _MASK, odd & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def rounding_noise(seed: int, count: int, number: int, step: Tensor) -> Tensor:
    """16 random bits for each of a tensor's values: [count] int64.

    The counter is (value number // 4, low and high word; tensor number; step), the key the seed;
    value e takes word e % 4.
    """
    quarter = torch.arange((count + 3) // 4, dtype=torch.int64, device=step.device)
    zeros = torch.zeros_like(quarter)
    words = philox(
        quarter & _MASK, quarter >> 32, zeros + number, zeros + step.to(torch.int64),
        seed & _MASK, (seed >> 32) & _MASK,
    )  # fmt: skip
    return torch.stack(words, 1).reshape(-1)[:count] & 0xFFFF


def stochastic_bfloat16(values: Tensor, noise: Tensor) -> Tensor:
    """Round float32 up with the probability of the part that bfloat16 cuts off, down otherwise."""
    bits = values.contiguous().view(torch.int32).to(torch.int64) & _MASK
    rounded = ((bits + noise) >> 16) & 0xFFFF
    rounded = torch.where(values.isnan(), 0x7FC0, rounded)
    # int16 holds the same bits as a signed number.
    return (rounded - ((rounded & 0x8000) << 1)).to(torch.int16).view(torch.bfloat16)
