"""Sampled items as the self-supervised methods read them, without towers."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config.ssl.method import SslSettings
from recsys.ssl.method import SslBatch, SslContext, SslMethod
from recsys.ssl.methods import build_method
from tests.support.small_batches import FEATURES, prepared

DIM = 8
WIDTHS = {feature.name: feature.dim for feature in FEATURES.item}


def method_of(settings: SslSettings) -> SslMethod:
    """Builds a method beside a linear item tower."""
    torch.manual_seed(0)
    tower = nn.Linear(sum(WIDTHS.values()), DIM)
    method = build_method(settings, SslContext(tower, DIM, WIDTHS, prepared()))
    assert method is not None
    return method


def random_batch(settings: SslSettings, items: Tensor, seed: int = 0) -> SslBatch:
    """Draws a batch of [S] items with as many views as a method asks for."""
    plan = settings.view_plan
    assert plan is not None
    random = torch.Generator().manual_seed(seed)
    shape = (plan.count, len(items))
    hidden = torch.arange(plan.count)[:, None] % 2 == torch.arange(len(WIDTHS)) % 2
    return SslBatch(
        vectors=F.normalize(torch.randn(*shape, DIM, generator=random), dim=2),
        inputs=torch.randn(*shape, sum(WIDTHS.values()), generator=random),
        hidden=hidden if plan.masks is not None else torch.zeros_like(hidden),
        items=items.expand(shape),
        key=torch.tensor([seed]),
    )


def assert_padding_has_no_influence(settings: SslSettings) -> None:
    """Asserts that rows of padding change neither the loss nor any gradient."""
    items = torch.tensor([4, 7, 4, 2, 9])
    batch = random_batch(settings, items)
    padding = random_batch(settings, torch.full((3,), -1), seed=1)
    vectors = torch.cat([batch.vectors, padding.vectors], dim=1).requires_grad_()
    inputs = torch.cat([batch.inputs, padding.inputs], dim=1).requires_grad_()
    padded = replace(
        batch,
        vectors=vectors,
        inputs=inputs,
        items=torch.cat([batch.items, padding.items], dim=1),
    )
    loss = method_of(settings)(padded)
    torch.testing.assert_close(loss, method_of(settings)(batch))
    gradients = torch.autograd.grad(loss, [vectors, inputs], materialize_grads=True)
    assert any(gradient[:, : len(items)].any() for gradient in gradients)
    assert not any(gradient[:, len(items) :].any() for gradient in gradients)
