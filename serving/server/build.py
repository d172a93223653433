"""Construction of a server from bundles and settings."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from feature_store.core.errors import UserError
from feature_store.online import open_online_store
from feature_store.online.store import nothing_materialized
from feature_store.schema import FeatureSchema
from feature_store.settings import FeatureStoreConfig
from serving.experiment.exposure_log import ExposureLog
from serving.recommend.memory import MemoryQueries
from serving.recommend.stored import PATIENCE, StoredQueries
from serving.server.app import create_app, lifespan_of
from serving.server.deployment import Deployment, Serving, Source
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

    def open(self) -> tuple[StoredQueries, FeatureSchema]:
        """Opens the store in this process; returns its schema, too.

        Raises:
            UserError: Nothing was materialized, the store is broken, or Redis does not answer.
        """
        # Half of it, for the client tries twice.
        store = open_online_store(self.settings, self.directory, patience=PATIENCE / 2)
        contents = store.contents()
        if contents is None:
            raise nothing_materialized()
        return StoredQueries(store), contents.features


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


def _require_same_features(serving: Serving, schema: FeatureSchema) -> None:
    for recommender in serving.recommenders.values():
        fault = recommender.fault_of_store(schema)
        if fault is not None:
            raise UserError(
                f"the online store is of another model than the bundle ({fault}); give --online "
                "the configuration that the bundle was exported with, after its `materialize`."
            )


def build(settings: ServerSettings) -> FastAPI:
    """Builds the application, ready to answer; all that it opens is closed when its server ends.

    Raises:
        UserError: A bundle or the online store cannot be opened, they are of different models, or
            the log cannot be written.
    """
    metrics = ServerMetrics()
    online: MemoryQueries | StoredQueries
    if settings.store is None:
        online, schema = MemoryQueries(), None
        metrics.watch_memory(online)
    else:
        online, schema = settings.store.open()
        metrics.watch_online_store(online)
    source = Source(settings.bundle, settings.other, split=settings.split, online=online)
    deployment = Deployment(source, metrics, is_logged=settings.log is not None)
    if schema is not None:
        _require_same_features(deployment.serving, schema)
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
