"""The towers are read from a checkpoint of the objective, by the names that are stored."""

from pathlib import Path

import torch

from recsys.checkpoint.state import load_weights
from tests.support.ranks import tensors_of
from tests.support.toy import CPU, DIM, ROWS, WIDTH, Toy, ToyTraining, on_ranks, save, toy_config


def train_and_save(directory: Path) -> None:
    config = toy_config()
    toy = ToyTraining(config)
    toy.train(2)
    save(toy, directory, config)


def test_the_towers_are_loaded_without_the_losses_and_optimizers(tmp_path):
    on_ranks(2, train_and_save, tmp_path)
    path = tmp_path / "step-0000000002"
    model = Toy(ROWS, DIM, WIDTH).model.to_empty(device=CPU)
    load_weights(path, model)
    saved, loaded = tensors_of(path), model.state_dict()
    towers = [name for name in saved if name.startswith("model.model.")]
    assert "model.model.tables.embedding_bags.item/group.weight" in towers
    assert {f"model.model.{name}" for name in loaded} == set(towers)
    assert all(
        torch.equal(loaded[name.removeprefix("model.model.")], saved[name]) for name in towers
    )
