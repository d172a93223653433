"""The report of an A/B test in sentences and on a terminal."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import rich.table
from rich import box
from rich.console import Console

from pipelines.reports.opening import listed
from pipelines.reports.words import plural_of, reworded
from serving.experiment.experiment import OUTCOME_METRICS, Metric

if TYPE_CHECKING:
    from serving.experiment.result import AbReport, Comparison
    from serving.experiment.statistics import Change, Lift

TITLES: dict[Metric, str] = {
    "conversion_rate": "Conversion rate",
    "events_per_query": "Events per query",
    "value_per_query": "Value per query",
    "hit_rate": "Hit rate of answers",
    "fallback_rate": "Fallback rate",
    "latency_p99_ms": "Latency p99 (ms)",
}

_NBSP = "\u00a0"


def sentences(report: "AbReport") -> list[str]:
    """Returns the verdict on each variant."""
    return [sentence_of(report, comparison) for comparison in report.comparisons]


def warnings(report: "AbReport") -> list[str]:
    """Returns what a reader must not overlook."""
    found = []
    if not report.is_trusted:
        counts = ", ".join(
            f"{sample.variant} {sample.queries:,} (share {sample.share:.4g})"
            for sample in report.samples
        )
        found.append(
            f"sample ratio mismatch: {counts}, which chance gives with p "
            f"{p_in_sentence(report.sample_ratio_p)}. Queries are lost or assigned in "
            "another way than by the experiment: do not trust any figure before the cause is found."
        )
    if report.contaminated:
        found.append(
            f"{report.contaminated:,} queries saw several variants and are left out; a change of "
            "the shares or the salt within one log does that."
        )
    if not any(sample.events for sample in report.samples):
        found.append("no event is on an item that was recommended to its query before.")
    return found


def print_ab_report(report: "AbReport", console: Console) -> None:
    """Prints the metrics of each variant against the control, in 80 columns, and the verdict."""
    control, say = report.samples[0].variant, partial(reworded, word=report.query)
    for comparison in report.comparisons:
        shown = rich.table.Table(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
        )
        shown.add_column("metric", no_wrap=True)
        for heading in (control, comparison.variant, "change", interval_title(report), "adj. p"):
            shown.add_column(heading, justify="right", no_wrap=True)
        for lift in comparison.lifts:
            shown.add_row(
                say(TITLES[lift.metric]),
                figure(lift.control),
                figure(lift.treated),
                percent(lift.relative.value),
                percents(lift.relative),
                p_value(lift.adjusted_p),
                style="bold" if lift.is_significant else "",
            )
        console.print(shown)
    for sample in report.samples:
        console.print(
            f"{sample.variant}: {sample.queries:,} {plural_of(report.query)}, "
            f"{sample.answers:,} answers, {sample.events:,} events",
            highlight=False,
        )
    for warning in warnings(report):
        console.print(f"[bold]warning:[/bold] {say(warning)}", highlight=False, soft_wrap=True)
    for sentence in sentences(report):
        console.print(say(sentence), highlight=False, soft_wrap=True, markup=False)


def sentence_of(report: "AbReport", comparison: "Comparison", *, is_brief: bool = False) -> str:
    """Returns the verdict with the outcomes that it rests on; in brief, one of them by figures."""
    control, variant = report.samples[0].variant, comparison.variant
    counted = [lift for lift in comparison.lifts if _counts(lift)]
    first = comparison.lifts[0]
    found = "; ".join(figures_of(report, lift) for lift in (counted[:1] if is_brief else counted))
    if is_brief and len(counted) > 1:
        found += f"; also {_listed(lift.metric for lift in counted[1:])}, below"
    broken = [c.rail.metric for c in comparison.guard_rails if c.state == "broken"]
    if broken:
        found = "; ".join(figures_of(report, e) for e in comparison.lifts if e.metric in broken)
    text = {
        "do not trust": "do not trust this test: the variants have not the queries of their shares",
        "guard-rail broken": f"{variant} breaks the guard-rail of {_listed(broken)}",
        "better": f"{variant} is better than {control}",
        "worse": f"{variant} is worse than {control}",
        "mixed": f"{variant} is better than {control} in some respects and worse in others",
        "no difference": f"no significant difference between {variant} and {control}",
    }[comparison.verdict]
    if comparison.verdict == "do not trust":
        return text
    text = f"{text}: {found or figures_of(report, first)}"
    still_open = [c.rail.metric for c in comparison.guard_rails if c.state == "open"]
    if still_open and comparison.verdict in ("better", "mixed", "no difference"):
        text += f". Whether the guard-rail of {_listed(still_open)} holds is open"
    return text


def _counts(lift: "Lift") -> bool:
    return lift.is_significant and lift.metric in OUTCOME_METRICS


def _listed(metrics: Iterable[Metric]) -> str:
    return listed([TITLES[metric].lower() for metric in metrics])


def figures_of(report: "AbReport", lift: "Lift", *, is_named: bool = True) -> str:
    """Returns the metric of control and variant, with the change and its interval.

    Args:
        report: Report that the metric is of.
        lift: Metric to describe.
        is_named: Whether the title of the metric comes first.
    """
    text = f"{figure(lift.control)} to {figure(lift.treated)}"
    if is_named:
        title = TITLES[lift.metric]
        text = f"{title[0].lower()}{title[1:]} {text}"
    if lift.relative.low is None:
        return text
    return (
        f"{text} ({percent(lift.relative.value)}, {interval_title(report)} "
        f"{percents(lift.relative)}, adjusted p {p_in_sentence(lift.adjusted_p)})"
    )


def interval_title(report: "AbReport") -> str:
    """Returns the name of the intervals, such as `95 % interval`."""
    return f"{100 * (1 - report.level):g}{_NBSP}% interval"


def figure(value: float | None) -> str:
    """Returns four significant digits."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def percent(value: float | None) -> str:
    """Returns a signed share in per cent."""
    # The unit stays with its number where a line breaks.
    return "-" if value is None else f"{100 * value:+.2f}{_NBSP}%"


def percents(change: "Change") -> str:
    """Returns the ends of an interval in per cent."""
    if change.low is None:
        return "-"
    return f"{percent(change.low)} to {percent(change.high)}"


def p_value(value: float | None) -> str:
    """Returns a p-value with four decimals."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def p_in_sentence(value: float | None) -> str:
    """Returns p as it stands in a sentence, after its name."""
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"
