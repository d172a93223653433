"""Validation of the model while it trains: metrics over the whole corpus, and diagnostics."""

import numpy as np
import torch
import torch.distributed as dist

from pipelines.prepared.reader import Prepared
from recsys.config.evaluation import SelectBy
from recsys.data.batch import Batch
from recsys.data.builder import BatchBuilder
from recsys.evaluation.selection import Score, score_of
from recsys.evaluation.validation import validation_metrics
from recsys.model.encode import encode_items, encode_queries
from recsys.training.diagnostics import Diagnostics
from recsys.training.log import MetricsFile
from recsys.training.objective import TwoTowerObjective


class Validator:
    """Validates the model of a training; every rank has one, and all make equal calls.

    Args:
        objective: Objective with the model, whose tables are sharded.
        prepared: Prepared data.
        builder: Builder of batches.
        select_by: Metric by which the best checkpoint is selected.
        metrics: File to write to.
        device: Device of this rank.
    """

    def __init__(
        self,
        objective: TwoTowerObjective,
        prepared: Prepared,
        builder: BatchBuilder,
        select_by: SelectBy,
        metrics: MetricsFile,
        device: torch.device,
    ) -> None:
        self._model = objective.model
        self._prepared = prepared
        self._builder = builder
        self._select_by = select_by
        self._metrics = metrics
        self._device = device
        self._diagnostics = Diagnostics(objective, prepared, builder.views.masking)
        self._queries = np.flatnonzero(prepared.query_state.validation.lengths)

    def validate(self, step: int, batch: Batch) -> Score | None:
        """Ranks the whole corpus for the validation queries, and writes a line; collective.

        Args:
            step: Number of steps done.
            batch: Last batch of this rank, for the diagnostics.

        Returns:
            The score to select by, equal on all ranks; None without validation events.
        """
        prepared, queries = self._prepared, self._queries
        items = encode_items(self._model, self._builder, self._device)
        vectors = encode_queries(
            self._model,
            self._builder,
            queries,
            prepared.query_state.validation_history.take(queries),
            prepared.context_of(queries, "validation"),
            self._device,
        )
        diagnostics = self._diagnostics.measure(step, batch, items)
        score: list[Score | None] = [None]
        if dist.get_rank() == 0:
            metrics = validation_metrics(vectors, items, prepared, queries)
            score = [score_of(metrics, self._select_by)]
            line = {f"validation.{name}": metric for name, metric in metrics.items()}
            self._metrics.append(step, {**line, **diagnostics})
        dist.broadcast_object_list(score)
        return score[0]
