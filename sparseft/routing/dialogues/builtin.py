"""Simulated dialogues about a bike, a library book, an appointment and a play; no file is needed.

Both speakers' phrasings are disjoint between the splits; the world is the same. Besides plain
answers there are corrections, values that only the system named, hints that name none, values taken
over from another arrangement, values that are mentioned but not meant, withdrawn ones, no
preference, and talk that changes nothing. The gold is what was drawn, not what could be read.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from random import Random
from typing import Any, Literal

import yaml

from sparseft.errors import ConfigError
from sparseft.routing.dialogues.ontology import Slot, domains, noun, slots_of, spoken
from sparseft.routing.states import DELETE, applied
from sparseft.routing.turns import Turn
from sparseft.routing.values import DONTCARE

__all__ = ["SLOTS", "Split", "phrases", "simulate_dialogues"]

Split = Literal["pool", "test"]
SPLITS: tuple[Split, ...] = ("pool", "test")

SLOTS = {
    slot.name: slot.about
    + (f" (one of: {', '.join(slot.values)})" if slot.kind in ("word", "name") else "")
    for domain in domains()
    for slot in slots_of(domain)
}
"""Slot to description, as a prompt lists them."""

_Bank = dict[str, Any]  # a phrasing's place to its lines, or one level deeper


def simulate_dialogues(count: int, seed: int, split: str) -> list[Turn]:
    """The turns of some dialogues, each of 4 to 7 user turns.

    A dialogue depends on its split, the seed and its number alone: the first ten of twenty are the
    same as ten. Dialogues are called builtin-SPLIT-SEED-NUMBER.

    Args:
        count: of dialogues.
        seed: of the draw, 0 or more.
        split: pool or test: which phrasings are used.

    Raises:
        ConfigError: an unknown split, or a negative count or seed.
    """
    if split not in SPLITS:
        raise ConfigError(
            f"expected a split of the built-in dialogues ({', '.join(SPLITS)}), got {split!r}; "
            "choose one of these."
        )
    if count < 0 or seed < 0:
        raise ConfigError(
            f"expected a count and a seed of 0 or more, got {count} and {seed}; change them."
        )
    turns: list[Turn] = []
    for number in range(count):
        name = f"builtin-{split}-{seed}-{number}"
        turns += _Dialogue(name, Random(name), phrases(split)).turns()
    return turns


@cache
def phrases(split: str) -> _Bank:
    """The phrasings of a split: by occasion, or by occasion and slot."""
    file = resources.files("sparseft.routing.dialogues") / "phrases.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))[split]
    return {
        place: {key: text.splitlines() for key, text in bank.items()}
        if isinstance(bank, dict)
        else bank.splitlines()
        for place, bank in content.items()
    }


class _Dialogue:
    """One dialogue while it is drawn."""

    def __init__(self, name: str, random: Random, bank: _Bank) -> None:
        self.name = name
        self.random = random
        self.bank = bank
        self.length = random.randint(4, 7)
        self.plan = random.sample(domains(), 2 if random.random() < 0.7 else 1)
        self.begun: list[str] = []
        self.state: dict[str, str] = {}
        self.earlier: dict[str, str] = {}  # of corrected slots, the value before
        self.careless = random.random() < 0.25  # writes in lower case and leaves out the stop

    def turns(self) -> list[Turn]:
        found: list[Turn] = []
        system, user, delta = "", *self._open()
        while True:
            self.state = applied(self.state, delta)
            turn = Turn(
                self.name,
                len(found),
                system,
                self._written(user),
                dict(self.state),
                delta,
                (self.begun[-1],),
            )
            found.append(turn)
            if len(found) == self.length:
                return found
            system, user, delta = self._next(len(found))

    # --- what happens

    def _open(self) -> tuple[str, dict[str, str]]:
        """The user begins the plan's next domain."""
        domain = self.plan[len(self.begun)]
        before = list(self.begun)
        self.begun.append(domain)
        slots = self._missing()
        said = [self._line("open", domain)]
        delta: dict[str, str] = {}
        shared = [(slot, other) for slot in slots for other in self._shareable(slot)]
        if shared and self.random.random() < 0.6:
            slot, other = self.random.choice(shared)
            what = {"number": "number of people"}.get(slot.kind, slot.kind)
            said.append(self._line("same_part", what=what, noun=_noun_of(other)))
            delta[slot.name] = self.state[other.name]
        rest = [slot for slot in slots if slot.name not in delta]
        for slot in self.random.sample(rest, self.random.choice((1, 1, 2, 2, 3))):
            value = self.random.choice(slot.values)
            said.append(self._part(slot, value))
            delta[slot.name] = value
        text = ", ".join(said)
        return (f"{self._line('also')} {text}" if before else text), delta

    def _next(self, number: int) -> tuple[str, str, dict[str, str]]:
        """The system's utterance, the user's, and the delta."""
        missing = self._missing()
        settled = self._settled()
        reverted = [slot for slot in settled if slot.name in self.earlier]
        waiting = len(self.begun) < len(self.plan)
        late = number >= self.length - 2
        acts: list[tuple[Any, float]] = [(self._talk, 1.2)]
        if missing:
            acts += [(self._answer, 4), (self._choose, 2.5), (self._propose, 2), (self._any, 1)]
        if len(missing) > 1:
            acts.append((self._answer_more, 2.5))
        if settled:
            acts.append((self._forget, 0.5))
        if len(settled) > len(reverted):
            acts.append((self._change, 2.5))
        if reverted:
            acts.append((self._revert, 2))
        if waiting and number >= 2:
            acts.append((self._switch, 60 if late else 4))
        if number == self.length - 1 and not waiting:
            acts.append((self._thanks, 4))
        made, weights = zip(*acts, strict=True)
        return self.random.choices(made, weights)[0]()

    def _switch(self) -> tuple[str, str, dict[str, str]]:
        return self._acked("more"), *self._open()

    def _answer(self) -> tuple[str, str, dict[str, str]]:
        slot = self.random.choice(self._missing())
        system = self._ask(slot)
        shareable = self._shareable(slot)
        if shareable and self.random.random() < 0.5:
            other = self.random.choice(shareable)
            text = self._line("same", noun=_noun_of(other))
            return system, text, {slot.name: self.state[other.name]}
        value = self.random.choice(slot.values)
        return system, self._reply(slot, value), {slot.name: value}

    def _answer_more(self) -> tuple[str, str, dict[str, str]]:
        asked, *others = self.random.sample(self._missing(), 2)
        value = self.random.choice(asked.values)
        said, delta = [self._reply(asked, value)], {asked.name: value}
        for slot in others:
            if self.random.random() < 0.2:
                said.append(self._line("any_part", thing=slot.thing))
                delta[slot.name] = DONTCARE
            else:
                delta[slot.name] = self.random.choice(slot.values)
                said.append(self._part(slot, delta[slot.name]))
        return self._ask(asked), ", ".join(said), delta

    def _any(self) -> tuple[str, str, dict[str, str]]:
        slot = self.random.choice(self._missing())
        return self._ask(slot), self._line("any"), {slot.name: DONTCARE}

    def _choose(self) -> tuple[str, str, dict[str, str]]:
        slots = [slot for slot in self._missing() if slot.kind != "number"]
        if not slots:
            return self._answer()
        slot = self.random.choice(slots)
        values = self.random.sample(slot.values, min(len(slot.values), self.random.choice((2, 3))))
        listed = [self._value(slot, value) for value in values]
        options = f"{', '.join(listed[:-1])} or {listed[-1]}"
        system = self._acked("offer", thing=slot.thing, options=options)
        places = ["first", "last"] + (["second"] if len(values) == 3 else [])
        place = self.random.choice(places)
        value = values[{"first": 0, "second": 1, "last": -1}[place]]
        return system, self._line(place), {slot.name: value}

    def _propose(self) -> tuple[str, str, dict[str, str]]:
        slot = self.random.choice(self._missing())
        value, instead = self.random.sample(slot.values, 2)
        system = self._acked("propose", thing=slot.thing, v=self._value(slot, value))
        way = self.random.choices(("agree", "refuse", "refuse_but"), (5, 1.5, 3))[0]
        text = self._line(way, v=self._value(slot, instead))
        delta = {"agree": {slot.name: value}, "refuse": {}, "refuse_but": {slot.name: instead}}
        return system, text, delta[way]

    def _change(self) -> tuple[str, str, dict[str, str]]:
        # Twice the same slot, and "as it was before" would have two meanings.
        slot = self.random.choice([s for s in self._settled() if s.name not in self.earlier])
        old = self.state[slot.name]
        value = self.random.choice([each for each in slot.values if each != old])
        self.earlier[slot.name] = old
        text = self._line(
            "change", thing=slot.thing, v=self._value(slot, value), old=self._value(slot, old)
        )
        return self._prompt(), text, {slot.name: value}

    def _revert(self) -> tuple[str, str, dict[str, str]]:
        slot = self.random.choice([each for each in self._settled() if each.name in self.earlier])
        text = self._line("revert", thing=slot.thing)
        return self._prompt(), text, {slot.name: self.earlier.pop(slot.name)}

    def _forget(self) -> tuple[str, str, dict[str, str]]:
        slot = self.random.choice(self._settled())
        self.earlier.pop(slot.name, None)
        return self._prompt(), self._line("forget", thing=slot.thing), {slot.name: DELETE}

    def _talk(self) -> tuple[str, str, dict[str, str]]:
        return self._prompt(), self._line("talk"), {}

    def _thanks(self) -> tuple[str, str, dict[str, str]]:
        return self._acked("more"), self._line("thanks"), {}

    # --- what is known

    def _missing(self) -> list[Slot]:
        return [slot for slot in slots_of(self.begun[-1]) if slot.name not in self.state]

    def _settled(self) -> list[Slot]:
        return [
            slot
            for slot in slots_of(self.begun[-1])
            if self.state.get(slot.name, DONTCARE) != DONTCARE
        ]

    def _shareable(self, slot: Slot) -> list[Slot]:
        """Slots of other domains that hold such a value."""
        if slot.kind not in ("day", "time", "number"):
            return []
        return [
            other
            for domain in self.begun[:-1]
            for other in slots_of(domain)
            if other.kind == slot.kind and self.state.get(other.name, DONTCARE) != DONTCARE
        ]

    # --- how it is said

    def _line(self, place: str, key: str | None = None, **values: str) -> str:
        lines = self.bank[place] if key is None else self.bank[place][key]
        return self.random.choice(lines).format(**values)

    def _value(self, slot: Slot, value: str) -> str:
        return spoken(self.random, slot, value)

    def _part(self, slot: Slot, value: str) -> str:
        hinted = self._hinted(slot, value)
        if hinted is not None:
            return hinted
        text = self._value(slot, value)
        article = "an" if text[0].lower() in "aeiou" else "a"
        return self._line("part", slot.name, v=text, av=f"{article} {text}")

    def _reply(self, slot: Slot, value: str) -> str:
        hinted = self._hinted(slot, value)
        if hinted is not None:
            return hinted
        text = self._value(slot, value)
        if self.random.random() < 0.2:
            other = self.random.choice([each for each in slot.values if each != value])
            return self._line("decoy", v=text, other=self._value(slot, other))
        return self._line("answer", v=text)

    def _hinted(self, slot: Slot, value: str) -> str | None:
        key = f"{slot.name}={value}"
        if key not in self.bank["hint"] or self.random.random() > 0.35:
            return None
        return self._line("hint", key)

    def _ask(self, slot: Slot) -> str:
        return self._acked("ask", slot.name)

    def _prompt(self) -> str:
        """What the user does not go into: a question about a missing slot, or whether to go on."""
        missing = self._missing()
        if missing and self.random.random() < 0.6:
            return self._ask(self.random.choice(missing))
        return self._acked("more")

    def _acked(self, place: str, key: str | None = None, **values: str) -> str:
        text = _capital(self._line(place, key, **values))
        return f"{self._line('ack')} {text}" if self.random.random() < 0.5 else text

    def _written(self, text: str) -> str:
        if self.careless:
            return text.lower().rstrip("?.")
        return _capital(text) + ("" if text.endswith("?") else ".")


def _noun_of(slot: Slot) -> str:
    return noun(slot.name.split("-", 1)[0])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
