"""Recommendations and metrics of each query: the rows that comparisons read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints, Jagged
from feature_store.core.files import write_parquet
from pipelines.prepared.reader import Prepared
from pipelines.reports.words import word_for
from pipelines.statistics.slices import SliceBounds
from recsys.evaluation.metrics import Ranks, overall_ratios

PER_QUERY = "per_query.parquet"
# Keys of the file's metadata.
REPEATS, BOUNDS, QUERY = "data.repeats", "slice_bounds", "query"

_LATEST = 20
# Groups are small so that one query's rows can be read without all others.
_ROWS_OF_GROUP = 2_000


def write_per_query(
    path: Path,
    prepared: Prepared,
    *,
    queries: Ints,
    held_out: Jagged,
    history: Jagged,
    top: Mapping[str, Ints],
    ranks: Mapping[str, Ranks],
    cutoffs: tuple[int, ...],
) -> None:
    """Writes one row a query: its history, held-out items, and by method its list and metrics.

    Columns: `query_id`; `history_length`; `history`, its latest 20 items, latest first; `held_out`
    and `held_out_slice`, the ids and how often they are in training (head, torso, tail or cold);
    and of each method `<method>.items`, best first, `<method>.ranks` of the held-out items, from 0
    and null beyond the list, and `<method>.<metric>`, such as `model.recall@10`. The file's
    metadata has `data.repeats`, and the bounds of the slices as JSON (`slice_bounds`), and the
    log's word for a query (`query`).

    Args:
        path: Parquet file to write.
        prepared: Prepared data, for the ids.
        queries: Indices of the queries, [queries].
        held_out: Held-out items, [queries].
        history: Items of the histories, [queries].
        top: Items by method, [queries, depth]; -1 where there are fewer.
        ranks: Ranks of the held-out items, by method.
        cutoffs: Cutoffs of the metrics.
    """
    ids = prepared.item_encoder.ids.tokens
    bounds = SliceBounds.of(prepared.item_frequency)
    slices = bounds.members(prepared.item_frequency)
    slice_of_item = np.stack(list(slices.values())).argmax(axis=0).astype(np.int32)
    slice_names = pa.DictionaryArray.from_arrays(
        pa.array(slice_of_item[held_out.values]), pa.array(list(slices))
    )
    columns = {
        "query_id": prepared.query_encoder.ids.tokens.take(pa.array(queries)),
        "history_length": pa.array(history.lengths),
        "history": _latest(history, ids),
        "held_out": _lists(held_out.offsets, ids.take(pa.array(held_out.values))),
        "held_out_slice": _lists(held_out.offsets, slice_names.cast(pa.string())),
    }
    for method, items in top.items():
        is_item = items >= 0
        offsets = np.concatenate([[0], np.cumsum(is_item.sum(axis=1))])
        columns[f"{method}.items"] = _lists(offsets, ids.take(pa.array(items[is_item])))
        rank = ranks[method].rank
        within = pa.array(rank.astype(np.int32), mask=rank >= items.shape[1])
        columns[f"{method}.ranks"] = _lists(held_out.offsets, within)
        ratios = overall_ratios(ranks[method], cutoffs)
        for name, values in zip(ratios.names, ratios.numerator.T, strict=True):
            columns[f"{method}.{name}"] = pa.array(values.astype(np.float32))
    data = prepared.manifest.data
    word = word_for(data, prepared.features)
    settings = {REPEATS: data.repeats, BOUNDS: bounds.model_dump_json(), QUERY: word}
    table = pa.table(columns, metadata=settings)
    write_parquet(path, table, row_group_size=_ROWS_OF_GROUP)


def _latest(history: Jagged, ids: pa.Array) -> pa.Array:
    row, position = history.row_of_value(), np.arange(len(history.values))
    from_end = history.offsets[1:][row] - 1 - position
    kept = from_end < _LATEST
    order = np.lexsort((from_end[kept], row[kept]))
    lengths = np.minimum(history.lengths, _LATEST)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return _lists(offsets, ids.take(pa.array(history.values[kept][order])))


def _lists(offsets: Ints, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)
