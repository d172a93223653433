"""A training is settled once; a rank that sees other files than the driver says so."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from feature_store.core.errors import UserError
from feature_store.core.manifests import write_manifest
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.manifest import (
    Checkpoint,
    CheckpointManifest,
    Progress,
    checkpoint_path,
    latest_checkpoint,
)
from recsys.checkpoint.training_manifest import (
    BEFORE_ANNEALING,
    CHECKPOINT,
    training_fingerprint,
)
from recsys.config.ssl.contrastive import Neighbours
from recsys.training.run import TrainingRun, plan_run


@pytest.fixture
def prepared(planted):
    return Prepared(planted.prepared_dir)


def write_checkpoint(path, config, plan, step, earlier=0):
    """Writes a checkpoint without tensors."""
    path.mkdir(parents=True)
    manifest = CheckpointManifest(
        progress=Progress(
            step=step, plan=plan, best_step=step, best_value=0.5, stale=0, schedule_start=earlier
        ),
        world_size=1,
        schema_fingerprint="",
        config=config,
        tables={},
        shapes={},
        files={},
    )
    write_manifest(path, manifest)
    return Checkpoint(path, manifest)


def test_a_run_is_the_same_after_it_was_sent_to_a_rank(planted, prepared, tmp_path):
    run, plan = plan_run(planted, prepared, tmp_path, started_from="another")
    assert TrainingRun.model_validate_json(run.model_dump_json()) == run
    assert run.identity == training_fingerprint(planted, prepared, "another")
    assert (run.prepared_fingerprint, run.plan_identity, run.step) == (
        prepared.manifest.fingerprint,
        plan.identity,
        0,
    )


def test_the_length_of_lists_counts_where_views_show_what_is_on_them(planted, prepared):
    lists = planted.ranking.model_copy(update={"neighbours": 7})
    for settings, counts in ((planted.ssl, False), (Neighbours(), True)):
        config = planted.model_copy(update={"ssl": settings})
        identities = {
            training_fingerprint(each, prepared)
            for each in (config, config.model_copy(update={"ranking": lists}))
        }
        assert len(identities) == 1 + counts


def test_views_of_neighbours_are_not_trained_without_them(planted, prepared, tmp_path):
    config = planted.model_copy(update={"ssl": Neighbours()})
    with pytest.raises(ValueError, match="needs the directory of neighbours"):
        plan_run(config, prepared, tmp_path)


def test_a_rank_has_an_absolute_output_directory(planted, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, _ = plan_run(planted.model_copy(update={"output": "out"}), prepared, tmp_path)
    assert run.config.output == str(tmp_path / "out")


def test_a_rank_that_sees_other_files_says_what_differs(planted, prepared, tmp_path):
    _, plan = plan_run(planted, prepared, tmp_path)
    directory = tmp_path / "checkpoints"
    checkpoint = write_checkpoint(checkpoint_path(directory, 12), planted, plan.identity, 12)
    run, plan = plan_run(planted, prepared, tmp_path)
    assert run.step == 12
    run.check(prepared, plan, checkpoint)
    other = SimpleNamespace(manifest=SimpleNamespace(fingerprint="other"))
    for arguments, difference in (
        ((other, plan, checkpoint), "other prepared data"),
        ((prepared, replace(plan, seed=1), checkpoint), "another order of examples"),
        ((prepared, plan, None), "no checkpoint of step 12"),
    ):
        with pytest.raises(UserError, match=f"the workers see {difference} in"):
            run.check(*arguments)


def test_workers_that_are_restarted_continue_from_a_later_checkpoint(planted, prepared, tmp_path):
    run, plan = plan_run(planted, prepared, tmp_path)
    later = write_checkpoint(checkpoint_path(run.checkpoints_dir, 7), planted, plan.identity, 7)
    assert latest_checkpoint(run.checkpoints_dir) == later
    run.check(prepared, plan, later)
    start = run.start(later)
    assert (start.progress.step, start.checkpoint, start.is_warm_start) == (7, later, False)


def test_a_training_starts_from_scratch_or_from_the_model_before_it(planted, prepared, tmp_path):
    config = planted.model_copy(update={"output": str(tmp_path / "out")})
    run, plan = plan_run(config, prepared, tmp_path / "work")
    scratch = run.start(None)
    assert (scratch.checkpoint, scratch.is_warm_start) == (None, False)
    assert scratch.progress.schedule_start == 0
    run, _ = plan_run(config, prepared, tmp_path / "work", started_from="another")
    previous = write_checkpoint(config.train_dir / CHECKPOINT, config, "its plan", 30, earlier=12)
    warm = run.start(None)
    assert (warm.checkpoint, warm.is_warm_start) == (previous, True)
    assert warm.progress == scratch.progress.model_copy(update={"schedule_start": 42})
    assert warm.progress.plan == plan.identity
    # Steps of annealing are no steps of the next training.
    before = write_checkpoint(config.train_dir / BEFORE_ANNEALING, config, "its plan", 25, 12)
    warm = run.start(None)
    assert warm.checkpoint == before
    assert warm.progress.schedule_start == 37
