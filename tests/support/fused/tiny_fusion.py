"""Channels of a tiny bundle: made-up neighbours, with weights of every kind."""

from collections.abc import Callable

import numpy as np
import pytest

from feature_store.core.columns import Jagged
from pipelines.prepared.reader import Prepared
from recsys.channels.content import content_matrix, content_space
from recsys.channels.neighbours import Neighbours
from recsys.channels.product import Product
from recsys.config.config import Config
from recsys.fusion.fused import ChannelInfo, Fused, FusionInfo, rarity
from recsys.fusion.weights import Weights
from serving.bundle.manifest import BundleManifest
from serving.exporting import bundling
from tests.support.tiny_bundle import export_untrained, write_prepared

WEIGHTS = Weights(
    channels={"co_occurrence": 0.3, "content": 0.2, "own_content": 0.25},
    rare={"content": 0.1, "own_content": 0.2},
    trend=0.1,
    dial=0.2,
)


def random_fused(items: int, weights: Weights = WEIGHTS, *, of_each: int = 6) -> Fused:
    """Makes neighbours, popularity and rarity of items at random."""
    random = np.random.default_rng(5)

    def lists() -> Neighbours:
        rows = [np.sort(random.choice(items, of_each, replace=False)) for _ in range(items)]
        bags = Jagged.from_lengths(np.concatenate(rows), np.full(items, of_each))
        return Neighbours(bags, random.random(items * of_each).astype(np.float32) + 0.01)

    channels = {
        "co_occurrence": ChannelInfo(lists="co_occurrence", reads="known"),
        "content": ChannelInfo(lists="content", reads="history"),
        "own_content": ChannelInfo(lists="content", reads="own"),
        "transitions": ChannelInfo(lists="transitions", reads="history"),
    }
    return Fused(
        FusionInfo(weights=weights, channels=channels, neighbours=of_each),
        {name: lists() for name in ("co_occurrence", "content", "transitions")},
        rarity=random.random(items).astype(np.float32),
        dial=random.normal(size=items).astype(np.float32) * np.float32(0.1),
        trend=random.random(items).astype(np.float32),
    )


def content_fused(prepared: Prepared, *, of_each: int = 6) -> Fused:
    """Finds the neighbours by content of some data; there is no other channel."""
    space = content_space(prepared)
    matrix = content_matrix(space, prepared.item_columns, prepared.is_current_item)
    near = Product(matrix, matrix.T.tocsr()).highest(0, prepared.num_items, of_each).T.tocsr()
    near.sort_indices()
    info = FusionInfo(
        weights=Weights(channels={"content": 2.0}, rare={"content": 1.0}),
        channels={"content": ChannelInfo(lists="content", reads="known")},
        neighbours=of_each,
    )
    zeros = np.zeros(prepared.num_items, np.float32)
    lists = Neighbours(Jagged(near.indices, near.indptr.astype(np.int64)), near.data)
    return Fused(info, {"content": lists}, rarity(prepared.item_frequency), zeros, zeros)


def export_fused(
    config: Config, patch: pytest.MonkeyPatch, made: Callable[[Prepared], Fused] | None = None
) -> BundleManifest:
    """Exports an untrained model with made-up channels, or with others."""

    def fuse(config: Config, **_: object) -> None:
        prepared = Prepared(config.prepared_dir)
        fused = random_fused(prepared.num_items) if made is None else made(prepared)
        fused.save(config.fusion_dir)

    patch.setattr(bundling, "fuse", fuse)
    return export_untrained(config, patch)


def write_fused_prepared(directory, **sections) -> Config:
    """Writes data as `write_prepared`, of a configuration with channels."""
    return write_prepared(directory, ranking={"channels": ["co_occurrence", "content"]}, **sections)
