"""The result of an evaluation, and how it is shown."""

from functools import partial

import pyarrow as pa
from pydantic import Field
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from feature_store.core.settings import Frozen
from feature_store.core.tabular import Tabular, rows_table
from pipelines.reports.format import Figures, Value, interval, number
from pipelines.reports.words import QUERY, plural_of, reworded
from pipelines.settings import Repeats
from pipelines.statistics.slices import SliceBounds
from recsys.config.evaluation import CUTOFFS
from recsys.evaluation.draw import draw_sentences
from recsys.evaluation.long_tail import FrequencyBin
from recsys.evaluation.metrics import Measured, metric_title
from recsys.evaluation.repeats import leaves_many_out, repeats_sentences
from recsys.evaluation.rivals import FEW_PAIRS, Rival, Standing

# The model as it is served: the fused ranking, or the towers where these rank alone.
MODEL, TOWERS, TREND = "model", "towers", "trend"
METHOD_TITLES = {
    MODEL: "this model",
    TOWERS: "towers alone",
    "co_occurrence": "co-occurrence",
    "transitions": "transitions",
    "content": "content",
    "own_content": "own content",
    "links": "links",
    "linear": "linear",
    TREND: "recent popularity",
    "random": "random",
    "popularity": "popularity",
    "item_knn": "item-kNN",
    "ease": "EASE",
    "als": "ALS",
}

# Titles that keep the table on the terminal within 80 columns.
_SHORT = {TREND: "popular lately"}

# Files of an evaluation with its result and its items, and the curve of the towers in the result.
METRICS_JSON, ITEMS, TOWERS_CURVE = "metrics.json", "items.parquet", "test, towers alone"

# Titles of the metrics that tables show, by name.
SHOWN = {name: metric_title(name) for name in ("recall@10", "recall@50", "ndcg@10", "map@10")}


class TradeOff(Frozen):
    """Recall of a ranking at one weight of the popularity dial, on sampled queries.

    Attributes:
        dial: Weight of the dial.
        recall: Recall@10 and Recall@50 by name, means over queries.
        slices: Recall@50 by slice of the items; None of a slice without held-out pairs.
    """

    dial: float
    recall: dict[str, float]
    slices: dict[str, float | None]


class EvaluationResult(Measured, Tabular):
    """Content of `metrics.json`: metrics of the model and of the baselines, and their subject.

    Attributes:
        counts: `queries` with something to find, `held_out` pairs, pairs that were left out because
            the query had the item before (`already_seen`) or is the item (`itself`), held-out pairs
            whose query had the item before (`repeated`), and `items` that are ranked; where
            `queries` were drawn, `drawn_from` is the number of all.
        baselines: Metrics of `evaluation.baselines`, by the same code on the same queries.
        query: Word of the log for a query.
        slice_bounds: Bounds of `slices`; None of an earlier version's evaluation.
        split: Kind of the split; the figures are those of its test part.
        history: Kind of the histories.
        repeats: Whether items that a query has had are ranked for it.
        prepared_fingerprint: Fingerprint of the prepared data.
        training_fingerprint: Fingerprint of the training.
        mlflow_run_id: Run of the training.
        long_tail: Recall and exposure by training frequency, in finer bins than the slices.
        weights: Weights of the parts of the fused ranking; empty where the towers rank alone.
        left_out: Channels that the log has not, with the reason.
        trade_off: Recall along the popularity dial, by split, and on test that of the towers alone.
        judged_by: Recall that verdicts rest on: Recall@50, and Recall@10 of a small catalogue.
        standings: Methods beside the model, overall and by slice, and whether they differ by more
            than chance.
        rivals: Methods that are significantly better than the model, overall or in a slice.
    """

    counts: dict[str, int]
    baselines: dict[str, Measured]
    query: str = "query"
    slice_bounds: SliceBounds | None = None
    split: str
    history: str
    repeats: Repeats = "exclude"
    prepared_fingerprint: str
    training_fingerprint: str
    mlflow_run_id: str
    long_tail: tuple[FrequencyBin, ...] = ()
    weights: dict[str, float] = Field(default_factory=dict)
    left_out: dict[str, str] = Field(default_factory=dict)
    trade_off: dict[str, tuple[TradeOff, ...]] = Field(default_factory=dict)
    judged_by: str = "recall@50"
    standings: tuple[Standing, ...] = ()
    rivals: tuple[Rival, ...] = ()

    @property
    def chance(self) -> float:
        """Recall of lists that are drawn at random, at the cutoff of `judged_by`."""
        return min(1.0, self.cutoff / max(1, self.counts["items"]))

    @property
    def cutoff(self) -> int:
        """Cutoff of `judged_by`."""
        return int(self.judged_by.partition("@")[2])

    @property
    def is_small(self) -> bool:
        """Whether all items are among the first 50, whose figures then tell nothing."""
        return self.counts["items"] <= max(CUTOFFS)

    @property
    def methods(self) -> dict[str, Measured]:
        """The model, then the baselines."""
        return {MODEL: self, **self.baselines}

    @property
    def compared(self) -> dict[str, Measured]:
        """The methods without the single channels, for charts: these are parts of the model."""
        return {name: each for name, each in self.methods.items() if not self._is_channel(name)}

    def _is_channel(self, name: str) -> bool:
        return name in self.weights and name not in (TOWERS, TREND)

    def groups(self) -> dict[str, dict[str, Figures]]:
        """Returns the figures by `overall` or slice, then by method."""
        return {
            "overall": {name: method.overall for name, method in self.methods.items()},
            **{
                name: {key: method.slices[name] for key, method in self.methods.items()}
                for name in self.slices
            },
        }

    def to_arrow(self) -> pa.Table:
        """Returns a row for each group and method, the model first.

        Returns:
            Columns group (`overall` or a slice), held_out (pairs), method and every metric, with
            the ends of its interval as `recall@50_low` and `recall@50_high`.
        """
        rows = [
            {
                "group": group,
                "held_out": self.pairs(group),
                "method": METHOD_TITLES.get(name, name),
                **_plain(figures),
            }
            for group, methods in self.groups().items()
            for name, figures in methods.items()
        ]
        return rows_table(rows)

    def _shown(self) -> pa.Table:
        return self.to_arrow().select(["group", "held_out", "method", *SHOWN])

    def pairs(self, group: str) -> int:
        """Returns the number of held-out pairs of a group."""
        count = self.counts["held_out"] if group == "overall" else self.slices[group]["count"]
        assert isinstance(count, int)
        return count

    def warnings(self) -> list[str]:
        """Returns warnings to show with the results."""
        warnings = self._repeats_sentences() if leaves_many_out(self.counts) else []
        if not self.counts["queries"]:
            return [*warnings, "the test split has no held-out items, so there are no metrics"]
        popularity = self.baselines["popularity"].overall
        worse = [
            f"{title} {number(self.overall[name])} against {number(popularity[name])}"
            for name, title in SHOWN.items()
            if _is_less(self.overall[name], popularity[name])
        ]
        if worse:
            warnings.append(f"the model is worse than popularity: {', '.join(worse)}")
        warnings += [_sentence(rival) for rival in self.rivals if not self.is_part(rival.method)]
        items = self.counts["items"]
        if self.is_small:
            same = [f"recall@{k}" for k in CUTOFFS if items <= k]
            tells = "tells" if len(same) == 1 else "tell"
            warnings.append(
                f"{' and '.join(same)} {tells} nothing: only {items:,} items are ranked"
            )
        return warnings

    def is_part(self, name: str) -> bool:
        """Tells whether a method is a part of the model, and no baseline."""
        return name == TOWERS or self._is_channel(name)

    def better_parts(self) -> str | None:
        """Returns the groups in which a part alone finds more than the whole; None: there is none.

        What is best for all may be worse for some; the curve along the dial shows the trade-off.
        """
        parts = [rival for rival in self.rivals if self.is_part(rival.method)]
        found = [
            f"{METHOD_TITLES[each.method]} in {each.group} ({metric_title(each.metric)} "
            f"{number(each.value)} against {number(each.model)})"
            for each in parts
        ]
        return f"parts that alone find significantly more: {', '.join(found)}" if found else None

    def against_towers(self) -> str | None:
        """Returns what channels and dial changed of the recall; None where towers rank alone."""
        if TOWERS not in self.baselines or not self.counts["queries"]:
            return None
        changes = []
        for group, methods in self.groups().items():
            before, after = (methods[name][self.judged_by] for name in (TOWERS, MODEL))
            if isinstance(before, float) and isinstance(after, float):
                few = f" ({self.pairs(group)} pairs: few)" if self.pairs(group) < FEW_PAIRS else ""
                changes.append(f"{group} {number(before)} to {number(after)}{few}")
        title = SHOWN[self.judged_by]
        return f"{title} from the towers alone to this model: {', '.join(changes)}"

    def notes(self) -> list[str]:
        """Returns what is to be said with the results beside warnings."""
        notes = draw_sentences(self.counts, "test")
        if not leaves_many_out(self.counts):
            notes += self._repeats_sentences()
        return notes if self.slice_bounds is None else [*notes, self.slice_bounds.sentence()]

    def _repeats_sentences(self) -> list[str]:
        return repeats_sentences(self.counts, "test", self.repeats)


def _plain(figures: Figures) -> dict[str, float | None]:
    """Splits intervals into their two ends; counts of pairs are left out."""
    plain: dict[str, float | None] = {}
    for name, value in figures.items():
        if name.endswith("_ci"):
            low, high = value if isinstance(value, tuple) else (None, None)
            plain |= {f"{name[:-3]}_low": low, f"{name[:-3]}_high": high}
        elif name != "count" and not isinstance(value, tuple):
            plain[name] = value
    return plain


def _sentence(rival: Rival) -> str:
    """Returns a warning of a baseline that is better, and what to do."""
    where = "" if rival.group == "overall" else f" in {rival.group} ({rival.pairs:,} pairs)"
    return (
        f"{METHOD_TITLES[rival.method]} is significantly better{where}: "
        f"{metric_title(rival.metric)} {number(rival.value)} against {number(rival.model)}; "
        f"{advice_on(rival.group)}"
    )


def advice_on(group: str) -> str:
    """Returns what to try where a baseline is better in a group."""
    advice = {"overall": "try `recsys tune`", "head": "try a lower ranking.tail_weight"}
    return f"{advice.get(group, 'try a higher ranking.tail_weight')}, see docs/ranking.md"


def print_table(result: EvaluationResult, console: Console) -> None:
    """Prints the model beside the baselines, overall and by slice, in 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("held out")
    table.add_column("method", no_wrap=True)
    for title in SHOWN.values():
        table.add_column(title, justify="right", no_wrap=True)
    for group, methods in result.groups().items():
        for name, figures in methods.items():
            if name == "random":  # Chance is of interest in the report alone.
                continue
            is_model = name == MODEL
            label = f"{group} {result.pairs(group):,}" if is_model else ""
            values = [number(figures[metric]) for metric in SHOWN]
            table.add_row(
                label,
                _SHORT.get(name, METHOD_TITLES[name]),
                *values,
                style="bold" if is_model else "",
            )
            if is_model and group == "overall":
                bounds = [interval(figures[f"{metric}_ci"]) for metric in SHOWN]
                table.add_row("", "95 % range", *bounds)
        table.add_section()
    counts, say = result.counts, partial(reworded, word=result.query)
    known_as = "" if result.query == QUERY else " (`query` in the configuration)"
    queries = f"{counts['queries']:,} {plural_of(result.query)}{known_as}"
    console.print(f"test split: {counts['items']:,} items ranked for {queries}", highlight=False)
    console.print(table)
    for note in result.notes():
        console.print(escape(say(note)), highlight=False)
    if (sentence := result.against_towers()) is not None:
        console.print(sentence, highlight=False, soft_wrap=True)
    if (sentence := result.better_parts()) is not None:
        console.print(sentence, highlight=False, soft_wrap=True)
    for warning in result.warnings():
        console.print(
            f"[bold]warning:[/bold] {escape(say(warning))}", highlight=False, soft_wrap=True
        )


def _is_less(value: Value, other: Value) -> bool:
    """Tells whether a value is less by more than the digits that are shown."""
    return (
        isinstance(value, float) and isinstance(other, float) and round(value, 3) < round(other, 3)
    )
