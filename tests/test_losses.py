import math

import torch

from recsys import losses


def naive_main_loss(queries, items, *, temperature, log_q, strength, positives, weight):
    """Batch softmax row by row; `positives[i]` are the items that i has, its own at column i."""
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
    logits = losses.scaled_similarities(queries, items, temperature=0.2)
    logits = losses.correct_for_sampling(logits, log_q=log_q, strength=0.7)
    logits = losses.mask_hits(logits, hits=hits)
    found = losses.weighted_cross_entropy(logits, targets=torch.arange(6), weight=weight)
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
    logits = losses.scaled_similarities(view_a, view_b, temperature=0.1)
    logits = losses.mask_equal(logits, left=sampled, right=sampled, targets=targets)
    weight = torch.ones(5, dtype=torch.float64)
    found = losses.weighted_cross_entropy(logits, targets=targets, weight=weight)
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
    logits = losses.mask_equal(torch.zeros(4, 4), left=items, right=items, targets=torch.arange(4))
    assert torch.equal(logits[:2] == 0, torch.tensor([[True, True, False, False]] * 2))
    assert torch.equal(logits.diagonal(), torch.zeros(4))


def test_a_popular_items_training_logit_goes_down():
    logits = torch.zeros(2, 3, dtype=torch.float64)
    log_q = torch.log(torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64))
    corrected = losses.correct_for_sampling(logits, log_q=log_q, strength=1.0)
    assert corrected[0, 0] < corrected[0, 1] < corrected[0, 2]
    assert torch.equal(losses.correct_for_sampling(logits, log_q=log_q, strength=0.0), logits)


def test_a_lone_row_without_negatives_has_no_loss_and_a_finite_gradient():
    queries = unit_rows(2, 3, 1).requires_grad_()
    items = unit_rows(2, 3, 2)
    logits = losses.scaled_similarities(queries, items, temperature=0.1)
    logits = losses.mask_hits(logits, hits=torch.tensor([[0, 1], [1, 0]]))
    loss = losses.weighted_cross_entropy(logits, targets=torch.arange(2), weight=torch.ones(2))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(queries.grad, torch.zeros_like(queries))
