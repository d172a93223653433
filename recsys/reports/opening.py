"""Opening of a run's pages: its verdict, and the checks of its data, leaks, tail and drift."""

from collections.abc import Sequence

from pipelines.quality.checks import quality_checks
from pipelines.reports.format import number
from pipelines.reports.opening import Check, Checks, Opening, State, Verdict
from recsys.evaluation.results import EvaluationResult
from recsys.evaluation.rivals import FEW_PAIRS
from recsys.reports.run.run_data import RunData
from recsys.reports.verdict import baseline_verdict

# Recall@10 that hardly any honest task allows, where there are many items.
_TOO_GOOD, _MANY_ITEMS = 0.9, 100
_RARE = ("tail", "cold")


def run_opening(run: RunData, champion: Sequence[Verdict] = ()) -> list[Opening]:
    """Returns the verdict against the best baseline, and the checks that the run's files allow.

    Args:
        run: Run to show.
        champion: Verdict against the champion, to stand below the other one; empty: there is none.
    """
    result = run.result
    if result is None:
        sentence = "This run was trained but not evaluated."
        todo = "Run `recsys evaluate` on its configuration."
        opening: list[Opening] = [Verdict("cannot tell", sentence, todo=todo)]
        checks = []
    else:
        opening = [baseline_verdict(result)]
        checks = [_leaks(result, has_time=_has_time(run)), _tail(result)]
    of_data = [] if run.quality is None else quality_checks(run.quality, "data", "data")
    # The data come first, the drift last.
    checks = [*of_data[:1], *checks, *of_data[1:]]
    opening += champion
    return [*opening, Checks(checks)] if checks else opening


def _has_time(run: RunData) -> bool:
    return run.quality is not None and run.quality.first_event is not None


def _leaks(result: EvaluationResult, *, has_time: bool) -> Check:
    """Returns whether the training may have seen what the test asks for."""
    recall, items = result.overall["recall@10"], result.counts["items"]
    if isinstance(recall, float) and recall >= _TOO_GOOD and items >= _MANY_ITEMS:
        return Check(
            "Leaks",
            "fails",
            f"Recall@10 of {number(recall)} among {items:,} items is too good to be true: look "
            "for a feature that is known only after the event.",
            "configuration",
        )
    texts: dict[str, tuple[State, str]] = {
        "time": ("passes", "All tested events are later than all training events."),
        "leave_last_out": (
            "passes",
            "The tested events are the last ones of their queries; those of other queries may be "
            "later.",
        ),
        "cold_items": ("passes", "Training has no event of the tested items."),
        "given": ("look", "The log says what is tested: no later event should be in training."),
    }
    at_random: tuple[State, str] = (
        "look" if has_time else "passes",
        "Tested events are drawn at random"
        + (", so training saw later ones; data.split by time is stricter." if has_time else "."),
    )
    return Check("Leaks", *texts.get(result.split, at_random), "results")


def _tail(result: EvaluationResult) -> Check:
    """Returns whether rare items are found more than by chance, and as much as by a baseline."""
    judged = {each.name: each.mark for each in baseline_verdict(result).groups}
    texts: list[str] = []
    state: State = "passes"
    for name in _RARE:
        pairs, recall = result.pairs(name), result.slices[name][result.judged_by]
        if pairs < FEW_PAIRS or not isinstance(recall, float):
            continue
        text = f"finds {recall:.1%} of {pairs:,} pairs in {name}"
        if recall < result.chance:
            text += f", less than chance ({result.chance:.1%})"
        if judged.get(name) == "worse":
            text += ", and a baseline more"
        if recall < result.chance or judged.get(name) == "worse":
            state = "fails"
        texts.append(text)
    if not texts:
        few = f"Fewer than {FEW_PAIRS} held-out pairs are of rare items."
        return Check("Tail", "not known", few, "tail")
    return Check(
        "Tail", state, f"Among its first {result.cutoff} this model {'; '.join(texts)}.", "tail"
    )
