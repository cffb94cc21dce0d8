"""sparseft inside other people's loops."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

import sparseft
from tests.sparse.helpers import analysed, bits, same_bits
from tests.tiny import tiny, tiny_batch


class _Rows(Dataset[dict[str, Tensor]]):
    def __init__(self, batch: dict[str, Tensor]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["labels"])

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: values[row] for name, values in self.batch.items()}


def test_transformers_trainer_trains_and_saves(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    model, selection = analysed("bert")
    before = bits(model)
    sparseft.sparsify(model, selection)
    batch = tiny_batch(model, 8, 7, seed=1)
    first = float(model(**batch).loss.detach())
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=12,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        use_cpu=True,
        max_grad_norm=1.0,
    )
    # The default optimizer, torch's fused AdamW: it knows nothing of sparseft.
    Trainer(model=model, args=arguments, train_dataset=_Rows(batch)).train()
    model.eval()
    assert float(model(**batch).loss.detach()) < first
    for selected in selection.modules:
        name = f"{selected.module}.weight"
        changed = (bits(model)[name] != before[name]).sum()
        assert 0 < int(changed) <= selected.weights

    ours = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-2)
    Trainer(
        model=model, args=arguments, train_dataset=_Rows(batch), optimizers=(ours, None)
    ).train()
    logits = model.eval()(**batch).logits
    sparseft.save_delta(model, tmp_path / "delta")
    loaded = sparseft.load_delta(tiny("bert"), tmp_path / "delta").eval()
    assert torch.equal(loaded(**batch).logits, logits)


def test_plain_loop_with_clipping_accumulation_and_a_schedule() -> None:
    model, selection = analysed("llama")
    sparseft.sparsify(model, selection)
    parameters = sparseft.trainable(model)
    optimizer = sparseft.optim.SparseAdamW(parameters, lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 4)
    batch = tiny_batch(model, 8, 7, seed=1)
    losses = []
    for _ in range(12):
        total = 0.0
        for half in (slice(0, 4), slice(4, 8)):
            loss = model(**{k: v[half] for k, v in batch.items()}).loss / 2
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        assert torch.isfinite(norm)
        clipped = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()
        assert clipped <= 0.5 + 1e-5
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
    assert losses[-1] < 0.8 * losses[0]


_WORKER = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import sparseft
from tests.sparse.helpers import analysed, bits
from tests.tiny import tiny_batch
rank, world, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
model, selection = analysed("bert")
sparseft.sparsify(model, selection)
model.train()
net = model
if world > 1:
    where = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=world)
    net = DistributedDataParallel(model)
optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-2, foreach=False)
for step in range(4):
    batch = tiny_batch(model, 8, 7, seed=step)
    share = slice(rank * 8 // world, (rank + 1) * 8 // world)
    net(**{k: v[share] for k, v in batch.items()}).loss.backward()
    if world > 1:
        sent = {n for n, p in net.named_parameters() if p.grad is not None}
        assert all("sparse_" in n or ".head." in n for n in sent), sent
    optimizer.step(); optimizer.zero_grad()
if rank == 0:
    torch.save(bits(model), out)
if world > 1:
    dist.destroy_process_group()
"""


def _port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _run(world: int, out: Path) -> dict[str, Tensor]:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'kernels'}"}
    port = _port()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(rank), str(world), port, str(out)],
            env=environment, stderr=subprocess.PIPE, text=True, cwd=root,
        )
        for rank in range(world)
    ]  # fmt: skip
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    weights: dict[str, Tensor] = torch.load(out)
    return weights


def test_two_process_ddp_gives_the_single_process_result(tmp_path: Path) -> None:
    alone = _run(1, tmp_path / "alone.pt")
    together = _run(2, tmp_path / "together.pt")
    assert alone.keys() == together.keys()
    for name, weight in alone.items():
        # Same mean gradient, summed in another order.
        torch.testing.assert_close(together[name], weight, rtol=1e-4, atol=1e-5)
    assert same_bits(alone, _run(1, tmp_path / "again.pt"))
