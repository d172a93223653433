"""Accuracy of item-item weights: those of all items in closed form, and of each one's nearest.

python tests/benchmarks/bench_linear.py CONFIG

CONFIG is of a log that is prepared, with few enough items for the closed form. Validation queries
are ranked by these weights alone.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from pipelines.executor import LocalExecutor
from pipelines.prepared.reader import Prepared
from pipelines.statistics.slices import item_slices
from recsys.channels import linear
from recsys.channels.channel import ChannelData
from recsys.channels.fit import fit_channel
from recsys.channels.linear import Linear
from recsys.channels.log import TrainingLog
from recsys.channels.sources import Sources
from recsys.config.load import load_config
from recsys.evaluation.metrics import item_ratios, overall_ratios, ranks_of
from recsys.evaluation.task import Task, ranked_items
from recsys.fusion.fused import ChannelInfo, Fused, FusionInfo
from recsys.fusion.scorer import fused_scorer
from recsys.fusion.weights import Weights

_DEPTH = 50


def measure(data: ChannelData, task: Task, title: str) -> None:
    """Prints a row of the table."""
    prepared = data.prepared
    with tempfile.TemporaryDirectory() as name:
        started = time.process_time()
        lists = fit_channel(
            Linear, data, neighbours=1000, work_dir=Path(name) / "work", executor=LocalExecutor()
        )
        seconds = time.process_time() - started
        info = FusionInfo(
            weights=Weights(model=0.0, channels={"linear": 1.0}),
            channels={"linear": ChannelInfo(lists="linear", reads="known")},
            neighbours=1000,
        )
        nothing = np.zeros(prepared.num_items, np.float32)
        own = prepared.own_items.take(task.queries)
        scorer = fused_scorer(
            Fused(info, {"linear": lists}, nothing, nothing, nothing),
            info.weights,
            sources=Sources(task.history, task.known, own),
            query_vectors=np.zeros((len(task.queries), 1), np.float32),
            item_vectors=np.zeros((prepared.num_items, 1), np.float32),
        )
        ranks = ranks_of(task.held_out, ranked_items(scorer, prepared, task.excluded, _DEPTH))
    overall = overall_ratios(ranks).values()
    figures = [overall["recall@10"], overall["recall@50"]]
    slices = item_slices(prepared.item_frequency)
    figures += [item_ratios(ranks, slices[s]).values()["recall@50"] for s in ("tail", "torso")]
    cells = " | ".join("-" if figure is None else f"{figure:.3f}" for figure in figures)
    print(f"| {title} | {cells} | {seconds:.1f} |", flush=True)


def main() -> None:
    """Measures both kinds of weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    prepared = Prepared(load_config(parser.parse_args().config).prepared_dir)
    data = ChannelData(prepared, TrainingLog.read(prepared))
    task = Task.of(prepared, "validation")
    print("| | R@10 | R@50 | tail R@50 | torso R@50 | processor seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    measure(data, task, "all items, closed form")
    linear.MOST_ITEMS = 0
    measure(data, task, f"{Linear.most_neighbours} nearest items")


if __name__ == "__main__":
    main()
