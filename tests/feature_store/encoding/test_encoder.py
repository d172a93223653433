"""The encoder gives a row the same numbers whatever rows come with it, and rows never move."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.core.columns import Column, Dense, Jagged, read_columns, write_columns
from feature_store.encoding.encoder import OOV_ROW, SideEncoder
from feature_store.encoding.fitting import fit_scaling, fit_vocabulary, partial_counts
from feature_store.encoding.vocabulary import count_tokens, grow_vocabulary
from feature_store.kinds import IdFeature
from feature_store.schema import FeatureSchema
from tests.support.prepare_logs import FEATURES, items_table

HASHED_PARTS = {"tokens": "character_ngrams", "hash_buckets": 40}
CHOSEN = FeatureSchema.model_validate(
    {
        "item": [
            {"name": "item_id", "kind": "id", "dim": 4},
            {"name": "tags", "kind": "sequence", "dim": 4, "max_length": 2},
            {"name": "title", "kind": "text", "dim": 4, "tokens": "words_and_ngrams"},
            {"name": "genre", "kind": "text", "dim": 4, **HASHED_PARTS},
            {"name": "price", "kind": "numeric", "dim": 4, "scaling": "quantile"},
        ],
    }
)


def encoder_of(table: pa.Table, pieces: int = 1, features: FeatureSchema = FEATURES) -> SideEncoder:
    """Fits an encoder on a table that is read in pieces."""
    bounds = np.linspace(0, len(table), pieces + 1).astype(int)
    parts = [table.slice(a, b - a) for a, b in pairwise(bounds)]
    ids = grow_vocabulary(count_tokens(table["item_id"]), first_row=0)
    vocabularies, scalings = {}, {}
    for feature in features.item:
        if isinstance(feature, IdFeature):
            continue
        counts = [partial_counts(feature, part[feature.name]) for part in parts]
        if not feature.is_sparse:
            scalings[feature.name] = fit_scaling(feature, counts)
        elif feature.has_vocabulary:
            vocabularies[feature.name] = fit_vocabulary(feature, counts)
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


@pytest.mark.parametrize("features", [FEATURES, CHOSEN])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 59), max_size=8), min_size=1, max_size=4))
def test_a_row_is_encoded_alike_whatever_rows_come_with_it(
    features: FeatureSchema, batches: list[list[int]]
) -> None:
    table = items_table()
    encoder = encoder_of(table, features=features)
    whole = encoder.encode(table)
    for rows in batches:
        expected = {name: column.take(np.array(rows, int)) for name, column in whole.items()}
        assert_equal(encoder.encode(table.take(pa.array(rows, pa.int64()))), expected)


@pytest.mark.parametrize("features", [FEATURES, CHOSEN])
def test_fitting_in_pieces_equals_fitting_the_whole(features: FeatureSchema) -> None:
    table = items_table()
    parts = encoder_of(table, pieces=5, features=features)
    assert_equal(parts.encode(table), encoder_of(table, features=features).encode(table))


def test_storage_does_not_change_what_is_encoded() -> None:
    table = items_table()
    encoder = encoder_of(table)
    stored = table.set_column(1, "genre", table["genre"].combine_chunks().dictionary_encode())
    stored = stored.set_column(2, "tags", table["tags"].cast(pa.large_list(pa.large_string())))
    stored = stored.set_column(3, "title", table["title"].cast(pa.large_string()))
    assert_equal(encoder.encode(stored), encoder.encode(table))


@pytest.mark.parametrize("features", [FEATURES, CHOSEN])
def test_a_saved_encoder_and_saved_columns_come_back_equal(
    tmp_path: Path, features: FeatureSchema
) -> None:
    table = items_table()
    encoder = encoder_of(table, features=features)
    encoded = encoder.encode(table)
    encoder.save(tmp_path)
    write_columns(tmp_path / "features.arrow", encoded)
    assert_equal(SideEncoder.load(tmp_path, features, "item").encode(table), encoded)
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
