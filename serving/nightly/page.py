"""The page of a day: its outcome, the comparison with the champion, and how the log has changed."""

from dataclasses import replace
from datetime import UTC, datetime

from pipelines.quality.quality import Quality
from pipelines.reports.opening import Verdict
from pipelines.reports.parts import Facts, Page, Part, Section, Table, Text
from recsys.comparison.report import comparison_verdict, differences_table, verdict_parts
from recsys.evaluation.metrics import metric_title
from serving.exporting.champion import Judgement
from serving.nightly.outcome import Outcome

# Differences of the log that are shown.
_SHOWN = 20


def day_page(outcome: Outcome, judgement: Judgement | None, quality: Quality | None) -> Page:
    """Returns the page.

    Args:
        outcome: Outcome of the day.
        judgement: Comparison with the champion; None where there was none.
        quality: Quality of the day's log; None where it was not prepared.
    """
    sections = [Section("outcome", "Outcome", [_facts(outcome)])]
    if judgement is not None:
        comparison = judgement.comparison
        parts = [*verdict_parts(comparison), differences_table(comparison)]
        sections.append(Section("comparison", "Champion (A) and new model (B)", parts))
    if quality is not None:
        sections.append(Section("log", "Log", [_shifts(quality)]))
    return Page(
        title=f"Day {outcome.date}",
        query="query" if quality is None else quality.query,
        lead=f"{outcome.outcome}: {outcome.reason}",
        sections=sections,
        opening=[_verdict(outcome, judgement)],
    )


def _verdict(outcome: Outcome, judgement: Judgement | None) -> Verdict:
    """Returns the verdict on the new model against the champion."""
    if judgement is not None:
        verdict = comparison_verdict(judgement.comparison, "the new model", "the champion")
        return replace(verdict, todo="")  # The job has done it.
    sentence = "No new model was compared with the champion on this day."
    return Verdict("cannot tell", sentence, word=outcome.outcome)


def _facts(outcome: Outcome) -> Part:
    named = {
        "Model": outcome.model,
        "New version": outcome.version,
        "Champion": outcome.champion,
        f"{metric_title(outcome.metric)} of the new model": _number(outcome.value),
        f"{metric_title(outcome.metric)} of the champion": _number(outcome.champion_value),
        "Training began with": outcome.started_from,
        "New files": f"{outcome.new_files:,}",
        "Files of refused days that were not read": f"{outcome.passed_over:,}",
        "Events": None if outcome.events is None else f"{outcome.events:,}",
        "Last event (UTC)": None if outcome.last_event is None else _minute(outcome.last_event),
        "MLflow run": outcome.mlflow_run_id,
        "Commit": outcome.git_commit,
        "Seconds": f"{outcome.seconds:,.0f}",
    }
    return Facts([(name, value) for name, value in named.items() if value is not None])


def _minute(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _shifts(quality: Quality) -> Part:
    if not quality.shifts:
        return Text("The log is like that of the run before.")
    rows = [[shift.name, shift.verdict, shift.sentence] for shift in quality.shifts[:_SHOWN]]
    return Table("Differences to the run before", ["Of", "Verdict", "What"], rows, texts=3)
