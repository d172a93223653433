"""HostBatch of a batch: masks, dropout, sampled items, accidental hits and padding."""

import numpy as np
import pytest
from scipy.stats import chisquare

from recsys.data.builder import BatchBuilder
from tests.support.small_batches import ITEMS, NEVER_TRAINED, TAGS, config, local_batch, prepared

NOBODY = np.zeros(0, np.int64)


def bags_by_feature(builder, host):
    """Returns one array of values for each row, by feature."""
    keys = builder.keys()
    lengths = host.lengths
    values = np.split(host.values, np.cumsum(lengths.reshape(-1))[:-1])
    rows = lengths.shape[1]
    return {key: values[i * rows : (i + 1) * rows] for i, key in enumerate(keys)}


def test_views_are_complementary_and_look_each_feature_up_once():
    data = prepared()
    builder = BatchBuilder(data, config())
    seen_groups = set()
    for step in range(40):
        host = builder.training(local_batch(step), 0, 1)
        bags = bags_by_feature(builder, host)
        examples, view_items = 8, host.view_items[0]
        views = len(view_items)
        hidden_in_a = []
        for name in ("item_id", "kind", "tags"):
            column = data.item_columns[name].take(view_items)
            for i in range(views):
                in_a, in_b = (
                    bags[f"item.{name}"][examples + i],
                    bags[f"item.{name}"][examples + views + i],
                )
                whole = column.values[column.offsets[i] : column.offsets[i + 1]]
                assert sorted([*in_a, *in_b]) == sorted(whole)
                assert len(in_a) == 0 or len(in_b) == 0
            hidden_in_a.append(
                not any(len(b) for b in bags[f"item.{name}"][examples : examples + views])
            )
        shown_a = host.item_dense_present[examples : examples + views, 0]
        shown_b = host.item_dense_present[examples + views : examples + 2 * views, 0]
        has_price = data.item_columns["price"].present[view_items]
        assert np.array_equal(shown_a | shown_b, has_price)
        assert not (shown_a & shown_b).any()
        hidden_in_a.append(not shown_a.any())
        seen_groups.add(tuple(hidden_in_a))
    # Seeds: item_id -> +tags, +kind; kind -> +price, +item_id; tags -> +item_id, +kind; ...
    assert seen_groups == {
        (True, True, True, False),
        (True, True, False, True),
    }


def test_a_dense_feature_that_is_hidden_leaves_no_number_behind():
    host = BatchBuilder(prepared(), config()).training(local_batch(3), 0, 1)
    absent = ~host.item_dense_present[:, 0]
    assert absent.any()
    assert not host.item_dense[absent].any()


def test_value_dropout_differs_between_the_views():
    # With independent draws, a feature that both views showed would keep other values in each.
    data = prepared()
    settings = config(ssl={"value_dropout": 0.5})
    builder = BatchBuilder(data, settings)
    kept = {"a": [], "b": []}
    for step in range(200):
        host = builder.training(local_batch(step), 0, 1)
        bags = bags_by_feature(builder, host)["item.tags"]
        views = host.view_items.shape[1]
        for i, item in enumerate(host.view_items[0]):
            whole = data.item_columns["tags"].values[item * TAGS : (item + 1) * TAGS]
            for view, row in (("a", 8 + i), ("b", 8 + views + i)):
                if len(bags[row]):
                    kept[view].append(np.isin(whole, bags[row]))
    for view in ("a", "b"):
        assert np.mean(kept[view]) == pytest.approx(0.5 / (1 - 0.5**TAGS), abs=0.05)
        assert np.ptp(np.mean(kept[view], axis=0)) < 0.15
    same = BatchBuilder(data, settings)
    again = [same.training(local_batch(5), 0, 1).values for _ in range(2)]
    assert np.array_equal(*again)


def test_the_same_values_are_dropped_independently_in_each_view():
    settings = config(ssl={"value_dropout": 0.5})
    builder = BatchBuilder(prepared(), settings)
    agreements = []
    for step in range(60):
        views = builder.views.build(step, local_batch(step).global_items, 0, 1)
        size = views.items.shape[1]
        column = prepared().item_columns["tags"].take(views.items.reshape(-1))
        dropped = views.drop_values(2, column, 0)
        bags = np.split(dropped.values, dropped.offsets[1:-1])
        for i in range(size):
            whole = column.values[column.offsets[i] : column.offsets[i + 1]]
            agreements.append(np.isin(whole, bags[i]) == np.isin(whole, bags[size + i]))
    assert np.mean(agreements) == pytest.approx(0.5, abs=0.03)


def test_examples_and_history_keep_all_values():
    data = prepared()
    builder = BatchBuilder(data, config(ssl={"value_dropout": 0.9}))
    host = builder.training(local_batch(1), 0, 1)
    bags = bags_by_feature(builder, host)["item.tags"]
    rows = [*range(8), *range(8 + host.view_items.size, len(bags))]
    assert {len(bags[row]) for row in rows} == {TAGS}


def test_view_items_are_uniform_over_the_corpus_including_items_never_trained():
    builder = BatchBuilder(prepared(), config())
    drawn = np.concatenate([builder.views.items(step, NOBODY) for step in range(3000)])
    counts = np.bincount(drawn, minlength=ITEMS)
    assert counts[NEVER_TRAINED:].min() > 0
    assert chisquare(counts).pvalue > 0.001


def test_ranks_split_the_global_batch():
    builder = BatchBuilder(prepared(), config(loss={"history_dropout": 0.3, "id_dropout": 0.3}))
    whole = builder.training(local_batch(4), 0, 1)
    parts = [
        builder.training(local_batch(4, rank=rank, world_size=2), rank, 2) for rank in range(2)
    ]
    for name in ("items", "log_q", "weight"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(getattr(whole, name), joined)
    joined = np.concatenate([part.view_items for part in parts], axis=1)
    assert np.array_equal(whole.view_items, joined)
    shifted = [np.add(part.accidental_hits, [4 * rank, 0]) for rank, part in enumerate(parts)]
    assert set(map(tuple, whole.accidental_hits)) == set(map(tuple, np.concatenate(shifted)))
    bags = bags_by_feature(builder, whole)
    for rank, part in enumerate(parts):
        own = bags_by_feature(builder, part)
        for key in ("item.item_id", "item.tags"):
            for i in range(4):
                assert np.array_equal(own[key][i], bags[key][4 * rank + i])


@pytest.mark.parametrize(("size", "world_size"), [(7, 2), (7, 3), (2, 4)])
def test_padding_rows_count_for_nothing(size, world_size):
    builder = BatchBuilder(prepared(), config(loss={"history_dropout": 0.3}, ssl={"batch_size": 5}))
    whole = builder.training(local_batch(4, size), 0, 1)
    rows, views = -(-size // world_size), -(-5 // world_size)
    columns = rows * world_size
    hits, items, sampled, weight = [], [], [], []
    for rank in range(world_size):
        part = builder.training(local_batch(4, size, rank, world_size), rank, world_size)
        assert len(part.history_offsets) == rows + 1
        assert part.view_items.shape == (2, views)
        items += part.items.tolist()
        sampled += part.view_items[0].tolist()
        weight += part.weight.tolist()
        hits += [(row + rank * rows, column) for row, column in part.accidental_hits.tolist()]
        bags = bags_by_feature(builder, part)
        nothing = [i for i, item in enumerate(part.items) if item < 0]
        nothing += [
            first + i
            for i, item in enumerate(part.view_items[0])
            for first in (rows, rows + views)
            if item < 0
        ]
        assert not any(len(bag[i]) for bag in bags.values() for i in nothing)
    padding = range(size, columns)
    assert items == [*whole.items, *(-1 for _ in padding)]
    assert sampled[:5] == whole.view_items[0].tolist()
    assert set(sampled[5:]) <= {-1}
    assert weight == pytest.approx([columns / size] * size + [0] * len(padding))
    assert set(hits) == {
        *map(tuple, whole.accidental_hits.tolist()),
        *((row, column) for row in range(columns) for column in padding if row != column),
    }
    assert len(set(hits)) == len(hits)


def test_items_without_training_events_hide_their_id_when_they_are_encoded():
    builder = BatchBuilder(prepared(), config())
    host = builder.items(np.arange(ITEMS))
    bags = bags_by_feature(builder, host)
    shown = np.array([len(bag) for bag in bags["item.item_id"]])
    assert np.array_equal(shown, np.arange(ITEMS) < NEVER_TRAINED)
    assert {len(bag) for bag in bags["item.kind"]} == {1}
