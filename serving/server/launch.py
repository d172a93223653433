"""The start of a server, as a process or as replicas."""

from feature_store.core.errors import UserError
from pipelines.http.admission import Admission, limits_of_process
from pipelines.http.server import run_app
from serving.server.app import PROBES
from serving.server.build import ServerSettings, build


def serve(
    settings: ServerSettings, *, host: str = "127.0.0.1", port: int = 8000, replicas: int = 0
) -> None:
    """Answers until it is interrupted.

    Args:
        settings: Bundles, log and online store.
        host: Address to listen on.
        port: Port; 0 takes any free one, which the log names.
        replicas: Replicas of Ray Serve, over the machines of a cluster; 0: this process alone.

    Raises:
        UserError: A bundle cannot be opened, the log cannot be written, or the address is taken.
    """
    if not replicas:
        admission = Admission(limits_of_process())
        app = build(settings, host=host, admission=admission)
        run_app(app, host=host, port=port, probes=PROBES, admission=admission)
        return
    if replicas > 1 and settings.store is None:
        raise UserError(
            "several replicas need an online store, because only one of them would know an event "
            "otherwise; give --online CONFIG, whose feature_store.online is redis on a cluster."
        )
    from serving.server.cluster import serve_on_ray

    serve_on_ray(settings, host=host, port=port, replicas=replicas)
