"""The baselines against dense matrices, and which are chosen."""

import numpy as np
import pytest

from recsys.config.evaluation import EvaluationConfig
from recsys.evaluation.baselines import chosen_baselines
from recsys.evaluation.baselines.als import Als
from recsys.evaluation.baselines.ease import Ease
from recsys.evaluation.baselines.fitted import Training
from recsys.evaluation.baselines.non_personalised import Chance, Popularity
from recsys.evaluation.ranking import top_items
from recsys.evaluation.selection import Score
from tests.support.bags import jagged, random_bags

QUERIES, ITEMS = 70, 45


def test_popularity_ranks_by_frequency_then_index_without_known_items():
    frequency = np.array([3, 2**30 + 1, 0, 2**30, 3])  # 2**30 + 1 is 2**30 in float32.
    scorer = Popularity(frequency).scorer(jagged([[], [3]]))
    top = top_items(scorer, num_items=5, excluded=jagged([[], [3]]), k=5, item_block=2)
    assert top.tolist() == [[1, 3, 0, 4, 2], [1, 0, 4, 2, -1]]


def scores_of(scorer, queries=QUERIES, cut=20, items=ITEMS):
    """Returns the scores of all items, computed in two blocks."""
    choose = scorer(np.arange(queries))
    return np.concatenate([choose(0, cut), choose(cut, items)], axis=1)


def test_ease_is_the_ridge_regression_of_each_item_on_the_others():
    rng = np.random.default_rng(2)
    bags, known = random_bags(rng, QUERIES, ITEMS, 9), random_bags(rng, QUERIES, ITEMS, 6)
    matrix, asked = np.zeros((QUERIES, ITEMS)), np.zeros((QUERIES, ITEMS))
    for row in range(QUERIES):
        matrix[row, bags[row]], asked[row, known[row]] = 1, 1
    expected = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = np.delete(np.arange(ITEMS), item)
        x = matrix[:, others]
        ridge = x.T @ x + 3.0 * np.eye(len(others))
        expected[others, item] = np.linalg.solve(ridge, x.T @ matrix[:, item])
    fitted = Ease.fit(jagged(bags), ITEMS, 3.0)
    np.testing.assert_allclose(fitted.weights, expected, atol=1e-6)
    np.testing.assert_allclose(scores_of(fitted.scorer(jagged(known))), asked @ expected, atol=1e-5)


def test_als_recommends_within_the_group_that_a_query_likes():
    rng = np.random.default_rng(3)
    group = np.arange(QUERIES) % 3
    bags = [g + 3 * rng.choice(ITEMS // 3, 6, replace=False) for g in group]
    known = [bag[:3] for bag in bags]
    fitted = Als(jagged(bags), ITEMS, 1.0)
    top = top_items(
        fitted.scorer(jagged(known)), num_items=ITEMS, excluded=jagged(known), k=5, item_block=7
    )
    assert (top % 3 == group[:, None]).mean() > 0.99


def test_chance_is_the_same_every_time_and_favours_nothing():
    scores = scores_of(Chance().scorer(jagged([[]] * 4000)), queries=4000)
    np.testing.assert_array_equal(
        scores, scores_of(Chance().scorer(jagged([[]] * 4000)), queries=4000, cut=3)
    )
    first = np.bincount(scores.argmax(axis=1), minlength=ITEMS)
    expected = 4000 / ITEMS
    assert abs(first - expected).max() < 5 * expected**0.5
    assert len(np.unique(scores)) == scores.size


@pytest.mark.parametrize(
    ("values", "finer", "best"),
    [((0.1, 0.4, 0.4, 0.2), (0, 0, 0, 0), 1), ((1, 1, 1, 1), (0.2, 0.3, 0.5, 0.1), 2)],
)
def test_baselines_are_tuned_on_the_validation_split(values, finer, best):
    bags = jagged(random_bags(np.random.default_rng(4), QUERIES, ITEMS, 9))
    seen = []

    def validate(fitted):
        seen.append(fitted)
        return Score(values[len(seen) - 1], finer[len(seen) - 1])

    training = Training(bags, np.ones(ITEMS, np.int64), validate)
    fit, left_out = chosen_baselines(EvaluationConfig(baselines=("popularity", "ease")), ITEMS)
    assert set(fit) == {"popularity", "ease"}
    assert not left_out
    assert fit["ease"](training) is seen[best]
    assert len(seen) == 4


def test_ease_is_left_out_of_large_corpora():
    fit, left_out = chosen_baselines(EvaluationConfig(), 1_000_000)
    assert set(fit) == {"random", "popularity", "item_knn", "als"}
    assert "EASE is left out" in left_out[0]
