"""Small synthetic logs for the tests of `prepare`."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.schema import FeatureSchema
from pipelines.executor import Executor, LocalExecutor
from pipelines.prepare import job
from pipelines.prepare.prepare import prepare
from pipelines.prepare.workspace import Workspace
from pipelines.prepared.examples import SPLITS
from pipelines.prepared.reader import Prepared
from pipelines.settings import DataConfig

LOCAL = LocalExecutor()
AS_OF = datetime(2020, 1, 1, tzinfo=UTC)
FEATURES = FeatureSchema.model_validate(
    {
        "item": [
            {"name": "item_id", "kind": "id", "dim": 4},
            {"name": "genre", "kind": "categorical", "dim": 4},
            {"name": "tags", "kind": "multi_valued", "dim": 4},
            {"name": "title", "kind": "text", "dim": 4},
            {"name": "brand", "kind": "categorical", "dim": 4, "hash_buckets": 7},
            {"name": "price", "kind": "numeric", "dim": 4},
            {"name": "image", "kind": "vector", "dim": 4, "length": 3},
        ],
        "query": [
            {"name": "query_id", "kind": "id", "dim": 4},
            {"name": "country", "kind": "categorical", "dim": 4},
        ],
    }
)
# Pairs of features are compared with each other, which takes most of the time of a small log.
FEW_FEATURES = FEATURES.model_copy(update={"item": FEATURES.item[:1] + FEATURES.item[4:]})
IDS_ONLY = FeatureSchema.model_validate({"item": [{"name": "item_id", "kind": "id", "dim": 4}]})


def random_events(seed: int, *, queries: int = 25, items: int = 60, rows: int = 600) -> pa.Table:
    """Draws events with many ties in time and many duplicates."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "query_id": [f"q{i}" for i in random.integers(0, queries, rows)],
            "item_id": [f"i{i}" for i in random.integers(0, items, rows)],
            "timestamp": 1_500_000_000 + random.integers(0, 12, rows),
            "weight": random.integers(1, 4, rows).astype(np.float32),
        }
    )


def items_table(items: int = 60) -> pa.Table:
    """Builds items with every kind of feature, some of them absent."""
    vectors = np.random.default_rng(0).integers(-9, 9, (items, 3)).tolist()
    return pa.table(
        {
            "item_id": [f"i{i}" for i in range(items)],
            "genre": [f"g{i % 4}" if i % 5 else None for i in range(items)],
            "tags": [[f"t{j}" for j in range(i % 4)] for i in range(items)],
            "title": [f"The {'red' if i % 2 else 'blue'} item no. {i % 6}" for i in range(items)],
            "brand": [f"b{i % 9}" for i in range(items)],
            "price": pa.array([float(i) if i % 7 else None for i in range(items)]),
            "image": pa.array(vectors, pa.list_(pa.float32(), 3)),
        }
    )


def queries_table(queries: int = 20) -> pa.Table:
    """Builds queries; events may have others, too."""
    return pa.table(
        {
            "query_id": [f"q{i}" for i in range(queries)],
            "country": [f"c{i % 3}" for i in range(queries)],
        }
    )


def write_log(directory: Path, **tables: pa.Table) -> dict[str, str]:
    """Writes a file for each table, and returns their paths by table, as `data` has them."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        pq.write_table(table, directory / f"{name}.parquet")
    return {name: str(directory / f"{name}.parquet") for name in tables}


def growing_log(directory: Path) -> tuple[DataConfig, Callable[[], None]]:
    """Writes a log with all kinds of features, and with rows to be rejected for each reason.

    Returns:
        Its configuration, and a function that adds a day of events and some items, and removes the
        first day.
    """
    tables = write_log(directory / "log", items=items_table(), queries=queries_table())
    faulty = pa.table(
        {
            "query_id": ["q1", None, "q2", "q3"],
            "item_id": ["i1", "i2", "unknown", "i3"],
            "timestamp": [None, 1_500_000_001, 1_500_000_002, 1_900_000_000],
            "weight": pa.array([1, 1, 1, 1], pa.float32()),
        }
    )

    def add(day: int, items: int) -> None:
        path = directory / "events" / f"date=2017-07-{day:02}" / "part.parquet"
        path.parent.mkdir(parents=True)
        events = random_events(day, rows=300, items=items)
        pq.write_table(pa.concat_tables([events, faulty.cast(events.schema)]), path)

    def grow() -> None:
        add(3, items=70)
        shutil.rmtree(directory / "events" / "date=2017-07-01")
        pq.write_table(items_table(70), directory / "log" / "items.parquet")

    add(1, items=60)
    add(2, items=60)
    columns = {"weight": "weight"}
    return DataConfig(events=str(directory / "events"), columns=columns, **tables), grow


def run_in_small_tasks(data: DataConfig, output: Path, executor: Executor = LOCAL) -> None:
    """Prepares a `growing_log` with few features in several tasks of each step."""
    with patch.object(job, "_TASK_ROWS", 300):
        console = Console(quiet=True)
        prepare(data, FEW_FEATURES, output, executor=executor, as_of=AS_OF, console=console)


class CountingExecutor:
    """An executor that counts the tasks that it runs.

    Args:
        executor: Executor that runs them.
    """

    def __init__(self, executor: Executor = LOCAL) -> None:
        self._executor = executor
        self.tasks = 0

    def start(self, say: Callable[[str], None]) -> None:
        self._executor.start(say)

    def run(self, function: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for result in self._executor.run(function, tasks):
            self.tasks += 1
            yield result


def finished_tasks(output: Path) -> set[Path]:
    """Lists the summaries of finished tasks of a directory that is being prepared."""
    root = Workspace(output).root
    return {*root.glob("scans/*.json"), *root.glob("build/*/done/*.json")}


def run(
    output: Path,
    features: FeatureSchema = FEATURES,
    as_of: Any = None,
    executor: Executor = LOCAL,
    console: Console | None = None,
    **data: Any,
) -> Prepared:
    """Prepares, without output where there is no console."""
    config = DataConfig.model_validate(data)
    console = console or Console(quiet=True)
    prepare(config, features, output, executor=executor, as_of=as_of, console=console)
    return Prepared(output)


def refusal(directory: Path, features: FeatureSchema = FEATURES, **data: Any) -> str:
    """Returns the one sentence against bad input, after which no file is left."""
    output = directory / "prepared"
    with pytest.raises(UserError) as error:
        run(output, features, **data)
    assert not output.exists()
    assert not list(directory.glob(".prepared*"))
    assert "\n" not in str(error.value)
    return str(error.value)


def examples(prepared: Prepared) -> list[dict[str, Any]]:
    """Reads all examples, with ids in place of indices, and their split; in arbitrary order."""
    items = prepared.item_encoder.ids.tokens.to_pylist()
    queries = prepared.query_encoder.ids.tokens.to_pylist()
    found: list[dict[str, Any]] = []
    for split in SPLITS:
        for file in prepared.examples(split):
            for row in pq.read_table(file).to_pylist():
                row |= {"query": queries[row["query"]], "item": items[row["item"]], "split": split}
                row["history"] = [items[item] for item in row["history"]]
                found.append(row)
    return found


def rejected_rows(prepared: Prepared, table: str) -> list[dict[str, Any]]:
    """Reads the rejected rows of a table."""
    files = sorted((prepared.directory / "rejected" / table).glob("part-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def files_below(directory: Path) -> dict[str, bytes]:
    """Returns all files below a directory, by relative path, but for those of free locks."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }
