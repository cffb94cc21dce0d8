"""The tables of this folder's README from results/: `python experiments/compliance/table.py`.

Writes tables/<data>.md and tables/<data>.csv; with --readme also each corpus's main table between
its marks in README.md. An arm's rate is run.py's choice. A run's test conversations are made again
from its stored settings, and refused where they are not those that it was scored on.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import run
from settings import ARMS, DATA, SCALES, SEEDS, Arm

from sparseft import files
from sparseft.compliance import Example, FieldValue, Record, Schema, Transcript, load_schema
from sparseft.compliance.abcd import rules_only as abcd_rules
from sparseft.compliance.corpora import load_corpus
from sparseft.compliance.corpus import Corpus
from sparseft.compliance.scores import (
    StatedCost,
    compare,
    compare_costs,
    cost_per_evaluation,
    score_runs,
)
from sparseft.compliance.scores.tables import MISSING, interval_text, percent
from sparseft.compliance.service import rules_only as service_rules
from sparseft.config import DataConfig, RunConfig
from sparseft.errors import DataError, ResultError, SparseftError

Content = dict[str, Any]  # of a run's file
Entry = dict[str, Any]  # a line of the CSV
Draw = Callable[[Iterable[float]], float]

_FOLDER = Path(__file__).parent
_README = _FOLDER / "README.md"
_MAIN, _MAJORITY, _RULES = "sparse", "majority", "rules only"
READERS: dict[str, Callable[[Transcript], dict[str, Any]]] = {
    "service": service_rules.read_by_rules,
    "abcd": abcd_rules.read_by_rules,
}
STATED = StatedCost("LLM APIs", 0.025, 0.055, "2026-06", "arXiv 2606.05781")
_INTERVALS = (
    "Intervals: of field accuracy a bootstrap by transcript over all seeds together; of the "
    "critical field, whose counts are added up over seeds, Wilson's, of the counts' means. They "
    "speak of other conversations, not of other seeds; ± is the deviation over seeds."
)
# What is assumed, not anybody's quotation.
_PRICE, _PRICE_OF = 0.10, "about what a cloud machine with 2 cores is let for, on demand"


@dataclass
class Line:
    """An arm's runs at its rate, or a reader without training.

    Attributes:
        records: of the test conversations, by seed.
        runs: the runs' files by seed; none without training.
        scores: of `score_runs` over all seeds, in their order.
    """

    name: str
    schema: Schema
    records: dict[int, list[Record]]
    runs: dict[int, Content] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def of_runs(self, value: Callable[[Content], float | None], draw: Draw) -> float | None:
        """A figure of every run's result drawn together; None: not every run has it."""
        found = [value(content) for _, content in sorted(self.runs.items())]
        known = [each for each in found if each is not None]
        return draw(known) if known and len(known) == len(found) else None


def read(job: run.Job) -> Content:
    """A run's file, checked to be that run under today's settings."""
    content: Content = files.read_json(job.path)
    try:
        result = content["result"]
        pairs: dict[str, tuple[Any, Any]] = {
            "the arm": (job.arm.name, content["arm"]),
            "the seed": (job.seed, result["seed"]),
            "lr_scale": (job.scale, result["tuning"]["lr_scale"]),
            "the overrides": (list(job.overrides()), content["overrides"]),
        }
    except (KeyError, TypeError) as error:
        raise ResultError(
            f"expected a run's file at {job.path}, got one without {error}; remove it and run "
            "run.py again."
        ) from error
    for name, (expected, got) in pairs.items():
        if expected != got:
            raise ResultError(
                f"expected {name} of {job.path} to be {expected}, got {got}; it is of other "
                "settings than today's: remove it and run run.py again."
            )
    return content


def arms_of(data: str) -> list[Arm]:
    return [arm for arm in ARMS if data in arm.data]


def chosen_runs(data: str, arm: Arm) -> dict[int, Content]:
    """An arm's runs at its rate by seed; none before its rate is known."""
    scale = run.best_scale(data, arm)
    if scale is None:
        return {}
    jobs = [run.Job(data, arm, seed, scale) for seed in SEEDS]
    return {job.seed: read(job) for job in jobs if job.path.is_file()}


def progress(data: str) -> str:
    """How many runs there are, how many are missing, and which files are none of them."""
    wanted, missing, asked = 0, {}, set()
    for arm in arms_of(data):
        paths = {job.path for job in run.jobs(data, arm, SEEDS)}
        # The best rate's run on the first seed is one of the tuning; where that rate is at an
        # edge, there is one more.
        tuned = arm.tuned_as == arm.name
        count = max(len(paths), len(SEEDS) + (len(SCALES) - 1 if tuned else 0))
        missing[arm.name] = count - sum(path.is_file() for path in paths)
        wanted += count
        asked |= paths
    left = sum(missing.values())
    text = f"{wanted - left} of {wanted} runs are done, {left} missing"
    shown = "; ".join(f"{name}: {count}" for name, count in missing.items() if count)
    text += f" ({shown})." if shown else "."
    folder = run.Job(data, ARMS[0], SEEDS[0], SCALES[0]).path.parent
    unused = sorted(path.name for path in folder.glob("*.json") if path not in asked)
    if unused:
        text += f" Left out, as run.py does not ask for them: {', '.join(unused)}."
    return text


@functools.cache
def _load(data: DataConfig, schema: str, seed: int) -> Corpus:
    return load_corpus(data, load_schema(schema), seed)


def corpus_of(content: Content) -> Corpus:
    """The corpus of a run, made again as the run made it."""
    config = RunConfig.from_mapping(content["result"]["config"])
    assert config.task.compliance is not None
    return _load(config.data, config.task.compliance.schema, config.seed)


def tested_on(contents: Iterable[Content]) -> tuple[Schema, tuple[Example, ...]]:
    """What all of the runs were tested on.

    Raises:
        DataError: a run was scored on other conversations than its settings give today, or than
            the other runs.
    """
    found: Corpus | None = None
    for content in contents:
        corpus, result = corpus_of(content), content["result"]
        name = f"{content['arm']}, seed {result['seed']}, of {corpus.name}"
        stored = [record["id"] for record in content["records"]]
        made = [example.transcript.id for example in corpus.test]
        advice = "the corpus changed since: remove the run's file and run run.py again."
        if stored != made:
            pairs = zip(stored, made, strict=False)
            other = next((f", with {b!r} for {a!r}" for a, b in pairs if a != b), "")
            raise DataError(
                f"expected the {len(stored)} test conversations that {name} was scored on, got "
                f"{len(made)}{other}; {advice}"
            )
        if result["data"]["sha256"] != corpus.sha256:
            raise DataError(
                f"expected the conversations and gold of {name}, got others under the same ids "
                f"(sha256 {corpus.sha256[:12]} for {result['data']['sha256'][:12]}); {advice}"
            )
        if found is not None and corpus.test != found.test:
            raise DataError(
                f"expected the same test conversations in all runs of {corpus.name}, got others "
                f"with {name}; {advice}"
            )
        found = corpus
    if found is None:
        raise DataError("expected at least one run, got none; run run.py.")
    return found.schema, found.test


def records_of(content: Content, schema: Schema) -> list[Record]:
    """The stored records as far as scores of values and review need them."""
    return [
        Record(
            line["id"],
            schema.name,
            # Files hold no sources: every value counts as the model's.
            {name: FieldValue(value, "model") for name, value in line["values"].items()},
            ("flagged",) * bool(line["review"]),
        )
        for line in content["records"]
    ]


def lines_of(
    data: str,
    runs: Mapping[str, dict[int, Content]],
    schema: Schema,
    examples: Sequence[Example],
    resamples: int,
) -> list[Line]:
    """All arms with runs and the readers without training, scored on the same conversations."""
    by_seed = {seed: each for arm in runs.values() for seed, each in arm.items()}
    lines = []
    for name, arm in runs.items():
        owners = {c["result"]["config"]["task"]["compliance"]["owner"] for c in arm.values()}
        own = schema.with_all_by_model() if owners == {"model"} else schema
        records = {seed: records_of(content, own) for seed, content in sorted(arm.items())}
        lines.append(Line(name, own, records, arm))

    def constant(values: Mapping[str, Any], example: Example) -> Record:
        entries = {name: FieldValue(values[name], "rule") for name in schema.names}
        return Record(example.transcript.id, schema.name, entries)

    stored = {
        seed: content["scores"]["majority"]["values"] for seed, content in sorted(by_seed.items())
    }
    lines.append(
        Line(_MAJORITY, schema, {s: [constant(v, e) for e in examples] for s, v in stored.items()})
    )
    reader = READERS[data]
    by_rules = [constant(reader(example.transcript), example) for example in examples]
    lines.append(Line(_RULES, schema, {SEEDS[0]: by_rules}))
    for line in lines:
        line.scores = score_runs(
            examples, list(line.records.values()), line.schema, resamples=resamples
        )
        _agree(line)
    return lines


def _agree(line: Line) -> None:
    """Refuse scores that are not those of the run: fields, gold or scorers are others by now."""
    for place, seed in enumerate(line.records):
        if seed in line.runs:
            stored = line.runs[seed]["result"]["metrics"]["field_accuracy"]
            found = line.scores["by_run"]["field_accuracy"][place]
            if abs(stored - found) > 1e-9:
                raise ResultError(
                    f"expected the field accuracy {stored:.6f} that {line.name}, seed {seed}, "
                    f"stored, got {found:.6f} from its records; the scorers or the schema changed "
                    "since: remove the run's file and run run.py again."
                )


def entry_of(line: Line) -> Entry:
    """One line of the main table."""
    scores, by_run = line.scores, line.scores["by_run"]
    critical = scores["critical"] or {}
    accuracies = by_run["field_accuracy"]
    entry: Entry = {
        "arm": line.name,
        "lr": line.of_runs(lambda c: c["result"]["tuning"]["lr"], statistics.median),
        "seeds": len(line.runs) or None,
        "valid": scores["validity"]["post_processed"]["value"],
        **_flat("field_accuracy", scores["field_accuracy"]),
        "field_accuracy_sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "macro_f1": statistics.fmean(by_run["macro_f1"]) if "macro_f1" in by_run else None,
        **_flat("record_exact", scores["record_exact"]),
        **_flat("critical_recall", critical.get("recall")),
        **_flat("critical_precision", critical.get("precision")),
        "reviewed": scores["review"]["reviewed"]["value"] if line.runs else None,
        "ece": line.of_runs(
            lambda c: (c["scores"]["calibration"]["values"] or {}).get("ece"), statistics.fmean
        ),
    }
    measures: dict[str, Callable[[Content], float | None]] = {
        "seconds_p50": lambda c: c["result"]["metrics"]["seconds_p50"],
        "seconds_p95": lambda c: c["result"]["metrics"]["seconds_p95"],
        "seconds_to_best": lambda c: c["result"]["seconds_to_best"],
        "peak_memory_bytes": lambda c: c["result"]["cost"]["peak_memory_bytes"],
        "trainable_parameters": lambda c: c["result"]["cost"]["trainable_parameters"],
        "total_parameters": lambda c: c["result"]["cost"]["total_parameters"],
    }
    for name, measure in measures.items():
        for suffix, draw in (("", statistics.median), ("_least", min), ("_most", max)):
            entry[name + suffix] = line.of_runs(measure, draw)
    return entry


def _flat(name: str, found: Mapping[str, Any] | None) -> Entry:
    keys = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    if name.startswith("critical"):
        keys |= {"count": f"{name}_count", "total": f"{name}_total"}
    return {key: None if found is None else found[own] for own, key in keys.items()}


def _unflat(name: str, entry: Entry) -> str:
    keys = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    found = {own: entry[key] for own, key in keys.items()}
    if f"{name}_total" in entry:
        found |= {"count": entry[f"{name}_count"], "total": entry[f"{name}_total"]}
    return interval_text(found)


def main_table(entries: Sequence[Entry]) -> list[str]:
    """Shares in percent; seconds and memory as median (least to most) over the seeds."""
    rows = []
    for entry in entries:
        sd = entry["field_accuracy_sd"]
        accuracy = percent(entry["field_accuracy"]) + ("" if sd is None else f" ± {percent(sd)}")
        accuracy += f" [{percent(entry['field_accuracy_low'])}, "
        accuracy += f"{percent(entry['field_accuracy_high'])}]"
        trained = entry["trainable_parameters"]
        rows.append(
            [
                entry["arm"],
                MISSING if entry["lr"] is None else f"{entry['lr']:.2g}",
                MISSING if entry["seeds"] is None else f"{entry['seeds']} of {len(SEEDS)}",
                percent(entry["valid"]),
                accuracy,
                percent(entry["macro_f1"]),
                percent(entry["record_exact"]),
                _unflat("critical_recall", entry),
                _unflat("critical_precision", entry),
                percent(entry["reviewed"]),
                percent(entry["ece"]),
                MISSING
                if entry["seconds_p50"] is None
                else f"{entry['seconds_p50']:.2f} / {entry['seconds_p95']:.2f}",
                _ranged(entry, "seconds_to_best", 1, 0),
                _ranged(entry, "peak_memory_bytes", 1e9, 1),
                MISSING
                if trained is None
                else f"{trained / 1e6:.2f}M ({100 * trained / entry['total_parameters']:.1f}%)",
            ]
        )
    head = (
        "arm", "lr", "seeds", "valid %", "field accuracy %, ± sd over seeds [95%]", "macro-F1 %",
        "records exact %", "critical recall % [95%]", "critical precision % [95%]", "reviewed %",
        "ECE %", "s an evaluation, p50 / p95", "s to best validation", "peak memory, GB", "trained",
    )  # fmt: skip
    return markdown(head, rows)


def _ranged(entry: Entry, name: str, unit: float, digits: int) -> str:
    value, least, most = (entry[name + suffix] for suffix in ("", "_least", "_most"))
    if value is None:
        return MISSING
    shown = f"{value / unit:.{digits}f}"
    if least == most:
        return shown
    return f"{shown} ({least / unit:.{digits}f} to {most / unit:.{digits}f})"


def differences(lines: Sequence[Line], examples: Sequence[Example], resamples: int) -> list[Entry]:
    """Field accuracy of the sparse arm minus every other's, over the seeds that both have."""
    named = {line.name: line for line in lines}
    main, entries = named.pop(_MAIN, None), []
    if main is None:
        return []
    for name, other in named.items():
        # The rules' reader learns nothing: it is the same beside every seed.
        only = next(iter(other.records.values())) if name == _RULES else None
        seeds = [seed for seed in main.records if only or seed in other.records]
        if not seeds:
            continue
        found = compare(
            examples,
            [main.records[seed] for seed in seeds],
            [only or other.records[seed] for seed in seeds],
            main.schema,
            resamples=resamples,
        )["field_accuracy"]
        entries.append({"arm": name, "seeds": len(seeds), **_flat("sparse_minus_this", found)})
    return entries


def field_entries(lines: Sequence[Line]) -> list[Entry]:
    """The accuracy of every field, of the sparse arm and without training."""
    named = {line.name: line.scores["fields"] for line in lines}
    if _MAIN not in named:
        return []
    return [
        {
            "field": name,
            "kind": found["kind"],
            "by": found["by"],
            **_flat("accuracy", found["accuracy"]),
            "majority": named[_MAJORITY][name]["accuracy"]["value"],
            "rules_only": named[_RULES][name]["accuracy"]["value"],
        }
        for name, found in named[_MAIN].items()
    ]


def cost_entries(entries: Sequence[Entry], price: float, utilisation: float) -> list[Entry]:
    found = []
    for entry in entries:
        if entry["seconds_p50"] is None:
            continue
        own = cost_per_evaluation(entry["seconds_p50"], price, utilisation)
        (other,) = compare_costs(own, stated=[STATED])
        found.append(
            {
                "arm": entry["arm"],
                "seconds_p50": entry["seconds_p50"],
                "price_per_hour": price,
                "utilisation": utilisation,
                "dollars_an_evaluation": own,
                "stated_ratio_low": other["low_ratio"],
                "stated_ratio_high": other["high_ratio"],
            }
        )
    return found


def rate_entries(data: str) -> list[Entry]:
    """Every rate that ran on the first seed, on which rates are chosen."""
    entries = []
    for arm in arms_of(data):
        for scale in SCALES:
            job = run.Job(data, arm, SEEDS[0], scale)
            if arm.tuned_as != arm.name or not job.path.is_file():
                continue
            result = read(job)["result"]
            entries.append(
                {
                    "arm": arm.name,
                    "lr": result["tuning"]["lr"],
                    "validation": result["validation"],
                    "field_accuracy": result["metrics"]["field_accuracy"],
                    "chosen": run.best_scale(data, arm) == scale,
                }
            )
    return entries


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def machines(contents: Iterable[Content]) -> str:
    """Where and of which code the runs are."""
    contents = list(contents)
    where = [content["result"]["environment"] for content in contents]
    commits = sorted({w["commit"][:7] + (" with changes" if w["dirty"] else "") for w in where})
    places = sorted({f"{w['device']}, {w['threads']} threads" for w in where})
    models = sorted({content["result"]["model"] for content in contents})
    return (
        f"Model {', '.join(models)}; commits {', '.join(commits)}; device {'; '.join(places)}. "
        "Times of runs that shared a machine are rough; the peak of a process that did several "
        "runs can hold what earlier ones left."
    )


def tables_of(
    data: str, resamples: int, price: float, utilisation: float
) -> tuple[list[str], list[str], list[Entry]]:
    """The README's lines, those of the .md, and the CSV's; no entries where no run can be shown."""
    state, rates = progress(data), rate_entries(data)
    runs = {arm.name: found for arm in arms_of(data) if (found := chosen_runs(data, arm))}
    if not runs:
        ran = "; ".join(f"{e['arm']} at {e['lr']:.2g}" for e in rates)
        shown = f"No arm has run all its rates yet, only {ran}." if rates else "No run yet."
        return [shown, state], [f"## {data}", "", shown, state, ""], []
    contents = [content for arm in runs.values() for content in arm.values()]
    schema, examples = tested_on(contents)
    lines = lines_of(data, runs, schema, examples, resamples)
    entries = [entry_of(line) for line in lines]
    gaps = differences(lines, examples, resamples)
    fields = field_entries(lines)
    costs = cost_entries(entries, price, utilisation)
    main = [*main_table(entries), "", f"{len(examples)} test conversations. {state}"]
    text = [f"## {data}", "", machines(contents), "", *main, "", _INTERVALS, ""]
    if gaps:
        head = ["arm", "common seeds", "sparse − this, points of field accuracy [95%]"]
        rows = [[e["arm"], str(e["seeds"]), _points(e)] for e in gaps]
        text += ["### Differences", "", *markdown(head, rows), ""]
    if fields:
        head = ["field", "kind", "by", "sparse % [95%]", "majority %", "rules only %"]
        rows = [
            [
                *(e[key] for key in ("field", "kind", "by")),
                _unflat("accuracy", e),
                *(percent(e[key]) for key in ("majority", "rules_only")),
            ]
            for e in fields
        ]
        text += ["### Fields", "", *markdown(head, rows), ""]
    text += ["### Cost of an evaluation", "", *cost_lines(costs), ""]
    head = ["arm", "lr", "validation %", "test %", ""]
    rows = [
        [
            e["arm"],
            f"{e['lr']:.2g}",
            *(percent(e[key]) for key in ("validation", "field_accuracy")),
            "chosen" if e["chosen"] else "",
        ]
        for e in rates
    ]
    text += [f"### Rates on seed {SEEDS[0]}", "", *markdown(head, rows), ""]
    parts = {"arms": entries, "differences": gaps, "fields": fields, "cost": costs, "rates": rates}
    every = [{"table": name, **entry} for name, part in parts.items() for entry in part]
    return main, text, every


def _points(entry: Entry) -> str:
    keys = ("sparse_minus_this", "sparse_minus_this_low", "sparse_minus_this_high")
    value, low, high = (100 * entry[key] for key in keys)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def cost_lines(costs: Sequence[Entry]) -> list[str]:
    rows = [
        [
            e["arm"],
            f"{e['seconds_p50']:.2f}",
            f"${1000 * e['dollars_an_evaluation']:.3g}",
            MISSING
            if e["stated_ratio_low"] is None
            else f"{e['stated_ratio_low']:,.0f} to {e['stated_ratio_high']:,.0f}",
        ]
        for e in costs
    ]
    head = ("arm", "s, p50", "1,000 evaluations", f"{STATED.name} ÷ this")
    price, utilisation = costs[0]["price_per_hour"], costs[0]["utilisation"]
    meant = f" ({_PRICE_OF}; an assumption: give yours with --price)" if price == _PRICE else ""
    return [
        *markdown(head, rows),
        "",
        f"At ${price:g} an hour{meant}, one evaluation at a time, in {100 * utilisation:g}% of the "
        f"paid time (--utilisation). {STATED.name}: ${STATED.low:g} to ${STATED.high:g} an "
        f"evaluation, as stated by {STATED.source} ({STATED.date}), for transcripts of its own.",
    ]


def with_tables(text: str, tables: Mapping[str, Sequence[str]], name: str) -> str:
    """The README's text with each corpus's lines between its marks.

    Raises:
        SparseftError: a mark is missing, or there are several.
    """
    for data, lines in tables.items():
        start, end = f"<!-- compliance {data} -->", f"<!-- /compliance {data} -->"
        before, opened, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (opened and closed) or start in rest or end in before + after:
            raise SparseftError(
                f"expected the marks {start} and {end} in {name}, once and in this order, got "
                f"{text.count(start)} and {text.count(end)} of them; put them where the table of "
                f"{data} belongs. Nothing was written."
            )
        text = "\n".join([before + start, *lines, end + after])
    return text


def write_csv(entries: Sequence[Entry], path: Path) -> None:
    stream = io.StringIO()
    columns = dict.fromkeys(key for entry in entries for key in entry)
    writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        # The last digits of sums are the machine's.
        writer.writerows(
            [{k: round(v, 8) if isinstance(v, float) else v for k, v in entry.items()}]
        )
    files.write_text(path, stream.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=sorted(DATA), default=list(DATA))
    parser.add_argument("--out", type=Path, default=_FOLDER / "tables")
    parser.add_argument("--readme", action="store_true", help="write the README's tables, too")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument(
        "--price", type=float, default=_PRICE,
        help=f"dollars an hour of your machine; {_PRICE:g}: {_PRICE_OF}",
    )  # fmt: skip
    parser.add_argument(
        "--utilisation", type=float, default=1.0, help="share of the paid time that evaluates"
    )
    arguments = parser.parse_args()
    try:
        made = {
            data: tables_of(data, arguments.resamples, arguments.price, arguments.utilisation)
            for data in arguments.data
        }
        if not any(entries for _, _, entries in made.values()):
            raise SparseftError(
                "\n".join(line for _, text, _ in made.values() for line in text)
                + f"\nexpected runs of {' or '.join(made)}, got none that a table can be made of; "
                "run run.py (--dry-run says what is left)."
            )
        readme = _README.read_text("utf-8")
        if arguments.readme:
            readme = with_tables(
                readme, {data: each[0] for data, each in made.items()}, "README.md"
            )
        for data, (_, text, entries) in made.items():
            if entries:
                files.write_text(arguments.out / f"{data}.md", "\n".join(text).rstrip() + "\n")
                write_csv(entries, arguments.out / f"{data}.csv")
        if arguments.readme:
            files.write_text(_README, readme)
        print("\n".join(line for _, text, _ in made.values() for line in text))
    except SparseftError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
