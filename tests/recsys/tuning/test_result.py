"""The result of a search."""

from recsys.tuning.result import Candidate, TuningResult


def test_a_search_is_a_table_with_the_settings_of_any_candidate():
    made = {"confirmed": (0.2, 0.3), "mlflow_run_id": "r"}
    candidates = (
        Candidate(trial=3, values={"model.dim": 64}, value=0.4, mean=0.3, **made),
        Candidate(trial=1, values={"ssl.alpha": 0.1}, value=0.5, mean=0.2, **made),
    )
    result = TuningResult(
        metric="recall@50",
        candidates=candidates,
        own_value=None,
        trials={},
        importance={},
        config="best.yaml",
        mlflow_uri="",
        mlflow_run_id="",
    )
    frame = result.to_pandas()
    assert frame["trial"].tolist() == [3, 1]
    assert frame["model.dim"].tolist() == ["64", None]
    assert frame["ssl.alpha"].tolist() == [None, "0.1"]
    assert frame["confirmed"].tolist()[0].tolist() == [0.2, 0.3]
