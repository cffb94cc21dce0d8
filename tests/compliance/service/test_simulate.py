"""Simulated conversations: repeatable, balanced, of the promised size, and well formed."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from sparseft.compliance import load_schema
from sparseft.compliance.service import SPLITS, TEST_COUNT, TRAIN_COUNT, simulate
from sparseft.compliance.service.edits import FLAWS
from sparseft.compliance.service.facts import draw_facts
from sparseft.compliance.service.phrases import banks, phrase, with_typo
from sparseft.compliance.service.scenarios import SCENARIOS
from sparseft.errors import ConfigError


def test_a_prefix_does_not_depend_on_the_count() -> None:
    assert simulate(10, 3, "test") == simulate(20, 3, "test")[:10]


def test_seed_and_split_make_other_conversations() -> None:
    base = [e.transcript.turns for e in simulate(5, 0, "train")]
    assert base != [e.transcript.turns for e in simulate(5, 1, "train")]
    assert base != [e.transcript.turns for e in simulate(5, 0, "test")]


def test_the_usual_sizes() -> None:
    assert (TRAIN_COUNT, TEST_COUNT) == (219, 53)
    assert len(simulate()) == 219


@pytest.mark.parametrize("split", SPLITS)
def test_verdicts_and_flaws_are_balanced(split: str) -> None:
    examples = simulate(300, 2, split)
    verdicts = Counter(e.gold["policy_verdict"] for e in examples)
    assert verdicts == {"violation": 105, "compliant": 105, "no_sensitive_action": 90}
    flaws = Counter(e.tags[1] for e in examples if e.tags[1] != "clean")
    assert set(flaws) == set(FLAWS)
    assert max(flaws.values()) - min(flaws.values()) <= 1


def test_every_flow_and_case_comes_up() -> None:
    examples = simulate(300, 0, "train")
    assert {e.tags[0] for e in examples} == set(SCENARIOS)
    assert len({e.gold["flow"] for e in examples}) == 10


def test_the_flow_does_not_give_the_verdict_away() -> None:
    examples = simulate(600, 0, "train")
    by_flow: dict[str, Counter[str]] = {}
    for example in examples:
        flow = example.gold["flow"]
        by_flow.setdefault(flow, Counter())[example.gold["policy_verdict"]] += 1
    for flow, verdicts in by_flow.items():
        if flow != "info":
            assert 0.2 < verdicts["violation"] / verdicts.total() < 0.55, (flow, verdicts)


@pytest.mark.parametrize("split", SPLITS)
def test_gold_fits_the_schema_and_answers_stay_short(split: str) -> None:
    schema = load_schema("service")
    assert len(schema.fields) == 18
    assert len(schema.model_fields) == 11
    for example in simulate(200, 4, split):
        assert schema.canonical(example.gold)
        assert len(example.gold["steps"]) < 12
        assert schema.parse(schema.answer(example.gold))


def test_conversations_are_of_ordinary_length() -> None:
    examples = simulate(300, 0, "train")
    words = sorted(len(e.transcript.render().split()) for e in examples)
    turns = sorted(len(e.transcript.turns) for e in examples)
    assert 150 <= words[150] <= 320 and words[-1] <= 380
    assert turns[15] >= 10 and turns[285] <= 24


def test_speakers_take_turns() -> None:
    for example in simulate(100, 1, "validation"):
        speakers = [turn.speaker for turn in example.transcript.turns]
        assert all(a != b for a, b in pairwise(speakers))
        assert speakers[0] == "agent"


@pytest.mark.parametrize("split", SPLITS)
def test_nothing_of_a_template_is_left(split: str) -> None:
    for example in simulate(200, 5, split):
        assert not re.search(r"[{}\[\]|]|  | [,.?!]", example.transcript.render())


def test_every_bank_has_phrasings_in_every_split() -> None:
    for bank, splits in banks().items():
        assert set(splits) == set(SPLITS), bank
        assert all(splits.values()), bank
        assert len(splits["train"]) >= len(splits["validation"]), bank


def test_gold_values_stand_in_the_text() -> None:
    for example in simulate(200, 6, "test"):
        text = example.transcript.render()
        for field in ("account", "email", "ticket"):
            value = example.gold[field]
            assert value is None or value in text, (field, value)
        for field in ("amount", "fee"):
            value = example.gold[field]
            assert value is None or f"{value:.2f}" in text or f"{value:g} dollars" in text


def test_typos_leave_values_alone() -> None:
    text = "Please use {email}, {name}."
    slipped = {with_typo(Random(seed), text) for seed in range(50)}
    assert len(slipped) > 10
    assert all("{email}" in each and "{name}" in each for each in slipped)
    assert with_typo(Random(0), "{account}") == "{account}"


def test_choices_are_made_and_named_by_template() -> None:
    made = {phrase(Random(seed), "account.ask", "train") for seed in range(200)}
    assert len({each.text for each in made}) > len({each.template for each in made}) > 5


def test_numbers_of_the_splits_are_apart() -> None:
    drawn = {
        split: {
            value
            for seed in range(300)
            for facts in [draw_facts(Random(seed), split, (300, 900), (20, 40))]
            for value in (facts.account, facts.wrong_account, facts.ticket, facts.phone)
        }
        for split in SPLITS
    }
    assert not drawn["train"] & drawn["test"]
    assert not drawn["train"] & drawn["validation"]
    assert not drawn["validation"] & drawn["test"]


@pytest.mark.parametrize(("split", "seed"), [("dev", 0), ("train", -1)])
def test_a_wrong_split_or_seed_is_refused(split: str, seed: int) -> None:
    with pytest.raises(ConfigError, match="expected a split of train, validation, test"):
        simulate(1, seed, split)


@pytest.mark.slow
def test_a_prompt_with_its_answer_fits_the_length_of_the_experiment() -> None:
    transformers = pytest.importorskip("transformers")
    from omegaconf import OmegaConf

    from sparseft.errors import ModelError
    from sparseft.models.embedded import embedded_gguf
    from sparseft.paths import conf_dir

    try:
        path = embedded_gguf("smollm2")
    except ModelError as error:
        pytest.skip(str(error))
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    schema = load_schema("service")
    both, answers = [], []
    for example in simulate(300, 0, "test"):
        prompt, answer = schema.prompt(example.transcript.render()), schema.answer(example.gold)
        answers.append(len(tokenizer(answer)["input_ids"]))
        both.append(len(tokenizer(prompt)["input_ids"]) + answers[-1])
    experiment = OmegaConf.load(conf_dir() / "experiment" / "compliance_decoder.yaml")
    assert sorted(both)[297] <= experiment.model.max_length  # 99 of 100 are read whole
    assert max(answers) <= 110
