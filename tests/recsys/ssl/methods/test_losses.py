"""The self-supervised losses against naive loops, on one rank and on two, and what they train."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from recsys.config.ssl.contrastive import CorrelatedMasking, Neighbours
from recsys.ssl.methods.contrastive import contrastive_loss
from recsys.ssl.methods.spread_out import spread_out_loss
from recsys.training.objective import TwoTowerObjective, build_objective, ssl_batch
from tests.recsys.losses.test_losses import unit_rows
from tests.recsys.model.test_two_tower import tiny_model, training_batch
from tests.support.ranks import start_ranks
from tests.support.small_batches import config, prepared
from tests.support.ssl_batches import method_of, random_batch

ITEMS = torch.tensor([4, 7, 4, 2, 9, -1])
PAIRS = torch.stack([ITEMS, torch.tensor([1, 4, 2, 1, 8, -1])])


def naive_contrastive(view_a, view_b, items, temperature):
    first, second = items[0].tolist(), items[-1].tolist()
    rows = [row for row, item in enumerate(first) if item >= 0]
    total = 0.0
    for i in rows:
        scores = {
            j: float(view_a[i] @ view_b[j]) / temperature
            for j in rows
            if j == i or (first[i] not in (first[j], second[j]) and second[i] != second[j])
        }
        total += math.log(sum(map(math.exp, scores.values()))) - scores[i]
    return total / len(rows)


def naive_spread_out(vectors, items):
    products = [
        float(vectors[i] @ vectors[j])
        for i in range(len(items))
        for j in range(len(items))
        if items[i] >= 0 and items[j] >= 0 and items[i] != items[j]
    ]
    mean = sum(products) / len(products)
    second = sum(product**2 for product in products) / len(products)
    return mean**2 + max(0.0, second - 1 / vectors.shape[1])


@pytest.mark.parametrize("items", [ITEMS[None], PAIRS])
def test_contrastive_loss_equals_a_naive_loop(items):
    view_a, view_b = unit_rows(6, 5, 0), unit_rows(6, 5, 1)
    found = contrastive_loss(view_a, view_b, items=items, temperature=0.2)
    assert float(found) == pytest.approx(naive_contrastive(view_a, view_b, items, 0.2))


def test_pairs_of_neighbours_that_share_an_item_are_no_negatives_of_each_other():
    settings = Neighbours(temperature=0.2)
    batch = random_batch(settings, ITEMS)
    for second in ([1, 2, 3, 1, 1, -1], [5, 4, 6, 8, 7, -1], [5, 0, 6, 8, 7, -1]):
        batch = replace(batch, items=torch.stack([ITEMS, torch.tensor(second)]))
        expected = naive_contrastive(*batch.vectors, batch.items, 0.2)
        assert float(method_of(settings)(batch)) == pytest.approx(expected)


@pytest.mark.parametrize("dim", [2, 5])
def test_spread_out_loss_equals_a_naive_loop(dim):
    vectors = unit_rows(6, dim, 2)
    found = float(spread_out_loss(vectors, items=ITEMS))
    assert found == pytest.approx(naive_spread_out(vectors, ITEMS))


def test_spread_out_loss_by_hand():
    items = torch.arange(2)
    # Equal vectors in two dimensions: M1 = M2 = 1, so 1 + 1 - 1/2.
    assert float(spread_out_loss(torch.tensor([[1.0, 0], [1, 0]]), items=items)) == 1.5
    # Orthogonal ones are as good as it gets.
    assert float(spread_out_loss(torch.eye(2), items=items)) == 0
    # Opposite ones: M1 = -1, M2 = 1.
    assert float(spread_out_loss(torch.tensor([[1.0, 0], [-1, 0]]), items=items)) == 1.5
    # One item alone has no pairs.
    assert float(spread_out_loss(torch.ones(2, 1), items=torch.zeros(2))) == 0


def test_spread_out_pushes_vectors_apart():
    vectors = torch.nn.Parameter(unit_rows(40, 8, 3) + 1)
    optimizer = torch.optim.Adam([vectors], lr=0.05)
    for _ in range(300):
        unit = torch.nn.functional.normalize(vectors, dim=1)
        loss = spread_out_loss(unit, items=torch.arange(40))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-3
    assert float(unit.detach().mean(dim=0).norm()) < 0.2


def _losses_and_gradients(
    vectors: torch.Tensor, items: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    found = []
    for method in ("spread_out", "contrastive"):
        own = vectors.clone().requires_grad_()
        if method == "spread_out":
            loss = spread_out_loss(own[0], items=items[0])
        else:
            loss = contrastive_loss(own[0], own[1], items=items, temperature=0.2)
        loss.backward()
        assert own.grad is not None
        found.append((loss.detach(), own.grad))
    return found


def _run(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2)
    vectors = torch.stack([unit_rows(6, 5, 0), unit_rows(6, 5, 1)])
    own = slice(3 * rank, 3 * rank + 3)
    torch.save(_losses_and_gradients(vectors[:, own], PAIRS[:, own]), f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_have_the_loss_and_the_gradients_of_one(tmp_path: Path):
    start_ranks(_run, 2, str(tmp_path / "store"), str(tmp_path))
    vectors = torch.stack([unit_rows(6, 5, 0), unit_rows(6, 5, 1)])
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for method, (loss, gradient) in enumerate(_losses_and_gradients(vectors, PAIRS)):
        found = torch.stack([part[method][0] for part in parts])
        torch.testing.assert_close(found.mean(), loss)
        # Ranks' gradients are averaged, so that each holds twice its part.
        gradients = torch.cat([part[method][1] for part in parts], dim=1) / 2
        torch.testing.assert_close(gradients, gradient)


def objective(**ssl) -> TwoTowerObjective:
    settings = config(ssl=ssl)
    return build_objective(tiny_model(), settings, prepared())


def gradients_of_ssl(module: TwoTowerObjective, **ssl) -> dict[str, bool]:
    """Returns for each parameter whether the self-supervised loss moves it."""
    batch = training_batch(config(ssl=ssl))
    assert module.self_supervision is not None
    encoded = module.model(batch, module.self_supervision.tower)
    module.self_supervision(ssl_batch(encoded, batch)).backward()
    return {
        name: p.grad is not None and bool(p.grad.abs().sum() > 0)
        for name, p in module.named_parameters()
    }


def moved(gradients: dict[str, bool], part: str) -> set[bool]:
    return {value for name, value in gradients.items() if part in name}


@pytest.mark.parametrize("method", ["rfm", "cfm", "spread_out"])
def test_views_move_tables_and_the_item_tower(method):
    gradients = gradients_of_ssl(objective(method=method), method=method)
    assert moved(gradients, "model.item_tower") == {True}
    assert moved(gradients, "embedding_bags.item/tags") == {True}
    assert moved(gradients, "query_tower") == {False}


def test_with_shared_inputs_the_item_tower_is_left_alone():
    module = objective(shared_layers="inputs")
    gradients = gradients_of_ssl(module, shared_layers="inputs")
    assert moved(gradients, "model.item_tower") == {False}
    assert moved(gradients, "self_supervision.tower") == {True}
    assert moved(gradients, "embedding_bags.item/tags") == {True}


def test_a_projection_is_between_the_vectors_and_the_loss():
    module = objective(projection=6)
    gradients = gradients_of_ssl(module, projection=6)
    assert moved(gradients, "self_supervision.head") == {True}
    assert moved(gradients, "model.item_tower") == {True}
    head = module.self_supervision.head
    views = torch.stack([unit_rows(4, 8, 0), unit_rows(4, 8, 1)]).float()
    view_a, view_b = torch.nn.functional.normalize(head(views), dim=2)
    assert view_a.shape == (4, 6)
    batch = replace(random_batch(CorrelatedMasking(), torch.arange(4)), vectors=views)
    expected = contrastive_loss(view_a, view_b, items=batch.items, temperature=0.1)
    assert torch.equal(module.self_supervision(batch), expected)


@pytest.mark.parametrize("ssl", [{"method": "none"}, {"method": "feature_dropout", "rate": 0.2}])
def test_some_methods_have_no_loss_of_their_own(ssl):
    module = objective(**ssl)
    assert module.self_supervision is None
    total, parts = module(training_batch(config(ssl=ssl)))
    assert set(parts) == {"main"}
    assert torch.equal(total.detach(), parts["main"])


def test_what_is_served_has_the_same_parameters_whatever_the_method():
    names = {name for name, _ in tiny_model().named_parameters()}
    for ssl in ({"projection": 4, "shared_layers": "inputs"}, {"method": "spread_out"}):
        module = objective(**ssl)
        assert {name for name, _ in module.model.named_parameters()} == names
