"""The verdict on a run as MLflow shows it: the run's description, in Markdown."""

from pipelines.reports.opening import SIGNS
from recsys.evaluation.results import EvaluationResult
from recsys.reports.verdict import baseline_verdict


def run_note(result: EvaluationResult) -> str:
    """Returns the verdict against the best baseline, its parts, and what to do next."""
    verdict = baseline_verdict(result)
    lines = [f"**{SIGNS[verdict.mark]} {verdict.word or verdict.mark}.** {verdict.sentence}", ""]
    lines += [
        f"- {SIGNS[each.mark]} {each.name}: {each.mark}; {each.text}" for each in verdict.groups
    ]
    if verdict.todo:
        lines += ["", verdict.todo]
    return "\n".join(lines)
