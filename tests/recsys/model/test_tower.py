"""Towers against loops."""

import pytest
import torch
import torch.nn.functional as F

from feature_store.core.errors import UserError
from recsys.config.model import ModelConfig
from recsys.model.tower import Cross, Tower
from tests.support.small_batches import config

CPU = torch.device("cpu")


def tower(width=6, hidden=(10,), **settings):
    torch.manual_seed(0)
    return Tower(width, hidden, ModelConfig(dim=4, **settings), CPU)


@pytest.mark.parametrize("rank", [None, 2])
def test_cross_layers_equal_a_loop(rank):
    torch.manual_seed(0)
    layers = [Cross(5, rank, CPU) for _ in range(3)]
    first = torch.randn(7, 5)
    rows = first
    for layer in layers:
        rows = layer(first, rows)
    for row in range(7):
        x = first[row]
        for layer in layers:
            matrix = layer.linear.weight
            if rank is not None:
                matrix = matrix @ layer.narrow.weight
                assert layer.narrow.weight.shape == (2, 5)
            product = torch.stack(
                [
                    first[row, i]
                    * (sum(matrix[i, j] * x[j] for j in range(5)) + layer.linear.bias[i])
                    for i in range(5)
                ]
            )
            x = product + x
        torch.testing.assert_close(rows[row], x, atol=1e-5, rtol=1e-4)


def test_cross_layers_find_a_product_that_a_linear_tower_does_not():
    torch.manual_seed(1)
    rows = torch.randn(512, 6)
    label = (rows[:, 0] * rows[:, 1] > 0).long()
    losses = {}
    for layers in (0, 1):
        model = tower(hidden=(), cross={"layers": 1} if layers else None)
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(300):
            loss = F.cross_entropy(8 * model(rows)[:, :2], label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[layers] = loss.item()
    assert losses[1] < 0.3 < 0.5 < losses[0]


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
