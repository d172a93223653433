import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.prepared import InformationMatrices, MutualInformation
from recsys.masking import (
    CorrelatedFeatureMasking,
    RandomFeatureMasking,
    build_masking,
    correlated_group,
)
from recsys.ssl_settings import CorrelatedMasking

# Feature 0 tells most about 3, then 1; feature 2 is alone.
INFORMATION = np.array(
    [
        [2.0, 0.5, 0.1, 0.9],
        [0.5, 1.0, 0.0, 0.2],
        [0.1, 0.0, 1.0, 0.1],
        [0.9, 0.2, 0.1, 1.5],
    ]
)


@pytest.mark.parametrize(
    ("seed_feature", "group"),
    [(0, {0, 3, 1}), (1, {1, 0, 3}), (2, {2, 0, 3}), (3, {3, 0, 1})],
)
def test_the_group_is_the_seed_and_its_half_most_correlated(seed_feature, group):
    assert set(np.flatnonzero(correlated_group(INFORMATION, seed_feature))) == group


@given(st.integers(3, 12), st.integers(0, 2**32))
def test_groups_of_any_matrix(num_features, seed):
    matrix = np.random.default_rng(seed).random((num_features, num_features))
    matrix = matrix + matrix.T
    for seed_feature in range(num_features):
        group = correlated_group(matrix, seed_feature)
        assert group[seed_feature]
        assert group.sum() == 1 + num_features // 2
        chosen = [f for f in np.flatnonzero(group) if f != seed_feature]
        left_out = np.flatnonzero(~group)
        assert matrix[seed_feature, chosen].min() >= matrix[seed_feature, left_out].max()


def test_every_seed_feature_is_drawn_about_equally_often():
    masking = CorrelatedFeatureMasking(np.eye(4) + 0.1 * INFORMATION, seed=5)
    groups = [tuple(masking.group(step)) for step in range(4000)]
    expected = {tuple(correlated_group(np.eye(4) + 0.1 * INFORMATION, f)) for f in range(4)}
    assert set(groups) == expected
    draws = np.unique(groups, axis=0, return_counts=True)[1]
    assert draws.min() > 850  # Two seed features may share a group, none may be rare.


def test_the_group_changes_from_batch_to_batch_and_is_reproducible():
    for masking in (CorrelatedFeatureMasking(INFORMATION, 1), RandomFeatureMasking(4, 1)):
        groups = [tuple(masking.group(step)) for step in range(50)]
        assert len(set(groups)) > 1
        assert groups == [tuple(masking.group(step)) for step in range(50)]


def test_random_masking_hides_half_of_the_features_in_each_view():
    masking = RandomFeatureMasking(7, seed=3)
    groups = np.stack([masking.group(step) for step in range(3000)])
    assert set(groups.sum(axis=1)) == {3}
    assert np.allclose(groups.mean(axis=0), 3 / 7, atol=0.04)


@pytest.mark.parametrize("weighting", ["items", "interactions"])
@pytest.mark.parametrize("kind", ["raw", "normalised", "corrected"])
def test_the_configuration_picks_the_matrix(weighting, kind):
    def matrix(is_wanted):
        rows = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.4], [0.0, 0.4, 1.0]])
        return tuple(map(tuple, rows if is_wanted else rows[[1, 0, 2]][:, [1, 0, 2]]))

    def matrices(name):
        kinds = ("raw", "normalised", "corrected")
        return InformationMatrices(**{k: matrix((name, k) == (weighting, kind)) for k in kinds})

    information = MutualInformation(
        features=("a", "b", "c"), items=matrices("items"), interactions=matrices("interactions")
    )
    settings = CorrelatedMasking(mutual_information=kind, weighting=weighting)
    masking = build_masking(settings, information, seed=0)
    groups = {tuple(np.flatnonzero(masking.group(step))) for step in range(50)}
    assert groups == {(0, 1), (1, 2)}  # In the others, features 0 and 2 belong together.
