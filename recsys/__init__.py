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

if TYPE_CHECKING:
    from pipelines.datasets.fetch import fetch
    from recsys.comparing import compare
    from recsys.config import Config
    from recsys.config_file import load_config
    from recsys.evaluation import evaluate
    from recsys.init import init_config
    from recsys.materialization import materialize
    from recsys.preparation import forget, prepare
    from recsys.studies import study
    from recsys.training import load_model, train
    from recsys.tuning import tune

__all__ = [
    "Config",
    "compare",
    "evaluate",
    "fetch",
    "forget",
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
    "Config": "recsys.config",
    "compare": "recsys.comparing",
    "evaluate": "recsys.evaluation",
    "fetch": "pipelines.datasets.fetch",
    "forget": "recsys.preparation",
    "init_config": "recsys.init",
    "load_config": "recsys.config_file",
    "load_model": "recsys.training",
    "materialize": "recsys.materialization",
    "prepare": "recsys.preparation",
    "study": "recsys.studies",
    "train": "recsys.training",
    "tune": "recsys.tuning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
