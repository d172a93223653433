"""The way from a checkpoint to answers: the bundle, its index and its HTTP server.

    serving.export(config)
    recommender = serving.load("runs/bundle")
    recommender.recommend("42", k=10)

Answering imports neither torchrec nor an engine: a bundle is all it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.exporting.export import export
    from serving.job import run
    from serving.nightly.job import run_day
    from serving.recommend.load import load
    from serving.recommend.options import RecommendOptions
    from serving.server.build import ServerSettings
    from serving.server.launch import serve

__all__ = ["RecommendOptions", "ServerSettings", "export", "load", "run", "run_day", "serve"]

_HOME = {
    "RecommendOptions": "serving.recommend.options",
    "ServerSettings": "serving.server.build",
    "export": "serving.exporting.export",
    "load": "serving.recommend.load",
    "run": "serving.job",
    "run_day": "serving.nightly.job",
    "serve": "serving.server.launch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
