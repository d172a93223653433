"""The champion on today's held-out items: its own checkpoint, encoded with today's features.

The champion is evaluated by the checkpoint that was evaluated when it was made, and not by its
refit, which has seen events that are held out today. So both models are ones that were trained
without the test's events; the champion's training ended earlier, as it does for what is served.

What the champion did not know is to it as it is in its bundle: an id that came since is absent, a
new value of a feature is out of vocabulary, and a new item has no neighbours.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from feature_store.core.columns import Bools, Column, Ints, Jagged
from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically
from feature_store.core.manifests import read_manifest, write_manifest, written_as
from feature_store.encoding.encoder import OOV_ROW
from feature_store.kinds import AnyFeature
from feature_store.schema import FeatureGroup, qualified
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.compatibility import compare
from recsys.checkpoint.manifest import CheckpointManifest, read_checkpoint
from recsys.checkpoint.state import load_weights
from recsys.checkpoint.table_rows import table_rows, unknown_rows
from recsys.checkpoint.training_manifest import CHECKPOINT, TrainManifest, readable_training
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.evaluation.metrics import ranks_of
from recsys.evaluation.per_query import PER_QUERY, write_per_query
from recsys.evaluation.results import MODEL
from recsys.evaluation.task import Task, ranked_items
from recsys.fusion.fused import Fused
from recsys.fusion.queries import FusedQueries, methods_of
from recsys.model.encode import encode_items, encode_queries
from recsys.model.two_tower import build_model
from recsys.stages.evaluated import EvaluationManifest
from serving.exporting.champion import ChampionEvaluation
from serving.nightly.days import LEARNT

_SPLIT = "test"
_CPU = torch.device("cpu")
_IS_OWN = written_as(ChampionEvaluation)


class AsItWas(Prepared):
    """Today's prepared data as a model of an earlier day sees it.

    Args:
        directory: Directory of today's prepared data.
        checkpoint: Manifest of the earlier checkpoint, with the rows of its tables.
        learnt: Whether the earlier model had learnt the id of each item, [earlier items].
    """

    def __init__(self, directory: Path, checkpoint: CheckpointManifest, learnt: Bools) -> None:
        super().__init__(directory)
        self._tables = checkpoint.tables
        self._learnt = learnt

    @cached_property
    def item_columns(self) -> dict[str, Column]:
        """Encoded features of the items, without values that came later."""
        return self._known("item", super().item_columns)

    @cached_property
    def query_columns(self) -> dict[str, Column]:
        """Encoded features of the queries, without values that came later."""
        return self._known("query", super().query_columns)

    @cached_property
    def has_learnt_id(self) -> Bools:
        """Whether the earlier model had learnt each item's id, [items]."""
        learnt = np.zeros(self.num_items, bool)
        learnt[: len(self._learnt)] = self._learnt
        return learnt

    def context_of(self, queries: Ints, split: str) -> dict[str, Column]:
        """Returns the context of requests, without values that came later."""
        return self._known("context", super().context_of(queries, split))

    @cached_property
    def _knows(self) -> dict[str, Bools]:
        """Whether the earlier model knows each row of today's tables, by their names."""
        unknown, knows = unknown_rows(self._tables, self), {}
        for name, table in table_rows(self).items():
            if name in self._tables:
                knows[name] = np.arange(table.rows) < self._tables[name].rows
                knows[name][unknown.get(name, [])] = False
        return knows

    def _known(self, group: FeatureGroup, columns: Mapping[str, Column]) -> dict[str, Column]:
        features = {feature.name: feature for feature in self.features.of(group)}
        return {
            name: self._without_later(features[name], group, column)
            for name, column in columns.items()
        }

    def _without_later(self, feature: AnyFeature, group: FeatureGroup, column: Column) -> Column:
        name = feature.shared_table or qualified(group, feature)
        if name not in self._tables or not isinstance(column, Jagged):
            return column
        is_known = self._knows[name][column.values]
        if self.features.owner(feature).is_id:
            return column.keep(is_known)
        return replace(column, values=np.where(is_known, column.values, OOV_ROW))


def evaluate_champion(config: Config, day: Path, seal: str, console: Console) -> ChampionEvaluation:
    """Ranks today's held-out items by the champion, or returns at once where that is done.

    Args:
        config: Configuration whose model is evaluated.
        day: Directory of the champion's day.
        seal: Seal of the champion.
        console: Console to show progress on.

    Returns:
        The manifest of `config.champion_dir`.

    Raises:
        UserError: The champion does not fit today's features, or its checkpoint is not there.
    """
    evaluation = read_manifest(config.evaluation_dir, EvaluationManifest)
    assert evaluation is not None
    manifest = ChampionEvaluation(seal=seal, evaluation=evaluation.fingerprint)
    if read_manifest(config.champion_dir, ChampionEvaluation) == manifest:
        return manifest
    trained = readable_training(day / "train")
    if trained is None:
        raise UserError(f"{day} holds no checkpoint that this version can read.")
    console.print(f"champion: ranking today's held-out items by the model of {day.name}")
    _, checkpoint = read_checkpoint(day / "train" / CHECKPOINT)
    _require_fit(config, trained, checkpoint)
    prepared = AsItWas(config.prepared_dir, checkpoint, np.load(day / LEARNT))
    model = build_model(prepared, trained.config.model).eval()
    load_weights(day / "train" / CHECKPOINT, model, may_grow=True)
    builder, task = BatchBuilder(prepared, trained.config), Task.of(prepared, _SPLIT)
    context = prepared.context_of(task.queries, _SPLIT)
    queries = FusedQueries.of(
        prepared,
        task,
        encode_queries(model, builder, task.queries, task.history, context, _CPU),
        encode_items(model, builder, _CPU),
    )
    scorer = methods_of(_fused(day, prepared.num_items), queries)[MODEL]()
    settings = config.evaluation
    depth = max(settings.cutoffs)
    top = ranked_items(scorer, prepared, task.excluded, depth, settings.ranking_tasks)
    with directory_written_atomically(config.champion_dir, _IS_OWN) as directory:
        write_per_query(
            directory / PER_QUERY,
            prepared,
            queries=task.queries,
            held_out=task.held_out,
            history=task.history,
            top={MODEL: top},
            ranks={MODEL: ranks_of(task.held_out, top)},
            cutoffs=settings.cutoffs,
        )
        write_manifest(directory, manifest)
    return manifest


def _require_fit(config: Config, trained: TrainManifest, checkpoint: CheckpointManifest) -> None:
    """Refuses a champion of other features than today's; its own model is built as it was."""
    today = Prepared(config.prepared_dir)
    as_it_was = trained.config.model_copy(update={"features": today.features})
    for finding in compare(as_it_was, today, checkpoint):
        if finding.kind == "impossible":
            raise UserError(f"it does not fit today's features: {finding.sentence()}.")


def _fused(day: Path, items: int) -> Fused | None:
    """Reads the champion's channels, in which later items have no neighbours."""
    if not (day / "fusion").is_dir():
        return None
    fused = Fused.read(day / "fusion")
    return fused.with_new_items(items - len(fused.dial), {})
