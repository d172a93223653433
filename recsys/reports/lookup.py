"""Recommendations of single queries, and the items most similar to single items."""

from itertools import zip_longest
from urllib.parse import urlencode

from pipelines.reports.format import count_of
from pipelines.reports.parts import Cell, Cells, Entry, Part, Section, Table, Text
from recsys.reports.run.items import ItemTable
from recsys.reports.run.queries import Answer, QueryTable
from recsys.reports.run.run_data import RunData

# Queries and items of a file; the dashboard looks up any of them.
_QUERIES, _ITEMS = 60, 150
# Items of a list, and entries that are unfolded at first.
_SHOWN, _OPEN = 10, 3


def examples_section(run: RunData) -> Section:
    """Returns the recommendations of a few queries at even distances."""
    queries = run.queries
    if queries is None:
        return Section("examples", "Recommendations", [Text("This run has no evaluation.")])
    ids = queries.spread(_QUERIES)
    if not ids:
        return Section("examples", "Recommendations", [Text("No query has anything to find.")])
    answers = [answer for query_id in ids if (answer := queries.answer(query_id)) is not None]
    note = Text(
        f"{len(ids):,} of {len(queries.ids):,} evaluated queries, evenly spaced, not chosen by how "
        f"well they are answered. Up to {_SHOWN} items each; recsys dashboard looks up any query."
    )
    history = _history_title(run)
    entries = [
        _entry(answer, run.items, history, is_open=at < _OPEN) for at, answer in enumerate(answers)
    ]
    return Section("examples", "Recommendations", [note, *entries], is_searched=True)


def query_parts(run: RunData, queries: QueryTable, query_id: str, page: str) -> list[Part]:
    """Returns the recommendations of one query, or the ids that begin as it does.

    Args:
        run: Run to show.
        queries: Its queries.
        query_id: Id as typed.
        page: Address of the section.
    """
    answer = queries.answer(query_id)
    if answer is not None:
        return list(_entry(answer, run.items, _history_title(run)).parts)
    near = queries.starting_with(query_id)
    text = f"No evaluated query has the id {query_id!r}."
    if not near:
        return [Text(text, "warning")]
    rows = [[Cell(name, href=f"{page}?{urlencode({'query': name})}")] for name in near]
    return [Text(text, "warning"), Table("Ids that begin like it", ["Query"], rows)]


def similar_section(run: RunData) -> Section:
    """Returns the nearest items of a few, evenly spaced over the catalogue."""
    items = run.items
    if items is None:
        return Section("similar", "Similar items", [Text("This run kept no items.")])
    total = items.names.num_rows
    rows = items.spread(_ITEMS)
    entries = [
        Entry(_name(items, row), [_neighbours(items, row)], is_open=not at)
        for at, row in enumerate(rows)
    ]
    note = Text(
        f"{len(rows):,} of {total:,} items, and those whose vectors are nearest; recsys "
        "dashboard looks up any item."
    )
    return Section("similar", "Similar items", [note, *entries], is_searched=True)


def item_parts(items: ItemTable, text: str, page: str) -> list[Part]:
    """Returns the neighbours of the item with an id, or the items whose titles hold the text.

    Args:
        items: Items of the run.
        text: Id or part of a title, as typed.
        page: Address of the section.
    """
    row = items.row_of(text)
    if row is not None:
        if items.similar(row):
            return [_neighbours(items, row)]
        return [
            Text("No neighbours were kept of this item: of a large catalogue a sample has them.")
        ]
    matches = items.search(text)
    if not matches:
        return [Text(f"No item has the id or the title {text!r}.", "warning")]
    table = items.names.take(matches)
    rows: list[Cells] = [
        [Cell(title or item_id, href=f"{page}?{urlencode({'item': item_id})}"), f"{frequency:,}"]
        for item_id, title, frequency in zip(
            *(table[name].to_pylist() for name in ("item_id", "title", "frequency")), strict=True
        )
    ]
    return [Table("Items with such a title", ["Item", "Training events"], rows)]


def _entry(
    answer: Answer, items: ItemTable | None, history: str, *, is_open: bool = False
) -> Entry:
    def titles(ids: list[str]) -> list[str]:
        return items.titles(ids[:_SHOWN]) if items is not None else ids[:_SHOWN]

    wanted = set(answer.held_out)
    ranked: list[str | Cell] = [
        Cell(f"{title} ✓ held out", tone="good") if item_id in wanted else title
        for title, item_id in zip(titles(answer.recommended), answer.recommended, strict=False)
    ]
    ranks = [
        f"{title} ({'not in the list' if rank is None else f'rank {rank + 1}'})"
        for title, rank in zip(titles(answer.held_out), answer.ranks, strict=False)
    ]
    columns: list[Cells] = [ranked, titles(answer.history), ranks, titles(answer.popular)]
    rows: list[Cells] = [
        [str(at), *cells] for at, cells in enumerate(zip_longest(*columns, fillvalue=""), start=1)
    ]
    hits = sum(item_id in wanted for item_id in answer.recommended[:_SHOWN])
    title = (
        f"Query {answer.query_id}: {hits} of {count_of(len(wanted), 'held-out item')} in the first "
        f"{_SHOWN}"
    )
    headings = ["Rank", "Recommended", history, "Held out", "By popularity"]
    return Entry(title, [Table(title, headings, rows, texts=len(headings))], is_open)


def _history_title(run: RunData) -> str:
    """Returns the heading of the history, which has an order only where it is of the past."""
    is_ordered = run.result is None or run.result.history == "past"
    return "Has, latest first" if is_ordered else "Has"


def _neighbours(items: ItemTable, row: int) -> Table:
    near = items.similar(row)
    table = items.names.take([at for at, _ in near])
    columns = [table[name].to_pylist() for name in ("title", "item_id", "slice", "frequency")]
    rows = [
        [title or item_id, item_id, part, f"{frequency:,}", f"{cosine:.3f}"]
        for (title, item_id, part, frequency), (_, cosine) in zip(
            zip(*columns, strict=True), near, strict=True
        )
    ]
    headings = ["Similar item", "Id", "Slice", "Training events", "Cosine"]
    return Table(f"Nearest to {_name(items, row)}", headings, rows, texts=3)


def _name(items: ItemTable, row: int) -> str:
    names = items.names.slice(row, 1).to_pylist()[0]
    title, item_id = names["title"], names["item_id"]
    return f"{title} ({item_id})" if title and title != item_id else str(item_id)
