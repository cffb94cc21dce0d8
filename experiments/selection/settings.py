"""What is compared: data sets, methods, learning rates, seeds, ablations, for both sizes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ABLATIONS", "DENSITIES", "METHODS", "SCALES", "SIZES", "Arm", "Size"]

SCALES = (0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Arm:
    """One line of the table: a method with the options that are not its defaults."""

    name: str
    method: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Size:
    """A set of data sets with their overrides, and what all runs share."""

    data: dict[str, tuple[str, ...]]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    variant_seeds: tuple[int, ...]
    common: tuple[str, ...]


# The upper half of the layers, the depth of every method that has one.
_UPPER = ("training.prefix_cache={cache}",)

METHODS = (
    Arm("sparse", "sparse", _UPPER),
    Arm("sparse_random", "sparse_random", _UPPER),
    Arm("sparse_unweighted", "sparse_unweighted", _UPPER),
    Arm("sparse_magnitude", "sparse_magnitude", _UPPER),
    Arm("layers", "layers", _UPPER),
    Arm("lora_upper", "lora_upper", _UPPER),
    Arm("full", "full"),
    Arm("lora", "lora"),
    Arm("rslora", "rslora"),
    Arm("layers_sensitivity", "layers_sensitivity"),
    Arm("shira", "shira"),
    Arm("bitfit", "bitfit"),
    Arm("prefix", "prefix"),
    Arm("probe", "probe"),
)

# Each takes one ingredient away from, or adds one to, `sparse`, at the rate found for `sparse`.
ABLATIONS = (
    Arm("in-sample scores", "sparse", (*_UPPER, "method.folds=0")),
    Arm("Fisher score", "sparse", (*_UPPER, "method.score=fisher")),
    Arm("scaled Fisher score", "sparse", (*_UPPER, "method.score=scaled_fisher")),
    Arm("first-order score", "sparse", (*_UPPER, "method.score=first_order")),
    Arm("agreement by class", "sparse", (*_UPPER, "method.score=class_agreement")),
    Arm(
        "gradient x input weights",
        "sparse",
        (*_UPPER, "method.saliency=gradient_x_input"),
    ),
    Arm("gradient norm weights", "sparse", (*_UPPER, "method.saliency=gradient_norm")),
    Arm("allocation by score", "sparse", (*_UPPER, "method.allocation=score")),
    Arm(
        "construct weights",
        "sparse",
        (*_UPPER, "constructs=mine", "method.saliency=constructs"),
    ),
    Arm("constructs as tokens", "sparse", (*_UPPER, "constructs=tokens")),
    Arm("every depth", "sparse", ("method.depth=auto",)),
    Arm(
        "depth by marginal worth",
        "sparse",
        (*_UPPER, "method.depth=auto", "method.depth_rule=marginal"),
    ),
    Arm("refresh", "sparse", (*_UPPER, "method.refresh={every: 1, share: 0.1, until: 0.5}")),
    Arm("no cache", "sparse", ()),
    Arm("biases and norms", "sparse", (*_UPPER, "method.biases=true", "method.norms=true")),
    Arm("weak head penalty", "sparse", (*_UPPER, "training.head_warmup_l2=0.001")),
    Arm("averaging", "sparse", (*_UPPER, "training.averaging=tail")),
)

# 5% is `sparse` itself.
DENSITIES = (0.005, 0.01, 0.02, 0.1, 0.2)

_DATA = (
    "trec_fine",
    "banking77",
    "clinc150",
    "semeval2010_task8",
    "tweet_eval_emotion",
    "scicite",
)
_FEW = ("data.validation_rows=200", "data.test_rows=600", "training.batch_size=16")

SIZES = {
    "cpu": Size(
        data={
            "trec_fine": ("data.shots=16", "training.epochs=4"),
            "banking77": ("data.shots=8", "training.epochs=4"),
            "clinc150": ("data.shots=8", "training.epochs=3"),
            "semeval2010_task8": (
                "data.shots=16",
                "training.epochs=5",
                "training.validate_every=2",
            ),
            "tweet_eval_emotion": (
                "data.shots=16",
                "training.epochs=30",
                "training.validate_every=6",
            ),
            "scicite": (
                "data.shots=16",
                "training.epochs=20",
                "training.validate_every=5",
                "model.max_length=64",
            ),
        },
        models=("minilm",),
        seeds=(0, 1, 2, 3, 4),
        variant_seeds=(0, 1, 2),
        common=(*_FEW, "threads=1", "device=cpu"),
    ),
    "gpu": Size(
        data=dict.fromkeys(_DATA, ("training.epochs=5",)),
        models=("minilm", "smollm2"),
        seeds=(0, 1, 2, 3, 4),
        variant_seeds=(0, 1, 2),
        common=("training.batch_size=32", "device=cuda"),
    ),
}
