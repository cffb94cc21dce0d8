"""What the page is made of, and which transcripts it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sparseft.compliance.record import Record
from sparseft.compliance.schema import Schema
from sparseft.compliance.scores import check_scorers
from sparseft.compliance.transcript import Json, Transcript
from sparseft.errors import DataError

__all__ = ["Arm", "Case", "Judged", "chosen_cases"]

_RIGHT_ONES = 6


@dataclass(frozen=True)
class Arm:
    """One system on the page.

    Attributes:
        scores: of `sparseft.compliance.scores.score`.
        method: the finetuning method's name, for its mark; empty for arms without a model.
        against_first: of `compare(this arm, first arm)`; None for the first.
        latency: seconds of an evaluation at the 50th and 95th percentile.
        cost: of an evaluation, in the page's currency.
    """

    label: str
    scores: Mapping[str, Json]
    method: str = ""
    against_first: Mapping[str, Json] | None = None
    latency: tuple[float, float] | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Case:
    """A transcript with its record; `gold` is None where it is not known."""

    transcript: Transcript
    record: Record
    gold: Mapping[str, Json] | None = None


@dataclass(frozen=True)
class Judged:
    """A case and what is wrong with it.

    Attributes:
        right: by field name, where gold is known and the record has the field.
    """

    case: Case
    schema: Schema

    @cached_property
    def right(self) -> dict[str, bool]:
        """Whether each field's value is right."""
        gold, fields = self.case.gold, self.case.record.fields
        if gold is None or self.case.record.error:
            return {}
        scorers = check_scorers(self.schema)
        return {
            field.name: scorers[field.name].score(
                field.canonical(gold[field.name]), fields[field.name].value
            )
            >= 1
            for field in self.schema.fields
            if field.name in fields
        }

    @property
    def wrong(self) -> list[str]:
        """Names of the fields with a wrong value."""
        return [name for name, right in self.right.items() if not right]

    @cached_property
    def alarm(self) -> str:
        """ "missed alarm", "false alarm", or nothing."""
        name, gold, record = self.schema.critical, self.case.gold, self.case.record
        if name is None or gold is None or record.error or name not in record.fields:
            return ""
        due, sounded = gold[name] in self.schema.alarm, self.schema.is_alarm(record.values())
        return "missed alarm" if due and not sounded else "false alarm" if sounded > due else ""

    @property
    def flagged(self) -> bool:
        """Whether a person has to look."""
        return bool(self.case.record.review or self.case.record.error)

    @property
    def rank(self) -> int:
        """How much it is worth a look: 0 is most."""
        if self.alarm == "missed alarm":
            return 0
        if self.case.record.error:
            return 1
        if self.alarm:
            return 2
        return 3 if self.wrong and self.flagged else 4 if self.wrong else 5 if self.flagged else 6


def chosen_cases(schema: Schema, cases: Sequence[Case], limit: int) -> list[Judged]:
    """At most `limit` cases: missed and false alarms first, then wrong and flagged ones.

    Up to six (a quarter of the limit) are right and not flagged: a page of errors alone would not
    show how a right record looks.

    Raises:
        DataError: a record is another transcript's.
    """
    for case in cases:
        if case.record.transcript_id != case.transcript.id:
            raise DataError(
                f"expected the record of {case.transcript.id!r}, got that of "
                f"{case.record.transcript_id!r}; pair each transcript with its own."
            )
    judged = [Judged(case, schema) for case in cases]
    judged.sort(key=lambda each: (each.rank, -len(each.wrong), each.case.transcript.id))
    plain = [each for each in judged if each.rank == 6]
    notable = [each for each in judged if each.rank < 6]
    room = min(_RIGHT_ONES, len(plain), limit // 4)
    return [*notable[: limit - room], *plain[:room]]
