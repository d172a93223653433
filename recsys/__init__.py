"""Training of large-scale two-tower recommenders with self-supervised item representations.

Every stage is a function of a configuration; nothing heavy is imported before it is called:

    config = recsys.load_config("config.yaml", ["training.epochs=3"])
    recsys.prepare(config)
    recsys.train(config)
    result = recsys.evaluate(config)

The stages after these are `serving`'s: `serving.export`, `serving.load` and `serving.run`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipelines.process import sleep_while_waiting

if TYPE_CHECKING:
    from pipelines.datasets.fetch import fetch
    from recsys.autoconfig.init import init_config
    from recsys.checkpoint.load import load_model
    from recsys.comparison.compare import compare
    from recsys.config.config import Config
    from recsys.config.load import load_config
    from recsys.stages.evaluate import evaluate
    from recsys.stages.forget import forget
    from recsys.stages.fuse import fuse
    from recsys.stages.materialize import materialize
    from recsys.stages.prepare import prepare
    from recsys.stages.train import train
    from recsys.studies.study import study
    from recsys.tuning.tune import tune

__all__ = [
    "Config",
    "compare",
    "evaluate",
    "fetch",
    "forget",
    "fuse",
    "init_config",
    "load_config",
    "load_model",
    "materialize",
    "prepare",
    "study",
    "train",
    "tune",
]

_HOME = {
    "Config": "recsys.config.config",
    "compare": "recsys.comparison.compare",
    "evaluate": "recsys.stages.evaluate",
    "fetch": "pipelines.datasets.fetch",
    "forget": "recsys.stages.forget",
    "fuse": "recsys.stages.fuse",
    "init_config": "recsys.autoconfig.init",
    "load_config": "recsys.config.load",
    "load_model": "recsys.checkpoint.load",
    "materialize": "recsys.stages.materialize",
    "prepare": "recsys.stages.prepare",
    "study": "recsys.studies.study",
    "train": "recsys.stages.train",
    "tune": "recsys.tuning.tune",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    sleep_while_waiting()
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
