"""The report of an A/B test in sentences, on a terminal, and as a page."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import rich.table
from rich import box
from rich.console import Console

from pipelines.reports.format import as_sentence
from pipelines.reports.opening import Judged, Mark, Verdict, listed
from pipelines.reports.parts import Cell, Cells, Chart, Page, Part, Row, Section, Table, Text, Tone
from pipelines.reports.plots import Range, Ranges
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

_LESS_IS_BETTER: tuple[Metric, ...] = ("fallback_rate", "latency_p99_ms")
# Mark, its words where they are others, and what to do, by verdict.
_MARKS: "dict[str, tuple[Mark, str, str]]" = {
    "do not trust": ("cannot tell", "do not trust", "Find out where queries are lost or moved."),
    "guard-rail broken": ("worse", "guard-rail broken", "Keep {control}, and end the test."),
    "better": ("better", "", "Give {variant} all of the traffic: make it the champion."),
    "worse": ("worse", "", "Keep {control}, and end the test."),
    "mixed": ("cannot tell", "mixed", "Decide which outcome counts before you choose."),
    "no difference": (
        "no different",
        "",
        "Keep {control}, or go on: the column Detectable says what so many queries can show.",
    ),
}


def sentences(report: "AbReport") -> list[str]:
    """Returns the verdict on each variant."""
    return [_sentence(report, comparison) for comparison in report.comparisons]


def warnings(report: "AbReport") -> list[str]:
    """Returns what a reader must not overlook."""
    found = []
    if not report.is_trusted:
        counts = ", ".join(
            f"{sample.variant} {sample.queries:,} (share {sample.share:.4g})"
            for sample in report.samples
        )
        found.append(
            f"sample ratio mismatch: {counts}, which chance gives with p = "
            f"{_p(report.sample_ratio_p)}. Queries are lost or assigned in another way than by the "
            "experiment: do not trust any figure before the cause is found."
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
    control = report.samples[0].variant
    for comparison in report.comparisons:
        shown = rich.table.Table(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
        )
        shown.add_column("metric", no_wrap=True)
        for heading in (control, comparison.variant, "change", _interval(report), "adj. p"):
            shown.add_column(heading, justify="right", no_wrap=True)
        for lift in comparison.lifts:
            shown.add_row(
                TITLES[lift.metric],
                _number(lift.control),
                _number(lift.treated),
                _percent(lift.relative.value),
                _percents(lift.relative),
                _p(lift.adjusted_p),
                style="bold" if lift.is_significant else "",
            )
        console.print(shown)
    for sample in report.samples:
        console.print(
            f"{sample.variant}: {sample.queries:,} queries, {sample.answers:,} answers, "
            f"{sample.events:,} events",
            highlight=False,
        )
    for warning in warnings(report):
        console.print(f"[bold]warning:[/bold] {warning}", highlight=False, soft_wrap=True)
    for sentence in sentences(report):
        console.print(sentence, highlight=False, soft_wrap=True, markup=False)


def ab_page(report: "AbReport") -> Page:
    """Returns the report as a page."""
    return Page(
        title=f"A/B test {report.experiment}",
        opening=[_opening(report, comparison) for comparison in report.comparisons],
        lead=f"Answers from {report.first_exposure:%Y-%m-%d %H:%M} to "
        f"{report.last_exposure:%Y-%m-%d %H:%M} UTC; "
        f"{report.event_type or 'all'} events up to {report.window_hours:g} hours later",
        warnings=[Text(f"Warning: {text}", "warning") for text in warnings(report)],
        sections=[
            Section("verdict", "Verdict", _verdict(report)),
            Section("metrics", "Metrics", [_metrics(report)]),
            Section("guard-rails", "Guard-rails", [_guard_rails(report)]),
            Section("sample", "Sample", [_sample(report)]),
        ],
    )


def _opening(report: "AbReport", comparison: "Comparison") -> Verdict:
    """Returns the verdict on a variant, with its outcomes and service metrics."""
    control, variant = report.samples[0].variant, comparison.variant
    mark, word, todo = _MARKS[comparison.verdict]
    groups = [_judged(report, lift) for lift in comparison.lifts if lift.control is not None]
    sentence = _sentence(report, comparison, is_brief=True)
    # A name stays as it is, also where a sentence begins with it.
    begins = f"Variant {sentence}" if sentence.startswith(f"{variant} ") else as_sentence(sentence)
    is_open = any(check.state == "open" for check in comparison.guard_rails)
    if is_open and mark == "better":
        todo = "Go on until the guard-rails are kept: more queries make the intervals smaller."
    todo = todo.format(control=control, variant=variant)
    return Verdict(mark, f"{begins.removesuffix('.')}.", groups, todo, word)


def _judged(report: "AbReport", lift: "Lift") -> Judged:
    text = _figures(report, lift)
    if lift.adjusted_p is None or lift.absolute.value is None:
        return Judged(TITLES[lift.metric], "cannot tell", text)
    if not lift.is_significant:
        return Judged(TITLES[lift.metric], "no different", text)
    is_more = lift.absolute.value > 0
    is_better = is_more != (lift.metric in _LESS_IS_BETTER)
    return Judged(TITLES[lift.metric], "better" if is_better else "worse", text)


def _sentence(report: "AbReport", comparison: "Comparison", *, is_brief: bool = False) -> str:
    """Returns the verdict with the outcomes that it rests on; in brief, one of them by figures."""
    control, variant = report.samples[0].variant, comparison.variant
    counted = [lift for lift in comparison.lifts if _counts(lift)]
    first = comparison.lifts[0]
    found = "; ".join(_figures(report, lift) for lift in (counted[:1] if is_brief else counted))
    if is_brief and len(counted) > 1:
        found += f"; also {_listed(lift.metric for lift in counted[1:])}, below"
    broken = [c.rail.metric for c in comparison.guard_rails if c.state == "broken"]
    text = {
        "do not trust": "do not trust this test: the variants have not the queries of their shares",
        "guard-rail broken": f"{variant} breaks the guard-rail of {_listed(broken)}",
        "better": f"{variant} is better than {control}",
        "worse": f"{variant} is worse than {control}",
        "mixed": f"{variant} is better than {control} in some respects and worse in others",
        "no difference": f"no significant difference between {variant} and {control}",
    }[comparison.verdict]
    still_open = [c.rail.metric for c in comparison.guard_rails if c.state == "open"]
    if still_open and comparison.verdict in ("better", "mixed", "no difference"):
        text += f", and whether the guard-rail of {_listed(still_open)} holds is open"
    if comparison.verdict == "do not trust":
        return text
    return f"{text}: {found or _figures(report, first)}"


def _counts(lift: "Lift") -> bool:
    return lift.is_significant and lift.metric in OUTCOME_METRICS


def _listed(metrics: Iterable[Metric]) -> str:
    return listed([TITLES[metric].lower() for metric in metrics])


def _figures(report: "AbReport", lift: "Lift") -> str:
    text = f"{TITLES[lift.metric].lower()} {_number(lift.control)} to {_number(lift.treated)}"
    if lift.relative.low is None:
        return text
    return (
        f"{text} ({_percent(lift.relative.value)}, {_interval(report)} "
        f"{_percents(lift.relative)}, adjusted p = {_p(lift.adjusted_p)})"
    )


def _verdict(report: "AbReport") -> list[Part]:
    parts: list[Part] = []
    for sentence, comparison in zip(sentences(report), report.comparisons, strict=True):
        parts.append(Text(sentence, "strong"))
        parts += _forest(report, comparison)
    return parts


def _forest(report: "AbReport", comparison: "Comparison") -> list[Part]:
    """Returns the relative change of each metric, with its interval."""
    rows = [
        Range(TITLES[lift.metric], lift.relative.value, lift.relative.low, lift.relative.high)
        for lift in comparison.lifts
        if lift.relative.value is not None
        and lift.relative.low is not None
        and lift.relative.high is not None
    ]
    if not rows:
        return []
    control = report.samples[0].variant
    chart = Chart(
        f"Change of {comparison.variant} against {control}",
        f"In per cent of {control}; whiskers are {_interval(report)}s. Right of 0 is more: of "
        "fallbacks and latency less is better. Where a whisker crosses 0, the change may be "
        "chance.",
        Ranges(rows, f"change against {control}", spec="+.2%", is_difference=True),
        is_wide=True,
    )
    return [chart]


def _metrics(report: "AbReport") -> Table:
    control = report.samples[0].variant
    is_one = len(report.comparisons) == 1
    rows = [
        Row(
            [
                TITLES[lift.metric],
                *([] if is_one else [comparison.variant]),
                _number(lift.control),
                _number(lift.treated),
                Cell(_signed(lift.absolute.value), [_span(lift.absolute)]),
                Cell(_percent(lift.relative.value), [_percents(lift.relative)]),
                _p(lift.adjusted_p),
                _number(lift.detectable),
            ],
            is_strong=lift.is_significant,
        )
        for comparison in report.comparisons
        for lift in comparison.lifts
    ]
    texts = ["Metric"] if is_one else ["Metric", "Variant"]
    treated = report.comparisons[0].variant if is_one else "Value"
    return Table(
        "Metrics",
        [*texts, control, treated, "Difference", "Change", "Adjusted p", "Detectable"],
        rows,
        note="By query, as queries are assigned. Intervals and p of Welch's test, with the delta "
        "method's variance for ratios and for the quantile; p of outcomes by Holm's method over "
        "all of them. Bold: significant. Detectable: the change that as many queries show with a "
        "probability of 0.8.",
        texts=len(texts),
    )


def _guard_rails(report: "AbReport") -> Part:
    tones: dict[str, Tone] = {"kept": "good", "open": "warn", "broken": "bad"}
    rows: list[Cells] = [
        [
            TITLES[check.rail.metric],
            comparison.variant,
            Cell(check.state, tone=tones[check.state]),
            _percent(check.rail.worst_relative_change),
        ]
        for comparison in report.comparisons
        for check in comparison.guard_rails
    ]
    if not rows:
        return Text("The experiment has none.")
    return Table(
        "Guard-rails",
        ["Metric", "Variant", "State", "Limit"],
        rows,
        note="Kept or broken where the whole interval of the change is on that side of the limit; "
        "open where there are too few answers to tell.",
        texts=3,
    )


def _sample(report: "AbReport") -> Table:
    rows = [
        [
            sample.variant,
            f"{sample.share:.2%}",
            f"{sample.queries:,}",
            f"{sample.answers:,}",
            f"{sample.events:,}",
        ]
        for sample in report.samples
    ]
    return Table(
        "Sample",
        ["Variant", "Share", "Queries", "Answers", "Events"],
        rows,
        note=f"That the queries are as many as the shares say has p = {_p(report.sample_ratio_p)} "
        f"(chi-square). Left out are {report.contaminated:,} queries that saw several variants, "
        f"and {report.overridden:,} with an override.",
    )


def _interval(report: "AbReport") -> str:
    return f"{100 * (1 - report.level):g} % interval"


def _number(value: float | None) -> str:
    """Returns four significant digits."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def _span(change: "Change") -> str:
    if change.low is None:
        return "-"
    return f"{_signed(change.low)} to {_signed(change.high)}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f} %"


def _percents(change: "Change") -> str:
    if change.low is None:
        return "-"
    return f"{_percent(change.low)} to {_percent(change.high)}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.1g}"
