"""Hand-made prepared data in memory, small enough to check every value of a batch."""

from types import SimpleNamespace

import numpy as np

from feature_store.core.columns import Dense, Jagged
from feature_store.kinds import CategoricalFeature, IdFeature, MultiValuedFeature, NumericFeature
from feature_store.schema import FeatureSchema
from pipelines.prepared.manifest import InformationMatrices, MutualInformation
from recsys.config.config import Config
from recsys.config.load import parse_config
from recsys.data.plan import rank_rows
from recsys.data.reader import LocalBatch

ITEMS, QUERIES, TAGS = 30, 12, 6
NEVER_TRAINED = 25  # Items from here on have no training event.
FEATURES = FeatureSchema(
    item=(
        IdFeature(name="item_id", dim=4),
        CategoricalFeature(name="kind", dim=4),
        MultiValuedFeature(name="tags", dim=4),
        NumericFeature(name="price", dim=4),
    ),
    query=(CategoricalFeature(name="country", dim=4),),
)


def config(**sections) -> Config:
    document = {
        "output": "unused",
        "data": {"events": "unused"},
        "features": FEATURES.model_dump(),
        "ssl": {"method": "cfm", "value_dropout": 0.0},
        "loss": {"id_dropout": 0.0},
        "training": {"batch_size": 8},
    }
    for name, keys in sections.items():
        is_other = keys.get("method", "cfm") not in ("cfm", "rfm")
        base = {} if is_other else document.get(name, {})
        document[name] = {**base, **keys}
    return parse_config(document)


def ones(rows):
    return np.ones(rows, np.int64)


def _matrices(raw):
    matrix = tuple(map(tuple, raw))
    return InformationMatrices(raw=matrix, normalised=matrix, corrected=matrix)


def prepared(information=None):
    rng = np.random.default_rng(0)
    bags = [np.sort(rng.choice(100, TAGS, replace=False)) for _ in range(ITEMS)]
    known = [rng.choice(NEVER_TRAINED, 4, replace=False) for _ in range(QUERIES)]
    if information is None:  # price tells most about kind, tags most about the id.
        information = [[3.0, 0.2, 0.9, 0.1], [0.2, 1, 0.1, 0.8], [0.9, 0.1, 2, 0], [0.1, 0.8, 0, 1]]
    frequency = np.bincount(np.concatenate(known), minlength=ITEMS)
    frequency[:NEVER_TRAINED] += 1
    return SimpleNamespace(
        features=FEATURES,
        num_items=ITEMS,
        item_columns={
            "item_id": Jagged.from_lengths(np.arange(ITEMS), ones(ITEMS)),
            "kind": Jagged.from_lengths(1 + np.arange(ITEMS) % 3, ones(ITEMS)),
            "tags": Jagged.from_lengths(np.concatenate(bags), TAGS * ones(ITEMS)),
            "price": Dense(
                rng.normal(size=(ITEMS, 1)).astype(np.float32), np.arange(ITEMS) % 5 != 0
            ),
        },
        query_columns={"country": Jagged.from_lengths(np.arange(QUERIES) % 4, ones(QUERIES))},
        query_state=SimpleNamespace(
            train=Jagged.from_lengths(np.concatenate(known), 4 * ones(QUERIES))
        ),
        own_items=Jagged.from_lengths(np.empty(0, np.int32), 0 * ones(QUERIES)),
        item_frequency=frequency,
        has_learnt_id=frequency > 0,
        is_current_item=np.ones(len(frequency), bool),
        mutual_information=MutualInformation(
            features=tuple(f.name for f in FEATURES.item),
            items=_matrices(information),
            interactions=_matrices(information),
        ),
    )


def local_batch(step, size=8, rank=0, world_size=1):
    """Returns a rank's examples of a global batch of `size` rows."""
    rng = np.random.default_rng(step)
    history = [rng.choice(NEVER_TRAINED, 3, replace=False) for _ in range(size)]
    query, item = rng.integers(0, QUERIES, size), rng.integers(0, NEVER_TRAINED, size)
    rows = np.arange(*rank_rows(size, rank, world_size))
    return LocalBatch(
        step,
        query[rows],
        item[rows],
        Jagged.from_lengths(np.concatenate(history), 3 * ones(size)).take(rows),
        np.ones(len(rows), np.float32),
        item,
    )
