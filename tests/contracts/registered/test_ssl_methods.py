"""Contract of the self-supervised methods: a new one is tested by being listed in `METHODS`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.checkpoint.manifest import checkpoint_path, read_checkpoint
from recsys.checkpoint.state import checkpoint_state, restore
from recsys.checkpoint.writer import CheckpointWriter
from recsys.config.ssl import SSL_SETTINGS
from recsys.config.study import method_arm
from recsys.data.builder import BatchBuilder
from recsys.ssl.methods import METHODS
from recsys.studies.arms import trials_of
from recsys.training.launch import single_process_group
from tests.support.parity import (
    BATCH,
    CPU,
    Case,
    Trained,
    assert_same,
    sharded_case,
    train_case,
    train_on,
    trainer_of,
    whole,
)
from tests.support.small_batches import config, local_batch, prepared
from tests.support.ssl_batches import assert_padding_has_no_influence
from tests.support.toy import progress

# Odd, so that a rank of two has padding.
ITEMS_OF_STEP = 13
LEARNING_STEPS = 80
STEPS, KILLED_AT = 6, 3

# Every method as it is by default, and switches of some that change how it is trained.
SECTIONS: dict[str, dict[str, Any]] = {
    **{
        method: {"method": method, "batch_size": ITEMS_OF_STEP}
        for method, settings in SSL_SETTINGS.items()
        if settings in METHODS
    },
    "rfm on training items": {"method": "rfm", "items": "training"},
    "cfm with a head": {"method": "cfm", "batch_size": ITEMS_OF_STEP, "projection": 8},
    "cfm with a tower": {
        "method": "cfm",
        "batch_size": ITEMS_OF_STEP,
        "views": "independent",
        "value_dropout": 0.3,
        "shared_layers": "inputs",
    },
}


def case(name: str) -> Case:
    return Case("row_wise", {"ssl": SECTIONS[name]})


@pytest.fixture(scope="module")
def trained() -> tuple[dict[str, Trained], dict[str, Trained]]:
    """Trains each method on one rank, and on two."""
    one, two = (train_on(ranks, [case(name) for name in SECTIONS]) for ranks in (1, 2))
    return dict(zip(SECTIONS, one, strict=True)), dict(zip(SECTIONS, two, strict=True))


def test_every_method_with_views_has_a_loss() -> None:
    assert set(METHODS) == {s for s in SSL_SETTINGS.values() if s().view_plan is not None}


@pytest.mark.parametrize("method", SSL_SETTINGS)
def test_a_study_can_tune_it(method: str) -> None:
    trials = trials_of(config(), method, method_arm(method), trials=4)
    assert len(trials) == 4
    assert all(values["ssl.method"] == method for values in trials)


@pytest.mark.parametrize("name", SECTIONS)
def test_two_ranks_equal_one(trained, name: str) -> None:
    one, two = trained
    assert_same(two[name], one[name])


def run(name: str, first: int, stop: int, directory: Path, saved: int | None = None) -> Any:
    """Trains to before step `stop`, from a checkpoint unless `first` is 0; returns all tensors."""
    with sharded_case(case(name)) as (settings, sharded, optimizers):
        if first:
            checkpoint = read_checkpoint(checkpoint_path(directory, first))
            restore(checkpoint, sharded, optimizers.combined)
        builder = BatchBuilder(prepared(), settings)
        trainer = trainer_of(settings, sharded, optimizers, STEPS, interval=STEPS)
        batches = (builder.training(local_batch(step, BATCH), 0, 1) for step in range(first, stop))
        losses = [float(parts["ssl"]) for parts, _ in trainer.plain_steps(batches, first)]
        state = checkpoint_state(sharded, optimizers.combined)
        if saved is not None:
            writer = CheckpointWriter(directory, settings, "", {})
            writer.save(state, progress(saved))
            writer.wait()
        return losses, whole(state)


@pytest.fixture(scope="module")
def group() -> Iterator[None]:
    with single_process_group(CPU):
        yield


@pytest.mark.parametrize("name", SECTIONS)
def test_a_killed_training_equals_one_that_was_not(group, tmp_path: Path, name: str) -> None:
    losses, expected = run(name, 0, STEPS, tmp_path)
    before, _ = run(name, 0, KILLED_AT, tmp_path, saved=KILLED_AT)
    after, resumed = run(name, KILLED_AT, STEPS, tmp_path)
    assert [*before, *after] == losses
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", SECTIONS)
def test_padding_has_no_influence(name: str) -> None:
    assert_padding_has_no_influence(config(ssl=SECTIONS[name]).ssl)


@pytest.mark.parametrize("name", SECTIONS)
def test_it_learns_which_features_belong_together(group, name: str) -> None:
    sections = {
        "ssl": {**SECTIONS[name], "alpha": 1.0},
        "training": {"sparse_learning_rate": 0.1, "dense_learning_rate": 0.01},
    }
    trained = train_case(Case("row_wise", sections), steps=LEARNING_STEPS)
    losses = [parts["ssl"] for parts in trained.losses]
    first, last = np.mean(losses[:10]), np.mean(losses[-10:])
    assert last < first - 0.3 * abs(first)
