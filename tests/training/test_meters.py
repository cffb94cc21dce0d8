"""What a step costs is measured without changing the training."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from sparseft.training.devices import random_state, restore_random_state, unchanged_random_state
from sparseft.training.meters import (
    StepMeter,
    count_flops,
    optimizer_state_bytes,
    tensor_bytes,
)
from tests.tiny import HIDDEN, INTERMEDIATE, LAYERS, tiny, tiny_batch


def test_the_first_steps_are_left_out() -> None:
    meter = StepMeter(skip=2)
    for seconds in (9.0, 9.0, 0.001, 0.002, 0.003, 0.004, 0.005):
        meter.add(seconds)
    summary = meter.summary()
    assert summary["step_ms_median"] == pytest.approx(3.0)
    assert summary["step_ms_p20"] == pytest.approx(1.8)
    assert summary["step_ms_p80"] == pytest.approx(4.2)


def test_a_very_short_training_still_has_a_time() -> None:
    meter = StepMeter(skip=3)
    assert meter.summary()["step_ms_median"] == 0.0
    meter.add(0.002)
    assert meter.summary()["step_ms_median"] == pytest.approx(2.0)


def test_flops_of_a_linear_layer() -> None:
    layer = nn.Linear(8, 16, bias=False)
    x = torch.randn(4, 8, requires_grad=True)
    # Forward, gradient of the input, gradient of the weight: 2 x 4 x 8 x 16 each.
    assert count_flops(layer, lambda: layer(x).sum().backward()) == 3 * 2 * 4 * 8 * 16


def test_flops_of_a_model_with_attention_leave_no_trace() -> None:
    model = tiny("bert").train()
    batch = tiny_batch(model, rows=4, length=7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()

    def step() -> None:
        torch.rand(3)  # stands for dropout
        model(**batch).loss.backward()

    flops = count_flops(model, step)
    tokens = 4 * 7
    linears = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INTERMEDIATE)
    head = 4 * HIDDEN * 3
    # Queries by keys and weights by values forward, and 5 products of that size backward.
    attention = LAYERS * (2 + 5) * 2 * 4 * 7 * 7 * HIDDEN
    # The embeddings are trained too, so every linear's input has a gradient.
    assert flops == 3 * 2 * (tokens * linears + head) + attention
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_probe_costs_a_forward_pass_and_little_more() -> None:
    model = tiny("bert").train()
    batch = tiny_batch(model)
    full = count_flops(model, lambda: model(**batch).loss.backward())
    model.backbone.requires_grad_(False)
    probe = count_flops(model, lambda: model(**batch).loss.backward())
    assert full is not None and probe is not None and probe < 0.4 * full


_PEAK = """
import torch
from sparseft.training.meters import PeakMemory
memory = PeakMemory(torch.device("cpu"))
start = memory.bytes()
block = torch.ones(128, 1024, 1024)
del block
peak = memory.bytes()
assert peak > start + 300e6, (start, peak)
if "training began" in memory.source:
    assert PeakMemory(torch.device("cpu")).bytes() < peak - 300e6
"""


def test_peak_memory_sees_what_was_freed_again_and_starts_anew() -> None:
    # In a process of its own: where the kernel cannot reset the mark, what other tests used counts.
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_optimizer_state_is_two_moments_and_a_counter() -> None:
    parameter = nn.Parameter(torch.ones(10, 3))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    assert optimizer_state_bytes(optimizer) == 0
    parameter.sum().backward()
    optimizer.step()
    assert optimizer_state_bytes(optimizer) == 2 * 30 * 4 + 4
    assert tensor_bytes([parameter, torch.ones(2, dtype=torch.bfloat16)]) == 124


def test_random_state_can_be_put_back() -> None:
    def draw() -> tuple[float, float, float]:
        import random

        return random.random(), float(np.random.rand()), float(torch.rand(()))

    state = random_state()
    first = draw()
    assert draw() != first
    restore_random_state(state)
    assert draw() == first
    restore_random_state(state)
    with unchanged_random_state():
        draw()
    assert draw() == first
