"""All stages in order, for a scheduler or a newcomer.

It is in this package because imports go downwards only, and the last stage is serving's.
"""

import shlex
import shutil
import sys
import time
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.locks import locked
from feature_store.core.settings import Frozen
from pipelines.prepared.manifest import PreparedManifest
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.evaluation.results import EvaluationResult, print_table
from recsys.stages.evaluate import evaluate
from recsys.stages.prepare import prepare
from recsys.stages.train import train
from recsys.tracking import experiment_page, tracking_uri
from serving.bundle.manifest import BundleManifest, read_manifest
from serving.exporting.export import export
from serving.recommend.display import print_recommendations
from serving.recommend.load import load
from serving.recommend.options import RecommendOptions
from serving.registry.registry import promote_if_passed

STAGES = ("prepare", "train", "evaluate", "export")
# Items of the example's history and of its recommendations.
_SHOWN = 10


class RunResult(Frozen):
    """Results of the stages.

    Attributes:
        output: Directory of all results.
        prepared: Manifest of the prepared data.
        trained: Manifest of the training.
        evaluation: Contents of metrics.json.
        bundle: Manifest of the sealed bundle.
        is_new: Whether this run wrote the bundle; it was there otherwise.
        seconds: Duration of the whole run.
        seconds_of: Duration of each stage, by its name.
    """

    output: str
    prepared: PreparedManifest
    trained: TrainManifest
    evaluation: EvaluationResult
    bundle: BundleManifest
    is_new: bool
    seconds: float
    seconds_of: dict[str, float]


def run(
    config: Config, *, as_of: datetime | None = None, console: Console | None = None
) -> RunResult:
    """Prepares, trains, evaluates and exports; a stage that has nothing to do is skipped.

    An interrupted run is resumed where it was. A model that is compared with the champion and not
    worse becomes the champion.

    Args:
        config: Configuration of the system.
        as_of: Time after which events are rejected as future ones; None: now.
        console: Console of progress.

    Raises:
        UserError: As the stages do; what was finished before stays.
    """
    console = console or Console()
    times = [time.monotonic()]
    with locked(Path(config.output) / "job"):  # Neither does the nightly job work meanwhile.
        prepared = prepare(config, as_of=as_of, console=console)
        times.append(time.monotonic())
        trained = train(config, console=console)
        times.append(time.monotonic())
        evaluation = evaluate(config, console=console)
        times.append(time.monotonic())
        earlier = _seal(config)
        bundle = export(config, console=console)
        promotion = promote_if_passed(config, bundle)
        if promotion is not None:
            console.print(f"run: {promotion.sentence()}")
        times.append(time.monotonic())
    lengths = (round(end - start, 1) for start, end in pairwise(times))
    return RunResult(
        output=config.output,
        prepared=prepared,
        trained=trained,
        evaluation=evaluation,
        bundle=bundle,
        is_new=bundle.seal != earlier,
        seconds=round(times[-1] - times[0], 1),
        seconds_of=dict(zip(STAGES, lengths, strict=True)),
    )


def _seal(config: Config) -> str | None:
    """Returns the seal of the bundle that is there; None: there is none that can be read."""
    with suppress(UserError):
        return read_manifest(config.bundle_dir).seal
    return None


def print_summary(config: Config, result: RunResult, console: Console) -> None:
    """Prints the metrics, an example of a new bundle, all paths, and what to try next."""
    print_table(result.evaluation, console)
    example = _example_query(Prepared(config.prepared_dir))
    if result.is_new:
        recommender = load(config.bundle_dir)
        answer = recommender.recommend(example, _SHOWN, RecommendOptions(explain=True))
        liked, word = recommender.liked(example, _SHOWN), result.evaluation.query
        print_recommendations(answer, liked, console, with_parts=False, query=word)
    bundle = shlex.quote(_shown(config.bundle_dir))
    # A newcomer need not have activated the environment.
    programs = "" if shutil.which("recsys") else f"{_shown(Path(sys.executable).parent)}/"
    store = shlex.quote(tracking_uri(config))
    stages = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in result.seconds_of.items())
    lines = [
        f"MLflow run   {result.trained.mlflow_run_id}",
        f"MLflow       {_pages(config, programs)}",
        f"report       {_shown(config.evaluation_dir / 'report.html')}",
        f"dashboard    {programs}recsys dashboard --tracking-uri {store}",
        f"bundle       {_shown(config.bundle_dir)}",
        f"time         {result.seconds:.0f} s: {stages}",
        "",
        f"next: {programs}recsys query {bundle} --query-id {shlex.quote(example)} -k 20",
        f"      {programs}recsys serve {bundle}",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _pages(config: Config, programs: str) -> str:
    """Returns how to open MLflow's pages of the experiment."""
    uri, page = tracking_uri(config), ""
    with suppress(UserError):  # All is done, and the store may be away.
        page = experiment_page(config)
    if uri.startswith(("http://", "https://")):
        return f"{uri.rstrip('/')}/{page}"
    command = f"{programs}mlflow ui --backend-store-uri {shlex.quote(uri)}"
    return f"{command}, then http://127.0.0.1:5000/{page}"


def _example_query(prepared: Prepared) -> str:
    """Returns the first query with a history of the median length or more, or the first of all."""
    lengths = prepared.query_state.test_history.lengths
    typical = np.flatnonzero(lengths >= np.median(lengths))
    return str(prepared.query_encoder.ids.tokens[int(typical[0]) if len(typical) else 0])


def _shown(path: Path) -> str:
    """Shows a path below the working directory as a relative one."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
