"""Ranks of numbers: the fit does not depend on how rows are split, and order is kept."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.encoding.fitting import fit_scaling, partial_counts
from feature_store.encoding.scaling import (
    NumberCounts,
    Quantiles,
    rounded_to_zero,
    scaling_from_json,
    scaling_to_json,
)
from feature_store.kinds import NumericFeature

PRICE = NumericFeature(name="price", dim=4, scaling="quantile")
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MANY_FLOATS = st.lists(FLOATS | st.sampled_from([0.0, -0.0, 1.0, 5.0]), min_size=1, max_size=200)


def fitted(values, limit=65_536) -> Quantiles:
    numbers = np.array(values, np.float64)
    counted = NumberCounts.of(numbers, np.ones(len(numbers), np.int64), limit=limit)
    return Quantiles.from_counts(counted)


def scaled(quantiles, values):
    return quantiles.scale(np.array(values, np.float64)[:, None])[:, 0]


def levels_by_hand(values):
    """Returns twice the fraction of smaller numbers, equal ones counted half, less 1."""
    values = np.asarray(values)
    below = (values[None, :] < values[:, None]).mean(axis=1)
    return 2 * (below + (values[None, :] == values[:, None]).mean(axis=1) / 2) - 1


def test_ranks_by_hand() -> None:
    found = scaled(fitted([10, 20, 20, 40]), [10, 20, 30, 40, -5, 1e9])
    assert found == pytest.approx([-0.75, 0, 0.375, 0.75, -0.75, 0.75])


def test_constants_and_nothing_are_in_the_middle() -> None:
    assert scaled(fitted([7.0] * 9), [7.0, 8.0]).tolist() == [0, 0]
    nothing = pa.array([None, float("nan"), float("inf")], pa.float64())
    learnt = fit_scaling(PRICE, [partial_counts(PRICE, nothing)])
    assert scaled(learnt, [1.0]).tolist() == [0]


@settings(max_examples=200, deadline=None)
@given(MANY_FLOATS, MANY_FLOATS, st.sampled_from([4, 30, 65_536]))
def test_order_stays_and_nothing_is_out_of_bounds(values, others, limit) -> None:
    found = scaled(fitted(values, limit), sorted(others))
    assert (np.diff(found) >= 0).all()
    assert (np.abs(found) <= 1).all()


@settings(max_examples=200, deadline=None)
@given(MANY_FLOATS, st.lists(st.integers(0, 200), max_size=5), st.sampled_from([4, 30, 65_536]))
def test_the_pieces_do_not_matter(values, cuts, limit) -> None:
    def counted(numbers):
        return NumberCounts.of(numbers, np.ones(len(numbers), np.int64), limit=limit)

    numbers = np.array(values)
    bounds = [0, *sorted(min(cut, len(numbers)) for cut in cuts), len(numbers)]
    pieces = [counted(numbers[start:end]) for start, end in pairwise(bounds)]
    whole = counted(numbers)
    for parts in (pieces, pieces[::-1]):
        merged = NumberCounts.merged(parts, limit)
        assert merged.dropped_bits == whole.dropped_bits
        assert merged.numbers.tolist() == whole.numbers.tolist()
        assert merged.counts.tolist() == whole.counts.tolist()
    assert len(whole.numbers) <= limit
    assert whole.counts.sum() == len(numbers)


@pytest.mark.parametrize("shape", ["uniform", "power", "tied", "signed", "years"])
def test_ranks_are_right_within_the_promised_error(shape: str) -> None:
    random = np.random.default_rng(1)
    values = {
        "uniform": random.uniform(size=4000),
        "power": random.pareto(0.5, 4000),
        # Two thirds of the numbers are 0, 4.99 or 5; the others lie between and around them.
        "tied": np.where(
            random.uniform(size=4000) < 0.66,
            random.choice([0.0, 4.99, 5.0], 4000),
            random.uniform(0, 9, 4000),
        ),
        "signed": random.standard_cauchy(4000),
        "years": random.integers(1950, 2020, 4000).astype(float),
    }[shape]
    quantiles = fitted(values)
    assert len(quantiles.numbers) <= 3 * 128 + 1
    error = np.abs(scaled(quantiles, values) - levels_by_hand(values)) / 2
    assert error.max() <= 2 / 128
    assert scaled(quantiles, values).mean() == pytest.approx(0, abs=0.01)


def test_a_bounded_count_costs_little() -> None:
    random = np.random.default_rng(1)
    values = np.where(random.uniform(size=20_000) < 0.3, 4.99, random.lognormal(2, 2, 20_000))
    quantiles = fitted(values, limit=1_000)
    assert quantiles.dropped_bits > 0
    exact = fitted(values)
    known = np.sort(values)
    # Only numbers that rounding merges with the tied value move to its rank.
    error = np.abs(scaled(quantiles, known) - scaled(exact, known))
    assert (error > 0.02).mean() < 0.005
    assert scaled(quantiles, [4.99])[0] == pytest.approx(
        levels_by_hand(known)[known == 4.99][0], abs=0.01
    )


def test_rounding_keeps_the_order_and_the_sign() -> None:
    numbers = np.array([-1e308, -2.3, -0.0, 0.0, 1e-300, 2.2, 2.3, 1e308])
    for bits in (0, 20, 40, 48):
        rounded = rounded_to_zero(numbers, bits)
        assert (np.diff(rounded) >= 0).all()
        assert (np.abs(rounded) <= np.abs(numbers)).all()
        assert not np.signbit(rounded[2])


@settings(max_examples=50, deadline=None)
@given(MANY_FLOATS)
def test_a_saved_scaling_is_the_same_to_the_bit(values) -> None:
    learnt = fitted(values)
    again = scaling_from_json(scaling_to_json(learnt))
    assert scaled(again, values).tolist() == scaled(learnt, values).tolist()
