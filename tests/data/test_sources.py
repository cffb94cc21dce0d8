"""Where rows come from: the data root, the package, and the hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from sparseft import paths
from sparseft.config import DataConfig, OutOfScopeConfig
from sparseft.data import load_data
from sparseft.data import sources as sources_module
from sparseft.errors import ConfigError, DataError
from tests.data.conftest import MakeFiles
from tests.data.helpers import numbered, write_rows

TRAIN = numbered("train", {"a": 8, "b": 8})
TEST = numbered("test", {"a": 4, "b": 4})


class TestRoot:
    def test_it_defaults_to_the_shared_data_beside_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "work").mkdir()
        data = tmp_path / "shared" / "data"
        data.mkdir(parents=True)
        write_rows(data / "train.csv", TRAIN)
        write_rows(data / "test.csv", TEST)
        monkeypatch.setattr(paths, "checkout_root", lambda: None)
        monkeypatch.chdir(tmp_path / "work")
        config = DataConfig(name="mine", kind="files", train="train.csv", test="test.csv")
        assert len(load_data(config, seed=0).test) == 8

    def test_without_any_the_error_says_how_to_set_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources_module, "default_data_root", lambda: None)
        config = DataConfig(name="mine", kind="files", train="train.csv", test="test.csv")
        with pytest.raises(DataError, match=r"data\.train=train\.csv.*set data\.root=FOLDER"):
            load_data(config, seed=0)

    def test_a_root_that_is_no_folder(self, tmp_path: Path) -> None:
        config = DataConfig(
            name="mine", kind="files", root=str(tmp_path / "no"), train="t.csv", test="u.csv"
        )
        with pytest.raises(DataError, match=r"data\.root to be a folder, got .*no"):
            load_data(config, seed=0)

    def test_absolute_names_need_none(
        self, files: MakeFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources_module, "default_data_root", lambda: None)
        config = replace(
            files(TRAIN, TEST),
            root=None,
            train=str(tmp_path / "train.jsonl"),
            test=str(tmp_path / "test.jsonl"),
        )
        assert len(load_data(config, seed=0).test) == 8


class TestBuiltin:
    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(DataError, match=r"\(intent\), got 'intents'; .*data=files"):
            load_data(DataConfig(name="intents"), seed=0)

    def test_an_unknown_kind(self) -> None:
        config = DataConfig(name="x", kind="web")  # type: ignore[arg-type]
        with pytest.raises(DataError, match="builtin, files, hub, got 'web'"):
            load_data(config, seed=0)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """A repository of data files, as the hub serves them, in a local folder."""
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "repository"
    folder.mkdir()
    write_rows(folder / "train.jsonl", TRAIN)
    write_rows(folder / "test.jsonl", TEST)
    return DataConfig(name="mine", kind="hub", id=str(folder))


class TestHub:
    def test_splits_by_their_default_names(self, hub: DataConfig) -> None:
        data = load_data(hub, seed=0)
        assert data.label_names == ("a", "b")
        assert data.test.texts == tuple(row["text"] for row in TEST)
        assert data.report["validation_drawn_from_train"]

    def test_named_splits_and_slices(self, hub: DataConfig) -> None:
        data = load_data(replace(hub, train="train[:12]", validation="train[12:]"), seed=0)
        assert data.report["rows"] == {"train": 12, "validation": 4, "test": 8}

    def test_an_unknown_split(self, hub: DataConfig) -> None:
        with pytest.raises(DataError, match=r"'dev' of the hub.*'train', 'test'.*data\.validation"):
            load_data(replace(hub, validation="dev"), seed=0)

    def test_an_unknown_configuration(self, hub: DataConfig) -> None:
        with pytest.raises(DataError, match=r"'large' not found.*data\.config_name"):
            load_data(replace(hub, config_name="large"), seed=0)

    def test_a_missing_column(self, hub: DataConfig) -> None:
        with pytest.raises(DataError, match=r"'intent'.*'text', 'label'"):
            load_data(replace(hub, label_column="intent"), seed=0)

    def test_an_unreachable_hub_has_one_clear_error(self) -> None:
        # conftest.py keeps every test offline, which the client reports like a dead network.
        config = DataConfig(name="mine", kind="hub", id="nobody/nothing")
        with pytest.raises(
            DataError, match=r"'nobody/nothing'.*data\.id and the network"
        ) as caught:
            load_data(config, seed=0)
        assert "\n" not in str(caught.value)

    def test_no_id(self) -> None:
        with pytest.raises(DataError, match=r"in data\.id, got none"):
            load_data(DataConfig(name="mine", kind="hub"), seed=0)

    def test_out_of_scope_files_belong_to_files(self, hub: DataConfig) -> None:
        config = replace(hub, out_of_scope=OutOfScopeConfig(test="x.csv"))
        with pytest.raises((DataError, ConfigError), match=r"only with data\.kind=files"):
            load_data(config, seed=0)

    @pytest.mark.parametrize("several", [False, True])
    def test_class_numbers_become_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
    ) -> None:
        names = datasets.ClassLabel(names=["zebra", "ant"])
        feature = datasets.Sequence(names) if several else names
        values = [[0], [0, 1]] * 4 if several else [0, 1] * 4
        table = datasets.Dataset.from_dict(
            {"text": [f"t{i}" for i in range(8)], "label": values},
            features=datasets.Features({"text": datasets.Value("string"), "label": feature}),
        )

        def load_dataset(path: str, name: str | None, split: str) -> datasets.Dataset:
            return table.select(range(4) if split == "train" else range(4, 8))

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        data = load_data(DataConfig(name="mine", kind="hub", id="x/y"), seed=0)
        assert data.label_names == ("ant", "zebra")
        expected = [[0, 1], [1, 1]] * 2 if several else [1, 0] * 2
        assert data.test.labels.tolist() == expected

    def test_hidden_labels_of_a_test_split(self, monkeypatch: pytest.MonkeyPatch) -> None:
        feature = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])}
        )

        def load_dataset(path: str, name: str | None, split: str) -> datasets.Dataset:
            labels = [0, 1] * 4 if split == "train" else [-1] * 8
            texts = [f"{split} {i}" for i in range(8)]
            return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=feature)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        with pytest.raises(DataError, match=r"row 1 of the split 'test'.*hide their labels"):
            load_data(DataConfig(name="mine", kind="hub", id="x/y"), seed=0)
