"""A training starts with the model before it: old rows stay as they were, new ones are fresh."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from feature_store.core.errors import UserError
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.doctor import diagnose
from recsys.checkpoint.manifest import read_checkpoint
from recsys.checkpoint.table_rows import moved_tables, table_rows
from recsys.checkpoint.training_manifest import CHECKPOINT, continued_checkpoint
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from tests.support.planted import planted_config, write_planted_log
from tests.support.ranks import tensors_of
from tests.support.toy import DIM, ROWS, ToyTraining, on_ranks, save, toy_config

LAST = "step-0000000003"
WEIGHT = "model.model.tables.embedding_bags.item/group.weight"
MOMENTUM = "optimizer.model.tables.embedding_bags.item/group.weight.momentum1"
NEW_ROWS = 12
FORGOTTEN = np.array([2, 17])


def grow(directory: Path, walk: list[tuple[str, str]]) -> None:
    """Trains under one sharding, starts with more rows under another, and saves that."""
    for before, after in walk:
        config = toy_config(before)
        toy = ToyTraining(config)
        toy.train(3)
        path = save(toy, directory / f"{before}-{after}", config)
        config = toy_config(after)
        fresh = ToyTraining(config, ROWS + NEW_ROWS)
        save(fresh, directory / "fresh" / after, config)
        grown = ToyTraining(config, ROWS + NEW_ROWS)
        grown.warm_start(path, {"item/group": FORGOTTEN})
        save(grown, directory / f"{before}-{after}" / "grown", config)


def test_tables_grow_under_every_sharding(tmp_path):
    kinds = ("row_wise", "column_wise", "data_parallel")
    walk = [(before, after) for before in kinds for after in kinds]
    on_ranks(2, grow, tmp_path, walk)
    for before, after in walk:
        directory = tmp_path / f"{before}-{after}"
        old, grown = tensors_of(directory / LAST), tensors_of(directory / "grown" / LAST)
        fresh = tensors_of(tmp_path / "fresh" / after / "step-0000000000")
        assert grown[WEIGHT].shape == (ROWS + NEW_ROWS, DIM)
        is_fresh = torch.arange(ROWS + NEW_ROWS) >= ROWS
        is_fresh[FORGOTTEN] = True
        assert torch.equal(grown[WEIGHT][~is_fresh], old[WEIGHT][~is_fresh[:ROWS]])
        assert torch.equal(grown[WEIGHT][is_fresh], fresh[WEIGHT][is_fresh])
        parts = {name: 2 if name == "column_wise" else 1 for name in (before, after)}
        expected = old[MOMENTUM].view(parts[before], ROWS)
        if before != after:
            expected = expected.mean(dim=0).expand(parts[after], ROWS)
        momentum = grown[MOMENTUM].view(parts[after], ROWS + NEW_ROWS)
        torch.testing.assert_close(momentum[:, ~is_fresh], expected[:, ~is_fresh[:ROWS]])
        assert not momentum[:, is_fresh].any()
        for name in old:
            if "embedding_bags" not in name:
                assert torch.equal(grown[name], old[name]), name


def start_with_other_shapes(directory: Path) -> None:
    config = toy_config()
    toy = ToyTraining(config)
    toy.train(3)
    path = save(toy, directory, config)
    with pytest.raises(UserError, match=r"\(30, 8\) there and \(42, 8\) here"):
        ToyTraining(config, ROWS + NEW_ROWS).restore(path)
    with pytest.raises(UserError, match=r"\(30, 8\) there and \(20, 8\) here"):
        ToyTraining(config, ROWS - 10).warm_start(path)
    with pytest.raises(UserError, match=r"\(30, 8\) there and \(30, 16\) here"):
        ToyTraining(config, ROWS, 16).warm_start(path)


def test_only_a_warm_start_may_have_more_rows_and_nothing_other_columns(tmp_path):
    on_ranks(1, start_with_other_shapes, tmp_path)


def nightly(log: Path, output: Path, tracking_uri: str, **training):
    return planted_config(
        log,
        output,
        tracking={"uri": tracking_uri},
        loss={"logq": {"source": {"kind": "streaming"}}},
        training={
            "epochs": 1,
            "start": "previous",
            "schedule": {"kind": "infinite", "warmup": 4, "cooldown_steps": 8},
            **training,
        },
    )


@pytest.mark.slow
def test_a_nightly_training_continues_with_a_grown_catalogue(tmp_path, tracking_uri):
    log, output = tmp_path / "log", tmp_path / "out"
    write_planted_log(log)
    items = pq.read_table(log / "items.parquet")
    pq.write_table(items.slice(0, 100), log / "items.parquet")
    config = nightly(log, output, tracking_uri)
    prepare(config)
    assert diagnose(config).verdict == "nothing there"
    first = train(config)  # There is no model yet.
    assert first.started_from is None
    _, before = read_checkpoint(continued_checkpoint(config.train_dir))
    assert before.progress.step == before.progress.annealing_from < first.best_step
    old_rows = table_rows(Prepared(config.prepared_dir))
    old = tensors_of(config.train_dir / CHECKPOINT)
    assert train(config) == first

    pq.write_table(items, log / "items.parquet")
    prepare(config)
    prepared = Prepared(config.prepared_dir)
    assert not moved_tables(old_rows, prepared)
    diagnosis = diagnose(config)
    assert diagnosis.verdict == "resizable"
    resized = {f.what: (f.before, f.after) for f in diagnosis.findings if f.kind == "resized"}
    assert resized["table item.item_id"] == (100, 144)
    assert diagnosis.action.startswith(f"begins with the model of {config.train_dir}")
    second = train(config)
    assert second.started_from == first.fingerprint
    assert train(config) == second
    assert diagnose(config).action == "nothing, as this training is done"
    _, manifest = read_checkpoint(config.train_dir / CHECKPOINT)
    assert manifest.progress.schedule_start == before.progress.step
    new = tensors_of(config.train_dir / CHECKPOINT)
    seen = "model.main_loss.frequency.examples"
    assert new[seen] > old[seen] > 0  # The estimate of logQ continues.
    assert new["model.main_loss.frequency.interval"].shape == (1, 144)

    for changed, what in (
        ({"model": {"dim": 8}}, "model.dim: impossible, from 16 to 8"),
        ({"training": {"sparse_optimizer": "sgd"}}, "training.sparse_optimizer: impossible"),
    ):
        document = config.model_dump(mode="json")
        for section, keys in changed.items():
            document[section] = {**document[section], **keys}
        other = type(config).model_validate(document)
        assert diagnose(other).verdict == "impossible"
        with pytest.raises(UserError, match=what):
            train(other)
    assert tensors_of(config.train_dir / CHECKPOINT).keys() == new.keys()


def test_a_vocabulary_that_was_built_anew_is_noticed(planted):
    prepared = Prepared(planted.prepared_dir)
    rows = table_rows(prepared)
    assert not moved_tables(rows, prepared)
    group = rows["item.group"]
    swapped = (group.sample[1], group.sample[0], *group.sample[2:])
    assert group.sample[0] != group.sample[1]
    other = {**rows, "item.group": group.model_copy(update={"sample": swapped})}
    assert moved_tables(other, prepared) == {"item.group"}
    forgotten = {
        **rows,
        "item.group": group.model_copy(update={"sample": (None, *group.sample[1:])}),
    }
    assert not moved_tables(forgotten, prepared)
