"""Learning-rate schedules: the factor of both learning rates, as a function of the step alone.

So a resumed training has the factors of an uninterrupted one. The infinite schedule counts steps
over all trainings that continue each other's model:

    steps of the first training          of the next ones
    warm-up    up to 1, straight
    cooldown   down to `constant`
    constant   the same                  the same
    annealing  down to 0, at its end     down to 0, at the end of each

The steps of annealing make the model that is released. They are no steps of the next training,
which goes on from the checkpoint before them (Singh et al., Beyond Cosine Decay, 2025).
"""

import math

from recsys.config.training import ConstantSchedule, CosineSchedule, InfiniteSchedule, Schedule


def learning_rate_factor(
    schedule: Schedule,
    step: int,
    *,
    total_steps: int,
    earlier_steps: int = 0,
    annealing: int | None = None,
) -> float:
    """Returns the factor of the learning rates in a step, above 0 and at most 1.

    Args:
        schedule: Kind and sizes of the schedule.
        step: Number of steps done before, in this training.
        total_steps: Number of steps of this training.
        earlier_steps: Number of steps of the trainings that this one continues; only the infinite
            schedule counts them, the others begin anew.
        annealing: Number of steps of annealing at the end; None: those of `annealing_steps`.
    """
    if isinstance(schedule, InfiniteSchedule):
        if annealing is None:
            annealing = annealing_steps(schedule, total_steps)
        return _infinite(schedule, step, total_steps - annealing, annealing, earlier_steps)
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


def annealing_steps(schedule: Schedule, total_steps: int) -> int:
    """Returns the number of steps of annealing at the end of a training; 0 of other schedules.

    At least one step comes before them, so that there is a checkpoint to go on from.

    Args:
        schedule: Kind and sizes of the schedule.
        total_steps: Number of steps of the training.
    """
    if not isinstance(schedule, InfiniteSchedule):
        return 0
    return min(round(schedule.anneal_fraction * total_steps), total_steps - 1)


def _infinite(
    schedule: InfiniteSchedule, step: int, annealing_from: int, annealing: int, earlier_steps: int
) -> float:
    """Warms up and cools down by Ibrahim et al. 2024, anneals by Hägele et al. 2024 (1 - sqrt)."""
    seen = earlier_steps + step
    if seen < schedule.warmup:
        factor = (seen + 1) / schedule.warmup
    else:
        fraction = (seen - schedule.warmup) / schedule.cooldown_steps
        factor = _cosine(schedule.constant, min(1.0, fraction))
    into = step - annealing_from
    return factor * (1 - math.sqrt(into / annealing)) if into > 0 else factor


def _cosine(final: float, fraction: float) -> float:
    """Returns half a cosine from 1 down to `final`, at a fraction from 0 to 1 of its length."""
    return final + (1 - final) * (1 + math.cos(math.pi * fraction)) / 2
