"""Least squares on the nearest items against one solution for each candidate."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from pipelines.executor import LocalExecutor
from pipelines.prepared.reader import Prepared
from recsys.channels import fit as fitting
from recsys.channels import linear, ridge
from recsys.channels.channel import ChannelData
from recsys.channels.fit import fit_channel
from recsys.channels.linear import Linear
from recsys.channels.log import TrainingLog
from recsys.channels.matrix_files import write_matrix
from recsys.channels.ridge import Ridge
from recsys.stages.prepare import prepare
from tests.support.fused.pages_log import PAGES, pages_config

ITEMS, QUERIES = 40, 90
PENALTIES = np.linspace(1.5, 6.0, ITEMS)


def expected(seen: np.ndarray, near: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Solves each candidate's equations, [candidates, sources]."""
    together = seen.T @ seen
    weights = np.zeros_like(together)
    for candidate, row in enumerate(near):
        sources = np.flatnonzero(row)
        equations = together[np.ix_(sources, sources)] + np.diag(penalties[sources])
        weights[candidate, sources] = np.linalg.solve(equations, together[sources, candidate])
    return weights


def written(directory: Path) -> tuple[Ridge, np.ndarray, np.ndarray]:
    """Returns a step, and the dense matrices that it is made of."""
    random = np.random.default_rng(0)
    share = np.linspace(0.02, 0.5, ITEMS)
    seen = (random.random((QUERIES, ITEMS)) < share).astype(np.float32)
    near = (random.random((ITEMS, ITEMS)) < 0.2).astype(np.float32)
    np.fill_diagonal(near, 0)
    near[3] = 0
    parts = [directory / "a", directory / "b"]
    for part, rows in zip(parts, (slice(0, 15), slice(15, ITEMS)), strict=True):
        write_matrix(part, sparse.csr_matrix(near[rows]))
    Ridge.write(sparse.csr_matrix(seen), PENALTIES, parts, directory / "step")
    return Ridge.read(directory / "step"), seen, near


@pytest.mark.parametrize("frequent", [0, 7, ITEMS])
def test_weights_solve_the_equations_of_the_nearest_items(tmp_path, monkeypatch, frequent):
    monkeypatch.setattr(ridge, "_FREQUENT", max(1, frequent))
    monkeypatch.setattr(ridge, "_AT_ONCE", 6)
    step, seen, near = written(tmp_path)
    assert len(step.frequent) == max(1, frequent)
    found = step.highest(0, ITEMS, ITEMS)
    np.testing.assert_allclose(found.toarray(), expected(seen, near, PENALTIES), atol=1e-5)
    parts = [step.highest(start, stop, ITEMS) for start, stop in ((0, 11), (11, 12), (12, ITEMS))]
    assert abs(sparse.vstack(parts) - found).max() < 1e-6


def test_many_items_are_predicted_from_their_nearest_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(linear, "MOST_ITEMS", PAGES - 1)
    monkeypatch.setattr(fitting, "_COST_OF_TASK", 500_000)
    config = pages_config(tmp_path / "log")
    prepare(config)
    prepared = Prepared(config.prepared_dir)
    data = ChannelData(prepared, TrainingLog.read(prepared))
    fitted = fit_channel(
        Linear, data, neighbours=4, work_dir=tmp_path / "work", executor=LocalExecutor()
    )
    seen = data.log.seen(500).toarray()
    together = seen.T @ seen
    cosine = together / np.sqrt(np.outer(np.diag(together), np.diag(together)))
    # A half of the items hidden: as much again of an item's own count.
    penalties = 3.0 * np.diag(together).mean() + np.diag(together)
    lists = fitted.lists
    weights = np.zeros((PAGES, PAGES))
    weights[lists.values, lists.row_of_value()] = fitted.scores
    for candidate in range(PAGES):
        sources = np.flatnonzero(weights[candidate])
        assert candidate not in sources
        assert 0 < len(sources) <= 4
        others = np.delete(cosine[candidate], candidate)
        assert cosine[candidate, sources].min() >= np.sort(others)[-4] - 1e-6
    np.testing.assert_allclose(weights, expected(seen, weights != 0, penalties), atol=1e-5)
