"""MovieLens-100K as a log, read from its archives."""

import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

Rows = list[list[str]]

PARTITIONS = 4

EVENTS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
        pa.field("rating", pa.float32(), nullable=False),
    ]
)
ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("release_year", pa.string()),
        pa.field("genres", pa.list_(pa.string()), nullable=False),
    ]
)
QUERIES = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("age", pa.string()),
        pa.field("gender", pa.string()),
        pa.field("occupation", pa.string()),
        pa.field("zip_code", pa.string()),
    ]
)

WHEEL_FOLDER = "recbole/dataset_example/ml-100k"

README = """\
# MovieLens-100K

100,000 ratings (1 to 5) of 1,682 films by 943 users of the MovieLens web site, September 1997 to
April 1998, with the users' demographics and the films' titles, years and genres.

Source: {source}.

## Licence and acknowledgement

The data belongs to GroupLens Research at the University of Minnesota. Its terms allow research use
with acknowledgement; they forbid redistribution, and commercial use, without permission.

F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context.
ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. doi:10.1145/2827872

## Files

- `events/`: `query_id` (the user), `item_id` (the film), `timestamp` (unix seconds), `rating`.
  All rows of a query are in part crc32(query_id) mod 4, sorted by query_id, timestamp, item_id.
- `items.parquet`: `item_id`, `title`, `release_year` (null where unknown), `genres`.
- `queries.parquet`: `query_id`, `age` (in years), `gender`, `occupation`, `zip_code`.

Changed from the source: the year is taken out of the title, film 267 is titled `unknown` and has no
year, and films whose only genre is `unknown` have none.
"""


@dataclass(frozen=True)
class Tables:
    """A data set in memory: `events`, `items` and `queries` in this module's schemas."""

    events: pa.Table
    items: pa.Table
    queries: pa.Table


def partition_events(events: pa.Table) -> list[pa.Table]:
    """Splits events by crc32(query_id) mod 4, each sorted by query_id, timestamp, item_id.

    Ids sort as strings. All of a query's events are in one part, so that a reader of one file has
    whole histories, and equal timestamps have one order.
    """
    events = events.sort_by([(name, "ascending") for name in ("query_id", "timestamp", "item_id")])
    partition = [
        zlib.crc32(query.encode()) % PARTITIONS for query in events["query_id"].to_pylist()
    ]
    rows: list[list[int]] = [[] for _ in range(PARTITIONS)]
    for row, part in enumerate(partition):
        rows[part].append(row)
    return [events.take(pa.array(part, pa.int64())) for part in rows]


def title_and_year(text: str) -> tuple[str, str | None]:
    """Splits MovieLens' `Toy Story (1995)` into title and year, None where it names no year.

    Other parentheses before the year belong to the title. A medium after it, as in
    `... (1995) (V)`, does not, nor do spaces at the end.
    """
    match = re.fullmatch(r"(.*?)\s*\((\d{4})\)(?:\s*\([A-Z]+\))?\s*", text)
    return (match[1], match[2]) if match else (text.strip(), None)


def _items(films: Iterable[tuple[str, str, Iterable[str]]]) -> pa.Table:
    rows = []
    for item_id, text, genres in films:
        title, year = title_and_year(text)
        known = sorted(set(genres) - {"unknown"})
        rows.append({"item_id": item_id, "title": title, "release_year": year, "genres": known})
    return pa.Table.from_pylist(rows, schema=ITEMS)


def _events(rows: Rows) -> pa.Table:
    queries, items, ratings, timestamps = zip(*rows, strict=True)
    return pa.table(
        [list(queries), list(items), [int(t) for t in timestamps], [float(r) for r in ratings]],
        schema=EVENTS,
    )


def _queries(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(QUERIES.names, row, strict=True)) for row in rows], schema=QUERIES
    )


def _rows(archive: zipfile.ZipFile, member: str, separator: str, encoding: str) -> Rows:
    # Not splitlines(), which also breaks at characters that Latin-1 text may hold within a line.
    lines = archive.read(member).decode(encoding).split("\n")
    return [line.rstrip("\r").split(separator) for line in lines if line.strip()]


def read_archive(archive: zipfile.ZipFile) -> Tables:
    """Reads GroupLens' `ml-100k.zip`: `u.data`, `u.item`, `u.user` and `u.genre`, in Latin-1."""

    def rows(name: str, separator: str) -> Rows:
        return _rows(archive, f"ml-100k/u.{name}", separator, "latin-1")

    genres = {int(row[1]): row[0] for row in rows("genre", "|")}

    def film(row: list[str]) -> tuple[str, str, list[str]]:
        # id | title (year) | release date | video release date | IMDb address | 19 genre flags
        return row[0], row[1], [genres[i] for i, flag in enumerate(row[5:]) if flag == "1"]

    return Tables(
        events=_events(rows("data", "\t")),
        items=_items(film(row) for row in rows("item", "|")),
        queries=_queries(rows("user", "|")),
    )


def read_wheel(archive: zipfile.ZipFile) -> Tables:
    """Reads RecBole's atomic files `ml-100k.inter`, `.item` and `.user` (UTF-8) from its wheel."""

    def rows(kind: str) -> Rows:
        return _rows(archive, f"{WHEEL_FOLDER}/ml-100k.{kind}", "\t", "utf-8")[1:]

    def film(row: list[str]) -> tuple[str, str, list[str]]:
        # RecBole read the last parentheses as the year, but those of film 1412 hold `V`, and it
        # doubled film 267's title, misspelt. Joined again, all titles are read by the same rule.
        item_id, title, year, genres = row
        text = "unknown" if title == year == "unkonwn" else f"{title} ({year})"
        return item_id, text, genres.split()

    return Tables(
        events=_events(rows("inter")),
        items=_items(film(row) for row in rows("item")),
        queries=_queries(rows("user")),
    )
