"""How long an evaluation takes on a CPU, by the way of decoding.

    python experiments/compliance_latency/measure.py --delta RUN/delta     writes results/ and the table
    python experiments/compliance_latency/measure.py                       an untrained model
    python experiments/compliance_latency/measure.py --table               writes the table of README.md again

The ways take turns in a shuffled order on each transcript, so that whatever else the machine does
falls on all alike; a ratio is taken inside a transcript.
"""  # noqa: E501

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import CASES, Decoder, models_of

from sparseft import files, models, sparse
from sparseft.compliance import Example, load_schema
from sparseft.compliance.decoder import DecoderReader
from sparseft.compliance.decoding import (
    Decoded,
    Drafts,
    Vocabulary,
    draft_answers,
)
from sparseft.compliance.decoding.steps import LanguageModel, Stepper
from sparseft.compliance.loading import load_evaluator
from sparseft.compliance.reading import Reading
from sparseft.compliance.service import TRAIN_COUNT, simulate
from sparseft.config import ModelConfig
from sparseft.errors import ConfigError
from sparseft.results import environment
from sparseft.training.devices import device_name

_FOLDER = Path(__file__).parent
_MARK = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
_PROMPTS = (64, 128, 256, 384, 512, 640)  # tokens
_STEPS = (1, 4, 8, 16)  # new tokens of a call, behind 384
_UNTRAINED = {"max_length": 768, "answer_room": 128}


def load(delta: str | None) -> tuple[Any, Reading]:
    """A merged fp32 model and its prompts."""
    if delta is not None:
        reader = load_evaluator(delta).reader
        if not isinstance(reader, DecoderReader):
            raise ConfigError(
                f"expected the delta of a decoder, got one of {reader.settings()['reader']}; give "
                "one of +experiment=compliance_decoder."
            )
        return sparse.merge(reader.model), reader.reading
    config = ModelConfig(
        name="smollm2", source="embedded", id="smollm2", pooling="auto", dtype="float32",
        max_length=_UNTRAINED["max_length"],
    )  # fmt: skip
    loaded = models.load_language(config)
    return loaded.model, Reading(load_schema("service"), loaded.tokenizer, **_UNTRAINED)


def take_turns(
    decoder: Decoder, examples: Sequence[Example], warm_up: int, names: Sequence[str]
) -> dict[str, list[tuple[Decoded, float]]]:
    """Answer and seconds of every example by case; the first `warm_up` are done twice."""
    found: dict[str, list[tuple[Decoded, float]]] = {name: [] for name in names}
    for number, example in enumerate([*examples[:warm_up], *examples]):
        order = list(names)
        random.Random(number).shuffle(order)
        for name in order:
            outcome = decoder.run(CASES[name], example.transcript)
            if number >= warm_up:
                found[name].append(outcome)
    return found


def right(decoder: Decoder, example: Example, decoded: Decoded) -> float:
    """Share of the model's fields that equal the gold; 0 for what is no record."""
    schema = decoder.schema
    try:
        values = schema.parse(decoded.text)
    except ConfigError:
        return 0.0
    hits = [
        values[field.name] == field.canonical(example.gold[field.name])
        for field in schema.model_fields
    ]
    return float(np.mean(hits))


def figures(values: Sequence[float] | np.ndarray, name: str) -> dict[str, float]:
    """Median, 20th, 80th and 95th percentile under `name_…`."""
    marks = (("median", 50), ("p20", 20), ("p80", 80), ("p95", 95))
    return {f"{name}_{mark}": float(np.percentile(values, share)) for mark, share in marks}


def rows_of(
    decoder: Decoder,
    examples: Sequence[Example],
    found: Mapping[str, list[tuple[Decoded, float]]],
) -> dict[str, Any]:
    """The record's rows by case."""
    base = np.array([seconds for _, seconds in found["fast"]])
    said = [decoded.text for decoded, _ in found["fast"]]
    rows = {}
    for name, outcomes in found.items():
        answers = [decoded for decoded, _ in outcomes]
        seconds = np.array([taken for _, taken in outcomes])
        accuracy = [
            right(decoder, example, one) for example, one in zip(examples, answers, strict=True)
        ]
        rows[name] = {
            **figures(seconds, "seconds"),
            **figures(seconds / base, "ratio"),
            "calls": float(np.mean([one.calls for one in answers])),
            "tokens": float(np.mean([len(one.tokens) for one in answers])),
            "choices": float(np.mean([len(one.choices) for one in answers])),
            "valid": float(np.mean([_valid(decoder, one) for one in answers])),
            "equal": float(
                np.mean([one.text == text for one, text in zip(answers, said, strict=True)])
            ),
            "fields_right": float(np.mean(accuracy)),
        }
    return rows


def _valid(decoder: Decoder, decoded: Decoded) -> bool:
    try:
        decoder.schema.parse(decoded.text)
    except ConfigError:
        return False
    return True


def calls(models_by_name: Mapping[str, LanguageModel], repeats: int) -> dict[str, Any]:
    """Milliseconds of a first call by prompt tokens, and of a later one by new tokens."""
    tokens = [100 + number for number in range(max(_PROMPTS))]
    found: dict[str, Any] = {}
    for name, model in models_by_name.items():

        def first(length: int, model: LanguageModel = model) -> Callable[[], object]:
            return lambda: Stepper(model, 1, 0).give([tokens[:length]])

        stepper = Stepper(model, 1, 0)
        stepper.give([tokens[:384]])

        def later(length: int, stepper: Stepper = stepper) -> Callable[[], object]:
            def call() -> None:
                stepper.give([tokens[:length]])
                stepper.take_back([length])

            return call

        found[name] = {
            "first": {str(n): _milliseconds(first(n), repeats) for n in _PROMPTS},
            "later": {str(n): _milliseconds(later(n), 4 * repeats) for n in _STEPS},
        }
    return found


def _milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - started))
    return float(np.median(taken[1:]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The record."""
    torch.set_num_threads(options.threads)
    model, reading = load(options.delta)
    vocabulary = Vocabulary(reading.tokenizer, model.vocabulary_size)
    gold = [example.gold for example in simulate(TRAIN_COUNT, 0, "train")]
    answers = draft_answers(reading.schema, gold)
    drafts = Drafts(reading.tokenizer(answers, add_special_tokens=False)["input_ids"])
    by_name = models_of(model)
    decoder = Decoder(by_name, vocabulary, reading, drafts)
    examples = simulate(options.transcripts, 0, "test")
    names = ["fast", *(name for name in options.cases if name != "fast")]
    rows = rows_of(decoder, examples, take_turns(decoder, examples, options.warm_up, names))
    for name, row in rows.items():
        print(
            f"{name:12s} {row['seconds_median']:6.2f} s  p95 {row['seconds_p95']:6.2f}  ratio "
            f"{row['ratio_median']:.2f}  calls {row['calls']:5.1f}  equal {row['equal']:.2f}  "
            f"right {row['fields_right']:.3f}"
        )
    prompts = [len(reading.tokens(reading.prompt(example.transcript).text)) for example in examples]
    return {
        "model": "smollm2",
        "trained": options.delta is not None,
        "transcripts": len(examples),
        "prompt_tokens": figures(prompts, "tokens"),
        "cap": reading.answer_room,
        "environment": environment(device_name(torch.device("cpu")), torch.get_num_threads()),
        "cases": rows,
        "calls": calls(
            {CASES[name].model: by_name[CASES[name].model] for name in names}, options.repeats
        ),
        "parts": decoder.parts(examples[0].transcript),
    }


def table(record: Mapping[str, Any]) -> str:
    """The record as Markdown."""
    where, prompt = record["environment"], record["prompt_tokens"]
    kind = "finetuned" if record["trained"] else "untrained"
    lines = [
        f"SmolLM2-135M, {kind}, {record['transcripts']} conversations (median prompt of "
        f"{prompt['tokens_median']:.0f} tokens), {where['threads']} thread(s) of "
        f"{where['device']}, torch {where['torch']}, commit {where['commit'][:7]}. Prompt and "
        f"grammar take {record['parts']['prompt']:.1f} and {record['parts']['grammar']:.1f} ms.",
        "",
        "| decoding | p50, s | p95, s | ratio | calls | tokens, open | same answer | valid | "
        "fields right |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        if name not in record["cases"]:
            continue
        row = record["cases"][name]
        opened = "" if case.options is None else f", {row['choices']:.0f}"
        lines.append(
            f"| {case.label} | {row['seconds_median']:.2f} | {row['seconds_p95']:.2f} | "
            f"{row['ratio_median']:.2f} ({row['ratio_p20']:.2f} to {row['ratio_p80']:.2f}) | "
            f"{row['calls']:.1f} | {row['tokens']:.0f}{opened} | {row['equal']:.0%} | "
            f"{row['valid']:.0%} | {row['fields_right']:.1%} |"
        )
    lines += ["", "Milliseconds of a call:", ""]
    heads = [f"prompt of {n}" for n in _PROMPTS] + [f"{n} more" for n in _STEPS]
    lines += [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, taken in record["calls"].items():
        cells = [taken["first"][str(n)] for n in _PROMPTS]
        cells += [taken["later"][str(n)] for n in _STEPS]
        lines.append(f"| {name} | {' | '.join(f'{cell:.0f}' for cell in cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--delta", help="of a run of the service schema; none: untrained")
    parser.add_argument("--transcripts", type=int, default=53)
    parser.add_argument("--warm-up", type=int, default=2, help="transcripts done before")
    parser.add_argument("--repeats", type=int, default=5, help="of a single call")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--output", type=Path, help="a record elsewhere; the table stays")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    options = parser.parse_args()
    path = _FOLDER / "results" / "smollm2-cpu.json"
    if not options.table:
        print(files.write_json(options.output or path, measure(options)))
    if path.exists() and options.output is None:
        readme = _FOLDER / "README.md"
        content = table(files.read_json(path))
        text = readme.read_text(encoding="utf-8")
        files.write_text(readme, _MARK.sub(lambda m: m.group(1) + content + m.group(2), text))


if __name__ == "__main__":
    main()
