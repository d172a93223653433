"""Text as words and as parts of words."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from feature_store.encoding.context import raw_values, request_table
from feature_store.encoding.tokens import tokens_of
from feature_store.kinds import MultiValuedFeature, SequenceFeature, TextFeature
from feature_store.schema import FeatureSchema

TEXTS = st.lists(st.none() | st.text(st.sampled_from("aAbcÉé-, 7漢字😀"), max_size=25), max_size=6)


def text(**settings) -> TextFeature:
    return TextFeature(name="title", dim=4, **settings)


def tokens_by_row(feature, values) -> list[list[str]]:
    tokens, lengths = tokens_of(feature, pa.array(values, pa.string()))
    found, start = tokens.to_pylist(), 0
    rows = []
    for length in lengths:
        rows.append(found[start : start + length])
        start += length
    assert start == len(found)
    return rows


def naive(value: str | None, smallest: int, largest: int, whole: bool) -> list[str]:
    """Returns the tokens of each word: the word as a whole, then its parts, short ones first."""
    tokens = []
    for word in re.findall(r"[^\W_]+", (value or "").lower()):
        marked = f"<{word}>"
        if whole or len(marked) < smallest:
            tokens.append(marked)
        for size in range(smallest, largest + 1):
            tokens += [marked[i : i + size] for i in range(len(marked) - size + 1)]
    return list(dict.fromkeys(tokens))


def test_words_are_distinct_and_lower_case() -> None:
    rows = tokens_by_row(text(), ["Été, été! 3-D", None, "--", "a b a"])
    assert rows == [["été", "3", "d"], [], [], ["a", "b"]]


def test_the_parts_of_a_word() -> None:
    parts = text(tokens="character_ngrams", ngrams=(3, 4))
    assert tokens_by_row(parts, ["Cat a", "a cat"]) == [
        ["<ca", "cat", "at>", "<cat", "cat>", "<a>"],
        ["<a>", "<ca", "cat", "at>", "<cat", "cat>"],
    ]
    both = text(tokens="words_and_ngrams", ngrams=(4, 4))
    assert tokens_by_row(both, ["cat cats"]) == [
        ["<cat>", "<cat", "cat>", "<cats>", "cats", "ats>"]
    ]


def test_accents_and_vowel_signs_stay_with_their_letter() -> None:
    assert tokens_by_row(text(), ["हिन्दी e\u0301te\u0301"]) == [["हिन्दी", "e\u0301te\u0301"]]


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_parts_equal_a_naive_loop(values, smallest, more, whole) -> None:
    feature = text(
        tokens="words_and_ngrams" if whole else "character_ngrams",
        ngrams=(smallest, smallest + more),
    )
    expected = [naive(value, smallest, smallest + more, whole) for value in values]
    assert tokens_by_row(feature, values) == expected


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ngrams": (2, 3)}, "ngrams has no effect on the words"),
        ({"tokens": "character_ngrams", "ngrams": (4, 3)}, "from 4 to 3"),
        ({"tokens": "character_ngrams", "ngrams": (0, 3)}, "greater than or equal to 1"),
        ({"hash_buckets": 9, "min_count": 2}, "min_count has no effect on the hashed"),
    ],
)
def test_keys_that_mean_nothing_are_refused(keys, words) -> None:
    with pytest.raises(ValidationError, match=words):
        text(**keys)


JOINED = ["a | b||", None, "", "a", " c|a "]


def test_strings_are_split_at_the_delimiter() -> None:
    tags = MultiValuedFeature(name="title", dim=4, delimiter="|")
    expected = [["a", "b"], [], [], ["a"], ["c", "a"]]
    assert tokens_by_row(tags, JOINED) == expected
    lists = pa.array([["a | b"], None, [], ["a"], ["c", "a"]])
    assert tokens_of(tags, lists)[0].to_pylist() == ["a | b", "a", "c", "a"]
    last = SequenceFeature(name="title", dim=4, delimiter="->", max_length=1)
    assert tokens_by_row(last, ["a -> b", "c"]) == [["b"], ["c"]]


@pytest.mark.parametrize("given", ["x|y", ["x", "y"]])
def test_requests_and_logs_are_split_alike(given: str | list[str]) -> None:
    tags = MultiValuedFeature(name="title", dim=4, delimiter="|")
    logged = raw_values(tags, pa.array(["x | y"]))
    asked = request_table((tags,), {"title": given}, 0, np.zeros(1, np.int64))["title"]
    assert tokens_of(tags, logged)[0] == tokens_of(tags, asked)[0] == pa.array(["x", "y"])


def test_a_schema_without_delimiters_has_the_fingerprint_of_versions_that_had_none() -> None:
    features = [
        {"name": "item_id", "kind": "id", "dim": 4},
        {"name": "tags", "kind": "multi_valued", "dim": 4},
        {"name": "seen", "kind": "sequence", "dim": 4},
    ]
    assert FeatureSchema.model_validate({"item": features}).fingerprint() == "877960f69b551283"
    features[1]["delimiter"] = "|"
    assert FeatureSchema.model_validate({"item": features}).fingerprint() != "877960f69b551283"
