"""Made-up inputs of a tower, by whose vectors two versions of its layers can be compared."""

from collections.abc import Sequence

import numpy as np

from feature_store.core.columns import Column, Dense, Floats, Jagged
from feature_store.kinds import AnyFeature
from feature_store.schema import FeatureSchema
from recsys.model.side_inputs import FeatureInput
from serving.bundle.networks import ItemNetwork, QueryNetwork, SideLookup
from serving.bundle.towers import ServedTower

# Numbers of values in each row's bags, and of its history.
_LENGTHS = (0, 1, 2, 5)


def probe_vectors(network: ItemNetwork | QueryNetwork, schema: FeatureSchema) -> Floats:
    """Computes vectors of rows with nothing, and with one and several values of everything.

    Args:
        network: Tower, which does not train.
        schema: Features.

    Returns:
        [rows, dim].
    """
    rows = len(_LENGTHS)
    if isinstance(network, ItemNetwork):
        return ServedTower(network, schema.item)(_columns(schema.item, network.lookup), rows)
    tower = ServedTower(network, schema.query, schema.context)
    columns = _columns(schema.query, network.lookup)
    context = _columns(schema.context, network.context)
    return tower(columns, rows, _bags(len(network.items)), context)


def _columns(features: Sequence[AnyFeature], lookup: SideLookup) -> dict[str, Column]:
    inputs = lookup.inputs.features
    return {
        feature.name: _bags(len(lookup.tables[each.table])) if feature.is_sparse else _numbers(each)
        for feature, each in zip(features, inputs, strict=True)
    }


def _bags(size: int) -> Jagged:
    """Returns bags of the first and the last rows of a table in turn."""
    lengths = np.array(_LENGTHS)
    position = np.arange(lengths.sum())
    values = np.where(position % 2 == 0, position // 2, size - 1 - position // 2)
    return Jagged.from_lengths(np.clip(values, 0, size - 1), lengths)


def _numbers(feature: FeatureInput) -> Dense:
    present = np.array(_LENGTHS) > 0
    values = np.linspace(-1, 1, len(_LENGTHS) * feature.width, dtype=np.float32)
    return Dense(values.reshape(len(_LENGTHS), -1) * present[:, None], present)
