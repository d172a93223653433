"""Analysis of a study: means over seeds, their intervals, and paired tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import stats

from feature_store.core.documents import read_record
from feature_store.core.settings import Frozen
from pipelines.statistics.slices import SliceBounds
from recsys.evaluation.metrics import SLICES, Doubles
from recsys.evaluation.results import METRICS_JSON, SHOWN, TOWERS_CURVE, EvaluationResult
from recsys.evaluation.significance import Pairs, differences, holm
from recsys.fusion.at_loss import tail_at_loss

# Metrics of the tables, in their order.
_BY_QUERY = (*SHOWN, *(f"{name} recall@50" for name in ("tail", "cold", "torso", "head")))
# Recall@50 of the tail along the dial, by the curve of an evaluation that it is read from.
AT_LOSS = {
    "tail recall@50 at 1 % loss": "test",
    "the same of the towers alone": TOWERS_CURVE,
}
STUDY_METRICS = (*_BY_QUERY, *AT_LOSS)
_CONFIDENCE = 0.95
_BOOTSTRAP, _PERMUTATIONS = 1000, 10_000


class Cell(Frozen):
    """Values of a metric of an arm.

    Attributes:
        seeds: Value of each seed.
        mean: Mean over seeds.
        low: Lower end of the mean's 95 % interval, by Student's t over seeds; None for one seed.
        high: Upper end of the interval.
        difference: Difference of the means to the baseline arm's; None for the baseline itself.
        p: P-value of the paired test against the baseline, queries averaged over seeds.
        adjusted_p: P-value adjusted by Holm's method over the other arms.
    """

    seeds: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    difference: float | None = None
    p: float | None = None
    adjusted_p: float | None = None


class ArmResult(Frozen):
    """Result of an arm under a label fraction.

    Attributes:
        arm: Name of the arm.
        label_fraction: Share of the training events that is used.
        values: Settings chosen on validation.
        validation: Validation metric of these settings.
        seconds: Mean duration of a training over seeds.
        pairs: Number of held-out pairs of each metric.
        cells: Values by metric of STUDY_METRICS; metrics without pairs are missing.
        slice_bounds: Bounds of the slices; None of an earlier version's study.
    """

    arm: str
    label_fraction: float
    values: dict[str, object]
    validation: float
    seconds: float
    pairs: dict[str, int]
    cells: dict[str, Cell]
    slice_bounds: SliceBounds | None = None


def analyse(
    tests: Mapping[str, Sequence[Path]], baseline: str
) -> tuple[dict[str, dict[str, Cell]], dict[str, int]]:
    """Returns the cells of each arm under one label fraction, and the pairs of each metric.

    Args:
        tests: Files `per_query.parquet` of each seed, by arm, all of the same queries.
        baseline: Arm that the others are tested against.
    """
    measured = {arm: [_by_query(pq.read_table(path)) for path in ps] for arm, ps in tests.items()}
    weights = measured[baseline][0].weights
    pairs = {name: int(measured[baseline][0].pairs[name]) for name in _BY_QUERY}
    cells: dict[str, dict[str, Cell]] = {arm: {} for arm in tests}
    others = [arm for arm in tests if arm != baseline]
    for name in _BY_QUERY:
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
        for arm, difference, p in zip(others, tested, adjusted, strict=True):
            update = {"difference": difference.difference, "p": difference.p, "adjusted_p": p}
            cells[arm][name] = cells[arm][name].model_copy(update=update)
    for name, curve in AT_LOSS.items():
        tails = {arm: [_tail_at_loss(path, curve) for path in ps] for arm, ps in tests.items()}
        if all(None not in of_seeds for of_seeds in tails.values()):
            pairs[name] = pairs["tail recall@50"]
            for arm, of_seeds in tails.items():
                cells[arm][name] = _cell([tail for tail in of_seeds if tail is not None])
    return cells, pairs


def _tail_at_loss(per_query: Path, curve: str) -> float | None:
    """Reads the curve of an evaluation, which lies beside its rows by query."""
    path = per_query.with_name(METRICS_JSON)
    if not path.is_file():
        return None
    return tail_at_loss(read_record(path, EvaluationResult).trade_off.get(curve, ()))


class _ByQuery:
    """Numerators and denominators of the metrics, by query.

    Attributes:
        values: Numerators by metric, [queries].
        weights: Denominators by metric, [queries].
        pairs: Number of held-out pairs by metric.
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
    by_query = _ByQuery()
    for name in SHOWN:
        by_query.values[name] = np.asarray(table[f"model.{name}"].to_numpy(), np.float64)
        by_query.weights[name] = np.ones(queries)
        by_query.pairs[name] = len(row)
    for name in SLICES:
        members = np.asarray(pc.equal(slices, name).to_numpy(), bool)
        key = f"{name} recall@50"
        by_query.values[key] = _sums(row, members & (ranks < 50), queries)
        by_query.weights[key] = _sums(row, members, queries)
        by_query.pairs[key] = int(members.sum())
    return by_query


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
