"""Routers as folders, and the command line on top of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sparseft import route
from sparseft.config import ModelConfig
from sparseft.errors import ConfigError, DataError
from sparseft.routing import Query
from sparseft.routing.pools import Pool, build_pool
from sparseft.routing.retriever import load_encoder
from sparseft.routing.saved import KINDS, POOLLESS, build_router, load_router, save_router
from tests.tiny import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    folder = save_tiny_model(tmp_path_factory.mktemp("encoder"))
    return ModelConfig(name="tiny", source="path", id=str(folder), max_length=32)


@pytest.fixture(scope="module")
def pool() -> Pool:
    texts = ["north of town please", "the one you named second"] * 10
    queries = [Query(str(k), f"{text} {k}", str(k), -0.1, "a b") for k, text in enumerate(texts)]
    return build_pool(queries, [k % 2 == 0 for k in range(20)], [True] * 20)


_ASKED = [Query("a", "north please", "a", -0.1, "x"), Query("b", "named second", "b", -2.0, "y")]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_router_is_written_and_read_again(
    kind: str, model: ModelConfig, pool: Pool, tmp_path: Path
) -> None:
    options = {"k": 3} if kind == "knn" else {}
    save_router(tmp_path / "router", kind, pool, model, 0.4, options, {"wanted": 0.5})
    saved = load_router(tmp_path / "router")
    direct = build_router(kind, pool, load_encoder(model), options).scores(_ASKED)
    np.testing.assert_allclose(saved.router.scores(_ASKED), direct, atol=1e-6)
    assert saved.threshold == 0.4 and saved.facts == {"wanted": 0.5}
    assert saved.large(_ASKED).tolist() == (direct >= 0.4).tolist()


@pytest.mark.parametrize("kind", sorted(POOLLESS))
def test_a_router_without_a_pool_is_its_settings_alone(kind: str, tmp_path: Path) -> None:
    save_router(tmp_path / "router", kind, None, None, 0.4)
    assert [path.name for path in (tmp_path / "router").iterdir()] == ["router.json"]
    saved = load_router(tmp_path / "router")
    direct = build_router(kind, None, None, {}).scores(_ASKED)
    np.testing.assert_array_equal(saved.router.scores(_ASKED), direct)
    assert saved.router.needs_confidence == (kind == "cascade")


def test_a_kind_with_a_pool_is_not_written_without(model: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a pool and an encoder"):
        save_router(tmp_path / "router", "knn", None, model, 0.4)
    assert not (tmp_path / "router").exists()


def test_bad_folders_and_options_are_refused(
    model: ModelConfig, pool: Pool, tmp_path: Path
) -> None:
    with pytest.raises(DataError):
        load_router(tmp_path)
    with pytest.raises(ConfigError, match="one of"):
        build_router("oracle", pool, load_encoder(model), {})
    with pytest.raises(ConfigError, match="options of the router knn"):
        build_router("knn", pool, load_encoder(model), {"depth": 1})
    save_router(tmp_path / "router", "knn", pool, model, 0.4)
    settings = tmp_path / "router" / "router.json"
    content = json.loads(settings.read_text())
    for damage in ({"format": "x"}, {"kind": "none"}, {"model": {"shape": 1}}):
        settings.write_text(json.dumps({**content, **damage}))
        with pytest.raises((DataError, ConfigError)):
            load_router(tmp_path / "router")


def test_a_batch_goes_on_after_a_bad_line(
    model: ModelConfig, pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_router(tmp_path / "router", "knn", pool, model, 0.5, {"k": 3})
    lines = [
        '{"id": "one", "text": "north please"}',
        "no json",
        '{"user": "the second", "system": "which one?", "state": {"hotel-area": "north"}}',
        '{"text": ""}',
        '{"text": "x", "wish": 1}',
        '{"user": 3}',
        "[]",
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    command = [str(tmp_path / "router"), str(tmp_path / "in.jsonl")]
    assert route.main([*command, "--out", str(tmp_path / "out.jsonl")]) == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [sorted(each) for each in found[:3]] == [
        ["id", "route", "score"], ["error", "id"], ["id", "route", "score"],
    ]  # fmt: skip
    assert found[0]["id"] == "one" and found[1]["id"] == "line 2"
    assert all("error" in each for each in found[3:]) and len(found) == len(lines)
    assert route.main([*command, "--threshold", "-1"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["route"] for each in printed if "route" in each] == ["large", "large"]


def test_user_errors_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert route.main([str(tmp_path)]) == 2
    assert route.main([str(tmp_path), str(tmp_path / "none.jsonl")]) == 2
    assert route.main([str(tmp_path), "--serve"]) == 2
    assert capsys.readouterr().err.count("error: expected") == 3
