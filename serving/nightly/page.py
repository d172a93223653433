"""The page of a day: its outcome, the comparison with the champion, and how the log has changed."""

from dataclasses import replace
from datetime import UTC, datetime

from pipelines.quality.quality import Quality
from pipelines.reports.opening import Verdict
from pipelines.reports.parts import Facts, Page, Part, Section, Table, Text
from recsys.comparison.report import comparison_verdict, differences_table, verdict_parts
from recsys.evaluation.metrics import metric_title
from serving.exporting.champion import Judgement
from serving.nightly.outcome import Kind, Outcome

# Deeds of the job, in words.
_DID: dict[Kind, str] = {
    "promoted": "The new model is the champion now",
    "kept": "The champion stays",
    "nothing new": "There was nothing to do",
    "refused": "The log was refused, and the champion stays",
    "failed": "The job failed, and the champion stays",
}
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
        lead=f"Data to {_minute(outcome.as_of)} UTC; the job took {_duration(outcome.seconds)}",
        sections=sections,
        opening=[_verdict(outcome, judgement)],
    )


def _verdict(outcome: Outcome, judgement: Judgement | None) -> Verdict:
    """Returns the verdict on the new model against the champion, and what the job did."""
    did = _DID[outcome.outcome]
    if judgement is None:
        return Verdict(
            "cannot tell", f"{did}: {outcome.reason.removesuffix('.')}.", word=outcome.outcome
        )
    verdict = comparison_verdict(judgement.comparison, "the new model", "the champion")
    is_compared = judgement.sentence() in outcome.reason
    # The job has done what is to be done. Its reason is the comparison, unless it names another.
    because = "" if is_compared else f": {outcome.reason.removesuffix('.')}"
    return replace(verdict, sentence=f"{verdict.sentence} {did}{because}.", todo="")


def _duration(seconds: float) -> str:
    """Returns a number of seconds, or of minutes of a longer time."""
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def _facts(outcome: Outcome) -> Part:
    named = {
        "Outcome": outcome.outcome,
        "Reason": outcome.reason,
        "Model": outcome.model,
        "Version of the new model": outcome.version,
        "Version of the champion": outcome.champion,
        "Age of the champion in days": _count(outcome.champion_age_days),
        "Days on which it stayed though a new model was better overall": _count(
            outcome.better_but_kept or None
        ),
        f"{metric_title(outcome.metric)} of the new model": _number(outcome.value),
        f"{metric_title(outcome.metric)} of the champion": _number(outcome.champion_value),
        "Training began with": outcome.started_from,
        "New files": f"{outcome.new_files:,}",
        "Files of refused days that were not read": f"{outcome.passed_over:,}",
        "Events": None if outcome.events is None else f"{outcome.events:,}",
        "Last event (UTC)": None if outcome.last_event is None else _minute(outcome.last_event),
        "MLflow run": outcome.mlflow_run_id,
        "Commit": outcome.git_commit and outcome.git_commit[:12],
    }
    return Facts([(name, value) for name, value in named.items() if value is not None])


def _minute(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M}"


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _shifts(quality: Quality) -> Part:
    if not quality.shifts:
        return Text("The log is like that of the run before.")
    rows = [[shift.name, shift.verdict, shift.sentence] for shift in quality.shifts[:_SHOWN]]
    return Table("Differences to the run before", ["Of", "Verdict", "What"], rows, texts=3)
