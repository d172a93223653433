"""Hashes that files hold: values that never change, and what each promises."""

import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.core.hashing import (
    bucket_rows,
    crc32,
    crc32_continued,
    hash64,
    hash_integers,
    hash_of_id,
    hash_of_ids,
    hash_strings,
    hash_texts,
    hash_uniform,
    text_digests,
    token_digests,
)

TEXTS = ["", "red", "Käse"]
ids = st.lists(st.text(max_size=12), min_size=1, max_size=8, unique=True)


def test_hashes_of_ids_stay() -> None:
    assert [hash_of_id(text) for text in TEXTS] == [0, 4200685455, 1782748659]
    assert hash_of_ids(pa.array(TEXTS)).tolist() == [0, 4200685455, 1782748659]
    start = crc32(pa.array(TEXTS), suffix=b"\t")
    assert start.tolist() == [2883475241, 3592661191, 2399188506]
    start = crc32(pa.array(["q", "r"]), suffix=b"\t")
    found = crc32_continued(start, np.array([0, 1]), pa.array(TEXTS[1:]))
    assert found.tolist() == [2058942325, 1844718938]


def test_hashes_of_counters_stay() -> None:
    found = hash64(7, 3, np.arange(3))
    assert found.tolist() == [0xFF62F32932E1E247, 0x3724745F920CC6B7, 0xE4447EADDFC17300]
    assert hash64(-1, np.int64(-5)) == 1961750202426094747
    found = hash_uniform(7, 3, np.arange(3))
    assert found.tolist() == [0.997603604849139, 0.21540000279678662, 0.8916701483246976]


def test_hashes_of_strings_stay() -> None:
    found = hash_strings(3, pa.array(TEXTS))
    assert found.tolist() == [1399016497573053987, 6560696502034740056, 5872088368129689935]


def test_digests_and_their_rows_stay() -> None:
    expected = [13020603013274838756, 11765665226422741261, 14613103916627409840]
    assert text_digests(TEXTS).tolist() == expected
    assert token_digests(pa.array(TEXTS)).tolist() == expected
    assert bucket_rows(text_digests(TEXTS), 1000).tolist() == [757, 262, 841]


def test_hashes_of_sketches_stay() -> None:
    found = hash_integers(np.array([0, 1, 2**64 - 1], np.uint64))
    assert found.tolist() == [16294208416658607535, 10451216379200822465, 16490336266968443936]
    found = hash_texts(pa.array([*TEXTS, "x" * 1500]))
    assert found.tolist() == [
        12035550249420947055,
        10908804052541345424,
        4026546730327527244,
        8075577874206030680,
    ]


@given(ids, ids)
def test_a_checksum_continues_as_that_of_zlib(queries: list[str], items: list[str]) -> None:
    query, item = (a.ravel() for a in np.meshgrid(np.arange(len(queries)), np.arange(len(items))))
    start = crc32(pa.array(queries), suffix=b"\t")[query]
    found = crc32_continued(start, item, pa.array(items))
    expected = [
        zlib.crc32(f"{queries[q]}\t{items[i]}".encode())
        for q, i in zip(query.tolist(), item.tolist(), strict=True)
    ]
    assert found.tolist() == expected


@given(st.lists(st.text(max_size=6) | st.none(), max_size=8))
def test_a_string_hashes_alike_wherever_it_stands(texts: list[str | None]) -> None:
    hashes = hash_strings(3, pa.array(texts, pa.string()))
    alone = [hash_strings(3, pa.array([text], pa.string()))[0] for text in texts]
    assert hashes.tolist() == alone
    assert hash_strings(3, pa.array(["x", *texts], pa.string())[1:]).tolist() == alone
    assert len(set(hashes.tolist())) == len({text or "" for text in texts})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_texts_that_differ_hash_differently(kind: pa.DataType) -> None:
    texts = ["", "\0", "\0\0", "a", "b", "ab", "ba", "a" * 8, "a" * 9, "é" * 300, "x" * 1023]
    texts += ["x" * 1024, "x" * 1025, *(f"u{i}" for i in range(100_000))]
    column = pa.array(texts).cast(kind)
    hashes = hash_texts(column)
    assert len(np.unique(hashes)) == len(texts)
    np.testing.assert_array_equal(hash_texts(column.slice(3, 12)), hashes[3:15])
    np.testing.assert_array_equal(hash_texts(pa.array(texts[7:12])), hashes[7:12])
