"""The time that a training still takes: until patience may end it, and until its last step."""

import time
from collections import deque
from collections.abc import Callable

from recsys.checkpoint.manifest import Progress
from recsys.evaluation.selection import Score

# Latest points that the speed is taken from: some minutes, with the validations among them.
_POINTS = 100
_MINUTE, _HOUR = 60.0, 3600.0


class Estimate:
    """Estimate of what is left, from the speed so far and the validations.

    Args:
        progress: Progress that the training begins with.
        total: Number of steps, if patience does not end before.
        every: Number of steps between two validations.
        patience: Validations without improvement that end the training, or begin to anneal.
        annealing: Number of steps of annealing; 0: the schedule has none.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self,
        progress: Progress,
        total: int,
        *,
        every: int,
        patience: int,
        annealing: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._total, self._every = total, every
        self._patience, self._annealing = patience, annealing
        self._clock = clock
        self._points: deque[tuple[float, int]] = deque(maxlen=_POINTS)
        self._is_selected = True

    def validated(self, step: int, score: Score | None) -> None:
        """Takes the score of a validation; None: nothing is held out."""
        self._is_selected = score is not None
        self._progress = self._progress.at_step(step).after_validation(score)
        is_stale = self._progress.stale >= self._patience
        if self._annealing and is_stale and self._progress.annealing_from is None:
            self._progress = self._progress.annealing_now()

    def reached(self, step: int) -> None:
        """Takes the time of a step."""
        self._progress = self._progress.at_step(step)
        self._points.append((self._clock(), step))

    @property
    def first_end(self) -> int:
        """Step at which the training ends if no further validation is better."""
        now, total = self._progress, self.last_end
        if now.annealing_from is not None or not self._is_selected:
            return total
        done = now.step // self._every
        left = max(0, self._patience - now.stale)
        return min(total, (done + left) * self._every + self._annealing)

    @property
    def last_end(self) -> int:
        """Step at which the training ends if validations go on to be better."""
        begun = self._progress.annealing_from
        return self._total if begun is None else begun + self._annealing

    def text(self) -> str:
        """Returns what is left, such as `2 to 12 min left`; nothing where no speed is known."""
        (began, first), (now, last) = (
            (self._points[0], self._points[-1]) if self._points else ((0.0, 0), (0.0, 0))
        )
        if last <= first or now <= began:
            return ""
        seconds = (now - began) / (last - first)
        least, most = (
            _duration(max(0, end - last) * seconds) for end in (self.first_end, self.last_end)
        )
        if least == most:
            return f"{most} left"
        number, _, unit = least.partition(" ")
        return f"{number if most.endswith(f' {unit}') else least} to {most} left"


def _duration(seconds: float) -> str:
    """Returns a duration in the unit that suits it."""
    if seconds < 1.5 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
