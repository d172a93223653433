"""Paired comparisons of two systems on the same queries."""

from dataclasses import dataclass

import numpy as np

from recsys.evaluation.metrics import Doubles, Ratios, bootstrap

# Number of random signs drawn at a time, and that are numbers at a time.
_SIGNS_AT_ONCE, _SIGNS_IN_CACHE = 16_000_000, 1_000_000
_SEED = 1


@dataclass(frozen=True)
class Pairs:
    """One metric of two systems on the same queries: ratios of sums with the same denominators.

    Attributes:
        before: Numerators of the first system, [queries].
        after: Numerators of the second system, [queries].
        weight: Denominators, [queries]: 1 for a mean over queries, held-out pairs for a micro
            recall, and 0 for queries that do not count.
    """

    before: Doubles
    after: Doubles
    weight: Doubles


@dataclass(frozen=True)
class Difference:
    """Result of a comparison.

    Attributes:
        before: Value of the first system; None, like all else, where no query counts.
        after: Value of the second system.
        difference: Value of the second less that of the first.
        low: Lower end of the difference's 95 % interval, from a bootstrap over queries.
        high: Upper end of the interval.
        p: P-value of a two-sided permutation test: how often random signs of the queries'
            differences give a difference as large as this.
        wins: Number of queries in which the second is better.
        losses: Number of queries in which the second is worse.
    """

    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    wins: int
    losses: int


def differences(pairs: list[Pairs], bootstrap_samples: int, permutations: int) -> list[Difference]:
    """Compares each metric; all see the same resampled queries and the same random signs.

    Args:
        pairs: Metrics of both systems on the same queries.
        bootstrap_samples: Number of resamples, for the intervals.
        permutations: Number of permutations, for the tests; p is at least 1 / (1 + permutations).
    """
    if not pairs:
        return []
    change = np.stack([each.after - each.before for each in pairs], axis=1)
    weight = np.stack([each.weight for each in pairs], axis=1)
    names = tuple(str(i) for i in range(len(pairs)))
    (bounds,) = bootstrap([Ratios(names, change, weight, 0)], bootstrap_samples)
    p = _permutation_test(change, permutations)
    found = []
    for i, each in enumerate(pairs):
        total = each.weight.sum()
        wins, losses = int((change[:, i] > 0).sum()), int((change[:, i] < 0).sum())
        if not total:
            found.append(Difference(None, None, None, None, None, None, 0, 0))
            continue
        before, after = float(each.before.sum() / total), float(each.after.sum() / total)
        low, high = float(bounds[0, i]), float(bounds[1, i])
        found.append(
            Difference(before, after, after - before, low, high, float(p[i]), wins, losses)
        )
    return found


def _permutation_test(change: Doubles, permutations: int) -> Doubles:
    """Returns two-sided p-values, [metrics], if signs of the queries' differences were chance.

    Args:
        change: Differences, [queries, metrics].
        permutations: Number of draws of random signs for all queries.
    """
    queries, metrics = change.shape
    observed = np.abs(change.sum(axis=0))
    as_large = np.zeros(metrics)
    random = np.random.default_rng(_SEED)
    step = max(1, _SIGNS_AT_ONCE // max(1, queries))
    is_changed = change.any(axis=1)
    kept = change[is_changed]  # The signs of other queries change no sum.
    rows = max(1, _SIGNS_IN_CACHE // max(1, len(kept)))
    for start in range(0, permutations, step):
        size = min(step, permutations - start)
        drawn = random.integers(0, 2, (size, queries), np.int8)[:, is_changed]
        for first in range(0, size, rows):
            signs = drawn[first : first + rows] * 2.0 - 1.0
            sums = np.abs(signs @ kept)
            # Sums that are equal but for rounding count as as large.
            as_large += (sums >= observed - 1e-9 * np.maximum(1.0, observed)).sum(axis=0)
    return (1 + as_large) / (1 + permutations)


def holm(p: list[float | None]) -> list[float | None]:
    """Adjusts the p-values of several tests for their number (Holm 1979).

    Args:
        p: P-values; None where there was nothing to test, which counts as no test.
    """
    tested = sorted((value, test) for test, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    for position, (value, test) in enumerate(tested):
        largest = max(largest, min(1.0, value * (len(tested) - position)))
        adjusted[test] = largest
    return adjusted
