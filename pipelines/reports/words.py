"""The word for a query: where people read, it is what the log calls it, such as a user.

Pages are written with `query`. Here their sentences, headings and names of figures are reworded;
ids, titles, values, commands and keys of the configuration stay.
"""

import re
from dataclasses import replace
from functools import partial

from feature_store.schema import FeatureSchema
from pipelines.reports.opening import Checks, Opening, Verdict
from pipelines.reports.parts import (
    Band,
    Cells,
    Chart,
    Entry,
    Facts,
    Page,
    Part,
    Row,
    Section,
    Table,
    Text,
)
from pipelines.reports.plots import Axis, Bars, Graph, Plot, Ranges
from pipelines.settings import DataConfig

QUERY, USER = "query", "user"
# Name of the column in logs of this project's own layout, which calls every query so.
_NEUTRAL = "query_id"
# Names of columns of ids that tell who asks, and their plurals where these are irregular.
_KNOWN = dict.fromkeys(
    (
        *("user", "customer", "member", "visitor", "session", "reader", "listener", "viewer"),
        *("player", "client", "subscriber", "buyer", "shopper", "guest", "reviewer", "student"),
        *("patient", "household", "device", "traveller", "traveler", "learner", "profile"),
        *("basket", "cart", "visit", "playlist", "driver"),
    ),
    "",
) | {"person": "people", "company": "companies", "party": "parties"}
# Abbreviations of these.
_SHORT = {"uid": USER, "usr": USER, "cust": "customer", "sid": "session"}
_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# The word as prose: no command, key, path or name in code.
_PROSE = re.compile(
    r"(?<![\w.`/-])(?<!recsys )(?:(?P<many>[Qq]ueries)|(?P<one>[Qq]uery))(?![\w`-]|[./]\w)"
)
# Beginnings of titles that have names of queries and items in them.
_NAMED = ("Query ", "Items like ")
_START = re.compile(r"^Query(?= )")


def word_of(column: str, *, is_item: bool = False) -> str:
    """Returns what a log calls a query, by the name of the column of its ids.

    Args:
        column: Name such as `user_id`, `customerId` or `event.visitor`.
        is_item: Whether queries are items, such as pages that link to pages.

    Returns:
        The word, in the singular: a user where the name is `query_id`, which says nothing, and
        queries are no items; `query` where it is none that people use.
    """
    if column == _NEUTRAL and not is_item:
        return USER
    for piece in map(str.lower, _PIECE.findall(column)):
        forms = (piece, piece.removesuffix("s"), piece.removesuffix("id"))
        for form in forms:
            if (word := _SHORT.get(form, form)) in _KNOWN:
                return word
    return QUERY


def word_for(data: DataConfig, features: FeatureSchema) -> str:
    """Returns what a configured log calls a query."""
    return word_of(data.columns.query_id, is_item=features.queries_are_items)


def pieces(text: str) -> list[tuple[str, bool]]:
    """Returns the pieces of a sentence, and whether each is code, which backticks set apart."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return [(text, False)]
    return [(part, at % 2 == 1) for at, part in enumerate(parts) if part]


def plural_of(word: str) -> str:
    """Returns the plural of a word for a query."""
    return "queries" if word == QUERY else _KNOWN.get(word) or f"{word}s"


def reworded(text: str, word: str) -> str:
    """Returns a sentence with the word in place of `query`, but in commands and keys."""
    if word == QUERY:
        return text

    def other(match: re.Match[str]) -> str:
        found = plural_of(word) if match["many"] else word
        return found.capitalize() if match[0][0] == "Q" else found

    return _PROSE.sub(other, text)


def explained(word: str) -> str:
    """Returns what the word stands for, in a sentence; nothing where it is `query` itself."""
    return "" if word == QUERY else f"A {word} is what the configuration calls a query."


def reworded_page(page: Page) -> Page:
    """Returns a page in the words of its log, with a sentence that says so."""
    if page.query == QUERY:
        return page
    say = partial(reworded, word=page.query)
    return replace(
        page,
        title=say(page.title),
        lead=f"{say(page.lead).removesuffix('.')}. {explained(page.query)}",
        sections=[reworded_section(each, page.query) for each in page.sections],
        warnings=[replace(each, text=say(each.text)) for each in page.warnings],
        opening=[reworded_opening(each, page.query) for each in page.opening],
    )


def reworded_section(section: Section, word: str) -> Section:
    """Returns a section in the words of a log."""
    parts = [reworded_part(part, word) for part in section.parts]
    return replace(section, title=reworded(section.title, word), parts=parts)


def reworded_opening(opening: Opening, word: str) -> Opening:
    """Returns a verdict or checks in the words of a log."""
    say = partial(reworded, word=word)
    if isinstance(opening, Checks):
        return Checks([replace(each, text=say(each.text)) for each in opening.checks])
    groups = [replace(each, text=say(each.text)) for each in opening.groups]
    said = replace(opening, sentence=say(opening.sentence), groups=groups)
    assert isinstance(said, Verdict)
    return replace(said, todo=say(opening.todo))


def reworded_part(part: Part, word: str) -> Part:
    """Returns a part in the words of a log."""
    say = partial(reworded, word=word)
    if isinstance(part, Text):
        return replace(part, text=say(part.text))
    if isinstance(part, Facts):
        return replace(part, pairs=[(say(name), value) for name, value in part.pairs])
    if isinstance(part, Table):
        return _table(part, word)
    if isinstance(part, Chart):
        numbers = None if part.numbers is None else _table(part.numbers, word)
        said = replace(part, title=say(part.title), summary=say(part.summary), numbers=numbers)
        return replace(said, plot=_plot(part.plot, word))
    if isinstance(part, Entry):
        return replace(
            part,
            title=_title(part.title, word),
            parts=[reworded_part(each, word) for each in part.parts],
        )
    return part


def _title(title: str, word: str) -> str:
    """Returns the title of an entry or a table; that of a query or an item has names in it."""
    if title.startswith(_NAMED):
        return _START.sub(word.capitalize(), title, count=1)
    return reworded(title, word)


def _table(table: Table, word: str) -> Table:
    title = _title(table.title, word)
    columns = [reworded(name, word) for name in table.columns]
    rows = [_row(row, word) for row in table.rows]
    return replace(table, title=title, columns=columns, rows=rows, note=reworded(table.note, word))


def _row(row: Row | Band | Cells, word: str) -> Row | Band | Cells:
    """Returns a row whose name is reworded where it is the word alone; all else are values."""
    if isinstance(row, Band):
        return row
    cells = row.cells if isinstance(row, Row) else row
    named = [reworded(c, word) if isinstance(c, str) and c == "Queries" else c for c in cells]
    return replace(row, cells=named) if isinstance(row, Row) else named


def _plot(plot: Plot, word: str) -> Plot:
    say = partial(reworded, word=word)
    if isinstance(plot, Graph):
        return replace(plot, x=_axis(plot.x, word), y=_axis(plot.y, word))
    if isinstance(plot, Bars | Ranges):
        return replace(plot, title=say(plot.title))
    return plot


def _axis(axis: Axis, word: str) -> Axis:
    return replace(axis, title=reworded(axis.title, word))
