"""The registry, the options of each method, and its ready config."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sparseft.config import RunConfig
from sparseft.errors import ConfigError
from sparseft.methods import get, names, register
from sparseft.methods.base import MethodContext, read_options, upper_layers
from tests.methods.common import context, prepare
from tests.methods.test_methods import BASELINES, WITHOUT_BIASES
from tests.tiny import LAYERS, tiny

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "method"


def test_an_unknown_method_is_told_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"bitfit, .*shira.* got 'sharks'"):
        get("sharks")
    assert list(names()) == sorted(names())


def test_a_name_can_be_taken_only_once() -> None:
    with pytest.raises(ConfigError, match="'full' twice"):
        register("full")(lambda model, context: None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("name", BASELINES)
def test_unknown_options_are_refused_before_the_model_changes(name: str) -> None:
    model = tiny("bert")
    with pytest.raises(ConfigError, match=r"method\.colour"):
        prepare(model, name, colour="red")
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lora", {"r": 0}, r"method\.r above 0"),
        ("lora", {"r": "8"}, r"method\.r to be a int, got '8'"),
        ("lora", {"r": True}, r"method\.r to be a int"),
        ("lora", {"alpha": -1}, r"method\.alpha above 0"),
        ("lora", {"dropout": 1.0}, r"method\.dropout"),
        ("lora", {"dropout": float("nan")}, r"method\.dropout"),
        ("lora_upper", {"depth": 0}, r"method\.depth"),
        ("layers", {"depth": 1.5}, r"method\.depth"),
        ("layers_sensitivity", {"batches": 0}, r"method\.batches"),
        ("shira", {"r": 9}, r"method\.r of at most 8, got 9"),
        ("prefix", {"tokens": 0}, r"method\.tokens"),
        ("prefix", {"init_std": 0.0}, r"method\.init_std"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(tiny("bert"), name, **options)


@pytest.mark.parametrize("family", WITHOUT_BIASES)
def test_bitfit_needs_biases(family: str) -> None:
    with pytest.raises(ConfigError, match="a model with biases"):
        prepare(tiny(family), "bitfit")


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [
        (6, 0.5, [3, 4, 5]),
        (6, 1, [0, 1, 2, 3, 4, 5]),
        (3, 0.5, [1, 2]),
        (6, 0.01, [5]),
        (1, 0.5, [0]),
    ],
)
def test_depth_is_the_share_of_upper_layers(layers: int, depth: float, expected: list[int]) -> None:
    assert list(upper_layers(layers, depth)) == expected


def test_options_keep_the_type_of_their_default() -> None:
    options = read_options({"alpha": 16}, alpha=1.0, flag=False)
    assert options == {"alpha": 16.0, "flag": False}
    assert isinstance(options["alpha"], float)
    with pytest.raises(ConfigError, match="choose from: none"):
        read_options({"x": 1})


@pytest.mark.parametrize("name", BASELINES)
def test_the_ready_config_names_the_method_and_only_its_options(name: str) -> None:
    settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    mapping = {
        "experiment": "e",
        "model": {"name": "minilm"},
        "data": {"name": "intent"},
        "method": settings,
    }
    config = RunConfig.from_mapping(mapping)
    assert config.method["name"] == name
    assert 0 < config.lr <= 0.1
    # Sizes of a tiny model; everything else as the file says.
    small = {"r": 2, "tokens": 3, "batches": 1}
    options = {
        key: small.get(key, value) for key, value in settings.items() if key not in ("name", "lr")
    }
    model = tiny("bert")
    given = MethodContext(context(model, name).batches, 0, LAYERS, options)
    prepared = get(name)(model, given)
    assert (len(prepared.body) == 0) == (name == "probe")
