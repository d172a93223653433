"""The page of `recsys compare`; the dashboard shows the same parts of two runs."""

from collections.abc import Mapping

from pipelines.reports.format import as_sentence, count_of, number
from pipelines.reports.opening import Judged, Mark, Verdict, summed_up
from pipelines.reports.parts import (
    Band,
    Cell,
    Chart,
    Entry,
    Facts,
    Page,
    Part,
    Row,
    Section,
    Table,
    Text,
)
from pipelines.reports.plots import Range, Ranges
from recsys.comparison import result
from recsys.comparison.example_queries import ExampleQuery
from recsys.comparison.result import Comparison
from recsys.evaluation.metrics import metric_title
from recsys.evaluation.results import SHOWN
from recsys.evaluation.rivals import FEW_PAIRS

METRIC_TITLES = {**SHOWN, **{name: metric_title(name) for name in ("hit_rate@10", "mrr@10")}}


def comparison_page(comparison: Comparison, titles: Mapping[str, str]) -> Page:
    """Returns the page.

    Args:
        comparison: Comparison of two runs.
        titles: Titles of items by id; an item without one is shown by its id.
    """
    none: list[Part] = [Text("None.")]
    return Page(
        title="Comparison of two models",
        query=comparison.query,
        lead=f"A: {comparison.before}; B: {comparison.after}",
        opening=[comparison_verdict(comparison)],
        sections=[
            Section("verdict", "At a glance", verdict_parts(comparison)),
            Section("differences", "Differences", [differences_table(comparison)]),
            Section(
                "gains",
                "Queries that gain",
                [example_entry(query, titles) for query in comparison.gains] or none,
            ),
            Section(
                "losses",
                "Queries that lose",
                [example_entry(query, titles) for query in comparison.losses] or none,
            ),
        ],
    )


def comparison_verdict(comparison: Comparison, new: str = "B", old: str = "A") -> Verdict:
    """Returns the verdict on the second run; worse is what keeps it from an export.

    Args:
        comparison: Comparison of two runs.
        new: Name of the second run, as within a sentence.
        old: Name of the first run.
    """
    groups = [_judged(comparison, name) for name in dict.fromkeys(r.group for r in comparison.rows)]
    groups = [group for group in groups if group.text]
    overall = groups[0]
    mark, words = summed_up(groups)
    phrases: dict[Mark, str] = {
        "better": f"{new} is better than {old}",
        "no different": f"{new} is no different from {old}",
        "worse": f"{new} is worse than {old}",
        "cannot tell": f"There are too few held-out pairs to tell {new} from {old}",
    }
    sentence = f"{phrases[overall.mark]}: {overall.text}"
    if words:
        worst = next(group for group in groups if group.mark == "worse")
        sentence += f"; but {new} is {words}: {worst.text}"
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    todo = _todo(mark, comparison, new, old)
    return Verdict(mark, sentence, groups, f"{todo[0].upper()}{todo[1:]}", words)


def _judged(comparison: Comparison, group: str) -> Judged:
    """Returns the judgement on a group; without a text where nothing is held out."""
    row = comparison.deciding(group)
    if row.found.before is None:
        return Judged(group, "cannot tell")
    text = f"{metric_title(row.metric)} {number(row.found.before)} to {number(row.found.after)}"
    marks: dict[result.Verdict, Mark] = {"better": "better", "worse": "worse"}
    verdict = comparison.verdict_in(group)
    if verdict is None:
        return Judged(group, "cannot tell", f"only {row.count} held-out pairs; {text}")
    return Judged(group, marks.get(verdict, "no different"), text)


def _todo(mark: Mark, comparison: Comparison, new: str, old: str) -> str:
    if not comparison.is_of_most:
        return "Most queries are not in both runs: evaluate both on the same data first."
    if mark == "worse":
        if comparison.worse_slices and comparison.verdict != "worse":
            name = comparison.worse_slices[0]
            return f"Keep {old}, and see what {new} loses in {name}; docs/ranking.md says how."
        return f"Keep {old}."
    if mark == "cannot tell":
        return f"Hold out more, so that at least {FEW_PAIRS} pairs are to be found: see data.split."
    if mark == "better":
        return f"Use {new}: `recsys export` takes it through the gate."
    return f"{new} may replace {old}, but nothing here asks for it; look at the tail and at costs."


def verdict_parts(comparison: Comparison) -> list[Part]:
    """Returns what the verdict rests on: warnings, the differences by group, and further facts."""
    parts: list[Part] = []
    if comparison.left_out:
        text = (
            f"{comparison.left_out:,} queries are left out: only one run has them, or their "
            "held-out items differ."
        )
        parts.append(Text(text, "warning"))
    if other := comparison.other_slices():
        parts.append(Text(as_sentence(other), "warning"))
    facts = [("Queries in common", f"{comparison.queries:,}")]
    facts += [
        (f"Items in both lists{cutoff.replace('@', ', of the first ')}", f"{value:.0%}")
        for cutoff, value in comparison.overlap.items()
    ]
    parts += [_forest(comparison), Facts(facts)]
    if None not in comparison.tail_at_loss:
        before, after = (number(value) for value in comparison.tail_at_loss)
        text = (
            "Recall@50 of the tail where the popularity dial costs 1 % of the overall Recall@50: "
            f"{before} of A, {after} of B (sampled queries, without an interval)."
        )
        parts.append(Text(text))
    if (bounds := comparison.slice_bounds[0]) is not None:
        parts.append(Text(as_sentence(bounds.sentence())))
    return parts


def _forest(comparison: Comparison) -> Chart:
    """Returns the difference of each group in the metric that its verdict rests on."""
    groups = dict.fromkeys(row.group for row in comparison.rows)
    rows = [
        Range(
            f"{row.group}: {metric_title(row.metric)} ({row.count:,})",
            row.found.difference,
            row.found.low,
            row.found.high,
        )
        for row in map(comparison.deciding, groups)
        if row.found.difference is not None and row.found.low is not None
        if row.count >= FEW_PAIRS or row.group == "overall"
    ]
    return Chart(
        "B minus A, by group",
        "Right of 0 B is better. Whiskers are 95 % intervals: where one crosses 0, the difference "
        "may be chance. In parentheses: held-out pairs; slices with fewer than "
        f"{FEW_PAIRS} are left out, for their whiskers would hide all others.",
        Ranges(rows, "B minus A", spec="+.4f", is_difference=True),
        is_wide=True,
    )


def differences_table(comparison: Comparison) -> Table:
    """Returns both runs' figures by group and metric, with their differences."""
    rows: list[Row | Band] = []
    group = None
    for row in comparison.rows:
        if row.group != group:
            group = row.group
            rows.append(Band(group, f"{row.count:,} held out"))
        rows.append(_difference(row, comparison.level))
    return Table(
        "Differences",
        ["Metric", "Significant", "A", "B", "B minus A", "p", "Wins", "Losses"],
        rows,
        note="Paired by query. Intervals are 95 %, of a bootstrap over queries; p is of a "
        "permutation test, in slices by Holm's method over all of them; significant is a p below "
        f"{comparison.level:g}, and groups with fewer than {FEW_PAIRS} held-out pairs are not "
        "tested. Recall of slices of items is the share of their held-out items that are found. "
        "Wins and losses are queries.",
        texts=2,
    )


def _difference(row: result.Row, level: float) -> Row:
    difference, title = row.found, metric_title(row.metric)
    if difference.difference is None or difference.low is None or difference.high is None:
        return Row([title, "nothing held out", *["-"] * 6])
    p = row.adjusted_p
    is_significant = p is not None and p < level
    return Row(
        [
            title,
            "yes" if is_significant else "no",
            f"{difference.before:.4f}",
            f"{difference.after:.4f}",
            Cell(
                f"{difference.difference:+.4f}",
                [f"{difference.low:+.4f} to {difference.high:+.4f}"],
            ),
            "-" if p is None else f"{p:.4f}",
            f"{difference.wins:,}",
            f"{difference.losses:,}",
        ],
        is_strong=is_significant,
    )


def example_entry(query: ExampleQuery, titles: Mapping[str, str]) -> Entry:
    """Returns what both models recommend to a query.

    Args:
        query: Query with its lists.
        titles: Titles of items by id; an item without one is shown by its id.
    """
    wanted = set(query.held_out)

    def named(item_id: str) -> str | Cell:
        title = titles.get(item_id) or item_id
        return Cell(f"{title} ✓ held out", tone="good") if item_id in wanted else title

    depth = max(len(query.before), len(query.after))
    rows = [
        [
            str(at + 1),
            *(named(ids[at]) if at < len(ids) else "" for ids in (query.before, query.after)),
        ]
        for at in range(depth)
    ]
    first = titles.get(query.held_out[0]) or query.held_out[0]
    others = count_of(len(query.held_out) - 1, "held-out item")
    more = f"; {others} more" if len(query.held_out) > 1 else ""
    title = (
        f"Query {query.query}: {first} {_place(query.ranks[0])} of A, {_place(query.ranks[1])} of B"
        f"{more} ({query.change:+.3f})"
    )
    table = Table(title, ["Rank", "A recommends", "B recommends"], rows, texts=3)
    return Entry(title, [table], is_open=True)


def _place(rank: int | None) -> str:
    return "not in the list" if rank is None else f"at rank {rank}"
