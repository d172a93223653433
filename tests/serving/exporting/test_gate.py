"""The reasons for which a bundle may not replace another."""

import pytest

from feature_store.core.errors import UserError
from serving.exporting.gate import changes_against, require_recall


def figures(value, low, high, count=100):
    return {
        "recall@50": value,
        "recall@50_low": low,
        "recall@50_high": high,
        "count": count,
    }


CHAMPION = {"head": figures(0.6, 0.5, 0.7), "tail": figures(0.2, 0.15, 0.25)}


def test_changes_are_relative_and_by_slice():
    found = changes_against(
        CHAMPION, {"head": figures(0.66, 0.6, 0.7), "tail": figures(0.19, 0.15, 0.23)}, 0.05
    )
    assert found == {"head": pytest.approx(0.1), "tail": pytest.approx(-0.05)}


def test_a_slice_that_is_surely_worse_than_tolerated_is_refused():
    new = {"head": figures(0.7, 0.6, 0.8), "tail": figures(0.15, 0.11, 0.18)}
    with pytest.raises(UserError, match=r"of the slice tail is 0\.1500, the champion's 0\.2000"):
        changes_against(CHAMPION, new, 0.05)
    # Within the tolerance of its interval, or with too few pairs to say so.
    assert "tail" in changes_against(CHAMPION, new, 0.2)
    few = {"tail": figures(0.1, 0.05, 0.15, count=10)}
    assert changes_against(CHAMPION, few, 0.05) == {}


def test_slices_that_one_of_them_lacks_are_not_compared():
    assert changes_against({}, {"tail": figures(0.1, 0.0, 0.2)}, 0.05) == {}
    empty = {"tail": {"count": 100}}
    assert changes_against(CHAMPION, empty, 0.05) == {}


def test_the_index_must_find_every_slice():
    require_recall({"head": 0.99, "tail": 0.95}, 0.95)
    with pytest.raises(UserError, match="tail items"):
        require_recall({"head": 0.99, "tail": 0.94}, 0.95)
