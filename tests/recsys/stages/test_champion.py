"""The page of an evaluation says how the model stands beside the champion."""

import pytest

from feature_store.core.documents import read_record
from recsys.comparison.statistics import Comparison
from recsys.evaluation.results import METRICS_JSON, EvaluationResult
from recsys.stages import champion
from recsys.stages.champion import champion_verdict


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
