"""`python -m sparseft.predict`: a saved delta on new texts.

    python -m sparseft.predict DELTA "where is my parcel"      a table
    python -m sparseft.predict DELTA --file texts.txt          one text a line; JSON lines out
    cat texts.jsonl | python -m sparseft.predict DELTA         {"text": …} a line; other keys stay

    python -m sparseft.predict --schema service DELTA transcripts.jsonl --out records.jsonl

Each answer adds `prediction`, `probability` and `tokens` (the salient words) to its record. A line
that cannot be read is named on stderr and left out; the others go on, and the exit status is 1.

The last form is for deltas of task=compliance: one record per transcript, a line of the form
{"turns": [{"speaker", "text"}]} or {"text"}. A line that cannot be read gets a record with `error`;
the same command goes on where it was stopped. `--schema delta` takes the delta's own schema.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sparseft import files
from sparseft.errors import ConfigError, DataError, SparseftError

if TYPE_CHECKING:
    from sparseft.reporting.predictor import Prediction, Predictor

__all__ = ["main"]

_BATCHES_AT_ONCE = 16  # read ahead, so that texts of like length can share a batch


@dataclass(frozen=True)
class _Line:
    """One line of input: its record, or what is wrong with it."""

    number: int
    record: dict[str, Any]
    problem: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0, 1 where a line was left out, 2 on a user error."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except SparseftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, `head` for example, has seen enough.
        with contextlib.suppress(OSError):
            sys.stdout = open("/dev/null", "w")  # noqa: SIM115  nothing more is flushed on exit
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparseft.predict",
        description="Label texts with a saved delta: label, probability, salient tokens.",
    )
    parser.add_argument("delta", metavar="DELTA_DIR", help="a delta's folder, or its run's")
    parser.add_argument("text", metavar="TEXT", nargs="*", help="texts to label")
    parser.add_argument("--file", metavar="F", help="a file of texts or JSON lines; - is stdin")
    parser.add_argument(
        "--format",
        choices=("auto", "text", "jsonl"),
        default="auto",
        help="of the input; auto: jsonl by the file's ending or where it starts with {",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="32; of transcripts: 1")
    parser.add_argument("--tokens", type=int, default=5, metavar="N", help="salient words; 0: none")
    parser.add_argument("--out", metavar="F", help="write JSON lines to a file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    parser.add_argument("--schema", metavar="S", help="fill this schema's records; delta: its own")
    parser.add_argument(
        "--rules", nargs="*", default=(), metavar="M", help="modules with the schema's own rules"
    )
    parser.add_argument("--again", action="store_true", help="write --out anew, do not go on")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.schema:
        return _records(options)
    if options.batch_size is None:
        options.batch_size = 32
    if options.batch_size < 1 or options.tokens < 0:
        raise ConfigError(
            "expected --batch-size of 1 or more and --tokens of 0 or more, got "
            f"{options.batch_size} and {options.tokens}; change them."
        )
    if options.text and options.file:
        raise ConfigError("expected texts as arguments or --file, got both; leave one out.")
    if not options.text and not options.file and sys.stdin.isatty():
        raise ConfigError("expected texts, got none; give some, or --file F, or a pipe.")
    with contextlib.ExitStack() as stack:
        lines = _input(options, stack)
        start = time.perf_counter()
        # Only here: it loads torch, which `--help` and a wrong path need not wait for.
        from sparseft.reporting.predictor import load

        predictor = load(options.delta, options.device)
        loaded = time.perf_counter()
        as_table = bool(options.text) and not options.out and sys.stdout.isatty()
        answers = _answers(predictor, lines, options.batch_size, options.tokens)
        counts = _Counts()
        if as_table:
            print(_table(list(counts.of(answers))))
        elif options.out:
            written = [_json(record) for record in counts.of(answers)]
            files.write_text(options.out, "".join(written))
        else:
            for record in counts.of(answers):
                sys.stdout.write(_json(record))
            sys.stdout.flush()
        seconds = time.perf_counter() - loaded
    rate = counts.done / seconds if seconds > 0 else 0.0
    bad = f"; {counts.bad} left out" if counts.bad else ""
    print(
        f"{counts.done} text{'' if counts.done == 1 else 's'} in {seconds:.2f} s "
        f"({rate:.1f} a second, batches of {options.batch_size}), model loaded in "
        f"{loaded - start:.1f} s{bad}",
        file=sys.stderr,
    )
    return 1 if counts.bad else 0


def _records(options: argparse.Namespace) -> int:
    """Records of transcripts, written line by line."""
    if len(options.text) > 1 or (options.text and options.file):
        raise ConfigError(
            f"expected one file of transcripts, got {options.text}; give one, or - for stdin."
        )
    source = options.text[0] if options.text else options.file or "-"
    batch_size = 1 if options.batch_size is None else options.batch_size
    # Only here: what a classifier does not need.
    from sparseft.compliance.loading import load_evaluator
    from sparseft.compliance.serving.stream import Counts, evaluate_stream
    from sparseft.training.devices import resolve_device

    if batch_size < 1:
        raise ConfigError(f"expected --batch-size of 1 or more, got {batch_size}; change it.")
    evaluator = load_evaluator(
        options.delta,
        None if options.schema == "delta" else options.schema,
        rules=options.rules,
        device=str(resolve_device(options.device)),
        batch_size=batch_size,
    )

    def progress(counts: Counts) -> None:
        if sys.stderr.isatty():
            done = counts.evaluated + counts.bad + counts.failed
            print(f"\r{done} done, {counts.reviewed} to review", end="", file=sys.stderr)

    counts = evaluate_stream(
        evaluator,
        source,
        options.out or "-",
        batch_size=batch_size,
        resume=not options.again,
        progress=progress,
        stamp=evaluator.stamp,
    )
    rate = counts.seconds / max(counts.evaluated, 1)
    before = f", {counts.resumed} done before" if counts.resumed else ""
    print(
        f"{counts.evaluated} transcripts{before}: {counts.alarms} alarms, {counts.reviewed} to "
        f"review, {counts.bad} unreadable, {counts.failed} failed; {rate:.2f} s each",
        file=sys.stderr,
    )
    return 1 if counts.bad or counts.failed else 0


class _Counts:
    """Counts answered and unreadable lines, and names the latter, as they pass by."""

    def __init__(self) -> None:
        self.done = 0
        self.bad = 0

    def of(self, lines: Iterable[_Line]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if line.problem:
                self.bad += 1
                print(f"line {line.number}: {line.problem}", file=sys.stderr)
            else:
                self.done += 1
                yield line.record


def _input(options: argparse.Namespace, stack: contextlib.ExitStack) -> Iterator[_Line]:
    if options.text:
        return (_Line(number, {"text": text}) for number, text in enumerate(options.text, 1))
    stream: IO[bytes]
    if options.file in (None, "-"):
        stream = sys.stdin.buffer
    else:
        try:
            stream = Path(options.file).open("rb")  # noqa: SIM115  the stack closes it
        except OSError as error:
            raise DataError(
                f"expected a readable file at {options.file}, got: {error.strerror}; "
                "check the path."
            ) from error
        stack.enter_context(stream)
    return _lines(stream, options.format, Path(options.file or "-").suffix)


def _lines(stream: Iterable[bytes], form: str, ending: str) -> Iterator[_Line]:
    """The lines of a file; blank ones are left out of JSON lines, and are empty texts otherwise."""
    raw = iter(stream)
    first = next(raw, None)
    if first is None:
        return
    if form == "auto":
        looks_like_json = first.lstrip(b"\xef\xbb\xbf \t").startswith(b'{"')
        form = "jsonl" if ending in (".jsonl", ".ndjson") or looks_like_json else "text"
    for number, line in enumerate(itertools.chain([first], raw), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield _Line(number, {}, f"expected UTF-8, got: {error.reason}; it was left out")
            continue
        if form == "text":
            yield _Line(number, {"text": text})
        elif text.strip():
            yield _json_line(number, text)


def _json_line(number: int, text: str) -> _Line:
    try:
        record = json.loads(text)
    except ValueError as error:
        return _Line(number, {}, f"expected JSON, got: {error}; it was left out")
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        return _Line(number, {}, 'expected {"text": "…"}, got something else; it was left out')
    return _Line(number, record)


def _answers(
    predictor: Predictor, lines: Iterator[_Line], batch_size: int, tokens: int
) -> Iterator[_Line]:
    """The lines with their answers, in order."""
    from tqdm import tqdm

    with tqdm(unit=" texts", disable=not sys.stderr.isatty(), leave=False) as bar:
        while chunk := list(itertools.islice(lines, batch_size * _BATCHES_AT_ONCE)):
            good = [line for line in chunk if not line.problem]
            texts = [line.record["text"] for line in good]
            found = iter(predictor.predict(texts, batch_size, saliency=tokens > 0))
            for line in chunk:
                if not line.problem:
                    answer = _answer(next(found), predictor.multi_label, tokens)
                    line = _Line(line.number, {**line.record, **answer})
                yield line
            bar.update(len(chunk))


def _answer(found: Prediction, multi_label: bool, tokens: int) -> dict[str, Any]:
    probabilities = [round(value, 6) for value in found.probabilities]
    answer: dict[str, Any]
    if multi_label:
        answer = {"prediction": list(found.labels), "probability": probabilities}
    elif found.labels:
        answer = {"prediction": found.labels[0], "probability": probabilities[0]}
    else:  # a text without any token
        answer = {"prediction": None, "probability": None}
    if tokens:
        answer["tokens"] = [
            {"token": word, "saliency": round(weight, 4)} for word, weight in found.salient(tokens)
        ]
    return answer


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _table(records: list[dict[str, Any]]) -> str:
    rows = [("prediction", "probability", "text", "salient")]
    for record in records:
        labels, values = record["prediction"], record["probability"]
        if not isinstance(labels, list):
            labels, values = ([], []) if labels is None else ([labels], [values])
        text = " ".join(record["text"].split())
        rows.append(
            (
                ", ".join(labels) or "–",
                ", ".join(f"{value:.3f}" for value in values) or "–",
                text if len(text) <= 60 else text[:59] + "…",
                ", ".join(entry["token"] for entry in record.get("tokens", ())),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
