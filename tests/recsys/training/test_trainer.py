"""Steps are repeatable, and equal where they are pipelined; the loop does what is due."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from recsys.checkpoint.manifest import Progress
from recsys.config.training import TrainingConfig
from recsys.data.builder import BatchBuilder
from recsys.evaluation.selection import Score
from recsys.training.launch import single_process_group
from recsys.training.numerics import repeatable
from recsys.training.pipelining import pipelined_steps
from recsys.training.schedules import annealing_steps
from recsys.training.trainer import Trainer
from tests.support.parity import BATCH, CPU, Case, sharded_case, train_case, trainer_of, whole
from tests.support.small_batches import local_batch, prepared

STEPS, INTERVAL = 7, 3
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def group():
    with single_process_group(CPU):
        yield


def batches_from(settings, first):
    builder = BatchBuilder(prepared(), settings)
    for step in range(first, STEPS):
        yield builder.training(local_batch(step, BATCH), 0, 1)


def run(case, is_pipelined, first=0, device=CPU):
    """Returns losses of each step, what evaluation saw between them, and all tensors at the end."""
    with sharded_case(case, device) as (settings, sharded, optimizers):
        trainer = trainer_of(settings, sharded, optimizers, STEPS, INTERVAL)
        batches = batches_from(settings, first)
        steps = pipelined_steps if is_pipelined else Trainer.plain_steps
        losses, seen = [], []
        for step, (parts, batch) in enumerate(steps(trainer, batches, first), start=first + 1):
            losses.append(float(parts["main"]))
            if step % INTERVAL == 0 or step == STEPS:
                with torch.no_grad():
                    seen.append(trainer.model(batch).items.sum().item())
        return losses, seen, whole(sharded.state_dict())


def assert_pipelined_steps_are_the_plain_ones(case, first, device):
    plain, pipelined = (run(case, is_pipelined, first, device) for is_pipelined in (False, True))
    assert len(plain[0]) == STEPS - first
    assert plain[:2] == pipelined[:2]
    for name, tensor in plain[2].items():
        assert torch.equal(tensor, pipelined[2][name]), name


@pytest.mark.parametrize("kind", ["table_wise", "data_parallel", "row_wise"])
@pytest.mark.parametrize("first", [0, 2])
def test_pipelined_steps_are_those_of_the_plain_loop(group, kind, first):
    assert_pipelined_steps_are_the_plain_ones(Case(kind), first, CPU)


@needs_cuda
@pytest.mark.parametrize("kind", ["table_wise", "row_wise"])
def test_pipelined_steps_on_a_gpu_are_those_of_the_plain_loop(kind):
    """Compares bits, with real streams and pinned memory; so kernels must sum in one order."""
    device = torch.device("cuda", 0)
    with repeatable(TrainingConfig(deterministic=True), device), single_process_group(device):
        assert_pipelined_steps_are_the_plain_ones(Case(kind), 0, device)


class Recorder:
    """Log, validator and checkpoint writer in one, which notes their calls.

    Args:
        scores: Score of each validation; a number has no finer metric.
    """

    def __init__(self, scores: list[Score | float | None]) -> None:
        self._scores = iter(scores)
        self.calls: list[Any] = []

    def add(self, losses):
        self.calls.append(losses["step"])

    def write(self, step):
        self.calls.append("log")

    def validate(self, step, batch):
        self.calls.append("validate")
        score = next(self._scores)
        return Score(score, 0.0) if isinstance(score, float) else score

    def save(self, state, progress):
        self.calls.append((progress.step, progress.best_step, progress.stale))

    def restart_clock(self):
        self.calls.append("clock")

    def check(self):
        pass

    wait = check


class Loop(Trainer):
    """Trainer whose steps do nothing."""

    def __init__(self, settings: TrainingConfig, total_steps: int, validation_steps: int) -> None:
        self.settings = settings
        self.total_steps = total_steps
        self.annealing = annealing_steps(settings.schedule, total_steps)
        self.validation_steps = validation_steps
        self.average = None

    def steps(self, batches, first):
        step = first
        while step < self.total_steps:  # It may come nearer meanwhile.
            step += 1
            yield {"step": step}, None

    def state(self):
        return {}


def loop(values, *, total=6, validation_steps=2, start=None, **settings):
    recorder = Recorder(values)
    progress = start or Progress(step=0, plan="", best_step=0, best_value=None, stale=0)
    trainer = Loop(TrainingConfig(**settings), total, validation_steps)
    trainer.train(
        iter(()), progress, recorder, recorder, recorder, lambda: recorder.calls.append("called")
    )
    return recorder.calls


def test_the_loop_logs_validates_saves_and_tells_in_this_order():
    assert loop([0.1, 0.3], total=5, validation_steps=3, checkpoint_every=2) == [
        *(1, 2, "log", (2, 0, 0)),
        *(3, "log", "validate", (3, 3, 0), "called", "clock"),
        *(4, "log", (4, 3, 0)),
        *(5, "log", "validate", (5, 5, 0), "called", "clock"),
    ]


def test_losses_are_logged_every_20_steps():
    calls = loop([0.1], total=50, validation_steps=50)
    assert [calls[i - 1] for i, call in enumerate(calls) if call == "log"] == [20, 40, 50]


def test_the_loop_ends_when_validations_no_longer_improve():
    saved = [
        call for call in loop([0.5, 0.5, 0.4, 0.9], total=8, patience=2) if type(call) is tuple
    ]
    assert saved == [(2, 2, 0), (4, 2, 1), (6, 2, 2)]


ANNEALED = {"schedule": {"kind": "infinite", "anneal_fraction": 0.3}}


def test_a_checkpoint_is_taken_before_annealing():
    calls = loop([0.1, 0.2, 0.3], total=10, validation_steps=4, **ANNEALED)
    assert [call for call in calls if type(call) is tuple] == [
        *((4, 4, 0), (7, 4, 0), (8, 8, 0), (10, 10, 0))
    ]


def test_patience_begins_to_anneal_where_the_schedule_is_infinite():
    """Tests that rates anneal from step 4, where patience ends, in 6 steps as planned for 20."""
    calls = loop([0.5, 0.4, 0.6, 0.7, 0.8], total=20, patience=1, **ANNEALED)
    saved = [call for call in calls if type(call) is tuple]
    assert saved == [(2, 2, 0), (4, 2, 1), (6, 6, 0), (8, 8, 0), (10, 10, 0)]


def test_a_training_that_was_killed_while_it_anneals_ends_at_the_same_step():
    start = Progress(step=6, plan="", best_step=6, best_value=0.6, stale=0, annealing_from=4)
    saved = [
        call
        for call in loop([0.7, 0.8], total=20, patience=1, start=start, **ANNEALED)
        if type(call) is tuple
    ]
    assert saved == [(8, 8, 0), (10, 10, 0)]
    assert start.continued_step == 4
    assert not start.is_over(20, patience=1, annealing=6)
    assert start.at_step(10).is_over(20, patience=1, annealing=6)


def test_a_best_checkpoint_from_before_annealing_is_the_one_to_go_on_from():
    progress = Progress(step=10, plan="", best_step=2, best_value=0.5, stale=4, annealing_from=4)
    assert progress.continued_step == 2


def test_equal_values_are_told_apart_by_the_finer_metric():
    """Tests that a rise of the finer metric alone makes the best checkpoint, and keeps patience."""
    ties = [Score(1.0, finer) for finer in (0.2, 0.3, 0.3, 0.25, 0.5)]
    saved = [call for call in loop(ties, total=10, patience=3) if type(call) is tuple]
    assert saved == [(2, 2, 0), (4, 4, 0), (6, 4, 1), (8, 4, 2), (10, 10, 0)]
    # The finer metric does not outweigh the other.
    assert (4, 2, 1) in loop([Score(0.9, 0.1), Score(0.8, 0.9)], total=4)


def test_a_resumed_training_breaks_ties_as_an_unkilled_one_does():
    progress = Progress(step=0, plan="", best_step=0, best_value=None, stale=0)
    resumed = progress
    for step, finer in enumerate((0.3, 0.2, 0.3, 0.4), 1):
        progress = progress.at_step(step).after_validation(Score(1.0, finer))
        stored = resumed.model_dump_json()
        resumed = Progress.model_validate_json(stored).at_step(step)
        resumed = resumed.after_validation(Score(1.0, finer))
        assert resumed == progress
    assert (progress.best_step, progress.best_finer, progress.stale) == (4, 0.4, 0)


def test_without_validation_events_the_last_step_is_the_best():
    saved = [call for call in loop([None] * 3, patience=1) if type(call) is tuple]
    assert saved == [(2, 2, 0), (4, 4, 0), (6, 6, 0)]


def test_clipping_bounds_the_norm_of_all_dense_gradients_together(group):
    clipped = {"gradient_clipping": 1e-3}
    with sharded_case(Case("table_wise", {"training": clipped})) as (settings, sharded, optimizers):
        trainer = trainer_of(settings, sharded, optimizers, STEPS, INTERVAL)
        trainer.begin_step(0)
        for parameter in optimizers.dense:
            parameter.grad = torch.ones_like(parameter)
        trainer.finish_step(0, torch.tensor(1.0))
        norm = torch.nn.utils.get_total_norm([p.grad for p in optimizers.dense])
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_same_seed_gives_the_same_bits(group, threads, precision):
    case = Case("row_wise", {"sharding": {"precision": precision}, "model": {"dropout": 0.2}})
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with repeatable(TrainingConfig(), CPU):
            first, second = (train_case(case, steps=4) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert first.losses == second.losses
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name


def test_another_seed_gives_other_losses(group):
    case = Case("row_wise")
    other = replace(case, sections={"training": {"seed": 1}})
    assert train_case(case, steps=1).losses != train_case(other, steps=1).losses
