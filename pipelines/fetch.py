"""Public data sets, downloaded and written in the log layout: `recsys fetch NAME -o DIR`.

A data set is read from the first of its sources that can be reached, each pinned by its SHA-256,
and is the same whichever that is.
"""

import difflib
import http.client
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.errors import UserError
from feature_store.storage import directory_written_atomically, sha256_of

Progress = Callable[[str], None]
Fetch = Callable[[Path, Progress], Path]
Rows = list[list[str]]

PARTITIONS = 4
FILES = (
    *(f"events/part-{partition:05d}.parquet" for partition in range(PARTITIONS)),
    "items.parquet",
    "queries.parquet",
    "README.md",
)

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

CONNECT_SECONDS = 5.0
DOWNLOAD_SECONDS = 120.0
DOWNLOAD_BYTES = 64 * 2**20

ARCHIVE_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
WHEEL = "recbole==1.2.1"
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
    """A data set in memory: `events`, `items` and `queries` by this module's schemas."""

    events: pa.Table
    items: pa.Table
    queries: pa.Table


@dataclass(frozen=True)
class Source:
    """One place that a data set can be had from.

    `download` fills a directory and returns the file; `read` turns its zip archive into tables.
    Both raise UserError, with a reason that needs no context.
    """

    name: str
    sha256: str
    download: Callable[[Path], Path]
    read: Callable[[zipfile.ZipFile], Tables]


def fetch(name: str, output: Path, progress: Progress = print) -> Path:
    """Downloads a data set by name into the directory `output`.

    Raises:
        UserError: No data set has that name, or it cannot be fetched or written.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.0)[0]
        known = ", ".join(sorted(DATASETS))
        raise UserError(f"unknown data set '{name}'; the nearest is '{near}' of: {known}.")
    return DATASETS[name](output, progress)


def fetch_movielens_100k(
    output: Path, progress: Progress = print, *, sources: Sequence[Source] | None = None
) -> Path:
    """Writes MovieLens-100K to the directory `output`, whole or not at all.

    A complete `output` is left alone. The films' knowledge graph (cast, crew, awards) that RecBole
    ships is not read: it names films by another data set's ids.

    Args:
        output: Directory to make: `events/part-*.parquet`, `items.parquet`, `queries.parquet`.
        progress: Called with one line at a time.
        sources: Tried in order; GroupLens' own archive, then the wheel of RecBole, when None.

    Returns:
        The absolute path of `output`.

    Raises:
        UserError: Every source failed, or `output` is in use or not writable.
    """
    output = output.resolve()
    if all((output / file).is_file() for file in FILES):
        progress(f"movielens-100k is already there: {output}")
        return output
    _check_free(output)
    start = time.monotonic()
    source, tables = _read_first(MOVIELENS_100K if sources is None else sources, progress)
    _write(output, tables, README.format(source=source.name))
    progress(
        f"movielens-100k: {tables.events.num_rows:,} events, {tables.items.num_rows:,} items and "
        f"{tables.queries.num_rows:,} queries from {source.name} in {output} "
        f"({time.monotonic() - start:.1f} s)"
    )
    return output


def _check_free(output: Path) -> None:
    try:
        in_use = output.exists() and (not output.is_dir() or any(output.iterdir()))
    except OSError as error:
        raise UserError(f"cannot read {output} ({error}); choose another -o.") from error
    if in_use:
        raise UserError(
            f"{output} exists but is not a complete copy of movielens-100k; "
            "delete it or choose another -o."
        )


def _read_first(sources: Sequence[Source], progress: Progress) -> tuple[Source, Tables]:
    reasons = []
    for source in sources:
        progress(f"movielens-100k: trying {source.name}")
        try:
            return source, _read(source)
        except UserError as error:
            reasons.append(f"{source.name}: {error}")
            progress(f"movielens-100k: not from there: {error}")
    raise UserError(
        f"cannot fetch movielens-100k ({'; '.join(reasons)}); check the network and run it again."
    )


def _read(source: Source) -> Tables:
    with tempfile.TemporaryDirectory(prefix="recsys-fetch-") as directory:
        file = source.download(Path(directory))
        digest = sha256_of(file)
        if digest != source.sha256:
            raise UserError(f"SHA-256 is {digest}, expected {source.sha256}")
        try:
            with zipfile.ZipFile(file) as archive:
                return source.read(archive)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UserError(f"not a readable zip archive ({error})") from error
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(f"the archive does not hold MovieLens-100K ({error})") from error


def _write(output: Path, tables: Tables, readme: str) -> None:
    try:
        with directory_written_atomically(output) as directory:
            (directory / "events").mkdir()
            for partition, events in enumerate(partition_events(tables.events)):
                pq.write_table(events, directory / FILES[partition], compression="zstd")
            pq.write_table(tables.items, directory / "items.parquet", compression="zstd")
            pq.write_table(tables.queries, directory / "queries.parquet", compression="zstd")
            (directory / "README.md").write_text(readme, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output} ({error}); choose another -o.") from error


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


# What both sources hold, in their two forms: ids, a title with its year, genres.


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
        # RecBole took the last parentheses for the year, which film 1412 has `V` in, and doubled
        # film 267's title, misspelt. Put together again, all titles are read by the same rule.
        item_id, title, year, genres = row
        text = "unknown" if title == year == "unkonwn" else f"{title} ({year})"
        return item_id, text, genres.split()

    return Tables(
        events=_events(rows("inter")),
        items=_items(film(row) for row in rows("item")),
        queries=_queries(rows("user")),
    )


def _download_url(directory: Path) -> Path:
    file = directory / "ml-100k.zip"
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    try:
        with (
            urllib.request.urlopen(ARCHIVE_URL, timeout=CONNECT_SECONDS) as response,
            file.open("wb") as out,
        ):
            while chunk := response.read(2**16):
                out.write(chunk)
                if out.tell() > DOWNLOAD_BYTES:
                    raise UserError(f"larger than {DOWNLOAD_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise UserError(f"not finished after {DOWNLOAD_SECONDS:.0f} s")
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"cannot download it ({getattr(error, 'reason', error)})") from error
    return file


def download_wheel(directory: Path) -> Path:
    """Downloads RecBole's wheel into `directory` by pip, so that pip's own settings apply.

    Raises:
        UserError: The package index cannot be reached, or pip is missing.
    """
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--retries=1", "--timeout=20"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "-d", str(directory)]
    try:
        done = subprocess.run(
            [*command, WHEEL],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"pip did not finish in {DOWNLOAD_SECONDS:.0f} s") from error
    wheels = sorted(directory.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UserError(f"pip cannot download it ({lines[-1]})")
    return wheels[0]


MOVIELENS_100K = (
    Source(
        name=f"GroupLens' archive {ARCHIVE_URL}",
        sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        download=_download_url,
        read=read_archive,
    ),
    Source(
        name=f"the Python package {WHEEL}",
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        download=download_wheel,
        read=read_wheel,
    ),
)

DATASETS: Mapping[str, Fetch] = {"movielens-100k": fetch_movielens_100k}
