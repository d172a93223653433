"""All methods by slice: shaded by how sure a difference is, and grey where pairs are few."""

from pipelines.reports.plots import Heat
from recsys.evaluation.long_tail import FrequencyBin
from recsys.evaluation.rivals import Standing
from recsys.reports.long_tail import tail_section
from recsys.reports.results import results_section
from recsys.reports.run.run_data import RunData
from recsys.reports.slices import slices_section
from tests.recsys.reports.test_evaluation import measured, result

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
    assert "✗" not in "".join(plot.texts[0])
    assert values["item-kNN"] == [2.0, -3.0, 0, 0, 0]
    assert -1.5 < values["popularity"][0] < -1.3
    texts = dict(zip(plot.rows, plot.texts, strict=True))
    assert [text[-1] in "▲▼" for text in texts["item-kNN"]] == [True, True, False, False, False]
    assert plot.faint == [[False] * 4 + [True]] * 3
    assert [plot.shade(row, 4)[0] for row in range(3)] == ["faint"] * 3
    assert plot.shade(2, 0) == ("above", 2 / 3 * 85)
    assert plot.shade(2, 1) == ("below", 85)


def test_a_slice_that_chance_finds_more_of_is_not_white(tmp_path):
    tail = {**result().slices["tail"], "recall@50": 0.001}
    dead = {"standings": STANDINGS, "slices": {**result().slices, "tail": tail}}
    (plot,) = heat(tmp_path, result().model_copy(update=dead))
    assert plot.texts[0][3] == "0.001 ✗"
    assert plot.shade(0, 3) == ("below", 85)


def section(tmp_path, make, evaluated, *more):
    path = tmp_path / "metrics.json"
    path.write_text(evaluated.model_dump_json())
    run = RunData("", "", lambda name: path if name == "evaluation/metrics.json" else None)
    return make(run, *more).parts


def test_slices_are_shaded_by_their_tests_and_bars_carry_intervals(tmp_path):
    found = result().model_copy(update={"standings": STANDINGS})
    differences, first, *_ = section(tmp_path, slices_section, found)
    plot = differences.plot
    column = plot.columns.index("Recall@50")
    shades = {name.split()[0]: plot.shade(at, column) for at, name in enumerate(plot.rows)}
    kinds = [shades[name][0] for name in ("overall", "head", "cold")]
    assert kinds == ["below", "below", "faint"]
    assert shades["torso"][1] == 0  # Chance may explain it, however large it is.
    assert "NDCG@10" not in plot.columns  # No test says whether chance explains it.
    assert first.plot.faint == [False, False, False, False, True]
    assert first.plot.bounds["this model"][0] == found.overall["recall@10_ci"]


def test_further_slices_say_that_they_are_not_tested_and_few_pairs_are_grey(tmp_path):
    parts = {
        "0": measured(0.1).overall | {"count": 29},
        "1-2": measured(0.2).overall | {"count": 30},
    }
    found = result()
    update = {"by": {"history_length": parts}}
    baselines = {name: each.model_copy(update=update) for name, each in found.baselines.items()}
    found = found.model_copy(update=update | {"baselines": baselines})
    *_, table = section(tmp_path, slices_section, found)
    assert table.title == "Recall@50 by length of the history"
    assert "not tested against the baselines" in table.note
    few, enough = ([cell.tone for cell in row[1:]] for row in table.rows)
    assert few == ["soft"] * 3
    assert enough == [""] * 3


def test_the_long_tail_has_pairs_and_intervals(tmp_path):
    of_lists = {"model": 0.5, "popularity": 0.5}
    bins = tuple(
        FrequencyBin(low=at, high=3 * at, items=9, pairs=n, recall={"model": 0.2}, shown=of_lists)
        for at, n in enumerate((9, 100))
    )
    chart, _ = section(tmp_path, tail_section, result().model_copy(update={"long_tail": bins}))
    assert chart.plot.x.categories == ["0 (9)", "1-3 (100)"]
    own = next(series for series in chart.plot.series if series.name == "this model")
    assert own.faint == [True, False]
    low, high = own.bounds[1]
    # By hand: Wilson's interval of 20 of 100.
    assert (round(low, 3), round(high, 3)) == (0.133, 0.289)


def test_every_list_metric_says_its_direction(tmp_path):
    lists = {"coverage@10": 0.5, "gini@10": 0.5}
    parts = section(tmp_path, results_section, result().model_copy(update={"lists": lists}))
    table = next(
        part for part in parts if getattr(part, "title", "") == "Lists of the first 10 items"
    )
    assert all("higher" in name or "lower" in name for name in table.columns[1:])


def test_an_earlier_evaluation_has_no_tests_to_show(tmp_path):
    assert heat(tmp_path, result()) == []
