"""Learning-rate schedules: the factor of both learning rates, as a function of the step alone.

So a resumed training has the factors of an unbroken one. The infinite schedule counts steps over
all trainings of a model that goes on from the one before:

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
    """What the learning rates of a step are multiplied with, from above 0 to 1.

    Args:
        schedule: Its kind and sizes.
        step: Of this training, from 0.
        total_steps: Of this training.
        earlier_steps: Of the trainings that this one goes on from; only the infinite schedule
            counts them, the others begin anew.
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
    """How many steps the factor rises for."""
    is_fraction = schedule.warmup < 1
    return round(schedule.warmup * total_steps if is_fraction else schedule.warmup)


def _infinite(schedule: InfiniteSchedule, step: int, total_steps: int, earlier_steps: int) -> float:
    """Warm-up and cooldown by Ibrahim et al. 2024, annealing by Hägele et al. 2024 (1 - sqrt)."""
    seen = earlier_steps + step
    if seen < schedule.warmup:
        factor = (seen + 1) / schedule.warmup
    else:
        done = (seen - schedule.warmup) / schedule.cooldown_steps
        factor = _cosine(schedule.constant, min(1.0, done))
    annealed = round(schedule.anneal_fraction * total_steps)
    into = step - (total_steps - annealed)
    return factor * (1 - math.sqrt(into / annealed)) if into > 0 else factor


def _cosine(final: float, done: float) -> float:
    """From 1 to `final`, while `done` goes from 0 to 1."""
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
