"""Speed, memory and recall of one training, measured alike in every peer's own environment.

Needs nothing but numpy. A peer's script reads `Data`, trains as its users would, and lets a `Meter`
count its batches; the clocks stand still while the meter ranks the corpus.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 1024
DIM = 64
HIDDEN = (256, 128)
TEMPERATURE = 0.07
K = 50
_WARM_STEPS = 20
_IMPORTED = time.perf_counter()


class Data:
    """Training examples and features as numbers, all from one preparation.

    Attributes:
        directory: Directory of the files.
        train: [examples, 2] query and item of each training example.
        validation: [pairs, 2] query and item of each held-out pair.
        query: [queries, fields] single values of the queries, 0 where absent.
        item: [items, fields] single values of the items, 0 where absent.
        multi: [items, width] values of the items' feature of several values, filled up with 0.
        names: Names of the query's fields, the item's fields and the item's multi-valued feature.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("train", "validation", "query", "item", "multi"):
            setattr(self, name, np.load(directory / f"{name}.npy"))
        self.names: dict[str, list[str]] = json.loads((directory / "names.json").read_text())
        self.queries, self.items = len(self.query), len(self.item)

    train: Any
    validation: Any
    query: Any
    item: Any
    multi: Any

    def log_q(self) -> Any:
        """Returns [items] logarithms of the items' shares of the training examples."""
        counts = np.bincount(self.train[:, 1], minlength=self.items)
        return np.log(np.maximum(counts, 1) / len(self.train)).astype(np.float32)

    def another_item(self) -> Any:
        """Returns [examples] the item of the query's example before each one, or of its last."""
        order = np.argsort(self.train[:, 0], kind="stable")
        query, item = self.train[order].T
        is_first = np.append(True, np.diff(query) > 0)
        before = np.roll(item, 1)
        before[is_first] = item[np.append(is_first[1:], True)]
        found = np.empty_like(item)
        found[order] = before
        return found


class Meter:
    """Clock of a training's steps.

    Args:
        data: The data.
        steps: Number of steps after which training ends.
        every: Number of steps between two rankings of the corpus; 0 for none.
        target: Recall at which training ends.

    Attributes:
        vectors: Function that returns [queries, dim] and [items, dim] vectors; a peer sets it.
    """

    def __init__(self, data: Data, steps: int, every: int, target: float) -> None:
        self.data, self.limit, self.every, self.target = data, steps, every, target
        self.vectors: Callable[[], tuple[Any, Any]] | None = None
        self.steps = 0
        self.best = 0.0
        self.reached: tuple[float, float] | None = None
        self._paused = np.zeros(2)

    def over(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yields batches until training is done, and counts each when the next is asked for."""
        if self.is_done:
            return
        for batch in batches:
            self.begin()
            yield batch
            if self.step():
                return

    def begin(self) -> None:
        """Notes the time before the first step, and after the first steps, which are slower."""
        if self.steps == 0:
            self._first, self._ready = self._now(), time.perf_counter() - _IMPORTED
        if self.steps == min(_WARM_STEPS, self.limit // 2):
            self._started = self._now(), self.steps

    def step(self) -> bool:
        """Counts a step; returns whether training is done."""
        self.steps += 1
        if self.every and self.steps % self.every == 0:
            self._rank()
        if self.is_done:
            self._end = self._now()
            self._peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return self.is_done

    @property
    def is_done(self) -> bool:
        """Whether the steps are done, or the recall reached."""
        return self.steps >= self.limit or self.reached is not None

    def write(self, path: Path, **more: Any) -> None:
        """Writes what was measured as JSON."""
        started, first = self._started
        seconds = self._end - started
        examples = (self.steps - first) * BATCH
        found = {
            "examples a second": examples / seconds[0],
            "examples a CPU second": examples / seconds[1],
            "seconds to the first step": self._ready,
            "peak MiB": self._peak,
            "steps": self.steps,
            "recall": self.best,
            "seconds to the recall": None if self.reached is None else self.reached[0],
            "CPU seconds to the recall": None if self.reached is None else self.reached[1],
        }
        path.write_text(json.dumps({**found, **more}))

    def _rank(self) -> None:
        before = self._clocks()
        assert self.vectors is not None
        recall = self._recall(*self.vectors())
        self._paused += self._clocks() - before
        self.best = max(self.best, recall)
        spent = self._now() - self._first
        print(f"{self.steps} steps, {spent[1]:.1f} CPU s: recall@{K} {recall:.4f}", flush=True)
        if recall >= self.target and self.reached is None:
            self.reached = float(spent[0]), float(spent[1])

    def _recall(self, queries: Any, items: Any) -> float:
        """Computes the mean over queries of hits in the top K over held-out items."""
        held, train = self.data.validation, self.data.train
        chosen = np.unique(held[:, 0])
        place = np.full(self.data.queries, -1)
        place[chosen] = np.arange(len(chosen))
        scores = queries[chosen] @ items.T
        known = place[train[:, 0]] >= 0
        scores[place[train[known, 0]], train[known, 1]] = -np.inf
        top = np.argpartition(-scores, K, axis=1)[:, :K]
        wanted = np.zeros(scores.shape, bool)
        wanted[place[held[:, 0]], held[:, 1]] = True
        hits = np.take_along_axis(wanted, top, axis=1).sum(axis=1)
        return float((hits / wanted.sum(axis=1)).mean())

    def _now(self) -> Any:
        return self._clocks() - self._paused

    @staticmethod
    def _clocks() -> Any:
        return np.array([time.perf_counter(), time.process_time()])


def arguments() -> argparse.Namespace:
    """Reads the command line that the benchmark gives to each peer, and stays on one core."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--every", type=int, default=0)
    parser.add_argument("--target", type=float, default=1.0)
    parser.add_argument("--variant", default="")
    given = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return given
