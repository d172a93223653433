"""Outcome of a day, as one line of JSON and as an exit code."""

from typing import Literal

from feature_store.core.settings import Frozen

Kind = Literal["promoted", "kept", "nothing new", "refused", "failed"]

# Outcomes after which a day is finished: the next call for it does nothing.
FINAL: tuple[Kind, ...] = ("promoted", "kept")
# Exit codes; those of the second table are for callers that ask for them, because schedulers take
# anything but 0 for a failure.
_CODES: dict[Kind, int] = {"failed": 1, "refused": 3}
_OUTCOME_CODES: dict[Kind, int] = {"kept": 10, "nothing new": 11}


class Outcome(Frozen):
    """Result of a day.

    Attributes:
        format: Version of this format.
        date: Name of the day's directory.
        as_of: Time after which events do not count, ISO 8601.
        outcome: promoted: the new model is the champion; kept: it is not, and the champion stays;
            nothing new: no event came since the day before; refused: the log is faulty; failed: a
            stage failed, and the next call goes on from there.
        reason: Sentence that says why.
        is_repeated: Whether an earlier call had finished the day.
        model: Name of the registered model.
        version: Version of the new bundle; None where there is none.
        champion: Version of the champion after the day; None where there is none.
        champion_age_days: Days from the champion's data to this day's; None without a champion.
        better_but_kept: Number of finished days since the champion is one, up to this one, on which
            it stayed although the new model was better overall, for that was worse in a slice.
        seal: Seal of the new bundle, where it became the champion.
        mlflow_run_id: Run of the evaluated training; None where nothing was trained.
        started_from: Model that the training began with; None where nothing was trained.
        metric: Metric of the comparison.
        value: Its value on the test, of the new model.
        champion_value: Its value of the champion on the same held-out items.
        new_files: Number of files of the log that are new or changed since the last finished day.
        passed_over: Number of files that earlier days were refused for, and that were not read.
        events: Number of events of all splits; None where the log was not prepared.
        last_event: Time of the last event, ISO 8601; None as of `events`.
        trained_to: End of the training events of the evaluated model, ISO 8601, where it moves.
        uncompared: Number of finished days in a row, up to this one, on which the champion could
            not be compared.
        git_commit: Commit of the code, where it runs from a checkout.
        seconds: Duration of the call.
    """

    format: int = 1
    date: str
    as_of: str
    outcome: Kind
    reason: str
    is_repeated: bool = False
    model: str
    version: str | None = None
    champion: str | None = None
    champion_age_days: int | None = None
    better_but_kept: int = 0
    seal: str | None = None
    mlflow_run_id: str | None = None
    started_from: Literal["scratch", "champion"] | None = None
    metric: str
    value: float | None = None
    champion_value: float | None = None
    new_files: int = 0
    passed_over: int = 0
    events: int | None = None
    last_event: str | None = None
    trained_to: str | None = None
    uncompared: int = 0
    git_commit: str | None = None
    seconds: float = 0.0

    @property
    def is_final(self) -> bool:
        """Whether the day is finished."""
        return self.outcome in FINAL

    @property
    def needs_somebody(self) -> bool:
        """Whether the next day will end as this one unless somebody acts."""
        return self.outcome in ("failed", "refused") or self.uncompared > 1

    def exit_code(self, *, with_outcomes: bool) -> int:
        """Returns the exit code of a command.

        A champion that cannot be compared once may be one of a day that is gone; twice in a row, no
        model will replace it any more, and schedulers must show it.

        Args:
            with_outcomes: Whether a kept champion and a day without news have codes of their own.
        """
        if self.uncompared > 1:
            return _CODES["failed"]
        codes = {**_CODES, **(_OUTCOME_CODES if with_outcomes else {})}
        return codes.get(self.outcome, 0)
