"""Names and descriptions of trainings in MLflow."""

import json
from datetime import UTC, datetime

import pytest

from recsys.dashboard.run_store import RunStore
from recsys.tracked import dataset_of, metric_name, run_name
from recsys.tracking import experiment_page, mlflow_client, start_run, tracking_uri


def test_a_name_says_data_method_encoders_date_and_seed(planted):
    data = planted.data.model_copy(update={"events": "s3://bucket/shop/events/*.parquet"})
    config = planted.model_copy(update={"data": data})
    kinds = "+".join(encoder.kind for encoder in config.model.history)
    assert run_name(config, datetime(2026, 5, 4, tzinfo=UTC)) == (
        f"shop {config.ssl.method} {kinds} 2026-05-04 seed{config.training.seed}"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test.recall@10", "test/recall_at_10"),
        ("test.recall_at_10", "test/recall_at_10"),  # A run of an earlier version has this one.
        ("test.tail.recall@50", "test/tail/recall_at_50"),
        ("test/tail/recall_at_50", "test/tail/recall_at_50"),
        ("main", "training/main"),
        ("masked.a b/../c", "masked/a b/c"),
        ("masked.Größe?", "masked/Gr__e_"),
    ],
)
def test_metrics_are_grouped_by_slashes(name, expected):
    assert metric_name(name) == expected


@pytest.mark.parametrize(
    ("events", "kind", "source"),
    [
        ("https://me:pw@host/shop/e.parquet?sig=abc", "http", "https://***@host/shop/e.parquet"),
        ("s3://bucket/shop/events", "s3", "s3://bucket/shop/events"),
        ("abfs://box@account/shop", "abfs", "abfs://box@account/shop"),
        ("/data/shop/events", "local", "/data/shop/events"),
    ],
)
def test_the_source_of_a_data_set_has_no_secrets(planted, events, kind, source):
    data = planted.data.model_copy(update={"events": events, "items": events, "queries": None})
    dataset = dataset_of(planted.model_copy(update={"data": data}), "0123456789abcdef")
    assert (dataset.source_type, dataset.digest) == (kind, "0123456789abcdef")
    (written,) = json.loads(dataset.source).values()
    assert written.startswith(source)
    for text in (dataset.source, dataset.profile):
        assert "pw" not in text
        assert "abc" not in text


def test_two_projects_share_a_store_and_each_has_its_models(planted, tracking_uri, caplog):
    for project, recall in [("shoes", 0.25), ("hats", 0.5)]:
        settings = planted.tracking.model_copy(update={"experiment": project, "uri": tracking_uri})
        config = planted.model_copy(update={"tracking": settings})
        run = start_run(config, run_name(config))
        run.add_data(dataset_of(config, "0123456789abcdef"))
        for _ in range(2):  # A training may be interrupted here, and go on.
            run.add_model(run_name(config), {"ssl.method": "cfm"}, step=7)
        run.log([{"step": 7, "test.recall@10": recall}], of_model=True)
        run.describe("**worse**")
        for day in ("1st", "2nd"):
            run.annotate(f"{day} of May: kept")
        run.describe("**better**")
        run.end("FINISHED")
    assert not caplog.records

    client = mlflow_client(tracking_uri)
    for project, recall in [("shoes", 0.25), ("hats", 0.5)]:
        experiment = client.get_experiment_by_name(project)
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
        settings = planted.tracking.model_copy(update={"experiment": project, "uri": tracking_uri})
        page = f"#/experiments/{experiment.experiment_id}?workflowType=machine_learning"
        assert experiment_page(planted.model_copy(update={"tracking": settings})) == page
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.data.metrics == {"test/recall_at_10": recall}
        assert run.data.tags["mlflow.note.content"] == "**better**\n\n---\n\n2nd of May: kept"
        (used,) = run.inputs.dataset_inputs
        assert used.dataset.name == run.info.run_name.split()[0]
        (model,) = client.search_logged_models([experiment.experiment_id])
        assert (str(model.status), model.source_run_id) == ("READY", run.info.run_id)
        ((name, value, digest),) = [(m.key, m.value, m.dataset_digest) for m in model.metrics]
        assert (name, value, digest) == ("test/recall_at_10", recall, used.dataset.digest)
    store = RunStore(tracking_uri)
    store.wait()
    found = {row.experiment: row.metric("recall@10") for row in store.rows()}
    assert (found["shoes"], found["hats"]) == (0.25, 0.5)


def test_an_experiment_of_an_earlier_version_gets_the_view_of_models(planted):
    client = mlflow_client(tracking_uri(planted))
    number = client.create_experiment("of an earlier version")
    settings = planted.tracking.model_copy(update={"experiment": "of an earlier version"})
    start_run(planted.model_copy(update={"tracking": settings}), "run").end("FINISHED")
    assert "mlflow.experimentKind" in client.get_experiment(number).tags
