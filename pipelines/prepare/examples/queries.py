"""The state of all queries, joined from the buckets."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np

from feature_store.core.columns import (
    Column,
    Dense,
    Ints,
    Jagged,
    read_columns,
    write_bags,
    write_columns,
)
from feature_store.core.files import write_array
from feature_store.encoding.context import NO_TIME
from feature_store.history import windows
from feature_store.schema import qualified
from pipelines.prepare.job import Run
from pipelines.prepared.examples import SPLITS
from pipelines.prepared.query_state import QueryState

# Number of items that are in memory at a time, or those of one query where it has more.
_MOST_ITEMS = 8_000_000


def write_query_state(run: Run, queries: int) -> None:
    """Joins the state and the context of the queries of all buckets.

    The items of all queries are as many as the events, so those of a range of the queries are
    joined at a time; the context, which is as much for each query, is joined at once.
    """
    folder, directory = run.folder("examples"), run.directory / "queries"
    files = sorted(folder.glob("state-*"))
    offsets = _offsets(files, queries)
    write_bags(directory / "state.arrow", offsets, _state_in_ranges(files, offsets))
    names = [qualified("context", feature) for feature in run.job.features.context]
    for split in SPLITS[1:] if names else ():
        files = sorted(folder.glob(f"context-{split}-*"))
        columns = {name: _joined(files, name, queries) for name in names}
        write_columns(directory / f"context-{split}.arrow", columns)
    files = sorted(folder.glob("latest-*"))
    if files:
        latest = np.full(queries, NO_TIME)
        for file in files:
            index, time = np.load(file)
            latest[index] = time
        write_array(directory / "latest.npy", latest)


def _offsets(files: list[Path], queries: int) -> dict[str, Ints]:
    """Returns the offsets of each column of the state, [queries + 1]."""
    offsets: dict[str, Ints] = {
        field.name: np.zeros(queries + 1, np.int64) for field in fields(QueryState)
    }
    for file in files:
        part = _read(file)
        for name, of_all in offsets.items():
            of_all[1:][part["query"].values] = part[name].lengths
    for of_all in offsets.values():
        np.cumsum(of_all, out=of_all)
    return offsets


def _state_in_ranges(
    files: list[Path], offsets: dict[str, Ints]
) -> Iterator[tuple[str, int, Ints]]:
    """Yields columns of ranges of the queries: name, position of the first value, and values."""
    ends: Ints = np.zeros_like(offsets["train"])
    for of_all in offsets.values():
        ends += of_all
    begin, queries = 0, len(ends) - 1
    while begin < queries:
        most = ends[begin] + _MOST_ITEMS
        end = max(begin + 1, int(np.searchsorted(ends, most, side="right")) - 1)
        bounds = {name: of_all[[begin, end]] for name, of_all in offsets.items()}
        joined = {name: np.empty(last - first, np.int32) for name, (first, last) in bounds.items()}
        for file in files:
            part = _read(file)
            index = part["query"].values
            low, high = np.searchsorted(index, [begin, end])
            for name, values in joined.items():
                bags = part[name]
                first, last = bags.offsets[[low, high]]
                starts = offsets[name][index[low:high]] - bounds[name][0]
                places = windows(starts, bags.lengths[low:high]).values
                values[places] = bags.values[first:last]
        for name, values in joined.items():
            if len(values):
                yield name, int(bounds[name][0]), values
        begin = end


def _read(file: Path) -> dict[str, Jagged]:
    """Maps the state of a bucket's queries, which are in the order of their indices."""
    return {
        name: column for name, column in read_columns(file).items() if isinstance(column, Jagged)
    }


def _joined(files: list[Path], name: str, queries: int) -> Column:
    """Joins one column of all buckets, in the order of the queries' indices."""
    parts = [read_columns(file) for file in files]
    columns = [(_indices(part), part[name]) for part in parts]
    dense = [(index, column) for index, column in columns if isinstance(column, Dense)]
    if dense:
        values = np.zeros((queries, dense[0][1].values.shape[1]), np.float32)
        present = np.zeros(queries, bool)
        for index, numbers in dense:
            values[index], present[index] = numbers.values, numbers.present
        return Dense(values, present)
    jagged = [(index, column) for index, column in columns if isinstance(column, Jagged)]
    lengths = np.zeros(queries, np.int64)
    for index, bags in jagged:
        lengths[index] = bags.lengths
    joined = Jagged.from_lengths(np.empty(int(lengths.sum()), np.int32), lengths)
    for index, bags in jagged:
        positions, _ = joined.positions(index)
        joined.values[positions] = bags.values
    return joined


def _indices(part: dict[str, Column]) -> Ints:
    """Returns the indices of a bucket's queries."""
    column = part["query"]
    assert isinstance(column, Jagged)
    return column.values
