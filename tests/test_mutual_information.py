"""Mutual information against tables made by hand and by loops."""

from collections import Counter
from itertools import product
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.columns import Column, Dense, Jagged, write_columns
from pipelines import mutual_information as module
from pipelines.mutual_information import (
    joint_entropies,
    joint_entropy,
    membership,
    mutual_information,
    pair_tasks,
    sampled,
)
from pipelines.prepared import MutualInformation


def jagged(bags: list[list[int]]) -> Jagged:
    values = np.array([value for bag in bags for value in bag], np.int32)
    return Jagged.from_lengths(values, np.array([len(bag) for bag in bags], np.int64))


def numbers(values: list[float | None]) -> Dense:
    present = np.array([value is not None for value in values])
    matrix = np.array([[0.0 if value is None else value] for value in values], np.float32)
    return Dense(matrix, present)


def information(directory: Path, columns: dict[str, Column], current: list[int] | None = None):
    rows = len(next(iter(columns.values())))
    mask = np.isin(np.arange(rows), current) if current is not None else np.ones(rows, bool)
    np.save(directory / "current.npy", mask)
    write_columns(directory / "features.arrow", columns)
    tasks = pair_tasks(directory / "features.arrow", directory / "current.npy", tuple(columns))
    return mutual_information(tuple(columns), [joint_entropies(task) for task in tasks])


def entropy(*shares: float) -> float:
    return -sum(share * log(share) for share in shares)


def test_small_example_by_hand(tmp_path: Path) -> None:
    # Four items; the first has two genres, the last has none.
    #
    #               colour
    #   genre       red        blue
    #   drama       1/8        1/4        1/8 of item 0, which is red, and item 1
    #   comedy      1/8 + 1/4  0          1/8 of item 0, and item 2
    #   absent      0          1/4        item 3
    genre = jagged([[1, 2], [1], [2], []])
    colour = jagged([[5], [6], [5], [6]])
    found = information(tmp_path, {"genre": genre, "colour": colour})
    of_genre, of_colour = entropy(3 / 8, 3 / 8, 1 / 4), entropy(1 / 2, 1 / 2)
    joint = entropy(1 / 8, 1 / 4, 3 / 8, 1 / 4)
    between = of_genre + of_colour - joint
    assert found.features == ("genre", "colour")
    np.testing.assert_allclose(found.raw, [[of_genre, between], [between, of_colour]])
    np.testing.assert_allclose(
        found.normalised, [[1, between / of_colour], [between / of_colour, 1]]
    )


def test_two_multi_valued_features_by_hand(tmp_path: Path) -> None:
    # Item 0 adds 1/(2 * 2) to each of its four pairs, item 1 adds 1 to its only pair.
    first, second = jagged([[1, 2], [1]]), jagged([[1, 2], [2]])
    found = information(tmp_path, {"a": first, "b": second})
    joint = entropy(1 / 8, 1 / 8 + 1 / 2, 1 / 8, 1 / 8)
    assert found.raw[0][1] == pytest.approx(2 * entropy(3 / 4, 1 / 4) - joint)


def test_an_id_tells_all_of_a_single_valued_feature(tmp_path: Path) -> None:
    group = [1, 1, 2, 2, 2, 3]
    ids = jagged([[i] for i in range(6)])
    constant = jagged([[4]] * 6)
    columns = {"id": ids, "group": jagged([[g] for g in group]), "constant": constant}
    found = information(tmp_path, columns)
    of_group = entropy(2 / 6, 3 / 6, 1 / 6)
    assert found.raw[0][0] == pytest.approx(log(6))
    assert found.raw[0][1] == pytest.approx(of_group)
    assert found.normalised[0][1] == pytest.approx(1)
    assert found.raw[2] == found.normalised[2] == (0.0, 0.0, 0.0)


def test_ids_of_an_earlier_run_do_not_count(tmp_path: Path) -> None:
    column, same = jagged([[1], [2], [], []]), jagged([[3], [4], [], []])
    found = information(tmp_path, {"a": column, "b": same}, current=[0, 1])
    np.testing.assert_allclose(found.raw, np.full((2, 2), log(2)))


def test_numbers_fall_into_bins_of_equal_counts(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    price = random.lognormal(size=1600)
    noise = random.normal(size=1600)
    image = random.normal(size=(1600, 8)).astype(np.float32)
    columns: dict[str, Column] = {
        "price": numbers(price.tolist()),
        "log_price": numbers(np.log(price).tolist()),
        "noise": numbers(noise.tolist()),
        "image": Dense(image, np.ones(1600, bool)),
        "twice_the_image": Dense(2 * image, np.ones(1600, bool)),
    }
    found = information(tmp_path, columns)
    raw = np.array(found.raw)
    assert raw[0, 0] == pytest.approx(log(16), abs=1e-3)
    assert raw[0, 1] == pytest.approx(log(16), abs=1e-2)
    assert raw[0, 2] < 0.15
    assert 2.0 < raw[3, 3] <= log(16)
    assert raw[3, 4] == pytest.approx(raw[3, 3])


bags = st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=8, max_size=8)


def by_loops(columns: list[list[list[int]]]) -> MutualInformation:
    """From a dictionary of every pair of values of every item."""
    size = len(columns)
    joints: dict[tuple[int, int], float] = {}
    for i, j in product(range(size), repeat=2):
        mass: Counter[tuple[int, int]] = Counter()
        for first, second in zip(columns[i], columns[j], strict=True):
            first, second = first or [-1], second or [-1]
            pairs = list(product(first, second)) if i != j else [(v, v) for v in first]
            for pair in pairs:
                mass[pair] += 1 / len(pairs)
        joints[i, j] = entropy(*(m / len(columns[i]) for m in mass.values()))
    own = [joints[i, i] for i in range(size)]
    raw = [[own[i] + own[j] - joints[i, j] for j in range(size)] for i in range(size)]
    return MutualInformation(features=tuple("abc"[:size]), raw=raw, normalised=raw)


@given(st.tuples(bags, bags, bags))
@settings(max_examples=60, deadline=None)
def test_equals_loops_and_is_symmetric(tmp_path_factory, columns: tuple[list[list[int]], ...]):
    directory = tmp_path_factory.mktemp("mi")
    found = information(directory, dict(zip("abc", map(jagged, columns), strict=True)))
    expected = by_loops(list(columns))
    raw, normalised = np.array(found.raw), np.array(found.normalised)
    np.testing.assert_allclose(raw, expected.raw, atol=1e-9)
    assert (raw == raw.T).all()
    assert (raw >= 0).all()
    assert (raw <= np.minimum(np.diag(raw)[:, None], np.diag(raw)[None, :])).all()
    assert ((normalised >= 0) & (normalised <= 1)).all()


def test_the_joint_table_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    columns = [
        jagged([random.integers(0, 40, random.integers(0, 6)).tolist() for _ in range(200)])
        for _ in range(2)
    ]
    first, second = (membership(column, np.arange(200)) for column in columns)
    whole = joint_entropy(first, second)
    monkeypatch.setattr(module, "_MAX_PRODUCTS", 50)
    assert joint_entropy(first, second) == pytest.approx(whole)


def test_large_catalogues_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ITEMS", 100)
    current = np.arange(1000) % 3 > 0
    chosen = sampled(current)
    assert len(set(chosen.tolist())) == 100
    assert current[chosen].all()
