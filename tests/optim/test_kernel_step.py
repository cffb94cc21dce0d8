"""The optimizers through the kernels: torch.optim.AdamW's numbers on whole sparse models."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparseft
from sparseft.errors import ConfigError
from sparseft.optim import SparseAdamW, SparseSGD
from sparseft.sparse.apply import sparse_modules
from sparseft_kernels import sparse_adamw
from sparseft_kernels.sparse_adamw import ops
from tests.sparse.helpers import module_selection, selection_by_hand

STEPS = 5


class Net(nn.Module):
    """An embedding tied to the output, four linears with one structure each, and a head."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.rows = nn.Linear(8, 10)
        self.columns = nn.Linear(10, 8)
        self.blocks = nn.Linear(8, 8)
        self.elements = nn.Linear(8, 8)
        self.output = nn.Linear(8, 12, bias=False)
        self.output.weight = self.embedding.weight
        self.to(dtype)
        self.head = nn.Linear(12, 3)  # new to the model: float32

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        for name in ("rows", "columns", "blocks", "elements", "output"):
            x = torch.tanh(self.get_submodule(name)(x))
        return self.head(x.float())


def _net(dtype: torch.dtype = torch.bfloat16, device: str | None = None) -> Net:
    torch.manual_seed(0)
    net = Net(dtype).to(device or _device())
    chosen = [
        module_selection(net, name, name if name != "embedding" else "embedding", 0.5, edge=4)
        for name in ("embedding", "rows", "columns", "blocks", "elements")
    ]
    return sparseft.sparsify(net, selection_by_hand(net, chosen, head=("head",)))


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kernels run, interpreted where there is no GPU; how many tensors each launch stepped."""
    monkeypatch.setenv("SPARSEFT_KERNELS", "sparse_adamw=triton")
    seen: list[int] = []
    for name in ("_run_adamw", "_run_sgd"):
        run = getattr(ops, name)

        def counted(values: Any, *rest: Any, run: Any = run) -> None:
            seen.append(len(values))
            run(values, *rest)

        monkeypatch.setattr(ops, name, counted)
    return seen


def _gradients(parameters: list[nn.Parameter], step: int, missing: bool = False) -> None:
    """The same random gradients for equal parameters; every third is missing in odd steps."""
    generator = torch.Generator().manual_seed(100 + step)
    for number, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=generator).to(parameter)
        skipped = missing and step % 2 == 1 and number % 3 == 0
        parameter.grad = None if skipped else gradient


def _groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [
        {"params": parameters[::2], "lr": 1e-2},
        {"params": parameters[1::2], "lr": 3e-2, "weight_decay": 0.2},
    ]


def _holds_its_values(net: nn.Module) -> bool:
    return all(
        torch.equal(module.sparse_plan.read(module.weight), module.sparse_values.to(dtype))
        and (
            module.sparse_bias is None
            or torch.equal(module.bias[module.sparse_plan.index], module.sparse_bias.to(dtype))
        )
        for module in sparse_modules(net).values()
        for dtype in [module.weight.dtype]
    )


Build = Callable[..., torch.optim.Optimizer]
PAIRS: dict[str, tuple[Build, Build, dict[str, Any]]] = {
    "adamw": (SparseAdamW, torch.optim.AdamW, {"betas": (0.8, 0.95)}),
    "sgd": (SparseSGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "sgd-plain": (SparseSGD, torch.optim.SGD, {}),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_five_steps_are_torchs(pair: str, dtype: torch.dtype, launches: list[int]) -> None:
    ours, theirs, options = PAIRS[pair]
    net, other = _net(dtype), _net(dtype)
    mine, reference = sparseft.trainable(net), sparseft.trainable(other)
    assert len(mine) == len(reference) == 8  # five weights, a bias, and the head's two
    optimizer = ours(_groups(mine), **options)
    torchs = theirs(_groups(reference), **options)
    for step in range(STEPS):
        for parameters, stepping in ((mine, optimizer), (reference, torchs)):
            _gradients(parameters, step, missing=True)
            stepping.step()
        assert _holds_its_values(net)
    assert launches == [8, 5] * (STEPS // 2) + [8], "one launch for all tensors of the model"
    torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)
    for p, q in zip(mine, reference, strict=True):
        own, their = optimizer.state[p], torchs.state[q]
        assert own.keys() == their.keys()
        for name in own:
            torch.testing.assert_close(own[name], their[name], rtol=1e-5, atol=1e-7)


def test_training_follows_torch_and_a_tied_weight_is_written_once(launches: list[int]) -> None:
    nets = [_net(), _net()]
    built = [SparseAdamW, torch.optim.AdamW]
    optimizers = [
        kind(sparseft.trainable(net), lr=1e-2) for kind, net in zip(built, nets, strict=True)
    ]
    ids = torch.arange(12, device=_device()).view(3, 4)
    for net, optimizer in zip(nets, optimizers, strict=True):
        for _ in range(3):
            optimizer.zero_grad()
            net(ids).square().sum().backward()
            optimizer.step()
    assert len(launches) == 3
    for (name, p), q in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-2, atol=1e-3, msg=name)
    # No module thinks that its weight is behind: a forward would write it again.
    for module in sparse_modules(nets[0]).values():
        version = module.weight._version
        module.sync()
        assert module.weight._version == version


@pytest.mark.parametrize("to_ours", [True, False])
@pytest.mark.parametrize("pair", ["adamw", "sgd"])
def test_checkpoints_are_torchs_both_ways(pair: str, to_ours: bool, launches: list[int]) -> None:
    ours, theirs, options = PAIRS[pair]
    first, second = (theirs, ours) if to_ours else (ours, theirs)

    def run(before: Build, after: Build) -> list[nn.Parameter]:
        net = _net()
        parameters = sparseft.trainable(net)
        optimizer = before(_groups(parameters), **options)
        for step in range(4):
            if step == 2:
                saved = io.BytesIO()
                torch.save(optimizer.state_dict(), saved)
                saved.seek(0)
                optimizer = after(_groups(parameters), **options)
                optimizer.load_state_dict(torch.load(saved))
            _gradients(parameters, step)
            optimizer.step()
        return parameters

    torch.testing.assert_close(run(first, second), run(theirs, theirs), rtol=1e-5, atol=1e-6)
    assert len(launches) == 2


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("limit", [0.5, 1e6])
@pytest.mark.parametrize("pair", ["adamw", "sgd"])
def test_clipping_is_torchs(
    pair: str, limit: float, kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSEFT_KERNELS", "triton" if kernel else "reference")
    ours, theirs, options = PAIRS[pair]
    net, other = _net(), _net()
    mine, reference = sparseft.trainable(net), sparseft.trainable(other)
    optimizer = ours(_groups(mine), max_grad_norm=limit, **options)
    torchs = theirs(_groups(reference), **options)
    for step in range(3):
        _gradients(mine, step, missing=True)
        _gradients(reference, step, missing=True)
        norm = torch.nn.utils.clip_grad_norm_(reference, limit)
        optimizer.step()
        torchs.step()
        assert isinstance(optimizer, SparseAdamW | SparseSGD)
        torch.testing.assert_close(optimizer.grad_norm, norm)
    torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)


def test_the_norm_is_that_of_all_parameters_also_when_torch_steps_some(
    launches: list[int],
) -> None:
    def build(kind: Build, **options: Any) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
        torch.manual_seed(0)
        values = [nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(4).double())]
        values.append(nn.Parameter(torch.randn(3).bfloat16()))
        values = [nn.Parameter(v.detach().to(_device())) for v in values]
        return values, kind(values, lr=1e-2, **options)

    mine, optimizer = build(SparseAdamW, max_grad_norm=0.1)
    reference, torchs = build(torch.optim.AdamW)
    for step in range(3):
        _gradients(mine, step)
        _gradients(reference, step)
        torch.nn.utils.clip_grad_norm_(reference, 0.1)
        optimizer.step()
        torchs.step()
    assert launches == [1, 1, 1], "float64 and bfloat16 values are torch's"
    torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)
    assert [len(group["params"]) for group in optimizer.param_groups] == [3]


@pytest.mark.parametrize("kind", [SparseAdamW, SparseSGD])
def test_stochastic_rounding_gives_the_same_bits_by_kernel_and_reference(
    kind: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(implementation: str, seed: int, interrupt: bool = False) -> tuple[Tensor, ...]:
        monkeypatch.setenv("SPARSEFT_KERNELS", implementation)
        net = _net()
        parameters = sparseft.trainable(net)
        options = {"lr": 1e-3, "rounding": "stochastic", "seed": seed}
        optimizer = kind(_groups(parameters), **options)
        for step in range(3):
            if interrupt and step == 2:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = kind(_groups(parameters), **options)
                optimizer.load_state_dict(state)
            _gradients(parameters, step)
            optimizer.step()
            # No forward may round them anew.
            for module in sparse_modules(net).values():
                module.sync()
        modules = sparse_modules(net).values()
        found = [m.weight.detach().cpu() for m in modules] + [p.detach().cpu() for p in parameters]
        return tuple(found)

    first = run("triton", seed=3)
    for other in (run("reference", 3), run("triton", 3, interrupt=True), run("auto", 3)):
        for p, q in zip(first, other, strict=True):
            assert torch.equal(p, q)
    other = run("reference", seed=4)
    weights = len(first) // 2 - 1
    assert not all(torch.equal(p, q) for p, q in zip(first[:weights], other, strict=False))


def test_small_steps_move_a_bfloat16_weight_in_the_mean_alone() -> None:
    """Each step is a hundredth of what bfloat16 can hold; to nearest, the weight never moves."""
    moved = {}
    for rounding in ("nearest", "stochastic"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 64, bias=False)).to(torch.bfloat16)
        with torch.no_grad():
            net[0].weight.fill_(1.0)
        sparseft.sparsify(net, selection_by_hand(net, [module_selection(net, "0", "rows", 1.0)]))
        optimizer = SparseSGD(sparseft.trainable(net), lr=2**-7 / 100, rounding=rounding)
        for _ in range(20):
            net[0].sparse_values.grad = -torch.ones(64, 64)
            optimizer.step()
        moved[rounding] = float((net[0].weight.float() - 1.0).mean())
    assert moved["nearest"] == 0.0
    assert moved["stochastic"] == pytest.approx(0.2 * 2**-7, rel=0.1)


def test_disabled_weights_are_left_alone_and_written_when_the_delta_is_back(
    launches: list[int],
) -> None:
    net = _net()
    parameters = sparseft.trainable(net)
    optimizer = SparseAdamW(parameters, lr=1e-2)
    with sparseft.disabled(net):
        base = [module.weight.detach().clone() for module in sparse_modules(net).values()]
        _gradients(parameters, 0)
        optimizer.step()
        for module, weight in zip(sparse_modules(net).values(), base, strict=True):
            assert torch.equal(module.weight, weight)
    assert launches == [8]
    assert _holds_its_values(net)


def test_options_only_torch_has_are_torchs(launches: list[int]) -> None:
    for options in (
        {"amsgrad": True}, {"maximize": True}, {"foreach": True}, {"foreach": False},
        {"fused": False},
    ):  # fmt: skip
        net, other = _net(), _net()
        mine, reference = sparseft.trainable(net), sparseft.trainable(other)
        optimizer = SparseAdamW(mine, lr=1e-2, **options)
        torchs = torch.optim.AdamW(reference, lr=1e-2, **options)
        for step in range(2):
            _gradients(mine, step)
            _gradients(reference, step)
            optimizer.step()
            torchs.step()
        assert launches == [], options
        for p, q in zip(mine, reference, strict=True):
            assert torch.equal(p, q)
        assert _holds_its_values(net)


def test_a_learning_rate_that_is_a_tensor_and_a_schedule(launches: list[int]) -> None:
    results = []
    for kind in (SparseAdamW, torch.optim.AdamW):
        parameters = sparseft.trainable(_net())
        rate = torch.tensor(1e-2, device=_device())
        optimizer = kind(parameters, lr=rate, **({"fused": True} if _device() == "cuda" else {}))
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=3)
        for step in range(3):
            _gradients(parameters, step)
            optimizer.step()
            schedule.step()
        results.append(parameters)
    assert len(launches) == 3
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


def test_hooks_run_once_also_after_a_plain_optimizer_was_made() -> None:
    torch.optim.AdamW([nn.Parameter(torch.ones(1))])
    parameter = nn.Parameter(torch.ones(3))
    optimizer = SparseAdamW([parameter])
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert seen == ["before", "after"]


def test_copies_keep_their_options() -> None:
    optimizer = SparseAdamW(
        [nn.Parameter(torch.ones(3))], max_grad_norm=2.0, rounding="stochastic", seed=9
    )
    other = copy.deepcopy(optimizer)
    assert (other.max_grad_norm, other.rounding, other.seed) == (2.0, "stochastic", 9)


class TestRefusals:
    """One clear error, before anything is changed."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rounding": "up"}, r"expected rounding of \('nearest', 'stochastic'\), got 'up'"),
            ({"seed": -1}, r"expected a seed in \[0, 2\^63\)"),
            ({"max_grad_norm": 0.0}, "expected max_grad_norm above 0"),
            ({"max_grad_norm": 1.0, "differentiable": True}, "with differentiable=True"),
            ({"rounding": "stochastic", "amsgrad": True}, "got amsgrad=True"),
            ({"rounding": "stochastic", "maximize": True}, "got maximize=True"),
            ({"rounding": "stochastic", "foreach": True}, "got foreach=True"),
            ({"rounding": "stochastic", "fused": False}, "got fused=False"),
        ],
    )
    def test_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            SparseAdamW([nn.Parameter(torch.ones(3))], **options)

    def test_stochastic_rounding_into_float16(self) -> None:
        net = _net(torch.float16)
        parameters = sparseft.trainable(net)
        before = [parameter.detach().clone() for parameter in parameters]
        optimizer = SparseAdamW(parameters, lr=1e-2, rounding="stochastic")
        _gradients(parameters, 0)
        with pytest.raises(ConfigError, match=r"got weights of torch\.float16"):
            optimizer.step()
        assert all(torch.equal(p, q) for p, q in zip(parameters, before, strict=True))
        assert not optimizer.state

    def test_stochastic_rounding_of_float64_values(self) -> None:
        net = _net(torch.float64)
        parameters = sparseft.trainable(net)
        optimizer = SparseSGD(parameters, lr=1e-2, rounding="stochastic")
        _gradients(parameters, 0)
        with pytest.raises(ConfigError, match=r"got values of torch\.float64"):
            optimizer.step()

    def test_scaled_gradients(self) -> None:
        # As GradScaler leaves it with fused optimizers.
        optimizer = SparseAdamW([nn.Parameter(torch.ones(3))], max_grad_norm=1.0)
        optimizer.grad_scale = torch.tensor(2.0)
        with pytest.raises(ConfigError, match=r"call scaler\.unscale_"):
            optimizer.step()
        optimizer = SparseAdamW([nn.Parameter(torch.ones(3))], rounding="stochastic")
        optimizer.found_inf = torch.tensor(1.0)
        with pytest.raises(ConfigError, match="without fused=True"):
            optimizer.step()


def test_a_step_that_a_scaler_found_infinite_is_skipped(launches: list[int]) -> None:
    parameter = nn.Parameter(torch.ones(3, device=_device()))
    optimizer = SparseAdamW([parameter], fused=True)
    for found in (1.0, 0.0):
        parameter.grad = torch.ones_like(parameter)
        optimizer.found_inf = torch.tensor(found, device=_device())
        optimizer.grad_scale = None
        before = parameter.detach().clone()
        optimizer.step()
        assert torch.equal(parameter, before) == bool(found)
    assert launches == []


@pytest.mark.gpu
class TestOnCuda:
    """The default there; and a step inside a CUDA graph."""

    def test_the_kernel_is_the_default(self) -> None:
        parameters = sparseft.trainable(_net())
        decision = sparse_adamw.decide("adamw", parameters, [None] * len(parameters))
        assert decision.implementation == "triton"

    def test_capturing_needs_capturable(self) -> None:
        parameters = sparseft.trainable(_net())
        optimizer = SparseAdamW(parameters)
        _gradients(parameters, 0)
        optimizer.step()
        with (
            pytest.raises(ConfigError, match="expected capturable=True"),
            torch.cuda.graph(torch.cuda.CUDAGraph()),
        ):
            optimizer.step()

    @pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
    def test_replayed_steps_are_eager_ones(self, rounding: str) -> None:
        results = []
        for captured in (False, True):
            net = _net()
            parameters = sparseft.trainable(net)
            optimizer = SparseAdamW(
                parameters, lr=torch.tensor(1e-2, device="cuda"), capturable=True,
                max_grad_norm=0.5, rounding=rounding,
            )  # fmt: skip
            _gradients(parameters, 0)
            optimizer.step()
            step: Callable[[], Any] = optimizer.step
            if captured:
                for parameter in parameters:  # gradients at other places than in the first step
                    parameter.grad = torch.empty_like(parameter)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    optimizer.step()
                step = graph.replay
            for number in range(1, 4):
                held = [parameter.grad for parameter in parameters]
                _gradients(parameters, number)
                if captured:
                    for parameter, gradient in zip(parameters, held, strict=True):
                        gradient.copy_(parameter.grad)  # type: ignore[union-attr]
                        parameter.grad = gradient
                optimizer.param_groups[0]["lr"].fill_(1e-2 / number)
                step()
            results.append([*parameters, *(m.weight for m in sparse_modules(net).values())])
        for found, expected in zip(*results, strict=True):
            assert torch.equal(found, expected)
