"""What review costs and what it saves: the flagged records apart from the rest."""

from __future__ import annotations

import numpy as np

from sparseft.compliance.scores.critical import alarms, exact_proportion
from sparseft.compliance.scores.intervals import proportion
from sparseft.compliance.scores.rows import Rows
from sparseft.compliance.transcript import Json

__all__ = ["review_scores"]


def review_scores(rows: Rows) -> dict[str, Json]:
    """How many records a person must look at, and how good those are that nobody looks at.

    A record with an error counts as reviewed. `alarms_noticed` is the recall of the whole system:
    alarms that were sounded or sent to a person; `alarms_missed` counts the others.
    """
    kept, runs = ~rows.reviewed, rows.runs
    whole = np.asarray(rows.right.all(axis=1))
    found: dict[str, Json] = {
        "reviewed": proportion(int(rows.reviewed.sum()), len(kept), runs),
        "kept_field_accuracy": float(rows.score[kept].mean()) if kept.any() else None,
        "kept_record_exact": proportion(int(whole[kept].sum()), int(kept.sum()), runs),
        "reviewed_record_exact": proportion(
            int(whole[~kept].sum()), int(rows.reviewed.sum()), runs
        ),
    }
    if rows.schema.critical is None:
        return {
            **found,
            "kept_recall": None,
            "kept_precision": None,
            "alarms_noticed": None,
            "alarms_missed": None,
        }
    gold, said = alarms(rows)
    hits, noticed = int((gold & said & kept).sum()), int((gold & (said | ~kept)).sum())
    return {
        **found,
        "kept_recall": exact_proportion(hits, int((gold & kept).sum()), runs),
        "kept_precision": exact_proportion(hits, int((said & kept).sum()), runs),
        "alarms_noticed": exact_proportion(noticed, int(gold.sum()), runs),
        "alarms_missed": int(gold.sum()) - noticed,
    }
