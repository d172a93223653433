"""The `prepare` stage: a log to examples."""

from collections.abc import Collection
from datetime import datetime

from rich.console import Console

from feature_store.forgotten import Forgotten
from pipelines.executor import executor_named
from pipelines.prepare.prepare import prepare as prepare_log
from pipelines.prepared.manifest import PreparedManifest
from pipelines.quality.news import Known
from recsys.config.config import Config


def prepare(
    config: Config,
    *,
    as_of: datetime | None = None,
    passed_over: Collection[str] = (),
    known: Known | None = None,
    console: Console | None = None,
) -> PreparedManifest:
    """Turns the log into examples, or returns at once where exactly that is already done.

    Args:
        config: Configuration of the data and the features.
        as_of: Time after which events are rejected as future ones, and from which windows of the
            split count back; None: now, and the last event.
        passed_over: Marks of files of the events that are not read.
        known: Files that an earlier run has read, beside which new ones are judged; None: they are
            not.
        console: Console to show progress on.

    Returns:
        The manifest of `config.prepared_dir`; see `pipelines.prepared`.

    Raises:
        UserError: A file or column is missing or unreadable, or nothing is left to train on.
    """
    return prepare_log(
        config.data,
        config.features,
        config.prepared_dir,
        executor=executor_named(config.executor),
        as_of=as_of,
        forgotten=Forgotten.load(config.forgotten_path),
        passed_over=passed_over,
        known=known,
        console=console,
    )
