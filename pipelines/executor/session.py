"""One Ray session for a process: a cluster where one is named, else a small one on this machine."""

import logging
import os
import sys

from pipelines.process import quiet_engines

# Size of plasma, which holds blocks on their way between tasks; Ray would take a third of memory.
_LOCAL_OBJECT_STORE_BYTES = 2 * 2**30
# Ray gives its agent 15 seconds to start, which is too short where other processes want the cores.
_ATTEMPTS = 4


def ensure_ray() -> None:
    """Connects to the cluster at RAY_ADDRESS, or starts Ray on this machine; once in a process."""
    quiet_engines()
    import ray

    if ray.is_initialized():
        return
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not os.environ.get("RAY_ADDRESS"):
        # Only this process' children connect, over loopback.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        # Workers do this command's own work: at Ray's niceness of 15 they starve beside others.
        os.environ.setdefault("RAY_worker_niceness", "0")
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": _LOCAL_OBJECT_STORE_BYTES,
        }
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray raises no type of its own.
            if "timed out during startup" not in str(error) or attempt == _ATTEMPTS:
                raise
            ray.shutdown()
            print("Ray did not start in time on this busy machine; trying again", file=sys.stderr)
