"""The page of an evaluation says how the model stands beside the champion."""

import pytest

from feature_store.core.documents import read_record
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
