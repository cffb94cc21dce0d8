"""Who and what a conversation is about: names, numbers and amounts; no two splits share them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

__all__ = ["SPLITS", "Facts", "draw_facts", "other_account", "other_email"]

SPLITS = ("train", "validation", "test")

_AGENTS = {
    "train": "Maya Owen Priya Lukas Farah Dennis Ines Theo Carla Jonas Aisha Brent",
    "validation": "Nadia Silas Greta Rohan",
    "test": "Yusuf Elodie Marcus Tamsin Wanda Piotr",
}
_FIRST = {
    "train": "Helen Omar Julia Ravi Sofia Daniel Mei Patrick Laura Hassan Clara Victor Nina Samuel "
    "Ruth Diego Anna Felix Zoe Martin",
    "validation": "Irene Kofi Paula Stefan Lin Gavin",
    "test": "Beatrice Emil Joanna Tariq Leona Hugo Miriam Craig Anika Walter",
}
_LAST = {
    "train": "Barker Nunez Fischer Okafor Lindqvist Moreau Tanaka Doyle Petrov Sandhu Whitaker "
    "Costa Reyes Novak Hughes Brandt",
    "validation": "Ashdown Ferrari Jansen Obi Marlow",
    "test": "Castellan Drummond Eriksen Galloway Ibarra Kowal Prentice Sorensen",
}
_STREETS = {
    "train": "Alder Row|Quarry Lane|Station Road|Mill Court|Foxglove Close|Harbour Street|"
    "Chapel Hill|Orchard Way|Larch Avenue|Bridge Terrace",
    "validation": "Saddler Lane|Willow Bank|Temple Road",
    "test": "Copper Street|Beacon Rise|Heron Walk|Tannery Yard|Juniper Drive",
}
_WORDS = {
    "train": "marigold compass lantern walnut thunder velvet pebble saffron otter maple",
    "validation": "pewter falcon lilac",
    "test": "bramble thistle topaz cricket meadow",
}
_PLANS = {
    "train": "Swift 100|Swift 250|Home Plus|Family Fibre|Basic Talk|Fibre Max",
    "validation": "Fibre Lite|Talk Extra",
    "test": "Glide 300|Glide 60|Everyday Fibre|Weekend Talk",
}
_DOMAINS = {
    "train": "postbox.com mailhaven.net inboxly.org quickmail.com",
    "validation": "letterbox.net mailpine.com",
    "test": "webpost.org dispatch.net notemail.com",
}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]


@dataclass(frozen=True)
class Facts:
    """Values that the phrasings are filled with.

    Attributes:
        id2: which second identifier the customer has: dob, postcode, card or word.
        identifier: its text.
        amount: cents of money back (given or demanded).
        fee: cents of a fee, or of a new price by the month.
    """

    agent: str
    name: str
    person: str
    account: str
    id2: str
    identifier: str
    code: str
    amount: int
    fee: int
    email: str
    phone: str
    ticket: str
    old_ticket: str
    address: str
    plan: str
    day: str
    wrong_account: str
    wrong_email: str


def draw_facts(random: Random, split: str, amount: tuple[int, int], fee: tuple[int, int]) -> Facts:
    """The values of one conversation.

    Args:
        amount: lowest and highest, in cents.
        fee: lowest and highest, in whole dollars.
    """
    first, person = random.sample(_FIRST[split].split(), 2)
    last = random.choice(_LAST[split].split())
    account = _account(random, split)
    id2 = random.choice(("dob", "postcode", "card", "word"))
    email = f"{first}.{last}@{random.choice(_DOMAINS[split].split())}".lower()
    return Facts(
        agent=random.choice(_AGENTS[split].split()),
        name=f"{first} {last}",
        person=f"{person} {last}",
        account=account,
        id2=id2,
        identifier=_identifier(random, split, id2),
        code=f"{random.randrange(100000, 1000000)}",
        amount=random.randint(*amount),
        fee=100 * random.randint(*fee) + random.choice((0, 0, 50, 90)),
        email=email,
        phone=f"0{random.randrange(500, 1000)}-{_third(random, split, 100000, 999996)}",
        ticket=f"TK-{_third(random, split, 10000, 99996)}",
        old_ticket=f"TK-{_third(random, split, 10000, 99996)}",
        address=f"{random.randint(2, 98)} {random.choice(_STREETS[split].split('|'))}",
        plan=random.choice(_PLANS[split].split("|")),
        day=random.choice(_DAYS),
        wrong_account=other_account(random, split, account),
        wrong_email=other_email(random, email),
    )


def other_account(random: Random, split: str, account: str) -> str:
    """A slip of the tongue: two digits change places, or one digit changes."""
    digits = account[3:]
    place = random.randrange(3)
    swapped = (*digits[:place], digits[place + 1], digits[place], *digits[place + 2 :])
    wrong = "AC-" + "".join(swapped)
    # A slip may not be an account of another split.
    fits = wrong != account and int(wrong[3:]) >= 1000 and _split_of(int(wrong[3:])) == split
    return wrong if fits else _different(random, split, account)


def other_email(random: Random, email: str) -> str:
    """A slip in the part before the sign."""
    name, domain = email.split("@")
    return f"{name}{random.randint(2, 99)}@{domain}"


def _different(random: Random, split: str, account: str) -> str:
    while (wrong := _account(random, split)) == account:
        pass
    return wrong


def _account(random: Random, split: str) -> str:
    return f"AC-{_third(random, split, 1000, 9996)}"


def _third(random: Random, split: str, low: int, high: int) -> int:
    """A number that belongs to the split by its remainder."""
    number = random.randint(low, high)
    while _split_of(number) != split:
        number += 1
    return number


def _split_of(number: int) -> str:
    return SPLITS[number % 3]


def _identifier(random: Random, split: str, id2: str) -> str:
    if id2 == "dob":
        day, month, year = random.randint(1, 28), random.randrange(12), random.randint(1948, 2003)
        return random.choice(
            (
                f"{day} {_MONTHS[month]} {year}",
                f"{_MONTHS[month]} {day}, {year}",
                f"{day:02}/{month + 1:02}/{year}",
            )
        )
    if id2 == "postcode":
        letters = "ABDEGHJLNPQRSTUWXYZ"
        area = random.choice(letters) + random.choice(letters)
        return f"{area}{random.randint(1, 9)} {random.randint(1, 9)}" + "".join(
            random.sample(letters, 2)
        )
    if id2 == "card":
        return f"{_third(random, split, 1000, 9996)}"
    return random.choice(_WORDS[split].split())
