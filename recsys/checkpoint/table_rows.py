"""Meaning of the rows of embedding tables, without which old weights mean nothing."""

import zlib
from collections.abc import Iterator

import numpy as np

from feature_store.core.columns import Ints
from feature_store.core.settings import Frozen
from feature_store.encoding.encoder import SideEncoder
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.kinds import AnyFeature
from feature_store.schema import qualified
from pipelines.prepared.reader import Prepared

# Number of rows of a vocabulary that are compared, and bits of each token's hash: few, so that the
# sample tells little about who is in it.
_SAMPLE, _BITS = 256, 16


class TableRows(Frozen):
    """The rows of a feature's table.

    Attributes:
        rows: Number of rows.
        tokens: Number of tokens in its vocabulary; 0 where rows are hashes or parts of the time.
        sample: Hashes of tokens at even intervals; None where a row has none.
        generation: Generation of its vocabulary; see `Vocabulary`.
    """

    rows: int
    tokens: int
    sample: tuple[int | None, ...]
    generation: int = 0


def table_rows(prepared: Prepared) -> dict[str, TableRows]:
    """Returns the rows of every table, by the qualified name of the feature that owns it."""
    return {
        name: TableRows(
            rows=encoder.num_embeddings(feature),
            tokens=len(vocabulary) if vocabulary is not None else 0,
            sample=_sample(vocabulary, len(vocabulary)) if vocabulary is not None else (),
            generation=vocabulary.generation if vocabulary is not None else 0,
        )
        for name, feature, encoder, vocabulary in _sparse(prepared)
    }


def moved_tables(before: dict[str, TableRows], prepared: Prepared) -> set[str]:
    """Returns the tables in which a row stands for another token than before, or is gone.

    Rows of tokens that left, and of those that took their place, are no signs of it.
    """
    moved = set()
    for name, _, _, vocabulary in _sparse(prepared):
        old = before.get(name)
        if old is None or vocabulary is None:
            continue
        now = _sample(vocabulary, old.tokens, old.generation)
        pairs = zip(old.sample, now, strict=False)
        is_gone = old.tokens > len(vocabulary)
        if is_gone or any(None not in pair and pair[0] != pair[1] for pair in pairs):
            moved.add(name)
    return moved


def unknown_rows(before: dict[str, TableRows], prepared: Prepared) -> dict[str, Ints]:
    """Returns the rows that a checkpoint knows nothing of, by the qualified name of tables.

    They are those whose token was forgotten or left, and those that a token took from another one
    after the checkpoint. Rows that the checkpoint does not have are left out.

    Args:
        before: Rows of the checkpoint's tables.
        prepared: Prepared data of today.
    """
    found: dict[str, Ints] = {}
    for name, _, _, vocabulary in _sparse(prepared):
        if vocabulary is None or name not in before:
            continue
        unknown = vocabulary.tokens.is_null().to_numpy(False)
        unknown = unknown | vocabulary.is_later(before[name].generation)
        rows = vocabulary.first_row + np.flatnonzero(unknown)
        rows = rows[rows < before[name].rows]
        if len(rows):
            found[name] = rows
    return found


def _sparse(
    prepared: Prepared,
) -> Iterator[tuple[str, AnyFeature, SideEncoder, Vocabulary | None]]:
    for encoder in (prepared.item_encoder, prepared.query_encoder, prepared.context_encoder):
        for feature in encoder.features:
            if feature.is_sparse and feature.shared_table is None:
                vocabulary = encoder.vocabulary(feature)
                yield qualified(encoder.side, feature), feature, encoder, vocabulary


def _sample(
    vocabulary: Vocabulary, tokens: int, generation: int | None = None
) -> tuple[int | None, ...]:
    """Returns hashes of tokens at even intervals among the first `tokens` ones.

    Args:
        vocabulary: Tokens of a table.
        tokens: Number of tokens.
        generation: Generation after which a token that entered is None; None: none is.
    """
    tokens = min(tokens, len(vocabulary))
    positions = np.unique(np.linspace(0, max(0, tokens - 1), min(tokens, _SAMPLE)).astype(np.int64))
    sample = vocabulary.tokens.take(positions).to_pylist()
    if generation is not None:
        is_later = vocabulary.is_later(generation)[positions].tolist()
        sample = [None if later else t for t, later in zip(sample, is_later, strict=True)]
    return tuple(None if t is None else zlib.crc32(t.encode()) % 2**_BITS for t in sample)
