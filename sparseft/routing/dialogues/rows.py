"""One row or line as a turn, and the checks that turns of a file pass together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sparseft.errors import DataError
from sparseft.routing.states import DELETE, State, applied, difference
from sparseft.routing.turns import Turn

__all__ = ["checked", "row_of", "turn_of"]

Located = tuple[str, Turn]  # where it stands, for errors; the turn


def turn_of(row: Mapping[str, Any], where: str) -> Turn:
    """The turn of a row whose state and delta are objects already.

    Args:
        row: dialogue_id, turn_id, system, user, state, delta, domains.
        where: it stands, for errors.

    Raises:
        DataError: a field is missing or of another kind.
    """
    dialogue, number, system, user = (
        _field(row, name, where) for name in ("dialogue_id", "turn_id", "system", "user")
    )
    for name, value in (("dialogue_id", dialogue), ("system", system), ("user", user)):
        if not isinstance(value, str):
            raise _wrong(name, "a text", value, where)
    if not dialogue:
        raise _wrong("dialogue_id", "a name", dialogue, where)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise _wrong("turn_id", "a whole number from 0", number, where)
    domains = _field(row, "domains", where)
    if not isinstance(domains, list) or not all(isinstance(each, str) for each in domains):
        raise _wrong("domains", "a list of texts", domains, where)
    state = _state(row, "state", where)
    if DELETE in state.values():
        raise _wrong("state", f"values other than {DELETE}, which belongs in delta", state, where)
    delta = _state(row, "delta", where)
    return Turn(dialogue, number, system, user, state, delta, tuple(domains))


def row_of(turn: Turn) -> dict[str, Any]:
    """The fields of a turn under the names of the files."""
    return {
        "dialogue_id": turn.dialogue,
        "turn_id": turn.number,
        "domains": list(turn.domains),
        "system": turn.system,
        "user": turn.user,
        "state": dict(turn.state),
        "delta": dict(turn.delta),
    }


def checked(located: Iterable[Located]) -> list[Turn]:
    """The turns in their order, when each dialogue is whole and its gold agrees with itself.

    Raises:
        DataError: a turn occurs twice, a number from 0 to a dialogue's last is missing, or a delta
            does not lead from the state before to the state after.
    """
    turns: list[Turn] = []
    places: dict[str, dict[int, Located]] = {}
    for where, turn in located:
        numbers = places.setdefault(turn.dialogue, {})
        if turn.number in numbers:
            raise DataError(
                f"expected each turn once, got a second {turn.id} in {where}; remove one."
            )
        numbers[turn.number] = where, turn
        turns.append(turn)
    for dialogue, numbers in places.items():
        before: State = {}
        for position, number in enumerate(sorted(numbers)):
            where, turn = numbers[number]
            if number != position:
                raise DataError(
                    f"expected turn {position} of {dialogue!r}, got {number} as the next one in "
                    f"{where}; number a dialogue's user turns from 0 and leave none out."
                )
            if applied(before, turn.delta) != turn.state:
                raise DataError(
                    f"expected a delta that leads to the state of turn {turn.id}, namely "
                    f"{difference(before, turn.state)}, got {dict(turn.delta)} in {where}; correct "
                    "one of them."
                )
            before = turn.state
    return turns


def _field(row: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in row:
        raise DataError(
            f"expected the field {name!r} in {where}, got {', '.join(map(repr, row)) or 'none'}; "
            "add it."
        )
    return row[name]


def _state(row: Mapping[str, Any], name: str, where: str) -> State:
    value = _field(row, name, where)
    if not isinstance(value, dict) or not all(
        isinstance(slot, str) and isinstance(each, str) for slot, each in value.items()
    ):
        raise _wrong(name, "an object that maps slots to texts", value, where)
    return dict(value)


def _wrong(name: str, expected: str, value: Any, where: str) -> DataError:
    return DataError(
        f"expected {name} to be {expected}, got {str(value)[:80]!r} in {where}; correct it."
    )
