"""Paired tests against enumeration, SciPy and what is known of the normal distribution."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from recsys.evaluation.significance import Difference, Pairs, differences, holm


def pairs(before, after, weight=None):
    before = np.asarray(before, float)
    weight = np.ones(len(before)) if weight is None else np.asarray(weight, float)
    return Pairs(before, np.asarray(after, float), weight)


def test_the_permutation_test_is_that_of_all_signs():
    change = np.array([0.3, -0.1, 0.5, 0.2, 0.4, -0.2, 0.6, 0.1])
    sums = [abs(np.dot(signs, change)) for signs in product((-1, 1), repeat=len(change))]
    exact = np.mean([value >= abs(change.sum()) - 1e-9 for value in sums])
    (found,) = differences([pairs(np.zeros(8), change)], 100, 40_000)
    assert found.p == pytest.approx(exact, abs=0.006)
    assert (found.wins, found.losses) == (6, 2)


def test_p_and_interval_agree_with_the_t_test():
    random = np.random.default_rng(0)
    before = random.random(3000)
    after = before + random.normal(0.012, 0.3, 3000)
    (found,) = differences([pairs(before, after)], 2000, 10_000)
    expected = stats.ttest_rel(after, before)
    assert found.p == pytest.approx(expected.pvalue, abs=0.01)
    interval = expected.confidence_interval()
    assert found.low == pytest.approx(interval.low, abs=0.001)
    assert found.high == pytest.approx(interval.high, abs=0.001)
    assert found.difference == pytest.approx((after - before).mean())


def test_equal_systems_are_never_told_apart():
    same = np.random.default_rng(1).random(50)
    (found,) = differences([pairs(same, same)], 200, 500)
    assert found == Difference(
        pytest.approx(same.mean()), pytest.approx(same.mean()), 0.0, 0.0, 0.0, 1.0, 0, 0
    )


def test_p_is_uniform_where_there_is_no_difference():
    random = np.random.default_rng(2)
    tests = [pairs(random.random(80), random.random(80)) for _ in range(300)]
    found = [each.p for each in differences(tests, 100, 400)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_a_micro_recall_is_weighted_by_pairs():
    (found,) = differences([pairs([1, 0, 0], [1, 3, 0], [2, 4, 0])], 200, 200)
    assert (found.before, found.after) == (pytest.approx(1 / 6), pytest.approx(4 / 6))


def test_where_nothing_counts_there_is_nothing():
    (found,) = differences([pairs([0, 0], [0, 0], [0, 0])], 100, 100)
    assert found == Difference(None, None, None, None, None, None, 0, 0)
    assert differences([], 100, 100) == []


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == pytest.approx([0.03, None, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
