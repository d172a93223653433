"""Learning rates are a function of the step alone, by hand arithmetic."""

import math

import pytest

from recsys.config.training import ConstantSchedule, CosineSchedule, InfiniteSchedule
from recsys.training.schedules import annealing_steps, learning_rate_factor


def factors(schedule, total, earlier=0):
    return [
        learning_rate_factor(schedule, step, total_steps=total, earlier_steps=earlier)
        for step in range(total)
    ]


def test_warm_up_rises_in_equal_steps_to_the_full_rate():
    assert factors(ConstantSchedule(warmup=4), 6) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert factors(ConstantSchedule(warmup=0.5), 4) == [0.5, 1, 1, 1]
    assert factors(ConstantSchedule(), 3) == [1, 1, 1]


def test_cosine_halves_in_the_middle_and_would_end_at_its_final_part():
    values = factors(CosineSchedule(warmup=2, final=0.2), 10)
    assert values[:3] == [0.5, 1, 1]
    assert values[6] == pytest.approx((1 + 0.2) / 2)
    assert values == [*values[:2], *sorted(values[2:], reverse=True)]
    assert learning_rate_factor(
        CosineSchedule(warmup=2, final=0.2), 10, total_steps=10
    ) == pytest.approx(0.2)


INFINITE = InfiniteSchedule(warmup=4, cooldown_steps=6, constant=0.4, anneal_fraction=0.25)


def test_infinite_warms_up_cools_down_stays_and_anneals():
    values = factors(INFINITE, 40)
    assert values[:4] == [0.25, 0.5, 0.75, 1]
    assert values[7] == pytest.approx((1 + 0.4) / 2)
    assert values[10:31] == pytest.approx([0.4] * 21)
    assert values[32:] == pytest.approx([0.4 * (1 - math.sqrt(n / 10)) for n in range(2, 10)])
    assert min(values) > 0


def test_infinite_continues_without_a_warm_up_where_others_begin_anew():
    assert factors(INFINITE, 20, earlier=40)[:16] == pytest.approx([0.4] * 16)
    whole = factors(INFINITE.model_copy(update={"anneal_fraction": 0.0}), 20)
    rest = factors(INFINITE.model_copy(update={"anneal_fraction": 0.0}), 12, earlier=8)
    assert whole[8:] == rest
    warm = ConstantSchedule(warmup=4)
    assert factors(warm, 6, earlier=40) == factors(warm, 6)


def test_annealing_that_began_early_is_as_long_as_the_planned_one():
    assert annealing_steps(INFINITE, 40) == 10
    assert annealing_steps(ConstantSchedule(), 40) == 0
    planned = factors(INFINITE, 40)
    early = [
        learning_rate_factor(INFINITE, step, total_steps=30, annealing=10) for step in range(30)
    ]
    assert early[20:] == pytest.approx(planned[30:])


def test_a_step_comes_before_annealing():
    schedule = INFINITE.model_copy(update={"anneal_fraction": 0.99})
    assert [annealing_steps(schedule, total) for total in (1, 2, 3)] == [0, 1, 2]
