"""Metrics that a training writes: lines of losses, speed and validations in `metrics.jsonl`."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist

from feature_store.core.documents import DocumentError, read_lines
from feature_store.core.errors import UserError
from feature_store.core.files import write_text
from recsys.data.loader import TimedIterator
from recsys.data.plan import TrainingPlan
from recsys.training.numerics import not_finite
from recsys.training.objective import Losses


class MetricsFile:
    """File of JSON lines, `{"step": ..., <metric>: ...}`, which rank 0 writes.

    Args:
        path: Path of the file; a resumed training appends to it.
        step: Number of steps done; later lines are cut off, for these steps will be done again.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path if dist.get_rank() == 0 else None
        if self._path is not None:
            lines = _read(path) if path.exists() else []
            kept = [json.dumps(line) for line in lines if (line["step"] or 0) <= step]
            write_text(path, "".join(f"{line}\n" for line in kept))

    def append(self, step: int, values: Mapping[str, float | None]) -> None:
        """Appends a line; ranks other than 0 do nothing."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")


def _read(path: Path) -> list[dict[str, float | None]]:
    try:
        return read_lines(path, "step")
    except DocumentError as error:  # Without its lines there would be no best step.
        raise UserError(f"{path} is damaged; remove {path.parent} and train again.") from error


class TrainingLog:
    """Log of the losses of the steps since the last line, of their speed and of waiting.

    Args:
        metrics: File to write to.
        batches: Batches that training reads, which measure the waiting for them.
        plan: Order of examples, which tells the number of examples in some steps.
        device: Device of this rank.
    """

    def __init__(
        self,
        metrics: MetricsFile,
        batches: TimedIterator,
        plan: TrainingPlan,
        device: torch.device,
    ) -> None:
        self._metrics = metrics
        self._batches = batches
        self._plan = plan
        self._device = device
        self._losses: list[Losses] = []
        self._started = time.perf_counter()

    def add(self, losses: Losses) -> None:
        """Takes the losses of a step; they stay on the device, so that nothing waits for it."""
        self._losses.append(losses)

    def write(self, step: int) -> None:
        """Writes a line of means over the steps since the last one and over ranks.

        A collective call.

        Args:
            step: Number of steps done.

        Raises:
            UserError: A mean is not finite.
        """
        names = list(self._losses[0])
        means = torch.stack([torch.stack([p[name] for p in self._losses]).mean() for name in names])
        dist.all_reduce(means)
        means /= dist.get_world_size()
        first, seconds = step - len(self._losses), time.perf_counter() - self._started
        self._losses.clear()
        if not bool(means.isfinite().all()):
            raise not_finite(step)
        # The longest waiting counts, as the other ranks waited for that one.
        waited = torch.tensor(self._batches.seconds / seconds, device=self._device)
        dist.all_reduce(waited, op=dist.ReduceOp.MAX)
        line = {
            "examples_per_second": self._plan.examples(first, step) / seconds,
            "loader_wait": float(waited),
            **dict(zip(names, means.tolist(), strict=True)),
        }
        self.restart_clock()
        self._metrics.append(step, line)

    def restart_clock(self) -> None:
        """Starts to measure speed and waiting anew."""
        self._started = time.perf_counter()
        self._batches.seconds = 0.0
