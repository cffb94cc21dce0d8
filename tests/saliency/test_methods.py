"""Every saliency behind the one signature: what it is by definition, and what it leaves behind."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from sparseft.constructs import construct_saliency, mine
from sparseft.constructs.mining import MiningSettings
from sparseft.errors import ConfigError, ModelError, SelectionError
from sparseft.saliency import IN_PASS, token_saliency, token_weights
from sparseft.saliency.capture import captured_backward, frozen
from sparseft.saliency.target import target_labels
from sparseft.selection import layout_of
from tests.tiny import DECODERS, FAMILIES, tiny, tiny_batch, tiny_tokenizer

MODEL_METHODS = (
    "gradient_x_input",
    "gradient_norm",
    "integrated_gradients",
    "attention_rollout",
)
GRADIENTS = MODEL_METHODS[:3]


def _first_token(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """Weights on the first real token, and more of it the higher the label."""
    classes = labels if labels.ndim == 1 else labels.sum(1)
    first = (mask.cumsum(1) == 1) & mask.bool()
    return first.float() * (1 + classes[:, None])


def _entry_gradient(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Embeddings and the gradient of each row's cross-entropy by plain autograd: [B, S, d]."""
    kept: list[Tensor] = []
    embedding = layout_of(model).modules[layout_of(model).embeddings]

    def hook(_m: nn.Module, _a: object, out: Tensor) -> Tensor:
        kept.append(out.detach().requires_grad_(True))
        return kept[0]

    handle = embedding.register_forward_hook(hook)
    logits = model(batch["input_ids"], batch["attention_mask"]).logits
    handle.remove()
    loss = nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")
    return kept[0].detach(), torch.autograd.grad(loss, kept[0])[0]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("method", MODEL_METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_normalised_in_every_family(family: str, method: str, side: str) -> None:
    model = tiny(family)
    batch = tiny_batch(model, 4, 7, seed=2, padding_side=side)
    weights = token_saliency(model, batch, method, steps=2, baseline=4)
    mask = batch["attention_mask"].bool()
    assert weights.dtype == torch.float32 and weights.shape == mask.shape
    assert torch.all(weights[~mask] == 0) and torch.all(weights >= 0)
    torch.testing.assert_close(weights.sum(1), mask.sum(1).float())
    assert float(weights[mask].std()) > 0.01


def test_gradient_norm_is_the_length_of_the_gradient() -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 3, 6, seed=1)
    _, gradient = _entry_gradient(model, batch)
    length = gradient.norm(dim=-1) * batch["attention_mask"]
    expected = length / length.sum(1, keepdim=True) * batch["attention_mask"].sum(1, keepdim=True)
    torch.testing.assert_close(token_saliency(model, batch, "gradient_norm"), expected)


@pytest.mark.parametrize("method", [*MODEL_METHODS, "uniform"])
def test_a_row_does_not_depend_on_its_batch(method: str) -> None:
    model = tiny("bert")
    batch = tiny_batch(model, 4, 7, seed=2)
    together = token_saliency(model, batch, method, steps=3)
    for row in range(4):
        alone = token_saliency(
            model, {k: v[row : row + 1] for k, v in batch.items()}, method, steps=3
        )
        torch.testing.assert_close(alone[0], together[row], rtol=1e-3, atol=1e-4)


class TestTarget:
    """The weights are those of the label that was asked for."""

    @pytest.mark.parametrize("method", GRADIENTS)
    def test_a_class_number_is_that_gold_label(self, method: str) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 3, 6, seed=1)
        asked = token_saliency(model, batch, method, target=2, steps=3)
        gold = {**batch, "labels": torch.full((3,), 2)}
        torch.testing.assert_close(asked, token_saliency(model, gold, method, steps=3))
        other = token_saliency(model, batch, method, target=0, steps=3)
        assert not torch.allclose(asked, other, rtol=0.01)

    @pytest.mark.parametrize("method", GRADIENTS)
    def test_predicted_needs_no_labels(self, method: str) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 3, 6, seed=1)
        answer = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(1)
        bare = {k: v for k, v in batch.items() if k != "labels"}
        predicted = token_saliency(model, bare, method, target="predicted", steps=3)
        given = token_saliency(model, bare, method, target=answer, steps=3)
        torch.testing.assert_close(predicted, given)

    def test_of_a_multi_label_model(self) -> None:
        model = tiny("bert", multi_label=True)
        batch = tiny_batch(model, 4, 6, seed=3)
        logits = model(batch["input_ids"], batch["attention_mask"]).logits
        torch.testing.assert_close(target_labels(model, batch, "predicted"), (logits > 0).float())
        for method in GRADIENTS:
            gold = token_saliency(model, batch, method, steps=3)
            torch.testing.assert_close(
                gold, token_saliency(model, batch, method, target=batch["labels"], steps=3)
            )
            # One class asked for alone: the others' logits have no part in it.
            one = token_saliency(model, batch, method, target=1, steps=3)
            changed = copy.deepcopy(model)
            with torch.no_grad():
                changed.head.weight[[0, 2]] += 1.0
            torch.testing.assert_close(
                one, token_saliency(changed, batch, method, target=1, steps=3)
            )
            assert not torch.allclose(one, gold, rtol=0.01)

    def test_refusals(self) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 3, 6, seed=1)
        bare = {k: v for k, v in batch.items() if k != "labels"}
        with pytest.raises(SelectionError, match="batch with labels"):
            token_saliency(model, bare, "integrated_gradients")
        for target in ("gold", -1, True, 1.5, None):
            with pytest.raises(ConfigError, match="label, predicted or a class number"):
                token_saliency(model, batch, target=target)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="class numbers of 0 to 2, got 3"):
            token_saliency(model, batch, target=3)
        with pytest.raises(ConfigError, match=r"expected a target \[3\]"):
            token_saliency(model, batch, target=torch.zeros(2, dtype=torch.int64))
        with pytest.raises(ConfigError, match=r"expected labels \[texts, 3\]"):
            token_saliency(model, batch, target=torch.zeros(3, 5))
        with pytest.raises(ConfigError, match="target 'label' with a loss_fn"):
            token_saliency(model, batch, target=1, loss_fn=lambda m, b: m(**b).loss)
        with pytest.raises(ConfigError, match="got 'magic'"):
            token_saliency(model, batch, "magic")


class TestConstructs:
    """Membership comes from a function, because constructs are above saliency."""

    def test_weights_of_the_target(self) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 3, 6, seed=1)
        weights = token_saliency(model, batch, "constructs", constructs=_first_token)
        mask = batch["attention_mask"]
        expected = torch.zeros(mask.shape)
        expected[:, 0] = mask.sum(1).float()
        torch.testing.assert_close(weights, expected)
        seen: list[Tensor] = []

        def look(ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
            seen.append(labels)
            return _first_token(ids, mask, labels)

        token_saliency(model, batch, "constructs", constructs=look, target=2)
        token_saliency(model, batch, "constructs", constructs=look)
        assert seen[0].tolist() == [2, 2, 2] and torch.equal(seen[1], batch["labels"])

    def test_mined_constructs(self) -> None:
        tokenizer = tiny_tokenizer()
        texts = [f"word1 word2 word{9 + i}" for i in range(8)]
        texts += [f"word3 word4 word{30 + i}" for i in range(8)]
        labels = torch.tensor([0] * 8 + [1] * 8)
        settings = MiningSettings(resamples=0, min_stability=0.0)
        found = mine(texts, labels.numpy(), ["a", "b"], tokenizer, settings)
        encoded = tokenizer(texts, return_tensors="pt", padding=True)
        batch = {k: encoded[k] for k in ("input_ids", "attention_mask")} | {"labels": labels}
        weights = token_saliency(
            tiny("bert", num_labels=2),
            batch,
            "constructs",
            constructs=lambda ids, mask, of: construct_saliency(ids, mask, found, of),
        )
        # [CLS] word word other [SEP]: the two words of the class share the row's five.
        torch.testing.assert_close(weights, torch.tensor([0, 2.5, 2.5, 0, 0]).expand(16, 5))

    def test_refusals(self) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 3, 6, seed=1)
        with pytest.raises(ConfigError, match="expected `constructs`"):
            token_saliency(model, batch, "constructs")
        with pytest.raises(ConfigError, match="construct weights of 0 or more"):
            token_saliency(model, batch, "constructs", constructs=lambda i, m, y: -m.float())
        with pytest.raises(ConfigError, match=r"got \[3\]"):
            token_saliency(model, batch, "constructs", constructs=lambda i, m, y: y.float())


class TestEdges:
    """Short texts, empty ones, half precision."""

    @pytest.mark.parametrize("method", [*MODEL_METHODS, "uniform", "constructs"])
    @pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
    def test_texts_of_one_token_and_rows_of_padding(self, family: str, method: str) -> None:
        model = tiny(family)
        batch = tiny_batch(model, 4, 6, seed=2)
        batch["attention_mask"][1, 1:] = 0  # one token, as the loader makes of an empty text
        batch["attention_mask"][2] = 0  # nothing at all
        weights = token_saliency(model, batch, method, constructs=_first_token, steps=2, baseline=4)
        assert torch.isfinite(weights).all()
        assert weights[1].tolist() == [1.0, 0, 0, 0, 0, 0]
        assert torch.all(weights[2] == 0)
        others = torch.tensor([0, 1, 3])
        alone = {k: v[others] for k, v in batch.items()}
        expected = token_saliency(
            model, alone, method, constructs=_first_token, steps=2, baseline=4
        )
        torch.testing.assert_close(weights[others], expected)

    @pytest.mark.parametrize("method", MODEL_METHODS)
    def test_only_padding(self, method: str) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 2, 4, seed=2)
        batch["attention_mask"][:] = 0
        assert torch.equal(token_saliency(model, batch, method), torch.zeros(2, 4))

    def test_a_target_of_each_row_goes_with_its_row(self) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 3, 6, seed=2)
        batch["attention_mask"][0] = 0
        of_rows = token_saliency(model, batch, target=torch.tensor([0, 1, 2]))
        torch.testing.assert_close(of_rows[1], token_saliency(model, batch, target=1)[1])
        torch.testing.assert_close(of_rows[2], token_saliency(model, batch, target=2)[2])

    @pytest.mark.parametrize("method", MODEL_METHODS)
    @pytest.mark.parametrize("family", ["bert", "llama"])
    def test_bfloat16_weights_are_close_to_those_of_float32(self, family: str, method: str) -> None:
        model = tiny(family)
        batch = tiny_batch(model, 4, 7, seed=2)
        expected = token_saliency(model, batch, method, steps=4, baseline=4)
        model.backbone.to(torch.bfloat16)
        half = token_saliency(model, batch, method, steps=4, baseline=4)
        assert half.dtype == torch.float32
        assert float((half - expected).abs().mean()) < 0.1


class TestWithoutATrace:
    """The model comes back as it was, also after a failure."""

    @pytest.mark.parametrize("method", MODEL_METHODS)
    @pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
    def test_everything_is_restored(self, family: str, method: str) -> None:
        model = tiny(family)
        model.train()
        config = model.backbone.config
        before = {k: v.clone() for k, v in model.state_dict().items()}
        batch = tiny_batch(model, 3, 6, seed=1)
        token_saliency(model, batch, method, steps=2, baseline=4)
        assert config._attn_implementation == "sdpa"  # type: ignore[union-attr]
        assert all(m.training for m in model.modules())
        assert all(p.requires_grad and p.grad is None for p in model.parameters())
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]

    @pytest.mark.parametrize("method", MODEL_METHODS)
    def test_after_a_failure(self, method: str) -> None:
        model = tiny("bert")
        model.train()
        batch = tiny_batch(model, 3, 6, seed=1)
        batch["input_ids"][0, 0] = 10_000
        with pytest.raises(IndexError):
            token_saliency(model, batch, method)
        assert model.backbone.config._attn_implementation == "sdpa"  # type: ignore[union-attr]
        assert all(m.training for m in model.modules())
        assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]


class TestTokenWeights:
    """What analysis calls: a captured pass is used where it can be."""

    def test_a_captured_pass_is_not_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 3, 6, seed=1)
        layout = layout_of(model)
        with frozen(model):
            captured = captured_backward(model, layout, batch, lowest_layer=0)
        expected = {m: token_saliency(model, batch, m) for m in IN_PASS}
        own = token_saliency(model, batch, "attention_rollout")
        other = token_saliency(model, batch, "gradient_norm", target=1)
        passes: list[int] = []
        handle = model.register_forward_hook(lambda *_: passes.append(1))
        for method in IN_PASS:
            weights = token_weights(model, batch, method, captured=captured)
            torch.testing.assert_close(weights, expected[method])
        assert passes == []
        assert torch.equal(token_weights(model, batch, "attention_rollout", captured=captured), own)
        assert len(passes) == 1
        # The captured pass knows gold labels alone.
        weights = token_weights(model, batch, "gradient_norm", captured=captured, target=1)
        torch.testing.assert_close(weights, other)
        handle.remove()

    def test_a_loss_of_ones_own(self) -> None:
        model = tiny("bert")
        batch = tiny_batch(model, 3, 6, seed=1)

        def third_class(net: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
            logits = net(inputs["input_ids"], inputs["attention_mask"]).logits
            return nn.functional.cross_entropy(logits, torch.full((len(logits),), 2))

        for method in GRADIENTS:
            mine_ = token_weights(model, batch, method, loss_fn=third_class, steps=3)
            torch.testing.assert_close(
                mine_, token_saliency(model, batch, method, target=2, steps=3)
            )


def test_a_model_without_logits_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = tiny("bert").backbone

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> object:
            return self.backbone(input_ids=input_ids, attention_mask=attention_mask)

    batch = tiny_batch(tiny("bert"), 2, 5, seed=1)
    with pytest.raises(ModelError, match="expected logits"):
        token_saliency(Bare(), batch, "integrated_gradients")
    # Roll-out reads attention alone; without a pooling of its own an encoder means [CLS].
    assert token_saliency(Bare(), batch, "attention_rollout").shape == (2, 5)


def test_decoders_are_llama_shaped() -> None:
    for family in DECODERS:
        assert layout_of(tiny(family)).family == "llama"
