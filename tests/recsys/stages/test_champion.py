"""The page of an evaluation says how the model stands beside the champion."""

import pytest

from feature_store.core.documents import read_record
from recsys.comparison.result import Comparison
from recsys.config.load import with_values
from recsys.evaluation.results import METRICS_JSON, EvaluationResult
from recsys.stages import champion
from recsys.stages.champion import champion_run, champion_verdict
from recsys.tracking import mlflow_client


@pytest.mark.parametrize(
    ("of_run", "marks", "words"),
    [
        (0, ["no different"], "This model is no different from the champion: Recall@"),
        (1, [], ""),  # It is the champion itself.
        (2, ["cannot tell"], "This model cannot be held against the champion"),
        (None, [], ""),
    ],
)
def test_a_model_is_held_against_the_champion(evaluated, monkeypatch, of_run, marks, words):
    run_id = None if of_run is None else evaluated.run_ids[of_run]
    monkeypatch.setattr(champion, "champion_run", lambda config: run_id)
    config = evaluated.config
    result = read_record(config.evaluation_dir / METRICS_JSON, EvaluationResult)
    found = champion_verdict(config, result, config.evaluation_dir)
    assert [each.mark for each in found] == marks
    assert all(words in each.sentence for each in found)


def test_a_champion_of_another_day_is_not_held_against_a_few_common_queries(evaluated, monkeypatch):
    monkeypatch.setattr(champion, "champion_run", lambda config: evaluated.run_ids[0])
    monkeypatch.setattr(Comparison, "is_of_most", property(lambda self: False))
    config = evaluated.config
    result = read_record(config.evaluation_dir / METRICS_JSON, EvaluationResult)
    (verdict,) = champion_verdict(config, result, config.evaluation_dir)
    assert verdict.mark == "cannot tell"
    assert verdict.sentence.endswith("it was evaluated on other held-out items.")
    assert "recsys export" in verdict.todo


def test_the_champion_is_the_run_behind_the_alias_whatever_the_models_name(evaluated, tmp_path):
    uri, name = f"sqlite:///{tmp_path}/mlflow.db", "o'neil"
    named = {"tracking.uri": uri, "export.registered_model": name}
    config = with_values(evaluated.config, named, source="the test")
    assert champion_run(config) is None  # There is no store.
    client = mlflow_client(uri)
    assert champion_run(config) is None  # There is no model.
    run_id = client.create_run("0").info.run_id
    client.create_registered_model(name)
    version = client.create_model_version(name, str(tmp_path), run_id).version
    assert champion_run(config) is None  # There is no champion.
    client.set_registered_model_alias(name, "champion", version)
    assert champion_run(config) == run_id
