"""The backward of a sparsified module: the right numbers, and nothing dense."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import sparseft
from sparseft.sparse.modules import SparseLinear
from tests.sparse.helpers import STRUCTURES, analysed, module_selection, selection_by_hand
from tests.tiny import tiny, tiny_batch


class _Stack(nn.Module):
    """Two linears with odd shapes, so that a shape names its tensor."""

    def __init__(self, n: int = 6, k: int = 10, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(k, n, bias=bias, dtype=torch.float64)
        self.second = nn.Linear(n, 5, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())  # type: ignore[no-any-return]


def _dense_reference(model: _Stack, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    x = x.detach().clone().requires_grad_(True)
    model(x).square().sum().backward()
    bias = model.first.bias
    grads = model.first.weight.grad, None if bias is None else bias.grad, x.grad
    model.zero_grad()
    return grads  # type: ignore[return-value]


@settings(deadline=None, max_examples=80)
@given(
    structure=st.sampled_from(STRUCTURES),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    lead=st.sampled_from([(1,), (7,), (2, 3), (0,)]),
    n=st.sampled_from([2, 6]),
    k=st.sampled_from([4, 10]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
    strided=st.booleans(),
)
def test_compact_gradient_is_the_dense_gradient_at_the_selected_entries(
    structure: str, share: float, lead: tuple[int, ...], n: int, k: int, bias: bool,
    seed: int, strided: bool,
) -> None:  # fmt: skip
    model = _Stack(n, k, bias)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*lead, 2 * k, dtype=torch.float64, generator=generator)
    x = x[..., ::2] if strided else x[..., :k].contiguous()
    dense, dense_bias, dense_x = _dense_reference(model, x)
    expected_y = model(x).detach()

    selected = module_selection(model, "first", structure, share, seed, edge=2)
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    inputs = x.detach().clone().requires_grad_(True)
    output = model(inputs)
    assert torch.equal(output, expected_y)
    output.square().sum().backward()

    module = model.first
    assert isinstance(module, SparseLinear)
    assert module.weight.grad is None
    assert module.sparse_values.grad is not None
    wanted = module.sparse_plan.read(dense)
    torch.testing.assert_close(module.sparse_values.grad, wanted)
    torch.testing.assert_close(inputs.grad, dense_x)
    if selected.bias:
        assert dense_bias is not None and module.sparse_bias is not None
        torch.testing.assert_close(module.sparse_bias.grad, dense_bias[module.sparse_plan.index])


class _Shapes(TorchDispatchMode):
    """Records the shape of every tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self.seen.append((str(func), tuple(tensor.shape)))
        return out


def _allocated_in_step(model: nn.Module, x: Tensor, parameters: list[nn.Parameter]) -> _Shapes:
    optimizer = sparseft.optim.SparseAdamW(parameters, lr=1e-2, foreach=False)
    loss = model(x).square().sum()
    with _Shapes() as shapes:
        loss.backward()
        optimizer.step()
    return shapes


@pytest.mark.parametrize("structure", STRUCTURES)
def test_no_tensor_of_the_weights_shape_is_ever_allocated(structure: str) -> None:
    # 46 x 38 occurs nowhere else; a transposed gradient would be 38 x 46.
    n, k = 46, 38
    forbidden = {(n, k), (k, n), (n * k,)}
    model = nn.Sequential(nn.Linear(k, n), nn.Tanh(), nn.Linear(n, 3))
    x = torch.randn(9, k)

    dense = _allocated_in_step(model, x, list(model.parameters()))
    assert any(shape in forbidden for _, shape in dense.seen), "the probe sees dense gradients"

    model.zero_grad()
    selected = module_selection(model, "0", structure, 0.3, edge=2)
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    sparse = _allocated_in_step(model, x, sparseft.trainable(model))
    # Views of W itself (the write-through of blocks and elements) allocate nothing.
    views = ("aten.view.", "aten.detach.", "aten.index_copy_.", "aten.index_put_.", "aten.t.",
             "aten.scatter_.")  # fmt: skip
    made = [(op, s) for op, s in sparse.seen if s in forbidden and not op.startswith(views)]
    assert made == []


def test_embedding_gradient_allocates_no_table() -> None:
    model = nn.Sequential(nn.Embedding(53, 7), nn.Linear(7, 2))
    selected = module_selection(model, "0", "embedding", 0.2)
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    shapes = _allocated_in_step(model, torch.arange(20), sparseft.trainable(model))
    assert not [s for op, s in shapes.seen if s == (53, 7) and "index_copy_" not in op]


@pytest.mark.parametrize("padding_idx", [None, 3])
def test_embedding_gradient_is_the_dense_one(padding_idx: int | None) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(11, 4, padding_idx=padding_idx), nn.Linear(4, 2))

    ids = torch.tensor([[1, 3, 3, 5], [5, 5, 9, 0]])
    dense = build()
    dense(ids).square().sum().backward()
    model = build()
    selected = module_selection(model, "0", "embedding", 1.0)
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    model(ids).square().sum().backward()
    torch.testing.assert_close(model[0].sparse_values.grad, dense[0].weight.grad)  # type: ignore[index]


def test_columns_keep_only_the_selected_inputs_for_backward() -> None:
    model = nn.Sequential(nn.Linear(40, 6, bias=False))
    selected = module_selection(model, "0", "columns", 0.1)
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    saved: list[tuple[int, ...]] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.randn(9, 40))
    assert (9, 4) in saved
    assert (9, 40) not in saved


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_backward_stops_below_the_lowest_selected_layer(family: str) -> None:
    model, selection = analysed(family, depth=0.34, density=0.05)
    assert selection.lowest_layer == 2
    sparseft.sparsify(model, selection)
    layers = list(selection.layer_names)
    graphs: dict[str, bool] = {}
    for name in layers:
        model.get_submodule(name).register_forward_hook(
            lambda _m, _a, out, name=name: graphs.__setitem__(
                name, (out[0] if isinstance(out, tuple) else out).requires_grad
            )
        )
    model(**tiny_batch(model, 3, 6, seed=1)).loss.backward()
    assert [graphs[name] for name in layers] == [False, False, True]


def test_autocast_trains_in_bfloat16_with_float32_masters() -> None:
    model, selection = analysed("bert")
    sparseft.sparsify(model, selection)
    batch = tiny_batch(model, 4, 7, seed=1)
    model(**batch).loss.backward()
    exact = [p.grad.clone() for p in sparseft.trainable(model) if p.grad is not None]
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    rough = [p.grad for p in sparseft.trainable(model)]
    assert all(g is not None and g.dtype == torch.float32 for g in rough)
    error = torch.cat([(a - b).flatten() for a, b in zip(exact, rough, strict=True)])  # type: ignore[operator]
    size = torch.cat([a.flatten() for a in exact])
    assert error.norm() < 0.05 * size.norm()


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_gradient_checkpointing_gives_the_same_gradients(family: str) -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        model, selection = analysed(family)
        sparseft.sparsify(model, selection)
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable()  # type: ignore[operator]
        model(**tiny_batch(model, 4, 7, seed=1)).loss.backward()
        return [p.grad for p in sparseft.trainable(model) if p.grad is not None]

    plain, checkpointed = gradients(False), gradients(True)
    assert len(plain) == len(checkpointed) > 4
    for first, second in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(first, second)


def test_accumulated_gradients_are_the_gradient_of_the_sum() -> None:
    model, selection = analysed("bert")
    sparseft.sparsify(model, selection)
    batch = tiny_batch(model, 4, 7, seed=1)
    model(**batch).loss.backward()
    whole = [p.grad.clone() for p in sparseft.trainable(model)]  # type: ignore[union-attr]
    model.zero_grad()
    for half in (slice(0, 2), slice(2, 4)):
        (model(**{k: v[half] for k, v in batch.items()}).loss / 2).backward()
    for first, parameter in zip(whole, sparseft.trainable(model), strict=True):
        torch.testing.assert_close(parameter.grad, first)


def test_tied_embedding_and_output_matrix_share_their_values() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed = nn.Embedding(11, 4)
            self.out = nn.Linear(4, 11, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(self.embed(ids).tanh())  # type: ignore[no-any-return]

    ids = torch.tensor([[1, 3, 5], [5, 9, 0]])
    dense = Tied()
    dense(ids).square().sum().backward()
    assert dense.embed.weight.grad is not None
    model = Tied()
    selected = module_selection(model, "embed", "embedding", 0.5)
    sparseft.sparsify(model, selection_by_hand(model, [selected]))
    assert len(sparseft.trainable(model)) == 1
    model(ids).square().sum().backward()
    values = sparseft.trainable(model)[0]
    torch.testing.assert_close(values.grad, dense.embed.weight.grad[selected.index])
    sparseft.optim.SparseSGD([values], lr=0.1).step()
    assert model.out.weight is model.embed.weight
    assert torch.equal(model.embed.weight[selected.index], values)
    sparseft.merge(model)
    assert type(model.out) is nn.Linear and type(model.embed) is nn.Embedding
    assert model.out.weight is model.embed.weight


def test_a_tied_embedding_refuses_columns() -> None:
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False))
    model[1].weight = model[0].weight  # type: ignore[assignment]
    selection = selection_by_hand(model, [module_selection(model, "1", "columns", 0.5)])
    with pytest.raises(sparseft.errors.SelectionError, match="tied to the embedding"):
        sparseft.sparsify(model, selection)
    assert type(model[1]) is nn.Linear and type(model[0]) is nn.Embedding


def test_bf16_base_keeps_float32_masters() -> None:
    model = tiny("llama")
    model.backbone.to(torch.bfloat16)
    batch = tiny_batch(model, 4, 7, seed=1)
    selection = sparseft.analyze(model, [batch], budget=sparseft.Budget(density=0.05), depth=1.0)
    sparseft.sparsify(model, selection)
    values = [p for n, p in model.named_parameters() if n.endswith("sparse_values")]
    assert values and all(p.dtype == torch.float32 for p in values)
    optimizer = sparseft.optim.SparseAdamW(values, lr=1e-4)
    before = [p.detach().clone() for p in values]
    model(**batch).loss.backward()
    optimizer.step()
    # Steps far below bf16's resolution are not lost in the masters.
    assert all((a != b).float().mean() > 0.5 for a, b in zip(before, values, strict=True))
    for module in model.modules():
        if isinstance(module, SparseLinear):
            held = module.sparse_plan.read(module.weight.detach())
            assert torch.equal(held, module.sparse_values.detach().to(torch.bfloat16))
