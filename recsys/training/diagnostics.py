"""Diagnostics of the model, above all of self-supervision, which each validation logs.

    view_similarity            mean cosine of an item's views, of each with the first
    alignment.views            mean squared distance of an item's views, of each from the first
    alignment.positives        mean squared distance of a query and its item
    uniformity.views           of view A over the batch's items
    uniformity.items           of item vectors over the catalogue
    effective_rank             of the item vectors of the catalogue
    gradient_cosine            between the gradients of both losses in the item tower
    gradient_ratio             length of alpha times the gradient of L_self over that of L_main
    seed.<feature>             steps so far in which the feature was the seed
    masked.<feature>           steps so far in which view A hid the feature

Alignment and uniformity are those of Wang and Isola (2020), the effective rank is that of Roy and
Vetterli (2007). Views are compared as the tower makes them, before a projection head. All but the
last four lines are there without self-supervision too, unless they need views. A method may add
figures of its own.

They are measured on the last batch and on the vectors that the validation ranks: one forward
without gradients, and a forward and two backward passes of the item tower alone. Tables get no
gradient, so that optimizers that update them in the backward pass have nothing to do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from feature_store.core.columns import Floats
from pipelines.prepared.reader import Prepared
from recsys.data.batch import Batch
from recsys.losses import softmax as losses
from recsys.model.encode import evaluation_mode
from recsys.model.two_tower import Encoded
from recsys.ssl.masking import Masking
from recsys.training.objective import TwoTowerObjective, ssl_batch

PREFIX = "diagnostics."

Counts = npt.NDArray[np.int64]

# Number of item vectors that are compared with each other, evenly spaced over the catalogue.
_UNIFORMITY_ITEMS = 2048
# Number of item vectors whose spectrum is taken.
_RANK_ITEMS = 100_000
# Number of steps whose masks are counted at once.
_COUNTED_STEPS = 65_536


@dataclass(frozen=True)
class MaskingCounts:
    """Counts of masks over some steps.

    Attributes:
        steps: Number of steps.
        seeds: [features] steps with the feature as the seed of view A; None for groups without one.
        together: [features, features] steps in which view A hid both; on the diagonal, each alone.
    """

    steps: int
    seeds: Counts | None
    together: Counts

    def __add__(self, other: "MaskingCounts") -> "MaskingCounts":
        seeds = None
        if self.seeds is not None and other.seeds is not None:
            seeds = self.seeds + other.seeds
        return MaskingCounts(self.steps + other.steps, seeds, self.together + other.together)


class Diagnostics:
    """Diagnostics of a training; every rank has them, and all make equal calls.

    Args:
        objective: Model and losses, sharded.
        prepared: Prepared data.
        masking: Masking of the views; None where no features are masked.
    """

    def __init__(
        self, objective: TwoTowerObjective, prepared: Prepared, masking: Masking | None
    ) -> None:
        self._objective = objective
        self._features = [feature.name for feature in prepared.features.item]
        self._masking = masking
        self._current = np.flatnonzero(prepared.is_current_item)
        self._steps = 0
        self._counts: MaskingCounts | None = None

    def measure(self, step: int, batch: Batch, items: Floats) -> dict[str, float]:
        """Measures the model as it is; a collective call.

        Args:
            step: Number of steps done.
            batch: Last batch of this rank.
            items: [items, dim] vectors of the catalogue on rank 0; empty on other ranks.

        Returns:
            All figures by name on rank 0; on other ranks, those that do not need `items`.
        """
        values = batch_diagnostics(self._objective, batch)
        if len(items):
            values |= item_diagnostics(items[self._current])
        values |= self._masks(step)
        return {f"{PREFIX}{name}": value for name, value in values.items()}

    def _masks(self, step: int) -> dict[str, float]:
        if self._masking is None:
            return {}
        counts = masking_counts(self._masking, self._steps, step)
        self._counts = counts if self._counts is None else self._counts + counts
        self._steps = step
        shown = {"masked": np.diag(self._counts.together), "seed": self._counts.seeds}
        return {
            f"{name}.{feature}": int(count)
            for name, of_features in shown.items()
            if of_features is not None
            for feature, count in zip(self._features, of_features, strict=True)
        }


def batch_diagnostics(objective: TwoTowerObjective, batch: Batch) -> dict[str, float]:
    """Measures the global batch, equally on all ranks; a collective call that changes nothing."""
    ssl = objective.self_supervision
    with evaluation_mode(objective):
        with torch.no_grad():
            encoded = objective.model(batch, None if ssl is None else ssl.tower)
            positives = objective.main_loss.positives(encoded, batch)
            values = {"alignment.positives": _alignment(encoded.queries, positives, batch.items)}
            if len(encoded.views):
                items = losses.gather(batch.view_items[0])
                vectors = losses.gather(encoded.views[0])
                values["uniformity.views"] = uniformity(vectors[items >= 0], items[items >= 0])
            if len(encoded.views) > 1:
                distance = float(np.mean(_view_distances(encoded.views, batch.view_items)))
                values["alignment.views"] = distance
                values["view_similarity"] = 1 - distance / 2  # For unit vectors.
            if ssl is not None:
                values |= ssl.measure(ssl_batch(encoded, batch))
        if ssl is not None and ssl.tower is None:
            values |= _gradients(objective, encoded, batch)
    return values


def item_diagnostics(items: Floats) -> dict[str, float]:
    """Measures the catalogue's vectors, [items, dim], in this process alone."""
    some = torch.from_numpy(items[_spread(len(items), _UNIFORMITY_ITEMS)])
    return {
        "uniformity.items": uniformity(some, torch.arange(len(some))),
        "effective_rank": effective_rank(items[_spread(len(items), _RANK_ITEMS)]),
    }


def uniformity(vectors: Tensor, items: Tensor) -> float:
    """Returns the log of the mean of exp(-2 |x - y|^2) over pairs of different items.

    The lower, the more evenly vectors cover the sphere; 0 where all are equal. It is equation 2 of
    Wang and Isola (2020).

    Args:
        vectors: [rows, dim] L2-normalised vectors.
        items: [rows] items of the vectors.
    """
    exponents = 4 * (vectors @ vectors.T - 1)  # For unit vectors, |x - y|^2 = 2 - 2 x y.
    exponents = exponents[items[:, None] != items[None, :]].double()
    return float(exponents.logsumexp(0) - math.log(len(exponents))) if len(exponents) else 0.0


def effective_rank(vectors: Floats) -> float:
    """Returns the exponential of the entropy of the normalised singular values.

    It is 1 where all vectors are on one line, and at most dim (Roy and Vetterli 2007).

    Args:
        vectors: [rows, dim].
    """
    gram = vectors.astype(np.float64).T @ vectors.astype(np.float64)
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    normalised = singular[singular > 0] / singular.sum()
    return float(np.exp(-(normalised * np.log(normalised)).sum()))


def masking_counts(masking: Masking, start: int, stop: int) -> MaskingCounts:
    """Counts the masks of the steps from `start` to before `stop`, which only the step decides."""
    num_features = len(masking.always_hidden)
    seeds = np.zeros(num_features, np.int64)
    together = np.zeros((num_features, num_features), np.int64)
    has_seeds = True
    for first in range(start, stop, _COUNTED_STEPS):
        steps = np.arange(first, min(stop, first + _COUNTED_STEPS))
        hidden = masking.hidden(steps)[:, 0].astype(np.float64)  # For the fast matrix product.
        together += (hidden.T @ hidden).astype(np.int64)
        drawn = masking.seeds(steps)
        has_seeds = drawn is not None
        if drawn is not None:
            seeds += np.bincount(drawn, minlength=num_features)
    return MaskingCounts(stop - start, seeds if has_seeds else None, together)


def _gradients(objective: TwoTowerObjective, encoded: Encoded, batch: Batch) -> dict[str, float]:
    """Compares the gradients of both losses in the item tower, with its inputs held constant."""
    ssl = objective.self_supervision
    assert ssl is not None
    parameters = [p for p in objective.model.item_tower.parameters() if p.requires_grad]
    with torch.enable_grad():
        items, views = objective.model.encode_items(encoded.item_inputs, batch.num_candidates)
        again = replace(encoded, items=items, views=views.view_as(encoded.views))
        main = _flat_gradient(objective.main_loss(again, batch), parameters)
        of_ssl = _flat_gradient(ssl(ssl_batch(again, batch)), parameters)
    lengths = float(main.norm()), float(of_ssl.norm())
    if min(lengths) == 0:
        return {}
    return {
        "gradient_cosine": float(main @ of_ssl) / (lengths[0] * lengths[1]),
        "gradient_ratio": ssl.alpha * lengths[1] / lengths[0],
    }


def _flat_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Returns the gradient's mean over ranks as one vector, [parameters' numbers]."""
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients]).double()
    return _sum_over_ranks(flat) / (dist.get_world_size() if dist.is_initialized() else 1)


def _view_distances(views: Tensor, items: Tensor) -> list[float]:
    """Returns the mean squared distance of each further view from the first.

    Args:
        views: [V, S, dim] vectors of the views.
        items: [V, S] items; -1 is padding.
    """
    return [_alignment(views[0], view, items[0]) for view in views[1:]]


def _alignment(left: Tensor, right: Tensor, items: Tensor) -> float:
    """Returns the mean squared distance over rows of the global batch (Wang and Isola 2020, eq. 1).

    Args:
        left: [rows, dim].
        right: [rows, dim].
        items: [rows] items; rows with -1 are padding, and do not count.
    """
    is_item = items >= 0
    distances = (left - right).square().sum(dim=1)[is_item]
    sums = torch.stack([distances.sum().double(), is_item.sum().double()])
    total, count = _sum_over_ranks(sums).tolist()
    return total / max(count, 1)


def _sum_over_ranks(values: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def _spread(count: int, most: int) -> npt.NDArray[np.int64]:
    """Returns at most `most` of `count` positions, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)
