"""What self-supervision does to a model: numbers that are logged at each validation.

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
last four lines are there without self-supervision too, as far as they have no views. A method may
add figures of its own.

Everything is of the last batch and of the vectors that the validation ranks: a forward without
gradients, and a forward and two backward passes of the item tower alone. Tables get no gradient, so
that optimizers that update them in the backward pass have nothing to do.
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

# Item vectors that are compared with each other; evenly spaced over the catalogue.
_UNIFORMITY_ITEMS = 2048
# Item vectors whose spectrum is taken.
_RANK_ITEMS = 100_000
# Steps whose masks are counted at once.
_COUNTED_STEPS = 65_536


@dataclass(frozen=True)
class MaskingCounts:
    """Over some steps.

    Attributes:
        steps: How many.
        seeds: [features] as the seed of view A; None where groups have none.
        together: [features, features] both hidden in view A; on the diagonal each alone.
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
    """Measures one rank's part of a training.

    Args:
        objective: The model and its losses, sharded.
        prepared: The prepared data.
        masking: Of the views; None where no features are masked.
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
        """The numbers by name; a collective call.

        Args:
            step: Steps done.
            batch: The last one of this rank.
            items: [items, dim] vectors of the catalogue on rank 0.

        Returns:
            On rank 0, all; on other ranks, those that do not need `items`.
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
    """Of the global batch, equal on all ranks; a collective call that changes nothing."""
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
                values["view_similarity"] = 1 - distance / 2  # Of unit vectors.
            if ssl is not None:
                values |= ssl.measure(ssl_batch(encoded, batch))
        if ssl is not None and ssl.tower is None:
            values |= _gradients(objective, encoded, batch)
    return values


def item_diagnostics(items: Floats) -> dict[str, float]:
    """Of the catalogue's vectors, [items, dim]; in this process alone."""
    some = torch.from_numpy(items[_spread(len(items), _UNIFORMITY_ITEMS)])
    return {
        "uniformity.items": uniformity(some, torch.arange(len(some))),
        "effective_rank": effective_rank(items[_spread(len(items), _RANK_ITEMS)]),
    }


def uniformity(vectors: Tensor, items: Tensor) -> float:
    """Log of the mean of exp(-2 |x - y|^2) over different items (Wang and Isola 2020, eq. 2).

    The lower, the more evenly vectors cover the sphere; 0 where all are equal.

    Args:
        vectors: [rows, dim], L2-normalised.
        items: [rows].
    """
    exponents = 4 * (vectors @ vectors.T - 1)  # Of unit vectors: |x - y|^2 = 2 - 2 x y.
    exponents = exponents[items[:, None] != items[None, :]].double()
    return float(exponents.logsumexp(0) - math.log(len(exponents))) if len(exponents) else 0.0


def effective_rank(vectors: Floats) -> float:
    """Exponential of the entropy of the singular values' shares (Roy and Vetterli 2007).

    From 1, where all vectors are on one line, to dim.

    Args:
        vectors: [rows, dim].
    """
    gram = vectors.astype(np.float64).T @ vectors.astype(np.float64)
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    shares = singular[singular > 0] / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def masking_counts(masking: Masking, start: int, stop: int) -> MaskingCounts:
    """Of the steps from `start` to before `stop`; masks are functions of the step alone."""
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
    """How the two losses pull at the item tower, from its inputs and the queries as they are."""
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
    """Mean over ranks, [numbers]."""
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients]).double()
    return _sum_over_ranks(flat) / (dist.get_world_size() if dist.is_initialized() else 1)


def _view_distances(views: Tensor, items: Tensor) -> list[float]:
    """Returns the mean squared distance of each further view from the first.

    Args:
        views: [V, S, dim].
        items: [V, S]; -1 is padding.
    """
    return [_alignment(views[0], view, items[0]) for view in views[1:]]


def _alignment(left: Tensor, right: Tensor, items: Tensor) -> float:
    """Mean squared distance over the global batch's rows but padding (Wang and Isola 2020, eq. 1).

    Args:
        left: [rows, dim].
        right: [rows, dim].
        items: [rows]; -1 is padding.
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
    """At most so many places, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)
