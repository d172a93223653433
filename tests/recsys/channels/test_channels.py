"""Scores of channels against loops over the events."""

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest

from pipelines.prepared.reader import Prepared
from recsys.channels.channel import ChannelData
from recsys.channels.co_occurrence import CoOccurrence
from recsys.channels.content import content_matrix, content_space
from recsys.channels.linear import DROPOUT, REGULARISATION, Linear
from recsys.channels.links import Links
from recsys.channels.log import TrainingLog
from recsys.channels.product import Product
from recsys.channels.transitions import Transitions
from recsys.channels.trend import popularity_dial, recent_counts, trend_of
from recsys.stages.prepare import prepare
from tests.support.fused.pages_log import GROUPS, PAGES, pages_config


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ChannelData:
    config = pages_config(tmp_path_factory.mktemp("pages"))
    prepare(config)
    prepared = Prepared(config.prepared_dir)
    return ChannelData(prepared, TrainingLog.read(prepared))


def dense(product: Product) -> np.ndarray:
    """Returns the scores of a product by [source, candidate], without the diagonal."""
    scores = (product.left @ product.right).toarray().T
    np.fill_diagonal(scores, 0)
    return scores


def bags(data: ChannelData) -> list[list[int]]:
    offsets = data.log.items.offsets
    return [data.log.items.values[a:b].tolist() for a, b in pairwise(offsets)]


def normalised(weights: np.ndarray) -> np.ndarray:
    roots = np.sqrt(np.outer(weights.sum(axis=1), weights.sum(axis=0)))
    return np.divide(weights, roots, out=np.zeros_like(weights), where=roots > 0)


def test_the_log_is_the_training_events_in_the_order_of_time(data):
    assert data.log.times is not None
    query = data.log.items.row_of_value()
    same = query[1:] == query[:-1]
    assert (np.diff(data.log.times)[same] >= 0).all()
    assert len(query) == data.prepared.manifest.counts.train
    counts = np.bincount(data.log.items.values, minlength=PAGES)
    assert counts.tolist() == data.prepared.item_frequency.tolist()


def test_co_occurrence_is_the_normalised_number_of_common_queries(data):
    together = np.zeros((PAGES, PAGES))
    for bag in bags(data):
        for a, b in combinations(sorted(set(bag)), 2):
            together[a, b] += 1
            together[b, a] += 1
    np.testing.assert_allclose(dense(CoOccurrence.product(data)), normalised(together), rtol=1e-5)


def test_transitions_weigh_near_ones_more_and_the_way_back_half(data):
    follows = np.zeros((PAGES, PAGES))
    for bag in bags(data):
        for at, item in enumerate(bag):
            for gap in (1, 2, 3):
                if at + gap < len(bag) and bag[at + gap] != item:
                    follows[item, bag[at + gap]] += 1 / gap
    both = follows + follows.T / 2
    np.testing.assert_allclose(dense(Transitions.product(data)), normalised(both), rtol=1e-5)


def test_links_join_a_page_with_its_training_links_in_both_directions(data):
    own = data.prepared.own_items.values
    linked = np.zeros((PAGES, PAGES))
    for page, bag in zip(own, bags(data), strict=True):
        for item in set(bag) - {int(page)}:
            linked[page, item] = 1
    both = linked + linked.T
    np.testing.assert_allclose(dense(Links.product(data)), normalised(both), rtol=1e-5)


def test_linear_weights_predict_an_item_from_the_others(data):
    matrix = np.zeros((len(data.log.items), PAGES))
    for row, bag in enumerate(bags(data)):
        matrix[row, bag] = 1
    counts = np.diag(matrix.T @ matrix)
    penalties = REGULARISATION * counts.mean() + DROPOUT / (1 - DROPOUT) * counts
    weights = dense(Linear.product(data))
    for item in range(0, PAGES, 5):
        others = np.delete(matrix, item, axis=1)
        normal = others.T @ others + np.diag(np.delete(penalties, item))
        expected = np.linalg.solve(normal, others.T @ matrix[:, item])
        np.testing.assert_allclose(np.delete(weights[:, item], item), expected, atol=1e-5)


def test_content_weighs_rare_values_and_shares_the_words_of_all_texts(tmp_path):
    config = pages_config(tmp_path)
    texts = [f for f in config.features.item if f.name in ("item_id", "group", "title", "text")]
    features = config.features.model_copy(update={"item": tuple(texts)})
    config = config.model_copy(update={"features": features})
    prepare(config)
    prepared = Prepared(config.prepared_dir)
    space = content_space(prepared)
    matrix = content_matrix(space, prepared.item_columns, prepared.is_current_item)
    tokens = prepared.item_encoder.ids.tokens.to_pylist()
    row = {int(token.split()[1]): at for at, token in enumerate(tokens)}

    def values(page: int) -> set[str]:
        words = {f"word{page % GROUPS}", f"rare{page}", f"rare{(page + 1) % PAGES}"}
        return {*words, f"word{page % 3}", f"group {page % GROUPS}"}

    having = Counter(value for page in range(PAGES) for value in values(page))
    weight = {value: np.log(PAGES / count) for value, count in having.items()}
    for page, other in ((0, 1), (0, 4), (5, 6), (7, 20)):
        lengths = [np.sqrt(sum(weight[v] ** 2 for v in values(p))) for p in (page, other)]
        shared = sum(weight[v] ** 2 for v in values(page) & values(other))
        similar = (matrix[[row[page]]] @ matrix[[row[other]]].T).toarray()[0, 0]
        assert similar == pytest.approx(shared / np.prod(lengths), rel=1e-4, abs=1e-6)


def test_recent_counts_halve_with_age(data):
    log = data.log
    day = 86_400_000_000
    age = (log.times.max() - log.times) / day
    expected = np.zeros(PAGES)
    for item, days in zip(log.items.values, age, strict=True):
        expected[item] += 0.5 ** (days / 2)
    np.testing.assert_allclose(recent_counts(log, 2.0), expected)
    assert recent_counts(log, None).tolist() == data.prepared.item_frequency.tolist()
    assert np.argsort(trend_of(expected)).tolist() == np.argsort(expected).tolist()


def test_the_dial_is_centred_on_ranked_items_and_finite_for_cold_ones():
    dial = popularity_dial(np.array([0.0, 1.0, 9.0, 4.0]), np.array([True, True, True, False]), 0.1)
    assert np.isfinite(dial).all()
    assert dial[:3].mean() == pytest.approx(0, abs=1e-6)
    assert (np.diff(dial[:3]) > 0).all()
    assert dial[2] - dial[1] == pytest.approx(0.1 * np.log(9.5 / 1.5), rel=1e-5)
