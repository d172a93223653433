"""One Ray session for a process: a cluster where one is named, else a small one on this machine.

Whoever reaches Ray runs code as this user. So Ray on this machine listens on loopback alone, and
answers only those who have the session's token: other users of the machine reach loopback, too. A
cluster listens as it was started, and is joined with its token.
"""

import logging
import os
import secrets
import sys

from feature_store.core.errors import UserError
from pipelines.executor.session_directory import session_directory
from pipelines.process import quiet_engines, use_loopback

# Size of plasma, which holds blocks on their way between tasks; Ray would take a third of memory.
_LOCAL_OBJECT_STORE_BYTES = 2 * 2**30
# Ray gives its agent 15 seconds to start, which is too short where other processes want the cores.
_ATTEMPTS = 4
# Ray's own switch, made for other systems: without clusters, a node's address is loopback.
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def ensure_ray() -> None:
    """Connects to the cluster at RAY_ADDRESS, or starts Ray on this machine; once in a process.

    Raises:
        UserError: The cluster has a token, and this process has none, or another one.
    """
    quiet_engines()
    import ray

    if ray.is_initialized():
        return
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
    cluster = os.environ.get("RAY_ADDRESS", "local")
    if cluster in ("", "local"):
        _stay_on_this_machine()
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": _LOCAL_OBJECT_STORE_BYTES,
        }
        _start(options)
        return
    _ask_for_the_token()
    try:
        ray.init(**options)
    except (ray.exceptions.AuthenticationError, ConnectionError) as error:
        raise UserError(
            f"the Ray cluster at {cluster} cannot be joined: it is not there, or has another token "
            "than this process. Set RAY_AUTH_TOKEN_PATH to the file with the cluster's token, or "
            "RAY_AUTH_MODE=disabled if it has none, and nobody else reaches it."
        ) from error


def _start(options: dict[str, object]) -> None:
    """Starts Ray on this machine."""
    import ray

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with session_directory() as directory:
                ray.init(**options, _temp_dir=str(directory))
            return
        except Exception as error:  # Ray raises no type of its own.
            if "timed out during startup" not in str(error) or attempt == _ATTEMPTS:
                raise
            ray.shutdown()
            print("Ray did not start in time on this busy machine; trying again", file=sys.stderr)


def _stay_on_this_machine() -> None:
    """Makes all of Ray's processes listen on loopback, and ask for a token of this session."""
    from ray._private import ray_constants

    os.environ[_CLUSTERS] = "0"  # For children that join the session.
    ray_constants.ENABLE_RAY_CLUSTER = False  # Read from the above by the import of Ray.
    use_loopback()
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        # Ray's own would be a file in the home directory that every user can read.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    _ask_for_the_token()
    # Workers do this command's own work: at Ray's niceness of 15 they starve beside others.
    os.environ.setdefault("RAY_worker_niceness", "0")


def _ask_for_the_token() -> None:
    """Turns tokens on, unless RAY_AUTH_MODE says otherwise; Ray does so for its own sessions."""
    from ray._private.authentication import authentication_token_setup

    if "RAY_AUTH_MODE" not in os.environ:
        # Ray reads the variable when it is imported; this sets it, and reads it again.
        authentication_token_setup._enable_token_auth()
