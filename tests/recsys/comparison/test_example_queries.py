"""Queries that gain or lose show the held-out item that moved, and where it stands."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.comparison.example_queries import example_queries
from recsys.comparison.report import example_entry


def rows(items: list[str]) -> pa.Table:
    return pa.table({"query_id": ["u"], "held_out": [["still", "moved"]], "model.items": [items]})


@pytest.mark.parametrize(
    ("before", "after", "change", "ranks", "said"),
    [
        (
            ["a", "still", "b"],
            ["a", "still", "moved"],
            0.5,
            (None, 3),
            "not in the list of A, at rank 3 of B",
        ),
        (
            ["moved", "still"],
            ["still", "a"],
            -0.5,
            (1, None),
            "at rank 1 of A, not in the list of B",
        ),
        (
            ["a", "moved", "still"],
            ["moved", "a", "still"],
            0.1,
            (2, 1),
            "at rank 2 of A, at rank 1 of B",
        ),
    ],
)
def test_the_item_that_moved_most_comes_first(before, after, change, ranks, said):
    (found,) = example_queries(rows(before), rows(after), np.array([change]), [0])
    assert found.held_out == ("moved", "still")
    assert found.ranks == ranks
    entry = example_entry(found, {"moved": "A film, moved"})
    assert entry.title == f"Query u: A film, moved {said}; 1 held-out item more ({change:+.3f})"
