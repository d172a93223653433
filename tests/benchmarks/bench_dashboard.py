"""Response times of the dashboard's pages, with many runs, items and queries.

python tests/benchmarks/bench_dashboard.py [--runs 1000] [--items 1000000] [--queries 100000]

Fills a store with synthetic evaluated runs, 250 metrics and 150 parameters each; one run has items
and queries. A page's time is that of the server, without the browser's; `first` is after a start,
`again` the median of 5. The reference is reading the list of runs with MLflow's own client.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from recsys.dashboard.pages import page
from recsys.dashboard.run_store import RunStore
from recsys.evaluation.metrics import metric_names
from recsys.tracked import metric_name

_METHODS = ("model", "popularity", "random", "item_knn", "ease", "als")
_DEPTH = 50


def main() -> None:
    """Prints the seconds of each page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        uri = f"sqlite:///{scratch}/mlflow.db"
        run_id = _write_runs(uri, Path(scratch) / "artifacts", given.runs)
        directory = Path(scratch) / "artifacts" / run_id / "artifacts" / "evaluation"
        directory.mkdir(parents=True)
        _write_items(directory / "items.parquet", given.items)
        _write_queries(directory / "per_query.parquet", given.queries, given.items)
        started = time.monotonic()
        client = MlflowClient(tracking_uri=uri)
        client.search_runs(["1"], max_results=given.runs)
        print(f"MLflow's own list of runs    {time.monotonic() - started:8.2f} s")
        store = RunStore(uri)
        here = f"/run/{run_id}"
        first = _seconds(store.rows)
        print(f"the latest runs              {first:8.2f} s")
        print(f"all of them, in background   {first + _seconds(store.wait):8.2f} s")
        pages = {
            "list of runs": "/",
            "list, searched": "/?search=run-77",
            "item map": f"{here}/map",
            "a query": f"{here}/examples?query=q{given.queries // 2}",
            "similar items": f"{here}/similar?item=i{given.items // 2}",
            "a title": f"{here}/similar?item=number {given.items // 3}",
        }
        for name, address in pages.items():
            first = _seconds(lambda address=address: page(store, address))
            again = median(_seconds(lambda address=address: page(store, address)) for _ in range(5))
            print(f"{name:28} first {first:6.2f} s   again {again:6.3f} s")


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _write_runs(uri: str, artifacts: Path, count: int) -> str:
    """Writes synthetic runs and returns the id of the last one."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("schedule", artifact_location=artifacts.as_uri())
    random = np.random.default_rng(0)
    groups = ["test", *(f"test.{g}" for g in ("head", "torso", "tail", "cold", *_METHODS[1:]))]
    metrics = [metric_name(f"{group}.{name}") for group in groups for name in metric_names()]
    metrics += [metric_name(f"curve.{i}") for i in range(250 - len(metrics))]
    params = [Param(f"section.key{i}", str(i)) for i in range(150)]
    run_id = ""
    for at in range(count):
        tags = {"mlflow.source.name": "recsys train", "recsys.output": "runs/nightly"}
        now = 1_700_000_000_000 + at * 86_400_000
        run = client.create_run(experiment, start_time=now, tags=tags, run_name=f"run-{at}")
        run_id = run.info.run_id
        values = random.random(len(metrics))
        logged = [Metric(n, v, now, 0) for n, v in zip(metrics, values.tolist(), strict=True)]
        client.log_batch(run_id, metrics=logged, params=params[:100])
        client.log_batch(run_id, params=params[100:])
        client.set_terminated(run_id)
    return run_id


def _write_items(path: Path, count: int) -> None:
    random = np.random.default_rng(0)
    on_map = np.arange(count) < 2000
    lists = pa.array([list(range(10))] * 2000 + [None] * (count - 2000), pa.list_(pa.int32()))
    cosines = pa.array([[0.5] * 10] * 2000 + [None] * (count - 2000), pa.list_(pa.float32()))
    columns = {
        "item_id": [f"i{i}" for i in range(count)],
        "title": [f"Item number {i}" for i in range(count)],
        "slice": pa.DictionaryArray.from_arrays(
            pa.array(np.arange(count, dtype=np.int32) % 4), ["head", "torso", "tail", "cold"]
        ),
        "frequency": random.integers(0, 1000, count),
        "x": pa.array(random.normal(size=count), mask=~on_map),
        "y": pa.array(random.normal(size=count), mask=~on_map),
        "similar": lists,
        "cosine": cosines,
        "feature.brand": pa.array([f"b{i % 6}" for i in range(count)], mask=~on_map),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def _write_queries(path: Path, count: int, items: int) -> None:
    random = np.random.default_rng(0)

    def lists(width: int) -> pa.Array:
        ids = pa.array(random.integers(0, items, count * width)).cast(pa.string())
        offsets = pa.array(np.arange(count + 1, dtype=np.int32) * width)
        return pa.ListArray.from_arrays(offsets, ids)

    columns = {
        "query_id": [f"q{q}" for q in range(count)],
        "history_length": random.integers(1, 100, count),
        "history": lists(20),
        "held_out": lists(1),
        **{f"{method}.items": lists(_DEPTH) for method in _METHODS},
    }
    ranks = pa.array(np.zeros(count, np.int32))
    offsets = pa.array(np.arange(count + 1, dtype=np.int32))
    columns["model.ranks"] = pa.ListArray.from_arrays(offsets, ranks)
    columns["held_out_slice"] = pa.ListArray.from_arrays(offsets, pa.array(["tail"] * count))
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=2_000)


if __name__ == "__main__":
    main()
