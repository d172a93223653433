"""Shares of pairs that come back, against a loop over random logs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.profile.repeats import RepeatShare, repeats_after, repeats_of_last

EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40
)


@given(EVENTS, st.integers(0, 5), st.sampled_from([1.0, 0.5]))
@settings(max_examples=200, deadline=None)
def test_shares_equal_a_loop(events: list[tuple[int, int, int]], start: int, share: float) -> None:
    rows = sorted(events)  # The order is that of query, time and item.
    query, time, item = map(np.array, zip(*rows, strict=True))
    late = {(q, i) for q, t, i in rows if t >= start}
    early = {(q, i) for q, t, i in rows if t < start}
    known = len(late & early) / len(late) if late else 0.0
    expected = RepeatShare(known, min(1.0, known / share))
    assert repeats_after(query, item, time, start, share) == expected
    had = []
    for each in sorted(set(query.tolist())):
        mine = sorted({row for row in rows if row[0] == each})
        if len(mine) >= 3:
            had.append(mine[-1][2] in {i for _, _, i in mine[:-1]})
    known = float(np.mean(had)) if had else 0.0
    found = repeats_of_last(query, item, time, share)
    assert (found.at_least, found.at_most) == (known, min(1.0, known / share))
