"""Which item features the two self-supervised views hide (Yao et al. 2021, section 3.2)."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Bools, Ints
from feature_store.core.hashing import hash64
from feature_store.schema import Feature, IdFeature
from pipelines.prepared.reader import MutualInformation
from recsys.config.ssl import CorrelatedMasking, RandomMasking, SelfSupervisionConfig

Floats = npt.NDArray[np.float64]

# For each view, so that views can draw independently.
_SEED_FEATURE, _RANDOM_SPLIT = (1, 3), (2, 4)


class Groups(Protocol):
    """Draws a group of features for each step."""

    def groups(self, steps: Ints, view: int) -> Bools:
        """[steps, features]; each view has draws of its own."""
        ...


class CorrelatedGroups:
    """CFM: a seed feature, uniform over features, and the features that tell most about it.

    Args:
        information: [features, features] mutual information.
        seed: Of the choice of seed features.
        size: Of the groups; None: the paper's.
    """

    def __init__(self, information: Floats, seed: int, size: int | None = None) -> None:
        self._groups = np.stack(
            [correlated_group(information, feature, size) for feature in range(len(information))]
        )
        self._seed = seed

    def seeds(self, steps: Ints, view: int) -> Ints:
        """The seed feature of each step, [steps]."""
        draws = hash64(self._seed, _SEED_FEATURE[view], steps)
        return (draws % np.uint64(len(self._groups))).astype(np.int64)

    def groups(self, steps: Ints, view: int) -> Bools:
        """See `Groups`."""
        return self._groups[self.seeds(steps, view)]


class RandomGroups:
    """RFM: random features, by default half of them; of an odd number, the smaller half.

    Args:
        num_features: To draw from.
        seed: Of the draws.
        size: Of the groups.
    """

    def __init__(self, num_features: int, seed: int, size: int | None = None) -> None:
        self._features = np.arange(num_features)
        self._size = num_features // 2 if size is None else size
        self._seed = seed

    def groups(self, steps: Ints, view: int) -> Bools:
        """See `Groups`."""
        draws = hash64(self._seed, _RANDOM_SPLIT[view], steps[:, None], self._features)
        chosen = np.argsort(draws, axis=1)[:, : self._size]
        group = np.zeros(draws.shape, bool)
        np.put_along_axis(group, chosen, True, axis=1)
        return group


@dataclass(frozen=True)
class Masking:
    """What each view hides in each step.

    Attributes:
        draws: Groups of the features that take part.
        places: [features that take part] among all features.
        always_hidden: [features], whatever is drawn.
        are_complementary: Whether view B hides what view A shows, of the features that take part.
    """

    draws: Groups
    places: Ints
    always_hidden: Bools
    are_complementary: bool

    def hidden(self, steps: Ints) -> Bools:
        """[steps, 2, features], in view A and in view B."""
        group = self.draws.groups(steps, 0)
        other = ~group if self.are_complementary else self.draws.groups(steps, 1)
        hidden = np.tile(self.always_hidden, (len(steps), 2, 1))
        hidden[:, 0, self.places], hidden[:, 1, self.places] = group, other
        return hidden

    def seeds(self, steps: Ints) -> Ints | None:
        """View A's seed features, [steps]; None where groups have none."""
        if not isinstance(self.draws, CorrelatedGroups):
            return None
        return self.places[self.draws.seeds(steps, 0)]


def correlated_group(information: Floats, seed_feature: int, size: int | None = None) -> Bools:
    """The seed feature and those most correlated with it, [k].

    Ties go to the feature that the schema lists first.

    Args:
        information: [k, k] mutual information.
        seed_feature: Its place.
        size: Of the group with the seed; None: the paper's, the seed and n = floor(k/2) more, but
            always one is left out.
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
    settings: SelfSupervisionConfig,
    features: tuple[Feature, ...],
    information: MutualInformation,
    seed: int,
) -> Masking | None:
    """The masking that the configuration asks for; None where its method masks no features.

    Args:
        settings: Of the method.
        features: Of the items.
        information: Between them.
        seed: Of all draws.
    """
    if not isinstance(settings, RandomMasking | CorrelatedMasking):
        return None
    is_id = np.array([isinstance(feature, IdFeature) for feature in features])
    takes_part = ~is_id if settings.id_feature != "masked" else np.ones(len(features), bool)
    places = np.flatnonzero(takes_part)
    draws: Groups
    if isinstance(settings, CorrelatedMasking):
        matrices = getattr(information, settings.weighting)
        matrix = np.array(getattr(matrices, settings.mutual_information), np.float64)
        draws = CorrelatedGroups(matrix[np.ix_(places, places)], seed, settings.group_size)
    else:
        draws = RandomGroups(len(places), seed, settings.group_size)
    always_hidden = is_id & (settings.id_feature == "hidden")
    return Masking(draws, places, always_hidden, settings.views == "complementary")
