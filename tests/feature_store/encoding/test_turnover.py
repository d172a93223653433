"""Tokens leave a vocabulary when they are not used, and new ones take their rows."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feature_store.encoding.turnover import renewed_vocabulary
from feature_store.encoding.vocabulary import Vocabulary, grow_vocabulary
from feature_store.schema import FeatureSchema


def renewed(
    previous: Vocabulary | None, uses: dict[str, tuple[int, int]], **settings: Any
) -> Vocabulary:
    """Returns a vocabulary renewed by count and time of the last use of each token."""
    counts = pa.table(
        {
            "token": list(uses),
            "count": pa.array([count for count, _ in uses.values()], pa.int64()),
            "last": pa.array([last for _, last in uses.values()], pa.int64()),
        }
    )
    chosen = {"min_count": 1, "max_size": None, "idle_from": 0, "clear_unused": False, **settings}
    return renewed_vocabulary(counts, first_row=1, previous=previous, **chosen)


def entered(vocabulary: Vocabulary) -> list[int]:
    assert vocabulary.turnover is not None
    return vocabulary.turnover.entered.tolist()


FIRST = renewed(None, {"a": (9, 5), "b": (5, 2), "c": (3, 6)})


def test_an_idle_token_leaves_and_a_new_one_takes_its_row() -> None:
    assert FIRST.tokens.to_pylist() == ["a", "b", "c"]
    assert (entered(FIRST), FIRST.generation) == ([0, 0, 0], 0)
    left = renewed(FIRST, {"a": (9, 5), "c": (4, 8)}, idle_from=4)
    assert left.tokens.to_pylist() == ["a", None, "c"]
    assert left.rows(pa.array(["b", "c"])).tolist() == [-1, 3]
    assert left.generation == 0
    taken = renewed(left, {"a": (9, 8), "c": (4, 8), "e": (1, 9), "d": (2, 9)}, idle_from=4)
    assert taken.tokens.to_pylist() == ["a", "d", "c", "e"]
    assert taken.rows(pa.array(["d", "e"])).tolist() == [2, 4]
    assert (entered(taken), taken.generation) == ([0, 1, 0, 1], 1)
    assert taken.is_later(0).tolist() == [False, True, False, True]
    assert taken.counts.to_pylist() == [9, 2, 4, 1]


def test_a_token_leaves_and_another_enters_in_one_run() -> None:
    once = renewed(FIRST, {"a": (1, 9), "c": (1, 9), "d": (1, 9)}, idle_from=4)
    assert (once.tokens.to_pylist(), entered(once)) == (["a", "d", "c"], [0, 1, 0])
    # One that comes back is as new as any other.
    again = renewed(once, {"b": (7, 20), "d": (1, 9)}, idle_from=15)
    assert again.tokens.to_pylist() == ["b", None, None]
    assert (entered(again)[0], again.generation) == (2, 2)


def test_a_token_that_this_run_does_not_have_stays_until_it_is_idle() -> None:
    assert renewed(FIRST, {"c": (1, 9)}, idle_from=2).tokens.to_pylist() == ["a", "b", "c"]
    cleared = renewed(FIRST, {"c": (1, 9)}, idle_from=2, clear_unused=True)
    assert cleared.tokens.to_pylist() == [None, None, "c"]


def test_tokens_enter_by_their_count_and_as_far_as_there_is_room() -> None:
    uses = {"a": (9, 9), "c": (1, 9), "rare": (1, 9), "old": (9, 3), "d": (3, 9), "e": (2, 9)}
    found = renewed(FIRST, uses, idle_from=4, min_count=2, max_size=3)
    assert found.tokens.to_pylist() == ["a", "d", "c"]


def test_what_is_saved_is_read_and_others_have_the_columns_of_earlier_versions(
    tmp_path: Path,
) -> None:
    left = renewed(FIRST, {"a": (9, 9), "d": (1, 9)}, idle_from=4)
    left.save(tmp_path / "a.parquet")
    read = Vocabulary.load(tmp_path / "a.parquet")
    assert read.tokens.equals(left.tokens)
    assert entered(read) == entered(left)
    counts = pa.table({"token": ["a"], "count": [1]})
    grow_vocabulary(counts, first_row=1).save(tmp_path / "b.parquet")
    assert pa.parquet.read_schema(tmp_path / "b.parquet").names == ["token", "row", "count"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (
            {"shares": "item.item_id", "max_idle_days": 3},
            "min_count and max_idle_days have no effect on 'query_id', which shares",
        ),
        ({"shares": "item.item_id"}, "which not every item has"),
    ],
)
def test_an_id_shares_all_rows_or_none(query: dict[str, Any], sentence: str) -> None:
    item = {"name": "item_id", "kind": "id", "dim": 4}
    if "max_idle_days" not in query:
        item["min_count"] = 2
    schema = {"item": [item], "query": [{"name": "query_id", "kind": "id", "dim": 4, **query}]}
    with pytest.raises(ValueError, match=sentence):
        FeatureSchema.model_validate(schema)


def test_a_schema_without_turnover_has_the_fingerprint_of_earlier_versions() -> None:
    schema = {"item": [{"name": "item_id", "kind": "id", "dim": 4}]}
    dumped = FeatureSchema.model_validate(schema).model_dump(mode="json")
    assert dumped["item"] == [{"name": "item_id", "dim": 4, "kind": "id", "shares": None}]
