"""Examples in sequences are the examples, each once, with the history that each may see."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from feature_store.core.columns import jagged_from_arrow
from feature_store.core.errors import UserError
from feature_store.core.hashing import hash64
from pipelines.prepare.examples.histories import Events, example_history
from pipelines.prepare.examples.sequences import training_sequences
from pipelines.prepare.examples.splits import TEST, TRAIN
from pipelines.prepared.reader import Prepared
from pipelines.settings import History
from recsys.data.batch import Batch
from recsys.data.builder import BatchBuilder
from recsys.data.reader import read_steps
from recsys.model.two_tower import build_model
from recsys.stages.prepare import prepare
from recsys.training.run import training_plan
from tests.support.planted import planted_config, write_planted_log
from tests.support.ranks import saved_tensors, seen_pairs, train_on_ranks
from tests.support.small_batches import config as small_config


def events_of(queries, items, times, length, seed):
    """Draws events with repetitions and equal times, but no equal events; some are held out."""
    random = np.random.default_rng(seed)
    rows = np.unique(
        np.stack(
            [
                np.sort(random.integers(0, queries, length)),
                random.integers(0, times, length),
                random.integers(0, items, length),
            ],
            axis=1,
        ),
        axis=0,
    )
    query, time, item = rows.T
    split = np.where(random.random(len(query)) < 0.1, TEST, TRAIN)
    return Events(
        query=query,
        item=item,
        time=time,
        time_rank=time,
        weight=random.random(len(query)).astype(np.float32),
        split=split,
        query_key=hash64(1, query),
        item_key=hash64(2, item),
        context_row=np.arange(len(query)),
    )


def examples_of(table: pa.Table):
    """Returns the key (query, item, weight) and the seen items of each example."""
    columns = {name: jagged_from_arrow(table[name]) for name in ("history", "items", "seen")}
    weights = table["weights"].to_pylist()
    found = []
    for row, query in enumerate(table["query"].to_pylist()):
        history, items, seen = (column.take(np.array([row])).values for column in columns.values())
        for item, n, weight in zip(items, seen, weights[row], strict=True):
            found.append(((query, int(item), weight), tuple(history[:n].tolist())))
    return found


@pytest.mark.parametrize("repeats", ["exclude", "allow"])
@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("max_length", [1, 2, 7, 50])
@pytest.mark.parametrize(("items", "times"), [(1000, 1000), (12, 40), (1000, 3), (4, 1000)])
def test_each_example_sees_the_end_of_its_history(distinct, max_length, items, times, repeats):
    settings = History(max_length=max_length, distinct=distinct)
    events = events_of(queries=9, items=items, times=times, length=400, seed=max_length)
    train = events.split == TRAIN
    histories = example_history(events, train, settings, repeats)
    expected = {}
    for row, event in enumerate(np.flatnonzero(train)):
        key = (int(events.query[event]), int(events.item[event]), float(events.weight[event]))
        start, end = histories.offsets[row : row + 2]
        expected[key] = tuple(histories.values[start:end].tolist())
    table = training_sequences(events, settings, repeats)
    found = examples_of(table)
    assert Counter(key for key, _ in found) == Counter(expected.keys())
    least = max_length - max(1, max_length // 2)
    for key, seen in found:
        whole = expected[key]
        if len(whole) < max_length:
            assert len(seen) >= min(len(whole), least)
        assert len(seen) >= min(least, len(whole))
        assert seen == whole[len(whole) - len(seen) :]
    lengths = jagged_from_arrow(table["history"]).lengths
    assert lengths.max() <= max_length
    assert jagged_from_arrow(table["items"]).lengths.min() >= 1
    assert jagged_from_arrow(table["items"]).lengths.max() <= max_length + 1


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_bucket_may_hold_next_to_nothing(length):
    events = events_of(queries=1, items=1, times=9, length=length, seed=4)
    table = training_sequences(events, History())
    assert len(examples_of(table)) == (events.split == TRAIN).sum()


def test_short_sequences_are_one_row_with_the_very_history_of_each_example():
    settings = History(max_length=200)
    events = events_of(queries=9, items=10**8, times=300, length=400, seed=0)
    table = training_sequences(events, settings)
    assert table.num_rows == 9
    train = events.split == TRAIN
    histories = example_history(events, train, settings)
    seen = sorted(len(history) for _, history in examples_of(table))
    assert seen == sorted(histories.lengths.tolist())


@pytest.fixture(scope="module")
def sequential(tmp_path_factory, tracking_uri):
    """Prepares a log in which time is real; no query is longer than a history."""
    directory = tmp_path_factory.mktemp("sequential")
    write_planted_log(directory / "log")
    config = planted_config(
        directory / "log",
        directory / "out",
        data={"split": {"kind": "leave_last_out"}, "history": {"max_length": 20}},
        model={
            "history": [
                {"kind": "mean"},
                {"kind": "last"},
                {"kind": "recent"},
                {"kind": "attention", "width": 16, "dropout": 0.0},
            ],
            "dropout": 0.0,
        },
        training={"epochs": 2, "batch_size": 128, "examples": "sequences"},
        tracking={"uri": tracking_uri},
    )
    prepare(config)
    return config


def changed(config, section, **settings):
    values = getattr(config, section).model_copy(update=settings)
    return config.model_copy(update={section: values})


def local_batches(config, world_size, start=0, stop=None):
    plan = training_plan(Prepared(config.prepared_dir), config)
    stop = plan.total_steps if stop is None else stop
    return [list(read_steps(plan, start, stop, rank, world_size)) for rank in range(world_size)]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_example_is_in_each_epoch_once_on_any_number_of_ranks(sequential, world_size):
    prepared = Prepared(sequential.prepared_dir)
    tables = [pq.read_table(path) for path in prepared.examples("train")]
    expected = Counter(
        pair
        for table in tables
        for pair in zip(table["query"].to_pylist(), table["item"].to_pylist(), strict=True)
    )
    plan = training_plan(prepared, sequential)
    assert plan.kind == "sequences"
    assert plan.examples(0, plan.steps_per_epoch) == sum(expected.values())
    for epoch in range(2):
        steps = epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch
        ranks = local_batches(sequential, world_size, *steps)
        found = Counter(
            pair
            for rank in ranks
            for local in rank
            for pair in zip(local.query.tolist(), local.item.tolist(), strict=True)
        )
        assert found == expected
        (whole,) = local_batches(sequential, 1, *steps)
        for step, parts in enumerate(zip(*ranks, strict=True)):
            columns = np.concatenate([part.item for part in parts])
            assert np.array_equal(columns, whole[step].global_items)
            assert all(np.array_equal(part.global_items, columns) for part in parts)
            seen = [bag.tolist() for part in parts for bag in bags(part.seen())]
            assert seen == [bag.tolist() for bag in bags(whole[step].seen())]
    sizes = [len(local.item) for local in whole]
    assert np.mean(sizes[:-1]) == pytest.approx(128, rel=0.2)


def bags(column):
    return np.split(column.values, column.offsets[1:-1])


def query_vectors(config, host, builder):
    torch.manual_seed(3)
    model = build_model(Prepared(config.prepared_dir), config.model).eval()
    for name, parameter in model.named_parameters():
        if "places_back" in name:
            torch.nn.init.normal_(parameter)
    with torch.no_grad():
        batch = Batch.from_host(host, builder.keys(), host.history_rows)
        return model(batch).queries.numpy()


def test_an_examples_vector_is_the_same_as_in_training_on_events(sequential):
    loss = {"history_dropout": 0.0, "id_dropout": 0.0}
    vectors = {}
    for examples in ("sequences", "events"):
        config = changed(changed(sequential, "training", examples=examples), "loss", **loss)
        builder = BatchBuilder(Prepared(config.prepared_dir), config)
        vectors[examples] = {}
        plan = training_plan(Prepared(config.prepared_dir), config)
        for local in read_steps(plan, 0, plan.steps_per_epoch, 0, 1):
            found = query_vectors(config, builder.training(local, 0, 1), builder)
            for key, vector in zip(zip(local.query, local.item, strict=True), found, strict=True):
                vectors[examples][key] = vector
    assert vectors["sequences"].keys() == vectors["events"].keys()
    for key, vector in vectors["sequences"].items():
        np.testing.assert_allclose(vector, vectors["events"][key], atol=1e-5)


@pytest.mark.parametrize("world_size", [2, 3])
def test_dropout_in_a_sequence_is_the_same_on_any_number_of_ranks(sequential, world_size):
    config = changed(sequential, "loss", history_dropout=0.4)
    builder = BatchBuilder(Prepared(config.prepared_dir), config)
    (whole,) = local_batches(config, 1, 0, 3)
    ranks = local_batches(config, world_size, 0, 3)
    for step in range(3):
        host = builder.training(whole[step], 0, 1)
        expected = query_vectors(config, host, builder)
        found = []
        for rank in range(world_size):
            local = ranks[rank][step]
            part = builder.training(local, rank, world_size)
            found.append(query_vectors(config, part, builder)[: len(local.query)])
        np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)
        kept = len(host.history) / len(whole[step].history.values)
        assert kept == pytest.approx(0.6, abs=0.15)
        assert (host.read < 0).sum() > (whole[step].reads.element < 0).sum()


@pytest.mark.slow
def test_two_ranks_equal_one_on_sequences(sequential, tmp_path):
    config = changed(sequential, "training", epochs=1)
    for ranks in (1, 2):
        train_on_ranks(config, tmp_path / str(ranks), ranks)
    one, two = (saved_tensors(tmp_path / str(ranks)) for ranks in (1, 2))
    assert one.keys() == two.keys()
    assert any("places_back" in name for name in one)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4, msg=name)
    plan = training_plan(Prepared(config.prepared_dir), config)
    seen = [Counter(seen_pairs(tmp_path / str(n), 0, plan.total_steps)) for n in (1, 2)]
    assert seen[0] == seen[1]
    assert set(seen[0].values()) == {1}


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"events": "unused", "history": {"kind": "others"}}},
        {
            "features": {
                "item": [{"name": "item_id", "kind": "id", "dim": 4}],
                "context": [{"name": "device", "kind": "categorical", "dim": 4}],
            },
            "ssl": {"method": "none"},
        },
    ],
)
def test_sequences_need_an_order_and_no_context(sections):
    with pytest.raises(UserError, match=r"training\.examples sequences needs"):
        small_config(**sections, training={"examples": "sequences"})
