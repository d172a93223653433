"""Batches are built ahead, waiting for them is measured, and a position belongs to its order."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch

from feature_store.core.errors import UserError
from feature_store.core.manifests import write_manifest
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.manifest import CHECKPOINTS, CheckpointManifest, Progress
from recsys.data.loader import PREFETCH, Prefetched, TimedIterator, in_process_batches, pacing
from recsys.training.launch import single_process_group
from recsys.training.rank import train_on_rank
from recsys.training.run import training_plan
from tests.support.ranks import run_of


def numbers(count, made, error=None):
    for number in range(count):
        made.append(number)
        yield {"number": np.array([number])}
    if error is not None:
        raise error


def test_batches_are_built_ahead_but_not_without_bound():
    made = []
    with closing(Prefetched(numbers(1000, made))) as batches:
        assert int(next(batches)["number"][0]) == 0
        for _ in range(100):
            if len(made) == PREFETCH + 2:
                break
            time.sleep(0.02)
        time.sleep(0.2)
        assert len(made) == PREFETCH + 2  # One was taken, and one waits for room.
    assert not any(thread.name == "loader" for thread in threading.enumerate())


def test_the_end_and_errors_of_a_source_arrive_in_order():
    batches = Prefetched(numbers(3, [], error=UserError("no disk")))
    assert [int(next(batches)["number"][0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="no disk"):
        next(batches)
    assert [int(batch["number"][0]) for batch in Prefetched(numbers(3, []))] == [0, 1, 2]


def test_the_control_loop_of_ray_data_is_slowed_down(ray_session):
    import ray.data

    steps = []

    class Counted(pacing()):
        def on_execution_step(self, executor):
            super().on_execution_step(executor)
            steps.append(executor)

    dataset = ray.data.range(2)
    dataset.context.custom_execution_callback_classes = [Counted]
    dataset.materialize()
    assert steps, (
        "Ray Data calls no `on_execution_step` of its execution callbacks: look for the hook into "
        "its streaming executor's loop, and adapt `recsys.data.loader.pacing`"
    )


def test_waiting_for_batches_is_measured():
    def slowly():
        for number in numbers(5, []):
            time.sleep(0.02)
            yield number

    batches = TimedIterator(slowly())
    started = time.perf_counter()
    for _ in batches:
        time.sleep(0.1)
    waited = batches.seconds
    assert 5 * 0.02 <= waited <= time.perf_counter() - started - 5 * 0.1


def test_a_checkpoint_of_another_order_is_an_error(planted, tmp_path):
    plan = training_plan(Prepared(planted.prepared_dir), planted)
    checkpoint = tmp_path / CHECKPOINTS / "step-00000003"
    checkpoint.mkdir(parents=True)
    values = {"step": 3, "best_step": 3, "best_value": 0.5, "stale": 0}
    manifest = CheckpointManifest(
        progress=Progress(plan=plan.identity[::-1], **values),
        world_size=1,
        schema_fingerprint="",
        config=planted,
        tables={},
        shapes={},
        files={},
    )
    write_manifest(checkpoint, manifest)
    with (
        single_process_group(torch.device("cpu")),
        pytest.raises(UserError, match="a training on other examples than those of"),
    ):
        train_on_rank(run_of(planted, tmp_path), torch.device("cpu"), in_process_batches)
