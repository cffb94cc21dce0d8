"""AdamW and SGD over compact values in Triton: one launch for all tensors of a model.

A first, tiny launch advances the step counters and turns each tensor's options into the float32
numbers of this step (bias corrections in float64); it is one program for 128 tensors. The second
updates the values, one program for a chunk of a tensor, and writes them through to the weight.

No product is fused with a sum and divisions and roots are correctly rounded, so the results are
those of reference.py bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseft_kernels.device import on_device
from sparseft_kernels.entries.tables import (
    FIELDS,
    WEIGHT_CODES,
    chunk_table,
    number_table,
    tensor_table,
)
from sparseft_kernels.entries.triton_kernel import entry_offsets, field, pointer, quad_offsets
from sparseft_kernels.sparse_adamw.common import Common

__all__ = ["adamw", "sgd"]

Config = Mapping[str, int]

_VALUE, _GRADIENT = tl.constexpr(FIELDS.index("value")), tl.constexpr(FIELDS.index("gradient"))
_FIRST, _SECOND = tl.constexpr(FIELDS.index("first")), tl.constexpr(FIELDS.index("second"))
_STEP, _RATE = tl.constexpr(FIELDS.index("step")), tl.constexpr(FIELDS.index("rate"))
_COUNT, _ALIGNED = tl.constexpr(FIELDS.index("count")), tl.constexpr(FIELDS.index("aligned"))
_GROUP, _NUMBER = tl.constexpr(FIELDS.index("group")), tl.constexpr(FIELDS.index("number"))
_FRESH, _WEIGHT = tl.constexpr(FIELDS.index("fresh")), tl.constexpr(FIELDS.index("weight"))
_CODE, _KIND = tl.constexpr(FIELDS.index("code")), tl.constexpr(FIELDS.index("kind"))
_QUADS, _FIELDS = tl.constexpr(FIELDS.index("quads")), tl.constexpr(len(FIELDS))
_BFLOAT16 = tl.constexpr(WEIGHT_CODES[torch.bfloat16])
_FLOAT16 = tl.constexpr(WEIGHT_CODES[torch.float16])

_OPTIONS = tl.constexpr(5)  # of a group
_TERMS = tl.constexpr(8)  # float32 numbers of one tensor's step
_STEP_BITS = tl.constexpr(25)  # float32 counts steps exactly up to 2^24
_PREPARE_BLOCK = 128


# --- the numbers of this step --------------------------------------------------------------------


@triton.jit
def _column(table, tensor, inside, FIELD: tl.constexpr):
    return tl.load(table + tensor * _FIELDS + FIELD, mask=inside, other=0)


@triton.jit
def _advance(table, tensor, inside):
    """Add one to the step counters (where there are any) and return them."""
    address = _column(table, tensor, inside, _STEP)
    counter = address.to(tl.pointer_type(tl.float32))
    inside = inside & (address != 0)
    step = tl.load(counter, mask=inside, other=0.0) + 1.0
    tl.store(counter, step, mask=inside)
    return step


@triton.jit
def _rate(table, tensor, inside, option):
    """The learning rate: a device scalar, or the first option."""
    address = _column(table, tensor, inside, _RATE)
    rate = tl.load(option, mask=inside, other=0.0)
    scalar = address.to(tl.pointer_type(tl.float32))
    on_device = tl.load(scalar, mask=inside & (address != 0), other=0.0).to(tl.float64)
    return tl.where(address != 0, on_device, rate)


@triton.jit
def _power(base, exponent):
    """base ** exponent in float64 by products alone: the same bits on every machine."""
    result = tl.full(base.shape, 1.0, tl.float64)
    for _ in tl.static_range(_STEP_BITS):
        result = tl.where((exponent & 1) == 1, result * base, result)
        base = base * base
        exponent = exponent >> 1
    return result


@triton.jit(do_not_specialize=["tensors"])
def prepare_adamw(table, option_rows, terms, tensors, BLOCK: tl.constexpr):
    """terms[t] = 1 - lr wd, 1 - β1, β2, 1 - β2, lr / (1 - β1^step), 1 / √(1 - β2^step), ε, step."""
    tensor = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = tensor < tensors
    step = _advance(table, tensor, inside)
    option = option_rows + _column(table, tensor, inside, _GROUP) * _OPTIONS
    rate = _rate(table, tensor, inside, option)
    beta1 = tl.load(option + 1, mask=inside, other=0.0)
    beta2 = tl.load(option + 2, mask=inside, other=0.0)
    epsilon = tl.load(option + 3, mask=inside, other=0.0)
    decay = tl.load(option + 4, mask=inside, other=0.0)
    count = step.to(tl.int32)
    size = rate / (1.0 - _power(beta1, count))
    root = 1.0 / tl.sqrt(1.0 - _power(beta2, count))
    term = terms + tensor * _TERMS
    tl.store(term, (1.0 - rate * decay).to(tl.float32), mask=inside)
    tl.store(term + 1, (1.0 - beta1).to(tl.float32), mask=inside)
    tl.store(term + 2, beta2.to(tl.float32), mask=inside)
    tl.store(term + 3, (1.0 - beta2).to(tl.float32), mask=inside)
    tl.store(term + 4, size.to(tl.float32), mask=inside)
    tl.store(term + 5, root.to(tl.float32), mask=inside)
    tl.store(term + 6, epsilon.to(tl.float32), mask=inside)
    tl.store(term + 7, step, mask=inside)


@triton.jit(do_not_specialize=["tensors"])
def prepare_sgd(table, option_rows, terms, tensors, BLOCK: tl.constexpr):
    """terms[t] = lr, momentum, 1 - dampening, wd, nesterov, …, step."""
    tensor = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = tensor < tensors
    step = _advance(table, tensor, inside)
    option = option_rows + _column(table, tensor, inside, _GROUP) * _OPTIONS
    rate = _rate(table, tensor, inside, option)
    momentum = tl.load(option + 1, mask=inside, other=0.0)
    dampening = tl.load(option + 2, mask=inside, other=0.0)
    decay = tl.load(option + 3, mask=inside, other=0.0)
    nesterov = tl.load(option + 4, mask=inside, other=0.0)
    term = terms + tensor * _TERMS
    tl.store(term, rate.to(tl.float32), mask=inside)
    tl.store(term + 1, momentum.to(tl.float32), mask=inside)
    tl.store(term + 2, (1.0 - dampening).to(tl.float32), mask=inside)
    tl.store(term + 3, decay.to(tl.float32), mask=inside)
    tl.store(term + 4, nesterov.to(tl.float32), mask=inside)
    tl.store(term + 7, step, mask=inside)


# --- write-through -------------------------------------------------------------------------------


@triton.jit
def _noise(seed, number, step, first, BLOCK: tl.constexpr):
    """16 random bits for each of the values first, first + 1, …; four share one Philox call."""
    quarter = first // 4 + tl.arange(0, BLOCK // 4)
    low = (quarter & 0xFFFFFFFF).to(tl.uint32)
    high = (quarter >> 32).to(tl.uint32)
    zeros = tl.zeros_like(low)
    w0, w1, w2, w3 = tl.philox(
        seed, low, high, zeros + number.to(tl.uint32), zeros + step.to(tl.uint32)
    )
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3))  # [BLOCK / 4, 2, 2]
    return tl.reshape(words, (BLOCK,)) & 0xFFFF


@triton.jit
def _bfloat16_bits(value, noise):
    """The bits of `value` in bfloat16, rounded up where the lower half and the noise carry."""
    bits = value.to(tl.uint32, bitcast=True)
    rounded = ((bits + noise) >> 16).to(tl.uint16)
    return tl.where(value != value, 0x7FC0, rounded).to(tl.uint16)


@triton.jit
def _store(
    table, tensor, offsets, value, noise, inside, ALIGNED: tl.constexpr, STOCHASTIC: tl.constexpr
):  # fmt: skip
    code = field(table, tensor, _CODE)
    if code == _BFLOAT16:
        if STOCHASTIC:
            bits = _bfloat16_bits(value, noise)
        else:
            # To nearest, ties to even: carry beyond the half, or at it with an odd result.
            odd = (value.to(tl.uint32, bitcast=True) >> 16) & 1
            bits = _bfloat16_bits(value, odd + 0x7FFF)
        tl.store(pointer(table, tensor, _WEIGHT, tl.uint16, ALIGNED) + offsets, bits, mask=inside)
    elif code == _FLOAT16:
        half = value.to(tl.float16)
        tl.store(pointer(table, tensor, _WEIGHT, tl.float16, ALIGNED) + offsets, half, mask=inside)
    else:
        tl.store(pointer(table, tensor, _WEIGHT, tl.float32, ALIGNED) + offsets, value, mask=inside)


@triton.jit
def _write_through(
    table, tensor, first, value, inside, seed, step,
    STOCHASTIC: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Copy a chunk of values into their entries of the weight, if there is one."""
    if field(table, tensor, _KIND) != 0:
        noise = tl.zeros((BLOCK,), tl.uint32)
        if STOCHASTIC:
            noise = _noise(seed, field(table, tensor, _NUMBER), step, first, BLOCK)
        if field(table, tensor, _QUADS) != 0:
            some = _inside(table, tensor, first, 4, WHOLE, BLOCK // 4)  # [BLOCK / 4]
            quads = quad_offsets(table, tensor, first, some, BLOCK)  # [BLOCK / 4, 4]
            four = tl.reshape(value, (BLOCK // 4, 4))
            four_noise = tl.reshape(noise, (BLOCK // 4, 4))
            _store(table, tensor, quads, four, four_noise, some[:, None], True, STOCHASTIC)
        else:
            offsets = entry_offsets(table, tensor, first, inside, BLOCK)
            _store(table, tensor, offsets, value, noise, inside, False, STOCHASTIC)


# --- the updates ---------------------------------------------------------------------------------


@triton.jit
def _inside(table, tensor, first, STEP: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr):
    """Whether the values first, first + STEP, … exist: [BLOCK]."""
    if WHOLE:
        return tl.full((BLOCK,), 1, tl.int1)
    return first + tl.arange(0, BLOCK) * STEP < field(table, tensor, _COUNT)


@triton.jit
def _gradient(table, tensor, e, inside, clip, CLIP: tl.constexpr, WHOLE: tl.constexpr):
    g = tl.load(pointer(table, tensor, _GRADIENT, tl.float32, WHOLE) + e, mask=inside, other=0.0)
    if CLIP:
        g = g * tl.load(clip)
    return g


@triton.jit
def _adamw_chunk(
    table, tensor, first, term, clip, seed,
    CLIP: tl.constexpr, STOCHASTIC: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    e = first + tl.arange(0, BLOCK)
    inside = _inside(table, tensor, first, 1, WHOLE, BLOCK)
    value = pointer(table, tensor, _VALUE, tl.float32, WHOLE) + e
    exp_avg = pointer(table, tensor, _FIRST, tl.float32, WHOLE) + e
    exp_avg_sq = pointer(table, tensor, _SECOND, tl.float32, WHOLE) + e
    g = _gradient(table, tensor, e, inside, clip, CLIP, WHOLE)
    p = tl.load(value, mask=inside, other=0.0)
    m = tl.load(exp_avg, mask=inside, other=0.0)
    v = tl.load(exp_avg_sq, mask=inside, other=1.0)  # 1: nothing is divided by 0 beyond the end
    m = m + (g - m) * tl.load(term + 1)
    v = v * tl.load(term + 2) + (g * g) * tl.load(term + 3)
    below = tl.sqrt_rn(v) * tl.load(term + 5) + tl.load(term + 6)
    p = p * tl.load(term) - tl.div_rn(m, below) * tl.load(term + 4)
    tl.store(exp_avg, m, mask=inside)
    tl.store(exp_avg_sq, v, mask=inside)
    tl.store(value, p, mask=inside)
    step = tl.load(term + 7).to(tl.int32)
    _write_through(table, tensor, first, p, inside, seed, step, STOCHASTIC, WHOLE, BLOCK)


@triton.jit
def _sgd_chunk(
    table, tensor, first, term, clip, seed,
    CLIP: tl.constexpr, STOCHASTIC: tl.constexpr, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    e = first + tl.arange(0, BLOCK)
    inside = _inside(table, tensor, first, 1, WHOLE, BLOCK)
    value = pointer(table, tensor, _VALUE, tl.float32, WHOLE) + e
    g = _gradient(table, tensor, e, inside, clip, CLIP, WHOLE)
    p = tl.load(value, mask=inside, other=0.0)
    decay, momentum = tl.load(term + 3), tl.load(term + 1)
    if decay != 0:
        g = g + p * decay
    if momentum != 0:
        buffer = pointer(table, tensor, _FIRST, tl.float32, WHOLE) + e
        if field(table, tensor, _FRESH) != 0:
            b = g
        else:
            b = tl.load(buffer, mask=inside, other=0.0) * momentum + g * tl.load(term + 2)
        tl.store(buffer, b, mask=inside)
        if tl.load(term + 4) != 0:  # Nesterov
            b = g + b * momentum
        g = b
    p = p - g * tl.load(term)
    tl.store(value, p, mask=inside)
    step = tl.load(term + 7).to(tl.int32)
    _write_through(table, tensor, first, p, inside, seed, step, STOCHASTIC, WHOLE, BLOCK)


@triton.jit(do_not_specialize=["seed"])
def update(
    table, chunks, terms, clip, seed,
    ADAMW: tl.constexpr, CLIP: tl.constexpr, STOCHASTIC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One chunk of one tensor."""
    chunk = chunks + tl.program_id(0).to(tl.int64) * 2
    tensor = tl.load(chunk)
    first = tl.multiple_of(tl.load(chunk + 1), BLOCK)
    term = terms + tensor * _TERMS
    whole = first + BLOCK <= field(table, tensor, _COUNT)
    # Whole, aligned chunks move 16 bytes at a time and need no mask. ADAMW is known when the
    # kernel is compiled.
    if whole & (field(table, tensor, _ALIGNED) != 0):
        if ADAMW:
            _adamw_chunk(table, tensor, first, term, clip, seed, CLIP, STOCHASTIC, True, BLOCK)
        else:
            _sgd_chunk(table, tensor, first, term, clip, seed, CLIP, STOCHASTIC, True, BLOCK)
    else:
        if ADAMW:
            _adamw_chunk(table, tensor, first, term, clip, seed, CLIP, STOCHASTIC, False, BLOCK)
        else:
            _sgd_chunk(table, tensor, first, term, clip, seed, CLIP, STOCHASTIC, False, BLOCK)


# --- launches ------------------------------------------------------------------------------------


def adamw(
    values: Sequence[Tensor], gradients: Sequence[Tensor], exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor], steps: Sequence[Tensor], common: Common, config: Config,
) -> None:  # fmt: skip
    """As reference.adamw."""
    fields = {
        "gradient": [tensor.data_ptr() for tensor in gradients],
        "first": [tensor.data_ptr() for tensor in exp_avgs],
        "second": [tensor.data_ptr() for tensor in exp_avg_sqs],
        "step": [tensor.data_ptr() for tensor in steps],
    }
    _launch(prepare_adamw, values, fields, common, config)


def sgd(
    values: Sequence[Tensor], gradients: Sequence[Tensor], momenta: Sequence[Tensor | None],
    fresh: Sequence[bool], steps: Sequence[Tensor | None], common: Common, config: Config,
) -> None:  # fmt: skip
    """As reference.sgd."""
    fields = {
        "gradient": [tensor.data_ptr() for tensor in gradients],
        "first": [0 if tensor is None else tensor.data_ptr() for tensor in momenta],
        "fresh": [int(flag) for flag in fresh],
        "step": [0 if tensor is None else tensor.data_ptr() for tensor in steps],
    }
    _launch(prepare_sgd, values, fields, common, config)


def _launch(
    prepare: Any, values: Sequence[Tensor], fields: dict[str, list[int]], common: Common,
    config: Config,
) -> None:  # fmt: skip
    if not values:
        return
    device, tensors, BLOCK = values[0].device, len(values), config["BLOCK"]
    count = [tensor.numel() for tensor in values]
    rates = [0 if rate is None else rate.data_ptr() for rate in common.rates]
    fields["value"] = [tensor.data_ptr() for tensor in values]
    fields["group"], fields["number"] = list(common.groups), list(common.numbers)
    fields["rate"] = [rates[group] for group in common.groups]
    with on_device(values[0]):
        table = tensor_table(device, count, fields, common.entries)
        options = number_table(device, [number for row in common.options for number in row])
        chunks = chunk_table(device, count, BLOCK)
        terms = torch.empty(tensors, _TERMS.value, dtype=torch.float32, device=device)
        prepare[(triton.cdiv(tensors, _PREPARE_BLOCK),)](
            table, options, terms, tensors, BLOCK=_PREPARE_BLOCK, enable_fp_fusion=False
        )
        if len(chunks):
            update[(len(chunks),)](
                table, chunks, terms, common.clip, common.seed or 0,
                ADAMW=prepare is prepare_adamw, CLIP=common.clip is not None,
                STOCHASTIC=common.seed is not None, BLOCK=BLOCK,
                num_warps=config["num_warps"], enable_fp_fusion=False,
            )  # fmt: skip
