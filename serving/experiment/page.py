"""The report of an A/B test as a page."""

from typing import TYPE_CHECKING

from pipelines.reports.format import as_sentence
from pipelines.reports.opening import Judged, Mark, Verdict
from pipelines.reports.parts import Cell, Cells, Chart, Page, Part, Row, Section, Table, Text, Tone
from pipelines.reports.plots import Range, Ranges
from recsys.evaluation.rivals import FEW_PAIRS
from serving.experiment.experiment import OUTCOME_METRICS, Metric
from serving.experiment.sentences import (
    TITLES,
    figure,
    figures_of,
    interval_title,
    p_in_sentence,
    p_value,
    percent,
    percents,
    sentence_of,
    warnings,
)

if TYPE_CHECKING:
    from serving.experiment.result import AbReport, Comparison
    from serving.experiment.statistics import Change, Lift


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


def ab_page(report: "AbReport") -> Page:
    """Returns the report as a page."""
    return Page(
        title=f"A/B test {report.experiment}",
        query=report.query,
        opening=[_opening(report, comparison) for comparison in report.comparisons],
        lead=f"Answers from {report.first_exposure:%Y-%m-%d %H:%M} to "
        f"{report.last_exposure:%Y-%m-%d %H:%M} UTC; "
        f"{report.event_type or 'all'} events up to {report.window_hours:g} hours later",
        warnings=[Text(f"Warning: {text}", "warning") for text in warnings(report)],
        sections=[
            Section("changes", "Changes", _changes(report)),
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
    sentence = sentence_of(report, comparison, is_brief=True)
    # A name stays as it is, also where a sentence begins with it.
    begins = f"Variant {sentence}" if sentence.startswith(f"{variant} ") else as_sentence(sentence)
    is_open = any(check.state == "open" for check in comparison.guard_rails)
    if is_open and mark == "better":
        todo = "Go on until the guard-rails are kept: more queries make the intervals smaller."
    if mark == "no different" and (few := _few(report)):
        mark, word, todo = "cannot tell", "too few outcomes", f"Go on: {few}."
    todo = todo.format(control=control, variant=variant)
    return Verdict(mark, f"{begins.removesuffix('.')}.", groups, todo, word)


def _few(report: "AbReport") -> str:
    """Returns how many outcomes each variant has, where they are too few to tell anything."""
    if min(sample.events for sample in report.samples) >= FEW_PAIRS:
        return ""
    counts = ", ".join(f"{sample.variant} has {sample.events:,}" for sample in report.samples)
    return f"{counts}, and below {FEW_PAIRS} outcomes hardly any difference shows"


def _judged(report: "AbReport", lift: "Lift") -> Judged:
    text = figures_of(report, lift, is_named=False)
    is_few = lift.metric in OUTCOME_METRICS and bool(_few(report)) and not lift.is_significant
    if lift.adjusted_p is None or lift.absolute.value is None or is_few:
        return Judged(TITLES[lift.metric], "cannot tell", text)
    if not lift.is_significant:
        return Judged(TITLES[lift.metric], "no different", text)
    is_more = lift.absolute.value > 0
    is_better = is_more != (lift.metric in _LESS_IS_BETTER)
    return Judged(TITLES[lift.metric], "better" if is_better else "worse", text)


def _changes(report: "AbReport") -> list[Part]:
    charts = [part for each in report.comparisons for part in _forest(report, each)]
    return charts or [Text("Nothing can be compared yet.")]


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
        f"In per cent of {control}; whiskers are {interval_title(report)}s. Right of 0 is more: of "
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
                figure(lift.control),
                figure(lift.treated),
                Cell(_signed(lift.absolute.value), [_span(lift.absolute)]),
                Cell(percent(lift.relative.value), [percents(lift.relative)]),
                p_value(lift.adjusted_p),
                figure(lift.detectable),
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
            Cell(percent(lift.relative.value), [percents(lift.relative)]),
            percent(check.rail.worst_relative_change),
        ]
        for comparison in report.comparisons
        for check in comparison.guard_rails
        for lift in comparison.lifts
        if lift.metric == check.rail.metric
    ]
    if not rows:
        return Text("The experiment has none.")
    return Table(
        "Guard-rails",
        ["Metric", "Variant", "State", "Change", "Limit"],
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
        note="That the queries are as many as the shares say has p "
        f"{p_in_sentence(report.sample_ratio_p)} (chi-square). Left out are "
        f"{report.contaminated:,} queries that saw several variants, and {report.overridden:,} "
        "with an override.",
    )


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def _span(change: "Change") -> str:
    if change.low is None:
        return "-"
    return f"{_signed(change.low)} to {_signed(change.high)}"
