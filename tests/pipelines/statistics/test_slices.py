"""Bounds of the slices: fixed ones where they divide a log, else by cumulative share of events."""

from typing import Any

import numpy as np
import pytest

from pipelines.statistics.slices import SliceBounds, item_slices


def with_few_giants() -> Any:
    """Returns a log where few items have nearly all events: fixed bounds leave the torso 1 %."""
    return np.concatenate([np.full(100, 3), np.arange(6, 26), np.arange(500, 3000, 100)])


def with_many_rare() -> Any:
    """Returns a log where most items have few events: fixed bounds leave no torso."""
    return np.concatenate([np.repeat([1, 2, 3, 4], [400, 200, 100, 50]), np.arange(6, 40)])


def shares(frequency: Any) -> dict[str, float]:
    total = frequency.sum()
    return {name: frequency[m].sum() / total for name, m in item_slices(frequency).items()}


@pytest.mark.parametrize("frequency", [with_few_giants(), with_many_rare()])
def test_where_fixed_bounds_leave_no_torso_slices_are_by_cumulative_share(frequency):
    bounds = SliceBounds.of(frequency)
    found = shares(frequency)
    assert (bounds.rule, bounds.fixed_torso < 0.03) == ("share", True)
    assert found["head"] == pytest.approx(0.5, abs=0.1)
    assert found["head"] + found["torso"] == pytest.approx(0.8, abs=0.1)
    assert "50 % of the events" in bounds.sentence()


@pytest.mark.parametrize("seed", range(20))
def test_bounds_by_share_leave_no_slice_without_items(seed):
    random = np.random.default_rng(seed)
    frequency = random.zipf(random.uniform(1.2, 3.0), random.integers(30, 3000)).clip(max=10**6)
    bounds = SliceBounds.of(frequency)
    slices = bounds.members(frequency)
    assert (np.sum(list(slices.values()), axis=0) == 1).all()
    if bounds.rule == "share":
        assert all(slices[name].any() for name in ("head", "torso", "tail"))
        least = {name: frequency[slices[name]].min() for name in ("head", "torso", "tail")}
        assert least["head"] > least["torso"] > least["tail"]


def test_a_log_that_fixed_bounds_divide_keeps_them():
    frequency = np.concatenate([np.arange(1, 100), [500] * 5])
    assert SliceBounds.of(frequency).model_dump() == {
        "rule": "fixed",
        "tail": 5,
        "torso": 84,
        "fixed_torso": pytest.approx(np.arange(6, 85).sum() / frequency.sum()),
    }


def test_the_order_of_items_does_not_count():
    frequency = with_few_giants()
    assert SliceBounds.of(frequency) == SliceBounds.of(frequency[::-1])


def test_ranges_in_words():
    of = SliceBounds(rule="share", tail=1, torso=2, fixed_torso=0.0)
    assert of.ranges() == "cold 0, tail 1, torso 2, head 3 or more"
    none = SliceBounds(rule="fixed", tail=5, torso=5, fixed_torso=0.0)
    assert none.ranges() == "cold 0, tail 1 to 5, no torso, head 6 or more"
