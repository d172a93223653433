"""Replicas of the application in Ray Serve, behind its proxies on every machine."""

import signal
import threading

from fastapi import FastAPI

from pipelines.executor.session import ensure_ray
from serving.server.build import ServerSettings, build

# Requests that a replica takes at a time; others wait at the proxy.
_ONGOING = 64


def serve_on_ray(settings: ServerSettings, *, host: str, port: int, replicas: int) -> None:
    """Answers until it is interrupted; see `serving.server.launch.serve`."""
    start(settings, host=host, port=port, replicas=replicas)
    stopped = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stopped.set())
    stopped.wait()
    stop()


def start(settings: ServerSettings, *, host: str, port: int, replicas: int) -> None:
    """Starts replicas, and returns when all are ready."""
    from ray import serve

    ensure_ray()
    # A proxy listens on every machine of a cluster, so that any of them can be asked.
    serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})

    def application() -> FastAPI:
        return build(settings, host=host)

    deployment = serve.deployment(
        num_replicas=replicas, max_ongoing_requests=_ONGOING, ray_actor_options={"num_cpus": 0.5}
    )(serve.ingress(application)())
    serve.run(deployment.bind(), name="recsys", route_prefix="/")


def stop() -> None:
    """Ends the replicas and the proxies."""
    from ray import serve

    serve.shutdown()
