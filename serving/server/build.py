"""Building of a server from bundles and settings."""

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
from serving.server.metrics import Measures
from serving.server.service import Service


@dataclass(frozen=True)
class Store:
    """The online store of a configuration.

    Attributes:
        settings: The section `feature_store`.
        directory: Of the feature store.
    """

    settings: FeatureStoreConfig
    directory: Path

    def open(self) -> OnlineQueries:
        """In this process.

        Raises:
            UserError: Nothing was materialized, or Redis does not answer.
        """
        store = open_online_store(self.settings, self.directory)
        if store.contents() is None:
            raise nothing_materialized()
        return StoredQueries(store)


@dataclass(frozen=True)
class Settings:
    """What is served, and how.

    Attributes:
        bundle: A directory, that of an experiment, or `models:/NAME@champion`.
        other: A second bundle, which answers a share of the queries.
        split: That share.
        log: Directory for exposures and outcomes; None: they are not kept.
        reload_seconds: How often newer bundles are looked for; 0: never.
        store: Where histories come from and events go; None: the bundle, and the process's memory.
        token: That requests must bear; None: none.
    """

    bundle: str | Path
    other: str | Path | None = None
    split: float = 0.5
    log: Path | None = None
    reload_seconds: float = 10.0
    store: Store | None = None
    token: str | None = None


def build(settings: Settings) -> FastAPI:
    """The application, ready to answer; what it holds is closed when its server ends.

    Raises:
        UserError: A bundle cannot be opened, or the log cannot be written.
    """
    online: OnlineQueries = MemoryQueries() if settings.store is None else settings.store.open()
    source = Source(settings.bundle, settings.other, split=settings.split, online=online)
    measures = Measures()
    if isinstance(online, StoredQueries):
        measures.watch_online_store(lambda: online.failures)
    deployment = Deployment(source, measures, is_logged=settings.log is not None)
    close, log = [deployment.close], None
    if settings.log is not None:
        log = ExposureLog(settings.log, experiment=deployment.serving.experiment)
        close.append(log.close)
    service = Service(lambda: deployment.serving, measures, online=online, log=log)
    if settings.reload_seconds:
        deployment.watch(settings.reload_seconds)
    return create_app(
        service, deployment=deployment, token=settings.token, lifespan=lifespan_of(close)
    )
