"""Training learns, is the same on any number of ranks, and survives being killed."""

import json
import shutil
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import ProcessExitedException

from feature_store.core.errors import UserError
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.training_manifest import METRICS_FILE, work_dir_of
from recsys.config.training import RayTrainConfig
from recsys.data.loader import in_process_batches, ray_batches
from recsys.data.reader import read_steps
from recsys.stages.evaluate import evaluate
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from recsys.training.launch import single_process_group
from recsys.training.rank import train_on_rank
from recsys.training.run import TrainingRun, plan_run, training_plan
from tests.support.hostile.listeners import Listener, assert_on_loopback, listeners
from tests.support.planted import planted_config, write_planted_log
from tests.support.ranks import run_of, saved_tensors, seen_pairs, start_ranks, train_on_ranks

SAME_ON_ALL_RANKS = {"dropout": 0.0}  # The towers' dropout differs from rank to rank.


def short(config, **training):
    """Returns a configuration of few steps over the same prepared data."""
    keys = {"epochs": 2, "patience": 50, "averaging": 1.0, **training}
    return config.model_copy(
        update={
            "model": config.model.model_copy(update=SAME_ON_ALL_RANKS),
            "training": config.training.model_copy(update=keys),
        }
    )


def losses(work_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (work_dir / METRICS_FILE).read_text().splitlines()]
    for line in lines:
        if "examples_per_second" in line:
            assert line.pop("examples_per_second") > 0
            assert 0 <= line.pop("loader_wait") <= 1
    return lines


def assert_same_lines(lines, expected):
    """Asserts that lines are equal up to the order of sums, which can swap two items of a list."""
    for first, second in zip(lines, expected, strict=True):
        tolerance = {"abs": 0.02} if any("@" in name for name in first) else {"rel": 1e-4}
        assert first == pytest.approx(second, **tolerance)


def test_two_ranks_equal_one(planted, tmp_path):
    config = short(planted, epochs=1)
    for ranks in (1, 2):
        train_on_ranks(config, tmp_path / str(ranks), ranks)
    one, two = (saved_tensors(tmp_path / str(ranks)) for ranks in (1, 2))
    assert one.keys() == two.keys()
    assert any("embedding_bags" in name and "momentum" in name for name in one)
    assert any("embedding_bags" in name and name.startswith("average.") for name in one)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4, msg=name)
    assert_same_lines(losses(tmp_path / "2"), losses(tmp_path / "1"))


@pytest.mark.slow
def test_three_ranks_equal_one_though_batches_cannot_be_split_equally(planted, tmp_path):
    config = short(planted, epochs=1, batch_size=100)
    config = config.model_copy(update={"ssl": config.ssl.model_copy(update={"batch_size": 50})})
    for ranks in (1, 3):
        train_on_ranks(config, tmp_path / str(ranks), ranks)
    one, three = (saved_tensors(tmp_path / str(ranks)) for ranks in (1, 3))
    for name in one:
        torch.testing.assert_close(three[name], one[name], rtol=1e-3, atol=1e-4, msg=name)
    assert_same_lines(losses(tmp_path / "3"), losses(tmp_path / "1"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_killed_run_equals_an_unkilled_one(planted, tmp_path, ranks):
    config = short(planted)
    steps = training_plan(Prepared(config.prepared_dir), config).steps_per_epoch
    train_on_ranks(config, tmp_path / "whole", ranks)
    with pytest.raises(ProcessExitedException):
        train_on_ranks(config, tmp_path / "killed", ranks, killed_after=steps)
    train_on_ranks(config, tmp_path / "killed", ranks)
    whole, killed = saved_tensors(tmp_path / "whole"), saved_tensors(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 3, marks=pytest.mark.slow)])
def test_a_run_killed_mid_epoch_is_resumed_on_another_number_of_ranks(
    planted, tmp_path, before, after
):
    config = short(planted, validations_per_epoch=2)
    plan = training_plan(Prepared(config.prepared_dir), config)
    train_on_ranks(config, tmp_path / "whole", 1)
    interval = -(-plan.steps_per_epoch // 2)
    saved = (plan.steps_per_epoch // interval + 1) * interval
    assert saved % plan.steps_per_epoch
    with pytest.raises(ProcessExitedException):
        train_on_ranks(config, tmp_path / "killed", before, killed_after=saved)
    train_on_ranks(config, tmp_path / "killed", after)
    assert_same_lines(losses(tmp_path / "killed"), losses(tmp_path / "whole"))
    # Steps after the checkpoint are lost with the model, and done again.
    seen = seen_pairs(tmp_path / "killed", 0, saved)
    seen += seen_pairs(tmp_path / "killed", saved, plan.total_steps)
    every = Counter(seen_pairs(tmp_path / "whole", 0, plan.total_steps))
    assert len(every) == plan.rows
    assert set(every.values()) == {plan.epochs}
    assert Counter(seen) == every


def test_row_wise_and_table_wise_shards_are_both_used(planted, tmp_path):
    train_on_ranks(short(planted, epochs=1), tmp_path, 2)
    plan = (tmp_path / "sharding.txt").read_text()
    assert "row_wise" in plan
    assert "table_wise" in plan


def test_batches_of_ray_data_are_those_of_the_thread(planted, ray_session):
    config = short(planted, ray=RayTrainConfig(workers=2))
    plan = training_plan(Prepared(config.prepared_dir), config)
    start = plan.steps_per_epoch - 2  # The steps lead from an epoch into the next one.
    in_process = list(in_process_batches(plan, config, 1, 3, start))
    streamed = list(ray_batches(plan, config, 1, 3, start, task_windows=0))  # A task for each step.
    assert len(in_process) == len(streamed) == plan.total_steps - start
    for expected, batch in zip(in_process, streamed, strict=True):
        for name, array in vars(expected).items():
            assert np.array_equal(array, getattr(batch, name)), name


def test_every_example_is_read_once_an_epoch(planted):
    config = short(planted, batch_size=16)
    plan = training_plan(Prepared(config.prepared_dir), config)
    steps = plan.steps_per_epoch
    for epoch in range(2):
        seen = [
            pair
            for local in read_steps(plan, epoch * steps, (epoch + 1) * steps, 0, 1)
            for pair in zip(local.query.tolist(), local.item.tolist(), strict=True)
        ]
        assert len(seen) == len(set(seen)) == plan.rows


def test_planted_structure_is_learnt(planted, trained):
    assert trained.validation["recall@10"] > 0.95
    assert trained.best_step <= trained.steps


def test_a_training_of_few_steps_averages_those_that_it_has(planted, tmp_path):
    config = short(planted, batch_size=32)
    run, plan = plan_run(config, Prepared(config.prepared_dir), tmp_path, steps=2)
    assert plan.steps_per_epoch > 48  # Updates are further apart than so few steps.
    with single_process_group(torch.device("cpu")):
        train_on_rank(run, torch.device("cpu"), in_process_batches)
    saved = saved_tensors(tmp_path)
    averages = {n.removeprefix("average."): v for n, v in saved.items() if n.startswith("average.")}
    assert averages
    assert all(torch.equal(saved[name], value) for name, value in averages.items())


def test_a_loss_that_is_not_finite_is_an_error(planted, tmp_path):
    config = short(planted, sparse_learning_rate=1e30, dense_learning_rate=1e30)
    with pytest.raises(Exception, match="the loss is not finite at step") as error:
        train_on_ranks(config, tmp_path, 1)
    assert UserError.__name__ in str(error.value)


def test_training_resumes_before_a_loss_that_is_not_finite(planted, tmp_path):
    config = short(planted, checkpoint_every=4)
    train_on_ranks(config, tmp_path / "whole", 2)
    with pytest.raises(Exception, match="the loss is not finite at step 14"):
        train_on_ranks(config, tmp_path / "poisoned", 2, poisoned_at=13)
    assert all(v.isfinite().all() for v in saved_tensors(tmp_path / "poisoned").values())
    train_on_ranks(config, tmp_path / "poisoned", 2)
    whole, mended = saved_tensors(tmp_path / "whole"), saved_tensors(tmp_path / "poisoned")
    assert all(torch.equal(whole[name], mended[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "poisoned")


def train_differently(rank: int, runs: list[TrainingRun], work_dir: Path) -> None:
    store = dist.FileStore(str(work_dir / "store"), len(runs))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=len(runs))
    try:
        train_on_rank(runs[rank], torch.device("cpu"), in_process_batches)
    except UserError as error:
        (work_dir / f"rank-{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


def test_ranks_with_different_configurations_all_say_so(planted, tmp_path):
    configs = [short(planted), short(planted), short(planted, seed=1)]
    runs = [run_of(config, tmp_path) for config in configs]
    start_ranks(train_differently, 3, runs, tmp_path)
    for rank in range(3):
        text = (tmp_path / f"rank-{rank}.txt").read_text()
        assert text.startswith("rank 2 has another configuration than rank 0")


def test_a_model_of_shuffled_labels_is_not_better_than_popularity(tmp_path, tracking_uri):
    write_planted_log(tmp_path / "log", shuffled=True)
    config = planted_config(
        tmp_path / "log",
        tmp_path / "out",
        tracking={"uri": tracking_uri},
        training={"epochs": 4, "batch_size": 128},
        # Its items have equally many events, so what is rare in training is frequent in the test,
        # which the dial would learn on validation.
        ranking={"channels": []},
    )
    prepare(config)
    train(config)
    result = evaluate(config)
    _, high = result.baselines["popularity"].overall["recall@10_ci"]
    assert result.overall["recall@10"] <= high + 0.02


def own_output(config, directory: Path):
    """Copies the prepared data into another output, so that trainings do not meet."""
    copy = config.model_copy(update={"output": str(directory)})
    shutil.copytree(config.prepared_dir, copy.prepared_dir)
    return copy


@pytest.mark.slow
def test_an_error_in_a_worker_of_ray_is_the_users(planted, tmp_path, ray_session):
    rates = {"sparse_learning_rate": 1e30, "dense_learning_rate": 1e30}
    config = short(own_output(planted, tmp_path), ray=RayTrainConfig(workers=2), **rates)
    with pytest.raises(UserError, match="the loss is not finite at step"):
        train(config)
    assert not config.train_dir.exists()


def kill_a_worker(
    metrics: Path, from_step: int, killed: list[int], listening: set[Listener]
) -> None:
    """Waits for a line of metrics, lists who listens, then kills a process that Ray trains in."""
    for _ in range(60_000):
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        if lines and json.loads(lines[-1])["step"] >= from_step:
            break
        time.sleep(0.002)
    listening |= listeners()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # Others end at the same time.
            if "RayTrainWorker" in " ".join(process.cmdline()):
                process.kill()
                killed.append(process.pid)
                return


@pytest.mark.slow
def test_a_worker_of_ray_that_is_killed_is_replaced(planted, tmp_path, ray_session):
    """Kills a worker in the middle: the training ends by itself, as one without Ray does."""
    settings = {"epochs": 4, "checkpoint_every": 4}
    config = short(
        own_output(planted, tmp_path / "ray"),
        ray=RayTrainConfig(workers=2, max_failures=1),
        **settings,
    )
    train_on_ranks(config, tmp_path / "whole", 2)
    killed: list[int] = []
    listening: set[Listener] = set()
    metrics = work_dir_of(config) / METRICS_FILE
    killer = threading.Thread(target=kill_a_worker, args=(metrics, 20, killed, listening))
    killer.start()
    manifest = train(config)
    killer.join()
    assert killed
    assert_on_loopback(listening, "RayTrainWorker", "raylet", "gcs_server")
    plan = training_plan(Prepared(config.prepared_dir), config)
    assert manifest.steps == plan.total_steps
    assert losses(config.train_dir) == losses(tmp_path / "whole")
    assert train(config) == manifest
