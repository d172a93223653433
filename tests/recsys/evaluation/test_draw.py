"""Queries are drawn only where there are too many, and by a hash that other data shares."""

import numpy as np

from recsys.evaluation.draw import draw_sentences, is_drawn, most_queries


def test_the_number_of_queries_is_bounded_by_scores_and_never_small():
    assert most_queries(1_000) == 20_000_000
    assert most_queries(100_000) == 200_000
    assert most_queries(1_000_000) == most_queries(50_000_000) == 20_000
    assert most_queries(0) > 0


def test_more_queries_are_drawn_beside_the_same_ones():
    queries = np.random.default_rng(0).choice(10_000, 500, replace=False)
    few, more = (set(queries[is_drawn(queries, most)].tolist()) for most in (50, 120))
    assert (len(few), len(more)) == (50, 120)
    assert few < more
    assert is_drawn(queries, 500).all()
    # With other queries beside them, no query of theirs is drawn that was not drawn before.
    others = np.concatenate([queries, np.arange(10_000, 10_100)])
    again = set(others[is_drawn(others, 120)].tolist())
    assert again & set(queries.tolist()) <= more
    # Early queries of a log are drawn as often as late ones.
    drawn = np.flatnonzero(is_drawn(np.arange(100_000), 20_000))
    assert abs(drawn.mean() - 50_000) < 1_000


def test_a_draw_is_said():
    (sentence,) = draw_sentences({"queries": 20_000, "drawn_from": 1_234_567}, "test")
    assert sentence.startswith("20,000 queries are ranked, drawn by a hash from the 1,234,567 of")
    assert draw_sentences({"queries": 20_000}, "test") == []
