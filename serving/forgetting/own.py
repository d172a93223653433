"""Directories below the output that hold ids of earlier models, and that may be removed."""

from collections.abc import Collection
from pathlib import Path

from feature_store.core.files import IsOwn, marked_by
from feature_store.core.manifests import written_as
from recsys.config.config import Config
from recsys.stages.evaluate import EvaluationManifest
from recsys.stages.fuse import FusionManifest
from recsys.stages.train import MARKS
from recsys.studies.study import RUNS
from recsys.tuning.tune import IDENTITY, TRIALS, TuningManifest
from serving.exporting.champion import ChampionEvaluation, Judgement

# Directories, whose contents are made again by their own commands or the next comparison alone,
# and how one tells them from others of that name.
_APART: dict[str, IsOwn] = {
    "comparison": written_as(Judgement),
    "champion": written_as(ChampionEvaluation),
    "train.partial": marked_by(*MARKS),
    "tuning": written_as(TuningManifest),
    "tuning.partial": marked_by(IDENTITY, TRIALS),
    "study": marked_by(RUNS),
}
# A stage that runs makes these again.
_OF_STAGES: dict[str, tuple[str, IsOwn]] = {
    "fusion": ("evaluate", written_as(FusionManifest)),
    "evaluation": ("evaluate", written_as(EvaluationManifest)),
    "refit": ("export", marked_by("prepared", "train")),
}
NAMES = frozenset((*_APART, *_OF_STAGES))


def removable(config: Config, stages: Collection[str]) -> list[Path]:
    """Returns the directories that recsys has written and that no stage makes again.

    Args:
        config: Configuration of the output.
        stages: Stages that run again.
    """
    wanted = dict(_APART)
    wanted |= {name: own for name, (stage, own) in _OF_STAGES.items() if stage not in stages}
    paths = {name: Path(config.output) / name for name in wanted}
    return [path for name, path in paths.items() if path.is_dir() and wanted[name](path)]
