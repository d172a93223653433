"""The `prepare` stage: a log to examples; and the list of ids that it drops."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.locks import locked
from feature_store.forgotten import Forgotten
from pipelines.executor import executor_named
from pipelines.prepare.prepare import prepare as prepare_log
from pipelines.prepared.reader import PreparedManifest
from recsys.config.config import Config


def prepare(
    config: Config, *, as_of: datetime | None = None, console: Console | None = None
) -> PreparedManifest:
    """Turns the log into examples, or returns at once where exactly that is already done.

    Args:
        config: Configuration of the data and the features.
        as_of: Time after which events are rejected as future ones; None: now.
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
        console=console,
    )


def forget(config: Config, *, query_ids: Sequence[str] = (), item_ids: Sequence[str] = ()) -> int:
    """Makes every later `prepare` drop all rows of some queries and items.

    Keyed hashes of the ids are written, not the ids. Files of earlier runs stay until `prepare` and
    the stages after it run again. The log itself is left to the caller.

    Args:
        config: Configuration of the output.
        query_ids: Ids of queries.
        item_ids: Ids of items.

    Returns:
        Number of ids that are new on the list.

    Raises:
        UserError: There is no id, or the list cannot be read.
    """
    if not query_ids and not item_ids:
        raise UserError("nothing to forget: expected at least one --query-id or --item-id.")
    with locked(config.forgotten_path):
        before = Forgotten.load(config.forgotten_path)
        after = before.adding("query", query_ids).adding("item", item_ids)
        if after != before:
            after.save(config.forgotten_path)
    return len(after.query) + len(after.item) - len(before.query) - len(before.item)
