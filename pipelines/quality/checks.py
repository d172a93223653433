"""The verdict on a log against that of the run before, and its checks."""

from pipelines.logs.left_out import faults
from pipelines.quality.drift import THRESHOLDS
from pipelines.quality.quality import Quality
from pipelines.reports.format import count_of
from pipelines.reports.opening import Check, State, Verdict


def quality_verdict(quality: Quality) -> Verdict:
    """Returns whether the log is like that of the run before; better it cannot be."""
    if quality.compared_with is None:
        sentence = "This is the first run, so there is nothing to compare the log with."
        todo = "Read the rejected rows and the gaps in time below; the next run tells what moved."
        return Verdict("cannot tell", sentence, todo=todo, word="first run")
    shifts, sentence = quality.shifts, drift_sentence(quality)
    if not shifts:
        return Verdict("no different", sentence, todo="Go on and train.")
    is_large = shifts[0].verdict == "large shift"
    return Verdict(
        "worse" if is_large else "no different",
        sentence,
        todo="Find out whether the world or the log has changed, before you train on it."
        if is_large
        else "Look at what moved below; small shifts are usual.",
        word="large shift" if is_large else "shifted",
    )


def quality_checks(quality: Quality, of_rows: str = "rows", of_drift: str = "drift") -> list[Check]:
    """Returns whether the rows were kept, and whether the log is like that of the run before.

    Args:
        quality: Report to judge.
        of_rows: Key of the section on the rows.
        of_drift: Key of the section on the drift.
    """
    states: dict[str, State] = {"stable": "passes", "shifted": "look", "large shift": "fails"}
    worst = quality.drift[0].verdict if quality.drift else "stable"
    drift = (
        Check("Drift", "not known", "There is no run before to compare with.", of_rows)
        if quality.compared_with is None
        else Check("Drift", states[worst], drift_sentence(quality), of_drift)
    )
    return [_kept(quality, of_rows), drift]


def drift_sentence(quality: Quality) -> str:
    """Returns how many figures moved since the run before, and the one that moved most."""
    shifts = quality.shifts
    figures = count_of(len(quality.drift), "figure")
    if not shifts:
        return f"None of {figures} moved since the run before."
    large = sum(each.verdict == "large shift" for each in shifts)
    first = f"{shifts[0].name}: {shifts[0].sentence}"
    return (
        f"{len(shifts):,} of {figures} moved since the run before, {large or 'none'} of them far; "
        f"most: {first}."
    )


def _kept(quality: Quality, see: str) -> Check:
    events = quality.tables[0]
    found = faults(events.rejected)
    share = sum(found.values()) / max(1, events.read)
    look, fails = THRESHOLDS["rejected"]
    text = f"{share:.1%} of {count_of(events.read, 'event')} were rejected"
    if found:
        text += f", most because: {next(iter(found))}"
    if chosen := sum(events.rejected.values()) - sum(found.values()):
        text += f"; {count_of(chosen, 'event')} left out as configured"
    state: State = "fails" if share >= fails else "look" if share >= look else "passes"
    if quality.rejected_files:
        text += f"; {count_of(len(quality.rejected_files), 'file')} put aside"
        state = "fails"
    return Check("Data", state, f"{text}.", see)
