"""Mixtures rank as their weights do, and their gradient is that of smooth hits."""

import dataclasses

import numpy as np
import pytest
import torch

from recsys.fusion.mixture import CUTOFFS, Mixture
from recsys.fusion.sample import Sample
from recsys.fusion.weights import Weights

QUERIES, CANDIDATES, PAIRS = 40, 90, 60
PARTS = ("model", "co_occurrence", "content", "trend", "dial")
WEIGHTS = Weights(
    channels={"co_occurrence": 0.3, "content": 0.25},
    rare={"content": 0.4, "co_occurrence": 0.1},
    trend=0.2,
    dial=0.15,
)


@pytest.fixture(scope="module")
def sample() -> Sample:
    """Returns random scores, with padding, and queries that have several pairs."""
    random = np.random.default_rng(3)
    candidates = np.tile(np.arange(CANDIDATES), (QUERIES, 1))
    candidates[::3, 70:] = -1
    values = random.random((len(PARTS), QUERIES, CANDIDATES)).astype(np.float32)
    position = np.argsort(random.random((QUERIES, 60)), axis=1)[:, :2].reshape(-1)[:PAIRS]
    return Sample(
        parts=PARTS,
        values=torch.from_numpy(values),
        rarity=torch.from_numpy(random.random((QUERIES, CANDIDATES)).astype(np.float32)),
        candidates=torch.from_numpy(candidates),
        query=torch.from_numpy(np.repeat(np.arange(QUERIES), 2)[:PAIRS]),
        position=torch.from_numpy(position),
        item=position,
    )


def test_a_vector_holds_the_weights(sample):
    mixture = Mixture(sample)
    vector = mixture.vector(WEIGHTS)
    assert len(vector) == len(mixture) == 7
    assert mixture.weights(vector) == WEIGHTS
    np.testing.assert_allclose(
        mixture.scores(vector), sample.scores(WEIGHTS).numpy(), rtol=1e-5, atol=1e-6
    )
    assert mixture.found(vector).hits.tolist() == sample.found(WEIGHTS, CUTOFFS).tolist()


def test_weights_are_stored_with_one_as_the_highest_part(sample):
    mixture = Mixture(sample)
    vector = mixture.scaled(np.array([0.5, 0.25, 0.1, 0.0, 3.0, 0.2, 0.00002]))
    assert vector.tolist() == [1.0, 0.5, 0.2, 0.0, 1.2, 0.4, 0.0]
    assert mixture.scaled(np.zeros(7)).tolist() == [0.0] * 7


def smooth(sample: Sample, vector: np.ndarray, rivals: np.ndarray, worth: np.ndarray) -> float:
    """Sums the worth of pairs, each counted by the logistic function of its margin."""
    scores = Mixture(sample).scores(vector / vector[:4].max()).astype(np.float64)
    own = scores[sample.query, sample.position]
    scores = scores.reshape(-1)
    return float((worth / (1 + np.exp(-(own - scores[rivals]) / 0.02))).sum())


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_gradient_is_that_of_smooth_hits(sample, scale):
    exact = dataclasses.replace(sample, values=sample.values.round(decimals=2))
    mixture = Mixture(exact)
    vector = mixture.vector(WEIGHTS) * scale
    found = mixture.found(mixture.scaled(vector))
    worth = np.random.default_rng(5).random(found.hits.shape)
    gradient = mixture.gradient(vector, found, worth)
    step = 1e-3
    for place in range(len(mixture)):
        sides = []
        for sign in (1, -1):
            moved = vector.copy()
            moved[place] += sign * step
            sides.append(smooth(exact, moved, found.rivals, worth))
        expected = (sides[0] - sides[1]) / (2 * step)
        assert gradient[place] == pytest.approx(expected, rel=0.02, abs=0.02), place


def test_a_rival_is_the_best_beyond_the_cutoff_or_the_last_within(sample):
    mixture = Mixture(sample)
    vector = mixture.vector(WEIGHTS)
    scores, found = mixture.scores(vector), mixture.found(vector)
    for cutoff, hits, margins, rivals in zip(
        CUTOFFS, found.hits, found.margins, found.rivals, strict=True
    ):
        for pair, (query, position) in enumerate(zip(sample.query, sample.position, strict=True)):
            order = np.sort(scores[query])[::-1]
            own = scores[query, position]
            assert hits[pair] == (own > order[cutoff])
            rival = order[cutoff] if hits[pair] else order[cutoff - 1]
            assert margins[pair] == pytest.approx(own - rival)
            assert scores.reshape(-1)[rivals[pair]] == rival


def test_a_query_with_few_candidates_finds_them_all(sample):
    few = dataclasses.replace(
        sample,
        values=sample.values[:, :, :12].contiguous(),
        rarity=sample.rarity[:, :12].contiguous(),
        candidates=sample.candidates[:, :12],
        position=sample.position % 12,
    )
    mixture = Mixture(few)
    found = mixture.found(mixture.vector(WEIGHTS))
    assert found.hits[1].all()
    assert not found.hits[0].all()
    gradient = mixture.gradient(mixture.vector(WEIGHTS), found, np.ones(found.hits.shape))
    assert np.isfinite(gradient).all()
