"""The verdict of a model is that of `rivals`, and no part of the page says anything else."""

import pytest

from pipelines.reports.html import render_page
from pipelines.reports.opening import Judged, summed_up
from pipelines.reports.parts import Page
from recsys.evaluation.rivals import rivals_of
from recsys.reports.opening import run_opening
from recsys.reports.run.run_data import RunData
from recsys.reports.verdict import baseline_verdict
from tests.recsys.reports.test_evaluation import result
from tests.recsys.reports.test_results import standing
from tests.support.outline import Outline


def evaluated(*standings, **update):
    found = {"standings": standings, "rivals": tuple(rivals_of(standings)), **update}
    return result().model_copy(update=found)


def marks(verdict):
    return {group.name: group.mark for group in verdict.groups}


def test_groups_are_judged_one_by_one():
    verdict = baseline_verdict(
        evaluated(
            standing("popularity", "overall", -0.1, 0.0002),
            standing("item_knn", "overall", -0.05, 0.0002),
            standing("item_knn", "head", -0.05, 0.2),
            standing("item_knn", "tail", 0.1, 0.0002),
            standing("item_knn", "cold", 0.3, None),
        )
    )
    assert marks(verdict) == {
        "overall": "better",
        "head": "no different",
        "tail": "worse",
        "cold": "cannot tell",
    }
    assert (verdict.mark, verdict.label) == ("worse", "▼ worse in tail")
    assert "item-kNN: Recall@50 0.400 against its 0.350; overall better" in verdict.sentence
    assert "ranking.tail_weight" in verdict.todo


@pytest.mark.parametrize(
    ("change", "p", "mark", "todo"),
    [
        (-0.1, 0.0002, "better", "recsys export"),
        (-0.1, 0.2, "no different", "recsys tune"),
        (0.1, 0.2, "no different", "recsys tune"),
        (0.1, 0.0002, "worse", "recsys tune"),
        (0.1, None, "cannot tell", "Hold out more"),
    ],
)
def test_the_mark_is_of_a_test_and_of_enough_pairs(change, p, mark, todo):
    verdict = baseline_verdict(evaluated(standing("item_knn", "overall", change, p)))
    assert verdict.mark == mark
    assert todo in verdict.todo


def test_of_many_tests_one_is_low_by_chance():
    others = [standing("popularity", group, -0.1, 0.5) for group in ("overall", "head", "torso")]
    one = standing("item_knn", "tail", -0.1, 0.03)
    assert baseline_verdict(evaluated(one)).groups[-1].mark == "better"
    assert baseline_verdict(evaluated(*others, one)).groups[-1].mark == "no different"


def test_parts_of_the_model_are_no_baselines():
    standings = standing("towers", "overall", 0.1, 0.0002), standing("ease", "overall", -0.1, 0.001)
    assert baseline_verdict(evaluated(*standings, weights={"towers": 1.0})).mark == "better"


def test_what_is_worse_in_a_part_is_worse():
    better, worse = Judged("all", "better"), Judged("tail", "worse")
    assert summed_up([better, Judged("torso", "better")]) == ("better", "")
    assert summed_up([better, worse]) == ("worse", "worse in tail")
    assert summed_up([Judged("all", "worse"), worse]) == ("worse", "")


def opening_of(tmp_path, found):
    path = tmp_path / "metrics.json"
    path.write_text(found.model_dump_json())
    run = RunData("", "", lambda name: path if name == "evaluation/metrics.json" else None)
    return run_opening(run)


def checks(tmp_path, found):
    return {check.name: check for check in opening_of(tmp_path, found)[1].checks}


def test_leaks_and_a_dead_tail_fail(tmp_path):
    honest = evaluated(standing("item_knn", "tail", -0.1, 0.2), split="time")
    found = checks(tmp_path, honest)
    assert [found[name].state for name in ("Leaks", "Tail")] == ["passes", "passes"]
    figures = {**honest.overall, "recall@10": 0.95}
    assert (
        checks(tmp_path, honest.model_copy(update={"overall": figures}))["Leaks"].state == "fails"
    )
    tail = {**honest.slices["tail"], "recall@50": 0.001}
    dead = honest.model_copy(update={"slices": {**honest.slices, "tail": tail}})
    assert checks(tmp_path, dead)["Tail"].state == "fails"
    assert "less than chance" in checks(tmp_path, dead)["Tail"].text
    worse = evaluated(standing("item_knn", "tail", 0.1, 0.001))
    assert "a baseline more" in checks(tmp_path, worse)["Tail"].text
    few = result(counts=(600, 300, 12, 8))
    assert checks(tmp_path, few)["Tail"].state == "not known"


def test_the_verdict_comes_before_everything_else(tmp_path):
    opening = opening_of(tmp_path, evaluated(standing("item_knn", "overall", 0.1, 0.0002)))
    text = " ".join(Outline(render_page(Page("Title", "Lead", [], opening=opening))).text.split())
    assert text.index("▼ worse") < text.index("Next:") < text.index("Leaks") < text.index("Lead")


def test_a_small_catalogue_is_judged_by_the_metric_that_it_was_tested_with():
    of_ten = standing("item_knn", "overall", -0.1, 0.0002).model_copy(
        update={"metric": "recall@10"}
    )
    verdict = baseline_verdict(evaluated(of_ten, judged_by="recall@10"))
    assert verdict.mark == "better"
    assert "Recall@10 0.400 against its 0.300" in verdict.sentence
