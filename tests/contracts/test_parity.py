"""Losses, tables and states are the same under every sharding, on any number of ranks."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from recsys.distributed.optimizers import Optimizers
from tests.support import parity
from tests.support.parity import (
    BATCH,
    Case,
    Trained,
    assert_same,
    assert_same_tensors,
    train_on,
)

TYPES = ("data_parallel", "table_wise", "row_wise", "column_wise")
PARTS = 2
MODES = {
    "batch": {},
    "mixed": {"candidates": {"kind": "mixed", "uniform": 12}},
    "corpus": {"candidates": {"kind": "corpus"}},
}
SPARSE = {"sgd": 1.0, "rowwise_adagrad": 0.05}

# A table's parts of columns have sums of their own in row-wise Adagrad, so that it is the same on
# any number of ranks only in equal parts.
Key = tuple[str, str, str]


def case(kind: str, mode: str, optimizer: str) -> Case:
    sections = {
        "loss": MODES[mode],
        "training": {"sparse_optimizer": optimizer, "sparse_learning_rate": SPARSE[optimizer]},
    }
    return Case(kind, sections, PARTS if kind == "column_wise" else None)


def is_split(key: Key) -> bool:
    return key[0] == "column_wise" and key[2] == "rowwise_adagrad"


def train_all(ranks: int, keys: Sequence[Key]) -> dict[Key, Trained]:
    return dict(zip(keys, train_on(ranks, [case(*key) for key in keys]), strict=True))


FEW: tuple[Key, ...] = (
    ("table_wise", "batch", "rowwise_adagrad"),
    ("data_parallel", "batch", "rowwise_adagrad"),
    ("row_wise", "mixed", "rowwise_adagrad"),
    ("column_wise", "mixed", "rowwise_adagrad"),
    ("column_wise", "corpus", "sgd"),
)
REFERENCES: tuple[Key, ...] = (
    ("table_wise", "batch", "rowwise_adagrad"),
    ("table_wise", "mixed", "rowwise_adagrad"),
    ("column_wise", "mixed", "rowwise_adagrad"),
    ("table_wise", "corpus", "sgd"),
)


def reference(key: Key) -> Key:
    return key if is_split(key) else ("table_wise", *key[1:])


@pytest.fixture(scope="module")
def few() -> tuple[dict[Key, Trained], dict[Key, Trained]]:
    return train_all(1, REFERENCES), train_all(2, FEW)


@pytest.mark.parametrize("key", FEW)
def test_two_ranks_equal_one_under_another_sharding(few, key):
    one, two = few
    assert_same(two[key], one[reference(key)])


def weigh(monkeypatch, rows: slice, weight: float) -> None:
    """Gives examples of the first batch another weight."""
    local_batch = parity.local_batch

    def weighted(step, *arguments):
        local = local_batch(step, *arguments)
        if step == 0:
            local.weight[rows] = weight
        return local

    monkeypatch.setattr(parity, "local_batch", weighted)


def scale_dense_gradients(monkeypatch) -> None:
    """Scales the gradients of a step as one of two ranks does whose own are 1 per cent larger."""
    step = Optimizers.step

    def scaled(optimizers):
        for parameter in optimizers.dense:
            parameter.grad.mul_(1.005)
        step(optimizers)

    monkeypatch.setattr(Optimizers, "step", scaled)


FAULTS = {
    "a rank's examples weigh 1 per cent more": lambda patch: weigh(patch, slice(BATCH // 2), 1.01),
    "an example is missing": lambda patch: weigh(patch, slice(1), 0.0),
    "a rank's dense gradients are 1 per cent larger": scale_dense_gradients,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_rank_is_more_than_sums_in_another_order(few, monkeypatch, fault):
    FAULTS[fault](monkeypatch)
    key = REFERENCES[0]
    with pytest.raises(AssertionError):
        assert_same_tensors(train_all(1, [key])[key], few[0][key])


def test_something_is_learnt_and_states_are_compared(few):
    trained = few[1][FEW[0]]
    assert trained.losses[-1]["main"] < trained.losses[0]["main"] - 0.1
    assert sum("momentum1" in name for name in trained.tensors) == 4
    assert sum("exp_avg_sq" in name for name in trained.tensors) > 4


GRID = [
    (kind, mode, optimizer)
    for kind in TYPES
    for mode in MODES
    for optimizer in SPARSE
    if optimizer == "rowwise_adagrad" or mode in ("batch", "mixed")
]
SSL = {
    "none": {"method": "none"},
    "feature_dropout": {"method": "feature_dropout"},
    "spread_out": {"method": "spread_out"},
    "rfm": {"method": "rfm"},
    "cfm": {"method": "cfm", "items": "training"},
}
ADAM = {"sparse_optimizer": "adam", "sparse_learning_rate": 0.01, "gradient_clipping": 0.1}
CASES = {
    **{key: case(*key) for key in GRID},
    **{method: Case("row_wise", {"ssl": keys}) for method, keys in SSL.items()},
    "adam": Case("data_parallel", {"training": ADAM}),
    **{
        ("pipelined", kind): replace(case(kind, "batch", "rowwise_adagrad"), is_pipelined=True)
        for kind in TYPES
    },
    **{
        ("shared", kind): replace(case(kind, "batch", "rowwise_adagrad"), shares="item.kind")
        for kind in TYPES
    },
}


@pytest.fixture(scope="module")
def every() -> dict[int, dict]:
    """Trains each case on every number of ranks; four ranks share the cores."""
    return {
        ranks: dict(zip(CASES, train_on(ranks, list(CASES.values())), strict=True))
        for ranks in (1, 2, 4)
    }


@pytest.mark.slow
@pytest.mark.parametrize("key", GRID, ids="-".join)
def test_every_sharding_and_negative_mode_is_the_same_on_one_two_and_four_ranks(every, key):
    for ranks in (1, 2, 4):
        assert_same(every[ranks][key], every[1][reference(key)])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SSL, "adam"])
def test_self_supervision_and_adam_are_the_same_on_one_two_and_four_ranks(every, name):
    for ranks in (2, 4):
        assert_same(every[ranks][name], every[1][name])


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_pipelined_steps_are_those_of_the_plain_loop_on_any_number_of_ranks(every, kind):
    for ranks in (1, 2, 4):
        plain = every[ranks][kind, "batch", "rowwise_adagrad"]
        pipelined = every[ranks]["pipelined", kind]
        assert pipelined.losses == plain.losses
        for name, tensor in plain.tensors.items():
            assert torch.equal(tensor, pipelined.tensors[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_a_table_of_both_sides_is_the_same_under_every_sharding(every, kind):
    one = every[1]["shared", kind if kind == "column_wise" else "table_wise"]
    assert "item/kind" in "".join(one.tensors)
    assert "query/country" not in "".join(one.tensors)
    for ranks in (1, 2, 4):
        assert_same(every[ranks]["shared", kind], one)
