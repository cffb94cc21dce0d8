"""Queries of other tasks: classified texts and compliance records are routed as turns are.

The small model's answer comes first; what it is likely to get wrong goes to the large one. Pools
are built from held-out answers of both (`sparseft.routing.pools.build_pool`).

Legend: N texts, C labels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from sparseft.compliance.record import Record
from sparseft.compliance.transcript import Json, Transcript
from sparseft.errors import DataError
from sparseft.routing.router import Query

__all__ = ["queries_of_records", "queries_of_texts", "right_records"]

_LEAST = 1e-12


def queries_of_texts(
    texts: Sequence[str],
    probabilities: np.ndarray,
    labels: Sequence[str],
    ids: Sequence[str] | None = None,
) -> list[Query]:
    """Classified texts; the confidence is the log-probability of the chosen label.

    Args:
        probabilities: of the small model, [N, C].
        labels: names of the classes, C.
        ids: of the texts; by default their numbers.

    Raises:
        DataError: the numbers of texts, labels or ids do not fit the probabilities.
    """
    shape = (len(texts), len(labels))
    if probabilities.shape != shape or (ids is not None and len(ids) != len(texts)):
        raise DataError(
            f"expected probabilities of shape {shape} and as many ids as texts, got "
            f"{probabilities.shape} and {'none' if ids is None else len(ids)}; give one row a text "
            "and one column a label."
        )
    names = [str(number) for number in range(len(texts))] if ids is None else list(ids)
    chosen = probabilities.argmax(axis=1)
    sure = np.log(np.maximum(probabilities.max(axis=1), _LEAST))
    return [
        Query(name, text, name, float(own), labels[label])
        for name, text, own, label in zip(names, texts, sure, chosen.tolist(), strict=True)
    ]


def queries_of_records(records: Sequence[Record], transcripts: Sequence[Transcript]) -> list[Query]:
    """Evaluated transcripts; the confidence is the sum of the fields' log-confidences.

    That is the log-probability that all fields of the model are right, were they independent.
    Fields of rules have no confidence and count as certain; a transcript that could not be
    evaluated has none at all, so that a cascade sends it up first.

    Raises:
        DataError: records and transcripts are not of the same ids in the same order.
    """
    found = []
    for record, transcript in zip(records, transcripts, strict=False):
        if record.transcript_id != transcript.id:
            break
        known = [f.confidence for f in record.fields.values() if f.confidence is not None]
        sure = None if record.error else sum(math.log(max(each, _LEAST)) for each in known)
        answer = json.dumps(record.values(), ensure_ascii=False)
        found.append(Query(transcript.id, transcript.render(), transcript.id, sure, answer))
    if not len(found) == len(records) == len(transcripts):
        raise DataError(
            f"expected a record of each transcript in the same order, got {len(records)} records "
            f"of {len(transcripts)} transcripts, alike up to number {len(found)}; pass what one "
            "evaluation gave."
        )
    return found


def right_records(records: Sequence[Record], gold: Sequence[Mapping[str, Json]]) -> list[bool]:
    """Whether every field of each record is as its gold says; False where there is an error."""
    return [
        not record.error
        and all(value == truth.get(name) for name, value in record.values().items())
        for record, truth in zip(records, gold, strict=True)
    ]
