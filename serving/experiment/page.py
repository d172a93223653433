"""How the report of an A/B test is shown: in sentences, on a terminal, and as a page."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from pipelines.reports.page import render_page
from pipelines.reports.parts import CLASS_OF_MODEL, table
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
# The plot of changes, in SVG units.
_WIDTH, _ROW, _LABEL = 720, 26, 230


def sentences(report: "AbReport") -> list[str]:
    """The verdict on each variant."""
    return [_sentence(report, comparison) for comparison in report.comparisons]


def warnings(report: "AbReport") -> list[str]:
    """What a reader must not overlook."""
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
        found.append("no event is on an item that its query was recommended before.")
    return found


def print_ab_report(report: "AbReport", console: Console) -> None:
    """Prints the metrics of each variant against the control, in 80 columns, and the verdict."""
    control = report.samples[0].variant
    for comparison in report.comparisons:
        shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
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


def render_ab_report(report: "AbReport") -> str:
    """The report as one page of HTML."""
    return render_page(
        title=f"A/B test {report.experiment}",
        subtitle=f"Answers from {report.first_exposure:%Y-%m-%d %H:%M} to "
        f"{report.last_exposure:%Y-%m-%d %H:%M} UTC; "
        f"{report.event_type or 'all'} events up to {report.window_hours:g} hours later",
        warnings=[escape(text) for text in warnings(report)],
        sections=[
            ("verdict", "Verdict", _verdict(report)),
            ("metrics", "Metrics", _metrics(report)),
            ("guard-rails", "Guard-rails", _guard_rails(report)),
            ("sample", "Sample", _sample(report)),
        ],
        style=(files("recsys.reports") / "report.css").read_text(encoding="utf-8"),
    )


def _sentence(report: "AbReport", comparison: "Comparison") -> str:
    control, variant = report.samples[0].variant, comparison.variant
    significant = [_figures(report, lift) for lift in comparison.lifts if _counts(lift)]
    first = comparison.lifts[0]
    found = "; ".join(significant)
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
    return " and ".join(TITLES[metric].lower() for metric in metrics)


def _figures(report: "AbReport", lift: "Lift") -> str:
    text = f"{TITLES[lift.metric].lower()} {_number(lift.control)} to {_number(lift.treated)}"
    if lift.relative.low is None:
        return text
    return (
        f"{text} ({_percent(lift.relative.value)}, {_interval(report)} "
        f"{_percents(lift.relative)}, adjusted p = {_p(lift.adjusted_p)})"
    )


def _verdict(report: "AbReport") -> str:
    body = ""
    for sentence, comparison in zip(sentences(report), report.comparisons, strict=True):
        body += f"<p><strong>{escape(sentence)}</strong></p>{_forest(report, comparison)}"
    return body


def _forest(report: "AbReport", comparison: "Comparison") -> str:
    """The relative change of each metric, with its interval."""
    changes = [(each.metric, each.relative) for each in comparison.lifts]
    drawn = [
        (metric, change.value, change.low, change.high)
        for metric, change in changes
        if change.value is not None and change.low is not None and change.high is not None
    ]
    if not drawn:
        return ""
    reach = max([abs(end) for _, _, low, high in drawn for end in (low, high)] + [1e-9]) * 1.1
    middle, half = (_LABEL + _WIDTH) / 2, (_WIDTH - _LABEL) / 2 - 8

    def x(value: float) -> str:
        return f"{middle + half * value / reach:.1f}"

    parts = [f'<line class="axis" x1="{middle}" x2="{middle}" y1="0" y2="{_ROW * len(drawn)}"/>']
    for place, (metric, value, low, high) in enumerate(drawn):
        y = _ROW * (place + 0.5)
        parts.append(
            f'<text x="0" y="{y + 4}">{TITLES[metric]}</text>'
            f'<line class="curve" x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot" cx="{x(value)}" cy="{y}" r="4"/>'
        )
    control = report.samples[0].variant
    label = escape(f"Change of {comparison.variant} against {control}")
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_ROW * len(drawn)}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg><figcaption>{label}, in per cent of '
        f"{escape(control)}; the ends are {_interval(report)}s, and the outermost is "
        f"{reach / 1.1:.1%} away. Of fallbacks and latency less is better.</figcaption></figure>"
    )


def _metrics(report: "AbReport") -> str:
    control = report.samples[0].variant
    note = (
        "By query, as queries are assigned. Intervals and p of Welch's test, with the delta "
        "method's variance for ratios and for the quantile; p of outcomes by Holm's method over "
        "all of them. Bold: significant. Detectable: the change that as many queries show with a "
        "probability of 0.8."
    )
    rows = [
        f'<tr{CLASS_OF_MODEL if lift.is_significant else ""}><th scope="row">'
        f"{TITLES[lift.metric]}</th>{_variant(report, comparison)}"
        f"<td>{_number(lift.control)}</td><td>{_number(lift.treated)}</td>"
        f"<td>{_signed(lift.absolute.value)}<small>{_span(lift.absolute)}</small></td>"
        f"<td>{_percent(lift.relative.value)}<small>{_percents(lift.relative)}</small></td>"
        f"<td>{_p(lift.adjusted_p)}</td><td>{_number(lift.detectable)}</td></tr>"
        for comparison in report.comparisons
        for lift in comparison.lifts
    ]
    is_one = len(report.comparisons) == 1
    texts = ["Metric"] if is_one else ["Metric", "Variant"]
    treated = report.comparisons[0].variant if is_one else "Value"
    numbers = [control, treated, "Difference", "Change", "Adjusted p", "Detectable"]
    return table("Metrics", note, texts, numbers, rows)


def _variant(report: "AbReport", comparison: "Comparison") -> str:
    """A column where there are several."""
    if len(report.comparisons) == 1:
        return ""
    return f'<td class="text">{escape(comparison.variant)}</td>'


def _guard_rails(report: "AbReport") -> str:
    rows = [
        f'<tr><th scope="row">{TITLES[check.rail.metric]}</th>'
        f'<td class="text">{escape(comparison.variant)}</td>'
        f'<td class="text">{check.state}</td>'
        f"<td>{_percent(check.rail.worst_relative_change)}</td></tr>"
        for comparison in report.comparisons
        for check in comparison.guard_rails
    ]
    if not rows:
        return "<p>The experiment has none.</p>"
    note = (
        "Kept or broken where the whole interval of the change is on that side of the limit; open "
        "where there are too few answers to tell."
    )
    return table("Guard-rails", note, ["Metric", "Variant", "State"], ["Limit"], rows)


def _sample(report: "AbReport") -> str:
    rows = [
        f'<tr><th scope="row">{escape(sample.variant)}</th><td>{sample.share:.2%}</td>'
        f"<td>{sample.queries:,}</td><td>{sample.answers:,}</td><td>{sample.events:,}</td></tr>"
        for sample in report.samples
    ]
    note = (
        f"That the queries are as many as the shares say has p = {_p(report.sample_ratio_p)} "
        f"(chi-square). Left out are {report.contaminated:,} queries that saw several variants, "
        f"and {report.overridden:,} with an override."
    )
    return table("Sample", note, ["Variant"], ["Share", "Queries", "Answers", "Events"], rows)


def _interval(report: "AbReport") -> str:
    return f"{100 * (1 - report.level):g} % interval"


def _number(value: float | None) -> str:
    """With four significant digits."""
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
