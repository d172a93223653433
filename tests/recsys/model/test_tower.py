"""Towers against loops."""

import pytest
import torch
import torch.nn.functional as F

from feature_store.core.errors import UserError
from recsys.config.model import ModelConfig
from recsys.model.tower import Tower
from tests.support.small_batches import config

CPU = torch.device("cpu")


def tower(width=6, hidden=(10,), **settings):
    torch.manual_seed(0)
    return Tower(width, hidden, ModelConfig(dim=4, **settings), CPU)


def test_the_residual_is_a_linear_map_of_the_inputs():
    model = tower(residual=True)
    rows = torch.randn(9, 6)
    torch.nn.init.zeros_(model.output.weight)
    torch.nn.init.zeros_(model.output.bias)
    expected = F.normalize(rows @ model.residual.weight.T, dim=1)
    torch.testing.assert_close(model(rows), expected)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_hidden_layer_is_linear_norm_activation(norm):
    model = tower(norm=norm).eval()
    rows = torch.randn(9, 6)
    inner = model.hidden[0].linear(rows)
    if norm == "layer":
        inner = F.layer_norm(inner, (10,))
    expected = F.normalize(model.output(F.relu(inner)), dim=1)
    torch.testing.assert_close(model(rows), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"history": [{"kind": "mean", "half_life": 2}]},
            "unknown key model.history.0.half_life",
        ),
        ({"history": [{"kind": "recent", "layers": 3}]}, "unknown key model.history.0.layers"),
        ({"history": [{"kind": "last"}, {"kind": "last"}]}, "history lists the same kind twice"),
        ({"history": []}, "model.history"),
        ({"history": [{"kind": "max"}]}, "expected one of: mean, last, recent, attention"),
        ({"norm": "layer", "item_tower": [], "query_tower": []}, "no effect on towers without"),
        ({"history": [{"kind": "attention", "heads": 3}]}, "heads must divide width"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        config(model=settings)
