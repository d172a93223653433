"""Words in names of columns and of event types: what is a positive, and what is its opposite."""

import re
from collections.abc import Mapping
from typing import Literal

from recsys.autoconfig.names import words_of

Meaning = Literal["positive", "negative"]

_POSITIVE = re.compile(
    "accept(ed)?|add|added|addto[a-z]+|appl(y|ied)|atc|basket|book(ed|ing)?|bookmark(ed)?"
    "|borrow(ed)?|bought|buy|buys|call(ed)?|cart|carts|checkout|click(ed|out|s)?|clk|comment(ed)?|complet(e|ed|ion)"
    "|confirm(ed)?|consum(e|ed)|contact(ed)?|conversion|convert(ed)?|deliver(ed)?|detail|details|donat(e|ed|ion)"
    "|download(ed)?|enga(ge|ged|gement)|enrol(l|led|ment)?|enter(ed)?|fav|favou?rites?|favou?rited"
    "|finish(ed)?|follow(ed)?|fulfil(l|led)?|good|great|install(ed)?|interact(ed|ion)?|interest(ed)?|join(ed)?|lik(e|ed|es)"
    "|listen(ed)?|love|loved|message|open(ed)?|order(ed|s)?|paid|pay|payment|pin(ned)?|play(ed|s)?"
    "|pos|positive|posted|pv|purchas(e|ed|es)|rat(e|ed)|rating|read|relevan(t|ce)|rent(ed)?|repin"
    "|repl(y|ied)|reserv(e|ed|ation)|retweet(ed)?|review(ed)?|sale|sav(e|ed)|select(ed)?|shar(e|ed)|ship(ped)?"
    "|sold|star|starred|start(ed)?|stream(ed)?|subscrib(e|ed)|subscription|success|tap|tapped"
    "|transaction|tried|up|upvot(e|ed)|us(e|ed)|view(ed|s)?|visit(ed)?|vote|voted|watch(ed)?"
    "|wish|wishlist"
)
_NEGATIVE = re.compile(
    "abandon(ed|ment)?|bad|ban(ned)?|block(ed)?|bounc(e|ed)|cancel(ed|led|lation)?|chargeback"
    "|churn(ed)?|complain(ed|t)?|declin(e|ed)|delet(e|ed|ion)|dismiss(ed)?|display(ed)?"
    "|dislik(e|ed|es)|down|downvot(e|ed)|drop(ped)?|expos(e|ed|ure)|hat(e|ed)|hid(e|den)?"
    "|ignor(e|ed)|imp|impress(ed|ion|ions)?|mut(e|ed)|negative|neg|never|nope|refund(ed)?"
    "|reject(ed|ion)?|remov(e|ed|al)|removefrom[a-z]+|report(ed)?|return(ed)?|serv(e|ed)|shown"
    "|skip(ped|s)?|spam|thumbsdown|timeout|unsub|withdraw(n)?|withdrew"
)
_NOT = re.compile("de|no|non|not|un|without")
# Words that say nothing in names of labels.
_FILLERS = re.compile(
    "a|an|binary|did|event|feedback|flag|for|from|has|have|ind|indicator|interaction|implicit|in"
    "|is|item|label|long|of|out|outcome|page|product|response|reward|target|the|to|user|value|was"
    r"|y|\d+"
)
# Names of labels that do not say of what.
_LABEL = re.compile("feedback|interaction|label|labels|outcome|response|reward|target|y")
_DONE = (
    "(event|action|activity|behaviou?r|engagement|feedback|interaction|operation|opinion|reaction"
    "|sentiment|swipe|thumb|vote)s?"
)
_TYPE_NAME = re.compile(
    f"(user)?{_DONE}({_DONE})?(kind|name|op|signal|status|type|verb)?|type|verb"
)
# Words of events that are as often something else: an item that is for sale, a user who has paid.
_AMBIGUOUS = re.compile(
    "add|bad|banned|book|call|details?|display|down|drop(ped)?|good|great|imp|message|neg|open|order"
    "|paid|pin|pos|posted|rating|read|report|return|review|sale|select|serv(e|ed)|star|start|stream"
    "|subscrib(e|ed)|subscription|up|use|used|visit|vote"
)
# Words of what was shown, whatever became of it.
_SHOWN = re.compile("display(ed)?|expos(e|ed|ure)|imp|impress(ed|ion|ions)?|serv(e|ed)|shown")
# Words of numbers of events, where 0 is none.
_COUNTS = re.compile(
    "clicks?|conversions?|downloads?|likes|orders|plays|purchases?|saves|shares|views"
)
_QUANTITY = re.compile(
    "amount|copies|paid|price|qty|quantity|revenue|sales|spend|spent|total|units|value"
)
_AMOUNT = re.compile(
    "completion|dwell|duration|engagement|fraction|hours|hrs|listened|minutes|mins|percent"
    "|percentage|playtime|play|played|plays|progress|ratings?|ratio|scores?|seconds|secs|stars?"
    "|stay|streamed|viewed|watch|watched|watchtime"
)

# Values of labels, in lower case.
TRUE = {"1", "t", "true", "y", "yes", "+1"}
FALSE = {"0", "-1", "f", "false", "n", "no", ""}


def meaning(value: str) -> Meaning | None:
    """Returns what a type of event says of the item; None where no word is known."""
    words = words_of(value)
    if any(_is_negative(word) for word in words):
        return "negative"
    if any(_NOT.fullmatch(word) for word in words[:-1]):
        return "negative" if any(_POSITIVE.fullmatch(word) for word in words) else None
    return "positive" if any(_POSITIVE.fullmatch(word) for word in words) else None


def _is_negative(word: str) -> bool:
    """Returns whether a word is negative, such as `skip`, or the opposite of one: `unlike`."""
    opposite = re.fullmatch("(non|not|no|un|dis|de)(.{3,})", word)
    return _NEGATIVE.fullmatch(word) is not None or (
        opposite is not None and _POSITIVE.fullmatch(opposite[2]) is not None
    )


def label_meaning(name: str, *, is_signed: bool = False) -> Meaning | None:
    """Returns what is true of a row whose label is true; None for what is no label.

    `is_click` is a label of positives, `skipped` one of negatives, and `click_position` is none.

    Args:
        name: Name of a column.
        is_signed: Whether its values are -1 and 1, so that a name with several meanings is a label.
    """
    words = [word for word in words_of(name) if not _FILLERS.fullmatch(word)]
    if not words:
        return "positive" if is_plain_label(name) else None
    known = all(_POSITIVE.fullmatch(w) or _is_negative(w) or _NOT.fullmatch(w) for w in words)
    is_clear = is_signed or not all(map(_AMBIGUOUS.fullmatch, words))
    if not known or any(map(_SHOWN.fullmatch, words)) or not is_clear:
        return None
    return meaning(" ".join(words))


def is_plain_label(name: str) -> bool:
    """Returns whether a column is called a label, and not after what it is a label of."""
    words = words_of(name)
    return any(map(_LABEL.fullmatch, words)) and all(map(_FILLERS.fullmatch, words))


def is_graded_name(name: str) -> bool:
    """Returns whether a column of this name may hold grades or counts, of which 0 is no positive.

    `label` and `clicks` may; `order`, which may be a position, may not.
    """
    words = words_of(name)
    return is_plain_label(name) or any(map(_COUNTS.fullmatch, words))


def is_type_name(name: str) -> bool:
    """Returns whether a column of this name holds types of events."""
    return _TYPE_NAME.fullmatch("".join(words_of(name))) is not None


def is_amount_name(name: str) -> bool:
    """Returns whether a column of this name may hold how much of an item somebody took."""
    return any(_AMOUNT.fullmatch(word) for word in words_of(name))


def is_quantity_name(name: str) -> bool:
    """Returns whether a column of this name may hold how many were bought, or given back."""
    return any(_QUANTITY.fullmatch(word) for word in words_of(name))


def says_what_was_done(meanings: Mapping[str, Meaning | None]) -> bool:
    """Returns whether values say what people did, whatever their column is called.

    Args:
        meanings: Meaning of each value.
    """
    sure = {
        each
        for value, each in meanings.items()
        if not any(_AMBIGUOUS.fullmatch(word) for word in words_of(value))
    }
    known = sum(each is not None for each in meanings.values())
    return {"positive", "negative"} <= sure and 2 * known >= len(meanings)
