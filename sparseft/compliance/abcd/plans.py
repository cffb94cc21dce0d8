"""Keywords of ABCD's requests, and the actions that a request usually brings.

The procedure as code: for the reader without a model (`rules_only.py`), and for the rule that
completes the actions that a model read. Written from the guidelines and the train subset;
the order of the actions is that of the guidelines.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PLANS", "STEP_CUES", "Plan", "planned_actions"]


def _any(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """One request.

    Attributes:
        cues: each that occurs counts one for this request.
        steps: actions in order; those with a `STEP_CUES` entry only where that occurs, unless they
            are marked with "!".
    """

    cues: tuple[re.Pattern[str], ...]
    steps: tuple[str, ...]


def _plan(steps: str, *cues: str) -> Plan:
    return Plan(tuple(_any(cue) for cue in cues), tuple(steps.split()))


_DONE = (
    r"(?:all set|all done|has been|have been|is done|it'?s done|i(?:'ve| have)|i will|i'll|done)"
)
STEP_CUES = {
    "verify-identity": _any(r"account ?id|identity|zip ?code|\bpin\b|verify"),
    "validate-purchase": _any(r"e-?mail|user ?name|order (?:id|number)"),
    "record-reason": _any(
        r"reason|competitor|yesterday|spouse|wife|husband|e-?mail|news|originat"
        r"|how (?:long|many days)|gift card|paper check|current|out of stock|\bdays\b"
    ),
    "ask-the-oracle": _any(
        r"(?:check|look(?:ing)?|see|verify|ask)\b.{0,40}\b(?:system|into|oracle|for you|this|that)"
        r"|system|error|mistake"
    ),
    "membership": _any(r"\b(?:gold|silver|bronze|guest|member(?:ship)? level)\b"),
    "shipping-status": _any(
        r"shipping status|order received|in.transit|out for delivery|has (?:it|this|the order)"
        r".{0,20}ship|status of (?:the|your) (?:order|delivery|shipment)|been delivered"
    ),
    "subscription-status": _any(r"active|due|owe|status|paid"),
    "send-link": _any(r"\blinks?\b"),
    "enter-details": _any(
        r"\b(?:st|ave|dr|rd|street|avenue|drive|road)\b|pay(?:ment)?\b.{0,60}\b(?:now|processed|"
        r"card on file|today)"
    ),
    "notify-team": _any(r"\b(?:report|department|notif|team|manager)"),
    "offer-refund": _any(
        rf"{_DONE}.{{0,60}}refund|refund(?:ed)?.{{0,40}}(?:issued|processed|sent|set)|\$ ?\d+"
    ),
    "update-order": _any(
        r"by mail|in.store|drop.?off|waive|updat|chang|credit|remov|new (?:one|order|item)|resend"
    ),
    "update-account": _any(rf"{_DONE}.{{0,60}}(?:updat|chang|add|remov|exten|renew|paid|all set)"),
    "promo-code": _any(r"code(?: is|:| for)|[A-Z0-9]{5}\b.{0,40}code|% off|here is .{0,30}code"),
    "make-purchase": _any(
        r"back.?order|place (?:the|an|your|this|that) order|(?:order|purchase) (?:has been|is) "
        r"(?:placed|made)|make the purchase|card number"
        r"|(?:ship|order|send|purchase) (?:it|one|that|them)|added to your order"
    ),
    "try-again": _any(r"try (?:again|entering|another|re)|refresh|re-?enter|another website|again"),
    "log-out-in": _any(r"log(?:ging|ged)? ?(?:out|off|back|in)|sign(?:ing|ed)? out"),
    "instructions": _any(r"cookies|other tabs|close|closing|cache"),
    "search-faq": _any(r""),
    "select-faq": _any(r""),
}  # fmt: skip

_NO = r"(?:not|n't|never|isn|won|can't|unable|stopped|problem|trouble|issue)"
PLANS = (
    _plan("pull-up-account! enter-details! make-password!",
          r"(?:forg|lost|remember|reset|recover|don't know|know my|new).{0,30}password",
          r"new password|password is|password:"),
    _plan("pull-up-account! verify-identity!",
          r"(?:forg|lost|remember|recover|retrieve|don't know|need|what is).{0,30}user ?name",
          r"(?:your )?user ?name (?:on file )?(?:is|would be|should be) \w+1\b"),
    _plan("pull-up-account! enter-details! send-link!",
          r"two.?factor|2.?fa\b|authenti", r"lost (?:my|the) phone|security (?:best )?practices"),
    _plan("pull-up-account! verify-identity membership! update-account",
          r"subscription", r"extension|extend", r"(?:days?|little) late"),
    _plan("pull-up-account! verify-identity subscription-status! enter-details! update-account!",
          r"subscription", r"(?:want|like|need|how).{0,20}(?:to pay|renew)|pay my (?:fee|bill)"),
    _plan("pull-up-account! verify-identity subscription-status! send-link enter-details",
          r"subscription",
          r"(?:is|still|check).{0,30}active|when.{0,20}due|how much.{0,20}(?:owe|due)",
          r"payment.{0,30}(?:gone|go|went) through|status of (?:my|the) subscription"),
    _plan("pull-up-account! verify-identity membership ask-the-oracle! offer-refund",
          r"subscription", r"(?:overcharg|charged).{0,30}subscription|(?:bill|charged).{0,20}too"),
    _plan("pull-up-account! record-reason! ask-the-oracle! update-account offer-refund",
          r"(?:service|subs\w+).{0,40}(?:added|did ?n.?t (?:want|sign|ask|order))",
          r"did ?n.t (?:want|sign|ask for)", r"spouse|wife|husband|news"),
    _plan("pull-up-account! record-reason! ask-the-oracle! update-account",
          r"(?:service|subscription).{0,40}(?:removed|cancell?ed)", r"spouse|wife|husband|news"),
    _plan("pull-up-account! record-reason! ask-the-oracle! promo-code",
          r"missing.{0,20}credit|credit.{0,30}missing", r"originat|promotional package"),
    _plan("pull-up-account! ask-the-oracle! send-link!",
          r"free shipping|international", r"qualif|shopping cart"),
    _plan("pull-up-account! record-reason! verify-identity! update-account",
          r"(?:chang|updat|fix|correct|wrong|misspel).{0,40}(?:my|the).{0,15}(?:name|address|phone|"
          r"number|payment method)",
          r"(?:on|in|to) my account|current (?:address|phone|name|payment)",
          r"new (?:address|phone|name|number|payment)"),
    _plan("pull-up-account! validate-purchase! membership enter-details update-order",
          r"\breturn\b|\breturning", r"stain|wrong (?:size|color)|too (?:big|small)|color|dirty",
          r"by mail|in.store|drop.?off|shipping label"),
    _plan("pull-up-account! validate-purchase! record-reason enter-details offer-refund",
          r"(?:want|like|need|get|issue).{0,30}refund|money back", r"gift card|paper check",
          r"chang.{0,10}mind|do(?:es)?n.t like|don't want"),
    _plan("pull-up-account! validate-purchase! record-reason! offer-refund!",
          r"(?:add|another|update).{0,40}refund", r"existing refund|additional item|total refund"),
    _plan("pull-up-account! validate-purchase! notify-team",
          r"(?:status|check|state).{0,30}refund|refund status",
          r"refund.{0,30}(?:in progress|initiated|complete)"),
    _plan("pull-up-account! validate-purchase! record-reason membership update-order",
          r"(?:returned|sent back).{0,60}(?:refund|money|credit)", r"still (?:being )?charg|"
          r"(?:not|never|n.t) (?:been )?(?:received|refunded|credited)"),
    _plan("pull-up-account! validate-purchase! ask-the-oracle! membership update-order",
          r"charged.{0,40}(?:never|did ?n.t)|(?:never|did ?n.t) (?:buy|bought|purchas|order)",
          r"twice|credit (?:has|will)"),
    _plan("pull-up-account! record-reason! verify-identity promo-code",
          r"competitor|yesterday", r"price|cheaper|expensive", r"match"),
    _plan("pull-up-account! ask-the-oracle! membership promo-code",
          r"promo(?:tional|tion)? ?code.{0,60}(?:work|invalid|expir|accept|out of date|wrong|use)",
          r"(?:work|invalid|expir|accept|use).{0,40}promo", r"new (?:promo )?code"),
    _plan("pull-up-account! notify-team! promo-code",
          r"(?:always|everything|lots|so many|all).{0,40}out of stock", r"out.of.stock|sold out"),
    _plan("pull-up-account! record-reason! notify-team! make-purchase",
          r"out.of.stock|sold out|in stock", r"back.?order|purchasing department"),
    _plan("pull-up-account! verify-identity! ask-the-oracle! membership update-order",
          r"(?:extra|weird|mystery|strange|unknown|additional|misc).{0,25}(?:fee|charge)|overcharge",
          r"remov.{0,20}fee|fee.{0,20}(?:remov|add)|charged (?:me )?(?:too much|more)"),
    _plan("pull-up-account! verify-identity! ask-the-oracle! shipping-status update-order",
          r"(?:delivery|deliver).{0,30}(?:time|morning|evening|night)", r"morning|evening"),
    _plan("pull-up-account! verify-identity! shipping-status update-order!",
          r"(?:chang|switch|us|wrong).{0,40}(?:payment|pay|credit card)", r"payment method",
          r"for (?:my|this|the) order"),
    _plan("pull-up-account! verify-identity! ask-the-oracle!",
          r"e-?mail.{0,60}(?:two|2|twice|double|wrong|quantity)|quantity",
          r"ordered (?:one|1|two|2)|only (?:ordered|one|1)"),
    _plan("pull-up-account! verify-identity! shipping-status membership update-order!",
          r"overnight|faster|upgrade|expedite|tomorrow", r"shipping"),
    _plan("pull-up-account! verify-identity! shipping-status membership update-order!",
          r"next week|delay|slower|downgrade|later", r"shipping|ship"),
    _plan("pull-up-account! verify-identity! shipping-status make-purchase!",
          r"add.{0,30}(?:item|to my order|existing order|another)", r"forgot to add|to my order"),
    _plan("pull-up-account! verify-identity! shipping-status membership offer-refund!",
          r"cancel.{0,30}(?:order|item|part)|remove.{0,20}item", r"from my order"),
    _plan("pull-up-account! verify-identity validate-purchase! ask-the-oracle! update-order",
          r"e-?mail.{0,60}(?:address|date|item|price|different|wrong)",
          r"e-?mail.{0,40}(?:says|said|saying|stating|listed|that has)|confirm|shipping address",
          r"status of my (?:order|shipment)"),
    _plan("pull-up-account! shipping-status! validate-purchase! update-order!",
          r"(?:chang|edit|updat).{0,40}(?:shipping|order|address|shipment)", r"shipping details"),
    _plan("pull-up-account! validate-purchase! record-reason update-order make-purchase",
          r"(?:never|not|n.t|have yet to).{0,20}(?:arriv|received|gotten|got|come)|missing|lost",
          r"package|how long.{0,30}wait", r"says.{0,20}delivered"),
    _plan("pull-up-account! validate-purchase! shipping-status update-order offer-refund",
          r"shipping.{0,30}(?:cost|fee|expensive|price|charge|high|too)",
          r"waive", r"shipping fee"),
    _plan("try-again log-out-in enter-details make-purchase",
          rf"{_NO}.{{0,40}}(?:credit card|card)|card.{{0,40}}{_NO}", r"expir", r"credit card info"),
    _plan("try-again log-out-in enter-details make-purchase",
          r"\bcart\b", rf"cart.{{0,40}}(?:{_NO}|updat)|add.{{0,40}}cart"),
    _plan("log-out-in instructions notify-team try-again make-purchase",
          rf"search.{{0,40}}(?:{_NO}|results)|{_NO}.{{0,40}}search",
          r"search (?:results|bar|page)"),
    _plan("notify-team log-out-in try-again instructions make-purchase",
          r"slow", r"(?:web)?site.{0,30}(?:slow|load)|slow.{0,30}(?:web)?site"),
    _plan("search-faq! search-boots! select-faq", r"\bboots?\b",
          r"water.?proof|heel|laces?\b|sole"),
    _plan("search-faq! search-shirt! select-faq", r"\bshirts?\b", r"shrink|collar|sleeve|iron"),
    _plan("search-faq! search-jeans! select-faq", r"\bjeans?\b", r"grass|fade|inseam|zipper|denim"),
    _plan("search-faq! search-jacket! select-faq", r"\bjackets?\b",
          r"hood|warm|pockets|lining|arm"),
    _plan("search-faq! search-pricing! select-faq",
          r"gift.?wrap|how much (?:does|do|is|are)|price match|annual fee|do you charge",
          r"cost|pric(?:e|ing)"),
    _plan("search-faq! search-membership! select-faq",
          r"benefits?|perks|become a|sign up|upgrade to",
          r"(?:silver|gold|bronze).{0,30}(?:member|status)|premium subscription"),
    _plan("search-faq! search-timing! select-faq",
          r"(?:open|close|hours|how long (?:do|does|will)|when (?:do|does|will|can|is|the))",
          r"hours|open (?:from|until)|(?:fall|new) collection|collection drop|arrive in|take to"),
    _plan("search-faq! search-policy! select-faq",
          r"policy|policies",
          r"(?:return|refund|cancel).{0,20}policy|if i (?:return|don't|am late)|what happens|"
          r"how do (?:i|you) cancel"),
)  # fmt: skip

_IDS = re.compile(r"\b(?=[A-Z]*[0-9])[A-Z0-9]{10}\b|[0-9]{10}|@")
_OPENING = 450  # characters, in which a customer mostly says what the matter is
_AGREEMENT = 3.0  # keywords that the same actions as a model's are worth


def planned_actions(text: str, read: Sequence[str] | None = None) -> list[str]:
    """The actions of the request whose keywords occur most; the opening counts twice.

    Args:
        read: what a model read; a plan of the same actions counts for more, and an action of the
            plan that may be left out is in where its keyword occurs or it was read.
    """
    hits, named = _keywords(text)

    def score(place: int) -> tuple[float, int]:
        return hits[place] + _AGREEMENT * _overlap(PLANS[place], read or ()), -place

    plan = PLANS[max(range(len(PLANS)), key=score)]
    taken = []
    for step in plan.steps:
        name = step.removesuffix("!")
        if step.endswith("!") or name in named or name in (read or ()):
            taken.append(name)
    return taken


@functools.lru_cache(maxsize=64)
def _keywords(text: str) -> tuple[tuple[float, ...], frozenset[str]]:
    """Of each plan the hits, and the steps that are named; kept, for many readings of one text."""
    opening = text[:_OPENING]
    # Questions about the shop need no ids, and whoever gives ids asks for more than an answer.
    ids = _IDS.search(text) is not None
    hits = []
    for plan in PLANS:
        found = sum(2 if cue.search(opening) else 1 if cue.search(text) else 0 for cue in plan.cues)
        question = plan.steps[0] == "search-faq!"
        hits.append(float(found + (0 if not question else -2 if ids else 1)))
    return tuple(hits), frozenset(name for name, cue in STEP_CUES.items() if cue.search(text))


def _overlap(plan: Plan, read: Sequence[str]) -> float:
    """F1 of the plan's actions and those that were read; 0 without any."""
    steps = {step.removesuffix("!") for step in plan.steps}
    same = len(steps & set(read))
    return 2 * same / (len(steps) + len(set(read))) if same else 0.0
