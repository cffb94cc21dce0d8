"""Load a pretrained backbone and its tokenizer, and put a classification head on it."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers import logging as transformers_logging
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from sparseft.errors import ConfigError, ModelError
from sparseft.models.classifier import Pooling, TextClassifier
from sparseft.models.embedded import EMBEDDED, embedded_gguf, embedded_path
from sparseft.models.segments import SegmentLayout, SegmentModel
from sparseft.models.tracker import TrackerLayout, TrackerModel

if TYPE_CHECKING:
    from sparseft.config import ModelConfig

__all__ = [
    "LoadedModel",
    "LoadedSegmentModel",
    "LoadedTracker",
    "is_encoder",
    "load",
    "load_pretrained",
    "load_segments",
    "load_tracker",
]

_log = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What transformers raises for a missing, unreachable, gated, damaged or unknown model.
_LOAD_ERRORS = (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError)


@dataclass(frozen=True)
class LoadedModel:
    """A classifier in eval mode on the CPU, its tokenizer (right padding), and the model's name."""

    model: TextClassifier
    tokenizer: Any
    name: str


@dataclass(frozen=True)
class _Source:
    location: str
    options: dict[str, Any]  # revision, gguf_file
    advice: str


def load(
    config: ModelConfig, num_labels: int, multi_label: bool = False, seed: int = 0
) -> LoadedModel:
    """Load the model that `config` names, with a new head of `num_labels` drawn from `seed`.

    GGUF files are dequantised to `config.dtype`. The pooling "auto" is the mean for encoders and
    the last token for decoders. A pooler layer of the checkpoint is dropped: no pooling here
    uses it, so it would be trained by nothing yet counted as a weight.

    Raises:
        ModelError: the model is missing, unreachable, damaged, or no text encoder or decoder.
        ConfigError: `max_length` is more than the model has positions for.
    """
    backbone, tokenizer = load_pretrained(config, AutoModel, seed)
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    model = TextClassifier(
        backbone, num_labels, pooling=_pooling(backbone, config), multi_label=multi_label, seed=seed
    )
    return LoadedModel(model=model.eval(), tokenizer=tokenizer, name=config.name)


@dataclass(frozen=True)
class LoadedSegmentModel:
    """A reader of segments in eval mode on the CPU, its tokenizer, and the model's name."""

    model: SegmentModel
    tokenizer: Any
    name: str


def load_segments(config: ModelConfig, layout: SegmentLayout, seed: int = 0) -> LoadedSegmentModel:
    """Load the model that `config` names as a reader of segments; its `pooling` is not used.

    Raises:
        ModelError, ConfigError: as `load`.
    """
    backbone, tokenizer = load_pretrained(config, AutoModel, seed)
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    model = SegmentModel(backbone, layout, seed)
    return LoadedSegmentModel(model.eval(), tokenizer, config.name)


@dataclass(frozen=True)
class LoadedTracker:
    """A tracker of dialogue states in eval mode on the CPU, its tokenizer, and the model's name."""

    model: TrackerModel
    tokenizer: Any
    name: str


def load_tracker(config: ModelConfig, layout: TrackerLayout, seed: int = 0) -> LoadedTracker:
    """Load the model that `config` names as a tracker of dialogue states; its `pooling` is not
    used.

    Raises:
        ModelError, ConfigError: as `load`.
    """
    backbone, tokenizer = load_pretrained(config, AutoModel, seed)
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    model = TrackerModel(backbone, layout, seed)
    return LoadedTracker(model.eval(), tokenizer, config.name)


def load_pretrained(config: ModelConfig, kind: Any, seed: int = 0) -> tuple[Any, Any]:
    """The pretrained model as transformers' `kind` (an Auto class) makes it, and its tokenizer.

    Raises:
        ModelError, ConfigError: as `load`.
    """
    source = _source(config)
    try:
        with _quiet_loading(hide_stderr="gguf_file" in source.options and config.source != "hub"):
            # Seeded, because weights that a checkpoint lacks are drawn before they are refused.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model, report = _load_model(source, config, kind)
            tokenizer = AutoTokenizer.from_pretrained(source.location, **source.options)
    except _LOAD_ERRORS as error:
        if isinstance(error, (ModelError, ConfigError)):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"expected a model and tokenizer at {source.location!r}, got: {reason} {source.advice}"
        ) from error
    _check_complete(model, report, source)
    _prepare_tokenizer(tokenizer, source)
    _check_length(model, config.max_length)
    return model, tokenizer


def _source(config: ModelConfig) -> _Source:
    gguf = {"gguf_file": config.gguf_file} if config.gguf_file else {}
    if config.source == "embedded":
        if config.id not in EMBEDDED:
            raise ModelError(
                f"expected an embedded model, one of {', '.join(EMBEDDED)}, got {config.id!r}; "
                "change model.id, or set model.source to path or hub."
            )
        advice = "Reinstall its package."
        if config.id == "smollm2":
            file = embedded_gguf(config.id)
            return _Source(str(file.parent), {"gguf_file": file.name}, advice)
        return _Source(str(embedded_path(config.id)), {}, advice)
    if config.source == "path":
        folder = Path(config.id).expanduser()
        needed = config.gguf_file or "config.json"
        if not (folder / needed).is_file():
            raise ModelError(
                f"expected a folder with {needed} at model.id={config.id!r}, got none; "
                "give the folder that save_pretrained wrote."
            )
        return _Source(str(folder), dict(gguf), "Check the files of that folder.")
    if config.source == "hub":
        options = dict(gguf)
        if config.revision is not None:
            options["revision"] = config.revision
        return _Source(
            config.id,
            options,
            f"Check the id and the connection, run `hf download {config.id}` where there is one "
            "(after `hf auth login` for a gated model), or use model=minilm, which needs no hub.",
        )
    raise ModelError(
        f"expected model.source embedded, path or hub, got {config.source!r}; change it."
    )


def _load_model(
    source: _Source, config: ModelConfig, kind: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    settings = AutoConfig.from_pretrained(source.location, **source.options)
    if getattr(settings, "is_encoder_decoder", False):
        raise ModelError(
            f"expected an encoder or a decoder, got the encoder-decoder {settings.model_type!r} at "
            f"{source.location!r}; choose a BERT-, ModernBERT-, Llama- or Qwen-shaped model."
        )
    if config.dropout is not None:
        for name, value in settings.to_dict().items():
            if "dropout" in name and isinstance(value, (int, float)):
                setattr(settings, name, config.dropout)
    if config.layers is not None:
        _keep_layers(settings, config.layers)
    if "gguf_file" in source.options:
        _log.info("dequantising %s", source.options["gguf_file"])
    model, report = kind.from_pretrained(
        source.location,
        config=settings,
        dtype=_DTYPES[config.dtype],
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # refused below, with their names
        **source.options,
    )
    # One forward of whole texts has no use for a key-value cache.
    model.config.use_cache = False
    return model, report


def _keep_layers(settings: Any, layers: int) -> None:
    whole = int(settings.num_hidden_layers)
    if layers > whole:
        raise ConfigError(
            f"expected model.layers of at most {whole} for this model, got {layers}; set fewer."
        )
    settings.num_hidden_layers = layers
    kinds = getattr(settings, "layer_types", None)  # of models whose layers differ
    if kinds is not None:
        settings.layer_types = list(kinds)[:layers]


def _check_complete(backbone: PreTrainedModel, report: dict[str, Any], source: _Source) -> None:
    mismatched = sorted(report.get("mismatched_keys", ()))
    if mismatched:
        name, found, expected = mismatched[0]
        raise ModelError(
            f"expected {name} of shape {list(expected)} at {source.location!r}, got shape "
            f"{list(found)}: the weights do not belong to its config. {source.advice}"
        )
    missing = sorted(
        name for name in report.get("missing_keys", ()) if not name.startswith("pooler.")
    )
    if missing:
        raise ModelError(
            f"expected every weight of {type(backbone).__name__} at {source.location!r}, got none "
            f"for {len(missing)}, such as {missing[0]!r}; they would be random. {source.advice}"
        )


def _pooling(backbone: PreTrainedModel, config: ModelConfig) -> Pooling:
    if config.pooling != "auto":
        return config.pooling
    return "mean" if _bidirectional(backbone.config) else "last"


def _bidirectional(settings: Any) -> bool:
    return settings.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def is_encoder(config: ModelConfig) -> bool:
    """Whether the model that `config` names reads in both directions.

    Raises:
        ModelError: the model is missing or unreachable.
    """
    source = _source(config)
    try:
        return _bidirectional(AutoConfig.from_pretrained(source.location, **source.options))
    except _LOAD_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"expected a model at {source.location!r}, got: {reason} {source.advice}"
        ) from error


def _prepare_tokenizer(tokenizer: Any, source: _Source) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"expected a fast tokenizer at {source.location!r}, got {type(tokenizer).__name__}; "
            "save a tokenizer.json beside the model."
        )
    # transformers makes an empty tokenizer of a known class where the files are missing.
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise ModelError(
            f"expected a tokenizer's vocabulary at {source.location!r}, got none; "
            "save the tokenizer beside the model."
        )
    if tokenizer.pad_token is None:
        stand_in = tokenizer.eos_token or tokenizer.unk_token
        if stand_in is None:
            raise ModelError(
                f"expected a padding, end or unknown token in the tokenizer at "
                f"{source.location!r}, got none; set its pad_token and save it again."
            )
        # Padding is told apart by the attention mask alone, so its id does not matter.
        tokenizer.pad_token = stand_in
    # With padding behind the text, real tokens keep their positions in every batch.
    tokenizer.padding_side = "right"


def _check_length(backbone: PreTrainedModel, max_length: int) -> None:
    positions = getattr(backbone.config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return
    if backbone.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(backbone.config.pad_token_id) + 1  # those rows are never used by text
    if max_length > positions:
        raise ConfigError(
            f"expected model.max_length of at most {positions} for this model, got {max_length}; "
            "set a smaller model.max_length."
        )


@contextlib.contextmanager
def _quiet_loading(hide_stderr: bool) -> Iterator[None]:
    """No progress bar per weight and no table of unused heads while *we* load.

    Everything is restored after, so other users of transformers in the process notice nothing.
    Download bars of the hub stay. The bar of the GGUF reader has no switch: where its file is
    local, nothing else writes to stderr meanwhile (log handlers keep their own stream).
    """

    def no_bar(factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return factory(*args, **{**kwargs, "disable": True})

    hook = transformers_logging.set_tqdm_hook(no_bar)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()) if hide_stderr else contextlib.nullcontext():
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.set_tqdm_hook(hook)
