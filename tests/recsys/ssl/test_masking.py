from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from feature_store.kinds import CategoricalFeature, IdFeature
from pipelines.prepared.manifest import InformationMatrices, MutualInformation
from recsys.config.ssl.contrastive import CorrelatedMasking, RandomMasking
from recsys.ssl.masking import (
    CorrelatedGroups,
    Masking,
    RandomGroups,
    build_masking,
    correlated_group,
)

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


def test_two_features_are_never_hidden_together():
    assert correlated_group(np.ones((2, 2)), 1).tolist() == [False, True]


@pytest.mark.parametrize(("size", "group"), [(1, {0}), (2, {0, 3}), (3, {0, 3, 1})])
def test_the_size_of_a_group_counts_its_seed(size, group):
    assert set(np.flatnonzero(correlated_group(INFORMATION, 0, size))) == group


def test_seed_features_are_uniform_and_independent_between_the_views():
    groups = CorrelatedGroups(INFORMATION, seed=5)
    seeds = [groups.seeds(np.arange(8000), view) for view in (0, 1)]
    pairs = np.bincount(4 * seeds[0] + seeds[1], minlength=16)
    assert chisquare(pairs).pvalue > 0.001
    for seed, group in zip(seeds[1], groups.groups(np.arange(8000), 1), strict=True):
        assert np.array_equal(group, correlated_group(INFORMATION, seed))


@pytest.mark.parametrize(("size", "expected"), [(None, 3), (5, 5)])
def test_random_groups_have_their_size_and_every_feature_equally_often(size, expected):
    groups = RandomGroups(7, seed=3, size=size)
    drawn = [groups.groups(np.arange(3000), view) for view in (0, 1)]
    for of_view in drawn:
        assert set(of_view.sum(axis=1)) == {expected}
        assert np.allclose(of_view.mean(axis=0), expected / 7, atol=0.04)
    both = (drawn[0] & drawn[1]).mean(axis=0)
    assert np.allclose(both, (expected / 7) ** 2, atol=0.04)  # Independent draws.


@pytest.mark.parametrize("groups", [CorrelatedGroups(INFORMATION, 1), RandomGroups(4, 1)])
def test_masks_depend_on_the_step_alone(groups):
    steps = np.arange(50)
    for view in (0, 1):
        together = groups.groups(steps, view)
        assert len(np.unique(together, axis=0)) > 1
        alone = [groups.groups(np.array([step]), view)[0] for step in steps]
        assert np.array_equal(together, alone)


def masking(method=RandomMasking, **settings) -> Masking:
    """Builds a masking of an id and three categorical features."""
    features = (
        CategoricalFeature(name="a", dim=4),
        IdFeature(name="id", dim=4),
        CategoricalFeature(name="b", dim=4),
        CategoricalFeature(name="c", dim=4),
    )
    matrix = tuple(map(tuple, INFORMATION))
    matrices = InformationMatrices(raw=matrix, normalised=matrix, corrected=matrix)
    information = MutualInformation(
        features=tuple(feature.name for feature in features), items=matrices, interactions=matrices
    )
    return build_masking(method(**settings), features, information, seed=2)


@pytest.mark.parametrize("method", [RandomMasking, CorrelatedMasking])
def test_complementary_views_hide_each_feature_in_one_of_them(method):
    hidden = masking(method).hidden(np.arange(200))
    assert (hidden.sum(axis=1) == 1).all()


@pytest.mark.parametrize("method", [RandomMasking, CorrelatedMasking])
def test_independent_views_draw_groups_of_the_same_size(method):
    hidden = masking(method, views="independent", group_size=2).hidden(np.arange(500))
    assert (hidden.sum(axis=2) == 2).all()
    assert set(hidden.sum(axis=1).reshape(-1)) == {0, 1, 2}
    complementary = masking(method, group_size=2).hidden(np.arange(500))
    assert np.array_equal(hidden[:, 0], complementary[:, 0])


@pytest.mark.parametrize("method", [RandomMasking, CorrelatedMasking])
@pytest.mark.parametrize(("id_feature", "is_hidden"), [("hidden", True), ("shown", False)])
def test_an_id_that_takes_no_part_is_alike_in_all_views(method, id_feature, is_hidden):
    drawn = masking(method, id_feature=id_feature)
    hidden = drawn.hidden(np.arange(300))
    assert (hidden[:, :, 1] == is_hidden).all()
    others = hidden[:, :, [0, 2, 3]]
    assert (others.sum(axis=1) == 1).all()
    assert others[:, 0].any(axis=0).all()
    seeds = drawn.seeds(np.arange(300))
    if method is RandomMasking:
        assert seeds is None
    else:
        assert set(seeds) == {0, 2, 3}
        assert hidden[np.arange(300), 0, seeds].all()


@pytest.mark.parametrize("kind", ["raw", "normalised", "corrected"])
def test_the_configuration_picks_the_matrix(kind):
    def matrix(is_wanted):
        rows = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.4], [0.0, 0.4, 1.0]])
        return tuple(map(tuple, rows if is_wanted else rows[[1, 0, 2]][:, [1, 0, 2]]))

    def matrices(name):
        kinds = ("raw", "normalised", "corrected")
        return InformationMatrices(**{k: matrix((name, k) == ("items", kind)) for k in kinds})

    information = MutualInformation(
        features=("a", "b", "c"), items=matrices("items"), interactions=matrices("interactions")
    )
    settings = CorrelatedMasking(mutual_information=kind)
    features = tuple(CategoricalFeature(name=name, dim=4) for name in "abc")
    drawn = build_masking(settings, features, information, seed=0)
    groups = {tuple(np.flatnonzero(group)) for group in drawn.hidden(np.arange(50))[:, 0]}
    assert groups == {(0, 1), (1, 2)}  # In the others, features 0 and 2 belong together.


@pytest.mark.parametrize("method", [RandomMasking, CorrelatedMasking])
@pytest.mark.parametrize("views", ["complementary", "independent"])
def test_any_number_of_views_begins_with_the_same_two(method, views):
    two = masking(method, views=views)
    five = replace(two, num_views=5)
    hidden = five.hidden(np.arange(400))
    assert hidden.shape == (400, 5, 4)
    assert np.array_equal(hidden[:, :2], two.hidden(np.arange(400)))
    if views == "complementary":
        assert (hidden[:, 0:2].sum(axis=1) == 1).all()
        assert (hidden[:, 2:4].sum(axis=1) == 1).all()
    drawn = hidden[:, ::2] if views == "complementary" else hidden
    for view in range(1, drawn.shape[1]):
        assert not np.array_equal(drawn[:, view], drawn[:, 0])
        assert np.allclose(drawn[:, view].mean(axis=0), drawn[:, 0].mean(axis=0), atol=0.1)
