"""Hashed tokens: how many share a row, counted and estimated."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.core.hashing import bucket_rows, token_digests
from feature_store.encoding.collisions import DigestCounts, collision_warning, collisions
from feature_store.encoding.fitting import hash_collisions, partial_counts
from feature_store.kinds import CategoricalFeature, MultiValuedFeature


def counts_of(tokens: list[str], limit: int = 1_000_000) -> DigestCounts:
    return DigestCounts.of(
        token_digests(pa.array(tokens, pa.string())), np.ones(len(tokens), int), limit
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abcdefghij"), max_size=40), st.integers(2, 12))
def test_collisions_equal_a_naive_count(tokens: list[str], buckets: int) -> None:
    found = collisions(counts_of(tokens), buckets)
    distinct = sorted(set(tokens))
    rows = dict(
        zip(
            distinct,
            bucket_rows(token_digests(pa.array(distinct, pa.string())), buckets),
            strict=True,
        )
    )
    in_row = Counter(rows.values())
    sharing = [token for token in distinct if in_row[rows[token]] > 1]
    assert found.is_exact
    assert (found.tokens, found.used_rows) == (len(distinct), len(in_row))
    assert found.colliding_tokens == pytest.approx(len(sharing) / max(1, len(distinct)))
    occurrences = sum(token in sharing for token in tokens)
    assert found.colliding_occurrences == pytest.approx(occurrences / max(1, len(tokens)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 60).map(str), max_size=150),
    st.lists(st.integers(0, 150), max_size=4),
    st.sampled_from([10, 1000]),
)
def test_the_pieces_do_not_matter(tokens: list[str], cuts: list[int], limit: int) -> None:
    bounds = [0, *sorted(min(cut, len(tokens)) for cut in cuts), len(tokens)]
    parts = [counts_of(tokens[start:end], limit) for start, end in pairwise(bounds)]
    merged, whole = DigestCounts.merged(parts, limit), counts_of(tokens, limit)
    assert merged.digests.tolist() == whole.digests.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()


def test_an_estimate_is_near_what_a_full_count_finds() -> None:
    tokens = [f"token {i}" for i in range(60_000)]
    exact = collisions(counts_of(tokens), 100_000)
    estimated = collisions(counts_of(tokens, limit=10_000), 100_000, limit=10_000)
    assert exact.is_exact
    assert not estimated.is_exact
    for name in ("tokens", "used_rows", "colliding_tokens", "colliding_occurrences"):
        assert getattr(estimated, name) == pytest.approx(getattr(exact, name), rel=0.03)


def test_a_user_is_told_of_many_collisions_and_what_would_help() -> None:
    tokens = [f"token {i}" for i in range(1_000)]
    warning = collision_warning("item.tags", collisions(counts_of(tokens), 2_000))
    assert warning is not None
    assert "40 % of the 1,000 tokens of item.tags share a row" in warning
    assert "hash_buckets 9,482 it would be 10 %" in warning
    enough = [collisions(counts_of([f"{n} {t}" for t in tokens]), 9_482) for n in range(20)]
    assert np.mean([found.colliding_tokens for found in enough]) == pytest.approx(0.1, abs=0.01)
    assert collision_warning("item.tags", collisions(counts_of(tokens), 30_000)) is None


def test_a_feature_is_counted_as_it_is_encoded() -> None:
    tags = MultiValuedFeature(name="tags", dim=4, hash_buckets=50)
    column = pa.array([["a", "b", "a"], None, ["", None, "c"], []])
    found = hash_collisions(tags, [partial_counts(tags, column), partial_counts(tags, column)])
    assert (found.tokens, found.buckets, found.is_exact) == (3, 50, True)
    numbers = CategoricalFeature(name="size", dim=4, hash_buckets=50)
    assert (
        hash_collisions(numbers, [partial_counts(numbers, pa.array([1, 2, None, 1]))]).tokens == 2
    )
