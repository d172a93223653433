"""The softmax and its corrections against naive loops, hand arithmetic, and for their signs."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.losses import softmax as losses
from recsys.losses.batch_softmax import Equal, Pairs, batch_softmax


def log_shares(parts):
    """Returns log-probabilities in proportion to the parts, float64."""
    return torch.tensor(parts, dtype=torch.float64).div(sum(parts)).log()


def correction_of(candidates, log_q, strength, uniform=None):
    """Computes the correction as `MainLoss` does."""
    if candidates == "mixed":
        log_sampled = losses.log_mixture(log_q, uniform=uniform)
    else:
        log_sampled = log_q if candidates == "batch" else torch.zeros_like(log_q)
    return losses.sampling_correction(log_sampled=log_sampled, log_q=log_q, strength=strength)


def naive_main_loss(queries, items, *, temperature, log_q, strength, positives, weight):
    """Computes the batch softmax row by row; `positives[i]` are the items of i, one at column i."""
    total = 0.0
    for i, query in enumerate(queries):
        scores = {}
        for j, item in enumerate(items):
            if j == i or j not in positives[i]:
                scores[j] = float(query @ item) / temperature - strength * float(log_q[j])
        normaliser = math.log(sum(math.exp(score) for score in scores.values()))
        total += float(weight[i]) * (normaliser - scores[i])
    return total / len(queries)


def unit_rows(rows, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(matrix, dim=1)


def test_the_main_loss_equals_a_naive_loop():
    queries, items = unit_rows(6, 5, 1), unit_rows(6, 5, 2)
    log_q = torch.log(torch.tensor([0.5, 0.1, 0.1, 0.05, 0.2, 0.05], dtype=torch.float64))
    weight = torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0, 1.0], dtype=torch.float64)
    hits = torch.tensor([[0, 3], [0, 4], [2, 1]])
    found = batch_softmax(
        queries,
        items,
        temperature=0.2,
        targets=torch.arange(6),
        weight=weight,
        correction=correction_of("batch", log_q, 0.7),
        masked=Pairs.of(hits, 6),
    )
    positives = {0: {3, 4}, 1: set(), 2: {1}, 3: set(), 4: set(), 5: set()}
    expected = naive_main_loss(
        queries,
        items,
        temperature=0.2,
        log_q=log_q,
        strength=0.7,
        positives=positives,
        weight=weight,
    )
    assert abs(float(found) - expected) < 1e-12


def test_the_self_supervised_loss_equals_a_naive_loop_and_masks_the_same_item():
    view_a, view_b = unit_rows(5, 4, 3), unit_rows(5, 4, 4)
    sampled = torch.tensor([7, 2, 7, 9, 2])
    targets = torch.arange(5)
    weight = torch.ones(5, dtype=torch.float64)
    found = batch_softmax(
        view_a,
        view_b,
        temperature=0.1,
        targets=targets,
        weight=weight,
        masked=Equal(sampled[None], sampled[None], targets),
    )
    same = {i: {j for j in range(5) if sampled[j] == sampled[i]} for i in range(5)}
    expected = naive_main_loss(
        view_a,
        view_b,
        temperature=0.1,
        log_q=torch.zeros(5),
        strength=0.0,
        positives=same,
        weight=weight,
    )
    assert abs(float(found) - expected) < 1e-12


def test_padding_is_nobodys_negative():
    items = torch.tensor([7, 2, -1, -1])
    logits = torch.zeros(4, 4)
    Equal(items[None], items[None], torch.arange(4)).fill(logits)
    assert torch.equal(logits[:2] == 0, torch.tensor([[True, True, False, False]] * 2))
    assert torch.equal(logits.diagonal(), torch.zeros(4))


def test_a_popular_items_training_logit_goes_down():
    log_q = log_shares([6, 3, 1])
    for candidates in ("batch", "mixed"):
        correction = correction_of(candidates, log_q, 1.0, torch.tensor([0.5, 1 / 3]))
        assert correction[0] > correction[1] > correction[2]  # It is subtracted.
    none = torch.zeros(3, dtype=torch.float64)
    assert torch.equal(correction_of("batch", log_q, 0.0), none)
    # Among all items none is a candidate too often; a lower strength lets popular ones count more.
    assert torch.equal(correction_of("corpus", log_q, 1.0), none)
    popular = correction_of("corpus", log_q, 0.6)
    assert popular[0] < popular[1] < popular[2]


def test_the_mixture_by_hand():
    # Two of 3 candidates are examples' items and 1 is one of 4 items: 2/3 x 0.3 + 1/3 x 1/4.
    log_q = torch.tensor([0.3, 0.0], dtype=torch.float64).log()
    found = losses.log_mixture(log_q, uniform=torch.tensor([1 / 3, 1 / 4])).exp()
    assert found.tolist() == pytest.approx([0.2 + 1 / 12, 1 / 12])
    pure = losses.log_mixture(log_q, uniform=torch.tensor([0.0, 1 / 4]))
    assert torch.equal(pure, log_q)


@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=12),
    st.floats(0, 1),
    st.floats(0, 0.99),
    st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None)
def test_candidates_of_every_kind_expect_the_same_softmax(parts, strength, share, seed):
    """Compares the expected denominator over all samples with the sum of Q^(1 - s) exp(score)."""
    log_q = log_shares(parts)
    scores = torch.randn(len(parts), generator=torch.Generator().manual_seed(seed)).double()
    expected = (log_q * (1 - strength) + scores).exp().sum()
    probability = 1 / len(parts)
    uniform = torch.tensor([share, probability], dtype=torch.float64)
    mixed = (1 - share) * log_q.exp() + share * probability
    drawn = {"batch": log_q.exp(), "mixed": mixed, "corpus": torch.ones(len(parts)).double()}
    for candidates, often in drawn.items():
        correction = correction_of(candidates, log_q, strength, uniform)
        assert torch.allclose((often * (scores - correction).exp()).sum(), expected)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=12), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_uniform_negatives_bring_the_corrections_of_items_together(parts, share):
    log_q = log_shares(parts)
    uniform = torch.tensor([share, 1 / len(parts)], dtype=torch.float64)
    plain, mixed = correction_of("batch", log_q, 1.0), correction_of("mixed", log_q, 1.0, uniform)
    order = plain.argsort()
    assert (mixed[order].diff() >= -1e-12).all()  # Popular items still are corrected more, ...
    assert mixed.max() - mixed.min() <= plain.max() - plain.min() + 1e-12  # ... but by less.


def test_a_column_of_infinite_correction_is_no_candidate():
    found = batch_softmax(
        unit_rows(1, 3, 1).float(),
        unit_rows(2, 3, 2).float(),
        temperature=0.2,
        targets=torch.tensor([0]),
        weight=torch.ones(1),
        correction=torch.tensor([0.5, float("inf")]),
    )
    assert found == pytest.approx(0.0)


def test_weights_scale_the_examples_losses_and_are_not_normalised():
    found = batch_softmax(
        torch.eye(2),
        torch.eye(2),
        temperature=1 / math.log(3),
        targets=torch.tensor([1, 1]),
        weight=torch.tensor([2.0, 0.5]),
    )
    assert float(found) == pytest.approx((2 * math.log(4) + 0.5 * math.log(4 / 3)) / 2)


def test_a_lower_temperature_tells_logits_further_apart():
    left, right = unit_rows(3, 4, 1), unit_rows(5, 4, 2)
    for temperature in (0.4, 0.1):
        found = batch_softmax(
            left,
            right,
            temperature=temperature,
            targets=torch.arange(3),
            weight=torch.ones(3, dtype=torch.float64),
        )
        expected = F.cross_entropy(left @ right.T / temperature, torch.arange(3))
        assert float(found) == pytest.approx(float(expected), abs=1e-12)


def test_a_lone_row_without_negatives_has_no_loss_and_a_finite_gradient():
    queries = unit_rows(2, 3, 1).requires_grad_()
    loss = batch_softmax(
        queries,
        unit_rows(2, 3, 2),
        temperature=0.1,
        targets=torch.arange(2),
        weight=torch.ones(2, dtype=torch.float64),
        masked=Pairs.of(torch.tensor([[0, 1], [1, 0]]), 2),
    )
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(queries.grad, torch.zeros_like(queries))
