"""Delta folders: exact round trips, and a clear refusal of everything else."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import sparseft
from sparseft.errors import DeltaError, SelectionError, SparseftError
from tests.sparse.helpers import analysed, bits, same_bits, train
from tests.tiny import FAMILIES, tiny, tiny_batch


def _trained(family: str = "bert", seed: int = 5, units: tuple[str, ...] = ("neuron", "head")):  # type: ignore[no-untyped-def]
    model, selection = analysed(family, units=units, seed=seed)
    sparseft.sparsify(model, selection)
    train(model, seed=seed)
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip_is_bit_exact(family: str, tmp_path: Path) -> None:
    model = _trained(family)
    sparseft.save_delta(model, tmp_path / "delta", extra={"label_names": ["a", "b", "c"]})
    loaded = sparseft.load_delta(tiny(family), tmp_path / "delta").eval()
    assert same_bits(bits(loaded), bits(model))
    batch = tiny_batch(model, 4, 7, seed=1)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert loaded._sparseft_state.selection.to_dict() == model._sparseft_state.selection.to_dict()


@pytest.mark.parametrize("units", [("row",), ("column",), ("block",), ("element",), ("embedding",)])
def test_round_trip_of_every_kind(units: tuple[str, ...], tmp_path: Path) -> None:
    model = _trained(units=units)
    sparseft.save_delta(model, tmp_path / "delta")
    assert same_bits(bits(sparseft.load_delta(tiny("bert"), tmp_path / "delta")), bits(model))


def test_the_folder_holds_a_card_and_small_indices(tmp_path: Path) -> None:
    sparseft.save_delta(_trained(), tmp_path / "d", extra={"model": {"id": "tiny"}})
    assert sorted(f.name for f in (tmp_path / "d").iterdir()) == [
        "README.md", "config.json", "delta.safetensors", "selection.json",
    ]  # fmt: skip
    delta = sparseft.read_delta(tmp_path / "d")
    assert delta.extra["model"] == {"id": "tiny"}
    dtypes = {t.dtype for n, t in delta.tensors.items() if n.endswith(".index")}
    assert dtypes == {torch.int32}
    assert "A sparse delta of tiny" in (tmp_path / "d" / "README.md").read_text()


def test_equal_deltas_are_equal_files(tmp_path: Path) -> None:
    model = _trained()
    for name in ("a", "b", "c"):
        sparseft.save_delta(model, tmp_path / name)
    files = {(tmp_path / name / "delta.safetensors").read_bytes() for name in ("a", "b", "c")}
    assert len(files) == 1


def test_a_loaded_delta_can_be_trained_on(tmp_path: Path) -> None:
    sparseft.save_delta(_trained(), tmp_path / "d")
    model = sparseft.load_delta(tiny("bert"), tmp_path / "d")
    before = bits(model)
    train(model, seed=8)
    assert not same_bits(bits(model), before)


def test_swap_exchanges_deltas_bit_for_bit(tmp_path: Path) -> None:
    first, second = _trained(seed=5), _trained(seed=6, units=("row",))
    sparseft.save_delta(first, tmp_path / "first")
    sparseft.save_delta(second, tmp_path / "second")
    model = sparseft.load_delta(tiny("bert"), tmp_path / "first")
    sparseft.swap(model, tmp_path / "second")
    assert same_bits(bits(model), bits(second))
    sparseft.swap(model, tmp_path / "first")
    assert same_bits(bits(model), bits(first))
    base = bits(tiny("bert"), without=("head.",))
    assert same_bits(bits(sparseft.unload(model), without=("head.",)), base)


class TestRefusals:
    """Each is one clear error, and the model stays as it was."""

    def _refused(self, model: nn.Module, path: Path, match: str) -> None:
        before = bits(model)
        with pytest.raises(DeltaError, match=match):
            sparseft.load_delta(model, path)
        assert same_bits(bits(model), before)
        assert not [n for n, _ in model.named_parameters() if "sparse" in n]

    def test_another_base(self, tmp_path: Path) -> None:
        sparseft.save_delta(_trained(), tmp_path / "d")
        self._refused(tiny("bert", seed=1), tmp_path / "d", "expected the base model with hash")
        self._refused(tiny("llama"), tmp_path / "d", "expected the base model with hash")

    def test_truncated(self, tmp_path: Path) -> None:
        sparseft.save_delta(_trained(), tmp_path / "d")
        file = tmp_path / "d" / "delta.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        self._refused(tiny("bert"), tmp_path / "d", "truncated or was changed")

    def test_missing_file(self, tmp_path: Path) -> None:
        sparseft.save_delta(_trained(), tmp_path / "d")
        (tmp_path / "d" / "delta.safetensors").unlink()
        self._refused(tiny("bert"), tmp_path / "d", "expected a readable .*delta.safetensors")
        self._refused(tiny("bert"), tmp_path / "nowhere", "config.json")

    def test_another_version(self, tmp_path: Path) -> None:
        sparseft.save_delta(_trained(), tmp_path / "d")
        file = tmp_path / "d" / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "version": 99}))
        self._refused(tiny("bert"), tmp_path / "d", "expected sparseft.delta version 1")

    def test_corrupt_selection(self, tmp_path: Path) -> None:
        sparseft.save_delta(_trained(), tmp_path / "d")
        (tmp_path / "d" / "selection.json").write_text("{")
        self._refused(tiny("bert"), tmp_path / "d", "expected a selection")

    def test_selection_of_another_delta(self, tmp_path: Path) -> None:
        sparseft.save_delta(_trained(seed=5), tmp_path / "d")
        sparseft.save_delta(_trained(seed=6, units=("row",)), tmp_path / "e")
        content = (tmp_path / "e" / "selection.json").read_text()
        (tmp_path / "d" / "selection.json").write_text(content)
        self._refused(tiny("bert"), tmp_path / "d", "to match selection.json")

    def test_another_head(self, tmp_path: Path) -> None:
        sparseft.save_delta(_trained(), tmp_path / "d")
        self._refused(tiny("bert", num_labels=4), tmp_path / "d", "head.*shape")

    def test_a_model_with_a_delta(self, tmp_path: Path) -> None:
        model = _trained()
        sparseft.save_delta(model, tmp_path / "d")
        with pytest.raises(SelectionError, match=r"call sparseft\.swap"):
            sparseft.load_delta(model, tmp_path / "d")

    def test_a_failed_swap_keeps_the_old_delta(self, tmp_path: Path) -> None:
        model = _trained()
        sparseft.save_delta(model, tmp_path / "d")
        before = bits(model)
        (tmp_path / "d" / "delta.safetensors").write_bytes(b"")
        with pytest.raises(DeltaError):
            sparseft.swap(model, tmp_path / "d")
        assert same_bits(bits(model), before)


def test_disk_full_while_saving_keeps_the_old_delta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    model = _trained()
    sparseft.save_delta(model, tmp_path / "d")
    old = (tmp_path / "d" / "delta.safetensors").read_bytes()
    train(model, seed=7)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SparseftError, match="No space left on device"):
        sparseft.save_delta(model, tmp_path / "d")
    assert [f.name for f in tmp_path.iterdir()] == ["d"]
    assert (tmp_path / "d" / "delta.safetensors").read_bytes() == old
