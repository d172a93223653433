"""The examples of a training that goes on from an earlier one: all new ones, and some older ones.

A model that only sees a new day forgets the days before it. So a part of its examples is drawn
from these, each time others (Rolnick et al., Experience replay for continual learning, 2019).

    <directory>/part-*.parquet        rows of the prepared files, in their order
    <directory>/item_frequency.npy    [items] their events of each item, from which Q follows
"""

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.columns import Bools, Ints
from feature_store.core.files import (
    directory_written_atomically,
    marked_by,
    write_array,
    write_parquet,
)
from feature_store.core.hashing import hash_uniform
from pipelines.prepared.examples import part_file
from pipelines.prepared.reader import Prepared

# Stream of random choices.
_REPLAY = 24
_FREQUENCY = "item_frequency.npy"


class Selected(NamedTuple):
    """Numbers of examples.

    Attributes:
        new: Number of those that are newer than the earlier training's.
        replayed: Number of the others that are chosen, too.
    """

    new: int
    replayed: int


def select_examples(
    prepared: Prepared, directory: Path, *, since: datetime, share: float, seed: int
) -> Selected | None:
    """Writes the examples that are new, and older ones drawn at random, or finds them written.

    Args:
        prepared: Prepared data with all examples.
        directory: Directory to write.
        since: Time of the latest example of the earlier training.
        share: Part of older ones among all that are chosen, as far as there are so many.
        seed: Seed of the draw.

    Returns:
        The numbers of examples; None where none is new, and nothing is written.
    """
    files = prepared.examples("train")
    total = sum(pq.read_metadata(file).num_rows for file in files)
    new = sum(int(_is_new(file, since).sum()) for file in files)
    if not new:
        return None
    if not directory.is_dir():
        probability = min(1.0, new * share / (1 - share) / max(1, total - new))
        _write(prepared, directory, since, probability, seed)
    return Selected(new, int(selected_events(directory).sum()) - new)


def selected_files(directory: Path) -> list[Path]:
    """Lists the files of the examples that were chosen, in order."""
    return sorted(directory.glob("part-*.parquet"))


def selected_events(directory: Path) -> Ints:
    """Returns the number of each item's events among the examples that were chosen, [items]."""
    events: Ints = np.load(directory / _FREQUENCY)
    return events


def _is_new(file: Path, since: datetime) -> Bools:
    times = pq.read_table(file, columns=["timestamp"])["timestamp"]
    return np.array(pc.greater(times, pa.scalar(since, times.type)))


def _write(
    prepared: Prepared, directory: Path, since: datetime, probability: float, seed: int
) -> None:
    events = np.zeros(prepared.num_items, np.int64)
    moment = int(since.timestamp() * 1e6)  # Another training draws others.
    with directory_written_atomically(directory, marked_by(_FREQUENCY)) as written:
        for index, file in enumerate(prepared.examples("train")):
            is_chosen = _is_new(file, since)
            draws = hash_uniform(seed, _REPLAY, moment, index, np.arange(len(is_chosen)))
            is_chosen |= draws < probability
            if not is_chosen.any():
                continue
            table = pq.read_table(file).filter(pa.array(is_chosen))
            write_parquet(part_file(written, index), table, _rows_of_group(file))
            events += np.bincount(table["item"].to_numpy(), minlength=len(events))
        write_array(written / _FREQUENCY, events)


def _rows_of_group(file: Path) -> int:
    footer = pq.read_metadata(file)
    return max(footer.row_group(group).num_rows for group in range(footer.num_row_groups))
