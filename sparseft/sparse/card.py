"""The model card that lies beside a delta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparseft.selection.selection import Selection

__all__ = ["model_card"]


def model_card(selection: Selection, config: Mapping[str, Any], size: int) -> str:
    """Markdown: what the delta is, what it changes, how to load it."""
    extra = config.get("extra", {})
    model = extra.get("model", {}) if isinstance(extra, Mapping) else {}
    labels = extra.get("label_names", []) if isinstance(extra, Mapping) else []
    metrics = extra.get("metrics", {}) if isinstance(extra, Mapping) else {}
    base = model.get("id") or model.get("name") or config["base_class"]
    info = dict(selection.info)
    units = ", ".join(f"{n} {kind}s" for kind, n in selection.units_by_kind().items())
    if selection.vectors:
        units += f", {sum(v.trained for v in selection.vectors):,} numbers of biases and norms"
    lines = [
        f"# A sparse delta of {base}",
        "",
        f"{selection.trained:,} of {selection.backbone_parameters:,} pretrained numbers "
        f"({selection.density:.2%}) were trained in place: {units}, "
        f"from layer {selection.lowest_layer} of {selection.num_layers} upwards. "
        f"The file holds {size / 1e6:.2f} MB. {_added(config)}",
        "",
        f"- base weights: SHA-256 `{selection.base_hash}` (head left out)",
        f"- budget: `{info.get('budget')}`, token saliency: `{info.get('saliency')}`, "
        f"control: `{info.get('control')}`",
    ]
    if labels:
        shown = ", ".join(map(str, labels[:12])) + (" …" if len(labels) > 12 else "")
        lines.append(f"- labels ({len(labels)}): {shown}")
    lines.extend(f"- {name}: {value}" for name, value in sorted(metrics.items()))
    lines += [
        "",
        "```python",
        "import sparseft",
        "",
        "sparseft.load_delta(model, 'THIS_FOLDER')  # model: the base, with a head of this size",
        "```",
        "",
        *_tokenizer(config),
        'or `python -m sparseft.predict THIS_FOLDER "a text"`.',
        "",
    ]
    return "\n".join(lines)


def _added(config: Mapping[str, Any]) -> str:
    count = config.get("added_tokens", 0)
    if not count:
        return "Nothing is added to the model."
    return (
        f"It also holds embedding rows of {count} tokens that the base model lacks; they are "
        "frozen unless they are among the trained numbers. Nothing else is added to the model."
    )


def _tokenizer(config: Mapping[str, Any]) -> list[str]:
    """How the tokens that were added come into the base's tokenizer."""
    if not config.get("added_tokens", 0):
        return []
    return [
        "```python",
        "from sparseft.constructs import tokenizer_of",
        "",
        "tokenizer = tokenizer_of('THIS_FOLDER', tokenizer)  # tokenizer: the base's own",
        "```",
        "",
    ]
