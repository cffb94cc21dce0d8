"""All figures of a split: by hand, and by the laws they must follow."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from sparseft.compliance import Example, FieldValue, Record
from sparseft.compliance.scores import (
    compare,
    field_table,
    majority_records,
    majority_values,
    score,
    score_runs,
    table,
)
from sparseft.errors import ConfigError, DataError
from tests.compliance.scores.cases import GOLD, SCHEMA, example, perfect, record

_VERDICTS = ("compliant", "violation", "none_due")


def _examples() -> list[Example]:
    return [
        example("t0", verdict="violation"),
        example("t1", verdict="violation", calls=1, refund=None),
        example("t2", tier=None, done=False),
        example("t3", verdict="none_due", gaps=[], steps=["x"]),
    ]


def _records() -> list[Record]:
    gold = [each.gold for each in _examples()]
    return [
        record("t0", gold[0], refund=20.01),  # within the tolerance: all right
        record("t1", gold[1], calls=4, verdict="compliant"),  # a missed alarm
        record("t2", gold[2], verdict="violation", gaps=["a"], review=("unsure",)),
        record("t3", gold[3], steps=["x", "y"], tier="silver", order=None),
    ]


def _score(**options: Any) -> dict[str, Any]:
    return score(_examples(), _records(), SCHEMA, resamples=200, **options)


def test_accuracy_by_hand() -> None:
    found = _score()
    # Of 32 values six are wrong (calls and verdict of t1, verdict and gaps of t2, three of t3),
    # and gaps of t2 have an F1 of 2 / 3.
    assert found["field_exactness"]["value"] == pytest.approx((32 - 7) / 32)
    assert found["field_accuracy"]["value"] == pytest.approx((32 - 7 + 2 / 3) / 32)
    exact = found["record_exact"]
    assert (exact["value"], exact["count"], exact["total"]) == (0.25, 1, 4)
    fields = found["fields"]
    assert fields["calls"]["beside"]["mae"] == {"value": 0.75, "records": 4}
    assert fields["refund"]["beside"]["mae"]["records"] == 3
    assert fields["refund"]["accuracy"]["value"] == 1.0
    assert fields["steps"]["beside"]["similarity"]["value"] == pytest.approx(3.5 / 4)
    assert fields["gaps"]["accuracy"]["value"] == pytest.approx((3 + 2 / 3) / 4)
    assert fields["gaps"]["exactness"]["value"] == 0.75


def test_the_critical_field_by_hand() -> None:
    found = _score()["critical"]
    counts = ("true_positive", "false_positive", "false_negative", "true_negative")
    assert [found[key] for key in counts] == [1, 1, 1, 1]
    assert found["recall"]["value"] == 0.5 and found["precision"]["value"] == 0.5
    assert found["recall"]["exact_low"] < found["recall"]["low"] < 0.5
    assert found["confusion"]["gold"] == list(_VERDICTS)
    assert found["confusion"]["counts"] == [[0, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert [row["value"] for row in found["confusion"]["recall"]] == [0.0, 0.5, 1.0]


def test_macro_f1_is_that_of_sklearn() -> None:
    found = _score()
    values = []
    for name in ("done", "tier", "verdict"):
        gold = [str(each.gold[name]) for each in _examples()]
        said = [str(each.values()[name]) for each in _records()]
        expected = f1_score(gold, said, average="macro")
        assert found["fields"][name]["macro_f1"] == pytest.approx(expected)
        values.append(expected)
    assert found["macro_f1"]["value"] == pytest.approx(sum(values) / 3)
    assert found["fields"]["order"]["macro_f1"] is None


def test_review_by_hand() -> None:
    found = _score()["review"]
    assert (found["reviewed"]["count"], found["reviewed"]["total"]) == (1, 4)
    assert found["kept_recall"]["value"] == 0.5
    assert found["kept_precision"]["value"] == 1.0
    assert found["alarms_noticed"]["count"] == 1 and found["alarms_missed"] == 1
    assert found["kept_record_exact"]["total"] == 3


def test_the_majority_is_that_of_training_and_the_lift_beyond_it() -> None:
    train = [
        example("a", tier="silver", gaps=["c"]),
        example("b", tier="silver", gaps=["c"], verdict="violation"),
        example("c", gaps=["a", "b"], verdict="violation", steps=[]),
    ]
    assert majority_values(SCHEMA, train) == {
        **GOLD,
        "tier": "silver",
        "gaps": ["c"],
        "verdict": "violation",
    }
    found = _score(train=train)
    examples = _examples()
    constant = majority_records(SCHEMA, train, [each.transcript for each in examples])
    alone = score(examples, constant, SCHEMA, resamples=10)
    assert found["majority"]["field_accuracy"] == alone["field_accuracy"]["value"]
    assert found["majority"]["critical_recall"] == 1.0
    lift = found["lift"]["field_accuracy"]
    base = alone["field_accuracy"]["value"]
    assert lift["value"] == pytest.approx(found["field_accuracy"]["value"] - base)
    closed = found["lift"]["gap_closed"]["value"]
    assert closed == pytest.approx(lift["value"] / (1 - base))
    assert found["fields"]["tier"]["majority"] == 0.0
    assert found["fields"]["tier"]["lift"] == 0.75


def test_equally_frequent_values_do_not_depend_on_the_order() -> None:
    train = [example("a", tier="silver"), example("b", tier="gold")]
    assert majority_values(SCHEMA, train) == majority_values(SCHEMA, train[::-1])
    with pytest.raises(DataError, match="training examples"):
        majority_values(SCHEMA, [])


def test_validity_of_three_kinds() -> None:
    answer = SCHEMA.answer(GOLD)
    raw = [answer, answer[:-1], answer.replace('"calls":3', '"calls":NaN'), "{}"]
    doubled = answer.replace("{", '{"done":true,', 1)
    out_of_range = answer.replace('"calls":3', '"calls":12')
    found = _score(raw=raw, constrained=[answer, True, doubled, out_of_range])["validity"]
    assert [found[key]["count"] for key in ("raw", "constrained", "post_processed")] == [1, 2, 4]
    assert _score()["validity"]["raw"] is None
    with pytest.raises(DataError, match="raw answers of 1 runs on 4 transcripts, got"):
        _score(raw=[answer])


def test_a_failed_record_is_wrong_and_missed_but_noticed() -> None:
    records = _records()
    records[0] = Record("t0", "demo", {}, error="not UTF-8")
    found = score(_examples(), records, SCHEMA, resamples=20)
    assert found["failed"] == 1
    assert found["validity"]["post_processed"]["count"] == 3
    assert found["critical"]["false_negative"] == 2
    assert found["critical"]["confusion"]["predicted"][-1] == "(no record)"
    assert found["critical"]["confusion"]["counts"][1] == [1, 0, 0, 1]
    assert found["review"]["alarms_noticed"]["count"] == 1
    assert found["fields"]["done"]["accuracy"]["value"] == 0.75


def test_what_overrides_did() -> None:
    fields = dict(record("t0").fields)
    fields["calls"] = FieldValue(3, "rule override", "counted", model_value=5)
    fields["tier"] = FieldValue("silver", "rule override", "said so", model_value="gold")
    fields["done"] = FieldValue(False, "rule", "not done")
    found = score([example("t0")], [Record("t0", "demo", fields)], SCHEMA, resamples=10)["fields"]
    assert found["calls"]["overrides"] == {"count": 1, "mended": 1, "broken": 0}
    assert found["tier"]["overrides"] == {"count": 1, "mended": 0, "broken": 1}
    assert found["done"]["sources"] == {"model": 0, "rule": 1, "rule override": 0}


def test_confidences_are_calibrated_for_the_models_values() -> None:
    records = [
        record(f"t{k}", each.gold, confidence={"verdict": 0.9, "calls": 0.6})
        for k, each in enumerate(_examples())
    ]
    found = score(_examples(), records, SCHEMA, resamples=10)
    assert found["calibration"]["values"]["count"] == 8
    assert found["calibration"]["critical"]["ece"] == pytest.approx(0.1)
    assert found["fields"]["calls"]["confidence"] == pytest.approx(0.6)
    assert found["fields"]["done"]["confidence"] is None


def test_a_schema_without_a_critical_field() -> None:
    plain = dataclasses.replace(SCHEMA, critical=None, alarm=())
    found = score(_examples(), _records(), plain, resamples=20)
    assert found["critical"] is None and found["review"]["alarms_missed"] is None
    assert found["calibration"]["critical"] is None
    assert "critical recall" not in table({"hybrid": found})


def test_records_of_other_transcripts_are_refused() -> None:
    with pytest.raises(DataError, match="'t0' next, got 't3'"):
        score(_examples(), _records()[::-1], SCHEMA)
    with pytest.raises(DataError, match="one record for each of 4 transcripts, got 3"):
        score(_examples(), _records()[:3], SCHEMA)
    with pytest.raises(DataError, match="at least one example"):
        score([], [], SCHEMA)
    with pytest.raises(ConfigError, match="resamples of 1 or more"):
        score(_examples(), _records(), SCHEMA, resamples=0)


def test_several_runs_are_pooled_by_transcript() -> None:
    runs = [_records(), perfect(_examples())]
    found = score_runs(_examples(), runs, SCHEMA, resamples=200)
    one, two = (score(_examples(), run, SCHEMA, resamples=200) for run in runs)
    assert found["runs"] == 2 and found["transcripts"] == 4
    for key in ("field_accuracy", "field_exactness", "record_exact"):
        mean = (one[key]["value"] + two[key]["value"]) / 2
        assert found[key]["value"] == pytest.approx(mean)
        assert found["by_run"][key] == pytest.approx([one[key]["value"], two[key]["value"]])
    # The same run twice says no more than once.
    twice = score_runs(_examples(), [_records()] * 2, SCHEMA, resamples=200)
    for key in ("field_accuracy", "macro_f1"):
        assert twice[key] == pytest.approx(one[key])
    assert twice["critical"]["recall"]["low"] == one["critical"]["recall"]["low"]


def test_paired_comparison() -> None:
    examples = [example(f"t{k:02d}", verdict=_VERDICTS[k % 3]) for k in range(40)]
    good = perfect(examples)
    bad = [record(each.transcript.id, each.gold, calls=9, done=False) for each in examples]
    found = compare(examples, [good], [bad], SCHEMA, resamples=500)
    # Every transcript differs by the same two fields of eight: no draw changes that.
    accuracy = found["field_accuracy"]
    assert [accuracy[k] for k in ("value", "low", "high")] == pytest.approx([0.25] * 3)
    assert accuracy["p"] == pytest.approx(2 / 501)
    assert (accuracy["ours"], accuracy["others"]) == (1.0, 0.75)
    assert found["critical_recall"]["value"] == 0.0 and found["critical_recall"]["p"] == 1.0
    back = compare(examples, [bad], [good], SCHEMA, resamples=500)
    assert back["field_accuracy"]["low"] == pytest.approx(-accuracy["high"])
    pooled = compare(examples, [good, bad], [bad], SCHEMA, resamples=500)
    assert pooled["field_accuracy"]["value"] == pytest.approx(0.125)


def test_tables() -> None:
    scores = _score(train=[example("a")])
    text = table({"hybrid|1": scores})
    head, rule, row, last = text.splitlines()
    assert head.startswith("| arm | field accuracy % | lift, points | critical recall % |")
    assert row.startswith(r"| hybrid\|1 | 80.2 [")
    assert last.startswith("| majority |") and head.count("|") == last.count("|")
    assert "50.0 [9.5, 90.5] (1/2)" in row and rule.endswith("---:|")
    lines = field_table(scores).splitlines()
    assert len(lines) == 2 + 8
    assert "MAE 0.75" in lines[6] and "similarity 87.5" in lines[8]


# What records may say, for the laws.
_SAID = st.fixed_dictionaries(
    {
        "done": st.booleans(),
        "tier": st.sampled_from([None, "gold", "silver"]),
        "order": st.sampled_from([None, "AB-1234", "ZZ-0000"]),
        "refund": st.sampled_from([None, 0.0, 20.0]),
        "calls": st.integers(0, 9),
        "gaps": st.sampled_from([[], ["a"], ["a", "b"]]),
        "steps": st.lists(st.sampled_from("xyz"), max_size=4),
        "verdict": st.sampled_from(_VERDICTS),
    }
)
_SPLIT = st.lists(st.tuples(_SAID, _SAID, st.floats(0, 1), st.booleans()), min_size=1, max_size=8)


def _made(rows: list[Any]) -> tuple[list[Example], list[Record]]:
    examples = [example(f"t{k}", **gold) for k, (gold, *_) in enumerate(rows)]
    records = [
        record(f"t{k}", said, confidence={"verdict": sure}, review=("look",) * flagged)
        for k, (_, said, sure, flagged) in enumerate(rows)
    ]
    return examples, records


@settings(max_examples=25, deadline=None)
@given(_SPLIT)
def test_perfect_predictions_score_one(rows: list[Any]) -> None:
    examples, _ = _made(rows)
    found = score(examples, perfect(examples), SCHEMA, resamples=20)
    for key in ("field_accuracy", "field_exactness", "macro_f1", "record_exact"):
        assert found[key]["value"] == pytest.approx(1.0)
    assert found["field_accuracy"]["low"] == found["record_exact"]["low"] < 1
    recall = found["critical"]["recall"]["value"]
    assert recall == 1.0 or not any(each.gold["verdict"] == "violation" for each in examples)


@settings(max_examples=25, deadline=None)
@given(_SPLIT, st.randoms(use_true_random=False))
def test_the_order_of_the_transcripts_does_not_matter(rows: list[Any], random: Any) -> None:
    examples, records = _made(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    one = score(examples, records, SCHEMA, train=examples, resamples=50)
    other = score(
        [examples[k] for k in order],
        [records[k] for k in order],
        SCHEMA,
        train=[examples[k] for k in order],
        resamples=50,
    )
    assert _flat(one) == pytest.approx(_flat(other), nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(_SPLIT)
def test_figures_are_plain_finite_and_inside_their_intervals(rows: list[Any]) -> None:
    examples, records = _made(rows)
    found = score(examples, records, SCHEMA, train=examples, resamples=200)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    proportions = [found["record_exact"], found["validity"]["post_processed"]]
    proportions += [found["critical"][key] for key in ("recall", "precision")]
    proportions += [found["field_accuracy"], found["field_exactness"]]
    for each in proportions:
        if each["value"] is not None:
            assert each["low"] - 1e-9 <= each["value"] <= each["high"] + 1e-9
            assert each["low"] >= 0 and each["high"] <= 1


def _flat(value: Any, name: str = "") -> dict[str, float]:
    if isinstance(value, dict):
        return {
            k: v for key, each in value.items() for k, v in _flat(each, f"{name}/{key}").items()
        }
    if isinstance(value, list):
        return {k: v for i, each in enumerate(value) for k, v in _flat(each, f"{name}/{i}").items()}
    return {name: float("nan" if not isinstance(value, (int, float)) else value)}
