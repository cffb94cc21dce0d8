"""The sentence encoder: one vector a text, whatever it is batched with; the last words count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparseft.config import ModelConfig
from sparseft.routing import Context, Prediction
from sparseft.routing.retriever import SentenceEncoder, load_encoder
from sparseft.routing.texts import query_of, state_text
from tests.tiny import save_tiny_model


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    folder: Path = save_tiny_model(tmp_path_factory.mktemp("encoder"))
    config = ModelConfig(name="tiny", source="path", id=str(folder), max_length=12)
    return load_encoder(config, batch_size=2)


def test_a_text_has_one_vector_of_length_1(encoder: SentenceEncoder) -> None:
    texts = ["word1 word2", "word3", "word1 word2", "word4 word5 word6 word7 word8"]
    together = encoder.embed(texts)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(together[0], together[2])
    encoder.forget()
    alone = np.concatenate([encoder.embed([text]) for text in texts])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    assert encoder.embed([]).shape == (0, together.shape[1])


def test_a_long_text_keeps_its_end(encoder: SentenceEncoder) -> None:
    batch = encoder.encode(["word1 " * 50 + "word2", "word1 " * 49 + "word2"])
    assert batch["input_ids"].shape[1] == 12
    assert batch["input_ids"][0].tolist() == batch["input_ids"][1].tolist()
    other = encoder.encode(["word1 " * 50 + "word3"])["input_ids"][0].tolist()
    assert other != batch["input_ids"][0].tolist()


def test_the_oldest_are_forgotten_first(encoder: SentenceEncoder) -> None:
    small = SentenceEncoder(encoder.backbone, encoder.tokenizer, 12, remember=2)
    small.embed(["word1", "word2"])
    small.embed(["word3"])
    assert list(small._known) == ["word2", "word3"]


def test_a_turn_as_text() -> None:
    context = Context("d", 3, "which area ?", "north", {"hotel-stars": "4", "hotel-area": "x"})
    query = query_of(context)
    assert query.text == "[state] hotel area x, hotel stars 4 [system] which area ? [user] north"
    assert (query.id, query.group, query.confidence, query.answer) == ("d/3", "d", None, None)
    said = query_of(context, Prediction({"hotel-area": "north"}, score=-0.2))
    assert (said.confidence, said.answer) == (-0.2, "hotel area north")
    first = query_of(Context("d", 0, "", "hello", {}))
    assert first.text == "[user] hello" and state_text({}) == ""
