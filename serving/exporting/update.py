"""The `update` command: a new bundle with items added and removed between two trainings.

New items are encoded by the bundle's own tower from their features alone, as all items without a
training event are. The index is extended where it can be, and else built anew. The given bundle
stays as it is: a server that watches the output takes the new one in its place.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console

from feature_store.core.arrow import id_strings
from feature_store.core.columns import Dense, Floats, Ints, Jagged, from_arrow, write_columns
from feature_store.core.documents import read_record
from feature_store.core.errors import UserError
from feature_store.core.files import (
    directory_written_atomically,
    require_replaceable,
    write_array,
    write_text,
)
from feature_store.core.locks import locked, reading
from feature_store.core.manifests import MANIFEST, fingerprint, written_as
from feature_store.encoding.encoder import SideEncoder
from feature_store.kinds import AnyFeature, Filterable
from feature_store.schema import FeatureSchema
from pipelines.logs.tables import open_source, read_as
from pipelines.reports.html import render_page
from pipelines.statistics.slices import item_slices
from recsys.config.export import ExportConfig
from recsys.fusion.fused import Fused
from serving.batch.item_vectors import map_item_vectors, write_parts
from serving.bundle.files import mapped_table
from serving.bundle.ids import IdTable, write_ids, write_strings
from serving.bundle.manifest import (
    FILTERS,
    FUSION,
    IDS,
    INDEX,
    INDEXED,
    ITEM_FEATURES,
    ITEM_FREQUENCY,
    ITEM_TITLES,
    ITEM_VECTORS,
    SCHEMA,
    VOCABULARY,
    BundleManifest,
    seal,
    verify,
)
from serving.bundle.report import REPORT, bundle_page
from serving.bundle.tower_files import read_item_tower
from serving.exporting.content_neighbours import near_new_items
from serving.exporting.contents import value_pairs
from serving.exporting.gate import require_finite, require_recall
from serving.exporting.golden import FusedRequests, golden_queries
from serving.index.build import build_index
from serving.index.index import ItemIndex
from serving.index.recall import recall_by_slice
from serving.index.report import IndexReport
from serving.recommend.filters.value_lists import read_filters, write_value_lists
from serving.recommend.golden import Golden, read_golden, require_golden, write_golden
from serving.recommend.load import open_bundle, read_snapshot, read_titles
from serving.recommend.options import RecommendOptions
from serving.recommend.recommender import Recommender

_IS_OWN = written_as(BundleManifest)
# Queries by which the index is measured.
_SAMPLE = 1000
# Columns of titles, the first that a table has.
_TITLES = ("title", "name")


@dataclass(frozen=True)
class _Items:
    """The catalogue after the change.

    Attributes:
        ids: Ids of all items that ever were, [items].
        indexed: Item at each position of the index.
        vectors: Vectors of the indexed items, [positions, dim].
        removed: Positions of removed items, before the change.
        added: Number of new items, which come last.
    """

    ids: pa.Array
    indexed: Ints
    vectors: Floats
    removed: Ints
    added: int


def update(
    bundle: Path,
    output: Path,
    *,
    items: Path | None = None,
    removed: Sequence[str] = (),
    id_column: str = "item_id",
    min_recall: float = 0.95,
    console: Console | None = None,
) -> BundleManifest:
    """Writes a bundle with other items: whole or not at all, sealed, and through the same gate.

    Args:
        bundle: Directory of the bundle.
        output: Directory of the new bundle, which may be the old one's.
        items: Parquet of new items: their ids, and the model's item features, as in training.
        removed: Ids of items that are no answers any more.
        id_column: Column of the new items' ids.
        min_recall: Least recall of the index in each slice.
        console: Console of progress.

    Returns:
        Manifest of the new bundle; the version of the model changes with the items.

    Raises:
        UserError: An item to add is there already, or one to remove is not; the items are not as
            in training; the index finds too few of the exact nearest items; or the output holds
            something else.
    """
    inputs = [bundle, *([items] if items is not None else [])]
    require_replaceable(output, _IS_OWN, inputs)
    with locked(output), reading(bundle):
        return _update(bundle, output, items, removed, id_column, min_recall, console or Console())


def _update(
    bundle: Path,
    output: Path,
    items: Path | None,
    removed: Sequence[str],
    id_column: str,
    min_recall: float,
    console: Console,
) -> BundleManifest:
    former = verify(bundle)
    recommender = open_bundle(bundle, former)
    with directory_written_atomically(output, _IS_OWN) as directory:
        shutil.copytree(bundle, directory, dirs_exist_ok=True, ignore=_rewritten)
        features = read_record(bundle / SCHEMA, FeatureSchema).item
        empty = pa.table({id_column: []})
        table = _read(items, id_column, features) if items is not None else empty
        changed = _changed(bundle, directory, table, id_column, removed)
        frequency = _write_items(bundle, directory, table, changed)
        queries = _sample(bundle, recommender)
        index, report, is_rebuilt = _index(bundle, former, changed, queries)
        index.write(directory / INDEX)
        slices = {n: m[changed.indexed] for n, m in item_slices(frequency).items()}
        by_slice = recall_by_slice(index, changed.vectors, queries, slices)
        require_recall(by_slice, min_recall)
        fused, near = None, {}
        if former.fusion is not None:
            fused = Fused.read(bundle / FUSION)
            near = near_new_items(directory, fused, changed.indexed, former.trained_items)
            fused = fused.with_new_items(changed.added, near)
            fused.save(directory / FUSION)
        golden = _golden(bundle, recommender, index, changed, fused)
        write_golden(directory, golden)
        manifest = former.model_copy(
            update={
                "fingerprint": fingerprint(
                    [former.fingerprint, changed.indexed.tolist(), changed.ids.to_pylist()]
                ),
                "items": len(changed.indexed),
                "index": report,
                "gate": former.gate.model_copy(update={"recall_by_slice": by_slice}),
            }
        )
        write_text(directory / REPORT, render_page(bundle_page(manifest, min_recall)))
        sealed = seal(directory, manifest)
        require_golden(open_bundle(directory, sealed), golden)
    console.print(
        f"update: {changed.added:,} items added and {len(changed.removed):,} removed, "
        f"{sealed.items:,} in {output}; index {'built anew' if is_rebuilt else 'extended'}"
    )
    if fused is not None and changed.added:
        console.print(f"update: {_neighbours_of(near, changed.added)}", soft_wrap=True)
    return sealed


def _neighbours_of(near: Mapping[str, tuple[Jagged, Floats]], added: int) -> str:
    """Tells how many of the new items channels know."""
    if not near:
        return "the weight of content is 0, so new items are in no channel until the next training"
    found = sum(int(np.count_nonzero(items.lengths)) for items, _ in near.values())
    return f"{found:,} of the {added:,} new items have neighbours by content; other channels wait"


def _rewritten(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name in (MANIFEST, ITEM_VECTORS)]


def _read(path: Path, id_column: str, features: tuple[AnyFeature, ...]) -> pa.Table:
    """Reads the ids, the features that are there, and the titles."""
    source = open_source(str(path), "items")
    names = source.schema.names
    wanted = {id_column, *(feature.name for feature in features), *_TITLES}
    for name, reason in source.conflicts.items():
        if name in wanted:
            raise UserError(f"items column {name!r} has no one type: {reason}; cast it.")
    if id_column not in names:
        raise UserError(
            f"{path} has no column {id_column!r}, but {', '.join(names)}; name the one with the "
            "ids by --id-column."
        )
    schema = pa.schema([field for field in source.schema if field.name in wanted])
    return pa.concat_tables(read_as(piece, schema) for piece in source.pieces)


def _changed(
    bundle: Path, directory: Path, table: pa.Table, id_column: str, removed: Sequence[str]
) -> _Items:
    """Encodes the new items, and returns the changed catalogue."""
    known = IdTable.read(bundle / IDS, "item")
    indexed = np.load(bundle / INDEXED)
    added = id_strings(table[id_column]).to_pylist() if len(table) else []
    _require_new(added, known)
    positions = np.full(len(known), -1)
    positions[indexed] = np.arange(len(indexed))
    rows = known.rows(removed)
    gone = np.where(rows < 0, -1, positions[rows])
    if (gone < 0).any():
        missing = removed[int(np.argmax(gone < 0))]
        raise UserError(f"the bundle has no item {missing!r} to remove; leave it out.")
    schema = read_record(bundle / SCHEMA, FeatureSchema)
    # A new id has no row of the id feature's table, so it is absent, as one that was never trained.
    encoder = SideEncoder.load(bundle / VOCABULARY, schema, "item")
    new = encoder.encode(table.append_column("", pa.nulls(len(table))))
    tower = read_item_tower(bundle, schema)
    before = from_arrow(mapped_table(bundle / ITEM_FEATURES))
    joined = {
        name: Jagged.concatenate([column, new[name]])  # type: ignore[list-item]
        if isinstance(column, Jagged)
        else Dense.concatenate([column, new[name]])  # type: ignore[list-item]
        for name, column in before.items()
    }
    write_columns(directory / ITEM_FEATURES, joined)
    vectors = np.asarray(map_item_vectors(bundle, directory / "vectors.npy"))
    (directory / "vectors.npy").unlink()
    new_vectors = tower(new, len(added))
    require_finite(new_vectors, "item")
    kept = np.delete(np.arange(len(indexed)), gone)
    return _Items(
        pa.concat_arrays([known.ids, pa.array(added, pa.string())]),
        np.concatenate([indexed[kept], len(known) + np.arange(len(added))]),
        np.concatenate([vectors[kept], new_vectors]),
        gone,
        len(added),
    )


def _require_new(added: Sequence[str], known: IdTable) -> None:
    if None in added or "" in added:
        raise UserError("a new item has no id; give each one.")
    if len(set(added)) < len(added):
        raise UserError("two of the new items have the same id; give each item once.")
    is_known = known.rows(added) >= 0
    if is_known.any():
        raise UserError(
            f"item {added[int(np.argmax(is_known))]!r} is in the bundle already; leave it out: "
            "changes of an item are learnt by the next training."
        )


def _write_items(bundle: Path, directory: Path, table: pa.Table, changed: _Items) -> Ints:
    """Writes all files by item, and returns the training events of each."""
    write_ids(directory / IDS, "item", changed.ids)
    write_array(directory / INDEXED, changed.indexed)
    ids = changed.ids.take(pa.array(changed.indexed))
    write_parts(directory, ids, changed.vectors)
    frequency = np.load(bundle / ITEM_FREQUENCY)
    frequency = np.concatenate([frequency, np.zeros(changed.added, frequency.dtype)])
    write_array(directory / ITEM_FREQUENCY, frequency)
    first = len(changed.ids) - changed.added
    titles = read_titles(bundle / ITEM_TITLES)
    if titles is not None:
        new = changed.ids[first:]
        column = next((name for name in _TITLES if name in table.column_names), None)
        if column is not None:
            new = table[column].combine_chunks().cast(pa.string()).fill_null(new)
        write_strings(directory / ITEM_TITLES, "title", pa.concat_arrays([titles, new]))
    schema = read_record(bundle / SCHEMA, FeatureSchema)
    features = {f.name: f for f in schema.item if isinstance(f, Filterable)}
    for name, lists in read_filters(bundle / FILTERS).items():
        pairs = [lists.pairs()]
        if name in table.column_names:
            rows = first + np.arange(changed.added)
            pairs.append(value_pairs(features[name], table[name], rows))
        values = pa.concat_arrays([values for values, _ in pairs])
        write_value_lists(
            directory / FILTERS, name, values, np.concatenate([items for _, items in pairs])
        )
    return frequency


def _index(
    bundle: Path, former: BundleManifest, changed: _Items, queries: Floats
) -> tuple[ItemIndex, IndexReport, bool]:
    """Returns the new index, its report, and whether it was built anew."""
    new = changed.vectors[len(changed.vectors) - changed.added :]
    index = ItemIndex.read(bundle / INDEX, former.index.kind).extended(new, changed.removed)
    if index is not None:
        return index, former.index, False
    settings = ExportConfig.model_validate(
        {"index": former.index.kind, "vectors": former.index.vectors}
    )
    index, report = build_index(changed.vectors, queries, settings)
    return index, report, True


def _sample(bundle: Path, recommender: Recommender) -> Floats:
    """Computes vectors of a sample of the bundle's queries."""
    ids = IdTable.read(bundle / IDS, "query")
    random = np.random.default_rng(0)
    rows = random.choice(len(ids), min(len(ids), _SAMPLE), replace=False).tolist()
    return recommender.encode([ids[row] for row in rows if ids[row] is not None])


def _golden(
    bundle: Path,
    recommender: Recommender,
    index: ItemIndex,
    changed: _Items,
    fused: Fused | None,
) -> list[Golden]:
    """Answers the golden queries of the bundle among the new items."""
    recommender = recommender.as_evaluated()
    requests = [(q.query_id, q.at) for q in read_golden(bundle)]
    rows = IdTable.read(bundle / IDS, "query").rows([query_id for query_id, _ in requests])
    vectors = [recommender.encode([q], RecommendOptions(at=at))[0] for q, at in requests]
    snapshot, state = read_snapshot(bundle), None
    excluded = snapshot.evaluated(rows, recommender.manifest.repeats)
    if fused is not None:
        state = FusedRequests(fused, snapshot.sources(rows))
    return golden_queries(
        requests, np.stack(vectors), excluded, index, changed.indexed, changed.ids, state
    )
