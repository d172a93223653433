"""What the trainings of a study say: means over seeds, their intervals, and paired tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import stats

from feature_store.core.settings import Frozen
from recsys.evaluation.metrics import SLICES, Doubles
from recsys.evaluation.results import SHOWN
from recsys.evaluation.significance import Pairs, differences, holm

# Of the tables, in their order.
STUDY_METRICS = (*SHOWN, *(f"{name} recall@50" for name in ("tail", "cold", "torso", "head")))
_CONFIDENCE = 0.95
_BOOTSTRAP, _PERMUTATIONS = 1000, 10_000


class Cell(Frozen):
    """A metric of an arm.

    Attributes:
        seeds: Value of each.
        mean: Over seeds.
        low: Of the 95 % interval of the mean, by Student's t over seeds; None of one seed.
        high: The same.
        difference: To the baseline arm, of the means; None of the baseline itself.
        p: Of the paired test against it, by query, each query's values averaged over seeds.
        adjusted_p: By Holm's method over the other arms.
    """

    seeds: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    difference: float | None = None
    p: float | None = None
    adjusted_p: float | None = None


class ArmResult(Frozen):
    """An arm under a label fraction.

    Attributes:
        arm: Its name.
        label_fraction: Of the training events.
        values: The settings that validation chose.
        validation: The metric that chose them.
        seconds: Of a training, the mean over seeds.
        pairs: Held-out pairs of each metric.
        cells: By metric of STUDY_METRICS; those without pairs are missing.
    """

    arm: str
    label_fraction: float
    values: dict[str, object]
    validation: float
    seconds: float
    pairs: dict[str, int]
    cells: dict[str, Cell]


def analyse(
    tests: Mapping[str, Sequence[Path]], baseline: str
) -> tuple[dict[str, dict[str, Cell]], dict[str, int]]:
    """The cells of each arm under one label fraction, and the pairs of each metric.

    Args:
        tests: By arm, `per_query.parquet` of each seed, all of the same queries.
        baseline: The arm that the others are tested against.
    """
    measured = {arm: [_by_query(pq.read_table(path)) for path in ps] for arm, ps in tests.items()}
    weights = measured[baseline][0].weights
    pairs = {name: int(measured[baseline][0].pairs[name]) for name in STUDY_METRICS}
    cells: dict[str, dict[str, Cell]] = {arm: {} for arm in tests}
    others = [arm for arm in tests if arm != baseline]
    for name in STUDY_METRICS:
        weight = weights[name]
        if not weight.sum():
            continue
        mean = {
            arm: np.mean([seed.values[name] for seed in seeds], axis=0)
            for arm, seeds in measured.items()
        }
        tested = differences(
            [Pairs(mean[baseline], mean[arm], weight) for arm in others], _BOOTSTRAP, _PERMUTATIONS
        )
        adjusted = holm([each.p for each in tested])
        for arm, seeds in measured.items():
            cells[arm][name] = _cell([s.values[name].sum() / weight.sum() for s in seeds])
        for arm, found, p in zip(others, tested, adjusted, strict=True):
            update = {"difference": found.difference, "p": found.p, "adjusted_p": p}
            cells[arm][name] = cells[arm][name].model_copy(update=update)
    return cells, pairs


class _ByQuery:
    """Numerators and denominators of the metrics, by query.

    Attributes:
        values: By metric, [queries].
        weights: By metric, [queries].
        pairs: By metric, held-out pairs.
    """

    def __init__(self) -> None:
        self.values: dict[str, Doubles] = {}
        self.weights: dict[str, Doubles] = {}
        self.pairs: dict[str, int] = {}


def _by_query(table: pa.Table) -> _ByQuery:
    table = table.sort_by("query_id")
    queries = len(table)
    lengths = pc.list_value_length(table["held_out"]).to_numpy()
    row = np.repeat(np.arange(queries), lengths)
    ranks = pc.fill_null(pc.list_flatten(table["model.ranks"]), np.iinfo(np.int32).max).to_numpy()
    slices = pc.list_flatten(table["held_out_slice"])
    found = _ByQuery()
    for name in SHOWN:
        found.values[name] = np.asarray(table[f"model.{name}"].to_numpy(), np.float64)
        found.weights[name] = np.ones(queries)
        found.pairs[name] = len(row)
    for name in SLICES:
        members = np.asarray(pc.equal(slices, name).to_numpy(), bool)
        key = f"{name} recall@50"
        found.values[key] = _sums(row, members & (ranks < 50), queries)
        found.weights[key] = _sums(row, members, queries)
        found.pairs[key] = int(members.sum())
    return found


def _sums(row: np.ndarray, kept: np.ndarray, queries: int) -> Doubles:
    return np.bincount(row[kept], minlength=queries).astype(np.float64)


def _cell(values: Sequence[float]) -> Cell:
    seeds = tuple(float(value) for value in values)
    mean = float(np.mean(seeds))
    if len(seeds) == 1:
        return Cell(seeds=seeds, mean=mean, low=None, high=None)
    error = float(stats.sem(seeds))
    half = error * float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(seeds) - 1))
    return Cell(seeds=seeds, mean=mean, low=mean - half, high=mean + half)
