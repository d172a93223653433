"""Checkpoints are whole or absent, and hold the state of the moment they were asked for."""

import errno
import resource
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

from feature_store.core.errors import UserError
from recsys.checkpoint.manifest import (
    damage_of,
    latest_checkpoint,
    read_checkpoint,
    remove_old_checkpoints,
)
from recsys.distributed.ranks import check_equal_facts
from tests.support.ranks import tensors_of
from tests.support.toy import ToyTraining, on_ranks, progress, save, toy_config, toy_writer


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if "store" not in path.name)


def train_while_it_is_written(directory: Path) -> None:
    config = toy_config()
    toy = ToyTraining(config)
    writer = toy_writer(directory / "slow", config)
    saved, is_free = dcp.save, threading.Event()

    def slowly(*arguments, **options):
        assert is_free.wait(60)
        return saved(*arguments, **options)

    dcp.save = slowly
    try:
        toy.train(2)
        writer.save(toy.state(), progress(2))
        toy.train(2)  # The checkpoint must not see these.
        assert not list((directory / "slow").glob("step-*"))
        is_free.set()
        writer.save(toy.state(), progress(4))  # Waits for the one before.
        writer.close()
    finally:
        dcp.save = saved
    writer.check()
    for steps in (2, 4):
        again = ToyTraining(config)
        again.train(steps)
        save(again, directory / "plain", config)


def test_a_checkpoint_is_of_the_moment_it_was_asked_for(tmp_path):
    on_ranks(2, train_while_it_is_written, tmp_path)
    for step in (2, 4):
        tensors = tensors_of(tmp_path / "slow" / f"step-{step:010d}")
        expected = tensors_of(tmp_path / "plain" / f"step-{step:010d}")
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def keep(directory: Path) -> None:
    config = toy_config(keep_checkpoints=2)
    toy = ToyTraining(config)
    writer = toy_writer(directory, config)
    for step, best in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 2)):
        toy.train(1)
        writer.save(toy.state(), progress(step, best))
    writer.wait()


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    on_ranks(1, keep, tmp_path)
    assert names(tmp_path) == [f"step-{step:010d}" for step in (2, 4, 5)]
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.manifest.progress == progress(5, 2)
    assert latest.manifest.shapes["model.model.tower.weight"] == (4, 16)
    # A truncated file makes the one before it the latest.
    file = next(latest.path.glob("*.distcp"))
    with file.open("r+b") as data:
        data.truncate(100)
    size = latest.manifest.files[file.name]
    assert damage_of(*latest) == f"{file.name} has 100 bytes instead of {size}"
    warnings: list[str] = []
    earlier = latest_checkpoint(tmp_path, warnings.append)
    assert earlier is not None
    assert earlier.manifest.progress.step == 4
    assert "step-0000000005 is damaged" in warnings[0]
    (earlier.path / "manifest.json").write_text("{")
    best = latest_checkpoint(tmp_path, warnings.append)
    assert best is not None
    assert best.manifest.progress.step == 2
    remove_old_checkpoints(tmp_path, 1)
    assert names(tmp_path) == ["step-0000000002"]


def keep_before_annealing(directory: Path) -> None:
    config = toy_config(keep_checkpoints=1)
    toy = ToyTraining(config)
    writer = toy_writer(directory, config)
    for step in range(1, 6):
        toy.train(1)
        annealing = {"annealing_from": 2} if step >= 2 else {}
        writer.save(toy.state(), progress(step, step).model_copy(update=annealing))
    writer.wait()


def test_the_checkpoint_before_annealing_is_kept(tmp_path):
    on_ranks(1, keep_before_annealing, tmp_path)
    assert names(tmp_path) == [f"step-{step:010d}" for step in (2, 5)]


def fill_the_disk(directory: Path, is_simulated: bool) -> None:
    config = toy_config()
    toy = ToyTraining(config)
    toy.train(1)
    save(toy, directory, config)
    toy.train(1)
    writer = toy_writer(directory, config)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    saved = dcp.save

    def full(*arguments, **options):
        saved(*arguments, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    if is_simulated:
        dcp.save = full
    else:  # The system refuses what is larger, in the middle of a file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    writer.save(toy.state(), progress(2))
    try:
        for _ in range(1_000):  # The training loop checks after every step.
            writer.check()
            time.sleep(0.01)
        raise AssertionError("no error")
    except UserError as error:
        (directory / "error.store.txt").write_text(str(error)[:1_900])
    finally:
        dcp.save = saved
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.close()


@pytest.mark.parametrize(("ranks", "is_simulated"), [(1, True), (1, False), (2, False)])
def test_a_full_disk_is_a_clear_error_and_harms_nothing(tmp_path, ranks, is_simulated):
    on_ranks(ranks, fill_the_disk, tmp_path, is_simulated)
    error = (tmp_path / "error.store.txt").read_text()
    assert error.startswith("the disk is full: the checkpoint of step 2 could not be written to")
    assert "run `recsys train` again" in error
    assert names(tmp_path) == ["step-0000000001"]
    path, manifest = read_checkpoint(tmp_path / "step-0000000001")
    assert damage_of(path, manifest) is None


def leave_and_start(directory: Path) -> None:
    (directory / ".step-0000000007.0123456789ab.tmp").mkdir()
    toy_writer(directory, toy_config())


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    on_ranks(1, leave_and_start, tmp_path)
    assert names(tmp_path) == []


def spoil(directory: Path) -> None:
    """Replaces the bytes of the files by wrong ones, of the right size."""
    config = toy_config()
    toy = ToyTraining(config)
    toy.train(1)
    path = save(toy, directory, config)
    for file in path.glob("*.distcp"):
        file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(UserError, match="corrupt: its files cannot be read"):
        ToyTraining(config).restore(path)


def test_a_corrupt_file_is_a_clear_error(tmp_path):
    on_ranks(1, spoil, tmp_path)


def test_ranks_that_differ_are_named():
    facts = {"configuration": "a", "prepared data": "b"}
    check_equal_facts([facts, dict(facts)])
    with pytest.raises(UserError, match="rank 2 has another prepared data than rank 0"):
        check_equal_facts([facts, facts, {**facts, "prepared data": "c"}])
