"""The offline store: the raw features over time, as snapshots.

    offline/<view>/part-<i>-of-<n>.parquet     the snapshots of the ids of a range of hashes

A row is valid from its `event_timestamp` until the next row of its id. There is a row only where
something changed; where the id is gone, all features are null and `is_current` is false. A part is
rewritten as a whole when it changes, and replaced atomically.

Histories of queries are kept in `query_history`, only the latest ones: the history at the time of
an event is in its example.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.columns import Bools, Ints
from feature_store.core.errors import UserError
from feature_store.core.files import write_parquet
from feature_store.core.hashing import hash_of_ids
from feature_store.core.rows import encode_rows
from feature_store.forgotten import Forgotten
from feature_store.offline.views import EVENT_TIME, ID_COLUMN, IS_CURRENT, FeatureView

TIME_TYPE = pa.timestamp("us", "UTC")

_PART = re.compile(r"part-(\d{5})-of-(\d{5})\.parquet")
_PART_IDS = 200_000


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of a view.

    Attributes:
        view: View of the features.
        directory: Directory of the parts.
        parts: Number of parts; it never changes, for it decides which part an id is in.
    """

    view: FeatureView
    directory: Path
    parts: int

    @classmethod
    def open(cls, view: FeatureView, offline: Path, rows: int) -> "Snapshots":
        """Opens the snapshots of a view below `offline`; a new one is cut into parts for `rows`."""
        directory = offline / view.name
        matches = [_PART.fullmatch(path.name) for path in directory.glob("part-*.parquet")]
        parts = {int(match[2]) for match in matches if match is not None}
        return cls(view, directory, max(parts, default=max(1, -(-rows // _PART_IDS))))

    @property
    def schema(self) -> pa.Schema:
        """Columns of the snapshots; the features have their names in Feast."""
        names = self.view.feast_names
        return pa.schema(
            [
                pa.field(self.view.id_column, pa.string(), nullable=False),
                pa.field(EVENT_TIME, TIME_TYPE, nullable=False),
                pa.field(IS_CURRENT, pa.bool_(), nullable=False),
                *(pa.field(names[field.name], field.type) for field in self.view.columns),
            ]
        )

    @property
    def file_schema(self) -> pa.Schema:
        """Columns of the files: vectors are lists, for Parquet does not read nulls among them."""
        return pa.schema(
            [
                field.with_type(pa.list_(field.type.value_type))
                if pa.types.is_fixed_size_list(field.type)
                else field
                for field in self.schema
            ]
        )

    def path(self, part: int) -> Path:
        """Returns the path of a part's file."""
        return self.directory / f"part-{part:05d}-of-{self.parts:05d}.parquet"

    def part_of(self, ids: pa.Array) -> Ints:
        """Returns the part that each id is in, [n]."""
        return hash_of_ids(ids) * self.parts >> 32

    def read(self, part: int) -> pa.Table:
        """Reads a part, in the columns of `schema`; features that the part lacks are null."""
        path = self.path(part)
        if not path.exists():
            return self.schema.empty_table()
        table = pq.read_table(path)
        columns = [
            _as_type(table[field.name], field.type)
            if field.name in table.column_names
            else pa.nulls(len(table), field.type)
            for field in self.schema
        ]
        return pa.table(columns, schema=self.schema)

    def require_latest(self, as_of: datetime) -> None:
        """Checks that no snapshot is later: one put before it would change its meaning.

        Raises:
            UserError: There is a later snapshot.
        """
        for path in self.directory.glob("part-*.parquet"):
            metadata = pq.read_metadata(path)
            for group in range(metadata.num_row_groups):
                column = metadata.row_group(group).column(self.schema.names.index(EVENT_TIME))
                if column.statistics.max > as_of:
                    raise UserError(
                        f"{self.directory} has snapshots later than {as_of.isoformat()}, the time "
                        "of the prepared data; prepare with a later --as-of, or choose another "
                        "output."
                    )

    def write(
        self, part: int, ids: pa.Array, features: pa.Table, as_of: datetime, forgotten: Forgotten
    ) -> int:
        """Adds a snapshot of all ids of a part.

        Args:
            part: Number of the part.
            ids: Distinct ids that are current.
            features: Raw values of the ids, in the columns of the view.
            as_of: Time of the values, checked by `require_latest`; an earlier snapshot of the same
                time is replaced.
            forgotten: Ids whose rows are removed.

        Returns:
            Number of rows that changed; without any the file is left as it is.
        """
        before = self.read(part)
        moment = pa.scalar(as_of, TIME_TYPE)
        past = before.filter(pc.less(before[EVENT_TIME], moment))
        past = past.filter(pa.array(~self._forgotten(past, forgotten)))
        latest = past.take(pa.array(_latest_rows(past[self.view.id_column])))
        now = self._rows(ids, features, as_of, is_current=True)
        changed = now.filter(pa.array(_differs(now, latest, self.view.id_column)))
        was_current = latest.filter(latest[IS_CURRENT])[self.view.id_column].combine_chunks()
        gone = was_current.filter(pc.invert(pc.is_in(was_current, value_set=ids)))
        nothing = pa.table(
            [pa.nulls(len(gone), kind) for kind in self.view.columns.types],
            schema=self.view.columns,
        )
        tombstones = self._rows(gone, nothing, as_of, is_current=False)
        after = pa.concat_tables([past, changed, tombstones]).sort_by(
            [(self.view.id_column, "ascending"), (EVENT_TIME, "ascending")]
        )
        path = self.path(part)
        kept = self.file_schema
        if after.equals(before) and (not path.exists() or pq.read_schema(path).equals(kept)):
            return 0
        write_parquet(path, after.cast(kept))
        return len(changed) + len(tombstones)

    def join(self, entities: pa.Table) -> pa.Table:
        """Joins the features as they were known at the time of each row.

        One part is in memory beside the rows, whatever the number of snapshots: a function for
        `map_batches`, of rows partitioned by `part_of` where there are many batches.

        Args:
            entities: Rows with columns `view.id_column`, `event_timestamp`, and any others.

        Returns:
            The same rows in the same order, with a column for each feature, under its own name.
        """
        ids = entities[self.view.id_column].combine_chunks().cast(pa.string())
        part = self.part_of(ids)
        joined: list[pa.Table] = []
        rows: list[Ints] = []
        for index in np.unique(part):
            rows.append(np.flatnonzero(part == index))
            snapshots = self.read(int(index)).drop_columns([IS_CURRENT])
            chosen = entities.take(pa.array(rows[-1]))
            joined.append(point_in_time(chosen, snapshots, on=self.view.id_column))
        if not rows:
            snapshots = self.schema.empty_table().drop_columns([IS_CURRENT])
            return point_in_time(entities, snapshots, on=self.view.id_column)
        position = np.argsort(np.concatenate(rows))
        return pa.concat_tables(joined).take(pa.array(position)).combine_chunks()

    def _rows(
        self, ids: pa.Array, features: pa.Table, as_of: datetime, *, is_current: bool
    ) -> pa.Table:
        count = len(ids)
        columns = [
            ids.cast(pa.string()),
            pa.repeat(pa.scalar(as_of, TIME_TYPE), count),
            pa.repeat(pa.scalar(is_current), count),
            *(features[field.name] for field in self.view.columns),
        ]
        return pa.table(columns, schema=self.schema)

    def _forgotten(self, table: pa.Table, forgotten: Forgotten) -> Bools:
        if not forgotten.of(self.view.side) or not len(table):
            return np.zeros(len(table), bool)
        encoded = table[self.view.id_column].combine_chunks().dictionary_encode()
        is_match = forgotten.contains(self.view.side, encoded.dictionary)
        return is_match[encoded.indices.to_numpy()]


def write_history_snapshot(path: Path, ids: pa.Array, rows: pa.Table, as_of: datetime) -> None:
    """Writes the recent histories of some queries, for Feast.

    Args:
        path: File below `query_history`.
        ids: Query ids, [n].
        rows: Histories in the columns of `HISTORY_SCHEMA`, [n].
        as_of: Time of the histories.
    """
    times = pa.repeat(pa.scalar(as_of, TIME_TYPE), len(ids))
    columns = {ID_COLUMN["query"]: ids, EVENT_TIME: times}
    columns |= {name: rows[name] for name in rows.column_names}
    write_parquet(path, pa.table(columns))


def point_in_time(
    entities: pa.Table, snapshots: pa.Table, *, on: str, time: str = EVENT_TIME
) -> pa.Table:
    """Joins to each row the latest snapshot of its id that is not later than the row.

    Args:
        entities: Rows with columns `on`, `time` and any others, in any order; they may repeat.
        snapshots: Rows with the same two columns and the features, in any order; the last row
            counts where several have one id and time.
        on: Column of the ids; integers and their text are the same.
        time: Column of timestamps in both.

    Returns:
        Rows of `entities` in their order, with the other columns of the snapshots; null where
        there is none yet.
    """
    ids = pa.concat_arrays(
        [table[on].combine_chunks().cast(pa.string()) for table in (snapshots, entities)]
    )
    codes = pc.fill_null(ids.dictionary_encode().indices, -1).to_numpy().astype(np.int64)
    codes[codes < 0] = codes.max(initial=0) + 1
    code, wanted_code = codes[: len(snapshots)], codes[len(snapshots) :]
    moment, wanted = (_micros(table[time]) for table in (snapshots, entities))
    moments = np.unique(moment)
    # One ascending key: the id, then the rank of the time.
    width = len(moments) + 1
    keys = code * width + np.searchsorted(moments, moment, side="right")
    order = np.argsort(keys, kind="stable")
    wanted_keys = wanted_code * width + np.searchsorted(moments, wanted, side="right")
    position = np.searchsorted(keys[order], wanted_keys, side="right") - 1
    is_known = position >= 0
    rows = order[np.maximum(position, 0)] if len(order) else np.zeros(len(position), np.int64)
    if len(order):
        is_known &= code[rows] == wanted_code
    joined = entities
    take = pa.array(rows, mask=~is_known)
    for name in snapshots.column_names:
        if name not in (on, time):
            values = snapshots[name]
            column = values.take(take) if len(order) else pa.nulls(len(entities), values.type)
            joined = joined.append_column(name, column)
    return joined


def _micros(column: pa.ChunkedArray) -> Ints:
    return column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).to_numpy()


def _latest_rows(ids: pa.ChunkedArray) -> Ints:
    """Returns the last row of each id; the rows are sorted by id and time."""
    codes = ids.combine_chunks().dictionary_encode().indices.to_numpy()
    is_last = np.ones(len(codes), bool)
    is_last[:-1] = codes[1:] != codes[:-1]
    return np.flatnonzero(is_last)


def _differs(now: pa.Table, latest: pa.Table, on: str) -> Bools:
    """Checks which rows of `now` differ from the latest snapshot of their id."""
    if not len(latest):
        return np.ones(len(now), bool)
    position = pc.index_in(now[on].combine_chunks(), value_set=latest[on].combine_chunks())
    content = [encode_rows(table.drop_columns([on, EVENT_TIME])) for table in (now, latest)]
    same = pc.equal(content[0], content[1].take(position))
    return ~pc.fill_null(same, False).to_numpy(zero_copy_only=False)


def _as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Casts a feature that was kept as another type; null where that is impossible."""
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(len(column), kind)
