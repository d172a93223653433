"""Queries that show what a ranking does: chosen for variety, with the reasons of their lists."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from feature_store.core.columns import Bools, Ints
from feature_store.core.files import write_json
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from pipelines.statistics.slices import item_slices
from recsys.evaluation.metrics import Ranks
from recsys.evaluation.results import TOWERS, TREND
from recsys.fusion.fused import Fused
from recsys.fusion.queries import FusedQueries
from recsys.fusion.said import said_of

EXAMPLES = "examples.json"

_SHOWN, _COUNT, _REASONS = 10, 60, 2


class Reason(Frozen):
    """Reason why an item is recommended.

    Attributes:
        part: Part of the score that adds most: the towers, recent popularity or a channel.
        because: Ids of the query's items that count most in the channels; empty where these say
            nothing of the item.
    """

    part: str
    because: tuple[str, ...]


class Example(Frozen):
    """A query, and the reasons of the first items of its list."""

    query_id: str
    reasons: tuple[Reason, ...]


class Examples(Frozen):
    """Content of `examples.json`.

    Attributes:
        examples: Queries in an order that begins with one of each kind.
    """

    version: int = 1
    examples: tuple[Example, ...]


def write_examples(
    path: Path,
    prepared: Prepared,
    queries: FusedQueries,
    fused: Fused | None,
    top: Ints,
    ranks: Ranks,
) -> None:
    """Writes the examples of an evaluation.

    Args:
        path: File to write.
        prepared: Prepared data, for ids and slices.
        queries: Queries that were ranked.
        fused: Channels and weights; None where the towers rank alone.
        top: Lists of the model, [queries, depth]; -1 where there are fewer.
        ranks: Ranks of the held-out items.
    """
    slices = item_slices(prepared.item_frequency)
    is_rare = slices["tail"] | slices["cold"]
    rows = choose(ranks, is_rare, queries.task.history.lengths)
    query_ids = prepared.query_encoder.ids.tokens.take(queries.task.queries[rows]).to_pylist()
    item_ids = prepared.item_encoder.ids.tokens
    examples = []
    for row, query_id in zip(rows.tolist(), query_ids, strict=True):
        items = top[row, :_SHOWN]
        found = _reasons(queries, fused, row, items[items >= 0])
        named = tuple(
            Reason(part=part, because=tuple(item_ids[i].as_py() for i in because))
            for part, because in found
        )
        examples.append(Example(query_id=str(query_id), reasons=named))
    write_json(path, Examples(examples=tuple(examples)).model_dump(mode="json"))


def choose(ranks: Ranks, is_rare: Bools, lengths: Ints, count: int = _COUNT) -> Ints:
    """Chooses queries for variety: one of each kind in turn, evenly spaced among those of a kind.

    Kinds are rare items that were found, then hits and misses of short and of long histories.

    Args:
        ranks: Ranks of the held-out items.
        is_rare: Whether an item is of the tail or cold, [items].
        lengths: Lengths of the histories, [queries].
        count: Number of queries, if there are as many.

    Returns:
        Positions of the queries.
    """

    def any_of(pairs: Bools) -> Bools:
        return np.bincount(ranks.query[pairs], minlength=ranks.num_queries) > 0

    is_found = ranks.rank < _SHOWN
    hit, rare = any_of(is_found), any_of(is_found & is_rare[ranks.item])
    short = lengths <= (np.median(lengths) if len(lengths) else 0)
    kinds = (rare, hit & ~rare & short, hit & ~rare & ~short, ~hit & short, ~hit & ~short)
    spread = (_spread(np.flatnonzero(kind), count) for kind in kinds)
    in_turn = chain.from_iterable(zip_longest(*(rows.tolist() for rows in spread)))
    return np.array([row for row in in_turn if row is not None][:count], np.int64)


def _spread(rows: Ints, count: int) -> Ints:
    """Returns some of the rows, evenly spaced."""
    at = np.unique(np.linspace(0, max(0, len(rows) - 1), min(count, len(rows))).astype(int))
    return rows[at]


def _reasons(
    queries: FusedQueries, fused: Fused | None, row: int, items: Ints
) -> Iterator[tuple[str, list[int]]]:
    """Yields the largest part of each item's score, and the query's items that count most in it."""
    if fused is None:
        yield from ((TOWERS, []) for _ in items)
        return
    weights = fused.info.weights
    products = queries.item_vectors[items] @ queries.query_vectors[row]
    parts = [{TOWERS: float(weights.model * product)} for product in products]
    for part, of_trend in zip(parts, fused.trend[items].tolist(), strict=True):
        part[TREND] = weights.trend * of_trend
    added: list[dict[int, float]] = [defaultdict(float) for _ in items]
    for said in said_of(fused, queries.sources.take(np.array([row])), items, weights):
        values = (said.factors * said.scores).tolist()
        for at, by, value in zip(said.rows.tolist(), said.sources.tolist(), values, strict=True):
            parts[at][said.name] = parts[at].get(said.name, 0.0) + value
            if said.reads != "own":
                added[at][by] += value
    for part, by_item in zip(parts, added, strict=True):
        because = sorted(by_item, key=lambda item: -by_item[item])[:_REASONS]
        yield max(part, key=lambda name: part[name]), because
