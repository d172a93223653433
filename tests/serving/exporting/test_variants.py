"""Every tower and every reading of a history is exported as it is trained, for all sizes."""

import numpy as np
import pytest
import torch

from feature_store.core.columns import Jagged, take_rows
from pipelines.prepared.reader import Prepared
from recsys.config.model import HISTORY_SETTINGS
from recsys.data.builder import BatchBuilder
from recsys.model.encode import encode_items, encode_queries
from serving.bundle.tower_files import read_item_tower, read_query_tower
from serving.exporting.towers import visible_item_columns
from tests.support.tiny_bundle import (
    ITEMS,
    NEVER_TRAINED,
    QUERIES,
    export_untrained,
    untrained,
    write_prepared,
)

CPU = torch.device("cpu")
MAX_LENGTH = 12

VARIANTS = {
    # Every encoder as it is by default, so that a new one is tested by being listed.
    **{kind: {"history": [{"kind": kind}]} for kind in HISTORY_SETTINGS},
    "half-life": {"history": [{"kind": "recent", "half_life": 3.0}]},
    "all": {
        "history": [
            {"kind": "mean"},
            {"kind": "last"},
            {"kind": "recent"},
            {"kind": "attention", "width": 12, "layers": 3, "heads": 3},
        ],
        "norm": "layer",
        "residual": True,
    },
    "linear": {"item_tower": [], "query_tower": [], "residual": True},
}


def history_of(lengths):
    random = np.random.default_rng(len(lengths))
    values = random.integers(0, ITEMS, sum(lengths)).astype(np.int32)
    return Jagged.from_lengths(values, np.array(lengths))


@pytest.mark.parametrize("name", VARIANTS)
def test_exported_towers_equal_the_models_for_all_sizes(name, tmp_path, monkeypatch):
    config = write_prepared(
        tmp_path,
        data={"history": {"max_length": MAX_LENGTH}},
        model={"history": [{"kind": "mean"}], **VARIANTS[name]},
    )
    model, manifest = untrained(config)
    torch.manual_seed(1)
    for key, tensor in model.state_dict().items():
        if "places_back" in key or "norm" in key:
            tensor.normal_()
    export_untrained(config, monkeypatch, model=model)
    prepared = Prepared(config.prepared_dir)
    builder = BatchBuilder(prepared, manifest.config)

    items = np.arange(ITEMS)
    tower = read_item_tower(config.bundle_dir, prepared.features)
    expected = encode_items(model, builder, CPU)
    found = tower(take_rows(visible_item_columns(prepared), items), ITEMS)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.ptp(expected[NEVER_TRAINED:], axis=0).max() > 0.01  # By their features alone.

    tower = read_query_tower(config.bundle_dir, prepared.features)
    longest = MAX_LENGTH + 9
    batches = ([0], [1], [5], [longest], [0, 0, 0], [MAX_LENGTH, 0, 3, longest, 1, 7, 0, 2])
    for lengths in batches:
        history = history_of(lengths)
        queries = np.arange(len(lengths)) % QUERIES
        columns = take_rows(prepared.query_columns, queries)
        expected = encode_queries(model, builder, queries, history, {}, CPU)
        found = tower(columns, len(queries), history, {})
        np.testing.assert_allclose(found, expected, atol=2e-6)
