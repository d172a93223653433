"""Lists of neighbours, and how new items are added to them."""

import numpy as np

from recsys.channels.neighbours import Neighbours
from tests.support.indexes import bags


def lists_of(neighbours: Neighbours) -> list[dict[int, float]]:
    bounds = zip(neighbours.lists.offsets[:-1], neighbours.lists.offsets[1:], strict=True)
    return [
        dict(
            zip(neighbours.lists.values[a:b].tolist(), neighbours.scores[a:b].tolist(), strict=True)
        )
        for a, b in bounds
    ]


def test_new_items_and_those_near_them_speak_for_each_other():
    before = Neighbours(bags([[1, 2], [], [0]]), np.array([1, 2, 3], np.float32))
    after = before.with_new_items(bags([[0, 2], [], [0]]), np.array([4, 5, 6], np.float32))
    assert lists_of(after) == [{1: 1, 2: 2, 3: 4, 5: 6}, {}, {0: 3, 3: 5}, {0: 4, 2: 5}, {}, {0: 6}]
    for values in lists_of(after):
        assert list(values) == sorted(values)
    assert lists_of(before.with_new_items(bags([[], []]), np.empty(0, np.float32))) == [
        *lists_of(before),
        {},
        {},
    ]
