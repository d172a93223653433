"""Construction of a server from bundles and settings."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from pipelines.http.admission import Admission
from serving.experiment.exposure_log import ExposureLog
from serving.recommend.memory import MemoryQueries
from serving.recommend.store import Store, require_same_features
from serving.recommend.stored import StoredQueries
from serving.server.app import create_app, lifespan_of
from serving.server.deployment import Deployment, Source
from serving.server.metrics import ServerMetrics
from serving.server.service import Service


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


def build(
    settings: ServerSettings,
    *,
    host: str | None = "127.0.0.1",
    admission: Admission | None = None,
) -> FastAPI:
    """Builds the application, ready to answer; all that it opens is closed when its server ends.

    Args:
        settings: Bundles, log and online store.
        host: Address or name that the server listens on; see `create_app`.
        admission: Connections of the server.

    Raises:
        UserError: A bundle or the online store cannot be opened, they are of different models, or
            the log cannot be written.
    """
    metrics = ServerMetrics()
    if admission is not None:
        metrics.watch_connections(admission)
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
        for recommender in deployment.serving.recommenders.values():
            require_same_features(recommender, schema)
    close, log = [deployment.close], None
    if isinstance(online, StoredQueries):
        close.append(online.close)
    if settings.log is not None:
        log = ExposureLog(settings.log, experiment=deployment.serving.experiment)
        close.append(log.close)
    service = Service(lambda: deployment.serving, metrics, online=online, log=log)
    if settings.reload_seconds:
        deployment.watch(settings.reload_seconds)
    return create_app(
        service,
        deployment=deployment,
        token=settings.token,
        host=host,
        lifespan=lifespan_of(close),
        admission=admission,
    )
