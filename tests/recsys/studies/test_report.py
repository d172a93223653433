"""The page of a study opens with the verdict on the best arm."""

import pytest

from recsys.studies.analysis import ArmResult, Cell
from recsys.studies.report import render_markdown, study_page
from recsys.studies.result import StudyResult


def cell(mean, difference=None, p=None):
    return Cell(seeds=(mean,), mean=mean, low=None, high=None, difference=difference, adjusted_p=p)


def study(p, tail_pairs=80, tail_p=0.001):
    def arm(name, cells):
        return ArmResult(
            arm=name,
            label_fraction=1.0,
            values={},
            validation=0.1,
            seconds=1.0,
            pairs={"recall@50": 500, "tail recall@50": tail_pairs},
            cells=dict(zip(("recall@50", "tail recall@50"), cells, strict=True)),
        )

    arms = (
        arm("none", (cell(0.3), cell(0.2))),
        arm("rfm", (cell(0.31, 0.01, 0.9), cell(0.2, 0.0, 1.0))),
        arm("cfm", (cell(0.4, 0.1, p), cell(0.1, -0.1, tail_p))),
    )
    return StudyResult(
        name="log", baseline="none", metric="m", trials=1, seeds=1, counts={}, arms=arms
    )


def test_a_study_is_a_table():
    table = study(0.001).to_arrow()
    assert table["arm"].to_pylist() == ["none", "none", "rfm", "rfm", "cfm", "cfm"]
    assert table["adjusted_p"].to_pylist()[0] is None
    assert table["held_out"].to_pylist()[:2] == [500, 80]


@pytest.mark.parametrize(
    ("result", "label", "tail"),
    [
        (study(0.001), "▼ worse in tail", "worse"),
        (study(0.001, tail_p=0.4), "▲ better", "no different"),
        (study(0.001, tail_pairs=12), "▲ better", "cannot tell"),
        (study(0.4, tail_p=0.4), "= no different", "no different"),
    ],
)
def test_the_best_arm_is_judged_by_enough_pairs(result, label, tail):
    (verdict,) = study_page(result).opening
    assert verdict.label == label
    assert "cfm, the best of 2 arms against none, has Recall@50" in verdict.sentence
    assert [group.mark for group in verdict.groups][1:] == [tail]
    assert ("0.1000 ▼" in render_markdown(result)) == (tail == "worse")
