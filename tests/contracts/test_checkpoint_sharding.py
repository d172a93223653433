"""A checkpoint is loaded under any sharding and number of ranks."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from recsys.checkpoint.row_state import RowState
from tests.support.ranks import tensors_of
from tests.support.toy import DIM, ROWS, ToyTraining, on_ranks, save, toy_config

KINDS = ["row_wise", "table_wise", "column_wise", "data_parallel"]
# Every kind after every other one.
WALK = [
    *("row_wise", "table_wise", "column_wise", "data_parallel", "row_wise", "column_wise"),
    *("table_wise", "data_parallel", "column_wise", "row_wise", "data_parallel", "table_wise"),
    "row_wise",
]
LAST = "step-0000000003"
MOMENTUM = "optimizer.model.tables.embedding_bags.item/group.weight.momentum1"


def train_and_save(directory: Path, kind: str, training: dict) -> None:
    config = toy_config(kind, **training)
    toy = ToyTraining(config)
    toy.train(3)
    save(toy, directory, config)


def load_and_save(path: Path, walk: list[str], directory: Path, training: dict) -> None:
    """Loads under each sharding what the one before has saved."""
    for number, kind in enumerate(walk):
        config = toy_config(kind, **training)
        toy = ToyTraining(config)
        toy.restore(path)
        path = save(toy, directory / str(number), config)


def walk_with(directory: Path, optimizers: list[str]) -> None:
    for optimizer in optimizers:
        training = {"sparse_optimizer": optimizer}
        train_and_save(directory / optimizer, "row_wise", training)
        first = directory / optimizer / LAST
        load_and_save(first, WALK, directory / optimizer, training)


def test_the_walk_has_every_pair():
    assert set(pairwise(WALK)) == {(a, b) for a in KINDS for b in KINDS if a != b}


def test_every_sharding_loads_every_other(tmp_path):
    """Compares all values: Adagrad's are copied to the parts of columns, and averaged back."""
    optimizers = ["rowwise_adagrad", "sgd"]
    on_ranks(2, walk_with, tmp_path, optimizers)
    for optimizer in optimizers:
        expected = tensors_of(tmp_path / optimizer / LAST)
        assert (MOMENTUM in expected) == (optimizer == "rowwise_adagrad")
        for number, kind in enumerate(WALK):
            tensors = tensors_of(tmp_path / optimizer / str(number) / LAST)
            assert tensors.keys() == expected.keys()
            for name in expected:
                if name.endswith("momentum1") and kind == "column_wise":
                    parts = tensors[name].view(2, ROWS)
                    assert torch.equal(parts, expected[name].expand(2, ROWS))
                else:
                    assert torch.equal(tensors[name], expected[name]), (kind, name)


@pytest.mark.slow
def test_the_number_of_ranks_may_change(tmp_path):
    on_ranks(2, train_and_save, tmp_path / "first", "row_wise", {})
    walk = ["row_wise", "column_wise"]
    on_ranks(1, load_and_save, tmp_path / "first" / LAST, walk, tmp_path / "one", {})
    on_ranks(2, load_and_save, tmp_path / "one" / "1" / LAST, ["table_wise"], tmp_path / "two", {})
    expected = tensors_of(tmp_path / "first" / LAST)
    tensors = tensors_of(tmp_path / "two" / "0" / LAST)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def continue_under(path: Path, kinds: list[str], directory: Path) -> None:
    train_and_save(path, "row_wise", {})
    for kind in kinds:
        config = toy_config(kind)
        toy = ToyTraining(config)
        toy.restore(path / LAST)
        toy.train(3)
        save(toy, directory / kind, config)


def test_training_continues_equally_under_another_sharding(tmp_path):
    kinds = ["row_wise", "table_wise", "data_parallel"]
    on_ranks(2, continue_under, tmp_path / "first", kinds, tmp_path)
    expected = tensors_of(tmp_path / "row_wise" / "step-0000000006")
    for kind in kinds[1:]:
        tensors = tensors_of(tmp_path / kind / "step-0000000006")
        for name in expected:
            torch.testing.assert_close(tensors[name], expected[name], rtol=1e-5, atol=1e-6)


def test_row_wise_state_of_parts_is_weighted_by_their_columns():
    saved = torch.tensor([[1.0, 2.0], [3.0, 6.0]])  # [parts, rows]
    parts = [(0, 6), (6, 2)]
    whole = torch.full((3,), -1.0)
    RowState("momentum1", whole, parts, [(0, 8)], 2, 3).fill(saved.view(-1))
    # (6 x 1 + 2 x 3) / 8; row 2 is new.
    torch.testing.assert_close(whole, torch.tensor([1.5, 3.0, -1.0]))


def test_row_wise_state_of_a_part_is_that_of_the_columns_it_has():
    saved = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    halves = [(0, 4), (4, 4)]
    state = torch.full((2, 2), -1.0)
    # Plain tensors have the first part alone.
    RowState("momentum1", state[0], [(0, 6), (6, 2)], halves, 2, 2).fill(saved.view(-1))
    torch.testing.assert_close(state[0], torch.tensor([1.0, 2.0]))
    assert sum(width for _, width in halves) == DIM
