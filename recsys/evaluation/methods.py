"""Ranking and measuring of the model and its baselines, by the same code on the same queries."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console

from feature_store.core.columns import Ints
from pipelines.prepared.reader import Prepared
from pipelines.reports.words import reworded, word_for
from pipelines.statistics.slices import item_slices
from recsys.config.config import Config
from recsys.evaluation.baselines import chosen_baselines
from recsys.evaluation.baselines.fitted import Fitted, Training
from recsys.evaluation.draw import draw_sentences, most_queries
from recsys.evaluation.list_metrics import feature_matrix, list_metrics
from recsys.evaluation.metrics import Measured, Ranks, measure, ranks_of
from recsys.evaluation.ranking import Scorer
from recsys.evaluation.results import METHOD_TITLES
from recsys.evaluation.selection import NOTHING, Score, score_of
from recsys.evaluation.slices import build_slices
from recsys.evaluation.task import Task, ranked_items
from recsys.evaluation.validation import ranking_metrics

# A feature is sliced by its most frequent values in held-out pairs.
_SLICE_VALUES = 12
_BOOTSTRAP_SAMPLES = 1_000


@dataclass(frozen=True)
class Ranked:
    """Recommendations of a method, and their metrics.

    Attributes:
        top: Items, best first, [queries, depth]; -1 where there are fewer.
        ranks: Ranks of the held-out items.
        measured: Metrics, overall and by slice.
    """

    top: Ints
    ranks: Ranks
    measured: Measured


def rank_all(
    config: Config,
    prepared: Prepared,
    methods: Mapping[str, Callable[[], Scorer]],
    task: Task,
    console: Console,
) -> dict[str, Ranked]:
    """Ranks and measures the given methods and the baselines, by name.

    Args:
        config: Configuration, for baselines, slices and cutoffs.
        prepared: The prepared data.
        methods: Functions that build the scorers of the model and of its parts, by name.
        task: Queries and their held-out items.
        console: Console for progress.
    """
    settings = config.evaluation
    fitted, left_out = _methods(config, prepared, task)
    methods = {**methods, **fitted}
    titles = [METHOD_TITLES[name] for name in methods]
    ranking = (
        f"ranking {prepared.num_items:,} items for {len(task.queries):,} queries, "
        f"first by {titles[0]}"
    )
    query = word_for(config.data, config.features)
    # The last line is repeated as a sign of life until the first method has ranked.
    for sentence in [*draw_sentences(task.counts, task.split), *left_out, ranking]:
        console.print(f"evaluate: {reworded(sentence, query)}")
    slices = item_slices(prepared.item_frequency)
    further = build_slices(
        settings.slices,
        prepared,
        queries=task.queries,
        held_out=task.held_out,
        history=task.history,
        most_values=_SLICE_VALUES,
    )
    features = feature_matrix(prepared)
    ranked: dict[str, Ranked] = {}
    for (name, build), following in zip(methods.items(), [*titles[1:], ""], strict=True):
        started = time.monotonic()
        depth = max(settings.cutoffs)
        top = ranked_items(build(), prepared, task.excluded, depth, settings.ranking_tasks)
        ranks = ranks_of(task.held_out, top)
        measured = measure(
            ranks,
            slices,
            bootstrap_samples=_BOOTSTRAP_SAMPLES,
            cutoffs=settings.cutoffs,
            by_item=further.items,
            by_query=further.queries,
        )
        lists: dict[str, float | None] = {}
        for cutoff in settings.cutoffs:
            lists |= list_metrics(
                top, prepared.item_frequency, prepared.is_current_item, features, cutoff
            )
        ranked[name] = Ranked(top, ranks, measured.model_copy(update={"lists": lists}))
        seconds = time.monotonic() - started
        console.print(
            f"evaluate: {METHOD_TITLES[name]} ranked in {seconds:.1f} s"
            + (f"; now {following}" if following else "")
        )
    return ranked


def _methods(
    config: Config, prepared: Prepared, task: Task
) -> tuple[dict[str, Callable[[], Scorer]], list[str]]:
    """Returns how to score with each baseline, and a sentence for each that is left out."""

    def fitted_baseline(fit: Callable[[Training], Fitted]) -> Callable[[], Scorer]:
        return lambda: fit(training).scorer(task.known)

    training = Training(
        prepared.query_state.train, prepared.item_frequency, _validation_of(config, prepared)
    )
    chosen, left_out = chosen_baselines(config.evaluation, prepared.num_items)
    return {name: fitted_baseline(fit) for name, fit in chosen.items()}, left_out


def _validation_of(config: Config, prepared: Prepared) -> Callable[[Fitted], Score]:
    """Returns a function that scores a baseline on the validation split."""

    def validate(fitted: Fitted) -> Score:
        task = Task.of(prepared, "validation", most_queries(prepared.num_items))
        scorer = fitted.scorer(task.known)
        metrics = ranking_metrics(scorer, prepared, task.held_out, task.excluded)
        return score_of(metrics, config.evaluation.select_by) or NOTHING

    return validate
