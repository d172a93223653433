"""Settings of a whole process: what the engines print and report home, and the threads they use.

Entry points call these functions, where an engine is about to start; importing a module changes
nothing. A variable that the user has set in the environment stays as it is.
"""

import logging
import os
import socket
import sys
import warnings

# The engines and the processes that they start read these.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "RAY_DATA_LOG_LEVEL": "ERROR",  # Importing ray.data sets its logger to this level.
    "RAY_USAGE_STATS_ENABLED": "0",
}
# Migrations of a new SQLite store (alembic), plans of TorchRec and whether it is traced (torch.fx),
# and progress of Ray: pages of lines that a user can do nothing about.
_LOGGERS = ("alembic", "mlflow", "ray.data", "ray.train", "torch.fx._symbolic_trace", "torchrec")
# Tracebacks of MLflow's, for errors of a database that it raises as well.
_TRACEBACKS = ("mlflow.store.db.utils",)
# Engines of process groups, as their variables begin, and the loopback interface of each system.
_COLLECTIVES = ("GLOO", "NCCL")
_LOOPBACKS = ("lo", "lo0")
# Ray Tune's reports, beside those of the search.
_TUNE_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # The new output prints boxes at every verbosity.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


def quiet_engines() -> None:
    """Silences what the engines print and a user can do nothing about, but for errors.

    Some engines set their loggers when they are imported, so this is called after that, too.
    """
    _set_defaults(_ENVIRONMENT)
    _raise_levels(_LOGGERS, logging.ERROR)
    _raise_levels(_TRACEBACKS, logging.CRITICAL)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torchrec")
    warnings.filterwarnings("ignore", "`torch.distributed", category=FutureWarning)
    # It is about replicated tables, whose gradients are right: the parity tests compare them.
    warnings.filterwarnings("ignore", "fbgemm::dense_embedding", category=UserWarning)
    warnings.filterwarnings("ignore", message="Please use DTensor", category=FutureWarning)


def quiet_tune() -> None:
    """Silences Ray Tune altogether: the search reports its trials, and why one failed."""
    _set_defaults(_TUNE_ENVIRONMENT)
    _raise_levels(("ray.tune", "ray.train"), logging.CRITICAL)


def thread_share(processes: int) -> int:
    """Returns the threads of each of several processes that share this machine's cores."""
    return max(1, len(os.sched_getaffinity(0)) // processes)


def use_threads(threads: int) -> None:
    """Sets the threads of a worker process, which has a share of the cores."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def sleep_while_waiting() -> None:
    """Makes threads of a parallel loop sleep while they wait for the others, instead of spinning.

    On cores that others use, too, spinning threads keep those from running that they wait for: on 2
    shared cores a step of training took 15 times as long. OpenMP reads this when torch is imported,
    so it is called before that; processes that are started later inherit it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def spare_pandas() -> None:
    """Keeps pyarrow from importing pandas, where no pandas object is ever given to it.

    It does so at its first array, to recognise such objects, which takes as long as all other
    imports of a command that answers at once. Conversions to pandas still import it.
    """
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        import pyarrow

        pyarrow.array([0])
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """Finder of modules that says that pandas is not there."""

    @classmethod
    def find_spec(cls, fullname: str, path: object, target: object = None) -> None:
        """Raises `ImportError` for pandas."""
        if fullname == "pandas":
            raise ImportError("pandas is left out")


def use_all_cores() -> None:
    """Gives torch all cores, unless OMP_NUM_THREADS says how many threads this process may use."""
    if "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(thread_share(1))


def use_loopback() -> None:
    """Makes the process groups of this process and its children listen on loopback alone."""
    names = [name for _, name in socket.if_nameindex() if name in _LOOPBACKS]
    _set_defaults({f"{engine}_SOCKET_IFNAME": name for engine in _COLLECTIVES for name in names})


def _set_defaults(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _raise_levels(loggers: tuple[str, ...], level: int) -> None:
    """Makes loggers quieter, never louder than they are."""
    for name in loggers:
        logger = logging.getLogger(name)
        logger.setLevel(max(level, logger.level))
