"""Recommendations from a bundle's parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from feature_store.columns import Column, Floats, Ints, Jagged
from feature_store.context import NO_TIME, request_table
from feature_store.encoding import SideEncoder
from feature_store.errors import UserError
from feature_store.vocabulary import Vocabulary
from serving.index import ItemIndex
from serving.programs import TowerProgram, take_or_absent, take_rows
from serving.seal import BundleManifest

MAX_K = 1000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Queries of one forward and one search.
_BLOCK = 256


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Item(_Answer):
    """An item of the catalogue; the title is None where it has none."""

    item_id: str
    title: str | None


class Recommendation(_Answer):
    """A recommended item; the score is the inner product of its vector and the query's."""

    item_id: str
    score: float
    title: str | None


class Recommendations(_Answer):
    """A query's best items, best first.

    Attributes:
        query_id: As asked.
        items: None of them is one that the query is known to have had.
        fallback: The query is unknown: the answer is that of a query of which nothing is known.
    """

    query_id: str
    items: tuple[Recommendation, ...]
    fallback: bool


@dataclass(frozen=True)
class Asking:
    """In which circumstances queries are asked.

    Attributes:
        context: Raw values of context features by name; what is left out is absent.
        at: When; now for None. No time zone means UTC.
    """

    context: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None

    @property
    def time(self) -> int:
        """Microseconds since 1970."""
        moment = self.at or datetime.now(UTC)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - _EPOCH) // timedelta(microseconds=1)


_NOW = Asking()


@dataclass(frozen=True)
class QuerySnapshot:
    """What the bundle knows of each query, [queries].

    Attributes:
        columns: Encoded features by name.
        history: Items, oldest first.
        excluded: Items that are not recommended again.
        latest: Time of the history's latest event, or `NO_TIME`; where the model asks for it.
    """

    columns: dict[str, Column]
    history: Jagged
    excluded: Jagged
    latest: Ints | None


class Recommender:
    """Answers queries from what a bundle holds; see `serving.bundle.load`.

    Args:
        manifest: Of the bundle.
        query_ids: Id to index.
        item_ids: [items] strings.
        indexed: Items of the index, ascending; others are gone from the catalogue.
        titles: [items] strings, if there are any.
        snapshot: Of all queries.
        query_tower: Its program.
        context_encoder: Of the context.
        index: Of the items of `indexed`.
    """

    def __init__(
        self,
        manifest: BundleManifest,
        query_ids: Vocabulary,
        item_ids: pa.Array,
        indexed: Ints,
        titles: pa.Array | None,
        snapshot: QuerySnapshot,
        query_tower: TowerProgram,
        context_encoder: SideEncoder,
        index: ItemIndex,
    ) -> None:
        self.manifest = manifest
        self._query_ids = query_ids
        self._item_ids = item_ids
        self._indexed = indexed
        self._place = np.full(len(item_ids), -1)
        self._place[indexed] = np.arange(len(indexed))
        self._titles = titles
        self._snapshot = snapshot
        self._query_tower = query_tower
        self._context_encoder = context_encoder
        self._index = index

    def recommend(self, query_id: str, k: int = 10, asking: Asking = _NOW) -> Recommendations:
        """The k best items for a query; fewer where no more are left.

        An unknown query gets an answer from the default embeddings and an empty history.

        Raises:
            UserError: k is out of range, or the context is not one of this model's.
        """
        rows = self._rows([query_id])
        items, scores = self._search(rows, k, asking)
        found = [
            Recommendation(
                item_id=self._item_ids[item].as_py(), score=score, title=self._title(item)
            )
            for item, score in zip(items.values.tolist(), scores.tolist(), strict=True)
        ]
        return Recommendations(query_id=query_id, items=tuple(found), fallback=bool(rows[0] < 0))

    def recommend_batch(
        self, query_ids: Sequence[str], k: int = 10, asking: Asking = _NOW
    ) -> pa.Table:
        """The k best items of many queries, in their order.

        Returns:
            Columns query_id, rank (from 1), item_id and score.

        Raises:
            UserError: k is out of range, or the context is not one of this model's.
        """
        all_rows = self._rows(query_ids)
        parts = [
            self._search(all_rows[start : start + _BLOCK], k, asking)
            for start in range(0, len(all_rows), _BLOCK)
        ] or [self._search(all_rows, k, asking)]
        lengths = np.concatenate([items.lengths for items, _ in parts])
        query = np.repeat(np.arange(len(lengths)), lengths)
        rank = np.concatenate([np.arange(length) for length in lengths] or [lengths]) + 1
        items = pa.array(np.concatenate([items.values for items, _ in parts]))
        return pa.table(
            {
                "query_id": pa.array(query_ids, pa.string()).take(pa.array(query)),
                "rank": pa.array(rank, pa.int32()),
                "item_id": self._item_ids.take(items),
                "score": pa.array(np.concatenate([scores for _, scores in parts]), pa.float32()),
            }
        )

    def encode(self, query_ids: Sequence[str], asking: Asking = _NOW) -> Floats:
        """L2-normalised query vectors, [queries, dim]."""
        return self._encode(self._rows(query_ids), asking)

    def liked(self, query_id: str, n: int = 10) -> tuple[Item, ...]:
        """The latest n items of the query's history, latest first; none of an unknown query's."""
        history = take_or_absent(self._snapshot.history, self._rows([query_id]))
        assert isinstance(history, Jagged)
        return tuple(
            Item(item_id=self._id(item), title=self._title(item))
            for item in history.values[::-1][:n].tolist()
        )

    def _rows(self, query_ids: Sequence[str]) -> Ints:
        return self._query_ids.rows(pa.array(query_ids, pa.string()))

    def _id(self, item: int) -> str:
        return self._item_ids[item].as_py()

    def _title(self, item: int) -> str | None:
        return None if self._titles is None else self._titles[item].as_py()

    def _encode(self, rows: Ints, asking: Asking) -> Floats:
        columns = take_rows(self._snapshot.columns, rows)
        history = take_or_absent(self._snapshot.history, rows)
        assert isinstance(history, Jagged)
        latest = np.full(len(rows), NO_TIME)
        if self._snapshot.latest is not None:
            latest[rows >= 0] = self._snapshot.latest[rows[rows >= 0]]
        raw = request_table(self._context_encoder.features, asking.context, asking.time, latest)
        context = self._context_encoder.encode(raw)
        return self._query_tower(columns, len(rows), history, context)

    def _search(self, rows: Ints, k: int, asking: Asking) -> tuple[Jagged, Floats]:
        if not 1 <= k <= MAX_K:
            raise UserError(f"k is {k}, expected 1 to {MAX_K}; ask for fewer items.")
        excluded = take_or_absent(self._snapshot.excluded, rows)
        assert isinstance(excluded, Jagged)
        places = Jagged(self._place[excluded.values], excluded.offsets)
        places = places.keep(places.values >= 0)
        found, scores = self._index.search(self._encode(rows, asking), k, places)
        return Jagged(self._indexed[found.values], found.offsets), scores
