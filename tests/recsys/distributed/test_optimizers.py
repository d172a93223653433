"""Every parameter has exactly one optimizer, and each does what its paper says."""

import numpy as np
import pytest
import torch
from torch import nn

from feature_store.core.errors import UserError
from recsys.config.training import TrainingConfig
from recsys.distributed.optimizers import ReplicatedTables, _dense_optimizer
from recsys.training.launch import single_process_group
from tests.support.parity import CPU, ITEM_INPUTS, QUERY_INPUTS, Case, sharded_case, train_case

NUM_TABLES = sum(f.num_embeddings > 0 for f in (*ITEM_INPUTS, *QUERY_INPUTS))
VARIANTS = {
    "defaults": {},
    "streaming": {"loss": {"logq": {"source": {"kind": "streaming"}}}},
    "head": {"ssl": {"method": "cfm", "projection": 8}},
    "own layers": {"ssl": {"method": "rfm", "shared_layers": "inputs"}},
    "norms": {"model": {"norm": "layer", "residual": True}},
}


@pytest.fixture(scope="module")
def group():
    with single_process_group(CPU):
        yield


@pytest.mark.parametrize("kind", ["data_parallel", "table_wise", "row_wise", "column_wise"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_has_exactly_one_optimizer(group, kind, variant):
    with sharded_case(Case(kind, VARIANTS[variant])) as (_, sharded, optimizers):
        parts = [set(part.params) for _, part in optimizers.combined.optimizers]
        parts[0] = {name for name in sharded.fused_optimizer.params}
        trainable = {name for name, p in sharded.named_parameters() if p.requires_grad}
        assert sum(map(len, parts)) == len(set().union(*parts))
        assert set().union(*parts) == trainable
        assert len(parts[0]) == (0 if kind == "data_parallel" else NUM_TABLES)
        assert len(optimizers.dense) == len(trainable) - NUM_TABLES


def test_adam_of_tables_needs_a_gpu_or_a_copy_on_each_rank(group):
    adam = {"training": {"sparse_optimizer": "adam"}}
    with (
        pytest.raises(UserError, match="adam works on a CPU with type data_parallel alone"),
        sharded_case(Case("row_wise", adam)),
    ):
        pass


def replicated(rows=5, dim=4, **settings):
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(rows, dim))
    optimizer = ReplicatedTables(
        {"m.embedding_bags.t.weight": table}, TrainingConfig.model_validate(settings)
    )
    return table, optimizer


def gradients(table, steps):
    """Yields gradients in which some rows are zero, and row 4 always is."""
    for step in range(steps):
        table.grad = torch.randn(table.shape, generator=torch.Generator().manual_seed(step))
        table.grad[[step % 3, 4]] = 0
        yield table.grad


def test_replicated_rowwise_adagrad_by_hand():
    table, optimizer = replicated(sparse_learning_rate=0.1)
    expected, sums = table.detach().numpy().copy(), np.zeros(5)
    for gradient in gradients(table, 4):
        for row in range(5):
            sums[row] += np.mean(gradient[row].numpy() ** 2)
            expected[row] -= 0.1 * gradient[row].numpy() / (np.sqrt(sums[row]) + 1e-8)
        optimizer.step()
    np.testing.assert_allclose(table.detach().numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(optimizer.state[table]["t.momentum1"], sums, rtol=1e-5)


def test_replicated_adam_is_adam_for_the_rows_that_have_a_gradient():
    table, optimizer = replicated(sparse_optimizer="adam", sparse_learning_rate=0.1)
    start = table.detach().clone()
    mean, square = np.zeros((5, 4)), np.zeros((5, 4))
    expected = start.numpy().astype(np.float64)
    for step, gradient in enumerate(gradients(table, 4), start=1):
        for row in np.flatnonzero(gradient.any(dim=1)):
            found = gradient[row].numpy()
            mean[row] = 0.9 * mean[row] + 0.1 * found
            square[row] = 0.999 * square[row] + 0.001 * found**2
            root = np.sqrt(square[row] / (1 - 0.999**step)) + 1e-8
            expected[row] -= 0.1 * mean[row] / (1 - 0.9**step) / root
        optimizer.step()
    np.testing.assert_allclose(table.detach().numpy(), expected, rtol=1e-4)
    assert torch.equal(table[4], start[4])


def test_weight_decay_is_of_matrices_alone():
    parameters = {
        "matrix": nn.Parameter(torch.ones(2, 2)),
        "bias": nn.Parameter(torch.ones(2)),
        "temperature": nn.Parameter(torch.ones(())),
    }
    settings = TrainingConfig(weight_decay=0.5, dense_learning_rate=0.1)
    optimizer = _dense_optimizer(parameters, settings)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(parameters["matrix"], torch.tensor(0.95))
    assert torch.equal(parameters["bias"], torch.ones(2))
    assert torch.equal(parameters["temperature"], torch.ones(()))


def test_both_learning_rates_follow_the_schedule(group):
    with sharded_case(Case("table_wise")) as (settings, _, optimizers):
        optimizers.set_learning_rates(3, 0.25)
        optimizers.zero_grad()
        rates = {float(group["lr"]) for group in optimizers.combined.param_groups}
        fused = optimizers._fused.optimizers
        kernel = float(fused[0][1].optimizers[0][1]._emb_module.get_learning_rate())
    training = settings.training
    expected = {0.25 * training.sparse_learning_rate, 0.25 * training.dense_learning_rate}
    assert rates == expected
    assert kernel == pytest.approx(0.25 * training.sparse_learning_rate)


@pytest.mark.parametrize("kind", ["table_wise", "data_parallel"])
def test_the_optimizers_learn(group, kind):
    trained = train_case(Case(kind))
    assert trained.losses[-1]["main"] < trained.losses[0]["main"]
