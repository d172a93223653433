"""The inputs of a tower: a side's or the context's features, joined.

This module, like the towers and the history encoders, needs no TorchRec: a server builds its towers
of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from feature_store.encoding.encoder import SideEncoder
from feature_store.kinds import AnyFeature
from feature_store.schema import FeatureGroup, qualified


@dataclass(frozen=True)
class FeatureInput:
    """One feature as a tower reads it.

    Attributes:
        name: Name with the side, such as `item.genres`.
        dim: Columns of its embedding.
        num_embeddings: Rows of its table; 0 for a dense feature.
        width: Count of a dense feature's numbers; 0 for a sparse one.
        half_life: Half-life of the weights of its bags' values; see `bag_weights`.
        shares: Feature whose table it reads, such as `item.genres`; None: its own.
    """

    name: str
    dim: int
    num_embeddings: int
    width: int
    half_life: float | None = None
    shares: str | None = None

    @property
    def table(self) -> str:
        """The name of its table or projection."""
        return table_name(self.shares or self.name)


def table_name(feature: str) -> str:
    """Returns `item/genres` for `item.genres`: a dot cannot be part of a module's name."""
    side, _, name = feature.partition(".")
    return f"{side}/{name.replace('%', '%25').replace('.', '%2E')}"


def feature_inputs(encoder: SideEncoder) -> tuple[FeatureInput, ...]:
    """Returns the inputs of one side, or of the context, in the schema's order."""
    return tuple(
        feature_input(encoder.side, f, encoder.num_embeddings(f) if f.is_sparse else 0)
        for f in encoder.features
    )


def feature_input(group: FeatureGroup, feature: AnyFeature, num_embeddings: int) -> FeatureInput:
    """Returns the input of one feature.

    Args:
        group: Side of the feature, or the context.
        feature: The feature.
        num_embeddings: Rows of its table; not read of a dense feature.
    """
    name = qualified(group, feature)
    if feature.is_sparse:
        half_life, shares = feature.recency_half_life, feature.shared_table
        return FeatureInput(name, feature.dim, num_embeddings, 0, half_life, shares)
    return FeatureInput(name, feature.dim, 0, feature.dense_width)


class SideInputs(nn.Module):
    """Joins the embeddings of a side's or the context's features; absent ones: a learned default.

    Args:
        features: Features of the side, or of the context.
        device: Device of the parameters.
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

    def forward(self, sparse: Tensor, present: Tensor, dense: Tensor) -> Tensor:
        """Joins embeddings side by side, [rows, dim].

        Args:
            sparse: [rows, width], the sparse features' pooled embeddings side by side; zeros where
                a feature is absent.
            present: [rows, features] bool, in the schema's order.
            dense: [rows, width], the dense features' numbers side by side.
        """
        joined = self._with_dense(sparse, present, dense) if self.projections else sparse
        if not self.features:
            return joined + self.default  # No columns; but every parameter has a gradient.
        # Each row of the product has the defaults of what it lacks, and zeros elsewhere.
        return torch.addmm(joined, (~present).to(joined.dtype), self._defaults())

    def _with_dense(self, sparse: Tensor, present: Tensor, dense: Tensor) -> Tensor:
        """Puts the dense features' embeddings between the others; zeros where they are absent."""
        columns, first, number = [], 0, 0
        for index, feature in enumerate(self.features):
            if feature.width:
                numbers = dense[:, number : number + feature.width]
                projected = self.projections[feature.table](numbers)
                columns.append(projected * present[:, index, None])
                number += feature.width
            else:
                columns.append(sparse[:, first : first + feature.dim])
                first += feature.dim
        return torch.cat(columns, dim=1)

    def _defaults(self) -> Tensor:
        """Returns the default of each feature in its columns, [features, dim]; zeros elsewhere."""
        return torch.block_diag(*self.default.split([feature.dim for feature in self.features]))
