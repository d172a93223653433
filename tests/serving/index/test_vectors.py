"""Vectors are read from an index's own memory."""

import faiss
import numpy as np

from serving.index.vectors import array_at
from tests.support.indexes import DIM, unit_rows


def test_an_array_over_the_memory_of_an_index_is_no_copy():
    index, vectors = faiss.IndexFlatIP(DIM), unit_rows(5, 0)
    index.add(vectors)
    codes = array_at(index.codes.data(), 5 * DIM * 4)
    assert np.array_equal(codes.view(np.float32).reshape(5, DIM), vectors), (
        "FAISS's `rev_swig_ptr` returns something else than the memory behind a pointer: look for "
        "its successor in faiss/array_conversions.py, and adapt `serving.index.vectors.array_at`"
    )
    codes.view(np.float32)[:DIM] = 1.0
    assert index.reconstruct(0).tolist() == [1.0] * DIM
