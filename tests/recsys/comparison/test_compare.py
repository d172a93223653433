"""Two runs with a known difference are told apart, and two alike are not."""

import json
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from feature_store.core.columns import Jagged
from feature_store.core.errors import UserError
from pipelines.statistics.slices import SliceBounds
from recsys.cli import app
from recsys.comparison.compare import compare
from recsys.comparison.report import comparison_verdict, verdict_parts
from recsys.comparison.runs import find_run
from recsys.comparison.statistics import compare_runs
from recsys.evaluation.metrics import metric_names, overall_ratios, ranks_of
from recsys.evaluation.results import EvaluationResult, TradeOff

ITEMS, QUERIES, DEPTH = 300, 400, 50
NAMES = np.array(["head", "torso", "tail", "cold"])


def write_run(
    directory, skill, seed, *, bad_tail=False, queries=QUERIES, repeats="exclude", bounds=None
):
    """Lists that hold a query's held-out items with a probability."""
    random = np.random.default_rng(0)
    held_out = [random.choice(ITEMS, 1 + q % 3, replace=False) for q in range(queries)]
    random = np.random.default_rng(seed)
    top = np.array([random.permutation(ITEMS)[:DEPTH] for _ in range(queries)])
    for query, wanted in enumerate(held_out):
        for item in wanted:
            chance = 0.05 if bad_tail and item % 4 == 2 else skill
            if item not in top[query] and random.random() < chance:
                top[query, random.integers(0, DEPTH)] = item
    lengths = np.array([len(bag) for bag in held_out])
    bags = Jagged.from_lengths(np.concatenate(held_out), lengths)
    ranks = ranks_of(bags, top)
    offsets = pa.array(bags.offsets.astype(np.int32))
    names = np.array([f"i{i}" for i in range(ITEMS)])
    rank = pa.array(ranks.rank.astype(np.int32), mask=ranks.rank >= DEPTH)
    columns = {
        "query_id": [f"q{q}" for q in range(queries)],
        "history_length": np.arange(queries) % 30,
        "held_out": pa.ListArray.from_arrays(offsets, pa.array(names[bags.values])),
        "held_out_slice": pa.ListArray.from_arrays(offsets, pa.array(NAMES[bags.values % 4])),
        "model.items": [names[row].tolist() for row in top],
        "model.ranks": pa.ListArray.from_arrays(offsets, rank),
    }
    ratios = overall_ratios(ranks)
    for place, name in enumerate(metric_names()):
        columns[f"model.{name}"] = ratios.numerator[:, place].astype(np.float32)
    (directory / "evaluation").mkdir(parents=True)
    metadata = {"data.repeats": repeats}
    if bounds is not None:
        metadata["slice_bounds"] = bounds.model_dump_json()
    table = pa.table(columns, metadata=metadata)
    pq.write_table(table, directory / "evaluation" / "per_query.parquet")
    return str(directory)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    return {
        "plain": write_run(directory / "plain", 0.3, 1),
        "again": write_run(directory / "again", 0.3, 6),
        "good": write_run(directory / "good", 0.6, 3),
        "no tail": write_run(directory / "no tail", 0.75, 4, bad_tail=True),
        "fewer": write_run(directory / "fewer", 0.3, 5, queries=100),
    }


def test_a_slice_shows_the_figures_that_its_verdict_rests_on(runs):
    """Makes the tail lose Recall@10, and gain Recall@50 by chance."""
    found = compare_runs(find_run(runs["plain"]), find_run(runs["no tail"]))
    changes = {"recall@10": (0.9, 0.5, 0.001), "recall@50": (0.9, 1.0, 1.0)}

    def changed(row):
        if row.group != "tail" or row.metric not in changes:
            return row
        before, after, p = changes[row.metric]
        figures = replace(row.found, before=before, after=after, difference=after - before)
        return row.model_copy(update={"found": figures, "adjusted_p": p})

    found = found.model_copy(update={"rows": tuple(changed(row) for row in found.rows)})
    assert "B is worse in tail (Recall@10 0.9000 to 0.5000)" in found.sentence()
    assert "worse in tail: Recall@10 " in comparison_verdict(found).sentence


@pytest.mark.parametrize(
    ("after", "mark", "label"),
    [
        ("good", "better", "▲ better"),
        ("again", "no different", "= no different"),
        ("no tail", "worse", "▼ worse in tail"),
    ],
)
def test_the_page_opens_with_the_verdict_of_the_gate(runs, after, mark, label):
    found = compare(runs["plain"], runs[after])
    verdict = comparison_verdict(found)
    assert (verdict.mark, verdict.label) == (mark, label)
    assert (mark == "worse") == found.is_worse
    names = [group.name for group in verdict.groups]
    assert names[:5] == ["overall", "head", "torso", "tail", "cold"]
    swapped = comparison_verdict(compare(runs[after], runs["plain"]), "The new", "the old")
    assert swapped.mark == {"better": "worse", "worse": "worse"}.get(mark, mark)
    assert "The new" in swapped.sentence


def test_a_comparison_says_the_slices_and_where_those_of_the_other_run_differ(tmp_path):
    fixed = SliceBounds(rule="fixed", tail=5, torso=20, fixed_torso=0.3)
    share = SliceBounds(rule="share", tail=2, torso=9, fixed_torso=0.0)
    runs = {"a": fixed, "b": fixed, "c": share}
    at = {n: write_run(tmp_path / n, 0.3, 1, bounds=of, queries=50) for n, of in runs.items()}
    same, other = compare(at["a"], at["b"]), compare(at["a"], at["c"], tmp_path / "out")
    assert "torso 6 to 20" in str(verdict_parts(same))
    assert "other slices" not in same.sentence() + str(verdict_parts(same))
    text = "B was evaluated with other slices (cold 0, tail 1 to 2, torso 3 to 9, head 10 or more)"
    assert text in other.sentence()
    assert text in (tmp_path / "out" / "comparison.html").read_text()
    said = CliRunner().invoke(app, ["compare", at["a"], at["c"]])
    assert "slices by an item's training events: cold 0, tail 1 to 5, torso 6 to 20" in said.output


def test_too_few_pairs_cannot_tell(runs, tmp_path):
    few = [write_run(tmp_path / f"{skill}", skill, 1, queries=8) for skill in (0.0, 1.0)]
    verdict = comparison_verdict(compare(*few))
    assert verdict.mark == "cannot tell"
    assert {group.mark for group in verdict.groups} == {"cannot tell"}


def row(found, group, metric="recall@50"):
    return next(r for r in found.rows if (r.group, r.metric) == (group, metric))


def test_a_better_run_is_found_to_be_better(runs):
    found = compare(runs["plain"], runs["good"])
    assert found.verdict == "better"
    assert found.is_safe
    assert found.sentence().startswith("B is better than A: Recall@50 0.")
    overall = row(found, "overall").found
    table = [pq.read_table(f"{runs[n]}/evaluation/per_query.parquet") for n in ("plain", "good")]
    before, after = (np.mean(t["model.recall@50"].to_numpy()) for t in table)
    assert overall.before == pytest.approx(before)
    assert overall.difference == pytest.approx(after - before)
    assert overall.low < overall.difference < overall.high
    assert found.gains[0].change >= found.gains[-1].change > 0 > found.losses[0].change
    assert compare(runs["good"], runs["plain"]).verdict == "worse"


def test_a_comparison_is_a_table(runs):
    found = compare(runs["plain"], runs["good"])
    table = found.to_arrow()
    assert table.num_rows == len(found.rows)
    first = table.to_pylist()[0]
    overall = found.rows[0]
    assert (first["group"], first["metric"]) == (overall.group, overall.metric)
    assert (first["before"], first["low"]) == (overall.found.before, overall.found.low)
    assert {"better", "no difference"} <= set(table["verdict"].to_pylist())
    assert "<th>group</th>" in found._repr_html_()


def test_runs_that_differ_by_chance_are_not_told_apart(runs):
    found = compare(runs["plain"], runs["again"])
    assert found.verdict == "no difference"
    assert not found.worse_slices
    same = compare(runs["plain"], runs["plain"])
    assert same.overlap == {"@10": 1.0, "@50": 1.0}
    assert not same.gains
    assert {r.found.difference for r in same.rows} <= {0.0, None}


def test_a_slice_that_loses_is_named_though_all_in_all_it_is_better(runs):
    found = compare(runs["plain"], runs["no tail"])
    assert found.verdict == "better"
    assert found.worse_slices == ("tail",)
    assert not found.is_safe
    assert "but B is worse in tail" in found.sentence()


def test_a_group_with_few_pairs_is_not_tested(tmp_path):
    """Compares 14 queries, of whose 28 pairs the second run finds nearly none."""
    runs = [write_run(tmp_path / str(skill), skill, 1, queries=14) for skill in (1.0, 0.0)]
    found = compare(*runs)
    overall = row(found, "overall")
    assert overall.count < 30
    assert overall.found.p is not None
    assert overall.found.p < 0.01
    assert {each.adjusted_p for each in found.rows} == {None}
    assert (found.verdict, found.worse_slices) == ("no difference", ())
    assert found.is_safe
    assert found.changes("recall@50") == {}


def test_recall_of_a_slice_counts_its_pairs(runs):
    found = compare(runs["plain"], runs["good"])
    table = pq.read_table(f"{runs['good']}/evaluation/per_query.parquet")
    hits, pairs = 0, 0
    for names, ranks in zip(
        table["held_out_slice"].to_pylist(), table["model.ranks"].to_pylist(), strict=True
    ):
        for name, rank in zip(names, ranks, strict=True):
            pairs += name == "tail"
            hits += name == "tail" and rank is not None and rank < 10
    tail = row(found, "tail", "recall@10")
    assert tail.count == pairs
    assert tail.found.after == pytest.approx(hits / pairs)


def test_queries_of_one_run_alone_are_left_out(runs):
    found = compare(runs["plain"], runs["fewer"])
    # Their random numbers are the same ones, so that they have the same held-out items.
    assert (found.queries, found.left_out) == (100, 300)
    assert found.verdict == "no difference"
    assert "(100 queries in common, 300 left out)" in found.sentence()
    assert not found.is_safe  # A gate does not go by a few of the queries.


def test_the_command_is_a_gate(runs, tmp_path):
    command = ["compare", runs["plain"], runs["no tail"], "-o", str(tmp_path / "out")]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0
    assert "report:" in found.output
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "B is worse in tail" in page
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written["worse_slices"] == ["tail"]
    assert CliRunner().invoke(app, [*command, "--gate"]).exit_code == 3
    better = ["compare", runs["plain"], runs["good"], "--gate", "--json"]
    found = CliRunner().invoke(app, better)
    assert found.exit_code == 0
    assert json.loads(found.output)["verdict"] == "better"


def test_runs_that_rank_other_items_are_not_compared(runs, tmp_path):
    """Compares a run with one in which items that a query had are ranked, too."""
    allowed = write_run(tmp_path / "allowed", 0.6, 3, repeats="allow")
    with pytest.raises(UserError, match="allowed with allow: they rank other items for a query"):
        compare(runs["plain"], allowed)
    assert compare(allowed, allowed).verdict == "no difference"
    # Runs of earlier versions say nothing, and excluded what a query had.
    path = tmp_path / "allowed" / "evaluation" / "per_query.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert compare(runs["plain"], allowed).verdict == "better"


@pytest.mark.parametrize("write", ["write_text", "write_json"])
def test_a_comparison_that_was_killed_is_made_again(runs, tmp_path, monkeypatch, write):
    output = tmp_path / "out"
    with monkeypatch.context() as patched:
        killed = Mock(side_effect=KeyboardInterrupt)
        patched.setattr(f"recsys.comparison.compare.{write}", killed)
        with pytest.raises(KeyboardInterrupt):
            compare(runs["plain"], runs["good"], output)
    assert compare(runs["plain"], runs["good"], output).verdict == "better"
    assert (output / "comparison.html").exists()


def test_what_is_no_evaluated_run_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match="Run `recsys evaluate` first"):
        compare(runs["plain"], str(tmp_path))
    with pytest.raises(UserError, match="it has: recall@10, "):
        compare(runs["plain"], runs["good"], metric="recall@7")


def test_a_mistyped_run_makes_no_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in (None, "sqlite:///absent.db"):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        if variable is not None:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
        with pytest.raises(UserError, match="'mistyped' is neither a directory nor an evaluated"):
            compare("mistyped", "mistyped")
    assert not list(tmp_path.iterdir())


def test_a_small_catalogue_is_compared_by_what_it_was_judged_by(runs):
    result = EvaluationResult.model_construct(judged_by="recall@10", trade_off={})
    small = replace(find_run(runs["again"]), result=result)
    found = compare_runs(find_run(runs["plain"]), small)
    assert found.metric == "recall@10"
    assert {found.deciding(group).metric for group in ("head", "tail")} == {"recall@10"}
    assert compare_runs(find_run(runs["plain"]), find_run(runs["good"])).metric == "recall@50"


def test_tails_are_compared_where_the_dial_costs_one_percent(runs):
    def with_curve(name, tail):
        points = [
            TradeOff(dial=dial, recall={"recall@50": overall}, slices={"tail": value})
            for dial, overall, value in ((0, 0.5, 0.1), (0.5, 0.495, tail), (1, 0.4, 0.9))
        ]
        result = EvaluationResult.model_construct(trade_off={"test": tuple(points)})
        return replace(find_run(runs[name]), result=result)

    found = compare_runs(with_curve("plain", 0.25), with_curve("good", 0.375))
    assert found.tail_at_loss == pytest.approx((0.25, 0.375))
    texts = [part.text for part in verdict_parts(found) if hasattr(part, "text")]
    assert any("0.250 of A, 0.375 of B" in text for text in texts)
    alone = compare_runs(find_run(runs["plain"]), with_curve("good", 0.375))
    assert alone.tail_at_loss[0] is None
    assert not any("dial" in part.text for part in verdict_parts(alone) if hasattr(part, "text"))
