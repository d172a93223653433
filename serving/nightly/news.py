"""News of the log on a day, and files that a day was refused for.

A day is refused for the files at fault, or for all its new ones where none is named. They become
suspects. A later day first tries with all files, for they may have been mended or the limits
raised, and where that is refused, without the suspects. So a bad day needs nobody, and no file is
lost. But a configuration of the data that is not the last training's may be wrong itself: with it,
an error that names no file fails the day.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from rich.console import Console

from feature_store.core.errors import PlaceError, UserError
from feature_store.core.locks import BusyError
from feature_store.core.times import as_utc
from pipelines.logs.filesystems import UnreadableFileError
from pipelines.logs.rejected_files import RefusedLogError
from pipelines.logs.tables import file_marks, list_files
from pipelines.prepared.manifest import PreparedManifest
from pipelines.quality.news import Known
from pipelines.settings import Quality
from recsys.checkpoint.training_manifest import readable_training
from recsys.config.config import Config
from recsys.stages.prepare import prepare
from serving.nightly.days import Days
from serving.nightly.outcome import Outcome


class News:
    """The files of the log on a day.

    Args:
        config: Configuration of the system.
        days: Directories of the days.
        date: Name of the day.
        last: Outcome of the last finished day; None: there is none.

    Attributes:
        read: Marks of the files that the day reads.
        new: Number of the files that are new or changed since the last finished day.
    """

    def __init__(self, config: Config, days: Days, date: str, last: Outcome | None) -> None:
        self._config = config
        self._days = days
        self._date = date
        self._last = last
        self._marks = file_marks(list_files(config.data))
        self._suspects = {mark: day for mark, day in days.suspects().items() if mark in self._all()}
        self._before = days.sources(last.date) if last is not None else set()
        self.read = self._all()

    def _all(self) -> set[str]:
        return {mark for marks in self._marks.values() for mark in marks.values()}

    @property
    def new(self) -> int:
        """Number of the files that are new or changed since the last finished day."""
        return len(self.read - self._before)

    @property
    def is_nothing(self) -> bool:
        """Whether no file is new or changed, but for those that earlier days were refused for."""
        return self._last is not None and self._all() - self._of_earlier_days() == self._before

    def _of_earlier_days(self) -> set[str]:
        return {mark for mark, day in self._suspects.items() if day != self._date}

    def prepare(self, as_of: datetime, console: Console) -> PreparedManifest:
        """Prepares the log, without the suspects where it is refused with them.

        Raises:
            RefusedDayError: The log of the day is refused.
            BusyError: Another process uses the prepared data.
            AheadError: The day is ahead of the clock and of the log.
            PlaceError: The prepared data must not be written where it would be.
            UserError: The configuration does not fit the log.
        """
        known = None
        if self._last is not None and self._before:
            known = Known(frozenset(self._before), datetime.fromisoformat(self._last.as_of))
        passed_over: set[str] = set()
        while True:
            try:
                prepared = prepare(
                    self._config,
                    as_of=as_of,
                    passed_over=passed_over,
                    known=known,
                    console=console,
                )
                break
            except (BusyError, PlaceError):
                raise
            except UserError as error:
                if not passed_over and self._of_earlier_days():
                    console.print(f"job: {error}", highlight=False, soft_wrap=True)
                    console.print("job: trying without the files of the refused days")
                    passed_over = self._of_earlier_days()
                    continue
                if not _names_files(error):
                    require_past(as_of, self._last.last_event if self._last else None)
                    if self._is_of_other_configuration():
                        raise
                self._refuse(error)
                raise RefusedDayError(str(error)) from error
        self.read = self._all() - passed_over
        self._days.suspect({mark: self._suspects[mark] for mark in passed_over})
        return prepared

    def _is_of_other_configuration(self) -> bool:
        """Returns whether no training has had this configuration of data and features."""
        trained = readable_training(self._config.train_dir)
        return trained is None or _read_by(trained.config) != _read_by(self._config)

    def _refuse(self, error: UserError) -> None:
        """Notes the files at fault, or all new ones of the events where none is named."""
        events: Mapping[str, str] = self._marks["events"]
        named: tuple[str, ...] = ()
        if isinstance(error, RefusedLogError):
            named = error.files
        elif isinstance(error, UnreadableFileError):
            named = (error.file,)
        found = {events[file] for file in named if file in events}
        new = set(events.values()) - self._before - self._of_earlier_days()
        blamed = {mark: self._date for mark in (found & new or new)}
        self._days.suspect({**self._suspects, **blamed})


def _names_files(error: UserError) -> bool:
    """Returns whether an error is that of files, whatever the configuration."""
    return isinstance(error, (RefusedLogError, UnreadableFileError))


def _read_by(config: Config) -> object:
    """Returns what decides how the log is read; limits do not."""
    data = config.data.model_copy(update={"quality": Quality()})
    return data.model_dump(mode="json"), config.features.model_dump(mode="json")


class RefusedDayError(UserError):
    """A day whose log is refused: the champion stays, and the next day goes on."""


class AheadError(UserError):
    """A day that is ahead of the clock and of the log: the days before it would be lost."""


def require_past(as_of: datetime, last_event: str | None) -> None:
    """Refuses a time that is more than a day after now and after the last event.

    The log alone does not tell, for it may be late; nor does the clock, for a log may be simulated.
    """
    latest = datetime.now(UTC)
    if last_event is not None:
        latest = max(latest, as_utc(datetime.fromisoformat(last_event)))
    end = latest + timedelta(days=1)
    if as_of > end:
        raise AheadError(
            f"{as_of:%Y-%m-%d} is ahead of the clock and of the log; days are done in order, so "
            f"those before it would never be: name one up to {end:%Y-%m-%d}."
        )
