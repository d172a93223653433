"""Tokens of raw values: the strings that a sparse feature's table has rows for."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import map_elements, plain_array, token_strings
from feature_store.core.columns import Ints, Jagged
from feature_store.kinds import ListFeature, SequenceFeature, TextFeature, TokenFeature

# Marks belong to words: the vowel signs of many scripts are marks.
_WORD_BREAK = r"[^\p{L}\p{M}\p{N}]+"
_WORD_START, _WORD_END = "<", ">"  # No word has them.


def tokens_of(feature: TokenFeature, column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, Ints]:
    """Splits the values of all rows into tokens, row after row.

    Returns:
        tokens: Strings, [total]; dictionary-encoded where the feature is text.
        lengths: Number of tokens of each row, [rows] int64; 0 where a value is absent.
    """
    array = plain_array(column)
    rows = len(array)
    if not feature.has_several_values:
        tokens = token_strings(array)
        present = tokens.is_valid().to_numpy(zero_copy_only=False)
        return tokens.drop_null(), present.astype(np.int64)
    if isinstance(feature, TextFeature):
        array = pc.split_pattern_regex(pc.utf8_lower(token_strings(array)), _WORD_BREAK)
    elif isinstance(feature, ListFeature):
        array = lists_of(feature, array)
    parents = pc.list_parent_indices(array)
    tokens = token_strings(pc.list_flatten(array))
    kept = pc.and_(tokens.is_valid(), pc.not_equal(tokens, ""))
    kept = pc.fill_null(kept, False)
    tokens, parents = tokens.filter(kept), parents.filter(kept).to_numpy().astype(np.int64)
    if isinstance(feature, TextFeature):
        tokens, parents = _text_tokens(feature, tokens.dictionary_encode(), parents)
    lengths = np.bincount(parents, minlength=rows).astype(np.int64)
    if isinstance(feature, SequenceFeature):
        from_end = np.cumsum(lengths)[parents] - 1 - np.arange(len(parents))
        tokens = tokens.filter(pa.array(from_end < feature.max_length))
        lengths = np.minimum(lengths, feature.max_length)
    return tokens, lengths


def lists_of(feature: ListFeature, column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Returns the values of each row as a list: strings are split at the feature's delimiter."""
    array = plain_array(column)
    if pa.types.is_null(array.type):  # The file lacks the column.
        return array.cast(pa.list_(pa.string()))
    if feature.delimiter is None or not pa.types.is_string(array.type):
        return array
    return map_elements(pc.split_pattern(array, feature.delimiter), pc.utf8_trim_whitespace)


def _text_tokens(
    feature: TextFeature, words: pa.DictionaryArray, parents: Ints
) -> tuple[pa.DictionaryArray, Ints]:
    """Returns the distinct tokens of each row, in the order in which they first occur."""
    tokens, codes = words.dictionary, words.indices.to_numpy().astype(np.int64)
    if feature.tokens != "words":
        codes, parents = _distinct_in_row(codes, parents, len(tokens))
        tokens, parts = word_parts(tokens, feature.ngrams, feature.tokens == "words_and_ngrams")
        bags = parts.take(codes)
        codes, parents = bags.values, parents[bags.row_of_value()]
    codes, parents = _distinct_in_row(codes, parents, len(tokens))
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), tokens), parents


def _distinct_in_row(codes: Ints, parents: Ints, size: int) -> tuple[Ints, Ints]:
    _, first = np.unique(parents * max(1, size) + codes, return_index=True)
    first.sort()
    return codes[first], parents[first]


def word_parts(words: pa.Array, sizes: tuple[int, int], whole: bool) -> tuple[pa.Array, Jagged]:
    """Splits marked words into runs of characters; see `TextFeature`.

    Args:
        words: Strings, [words].
        sizes: Smallest and greatest number of characters of a part.
        whole: Whether the marked words themselves are parts, too.

    Returns:
        parts: Distinct strings, [n].
        bags: Rows of `parts` that each word has, [words]; some may repeat.
    """
    marked = pc.binary_join_element_wise(_WORD_START, words, _WORD_END, "")
    lengths = pc.utf8_length(marked).to_numpy().astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    characters = np.frombuffer("".join(marked.to_pylist()).encode("utf-32-le"), np.uint32)
    smallest, largest = sizes
    is_kept = np.ones(len(lengths), bool) if whole else lengths < smallest
    parts = [marked.filter(pa.array(is_kept))]
    parents: list[Ints] = [np.flatnonzero(is_kept)]
    for size in range(smallest, min(largest, int(lengths.max(initial=0))) + 1):
        windows = Jagged.from_lengths(starts[:0], np.maximum(lengths - size + 1, 0))
        parent = windows.row_of_value()
        position = starts[parent] + np.arange(len(parent)) - windows.offsets[parent]
        runs = np.lib.stride_tricks.sliding_window_view(characters, size)[position]
        parts.append(pa.array(np.ascontiguousarray(runs).view(f"<U{size}").ravel(), pa.string()))
        parents.append(parent)
    encoded = pa.concat_arrays(parts).dictionary_encode()
    parent = np.concatenate(parents)
    codes = encoded.indices.to_numpy()[np.argsort(parent, kind="stable")]
    return encoded.dictionary, Jagged.from_lengths(
        codes, np.bincount(parent, minlength=len(lengths))
    )
