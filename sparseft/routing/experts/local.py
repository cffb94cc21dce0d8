"""An expert on this machine: a causal language model that answers the same prompt.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from sparseft import models, sparse
from sparseft.compliance.decoding.steps import Stepper
from sparseft.config import ModelConfig
from sparseft.errors import ConfigError, DataError
from sparseft.routing.expert import Prediction
from sparseft.routing.experts.answers import parse_answer
from sparseft.routing.experts.prompt import Demonstration, Message, Prompt
from sparseft.routing.turns import Context

__all__ = ["LanguageModelExpert", "load_language_expert"]


@dataclass
class _Row:
    """One prompt's answer as it grows."""

    waiting: list[int]
    tokens: list[int] = field(default_factory=list)
    log_probability: float = 0.0
    done: bool = False


class LanguageModelExpert:
    """Answers greedily, turns of like length together.

    The score is the mean log-probability of the answer's tokens, its end token left out, as
    endpoints count them. A prompt that does not fit is a `problem`, not cut: the slots stand at its
    beginning and the turn at its end.

    Args:
        loaded: the model, in eval mode on any device, and its tokenizer.
        slots: known slots with descriptions.
        demonstrations: turns with deltas, shown in the prompt.
        max_length: tokens of prompt and answer; None: as many as the model has positions for.
        max_tokens: of an answer.
        batch_size: turns that are answered together.
        trained_on: ids of the dialogues that the model was trained on.
        name: for records; the model's by default.

    Raises:
        ConfigError: a length that leaves no room for a prompt, or there is no slot.
    """

    def __init__(
        self,
        loaded: models.LoadedLanguageModel,
        slots: Mapping[str, str],
        *,
        demonstrations: Sequence[Demonstration] = (),
        max_length: int | None = None,
        max_tokens: int = 128,
        batch_size: int = 8,
        trained_on: frozenset[str] = frozenset(),
        name: str | None = None,
    ) -> None:
        self.name = name or loaded.name
        self.trained_on = trained_on
        self._model, self._tokenizer = loaded.model, loaded.tokenizer
        self._prompt = Prompt(slots, demonstrations)
        self._max_tokens, self._batch_size = max_tokens, batch_size
        backbone: Any = loaded.model.backbone
        positions = int(backbone.config.max_position_embeddings)
        self._room = min(max_length or positions, positions) - max_tokens  # tokens of a prompt
        if max_tokens < 1 or batch_size < 1 or self._room < 1:
            raise ConfigError(
                "expected max_tokens and batch_size of 1 or more, and room for a prompt, got "
                f"{max_tokens}, {batch_size} and {self._room} tokens of room; change them."
            )

    def __repr__(self) -> str:
        return f"LanguageModelExpert({self.name!r})"

    def predict(self, contexts: Sequence[Context]) -> list[Prediction]:
        """One prediction a context, in order; an unreadable answer has a `problem`."""
        prompts = [self._tokens(self._prompt.messages(context)) for context in contexts]
        found: dict[int, Prediction] = {}
        for place, prompt in enumerate(prompts):
            if len(prompt) > self._room:
                found[place] = Prediction(
                    {},
                    prompt_tokens=len(prompt),
                    problem=f"expected a prompt of at most {self._room} tokens, got {len(prompt)}; "
                    "raise max_length, or show fewer demonstrations.",
                )
        # Rows of like length waste the fewest columns.
        order = sorted(set(range(len(prompts))) - set(found), key=lambda at: len(prompts[at]))
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            answers = self._answers([prompts[place] for place in places])
            found.update(zip(places, answers, strict=True))
        return [found[place] for place in range(len(prompts))]

    def _tokens(self, messages: Sequence[Message]) -> list[int]:
        tokenizer = self._tokenizer
        if tokenizer.chat_template is None:
            lines = [f"{message['role']}: {message['content']}" for message in messages]
            return list(tokenizer("\n\n".join([*lines, "assistant: "])).input_ids)
        text = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=False
        )
        # The template has written the special tokens already.
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    def _answers(self, prompts: Sequence[list[int]]) -> list[Prediction]:
        started = time.perf_counter()
        end = int(self._tokenizer.eos_token_id)
        rows = [_Row(list(prompt)) for prompt in prompts]
        stepper = Stepper(self._model, len(rows), end)
        while not all(row.done for row in rows):
            logits = stepper.give([row.waiting for row in rows])  # [B, V]
            chosen = logits.argmax(dim=-1)
            likely = torch.log_softmax(logits, dim=-1).gather(-1, chosen[:, None])[:, 0]
            for row, token, log_probability in zip(
                rows, chosen.tolist(), likely.tolist(), strict=True
            ):
                row.waiting = []
                if row.done:
                    continue
                if token == end:
                    row.done = True
                    continue
                row.tokens.append(token)
                row.log_probability += log_probability
                row.waiting = [token]
                row.done = len(row.tokens) >= self._max_tokens
        seconds = (time.perf_counter() - started) / len(rows)
        return [
            self._prediction(prompt, row, seconds)
            for prompt, row in zip(prompts, rows, strict=True)
        ]

    def _prediction(self, prompt: list[int], row: _Row, seconds: float) -> Prediction:
        text = self._tokenizer.decode(row.tokens, skip_special_tokens=True)
        known = Prediction(
            {},
            prompt_tokens=len(prompt),
            answer_tokens=len(row.tokens),
            seconds=seconds,
            notes={"answer": text},
        )
        try:
            delta = parse_answer(text, self._prompt.slots)
        except DataError as error:
            return replace(known, problem=str(error))
        return replace(known, delta=delta, score=row.log_probability / len(row.tokens))


def load_language_expert(
    config: ModelConfig,
    slots: Mapping[str, str],
    *,
    delta: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    **options: Any,
) -> LanguageModelExpert:
    """The expert of a base model, with the delta of a run where one is given.

    Args:
        config: of the base model.
        slots: known slots with descriptions.
        delta: the folder that `sparseft.save_delta` wrote; None: the base model as it is.
        device: such as "cpu" or "cuda".
        options: of `LanguageModelExpert`.

    Raises:
        ModelError: the base model is missing or no causal language model.
        DeltaError: the delta is damaged, or of another base.
        ConfigError: as `LanguageModelExpert`.
    """
    loaded = models.load_language(config)
    if delta is not None:
        sparse.load_delta(loaded.model, delta)
    loaded.model.to(device).eval()
    return LanguageModelExpert(loaded, slots, **options)
