"""Where a transformer keeps its layers: the one place that knows models by their shape.

Recognition goes by attribute names (duck typing), so this file needs torch alone and also works
for a model inside a wrapper. Families: BERT / RoBERTa / MiniLM, DistilBERT, ModernBERT,
Llama / Qwen2 / Qwen3 / Mistral.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sparseft.errors import ModelError

__all__ = ["LayerLayout", "ModelLayout", "backbone_of", "head_names", "layout_of"]

# Root children that hold a freshly initialised task head in transformers' models and in ours.
_HEADS = ("head", "classifier", "score", "pre_classifier", "qa_outputs")


@dataclass(frozen=True)
class LayerLayout:
    """One transformer layer.

    `linears` maps a role to the full module name, in forward order. Roles: query, key, value or
    qkv (fused: Q, K, V stacked along the output), attention_output; ffn_in (BERT) or ffn_gate and
    ffn_up (Llama) or ffn_fused (input and gate stacked along the output), and ffn_out.
    """

    index: int
    module_name: str
    linears: Mapping[str, str]


@dataclass(frozen=True)
class ModelLayout:
    """The parts of a model that a selection can name.

    `embeddings` is the token embedding's module name; `prefix` the backbone's name inside the
    model ("" when the model is the backbone itself).
    """

    family: str
    prefix: str
    layers: tuple[LayerLayout, ...]
    embeddings: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    modules: Mapping[str, nn.Module] = field(repr=False, compare=False)

    def linear(self, name: str) -> nn.Linear:
        """The `nn.Linear` of that full name."""
        module = self.modules[name]
        if not isinstance(module, nn.Linear):
            raise ModelError(
                f"expected nn.Linear at {name!r}, got {type(module).__name__}; "
                "quantised or adapted layers cannot be trained sparsely, load plain weights."
            )
        return module


@dataclass(frozen=True)
class _Family:
    name: str
    layers: str
    embeddings: str
    roles: Mapping[str, str]


_FAMILIES = (
    _Family(
        "bert",
        "encoder.layer",
        "embeddings.word_embeddings",
        {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "attention_output": "attention.output.dense",
            "ffn_in": "intermediate.dense",
            "ffn_out": "output.dense",
        },
    ),
    _Family(
        "distilbert",
        "transformer.layer",
        "embeddings.word_embeddings",
        {
            "query": "attention.q_lin",
            "key": "attention.k_lin",
            "value": "attention.v_lin",
            "attention_output": "attention.out_lin",
            "ffn_in": "ffn.lin1",
            "ffn_out": "ffn.lin2",
        },
    ),
    _Family(
        "modernbert",
        "layers",
        "embeddings.tok_embeddings",
        {
            "qkv": "attn.Wqkv",
            "attention_output": "attn.Wo",
            "ffn_fused": "mlp.Wi",
            "ffn_out": "mlp.Wo",
        },
    ),
    _Family(
        "llama",
        "layers",
        "embed_tokens",
        {
            "query": "self_attn.q_proj",
            "key": "self_attn.k_proj",
            "value": "self_attn.v_proj",
            "attention_output": "self_attn.o_proj",
            "ffn_gate": "mlp.gate_proj",
            "ffn_up": "mlp.up_proj",
            "ffn_out": "mlp.down_proj",
        },
    ),
)


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the root children that are a task head, such as ("head",) or ("classifier",)."""
    return tuple(name for name, _ in model.named_children() if name in _HEADS)


def backbone_of(model: nn.Module) -> nn.Module:
    """The pretrained part of `model`: the module that holds embeddings and layers.

    Raises:
        ModelError: the model's shape is none of the known families.
    """
    layout = layout_of(model)
    return model.get_submodule(layout.prefix) if layout.prefix else model


def layout_of(model: nn.Module) -> ModelLayout:
    """Find layers, linears, heads and the token embedding of a transformer.

    Raises:
        ModelError: the shape is not one of the known families; the message lists them.
    """
    modules = dict(model.named_modules())
    for prefix, candidate in modules.items():
        for family in _FAMILIES:
            if _fits(candidate, family):
                return _build(prefix, candidate, family, modules)
    known = ", ".join(family.name for family in _FAMILIES)
    raise ModelError(
        f"expected a transformer shaped like one of {known}, got {type(model).__name__}; "
        "add its attribute names to sparseft/selection/layout.py."
    )


def _child(module: nn.Module, path: str) -> nn.Module | None:
    # By registered names, not attributes: PEFT's wrapper answers for those of what it wraps.
    child: nn.Module | None = module
    for name in path.split("."):
        child = child._modules.get(name) if child is not None else None
    return child


def _fits(candidate: nn.Module, family: _Family) -> bool:
    layers = _child(candidate, family.layers)
    if not isinstance(layers, nn.ModuleList) or len(layers) == 0:
        return False
    if not isinstance(_child(candidate, family.embeddings), nn.Embedding):
        return False
    return all(_child(layers[0], path) is not None for path in family.roles.values())


def _build(
    prefix: str, backbone: nn.Module, family: _Family, modules: Mapping[str, nn.Module]
) -> ModelLayout:
    def full(path: str) -> str:
        return f"{prefix}.{path}" if prefix else path

    config: Any = backbone.config
    heads = _first(config, "num_attention_heads", "n_heads")
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    layers_module = backbone.get_submodule(family.layers)
    assert isinstance(layers_module, nn.ModuleList)
    layers = tuple(
        LayerLayout(
            index=index,
            module_name=full(f"{family.layers}.{index}"),
            linears={
                role: full(f"{family.layers}.{index}.{path}") for role, path in family.roles.items()
            },
        )
        for index in range(len(layers_module))
    )
    layout = ModelLayout(
        family=family.name,
        prefix=prefix,
        layers=layers,
        embeddings=full(family.embeddings),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=_width(modules[layers[0].linears["attention_output"]]) // heads,
        modules=modules,
    )
    return layout


def _width(linear: nn.Module) -> int:
    weight = linear.weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[1])


def _first(config: Any, *names: str) -> int:
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return int(value)
    raise ModelError(f"expected one of {names} in the model's config, got none; use a full config.")
