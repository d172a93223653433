"""The state of all queries, joined from the buckets."""

from dataclasses import fields
from pathlib import Path

import numpy as np

from feature_store.core.columns import Column, Dense, Ints, Jagged, read_columns, write_columns
from feature_store.core.files import write_array
from feature_store.encoding.context import NO_TIME
from feature_store.schema import qualified
from pipelines.prepare.job import Run
from pipelines.prepared.query_state import QueryState
from pipelines.prepared.reader import SPLITS


def write_query_state(run: Run, queries: int) -> None:
    """Joins the state and the context of the queries of all buckets, one column at a time."""
    folder, directory = run.folder("examples"), run.directory / "queries"
    files = sorted(folder.glob("state-*"))
    columns = {field.name: _joined(files, field.name, queries) for field in fields(QueryState)}
    write_columns(directory / "state.arrow", columns)
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
