"""The offline store: what the raw features were, and when.

    offline/<view>/part-<i>-of-<n>.parquet     the snapshots of the ids of a range of hashes

A row holds from its `event_timestamp` until the next row of its id. There is one only where
something changed; where the id was gone, all features are null and `is_current` is false. A part is
rewritten as a whole when it changes, and replaced atomically.

Of the queries' histories there is only the latest, in `query_history`: what was known when an event
happened is in its example.
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
        view: What they hold.
        directory: Of its parts.
        parts: How many; never changed, for ids would lie elsewhere.
    """

    view: FeatureView
    directory: Path
    parts: int

    @classmethod
    def open(cls, view: FeatureView, offline: Path, rows: int) -> "Snapshots":
        """Of a view below `offline`; cut into parts for so many rows where it is new."""
        directory = offline / view.name
        found = [_PART.fullmatch(path.name) for path in directory.glob("part-*.parquet")]
        parts = {int(match[2]) for match in found if match is not None}
        return cls(view, directory, max(parts, default=max(1, -(-rows // _PART_IDS))))

    @property
    def schema(self) -> pa.Schema:
        """Of the snapshots; the features have their names in Feast."""
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
        """Of the files: vectors are lists, for Parquet cannot be read with a null among them."""
        return pa.schema(
            [
                field.with_type(pa.list_(field.type.value_type))
                if pa.types.is_fixed_size_list(field.type)
                else field
                for field in self.schema
            ]
        )

    def path(self, part: int) -> Path:
        """Of a part's file."""
        return self.directory / f"part-{part:05d}-of-{self.parts:05d}.parquet"

    def part_of(self, ids: pa.Array) -> Ints:
        """[n] the part that each id is in."""
        return hash_of_ids(ids) * self.parts >> 32

    def read(self, part: int) -> pa.Table:
        """A part, in the columns of `schema`; features that are new since are null."""
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
        """A snapshot that is put before another would change what that one says.

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
            part: Which.
            ids: Distinct ids that are current.
            features: Their raw values, in the columns of the view.
            as_of: When they were so, as `require_latest` wants it; an earlier snapshot of the same
                time is replaced.
            forgotten: Ids of which no row stays.

        Returns:
            How many rows changed; the file is left as it is where none did.
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
        """The features as they were known at the time of each row.

        Holds one part in memory beside the rows, whatever the number of snapshots: a function for
        `map_batches`, of rows that were partitioned by `part_of` where there are many batches.

        Args:
            entities: Columns `view.id_column` and `event_timestamp`, and any others.

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
        place = np.argsort(np.concatenate(rows))
        return pa.concat_tables(joined).take(pa.array(place)).combine_chunks()

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
        path: Of a file below `query_history`.
        ids: [n] queries.
        rows: [n] in the columns of `HISTORY_SCHEMA`.
        as_of: Their time.
    """
    times = pa.repeat(pa.scalar(as_of, TIME_TYPE), len(ids))
    columns = {ID_COLUMN["query"]: ids, EVENT_TIME: times}
    columns |= {name: rows[name] for name in rows.column_names}
    write_parquet(path, pa.table(columns))


def point_in_time(
    entities: pa.Table, snapshots: pa.Table, *, on: str, time: str = EVENT_TIME
) -> pa.Table:
    """Each row of `entities` with the latest snapshot of its id that is not later than the row.

    Args:
        entities: Columns `on` and `time`, and any others; rows may repeat, in any order.
        snapshots: The same two columns and the features, in any order; of snapshots of one id and
            time the last row counts.
        on: The ids' column; integers and their text are the same.
        time: Column of timestamps in both.

    Returns:
        [entities] in their order, with the snapshots' other columns; null where there is none yet.
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
    found = np.searchsorted(keys[order], wanted_keys, side="right") - 1
    is_found = found >= 0
    rows = order[np.maximum(found, 0)] if len(order) else np.zeros(len(found), np.int64)
    if len(order):
        is_found &= code[rows] == wanted_code
    joined = entities
    take = pa.array(rows, mask=~is_found)
    for name in snapshots.column_names:
        if name not in (on, time):
            values = snapshots[name]
            column = values.take(take) if len(order) else pa.nulls(len(entities), values.type)
            joined = joined.append_column(name, column)
    return joined


def _micros(column: pa.ChunkedArray) -> Ints:
    return column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).to_numpy()


def _latest_rows(ids: pa.ChunkedArray) -> Ints:
    """The last row of each id, of rows that are sorted by id and time."""
    codes = ids.combine_chunks().dictionary_encode().indices.to_numpy()
    is_last = np.ones(len(codes), bool)
    is_last[:-1] = codes[1:] != codes[:-1]
    return np.flatnonzero(is_last)


def _differs(now: pa.Table, latest: pa.Table, on: str) -> Bools:
    """Which rows of `now` are not what the latest snapshot of their id says."""
    if not len(latest):
        return np.ones(len(now), bool)
    place = pc.index_in(now[on].combine_chunks(), value_set=latest[on].combine_chunks())
    content = [encode_rows(table.drop_columns([on, EVENT_TIME])) for table in (now, latest)]
    same = pc.equal(content[0], content[1].take(place))
    return ~pc.fill_null(same, False).to_numpy(zero_copy_only=False)


def _as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """A feature that was kept as another type, null where it cannot be read as this one."""
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(len(column), kind)
