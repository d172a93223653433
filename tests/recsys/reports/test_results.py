"""All methods by slice: shaded by how sure a difference is, and grey where pairs are few."""

from pipelines.reports.plots import Heat
from recsys.evaluation.rivals import Standing
from recsys.reports.results import results_section
from recsys.reports.run.run_data import RunData
from tests.recsys.reports.test_evaluation import result

PAIRS = {"overall": 1000, "head": 600, "torso": 300, "tail": 80, "cold": 20}


def standing(method, group, change, p):
    return Standing(
        method=method,
        group=group,
        metric="recall@50",
        value=0.4 + change,
        model=0.4,
        pairs=PAIRS[group],
        p=p,
    )


STANDINGS = (
    standing("item_knn", "overall", 0.1, 0.01),
    standing("item_knn", "head", -0.1, 0.0002),
    standing("item_knn", "torso", -0.1, 0.2),
    standing("item_knn", "tail", 0.0, 1.0),
    standing("item_knn", "cold", 0.3, None),
    standing("popularity", "overall", -0.2, 0.04),
)


def heat(tmp_path, evaluated):
    path = tmp_path / "metrics.json"
    path.write_text(evaluated.model_dump_json())
    run = RunData("", "", lambda name: path if name == "evaluation/metrics.json" else None)
    plots = [getattr(part, "plot", None) for part in results_section(run).parts]
    return [plot for plot in plots if isinstance(plot, Heat)]


def test_shades_are_of_significance_and_few_pairs_are_grey(tmp_path):
    (plot,) = heat(tmp_path, result().model_copy(update={"standings": STANDINGS}))
    assert plot.rows == ["this model", "popularity", "item-kNN"]
    assert plot.columns[0] == "all (1,000)"
    values = dict(zip(plot.rows, plot.values, strict=True))
    assert values["this model"] == [0] * 5
    assert values["item-kNN"] == [2.0, -3.0, 0, 0, 0]
    assert -1.5 < values["popularity"][0] < -1.3
    texts = dict(zip(plot.rows, plot.texts, strict=True))
    assert [text[-1] in "▲▼" for text in texts["item-kNN"]] == [True, True, False, False, False]
    assert plot.faint == [[False] * 4 + [True]] * 3
    assert [plot.shade(row, 4)[0] for row in range(3)] == ["faint"] * 3
    assert plot.shade(2, 0) == ("above", 2 / 3 * 85)
    assert plot.shade(2, 1) == ("below", 85)


def test_an_earlier_evaluation_has_no_tests_to_show(tmp_path):
    assert heat(tmp_path, result()) == []
