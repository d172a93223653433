"""Rows a second of `prepare`, beside a plain pyarrow scan of the same columns in the same run.

python tests/benchmarks/bench_prepare.py --events /path [--items I] [--history past]
python tests/benchmarks/bench_prepare.py --rows 10000000
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from rich.console import Console

from feature_store.schema import FeatureSchema
from pipelines.logs import parquet_files
from pipelines.prepare import prepare
from pipelines.ray_session import ensure_ray
from pipelines.settings import DataConfig

_FILE_ROWS = 2_000_000


def write_events(directory: Path, rows: int) -> str:
    """A log of `rows` events of about 50 a query, with popular and rare items, in random order."""
    directory.mkdir()
    random = np.random.default_rng(0)
    queries, items = max(1, rows // 50), max(1, rows // 100)
    for index, start in enumerate(range(0, rows, _FILE_ROWS)):
        size = min(_FILE_ROWS, rows - start)
        item = (items * random.random(size) ** 3).astype(np.int64)
        table = pa.table(
            {
                "query_id": random.integers(0, queries, size),
                "item_id": item,
                "timestamp": 1_500_000_000 + random.integers(0, 10**8, size),
            }
        )
        pq.write_table(table, directory / f"part-{index:05d}.parquet", row_group_size=500_000)
    return str(directory)


def main() -> None:
    """Prints both speeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", help="Parquet file or directory with the default columns")
    parser.add_argument("--items", help="its items; those of the events where left out")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of an invented log")
    parser.add_argument("--history", choices=["past", "others"], default="past")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        events = arguments.events or write_events(scratch / "events", arguments.rows)
        files = parquet_files(events)
        columns = ["query_id", "item_id", "timestamp"]
        started = time.perf_counter()
        batches = pyarrow.dataset.dataset(files).to_batches(columns=columns)
        rows = sum(len(batch) for batch in batches)
        scan = time.perf_counter() - started
        print(f"pyarrow scan: {rows:,} rows in {scan:.2f} s, {rows / scan:,.0f} rows/s")
        started = time.perf_counter()
        ensure_ray()
        print(f"ray.init: {time.perf_counter() - started:.1f} s")
        data = DataConfig.model_validate(
            {"events": events, "items": arguments.items, "history": {"kind": arguments.history}}
        )
        features = {"item": [{"name": "item_id", "kind": "id", "dim": 8}]}
        started = time.perf_counter()
        schema = FeatureSchema.model_validate(features)
        prepare(data, schema, scratch / "prepared", console=Console())
        seconds = time.perf_counter() - started
        print(f"prepare: {rows:,} rows in {seconds:.1f} s, {rows / seconds:,.0f} rows/s")
        print(f"driver's peak memory: {_peak_gib(resource.RUSAGE_SELF):.2f} GiB")


def _peak_gib(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
