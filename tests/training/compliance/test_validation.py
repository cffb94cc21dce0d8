"""Field accuracy with forced answers, on a tiny decoder."""

from __future__ import annotations

import numpy as np
import torch

from sparseft.data.answers import AnswerBatches, AnswerRow
from sparseft.models import AnswerModel
from sparseft.training.compliance.validation import forced_fields
from tests.tiny import tiny_byte_tokenizer, tiny_language_model

_ROWS = tuple(
    AnswerRow(f"say {number}: ", f'{{"a":{word},"b":"{"x" * number}"}}', spans)
    for number, (word, spans) in enumerate(
        [
            ("true", ((5, 9), (14, 16))),
            ("false", ((5, 10), (15, 18))),
            ("true", ((5, 9), (14, 18))),
        ]
    )
)


class _Oracle(AnswerModel):
    """Predicts every next token right, but for those of `wrong` rows' given part."""

    wrong: tuple[int, int] | None = None
    parts: torch.Tensor

    def forward(self, input_ids, attention_mask, labels=None):  # type: ignore[no-untyped-def]
        output = super().forward(input_ids, attention_mask, labels)
        targets = labels[:, 1:]
        learned = targets != -100
        logits = torch.nn.functional.one_hot(targets[learned], 258).float()
        if self.wrong is not None:
            row, part = self.wrong
            rows = learned.nonzero()[:, 0]
            chosen = (rows == row) & (self.parts[:, 1:][learned] == part)
            place = chosen.nonzero()[-1, 0]
            logits[place] = logits[place].roll(1)
        output.logits = logits
        return output


def _batch(order: list[int]) -> dict[str, torch.Tensor]:
    return AnswerBatches(_ROWS, tiny_byte_tokenizer(), 3, 64).collate(np.array(order))


def test_one_wrong_token_makes_its_field_wrong_and_no_other() -> None:
    model = _Oracle(tiny_language_model()).train()
    batch = _batch([2, 0, 1])
    model.parts = batch["parts"]
    assert forced_fields(model, [batch], 2).right.all()
    model.wrong = (0, 1)  # of the batch: the row with index 2
    found = forced_fields(model, [batch], 2, critical=1)
    assert found.right.tolist() == [[True, True], [True, True], [True, False]]
    assert found.metrics["field_accuracy"] == 5 / 6
    assert found.metrics["records"] == 2 / 3
    assert found.metrics["critical_accuracy"] == 2 / 3
    assert model.training


def test_the_end_token_is_learned_but_not_scored() -> None:
    model = _Oracle(tiny_language_model())
    batch = _batch([0])
    model.parts = batch["parts"]
    model.wrong = (0, 2)
    assert forced_fields(model, [batch], 2).right.all()


def test_the_loss_weighs_tokens_equally_over_batches() -> None:
    model = AnswerModel(tiny_language_model())
    whole = forced_fields(model, [_batch([0, 1, 2])], 2)
    parts = forced_fields(model, [_batch([0]), _batch([2, 1])], 2)
    assert abs(whole.loss - parts.loss) < 1e-5
    assert (whole.right == parts.right).all()
