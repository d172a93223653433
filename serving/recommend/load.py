"""Opening of a bundle."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Jagged, from_arrow
from feature_store.core.documents import read_record
from feature_store.core.errors import UserError
from feature_store.core.files import FLOATS, INTEGERS, mapped_numbers
from feature_store.encoding.encoder import SideEncoder
from feature_store.schema import FeatureSchema
from recsys.fusion.fused import CONTENT_LISTS, Fused
from serving.bundle.files import mapped_table
from serving.bundle.ids import IdTable
from serving.bundle.manifest import (
    FILTERS,
    FUSION,
    IDS,
    INDEX,
    INDEXED,
    ITEM_FREQUENCY,
    ITEM_TITLES,
    QUERY_FEATURES,
    QUERY_LATEST,
    QUERY_STATE,
    QUERY_VECTORS,
    SCHEMA,
    VOCABULARY,
    BundleManifest,
    read_manifest,
    verify,
    verify_deferred,
)
from serving.index.index import ItemIndex
from serving.recommend.catalogue import Catalogue
from serving.recommend.consistency import refusing, require_channels, require_items, require_queries
from serving.recommend.filters.value_lists import read_filters
from serving.recommend.fused.fused_search import FusedSearch
from serving.recommend.fused.shared import SharedContent
from serving.recommend.late_parts import DeferredParts, LateParts, read_tower
from serving.recommend.online import OnlineQueries
from serving.recommend.queries import Queries, QuerySnapshot
from serving.recommend.recommender import Recommender

# When the parts that known queries are answered without are verified and read: at once, in a thread
# beside the first answers, or when an answer needs them.
LateRead = Literal["at_once", "in_background", "when_needed"]


def load(
    path: str | Path, *, online: OnlineQueries | None = None, late: LateRead = "at_once"
) -> Recommender:
    """Opens a recommender that answers from the bundle alone.

    Vectors, ids, features, histories and the tower's weights are memory-mapped. A bundle holds no
    code: see `serving.bundle.tower_files`.

    Args:
        path: A directory that `recsys export` wrote, or a version in MLflow's registry:
            `models:/NAME@champion`, `models:/NAME/3`.
        online: Source of state since the export; None: there is none.
        late: Time at which the query tower and the items' contents are verified and read; known
            queries are answered without them. Servers start sooner with "in_background" (see
            `serving.recommend.late_parts.DeferredParts`), commands with "when_needed".

    Raises:
        UserError: It is no bundle, of another version, or not as it was exported.
    """
    directory = local_bundle(path)
    manifest = verify(directory, defer_tower=late != "at_once")
    recommender = open_bundle(directory, manifest, online, late=late)
    # The files of a directory that was replaced meanwhile may be of two exports.
    if read_manifest(directory).seal != manifest.seal:
        raise UserError(f"the bundle {directory} was replaced while it was read; read it again.")
    return recommender


def local_bundle(path: str | Path) -> Path:
    """Returns the directory of a bundle, downloaded where it is in the registry.

    Raises:
        UserError: The registry does not have it.
    """
    if not str(path).startswith("models:/"):
        return Path(path)
    from serving.registry.registry import resolve

    return resolve(str(path))


def open_bundle(
    directory: Path,
    manifest: BundleManifest,
    online: OnlineQueries | None = None,
    *,
    late: LateRead = "at_once",
) -> Recommender:
    """Opens a verified bundle; see `load`.

    Raises:
        UserError: Its files contradict each other, or are not what the layout says.
    """
    with refusing(directory):
        schema = read_record(directory / SCHEMA, FeatureSchema)
        items, query_ids = (IdTable.read(directory / IDS, side) for side in ("item", "query"))
        snapshot = read_snapshot(directory)
        catalogue = Catalogue(
            items,
            mapped_numbers(directory / INDEXED, INTEGERS),
            read_titles(directory / ITEM_TITLES),
            mapped_numbers(directory / ITEM_FREQUENCY, INTEGERS),
            read_filters(directory / FILTERS),
        )
        index = ItemIndex.read(directory / INDEX, manifest.index.kind)
        require_items(manifest, catalogue, index)
        require_queries(manifest, schema.query, len(query_ids), len(items), snapshot)
        queries = Queries(
            query_ids,
            snapshot,
            SideEncoder.load(directory / VOCABULARY, schema, "query"),
            items,
            trained_items=manifest.trained_items,
            history=manifest.history,
            queries_are_items=any(f.is_id and f.shared_table is not None for f in schema.query),
            online=online,
        )
        context = SideEncoder.load(directory / VOCABULARY, schema, "context")
        fused, has_content = None, False
        if manifest.fusion is not None:
            channels = Fused.read(directory / FUSION)
            require_channels(channels, len(items))
            has_content = CONTENT_LISTS in channels.lists
            fused = FusedSearch(
                channels,
                index,
                catalogue.indexed,
                catalogue.positions,
                manifest.fusion.candidates,
            )

        def read() -> LateParts:
            with refusing(directory):
                tower = read_tower(directory, schema)
                content = SharedContent.read(directory, schema, len(items)) if has_content else None
                return LateParts(tower, content)

        parts = _late_parts(directory, manifest, read, late)
        return Recommender(manifest, catalogue, queries, parts, context, index, fused)


def _late_parts(
    directory: Path, manifest: BundleManifest, read: Callable[[], LateParts], late: LateRead
) -> Callable[[], LateParts]:
    """Returns what the parts are got from; reads them now where they are wanted at once."""
    if late == "in_background":
        return DeferredParts(directory, manifest, read)
    if late == "at_once":
        parts = read()
        return lambda: parts

    @cache
    def verified() -> LateParts:
        verify_deferred(directory, manifest)
        return read()

    return verified


def read_snapshot(directory: Path) -> QuerySnapshot:
    """Opens the state of a bundle's queries, memory-mapped."""
    state = from_arrow(mapped_table(directory / QUERY_STATE))
    items = {name: column for name, column in state.items() if isinstance(column, Jagged)}
    return QuerySnapshot(
        from_arrow(mapped_table(directory / QUERY_FEATURES)),
        **items,
        latest=_mapped_if_there(directory / QUERY_LATEST, INTEGERS),
        vectors=_mapped_if_there(directory / QUERY_VECTORS, FLOATS, 2),
    )


def _mapped_if_there(path: Path, kinds: str, dimensions: int = 1) -> np.ndarray | None:
    return mapped_numbers(path, kinds, dimensions) if path.exists() else None


def read_titles(path: Path) -> pa.Array | None:
    """Reads titles, [items]; None where items have none."""
    if not path.exists():
        return None
    return mapped_table(path)["title"].combine_chunks()
