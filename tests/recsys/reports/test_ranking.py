"""The trade-off of the dial is two charts: rare items against all, and the slices along it."""

from pipelines.reports.parts import Chart
from recsys.evaluation.results import TradeOff
from recsys.reports.ranking import ranking_section
from recsys.reports.run.run_data import RunData
from tests.recsys.reports.test_evaluation import result

WEIGHTS = {"towers": 1.0, "content": 0.3, "trend": 0.0, "dial": 0.2}


def curve(start, slices):
    return tuple(
        TradeOff(
            dial=dial,
            recall={"recall@10": start / 2, "recall@50": start - dial / 10},
            slices={name: None if low is None else low + dial for name, low in slices.items()},
        )
        for dial in (0.0, 0.2, 1.2)
    )


def charts(tmp_path, **splits):
    evaluated = result().model_copy(update={"weights": WEIGHTS, "trade_off": splits})
    path = tmp_path / "metrics.json"
    path.write_text(evaluated.model_dump_json())
    run = RunData("", "", lambda name: path if name == "evaluation/metrics.json" else None)
    return [part for part in ranking_section(run).parts if isinstance(part, Chart)]


def test_there_are_two_charts_whatever_the_number_of_curves(tmp_path):
    slices = {"head": 0.5, "torso": 0.2, "tail": 0.1, "cold": None}
    splits = {"validation": 0.4, "test": 0.5, "test, towers alone": 0.3}
    trade, along = charts(tmp_path, **{name: curve(at, slices) for name, at in splits.items()})
    assert [series.name for series in trade.plot.series] == list(splits)
    assert trade.plot.series[1].points[0] == (0.5, 0.1)
    assert "from 0.500 to 0.380, and that of tail items from 0.100 to 1.300" in trade.summary
    assert len(trade.numbers.rows) == 9
    assert "(test)" in along.title
    assert [series.name for series in along.plot.series] == ["overall", "head", "torso", "tail"]
    assert [mark.value for mark in along.plot.marks] == [0.2]


def test_the_rarest_items_that_are_held_out_stand_for_rare_ones(tmp_path):
    slices = {"head": 0.5, "torso": 0.2, "tail": None, "cold": None}
    trade, _ = charts(tmp_path, validation=curve(0.4, slices))
    assert "torso items against all" in trade.title
    only_head = {"head": 0.5, "torso": None, "tail": None, "cold": None}
    (along,) = charts(tmp_path, validation=curve(0.4, only_head))
    assert "(validation)" in along.title
