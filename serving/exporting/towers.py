"""The trained towers as plain torch modules, which torch.export can write.

They reuse the trained submodules, and replace TorchRec's collection by one plain table a feature.
This module is for the export alone: it imports torchrec, and answering never does.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from feature_store.core.columns import Column, Jagged, take_or_absent, take_rows
from feature_store.encoding.pooling import decay_rate
from pipelines.prepared.reader import Prepared
from recsys.model.history.histories import Histories
from recsys.model.history.pooling import recency_weights_of
from recsys.model.two_tower import SideInputs, TwoTower
from serving.bundle.manifest import ITEM_TOWER, QUERY_TOWER
from serving.bundle.programs import Inputs, query_inputs, tower_inputs

# Items of one forward pass.
_BLOCK = 8192


class SideLookup(nn.Module):
    """Look-up of a side's or the context's features, joined as the input of a tower.

    Args:
        inputs: Trained inputs of the side, or of the context.
        model: Model with the tables.
    """

    def __init__(self, inputs: SideInputs, model: TwoTower) -> None:
        super().__init__()
        self.inputs = inputs
        self.tables = nn.ParameterList(
            model.tables.embedding_bags[feature.table].weight
            for feature in inputs.features
            if feature.num_embeddings
        )

    def forward(
        self,
        values: Sequence[Tensor],
        offsets: Sequence[Tensor],
        dense: Tensor,
        dense_present: Tensor,
    ) -> Tensor:
        """Joins embeddings side by side, [rows, dim]; see `tower_inputs`."""
        bags = iter(zip(values, offsets, self.tables, strict=True))
        sparse, present, dense_features = {}, [], 0
        for feature in self.inputs.features:
            if feature.width:
                present.append(dense_present[:, dense_features])
                dense_features += 1
                continue
            rows, ends, table = next(bags)
            sparse[feature.name] = _pooled(rows, ends, table, feature.half_life)
            present.append(ends[1:] > ends[:-1])
        mask = torch.stack(present, dim=1) if present else dense_present
        return self.inputs(sparse, mask, dense)


def _pooled(rows: Tensor, ends: Tensor, table: Tensor, half_life: float | None) -> Tensor:
    """Computes the weighted sums of bags, as in training; see `bag_weights`."""
    if half_life is None:
        return F.embedding_bag(rows, table, ends, mode="mean", include_last_offset=True)
    rate = torch.tensor(decay_rate(half_life), dtype=torch.float64, device=rows.device)
    weights = recency_weights_of(ends, rows.shape[0], rate).to(table.dtype)
    return F.embedding_bag(
        rows, table, ends, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


class ItemTower(nn.Module):
    """Tower from item features to item vectors.

    Args:
        model: Trained model, on the CPU.
    """

    def __init__(self, model: TwoTower) -> None:
        super().__init__()
        self.lookup = SideLookup(model.item_inputs, model)
        self.tower = model.item_tower

    def forward(
        self, values: list[Tensor], offsets: list[Tensor], dense: Tensor, dense_present: Tensor
    ) -> Tensor:
        """Computes L2-normalised vectors, [rows, dim]."""
        return self.tower(self.lookup(values, offsets, dense, dense_present))


class QueryTower(nn.Module):
    """Tower from query features, context and history to query vectors.

    It carries the joined features of every item of the catalogue, so that a history is one pooled
    look-up rather than one for each feature of each of its items, for as many numbers an item as
    its tower has inputs.

    Args:
        model: Trained model, on the CPU.
        items: Output of `SideLookup` for each item of the catalogue, [items, dim].
    """

    items: Tensor

    def __init__(self, model: TwoTower, items: Tensor) -> None:
        super().__init__()
        self.lookup = SideLookup(model.query_inputs, model)
        self.context = SideLookup(model.context_inputs, model)
        self.history = model.history
        self.tower = model.query_tower
        self.register_buffer("items", items)
        self.register_buffer("default", model.item_inputs.default.detach())

    def forward(
        self,
        values: list[Tensor],
        offsets: list[Tensor],
        dense: Tensor,
        dense_present: Tensor,
        context_values: list[Tensor],
        context_offsets: list[Tensor],
        context_dense: Tensor,
        context_dense_present: Tensor,
        history: Tensor,
        history_offsets: Tensor,
    ) -> Tensor:
        """Computes L2-normalised vectors, [rows, dim]; history holds items, oldest first."""
        features = self.lookup(values, offsets, dense, dense_present)
        context = self.context(
            context_values, context_offsets, context_dense, context_dense_present
        )
        histories = Histories(history, history_offsets)
        pooled = self.history(self.items, histories, self.default)
        return self.tower(torch.cat([features, context, pooled], dim=1))


def visible_item_columns(prepared: Prepared) -> dict[str, Column]:
    """Returns item features as the towers see them: an id that was never trained is absent."""
    columns = dict(prepared.item_columns)
    for feature in prepared.features.item:
        if feature.is_id:
            rows = np.where(prepared.has_learnt_id, np.arange(prepared.num_items), -1)
            columns[feature.name] = take_or_absent(columns[feature.name], rows)
    return columns


def write_towers(directory: Path, model: TwoTower, prepared: Prepared) -> None:
    """Writes `item_tower.pt2` and `query_tower.pt2`.

    Args:
        directory: Directory of the bundle.
        model: Trained model, unsharded, on the CPU.
        prepared: Data that it was trained on.
    """
    features, columns = prepared.features.item, visible_item_columns(prepared)
    nothing = np.full(2, -1)  # Rows without a value are example enough.
    items = tower_inputs(features, take_rows(columns, nothing), len(nothing))
    _write_program(ItemTower(model), items, directory / ITEM_TOWER)
    history = Jagged(nothing[:0], np.zeros(len(nothing) + 1, np.int64))
    query_columns = take_rows(prepared.query_columns, nothing)
    queries = tower_inputs(prepared.features.query, query_columns, len(nothing))
    context = prepared.context_encoder.encode(pa.table({"": pa.nulls(len(nothing))}))
    queries += query_inputs(prepared.features.context, context, len(nothing), history)
    lookup = SideLookup(model.item_inputs, model)
    parts = []
    for start in range(0, prepared.num_items, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, prepared.num_items))
        with torch.no_grad():
            inputs = tower_inputs(features, take_rows(columns, rows), len(rows))
            parts.append(lookup(*inputs)[: len(rows)])
    _write_program(QueryTower(model, torch.cat(parts)), queries, directory / QUERY_TOWER)


def _write_program(module: nn.Module, example: Inputs, path: Path) -> None:
    """Traces a tower for any number of rows and values, and writes the program."""
    sizes = pytree.tree_map(lambda _: {0: Dim.DYNAMIC}, example)
    with torch.no_grad():
        program = torch.export.export(module.eval(), example, dynamic_shapes=sizes)
    # The example would be written as a pickle, and a bundle has no pickles.
    program.example_inputs = None
    torch.export.save(program, path)
