"""Matrices in parts against the same matrices in memory."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from recsys.channels.matrix_files import read_matrix, stack, transpose, write_matrix
from recsys.channels.neighbours import Neighbours

ITEMS = 20


def in_parts(directory: Path, density: float) -> tuple[sparse.csr_matrix, list[Path]]:
    """Returns a matrix without a diagonal, and the directories of its parts."""
    random = np.random.default_rng(0)
    dense = random.random((ITEMS, ITEMS)) * (random.random((ITEMS, ITEMS)) < density)
    np.fill_diagonal(dense, 0)
    whole = sparse.csr_matrix(dense.astype(np.float32))
    parts = []
    for start, stop in ((0, 7), (7, 8), (8, ITEMS)):
        parts.append(directory / f"part-{start}")
        write_matrix(parts[-1], whole[start:stop])
    return whole, parts


@pytest.mark.parametrize("density", [0.3, 0.0])
def test_a_stack_has_the_rows_of_all_parts(tmp_path, density):
    whole, parts = in_parts(tmp_path, density)
    stack(parts, tmp_path / "stack")
    again = read_matrix(tmp_path / "stack")
    assert again.shape == whole.shape
    assert (again != whole).nnz == 0
    stack(parts, tmp_path / "with itself", itself=0.5)
    expected = np.eye(ITEMS, dtype=np.float32) + np.float32(0.5) * whole.toarray()
    np.testing.assert_array_equal(read_matrix(tmp_path / "with itself").toarray(), expected)


@pytest.mark.parametrize("density", [0.3, 0.0])
def test_lists_of_candidates_become_lists_of_sources(tmp_path, density):
    whole, parts = in_parts(tmp_path, density)
    transpose(parts, tmp_path / "lists")
    lists = Neighbours.read(tmp_path / "lists")
    expected = whole.T.tocsr()
    expected.sort_indices()
    assert lists.lists.offsets.tolist() == expected.indptr.tolist()
    assert lists.lists.values.tolist() == expected.indices.tolist()
    assert lists.scores.tolist() == expected.data.tolist()
