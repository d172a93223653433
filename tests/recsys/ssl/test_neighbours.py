"""Neighbours that views show: which they are, and how often each is drawn."""

import numpy as np
import pytest
from scipy.stats import chisquare

from recsys.channels.neighbours import Neighbours
from recsys.ssl import neighbours as module
from recsys.ssl.neighbours import ItemNeighbours, nearest, write_neighbours
from tests.support.indexes import bags

EVERY_ITEM = np.ones(30, bool)


def random_lists(items: int = 30, seed: int = 0) -> Neighbours:
    """Returns lists of sources in which some scores are equal, and item 7 is in none."""
    rng = np.random.default_rng(seed)
    has = [np.flatnonzero(rng.random(items) < 0.4) for _ in range(items)]
    lists = bags([[c for c in candidates if c not in (s, 7)] for s, candidates in enumerate(has)])
    return Neighbours(lists, rng.integers(1, 9, len(lists.values)).astype(np.float32) / 8)


def of_item(neighbours: Neighbours, item: int) -> list[tuple[int, float]]:
    at = slice(neighbours.lists.offsets[item], neighbours.lists.offsets[item + 1])
    return list(
        zip(neighbours.lists.values[at].tolist(), neighbours.scores[at].tolist(), strict=True)
    )


@pytest.mark.parametrize("at_once", [1, 60, 8_000_000])
def test_the_nearest_are_the_sources_of_highest_score(monkeypatch, at_once):
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    lists, is_current = random_lists(), np.arange(30) % 6 != 1
    found = nearest(lists, is_current, 5, least=0.3)
    for item in range(30):
        scores = {
            source: score
            for source in range(30)
            for candidate, score in of_item(lists, source)
            if candidate == item and score > 0.3 and is_current[item] and is_current[source]
        }
        best = sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))
        assert of_item(found, item) == best[:5]


def of_both(near: list[list[int]], alike: list[list[int]], events: list[int]) -> ItemNeighbours:
    def scored(lists: list[list[int]]) -> Neighbours:
        scores = [1 / (1 + place) for each in lists for place in range(len(each))]
        return Neighbours(bags(lists), np.array(scores, np.float32))

    return ItemNeighbours(scored(near), scored(alike), np.array(events), seed=5)


def test_an_item_is_drawn_by_co_occurrence_as_often_as_it_is_known_and_by_its_score():
    both = of_both([[1, 2], [], [], [4]], [[3], [], [], []], [15, 0, 0, 0])
    counts = np.zeros(5)
    for step in range(200):
        counts += np.bincount(both.draw(step, np.zeros(50, int), np.arange(50)), minlength=5)
    # 15 of 15 + 5 times item 1 or 2, of which 1 has twice the score; else what is near item 3.
    assert counts[0] == counts[3] == 0
    expected = np.array([0.75 * 2 / 3, 0.75 / 3, 0.25]) * counts.sum()
    assert chisquare(counts[[1, 2, 4]], expected).pvalue > 0.001


@pytest.mark.parametrize(
    ("near", "alike", "events", "drawn"),
    [
        ([[], [], []], [[], [], []], 9, {0}),  # It has no neighbour.
        ([[1], [], []], [[], [], []], 0, {1}),  # No item is like it.
        ([[], [], []], [[1], [], []], 9, {1}),  # The item that is like it has no neighbour.
        ([[], [2], []], [[1], [], []], 9, {2}),
    ],
)
def test_what_is_not_there_is_replaced_by_what_is(near, alike, events, drawn):
    both = of_both(near, alike, [events, 0, 0])
    assert set(both.draw(3, np.zeros(40, int), np.arange(40)).tolist()) == drawn


def test_padding_stays_and_a_row_does_not_depend_on_others(tmp_path):
    write_neighbours(tmp_path, random_lists(), random_lists(seed=1), EVERY_ITEM)
    both = ItemNeighbours.read(tmp_path, np.arange(30), seed=2)
    items = np.append(np.random.default_rng(0).integers(0, 30, 20), -1)
    whole = both.draw(4, items, np.arange(21))
    assert whole[-1] == -1
    assert (whole[:-1] != items[:-1]).any()
    for rows in (np.arange(3), np.arange(9, 21)):
        assert both.draw(4, items[rows], rows).tolist() == whole[rows].tolist()


def test_a_log_without_lists_shows_the_item_itself(tmp_path):
    write_neighbours(tmp_path, None, None, EVERY_ITEM)
    both = ItemNeighbours.read(tmp_path, np.arange(30), seed=2)
    assert both.draw(0, np.arange(30), np.arange(30)).tolist() == list(range(30))
