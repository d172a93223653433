"""The methods held against the model, overall and by slice, and those that are better."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from feature_store.core.columns import Bools
from feature_store.core.settings import Frozen
from recsys.evaluation.metrics import Doubles, Ranks
from recsys.evaluation.significance import Pairs, differences, holm

# Cutoffs of the recall that verdicts rest on, and the number of items below which it is the first
# one: of 100 items, half are among 50, and of 50 all are.
_CUTOFFS, _FEW_ITEMS = (10, 50), 100
# Level of the tests.
LEVEL = 0.05
# Fewer held-out pairs of a group allow no conclusion.
FEW_PAIRS = 30
# Intervals are not asked for; p is precise enough to be adjusted for some fifty tests.
_BOOTSTRAP, _PERMUTATIONS = 0, 4_000


class _Compared(Frozen):
    """A method beside the model.

    Attributes:
        method: Name of the method.
        group: `overall` or a slice.
        metric: Name of the metric.
        value: Value of the method.
        model: Value of the model.
        pairs: Number of held-out pairs of the group.
    """

    method: str
    group: str
    metric: str
    value: float
    model: float
    pairs: int


class Standing(_Compared):
    """A method beside the model, and whether the difference may be chance.

    Attributes:
        p: P-value of the paired permutation test over queries, of this comparison alone; None where
            there are too few pairs.
    """

    p: float | None

    @property
    def is_significant(self) -> bool:
        """Whether the test alone tells the two apart, at 5 %."""
        return self.p is not None and self.p < LEVEL


class Rival(_Compared):
    """A method that finds significantly more than the model.

    Attributes:
        adjusted_p: P-value of the paired permutation test over queries, adjusted by Holm's method
            over all methods and groups.
    """

    adjusted_p: float


def judged_cutoff(items: int) -> int:
    """Returns the cutoff of the recall that verdicts rest on.

    Args:
        items: Number of items that are ranked.
    """
    return _CUTOFFS[items >= _FEW_ITEMS]


def standings_of(
    model: str, ranks: Mapping[str, Ranks], slices: Mapping[str, Bools], cutoff: int
) -> list[Standing]:
    """Compares all methods with the model on the same queries.

    Args:
        model: Name of the model.
        ranks: Ranks of the held-out items by method.
        slices: Members of each slice of items, [items].
        cutoff: Cutoff of the slices' recall; overall it is the largest one.

    Returns:
        Each method in each group that has held-out pairs, by method.
    """
    own = list(_groups(ranks[model], slices, cutoff))
    tests, pairs = [], []
    for name, of_method in ranks.items():
        if name == model:
            continue
        for (group, metric, held_out, before, weight), (*_, after, _) in zip(
            own, _groups(of_method, slices, cutoff), strict=True
        ):
            tests.append((name, group, metric, held_out))
            pairs.append(Pairs(before, after, weight))
    standings = []
    for (method, group, metric, held_out), each in zip(
        tests, differences(pairs, _BOOTSTRAP, _PERMUTATIONS), strict=True
    ):
        if each.before is not None and each.after is not None:
            standings.append(
                Standing(
                    method=method,
                    group=group,
                    metric=metric,
                    value=each.after,
                    model=each.before,
                    pairs=held_out,
                    p=each.p if held_out >= FEW_PAIRS else None,
                )
            )
    return standings


def rivals_of(standings: Sequence[Standing]) -> list[Rival]:
    """Returns the methods that are better by a test at 5 %; none of a group with few pairs."""
    return [
        Rival(**each.model_dump(exclude={"p"}), adjusted_p=p)
        for each, p in _apart(standings, lambda each: each.value > each.model)
    ]


def beaten_of(standings: Sequence[Standing]) -> list[Standing]:
    """Returns the methods that are worse, by the same test and as much correction."""
    return [each for each, _ in _apart(standings, lambda each: each.value < each.model)]


def _apart(
    standings: Sequence[Standing], is_asked: Callable[[Standing], bool]
) -> Iterator[tuple[Standing, float]]:
    """Yields those that differ significantly on the side that is asked for, with the adjusted p."""
    tested = [each for each in standings if each.p is not None]
    # Methods on the other side count as tests, which their p of 1 cannot pass.
    adjusted = holm([each.p if is_asked(each) else 1.0 for each in tested])
    for each, p in zip(tested, adjusted, strict=True):
        if p is not None and p < LEVEL:
            yield each, p


def _groups(
    ranks: Ranks, slices: Mapping[str, Bools], largest: int
) -> Iterator[tuple[str, str, int, Doubles, Doubles]]:
    """Yields a group, its metric and pairs, and the numerators and denominators, [queries]."""

    def sums(kept: Bools) -> Doubles:
        return np.bincount(ranks.query[kept], minlength=ranks.num_queries).astype(np.float64)

    everything = np.ones(len(ranks.rank), np.bool_)
    each = np.maximum(sums(everything), 1.0)
    for cutoff in (each for each in _CUTOFFS if each <= largest):
        recall = sums(ranks.rank < cutoff) / each
        yield "overall", f"recall@{cutoff}", len(ranks.rank), recall, np.ones(ranks.num_queries)
    for name, members in slices.items():
        of_slice = members[ranks.item]
        hits = sums(of_slice & (ranks.rank < largest))
        yield name, f"recall@{largest}", int(of_slice.sum()), hits, sums(of_slice)
