"""The log of answers (exposures) and of their outcomes, in Parquet.

    exposures/date=YYYY-MM-DD/part-<time>-<pid>-<n>.parquet    see `Exposure`
    events/date=YYYY-MM-DD/part-<time>-<pid>-<n>.parquet       see `Outcome`
    experiment.json                                            only of an A/B test

A file appears whole or not at all. Dates are those of the rows, in UTC.
"""

import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from feature_store.core.errors import UserError
from feature_store.core.files import require_replaceable
from feature_store.core.manifests import written_as
from serving.experiment.experiment import (
    EXPERIMENT_JSON,
    Experiment,
    read_experiment,
    write_experiment,
)
from serving.experiment.log_buffer import RowBuffer
from serving.experiment.log_rows import (
    EVENTS,
    EXPOSURE_SCHEMA,
    EXPOSURES,
    OUTCOME_SCHEMA,
    Exposure,
    Outcome,
)

# Bytes of a waiting row's objects beside its texts, and of the score of each of its items and their
# places in lists.
_ROW_BYTES, _ITEM_BYTES = 400, 40
_LOG_FILE = re.compile(r"\.?part-\d+-\d+-\d+\.parquet(\.[0-9a-f]+\.tmp)?")


class ExposureLog:
    """Writes the log in the background; any thread may add to it.

    Adding never fails and never waits for the disk. Rows that the disk does not take are kept and
    tried again; those that there is no room for, or that are malformed, are dropped and counted. A
    process that is killed loses rows that it had not yet written: at most `max_rows` of each kind,
    or the rows of `seconds`, and those that came while these were being written.

    Args:
        directory: Directory of the log; several processes may share it.
        experiment: Experiment of the exposures; kept in the directory for the report.
        max_rows: Rows of one kind, after which a file is written. Fewer make more, smaller files.
        seconds: Seconds after which a file is written anyway.

    Raises:
        UserError: The directory cannot be written, or has the log of another experiment.
    """

    def __init__(
        self,
        directory: Path,
        *,
        experiment: Experiment | None = None,
        max_rows: int = 20_000,
        seconds: float = 30.0,
    ) -> None:
        _prepare(directory, experiment)
        self._seconds = seconds
        self._full, self._closing = threading.Event(), threading.Event()
        self._exposures = RowBuffer(directory / EXPOSURES, EXPOSURE_SCHEMA, max_rows, self._full)
        self._outcomes = RowBuffer(directory / EVENTS, OUTCOME_SCHEMA, max_rows, self._full)
        self._thread = threading.Thread(target=self._run, name="exposure-log", daemon=True)
        self._thread.start()

    def add_exposure(self, exposure: Exposure) -> None:
        """Adds an answer."""
        texts = _bytes_of([exposure.query_id, exposure.request_id, *exposure.item_ids])
        self._exposures.append(exposure, _ROW_BYTES + _ITEM_BYTES * len(exposure.item_ids) + texts)

    def add_outcome(self, outcome: Outcome) -> None:
        """Adds an outcome."""
        texts = [outcome.query_id, outcome.item_id, outcome.event_type, outcome.request_id or ""]
        self._outcomes.append(outcome, _ROW_BYTES + _bytes_of(texts))

    @property
    def dropped(self) -> int:
        """Number of rows that are lost."""
        return self._exposures.dropped + self._outcomes.dropped

    def close(self) -> None:
        """Writes the rows that are left, once; others, and those that come later, are dropped."""
        self._closing.set()
        self._full.set()
        self._thread.join()
        for buffer in (self._exposures, self._outcomes):
            buffer.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._full.wait(self._seconds)
            self._full.clear()
            # A list, for a disk that refuses the one kind need not refuse the other.
            if not all([self._exposures.flush(), self._outcomes.flush()]):
                self._closing.wait(self._seconds)


def _bytes_of(texts: Iterable[str]) -> int:
    """Counts the bytes of texts, as Python keeps them."""
    return sum(map(sys.getsizeof, texts))


def _prepare(directory: Path, experiment: Experiment | None) -> None:
    """Makes the directory and records the experiment."""
    require_replaceable(directory, _is_log)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        is_noted = (directory / EXPERIMENT_JSON).exists()
        before = read_experiment(directory) if is_noted else None
        is_begun = is_noted or (directory / EXPOSURES).exists()
        if is_begun and division(before) != division(experiment):
            raise UserError(
                f"{directory} has the log of {_named(before)}, not of {_named(experiment)} with "
                "the same salt and shares; give a new directory, for a report is of one division "
                "of the queries."
            )
        if experiment is not None:
            write_experiment(directory, experiment)
    except OSError as error:
        raise UserError(
            f"cannot write to {directory} ({error.strerror}); give a directory that can be written."
        ) from error


def _is_log(directory: Path) -> bool:
    """Returns whether a directory holds such a log; other logs of events have other names."""
    files = (next((directory / kind).glob("*/*"), None) for kind in (EXPOSURES, EVENTS))
    is_begun = any(file is not None and _LOG_FILE.fullmatch(file.name) for file in files)
    return is_begun or written_as(Experiment, EXPERIMENT_JSON)(directory)


def division(experiment: Experiment | None) -> object:
    """Returns the keys by which queries are divided; a log is of one division."""
    if experiment is None:
        return None
    shares = [(variant.name, variant.share) for variant in experiment.variants]
    return experiment.name, experiment.salt, shares


def _named(experiment: Experiment | None) -> str:
    return "no experiment" if experiment is None else f"experiment {experiment.name!r}"
