"""Histories of examples and states of queries, against loops over random logs with ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.core.columns import Jagged
from feature_store.core.hashing import hash64
from feature_store.encoding.context import NO_TIME
from pipelines.prepare.examples.histories import (
    Events,
    example_history,
    previous_times,
    query_state,
    requests,
)
from pipelines.prepare.examples.splits import TEST, TRAIN, VALIDATION
from pipelines.settings import History, Repeats


@st.composite
def logs(draw: st.DrawFn) -> Events:
    """Draws the events of a bucket: sorted by (query, time, item), without duplicates."""
    event = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5))
    rows = sorted(draw(st.sets(event, max_size=40)))
    split = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    query, time, item = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    time_rank = np.unique(time, return_inverse=True)[1]
    weight = np.ones(len(rows), np.float32)
    keys = (hash64(8, query), hash64(9, item))
    context_row = np.arange(len(rows))
    return Events(
        query * 7, item, time, time_rank, weight, np.array(split, np.int64), *keys, context_row
    )


def whole_history(events: Events, settings: History, repeats: Repeats = "exclude") -> Jagged:
    """Returns the histories of all examples, computed in slices of seven."""
    empty = Jagged(np.zeros(0, np.int32), np.zeros(1, np.int64))
    slices = [slice(start, start + 7) for start in range(0, len(events), 7)]
    parts = [example_history(events, s, settings, repeats) for s in slices]
    return Jagged.concatenate([empty, *parts])


def bag(column, row: int) -> list[int]:
    return column.values[column.offsets[row] : column.offsets[row + 1]].tolist()


def known(events: Events, query: int, splits: tuple[int, ...], before: float) -> list[int]:
    """Returns the items of a query's events in some splits before a time, oldest first."""
    return [
        int(events.item[i])
        for i in range(len(events))
        if events.query[i] == query and events.split[i] in splits and events.time[i] < before
    ]


@given(logs(), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_past_is_the_latest_earlier_events(events: Events, max_length: int) -> None:
    history = whole_history(events, History(kind="past", max_length=max_length))
    assert len(history) == len(events)
    for row in range(len(events)):
        splits = (TRAIN, VALIDATION) if events.split[row] == TEST else (TRAIN,)
        earlier = known(events, events.query[row], splits, events.time[row])[-max_length:]
        assert bag(history, row) == [item for item in earlier if item != events.item[row]]


@pytest.mark.parametrize("distinct", [False, True])
@given(events=logs(), max_length=st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_a_past_with_repeats_hides_only_what_is_not_before(
    distinct: bool, events: Events, max_length: int
) -> None:
    chosen = History(kind="past", max_length=max_length, distinct=distinct)
    history = whole_history(events, chosen, "allow")
    previous = previous_times(events, "allow")
    for row in range(len(events)):
        splits = (TRAIN, VALIDATION) if events.split[row] == TEST else (TRAIN,)
        earlier = known(events, events.query[row], splits, events.time[row])
        if distinct:
            latest = list(dict.fromkeys(earlier[-8 * max_length :][::-1]))
            earlier = latest[:max_length][::-1]
        assert bag(history, row) == earlier[-max_length:]
        mine = (events.query == events.query[row]) & np.isin(events.split, splits)
        times = events.time[mine & (events.time < events.time[row])]
        assert previous[row] == max(times, default=NO_TIME)


@given(events=logs(), max_length=st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_a_query_that_may_repeat_knows_all_before_its_held_out_events(
    events: Events, max_length: int
) -> None:
    queries, state = query_state(events, History(max_length=max_length), "allow")
    for split, name in ((VALIDATION, "validation"), (TEST, "test")):
        previous = requests(events, split, "allow").previous
        for row, query in enumerate(queries.tolist()):
            mine = (events.query == query) & (events.split == split)
            before = events.time[mine].min() if mine.any() else np.inf
            earlier = known(events, query, tuple(range(split)), before)
            assert bag(state.history(name), row) == earlier[-max_length:]
            seen = (events.query == query) & (events.split < split) & (events.time < before)
            assert previous[row] == max(events.time[seen], default=NO_TIME)


@given(logs(), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_a_distinct_past_has_each_item_where_it_came_last(events: Events, max_length: int) -> None:
    history = whole_history(events, History(kind="past", max_length=max_length, distinct=True))
    for row in range(len(events)):
        splits = (TRAIN, VALIDATION) if events.split[row] == TEST else (TRAIN,)
        earlier = known(events, events.query[row], splits, events.time[row])[-8 * max_length :]
        latest = dict.fromkeys(item for item in earlier[::-1] if item != events.item[row])
        assert bag(history, row) == list(latest)[:max_length][::-1]


@given(logs(), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_distinct_others_repeat_nothing(events: Events, max_length: int) -> None:
    history = whole_history(events, History(kind="others", max_length=max_length, distinct=True))
    for row in range(len(events)):
        training = set(known(events, events.query[row], (TRAIN,), np.inf))
        found = bag(history, row)
        assert len(found) == len(set(found))
        assert set(found) <= training - {events.item[row]}
        assert len(found) >= min(len(training - {events.item[row]}), max_length - 1)


@given(logs(), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_others_are_other_training_events(events: Events, max_length: int) -> None:
    history = whole_history(events, History(kind="others", max_length=max_length))
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
