"""Masks of the self-supervised views: the features that each hides (Yao et al. 2021, sec. 3.2)."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Bools, Ints
from feature_store.core.hashing import hash64
from feature_store.kinds import Feature
from pipelines.prepared.manifest import MutualInformation
from recsys.config.ssl.method import SslSettings

Floats = npt.NDArray[np.float64]

# Streams of random numbers of view A; those of view B follow them.
_SEED_FEATURE, _RANDOM_SPLIT = 1, 2
# First stream of the views after B, above all other streams of the data.
_FURTHER_VIEWS = 100


class Groups(Protocol):
    """Draws a group of features for each step."""

    def groups(self, steps: Ints, view: int) -> Bools:
        """Returns the group of each step, [steps, features]; each view has draws of its own."""
        ...

    def seeds(self, steps: Ints, view: int) -> Ints | None:
        """Returns the seed feature of each step, [steps]; None where groups have none."""
        ...


class CorrelatedGroups:
    """CFM: a seed feature, uniform over features, and the features that tell most about it.

    Args:
        information: [features, features] mutual information.
        seed: Seed of the choice of seed features.
        size: Number of features in a group; None: the paper's.
    """

    def __init__(self, information: Floats, seed: int, size: int | None = None) -> None:
        self._groups = np.stack(
            [correlated_group(information, feature, size) for feature in range(len(information))]
        )
        self._seed = seed

    def seeds(self, steps: Ints, view: int) -> Ints:
        """Returns the seed feature of each step, [steps]."""
        draws = hash64(self._seed, _stream(_SEED_FEATURE, view), steps)
        return (draws % np.uint64(len(self._groups))).astype(np.int64)

    def groups(self, steps: Ints, view: int) -> Bools:
        """Returns the group of each step, [steps, features]; each view has draws of its own."""
        return self._groups[self.seeds(steps, view)]


class RandomGroups:
    """RFM: random features, by default half of them; of an odd number, the smaller half.

    Args:
        num_features: Number of features to draw from.
        seed: Seed of the draws.
        size: Number of features in a group; None: half of them.
    """

    def __init__(self, num_features: int, seed: int, size: int | None = None) -> None:
        self._features = np.arange(num_features)
        self._size = num_features // 2 if size is None else size
        self._seed = seed

    def seeds(self, steps: Ints, view: int) -> None:
        """Returns None: random groups have no seed."""
        return None

    def groups(self, steps: Ints, view: int) -> Bools:
        """Returns the group of each step, [steps, features]; each view has draws of its own."""
        stream = _stream(_RANDOM_SPLIT, view)
        draws = hash64(self._seed, stream, steps[:, None], self._features)
        chosen = np.argsort(draws, axis=1)[:, : self._size]
        group = np.zeros(draws.shape, bool)
        np.put_along_axis(group, chosen, True, axis=1)
        return group


@dataclass(frozen=True)
class Masking:
    """Features that each view hides in each step.

    Attributes:
        draws: Groups of the features that take part.
        positions: [features that take part] among all features.
        always_hidden: [features], whatever is drawn.
        are_complementary: Whether every second view hides what the one before it shows, of the
            features that take part.
        num_views: Number of views.
    """

    draws: Groups
    positions: Ints
    always_hidden: Bools
    are_complementary: bool
    num_views: int = 2

    def hidden(self, steps: Ints) -> Bools:
        """Returns the features that each view hides, [steps, views, features]."""
        hidden = np.tile(self.always_hidden, (len(steps), self.num_views, 1))
        for view in range(self.num_views):
            if self.are_complementary and view % 2:
                group = ~hidden[:, view - 1, self.positions]
            else:
                group = self.draws.groups(steps, view)
            hidden[:, view, self.positions] = group
        return hidden

    def seeds(self, steps: Ints) -> Ints | None:
        """Returns view A's seed features, [steps]; None where groups have none."""
        seeds = self.draws.seeds(steps, 0)
        return None if seeds is None else self.positions[seeds]


def correlated_group(information: Floats, seed_feature: int, size: int | None = None) -> Bools:
    """Returns the seed feature and those most correlated with it, [k].

    Ties go to the feature that the schema lists first.

    Args:
        information: [k, k] mutual information.
        seed_feature: Position of the seed feature.
        size: Number of features in the group, the seed among them; None: the paper's, the seed and
            n = floor(k/2) more, but always one is left out.
    """
    num_features = len(information)
    if size is None:
        size = min(1 + num_features // 2, num_features - 1)
    others = [feature for feature in range(num_features) if feature != seed_feature]
    others.sort(key=lambda feature: (-information[seed_feature][feature], feature))
    group = np.zeros(num_features, bool)
    group[[seed_feature, *others[: size - 1]]] = True
    return group


def build_masking(
    settings: SslSettings,
    features: tuple[Feature, ...],
    information: MutualInformation,
    seed: int,
) -> Masking | None:
    """Builds the masking that the configuration asks for; None where views hide no features.

    Args:
        settings: Settings of the method.
        features: Features of the items.
        information: Mutual information between them.
        seed: Seed of all draws.
    """
    plan = settings.view_plan
    if plan is None or plan.masks is None:
        return None
    masks = plan.masks
    is_id = np.array([feature.is_id for feature in features])
    takes_part = ~is_id if masks.id_feature != "masked" else np.ones(len(features), bool)
    positions = np.flatnonzero(takes_part)
    draws: Groups
    if masks.information is None:
        draws = RandomGroups(len(positions), seed, masks.group_size)
    else:
        matrix = np.array(getattr(information.items, masks.information), np.float64)
        draws = CorrelatedGroups(matrix[np.ix_(positions, positions)], seed, masks.group_size)
    always_hidden = is_id & (masks.id_feature == "hidden")
    return Masking(draws, positions, always_hidden, masks.are_complementary, plan.count)


def _stream(of_view_a: int, view: int) -> int:
    """Returns the number of a view's stream of random numbers."""
    return of_view_a + 2 * view + (0 if view < 2 else _FURTHER_VIEWS)
