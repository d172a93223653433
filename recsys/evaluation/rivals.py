"""Methods that are significantly better than the model, overall or in a slice."""

from collections.abc import Iterator, Mapping

import numpy as np

from feature_store.core.columns import Bools
from feature_store.core.settings import Frozen
from recsys.evaluation.metrics import Doubles, Ranks
from recsys.evaluation.significance import Pairs, differences, holm

_CUTOFFS, _OF_SLICES = (10, 50), 50
_LEVEL = 0.05
# Fewer held-out pairs of a group allow no conclusion.
FEW_PAIRS = 30
# Intervals are not asked for; p is precise enough to be adjusted for some fifty tests.
_BOOTSTRAP, _PERMUTATIONS = 0, 4_000


class Rival(Frozen):
    """A method that finds significantly more than the model.

    Attributes:
        method: Name of the method.
        group: `overall` or a slice.
        metric: Name of the metric.
        value: Value of the method.
        model: Value of the model.
        pairs: Number of held-out pairs of the group.
        adjusted_p: P-value of the paired permutation test over queries, adjusted by Holm's method
            over all methods and groups.
    """

    method: str
    group: str
    metric: str
    value: float
    model: float
    pairs: int
    adjusted_p: float


def rivals_of(model: str, ranks: Mapping[str, Ranks], slices: Mapping[str, Bools]) -> list[Rival]:
    """Compares all methods with the model on the same queries.

    Args:
        model: Name of the model.
        ranks: Ranks of the held-out items by method.
        slices: Members of each slice of items, [items].

    Returns:
        Methods that are better by a test at 5 %, by group; none of a group with few pairs.
    """
    own = list(_groups(ranks[model], slices))
    tests, pairs = [], []
    count = 0
    for name, of_method in ranks.items():
        if name == model:
            continue
        for (group, metric, held_out, before, weight), (*_, after, _) in zip(
            own, _groups(of_method, slices), strict=True
        ):
            if held_out < FEW_PAIRS:
                continue
            count += 1
            if after.sum() > before.sum():
                tests.append((name, group, metric, held_out))
                pairs.append(Pairs(before, after, weight))
    found = differences(pairs, _BOOTSTRAP, _PERMUTATIONS)
    # Methods that are not better count as tests, which their p of 1 cannot pass.
    others = [1.0] * (count - len(found))
    adjusted = holm([*(each.p for each in found), *others])[: len(found)]
    rivals = []
    for (method, group, metric, held_out), each, p in zip(tests, found, adjusted, strict=True):
        if each.before is None or each.after is None or p is None:
            continue
        if p < _LEVEL:
            rivals.append(
                Rival(
                    method=method,
                    group=group,
                    metric=metric,
                    value=each.after,
                    model=each.before,
                    pairs=held_out,
                    adjusted_p=p,
                )
            )
    return rivals


def _groups(
    ranks: Ranks, slices: Mapping[str, Bools]
) -> Iterator[tuple[str, str, int, Doubles, Doubles]]:
    """Yields a group, its metric and pairs, and the numerators and denominators, [queries]."""

    def sums(kept: Bools) -> Doubles:
        return np.bincount(ranks.query[kept], minlength=ranks.num_queries).astype(np.float64)

    everything = np.ones(len(ranks.rank), np.bool_)
    each = np.maximum(sums(everything), 1.0)
    for cutoff in _CUTOFFS:
        recall = sums(ranks.rank < cutoff) / each
        yield "overall", f"recall@{cutoff}", len(ranks.rank), recall, np.ones(ranks.num_queries)
    for name, members in slices.items():
        of_slice = members[ranks.item]
        hits = sums(of_slice & (ranks.rank < _OF_SLICES))
        yield name, f"recall@{_OF_SLICES}", int(of_slice.sum()), hits, sums(of_slice)
