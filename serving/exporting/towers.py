"""The trained towers as the modules of a bundle, with plain tables in place of TorchRec's.

This module is for the export alone: it imports torchrec, and answering never does.
"""

from pathlib import Path

import numpy as np
import torch

from feature_store.core.columns import Column, take_or_absent, take_rows
from pipelines.prepared.reader import Prepared
from recsys.config.model import ModelConfig
from recsys.model.side_inputs import SideInputs
from recsys.model.two_tower import TwoTower
from serving.bundle.networks import ItemNetwork, QueryNetwork, SideLookup
from serving.bundle.tower_files import TowerSettings, write_towers
from serving.bundle.towers import tower_inputs

# Items of one forward pass.
_BLOCK = 8192


def visible_item_columns(prepared: Prepared) -> dict[str, Column]:
    """Returns item features as the towers see them: an id that was never trained is absent."""
    columns = dict(prepared.item_columns)
    for feature in prepared.features.item:
        if feature.is_id:
            rows = np.where(prepared.has_learnt_id, np.arange(prepared.num_items), -1)
            columns[feature.name] = take_or_absent(columns[feature.name], rows)
    return columns


def write_trained_towers(
    directory: Path, model: TwoTower, settings: ModelConfig, prepared: Prepared
) -> None:
    """Writes the towers of a trained model.

    Args:
        directory: Directory of the bundle.
        model: Trained model, unsharded, on the CPU.
        settings: Settings of the model.
        prepared: Data that it was trained on.
    """
    items = _lookup(model, model.item_inputs)
    history = prepared.manifest.data.history
    write_towers(
        directory,
        prepared.features,
        TowerSettings(model=settings, max_length=history.max_length),
        ItemNetwork(items, model.item_tower),
        QueryNetwork(
            _lookup(model, model.query_inputs),
            _lookup(model, model.context_inputs),
            model.history,
            model.query_tower,
            _joined_features(items, prepared),
            model.item_inputs.default.detach(),
        ),
    )


def _lookup(model: TwoTower, inputs: SideInputs) -> SideLookup:
    bags = model.tables.embedding_bags
    return SideLookup(inputs, {name: table.weight for name, table in bags.items()})


def _joined_features(lookup: SideLookup, prepared: Prepared) -> torch.Tensor:
    """Computes the look-up's output for each item of the catalogue, [items, dim]."""
    columns, parts = visible_item_columns(prepared), []
    for start in range(0, prepared.num_items, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, prepared.num_items))
        with torch.no_grad():
            inputs = tower_inputs(prepared.features.item, take_rows(columns, rows), len(rows))
            parts.append(lookup(*inputs))
    return torch.cat(parts)
