"""The model that is served is trained on all events; the one that was evaluated is the evidence."""

from collections import defaultdict
from types import SimpleNamespace

import pyarrow as pa
import pytest
from rich.console import Console

import serving
from feature_store.core.manifests import read_manifest
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.stages.evaluate import evaluate
from recsys.stages.fuse import FusionManifest
from recsys.stages.prepare import prepare
from recsys.stages.refit import refit_config
from recsys.stages.train import train
from serving.bundle.report import bundle_page
from serving.exporting.export import export
from serving.recommend.display import snapshot_note
from tests.support.nightly.daily_log import daily_config, events_of, midnight, write_days

QUIET = Console(quiet=True)
DAYS = 9


@pytest.fixture(scope="module")
def system(tmp_path_factory, tracking_uri):
    """Exports a model of nine days, of which the last four are held out."""
    directory = tmp_path_factory.mktemp("refit")
    write_days(directory / "events", 1, DAYS)
    tracking = {"uri": tracking_uri, "experiment": "refit"}
    config = daily_config(directory / "events", directory / "out", tracking=tracking)
    prepare(config, as_of=midnight(DAYS), console=QUIET)
    trained = train(config, console=QUIET)
    evaluation = evaluate(config, console=QUIET)
    bundle = export(config, console=QUIET)
    return SimpleNamespace(config=config, trained=trained, evaluation=evaluation, bundle=bundle)


def test_the_refit_learns_all_events_for_as_many_steps(system):
    evaluated, again = Prepared(system.config.prepared_dir), refit_config(system.config)
    everything = Prepared(again.prepared_dir)
    counts, all_counts = evaluated.manifest.counts, everything.manifest.counts
    assert counts.validation
    assert counts.test
    total = counts.train + counts.validation + counts.test
    assert (all_counts.train, all_counts.validation, all_counts.test) == (total, 0, 0)
    trained = read_manifest(again.train_dir, TrainManifest)
    assert trained is not None
    assert trained.steps == system.trained.best_step
    refit = system.bundle.refit
    assert (refit.events, refit.evaluated_events) == (total, counts.train)
    assert (refit.steps, refit.mlflow_run_id) == (trained.steps, trained.mlflow_run_id)
    assert system.bundle.mlflow_run_id == system.trained.mlflow_run_id
    assert system.bundle.metrics["test"]["ndcg@10"] == system.evaluation.overall["ndcg@10"]


def test_rows_of_tables_are_the_same_and_the_log_is_scanned_once(system):
    evaluated, again = Prepared(system.config.prepared_dir), refit_config(system.config)
    everything = Prepared(again.prepared_dir)
    for side in ("item", "query"):
        assert everything.encoder(side).ids.tokens == evaluated.encoder(side).ids.tokens
    newest = evaluated.item_encoder.ids.rows(pa.array([f"new{DAYS}"]))[0]
    assert (evaluated.item_frequency[newest], everything.item_frequency[newest]) == (0, 1)
    assert list((system.config.prepared_dir.parent / "prepared.work" / "scans").iterdir())
    assert not (again.prepared_dir.parent / "prepared.work" / "scans").exists()


def test_channels_keep_the_weights_of_validation_and_know_all_events(system):
    fusions = [
        read_manifest(each.fusion_dir, FusionManifest)
        for each in (system.config, refit_config(system.config))
    ]
    assert fusions[0].weights == fusions[1].weights
    assert fusions[0].half_life == fusions[1].half_life
    assert system.bundle.fusion.weights == fusions[0].weights


def test_nobody_gets_what_they_had_and_histories_reach_the_last_event(system):
    had = defaultdict(list)
    table = pa.concat_tables(events_of(day) for day in range(1, DAYS + 1))
    for query, item in zip(*(table[n].to_pylist() for n in ("query_id", "item_id")), strict=True):
        had[query].append(item)
    recommender = serving.load(system.config.bundle_dir)
    for query, items in had.items():
        answer = recommender.recommend(query, 30)
        assert not {item.item_id for item in answer.items} & set(items)
        assert recommender.liked(query, 1)[0].item_id == items[-1]
    window = system.bundle.data_window
    assert window.histories_to == window.last_event
    note = snapshot_note(system.bundle)
    assert note.startswith("histories reach to 2026-11-09 23:54")
    assert "the last event of the log; items of all events" in note
    assert "was trained on all 1,350" in bundle_page(system.bundle, 0.98).lead


def test_a_second_export_does_nothing_and_without_refit_the_evaluated_model_is_served(system):
    assert export(system.config, console=QUIET) == system.bundle
    alone = system.config.export.model_copy(update={"refit": False})
    bundle = export(system.config.model_copy(update={"export": alone}), console=QUIET)
    assert bundle.refit is None
    assert bundle.data_window.histories_to < bundle.data_window.last_event
    assert "was trained on all" not in bundle_page(bundle, 0.98).lead


def test_a_refit_is_the_default_of_splits_by_time_alone(system):
    def refits(split, **export):
        data = {"split": split, "history": {"kind": "past"}}
        return daily_config("events", "out", data=data, export=export).refits

    assert refits({"kind": "time", "validation": "1d", "test": "1d"})
    assert not refits({"kind": "leave_last_out"})
    assert refits({"kind": "leave_last_out"}, refit=True)
