"""The job of `materialize`, and what its steps share: current ids, rows for the online store.

All is partitioned by ranges of the ids' hash, so that no task holds more than one of them, and
what tasks write is in the order in which the online store is loaded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Bools
from feature_store.core.files import write_atomically
from feature_store.core.hashing import hash_of_ids
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.forgotten import Forgotten
from feature_store.online.store import View
from feature_store.schema import Side
from pipelines.executor import Executor, LocalExecutor
from pipelines.executor.tasks import run_tasks
from pipelines.prepared.reader import Prepared
from pipelines.settings import DataConfig

Task = TypeVar("Task")
Summary = TypeVar("Summary")

# With fewer rows Ray would take longer to start than the work takes.
_EXECUTOR_FROM_ROWS = 10_000_000


@dataclass(frozen=True)
class Catalogue:
    """The ids of a side.

    Attributes:
        side: Side of the ids.
        path: File of the side's `Vocabulary`.
        version: Fingerprint of the prepared data, which changes whenever the file does.
        forgotten: Ids that are no longer current, whether or not `prepare` has run since.
    """

    side: Side
    path: Path
    version: str
    forgotten: Forgotten


@lru_cache(maxsize=2)
def load_ids(catalogue: Catalogue) -> tuple[pa.Array, Bools]:
    """Returns the ids by index, [ids], and which of them are current."""
    ids = Vocabulary.load(catalogue.path)
    current = (ids.counts.to_numpy() > 0) & ids.tokens.is_valid().to_numpy(zero_copy_only=False)
    current &= ~catalogue.forgotten.contains(catalogue.side, ids.tokens)
    return ids.tokens, current


@dataclass(frozen=True)
class Job:
    """The input of every step.

    Attributes:
        prepared: The prepared data.
        data: Configuration of the log, as it was prepared, with the log's present place.
        forgotten: Ids of which nothing stays.
        directory: Directory of the feature store.
        work: Folder for what steps hand each other.
        say: Callback that shows the user a line of text.
        executor: Engine that runs the tasks of a large step.
    """

    prepared: Prepared
    data: DataConfig
    forgotten: Forgotten
    directory: Path
    work: Path
    say: Callable[[str], None]
    executor: Executor

    def catalogue(self, side: Side) -> Catalogue:
        """Returns the ids of a side."""
        path = self.prepared.directory.absolute() / "vocabulary" / f"{side}_id.parquet"
        return Catalogue(side, path, self.prepared.manifest.fingerprint, self.forgotten)

    def run_tasks(
        self, step: str, function: Callable[[Task], Summary], tasks: Sequence[Task], rows: int
    ) -> list[Summary]:
        """Runs a step's tasks, each once, however often the stage is killed; see `run_tasks`.

        Args:
            step: Name of the step.
            function: Function of a module.
            tasks: Small, picklable values.
            rows: Number of rows of all tasks; this process runs the tasks where it is small.
        """
        executor = self.executor if rows >= _EXECUTOR_FROM_ROWS else LocalExecutor()
        summaries = [self.work / step / f"{index:05d}.json" for index in range(len(tasks))]
        return run_tasks(executor, function, tasks, summaries=summaries, say=self.say)


@dataclass(frozen=True)
class Written:
    """The outcome of a task that writes a part of a view.

    Attributes:
        rows: Number of rows for the online store.
        changed: Number of rows added to the snapshots.
    """

    rows: int
    changed: int


@dataclass(frozen=True)
class WaitingRows:
    """The rows of a view that wait for the online store.

    Attributes:
        view: View of the rows.
        files: Files in the order of the ids' hash; see `write_rows`.
        rows: Number of rows.
        changed: Number of rows added to the snapshots.
    """

    view: View
    files: list[Path]
    rows: int
    changed: int


def write_rows(path: Path, ids: pa.Array, rows: pa.Array) -> None:
    """Writes an Arrow IPC file with columns id and row, in the order of the ids' hash."""
    order = pa.array(np.argsort(hash_of_ids(ids), kind="stable"))
    table = pa.table({"id": ids.take(order), "row": rows.take(order)})
    options = pa.ipc.IpcWriteOptions(compression="lz4")

    def write(temporary: Path) -> None:
        with (
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, table.schema, options=options) as writer,
        ):
            writer.write_table(table)

    write_atomically(path, write)
