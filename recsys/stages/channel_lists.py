"""Lists of channels, which `train` may need before `fuse` does."""

import shutil
from pathlib import Path

from rich.console import Console

from feature_store.core.manifests import fingerprint
from pipelines.executor import executor_named
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.fit import fit_channel
from recsys.channels.neighbours import Neighbours
from recsys.config.config import Config

_VERSION = 5


def channel_lists(
    config: Config, data: ChannelData, channel: type[Channel], stage: str, console: Console
) -> Neighbours:
    """Fits the lists of a channel, or maps those that another stage has fitted to the same data.

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
    work_dir = _work_dir(config) / identity / channel.lists
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
