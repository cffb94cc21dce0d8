"""A whole run on a tiny encoder: written, read again, and the same records from both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from sparseft.compliance import load_schema
from sparseft.compliance.encoder import EncoderReader
from sparseft.compliance.loading import load_evaluator
from sparseft.errors import ConfigError
from sparseft.results import load_result
from sparseft.training.compliance import execute_compliance
from sparseft.training.compliance.pipeline import EvaluatedRun
from tests.tiny import save_tiny_model
from tests.training.compliance.small import small_config


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("encoder"))


def test_a_run_ends_with_records_scores_and_a_delta(model: Path, tmp_path: Path) -> None:
    runs: list[EvaluatedRun] = []
    config = small_config(model, tmp_path, hard_negatives=4, hard_negative_epochs=1)
    outcome = execute_compliance(config, runs.append)
    result = load_result(outcome.folder / "result.json")
    assert result.metrics["valid"] == 1.0
    assert result.cost["head_warmup_seconds"] > 0 and result.cost["cache_bytes"] > 0
    assert result.notes["hard_negatives"]["rows"] == 4
    check = jsonschema.Draft202012Validator(load_schema("service").json_schema())
    lines = (outcome.folder / "records.jsonl").read_text().splitlines()
    assert len(lines) == 3
    for line in map(json.loads, lines):
        check.validate(line["values"])
    logged = (outcome.folder / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in logged]
    numbers = [each["step"] for each in steps if each["kind"] == "train"]
    assert numbers == sorted(set(numbers))
    (run,) = runs
    again = load_evaluator(outcome.folder, "service")
    assert isinstance(again.reader, EncoderReader)
    transcripts = [example.transcript for example in run.corpus.test]
    for old, new in zip(run.records, again.evaluate(transcripts), strict=True):
        assert new.values() == old.values() and new.review == old.review
    assert execute_compliance(config).skipped
    fields = json.loads((outcome.folder / "scores.json").read_text())["fields"]
    assert list(fields) == list(load_schema("service").names)


@pytest.mark.parametrize(("epochs", "rows"), [(2, 13), (1, None)])
def test_auto_makes_as_many_hard_negatives_as_there_are_rows(
    model: Path, tmp_path: Path, epochs: int, rows: int | None
) -> None:
    config = small_config(model, tmp_path, hard_negatives="auto")
    config = replace(config, training=replace(config.training, epochs=epochs))
    notes = execute_compliance(config).result.notes
    assert notes.get("hard_negatives", {}).get("rows") == rows


@pytest.mark.parametrize("method", ["full", "lora"])
def test_other_methods_train_the_same_reader(model: Path, tmp_path: Path, method: str) -> None:
    runs: list[EvaluatedRun] = []
    execute_compliance(small_config(model, tmp_path, method=method, owner="model"), runs.append)
    for record in runs[0].records:
        assert {entry.source for entry in record.fields.values()} == {"model"}


def test_a_decoder_is_not_asked_of_an_encoder(model: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="expected"):
        execute_compliance(small_config(model, tmp_path, reader="decoder"))
    with pytest.raises(ConfigError, match=r"task\.compliance\.reader"):
        small_config(model, tmp_path, reader="oracle")


@pytest.mark.parametrize("experiment", ["compliance", "compliance_decoder", "dst"])
def test_an_experiment_leaves_every_method_its_own_settings(experiment: str) -> None:
    from hydra import compose, initialize_config_dir

    from sparseft.paths import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for method in ("sparse", "lora", "full"):
            alone = compose("config", [f"method={method}"]).method
            assert (
                compose("config", [f"+experiment={experiment}", f"method={method}"]).method == alone
            )
