"""Explanations name the feature values that an item shares with those of the query."""

import json
import shutil
from io import StringIO

import numpy as np
import pyarrow as pa
import pytest
from pydantic_core import to_json
from rich.console import Console

import serving
from feature_store.core.columns import to_arrow
from feature_store.core.errors import UserError
from feature_store.core.files import write_array
from feature_store.kinds import CategoricalFeature, IdFeature, TextFeature
from recsys.channels.content_space import ContentSpace
from serving.recommend.display import print_recommendations
from serving.recommend.fused.shared import SharedContent
from serving.recommend.options import RecommendOptions
from serving.server.api import RecommendRequest
from serving.server.service import Service
from tests.support.hostile.bundles import sealed
from tests.support.tiny_bundle import ITEMS, fitted_encoder

# Item 9 is of group g3 and has the tag t0; so are and have 21 and 57.
OPTIONS = RecommendOptions(explain=True, history=["i9", "i2"])


@pytest.fixture(scope="module")
def recommender(tiny_by_content):
    return serving.load(tiny_by_content.bundle_dir)


def test_shared_values_are_those_of_both_items(recommender):
    found = {i.item_id: i.explanation for i in recommender.recommend("new", ITEMS, OPTIONS).items}
    is_told = 0
    for item, explanation in found.items():
        part = explanation.channels.get("content", 0.0)
        if not part:
            assert explanation.shared == ()
            continue
        number, sources = int(item[1:]), [int(r.item_id[1:]) for r in explanation.because]
        for each in explanation.shared:
            if each.feature == "group":
                assert each.value == f"g{number % 6}"
                assert any(source % 6 == number % 6 for source in sources)
            if each.feature == "tags":
                assert int(each.value[1:]) < number % 4
        scores = [each.score for each in explanation.shared]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) <= part + 1e-4
        if scores:  # Small parts are left out.
            assert scores[-1] > scores[0] / 4
            is_told += 1
    assert is_told
    # Tags that most items have say little beside a group.
    named = {each.feature for x in found.values() for each in x.shared}
    assert "group" in named
    assert "tags" not in named


def test_the_server_and_the_terminal_tell_them(recommender):
    body = RecommendRequest(query_id="new", k=ITEMS, explain=True, history=["i9", "i2"])
    answer = json.loads(to_json(Service.of(recommender).recommend(body)))
    shared = [each for item in answer["items"] for each in item["explanation"]["shared"]]
    assert set(shared[0]) == {"feature", "value", "score"}
    shown = StringIO()
    found = recommender.recommend("new", ITEMS, OPTIONS)
    print_recommendations(found, (), Console(file=shown, width=200))
    assert "; both have " in shown.getvalue()
    assert "group g3 +" in shown.getvalue()
    assert "a similar year +" in shown.getvalue()
    short = StringIO()
    print_recommendations(found, (), Console(file=short, width=200), with_parts=False)
    [first] = [line for line in short.getvalue().splitlines() if line.startswith("1: ")]
    assert first.startswith('1: because of "The film of number ')
    assert "; both have " in first
    assert "group g3" in short.getvalue()
    assert "+" not in short.getvalue()


def test_contents_of_another_export_are_refused(tiny_by_content, tmp_path):
    bundle = shutil.copytree(tiny_by_content.bundle_dir, tmp_path / "bundle")
    path = bundle / "fusion/content/weights.npy"
    write_array(path, np.load(path)[:-1])
    with pytest.raises(UserError, match="cannot be read"):
        serving.load(sealed(bundle))


@pytest.fixture(scope="module")
def books():
    """Returns the contents of 200 books.

    Of their titles a quarter begins with "the", and four are of a storm; most books are in English,
    and they are of eight genres.
    """
    features = (
        IdFeature(name="item_id", dim=4),
        TextFeature(name="title", dim=4),
        CategoricalFeature(name="language", dim=4),
        CategoricalFeature(name="genre", dim=4),
    )
    nouns = [*["storm"] * 4, *(f"word{i}" for i in range(196))]
    table = pa.table(
        {
            "item_id": [f"i{i}" for i in range(200)],
            "title": [("The " if i % 8 < 2 else "") + nouns[i] for i in range(200)],
            "language": ["en" if i % 3 else f"l{i % 7}" for i in range(200)],
            "genre": [f"g{i // 8 % 8}" for i in range(200)],
        }
    )
    encoder = fitted_encoder(features, "item", table)
    columns = encoder.encode(table)
    space = ContentSpace.fit(features, encoder, columns, np.ones(200, np.bool_))
    return SharedContent(to_arrow(columns), space, [f.kind == "text" for f in features])


def shared(contents, item, source):
    [found] = contents.values(np.array([item]), np.array([source]), np.ones((1, 1)))
    return [(each.feature, each.value) for each in found]


def test_words_and_values_that_many_items_have_are_named_only_alone(books):
    # Both begin with "the", are in English, and of one genre.
    assert shared(books, 64, 65) == [("genre", "g0")]
    # Nothing but the article and the language: the article tells more.
    assert shared(books, 17, 25) == [("title", "the")]
    # A word of few titles tells more than four times as much as the genre.
    assert shared(books, 0, 1) == [("title", "storm")]
    # Here the language is all.
    assert shared(books, 11, 19) == [("language", "en")]
