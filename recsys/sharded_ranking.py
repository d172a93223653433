"""Exact ranking divided among tasks of Ray, so that a cluster's cores share the queries."""

from typing import Any

import numpy as np

from feature_store.core.columns import Bools, Ints, Jagged
from recsys.ranking import Scorer, top_items


def top_items_on_ray(
    scorer: Scorer,
    *,
    num_items: int,
    excluded: Jagged,
    k: int,
    is_candidate: Bools | None,
    tasks: int,
) -> Ints:
    """As `recsys.ranking.top_items`, and the same to the bit: a ranking depends on no blocks.

    Args:
        scorer: Of the queries; each node gets it once, through Ray's object store.
        num_items: Of the corpus.
        excluded: [queries] items that are not candidates.
        k: How many.
        is_candidate: [items] which ones are ranked; None: all.
        tasks: Of one core each; more than the cluster has wait for each other.

    Returns:
        [queries, k] item indices, -1 where there are fewer candidates.
    """
    import ray

    from pipelines.executor.session import ensure_ray

    ensure_ray()
    shared = ray.put((scorer, num_items, k, is_candidate))
    bounds = np.linspace(0, len(excluded), min(tasks, max(1, len(excluded))) + 1).astype(np.int64)
    rank = ray.remote(num_cpus=1, max_retries=2, scheduling_strategy="SPREAD")(_rank)
    parts = [
        rank.remote(shared, start, excluded.take(np.arange(start, stop)))
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    ]
    return np.concatenate(ray.get(parts))


def _rank(shared: tuple[Any, ...], start: int, excluded: Jagged) -> Ints:
    """Of the queries from `start` on, as many as `excluded` has."""
    scorer, num_items, k, is_candidate = shared
    return top_items(
        lambda rows: scorer(rows + start),
        num_items=num_items,
        excluded=excluded,
        k=k,
        is_candidate=is_candidate,
    )
