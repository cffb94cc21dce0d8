"""The ways of decoding that are compared, each a function from a transcript to an answer."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparseft.compliance import Schema, Transcript
from sparseft.compliance.decoding import (
    Decoded,
    Drafts,
    LanguageModel,
    Vocabulary,
    generate,
    generate_freely,
)
from sparseft.compliance.reading import Reading

__all__ = ["CASES", "Case", "Decoder", "models_of"]


@dataclass(frozen=True)
class Case:
    """A way of decoding.

    Attributes:
        label: in the table.
        model: which of `models_of`.
        options: of `generate`; None: without a grammar.
        drafts: whether guesses are checked.
    """

    label: str
    model: str = "fp32"
    options: dict[str, Any] | None = None
    drafts: bool = False


CASES: dict[str, Case] = {
    "fast": Case("forced tokens together", options={}),
    "drafts": Case("and guesses checked", options={}, drafts=True),
    "slow": Case("every token by a call", options={"fast_forward": False}),
    "free": Case("without a grammar, same cap"),
    "eager": Case("forced together, attention not fused", "eager", {}),
    "bf16": Case("forced together, weights in bfloat16", "bf16", {}),
    "bf16_drafts": Case("bfloat16, and guesses", "bf16", {}, drafts=True),
    "mixed": Case("forced together, linears alone in bfloat16", "mixed", {}),
    "mixed_drafts": Case("linears in bfloat16, and guesses", "mixed", {}, drafts=True),
    "int8": Case("forced together, linears in int8", "int8", {}),
    "int8_drafts": Case("int8, and guesses", "int8", {}, drafts=True),
}


def models_of(model: Any) -> dict[str, LanguageModel]:
    """The plain fp32 model, and copies of it in other numbers.

    mixed: bfloat16 inside linear layers, fp32 between them (norms, attention, residual, head).
    int8: PyTorch's dynamic quantisation, a scale for each output row of a weight and one for each
    input tensor; embedding and head stay fp32.
    """
    eager, bf16, mixed, int8 = (copy.deepcopy(model) for _ in range(4))
    for module in list(mixed.backbone.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, _HalfLinear(child))
    eager.backbone.set_attn_implementation("eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is to move to torchao
        int8.backbone = torch.ao.quantization.quantize_dynamic(
            int8.backbone, {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
        )
    return {
        "fp32": model,
        "eager": eager,
        "bf16": bf16.to(torch.bfloat16),
        "mixed": mixed,
        "int8": int8,
    }


class _HalfLinear(nn.Module):
    """A linear layer without bias in bfloat16 inside a model in fp32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().to(torch.bfloat16), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.to(torch.bfloat16), self.weight).to(x.dtype)


class Decoder:
    """All cases over the same prompts."""

    def __init__(
        self,
        models: dict[str, LanguageModel],
        vocabulary: Vocabulary,
        reading: Reading,
        drafts: Drafts,
    ) -> None:
        self._models = models
        self._vocabulary = vocabulary
        self._reading = reading
        self._drafts = drafts

    @property
    def schema(self) -> Schema:
        """What is filled in."""
        return self._reading.schema

    def run(self, case: Case, transcript: Transcript) -> tuple[Decoded, float]:
        """The answer, and the seconds from the transcript to it: prompt, grammar and decoding."""
        started = time.perf_counter()
        prompt = self._reading.tokens(self._reading.prompt(transcript).text)
        model = self._models[case.model]
        if case.options is None:
            most = self._reading.answer_room
            decoded = generate_freely(model, self._vocabulary, prompt, most=most)
        else:
            grammar = self.schema.grammar(transcript.render())
            (decoded,) = generate(
                model,
                self._vocabulary,
                [prompt],
                [grammar],
                pad=self._vocabulary.end,
                drafts=self._drafts if case.drafts else None,
                **case.options,
            )
        return decoded, time.perf_counter() - started

    def parts(self, transcript: Transcript, repeats: int = 20) -> dict[str, float]:
        """Milliseconds of what is not the model: prompt and grammar."""
        text = transcript.render()

        def milliseconds(work: Callable[[], object]) -> float:
            started = time.perf_counter()
            for _ in range(repeats):
                work()
            return 1e3 * (time.perf_counter() - started) / repeats

        return {
            "prompt": milliseconds(
                lambda: self._reading.tokens(self._reading.prompt(transcript).text)
            ),
            "grammar": milliseconds(lambda: self._vocabulary.start(self.schema.grammar(text))),
        }
