import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.executor.session import ensure_ray
from recsys.config.config import Config


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Starts one Ray for all tests that need it, because that takes seconds."""
    import ray

    ensure_ray()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the file of a new tracking store, to be copied: MLflow takes seconds to make one."""
    import mlflow  # Sets the level of its logger, so it comes first.

    from pipelines.process import quiet_engines
    from recsys.sqlite_store import make_ready

    assert mlflow
    quiet_engines()
    path: Path = tmp_path_factory.mktemp("mlflow") / "new.db"
    make_ready(path)
    return path


@pytest.fixture(scope="session")
def tracking_uri(new_store: Path) -> str:
    """Returns one tracking store for all tests that train."""
    return f"sqlite:///{shutil.copy(new_store, new_store.with_name('mlflow.db'))}"


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory, tracking_uri: str) -> Config:
    """Prepares a log whose answer is known, and returns its configuration; see `planted`."""
    from recsys.stages.prepare import prepare
    from tests.support.planted import planted_config, write_planted_log

    directory: Path = tmp_path_factory.mktemp("planted")
    write_planted_log(directory / "log")
    config = planted_config(directory / "log", directory / "out", tracking={"uri": tracking_uri})
    prepare(config)
    return config


@pytest.fixture(scope="session")
def trained(planted: Config):
    """Trains a model of the planted log, and returns its manifest."""
    from recsys.stages.train import train

    return train(planted)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Exports an untrained model, which no test changes, and returns its configuration."""
    from tests.support.tiny_bundle import export_untrained, write_prepared

    config = write_prepared(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        export_untrained(config, patch)
    return config


@pytest.fixture(scope="session")
def exported(tiny: Config) -> Path:
    """Returns the bundle of `tiny`."""
    return tiny.bundle_dir


@pytest.fixture(scope="session")
def tiny_fused(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Exports an untrained model with made-up channels, which no test changes."""
    from tests.support.fused.tiny_fusion import export_fused, write_fused_prepared

    config = write_fused_prepared(tmp_path_factory.mktemp("tiny-fused"))
    with pytest.MonkeyPatch.context() as patch:
        export_fused(config, patch)
    return config


@pytest.fixture(scope="session")
def tiny_by_content(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Exports an untrained model whose only channel is content, which no test changes."""
    from tests.support.fused.tiny_fusion import (
        content_fused,
        export_fused,
        write_fused_prepared,
    )

    config = write_fused_prepared(tmp_path_factory.mktemp("tiny-by-content"))
    with pytest.MonkeyPatch.context() as patch:
        export_fused(config, patch, content_fused)
    return config


@pytest.fixture(scope="session")
def evaluated(planted: Config, tmp_path_factory: pytest.TempPathFactory):
    """Evaluates runs for the dashboard."""
    from tests.support.dashboard_runs import evaluated_runs

    return evaluated_runs(planted, tmp_path_factory.mktemp("dashboard"))
