"""Rows, files and tokenizers that the data tests are made of."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

Row = dict[str, Any]


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """Write `rows` in the format that the suffix of `path` names."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    else:
        with open(path, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(
                stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


def numbered(prefix: str, counts: dict[str, int]) -> list[Row]:
    """`counts[label]` different texts of each label, the labels taking turns."""
    rows = [
        {"text": f"{prefix} {label} text {i}", "label": label}
        for label, n in counts.items()
        for i in range(n)
    ]
    return sorted(rows, key=lambda row: int(row["text"].rsplit(" ", 1)[1]))


def word_tokenizer(
    words: Sequence[str], *, special: bool = True, side: str = "right"
) -> PreTrainedTokenizerFast:
    """One token a word; pad is 0 and unknown 1. `special` frames a text in [CLS] … [SEP]."""
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        core.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", padding_side=side
    )
