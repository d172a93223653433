"""Starts a server of one bundle, or of two in an A/B test, as a process or as replicas."""

from feature_store.core.errors import UserError
from serving.server.app import run_app
from serving.server.build import Settings, build


def serve(
    settings: Settings, *, host: str = "127.0.0.1", port: int = 8000, replicas: int = 0
) -> None:
    """Answers until it is interrupted.

    Args:
        settings: What is served.
        host: Address to listen on.
        port: 0 takes any free one, which the log names.
        replicas: Of Ray Serve, over the machines of a cluster; 0: this process alone.

    Raises:
        UserError: A bundle cannot be opened, the log cannot be written, or the address is taken.
    """
    if not replicas:
        run_app(build(settings), host=host, port=port)
        return
    if replicas > 1 and settings.store is None:
        raise UserError(
            "several replicas need an online store, or an event would be known to one of them "
            "alone; give --online CONFIG, whose feature_store.online is redis on a cluster."
        )
    from serving.server.cluster import serve_on_ray

    serve_on_ray(settings, host=host, port=port, replicas=replicas)
