"""Diagnostics against hand arithmetic, naive loops and explicit gradients."""

import json
import math

import numpy as np
import pytest
import torch

from recsys.config.config import Config
from recsys.reports.diagnostics import masks_of, write_diagnostics
from recsys.reports.training import diagnostics_sections
from recsys.ssl.views import ViewBuilder
from recsys.training.diagnostics import (
    Diagnostics,
    batch_diagnostics,
    effective_rank,
    item_diagnostics,
    masking_counts,
    uniformity,
)
from recsys.training.objective import TwoTowerObjective, build_objective, ssl_batch
from tests.recsys.losses.test_losses import unit_rows
from tests.recsys.model.test_two_tower import tiny_model, training_batch
from tests.support.small_batches import config, prepared

TITLES = ["Vectors and gradients", "Masks"]
OF_VIEWS = {"view_similarity", "alignment.views", "uniformity.views", "gradient_cosine"}


def objective_of(settings: Config) -> TwoTowerObjective:
    return build_objective(tiny_model(dropout=0.5), settings, prepared())


def test_uniformity_by_hand():
    items = torch.arange(2)
    assert uniformity(torch.tensor([[1.0, 0], [1, 0]]), items) == 0
    assert uniformity(torch.eye(2), items) == pytest.approx(-4)  # Squared distance 2.
    opposite = torch.tensor([[1.0, 0], [-1, 0]])
    assert uniformity(opposite, items) == pytest.approx(-8)
    assert uniformity(opposite, torch.zeros(2)) == 0  # Twice the same item is no pair.


def test_uniformity_equals_a_naive_loop():
    vectors, items = unit_rows(9, 3, 0), torch.arange(9) % 4
    pairs = [
        math.exp(-2 * float((vectors[i] - vectors[j]).square().sum()))
        for i in range(9)
        for j in range(9)
        if items[i] != items[j]
    ]
    assert uniformity(vectors, items) == pytest.approx(math.log(np.mean(pairs)))


def test_effective_rank_by_hand():
    assert effective_rank(np.ones((5, 3), np.float32)) == pytest.approx(1, abs=1e-5)
    assert effective_rank(np.tile(np.eye(3, dtype=np.float32), (4, 1))) == pytest.approx(3)
    # Singular values 3 and 1: exp(-(3/4 log 3/4 + 1/4 log 1/4)).
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(math.exp(entropy))


def test_effective_rank_equals_that_of_the_singular_values():
    matrix = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    singular = np.linalg.svd(matrix, compute_uv=False)
    shares = singular / singular.sum()
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(matrix) == pytest.approx(expected, rel=1e-5)


def test_numbers_of_a_batch_equal_naive_ones():
    settings = config(ssl={"value_dropout": 0.3})
    module, batch = objective_of(settings).eval(), training_batch(settings)
    with torch.no_grad():
        encoded = module.model(batch)
    values = batch_diagnostics(module, batch)
    view_a, view_b = encoded.views
    cosine, distance = (view_a * view_b).sum(1).mean(), (view_a - view_b).square().sum(1).mean()
    assert values["view_similarity"] == pytest.approx(float(cosine), abs=1e-6)
    assert values["alignment.views"] == pytest.approx(float(distance))
    positives = (encoded.queries - encoded.items).square().sum(1).mean()
    assert values["alignment.positives"] == pytest.approx(float(positives))
    assert values["uniformity.views"] == pytest.approx(uniformity(view_a, batch.view_items[0]))


@pytest.mark.parametrize("ssl", [{"alpha": 0.3}, {"method": "spread_out", "alpha": 2.0}])
def test_gradients_equal_those_of_the_whole_model(ssl):
    settings = config(ssl=ssl)
    module, batch = objective_of(settings).eval(), training_batch(settings)
    gradients = []
    for is_main in (True, False):
        module.zero_grad()
        encoded = module.model(batch)
        ssl_loss = module.self_supervision(ssl_batch(encoded, batch))
        (module.main_loss(encoded, batch) if is_main else ssl_loss).backward()
        of_tower = [p.grad.reshape(-1) for p in module.model.item_tower.parameters()]
        gradients.append(torch.cat(of_tower))
    module.zero_grad(set_to_none=True)
    main, of_ssl = gradients
    values = batch_diagnostics(module, batch)
    cosine = torch.nn.functional.cosine_similarity(main, of_ssl, dim=0)
    assert values["gradient_cosine"] == pytest.approx(float(cosine), abs=1e-5)
    ratio = settings.ssl.alpha * of_ssl.norm() / main.norm()
    assert values["gradient_ratio"] == pytest.approx(float(ratio), rel=1e-4)


def test_measuring_changes_nothing():
    settings = config(loss={"logq": {"source": {"kind": "streaming"}}})
    module, batch = build_objective(tiny_model(), settings, prepared()), training_batch(settings)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    batch_diagnostics(module, batch)
    assert module.training
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("ssl", "absent"),
    [
        ({"method": "none"}, OF_VIEWS),
        ({"method": "feature_dropout"}, OF_VIEWS),
        ({"method": "spread_out"}, {"view_similarity", "alignment.views"}),
        ({"shared_layers": "inputs"}, {"gradient_cosine"}),
        ({"projection": 4}, set()),
    ],
)
def test_each_method_has_the_numbers_that_it_can_have(ssl, absent):
    settings = config(ssl=ssl)
    data, batch = prepared(), training_batch(settings)
    masking = ViewBuilder(data, settings).masking
    items = unit_rows(30, 8, 0).float().numpy()
    values = Diagnostics(objective_of(settings), data, masking).measure(3, batch, items)
    names = {name.removeprefix("diagnostics.") for name in values}
    every = OF_VIEWS | {"alignment.positives", "uniformity.items", "effective_rank"}
    assert every - names == absent
    assert all(math.isfinite(value) for value in values.values())
    assert ("masked.tags" in names) == (settings.ssl.method == "cfm")


def test_masks_are_counted_from_the_first_step_whenever_they_are_measured():
    settings = config()
    data, batch = prepared(), training_batch(settings)
    masking = ViewBuilder(data, settings).masking
    module, nothing = objective_of(settings), np.zeros((0, 8), np.float32)
    twice = Diagnostics(module, data, masking)
    twice.measure(7, batch, nothing)
    once = Diagnostics(module, data, masking)  # As after a resumption.
    assert twice.measure(20, batch, nothing) == once.measure(20, batch, nothing)
    hidden = [masking.hidden(np.array([step]))[0, 0] for step in range(20)]
    counts = masking_counts(masking, 0, 20)
    assert np.array_equal(counts.together, sum(np.outer(h, h).astype(int) for h in hidden))
    assert counts.seeds.sum() == 20
    seeds = [int(masking.seeds(np.array([step]))[0]) for step in range(20)]
    assert np.array_equal(counts.seeds, np.bincount(seeds, minlength=4))


def test_item_vectors_that_collapse_have_rank_one_and_no_uniformity():
    spread = item_diagnostics(unit_rows(3000, 16, 0).float().numpy())
    collapsed = item_diagnostics(np.tile(unit_rows(1, 16, 0).float().numpy(), (3000, 1)))
    assert spread["effective_rank"] > 15.5
    assert spread["uniformity.items"] < -3
    assert collapsed["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert collapsed["uniformity.items"] == pytest.approx(0, abs=1e-5)


def test_a_page_is_written_for_every_method(tmp_path):
    lines = [{"step": 10.0, "diagnostics.effective_rank": 3.0}, {"step": 20.0, "main": 1.0}]
    for method, has_masks in (("none", False), ("spread_out", False), ("rfm", True), ("cfm", True)):
        settings = config(ssl={"method": method})
        directory = tmp_path / method
        write_diagnostics(directory, lines, prepared(), settings, best_step=10)
        page = (directory / "diagnostics.html").read_text()
        masks = masks_of(lines, prepared(), settings)
        sections = diagnostics_sections(lines, masks, 10)
        assert [section.title for section in sections] == TITLES[: 1 + has_masks]
        parts = [part for section in sections for part in section.parts]
        titles = [part.title for part in parts if part.kind == "chart"]
        assert len(titles) == (1, 3, 4)[(method == "cfm") + has_masks]
        assert all(title in page for title in titles)
        assert "Effective rank" in page
        assert "http" not in page
        assert (directory / "masks.json").exists() == has_masks
        if has_masks:
            masks = json.loads((directory / "masks.json").read_text())
            assert (masks["seeds"] is None) == (method == "rfm")
            assert masks["features"] == ["item_id", "kind", "tags", "price"]
