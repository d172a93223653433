"""The two-tower model. It does not know that its tables may be sharded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.sparse.jagged_tensor import KeyedTensor

from pipelines.prepared.reader import Prepared
from recsys.config.model import ModelConfig
from recsys.data.batch import Batch
from recsys.model.history import JoinedEncoders
from recsys.model.history.histories import Histories, HistoryContext
from recsys.model.pooled import split_pooled
from recsys.model.side_inputs import FeatureInput, SideInputs, feature_inputs
from recsys.model.tower import Tower


def build_model(
    prepared: Prepared, settings: ModelConfig, table_device: torch.device | None = None
) -> "TwoTower":
    """Builds a model for the features of prepared data; see `TwoTower`."""
    items, queries = feature_inputs(prepared.item_encoder), feature_inputs(prepared.query_encoder)
    context = feature_inputs(prepared.context_encoder)
    max_length = prepared.manifest.data.history.max_length
    return TwoTower(items, queries, context, settings, max_length, table_device)


def _tables(features: Sequence[FeatureInput]) -> list[EmbeddingBagConfig]:
    """Returns a table for each feature that owns one; others that read it follow its owner."""
    tables: dict[str, EmbeddingBagConfig] = {}
    for feature in features:
        if feature.table in tables:
            tables[feature.table].feature_names.append(feature.name)
        elif feature.num_embeddings:
            tables[feature.table] = EmbeddingBagConfig(
                name=feature.table,
                embedding_dim=feature.dim,
                num_embeddings=feature.num_embeddings,
                feature_names=[feature.name],
            )
    return list(tables.values())


@dataclass
class Encoded:
    """Outputs of the towers for a batch.

    Attributes:
        queries: [B, dim], vectors of the queries; L2-normalised, as are `items` and `views`.
        items: [K, dim], vectors of the candidates.
        views: [V, S, dim], vectors of the views of self-supervision.
        item_inputs: [K + VS, width], inputs of the towers that made `items` and `views`.
    """

    queries: Tensor
    items: Tensor
    views: Tensor
    item_inputs: Tensor


class TwoTower(nn.Module):
    """Query tower and item tower over shared tables.

    Args:
        items: Inputs of the item features.
        queries: Inputs of the query features.
        context: Inputs of the context features.
        settings: Settings of the towers and of the history encoders.
        max_length: Longest history, in items.
        table_device: Device of the tables; `meta` leaves them to the sharding.
    """

    def __init__(
        self,
        items: Sequence[FeatureInput],
        queries: Sequence[FeatureInput],
        context: Sequence[FeatureInput],
        settings: ModelConfig,
        max_length: int,
        table_device: torch.device | None = None,
    ) -> None:
        super().__init__()
        device = torch.device("cpu")
        self.dim = settings.dim
        self.tables = EmbeddingBagCollection(
            device=table_device or device,
            is_weighted=True,  # The weights of a bag sum to 1: equal, or more for what is recent.
            tables=_tables((*items, *queries, *context)),
        )
        self.item_inputs = SideInputs(items, device)
        self.query_inputs = SideInputs(queries, device)
        self.context_inputs = SideInputs(context, device)
        history = HistoryContext(self.item_inputs.dim, max_length, device)
        self.history = JoinedEncoders(settings.history, history)
        query_width = self.query_inputs.dim + self.context_inputs.dim + self.history.dim
        self.item_tower = Tower(self.item_inputs.dim, settings.item_tower, settings, device)
        self.query_tower = Tower(query_width, settings.query_tower, settings, device)

    def forward(self, batch: Batch, view_tower: nn.Module | None = None) -> Encoded:
        """Encodes a batch, with one lookup in the tables.

        Args:
            batch: Batch of this rank.
            view_tower: Tower of the views; None: the item tower.
        """
        examples = batch.num_examples
        candidates = batch.num_candidates
        end = candidates + batch.num_view_rows
        history_rows = batch.sparse.stride() - end
        sides = self.item_inputs, self.query_inputs, self.context_inputs
        pooled: KeyedTensor = self.tables(batch.sparse)
        sparse = split_pooled(
            pooled,
            [side.sparse_keys for side in sides],
            [end + history_rows, examples, examples],
        )
        lengths = dict(zip(batch.sparse.keys(), _lengths(batch.sparse), strict=True))
        dense = (
            (batch.item_dense_present, batch.item_dense),
            (batch.query_dense_present, batch.query_dense),
            (batch.context_dense_present, batch.context_dense),
        )
        rows, query, context = (
            side(embeddings, _presence(side, lengths, present), numbers)
            for side, embeddings, (present, numbers) in zip(sides, sparse, dense, strict=True)
        )
        items, seen = rows.split([end, history_rows])
        histories = Histories(batch.history, batch.history_offsets, batch.read)
        history = self.history(seen, histories, self.item_inputs.default)
        encoded, views = self.encode_items(items, candidates, view_tower)
        return Encoded(
            queries=self.query_tower(torch.cat([query, context, history], dim=1)),
            items=encoded,
            views=views.view(*batch.view_items.shape, self.dim),
            item_inputs=items,
        )

    def encode_items(
        self,
        inputs: Tensor,
        candidates: int,
        view_tower: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encodes the first `candidates` rows, which are items, and the others, which are views.

        Args:
            inputs: [K + VS, width].
            candidates: K.
            view_tower: Tower of the views; None: the item tower, in the same pass.
        """
        if view_tower is None:
            encoded = self.item_tower(inputs)
            encoded, views = encoded.split([candidates, len(encoded) - candidates])
            return encoded, views
        return self.item_tower(inputs[:candidates]), view_tower(inputs[candidates:])


def _lengths(sparse: KeyedJaggedTensor) -> Tensor:
    """Returns the number of values in each row, [keys, rows]."""
    return sparse.lengths().view(len(sparse.keys()), -1)


def _presence(side: SideInputs, lengths: dict[str, Tensor], dense_present: Tensor) -> Tensor:
    """Stacks which rows have a value, [rows, features], in the schema's order.

    Args:
        side: Features of the side.
        lengths: Number of values in each row, by key.
        dense_present: [rows, dense features].
    """
    rows = len(dense_present)
    columns, dense = [], 0
    for feature in side.features:
        if feature.width:
            columns.append(dense_present[:, dense])
            dense += 1
        else:
            columns.append(lengths[feature.name][:rows] > 0)
    if not columns:
        return dense_present.new_zeros((rows, 0), dtype=torch.bool)
    return torch.stack(columns, dim=1)
