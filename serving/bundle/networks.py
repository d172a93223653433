"""The towers of a bundle as torch modules that read one plain table for each feature.

They are made of the trained model's own modules, and do without TorchRec's collection of tables.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from feature_store.encoding.pooling import decay_rate
from recsys.model.history import JoinedEncoders
from recsys.model.history.histories import Histories
from recsys.model.history.pooling import recency_weights_of
from recsys.model.side_inputs import SideInputs
from recsys.model.tower import Tower


class SideLookup(nn.Module):
    """Look-up of a side's or the context's features, joined as the input of a tower.

    Args:
        inputs: Inputs of the side, or of the context.
        tables: Tables by name, [num_embeddings, dim]; others than those of the inputs are left out.
    """

    def __init__(self, inputs: SideInputs, tables: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.inputs = inputs
        sparse = {feature.table for feature in inputs.features if feature.num_embeddings}
        # A module's name cannot have a dot, and a table's has none.
        self.tables = nn.ParameterDict({name: tables[name] for name in sorted(sparse)})

    def forward(
        self,
        values: Sequence[Tensor],
        offsets: Sequence[Tensor],
        dense: Tensor,
        dense_present: Tensor,
    ) -> Tensor:
        """Joins embeddings side by side, [rows, dim]; see `serving.bundle.towers.tower_inputs`."""
        bags = iter(zip(values, offsets, strict=True))
        sparse, present, dense_features = [dense[:, :0]], [], 0
        for feature in self.inputs.features:
            if feature.width:
                present.append(dense_present[:, dense_features])
                dense_features += 1
                continue
            rows, ends = next(bags)
            sparse.append(_pooled(rows, ends, self.tables[feature.table], feature.half_life))
            present.append(ends[1:] > ends[:-1])
        mask = torch.stack(present, dim=1) if present else dense_present
        return self.inputs(torch.cat(sparse, dim=1), mask, dense)


def _pooled(rows: Tensor, ends: Tensor, table: Tensor, half_life: float | None) -> Tensor:
    """Computes the weighted sums of bags, as in training; see `bag_weights`."""
    if half_life is None:
        return F.embedding_bag(rows, table, ends, mode="mean", include_last_offset=True)
    rate = torch.tensor(decay_rate(half_life), dtype=torch.float64, device=rows.device)
    weights = recency_weights_of(ends, rows.shape[0], rate).to(table.dtype)
    return F.embedding_bag(
        rows, table, ends, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


class ItemNetwork(nn.Module):
    """Tower from item features to item vectors.

    Args:
        lookup: Look-up of the item features.
        tower: The trained tower.
    """

    def __init__(self, lookup: SideLookup, tower: Tower) -> None:
        super().__init__()
        self.lookup = lookup
        self.tower = tower

    def forward(
        self, values: list[Tensor], offsets: list[Tensor], dense: Tensor, dense_present: Tensor
    ) -> Tensor:
        """Computes L2-normalised vectors, [rows, dim]."""
        return self.tower(self.lookup(values, offsets, dense, dense_present))


class QueryNetwork(nn.Module):
    """Tower from query features, context and history to query vectors.

    It carries the joined features of every item of the catalogue, so that a history is one pooled
    look-up rather than one for each feature of each of its items, for as many numbers an item as
    its tower has inputs.

    Args:
        lookup: Look-up of the query features.
        context: Look-up of the context.
        history: Encoders of the history.
        tower: The trained tower.
        items: Output of the items' `SideLookup` for each item of the catalogue, [items, dim].
        default: Learned inputs of an absent item, [dim].
    """

    items: Tensor
    default: Tensor

    def __init__(
        self,
        lookup: SideLookup,
        context: SideLookup,
        history: JoinedEncoders,
        tower: Tower,
        items: Tensor,
        default: Tensor,
    ) -> None:
        super().__init__()
        self.lookup = lookup
        self.context = context
        self.history = history
        self.tower = tower
        self.register_buffer("items", items)
        self.register_buffer("default", default)

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
