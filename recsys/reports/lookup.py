"""Recommendations of single queries, and the items most similar to single items."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from urllib.parse import urlencode

from pipelines.reports.format import count_of
from pipelines.reports.parts import Cell, Cells, Entry, Part, Section, Table, Text
from recsys.evaluation.results import METHOD_TITLES
from recsys.reports.run.items import ItemTable
from recsys.reports.run.queries import Answer, QueryTable
from recsys.reports.run.run_data import RunData

# Queries and items of a file; the dashboard looks up any of them.
_QUERIES, _ITEMS = 60, 150
# Items of a list, and entries that are unfolded at first.
_SHOWN, _OPEN = 10, 3
# Entries whose titles are shown; the others are folded away behind one.
_TITLES = 12


def examples_section(run: RunData) -> Section:
    """Returns the recommendations of a few queries, of as many kinds as there are."""
    queries = run.queries
    if queries is None:
        return Section("examples", "Recommendations", [Text("This run has no evaluation.")])
    ids = example_ids(run, queries, _QUERIES)
    if not ids:
        return Section("examples", "Recommendations", [Text("No query has anything to find.")])
    answers = [answer for query_id in ids if (answer := queries.answer(query_id)) is not None]
    entries = [_entry(run, answer, is_open=at < _OPEN) for at, answer in enumerate(answers)]
    chosen = (
        "chosen for variety: rare items that were found, hits and misses, short and long "
        "histories. How often the model is right is in the results, not here"
        if run.examples
        else "evenly spaced, not chosen by how well they are answered"
    )
    note = Text(
        f"{len(ids):,} of {len(queries.ids):,} evaluated queries, {chosen}. Up to {_SHOWN} items "
        "each; `recsys dashboard` looks up any query."
    )
    parts = [note, *_folded(entries, "more query", "more queries")]
    return Section("examples", "Recommendations", parts, is_searched=True)


def example_ids(run: RunData, queries: QueryTable, count: int) -> list[str]:
    """Returns ids of queries that the evaluation chose, else of some at even distances."""
    return [each.query_id for each in run.examples[:count]] or queries.spread(count)


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
        return list(_entry(run, answer).parts)
    near = queries.starting_with(query_id)
    text = f"No evaluated query has the id {query_id!r}."
    if not near:
        return [Text(text, "warning")]
    rows = [[Cell(name, href=f"{page}?{urlencode({'query': name})}")] for name in near]
    return [Text(text, "warning"), Table("Ids that begin like it", ["Query"], rows)]


def similar_section(run: RunData) -> Section:
    """Returns the nearest items of a few that are well known, evenly spaced over the catalogue."""
    items = run.items
    if items is None:
        return Section("similar", "Similar items", [Text("This run kept no items.")])
    total = items.names.num_rows
    rows = items.spread(_ITEMS)
    entries = [
        Entry(
            f"Items like {item_name(items, row)}",
            [_neighbours(items, row)],
            is_open=not at,
            key=items.names["item_id"][row].as_py(),
        )
        for at, row in enumerate(rows)
    ]
    note = Text(
        f"{len(rows):,} of {total:,} items, the well-known ones, and those whose vectors are "
        "nearest. Good are neighbours of one kind, rare ones among them; `recsys dashboard` looks "
        "up any item."
    )
    parts = [note, *_folded(entries, "more item", "more items")]
    return Section("similar", "Similar items", parts, is_searched=True)


def _folded(entries: Sequence[Entry], noun: str, plural: str) -> list[Part]:
    """Returns the first entries, and one with the others, where these are not a few."""
    if len(entries) <= 2 * _TITLES:
        return list(entries)
    others = entries[_TITLES:]
    return [*entries[:_TITLES], Entry(count_of(len(others), noun, plural), others)]


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


def _entry(run: RunData, answer: Answer, *, is_open: bool = False) -> Entry:
    """Returns a query with its list, the reasons, its history, and what was held out."""

    def titles(ids: Sequence[str]) -> list[str]:
        shown = list(ids[:_SHOWN])
        return run.items.titles(shown) if run.items is not None else shown

    wanted = set(answer.held_out)
    recommended = answer.recommended[:_SHOWN]
    ranked: list[str | Cell] = []
    for item_id, title, note in zip_longest(
        recommended, titles(recommended), _reasons(run, answer, titles), fillvalue=""
    ):
        is_hit = item_id in wanted
        text = f"{title} ✓ held out" if is_hit else title
        ranked.append(Cell(text, [note] if note else [], tone="good" if is_hit else ""))
    # Items that were found come first, for there may be more than are shown.
    pairs = sorted(
        zip(answer.held_out, answer.ranks, answer.slices, strict=True),
        key=lambda pair: (pair[1] is None, pair[1] or 0),
    )[:_SHOWN]
    named = titles([item_id for item_id, _, _ in pairs])
    ranks = [
        f"{title} ({'not in the list' if rank is None else f'rank {rank + 1}'}{_rare(part)})"
        for title, (_, rank, part) in zip(named, pairs, strict=True)
    ]
    columns: list[Cells] = [ranked, titles(answer.history), ranks, titles(answer.popular)]
    rows: list[Cells] = [
        [str(at), *cells] for at, cells in enumerate(zip_longest(*columns, fillvalue=""), start=1)
    ]
    title = _title(answer, titles)
    headings = ["Rank", "Recommended", _history_title(run), "Held out", "By popularity"]
    return Entry(title, [Table(title, headings, rows, texts=len(headings))], is_open)


def _title(answer: Answer, titles: Callable[[Sequence[str]], list[str]]) -> str:
    """Returns the id of a query, how many items were found, and one of them by its title."""
    found = sorted(
        (rank, item_id)
        for rank, item_id in zip(answer.ranks, answer.held_out, strict=True)
        if rank is not None and rank < _SHOWN
    )
    first = found[0][1] if found else answer.held_out[0]
    rank = f" at rank {found[0][0] + 1}" if found else ""
    return (
        f"Query {answer.query_id}: {len(found)} of "
        f"{count_of(len(answer.held_out), 'held-out item')} in the first {_SHOWN}; "
        f"{'finds' if found else 'misses'} {titles([first])[0]}{rank}, "
        + (
            f"from a history of {count_of(answer.length, 'item')}"
            if answer.length
            else "without a history"
        )
    )


def _reasons(
    run: RunData, answer: Answer, titles: Callable[[Sequence[str]], list[str]]
) -> list[str]:
    """Returns why each item is recommended; none of a query that was not chosen as an example."""
    example = next((each for each in run.examples if each.query_id == answer.query_id), None)
    if example is None:
        return []
    return [
        f"as it has {' and '.join(titles(reason.because))}"
        if reason.because
        else f"by {METHOD_TITLES.get(reason.part, reason.part).removesuffix(' alone')}"
        for reason in example.reasons
    ]


def _rare(part: str) -> str:
    return f", {part}" if part in ("tail", "cold") else ""


def _history_title(run: RunData) -> str:
    """Returns the heading of the history, which has an order only where the log has time."""
    has_time = run.quality is None or run.quality.first_event is not None
    is_ordered = has_time and (run.result is None or run.result.history == "past")
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
    return Table(f"Items like {item_name(items, row)}", headings, rows, texts=3)


def item_name(items: ItemTable, row: int) -> str:
    """Returns the title of an item with its id."""
    names = items.names.slice(row, 1).to_pylist()[0]
    title, item_id = names["title"], names["item_id"]
    return f"{title} ({item_id})" if title and title != item_id else str(item_id)
