"""Events in memory take no more than their bytes, whoever sends them."""

import tracemalloc
from itertools import count as numbers

import pytest

from serving.recommend.memory import MemoryQueries
from serving.recommend.online import NOTHING

NUMBERS = numbers(10**4)


def events_of(online, query):
    [state] = online.states([query])
    return list(state.events)


def test_only_the_latest_events_of_a_query_are_kept_in_order_and_once():
    online = MemoryQueries(max_events=3)
    for time in (5, 1, 9, 3, 9, 7):
        online.append([("q", (time, f"i{time}"))])
    assert events_of(online, "q") == [(5, "i5"), (7, "i7"), (9, "i9")]
    online.append([("q", (8, "i8")), ("r", (1, "i1")), ("q", (8, "i8"))])
    assert events_of(online, "q") == [(7, "i7"), (8, "i8"), (9, "i9")]
    assert events_of(online, "r") == [(1, "i1")]
    assert online.states(["nobody"]) == [NOTHING]


def test_the_query_that_was_not_used_for_the_longest_time_gives_way():
    one = MemoryQueries()
    one.append([("q0", (2**50, "i1"))])
    online = MemoryQueries(max_bytes=3 * one.size)
    for query in ("q0", "q1", "q2"):
        online.append([(query, (2**50, "i1"))])
    assert online.forgotten == 0
    assert events_of(online, "q0")  # It was used last.
    online.append([("q3", (2**50, "i1"))])
    assert not events_of(online, "q1")
    assert all(events_of(online, query) for query in ("q0", "q2", "q3"))
    assert online.forgotten == 1


@pytest.mark.parametrize(("length", "count"), [(4, 1), (256, 1), (200, 20)])
def test_the_bytes_that_are_counted_are_those_that_are_taken(length, count):
    limit = 4 * 2**20  # Python keeps a few hundred kilobytes of freed tuples.
    online = MemoryQueries(max_bytes=limit)
    tracemalloc.start()
    while online.forgotten < 100:
        query = next(NUMBERS)
        items = [str(query + n).rjust(length, "ß") for n in range(count)]
        online.append([(f"{query}".rjust(length, "ü"), (10**15 + query, i)) for i in items])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert online.size <= limit
    assert 0.5 * limit < taken < 1.15 * limit


def test_one_query_larger_than_everything_is_not_kept():
    online = MemoryQueries(max_bytes=1000)
    online.append([("q", (n, f"i{n}")) for n in range(100)])
    assert online.size == 0
    assert online.states(["q"]) == [NOTHING]
