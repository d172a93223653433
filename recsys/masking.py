"""Which item features the two self-supervised views hide (Yao et al. 2021, section 3.2)."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from feature_store.columns import Bools
from feature_store.history import hash64
from pipelines.prepared import MutualInformation
from recsys.ssl_settings import CorrelatedMasking, NoSelfSupervision, RandomMasking

Floats = npt.NDArray[np.float64]

_SEED_FEATURE, _RANDOM_SPLIT = 1, 2


class Masking(Protocol):
    """Splits the features anew for each batch."""

    def group(self, step: int) -> Bools:
        """[features]: true is masked in view A, false is masked in view B."""
        ...


class CorrelatedFeatureMasking:
    """CFM: a seed feature, uniform over features, and the features that tell most about it.

    Args:
        information: [features, features] mutual information.
        seed: Of the choice of seed features.
    """

    def __init__(self, information: Floats, seed: int) -> None:
        self._groups = np.stack(
            [correlated_group(information, feature) for feature in range(len(information))]
        )
        self._seed = seed

    def group(self, step: int) -> Bools:
        """See `Masking`."""
        draw = int(hash64(self._seed, _SEED_FEATURE, step))
        return self._groups[draw % len(self._groups)]


class RandomFeatureMasking:
    """RFM: a random half of the features; with an odd number, view A hides the smaller one."""

    def __init__(self, num_features: int, seed: int) -> None:
        self._features = np.arange(num_features)
        self._seed = seed

    def group(self, step: int) -> Bools:
        """See `Masking`."""
        order = np.argsort(hash64(self._seed, _RANDOM_SPLIT, step, self._features))
        group = np.zeros(len(order), bool)
        group[order[: len(order) // 2]] = True
        return group


def correlated_group(information: Floats, seed_feature: int) -> Bools:
    """The seed feature and its n = floor(k/2) most correlated features, [k].

    Ties go to the feature that the schema lists first.
    """
    num_features = len(information)
    others = [feature for feature in range(num_features) if feature != seed_feature]
    others.sort(key=lambda feature: (-information[seed_feature][feature], feature))
    group = np.zeros(num_features, bool)
    group[[seed_feature, *others[: num_features // 2]]] = True
    return group


def build_masking(
    settings: NoSelfSupervision | RandomMasking | CorrelatedMasking,
    information: MutualInformation,
    seed: int,
) -> Masking | None:
    """The masking that the configuration asks for; None without self-supervision."""
    if isinstance(settings, NoSelfSupervision):
        return None
    if isinstance(settings, RandomMasking):
        return RandomFeatureMasking(len(information.features), seed)
    matrix = getattr(getattr(information, settings.weighting), settings.mutual_information)
    return CorrelatedFeatureMasking(np.array(matrix, np.float64), seed)
