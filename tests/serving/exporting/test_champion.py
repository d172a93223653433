"""The champion that a new model is compared with before it is exported."""

from types import SimpleNamespace
from typing import Any

import pytest

from feature_store.core.errors import UserError
from feature_store.core.manifests import write_manifest
from recsys.comparison.runs import find_run
from recsys.stages.evaluated import EvaluationManifest
from serving.exporting import champion
from serving.exporting.champion import ChampionEvaluation, Judgement, judge, require_not_worse
from serving.exporting.export import not_compared
from tests.recsys.comparison.test_compare import write_run
from tests.support.planted import groceries_config

CHAMPION = SimpleNamespace(
    training_fingerprint="old", mlflow_run_id="run", repeats="exclude", seal="a" * 16
)
NEW: Any = SimpleNamespace(fingerprint="new")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Returns a function that evaluates a champion and a new model and compares them."""
    monkeypatch.setattr(champion, "champion_manifest", lambda _: CHAMPION)

    def compared(before: str, *, is_kept: bool = True, **new: Any) -> tuple[Judgement | None, str]:
        config = groceries_config(tmp_path / "events.parquet", tmp_path / "new", "exclude")
        write_run(tmp_path / "new", new.pop("skill", 0.3), 6, **new)
        evaluation = EvaluationManifest(
            fingerprint="of new", training_fingerprint="new", schema_fingerprint=""
        )
        write_manifest(config.evaluation_dir, evaluation)
        if is_kept:
            (tmp_path / before / "evaluation").rename(config.champion_dir)
            done = ChampionEvaluation(seal=CHAMPION.seal, evaluation="of new")
            write_manifest(config.champion_dir, done)
        else:  # Its own evaluation, as MLflow keeps it.
            rows = find_run(str(tmp_path / before))
            found = {"run": rows, str(config.evaluation_dir): find_run(str(config.evaluation_dir))}
            monkeypatch.setattr(champion, "find_run", lambda name, uri=None: found[name])
        said: list[str] = []
        found = judge(config, NEW, said.append)
        return found, "".join(not_compared(config, why) for why in said)

    write_run(tmp_path / "plain", 0.3, 1)
    write_run(tmp_path / "good", 0.6, 2)
    return compared


def test_a_champion_of_another_task_is_no_measure(tmp_path, monkeypatch):
    monkeypatch.setattr(champion, "champion_manifest", lambda _: CHAMPION)
    said: list[str] = []
    config = groceries_config(tmp_path / "events.parquet", tmp_path, "allow")
    assert judge(config, NEW, said.append) is None
    words = "it was evaluated with data.repeats: exclude, so its figures are of another task"
    assert words in said[0]


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_model_that_is_surely_worse_is_refused(system, is_kept):
    found, _ = system("good", is_kept=is_kept)
    assert found is not None
    assert found.is_of_same_data == is_kept
    assert found.comparison.changes("recall@50")["tail"] < 0
    with pytest.raises(
        UserError, match="worse than the champion \\(A\\): B is worse than A"
    ) as error:
        require_not_worse(found)
    assert "\n" not in str(error.value)


def test_a_loss_in_one_slice_is_enough(system):
    found, _ = system("plain", skill=0.75, bad_tail=True)
    assert found is not None
    assert (found.comparison.verdict, found.comparison.worse_slices) == ("better", ("tail",))
    with pytest.raises(UserError, match="but B is worse in tail"):
        require_not_worse(found)


def test_a_difference_by_chance_is_none(system):
    found, _ = system("plain")
    require_not_worse(found)
    assert found is not None
    assert found.comparison.verdict == "no difference"


def test_other_held_out_items_are_not_compared(system):
    found, said = system("plain", is_kept=False, queries=100)
    assert found is None
    assert "it was evaluated on other held-out items; `recsys promote" in said
    require_not_worse(found)
