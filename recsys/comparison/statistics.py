"""Paired comparison of two evaluated runs: which is better, for which items, and how surely."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Bools, Ints
from feature_store.core.errors import UserError
from recsys.comparison.example_queries import example_queries
from recsys.comparison.result import Comparison, Row, verdict_of
from recsys.comparison.runs import EvaluatedRun
from recsys.evaluation.metrics import SLICES, Doubles
from recsys.evaluation.results import SHOWN
from recsys.evaluation.rivals import FEW_PAIRS
from recsys.evaluation.significance import Pairs, differences, holm
from recsys.fusion.at_loss import tail_at_loss

_OVERALL = (*SHOWN, "hit_rate@10", "mrr@10")
_AT = (10, 50)
_LENGTHS = ((0, 0), (1, 5), (6, 20), (21, None))


def compare_runs(
    before: EvaluatedRun,
    after: EvaluatedRun,
    *,
    metric: str | None = None,
    level: float = 0.05,
    bootstrap_samples: int = 2000,
    permutations: int = 10_000,
) -> Comparison:
    """Compares two runs query by query.

    Args:
        before: Run in use.
        after: Run that may replace it.
        metric: Metric of the verdict, any that both runs have for each query; None: the one that
            the second run was judged by.
        level: Significance level of the overall test, and of all tests of slices together.
        bootstrap_samples: Number of resamples, for the intervals.
        permutations: Number of permutations, for the tests.

    Raises:
        UserError: The runs rank other items, have no query with the same held-out items, or lack
            the metric.
    """
    if before.repeats != after.repeats:
        raise UserError(
            f"{before.name} was evaluated with data.repeats: {before.repeats}, and {after.name} "
            f"with {after.repeats}: they rank other items for a query, so their figures cannot be "
            "compared; prepare, train and evaluate both with the same setting."
        )
    metric = metric or (after.result.judged_by if after.result else "recall@50")
    left, right, left_out = _common(before, after)
    names = dict.fromkeys([metric, *_OVERALL])
    _require(metric, before, after)
    groups = [
        ("overall", name, Pairs(_column(left, name), _column(right, name), np.ones(len(left))))
        for name in names
        if f"model.{name}" in left.schema.names and f"model.{name}" in right.schema.names
    ]
    pairs = pc.list_value_length(left["held_out"]).to_numpy()
    counts = {"overall": int(pairs.sum())}
    for group, slice_pairs, count in [*_by_frequency(left, right), *_by_length(left, right, pairs)]:
        counts[group] = count
        groups += [(group, f"recall@{k}", found) for k, found in slice_pairs.items()]
    found = differences([each for _, _, each in groups], bootstrap_samples, permutations)
    is_slice = [group != "overall" for group, _, _ in groups]
    p = [
        d.p if counts[group] >= FEW_PAIRS else None
        for d, (group, _, _) in zip(found, groups, strict=True)
    ]
    adjusted = holm([each if sliced else None for each, sliced in zip(p, is_slice, strict=True)])
    rows = tuple(
        Row(
            group=group,
            metric=name,
            count=counts[group],
            found=d,
            adjusted_p=adjusted[i] if is_slice[i] else p[i],
        )
        for i, ((group, name, _), d) in enumerate(zip(groups, found, strict=True))
    )
    change = _column(right, metric) - _column(left, metric)
    order = np.lexsort((np.arange(len(change)), change))
    return Comparison(
        before=before.name,
        after=after.name,
        metric=metric,
        verdict=verdict_of(found[0], p[0], level),
        worse_slices=tuple(
            dict.fromkeys(
                row.group
                for row in rows
                if row.group != "overall"
                and verdict_of(row.found, row.adjusted_p, level) == "worse"
            )
        ),
        level=level,
        queries=len(left),
        left_out=left_out,
        rows=rows,
        overlap=_overlaps(left["model.items"], right["model.items"]),
        gains=example_queries(left, right, change, [i for i in order[::-1] if change[i] > 0]),
        losses=example_queries(left, right, change, [i for i in order if change[i] < 0]),
        tail_at_loss=(_tail_at_loss(before), _tail_at_loss(after)),
        slice_bounds=(before.slice_bounds, after.slice_bounds),
        query=before.query,
    )


def _tail_at_loss(run: EvaluatedRun) -> float | None:
    return tail_at_loss(run.result.trade_off.get("test", ())) if run.result else None


def _common(before: EvaluatedRun, after: EvaluatedRun) -> tuple[pa.Table, pa.Table, int]:
    """Returns the rows of queries with the same held-out items, in the same order."""
    left, right = before.per_query, after.per_query
    position = pc.index_in(left["query_id"], value_set=right["query_id"].combine_chunks())
    mine = np.flatnonzero(position.is_valid().to_numpy())
    theirs = position.drop_null().to_numpy()
    wanted = zip(
        left["held_out"].take(mine).to_pylist(),
        right["held_out"].take(theirs).to_pylist(),
        strict=True,
    )
    # Their order is that of each run's own catalogue.
    is_same = np.array([a == b or sorted(a) == sorted(b) for a, b in wanted], bool)
    mine, theirs = mine[is_same], theirs[is_same]
    if not len(mine):
        raise UserError(
            f"{before.name} and {after.name} have no query with the same held-out items; expected "
            "two runs on the same test split."
        )
    left_out = len(left) + len(right) - 2 * len(mine)
    return left.take(mine), right.take(theirs), left_out


def _require(metric: str, *runs: EvaluatedRun) -> None:
    for run in runs:
        names = [n.removeprefix("model.") for n in run.per_query.schema.names if "@" in n]
        if f"model.{metric}" not in run.per_query.schema.names:
            raise UserError(
                f"{run.name} has no {metric}; it has: "
                f"{', '.join(dict.fromkeys(n for n in names if '.' not in n))}"
            )


def _column(table: pa.Table, metric: str) -> Doubles:
    return np.asarray(table[f"model.{metric}"].to_numpy(), np.float64)


def _by_frequency(left: pa.Table, right: pa.Table) -> list[tuple[str, dict[int, Pairs], int]]:
    """Returns the micro recall of each slice of items, by the first run's slices."""
    first, second = _pairs_of(left), _pairs_of(right)
    names = first["slice"]
    found = []
    for name in SLICES:
        members = np.asarray(pc.equal(names, name).to_numpy(), bool)
        by_cutoff = {
            k: Pairs(
                _hits(first, members, k, len(left)),
                _hits(second, members, k, len(left)),
                _sum_by_query(first, members, len(left)),
            )
            for k in _AT
        }
        found.append((name, by_cutoff, int(members.sum())))
    return found


def _pairs_of(table: pa.Table) -> pa.Table:
    """Returns one row a held-out pair, sorted by query and item so that two runs line up."""
    lengths = pc.list_value_length(table["held_out"]).to_numpy()
    pairs = pa.table(
        {
            "query": np.repeat(np.arange(len(table)), lengths),
            "item": pc.list_flatten(table["held_out"]),
            "slice": pc.list_flatten(table["held_out_slice"]),
            "rank": pc.fill_null(pc.list_flatten(table["model.ranks"]), np.iinfo(np.int32).max),
        }
    )
    return pairs.sort_by([("query", "ascending"), ("item", "ascending")])


def _hits(pairs: pa.Table, members: Bools, k: int, queries: int) -> Doubles:
    return _sum_by_query(pairs, members & (pairs["rank"].to_numpy() < k), queries)


def _sum_by_query(pairs: pa.Table, kept: Bools, queries: int) -> Doubles:
    return np.bincount(pairs["query"].to_numpy()[kept], minlength=queries).astype(np.float64)


def _by_length(
    left: pa.Table, right: pa.Table, pairs: Ints
) -> list[tuple[str, dict[int, Pairs], int]]:
    """Returns the recall of queries by the length of the first run's histories."""
    lengths = left["history_length"].to_numpy()
    found = []
    for low, high in _LENGTHS:
        members = (lengths >= low) & (lengths <= (high if high is not None else lengths.max()))
        if not members.any():
            continue
        weight = members.astype(np.float64)
        by_cutoff = {
            k: Pairs(
                _column(left, f"recall@{k}") * weight,
                _column(right, f"recall@{k}") * weight,
                weight,
            )
            for k in _AT
        }
        span = f"{low} or more" if high is None else f"{low}-{high}" if high else "0"
        found.append((f"history {span}", by_cutoff, int(pairs[members].sum())))
    return found


def _overlaps(left: pa.ChunkedArray, right: pa.ChunkedArray) -> dict[str, float]:
    """Returns the mean Jaccard similarity of two lists a query, by cutoff."""
    both = pa.chunked_array([*left.chunks, *right.chunks])
    lengths = pc.list_value_length(both).to_numpy()
    items = pc.list_flatten(both).combine_chunks().dictionary_encode().indices.to_numpy()
    position = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found = {}
    for k in _AT:
        # A place that no item has is unlike all others.
        shape = len(lengths), min(k, int(lengths.max(initial=0)))
        places = -1 - np.arange(shape[0] * shape[1]).reshape(shape)
        rows, is_first = np.repeat(np.arange(len(lengths)), lengths), position < k
        places[rows[is_first], position[is_first]] = items[is_first]
        pairs = np.sort(np.concatenate(np.split(places, 2), axis=1), axis=1)
        shared = (pairs[:, 1:] == pairs[:, :-1]).sum(axis=1)
        sizes = np.minimum(lengths, k).reshape(2, -1).sum(axis=0)
        found[f"@{k}"] = float(np.mean(shared / np.maximum(1, sizes - shared)))
    return found
