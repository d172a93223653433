"""The `fuse` stage: retrieval channels and the weights of the fused ranking."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from rich.console import Console

from feature_store.core.columns import Floats
from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, require_replaceable
from feature_store.core.locks import locked, reading
from feature_store.core.manifests import fingerprint, read_manifest, write_manifest, written_as
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from pipelines.reports.words import plural_of, word_for
from pipelines.statistics.slices import SliceBounds, item_slices
from recsys.channels.channel import ChannelData
from recsys.channels.kinds import CHANNELS
from recsys.channels.log import TrainingLog
from recsys.channels.neighbours import Neighbours
from recsys.channels.trend import HALF_LIVES, popularity_dial, recent_counts, trend_of
from recsys.checkpoint.load import load_model
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.evaluation.common_ranking import common_ranks
from recsys.evaluation.metrics import overall_ratios
from recsys.evaluation.results import TradeOff
from recsys.evaluation.task import Task
from recsys.fusion.curve import trade_off
from recsys.fusion.fused import ChannelInfo, Fused, FusionInfo, rarity
from recsys.fusion.queries import FusedQueries
from recsys.fusion.sample import draw_sample, sampled_rows
from recsys.fusion.search import Search
from recsys.fusion.weights import Weights
from recsys.model.encode import encode_items, encode_queries
from recsys.model.two_tower import TwoTower
from recsys.stages.channel_lists import channel_lists, lists_locked, remove_channel_lists

_SPLIT = "validation"
_VERSION = 5


class FusionManifest(Frozen):
    """Manifest of fitted channels and their weights; it is written last.

    Attributes:
        fingerprint: Fingerprint of the training, the prepared data and the settings.
        training_fingerprint: Fingerprint of the training.
        weights: Weights that were found.
        left_out: Channels that the log has not, with the reason.
        half_life: Half-life of the recent popularity in days; None: all events count the same.
        trade_off: Recall of the validation split along the dial.
    """

    version: int = _VERSION
    fingerprint: str
    training_fingerprint: str
    weights: Weights
    left_out: dict[str, str]
    half_life: float | None
    trade_off: tuple[TradeOff, ...]


_IS_OWN = written_as(FusionManifest)


def fuse(
    config: Config, *, refit_of: FusionManifest | None = None, console: Console | None = None
) -> FusionManifest:
    """Fits the channels and finds their weights, or returns at once where that is already done.

    Args:
        config: Configuration whose data is prepared and whose model is trained.
        refit_of: Evaluated ranking whose weights and half-life are taken, for data of which
            nothing is held out; None: they are found on validation.
        console: Console to show progress on.

    Returns:
        The manifest of `config.fusion_dir`.

    Raises:
        UserError: There is no trained model, it is of other data than is prepared, or no channel is
            configured.
    """
    console = console or Console()
    if not config.ranking.channels:
        raise UserError("ranking.channels is empty, so there is nothing to fit; name some of them.")
    require_replaceable(config.fusion_dir, _IS_OWN)
    with reading(config.prepared_dir, config.train_dir):
        if (done := _up_to_date(config, console)) is not None:
            return done
        with locked(config.fusion_dir), lists_locked(config):
            # Another process may have written it meanwhile.
            return _up_to_date(config, console) or _fuse(config, refit_of, console)


def _up_to_date(config: Config, console: Console) -> FusionManifest | None:
    """Returns the manifest where exactly this is already fitted."""
    prepared = Prepared(config.prepared_dir)
    trained = read_manifest(config.train_dir, TrainManifest)
    done = read_manifest(config.fusion_dir, FusionManifest)
    if trained and done and done.fingerprint == _fingerprint(config, prepared, trained):
        console.print(f"fuse: {config.fusion_dir} is up to date")
        return done
    return None


def _fuse(config: Config, refit_of: FusionManifest | None, console: Console) -> FusionManifest:
    prepared = Prepared(config.prepared_dir)
    model, trained = load_model(config)
    data = ChannelData(prepared, TrainingLog.read(prepared))
    lists, channels, left_out = _fitted(config, data, console)
    task = Task.of(prepared, _SPLIT)
    half_life, trend = _trend(data, task)
    if refit_of is not None:
        half_life = refit_of.half_life
        trend = trend_of(recent_counts(data.log, half_life)) if data.has_order else trend
    counts = recent_counts(data.log, half_life)
    dial = popularity_dial(counts, prepared.is_current_item, trained.config.loss.temperature)
    kept = config.ranking.neighbours
    info = FusionInfo(weights=Weights(), channels=channels, neighbours=kept)
    of_items = rarity(prepared.item_frequency), dial, trend
    fused = Fused(info, lists, *of_items)
    weights = Weights()
    curve: tuple[TradeOff, ...] = ()
    if refit_of is not None:
        weights, curve = refit_of.weights, refit_of.trade_off
    elif len(task.queries):
        sampled = task.take(sampled_rows(task.queries))
        queries = plural_of(word_for(config.data, config.features))
        console.print(
            f"fuse: searching for the weights on {len(sampled.queries):,} {queries} of validation"
        )
        sample = draw_sample(fused, _queries(config, prepared, model, sampled))
        slices = item_slices(prepared.item_frequency)
        with one_thread():
            baselines = [name for name in channels if CHANNELS[name].is_baseline]
            weights = Search(sample, slices, config.ranking.tail_weight, baselines).best()
            curve = trade_off(sample, slices, weights)
    else:
        console.print("fuse: nothing is held out for validation, so the towers rank alone")
    manifest = FusionManifest(
        fingerprint=_fingerprint(config, prepared, trained),
        training_fingerprint=trained.fingerprint,
        weights=weights,
        left_out=left_out,
        half_life=half_life,
        trade_off=curve,
    )
    with directory_written_atomically(config.fusion_dir, _IS_OWN) as directory:
        found = info.model_copy(update={"weights": weights})
        Fused(found, lists, *of_items).save(directory)
        write_manifest(directory, manifest)
    remove_channel_lists(config)
    console.print(f"fuse: {_sentence(weights, channels)}", highlight=False, soft_wrap=True)
    return manifest


def _fitted(
    config: Config, data: ChannelData, console: Console
) -> tuple[dict[str, Neighbours], dict[str, ChannelInfo], dict[str, str]]:
    """Returns lists by name, channels by name, and why others are left out."""
    lists: dict[str, Neighbours] = {}
    channels: dict[str, ChannelInfo] = {}
    left_out: dict[str, str] = {}
    for name in config.ranking.channels:
        channel = CHANNELS[name]
        why = channel.why_not(data)
        if why is not None:
            left_out[name] = why
            continue
        if channel.lists not in lists:
            lists[channel.lists] = channel_lists(config, data, channel, "fuse", console)
        channels[name] = ChannelInfo(lists=channel.lists, reads=channel.reads_in(data))
    return lists, channels, left_out


def _trend(data: ChannelData, task: Task) -> tuple[float | None, Floats]:
    """Returns the half-life that finds most of the validation split, and the recent popularity."""
    if not data.has_order or not len(task.queries):
        return None, np.zeros(data.log.num_items, np.float32)
    best: tuple[float, float | None] | None = None
    for half_life in (None, *HALF_LIVES):
        scores = recent_counts(data.log, half_life).astype(np.float32)
        is_ranked = data.prepared.is_current_item
        ranks = common_ranks(scores, task.held_out, task.excluded, is_ranked, 50)
        value = overall_ratios(ranks).values()["recall@50"] or 0.0
        if best is None or value > best[0]:
            best = value, half_life
    assert best is not None
    return best[1], trend_of(recent_counts(data.log, best[1]))


def _queries(config: Config, prepared: Prepared, model: TwoTower, task: Task) -> FusedQueries:
    builder, cpu = BatchBuilder(prepared, config), torch.device("cpu")
    context = prepared.context_of(task.queries, task.split)
    queries = encode_queries(model, builder, task.queries, task.history, context, cpu)
    return FusedQueries.of(prepared, task, queries, encode_items(model, builder, cpu))


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute in this thread alone: its operations here are too small to share."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def _sentence(weights: Weights, channels: dict[str, ChannelInfo]) -> str:
    """Returns a sentence with the weights, and the parts that add nothing."""
    parts = weights.by_part(list(channels))
    used = ", ".join(f"{name} {weight:g}" for name, weight in parts.items() if weight)
    unused = ", ".join(name for name, weight in parts.items() if not weight)
    return f"weights: {used}" + (f"; of no use: {unused}" if unused else "")


def _fingerprint(config: Config, prepared: Prepared, trained: TrainManifest) -> str:
    settings = config.ranking.model_dump(mode="json")
    return fingerprint(
        [
            _VERSION,
            trained.fingerprint,
            trained.mlflow_run_id,
            prepared.manifest.fingerprint,
            settings,
            *SliceBounds.of(prepared.item_frequency).marks(),
        ]
    )
