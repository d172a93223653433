"""A model learns what the context tells, and uses that of the moment at which it is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.config.load import parse_config
from recsys.data.builder import BatchBuilder
from recsys.data.plan import rank_rows
from recsys.data.reader import read_steps
from recsys.stages.evaluate import evaluate
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from recsys.training.run import training_plan

DEVICES, ITEMS_OF_DEVICE, QUERIES, EVENTS_OF_QUERY = 8, 8, 150, 10


def write_events(directory: Path) -> None:
    """Writes events whose device alone tells which eighth of the items they are of."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for query in range(QUERIES):
        left = [random.permutation(ITEMS_OF_DEVICE).tolist() for _ in range(DEVICES)]
        for event in range(EVENTS_OF_QUERY):
            device = int(random.integers(DEVICES))
            if left[device]:
                item = device * ITEMS_OF_DEVICE + left[device].pop()
                time = 1_500_000_000 + 1000 * event
                names = {"query_id": f"q{query}", "item_id": f"i{item}", "device": f"d{device}"}
                rows.append({**names, "timestamp": time, "shown": int(random.integers(5))})
    pq.write_table(pa.Table.from_pylist(rows), directory / "events.parquet")


def config_of(directory: Path, tracking_uri: str, context: list[dict[str, Any]]) -> Config:
    return parse_config(
        {
            "output": str(directory / f"out{len(context)}"),
            "executor": "local",
            "data": {"events": str(directory / "events.parquet")},
            "features": {
                "item": [{"name": "item_id", "kind": "id", "dim": 16}],
                "context": context,
            },
            "model": {"dim": 16, "item_tower": [32], "query_tower": [32]},
            "loss": {"id_dropout": 0.0},
            "ssl": {"method": "none"},
            "training": {"epochs": 8, "batch_size": 64, "patience": 8},
            "evaluation": {"select_by": "recall@10"},
            "tracking": {"uri": tracking_uri},
        }
    )


CONTEXT = [
    {"name": "device", "kind": "categorical", "dim": 8},
    {"name": "shown", "kind": "position", "dim": 4},
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("devices")
    write_events(path)
    return path


def test_a_model_with_the_context_finds_what_one_without_cannot(directory, tracking_uri):
    found = {}
    for context in ([], CONTEXT):
        config = config_of(directory, tracking_uri, context)
        prepare(config)
        manifest = train(config)
        test = evaluate(config).overall["recall@10"]
        found[len(context)] = manifest.validation["recall@10"], test
    for with_context, without in zip(found[2], found[0], strict=True):
        assert with_context > 0.9
        assert without < 0.4


def test_dropout_hides_each_feature_of_the_context_as_often_as_asked(directory, tracking_uri):
    config = config_of(directory, tracking_uri, CONTEXT)
    prepare(config)
    prepared = Prepared(config.prepared_dir)
    loss = config.loss.model_copy(update={"context_dropout": 0.3})
    builder = BatchBuilder(prepared, config.model_copy(update={"loss": loss}))
    plan = training_plan(prepared, config)
    shown: list[np.ndarray] = []
    for local in read_steps(plan, 0, plan.total_steps, 0, 1):
        host = builder.training(local, 0, 1)
        lengths = host.lengths[1:, : len(local.query)]
        assert (host.lengths[1:, len(local.query) :] == 0).all()
        shown.append(lengths)
        # Two ranks are given what one is.
        halves = [builder.training(part_of(local, rank), rank, 2) for rank in (0, 1)]
        rows = len(halves[0].items)
        parts = [half.lengths[1:, :rows] for half in halves]
        joined = np.concatenate(parts, axis=1)[:, : len(local.query)]
        np.testing.assert_array_equal(joined, lengths)
    shares = np.concatenate(shown, axis=1).mean(axis=1)
    assert shares == pytest.approx([0.7, 0.7], abs=0.02)
    both = np.concatenate(shown, axis=1).prod(axis=0).mean()
    assert both == pytest.approx(0.49, abs=0.02)


def part_of(local, rank):
    """Returns one of two ranks' examples."""
    own = np.arange(*rank_rows(len(local.global_items), rank, 2))
    return replace(
        local,
        query=local.query[own],
        item=local.item[own],
        history=local.history.take(own),
        weight=local.weight[own],
        context={name: column.take(own) for name, column in local.context.items()},
    )
