"""Channels of a tiny bundle: made-up neighbours, with weights of every kind."""

import numpy as np
import pytest

from feature_store.core.columns import Jagged
from recsys.channels.neighbours import Neighbours
from recsys.config.config import Config
from recsys.fusion.fused import ChannelInfo, Fused, FusionInfo
from recsys.fusion.weights import Weights
from serving.bundle.manifest import BundleManifest
from serving.exporting import export as exporting
from tests.support.tiny_bundle import ITEMS, export_untrained, write_prepared

WEIGHTS = Weights(
    channels={"co_occurrence": 0.3, "content": 0.2, "own_content": 0.25},
    rare=0.5,
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
        FusionInfo(weights=weights, channels=channels),
        {name: lists() for name in ("co_occurrence", "content", "transitions")},
        rarity=random.random(items).astype(np.float32),
        dial=random.normal(size=items).astype(np.float32) * np.float32(0.1),
        trend=random.random(items).astype(np.float32),
    )


def export_fused(config: Config, patch: pytest.MonkeyPatch) -> BundleManifest:
    """Exports an untrained model with made-up channels."""

    def fuse(config: Config, **_: object) -> None:
        random_fused(ITEMS).save(config.fusion_dir)

    patch.setattr(exporting, "fuse", fuse)
    return export_untrained(config, patch)


def write_fused_prepared(directory, **sections) -> Config:
    """Writes data as `write_prepared`, of a configuration with channels."""
    return write_prepared(directory, ranking={"channels": ["co_occurrence", "content"]}, **sections)
