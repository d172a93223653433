"""What a tower computes, against loops, and that batch statistics are those of all ranks."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from feature_store.core.errors import UserError
from recsys.config.model import ModelConfig
from recsys.model.tower import BatchNorm, Cross, Tower
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
        model = tower(hidden=(), cross_layers=layers)
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


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_hidden_layer_is_linear_norm_activation(norm, activation):
    model = tower(norm=norm, activation=activation).eval()
    rows = torch.randn(9, 6)
    inner = model.hidden[0].linear(rows)
    if norm == "layer":
        inner = F.layer_norm(inner, (10,))
    inner = {"relu": F.relu, "gelu": F.gelu}[activation](inner)
    expected = F.normalize(model.output(inner), dim=1)
    torch.testing.assert_close(model(rows), expected, atol=1e-4, rtol=1e-4)


def test_batch_statistics_are_those_of_torch_and_leave_out_padding():
    torch.manual_seed(0)
    ours, theirs = BatchNorm(5, CPU), torch.nn.BatchNorm1d(5)
    rows = 3 + 2 * torch.randn(20, 5)
    is_row = torch.arange(20) < 16
    found = ours(rows, is_row)
    torch.testing.assert_close(found[:16], theirs(rows[:16]), atol=1e-5, rtol=1e-4)
    for _ in range(200):
        ours(rows, is_row)
    torch.testing.assert_close(ours.mean, rows[:16].mean(0))
    torch.testing.assert_close(ours.variance, rows[:16].var(0, unbiased=False))
    ours.eval()
    torch.testing.assert_close(ours(rows, None)[:16], found[:16], atol=1e-4, rtol=1e-4)


def _loss_of(model, rows, is_row):
    target = torch.ones(4) / 2
    return ((model(rows, is_row) - target).square().sum(dim=1) * is_row).mean()


def _batch():
    torch.manual_seed(5)
    return torch.randn(8, 6), torch.arange(8) < 7


def _on_rank(rank: int, directory: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{directory}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model = tower(hidden=(10, 10), norm="batch")
    rows, is_row = _batch()
    own = slice(4 * rank, 4 * rank + 4)
    _loss_of(model, rows[own], is_row[own]).backward()
    gradients = {}
    for name, parameter in model.named_parameters():
        dist.all_reduce(parameter.grad)  # As DistributedDataParallel would.
        gradients[name] = parameter.grad / 2
    torch.save([gradients, dict(model.named_buffers())], f"{directory}/{rank}.pt")
    dist.destroy_process_group()


def test_batch_norm_on_two_ranks_is_that_on_one(tmp_path: Path):
    mp.spawn(_on_rank, args=(str(tmp_path),), nprocs=2)
    model = tower(hidden=(10, 10), norm="batch")
    rows, is_row = _batch()
    _loss_of(model, rows, is_row).backward()
    for rank in range(2):
        gradients, buffers = torch.load(tmp_path / f"{rank}.pt")
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(buffers[name], buffer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cross_rank": 2}, "cross_rank has no effect with cross_layers: 0"),
        ({"history_half_life": 2.0}, "history_half_life has no effect without"),
        ({"attention": {"layers": 3}}, "attention has no effect without history_pooling attention"),
        ({"norm": "layer", "item_tower": [], "query_tower": []}, "no effect on towers without"),
        ({"history_pooling": ["attention"], "attention": {"heads": 3}}, "heads must divide width"),
        ({"norm": "batch"}, "model.norm batch needs ssl.method none"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        config(model=settings)
