"""Mutual information against tables by hand and naive loops."""

from collections import Counter
from itertools import product
from math import log
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.core.columns import Column, Dense, Jagged, write_columns
from pipelines.prepared.manifest import MutualInformation
from pipelines.statistics import entropies as entropies_module
from pipelines.statistics import mutual_information as module
from pipelines.statistics.entropies import discrete, entropies, entropies_in_chunks
from pipelines.statistics.mutual_information import (
    estimator,
    mutual_information,
    pair_information,
    pair_tasks,
    save_items,
)


def jagged(bags: list[list[int]]) -> Jagged:
    values = np.array([value for bag in bags for value in bag], np.int32)
    return Jagged.from_lengths(values, np.array([len(bag) for bag in bags], np.int64))


def numbers(values: list[float | None]) -> Dense:
    present = np.array([value is not None for value in values])
    matrix = np.array([[0.0 if value is None else value] for value in values], np.float32)
    return Dense(matrix, present)


def information(
    directory: Path,
    columns: dict[str, Column],
    current: list[int] | None = None,
    events: list[int] | None = None,
) -> MutualInformation:
    rows = len(next(iter(columns.values())))
    mask = np.isin(np.arange(rows), current) if current is not None else np.ones(rows, bool)
    ids = pa.array([f"item {i}" for i in range(rows)])
    train = np.array(events) if events is not None else np.ones(rows, np.int64)
    save_items(directory / "items.npy", ids, mask, train)
    write_columns(directory / "features.arrow", columns)
    tasks = pair_tasks(directory / "features.arrow", directory / "items.npy", tuple(columns))
    return mutual_information(tuple(columns), [pair_information(task) for task in tasks])


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
    np.testing.assert_allclose(
        found.items.raw, [[of_genre, between], [between, of_colour]], atol=1e-9
    )
    np.testing.assert_allclose(
        found.items.normalised, [[1, between / of_colour], [between / of_colour, 1]], atol=1e-9
    )


def test_two_multi_valued_features_by_hand(tmp_path: Path) -> None:
    # Item 0 adds 1/(2 * 2) to each of its four pairs, item 1 adds 1 to its only pair.
    first, second = jagged([[1, 2], [1]]), jagged([[1, 2], [2]])
    found = information(tmp_path, {"a": first, "b": second})
    joint = entropy(1 / 8, 1 / 8 + 1 / 2, 1 / 8, 1 / 8)
    assert found.items.raw[0][1] == pytest.approx(2 * entropy(3 / 4, 1 / 4) - joint)


def test_an_id_tells_all_of_a_single_valued_feature(tmp_path: Path) -> None:
    group = [1, 1, 2, 2, 2, 3]
    ids = jagged([[i] for i in range(6)])
    constant = jagged([[4]] * 6)
    columns = {"id": ids, "group": jagged([[g] for g in group]), "constant": constant}
    found = information(tmp_path, columns)
    of_group = entropy(2 / 6, 3 / 6, 1 / 6)
    raw, normalised = found.items.raw, found.items.normalised
    assert raw[0][0] == pytest.approx(log(6))
    assert raw[0][1] == pytest.approx(of_group)
    assert normalised[0][1] == pytest.approx(1)
    assert raw[2] == normalised[2] == found.items.corrected[2] == (0.0, 0.0, 0.0)
    assert found.items.corrected[0] == (0.0, 0.0, 0.0)  # Unique ids tell as much about any group.


def test_ids_of_an_earlier_run_do_not_count(tmp_path: Path) -> None:
    column, same = jagged([[1], [2], [], []]), jagged([[3], [4], [], []])
    found = information(tmp_path, {"a": column, "b": same}, current=[0, 1])
    np.testing.assert_allclose(found.items.raw, np.full((2, 2), log(2)))


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
    raw, corrected = np.array(found.items.raw), np.array(found.items.corrected)
    assert raw[0, 0] == pytest.approx(log(16), abs=1e-3)
    assert raw[0, 1] == pytest.approx(log(16), abs=1e-2)
    assert 0.05 < raw[0, 2] < 0.15
    assert corrected[0, 2] < 0.02
    assert corrected[0, 1] == pytest.approx(raw[0, 1], abs=0.02)
    assert 2.0 < raw[3, 3] <= log(16)
    assert raw[3, 4] == pytest.approx(raw[3, 3])


bags = st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=8, max_size=8)


def by_loops(columns: list[list[list[int]]], events: list[int]) -> np.ndarray:
    """Computes mutual information by loops over every pair of values of every item."""
    size = len(columns)
    joints: dict[tuple[int, int], float] = {}
    for i, j in product(range(size), repeat=2):
        mass: Counter[tuple[int, int]] = Counter()
        for first, second, count in zip(columns[i], columns[j], events, strict=True):
            first, second = first or [-1], second or [-1]
            pairs = list(product(first, second)) if i != j else [(v, v) for v in first]
            for pair in pairs:
                mass[pair] += count / len(pairs)
        joints[i, j] = entropy(*(m / sum(events) for m in mass.values() if m))
    own = [joints[i, i] for i in range(size)]
    return np.array([[own[i] + own[j] - joints[i, j] for j in range(size)] for i in range(size)])


@given(st.tuples(bags, bags, bags), st.lists(st.integers(0, 5), min_size=8, max_size=8))
@settings(max_examples=60, deadline=None)
def test_equals_loops_and_is_symmetric(
    tmp_path_factory, columns: tuple[list[list[int]], ...], events: list[int]
):
    directory = tmp_path_factory.mktemp("mi")
    by_name = dict(zip("abc", map(jagged, columns), strict=True))
    found = information(directory, by_name, events=events)
    weightings = [(found.items, [1] * 8)] + [(found.interactions, events)] * any(events)
    for matrices, weights in weightings:
        raw, normalised = np.array(matrices.raw), np.array(matrices.normalised)
        np.testing.assert_allclose(raw, by_loops(list(columns), weights), atol=2e-9)
        assert (raw == raw.T).all()
        assert (raw >= 0).all()
        assert (raw <= np.minimum(np.diag(raw)[:, None], np.diag(raw)[None, :])).all()
        assert ((normalised >= 0) & (normalised <= 1)).all()
        assert (np.array(matrices.corrected) >= 0).all()


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    bags = [
        [random.integers(0, 9, random.integers(0, 4)).tolist() for _ in range(50)] for _ in "ab"
    ]
    columns = dict(zip("ab", map(jagged, bags), strict=True))
    ids = pa.array([f"i{i}" for i in range(50)])
    events, order = random.integers(0, 9, 50), random.permutation(50)

    def found(name: str, rows: np.ndarray) -> MutualInformation:
        save_items(tmp_path / f"{name}.npy", ids.take(pa.array(rows)), rows < 45, events[rows])
        path = tmp_path / f"{name}.arrow"
        write_columns(path, {feature: column.take(rows) for feature, column in columns.items()})
        tasks = pair_tasks(path, tmp_path / f"{name}.npy", ("a", "b"))
        return mutual_information(("a", "b"), [pair_information(task) for task in tasks])

    assert found("one", np.arange(50)) == found("other", order)


def correlated(
    share: float, values: int, items: int, seed: int = 0
) -> tuple[dict[str, Column], float]:
    """Draws two features that agree in a share of the items, and returns their true information."""
    random = np.random.default_rng(seed)
    first = random.integers(0, values, items)
    second = np.where(random.random(items) < share, first, random.integers(0, values, items))
    ones = np.ones(items, np.int64)
    columns = {"a": Jagged.from_lengths(first, ones), "b": Jagged.from_lengths(second, ones)}
    equal, other = share + (1 - share) / values, (1 - share) / values
    conditional = entropy(equal) + (values - 1) * (entropy(other) if other else 0.0)
    return columns, log(values) - conditional


@pytest.mark.parametrize("values", [20, 300, 2_000])
@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_corrected_is_near_the_truth_where_raw_is_not(values: int, share: float) -> None:
    columns, truth = correlated(share, values, 10_000)
    found = estimator(columns, np.arange(10_000), "a", "b")(np.ones(10_000))
    assert found.corrected == pytest.approx(truth, rel=0.1, abs=0.03)
    assert abs(found.corrected - truth) < abs(found.raw - truth) + 0.03
    if (values, share) == (2_000, 0.0):
        assert found.raw > 5  # The features are independent all the same.


@pytest.mark.parametrize("skew", [0.3, 1.0])
def test_independent_features_have_nothing_in_common_by_interactions(skew: float) -> None:
    random = np.random.default_rng(1)
    events = np.floor(20 * random.pareto(1 / skew, 20_000))
    lengths = random.integers(1, 6, 20_000)
    words = Jagged.from_lengths(random.integers(0, 3_000, lengths.sum()), lengths)
    brand = Jagged.from_lengths(random.integers(0, 1_000, 20_000), np.ones(20_000, np.int64))
    found = estimator({"w": words, "b": brand}, np.arange(20_000), "w", "b")(events)
    assert found.raw > 1
    assert found.corrected < 0.02 * found.raw


def test_one_repetition_of_a_nearly_unique_value_tells_little() -> None:
    ids = np.arange(1_000)
    ids[1] = 0  # Items 0 and 1 share a value, and their group.
    group = np.arange(1_000) // 2 % 10
    ones = np.ones(1_000, np.int64)
    columns = {"id": Jagged.from_lengths(ids, ones), "group": Jagged.from_lengths(group, ones)}
    found = estimator(columns, np.arange(1_000), "id", "group")(np.ones(1_000))
    assert found.raw == pytest.approx(log(10), abs=1e-3)
    assert found.corrected < 0.25 * log(10)


def test_no_training_events(tmp_path: Path) -> None:
    found = information(tmp_path, {"a": jagged([[1], [2]])}, events=[0, 0])
    assert found.interactions.raw == ((0.0,),)
    assert found.items.raw[0][0] == pytest.approx(log(2))


def random_values(features: int) -> list[entropies_module.Values]:
    random = np.random.default_rng(0)
    return [
        discrete(
            jagged([random.integers(0, 40, random.integers(0, 6)).tolist() for _ in range(200)]),
            np.arange(200),
        )
        for _ in range(features)
    ]


def test_tables_in_blocks_and_in_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = random_values(2)
    rows, mass = np.random.default_rng(1).permutation(200), np.arange(200.0)
    whole = entropies(first.membership(rows), second.membership(rows), mass)
    monkeypatch.setattr(entropies_module, "_MAX_PRODUCTS", 50)
    monkeypatch.setattr(entropies_module, "_CHUNK", 7)
    in_blocks = entropies(first.membership(rows), second.membership(rows), mass)
    in_chunks = entropies_in_chunks(first, second, rows, rows, mass)
    for found in (in_blocks, in_chunks):
        assert vars(found) == pytest.approx(vars(whole))


def test_large_catalogues_are_sampled_by_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = pa.array([f"i{i}" for i in range(1000)])
    save_items(tmp_path / "some.npy", ids[:900], np.arange(900) % 3 > 0, np.arange(900))
    save_items(tmp_path / "all.npy", ids, np.arange(1000) % 3 > 0, np.arange(1000))
    some, everything = np.load(tmp_path / "some.npy"), np.load(tmp_path / "all.npy")
    assert sorted(everything[0]) == [i for i in range(1000) if i % 3]
    assert (everything[0] == everything[1]).all()
    kept = everything[0][everything[0] < 900]
    assert (kept == some[0]).all()  # Most of a sample stays when items are added.


def test_small_tables_are_exact_where_others_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, _ = correlated(0.5, 30, 5_000)
    rows, ones = np.random.default_rng(0).permutation(5_000), np.ones(5_000)
    exact = estimator(columns, rows, "a", "b")(ones)
    monkeypatch.setattr(module, "MAX_ITEMS", 500)
    chunked = estimator(columns, rows, "a", "b")(ones)
    assert vars(chunked) == pytest.approx(vars(exact))
    monkeypatch.setattr(module, "_EXACT_CELLS", 10)
    sample = estimator(columns, rows, "a", "b")(ones)
    assert sample.raw > 1.2 * exact.raw
    assert sample.corrected == pytest.approx(exact.corrected, rel=0.15)
