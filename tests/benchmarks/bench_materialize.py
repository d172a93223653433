"""Rows a second written to the online store, and the time of a read: ours beside Feast's.

python tests/benchmarks/bench_materialize.py [--rows 500000] [--feast-rows 10000] [--repeats 3]
python tests/benchmarks/bench_materialize.py --events 5000000 --queries 1000000 --items 200000

The first compares the writers on the same rows of four features, in one process. The second runs
`recsys materialize` on a synthetic log that was prepared before.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))

from feature_store.core.hashing import hash_of_ids
from feature_store.core.rows import encode_rows
from feature_store.online import open_online_store
from feature_store.online.features import OnlineFeatures
from feature_store.online.store import Contents, OnlineStore, schema_in_hex
from feature_store.schema import FeatureSchema
from feature_store.settings import FeatureStoreConfig
from tests.support.servers import MISSING, is_installed, redis_server

_READS = 2000
_FEATURES = FeatureSchema.model_validate(
    {
        "item": [{"name": "item_id", "kind": "id", "dim": 4}],
        "query": [
            {"name": "country", "kind": "categorical", "dim": 4},
            {"name": "age", "kind": "numeric", "dim": 4},
            {"name": "score", "kind": "numeric", "dim": 4},
            {"name": "tags", "kind": "multi_valued", "dim": 4},
        ],
    }
)


def query_table(rows: int) -> pa.Table:
    """Draws queries with four features."""
    random = np.random.default_rng(0)
    counts = random.integers(0, 5, rows)
    tags = pa.array([f"tag {i}" for i in range(1000)]).take(
        pa.array(random.integers(0, 1000, counts.sum()))
    )
    countries = pa.array([f"country {i}" for i in range(50)])
    return pa.table(
        {
            "query_id": pa.array([f"query-{i}" for i in range(rows)]),
            "country": countries.take(pa.array(random.integers(0, 50, rows))),
            "age": random.integers(10, 90, rows),
            "score": random.random(rows).astype(np.float32),
            "tags": pa.ListArray.from_arrays(pa.array(np.append(0, counts.cumsum())), tags),
        }
    )


def load_ours(store: OnlineStore, table: pa.Table, generation: str) -> None:
    """Encodes the rows and loads them as a generation that readers see."""
    features = table.drop_columns(["query_id"])
    contents = Contents(
        generation=generation,
        features=_FEATURES,
        columns={"item": schema_in_hex(pa.schema([])), "query": schema_in_hex(features.schema)},
        max_length=50,
        distinct=False,
    )
    ids = table["query_id"].combine_chunks()
    order = pa.array(np.argsort(hash_of_ids(ids), kind="stable"))
    rows = encode_rows(features.take(order))
    with store.load(contents) as loader:
        loader.add("query_features", ids.take(order), rows)


def feast_repository(directory: Path, online: dict[str, Any], table: pa.Table) -> Any:
    """Builds a Feast store with the same rows in the view `queries`."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.data_format import ParquetFormat
    from feast.types import Array, Float32, Int64, String

    directory.mkdir()
    moment = pa.scalar(datetime(2026, 1, 1, tzinfo=UTC), pa.timestamp("us", "UTC"))
    stamped = table.append_column("event_timestamp", pa.repeat(moment, len(table)))
    pq.write_table(stamped, directory / "queries.parquet")
    configuration = {
        "project": "bench",
        "provider": "local",
        "registry": str(directory / "registry.db"),
        "offline_store": {"type": "duckdb"},
        "online_store": online,
        "entity_key_serialization_version": 3,
    }
    (directory / "feature_store.yaml").write_text(yaml.safe_dump(configuration))
    store = FeatureStore(repo_path=str(directory))
    entity = Entity(name="query", join_keys=["query_id"], value_type=ValueType.STRING)
    source = FileSource(
        path=str(directory / "queries.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
    )
    types = {"country": String, "age": Int64, "score": Float32, "tags": Array(String)}
    view = FeatureView(
        name="queries",
        entities=[entity],
        schema=[Field(name=name, dtype=kind) for name, kind in types.items()],
        source=source,
        ttl=None,
    )
    store.apply([entity, view])
    return store


def measure(what: str, rows: int, repeats: int, run: Callable[[int], None]) -> None:
    """Prints the median time of a writer and its rows a second."""
    seconds, processor = [], []
    for repeat in range(repeats):
        started, started_cpu = time.perf_counter(), time.process_time()
        run(repeat)
        seconds.append(time.perf_counter() - started)
        processor.append(time.process_time() - started_cpu)
    median, cpu = statistics.median(seconds), statistics.median(processor)
    print(
        f"{what}: {rows:,} rows, median {median:.2f} s, {rows / median:,.0f} rows/s, "
        f"{rows / cpu:,.0f} rows per CPU-second",
        flush=True,
    )


def measure_reads(what: str, ids: list[str], read: Callable[[str], Any]) -> None:
    """Prints the median and the 99th percentile of the time of one call."""
    read(ids[0])
    times = []
    for text in ids:
        started = time.perf_counter()
        read(text)
        times.append((time.perf_counter() - started) * 1e3)
    p50, p99 = np.percentile(times, [50, 99])
    print(f"{what}: p50 {p50:.3f} ms, p99 {p99:.3f} ms", flush=True)


def compare(name: str, settings: FeatureStoreConfig, feast: dict[str, Any], options: Any) -> None:
    """Measures both writers and both readers on one kind of online store."""
    table = query_table(options.rows)
    ids = (
        table["query_id"]
        .combine_chunks()
        .take(pa.array(np.random.default_rng(1).integers(0, options.feast_rows, _READS)))
        .to_pylist()
    )
    with tempfile.TemporaryDirectory() as scratch:
        store = open_online_store(settings, Path(scratch))
        measure(
            f"{name}, ours",
            options.rows,
            options.repeats,
            lambda repeat: load_ours(store, table, f"generation-{repeat}"),
        )
        reader = OnlineFeatures(store)
        measure_reads(
            f"{name}, ours, append of an event",
            ids,
            lambda text: reader.append_event(text, "item", datetime.now(UTC)),
        )
        measure_reads(f"{name}, ours, read of features and history", ids, reader.query)
        other = feast_repository(Path(scratch) / "feast", feast, table.slice(0, options.feast_rows))
        start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
        measure(
            f"{name}, Feast's materialize",
            options.feast_rows,
            options.repeats,
            lambda repeat: other.materialize(start, end),
        )
        references = [f"queries:{feature}" for feature in table.column_names[1:]]
        measure_reads(
            f"{name}, Feast's read of features",
            ids,
            lambda text: other.get_online_features(references, [{"query_id": text}]),
        )
        store.close()


def run_stage(options: Any) -> None:
    """Runs `recsys materialize` on a synthetic log and prints its speed."""
    from rich.console import Console

    from pipelines.datasets.generate import generate
    from recsys.autoconfig.init import init_config
    from recsys.config.load import load_config
    from recsys.stages.materialize import materialize
    from recsys.stages.prepare import prepare

    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        quiet = Console(quiet=True)
        generate(
            log,
            events=options.events,
            items=options.items,
            queries=options.queries,
            seed=0,
            progress=lambda text: None,
        )
        path = log / "config.yaml"
        tables = [str(log / name) for name in ("events", "items.parquet", "queries.parquet")]
        init_config(*tables, path, overwrite=False)
        config = load_config(path)
        prepare(config, console=quiet)
        done = materialize(config, console=Console())
        rows = sum(done.rows.values())
        size = sum(f.stat().st_size for f in config.feature_store_dir.rglob("*") if f.is_file())
        print(
            f"recsys materialize: {rows:,} rows in {done.seconds:.1f} s, {size / rows:.0f} B a row"
        )


def main() -> None:
    """Prints all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="rows that our writer loads")
    parser.add_argument(
        "--feast-rows", type=int, default=10_000, help="rows that Feast materializes"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--events", type=int, help="events of a synthetic log: run the stage instead"
    )
    parser.add_argument("--queries", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.events is not None:
        run_stage(options)
        return
    compare("SQLite", FeatureStoreConfig(), {"type": "sqlite", "path": "online.db"}, options)
    if not is_installed():
        print(f"Redis: {MISSING}")
        return
    with tempfile.TemporaryDirectory() as directory, redis_server(Path(directory)) as url:
        address = url.removeprefix("redis://").removesuffix("/0")
        settings = FeatureStoreConfig(online="redis", redis_url=url)
        compare("Redis", settings, {"type": "redis", "connection_string": address}, options)


if __name__ == "__main__":
    main()
