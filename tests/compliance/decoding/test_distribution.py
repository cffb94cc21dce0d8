"""Probabilities of values against the model asked for each of them, and whose choice is whose."""

from __future__ import annotations

import pytest
import torch

from sparseft.compliance.decoding import Asked, field_scores, generate, value_probabilities
from sparseft.compliance.schema import parse_schema
from tests.compliance.decoding.cases import byte_ids, byte_model, byte_vocabulary

SCHEMA = parse_schema(
    """
name: late
fields:
  first: {kind: boolean}
  verdict:
    kind: enum
    values: [compliant, compliance_breach, complete, violation, vague]
    nullable: true
  last: {kind: boolean}
""",
    "late.yaml",
)
NAMES = ["compliant", "compliance_breach", "complete", "violation", "vague", "null"]


def _by_hand(prompt: list[int], before: str) -> dict[str, float]:
    """Each value spelled byte by byte behind `before`, among the values that can go on so."""
    texts = {name: name if name == "null" else f'"{name}"' for name in NAMES}
    found = {}
    for name, text in texts.items():
        ids = [*prompt, *byte_ids(before + text)]
        with torch.no_grad():
            tokens = torch.tensor([ids])
            hidden = byte_model().backbone(input_ids=tokens, attention_mask=torch.ones_like(tokens))
            logits = byte_model().logits(hidden.last_hidden_state)[0].double()
        chance, behind = 1.0, len(prompt) + len(before) - 1
        for place, letter in enumerate(text):
            open_letters = sorted(
                {t[place] for t in texts.values() if t[:place] == text[:place] and len(t) > place}
            )
            ids_of = torch.tensor([byte_ids(each)[0] for each in open_letters])
            shares = torch.softmax(logits[behind + place][ids_of], 0)
            chance *= float(shares[open_letters.index(letter)])
        found[name] = chance
    return found


def test_what_values_share_is_asked_of_the_model() -> None:
    helped = 0
    for number in range(12):
        prompt = byte_ids("tell me " + "xyz"[number % 3] * (number + 1))
        grammar = SCHEMA.grammar()
        (decoded,) = generate(byte_model(), byte_vocabulary(), [prompt], [grammar], pad=0)
        values = SCHEMA.parse(decoded.text)
        before = decoded.text[: SCHEMA.spans(values)[1][0]]
        expected = _by_hand(prompt, before)
        assert sum(expected.values()) == pytest.approx(1)
        field = SCHEMA["verdict"]
        plain = value_probabilities(decoded, field, SCHEMA, values, byte_vocabulary())
        asked = value_probabilities(
            decoded, field, SCHEMA, values, byte_vocabulary(),
            Asked(byte_model(), prompt, grammar),
        )  # fmt: skip
        assert asked == pytest.approx(expected, abs=2e-4)
        said = "null" if values["verdict"] is None else values["verdict"]
        # What was said is exact either way.
        assert plain[said] == pytest.approx(expected[said], abs=1e-5)
        assert sum(plain.values()) == pytest.approx(1)
        helped += max(abs(plain[name] - expected[name]) for name in NAMES) > 0.01
    assert helped >= 3


def test_where_a_number_ends_is_its_own_choice() -> None:
    schema = parse_schema(
        "name: n\nfields: {count: {kind: integer, minimum: 1, maximum: 999}, "
        "sure: {kind: boolean}}",
        "n.yaml",
    )
    seen = set()
    for number in range(12):
        prompt = byte_ids("how many " + "abcdef"[number % 6] * (number + 1))
        (decoded,) = generate(byte_model(), byte_vocabulary(), [prompt], [schema.grammar()], pad=0)
        values = schema.parse(decoded.text)
        scores = field_scores(decoded, schema, values)
        digits = len(str(values["count"]))
        seen.add(digits)
        # Each digit was open, and whether the number ends, unless it could not go on.
        assert scores["count"].choices == min(digits + 1, 3)
        assert scores["sure"].choices == 1
    assert seen & {1, 2}
