"""The frozen lower layers of a model: found, run alone, and stood in for by their stored outputs.

The model's own forward runs in every case, so masks, positions and rotary angles are its own. Only
the `forward` of single modules is replaced, for the duration of one call.

Legend: B batch, L tokens of the longest text, H hidden size.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sparseft.errors import ModelError
from sparseft.models.classifier import TextClassifier
from sparseft.selection.layout import ModelLayout, layout_of

__all__ = ["FrozenPrefix"]

# Of a config: what says nothing about how the layers compute.
_NAMES_ONLY = ("architectures", "id2label", "label2id", "problem_type", "transformers_version")

_StandIn = tuple[nn.Module, str, Callable[..., Any]]


class FrozenPrefix:
    """The embeddings and all leading layers of a model that no trained parameter reaches.

    Which layers these are is found by running the model once on two tokens and asking autograd, so
    it holds for every method: layers, sparse units, adapters, trained biases or virtual tokens.

    Attributes:
        layers: how many leading layers are frozen; 0 where there is nothing to store.
        whole: the whole backbone of a `TextClassifier` is frozen. What it hands on is then one
            pooled feature vector per text, not one state per token.
        width: H.
        dtype: of the outputs, under the autocast that was on at construction.

    Args:
        model: a `TextClassifier`, or a transformers model of a known family, with or without
            PEFT's adapters, whose trained parameters are those with `requires_grad`.

    Raises:
        ModelError: the model's shape is not known, or it is compiled (its `forward` could not be
            replaced without compiling anew).
    """

    def __init__(self, model: nn.Module) -> None:
        compiled = any(module._compiled_call_impl is not None for module in model.modules())
        if compiled or hasattr(model, "_orig_mod"):
            raise ModelError(
                "expected a model that is not compiled, got one of torch.compile, which would "
                "compile anew for every batch; use the prefix cache without torch.compile."
            )
        self._model = model
        self._layout = layout_of(model)
        self._layers = [self._layout.modules[layer.module_name] for layer in self._layout.layers]
        self._embeddings = self._layout.modules[_embeddings_name(self._layout)]
        states, features_frozen = _probe(model, self._layers)
        frozen = [not state.requires_grad for state in states]
        self.layers = len(frozen) if all(frozen) else frozen.index(False)
        self.whole = self.layers == len(frozen) and features_frozen
        self.width = int(states[0].shape[-1])
        self.dtype = torch.float32 if self.whole else states[max(self.layers, 1) - 1].dtype
        modules = self._modules()
        self._parameters = [weight for module in modules for weight in module.parameters()]
        self._versions = [weight._version for weight in self._parameters]

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the prefix hands on, in eval mode and without a graph; the layers above do not run.

        Args:
            input_ids: [B, L].
            attention_mask: [B, L], 1 at real tokens.

        Returns:
            [B, L, H], or [B, H] in fp32 where the `whole` backbone is frozen.
        """
        with torch.no_grad(), _evaluating(self._model):
            if self.whole:
                assert isinstance(self._model, TextClassifier)
                return self._model.features(input_ids, attention_mask)
            above: list[_StandIn] = [
                (layer, "forward", _passed) for layer in self._layers[self.layers :]
            ]
            kept: list[Tensor] = []
            hook = self._layers[self.layers - 1].register_forward_hook(
                lambda _module, _inputs, output: kept.append(output)
            )
            try:
                with _replaced(above):
                    self._model(input_ids=input_ids, attention_mask=attention_mask)
            finally:
                hook.remove()
        return kept[0]

    @contextlib.contextmanager
    def replaced(self, states: Tensor) -> Iterator[None]:
        """Within the block the model's forward takes `states` for what its prefix would hand on.

        The embeddings and the frozen layers do not run, so their dropout does not either.

        Args:
            states: as `states` returned them for the batch that the model is called with.

        Raises:
            ModelError: a weight of the prefix changed or is trained by now, or the model is called
                with a batch of another shape.
        """
        self._check_unchanged()

        def stored(*args: Any, **kwargs: Any) -> Tensor:
            ids = kwargs.get("input_ids", args[0] if args else None)
            part = getattr(self._model, "part", None)
            given = states if part is None else states[part[0], : part[1]]
            expected = given.shape[:-1]  # [B, L] or [B]
            if isinstance(ids, Tensor) and ids.shape[: len(expected)] != expected:
                raise ModelError(
                    f"expected the batch whose states are stored, of shape {list(expected)}, got "
                    f"token ids of shape {list(ids.shape)}; call the model with that batch alone."
                )
            return given

        stand_ins: list[_StandIn] = [(self._embeddings, "forward", stored)]
        stand_ins += [(layer, "forward", _passed) for layer in self._layers[: self.layers]]
        if self.whole:
            stand_ins = [(self._model, "features", stored)]
        with _replaced(stand_ins):
            yield

    def digest(self) -> str:
        """SHA-256 of all that decides the prefix's outputs: its weights and the model's config."""
        digest = hashlib.sha256()
        config = self._layout.modules[self._layout.prefix].config
        facts = {
            "config": {
                name: value
                for name, value in config.to_dict().items()  # type: ignore[union-attr,operator]
                if not name.startswith("_") and name not in _NAMES_ONLY
            },
            "attention": getattr(config, "_attn_implementation", None),
            "layers": self.layers,
            "whole": self.whole,
            "pooling": self._model.pooling if isinstance(self._model, TextClassifier) else None,
        }
        digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        for position, module in enumerate(self._modules()):
            tensors = [*module.named_parameters(), *module.named_buffers()]
            for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
                digest.update(f"{position}|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
                data = tensor.detach().to("cpu").contiguous().reshape(-1)
                digest.update(data.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _modules(self) -> list[nn.Module]:
        if self.whole:
            assert isinstance(self._model, TextClassifier)
            return [self._model.backbone]
        return [self._embeddings, *self._layers[: self.layers]]

    def _check_unchanged(self) -> None:
        trained = any(weight.requires_grad for weight in self._parameters)
        if trained or self._versions != [weight._version for weight in self._parameters]:
            raise ModelError(
                f"expected the embeddings and the lower {self.layers} layers as they were when "
                "their outputs were stored, got weights that changed or are trained now; build "
                "the prefix cache again."
            )


def _passed(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def _embeddings_name(layout: ModelLayout) -> str:
    """The backbone's child that turns ids into the first layer's input, norms included."""
    start = f"{layout.prefix}." if layout.prefix else ""
    return start + layout.embeddings.removeprefix(start).split(".")[0]


def _probe(model: nn.Module, layers: list[nn.Module]) -> tuple[list[Tensor], bool]:
    """Every layer's output on two tokens with autograd on; whether pooled features are frozen."""
    device = next(model.parameters()).device
    ids = torch.zeros(1, 2, dtype=torch.int64, device=device)
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        outputs.append(output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    features_frozen = False
    try:
        with torch.enable_grad(), _evaluating(model):
            if isinstance(model, TextClassifier):
                features_frozen = not model.features(ids, torch.ones_like(ids)).requires_grad
            else:
                model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, features_frozen


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode; each module's own mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _replaced(stand_ins: Iterable[_StandIn]) -> Iterator[None]:
    """Set attributes of the modules themselves, over those of their classes; then undo it."""
    pairs = [(module.__dict__, name, function) for module, name, function in stand_ins]
    # Others, such as accelerate, may have put a `forward` of their own there.
    before = [own.get(name) for own, name, _ in pairs]
    for own, name, function in pairs:
        own[name] = function
    try:
        yield
    finally:
        for (own, name, _), old in zip(pairs, before, strict=True):
            if old is None:
                own.pop(name, None)
            else:
                own[name] = old
