"""What examples and queries know, against loops over random logs with ties and duplicates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.histories import Events, example_history, query_state
from pipelines.settings import History
from pipelines.splits import TEST, TRAIN, VALIDATION


@st.composite
def logs(draw: st.DrawFn) -> Events:
    """Events of a bucket: sorted by (query, time, item), without duplicates."""
    event = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5))
    rows = sorted(draw(st.sets(event, max_size=40)))
    split = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    query, time, item = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    rank = np.unique(time, return_inverse=True)[1]
    weight = np.ones(len(rows), np.float32)
    return Events(query * 7, item, time, rank, weight, np.array(split, np.int64))


def bag(column, row: int) -> list[int]:
    return column.values[column.offsets[row] : column.offsets[row + 1]].tolist()


def known(events: Events, query: int, splits: tuple[int, ...], before: float) -> list[int]:
    """Items of a query's events, oldest first."""
    return [
        int(events.item[i])
        for i in range(len(events))
        if events.query[i] == query and events.split[i] in splits and events.time[i] < before
    ]


@given(logs(), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_past_is_the_latest_earlier_events(events: Events, max_length: int) -> None:
    history = example_history(events, History(kind="past", max_length=max_length))
    assert len(history) == len(events)
    for row in range(len(events)):
        splits = (TRAIN, VALIDATION) if events.split[row] == TEST else (TRAIN,)
        earlier = known(events, events.query[row], splits, events.time[row])[-max_length:]
        assert bag(history, row) == [item for item in earlier if item != events.item[row]]


@given(logs(), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_others_are_other_training_events(events: Events, max_length: int) -> None:
    history = example_history(events, History(kind="others", max_length=max_length))
    assert len(history) == len(events)
    for row in range(len(events)):
        training = known(events, events.query[row], (TRAIN,), np.inf)
        found = bag(history, row)
        assert events.item[row] not in found
        assert all(found.count(item) <= training.count(item) for item in found)
        others = [item for item in training if item != events.item[row]]
        window = min(len(training), max_length)
        assert len(found) >= min(len(others), window - (len(training) - len(others)))
        if max_length >= len(training):
            assert sorted(found) == sorted(others)


@pytest.mark.parametrize("kind", ["past", "others"])
@given(events=logs(), max_length=st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_a_query_knows_nothing_of_what_is_held_out(kind, events: Events, max_length: int) -> None:
    queries, state = query_state(events, History(kind=kind, max_length=max_length))
    assert queries.tolist() == sorted(set(events.query.tolist()))
    for row, query in enumerate(queries.tolist()):
        for split, name in ((TRAIN, "train"), (VALIDATION, "validation"), (TEST, "test")):
            items = set(known(events, query, (split,), np.inf))
            assert bag(getattr(state, name), row) == sorted(items)
        for split, name in ((VALIDATION, "validation"), (TEST, "test")):
            mine = (events.query == query) & (events.split == split)
            held_out = set(events.item[mine].tolist())
            found = bag(state.history(name), row)
            assert len(found) <= max_length
            assert not held_out & set(found)
            if kind == "past":
                before = events.time[mine].min() if mine.any() else np.inf
                earlier = known(events, query, tuple(range(split)), before)[-max_length:]
                assert found == [item for item in earlier if item not in held_out]
            else:
                splits = (TRAIN,) if mine.any() else tuple(range(split))
                seen = known(events, query, splits, np.inf)
                assert set(found) <= set(seen)
                if max_length >= len(seen):
                    assert sorted(found) == sorted(i for i in seen if i not in held_out)
