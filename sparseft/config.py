"""The settings of one run: plain frozen dataclasses, checked once, at the border.

Hydra composes a mapping; `RunConfig.from_mapping` turns it into these classes, or says which key is
wrong. Nothing behind that border handles raw mappings (but for `method`, whose options belong to
the method itself) or knows of Hydra.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, Union

from sparseft.errors import ConfigError

__all__ = [
    "ComplianceConfig",
    "ConstructsConfig",
    "DataConfig",
    "DstConfig",
    "EndpointConfig",
    "ExpertConfig",
    "ModelConfig",
    "OutOfScopeConfig",
    "RoutingConfig",
    "RunConfig",
    "TaskConfig",
    "TrackingConfig",
    "TrainingConfig",
]

_Section = TypeVar("_Section")


def _require(valid: bool, key: str, expected: str, got: Any) -> None:
    if not valid:
        raise ConfigError(f"expected {key} to be {expected}, got {got!r}; change {key}.")


def _positive(key: str, value: float | None) -> None:
    _require(value is None or (math.isfinite(value) and value > 0), key, "greater than 0", value)


def _not_negative(key: str, value: float) -> None:
    _require(math.isfinite(value) and value >= 0, key, "0 or greater", value)


@dataclass(frozen=True)
class ModelConfig:
    """Which pretrained model, and how a text becomes one vector."""

    name: str
    source: Literal["embedded", "path", "hub"] = "embedded"
    id: str = "minilm"  # embedded: "minilm" or "smollm2"; path: a folder; hub: a model id
    pooling: Literal["auto", "mean", "last"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_length: int = 128
    revision: str | None = None
    gguf_file: str | None = None
    # of all layers, in training; null: the checkpoint's own. On a CPU drawing it costs as much
    # time as the forward pass.
    dropout: float | None = None
    layers: int | None = None  # only the lowest ones, for a smaller model; null: all

    def __post_init__(self) -> None:
        _positive("model.max_length", self.max_length)
        _positive("model.layers", self.layers)
        if self.dropout is not None:
            _require(0 <= self.dropout < 1, "model.dropout", "in [0, 1), or null", self.dropout)


@dataclass(frozen=True)
class OutOfScopeConfig:
    """Files of texts that belong to no class; their rows get the label "oos"."""

    train: str | None = None
    validation: str | None = None
    test: str | None = None


@dataclass(frozen=True)
class DataConfig:
    """Which texts and labels, and how many of them are used."""

    name: str
    # simulator, abcd and transcripts: of task=compliance; dialogues (built-in ones), multiwoz and
    # turns (a user's own files): of task=dst and task=routing
    kind: Literal[
        "builtin",
        "files",
        "hub",
        "simulator",
        "abcd",
        "transcripts",
        "dialogues",
        "multiwoz",
        "turns",
    ] = "builtin"
    root: str | None = None  # None: ../shared/data beside the checkout or the working directory
    train: str | None = None  # files are relative to `root`, or absolute
    validation: str | None = None
    test: str | None = None
    id: str | None = None  # of a hub data set
    config_name: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    multi_label: bool | Literal["auto"] = "auto"
    out_of_scope: OutOfScopeConfig | None = None
    shots: int | None = None  # training examples of each class
    rows: int | None = None  # training rows in all, stratified
    validation_rows: int | None = None
    test_rows: int | None = None
    validation_share: float = 0.15
    split_seed: int = 0  # of the validation split; the training subset is drawn by the run's seed

    def __post_init__(self) -> None:
        for key in ("shots", "rows", "validation_rows", "test_rows"):
            _positive(f"data.{key}", getattr(self, key))
        _require(
            self.shots is None or self.rows is None,
            "data.shots and data.rows",
            "not both set",
            (self.shots, self.rows),
        )
        _require(
            0 < self.validation_share < 1,
            "data.validation_share",
            "between 0 and 1",
            self.validation_share,
        )


@dataclass(frozen=True)
class ConstructsConfig:
    """Label-informative token groups of the training rows, and how many become tokens."""

    mine: bool = False
    longest: int = 4  # tokens of the longest n-gram
    gap: int = 0  # most tokens inside a gapped pair; 0: no pairs
    min_support: int = 3  # texts that hold a construct
    q: float = 0.05  # the false discovery rate
    score: Literal["log_odds", "mutual_information"] = "log_odds"
    resamples: int = 50  # of the bootstrap behind min_stability
    min_stability: float = 0.5
    limit: int | None = None  # the most constructs
    tokens: int = 0  # the most new tokens of the tokenizer, for any method; 0: none
    rank: Literal["score", "saving"] = "score"  # which constructs become tokens first
    init: Literal["mean", "fitted"] = "fitted"  # of their embedding rows
    contexts: int = 2  # texts of each new token that fitted rows match

    def __post_init__(self) -> None:
        for key in ("longest", "min_support", "limit", "contexts"):
            _positive(f"constructs.{key}", getattr(self, key))
        for key in ("gap", "resamples", "tokens"):
            _not_negative(f"constructs.{key}", getattr(self, key))
        _require(0 < self.q <= 1, "constructs.q", "greater than 0 and at most 1", self.q)
        _require(
            0 <= self.min_stability <= 1,
            "constructs.min_stability",
            "from 0 to 1",
            self.min_stability,
        )
        _require(
            self.mine or not self.tokens,
            "constructs.tokens",
            "0 without constructs.mine",
            self.tokens,
        )


@dataclass(frozen=True)
class ComplianceConfig:
    """How transcripts become records, and what the figures of cost assume."""

    schema: str = "service"  # a shipped schema, or a YAML file
    rules: tuple[str, ...] = ()  # Python modules that register the schema's own rules
    # model: every field is emitted by the model, no rule has a say (an ablation)
    owner: Literal["hybrid", "model"] = "hybrid"
    # encoder: segments are tagged, candidates pointed at; decoder: the record is written as
    # JSON; auto: by the model
    reader: Literal["auto", "encoder", "decoder"] = "auto"
    # of an encoder: each segment in one of its own, whose neighbours the head sees; or several
    # together, up to model.max_length tokens
    windows: Literal["own", "shared"] = "own"
    # rows added to the training rows of the second round; auto: as many again as there are, where
    # the data can make them and there is an epoch for them
    hard_negatives: int | Literal["auto"] = 0
    hard_negative_epochs: int = 2  # the last ones of training.epochs, with those rows
    analysis_batches: int | None = None  # most of those that a method's analysis sees; null: all
    fast_forward: bool = True
    decode_batch: int = 1
    recall_margin: float = 0.5  # the alarm's threshold: this share of the lowest that misses none
    alarm_precision: float = 0.5  # least share of true alarms on validation; else a person looks
    price_per_hour: float | None = None  # of the machine, for the cost of an evaluation
    utilisation: float = 1.0  # share of the paid time that evaluates

    def __post_init__(self) -> None:
        if self.hard_negatives != "auto":
            _not_negative("task.compliance.hard_negatives", self.hard_negatives)
        for key in (
            "hard_negative_epochs",
            "analysis_batches",
            "decode_batch",
            "recall_margin",
            "price_per_hour",
        ):
            _positive(f"task.compliance.{key}", getattr(self, key))
        for key in ("recall_margin", "alarm_precision", "utilisation"):
            value = getattr(self, key)
            _require(
                0 < value <= 1, f"task.compliance.{key}", "greater than 0 and at most 1", value
            )


@dataclass(frozen=True)
class DstConfig:
    """How dialogue states are learned and compared."""

    separator: str | None = "|"  # of several accepted values in the gold
    warmup_rows: int = 1024  # turns that the head is fitted to before any method starts
    validation_dialogues: int = 100

    def __post_init__(self) -> None:
        for key in ("warmup_rows", "validation_dialogues"):
            _positive(f"task.dst.{key}", getattr(self, key))
        _require(self.separator != "", "task.dst.separator", "a text, or null", self.separator)


@dataclass(frozen=True)
class EndpointConfig:
    """An OpenAI-compatible endpoint, and what may be spent there."""

    base_url: str  # mostly ends in /v1
    model: str  # its name there
    key_variable: str | None = "OPENAI_API_KEY"  # that holds the key; null: it needs none
    timeout: float = 60.0  # seconds of an attempt
    concurrency: int = 4  # requests at the same time
    max_tokens: int = 256  # of an answer
    cache: str | None = None  # the folder of responses: nothing is paid for twice; null: none
    max_calls: int | None = None  # retries included
    max_money: float | None = None  # in the currency of the expert's prices

    def __post_init__(self) -> None:
        for key in ("timeout", "concurrency", "max_tokens"):
            _positive(f"endpoint.{key} of an expert", getattr(self, key))
        for key in ("max_calls", "max_money"):
            _not_negative(f"endpoint.{key} of an expert", getattr(self, key) or 0)


# By kind of expert: what it cannot do without.
_EXPERT_KINDS = {
    "recorded": ("file", "system"),
    "tracker": ("delta",),
    "local": ("model",),
    "endpoint": ("endpoint",),
}


@dataclass(frozen=True)
class ExpertConfig:
    """One of the two models that turns are routed between."""

    # recorded: answers of a file; tracker: the delta of a run of task=dst, which answers here;
    # local: a causal language model here; endpoint: one that is asked over HTTP
    kind: Literal["recorded", "tracker", "local", "endpoint"] = "recorded"
    name: str | None = None
    file: str | None = None  # JSONL or parquet; relative to data.root
    system: str | None = None  # of a parquet file with several; alone: of data=multiwoz's own
    delta: str | None = None  # of a tracker, or over a local model; null: that model as it is
    model: ModelConfig | None = None  # a local one's base
    endpoint: EndpointConfig | None = None
    # Operations are counted where both experts' parameters are known, else money.
    parameters: float | None = None  # that a token passes; null: unknown
    prompt_price: float = 0.0  # of a million tokens
    answer_price: float = 0.0
    # Of prompts whose tokens the answers do not give: those beside exemplars and the turn.
    instruction: int = 0
    exemplars: int = 0  # each about as long as the turn

    def __post_init__(self) -> None:
        needed = _EXPERT_KINDS[self.kind]
        _require(
            any(getattr(self, key) for key in needed),
            f"{' or '.join(needed)} of an expert of kind {self.kind}",
            "given",
            None,
        )
        _positive("parameters of an expert", self.parameters)
        for key in ("prompt_price", "answer_price", "instruction", "exemplars"):
            _not_negative(f"{key} of an expert", getattr(self, key))


@dataclass(frozen=True)
class RoutingConfig:
    """Which models, which routers, and how they are compared."""

    small: ExpertConfig | None = None  # null: the data's own, where it has answers
    large: ExpertConfig | None = None
    retriever: str | None = None  # the delta of a finetuned one, of `model`; null: as pretrained
    routers: tuple[str, ...] = ()  # names; none: all that apply
    neighbours: int = 10
    rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    budget: float = 0.5  # wanted share of large calls, one of the rates
    normalise: bool = False  # values brought to one spelling before they are compared
    separator: str | None = "|"  # of several accepted values in the gold
    resamples: int = 1000  # of the bootstrap by dialogue

    def __post_init__(self) -> None:
        for key in ("neighbours", "resamples"):
            _positive(f"task.routing.{key}", getattr(self, key))
        rising = all(low < high for low, high in zip(self.rates, self.rates[1:], strict=False))
        inside = all(0 <= rate <= 1 for rate in self.rates)
        _require(
            len(self.rates) > 1 and rising and inside,
            "task.routing.rates",
            "two or more rising shares from 0 to 1",
            self.rates,
        )
        _require(self.budget in self.rates, "task.routing.budget", "one of the rates", self.budget)
        _require(self.separator != "", "task.routing.separator", "a text, or null", self.separator)


@dataclass(frozen=True)
class TaskConfig:
    """What is learned, and the metric that chooses the best epoch and leads the reports."""

    name: Literal["classification", "compliance", "dst", "routing"] = "classification"
    # auto: accuracy, or micro_f1 where a text may have several labels
    metric: Literal["auto", "accuracy", "macro_f1", "micro_f1"] = "auto"
    compliance: ComplianceConfig | None = None
    dst: DstConfig | None = None
    routing: RoutingConfig | None = None

    def __post_init__(self) -> None:
        for name in ("compliance", "dst", "routing"):
            section = getattr(self, name)
            _require(
                (section is not None) == (self.name == name),
                f"task.{name}",
                f"a section for task={name}, and null for any other",
                section,
            )


@dataclass(frozen=True)
class TrainingConfig:
    """The one training loop that all methods share."""

    epochs: int = 6
    batch_size: int = 16  # rows of one forward; a step sees batch_size x accumulation
    accumulation: int = 1
    max_steps: int | None = None  # ends training early; the schedule is fitted to it
    head_lr: float = 1e-3
    weight_decay: float = 0.0
    warmup_share: float = 0.1
    schedule: Literal["linear", "constant"] = "linear"
    clip_norm: float | None = 1.0
    head_warmup_steps: int = 100  # L-BFGS iterations on frozen features; 0 leaves the head random
    # auto: the strongest of a grid at which the head still predicts 90% of its rows
    head_warmup_l2: float | Literal["auto"] = "auto"
    autocast: Literal["auto", "bfloat16", "off"] = "auto"
    early_stop_patience: int | None = None  # epochs without a better validation score
    validate_every: int = 1  # epochs; the last step is validated in any case
    # The mean of the trained values over the steps, which is then what is validated, tested and
    # saved: ema (exponential), or tail (the mean over the last share of the steps).
    averaging: Literal["off", "ema", "tail"] = "off"
    averaging_decay: float = 0.99  # of ema, for each step
    averaging_share: float = 0.25  # of the steps, for tail
    checkpoint_every: int | None = None  # optimizer steps
    eval_batch_size: int = 64
    gradient_checkpointing: bool = False
    # Outputs of the frozen lower layers, computed once per text: off, memory, or a folder for a
    # memory-mapped file that runs share. Switches off the dropout of those layers.
    prefix_cache: Literal["off", "memory"] | str = "off"
    prefix_cache_dtype: Literal["float32", "bfloat16"] = "float32"
    prefix_cache_max_bytes: int | None = None
    measure_flops: bool = True
    progress: Literal["auto", "on", "off"] = "auto"
    save: Literal["delta", "all", "none"] = "delta"  # delta: of the sparse method only

    def __post_init__(self) -> None:
        for key in (
            "epochs",
            "batch_size",
            "accumulation",
            "max_steps",
            "head_lr",
            "clip_norm",
            "early_stop_patience",
            "validate_every",
            "averaging_share",
            "checkpoint_every",
            "eval_batch_size",
            "prefix_cache_max_bytes",
        ):
            _positive(f"training.{key}", getattr(self, key))
        _require(
            self.prefix_cache != "",
            "training.prefix_cache",
            "off, memory or a folder",
            self.prefix_cache,
        )
        for key in ("weight_decay", "head_warmup_steps"):
            _not_negative(f"training.{key}", getattr(self, key))
        if self.head_warmup_l2 != "auto":
            _not_negative("training.head_warmup_l2", self.head_warmup_l2)
        _require(
            0 <= self.warmup_share < 1,
            "training.warmup_share",
            "at least 0 and less than 1",
            self.warmup_share,
        )
        _require(
            0 < self.averaging_decay < 1,
            "training.averaging_decay",
            "greater than 0 and less than 1",
            self.averaging_decay,
        )
        _require(
            self.averaging_share <= 1,
            "training.averaging_share",
            "at most 1",
            self.averaging_share,
        )


@dataclass(frozen=True)
class TrackingConfig:
    """Weights & Biases; metrics.jsonl and result.json are written in any case."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    project: str = "sparseft"
    entity: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides one run.

    `method` holds its `name`, `lr` and the options that the method itself reads.
    """

    experiment: str
    model: ModelConfig
    data: DataConfig
    method: Mapping[str, Any]
    seed: int = 0
    output: str = "runs"
    device: str = "auto"
    threads: int | None = None
    lr_scale: float = 1.0  # multiplies method.lr; what sweeps tune
    rerun: bool = False  # run again although the result exists
    task: TaskConfig = field(default_factory=TaskConfig)
    constructs: ConstructsConfig = field(default_factory=ConstructsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        for key in ("experiment", "model.name", "data.name", "method.name"):
            section, _, name = key.rpartition(".")
            owner = getattr(self, section) if section else self
            value = owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name)
            # These name folders of the output.
            valid = isinstance(value, str) and value not in ("", ".", "..") and "/" not in value
            _require(valid, key, "a non-empty name without '/'", value)
        lr = self.method.get("lr", 1e-3)
        valid = isinstance(lr, (int, float)) and not isinstance(lr, bool)
        _require(valid and math.isfinite(lr) and lr > 0, "method.lr", "a number above 0", lr)
        _positive("lr_scale", self.lr_scale)
        _positive("threads", self.threads)
        _not_negative("seed", self.seed)

    @property
    def lr(self) -> float:
        """The body's peak learning rate: method.lr x lr_scale."""
        return float(self.method.get("lr", 1e-3)) * self.lr_scale

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> RunConfig:
        """The checked settings in `mapping`.

        Raises:
            ConfigError: a key is unknown or missing, or its value is of another type or range.
        """
        return _section(cls, mapping, "")

    def to_mapping(self) -> dict[str, Any]:
        """The settings as plain, JSON-able mappings; `from_mapping` of it gives an equal config."""
        plain = _plain(self)
        assert isinstance(plain, dict)
        return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _section(cls: type[_Section], mapping: Any, prefix: str) -> _Section:
    name = prefix.rstrip(".") or "the configuration"
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"expected {name} to be a mapping of settings, got {mapping!r}.")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = [str(key) for key in mapping if key not in known]
    if unknown:
        raise ConfigError(
            f"expected only known keys in {name}, got {prefix}{unknown[0]}; "
            f"choose from: {', '.join(sorted(known))}."
        )
    values: dict[str, Any] = {}
    for key, entry in known.items():
        if key in mapping:
            values[key] = _value(hints[key], mapping[key], prefix + key)
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise ConfigError(f"expected a value for {prefix}{key}, got none; set {prefix}{key}.")
    return cls(**values)


def _value(hint: Any, value: Any, key: str) -> Any:
    """`value` as the annotated type `hint`, or a ConfigError that names `key`."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(options, value, key)
    if origin is Literal:
        # YAML 1.1 reads a bare on/off as a boolean.
        if isinstance(value, bool) and ("on" if value else "off") in options:
            return "on" if value else "off"
        if not any(value == option and type(value) is type(option) for option in options):
            raise _unexpected(key, "one of " + ", ".join(map(str, options)), value)
        return value
    if dataclasses.is_dataclass(hint):
        return _section(typing.cast("type[Any]", hint), value, key + ".")
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _unexpected(key, "a list", value)
        return tuple(_value(options[0], item, key) for item in value)
    if origin is Mapping or hint is dict:
        if not isinstance(value, Mapping):
            raise _unexpected(key, "a mapping", value)
        return _plain(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _unexpected(
            key, {str: "a text", int: "a whole number"}.get(hint, hint.__name__), value
        )
    return value


def _union(options: tuple[Any, ...], value: Any, key: str) -> Any:
    if value is None and type(None) in options:
        return None
    rest = [option for option in options if option is not type(None)]
    if len(rest) == 1:
        return _value(rest[0], value, key)
    for option in rest:
        try:
            return _value(option, value, key)
        except ConfigError:
            continue
    raise _unexpected(key, "one of the types " + ", ".join(map(str, rest)), value)


def _unexpected(key: str, expected: str, value: Any) -> ConfigError:
    return ConfigError(f"expected {key} to be {expected}, got {value!r}; change {key}.")
