"""Construction of a server from bundles and settings."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from feature_store.online import open_online_store
from feature_store.online.store import nothing_materialized
from feature_store.settings import FeatureStoreConfig
from serving.experiment.exposure_log import ExposureLog
from serving.recommend.online import MemoryQueries, OnlineQueries, StoredQueries
from serving.server.app import create_app, lifespan_of
from serving.server.deployment import Deployment, Source
from serving.server.metrics import ServerMetrics
from serving.server.service import Service


@dataclass(frozen=True)
class Store:
    """The online store of a configuration.

    Attributes:
        settings: Section `feature_store` of the configuration.
        directory: Directory of the feature store.
    """

    settings: FeatureStoreConfig
    directory: Path

    def open(self) -> OnlineQueries:
        """Opens the store in this process.

        Raises:
            UserError: Nothing was materialized, or Redis does not answer.
        """
        store = open_online_store(self.settings, self.directory)
        if store.contents() is None:
            raise nothing_materialized()
        return StoredQueries(store)


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server.

    Attributes:
        bundle: Directory of a bundle or of an experiment, or `models:/NAME@champion`.
        other: Second bundle, which answers a part of the queries.
        split: Part of the queries that the second bundle answers.
        log: Directory for exposures and outcomes; None: they are not kept.
        reload_seconds: Seconds between looks for newer bundles; 0: there are none.
        store: Online store for histories and events; None: the bundle, and the process's memory.
        token: Token that requests must carry; None: none is needed.
    """

    bundle: str | Path
    other: str | Path | None = None
    split: float = 0.5
    log: Path | None = None
    reload_seconds: float = 10.0
    store: Store | None = None
    token: str | None = None


def build(settings: ServerSettings) -> FastAPI:
    """Builds the application, ready to answer; all that it opens is closed when its server ends.

    Raises:
        UserError: A bundle cannot be opened, or the log cannot be written.
    """
    online: OnlineQueries = MemoryQueries() if settings.store is None else settings.store.open()
    source = Source(settings.bundle, settings.other, split=settings.split, online=online)
    metrics = ServerMetrics()
    if isinstance(online, StoredQueries):
        metrics.watch_online_store(lambda: online.failures)
    deployment = Deployment(source, metrics, is_logged=settings.log is not None)
    close, log = [deployment.close], None
    if settings.log is not None:
        log = ExposureLog(settings.log, experiment=deployment.serving.experiment)
        close.append(log.close)
    service = Service(lambda: deployment.serving, metrics, online=online, log=log)
    if settings.reload_seconds:
        deployment.watch(settings.reload_seconds)
    return create_app(
        service, deployment=deployment, token=settings.token, lifespan=lifespan_of(close)
    )
