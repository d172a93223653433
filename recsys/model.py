"""The two-tower model. It does not know that its tables may be sharded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.sparse.jagged_tensor import KeyedTensor

from feature_store.encoding import SideEncoder
from feature_store.scaling import dense_width
from feature_store.schema import (
    AnyFeature,
    DenseFeature,
    TimeFeature,
    half_life_of,
    is_sparse,
    qualified,
)
from pipelines.prepared import Prepared
from recsys.batch import Batch
from recsys.model_settings import ModelConfig

Pooling = Literal["mean", "last"]


@dataclass(frozen=True)
class FeatureInput:
    """How one feature enters a tower.

    Attributes:
        name: Such as `item.genres`.
        dim: Columns of its embedding.
        num_embeddings: Rows of its table; 0 for a dense feature.
        width: Numbers of a dense feature; 0 for a sparse one.
        half_life: Of the weights of its bags' values; see `bag_weights`.
    """

    name: str
    dim: int
    num_embeddings: int
    width: int
    half_life: float | None = None

    @property
    def table(self) -> str:
        """The name of its table or projection, such as `item/genres`.

        A dot cannot be part of a module's name.
        """
        side, _, feature = self.name.partition(".")
        return f"{side}/{feature.replace('%', '%25').replace('.', '%2E')}"


def feature_inputs(encoder: SideEncoder) -> tuple[FeatureInput, ...]:
    """The inputs of one side, or of the context, in the schema's order."""
    return tuple(_feature_input(feature, encoder) for feature in encoder.features)


def build_model(
    prepared: Prepared, settings: ModelConfig, table_device: torch.device | None = None
) -> "TwoTower":
    """A model for the features of prepared data; see `TwoTower`."""
    items, queries = feature_inputs(prepared.item_encoder), feature_inputs(prepared.query_encoder)
    context = feature_inputs(prepared.context_encoder)
    return TwoTower(items, queries, context, settings, table_device)


def _feature_input(feature: AnyFeature, encoder: SideEncoder) -> FeatureInput:
    name = qualified(encoder.side, feature)
    if is_sparse(feature):
        num_embeddings = encoder.num_embeddings(feature)
        return FeatureInput(name, feature.dim, num_embeddings, 0, half_life_of(feature))
    assert isinstance(feature, DenseFeature | TimeFeature)
    return FeatureInput(name, feature.dim, 0, dense_width(feature))


class SideInputs(nn.Module):
    """Joins the embeddings of a side's or the context's features; absent ones: a learned default.

    Args:
        features: Of the side, or of the context.
        device: Of the parameters.
    """

    def __init__(self, features: Sequence[FeatureInput], device: torch.device) -> None:
        super().__init__()
        self.features = tuple(features)
        self.dim = sum(feature.dim for feature in features)
        self.sparse_keys = [feature.name for feature in features if feature.num_embeddings]
        self.projections = nn.ModuleDict(
            {f.table: nn.Linear(f.width, f.dim, device=device) for f in features if f.width}
        )
        self.default = nn.Parameter(torch.empty(self.dim, device=device).normal_(std=0.05))

    def forward(self, sparse: dict[str, Tensor], present: Tensor, dense: Tensor) -> Tensor:
        """Embeddings side by side, [rows, dim].

        Args:
            sparse: By feature name, pooled embeddings [rows, feature.dim].
            present: [rows, features] bool, in the schema's order.
            dense: [rows, width] the dense features' numbers, side by side.
        """
        columns, start = [], 0
        for feature in self.features:
            if feature.width:
                numbers = dense[:, start : start + feature.width]
                columns.append(self.projections[feature.table](numbers))
                start += feature.width
            else:
                columns.append(sparse[feature.name])
        repeats = torch.tensor([f.dim for f in self.features], device=present.device).long()
        mask = present.repeat_interleave(repeats, dim=1, output_size=self.dim)
        return torch.where(mask, torch.cat(columns or [dense], dim=1), self.default)


class Tower(nn.Module):
    """Hidden layers with ReLU and dropout, then a projection to an L2-normalised vector.

    Args:
        width: Of the input.
        hidden: Widths of the hidden layers.
        dim: Of the output.
        dropout: Of the input and of each hidden layer.
        device: Of the parameters.
    """

    def __init__(
        self, width: int, hidden: Sequence[int], dim: int, dropout: float, device: torch.device
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Dropout(dropout), nn.Linear(width, size, device=device), nn.ReLU()]
            width = size
        self.layers = nn.Sequential(
            *layers, nn.Dropout(dropout), nn.Linear(width, dim, device=device)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """[rows, width] to [rows, dim]."""
        return F.normalize(self.layers(inputs), dim=1)


class QueryInputs(nn.Module):
    """A query's own features and its context joined with its pooled history.

    Args:
        poolings: How the history is read; each adds one item-sized input.
    """

    def __init__(self, poolings: Sequence[Pooling]) -> None:
        super().__init__()
        self.poolings = tuple(poolings)

    def forward(
        self,
        own: Tensor,
        context: Tensor,
        items: Tensor,
        history: Tensor,
        offsets: Tensor,
        default: Tensor,
    ) -> Tensor:
        """[queries, own + context + poolings x items] inputs of the query tower.

        Args:
            own: [queries, dim] of the queries' own features.
            context: [queries, dim] of the moment's.
            items: [items, dim] inputs of the items that histories are made of.
            history: [total] rows of `items`, oldest first.
            offsets: [queries + 1].
            default: [dim] stands for an empty history.
        """
        is_empty = (offsets[1:] == offsets[:-1])[:, None]
        columns = [own, context]
        for pooling in self.poolings:
            if pooling == "mean":
                pooled = F.embedding_bag(
                    history, items, offsets, mode="mean", include_last_offset=True
                )
            else:
                # An empty history has no last item: row 0 of the padded list stands in for it.
                last = F.pad(history, (1, 0))[offsets[1:]]
                pooled = items[last]
            columns.append(torch.where(is_empty, default, pooled))
        return torch.cat(columns, dim=1)


@dataclass
class Encoded:
    """L2-normalised outputs, [B, dim] and [S, dim]."""

    queries: Tensor
    items: Tensor
    view_a: Tensor
    view_b: Tensor


class TwoTower(nn.Module):
    """Query tower and item tower over shared tables.

    Args:
        items: Inputs of the item features.
        queries: Inputs of the query features.
        context: Inputs of the context features.
        settings: Sizes.
        table_device: `meta` leaves the tables to the sharding.
    """

    def __init__(
        self,
        items: Sequence[FeatureInput],
        queries: Sequence[FeatureInput],
        context: Sequence[FeatureInput],
        settings: ModelConfig,
        table_device: torch.device | None = None,
    ) -> None:
        super().__init__()
        device = torch.device("cpu")
        self.dim = settings.dim
        self.tables = EmbeddingBagCollection(
            device=table_device or device,
            is_weighted=True,  # The weights of a bag sum to 1: equal, or more for what is recent.
            tables=[
                EmbeddingBagConfig(
                    name=feature.table,
                    embedding_dim=feature.dim,
                    num_embeddings=feature.num_embeddings,
                    feature_names=[feature.name],
                )
                for feature in (*items, *queries, *context)
                if feature.num_embeddings
            ],
        )
        self.item_inputs = SideInputs(items, device)
        self.own_inputs = SideInputs(queries, device)
        self.context_inputs = SideInputs(context, device)
        self.query_inputs = QueryInputs(settings.history_pooling)
        query_width = self.own_inputs.dim + self.context_inputs.dim
        query_width += len(settings.history_pooling) * self.item_inputs.dim
        self.item_tower = Tower(
            self.item_inputs.dim, settings.item_tower, settings.dim, settings.dropout, device
        )
        self.query_tower = Tower(
            query_width, settings.query_tower, settings.dim, settings.dropout, device
        )

    def forward(self, batch: Batch) -> Encoded:
        """Encodes a batch with one sparse forward."""
        examples, views = batch.num_examples, batch.num_views
        pooled: KeyedTensor = self.tables(batch.sparse)
        by_name = pooled.to_dict()
        present = _present_by_name(batch.sparse)
        items = self.item_inputs(
            by_name,
            _stack_presence(self.item_inputs, present, batch.item_dense_present),
            batch.item_dense,
        )
        own = self.own_inputs(
            {name: by_name[name][:examples] for name in self.own_inputs.sparse_keys},
            _stack_presence(self.own_inputs, present, batch.query_dense_present),
            batch.query_dense,
        )
        context = self.context_inputs(
            {name: by_name[name][:examples] for name in self.context_inputs.sparse_keys},
            _stack_presence(self.context_inputs, present, batch.context_dense_present),
            batch.context_dense,
        )
        inputs = self.query_inputs(
            own,
            context,
            items[examples + 2 * views :],
            batch.history,
            batch.history_offsets,
            self.item_inputs.default,
        )
        encoded = self.item_tower(items[: examples + 2 * views])
        return Encoded(
            queries=self.query_tower(inputs),
            items=encoded[:examples],
            view_a=encoded[examples : examples + views],
            view_b=encoded[examples + views :],
        )


def _present_by_name(sparse: KeyedJaggedTensor) -> dict[str, Tensor]:
    """[rows] bool by key: whether the bag has a value."""
    present = sparse.lengths().view(len(sparse.keys()), -1) > 0
    return dict(zip(sparse.keys(), present, strict=True))


def _stack_presence(side: SideInputs, sparse: dict[str, Tensor], dense_present: Tensor) -> Tensor:
    """[rows, features] in the schema's order."""
    rows = len(dense_present)
    columns, dense = [], 0
    for feature in side.features:
        if feature.width:
            columns.append(dense_present[:, dense])
            dense += 1
        else:
            columns.append(sparse[feature.name][:rows])
    if not columns:
        return dense_present.new_zeros((rows, 0), dtype=torch.bool)
    return torch.stack(columns, dim=1)
