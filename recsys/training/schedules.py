"""Learning-rate schedules: the factor of both learning rates, as a function of the step alone.

So a resumed training has the factors of an uninterrupted one. The infinite schedule counts steps
over all trainings that continue each other's model:

    steps of the first training          of the next ones
    warm-up    up to 1, straight
    cooldown   down to `constant`
    constant   the same                  the same
    annealing  down to 0, at its end     down to 0, at the end of each
"""

import math

from recsys.config.training import ConstantSchedule, CosineSchedule, InfiniteSchedule, Schedule


def learning_rate_factor(
    schedule: Schedule, step: int, *, total_steps: int, earlier_steps: int = 0
) -> float:
    """Returns the factor of the learning rates in a step, above 0 and at most 1.

    Args:
        schedule: Kind and sizes of the schedule.
        step: Number of steps done before, in this training.
        total_steps: Number of steps of this training.
        earlier_steps: Number of steps of the trainings that this one continues; only the infinite
            schedule counts them, the others begin anew.
    """
    if isinstance(schedule, InfiniteSchedule):
        return _infinite(schedule, step, total_steps, earlier_steps)
    warmup = warmup_steps(schedule, total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if isinstance(schedule, CosineSchedule):
        return _cosine(schedule.final, (step - warmup) / max(1, total_steps - warmup))
    return 1.0


def warmup_steps(schedule: ConstantSchedule | CosineSchedule, total_steps: int) -> int:
    """Returns the number of steps in which the factor rises."""
    is_fraction = schedule.warmup < 1
    return round(schedule.warmup * total_steps if is_fraction else schedule.warmup)


def _infinite(schedule: InfiniteSchedule, step: int, total_steps: int, earlier_steps: int) -> float:
    """Warms up and cools down by Ibrahim et al. 2024, anneals by Hägele et al. 2024 (1 - sqrt)."""
    seen = earlier_steps + step
    if seen < schedule.warmup:
        factor = (seen + 1) / schedule.warmup
    else:
        fraction = (seen - schedule.warmup) / schedule.cooldown_steps
        factor = _cosine(schedule.constant, min(1.0, fraction))
    annealed = round(schedule.anneal_fraction * total_steps)
    into = step - (total_steps - annealed)
    return factor * (1 - math.sqrt(into / annealed)) if into > 0 else factor


def _cosine(final: float, fraction: float) -> float:
    """Returns half a cosine from 1 down to `final`, at a fraction from 0 to 1 of its length."""
    return final + (1 - final) * (1 + math.cos(math.pi * fraction)) / 2
