"""What a run leaves beside its record: the trained values and the test predictions."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
from safetensors.torch import save as dump_tensors
from torch import Tensor

from sparseft import files, sparse
from sparseft.config import RunConfig
from sparseft.constructs import TOKENS_FILE, Additions
from sparseft.data import TaskData
from sparseft.methods import Prepared
from sparseft.sparse.added import added_rows, to_tensors
from sparseft.training.evaluate import Evaluation
from sparseft.training.meters import tensor_bytes
from sparseft.training.progress import TrainOutcome

__all__ = ["save_trained", "write_predictions"]


def save_trained(
    config: RunConfig,
    data: TaskData,
    prepared: Prepared,
    outcome: TrainOutcome,
    test: Evaluation,
    folder: Path,
    additions: Additions | None = None,
) -> int:
    """Write what `training.save` asks for; returns the bytes of the trained values' file.

    Where none is written, it is the size of the values themselves. `additions` are the tokens that
    the run added; they and their rows are kept beside the values.
    """
    save = config.training.save
    # Of an earlier run of this configuration, on another commit.
    shutil.rmtree(folder / "delta", ignore_errors=True)
    for name in ("state.safetensors", TOKENS_FILE):
        (folder / name).unlink(missing_ok=True)
    beside = {} if additions is None else {TOKENS_FILE: additions.to_json()}
    if prepared.selection is not None and save != "none":
        plain = config.to_mapping()
        extra = {
            "model": plain["model"],
            "data": {"name": data.name, "sha256": data.sha256},
            "label_names": list(data.label_names),
            "multi_label": data.multi_label,
            "method": str(config.method["name"]),
            "seed": config.seed,
            "metrics": {
                **{f"test {name}": round(value, 6) for name, value in test.metrics.items()},
                "best validation score": round(outcome.score, 6),
            },
        }
        sparse.save_delta(prepared.model, folder / "delta", extra=extra, beside=beside)
        return (folder / "delta" / "delta.safetensors").stat().st_size
    trained = _named_values(prepared)
    if save == "all" and prepared.selection is None:
        # One entry: safetensors writes several in any order, and equal runs give equal files.
        rows = to_tensors(added_rows(prepared.model))
        content = dump_tensors({**trained, **rows}, {"format": "sparseft.state.1"})
        for name, text in beside.items():
            files.write_text(folder / name, text)
        files.write_bytes(folder / "state.safetensors", content)
        return len(content)
    return tensor_bytes(trained.values())


def _named_values(prepared: Prepared) -> dict[str, Tensor]:
    wanted = {id(parameter) for parameter in (*prepared.body, *prepared.head)}
    return {
        name: parameter.detach().to("cpu").contiguous()
        for name, parameter in prepared.model.named_parameters()
        if id(parameter) in wanted
    }


def write_predictions(path: Path, data: TaskData, test: Evaluation) -> None:
    """Write test_ids, test_predictions, test_labels and test_probability as an npz file."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        test_ids=data.test.ids,
        test_predictions=test.predictions,
        test_labels=test.labels,
        test_probability=test.probability,
    )
    files.write_bytes(path, stream.getvalue())
