"""Recommendations and similar items, for those who know a query or an item."""

from itertools import zip_longest
from urllib.parse import urlencode

from pipelines.reports.parts import Cell, Entry, Link, Part, Section, Table, Text
from recsys.dashboard.data.items import ItemTable
from recsys.dashboard.data.queries import Answer, QueryTable
from recsys.dashboard.data.run_data import RunData

# Of the file of a run; the dashboard looks up any.
_QUERIES, _ITEMS, _SHOWN = 60, 150, 10


def examples_section(run: RunData) -> Section:
    """What a few queries were recommended, evenly spaced, not chosen by result."""
    queries = run.queries
    if queries is None:
        return Section("examples", "Recommendations", [Text("This run has no evaluation.")])
    ids = queries.spread(_QUERIES)
    answers = [answer for query_id in ids if (answer := queries.answer(query_id)) is not None]
    note = Text(
        f"{len(ids):,} of {len(queries.ids):,} evaluated queries, evenly spaced, not chosen by how "
        "well they are answered."
    )
    entries = [_entry(answer, run.items) for answer in answers]
    return Section("examples", "Recommendations", [note, *entries], is_searched=True)


def query_parts(
    queries: QueryTable, items: ItemTable | None, query_id: str, page: str
) -> list[Part]:
    """Of one query, or the ids that begin as it does.

    Args:
        queries: Of the run.
        items: Names.
        query_id: As typed.
        page: Address of the section.
    """
    answer = queries.answer(query_id)
    if answer is not None:
        return list(_entry(answer, items).parts)
    near = queries.starting_with(query_id)
    text = f"No evaluated query has the id {query_id!r}."
    if not near:
        return [Text(text, is_warning=True)]
    rows: list[list[Cell]] = [[Link(name, f"{page}?{urlencode({'query': name})}")] for name in near]
    return [Text(text, is_warning=True), Table("Ids that begin like it", ["Query"], rows)]


def similar_section(run: RunData) -> Section:
    """The nearest items of a few, evenly spaced over the catalogue."""
    items = run.items
    if items is None:
        return Section("similar", "Similar items", [Text("This run kept no items.")])
    total = items.names.num_rows
    rows = items.spread(_ITEMS)
    entries = [Entry(_name(items, row), [_neighbours(items, row)]) for row in rows]
    note = Text(f"{len(rows):,} of {total:,} items, and those whose vectors are nearest.")
    return Section("similar", "Similar items", [note, *entries], is_searched=True)


def item_parts(items: ItemTable, text: str, page: str) -> list[Part]:
    """Of the item whose id is the text, or the items whose titles hold it.

    Args:
        items: Of the run.
        text: As typed.
        page: Address of the section.
    """
    row = items.row_of(text)
    if row is not None:
        if items.similar(row):
            return [_neighbours(items, row)]
        return [
            Text("No neighbours were kept of this item: of a large catalogue a sample has them.")
        ]
    found = items.search(text)
    if not found:
        return [Text(f"No item has the id or the title {text!r}.", is_warning=True)]
    table = items.names.take(found)
    rows: list[list[Cell]] = [
        [Link(title or item_id, f"{page}?{urlencode({'item': item_id})}"), f"{frequency:,}"]
        for item_id, title, frequency in zip(
            *(table[name].to_pylist() for name in ("item_id", "title", "frequency")), strict=True
        )
    ]
    return [Table("Items with such a title", ["Item", "Training events"], rows)]


def _entry(answer: Answer, items: ItemTable | None) -> Entry:
    def titles(ids: list[str]) -> list[str]:
        return items.titles(ids[:_SHOWN]) if items is not None else ids[:_SHOWN]

    wanted = set(answer.held_out)
    ranked = [
        f"{title} ✓ held out" if item_id in wanted else title
        for title, item_id in zip(titles(answer.recommended), answer.recommended, strict=False)
    ]
    ranks = [
        f"{title} ({'not in the list' if rank is None else f'rank {rank + 1}'})"
        for title, rank in zip(titles(answer.held_out), answer.ranks, strict=False)
    ]
    columns = [ranked, titles(answer.history), ranks, titles(answer.popular)]
    rows: list[list[Cell]] = [
        [str(at + 1), *cells] for at, cells in enumerate(zip_longest(*columns, fillvalue=""))
    ]
    hits = sum(item_id in wanted for item_id in answer.recommended[:_SHOWN])
    caption = f"{hits} of {len(wanted)} held-out items are in the first {_SHOWN}"
    headings = ["Rank", "Recommended", "Has, latest first", "Held out", "By popularity"]
    return Entry(
        f"Query {answer.query_id}: {hits} of {len(wanted)}",
        [Table(caption, headings, rows, texts=len(headings))],
    )


def _neighbours(items: ItemTable, row: int) -> Table:
    near = items.similar(row)
    table = items.names.take([at for at, _ in near])
    columns = [table[name].to_pylist() for name in ("title", "item_id", "slice", "frequency")]
    rows: list[list[Cell]] = [
        [title or item_id, item_id, part, f"{frequency:,}", f"{cosine:.3f}"]
        for (title, item_id, part, frequency), (_, cosine) in zip(
            zip(*columns, strict=True), near, strict=True
        )
    ]
    headings = ["Similar item", "Id", "Slice", "Training events", "Cosine"]
    return Table(f"Nearest to {_name(items, row)}", headings, rows, texts=3)


def _name(items: ItemTable, row: int) -> str:
    found = items.names.slice(row, 1).to_pylist()[0]
    title, item_id = found["title"], found["item_id"]
    return f"{title} ({item_id})" if title and title != item_id else str(item_id)
