"""The average is as its formula says, in the model within a block alone, and what is loaded."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed.checkpoint as dcp

from recsys.checkpoint.state import AVERAGE, TOWERS, load_weights
from recsys.data.builder import BatchBuilder
from recsys.training.averaging import WeightAverage
from recsys.training.launch import single_process_group
from tests.support.parity import BATCH, CPU, Case, sharded_case, trainer_of, whole
from tests.support.small_batches import local_batch, prepared

# An update comes every second step where there are 32 between validations.
INTERVAL, EVERY, STEPS = 32, 2, 9


@pytest.fixture(scope="module", params=["table_wise", "row_wise", "data_parallel"])
def averaged(request):
    """Yields weights after each step, the average, and what trained it."""
    with (
        single_process_group(CPU),
        sharded_case(Case(request.param)) as (settings, sharded, optimizers),
    ):
        average = WeightAverage(sharded, optimizers, 0.25, INTERVAL)
        trainer = trainer_of(settings, sharded, optimizers, STEPS, INTERVAL)
        trainer.average = average
        builder = BatchBuilder(prepared(), settings)
        batches = (builder.training(local_batch(step, BATCH), 0, 1) for step in range(STEPS))
        after = []
        for step, _ in enumerate(trainer.plain_steps(batches, 0), start=1):
            average.update(step)
            after.append(weights(trainer.state()))
        yield after, average, trainer


def weights(state, prefix=""):
    """Returns copies of the towers' numbers, or of their averages, by name."""
    start = prefix + TOWERS
    chosen = {name: value for name, value in state.items() if name.startswith(start)}
    return {name.removeprefix(prefix): value for name, value in whole(chosen).items()}


def test_the_average_is_that_of_its_formula(averaged):
    after, _, trainer = averaged
    expected = None
    for number, step in enumerate(range(EVERY, STEPS + 1, EVERY), start=1):
        share = min(1.0, max(1 / (16 * 0.25), 2 / number))
        now = after[step - 1]
        if expected is None:
            expected = {name: value.clone() for name, value in now.items()}
        for name, value in expected.items():
            value.add_(share * (now[name] - value))
    found = weights(trainer.state(), AVERAGE)
    assert found.keys() <= expected.keys()
    assert any("embedding_bags" in name for name in found)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7, msg=name)
    assert any(not torch.equal(value, after[-1][name]) for name, value in found.items())


def test_the_model_has_the_average_within_a_block_and_its_own_weights_after_it(averaged):
    after, average, trainer = averaged
    expected = weights(trainer.state(), AVERAGE)
    with average.in_place():
        inside = weights(trainer.state())
    outside, kept = weights(trainer.state()), weights(trainer.state(), AVERAGE)
    for name, value in expected.items():
        assert torch.equal(inside[name], value), name
        assert torch.equal(outside[name], after[-1][name]), name
        assert torch.equal(kept[name], value), name


def test_a_checkpoint_gives_back_the_weights_to_train_and_the_average_to_rank_with(
    averaged, tmp_path
):
    after, _, trainer = averaged
    state = trainer.state()
    dcp.save(state, checkpoint_id=tmp_path / "saved")
    expected = weights(state, AVERAGE)
    loaded = {name.removeprefix(TOWERS): torch.zeros_like(v) for name, v in after[-1].items()}
    load_weights(tmp_path / "saved", SimpleNamespace(state_dict=lambda: loaded))
    for name, value in expected.items():
        assert torch.equal(loaded[name.removeprefix(TOWERS)], value), name
