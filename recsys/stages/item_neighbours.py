"""Neighbours of items that views show, fitted before a training begins."""

from pathlib import Path

from rich.console import Console

from feature_store.core.files import directory_written_atomically, never
from pipelines.prepared.reader import Prepared
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.co_occurrence import CoOccurrence
from recsys.channels.content import Content
from recsys.channels.log import TrainingLog
from recsys.channels.neighbours import Neighbours
from recsys.config.config import Config
from recsys.ssl.neighbours import write_neighbours
from recsys.stages.channel_lists import channel_lists, lists_locked, remove_channel_lists

# Name of their folder in the directory of an unfinished training.
NEIGHBOURS = "neighbours"


def fit_neighbours(
    config: Config, prepared: Prepared, work_dir: Path, console: Console, stage: str = "train"
) -> Path | None:
    """Fits the neighbours that views show, and returns where they are; None: views show none.

    `fuse` finds the lists that they are taken from, and need not fit them again.

    Args:
        config: Configuration of the training.
        prepared: Its prepared data.
        work_dir: Directory of the unfinished training.
        console: Console to show progress on.
        stage: Name of the stage, for the terminal.
    """
    plan = config.ssl.view_plan
    if plan is None or not plan.of_neighbours:
        return None
    directory = work_dir / NEIGHBOURS
    if directory.exists():  # The training was interrupted.
        return directory
    data = ChannelData(prepared, TrainingLog.read(prepared))

    def lists(channel: type[Channel]) -> Neighbours | None:
        if channel.why_not(data) is not None:
            return None
        return channel_lists(config, data, channel, stage, console)

    with lists_locked(config), directory_written_atomically(directory, never) as written:
        write_neighbours(written, lists(CoOccurrence), lists(Content), prepared.is_current_item)
        if not config.ranking.channels:
            remove_channel_lists(config)
    return directory
