"""A local model's answers: greedy as without a cache, the same in any batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sparseft import sparse
from sparseft.config import ModelConfig
from sparseft.errors import ConfigError, DeltaError
from sparseft.models import AnswerModel, LoadedLanguageModel, load_language
from sparseft.routing import Expert
from sparseft.routing.experts.local import LanguageModelExpert, load_language_expert
from tests.routing.experts.cases import SLOTS, context
from tests.sparse.helpers import module_selection, selection_by_hand
from tests.tiny import save_tiny_language_model, tiny_byte_tokenizer, tiny_language_model

_TURNS = [context(n, user="in the north please " * (n % 4)) for n in range(6)]


class _Parrot(nn.Module):
    """Says one text, each token with probability 1/2, whatever the prompt."""

    def __init__(self, text: str) -> None:
        super().__init__()
        tokenizer = tiny_byte_tokenizer()
        self.said = [*tokenizer(text).input_ids, tokenizer.eos_token_id]
        self.size, self.step = len(tokenizer), 0
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(max_position_embeddings=4096)

    @property
    def backbone(self) -> nn.Module:
        return self

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        self.step = 0 if input_ids.shape[1] > 1 else self.step + 1
        return SimpleNamespace(last_hidden_state=torch.zeros(*input_ids.shape, 1))

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        # One token has as much as all others together.
        logits = torch.zeros(*hidden.shape[:-1], self.size)
        logits[..., self.said[self.step]] = torch.log(torch.tensor(self.size - 1.0))
        return logits


def _parrot(text: str, **options: Any) -> LanguageModelExpert:
    model: Any = _Parrot(text)
    loaded = LoadedLanguageModel(model, tiny_byte_tokenizer(), "parrot")
    return LanguageModelExpert(loaded, SLOTS, **options)


def _tiny(**options: Any) -> LanguageModelExpert:
    loaded = LoadedLanguageModel(AnswerModel(tiny_language_model()), tiny_byte_tokenizer(), "tiny")
    return LanguageModelExpert(loaded, SLOTS, **{"max_tokens": 12, **options})


def test_an_answer_becomes_a_delta_with_its_mean_log_probability() -> None:
    text = '{"hotel-area": "north"}'
    expert = _parrot(text, trained_on=frozenset({"x"}))
    assert isinstance(expert, Expert)
    assert (expert.name, expert.trained_on) == ("parrot", frozenset({"x"}))
    for found in expert.predict(_TURNS):
        assert found.delta == {"hotel-area": "north"} and not found.problem
        assert found.score == pytest.approx(-0.6931472)
        assert found.answer_tokens == len(text) and found.seconds > 0


@pytest.mark.parametrize("text", ["", "north!", '{"hotel-colour": "red"}'])
def test_an_answer_that_is_no_delta_is_a_problem(text: str) -> None:
    (found,) = _parrot(text).predict(_TURNS[:1])
    assert found.problem and found.delta == {} and found.score is None
    assert found.notes["answer"] == text


def test_an_answer_ends_at_the_limit() -> None:
    (found,) = _parrot('{"hotel-area": "north"}', max_tokens=5).predict(_TURNS[:1])
    assert found.answer_tokens == 5 and found.problem


@torch.inference_mode()
def _slowly(prompt: list[int], most: int) -> list[int]:
    """Greedy by whole forward passes of transformers' own model."""
    model, tokens, end = tiny_language_model(), list(prompt), tiny_byte_tokenizer().eos_token_id
    while len(tokens) - len(prompt) < most:
        token = int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
        if token == end:
            break
        tokens.append(token)
    return tokens[len(prompt) :]


def test_answers_are_those_of_whole_forward_passes_in_any_batch() -> None:
    tokenizer = tiny_byte_tokenizer()
    by_size = [_tiny(batch_size=size).predict(_TURNS) for size in (1, 2, 8)]
    for place, turn in enumerate(_TURNS):
        expert = _tiny()
        prompt = expert._tokens(expert._prompt.messages(turn))
        wanted = tokenizer.decode(_slowly(prompt, 12), skip_special_tokens=True)
        for found in by_size:
            assert found[place].notes["answer"] == wanted
            assert found[place].prompt_tokens == len(prompt)


def test_a_prompt_that_does_not_fit_is_a_problem_of_its_turn_alone() -> None:
    expert = _parrot("{}", max_length=1200, max_tokens=10)
    short, long = expert.predict([context(), context(1, user="word " * 300)])
    assert not short.problem
    assert "at most 1190 tokens" in long.problem and long.prompt_tokens > 1190


def test_no_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="room for a prompt"):
        _parrot("{}", max_length=10, max_tokens=10)
    with pytest.raises(ConfigError, match="batch_size"):
        _parrot("{}", batch_size=0)


def test_a_chat_template_writes_the_prompt_where_there_is_one() -> None:
    tokenizer = tiny_byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    model: Any = _Parrot("{}")
    expert = LanguageModelExpert(LoadedLanguageModel(model, tokenizer, "p"), SLOTS)
    messages = expert._prompt.messages(context())
    text = "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"
    assert tokenizer.decode(expert._tokens(messages)) == text


def _delta(folder: Path, base: AnswerModel) -> AnswerModel:
    """Half of the rows of one weight changed, and saved."""
    name = next(n for n, m in base.named_modules() if n.endswith("down_proj"))
    sparse.sparsify(base, selection_by_hand(base, [module_selection(base, name, "rows", 0.5)]))
    with torch.no_grad():
        for values in sparse.trainable(base):
            values.add_(1.0)
    sparse.sync(base)
    sparse.save_delta(base, folder)
    return base.eval()


def test_a_delta_changes_the_answers_and_belongs_to_its_base(tmp_path: Path) -> None:
    config = ModelConfig("tiny", source="path", id=str(save_tiny_language_model(tmp_path / "lm")))
    loaded = load_language(config)
    changed = LoadedLanguageModel(
        _delta(tmp_path / "delta", loaded.model), loaded.tokenizer, "changed"
    )
    said = [
        [found.notes["answer"] for found in expert.predict(_TURNS)]
        for expert in (
            LanguageModelExpert(changed, SLOTS, max_tokens=8),
            load_language_expert(config, SLOTS, delta=tmp_path / "delta", max_tokens=8),
            load_language_expert(config, SLOTS, max_tokens=8),
        )
    ]
    assert said[0] == said[1] != said[2]
    other = save_tiny_language_model(tmp_path / "other", seed=1)
    with pytest.raises(DeltaError, match="base"):
        load_language_expert(
            ModelConfig("tiny", source="path", id=str(other)), SLOTS, delta=tmp_path / "delta"
        )
