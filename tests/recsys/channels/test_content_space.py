"""The space of content: what is near is similar, new items too, and dimensions have names."""

import numpy as np
import pyarrow as pa
import pytest

from feature_store.core.columns import Dense, Jagged
from pipelines.prepared.reader import Prepared
from recsys.channels.content import content_matrix, content_space
from recsys.channels.content_blocks import NumberBlock, _in_one_space
from recsys.channels.content_space import ContentSpace
from tests.support.tiny_bundle import ITEMS


@pytest.fixture(scope="module")
def prepared(tiny) -> Prepared:
    return Prepared(tiny.prepared_dir)


@pytest.fixture(scope="module")
def space(prepared) -> ContentSpace:
    return content_space(prepared)


def test_an_item_is_a_vector_of_length_1_or_0(prepared, space):
    current = np.arange(ITEMS) != 7
    matrix = content_matrix(space, prepared.item_columns, current)
    length = np.linalg.norm(matrix.toarray(), axis=1)
    np.testing.assert_allclose(length[[1, 2, 7, 8]], [1, 1, 0, 1], atol=1e-6)


def test_a_stored_space_is_the_same(prepared, space, tmp_path):
    space.save(tmp_path)
    features, encoder = prepared.features.item, prepared.item_encoder
    again = ContentSpace.read(tmp_path, features, encoder)
    everything = np.ones(ITEMS, np.bool_)
    one, other = (content_matrix(s, prepared.item_columns, everything) for s in (space, again))
    assert (one != other).nnz == 0
    with pytest.raises(ValueError, match="holds no weights of these features"):
        ContentSpace.read(tmp_path, features[:3], encoder)
    with pytest.raises(ValueError, match=r"weights for \d+ tokens"):
        ContentSpace.read(tmp_path, tuple(features[at] for at in (0, 3, 2, 1, 4, 5)), encoder)


def test_dimensions_have_the_names_of_features_and_values(prepared, space):
    columns = {name: column.take(np.array([8])) for name, column in prepared.item_columns.items()}
    found = space.entries(columns)
    labels = {space.label(c, f) for c, f in zip(found.columns, found.features, strict=True)}
    # Words are hashed, so that they have no names, and a vector's numbers have none either.
    named = {("group", "g2"), ("year", None), ("title", None), ("picture", None)}
    assert labels == named


def test_near_numbers_are_similar_and_numbers_beyond_the_known_ones_are_the_last():
    block = NumberBlock((0,), ("size",), 16, np.empty(0, np.float32))

    def of(*values):
        array = np.array(values, np.float32)[:, None]
        return {"size": Dense(array, np.ones(len(values), np.bool_))}

    fitted = block.fitted(of(1.0, 1.1, 9, 5, 5), np.ones(5, np.bool_))
    found = fitted.entries(of(1.0, 1.1, 9, 5, 5, -100, 100))
    dense = np.zeros((7, 16))
    dense[found.rows, found.columns] = found.values / np.log(16)
    np.testing.assert_allclose(dense.sum(axis=1), 1, rtol=1e-6)
    similar = dense @ dense.T
    assert similar[3, 4] == similar[3, 3]
    assert similar[0, 2] == 0
    np.testing.assert_array_equal(dense[[5, 6]], dense[[0, 2]])


def test_a_forgotten_word_is_no_word():
    (first, second), words = _in_one_space([pa.array(["red", None]), pa.array(["red", "blue"])])
    assert words.to_pylist() == ["red", "blue"]
    assert first.tolist() == [-1, 0, -1]
    assert second.tolist() == [-1, 0, 1]


def test_features_that_share_a_table_share_its_dimensions(prepared):
    title = next(f for f in prepared.features.item if f.name == "title")
    texts = (title, title.model_copy(update={"name": "subtitle"}))
    columns = {"title": Jagged.from_lengths(np.array([3, 4, 4]), np.array([2, 1]))}
    columns["subtitle"] = Jagged.from_lengths(np.array([4, 5]), np.array([1, 1]))
    space = ContentSpace.fit(texts, prepared.item_encoder, columns, np.ones(2, np.bool_))
    found = space.entries(columns)
    pairs = sorted(zip(found.rows.tolist(), found.columns.tolist(), found.features, strict=True))
    assert pairs == [(0, 3, 0), (0, 4, 0), (1, 4, 0), (1, 5, 1)]
    weight = dict(zip(found.columns.tolist(), found.values.tolist(), strict=True))
    assert weight[4] == 0  # Both items have it.
    assert weight[3] == pytest.approx(np.log(2))
