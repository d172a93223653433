"""The job of a day: it prepares, trains, evaluates, compares, exports and promotes.

    new files of the log    prepare, train, evaluate; the champion on the same held-out items
    the new one not worse   refit on all events, bundle, registry, promotion
    the new one worse       the champion stays; comparison and reason are kept

Each stage returns at once where it is done, and a day's directory is written last. So a job that
was killed anywhere is finished by the next call, and a day that is finished is not done twice.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.locks import locked
from feature_store.core.times import as_utc
from recsys.config.config import Config
from serving.nightly.day import Day
from serving.nightly.days import PAGE, Days, day_name
from serving.nightly.news import AheadError, RefusedDayError
from serving.nightly.notify import notify
from serving.nightly.outcome import Outcome
from serving.registry.registry import CHAMPION, current_seals


def run_day(config: Config, as_of: datetime, *, console: Console | None = None) -> Outcome:
    """Does the work of a day, or returns at once where it is finished.

    Args:
        config: Configuration of the system, with the output of all days.
        as_of: Time after which events do not count; without a time zone in UTC.
        console: Console to show progress on.

    Returns:
        The outcome, which is also in the day's directory.

    Raises:
        UserError: Another process is at work on this output, see `waiting`; the day's directory
            holds something else; or the day is ahead of the clock and of the log.
    """
    console, as_of = console or Console(), as_utc(as_of)
    with locked(Path(config.output) / "job"), ExitStack() as held:
        days = Days(config)
        done = days.outcome(day_name(as_of))
        if done is not None and done.is_final:
            _finish(config, days, done, console)
            return done.model_copy(update={"is_repeated": True})
        days.require_own(day_name(as_of))
        started = time.monotonic()
        day = Day(config, as_of, days, console, held)
        try:
            outcome = day.run()
        except AheadError:  # It must not be among the days.
            raise
        except RefusedDayError as error:
            outcome = day.refused(str(error))
        except UserError as error:
            outcome = day.outcome("failed", str(error))
        except Exception as error:
            _fail(config, day, days, error, console)
            raise
        seconds = round(time.monotonic() - started, 1)
        outcome = outcome.model_copy(update={"seconds": seconds})
        try:
            day.write(outcome)
        except Exception as error:
            _fail(config, day, days, error, console)
            raise
        _finish(config, days, outcome, console)
        return outcome


def run_days(
    config: Config, first: datetime, last: datetime, *, console: Console | None = None
) -> Iterator[Outcome]:
    """Does the work of several days in order, and ends at one that fails.

    Args:
        config: Configuration of the system.
        first: Time of the first day.
        last: Time of the last day.
        console: Console to show progress on.

    Raises:
        UserError: The first day is after the last one, or another process is at work.
    """
    if first > last:
        raise UserError(f"--from {first:%Y-%m-%d} is after --to {last:%Y-%m-%d}; swap them.")
    as_of = first
    while as_of <= last:
        outcome = run_day(config, as_of, console=console)
        yield outcome
        if outcome.outcome == "failed":
            return
        as_of += timedelta(days=1)


def _fail(config: Config, day: Day, days: Days, error: Exception, console: Console) -> None:
    """Tells that a day failed, also where it cannot be kept, such as on a full disk."""
    failed = day.outcome("failed", f"{type(error).__name__}: {error}")
    with suppress(Exception):  # The error that is raised is the first one.
        day.write(failed)
    _tell(config, days, failed, console)


def _finish(config: Config, days: Days, outcome: Outcome, console: Console) -> None:
    """Makes `latest` the champion's day, tells the outcome, and removes old days.

    Receivers may act on what they are told, and serve `latest`; so it is told after that.
    """
    try:
        seals = current_seals(config)
        if CHAMPION in seals:
            days.point_latest(seals[CHAMPION])
    finally:
        if not days.is_told(outcome):
            _tell(config, days, outcome, console)
    days.prune(config.job.retention, set(seals.values()))


def _tell(config: Config, days: Days, outcome: Outcome, console: Console) -> None:
    say = partial(console.print, "job:", highlight=False, soft_wrap=True)
    notify(config, outcome, days.path(outcome.date) / PAGE, say)
    with suppress(OSError):  # It is told again by the next call.
        days.note_told(outcome)
