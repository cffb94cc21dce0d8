"""From files to three splits: labels, leakage removal, validation, draws, out-of-scope rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sparseft.config import DataConfig, OutOfScopeConfig
from sparseft.data import TaskData, load_data, normalised
from sparseft.errors import ConfigError, DataError
from tests.data.conftest import MakeFiles
from tests.data.helpers import Row, numbered, write_rows

TRAIN = numbered("train", {"a": 20, "b": 12, "c": 8})
VALIDATION = numbered("validation", {"a": 5, "b": 3, "c": 2})
TEST = numbered("test", {"a": 6, "b": 4, "c": 2})


def counts(data: TaskData, split: str) -> dict[str, int]:
    labels = getattr(data, split).labels
    totals = np.bincount(labels, minlength=len(data.label_names))
    return dict(zip(data.label_names, totals.tolist(), strict=True))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_three_files_become_three_splits(files: MakeFiles, suffix: str) -> None:
    data = load_data(files(TRAIN, TEST, VALIDATION, suffix), seed=0)
    assert data.name == "mine"
    assert data.label_names == ("a", "b", "c")
    assert data.num_labels == 3
    assert not data.multi_label
    for split, rows in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        part = getattr(data, split)
        assert list(part.texts) == [row["text"] for row in rows]
        assert [data.label_names[i] for i in part.labels] == [row["label"] for row in rows]
        assert part.labels.dtype == np.int64
        assert part.ids.tolist() == list(range(len(rows)))
        assert part.ids.dtype == np.int64
    assert data.report["rows"] == {"train": 40, "validation": 10, "test": 12}
    assert not data.report["validation_drawn_from_train"]
    json.dumps(data.report)


def test_column_names_can_be_chosen(files: MakeFiles) -> None:
    def renamed(rows: list[Row]) -> list[Row]:
        return [{"utterance": row["text"], "intent": row["label"]} for row in rows]

    config = files(renamed(TRAIN), renamed(TEST), text_column="utterance", label_column="intent")
    assert load_data(config, seed=0).label_names == ("a", "b", "c")
    with pytest.raises(DataError, match=r"'text'.*'utterance', 'intent'"):
        load_data(replace(config, text_column="text"), seed=0)


def test_numbers_are_labels_in_the_order_of_their_values(files: MakeFiles) -> None:
    rows = [{"text": f"t{i}", "label": i % 11} for i in range(44)]
    test = [{"text": f"u{i}", "label": float(i % 11)} for i in range(11)]
    data = load_data(files(rows, test), seed=0)
    assert data.label_names == tuple(str(i) for i in range(11))
    assert data.test.labels.tolist() == list(range(11))


def test_truth_values_are_labels(files: MakeFiles) -> None:
    rows = [{"text": f"t{i}", "label": i % 2 == 0} for i in range(20)]
    data = load_data(files(rows, [{"text": "u", "label": True}]), seed=0)
    assert data.label_names == ("false", "true")
    assert data.test.labels.tolist() == [1]


def test_texts_of_train_leave_validation_and_test(files: MakeFiles) -> None:
    leaked = [
        {"text": "  TRAIN a\ttext 0 ", "label": "a"},
        {"text": "train b text 3", "label": "a"},
    ]
    data = load_data(files(TRAIN, leaked + TEST, VALIDATION + leaked[:1]), seed=0)
    assert data.report["test_texts_removed"] == 2
    assert data.report["validation_texts_removed"] == 1
    assert data.test.ids.tolist() == list(range(2, 14))
    assert data.validation.ids.tolist() == list(range(10))


def test_leaked_rows_are_removed_by_the_full_train_split_of_any_subset(files: MakeFiles) -> None:
    leaked = [{"text": row["text"], "label": row["label"]} for row in TRAIN]
    config = files(TRAIN, leaked + TEST, shots=1)
    for seed in range(3):
        assert load_data(config, seed).test.texts == tuple(row["text"] for row in TEST)


def test_normalised_text() -> None:
    assert normalised(" Straße \n\u00a0 2") == normalised("STRASSE 2") == "strasse 2"


def test_empty_texts_are_dropped_and_counted(files: MakeFiles) -> None:
    empty = [{"text": " \n", "label": "a"}, {"text": None, "label": "a"}]
    data = load_data(files(empty + TRAIN, TEST, VALIDATION + empty), seed=0)
    assert data.report["dropped_empty"] == {"train": 2, "validation": 2, "test": 0}
    assert data.train.ids.tolist() == list(range(2, 42))  # numbers of the file, not of the rest


class TestValidationFromTrain:
    def test_it_is_stratified_and_disjoint(self, files: MakeFiles) -> None:
        data = load_data(files(TRAIN, TEST, validation_share=0.25), seed=0)
        assert data.report["validation_drawn_from_train"]
        assert counts(data, "validation") == {"a": 5, "b": 3, "c": 2}
        assert not set(data.train.ids) & set(data.validation.ids)
        assert sorted([*data.train.ids, *data.validation.ids]) == list(range(40))

    def test_it_depends_on_the_split_seed_only(self, files: MakeFiles) -> None:
        config = files(TRAIN, TEST, shots=2)
        first = load_data(config, seed=0)
        second = load_data(config, seed=1)
        other = load_data(replace(config, split_seed=5), seed=0)
        assert first.validation.texts == second.validation.texts
        assert first.train.texts != second.train.texts
        assert first.validation.texts != other.validation.texts

    def test_the_only_row_of_a_class_stays_in_train(self, files: MakeFiles) -> None:
        rows = [*TRAIN, {"text": "alone", "label": "d"}]
        for split_seed in range(5):
            config = files(rows, TEST, validation_share=0.5, split_seed=split_seed)
            assert "alone" in load_data(config, seed=0).train.texts

    def test_copies_of_training_rows_leave_it(self, files: MakeFiles) -> None:
        twice = [{"text": row["text"].upper(), "label": row["label"]} for row in TRAIN]
        data = load_data(files(TRAIN + twice, TEST, validation_share=0.3), seed=0)
        train = {normalised(text) for text in data.train.texts}
        assert not train & {normalised(text) for text in data.validation.texts}
        assert data.report["validation_texts_removed"] > 0
        assert len(data.validation) + data.report["validation_texts_removed"] == 24


class TestSubsets:
    def test_shots(self, files: MakeFiles) -> None:
        data = load_data(files(TRAIN, TEST, VALIDATION, shots=5), seed=3)
        assert counts(data, "train") == {"a": 5, "b": 5, "c": 5}
        assert data.report["train_rows_available"] == 40
        assert data.report["labels_with_fewer_shots"] == {}

    def test_a_class_with_fewer_rows_than_shots_is_reported(self, files: MakeFiles) -> None:
        data = load_data(files(TRAIN, TEST, VALIDATION, shots=10), seed=3)
        assert counts(data, "train") == {"a": 10, "b": 10, "c": 8}
        assert data.report["labels_with_fewer_shots"] == {"c": 8}

    def test_rows(self, files: MakeFiles) -> None:
        data = load_data(files(TRAIN, TEST, VALIDATION, rows=10), seed=3)
        assert counts(data, "train") == {"a": 5, "b": 3, "c": 2}
        with pytest.raises(DataError, match=r"data\.rows between 3 .* and 40 .* got 41"):
            load_data(files(TRAIN, TEST, VALIDATION, rows=41), seed=3)
        with pytest.raises(DataError, match=r"got 2; change data\.rows"):
            load_data(files(TRAIN, TEST, VALIDATION, rows=2), seed=3)

    def test_every_class_has_a_row_in_the_smallest_draw(self, files: MakeFiles) -> None:
        rows = numbered("train", {"a": 95, "b": 3, "c": 2})
        data = load_data(files(rows, TEST, VALIDATION, rows=3), seed=0)
        assert counts(data, "train") == {"a": 1, "b": 1, "c": 1}

    def test_the_scored_rows_are_the_same_for_all_seeds(self, files: MakeFiles) -> None:
        config = files(TRAIN, TEST, VALIDATION, shots=2, validation_rows=5, test_rows=6)
        first, second = load_data(config, seed=0), load_data(config, seed=1)
        assert counts(first, "test") == {"a": 3, "b": 2, "c": 1}
        assert len(first.validation) == 5
        assert first.test.texts == second.test.texts
        assert first.validation.texts == second.validation.texts
        assert first.train.texts != second.train.texts

    def test_a_cut_above_the_size_keeps_all(self, files: MakeFiles) -> None:
        data = load_data(files(TRAIN, TEST, VALIDATION, validation_rows=99, test_rows=99), 0)
        assert (len(data.validation), len(data.test)) == (10, 12)

    def test_a_negative_seed(self, files: MakeFiles) -> None:
        with pytest.raises(ConfigError, match="got -1"):
            load_data(files(TRAIN, TEST, VALIDATION, shots=2), seed=-1)


class TestDigest:
    def test_the_same_rows_have_the_same_digest(self, files: MakeFiles) -> None:
        config = files(TRAIN, TEST, VALIDATION, shots=3)
        first = load_data(config, seed=0)
        assert load_data(config, seed=0).sha256 == first.sha256
        assert load_data(config, seed=1).sha256 != first.sha256
        assert len(first.sha256) == 64

    @pytest.mark.parametrize("key", ["text", "label"])
    def test_any_changed_row_changes_it(self, files: MakeFiles, key: str) -> None:
        before = load_data(files(TRAIN, TEST, VALIDATION), seed=0).sha256
        changed = [*TEST[:-1], {**TEST[-1], key: "b"}]
        assert load_data(files(TRAIN, changed, VALIDATION), seed=0).sha256 != before


class TestMultiLabel:
    TRAIN: ClassVar[list[Row]] = [
        {"text": f"t{i}", "labels": ["x", "y", "z"][: i % 4]} for i in range(40)
    ]
    TEST: ClassVar[list[Row]] = [
        {"text": "u0", "labels": ["z", "x"]},
        {"text": "u1", "labels": []},
    ]

    @pytest.mark.parametrize("multi_label", [True, "auto"])
    @pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
    def test_labels_are_multi_hot(self, files: MakeFiles, multi_label: Any, suffix: str) -> None:
        data = load_data(
            files(
                self.TRAIN,
                self.TEST,
                suffix=suffix,
                label_column="labels",
                multi_label=multi_label,
            ),
            seed=0,
        )
        assert data.multi_label
        assert data.label_names == ("x", "y", "z")
        assert data.test.labels.tolist() == [[1, 0, 1], [0, 0, 0]]
        assert data.test.labels.dtype == np.uint8
        assert data.report["validation_drawn_from_train"]
        assert len(data.validation) == 6

    def test_shots_and_rows(self, files: MakeFiles) -> None:
        config = files(self.TRAIN, self.TEST, label_column="labels", shots=4)
        data = load_data(config, seed=0)
        assert (data.train.labels.sum(axis=0) >= 4).all()
        assert len(data.train) <= 12
        data = load_data(replace(config, shots=None, rows=8), seed=0)
        assert len(data.train) == 8

    def test_csv_holds_json_lists_or_single_names(self, files: MakeFiles) -> None:
        rows = [{"text": row["text"], "labels": json.dumps(row["labels"])} for row in self.TRAIN]
        test = [{"text": "u", "labels": "y"}]
        config = files(rows, test, suffix=".csv", label_column="labels", multi_label=True)
        assert load_data(config, seed=0).test.labels.tolist() == [[0, 1, 0]]
        broken = [*rows, {"text": "v", "labels": "[x, y]"}]
        config = files(broken, test, suffix=".csv", label_column="labels", multi_label=True)
        with pytest.raises(DataError, match="JSON list of labels in row 41"):
            load_data(config, seed=0)

    def test_lists_against_the_setting(self, files: MakeFiles) -> None:
        config = files(self.TRAIN, self.TEST, label_column="labels", multi_label=False)
        with pytest.raises(DataError, match=r"set data\.multi_label=true"):
            load_data(config, seed=0)
        single = [{"text": row["text"], "labels": "x"} for row in self.TRAIN[:2]]
        single[1]["labels"] = "y"
        config = files(single, self.TEST, self.TEST, label_column="labels")
        with pytest.raises(DataError, match=r"one label in row 1 of .*test"):
            load_data(config, seed=0)


class TestOutOfScope:
    @staticmethod
    def _config(files: MakeFiles, tmp_path: Path, **settings: Any) -> DataConfig:
        for split, n in (("train", 4), ("validation", 2), ("test", 3)):
            rows = [{"text": f"{split} outside {i}", "label": "ignored"} for i in range(n)]
            write_rows(tmp_path / f"oos_{split}.jsonl", rows)
        names = {s: f"oos_{s}.jsonl" for s in ("train", "validation", "test")}
        return files(
            TRAIN,
            TEST,
            VALIDATION,
            **{"out_of_scope": OutOfScopeConfig(**names), **settings},
        )

    def test_its_rows_are_a_last_class_of_every_split(
        self, files: MakeFiles, tmp_path: Path
    ) -> None:
        data = load_data(self._config(files, tmp_path), seed=0)
        assert data.label_names == ("a", "b", "c", "oos")
        assert counts(data, "test") == {"a": 6, "b": 4, "c": 2, "oos": 3}
        assert data.report["out_of_scope"] == {"train": 4, "validation": 2, "test": 3}
        assert data.test.ids.tolist() == list(range(15))
        assert data.test.texts[12:] == tuple(f"test outside {i}" for i in range(3))

    def test_oos_stays_last_where_names_sort_after_it(
        self, files: MakeFiles, tmp_path: Path
    ) -> None:
        config = self._config(files, tmp_path)
        write_rows(tmp_path / "train.jsonl", [*TRAIN, {"text": "late", "label": "zebra"}])
        assert load_data(config, seed=0).label_names == ("a", "b", "c", "zebra", "oos")

    def test_test_rows_without_train_rows_are_unseen(
        self, files: MakeFiles, tmp_path: Path
    ) -> None:
        out_of_scope = OutOfScopeConfig(test="oos_test.jsonl")
        with pytest.raises(DataError, match=r"got 'oos' \(3 rows\)"):
            load_data(self._config(files, tmp_path, out_of_scope=out_of_scope), seed=0)

    def test_a_validation_file_needs_validation_rows(
        self, files: MakeFiles, tmp_path: Path
    ) -> None:
        config = replace(self._config(files, tmp_path), validation=None)
        with pytest.raises(DataError, match=r"out_of_scope\.validation only beside"):
            load_data(config, seed=0)
        names = OutOfScopeConfig(train="oos_train.jsonl", test="oos_test.jsonl")
        data = load_data(replace(config, out_of_scope=names, validation_share=0.25), seed=0)
        assert counts(data, "validation")["oos"] == 1

    def test_not_with_several_labels(self, files: MakeFiles, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="several"):
            load_data(self._config(files, tmp_path, multi_label=True), seed=0)


class TestBadData:
    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_a_label_unseen_in_train(self, files: MakeFiles, split: str) -> None:
        extra = [{"text": "new", "label": "new kind"}] * 2
        validation = VALIDATION + (extra if split == "validation" else [])
        test = TEST + (extra if split == "test" else [])
        with pytest.raises(DataError, match=rf"{split}.*got 'new kind' \(2 rows\)"):
            load_data(files(TRAIN, test, validation), seed=0)

    def test_one_class(self, files: MakeFiles) -> None:
        rows = [{"text": f"t{i}", "label": "only"} for i in range(9)]
        with pytest.raises(DataError, match=r"two different labels.*got 'only'"):
            load_data(files(rows, rows), seed=0)

    def test_no_rows(self, files: MakeFiles, tmp_path: Path) -> None:
        config = files(TRAIN, TEST)
        (tmp_path / "train.jsonl").write_text("")
        with pytest.raises(DataError, match="got none of 0 rows"):
            load_data(config, seed=0)

    def test_only_empty_texts(self, files: MakeFiles) -> None:
        with pytest.raises(DataError, match="got none of 2 rows"):
            load_data(files(TRAIN, [{"text": " ", "label": "a"}] * 2), seed=0)

    def test_all_test_texts_in_train(self, files: MakeFiles) -> None:
        with pytest.raises(DataError, match="test rows that do not occur in train, got none"):
            load_data(files(TRAIN, TRAIN, VALIDATION), seed=0)

    @pytest.mark.parametrize("label", [None, "", "  ", float("nan"), {"a": 1}])
    def test_no_label(self, files: MakeFiles, label: Any) -> None:
        rows = [*TRAIN, {"text": "x", "label": label}]
        with pytest.raises(DataError, match="a label in row 41 of"):
            load_data(files(rows, TEST), seed=0)

    def test_no_text(self, files: MakeFiles) -> None:
        with pytest.raises(DataError, match=r"got 7 in row 41.*data\.text_column"):
            load_data(files([*TRAIN, {"text": 7, "label": "a"}], TEST), seed=0)

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_no_file_named(self, files: MakeFiles, split: str) -> None:
        config = replace(files(TRAIN, TEST), **{split: None})
        with pytest.raises(DataError, match=rf"a file in data\.{split}, got none"):
            load_data(config, seed=0)
