"""What an evaluation shows, in sentences that claim no more than its intervals allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparseft.compliance.scores.tables import percent
from sparseft.reporting.compliance.cases import Arm
from sparseft.reporting.formats import count_text

__all__ = ["GUIDE", "finding", "review_text", "scope"]

GUIDE = (
    (
        "Field accuracy",
        "Mean of the fields' scores over transcripts and fields. A score is 1 or 0 (equal after "
        "bringing both to their canonical form, amounts within 0.01), but F1 for sets and where "
        "the schema names another scorer.",
    ),
    (
        "Intervals",
        "95%. Means: a bootstrap that draws transcripts anew ({resamples} resamples), all runs of "
        "one together. Shares with counts, and means of 0 or 100%: Wilson's. Several runs on the "
        "same transcripts count as one for the intervals.",
    ),
    (
        "Majority",
        "Every field's most frequent value among the training examples, whatever is said. Lift is "
        "what a system gains on it.",
    ),
    (
        "Sources",
        "model: as the model said it. rule: computed by a rule. rule override: a rule replaced "
        "what the model had said.",
    ),
    (
        "Confidence",
        "Of the model's values only. ECE is the mean gap between confidence and share of right "
        "values in bins of about equal mass.",
    ),
)


def scope(arms: Sequence[Arm]) -> str:
    """ "service · 53 transcripts · 5 runs · 4 arms"."""
    scores = arms[0].scores
    parts = [str(scores["schema"]), count_text(scores["transcripts"], "transcript")]
    if scores["runs"] > 1:
        parts.append(count_text(scores["runs"], "run"))
    parts.append(count_text(len(arms), "arm"))
    if scores["failed"]:
        parts.append(count_text(scores["failed"], "failed record"))
    return " · ".join(parts)


def finding(arm: Arm) -> str:
    """The main figures of an arm."""
    scores = arm.scores
    accuracy, majority = scores["field_accuracy"], scores["majority"]
    text = (
        f"{arm.label[:1].upper()}{arm.label[1:]} gets {percent(accuracy['value'])}% of the field "
        f"values right (95% interval {percent(accuracy['low'])} to {percent(accuracy['high'])})"
    )
    if majority is not None:
        text += (
            f"; always saying the most frequent value gets {percent(majority['field_accuracy'])}%"
        )
    return f"{text}. {_alarm_text(scores)}{_review_sentence(scores)}".strip()


def review_text(scores: Mapping[str, Any]) -> str:
    """What became of the alarms, with review and without."""
    recall, review = scores["critical"]["recall"], scores["review"]
    values = ", ".join(scores["critical"]["alarm"])
    text = f"An alarm is {scores['critical']['field']} = {values}. {_alarm_text(scores)}"
    if not recall["total"]:
        return text.strip()
    text += (
        f"Clopper and Pearson's interval of that share is {percent(recall['exact_low'])} to "
        f"{percent(recall['exact_high'])}%. "
    )
    if review["reviewed"]["count"]:
        noticed = review["alarms_noticed"]
        text += (
            f"Sounded or sent to a person: {noticed['count']} of {noticed['total']}; "
            f"{review['alarms_missed']} went unnoticed. "
        )
        kept = review["kept_recall"]
        if kept["total"]:
            text += (
                f"Among the records that nobody reviews, {kept['count']} of {kept['total']} are "
                "sounded. "
            )
    return text.strip()


def _alarm_text(scores: Mapping[str, Any]) -> str:
    if scores["critical"] is None:
        return ""
    recall, precision = scores["critical"]["recall"], scores["critical"]["precision"]
    if not recall["total"]:
        text = "There was no alarm to sound"
    else:
        text = (
            f"It sounds {recall['count']} of {recall['total']} alarms "
            f"({percent(recall['value'])}%, interval {percent(recall['low'])} to "
            f"{percent(recall['high'])})"
        )
    if precision["total"]:
        text += f"; {precision['count']} of the {precision['total']} it sounds are due"
    return text + ". "


def _review_sentence(scores: Mapping[str, Any]) -> str:
    reviewed = scores["review"]["reviewed"]
    return f"{percent(reviewed['value'])}% of the records go to a person."
