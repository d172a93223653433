"""The encoder gives a row the same numbers whatever rows come with it, and rows never move."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from prepare_logs import FEATURES, items_table

from feature_store.columns import Column, Dense, Jagged, read_columns, write_columns
from feature_store.encoding import OOV_ROW, Scaling, SideEncoder, dense_moments, tokens_of
from feature_store.schema import FeatureSchema, NumericFeature, TextFeature, VectorFeature
from feature_store.vocabulary import count_tokens, grow_vocabulary, merge_counts


def encoder_of(table: pa.Table, pieces: int = 1, features: FeatureSchema = FEATURES) -> SideEncoder:
    """Fitted on a table that is read in pieces."""
    bounds = np.linspace(0, len(table), pieces + 1).astype(int)
    parts = [table.slice(a, b - a) for a, b in pairwise(bounds)]
    ids = grow_vocabulary(count_tokens(table["item_id"]), first_row=0)
    vocabularies, scalings = {}, {}
    for feature in features.item:
        columns = [part[feature.name] for part in parts]
        if isinstance(feature, NumericFeature | VectorFeature):
            moments = np.sum([dense_moments(feature, column) for column in columns], axis=0)
            scalings[feature.name] = Scaling.from_moments(moments)
        elif feature.name in ("genre", "tags", "title"):
            counts = [count_tokens(tokens_of(feature, column)[0]) for column in columns]
            vocabularies[feature.name] = grow_vocabulary(merge_counts(counts), first_row=1)
    return SideEncoder("item", features.item, ids, vocabularies, scalings)


def assert_equal(first: dict[str, Column], second: dict[str, Column]) -> None:
    assert first.keys() == second.keys()
    for name, column in first.items():
        other = second[name]
        if isinstance(column, Dense):
            assert isinstance(other, Dense)
            np.testing.assert_array_equal(column.present, other.present)
            np.testing.assert_array_equal(column.values, other.values)
        else:
            assert isinstance(other, Jagged)
            np.testing.assert_array_equal(column.offsets, other.offsets)
            np.testing.assert_array_equal(column.values, other.values)


def concatenated(parts: list[dict[str, Column]]) -> dict[str, Column]:
    return {
        name: type(c).concatenate([part[name] for part in parts]) for name, c in parts[0].items()
    }


@pytest.mark.parametrize("size", [1, 7, 60])
def test_pieces_equal_the_whole(size: int) -> None:
    table = items_table()
    encoder = encoder_of(table)
    parts = [encoder.encode(table.slice(start, size)) for start in range(0, len(table), size)]
    assert_equal(concatenated(parts), encoder.encode(table))


def test_fitting_in_pieces_equals_fitting_the_whole() -> None:
    table = items_table()
    assert_equal(encoder_of(table, pieces=5).encode(table), encoder_of(table).encode(table))


def test_storage_does_not_change_what_is_encoded() -> None:
    table = items_table()
    encoder = encoder_of(table)
    stored = table.set_column(1, "genre", table["genre"].combine_chunks().dictionary_encode())
    stored = stored.set_column(2, "tags", table["tags"].cast(pa.large_list(pa.large_string())))
    stored = stored.set_column(3, "title", table["title"].cast(pa.large_string()))
    assert_equal(encoder.encode(stored), encoder.encode(table))


def test_a_saved_encoder_and_saved_columns_come_back_equal(tmp_path: Path) -> None:
    table = items_table()
    encoder = encoder_of(table)
    encoded = encoder.encode(table)
    encoder.save(tmp_path)
    write_columns(tmp_path / "features.arrow", encoded)
    assert_equal(SideEncoder.load(tmp_path, FEATURES, "item").encode(table), encoded)
    assert_equal(read_columns(tmp_path / "features.arrow"), encoded)


def test_absent_and_unknown_values() -> None:
    encoder = encoder_of(items_table())
    table = pa.table(
        {
            "item_id": ["i3", "never seen"],
            "genre": ["never seen", None],
            "tags": [["t1", None, "", "never seen"], []],
            "title": ["RED, red... unheard-of", None],
            "price": pa.array([float("nan"), float("inf")]),
            "image": pa.array([[1.0, 2.0], None], pa.list_(pa.float32())),
        }
    )
    found = encoder.encode(table)
    row = {name: v.rows(pa.array(["t1", "red"])) for name, v in encoder.vocabularies.items()}
    bags = {
        name: [column.take(np.array([i])).values.tolist() for i in range(2)]
        for name, column in found.items()
        if isinstance(column, Jagged)
    }
    assert bags == {
        "item_id": [[encoder.ids.rows(pa.array(["i3"]))[0]], []],
        "genre": [[OOV_ROW], []],
        "tags": [[row["tags"][0], OOV_ROW], []],
        "title": [[row["title"][1], OOV_ROW, OOV_ROW], []],
        "brand": [[], []],
    }
    for name in ("price", "image"):
        column = found[name]
        assert isinstance(column, Dense)
        assert not column.present.any()
        assert (column.values == 0).all()


def test_numbers_are_standardised() -> None:
    table = items_table()
    price = encoder_of(table).encode(table)["price"]
    assert isinstance(price, Dense)
    known = price.values[price.present]
    assert known.mean() == pytest.approx(0, abs=1e-6)
    assert known.std() == pytest.approx(1, abs=1e-6)


def test_text_is_distinct_lower_case_words() -> None:
    feature = TextFeature(name="title", dim=4)
    tokens, lengths = tokens_of(feature, pa.array(["Été, été! 3-D", None, "--", "a b a"]))
    assert tokens.to_pylist() == ["été", "3", "d", "a", "b"]
    assert lengths.tolist() == [3, 0, 0, 2]


def test_vocabularies_only_append() -> None:
    def counts(**tokens: int) -> pa.Table:
        return pa.table({"token": list(tokens), "count": list(tokens.values())})

    first = grow_vocabulary(counts(a=1, b=5, c=5), first_row=1)
    assert first.tokens.to_pylist() == ["b", "c", "a"]
    second = grow_vocabulary(
        counts(c=1, z=9, y=9, rare=1), first_row=1, previous=first, min_count=2, max_size=4
    )
    assert second.tokens.to_pylist() == ["b", "c", "a", "y"]
    assert second.counts.to_pylist() == [0, 1, 0, 9]
    assert second.rows(pa.array(["a", "y", "z"])).tolist() == [3, 4, -1]
