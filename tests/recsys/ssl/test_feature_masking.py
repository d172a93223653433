"""A feature that a view hides has no influence on it, whatever its kind."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feature_store.core.columns import Column, Dense, Jagged
from feature_store.schema import FeatureSchema
from recsys.config.model import ModelConfig
from recsys.data.batch import Batch
from recsys.data.builder import BatchBuilder
from recsys.model.side_inputs import FeatureInput
from recsys.model.two_tower import TwoTower
from tests.support.small_batches import ITEMS, config, local_batch, prepared

FEATURES = FeatureSchema.model_validate(
    {
        "item": [
            {"name": "item_id", "kind": "id", "dim": 4},
            {"name": "kind", "kind": "categorical", "dim": 4},
            {"name": "tags", "kind": "multi_valued", "dim": 4},
            {"name": "seen", "kind": "sequence", "dim": 4, "half_life": 2},
            {"name": "price", "kind": "numeric", "dim": 4, "scaling": "quantile"},
            {"name": "image", "kind": "vector", "dim": 4, "length": 3},
        ],
        "query": [{"name": "country", "kind": "categorical", "dim": 4}],
    }
)


def data(**changed: Column) -> SimpleNamespace:
    random = np.random.default_rng(3)
    has_image = np.arange(ITEMS) % 3 != 0
    columns = prepared().item_columns | {
        "seen": Jagged.from_lengths(random.integers(0, 9, 4 * ITEMS), np.full(ITEMS, 4)),
        "image": Dense(random.normal(size=(ITEMS, 3)).astype(np.float32), has_image),
    }
    others = {
        "features": FEATURES,
        "item_columns": columns | changed,
        "mutual_information": SimpleNamespace(features=[f.name for f in FEATURES.item]),
    }
    return SimpleNamespace(**vars(prepared()) | others)


def otherwise(column: Column) -> Column:
    """Returns other values, absent where they were."""
    if isinstance(column, Dense):
        return Dense(column.values + 1, column.present)
    return Jagged(column.values[::-1] + 1, column.offsets)


def model() -> TwoTower:
    torch.manual_seed(0)
    inputs = [
        FeatureInput(
            f"item.{feature.name}",
            4,
            200 if feature.is_sparse else 0,
            0 if feature.is_sparse else {"price": 1, "image": 3}[feature.name],
            feature.recency_half_life,
        )
        for feature in FEATURES.item
    ]
    settings = ModelConfig(dim=8, item_tower=[16], query_tower=[16])
    return TwoTower(inputs, [FeatureInput("query.country", 4, 4, 0)], [], settings, 50).eval()


@pytest.mark.parametrize("position", range(len(FEATURES.item)))
def test_a_hidden_feature_has_no_influence_on_its_view(position: int) -> None:
    name = FEATURES.item[position].name
    settings = config(features=FEATURES.model_dump(), ssl={"method": "rfm", "value_dropout": 0.5})
    changed = data(**{name: otherwise(data().item_columns[name])})
    tower = model()
    hidden = []
    for step in range(12):
        builders = [BatchBuilder(each, settings) for each in (data(), changed)]
        views = []
        for builder in builders:
            host = builder.training(local_batch(step), 0, 1)
            batch = Batch.from_host(host, builder.keys(), host.history_rows)
            with torch.no_grad():
                views.append(tower(batch))
        drawn = builders[0].views.build(step, local_batch(step).global_items, 0, 1)
        is_hidden_in_a = bool(drawn.hidden[0, position])
        in_a = torch.equal(views[0].views[0], views[1].views[0])
        in_b = torch.equal(views[0].views[1], views[1].views[1])
        assert (in_a, in_b) == (is_hidden_in_a, not is_hidden_in_a)
        hidden.append(is_hidden_in_a)
    assert len(set(hidden)) == 2  # Each view has hidden it.


def test_weights_of_what_dropout_leaves_sum_to_one() -> None:
    settings = config(features=FEATURES.model_dump(), ssl={"method": "rfm", "value_dropout": 0.5})
    builder = BatchBuilder(data(), settings)
    host = builder.training(local_batch(3), 0, 1)
    lengths = host.lengths
    bags = np.split(host.weights, np.cumsum(lengths.reshape(-1))[:-1])
    assert all(bag.sum() == pytest.approx(1, abs=1e-6) for bag in bags if len(bag))
    views = slice(8, 24)
    of_sequence = lengths[builder.keys().index("item.seen")]
    assert {1, 2, 3} & set(of_sequence[views].tolist())
    assert (np.delete(of_sequence, range(8, 24)) % 4 == 0).all()
    start = builder.keys().index("item.seen") * lengths.shape[1]
    ratios = [bag[1:] / bag[:-1] for bag in bags[start : start + lengths.shape[1]]]
    assert np.concatenate(ratios) == pytest.approx(2**0.5, rel=1e-5)  # Its half-life is 2.
