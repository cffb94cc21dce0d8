"""Measure the methods on one model: all held at once and taking turns, or one after another.

Held at once, a ratio to the reference is taken inside a round. For a model that is too large for
that, the reference is measured before and after every method: a ratio is to the mean of the two
medians, and the later over the earlier one is recorded as the drift. The reference is full
finetuning in the same mode, or where that does not fit its fallback; the record names it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from capture import CaptureError, Capturer
from cases import FALLBACK, Case, MissingPackage, release, spec_of
from memory import step_bytes
from records import EAGER, GRAPHS, Key, Records
from shapes import Shape, build, count_parameters, static_batch
from timing import Step, figures, ratios, take_turns

__all__ = ["Sitting"]

# bfloat16 weight and gradient, and float32 gradient, master and two moments.
_FULL_BYTES = 2 + 2 + 4 + 4 + 8
_NOT_CAPTURED = "cannot be captured"
_OutOfMemory = torch.cuda.OutOfMemoryError


class _Broken(Exception):
    """This process can measure no more; what went wrong is recorded."""


@dataclass
class _Held:
    """A case on the device. `resident`: its bytes there between steps; `peak` by mode."""

    case: Case
    counted: dict[str, int]
    resident: int
    peak: dict[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Visit:
    """What is left of a case once it is dropped; by mode."""

    facts: dict[str, Any]
    memory: dict[str, dict[str, Any]]
    seconds: dict[str, list[float]]


class Sitting:
    """One model's measurements.

    Args:
        model: the name in SHAPES.
        shape: how it is built and run.
        records: what is done, and where to write.
        device: where it runs.
        modes: "eager", "graphs".
        deadline: of `time.monotonic`; no method is begun after it.
    """

    def __init__(
        self,
        model: str,
        shape: Shape,
        records: Records,
        device: torch.device,
        modes: Sequence[str],
        deadline: float,
    ) -> None:
        self._model, self._shape, self._records, self._device = model, shape, records, device
        self._modes, self._deadline = tuple(modes), deadline
        self._batch = static_batch(shape, device)
        if device.type == "cuda":
            # The cuBLAS workspace, so that it is not counted as the first case's memory.
            square = torch.ones(64, 64, device=device, dtype=torch.bfloat16)
            _ = square @ square
        self._capturer = Capturer(device) if GRAPHS in modes else None

    def measure(self, one_by_one: bool) -> bool:
        """Measure what is pending, all at once or `one_by_one`.

        Something may be left for another process: a method that fails ends this one.

        Returns:
            False where the methods do not fit on the device at once; measure them one by one then.
        """
        try:
            if one_by_one:
                self._one_by_one()
            else:
                self._together()
        except _Broken:
            pass
        except _OutOfMemory:
            print(f"{self._model}: the methods do not fit at once; one after another", flush=True)
            return False
        return True

    # --- all at once

    def _together(self) -> None:
        pending = self._records.pending(self._model, self._modes)
        held: dict[str, _Held] = {}
        for method in dict.fromkeys(["full", *(key.method for key in pending)]):
            case = self._hold(method)
            if case is not None:
                held[method] = case
        for mode in self._modes:
            self._release()
            wanted = [m for m in held if m == "full" or Key(self._model, m, mode) in pending]
            if mode == EAGER:
                self._take_turns(held, {m: held[m].case.step for m in wanted}, mode)
                continue
            # SHiRA builds sparse tensors in every step: its capture is the likeliest
            # to fail, and what a failed capture leaves behind must not touch the others.
            steps: dict[str, Step] = {}
            for group in (
                [m for m in wanted if spec_of(m).kind != "shira"],
                [m for m in wanted if spec_of(m).kind == "shira"],
            ):
                steps = {m: step for m, step in steps.items() if m == "full"}
                for method in group:
                    step = self._capture(held[method])
                    if step is not None:
                        steps[method] = step
                self._take_turns(held, steps, mode)

    def _take_turns(self, held: Mapping[str, _Held], steps: dict[str, Step], mode: str) -> None:
        keys = {method: Key(self._model, method, mode) for method in steps}
        if all(self._records.finished(key) for key in keys.values()):
            return
        seconds = self._timed(steps)
        about: dict[str, Any] = {"order": "interleaved", "reference": None}
        reference = seconds.get("full")
        if reference is not None:
            about |= {"reference": "full", **figures(reference, "reference_ms", 1e3)}
        for method, key in keys.items():
            if not self._records.finished(key):
                compared = None if reference is None else ratios(seconds[method], reference)
                facts, memory = held[method].case.facts(), self._memory(held[method], mode)
                self._write(key, facts, memory, seconds[method], compared, about)

    # --- one after another

    def _one_by_one(self) -> None:
        reference, before = self._visit_reference()
        while (pending := self._others_pending()) and time.monotonic() < self._deadline:
            method = pending[0].method
            modes = [key.mode for key in pending if key.method == method]
            mine = self._visit(method, modes)
            if mine is None:
                continue
            after = None if reference is None else self._visit(reference, modes)
            for mode in mine.seconds:
                self._write_between(Key(self._model, method, mode), mine, reference, before, after)
            before = after
            self._check_usable()

    def _others_pending(self) -> list[Key]:
        pending = self._records.pending(self._model, self._modes)
        return [key for key in pending if key.method != "full"]

    def _visit_reference(self) -> tuple[str | None, _Visit | None]:
        """The first of full finetuning and its fallback that fits; its record is written."""
        for method in ("full", FALLBACK):
            keys = [Key(self._model, method, mode) for mode in self._modes]
            if all(self._records.status(key) == "does not fit" for key in keys):
                continue
            visit = self._visit(method, self._modes)
            if visit is None:
                continue
            for mode in visit.seconds:
                key = Key(self._model, method, mode)
                if not self._records.finished(key):
                    self._write_between(key, visit, method, visit, visit)
            self._check_usable()
            return method, visit
        return None, None

    def _visit(self, method: str, modes: Sequence[str]) -> _Visit | None:
        """Build a method, time it in the modes, and drop it; None where that was not possible."""
        try:
            return self._visited(method, modes)
        except _OutOfMemory as error:
            reason = str(error).strip().splitlines()[0]
        finally:
            self._release()
        if method in ("full", FALLBACK):
            count = count_parameters(self._shape)
            each = _FULL_BYTES if method == "full" else 8
            reason = (
                f"{count:,} parameters need {count * each / 2**30:.1f} GiB without activations "
                f"({each} bytes each); tried: {reason}"
            )
        for mode in modes:
            key = Key(self._model, method, mode)
            if not self._records.finished(key):
                self._records.write(key, "does not fit", self._about(method) | {"reason": reason})
        if self._capturer is not None and not self._capturer.usable:
            raise _Broken
        return None

    def _visited(self, method: str, modes: Sequence[str]) -> _Visit | None:
        held = self._hold(method)
        if held is None:
            return None
        seconds: dict[str, list[float]] = {}
        for mode in modes:
            step = held.case.step if mode == EAGER else self._capture(held)
            if step is not None:
                seconds[mode] = self._timed({method: step})[method]
        memory = {mode: self._memory(held, mode) for mode in seconds}
        return _Visit(held.case.facts(), memory, seconds)

    def _write_between(
        self, key: Key, visit: _Visit, reference: str | None, before: _Visit | None,
        after: _Visit | None,
    ) -> None:  # fmt: skip
        seconds = visit.seconds[key.mode]
        medians = [
            median(other.seconds[key.mode])
            for other in (before, after)
            if other is not None and key.mode in other.seconds
        ]
        about: dict[str, Any] = {"order": "one after another", "reference": reference}
        compared = None
        if len(medians) == 2:
            level = sum(medians) / 2
            compared = [second / level for second in seconds]
            about |= {"reference_ms_median": 1e3 * level, "drift": medians[1] / medians[0]}
        self._write(key, visit.facts, visit.memory[key.mode], seconds, compared, about)

    # --- one method

    def _hold(self, method: str) -> _Held | None:
        """Build the method's case, count its bytes, take its first steps.

        None where its package is missing, which is recorded.
        """
        before = self._allocated()
        try:
            model = build(self._shape, self._device)
            case = Case(method, model, [self._batch], analyse=False)
            del model
            case.step()  # makes the optimizer's state
            held = _Held(case, step_bytes(case), self._allocated() - before)
            held.peak[EAGER] = self._peak_of_a_step(held)
        except MissingPackage as error:
            self._write_for_all_modes(method, "skipped", str(error))
            return None
        except _OutOfMemory:
            raise
        except Exception as error:
            # After an error on a GPU the process may be of no more use.
            self._write_for_all_modes(method, "failed", f"{type(error).__name__}: {error}")
            raise _Broken from error
        return held

    def _capture(self, held: _Held) -> Step | None:
        """The captured step; None where it cannot be captured, which is recorded."""
        assert self._capturer is not None
        key = Key(self._model, held.case.name, GRAPHS)
        if not self._capturer.usable or self._records.status(key) == _NOT_CAPTURED:
            return None
        before = self._allocated()
        try:
            step = self._capturer.capture(held.case)
        except CaptureError as error:
            about = self._about(held.case.name) | held.case.facts() | {"reason": str(error)}
            self._records.write(key, _NOT_CAPTURED, about)
            return None
        held.peak[GRAPHS] = held.resident + torch.cuda.max_memory_allocated(self._device) - before
        return step

    def _check_usable(self) -> None:
        if self._capturer is not None and not self._capturer.usable:
            raise _Broken

    def _timed(self, steps: Mapping[str, Step]) -> dict[str, list[float]]:
        return take_turns(
            steps,
            rounds=self._shape.rounds,
            warm_up=1,
            steps_a_turn=self._shape.steps_a_turn,
            synchronise=self._synchronise,
            deadline=self._deadline,
        )

    # --- memory

    def _release(self) -> None:
        if self._capturer is None or self._capturer.usable:
            release(self._device)

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _allocated(self) -> int:
        if self._device.type != "cuda":
            return 0
        return int(torch.cuda.memory_allocated(self._device))

    def _peak_of_a_step(self, held: _Held) -> int | None:
        """The case's own bytes at the peak of a step; what else is on the device is left out."""
        if self._device.type != "cuda":
            held.case.step()
            return None
        before = self._allocated()
        torch.cuda.reset_peak_memory_stats(self._device)
        held.case.step()
        return held.resident + int(torch.cuda.max_memory_allocated(self._device)) - before

    def _memory(self, held: _Held, mode: str) -> dict[str, Any]:
        return {"peak_bytes": held.peak[mode], **held.counted}

    # --- records

    def _about(self, method: str) -> dict[str, Any]:
        return {
            "label": spec_of(method).label,
            "batch": self._shape.batch,
            "length": self._shape.length,
            "steps_a_turn": self._shape.steps_a_turn,
        }

    def _write(
        self, key: Key, facts: Mapping[str, Any], memory: Mapping[str, Any],
        seconds: Sequence[float], compared: Sequence[float] | None, about: Mapping[str, Any],
    ) -> None:  # fmt: skip
        ratio = dict.fromkeys(("ratio_p20", "ratio_median", "ratio_p80"))
        if compared is not None:
            ratio = figures(compared, "ratio")
        content = {
            **self._about(key.method),
            **facts,
            **about,
            **figures(seconds, "ms", 1e3),
            **ratio,
            "rounds": len(seconds),
            "tokens_per_second": self._shape.batch * self._shape.length / median(seconds),
            "memory": dict(memory),
        }
        self._records.write(key, "measured", content)

    def _write_for_all_modes(self, method: str, status: str, reason: str) -> None:
        for mode in self._modes:
            key = Key(self._model, method, mode)
            if not self._records.finished(key):
                self._records.write(key, status, self._about(method) | {"reason": reason})
