"""Items that self-supervision samples, features that views hide, and dropout in the main task."""

import numpy as np
import pytest
from scipy.stats import chisquare

from feature_store.core.errors import UserError
from feature_store.schema import FeatureSchema
from recsys.channels.neighbours import Neighbours
from recsys.data.builder import BatchBuilder
from recsys.ssl.neighbours import write_neighbours
from recsys.ssl.views import ViewBuilder
from tests.recsys.data.test_builder import bags_by_feature
from tests.support.indexes import bags as bags_of
from tests.support.small_batches import (
    FEATURES,
    ITEMS,
    NEVER_TRAINED,
    config,
    local_batch,
    prepared,
)


@pytest.fixture
def neighbours(tmp_path):
    """Returns a directory in which each item is near the next one, and like that after it."""
    scores = np.ones(ITEMS, np.float32)
    near, alike = (
        Neighbours(bags_of([[(item - shift) % ITEMS] for item in range(ITEMS)]), scores)
        for shift in (1, 2)
    )
    write_neighbours(tmp_path, near, alike, np.ones(ITEMS, bool))
    return tmp_path


def drawn_items(items: str, steps: int = 2000) -> np.ndarray:
    builder = ViewBuilder(prepared(), config(ssl={"items": items}))
    positives = np.array([3, 3, 5])
    return np.concatenate([builder.items(step, positives) for step in range(steps)])


def test_items_by_frequency_follow_their_training_events():
    frequency = prepared().item_frequency
    counts = np.bincount(drawn_items("frequency"), minlength=ITEMS)
    assert not counts[frequency == 0].any()
    expected = frequency / frequency.sum() * counts.sum()
    assert chisquare(counts[frequency > 0], expected[frequency > 0]).pvalue > 0.001


def test_training_items_are_the_positives_of_the_batch():
    assert drawn_items("training", 2).tolist() == [3, 3, 5, 3, 3, 5]
    builder = BatchBuilder(prepared(), config(ssl={"items": "training"}))
    host = builder.training(local_batch(3), 0, 1)
    assert host.view_items.tolist() == 2 * [local_batch(3).global_items.tolist()]


def test_items_that_left_the_catalogue_are_not_sampled():
    data = prepared()
    data.is_current_item = np.arange(ITEMS) % 2 == 0
    for items in ("uniform", "frequency"):
        builder = ViewBuilder(data, config(ssl={"items": items}))
        drawn = np.concatenate([builder.items(step, np.zeros(0, int)) for step in range(200)])
        assert set(drawn % 2) == {0}


@pytest.mark.parametrize("id_feature", ["hidden", "shown"])
def test_the_id_is_in_both_views_or_in_none(id_feature):
    builder = BatchBuilder(prepared(), config(ssl={"id_feature": id_feature}))
    for step in range(10):
        host = builder.training(local_batch(step), 0, 1)
        ids = bags_by_feature(builder, host)["item.item_id"]
        in_views = [len(bag) for bag in ids[8 : 8 + host.view_items.size]]
        assert set(in_views) == ({1} if id_feature == "shown" else {0})
        assert all(len(bag) for bag in ids[:8])  # The main task is as it was.


def test_spread_out_takes_whole_items_once():
    builder = BatchBuilder(prepared(), config(ssl={"method": "spread_out"}))
    host = builder.training(local_batch(3), 0, 1)
    items = host.view_items
    assert items.shape == (1, 8)
    bags = bags_by_feature(builder, host)
    for name in ("item_id", "kind", "tags"):
        column = prepared().item_columns[name].take(items[0])
        assert np.array_equal(np.concatenate(bags[f"item.{name}"][8:16]), column.values)


def test_the_second_view_shows_a_neighbour_and_ids_are_hidden_at_their_rate(neighbours):
    settings = config(ssl={"method": "neighbours", "id_dropout": 0.3})
    builder = BatchBuilder(prepared(), settings, neighbours=neighbours)
    shown = []
    for step in range(200):
        host = builder.training(local_batch(step), 0, 1)
        first, second = host.view_items
        # By co-occurrence the next one; by content the one after that, whose next one is shown.
        assert set((second - first) % ITEMS) <= {1, 3}
        assert ((second - first) % ITEMS == 3)[first >= NEVER_TRAINED].all()
        assert not host.view_hidden.any()
        bags = bags_by_feature(builder, host)
        kind = prepared().item_columns["kind"].take(host.view_items.reshape(-1))
        assert np.array_equal(np.concatenate(bags["item.kind"][8:24]), kind.values)
        shown.append([len(bag) for bag in bags["item.item_id"][8:24]])
        assert all(len(bag) for bag in bags["item.item_id"][:8])
    assert np.mean(shown) == pytest.approx(0.7, abs=0.03)
    in_both = np.array(shown)[:, :8] * np.array(shown)[:, 8:]
    assert np.mean(in_both) == pytest.approx(0.49, abs=0.04)


def test_feature_dropout_hides_each_feature_of_the_positives_at_its_rate():
    settings = config(ssl={"method": "feature_dropout", "rate": 0.3})
    builder = BatchBuilder(prepared(), settings)
    hidden = {name: [] for name in ("item_id", "kind", "tags", "price")}
    for step in range(400):
        host = builder.training(local_batch(step), 0, 1)
        assert host.view_items.size == 0
        bags = bags_by_feature(builder, host)
        for name in ("item_id", "kind", "tags"):
            lengths = [len(bag) for bag in bags[f"item.{name}"]]
            hidden[name].append(np.equal(lengths[:8], 0))
            assert all(lengths[8:])  # Histories keep their features.
        absent = ~host.item_dense_present[:, 0]
        has_price = prepared().item_columns["price"].present
        hidden["price"].append(absent[:8][has_price[local_batch(step).item]])
        assert np.array_equal(absent[8:], ~has_price[np.unique(local_batch(step).history.values)])
    for of_feature in hidden.values():
        assert np.concatenate(of_feature).mean() == pytest.approx(0.3, abs=0.03)
    both = np.array(hidden["kind"]) & np.array(hidden["tags"])
    assert both.mean() == pytest.approx(0.09, abs=0.02)


@pytest.mark.parametrize(
    "ssl",
    [
        {"method": "feature_dropout", "rate": 0.5},
        {"method": "spread_out", "batch_size": 5},
        {"method": "cfm", "items": "training", "value_dropout": 0.4},
        {"method": "rfm", "items": "frequency", "views": "independent", "value_dropout": 0.4},
        {"method": "neighbours", "batch_size": 7, "value_dropout": 0.4},
    ],
)
def test_ranks_share_the_rows_of_every_method(ssl, neighbours):
    builder = BatchBuilder(prepared(), config(ssl={**ssl}), neighbours=neighbours)
    whole = builder.training(local_batch(4), 0, 1)
    bags = bags_by_feature(builder, whole)
    views, size = whole.view_items.shape
    for rank in range(2):
        part = builder.training(local_batch(4, rank=rank, world_size=2), rank, 2)
        own, own_size = bags_by_feature(builder, part), part.view_items.shape[1]
        pairs = [(i, 4 * rank + i) for i in range(4)]
        pairs += [
            (4 + view * own_size + i, 8 + view * size + rank * own_size + i)
            for view in range(views)
            for i in range(own_size)
            if rank * own_size + i < size
        ]
        for of_own, of_whole in pairs:
            for key in ("item.item_id", "item.kind", "item.tags"):
                assert np.array_equal(own[key][of_own], bags[key][of_whole])


def without(*names: str) -> dict:
    kept = [f.model_dump() for f in FEATURES.item if f.name not in names]
    return FeatureSchema(item=kept, query=FEATURES.query).model_dump()


@pytest.mark.parametrize(
    ("ssl", "features", "message"),
    [
        ({"items": "training", "batch_size": 4}, without(), "batch_size has no effect"),
        ({"group_size": 4}, without(), "at most 3"),
        ({"group_size": 1, "mutual_information": "corrected"}, without(), "has no effect"),
        ({"group_size": 3, "id_feature": "shown"}, without(), "at most 2"),
        ({"id_feature": "hidden"}, without("item_id"), "without an item feature of kind id"),
        ({"value_dropout": 0.3}, without("tags"), "without an item feature of several values"),
        ({"method": "neighbours", "id_dropout": 0.5}, without("item_id"), "of kind id"),
        ({}, without("tags", "kind", "price"), "at least two item features"),
        ({"id_feature": "shown"}, without("tags", "kind"), "beside the id"),
    ],
)
def test_a_switch_without_effect_is_an_error(ssl, features, message):
    with pytest.raises(UserError, match=message):
        config(ssl=ssl, features=features)


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("none", "alpha"),
        ("feature_dropout", "alpha"),
        ("spread_out", "temperature"),
        ("spread_out", "projection"),
        ("rfm", "mutual_information"),
    ],
)
def test_a_method_has_no_switches_of_others(method, key):
    with pytest.raises(UserError, match=key):
        config(ssl={"method": method, key: 1})
