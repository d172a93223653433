"""Detection of chronological order, on streams whose order is known."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.datasets.generate import generate
from pipelines.profile.order import profile_order

P, SHARE = 1e-4, 0.95


def decision(queries: np.ndarray, items: np.ndarray, times: np.ndarray) -> str:
    order = np.lexsort((times, queries))
    found = profile_order(queries[order], items[order], times[order])
    assert not (found.is_like_time(P) and found.is_shuffled(P))
    if found.is_fixed(SHARE, P):
        return "fixed"
    if found.is_shuffled(P):
        return "shuffled"
    return "time" if found.is_like_time(P) else "unknown"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, ...]:
    """Generates a log of 30,000 events; returns the codes of query, item and time."""
    directory = tmp_path_factory.mktemp("made") / "log"
    generate(directory, events=30_000, items=1_000, queries=600, seed=0)
    events = pq.read_table(directory / "events", columns=["query_id", "item_id", "timestamp"])
    codes = [np.unique(events[n].to_numpy(), return_inverse=True)[1] for n in events.column_names]
    return codes[0], codes[1], codes[2]


def test_a_made_log(generated: tuple[np.ndarray, ...]) -> None:
    queries, items, times = generated
    random = np.random.default_rng(0)
    assert decision(queries, items, random.random(len(items))) == "shuffled"
    assert (
        decision(queries, items, np.zeros(len(items), np.int64)) == "shuffled"
    )  # All times are equal.
    key = random.permutation(items.max() + 1)
    assert decision(queries, items, key[items]) == "fixed"
    rotated = (key[items] + random.integers(0, 1_000, queries.max() + 1)[queries]) % 1_000
    assert decision(queries, items, rotated) == "fixed"
    assert decision(queries, items, times) == "time"  # Items arrive, and become popular at once.


def test_a_walk_from_item_to_similar_item_is_like_time() -> None:
    random = np.random.default_rng(0)
    steps = random.integers(-3, 4, (300, 12))
    items = (random.integers(0, 500, (300, 1)) + steps.cumsum(axis=1)) % 500
    queries = np.repeat(np.arange(300), 12)
    times = np.tile(np.arange(12), 300)
    assert decision(queries, items.ravel(), times) == "time"


def test_a_shuffled_log_is_rarely_taken_for_time() -> None:
    """Checks that the statistical test holds its level: about 1 in 20 at p = 0.05."""
    taken = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        queries, items = np.repeat(np.arange(50), 8), (30 * random.random(400) ** 2).astype(int)
        taken.append(profile_order(queries, items, random.random(400)).is_like_time(0.05))
    assert np.mean(taken) < 0.1


def test_little_data_decides_nothing() -> None:
    queries, items = np.repeat(np.arange(5), 4), np.arange(20)
    assert decision(queries, items, np.arange(20)) == "unknown"
    assert decision(np.zeros(1, int), np.zeros(1, int), np.zeros(1, int)) == "unknown"
