"""Lists of channels, which `train` may need before `fuse` does."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from feature_store.core.locks import locked
from feature_store.core.manifests import fingerprint
from pipelines.executor import executor_named
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.fit import fit_channel, is_fitted
from recsys.channels.neighbours import Neighbours
from recsys.config.config import Config

# Version of the lists; those of another one are fitted anew.
_VERSION = 1


@contextmanager
def lists_locked(config: Config) -> Iterator[None]:
    """Keeps other commands from fitting or removing lists while the block fits and reads them.

    Raises:
        UserError: Another process has them; see `locked`.
    """
    with locked(_work_dir(config)):
        yield


def channel_lists(
    config: Config, data: ChannelData, channel: type[Channel], stage: str, console: Console
) -> Neighbours:
    """Fits the lists of a channel, or maps those that another stage has fitted to the same data.

    It is called within `lists_locked`. Lists of other data or of another length are removed.

    Args:
        config: Configuration of the lists.
        data: Training events and features.
        channel: Kind of the channel.
        stage: Name of the stage, for the terminal.
        console: Console to show progress on.
    """
    identity = fingerprint(
        [_VERSION, data.prepared.manifest.fingerprint, config.ranking.neighbours]
    )
    directory = _work_dir(config) / identity
    if not directory.exists():
        remove_channel_lists(config)
    work_dir = directory / channel.lists
    if not is_fitted(work_dir):
        console.print(f"{stage}: fitting {channel.title}")
    return fit_channel(
        channel,
        data,
        neighbours=config.ranking.neighbours,
        work_dir=work_dir,
        executor=executor_named(config.executor),
        say=console.print,
    )


def remove_channel_lists(config: Config) -> None:
    """Removes all lists, once they are written where they are served from."""
    shutil.rmtree(_work_dir(config), ignore_errors=True)


def _work_dir(config: Config) -> Path:
    return config.fusion_dir.with_name("fusion.work")
