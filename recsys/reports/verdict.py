"""The verdict on a model: against the best baseline, and against another model."""

from collections.abc import Sequence

from pipelines.reports.format import number
from pipelines.reports.opening import Judged, Mark, Verdict, listed, summed_up
from recsys.evaluation.metrics import metric_title
from recsys.evaluation.results import METHOD_TITLES, EvaluationResult, advice_on
from recsys.evaluation.rivals import FEW_PAIRS, Standing, beaten_of

_NOTHING = "nothing is held out"


def baseline_verdict(result: EvaluationResult) -> Verdict:
    """Returns the verdict on the model against the best baseline, overall and by slice.

    Worse is what `rivals` says: significantly, after correction, and on enough pairs.
    """
    if not result.standings:
        reason = "an earlier version evaluated it" if result.counts.get("queries") else _NOTHING
        sentence = f"This model cannot be held against a baseline: {reason}."
        todo = "Evaluate it again, with something held out (data.split)."
        return Verdict("cannot tell", sentence, todo=todo)
    groups = [_judged(result, group) for group in result.groups()]
    mark, words = summed_up(groups)
    shown = [group for group in groups if group.text != _NOTHING]
    return Verdict(mark, _sentence(groups, words), shown, _todo(mark, groups), words)


def best_of(result: EvaluationResult, group: str) -> Standing | None:
    """Returns the baseline that finds most in a group; None where none was tested there."""
    found = [
        each
        for each in result.standings
        if (each.group, each.metric) == (group, result.judged_by)
        and each.method != "random"
        and not result.is_part(each.method)
    ]
    return max(found, key=lambda each: each.value, default=None)


def _sentence(groups: Sequence[Judged], words: str) -> str:
    overall, *parts = groups
    if overall.mark == "cannot tell":
        return f"This model cannot be held against a baseline: {overall.text}."
    sentence = f"Against the best baseline, {overall.text}"
    if words:
        sentence += f"; overall {overall.mark}, but {words}"
    better = [part.name for part in parts if part.mark == "better"]
    return f"{sentence}; better in {listed(better)}." if better else f"{sentence}."


def _judged(result: EvaluationResult, group: str) -> Judged:
    best = best_of(result, group)
    if best is None:
        return Judged(group, "cannot tell", _NOTHING)
    rivals = [each for each in result.rivals if each.group == group]
    rivals = [each for each in rivals if not result.is_part(each.method)]
    if rivals:
        rival = max(rivals, key=lambda each: (each.metric == result.judged_by, each.value))
        return Judged(
            group, "worse", _figures(rival.method, rival.metric, rival.model, rival.value)
        )
    text = _figures(best.method, best.metric, best.model, best.value)
    if best.p is None:
        return Judged(group, "cannot tell", f"only {best.pairs} held-out pairs; {text}")
    is_better = best in beaten_of(result.standings)
    return Judged(group, "better" if is_better else "no different", text)


def _figures(method: str, metric: str, model: float, value: float) -> str:
    title = METHOD_TITLES[method]
    return f"{title}: {metric_title(metric)} {number(model)} against its {number(value)}"


def _todo(mark: Mark, groups: Sequence[Judged]) -> str:
    worst = next((group for group in groups if group.mark == "worse"), None)
    if worst is not None:
        where = "" if worst.name == "overall" else f" of the {worst.name}"
        method = worst.text.partition(":")[0]
        return f"{method} finds more{where}: {advice_on(worst.name)}."
    if mark == "cannot tell":
        return f"Hold out more, so that at least {FEW_PAIRS} pairs are to be found: see data.split."
    if mark == "no different":
        return (
            "A simple baseline finds as much: give the model more features or events, or try "
            "`recsys tune`, before you serve it."
        )
    return "Compare it with the model in use (`recsys compare`), then `recsys export`."
