"""The `prepare` stage of a configuration."""

from datetime import datetime

from rich.console import Console

from pipelines.prepare import prepare as prepare_log
from pipelines.prepared import PreparedManifest
from recsys.config import Config


def prepare(
    config: Config, *, as_of: datetime | None = None, console: Console | None = None
) -> PreparedManifest:
    """Turns the log into examples, or returns at once where exactly that is already done.

    Args:
        config: Its data and features.
        as_of: Later events are rejected as future ones; None: now.
        console: For progress.

    Returns:
        The manifest of `config.prepared_dir`; see `pipelines.prepared`.

    Raises:
        UserError: A file or column is missing or unreadable, or nothing is left to train on.
    """
    return prepare_log(
        config.data, config.features, config.prepared_dir, as_of=as_of, console=console
    )
